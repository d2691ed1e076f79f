"""Products of two arrays of codes, neither of which is constant.

    y[i, j] = sum over k of (a[i, k] - a_zero_point) (b[k, j] - b_zero_point)

    bound = K max|a - a_zero_point| max|b - b_zero_point|                           (1)

(1) takes the maxima over every code of the dtypes; where it fits the accumulator, no
partial sum leaves it.
"""

import numpy as np

from refqnn._types import Int
from refqnn.integer.checks import as_codes, as_integers
from refqnn.integer.conv import Accumulator, carrier


def matmul(
    a: Int,
    b: Int,
    *,
    a_zero_point: int = 0,
    b_zero_point: int = 0,
    accumulator: Accumulator = "int32",
) -> Int:
    """y = (a - a_zero_point) @ (b - b_zero_point)

    a: (..., I, K), b: (..., K, J), leading axes broadcast  ->  (..., I, J), the dtype
    of the accumulator

    Raises ValueError where shapes, dtypes or zero-points do not fit, and where the
    bound (1) exceeds the accumulator.

    >>> matmul(np.array([[1, 2]], np.int8), np.array([[3], [5]], np.int8),
    ...        a_zero_point=1)
    array([[5]], dtype=int32)
    """
    a, b = as_codes("a", a), as_codes("b", b)
    if a.ndim < 2 or b.ndim < 2 or a.shape[-1] != b.shape[-2]:
        raise ValueError(
            f"a (..., I, K) and b (..., K, J) disagree on K: a{a.shape}, b{b.shape}"
        )
    if accumulator not in ("int32", "int64"):
        raise ValueError(f"accumulator must be 'int32' or 'int64', got {accumulator!r}")
    bound, centred = a.shape[-1], []
    for name, v, zero_point in (("a", a, a_zero_point), ("b", b, b_zero_point)):
        info = np.iinfo(v.dtype)
        z = as_integers(f"{name}_zero_point", zero_point, low=info.min, high=info.max)
        if z.ndim:
            raise ValueError(f"{name}_zero_point must be one integer, got {z.shape}")
        bound *= max(info.max - int(z), int(z) - info.min)  # (1)
        centred.append(v.astype(np.int64) - z)
    limit = np.iinfo(accumulator).max
    if bound > limit:
        raise ValueError(
            f"sums could reach K max|a - a_zero_point| max|b - b_zero_point| = {bound},"
            f" {accumulator} holds {limit}"
        )
    exact = carrier(bound)
    return (centred[0].astype(exact) @ centred[1].astype(exact)).astype(accumulator)
