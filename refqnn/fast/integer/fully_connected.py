"""Twin of ``refqnn.integer.linear``: float32 products where they are exact.

float32 counts exactly up to 2^24; while the accumulator bound is below that, so is
every partial sum, in any order. Beyond it the definition computes in float64.
"""

import numpy as np
import numpy.typing as npt

from refqnn import integer
from refqnn._types import Int
from refqnn.integer.checks import as_linear_operands
from refqnn.integer.conv import Accumulator, check_accumulator


def linear(
    x: Int,
    w: Int,
    b: Int | None = None,
    *,
    x_zero_point: npt.ArrayLike = 0,
    w_zero_point: npt.ArrayLike = 0,
    accumulator: Accumulator = "int32",
) -> Int:
    """See ``refqnn.integer.linear``."""
    x, w, b, xz, wz = as_linear_operands(x, w, b, x_zero_point, w_zero_point)
    centred = w.astype(np.int64) - wz[:, None]
    if check_accumulator(x.dtype, xz, centred, b, accumulator) > 1 << 24:
        return integer.linear(
            x, w, b, x_zero_point=xz, w_zero_point=wz, accumulator=accumulator
        )
    exact = x.astype(np.float32) - np.float32(xz)
    y = (exact @ centred.T.astype(np.float32)).astype(accumulator)
    if b is not None:
        y += b.astype(accumulator)
    return y
