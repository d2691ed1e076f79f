"""Softmax of codes: p_i = exp(s_x (x_i - max x)) / sum of all, as codes.

    exact         z + round(p_i / s), p_i in float64, ties to even                  (1)
    onnxruntime   z + round(floor(1 / s) t_i / sum t),  t = table[x + 255 - max x]  (2)
    tflite        q_min + round(e_i (1 / sum e) 2^8), all of it in fixed point      (3)

(2) is QLinearSoftmax (qlinear_softmax.cc): a table of exp in float32 that is aligned
with the largest code, its sum in float32, the quotient in float64. (3) is the reference
of TensorFlow Lite for 8 bits (reference/softmax.h) on its output grid, scale 1/256 and
the smallest code as its zero-point, with the exponential and the reciprocal of gemmlowp
(fixedpoint.h): e has 31 fractional bits, their sum 19.
"""

import numpy as np
import numpy.typing as npt

from refqnn._types import Float, Int
from refqnn.integer.arithmetic import SEMANTICS, Semantics, saturated_rint
from refqnn.integer.checks import as_codes, check_scale, code_dtype, zero_point_of
from refqnn.integer.rescale import quantize_multiplier
from refqnn.integer.rounding import shift_right

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
    semantics: Semantics = "exact",
) -> Int:
    """q_i = z + round(exp(s_x x_i) / sum exp(s_x x_j) / s), saturated, along ``axis``

    x: (...) 8-bit codes  ->  (...), the smallest dtype that holds [q_min, q_max]

    A shift of x cancels, so ``x_zero_point`` changes nothing. Raises ValueError for
    codes of more than 8 bits, scales that are not positive and finite and, with
    "tflite", for a grid other than that of (3).

    >>> softmax(np.array([[3, 3]], np.uint8), x_scale=0.5, scale=1 / 256, zero_point=0,
    ...         q_min=0, q_max=255)
    array([[128, 128]], dtype=uint8)
    """
    if semantics not in SEMANTICS:
        raise ValueError(
            f"semantics must be one of {list(SEMANTICS)}, got {semantics!r}"
        )
    x, dtype = as_codes("x", x), code_dtype(q_min, q_max)
    if x.dtype.itemsize > 1:
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
    else:
        if (float(scale), zero_point, q_max) != (1 / 256, q_min, q_min + 255):
            raise ValueError(
                'semantics="tflite" has scale 1/256, zero-point q_min and 256 codes, '
                f"got {scale}, {zero_point}, {q_min} .. {q_max}"
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


def high_product(a: npt.ArrayLike, b: npt.ArrayLike) -> Int:
    """round(a b / 2^31) of int32 values, ties up, at most 2^31 - 1"""
    q = shift_right(np.asarray(a) * np.asarray(b), 31, rounding="half_up")
    return np.minimum(q, ONE)


def exp_of_negative(a: Int) -> Int:
    """exp(a 2^-26) 2^31 for a <= 0, from exp on [-1/4, 0) and the bits above"""
    quarter = 1 << 24
    inside = (a & (quarter - 1)) - quarter
    x = (inside << 5) + (1 << 28)  # a + 1/8, of 2^31
    square = high_product(x, x)
    cube, fourth = high_product(square, x), high_product(square, square)
    tail: Int = shift_right(fourth, 2, rounding="half_away") + cube
    tail = shift_right(high_product(tail, THIRD) + square, 1, rounding="half_away")
    y: Int = EXP_EIGHTH + high_product(EXP_EIGHTH, x + tail)
    above = inside - a
    for k, factor in enumerate(EXP_POWERS):
        y = np.where(above & (1 << (24 + k)), high_product(y, factor), y)
    return np.where(a == 0, ONE, y)


def reciprocal(a: Int) -> Int:
    """2^31 / (1 + a 2^-31) for 0 <= a < 2^31, by three steps of Newton"""
    half = (a + ONE + 1) >> 1
    x = NEWTON_START + high_product(half, NEWTON_SLOPE)  # of 2^29
    for _ in range(3):
        rest = (1 << 29) - high_product(half, x)
        x = x + np.clip(high_product(x, rest) << 2, -ONE - 1, ONE)
    return np.clip(x << 1, -ONE - 1, ONE)
