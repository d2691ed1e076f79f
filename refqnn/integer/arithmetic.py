"""Sums, differences and products of codes on different grids.

With real values x = s_x (q_x - z_x) and y = s_y (q_y - z_y), the codes of x + y are

    exact         z + round((s_x (q_x - z_x) + s_y (q_y - z_y)) / s)                (1)
    onnxruntime   round((c + r_y q_y) + r_x q_x),  c = z - (r_x z_x + r_y z_y)      (2)
    tflite        z + M(2 s_m / (2^k s), M(s_x / (2 s_m), 2^k (q_x - z_x))
                                       + M(s_y / (2 s_m), 2^k (q_y - z_y)))         (3)
    xnnpack       z + floor((m_x (q_x - z_x) + m_y (q_y - z_y)) / 2^k + 1/2)        (7)
    tflite-avx2   (3), the two inner M rounded once, ties up                        (9)

and those of x y

    exact         z + round(s_x s_y / s (q_x - z_x) (q_y - z_y))                    (4)
    onnxruntime   round(s_x s_y / s (q_x - z_x) (q_y - z_y) + z)                    (5)
    tflite        z + M(s_x s_y / s, (q_x - z_x) (q_y - z_y))                       (6)
    xnnpack       z + round(s_x s_y / s (q_x - z_x) (q_y - z_y))                    (8)

(1) and (4) round a rational number once, ties to even, the scales as they are given;
the other forms round the scales to float32. (2) and (5) are those of onnxruntime on
x86, QLinearAdd (mlas, qladd_avx2.cpp) and QLinearMul (qlmul.cpp), in float32 with the
zero-point inside the rounding: r_x = s_x / s, r_y = s_y / s; each product of (2) joins
its sum without a rounding of its own. On Arm its QLinearAdd rounds 22-bit integers. (3)
and (6) are those of TensorFlow Lite (reference/integer_ops, add.h and mul.h): M(r, a)
is a requantization of two roundings, ``two_stage_half_away``, s_m = max(s_x, s_y), and
k = 20 for codes of 8 bits, 15 for those of 16. (7) and (8) are XNNPACK's (qs8-vadd,
qs8-vmul): m_x = round(2^k s_x / s), the larger of m_x and m_y with 21 bits; (8) is one
product of float32 numbers, ties to even. (9) is how TensorFlow Lite's optimized kernels
add codes of 16 bits on x86 with AVX2; "tflite-micro" is "tflite" with the ratio of (6)
in float64, not float32, as TensorFlow Lite Micro makes it.
"""

from fractions import Fraction
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from refqnn._types import Float, Int
from refqnn.integer.checks import as_codes, as_integers, code_dtype
from refqnn.integer.rescale import quantize_multiplier, requantize

SEMANTICS = ("tflite", "onnxruntime", "exact")
Semantics = Literal["tflite", "onnxruntime", "exact"]
#: of ``add``, ``sub`` and ``mul``
SUM_SEMANTICS = (*SEMANTICS, "xnnpack", "tflite-avx2", "tflite-micro")
SumSemantics = Literal[Semantics, "xnnpack", "tflite-avx2", "tflite-micro"]
TWICE = "two_stage_half_away"
INT32 = {"q_min": -(2**31), "q_max": 2**31 - 1}


class Operands(NamedTuple):
    """Two arrays of codes with their grids, and the grid of the result."""

    x: Int  # codes, int64
    y: Int
    scales: tuple[float, float, float]  # of x, y and the result
    zeros: tuple[int, int, int]
    bits: int  # of a code of x


def add(
    x: Int,
    y: Int,
    *,
    x_scale: float,
    x_zero_point: int,
    y_scale: float,
    y_zero_point: int,
    scale: float,
    zero_point: int,
    q_min: int,
    q_max: int,
    semantics: SumSemantics = "exact",
) -> Int:
    """q = z + round((s_x (q_x - z_x) + s_y (q_y - z_y)) / s), saturated

    x, y: broadcast to (...)  ->  (...), the smallest dtype that holds [q_min, q_max]

    How it is rounded is what ``semantics`` says: (1), (2), (3), (7) or (9). Raises
    ValueError for codes of more than 16 bits, scales that are not positive and finite,
    zero-points outside their codes, and unknown semantics.

    >>> add(np.array([3, 4], np.int8), np.array([1, 1], np.int8), x_scale=0.5,
    ...     x_zero_point=0, y_scale=1.0, y_zero_point=0, scale=1.0, zero_point=0,
    ...     q_min=-128, q_max=127)
    array([2, 3], dtype=int8)
    """
    scales, zeros = (x_scale, y_scale, scale), (x_zero_point, y_zero_point, zero_point)
    given = as_operands(x, y, scales, zeros, (q_min, q_max), semantics)
    q = sum_codes(given, 1, semantics)
    return np.clip(q, q_min, q_max).astype(code_dtype(q_min, q_max))


def sub(
    x: Int,
    y: Int,
    *,
    x_scale: float,
    x_zero_point: int,
    y_scale: float,
    y_zero_point: int,
    scale: float,
    zero_point: int,
    q_min: int,
    q_max: int,
    semantics: SumSemantics = "exact",
) -> Int:
    """q = z + round((s_x (q_x - z_x) - s_y (q_y - z_y)) / s), saturated

    x, y: broadcast to (...)  ->  (...), dtype and errors as ``add``

    The forms are those of ``add`` with s_y negated in (1) and (2), and the second of
    the inner products of (3) subtracted.

    >>> sub(np.array([3, 4], np.int8), np.array([1, 1], np.int8), x_scale=0.5,
    ...     x_zero_point=0, y_scale=1.0, y_zero_point=0, scale=1.0, zero_point=0,
    ...     q_min=-128, q_max=127)
    array([0, 1], dtype=int8)
    """
    scales, zeros = (x_scale, y_scale, scale), (x_zero_point, y_zero_point, zero_point)
    given = as_operands(x, y, scales, zeros, (q_min, q_max), semantics)
    q = sum_codes(given, -1, semantics)
    return np.clip(q, q_min, q_max).astype(code_dtype(q_min, q_max))


def mul(
    x: Int,
    y: Int,
    *,
    x_scale: float,
    x_zero_point: int,
    y_scale: float,
    y_zero_point: int,
    scale: float,
    zero_point: int,
    q_min: int,
    q_max: int,
    semantics: SumSemantics = "exact",
) -> Int:
    """q = z + round(s_x s_y / s (q_x - z_x) (q_y - z_y)), saturated

    x, y: broadcast to (...)  ->  (...), dtype and errors as ``add``

    How it is rounded is what ``semantics`` says: (4), (5), (6) or (8).

    >>> mul(np.array([3, 4], np.int8), np.array([5, 5], np.int8), x_scale=0.5,
    ...     x_zero_point=0, y_scale=0.5, y_zero_point=4, scale=0.5, zero_point=0,
    ...     q_min=-128, q_max=127)
    array([2, 2], dtype=int8)
    """
    scales, zeros = (x_scale, y_scale, scale), (x_zero_point, y_zero_point, zero_point)
    given = as_operands(x, y, scales, zeros, (q_min, q_max), semantics)
    q = product_codes(given, semantics)
    return np.clip(q, q_min, q_max).astype(code_dtype(q_min, q_max))


def product_codes(given: Operands, semantics: SumSemantics) -> Int:
    """(4), (5), (6) or (8), not yet saturated."""
    zx, zy, z = given.zeros
    product = (given.x - zx) * (given.y - zy)
    if semantics == "exact":
        sx, sy, s = map(Fraction, given.scales)
        return z + round_rational([(product, sx * sy / s)])  # (4)
    f = np.array(given.scales, np.float32)
    ratio = f[0] * f[1] / f[2]
    if semantics == "onnxruntime":
        t = product.astype(np.float32) * ratio + np.float32(z)
        return saturated_rint(t)  # (5)
    if semantics == "xnnpack":
        return z + saturated_rint(product.astype(np.float32) * ratio)  # (8)
    if semantics == "tflite-micro":
        ratio = np.float64(f[0]) * np.float64(f[1]) / np.float64(f[2])
    return z + multiply(product, float(ratio))  # (6)


def sum_codes(given: Operands, sign: int, semantics: SumSemantics) -> Int:
    """(1), (2), (3), (7) or (9), not saturated; ``sign`` is that of the second term."""
    x, y, scales, (zx, zy, z), bits = given
    if semantics == "exact":
        sx, sy, s = map(Fraction, scales)
        return z + round_rational([(x - zx, sx / s), (y - zy, sign * sy / s)])  # (1)
    f = np.array(scales, np.float32)
    if semantics == "onnxruntime":
        rx, ry = f[0] / f[2], sign * f[1] / f[2]
        offset = np.float32(z) - fused_multiply_add(
            np.float32(zx), rx, ry * np.float32(zy)
        )
        return saturated_rint(
            fused_multiply_add(x, rx, fused_multiply_add(y, ry, offset))
        )  # (2)
    if semantics == "xnnpack":
        return xnnpack_sum(given, sign)
    k = 20 if bits == 8 else 15
    one, two, out = map(float, f)
    most = 2 * max(one, two)
    inner = "half_up" if semantics == "tflite-avx2" else TWICE  # (9)
    first = multiply((x - zx) << k, one / most, inner)
    second = multiply((y - zy) << k, two / most, inner)
    return z + multiply(first + sign * second, most / (2**k * out))  # (3)


def xnnpack_sum(given: Operands, sign: int) -> Int:
    """(7), not yet saturated; ``sign`` is that of the second term."""
    s, (zx, zy, z) = np.array(given.scales, np.float32), given.zeros
    ratios = s[:2] / s[2]
    k = 21 - int(np.frexp(ratios.max())[1])
    mx, my = np.rint(np.ldexp(ratios.astype(np.float64), k)).astype(np.int64)
    acc = (given.x - zx) * mx + sign * (given.y - zy) * my
    return z + ((acc + (1 << (k - 1)) >> k) if k > 0 else acc << -k)  # (7)


def fused_multiply_add(a: npt.ArrayLike, b: Float, c: npt.ArrayLike) -> Float:
    """float32(a b + c), the product exact: for a of at most 16 bits, b and c float32"""
    product = np.asarray(a, np.float64) * np.float64(b)
    return np.asarray(product + np.asarray(c, np.float64), np.float32)


def multiply(a: Int, real: float | Float, rounding: str = TWICE) -> Int:
    """M(real, a): the nearest of two roundings, int64."""
    multiplier, shift = quantize_multiplier(real)
    q = requantize(a, multiplier, shift, 0, **INT32, rounding=rounding)
    return q.astype(np.int64)


def saturated_rint(t: Float) -> Int:
    """Round ties to even; beyond 2^31, where no code lies, the ends of int32."""
    return np.clip(np.rint(t.astype(np.float64)), -(2.0**31), 2.0**31).astype(np.int64)


def round_rational(terms: list[tuple[Int, Fraction]]) -> Int:
    """round(sum of n r) over ``(n, r)``, ties to even, exactly

    n: broadcast to (...), |n| < 2^33  ->  (...) int64, beyond 2^31 the ends of int32

    float64 decides where its error cannot reach a tie; elsewhere rational numbers do.

    >>> round_rational([(np.array([1, 2, 3]), Fraction(1, 2))])
    array([0, 1, 2])
    """
    reals = [n * float(r) for n, r in terms]
    t, reach = np.asarray(sum(reals)), np.asarray(sum(map(np.abs, reals)))
    doubt = np.abs(t - np.floor(t) - 0.5) <= reach * 2.0**-48 + 2.0**-1000
    q = np.asarray(saturated_rint(t))
    if doubt.any():
        columns = [np.broadcast_to(n, t.shape)[doubt] for n, _ in terms]
        pairs, at = np.unique(np.stack(columns), axis=1, return_inverse=True)
        exact = [
            round(sum(int(n) * r for n, (_, r) in zip(pair, terms, strict=True)))
            for pair in pairs.T
        ]
        clipped = [min(max(e, -(2**31)), 2**31) for e in exact]
        q[doubt] = np.array(clipped, np.int64)[at.reshape(-1)]
    return q


def as_operands(
    x: Int,
    y: Int,
    scales: tuple[float, float, float],
    zeros: tuple[int, int, int],
    ends: tuple[int, int],
    semantics: str,
) -> Operands:
    """Return the codes in int64 with their grids; raise where they do not fit."""
    if semantics not in SUM_SEMANTICS:
        raise ValueError(
            f"semantics must be one of {list(SUM_SEMANTICS)}, got {semantics!r}"
        )
    x, y = as_codes("x", x), as_codes("y", y)
    output = code_dtype(*ends)
    for name, dtype in (("x", x.dtype), ("y", y.dtype), ("the result", output)):
        if dtype.itemsize > 2:
            raise ValueError(f"codes of {name} must fit 16 bits, got {dtype}")
    try:
        np.broadcast_shapes(x.shape, y.shape)
    except ValueError as error:
        raise ValueError(f"x and y must broadcast: x{x.shape}, y{y.shape}") from error
    names = ("x_", "y_", "")
    limits = [(np.iinfo(v.dtype).min, np.iinfo(v.dtype).max) for v in (x, y)]
    held = []
    for name, s, z, (low, high) in zip(
        names, scales, zeros, [*limits, ends], strict=True
    ):
        if not 0 < float(s) < np.inf or not np.float32(s) > 0:
            raise ValueError(f"{name}scale must be positive and finite, got {s}")
        held.append(int(as_integers(f"{name}zero_point", z, low=low, high=high)))
    sx, sy, s = (float(v) for v in scales)
    bits = 8 * x.dtype.itemsize
    wide = np.int64
    return Operands(
        x.astype(wide), y.astype(wide), (sx, sy, s), (held[0], held[1], held[2]), bits
    )
