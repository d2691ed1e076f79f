"""Seven ways to an integer, on floats and on exact quotients of integers.

    n / d  =  q + r / d,   q = floor(n / d),   0 <= r < d                           (1)
    round(n / d)  =  q, or q + 1 where CARRY of q, 2 r and d says so                (2)
    n m  =  u 2^31 + v,   0 <= v < 2^31                                             (3)

CARRY compares r / d with 0 and 1/2, and looks at the parity of q and at its sign. (3)
keeps the halves of a product of 95 bits inside int64. Nothing is added before the
division, so nothing can overflow, and the float functions decide the same way: one name
is one function of the real number, whether it arrives as a float, a quotient or a
shifted product.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from refqnn._types import Array, Bool, Float, Int


class Rounding(NamedTuple):
    """The equation of a rounding, its users, and an input that reveals it."""

    formula: str
    users: str
    #: the fewest and then smallest quarters whose results no other rounding gives
    reveals: tuple[float, ...]


ROUNDINGS = {
    "half_even": Rounding(
        "nearest, ties to the even neighbour",
        "IEEE 754, NumPy and PyTorch round, ONNX QuantizeLinear, AP_RND_CONV",
        (0.5, 1.5),
    ),
    "half_away": Rounding(
        "sign(t) floor(|t| + 1/2)",
        "C round, gemmlowp's division by a power of two, AP_RND_INF",
        (0.5, -0.5),
    ),
    "half_up": Rounding(
        "floor(t + 1/2)",
        "add half and shift: TensorFlow fake quantization, AP_RND",
        (-0.75, -1.5),
    ),
    "half_down": Rounding(
        "ceil(t - 1/2)",
        "half_up of a negated number, AP_RND_MIN_INF",
        (0.75, 1.5),
    ),
    "floor": Rounding(
        "floor(t)",
        "arithmetic right shift, Python //, AP_TRN",
        (-0.25,),
    ),
    "ceil": Rounding(
        "ceil(t)",
        "floor of a negated number",
        (0.25,),
    ),
    "trunc": Rounding(
        "sign(t) floor(|t|)",
        "C casts and C integer division, AP_TRN_ZERO",
        (-0.25, 0.75),
    ),
}


def check_rounding(rounding: str) -> None:
    """Raise unless ``rounding`` is one of the seven names."""
    if rounding not in ROUNDINGS:
        raise ValueError(f"rounding must be one of {list(ROUNDINGS)}, got {rounding!r}")


def round_half_away(t: Float) -> Float:
    """Round to the nearest integer, ties away from 0.  (...) -> (...)

    >>> round_half_away(np.array([-1.5, -0.5, 0.5, 1.5]))
    array([-2., -1.,  1.,  2.])
    """
    return np.copysign(round_half_up(np.abs(t)), t)


def round_half_up(t: Float) -> Float:
    """Round to the nearest integer, ties towards +infinity.  (...) -> (...)

    Not ``floor(t + 0.5)`` in floating point, where the sum may round: the float just
    below 0.5 would go to 1. Infinities stay.

    >>> round_half_up(np.array([-1.5, -0.5, 0.49999999999999994, 0.5]))
    array([-1.,  0.,  0.,  1.])
    """
    down = np.floor(t)
    with np.errstate(invalid="ignore"):  # inf - inf
        return down + (t - down >= 0.5)


def round_half_down(t: Float) -> Float:
    """Round to the nearest integer, ties towards -infinity.  (...) -> (...)

    >>> round_half_down(np.array([-1.5, -0.5, 0.5, 1.5]))
    array([-2., -1., -0.,  1.])
    """
    return -round_half_up(-t)


ROUND: dict[str, Callable[[Float], Float]] = {
    "half_even": np.rint,
    "half_away": round_half_away,
    "half_up": round_half_up,
    "half_down": round_half_down,
    "floor": np.floor,
    "ceil": np.ceil,
    "trunc": np.trunc,
}

#: whether q + 1 is taken, from q, 2 r and d
CARRY: dict[str, Callable[[Array, Array, Array], Bool]] = {
    "half_even": lambda q, r2, d: (r2 > d) | ((r2 == d) & (q % 2 == 1)),
    "half_away": lambda q, r2, d: (r2 > d) | ((r2 == d) & (q >= 0)),
    "half_up": lambda _, r2, d: r2 >= d,
    "half_down": lambda _, r2, d: r2 > d,
    "floor": lambda _, r2, __: r2 < 0,
    "ceil": lambda _, r2, __: r2 > 0,
    "trunc": lambda q, r2, _: (r2 > 0) & (q < 0),
}


def divide(n: Int, d: Int | int, *, rounding: str) -> Int:
    """round(n / d), exactly

    n: (...), d: broadcasts to n  ->  (...) int64

    Raises ValueError unless 1 <= d <= 2^62.

    >>> divide(np.array([-3, -1, 1, 3]), 2, rounding="half_even")
    array([-2,  0,  0,  2])
    """
    check_rounding(rounding)
    n, d = np.asarray(n, np.int64), np.asarray(d, np.int64)
    if np.any(d < 1) or np.any(d > 1 << 62):
        raise ValueError(f"d must lie in [1, 2^62], got {d}")
    q, r = np.divmod(n, d)  # (1)
    return np.asarray(q + CARRY[rounding](q, 2 * r, d))  # (2)


def shift_right(n: Int, shift: Int | int, *, rounding: str) -> Int:
    """round(n / 2^shift), exactly

    n: (...), shift: broadcasts to n  ->  (...) int64

    Raises ValueError unless 0 <= shift <= 62.

    >>> shift_right(np.array([-6, -5, 5, 6]), 2, rounding="half_up")
    array([-1, -1,  1,  2])
    """
    if rounding not in CARRY:
        check_rounding(rounding)
    n, shift = np.asarray(n, np.int64), np.asarray(shift, np.int64)
    if np.any(shift < 0) or np.any(shift > 62):
        raise ValueError(f"shift must lie in [0, 62], got {shift}")
    d = np.int64(1) << shift
    q, r = n >> shift, n & (d - 1)  # (1)
    return np.asarray(q + CARRY[rounding](q, 2 * r, d))  # (2)


def shift_right_product(n: Int, m: Int, shift: Int, *, rounding: str) -> Int:
    """round(n m / 2^shift), exactly, for products of up to 95 bits

    n: (...) int64, m, shift: broadcast to n, 0 <= m < 2^31, 0 <= shift <= 62  ->  (...)
    int64, clipped to [-2^32, 2^32], beyond which no code lies

    >>> n, m = np.array([2**40 + 1]), np.array([2**30 + 1])
    >>> shift_right_product(n, m, np.array(40), rounding="half_up")  # 2^30 + 1 + 2^-10
    array([1073741825])
    """
    check_rounding(rounding)
    low = (1 << 31) - 1
    v = (n & low) * m
    u, v = (n >> 31) * m + (v >> 31), v & low  # (3)
    far = np.maximum(shift - 31, 0)  # bits of u that are shifted out
    d = np.int64(1) << shift
    # with a short shift u moves to the left; beyond 2^31 the quotient leaves 2^32
    short = np.clip(u, ~(1 << 31), (1 << 31) + 1) << np.maximum(31 - shift, 0)
    q = np.where(shift < 31, short + (v >> np.minimum(shift, 31)), u >> far)
    r = np.where(shift < 31, v & (d - 1), ((u - (u >> far << far)) << 31) + v)
    return np.clip(q + CARRY[rounding](q, 2 * r, d), -(1 << 32), 1 << 32)  # (2)
