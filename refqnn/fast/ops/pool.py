"""Numba twins of ``refqnn.ops.pool``, parallel over planes.

The maximum equals its definition bit for bit. Sums are carried in float64 and rounded
once, as in the definition but in another order.
"""

import numpy as np
from numba import prange

from refqnn._types import Float, Int
from refqnn.fast.compiler import njit
from refqnn.geometry import Padding, Pair, Window, output_size, pad_widths, window
from refqnn.ops.checks import check_gradient
from refqnn.ops.pool import (
    AvgPoolCache,
    GlobalAvgPoolCache,
    MaxPoolCache,
    check_planes,
    cover_input,
    window_count,
)


def max_pool2d(
    x: Float,
    *,
    kernel: int | Pair,
    stride: int | Pair | None = None,
    padding: Padding = 0,
    dilation: int | Pair = 1,
    ceil_mode: bool = False,
) -> tuple[Float, MaxPoolCache]:
    """See ``refqnn.ops.max_pool2d``."""
    check_planes(x)
    at = window(
        kernel,
        stride=kernel if stride is None else stride,
        padding=padding,
        dilation=dilation,
    )
    at = cover_input(x.shape[2:], at, ceil_mode=ceil_mode)
    window_count(x.shape[2:], at)  # raises where a window sees padding only
    out = (*x.shape[:2], *output_size(x.shape[2:], at))
    smallest = np.min_scalar_type(at.kernel[0] * at.kernel[1] - 1)
    y, tap = np.empty(out, x.dtype), np.empty(out, smallest)
    _max(np.ascontiguousarray(x), y, tap, steps(at))
    return y, MaxPoolCache(tap, x.shape, at)


def max_pool2d_backward(dy: Float, cache: MaxPoolCache) -> Float:
    """See ``refqnn.ops.max_pool2d_backward``."""
    tap, x_shape, at = cache
    check_gradient(dy, tap.shape)
    dx = np.empty(x_shape, dy.dtype)
    tap = np.ascontiguousarray(tap)
    i, j = np.divmod(np.arange(at.kernel[0] * at.kernel[1]), at.kernel[1])
    down, right = i * at.dilation[0], j * at.dilation[1]  # of each tap
    _max_backward(np.ascontiguousarray(dy), tap, dx, steps(at), down, right)
    return dx


def avg_pool2d(
    x: Float,
    *,
    kernel: int | Pair,
    stride: int | Pair | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> tuple[Float, AvgPoolCache]:
    """See ``refqnn.ops.avg_pool2d``."""
    check_planes(x)
    at = window(kernel, stride=kernel if stride is None else stride, padding=padding)
    counted = pad_widths(padding if count_include_pad else 0)
    at = cover_input(x.shape[2:], at, ceil_mode=ceil_mode)
    count = window_count(x.shape[2:], at, counted)
    y = np.empty((*x.shape[:2], *count.shape), x.dtype)
    _mean(np.ascontiguousarray(x), y, count, steps(at))
    return y, AvgPoolCache(count, x.shape, at)


def avg_pool2d_backward(dy: Float, cache: AvgPoolCache) -> Float:
    """See ``refqnn.ops.avg_pool2d_backward``."""
    count, x_shape, at = cache
    check_gradient(dy, (*x_shape[:2], *count.shape))
    dx = np.empty(x_shape, dy.dtype)
    count = np.ascontiguousarray(count)
    _mean_backward(np.ascontiguousarray(dy), count, dx, steps(at))
    return dx


def global_avg_pool2d(x: Float) -> tuple[Float, GlobalAvgPoolCache]:
    """See ``refqnn.ops.global_avg_pool2d``."""
    check_planes(x)
    y = np.empty(x.shape[:2], x.dtype)
    n, c, h, w = x.shape
    _plane_means(np.ascontiguousarray(x).reshape(n, c, h * w), y)
    return y, GlobalAvgPoolCache(x.shape)


def global_avg_pool2d_backward(dy: Float, cache: GlobalAvgPoolCache) -> Float:
    """See ``refqnn.ops.global_avg_pool2d_backward``."""
    check_gradient(dy, cache.x_shape[:2])
    dx = np.empty(cache.x_shape, dy.dtype)
    _spread(np.ascontiguousarray(dy), dx)
    return dx


def steps(at: Window) -> Int:
    """Return the integers a kernel needs: (kernel, stride, dilation, low padding)."""
    low = (at.padding[0][0], at.padding[1][0])
    return np.array([at.kernel, at.stride, at.dilation, low])


@njit(parallel=True)
def _max(x: Float, y: Float, tap: Int, at: Int) -> None:
    n, c, h, w = x.shape
    ho, wo = y.shape[2:]
    (kh, kw), (sh, sw), (dh, dw), (top, left) = at[0], at[1], at[2], at[3]
    for k in prange(n * c):
        image, channel = k // c, k % c
        for p in range(ho):
            for q in range(wo):
                best, where = x.dtype.type(-np.inf), 0
                for i in range(kh):
                    row = p * sh + i * dh - top
                    if row < 0 or row >= h:
                        continue
                    for j in range(kw):
                        col = q * sw + j * dw - left
                        if col < 0 or col >= w:
                            continue
                        v = x[image, channel, row, col]
                        if v > best or (v != v and best == best):  # noqa: PLR0124 - NaN
                            best, where = v, i * kw + j
                y[image, channel, p, q] = best
                tap[image, channel, p, q] = where


@njit(parallel=True)
def _max_backward(
    dy: Float, tap: Int, dx: Float, at: Int, down: Int, right: Int
) -> None:
    n, c, h, w = dx.shape
    ho, wo = dy.shape[2:]
    (sh, sw), (top, left) = at[1], at[3]
    for k in prange(n * c):
        image, channel = k // c, k % c
        total = np.zeros((h, w))
        for p in range(ho):
            for q in range(wo):
                t = np.int64(tap[image, channel, p, q])
                row, col = p * sh - top + down[t], q * sw - left + right[t]
                if 0 <= row < h and 0 <= col < w:
                    total[row, col] += np.float64(dy[image, channel, p, q])
        dx[image, channel] = total


@njit(parallel=True)
def _mean(x: Float, y: Float, count: Float, at: Int) -> None:
    n, c, h, w = x.shape
    ho, wo = y.shape[2:]
    (kh, kw), (sh, sw), (top, left) = at[0], at[1], at[3]
    for k in prange(n * c):
        image, channel = k // c, k % c
        for p in range(ho):
            first_row, last_row = max(p * sh - top, 0), min(p * sh - top + kh, h)
            for q in range(wo):
                first_col, last_col = max(q * sw - left, 0), min(q * sw - left + kw, w)
                total = 0.0
                for row in range(first_row, last_row):
                    for col in range(first_col, last_col):
                        total += np.float64(x[image, channel, row, col])
                y[image, channel, p, q] = total / count[p, q]


@njit(parallel=True)
def _mean_backward(dy: Float, count: Float, dx: Float, at: Int) -> None:
    n, c, h, w = dx.shape
    ho, wo = dy.shape[2:]
    (kh, kw), (sh, sw), (top, left) = at[0], at[1], at[3]
    for k in prange(n * c):
        image, channel = k // c, k % c
        total = np.zeros((h, w))
        for p in range(ho):
            first_row, last_row = max(p * sh - top, 0), min(p * sh - top + kh, h)
            for q in range(wo):
                first_col, last_col = max(q * sw - left, 0), min(q * sw - left + kw, w)
                part = np.float64(dy[image, channel, p, q]) / count[p, q]
                total[first_row:last_row, first_col:last_col] += part
        dx[image, channel] = total


@njit(parallel=True, fastmath={"reassoc", "contract"})
def _plane_means(x: Float, y: Float) -> None:
    n, c, size = x.shape
    for k in prange(n * c):
        image, channel = k // c, k % c
        total = 0.0
        for i in range(size):
            total += np.float64(x[image, channel, i])
        y[image, channel] = total / size


@njit(parallel=True)
def _spread(dy: Float, dx: Float) -> None:
    n, c, h, w = dx.shape
    for k in prange(n * c):
        image, channel = k // c, k % c
        dx[image, channel] = np.float64(dy[image, channel]) / (h * w)
