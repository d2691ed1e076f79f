"""The choices, as data: every axis, its values, their equations and who uses them.

An axis is a question that two implementations of "the same" operation may answer in
different ways. The first value of each axis is refqnn's own answer, the default of
``Semantics``. A family (``conformance.choices.families``) asks some of the questions.
"""

from refqnn.conformance.choices.axes.arithmetic import (
    AFFINE,
    GRADIENT,
    REQUANTIZE,
    SUMS,
)
from refqnn.conformance.choices.axes.axis import Axis as Axis
from refqnn.conformance.choices.axes.axis import Value as Value
from refqnn.conformance.choices.axes.learning import TRAINING
from refqnn.conformance.choices.axes.published import QUANTIZER
from refqnn.conformance.choices.axes.tensors import TENSOR

AXES: dict[str, Axis] = (
    AFFINE | GRADIENT | REQUANTIZE | SUMS | TENSOR | TRAINING | QUANTIZER
)


def of(names: str) -> dict[str, tuple[str, ...]]:
    """Return axes, their names separated by blanks, with all their answers.

    >>> of("zero_point_when")
    {'zero_point_when': ('after_rounding', 'before_rounding')}
    """
    return {name: tuple(AXES[name].values) for name in names.split()}
