"""The product of a matrix of integer codes with every row of another.

    y[n, o] = b[o] + sum_i (w[o, i] - w_zero_point[o]) * (x[n, i] - x_zero_point)   (1)

The accumulator bound is that of ``refqnn.integer.conv``, equation (2).
"""

import numpy as np
import numpy.typing as npt

from refqnn._types import Int
from refqnn.integer.checks import as_linear_operands
from refqnn.integer.conv import Accumulator, carrier, check_accumulator


def linear(
    x: Int,
    w: Int,
    b: Int | None = None,
    *,
    x_zero_point: npt.ArrayLike = 0,
    w_zero_point: npt.ArrayLike = 0,
    accumulator: Accumulator = "int32",
) -> Int:
    """y[n, o] = b[o] + sum over i of (w - w_zero_point) * (x - x_zero_point)

    x: (N, I), w: (O, I), b: (O,)  ->  y: (N, O), the dtype of the accumulator

    Codes of at most 32 bits; x_zero_point is one integer, w_zero_point one or (O,).
    Raises ValueError where shapes, dtypes or zero-points do not fit, and where a sum
    could exceed the accumulator.

    >>> linear(np.array([[1, 2]], np.int8), np.array([[3, 4], [0, -1]], np.int8))
    array([[11, -2]], dtype=int32)
    """
    x, w, b, xz, wz = as_linear_operands(x, w, b, x_zero_point, w_zero_point)
    centred_x, centred_w = x.astype(np.int64) - xz, w.astype(np.int64) - wz[:, None]
    exact = carrier(check_accumulator(x.dtype, xz, centred_w, b, accumulator))
    # (N, I) . (I, O) -> (N, O)
    y = (centred_x.astype(exact) @ centred_w.T.astype(exact)).astype(np.int64)  # (1)
    if b is not None:
        y += b
    return y.astype(accumulator)
