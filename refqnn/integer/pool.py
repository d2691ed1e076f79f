"""Pooling of integer codes.

    average   y = zero_point + round(sum (x - zero_point) / count)                  (1)
    maximum   y = max x                                                             (2)
    sum       y = sum (x - zero_point) over a plane, left for the next multiplier   (3)

(1) rounds the *real* mean in units of the scale; with ``zero_point=0`` it is the mean
of the codes. The two differ under roundings that treat signs apart (``half_away``,
``trunc``), and under ``half_even`` for an odd zero-point.
"""

import numpy as np
import numpy.typing as npt

from refqnn._types import Int
from refqnn.geometry import (
    Padding,
    Pair,
    Window,
    output_size,
    pad_planes,
    window,
    windows,
)
from refqnn.integer.checks import INT32_MAX, as_codes, zero_point_of
from refqnn.integer.rounding import check_rounding, divide


def avg_pool2d(
    x: Int,
    *,
    kernel: int | Pair,
    stride: int | Pair | None = None,
    padding: Padding = 0,
    zero_point: npt.ArrayLike = 0,
    rounding: str = "half_away",
    count_include_pad: bool = True,
) -> Int:
    """y = zero_point + round(sum over the window of (x - zero_point) / count)

    x: (N, C, H, W)  ->  (N, C, Ho, Wo), dtype of x

    The count is Kh Kw, or without ``count_include_pad`` the positions inside the plane;
    padding is real 0. ``stride`` is the kernel unless given. A mean of codes is a code:
    nothing saturates. Raises ValueError for what does not fit, and, when padding is not
    counted, for padding as wide as the kernel.

    >>> x = np.array([[[[1, 2], [2, 1]]]], np.uint8)
    >>> avg_pool2d(x, kernel=2)
    array([[[[2]]]], dtype=uint8)
    """
    x, at = as_pool_operands(x, kernel, stride, padding)
    check_rounding(rounding)
    z = one_zero_point(zero_point, x)
    if not count_include_pad:
        check_covered(at)
    sums = windows(x.astype(np.int64) - z, at, 0).sum(axis=(-2, -1))
    count = counts(x, at, count_include_pad=count_include_pad)
    return (z + divide(sums, count, rounding=rounding)).astype(x.dtype)  # (1)


def counts(x: Int, at: Window, *, count_include_pad: bool) -> Int:
    """Return by how many positions each window is divided: (Ho, Wo)."""
    inside = np.ones((1, 1, *x.shape[2:]), np.int64)
    padded = pad_planes(inside, at, int(count_include_pad))
    return windows(padded, at)[0, 0].sum(axis=(-2, -1))


def max_pool2d(
    x: Int,
    *,
    kernel: int | Pair,
    stride: int | Pair | None = None,
    padding: Padding = 0,
) -> Int:
    """y = max over the window of x

    x: (N, C, H, W)  ->  (N, C, Ho, Wo), dtype of x

    Padding never wins, so every window must meet the plane: raises ValueError for
    padding as wide as the kernel.

    >>> max_pool2d(np.array([[[[-3, -1], [-2, -4]]]], np.int8), kernel=2, padding=1)
    array([[[[-3, -1],
             [-2, -4]]]], dtype=int8)
    """
    x, at = as_pool_operands(x, kernel, stride, padding)
    check_covered(at)
    lowest = np.iinfo(x.dtype).min
    return windows(x, at, lowest).max(axis=(-2, -1))  # (2)


def sum_pool2d(x: Int, *, zero_point: npt.ArrayLike = 0) -> Int:
    """y = sum over the plane of (x - zero_point)

    x: (N, C, H, W)  ->  (N, C) int32

    A global average that leaves its division to the next requantization.
    Raises ValueError where H W max|x - zero_point| could exceed int32.

    >>> sum_pool2d(np.array([[[[1, 2], [3, 4]]]], np.uint8), zero_point=1)
    array([[6]], dtype=int32)
    """
    x = as_planes(x)
    z = one_zero_point(zero_point, x)
    check_sum(x, z)
    return (x.astype(np.int64) - z).sum(axis=(2, 3)).astype(np.int32)  # (3)


def as_planes(x: Int) -> Int:
    """Return codes of shape (N, C, H, W); raise for other shapes and dtypes."""
    x = as_codes("x", x)
    if x.ndim != 4:
        raise ValueError(f"x must be (N, C, H, W), got x{x.shape}")
    return x


def as_pool_operands(
    x: Int, kernel: int | Pair, stride: int | Pair | None, padding: Padding
) -> tuple[Int, Window]:
    """Return the codes and the window; raise where they do not fit."""
    x = as_planes(x)
    step = kernel if stride is None else stride
    at = window(kernel, stride=step, padding=padding)
    output_size((x.shape[2], x.shape[3]), at)
    return x, at


def one_zero_point(zero_point: npt.ArrayLike, x: Int) -> int:
    """Return the zero-point; raise unless it is one integer the dtype of x holds."""
    z = zero_point_of("zero_point", zero_point, x)
    if z.ndim != 0:
        raise ValueError(f"zero_point must be one integer, got shape {z.shape}")
    return int(z)


def check_sum(x: Int, zero_point: int) -> None:
    """Raise where the sum over a plane could exceed int32."""
    info = np.iinfo(x.dtype)
    reach = max(info.max - zero_point, zero_point - info.min)
    bound = x.shape[2] * x.shape[3] * reach
    if bound > INT32_MAX:
        raise ValueError(
            f"a sum could reach H * W * max|x - zero_point| = {bound}, "
            f"int32 holds {INT32_MAX}"
        )


def check_covered(at: Window) -> None:
    """Raise if a window could lie in the padding alone."""
    for size, widths in zip(at.kernel, at.padding, strict=True):
        if max(widths) >= size:
            raise ValueError(
                f"padding must be smaller than the kernel, got padding {at.padding}, "
                f"kernel {at.kernel}"
            )
