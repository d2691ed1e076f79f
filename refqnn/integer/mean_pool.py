"""The mean of a window of codes, on a grid of its own.

    exact         z + round(s_x / (s n) sum (q - z_x)), a rational number           (1)
    onnxruntime   round(((... (v_1 + v_2) + ...) + v_n) / n / s + z)                (2)
                  z + round(r sum (q - z_x)),  r = s_x / (s n)                     (2')
    tflite        round((sum q) / n), ties away from 0, on one grid                 (3)
    xnnpack       round(r sum q + (z - z_x n r)),  r = (1 / n) (s_x / s)            (4)
    offset        z - round(z_x s_x / s) + M(s_x / (n s), sum q)                    (5)

onnxruntime (QLinearAveragePool, qlinear_pool.cc) adds v = s_x (q - z_x) as float32
numbers row by row, with the zero-point inside the rounding, ties to even; a window that
is the whole plane is QLinearGlobalAveragePool's (2'), float32 too. TensorFlow
Lite's AVERAGE_POOL_2D keeps the grid of its input and never counts padding. (4) is
XNNPACK's mean, in float32, with the zero-point inside the rounding, ties to even. (5)
is MEAN of TensorFlow Lite's optimized kernels (optimized/integer_ops/mean.h): M rounds
twice, ties away from 0, with "offset_half_up" up, as vectors of 16 channels do on x86.
"""

from fractions import Fraction
from typing import Literal

import numpy as np

from refqnn._types import Float, Int
from refqnn.geometry import Padding, Pair, Window, pad_planes, windows
from refqnn.integer.arithmetic import (
    SEMANTICS,
    TWICE,
    Semantics,
    multiply,
    round_rational,
    saturated_rint,
)
from refqnn.integer.checks import check_scale, code_dtype
from refqnn.integer.pool import (
    as_pool_operands,
    avg_pool2d,
    check_covered,
    counts,
    one_zero_point,
)

MEAN_SEMANTICS = (*SEMANTICS, "xnnpack", "offset", "offset_half_up")
MeanSemantics = Literal[Semantics, "xnnpack", "offset", "offset_half_up"]
#: s_x, z_x, s, z
Grids = tuple[np.float32, int, np.float32, int]


def mean_pool2d(
    x: Int,
    *,
    kernel: int | Pair,
    stride: int | Pair | None = None,
    padding: Padding = 0,
    count_include_pad: bool = False,
    x_scale: float,
    x_zero_point: int,
    scale: float,
    zero_point: int,
    q_min: int,
    q_max: int,
    semantics: MeanSemantics = "exact",
) -> Int:
    """q = z + round(s_x / (s n) sum of the window of (x - z_x)), saturated

    x: (N, C, H, W)  ->  (N, C, Ho, Wo), the smallest dtype that holds [q_min, q_max]

    n counts the positions inside the plane, or Kh Kw with ``count_include_pad``.
    Raises ValueError for what ``avg_pool2d`` refuses, for scales that are not positive
    and finite, and, with "tflite", for two grids or counted padding.

    >>> x = np.array([[[[1, 2], [2, 1]]]], np.uint8)
    >>> mean_pool2d(x, kernel=2, x_scale=1.0, x_zero_point=0, scale=0.5, zero_point=1,
    ...             q_min=0, q_max=255)
    array([[[[4]]]], dtype=uint8)
    """
    if semantics not in MEAN_SEMANTICS:
        raise ValueError(
            f"semantics must be one of {list(MEAN_SEMANTICS)}, got {semantics!r}"
        )
    dtype = code_dtype(q_min, q_max)
    x, at = as_pool_operands(x, kernel, stride, padding)
    check_scale(np.array([x_scale, scale]))
    zx = one_zero_point(x_zero_point, x)
    if semantics == "tflite":
        if (x_scale, zx) != (scale, zero_point) or count_include_pad:
            raise ValueError(
                'semantics="tflite" needs one grid and no counted padding, got '
                f"scales {x_scale} and {scale}, zero-points {zx} and {zero_point}"
            )
        q = avg_pool2d(
            x, kernel=kernel, stride=stride, padding=padding, count_include_pad=False
        )
        return np.clip(q, q_min, q_max).astype(dtype)  # (3)
    if not count_include_pad:
        check_covered(at)
    n = counts(x, at, count_include_pad=count_include_pad)
    planes = pad_planes(x.astype(np.int64) - zx, at)
    grids = np.float32(x_scale), zx, np.float32(scale), zero_point
    if semantics == "exact":
        q = zero_point + exact_means(planes, at, n, float(x_scale), float(scale))  # (1)
    elif semantics in {"offset", "offset_half_up"}:
        rounding = TWICE if semantics == "offset" else "two_stage_half_up"
        total = windows(planes, at).sum(axis=(-2, -1))
        q = offset_means(total, n, grids, rounding=rounding)
    elif semantics == "xnnpack":
        q = xnnpack_means(windows(planes, at).sum(axis=(-2, -1)), n, grids)
    elif at.kernel == x.shape[2:] and not np.any(at.padding):
        total = planes.sum(axis=(-2, -1), keepdims=True)
        q = global_means(total, n, grids)
    else:
        mean = float32_means(planes, at, n, np.float32(x_scale))
        t: Float = mean / np.float32(scale) + np.float32(zero_point)  # (2)
        q = saturated_rint(t)
    return np.clip(q, q_min, q_max).astype(dtype)


def exact_means(planes: Int, at: Window, n: Int, x_scale: float, scale: float) -> Int:
    """round(s_x / (s n) sum) of padded planes less their zero-point"""
    total = windows(planes, at).sum(axis=(-2, -1))
    ratio = Fraction(x_scale) / Fraction(scale)
    q = np.zeros(total.shape, np.int64)
    for count in np.unique(n):
        q = np.where(n == count, round_rational([(total, ratio / int(count))]), q)
    return q


def global_means(total: Int, n: Int, grids: Grids) -> Int:
    """z + rint(r total), r = s_x / (s n), in float32"""
    sx, _, s, z = grids
    ratio = sx / (s * n.astype(np.float32))
    return z + saturated_rint(total.astype(np.float32) * ratio)  # (2')


def xnnpack_means(total: Int, n: Int, grids: Grids) -> Int:
    """rint(r (total + n z_x) + (z - z_x n r)), r = (1 / n) (s_x / s), in float32"""
    (sx, zx, s, z), size = grids, n.astype(np.float32)
    ratio = np.float32(1) / size * (sx / s)
    offset = np.float32(z) - np.float32(zx) * size * ratio
    return saturated_rint((total + n * zx).astype(np.float32) * ratio + offset)  # (4)


def offset_means(total: Int, n: Int, grids: Grids, *, rounding: str) -> Int:
    """z - round(z_x s_x / s) + M(s_x / (n s), total + n z_x), two roundings in M"""
    sx, zx, s, z = grids
    ratio = (sx / (n.astype(np.float32) * s)).astype(np.float64)
    offset = np.float32(zx) * sx / s
    nearest = int(offset + np.copysign(np.float32(0.5), offset))
    return z - nearest + multiply(total + n * zx, ratio, rounding)  # (5)


def float32_means(planes: Int, at: Window, n: Int, x_scale: np.float32) -> Float:
    """((v_1 + v_2) + ...) / n in float32, row by row; padding adds 0"""
    v = windows(x_scale * planes.astype(np.float32), at)
    total = np.zeros(v.shape[:4], np.float32)
    for i, j in np.ndindex(*at.kernel):
        total += v[..., i, j]
    return np.divide(total, n, dtype=np.float32)
