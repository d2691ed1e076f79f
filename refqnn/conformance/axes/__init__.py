"""The choices, as data: every axis, its values, their equations and who uses them.

An axis is a question that two implementations of "the same" operation may answer in
different ways. The first value of each axis is refqnn's own answer, the default of
``Semantics``. A family (``refqnn.conformance.families``) asks some of the questions.
"""

from refqnn.conformance.axes.arithmetic import AFFINE, GRADIENT, REQUANTIZE
from refqnn.conformance.axes.axis import Axis as Axis
from refqnn.conformance.axes.axis import Value as Value
from refqnn.conformance.axes.published import QUANTIZER
from refqnn.conformance.axes.tensors import TENSOR
from refqnn.conformance.axes.training import TRAINING

AXES: dict[str, Axis] = AFFINE | GRADIENT | REQUANTIZE | TENSOR | TRAINING | QUANTIZER
