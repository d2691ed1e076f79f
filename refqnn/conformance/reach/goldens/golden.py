"""One recorded call."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from refqnn._types import Int
from refqnn.conformance.choices.families import Inputs, Outputs
from refqnn.integer.checks import as_int32_values


class Unread(ValueError):  # noqa: N818 - says what became of a file
    """A golden that no family can judge, and why."""


class Golden(NamedTuple):
    """Inputs of a family, and the outputs that somebody recorded."""

    name: str
    family: str
    inputs: Inputs
    outputs: Outputs
    #: what the file declares, where it does: goldens that declare others are apart
    declared: str = ""


def requantization(
    acc: Int,
    multiplier: npt.ArrayLike,
    shift: npt.ArrayLike,
    zero_point: npt.ArrayLike,
    ends: tuple[int, int],
    y: Int,
) -> Golden:
    """Return a golden of the family requantize."""
    inputs = {
        "acc": as_int32_values("acc", np.asarray(acc)).astype(np.int32),
        "multiplier": np.asarray(multiplier, np.int64),
        "shift": np.asarray(shift, np.int64),
        "zero_point": np.asarray(zero_point, np.int64),
        "q_min": int(ends[0]),
        "q_max": int(ends[1]),
    }
    return Golden("", "requantize", inputs, {"y": np.asarray(y).astype(np.int64)})
