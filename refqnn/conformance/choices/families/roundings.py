"""Roundings that integer code does not offer, and halves that are added in floats.

    half_odd       nearest, ties to the odd neighbour
    half_to_zero   nearest, ties towards 0
    away           sign(t) ceil(|t|)

A half that is added in floating point rounds: floor(t + 1/2) takes the float below 1/2
to 1, and moves whole numbers beyond 2^23 in float32.
"""

from collections.abc import Callable

import numpy as np

from refqnn._types import Array, Bool, Float, Int
from refqnn.integer import rounding as exact
from refqnn.integer.rounding import round_half_up


def round_half_odd(t: Float) -> Float:
    """Round to the nearest integer, ties to the odd one.  (...) -> (...)

    >>> round_half_odd(np.array([-1.5, -0.5, 0.5, 1.5, 2.5]))
    array([-1., -1.,  1.,  1.,  3.])
    """
    down, near = np.floor(t), np.rint(t)
    with np.errstate(invalid="ignore"):  # inf - inf
        tie = np.abs(t - near) == 0.5  # exact, where t - down rounds beside -1/2
        return np.where(tie, down + (down % 2 == 0), near)


def round_half_to_zero(t: Float) -> Float:
    """Round to the nearest integer, ties towards 0.  (...) -> (...)

    >>> round_half_to_zero(np.array([-1.5, -0.5, 0.5, 1.5, 1.75])) + 0.0
    array([-1.,  0.,  0.,  1.,  2.])
    """
    return np.where(t < 0, round_half_up(t), -round_half_up(-t))


def round_away(t: Float) -> Float:
    """Round to the next integer away from 0.  (...) -> (...)

    >>> round_away(np.array([-0.25, 0.25, 1.0]))
    array([-1.,  1.,  1.])
    """
    return np.where(t < 0, np.floor(t), np.ceil(t))


ROUND: dict[str, Callable[[Float], Float]] = exact.ROUND | {
    "half_odd": round_half_odd,
    "half_to_zero": round_half_to_zero,
    "away": round_away,
}
#: whether q + 1 is taken, from q, 2 r and d
CARRY: dict[str, Callable[[Array, Array, Array], Bool]] = exact.CARRY | {
    "half_odd": lambda q, r2, d: (r2 > d) | ((r2 == d) & (q % 2 == 0)),
    "half_to_zero": lambda q, r2, d: (r2 > d) | ((r2 == d) & (q < 0)),
    "away": lambda q, r2, _: (r2 > 0) & (q >= 0),
}
#: the half added in the dtype of t
ADDED: dict[str, Callable[[Float], Float]] = {
    "half_up": lambda t: np.floor(t + t.dtype.type(0.5)),
    "half_away": lambda t: np.trunc(t + np.copysign(t.dtype.type(0.5), t)),
}


def round_as(t: Float, rounding: str, added: str) -> Float:
    """Round t to integers, its half compared exactly or added in the dtype of t.

    >>> t = np.float32([0.49999997])
    >>> round_as(t, "half_up", "exact"), round_as(t, "half_up", "float")
    (array([0.], dtype=float32), array([1.], dtype=float32))
    """
    adds = added == "float" and rounding in ADDED
    return (ADDED if adds else ROUND)[rounding](t)


def fused_multiply_add(x: Float, a: Float, b: Float | Int) -> Float:
    """Return fma(x, a, b) of float32 values.

    The product is exact in float64. The sum is rounded to 53 bits before 24, which
    differs from one rounding only where 29 bits in a row happen to be those of a tie.
    """
    with np.errstate(over="ignore"):
        return (x.astype(np.float64) * a.astype(np.float64) + b).astype(x.dtype)


def quotient(n: Int, d: Int, rounding: str, z: Int | int = 0) -> Int:
    """round(n / d + z), exactly

    >>> quotient(np.array([1, 3, -1]), np.array(2), "half_odd")
    array([ 1,  1, -1])
    """
    q, r = np.divmod(n, d)
    q = q + z
    return np.asarray(q + CARRY[rounding](q, 2 * r, np.asarray(d)))
