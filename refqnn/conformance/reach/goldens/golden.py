"""One recorded call."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from refqnn._types import Int
from refqnn.conformance.carry.words import one_line
from refqnn.conformance.choices.families import Inputs, Outputs, family_of
from refqnn.integer.checks import as_int32_values


class Unread(ValueError):  # noqa: N818 - says what became of a file
    """A golden that no family can judge, and why."""


def reason(error: Exception) -> str:
    """Return why a golden is unread: the words of a reader, or what it raised.

    >>> reason(Unread("no family")), reason(KeyError("STRIDE_X"))
    ('no family', "damaged or unknown: KeyError: 'STRIDE_X'")
    """
    own = isinstance(error, Unread)
    return str(error) if own else f"damaged or unknown: {one_line(error)}"


class Golden(NamedTuple):
    """Inputs of a family, and the outputs that somebody recorded."""

    name: str
    family: str
    inputs: Inputs
    outputs: Outputs
    #: what the file declares, where it does: goldens that declare others are apart
    declared: str = ""


def of_codes(family: str, y: Int, *arguments: Any) -> Golden:
    """Return a golden of integer outputs, the arguments in the order of the family."""
    inputs = family_of(family).call_of(*arguments)
    return Golden("", family, inputs, {"y": np.asarray(y).astype(np.int64)})


def requantization(
    acc: Int,
    multiplier: npt.ArrayLike,
    shift: npt.ArrayLike,
    zero_point: npt.ArrayLike,
    ends: tuple[int, int],
    y: Int,
) -> Golden:
    """Return a golden of the family requantize."""
    sums = as_int32_values("acc", np.asarray(acc)).astype(np.int32)
    m, e, z = (np.asarray(a, np.int64) for a in (multiplier, shift, zero_point))
    return of_codes("requantize", y, sums, m, e, z, int(ends[0]), int(ends[1]))
