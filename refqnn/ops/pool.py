"""Pooling: the maximum or the mean under a sliding window.

    max   y[n, c, p, q] = max_{i, j} x_padded[n, c, p s + i d, q s + j d]          (1)
    mean  y[n, c, p, q] = sum_{i, j} x_padded[n, c, p s + i, q s + j] / count[p, q]  (2)

Padding is -infinity in (1) and 0 in (2). In ceil mode Ho is rounded up, as long as the
last window starts inside the input or its top or left padding:

    Ho = ceil((H + top + bottom - reach) / stride) + 1, less 1 if
         (Ho - 1) stride >= top + H                                                (3)

Derivation of the backward passes: DERIVATIONS.md, under each name.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from refqnn._types import Float, Int
from refqnn.geometry import (
    Padding,
    Pair,
    Window,
    output_size,
    pad_widths,
    window,
    windows,
)
from refqnn.ops.checks import FLOATS, check_float, check_gradient
from refqnn.prompt import one_line


@one_line
class MaxPoolCache(NamedTuple):
    """Which tap of each window, i Kw + j, holds its first maximum."""

    tap: Int
    x_shape: tuple[int, ...]
    at: Window


@one_line
class AvgPoolCache(NamedTuple):
    """How many values each window is the mean of, (Ho, Wo)."""

    divisor: Float
    x_shape: tuple[int, ...]
    at: Window


@one_line
class GlobalAvgPoolCache(NamedTuple):
    """The shape of the input."""

    x_shape: tuple[int, ...]


def max_pool2d(
    x: Float,
    *,
    kernel: int | Pair,
    stride: int | Pair | None = None,
    padding: Padding = 0,
    dilation: int | Pair = 1,
    ceil_mode: bool = False,
) -> tuple[Float, MaxPoolCache]:
    """y[n, c, p, q] = max over i, j of x[n, c, p s + i d, q s + j d]

    x: (N, C, H, W)  ->  y: (N, C, Ho, Wo)

    ``stride=None`` is the kernel. Raises ValueError where no window fits or a window
    lies in the padding only.

    >>> x = np.arange(16.0).reshape(1, 1, 4, 4)
    >>> max_pool2d(x, kernel=2)[0][0, 0]
    array([[ 5.,  7.],
           [13., 15.]])
    """
    check_planes(x)
    at = window(
        kernel,
        stride=kernel if stride is None else stride,
        padding=padding,
        dilation=dilation,
    )
    at = cover_input(x.shape[2:], at, ceil_mode=ceil_mode)
    window_count(x.shape[2:], at)  # raises where a window sees padding only
    seen = windows(x, at, -np.inf)
    seen = seen.reshape(*seen.shape[:4], at.kernel[0] * at.kernel[1])
    tap = seen.argmax(axis=4, keepdims=True)  # the first maximum; NaN is a maximum
    y = np.take_along_axis(seen, tap, axis=4)[..., 0]  # (1)
    smallest = np.min_scalar_type(seen.shape[4] - 1)
    return y, MaxPoolCache(tap[..., 0].astype(smallest), x.shape, at)


def max_pool2d_backward(dy: Float, cache: MaxPoolCache) -> Float:
    """dx[n, c, p s + i d, q s + j d] += dy[n, c, p, q] where tap (i, j) was the maximum

    dy: (N, C, Ho, Wo)  ->  dx: (N, C, H, W)

    >>> _, cache = max_pool2d(np.array([[[[1.0, 3.0], [3.0, 2.0]]]]), kernel=2)
    >>> max_pool2d_backward(np.full((1, 1, 1, 1), 5.0), cache)[0, 0]
    array([[0., 5.],
           [0., 0.]])
    """
    tap, x_shape, at = cache
    check_gradient(dy, tap.shape)
    parts = (
        np.where(tap == each, dy, 0) for each in range(at.kernel[0] * at.kernel[1])
    )
    return scatter(parts, x_shape, at, dy)


def avg_pool2d(
    x: Float,
    *,
    kernel: int | Pair,
    stride: int | Pair | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> tuple[Float, AvgPoolCache]:
    """y[n, c, p, q] = mean over i, j of x[n, c, p s + i, q s + j]

    x: (N, C, H, W)  ->  y: (N, C, Ho, Wo)

    ``count_include_pad`` counts the zeros of the padding, never what ceil mode adds.
    ``stride=None`` is the kernel. Sums are carried in float64. Raises ValueError where
    no window fits or a window has nothing to count.

    >>> x = np.arange(16.0).reshape(1, 1, 4, 4)
    >>> avg_pool2d(x, kernel=2)[0][0, 0]
    array([[ 2.5,  4.5],
           [10.5, 12.5]])
    """
    check_planes(x)
    at = window(kernel, stride=kernel if stride is None else stride, padding=padding)
    counted = pad_widths(padding if count_include_pad else 0)
    at = cover_input(x.shape[2:], at, ceil_mode=ceil_mode)
    count = window_count(x.shape[2:], at, counted)
    seen = windows(x, at, 0)
    y = seen.sum(axis=(4, 5), dtype=np.float64) / count  # (2)
    return y.astype(x.dtype), AvgPoolCache(count, x.shape, at)


def avg_pool2d_backward(dy: Float, cache: AvgPoolCache) -> Float:
    """dx[n, c, p s + i, q s + j] += dy[n, c, p, q] / count[p, q]

    dy: (N, C, Ho, Wo)  ->  dx: (N, C, H, W)

    >>> _, cache = avg_pool2d(np.zeros((1, 1, 2, 2)), kernel=2)
    >>> avg_pool2d_backward(np.full((1, 1, 1, 1), 8.0), cache)[0, 0]
    array([[2., 2.],
           [2., 2.]])
    """
    count, x_shape, at = cache
    check_gradient(dy, (*x_shape[:2], *count.shape))
    part = dy / count
    parts = (part for _ in range(at.kernel[0] * at.kernel[1]))
    return scatter(parts, x_shape, at, dy)


def global_avg_pool2d(x: Float) -> tuple[Float, GlobalAvgPoolCache]:
    """y[n, c] = mean over h, w of x[n, c, h, w]

    x: (N, C, H, W)  ->  y: (N, C)

    Sums are carried in float64. Raises ValueError for planes without a pixel.

    >>> global_avg_pool2d(np.arange(4.0).reshape(1, 1, 2, 2))[0]
    array([[1.5]])
    """
    check_planes(x)
    y = x.mean(axis=(2, 3), dtype=np.float64).astype(x.dtype)
    return y, GlobalAvgPoolCache(x.shape)


def global_avg_pool2d_backward(dy: Float, cache: GlobalAvgPoolCache) -> Float:
    """dx[n, c, h, w] = dy[n, c] / (H W)

    dy: (N, C)  ->  dx: (N, C, H, W)

    >>> _, cache = global_avg_pool2d(np.zeros((1, 1, 2, 2)))
    >>> global_avg_pool2d_backward(np.array([[4.0]]), cache)[0, 0]
    array([[1., 1.],
           [1., 1.]])
    """
    n, c, h, w = cache.x_shape
    check_gradient(dy, (n, c))
    return np.broadcast_to(dy[:, :, None, None] / (h * w), (n, c, h, w)).copy()


def scatter(
    parts: Iterable[Float], x_shape: tuple[int, ...], at: Window, dy: Float
) -> Float:
    """Add each tap's part to the pixels that tap saw, then cut the padding off.

    parts: Kh Kw times (N, C, Ho, Wo)  ->  dx: (N, C, H, W)

    Sums are carried in float64; the result has the dtype of dy.
    """
    n, c, h, w = x_shape
    (sh, sw), (dh, dw) = at.stride, at.dilation
    (top, bottom), (left, right) = at.padding
    ho, wo = dy.shape[2:]
    dx = np.zeros((n, c, top + h + bottom, left + w + right))
    taps = np.ndindex(*at.kernel)
    for (i, j), part in zip(taps, parts, strict=True):
        rows = slice(i * dh, i * dh + sh * ho, sh)
        cols = slice(j * dw, j * dw + sw * wo, sw)
        dx[:, :, rows, cols] += part
    return dx[:, :, top : top + h, left : left + w].astype(dy.dtype)


def cover_input(size: Pair, at: Window, *, ceil_mode: bool) -> Window:
    """Return the window with what ceil mode appends at the bottom and right, (3).

    >>> cover_input((5, 5), window(2, stride=2), ceil_mode=True).padding
    ((0, 1), (0, 1))
    """
    if not ceil_mode:
        return at
    padding = []
    for axis, (low, high) in enumerate(at.padding):
        stride = at.stride[axis]
        reach = at.dilation[axis] * (at.kernel[axis] - 1) + 1
        room = low + size[axis] + high - reach
        start = (room // stride + 1) * stride  # of the window that floor leaves out
        more = room % stride > 0 and start < low + size[axis]  # (3)
        padding.append((low, high + start - room if more else high))
    return at._replace(padding=(padding[0], padding[1]))


def window_count(
    size: Pair, at: Window, counted: tuple[Pair, Pair] = ((0, 0), (0, 0))
) -> Float:
    """Return how many taps of each window fall on the plane widened by ``counted``.

    size: (H, W)  ->  (Ho, Wo); raises ValueError where there are none.

    >>> window_count((3, 3), window(2, padding=1))
    array([[1., 2., 2., 1.],
           [2., 4., 4., 2.],
           [2., 4., 4., 2.],
           [1., 2., 2., 1.]])
    """
    along = []
    for axis, out in enumerate(output_size(size, at)):
        first = np.arange(out)[:, None] * at.stride[axis] - at.padding[axis][0]
        tap = first + np.arange(at.kernel[axis]) * at.dilation[axis]
        low, high = counted[axis]
        along.append(((tap >= -low) & (tap < size[axis] + high)).sum(axis=1))
    count = np.outer(*along).astype(np.float64)
    if not count.all():
        p, q = np.argwhere(count == 0)[0]
        raise ValueError(
            f"padding = {at.padding}: window ({p}, {q}) lies outside the plane {size}"
        )
    return count


def check_planes(x: Float) -> None:
    """Raise unless x is a float batch of planes with pixels."""
    if getattr(x, "dtype", None) not in FLOATS:
        check_float(x=x)
    if x.ndim != 4 or 0 in x.shape[2:]:
        raise ValueError(f"x must be (N, C, H, W) with H, W >= 1: x{x.shape}")
