"""Functions of one code as TensorFlow Lite computes them: tables of all codes.

    RELU, ...    z_y + M(s_x / s_y, q - z_x), clamped                               (1)
    LEAKY_RELU   z_y + M(s_x / s_y, q - z_x), below 0 M(s_x alpha / s_y, q - z_x)   (2)
    LOGISTIC, TANH    z_y + round(f(s_x (q - z_x)) (1 / s_y)), all of it in float32 (3)
                      XNNPACK: the zero-point inside the rounding, ties to even     (6)
                      Micro: exp and 1 / (1 + x) in fixed point, gemmlowp's         (7)
    HARD_SWISH   16-bit fixed point throughout (reference/hard_swish.h)             (4)
    XNNPACK's QUANTIZE and LEAKY_RELU    z_y + ((q - z_x) round(2^8 r) + 2^7) >> 8  (5)
    LOGISTIC, TANH of 16 bits    a = (m q + 2^(n - 1)) >> n                         (8)
                    t_i = round(2^16 (f_i + (f_(i+1/2) - (f_i + f_(i+1)) / 2) / 2)) (9)
                    r = 2^b t_i + j (t_(i+1) - t_i),  |a| = 2^b i + j              (10)

M(r, a) is a requantization by r in two roundings, ``two_stage_half_away``. (1) is that
of QUANTIZE from codes to codes, too. The ratios of (1) and (2) are made in float32 for
LEAKY_RELU and the clamps, in float64 for QUANTIZE and by TensorFlow Lite Micro.

(8) counts steps of 1 / (3 2^12), without 2^(n - 1) where n = 0. The entries (9) are of
the sigmoid, f_i = 1 / (1 + exp(-i / 24)), and above it by half of what the line (10)
misses it by in the middle; 2^16 - 1 from i = 255. LOGISTIC has b = 9 and r / 2^10;
TANH, as 2 sigmoid(2 v) - 1, b = 8 and r / 2^8 - 2^15: ties up, then the sign of a.
Scales within 0.07 % of 2^-12, for TANH of 2^-11 too, count as these: there m is 3 2^k,
and the optimized kernels have another form, which is refused.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from refqnn._types import Float, Int
from refqnn.deploy.fold import Grid
from refqnn.integer.arithmetic import INT32, TWICE, multiply
from refqnn.integer.exponential import (
    ONE,
    exp_of_negative,
    half_reciprocal,
    reciprocal,
)
from refqnn.integer.rescale import quantize_multiplier, requantize
from refqnn.integer.rounding import round_half_away, shift_right
from refqnn.integer.tables import fixed_hard_swish, float32_sigmoid, sigmoid

F = np.float32
#: the rounding (5)
EIGHT_BITS = "xnnpack"


def code_table(op: str, x: Grid, y: Grid, options: Mapping[str, Any]) -> Int:
    """Return the code on grid ``y`` of every code on grid ``x``: (256,) or (65 536,)

    Raises ValueError for operators that take no codes of 16 bits, option ``wide``.
    """
    functions = WIDE if options["wide"] else FUNCTIONS
    if op not in functions:
        raise ValueError("codes must have 8 bits")
    info = np.iinfo(x.dtype)
    q = np.arange(info.min, info.max + 1, dtype=np.int64) - x.zero_point
    codes = functions[op](q, x, y, options) + y.zero_point
    return np.clip(codes, y.q_min, y.q_max).astype(y.dtype)


def rescale_codes(q: Int, x: Grid, y: Grid, options: Mapping[str, Any]) -> Int:
    """M(s_x / s_y, q - z_x), the ratio in the type of the kernels"""
    real = options["real"]
    return multiply(q, float(real(x.scale) / real(y.scale)))  # (1)


def requantize_codes(q: Int, x: Grid, y: Grid, options: Mapping[str, Any]) -> Int:
    """M(s_x / s_y, q - z_x), the ratio in float64, by the rounding of the kernels"""
    m, e = quantize_multiplier(x.scale / y.scale)
    rounding = options["rounding"]
    if rounding == EIGHT_BITS:
        return eight_bits(q, F(x.scale) / F(y.scale))
    return requantize(q, m, e, 0, **INT32, rounding=rounding).astype(np.int64)  # (1)


def eight_bits(q: Int, ratio: np.float32) -> Int:
    """(5) of codes less their zero-point (qs8-vcvt, qs8-vlrelu)"""
    if not 2.0**-8 <= ratio < 2.0**7:
        raise ValueError(
            f"the ratio of the scales must lie in [1/256, 128), is {ratio}"
        )
    return (q * int(np.rint(256 * ratio)) + 128) >> 8  # (5)


def leaky(q: Int, x: Grid, y: Grid, options: Mapping[str, Any]) -> Int:
    """(2), whose alpha is not negative"""
    alpha = F(options["alpha"])
    if not 0 <= alpha < np.inf:
        raise ValueError(f"alpha must lie in [0, inf), is {alpha}")
    if options["rounding"] == EIGHT_BITS:
        ratio = F(x.scale) / F(y.scale)
        return np.where(q >= 0, eight_bits(q, ratio), eight_bits(q, ratio * alpha))
    real = options["real"]
    below = multiply(q, float(real(x.scale) * real(alpha) / real(y.scale)))
    return np.where(q >= 0, rescale_codes(q, x, y, options), below)  # (2)


def sample_function(
    function: Callable[[Float], Float],
    rounded: Callable[[Float], Float],
    fixed: Callable[[Int], Int],
) -> Callable[..., Int]:
    """Return (3) for a function in float32, (6) in float64 and rounded, (7) in fixed.

    The last maps numbers of 27 fractional bits to steps of the fixed grid.
    """

    def table(q: Int, x: Grid, y: Grid, options: Mapping[str, Any]) -> Int:
        if options["real"] == np.float64:
            multiplier, shift = quantize_multiplier(x.scale * 2**27)
            radius = (15 << 27) >> max(shift, 0)
            near = np.abs(q) < radius
            inside = np.where(near, q, 0)
            fine = requantize(inside, multiplier, shift, 0, **INT32, rounding=TWICE)
            steps = fixed(fine.astype(np.int64))
            return np.where(near, steps, np.sign(q) * 1024)  # (7)
        v = F(x.scale) * q.astype(np.float32)
        if options["rounding"] == EIGHT_BITS:
            real = rounded(v.astype(np.float64)).astype(np.float32)
            moved = np.rint(real * (F(1) / F(y.scale)) + F(y.zero_point))
            return np.clip(moved, -1024, 1024).astype(np.int64) - y.zero_point  # (6)
        real = function(v)
        moved = round_half_away(real * (F(1) / F(y.scale)))
        # the float32 sum with the zero-point is exact for every code
        return np.clip(moved, -1024, 1024).astype(np.int64)  # (3)

    return table


def fixed_logistic(a: Int) -> Int:
    """2^8 / (1 + exp(-a 2^-27))"""
    positive = reciprocal(exp_of_negative(-np.abs(a), 27))
    half = np.where(a > 0, positive, ONE - positive)
    return shift_right(half, 23, rounding="half_away")


def fixed_tanh(a: Int) -> Int:
    """2^7 tanh(a 2^-27)"""
    e = exp_of_negative(-np.abs(a), 26)
    positive = np.clip((half_reciprocal(e) - (1 << 29)) << 2, -ONE - 1, ONE)
    return np.sign(a) * shift_right(positive, 24, rounding="half_away")


def between_entries(bits: int) -> Callable[..., Int]:
    """Return LOGISTIC of 16-bit codes for 9 bits between entries, TANH for 8."""
    i = np.arange(255.0)
    f, middle, after = (sigmoid((i + share) / 24) for share in (0, 0.5, 1))
    t = np.rint(2**16 * (f + (middle - (f + after) / 2) / 2)).astype(np.int64)  # (9)
    t = np.append(t, [2**16 - 1] * 2)  # and so on

    def table(q: Int, x: Grid, _: Grid, options: Mapping[str, Any]) -> Int:
        m, n = fine_multiplier(x.scale, 10 - bits, powers=not options["vectors"])
        a = (q * m + ((1 << n) >> 1)) >> n  # (8)
        at, share = np.minimum(np.abs(a) >> bits, 255), np.abs(a) & ((1 << bits) - 1)
        line = (t[at] << bits) + share * (t[at + 1] - t[at])  # (10)
        if bits == 9:
            y = np.minimum((line + (1 << 9)) >> 10, 2**15 - 1)
            return np.where(a >= 0, y, 2**15 - y)
        return np.sign(a) * (((line + (1 << 7)) >> 8) - 2**15)

    return table


def fine_multiplier(scale: float, count: int, *, powers: bool) -> tuple[int, int]:
    """m and n of (8): m 2^-n is 3 2^12 s, rounded down to 15 bits

    Or 3 2^k for s = 2^(k - 12), k < ``count``; ValueError there unless ``powers``.
    """
    log = np.log(F(scale)) * (F(1) / np.log(F(2)))
    left = int(np.rint(log)) + 12
    if 0 <= left < count and abs(log - np.rint(log)) < F(1e-3):
        if powers:
            return 3 << left, 0
        raise ValueError(f"these kernels have another form on the scale {scale}")
    real, n = scale * 3 * 2**12, 0
    while real <= (2**15 - 1) / 2 and n <= 30:
        real, n = 2 * real, n + 1
    if real >= 2**16:  # the product leaves int32
        raise ValueError(f"codes of 16 bits must have a scale below 16/3, is {scale}")
    return int(real), n


def float32_tanh(v: Float) -> Float:
    """tanh rounded to float32"""
    return np.tanh(v.astype(np.float64)).astype(np.float32)


def hard_swish(q: Int, x: Grid, y: Grid, _: Mapping[str, Any]) -> Int:
    """x clip(x + 3, 0, 6) / 6 with factors of 16 bits, (4)"""
    ratio = F(1 / 128) * F(x.scale) / F(y.scale)
    if ratio >= 1:
        raise ValueError(f"s_x / (128 s_y) must be below 1, is {ratio}")
    scales = np.asarray([x.scale, y.scale], F)
    return fixed_hard_swish(q, *scales[:, None])  # (4)


FUNCTIONS: dict[str, Callable[..., Int]] = {
    "RELU": rescale_codes,
    "RELU6": rescale_codes,
    "RELU_N1_TO_1": rescale_codes,
    "QUANTIZE": requantize_codes,
    "LEAKY_RELU": leaky,
    "LOGISTIC": sample_function(float32_sigmoid, sigmoid, fixed_logistic),
    "TANH": sample_function(float32_tanh, np.tanh, fixed_tanh),
    "HARD_SWISH": hard_swish,
}
#: of codes of 16 bits
WIDE: dict[str, Callable[..., Int]] = {
    "RELU": rescale_codes,
    "RELU6": rescale_codes,
    "QUANTIZE": requantize_codes,
    "LEAKY_RELU": leaky,
    "LOGISTIC": between_entries(9),
    "TANH": between_entries(8),
}
