"""From int32 accumulators back to codes: multiply by a real number with integers.

    real = multiplier 2^(shift - 31),   2^30 <= multiplier < 2^31                   (1)
    q = clip(zero_point + round(acc * real), q_min, q_max)                          (2)

Twelve ways to read "round(acc * real)", all of them in use (``REQUANTIZATIONS``):

    one rounding     round(acc * multiplier / 2^(31 - shift)), the exact product    (3)
    two roundings    high = half_up(acc * 2^max(shift, 0) * multiplier / 2^31)      (4)
                     round(high / 2^max(-shift, 0))                                 (5)
    floating point   half_even(float(acc) * float(real))                            (6)

|acc * multiplier| < 2^62 where acc is an int32 value and the multiplier lies in
[0, 2^31). int64 accumulators beyond int32, those of int16 activations, have products of
up to 95 bits, which (3) takes in two halves; (4) is defined for int32. Shifts lie in
[-31, 31]. One rounding is off by at most 0.5, two with a right shift by at most 0.75,
which acc = 1 times 1/4 attains.

The two-stage form is Jacob et al. (arXiv:1712.05877, section 2.2 and appendix B) as
released in gemmlowp, fixedpoint.h. Its first stage saturates where both factors are
-2^31; a multiplier is never negative, so here that cannot happen.
"""

from typing import NamedTuple, overload

import numpy as np
import numpy.typing as npt

from refqnn._types import Float, Int
from refqnn.integer.checks import (
    MAX_SHIFT,
    as_int32_values,
    as_integers,
    as_requantize_operands,
    as_skip_operands,
    check_broadcasts,
    code_dtype,
    fits_int32,
)
from refqnn.integer.rounding import round_half_away, shift_right, shift_right_product


class Requantization(NamedTuple):
    """The equation of a form, its users, and the inputs that reveal it."""

    formula: str
    users: str
    #: (acc, multiplier, shift): few and small inputs that no other form answers so
    reveals: tuple[tuple[int, int, int], ...]


TWO_STAGE = {
    "two_stage_half_away": "half_away",
    "two_stage_half_up": "half_up",
    "two_stage_half_even": "half_even",
}
FLOATING = {"float32_half_even": np.float32, "float64_half_even": np.float64}

HALF, ABOVE_HALF, THREE_QUARTERS = 1 << 30, (1 << 30) + 1, 3 << 29
#: a product beyond 2^53, one beside a tie: float64 drops the one
BEYOND_FLOAT64 = (4_200_103, 2_144_874_775, 0)

REQUANTIZATIONS = {
    "half_even": Requantization(
        "round(acc multiplier / 2^(31 - shift)), ties to even",
        "datapaths that round to even (AP_RND_CONV)",
        ((1, HALF, 0), (-1, HALF, 0), BEYOND_FLOAT64),
    ),
    "half_away": Requantization(
        "the same, ties away from 0",
        "XNNPACK rndna",
        ((1, HALF, 0), (-1, HALF, 0)),
    ),
    "half_up": Requantization(
        "(acc multiplier + 2^(30 - shift)) >> (31 - shift)",
        "TFLite and CMSIS-NN built for single rounding, TOSA RESCALE, XNNPACK rndnu",
        ((1, HALF, -1), (-1, HALF, 0), (2, HALF, -1)),
    ),
    "half_down": Requantization(
        "half_up of the negated accumulator, negated",
        "datapaths that round towards minus infinity on ties (AP_RND_MIN_INF)",
        ((1, ABOVE_HALF, 0), (2, THREE_QUARTERS, 0)),
    ),
    "floor": Requantization(
        "(acc multiplier) >> (31 - shift)",
        "a shift without rounding (AP_TRN)",
        ((-1, HALF, -1),),
    ),
    "ceil": Requantization(
        "floor of the negated accumulator, negated",
        "datapaths that negate before a shift",
        ((2, ABOVE_HALF, 0),),
    ),
    "trunc": Requantization(
        "acc multiplier / 2^(31 - shift) with C's integer division",
        "C code that divides in place of shifting (AP_TRN_ZERO)",
        ((1, THREE_QUARTERS, 0), (-1, HALF, 0)),
    ),
    "two_stage_half_away": Requantization(
        "(4), then divided by 2^-shift, ties away from 0",
        "gemmlowp, TFLite and CMSIS-NN by default",
        ((1, HALF, 0), (-1, ABOVE_HALF, -1)),
    ),
    "two_stage_half_up": Requantization(
        "(4), then divided by 2^-shift, ties up",
        "Arm SQRDMULH followed by SRSHL",
        ((1, HALF, -1), (-1, ABOVE_HALF, 0), (-1, ABOVE_HALF, -1)),
    ),
    "two_stage_half_even": Requantization(
        "(4), then divided by 2^-shift, ties to even",
        "models of the two stages that call rint",
        ((1, HALF, 0), (2, HALF, -1)),
    ),
    "float32_half_even": Requantization(
        "rint(float32(acc) * float32(real)) in float32",
        "onnxruntime QLinearConv, FBGEMM, XNNPACK fp32",
        ((1, ABOVE_HALF, 0), (1, THREE_QUARTERS, 0)),
    ),
    "float64_half_even": Requantization(
        "rint(acc * real) in float64",
        "models in NumPy and plain Python",
        ((1, ABOVE_HALF, 0), BEYOND_FLOAT64),
    ),
}
FORMS = tuple(REQUANTIZATIONS)


@overload
def quantize_multiplier(real: float) -> tuple[int, int]: ...
@overload
def quantize_multiplier(real: Float) -> tuple[Int, Int]: ...
def quantize_multiplier(real: float | Float) -> tuple[int | Int, int | Int]:
    """real = multiplier * 2^(shift - 31), to the nearest of 31 bits, ties away from 0

    real: (...)  ->  multiplier, shift: (...) int32 (two ints for a number)

    2^30 <= multiplier < 2^31; a positive shift multiplies. Zero, and numbers so small
    that the shift falls below -31, give (0, 0). Raises ValueError for negative, NaN and
    infinite numbers and for those of 2^31 and more.

    >>> quantize_multiplier(0.25), quantize_multiplier(3.0), quantize_multiplier(0.0)
    ((1073741824, -1), (1610612736, 2), (0, 0))
    """
    reals = np.asarray(real, np.float64)
    check_reals(reals)
    fraction, exponent = np.frexp(reals)  # fraction in [1/2, 1), or 0 and 0
    multiplier = round_half_away(fraction * 2**31).astype(np.int64)  # exact
    full = multiplier == 1 << 31
    multiplier, shift = np.where(full, 1 << 30, multiplier), exponent + full
    if np.any(shift > MAX_SHIFT):
        raise ValueError(f"real must be below 2^31, got {reals.max()}")
    zero = shift < -MAX_SHIFT
    multiplier, shift = np.where(zero, 0, multiplier), np.where(zero, 0, shift)
    if reals.ndim == 0:
        return int(multiplier), int(shift)
    return multiplier.astype(np.int32), shift.astype(np.int32)


def quantize_multipliers(
    real: npt.ArrayLike, skip_real: npt.ArrayLike
) -> tuple[Int, Int, Int]:
    """Write two real numbers with one shift, that of the larger: (1) twice.

    real, skip_real: broadcast to (...)  ->  multiplier, skip_multiplier, shift: (...)

    For ``requantize_add``. Both are rounded to the nearest, ties away from 0; raises as
    ``quantize_multiplier``.

    >>> quantize_multipliers(0.5, 0.125)
    (array(1073741824), array(268435456), array(0))
    """
    both = np.stack(np.broadcast_arrays(real, skip_real)).astype(np.float64)
    check_reals(both)
    shift = quantize_multiplier(both.max(axis=0, keepdims=True))[1][0]
    first, second = round_half_away(np.ldexp(both, 31 - shift)).astype(np.int64)
    return np.asarray(first), np.asarray(second), np.asarray(shift, np.int64)


def requantize(
    acc: Int,
    multiplier: npt.ArrayLike,
    shift: npt.ArrayLike,
    zero_point: npt.ArrayLike,
    *,
    q_min: int,
    q_max: int,
    rounding: str = "half_up",
) -> Int:
    """q = clip(zero_point + round(acc * multiplier * 2^(shift - 31)), q_min, q_max)

    acc: (...), multiplier, shift, zero_point: broadcast to acc  ->  (...), the smallest
    signed or unsigned dtype that holds [q_min, q_max]

    For channels of (N, C, H, W) pass multiplier and shift of shape (C, 1, 1).
    ``rounding`` is one of the seven of (3), ``two_stage_half_away``,
    ``two_stage_half_up``, ``two_stage_half_even`` (4, 5), ``float32_half_even`` or
    ``float64_half_even`` (6).

    Raises ValueError for accumulators that are neither int32 values nor int64,
    multipliers outside [0, 2^31), shifts outside [-31, 31], zero-points outside
    [q_min, q_max], and, with two roundings, where acc or acc * 2^shift is not an int32
    value.

    >>> requantize(np.array([1, 2, 3, 600]), 2**30, -1, 0, q_min=-128, q_max=127)
    array([  0,   1,   1, 127], dtype=int8)
    """
    if rounding not in FORMS:
        raise ValueError(f"rounding must be one of {list(FORMS)}, got {rounding!r}")
    dtype, acc, m, e, z = as_requantize_operands(
        acc, multiplier, shift, zero_point, q_min, q_max, wide=rounding not in TWO_STAGE
    )
    exact = acc.dtype != np.int64 or fits_int32(acc)
    acc = acc.astype(np.int64)
    if rounding in FLOATING:
        scaled = scale_in_float(acc, m, e, rounding)
    elif rounding in TWO_STAGE:
        scaled = two_stage(acc, m, e, rounding)
    elif exact:
        scaled = shift_right(acc * m, 31 - e, rounding=rounding)  # (3)
    else:
        scaled = shift_right_product(acc, m, 31 - e, rounding=rounding)
    return np.asarray(np.clip(scaled + z, q_min, q_max).astype(dtype))  # (2)


def requantize_real(
    acc: Int, real: npt.ArrayLike, zero_point: int, *, q_min: int, q_max: int
) -> Int:
    """q = clip(zero_point + round(float64(acc) * real), q_min, q_max), ties away from 0

    acc: (...), real: broadcasts to acc  ->  (...), dtype as ``requantize``

    The one form whose real number is not written with an integer: the reference
    FULLY_CONNECTED of TensorFlow Lite (integer_ops/fully_connected.h) multiplies by
    x_scale w_scale / y_scale in float64. Raises ValueError for accumulators that are no
    int32 values, real numbers that are negative or not finite, and zero-points outside
    [q_min, q_max].

    >>> requantize_real(np.array([1, -1, 3]), 0.5, 0, q_min=-128, q_max=127)
    array([ 1, -1,  2], dtype=int8)
    """
    dtype, reals = code_dtype(q_min, q_max), np.asarray(real, np.float64)
    acc = as_int32_values("acc", acc)
    check_reals(reals)
    check_broadcasts(acc, to="acc", real=reals)
    z = as_integers("zero_point", zero_point, low=q_min, high=q_max)
    product = np.clip(acc.astype(np.float64) * reals, -(2.0**62), 2.0**62)
    scaled = round_half_away(product).astype(np.int64)
    return np.asarray(np.clip(scaled + z, q_min, q_max).astype(dtype))


def two_stage(acc: Int, multiplier: Int, shift: Int, rounding: str) -> Int:
    """Round to the high half of the doubled product, then to the right shift."""
    left, right = np.maximum(shift, 0), np.maximum(-shift, 0)
    raised = as_int32_values("acc * 2^shift", acc << left)  # int64
    high = shift_right(raised * multiplier, 31, rounding="half_up")  # (4)
    return shift_right(high, right, rounding=TWO_STAGE[rounding])  # (5)


def scale_in_float(acc: Int, multiplier: Int, shift: Int, rounding: str) -> Int:
    """Multiply in floating point, round to the nearest integer, ties to even."""
    return nearest_int(scale_by(acc, multiplier, shift, rounding))  # (6)


def scale_by(acc: Int, multiplier: Int, shift: Int, rounding: str) -> Float:
    """float(acc) * float(real); |product| <= 2^62 as |acc| and real are <= 2^31"""
    real = np.ldexp(multiplier.astype(np.float64), shift - 31)  # (1), exact
    dtype = FLOATING[rounding]
    return np.asarray(acc.astype(dtype) * real.astype(dtype))


def nearest_int(scaled: Float) -> Int:
    """rint(v) as int64, |v| limited to 2^62, beyond which every code saturates"""
    return np.clip(np.rint(scaled), -(2.0**62), 2.0**62).astype(np.int64)


def requantize_add(
    acc: Int,
    multiplier: npt.ArrayLike,
    skip: Int,
    skip_multiplier: npt.ArrayLike,
    shift: npt.ArrayLike,
    zero_point: npt.ArrayLike,
    *,
    q_min: int,
    q_max: int,
    rounding: str = "half_up",
) -> Int:
    """zero_point + round((acc * multiplier + skip * skip_multiplier) * 2^(shift - 31))

    acc, skip: (...), the others broadcast to acc  ->  (...), dtype as ``requantize``

    A residual addition with one rounding, saturated to [q_min, q_max]; ``skip`` is
    codes minus their zero-point. Both products and their sum stay below 2^63: acc and
    skip are int32 values, the multipliers lie in [0, 2^31). ``rounding`` is one of the
    seven, or ``float32_half_even`` or ``float64_half_even``: both products and their
    sum in floating point, then (6). Raises as ``requantize``.

    >>> half = 2**30
    >>> requantize_add(np.array([1, 2]), half, np.array([0, 3]), half, 0, 0, q_min=0,
    ...                q_max=15)
    array([1, 3], dtype=uint8)
    """
    dtype, acc, m, e, z = as_requantize_operands(
        acc, multiplier, shift, zero_point, q_min, q_max
    )
    skip, skip_m = as_skip_operands(acc, skip, skip_multiplier)
    if rounding in FLOATING:
        product, skipped = (
            scale_by(acc, m, e, rounding),
            scale_by(skip, skip_m, e, rounding),
        )
        scaled = nearest_int(product + skipped)
        return np.asarray(np.clip(scaled + z, q_min, q_max).astype(dtype))
    total = acc.astype(np.int64) * m + skip.astype(np.int64) * skip_m
    scaled = shift_right(total, 31 - e, rounding=rounding)
    return np.asarray(np.clip(scaled + z, q_min, q_max).astype(dtype))


def check_reals(real: Float) -> None:
    """Raise unless every number is finite and not negative."""
    if not np.all((real >= 0) & (real < np.inf)):
        raise ValueError(f"real must be finite and not negative, got {real}")
