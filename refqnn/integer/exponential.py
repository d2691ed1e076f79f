"""Softmax of codes: p_i = exp(s_x (x_i - max x)) / sum of all, as codes.

    exact         z + round(p_i / s), p_i in float64, ties to even                  (1)
    onnxruntime   z + round(floor(1 / s) t_i / sum t),  t = table[x + 255 - max x]  (2)
    tflite        q_min + round(e_i (1 / sum e) 2^8), all of it in fixed point      (3)
                  of codes of 16 bits round(e_i (1 / sum e) 2^15), by tables        (4)
    table         z + round(e_i (1 / (s sum e))) in float32, ties away from 0       (5)

(2) is QLinearSoftmax (qlinear_softmax.cc): a table of exp in float32 that is aligned
with the largest code, its sum in float32, the quotient in float64. (3) is the reference
of TensorFlow Lite for 8 bits (reference/softmax.h) on its output grid, scale 1/256 and
the smallest code as its zero-point, with the exponential and the reciprocal of gemmlowp
(fixedpoint.h): e has 31 fractional bits, their sum 19. (4) has scale 2^-15: exp and the
reciprocal are interpolated between 513 values of 15 fractional bits, which LiteRT makes
in float64 and TensorFlow Lite Micro in float32 ("tflite-micro", else as "tflite"). (5)
are the optimized kernels of TensorFlow Lite for 8 bits, the sum in order.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from refqnn._types import Float, Int
from refqnn.integer.arithmetic import SEMANTICS, Semantics, multiply, saturated_rint
from refqnn.integer.checks import as_codes, check_scale, code_dtype, zero_point_of
from refqnn.integer.rescale import quantize_multiplier
from refqnn.integer.rounding import round_half_away, shift_right

SOFTMAX_SEMANTICS = (*SEMANTICS, "tflite-micro", "table")
SoftmaxSemantics = Literal[Semantics, "tflite-micro", "table"]
ONE = 2**31 - 1
#: exp(-1/8), 1/3, 48/17 and -32/17 (of 2^29), and exp(-2^k), k = -2 .. 4, of 2^31
EXP_EIGHTH, THIRD = 1_895_147_668, 715_827_883
NEWTON_START, NEWTON_SLOPE = 1_515_870_810, -1_010_580_540
EXP_POWERS = (
    1_672_461_947,
    1_302_514_674,
    790_015_084,
    290_630_308,
    39_332_535,
    720_401,
    242,
)


def softmax(
    x: Int,
    *,
    axis: int = -1,
    x_scale: float,
    x_zero_point: int = 0,
    scale: float,
    zero_point: int,
    q_min: int,
    q_max: int,
    semantics: SoftmaxSemantics = "exact",
) -> Int:
    """q_i = z + round(exp(s_x x_i) / sum exp(s_x x_j) / s), saturated, along ``axis``

    x: (...) 8-bit codes, 16-bit ones for (4)  ->  (...), the smallest dtype that holds
    [q_min, q_max]

    A shift of x cancels, so ``x_zero_point`` changes nothing. Raises ValueError for
    codes of more bits, scales that are not positive and finite and, with "tflite" and
    "tflite-micro", for a grid other than that of (3) and (4).

    >>> softmax(np.array([[3, 3]], np.uint8), x_scale=0.5, scale=1 / 256, zero_point=0,
    ...         q_min=0, q_max=255)
    array([[128, 128]], dtype=uint8)
    """
    if semantics not in SOFTMAX_SEMANTICS:
        raise ValueError(
            f"semantics must be one of {list(SOFTMAX_SEMANTICS)}, got {semantics!r}"
        )
    x, dtype = as_codes("x", x), code_dtype(q_min, q_max)
    wide = x.dtype == np.int16 and semantics.startswith("tflite")
    if x.dtype.itemsize > 1 and not wide:
        raise ValueError(f"codes of x must have 8 bits, got {x.dtype}")
    check_scale(np.array([x_scale, scale], np.float32))
    zero_point_of("x_zero_point", x_zero_point, x)
    below = np.moveaxis(x, axis, -1).astype(np.int64)
    below -= below.max(axis=-1, keepdims=True)
    if semantics == "exact":
        e = np.exp(float(x_scale) * below)
        p = e / e.sum(-1, keepdims=True)
        q = zero_point + saturated_rint(p / float(scale))  # (1)
    elif semantics == "onnxruntime":
        t = runtime_table(float(np.float32(x_scale)), below.shape[-1])[below + 255]
        total = np.add.accumulate(t, axis=-1)[..., -1:]  # in order, in float32
        inverse = np.floor(np.float32(1) / np.float32(scale))
        q = zero_point + saturated_rint(t.astype(np.float64) * inverse / total)  # (2)
    elif semantics == "table":
        f = np.float32
        e = np.exp((f(x_scale) * below.astype(f)).astype(np.float64)).astype(f)
        total = np.add.accumulate(e, axis=-1)[..., -1:]  # in order, in float32
        t = round_half_away(e * (f(1) / (total * f(scale))))
        q = zero_point + np.asarray(t).astype(np.int64)  # (5)
    elif wide:
        if (float(scale), zero_point, q_max) != (2.0**-15, 0, 2**15 - 1):
            raise ValueError(
                f"semantics={semantics!r} of int16 has scale 1/32768 and zero-point 0, "
                f"got {scale}, {zero_point}, up to {q_max}"
            )
        real = np.float32 if semantics == "tflite-micro" else np.float64
        q = interpolated_softmax(below, float(np.float32(x_scale)), real)
    else:
        if (float(scale), zero_point, q_max) != (1 / 256, q_min, q_min + 255):
            raise ValueError(
                f"semantics={semantics!r} has scale 1/256, zero-point q_min and 256 "
                f"codes, got {scale}, {zero_point}, {q_min} .. {q_max}"
            )
        q = fixed_softmax(below, float(np.float32(x_scale))) + q_min
    q = np.clip(q, q_min, q_max).astype(dtype)
    return np.ascontiguousarray(np.moveaxis(q, -1, axis))


def runtime_table(x_scale: float, length: int) -> Float:
    """exp((i - 255 + b) s_x) for i = 0 .. 255, b such that no sum overflows.

    b s_x is the logarithm, in float32, of the largest float32 / length, less 5.
    """
    most = np.log(np.finfo(np.float32).max / np.float32(length))
    room = max(0.0, float(most) - 5)
    exponent = (np.arange(256) - 255.0 + room / x_scale) * x_scale
    return np.exp(exponent).astype(np.float32)


def fixed_softmax(below: Int, x_scale: float) -> Int:
    """round(e_i (1 / sum e) 2^8) of codes less the largest of their row"""
    real = min(x_scale * (1 << 26), 2.0**31 - 1)
    multiplier, shift = quantize_multiplier(real)
    least = -int(np.floor(31 * 2.0**26 / 2.0**shift))
    kept = below >= least
    scaled = high_product(np.where(kept, below, 0) << shift, multiplier)
    e = np.where(kept, exp_of_negative(scaled), 0)
    total = shift_right(e, 12, rounding="half_away")
    total = np.where(kept, total, 0).sum(-1, keepdims=True)
    zeros = 31 - np.floor(np.log2(total)).astype(np.int64)  # leading zeros of 32 bits
    inverse = reciprocal((total << zeros) - (1 << 31))
    bits = 12 - zeros + 31 - 8
    q = shift_right(high_product(inverse, e), bits, rounding="half_away")
    return np.where(kept, q, 0)  # (3)


def interpolated_softmax(below: Int, x_scale: float, real: Any) -> Int:
    """round(e_i (1 / sum e) 2^15) of codes less the largest of their row"""
    exponential, inverse = tables(real)
    e = interpolate(exponential, multiply(below, x_scale / (10 / 65535)) + 32767)
    total = e.sum(-1, keepdims=True)
    bits = np.floor(np.log2(total)).astype(np.int64)  # of its highest one
    fraction = shift_right(total << (30 - bits), 14, rounding="half_up") - (3 << 15)
    return (e * interpolate(inverse, fraction) + (1 << (bits - 1))) >> bits  # (4)


@cache
def tables(real: Any) -> tuple[Int, Int]:
    """exp on [-10, 0] and 1 / (1 + x) on [0, 1], of 2^15, at 512 steps: (513,) each"""
    tenth, unit = real(np.float32(10 / 65535)), real(np.float32(1 / 65535))
    return (
        table_of(np.exp, -65535 * tenth, real(0), real),
        table_of(lambda v: 1 / (1 + v), real(0), 65535 * unit, real),
    )


def table_of(
    function: Callable[[Float], Float], low: Any, high: Any, real: type[Any]
) -> Int:
    """f 2^15 at 512 steps, each less half its error in the middle of the step"""
    step = (high - low) / real(512)
    at = low + np.arange(513).astype(real) * step

    def values(v: Float) -> Float:
        return function(v.astype(np.float64)).astype(real) * real(2**15)

    ends, middle = values(at), round_half_away(values(at[:-1] + step / real(2)))
    starts = round_half_away(ends[:-1])
    error = round_half_away((ends[1:] + starts) / real(2)) - middle
    bias = round_half_away(error / real(2))
    codes = np.append(starts - bias, round_half_away(ends[-1]))
    return np.clip(codes, -(2**15), 2**15 - 1).astype(np.int64)


def interpolate(table: Int, v: Int) -> Int:
    """The table at 2^-7 v + 256, a straight line between its values, ties up"""
    v = np.clip(v, -(2**15), 2**15 - 1)
    at, share = 256 + (v >> 7), v & 127
    return table[at] + (((table[at + 1] - table[at]) * share + 64) >> 7)


def high_product(a: npt.ArrayLike, b: npt.ArrayLike) -> Int:
    """round(a b / 2^31) of int32 values, ties up, at most 2^31 - 1"""
    q = shift_right(np.asarray(a) * np.asarray(b), 31, rounding="half_up")
    return np.minimum(q, ONE)


def exp_of_negative(a: Int, bits: int = 26) -> Int:
    """exp(a 2^-bits) 2^31 for a <= 0, from exp on [-1/4, 0) and the bits above"""
    quarter = 1 << (bits - 2)
    inside = (a & (quarter - 1)) - quarter
    x = (inside << (31 - bits)) + (1 << 28)  # a + 1/8, of 2^31
    square = high_product(x, x)
    cube, fourth = high_product(square, x), high_product(square, square)
    tail: Int = shift_right(fourth, 2, rounding="half_away") + cube
    tail = shift_right(high_product(tail, THIRD) + square, 1, rounding="half_away")
    y: Int = EXP_EIGHTH + high_product(EXP_EIGHTH, x + tail)
    above = inside - a
    for k, factor in enumerate(EXP_POWERS):
        y = np.where(above & (quarter << k), high_product(y, factor), y)
    return np.where(a == 0, ONE, y)


def reciprocal(a: Int) -> Int:
    """2^31 / (1 + a 2^-31) for 0 <= a < 2^31"""
    return np.clip(half_reciprocal(a) << 1, -ONE - 1, ONE)


def half_reciprocal(a: Int) -> Int:
    """2^30 / (1 + a 2^-31) for 0 <= a < 2^31, by three steps of Newton"""
    half = (a + ONE + 1) >> 1
    x = NEWTON_START + high_product(half, NEWTON_SLOPE)  # of 2^29
    for _ in range(3):
        rest = (1 << 29) - high_product(half, x)
        x = x + np.clip(high_product(x, rest) << 2, -ONE - 1, ONE)
    return np.asarray(x)
