"""The choices, as data: every axis, its values, their equations and who uses them.

An axis is a question that two implementations of "the same" operation may answer in
different ways. The first value of each axis is refqnn's own answer, the default of
``Semantics``. A family (``conformance.choices.families``) asks some of the questions.
"""

from refqnn.conformance.choices.axes import arithmetic, learning
from refqnn.conformance.choices.axes.axis import Axis as Axis
from refqnn.conformance.choices.axes.axis import Value as Value

AXES: dict[str, Axis] = (
    arithmetic.AFFINE
    | arithmetic.GRADIENT
    | arithmetic.REQUANTIZE
    | arithmetic.SUMS
    | arithmetic.CONCAT
    | arithmetic.ACTIVATION
    | arithmetic.LOOKUP
    | arithmetic.SOFTMAX
    | arithmetic.PRODUCT
    | arithmetic.POOL
    | arithmetic.RESIZE
    | learning.TRAINING
    | learning.QUANTIZER
)


def of(names: str) -> dict[str, tuple[str, ...]]:
    """Return axes, their names separated by blanks, with all their answers.

    >>> of("zero_point_when")
    {'zero_point_when': ('after_rounding', 'before_rounding')}
    """
    return {name: tuple(AXES[name].values) for name in names.split()}
