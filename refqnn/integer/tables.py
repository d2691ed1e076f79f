"""Functions of one code as tables, and codes of several grids side by side.

    q_y = table[q_x - q_min of its dtype],  one entry a code                        (1)
    table[q] = quantize(f(s_x (q - z_x)))                                           (2)
    q_y = t_i + ((t_{i+1} - t_i) j + 64) >> 7,  q_x + 2^15 = 2^7 i + j              (3)

(1) and (2) are how onnxruntime computes QLinearSigmoid, QLinearLeakyRelu and the inputs
of QLinearConcat (qlinear_lookup_table.cc): f in float32, then y / s_y rounded ties to
even, then the zero-point. (3) interpolates 513 entries for codes of 16 bits (TensorFlow
Lite, kernels/internal/common.h, lut_lookup).
"""

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from refqnn._types import Float, Int
from refqnn.integer.affine import dequantize, quantize
from refqnn.integer.arithmetic import SEMANTICS, Semantics, round_rational
from refqnn.integer.checks import as_codes, code_dtype
from refqnn.integer.rescale import quantize_multiplier
from refqnn.integer.rounding import round_half_away, shift_right

#: entries of a table that 16-bit codes interpolate
ENTRIES = 513


def erf(v: Float) -> Float:
    """erf(v) of float64 values"""
    from scipy.special import erf as special  # noqa: PLC0415 - slow to import

    return np.asarray(special(v))


def sigmoid(v: Float) -> Float:
    """1 / (1 + exp(-v))

    >>> sigmoid(np.array([0.0]))
    array([0.5])
    """
    return np.exp(-np.logaddexp(0, -v))


#: functions of real numbers, in float64; ``alpha`` and ``beta`` are those of ONNX
ACTIVATIONS: dict[str, Callable[..., Float]] = {
    "identity": lambda v: v,
    "relu": lambda v: np.maximum(v, 0),
    "relu6": lambda v: np.clip(v, 0, 6),
    "clip": np.clip,
    "leaky_relu": lambda v, alpha=0.01: np.where(v < 0, alpha * v, v),
    "sigmoid": sigmoid,
    "tanh": np.tanh,
    "hard_sigmoid": lambda v, alpha=0.2, beta=0.5: np.clip(alpha * v + beta, 0, 1),
    "hard_swish": lambda v: v * np.clip(v / 6 + 0.5, 0, 1),
    "elu": lambda v, alpha=1.0: np.where(v < 0, alpha * np.expm1(np.minimum(v, 0)), v),
    "silu": lambda v: v * sigmoid(v),
    "gelu": lambda v: 0.5 * v * (1 + erf(v / np.sqrt(2))),
    "gelu_tanh": lambda v: (
        0.5 * v * (1 + np.tanh(np.sqrt(2 / np.pi) * (v + 0.044715 * v**3)))
    ),
    "softplus": lambda v: np.logaddexp(0, v),
    "negative": lambda v: -v,
    "absolute": np.abs,
    "exponential": np.exp,
}


def float32_sigmoid(v: Float) -> Float:
    """1 / (1 + exp(-v)) in float32, the exponential rounded as all that follows

    >>> float32_sigmoid(np.float32([0, 100]))
    array([0.5, 1. ], dtype=float32)
    """
    one, e = np.float32(1), np.exp(-v.astype(np.float64)).astype(np.float32)
    return np.asarray(one / (one + e))


def fixed_hard_swish(q: Int, x_scale: Float, scale: Float) -> Int:
    """v clip(v + 3, 0, 6) / 6 in products of 16 bits (TensorFlow Lite, hard_swish.h)

    q: (...) codes less their zero-point, scales: float32, broadcast to q  ->  (...),
    codes on the grid of the result less its zero-point, before they are clipped

    The result has a scale of at least s_x / 128.
    """
    fine = np.float32(1 / 128) * x_scale
    output, down = multiplier16(fine / scale)
    slope, exponent = multiplier16(fine / np.float32(3 / 32768))
    raised = q << 7
    share = clip16(raised << np.maximum(exponent - 1, 0))
    share = clip16(high_product16(share, slope) << np.clip(exponent, 0, 1))
    share = shift_right(share, np.maximum(-exponent, 0), rounding="half_away")
    product: Int = (share + 2**15 >> 1) * high_product16(raised, output)
    product = shift_right(product, 15, rounding="trunc")
    return shift_right(product, np.maximum(-down, 0), rounding="half_away")


def multiplier16(real: Float) -> tuple[Int, Int]:
    """Return m and e with real = m 2^(e - 15), m at most 2^15 - 1."""
    wide = quantize_multiplier(np.asarray(real, np.float64))
    multiplier, exponent = (np.asarray(v, np.int64) for v in wide)
    return np.minimum(multiplier + 2**15 >> 16, 2**15 - 1), exponent


def high_product16(a: Int, b: Int) -> Int:
    """round(a b / 2^15) of 16 bits, ties up"""
    return clip16(shift_right(a * b, 15, rounding="half_up"))


def clip16(a: Int) -> Int:
    """Saturate to 16 bits."""
    return np.clip(a, -(2**15), 2**15 - 1)


def lookup(x: Int, table: Int) -> Int:
    """y = table[x - the smallest code of its dtype], (1); between 513 entries (3)

    x: (...), table: (256,), for codes of 16 bits (65 536,) or (513,)  ->  (...), dtype
    of table

    Raises ValueError where the table has another size.

    >>> lookup(np.array([-128, 1], np.int8), np.arange(256, dtype=np.uint8))
    array([  0, 129], dtype=uint8)
    """
    x, table = as_codes("x", x), as_codes("table", table)
    bits = 8 * x.dtype.itemsize
    every = bits <= 16 and table.shape == (2**bits,)
    if not every and not (bits == 16 and table.shape == (ENTRIES,)):
        raise ValueError(
            f"table must hold 256 entries for 8-bit codes, {ENTRIES} for 16-bit ones "
            f"or 65536: x {x.dtype}, table{table.shape}"
        )
    at = x.astype(np.int64) - np.iinfo(x.dtype).min
    if every:
        return table[at]  # (1)
    i, j = at >> 7, at & 127
    low, high = table[i].astype(np.int64), table[i + 1].astype(np.int64)
    return (low + (((high - low) * j + 64) >> 7)).astype(table.dtype)  # (3)


def activation_table(
    function: str,
    *,
    dtype: Any,
    x_scale: float,
    x_zero_point: int,
    scale: float,
    zero_point: int,
    q_min: int,
    q_max: int,
    **options: float,
) -> Int:
    """table[q] = clip(round(f(s_x (q - z_x)) / s) + z), (2), for every q of 8 bits

    ->  (256,), the smallest dtype that holds [q_min, q_max]

    ``function`` is a name in ``ACTIVATIONS``, ``options`` are its arguments. f is
    computed in float64 and rounded to float32; real numbers that are no code of the
    next grid saturate. Raises ValueError for an unknown function and for what
    ``quantize`` refuses.

    >>> activation_table("relu", dtype=np.int8, x_scale=0.5, x_zero_point=0, scale=1.0,
    ...                  zero_point=0, q_min=-128, q_max=127)[[0, 128, 131, 133]]
    array([0, 0, 2, 2], dtype=int8)
    """
    if function not in ACTIVATIONS:
        raise ValueError(
            f"function must be one of {list(ACTIVATIONS)}, got {function!r}"
        )
    v = dequantize(every_code(dtype), np.float32(x_scale), x_zero_point)
    with np.errstate(over="ignore"):
        y = ACTIVATIONS[function](v.astype(np.float64), **options).astype(np.float32)
        s = np.float32(scale)
        return quantize(y, s, zero_point, q_min=q_min, q_max=q_max, nan="zero")  # (2)


def concat(
    xs: Sequence[Int],
    *,
    scales: Sequence[float],
    zero_points: Sequence[int],
    axis: int = 1,
    scale: float,
    zero_point: int,
    q_min: int,
    q_max: int,
    semantics: Semantics = "exact",
) -> Int:
    """q_i = z + round(s_i / s (x_i - z_i)) of every input, side by side along ``axis``

    xs: arrays of 8-bit codes that differ along ``axis`` only  ->  the smallest dtype
    that holds [q_min, q_max]

    "exact" rounds the rational number, ties to even; "onnxruntime" (QLinearConcat)
    divides the float32 number s_i (x_i - z_i) by s; "tflite" rounds the float32 sum
    x_i r - z_i r, r = s_i (1 / s), ties away from 0 (reference/concatenation.h,
    ConcatenationWithScaling). Inputs on the grid of the result are copied, codes of 16
    bits, too.

    >>> concat([np.array([[1, 2]], np.uint8), np.array([[6]], np.uint8)],
    ...        scales=[1.0, 0.5], zero_points=[0, 4], scale=1.0, zero_point=0,
    ...        q_min=0, q_max=255)
    array([[1, 2, 1]], dtype=uint8)
    """
    if semantics not in SEMANTICS:
        raise ValueError(
            f"semantics must be one of {list(SEMANTICS)}, got {semantics!r}"
        )
    if not len(xs) == len(scales) == len(zero_points) > 0:
        raise ValueError(
            f"xs, scales and zero_points must have one length, at least 1: "
            f"{len(xs)}, {len(scales)}, {len(zero_points)}"
        )
    grid = {"scale": scale, "zero_point": zero_point, "q_min": q_min, "q_max": q_max}
    parts = []
    for given, s, z in zip(xs, scales, zero_points, strict=True):
        x = as_codes("x", given)
        same = (np.float32(s), z) == (np.float32(scale), zero_point)
        if same and x.dtype.itemsize <= 2:
            q = np.clip(x.astype(np.int64), q_min, q_max)
            parts.append(q.astype(code_dtype(q_min, q_max)))
        else:
            parts.append(lookup(x, rescaling_table(x.dtype, s, z, grid, semantics)))
    return np.concatenate(parts, axis)


def rescaling_table(
    dtype: Any, s: float, z: int, grid: dict[str, Any], semantics: str
) -> Int:
    """Return the code on ``grid`` of every 8-bit code on the grid (s, z): (256,)."""
    q = every_code(dtype)
    ends, z_y = (grid["q_min"], grid["q_max"]), grid["zero_point"]
    output = code_dtype(*ends)
    if semantics == "onnxruntime":
        return activation_table(
            "identity", dtype=dtype, x_scale=s, x_zero_point=z, **grid
        )
    wide = q.astype(np.int64)
    if semantics == "tflite":
        r = np.float32(s) * (np.float32(1) / np.float32(grid["scale"]))
        moved = round_half_away(wide.astype(np.float32) * r - np.float32(z) * r)
    else:
        ratio = Fraction(float(s)) / Fraction(float(grid["scale"]))
        moved = round_rational([(wide - z, ratio)]).astype(np.float64)
    return np.clip(moved + z_y, *ends).astype(output)


def every_code(dtype: Any) -> Int:
    """Return all codes of an 8-bit dtype, ascending: (256,)."""
    info = np.iinfo(dtype)
    if info.bits != 8:
        raise ValueError(f"a table of every code is one of 8-bit codes, got {dtype}")
    return np.arange(info.min, info.max + 1).astype(dtype)
