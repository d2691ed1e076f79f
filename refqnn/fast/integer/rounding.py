"""Seven roundings without a branch, for kernels.

    n / d = q + r / d:   q + 1 is taken where  r + a + b (q odd) + c (q < 0) >= d   (1)
    |u| = down + f:      down + 1 is taken where  f >= t[down odd, u < 0]           (2)

The sum in (1) stays below 2 d, which is at most 2^63. The difference f = |u| - down is
exact in floating point; u - floor(u) of a negative u is not.
"""

import numpy as np

from refqnn._types import Float, Int
from refqnn.fast.compiler import njit


def carry_terms(rounding: str, d: Int) -> Int:
    """Return a, b, c of (1).  d: (...) -> (3, ...) int64

    >>> carry_terms("half_even", np.array([1, 3, 8]))
    array([[0, 1, 3],
           [0, 0, 1],
           [0, 0, 0]])
    """
    d, none, even = np.asarray(d, np.int64), np.zeros_like(d, np.int64), 1 - d % 2
    half, below = d // 2, (d + 1) // 2 - 1
    terms = {
        "half_up": (half, none, none),
        "half_down": (below, none, none),
        "half_even": (below, even, none),
        "half_away": (half, none, -even),
        "floor": (none, none, none),
        "ceil": (d - 1, none, none),
        "trunc": (none, none, d - 1),
    }
    return np.stack(terms[rounding])


@njit()
def carry(q: int, r: int, d: int, a: int, b: int, c: int) -> int:
    """q + 1 where r + a + b (q odd) + c (q < 0) >= d, else q: (1)"""
    return q + int(r + a + b * (q & 1) + c * (q < 0) >= d)


def thresholds(rounding: str, dtype: np.dtype[np.floating]) -> Float:
    """Return t of (2): (2, 2), first index odd, second negative."""
    half, never = dtype.type(0.5), dtype.type(2)
    above = np.nextafter(half, never)
    least = np.finfo(dtype).smallest_subnormal
    t = {
        "half_up": ((half, above), (half, above)),
        "half_down": ((above, half), (above, half)),
        "half_even": ((above, above), (half, half)),
        "half_away": ((half, half), (half, half)),
        "floor": ((never, least), (never, least)),
        "ceil": ((least, never), (least, never)),
        "trunc": ((never, never), (never, never)),
    }
    return np.array(t[rounding], dtype)
