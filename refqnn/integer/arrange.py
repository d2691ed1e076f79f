"""Codes moved, repeated and blended: shapes, edges, slices and other sizes.

    reshape, transpose, flatten, take    codes as they are, the batch first
    pad                                  a code around every plane, such as real 0
    resize  nearest    y_i = x_j,  j = round((i + 1/2) n / m - 1/2)                 (1)
            bilinear   y_i = round((1 - t) x_j + t x_(j+1)),  j + t that place      (2)
    resize_bilinear    y_i = round(sum of four codes times their shares / 2^20)     (3)
                       at i r, or i r + r / 2 - 1/2,  r = n / m, all of 10 bits     (4)
                       or by shares of 11 bits, floor(sum / 2^22 + 1/2)             (5)

n codes become m along each axis, positions at the edges clamped. Everything is integer:
2 m (j + t) = (2 i + 1) n - m, so a blend is a quotient with denominator 4 m_h m_w that
is rounded once. The grid stays: a blend of codes is a code.
"""

import math
from typing import Literal

import numpy as np

from refqnn._types import Array, Int
from refqnn.geometry import Pair, pair
from refqnn.integer.checks import as_codes, as_integers
from refqnn.integer.pool import as_planes
from refqnn.integer.rounding import check_rounding, divide

Shape = tuple[int, ...]
Widths = tuple[tuple[int, int], ...]
Mode = Literal["nearest", "bilinear"]
BlendSemantics = Literal["tflite", "xnnpack"]


def reshape(x: Int, *, shape: Shape) -> Int:
    """x: (N, ...)  ->  (N, *shape)

    >>> reshape(np.array([[1, 2], [3, 4]], np.int8), shape=(2, 1)).shape
    (2, 2, 1)
    """
    x = as_codes("x", x)
    if not x.ndim or np.prod(shape, dtype=int) * len(x) != x.size or min(shape) < 0:
        raise ValueError(f"x{x.shape} has no (N, *{shape})")
    return x.reshape(len(x), *shape)


def flatten(x: Int) -> Int:
    """x: (N, ...)  ->  (N, all others)"""
    x = as_codes("x", x)
    return x.reshape(len(x), math.prod(x.shape[1:]))


def transpose(x: Int, *, axes: Shape) -> Int:
    """x: (N, ...)  ->  its axes in this order, the batch first

    >>> transpose(np.zeros((2, 3, 4), np.int8), axes=(0, 2, 1)).shape
    (2, 4, 3)
    """
    x = as_codes("x", x)
    if sorted(axes) != list(range(x.ndim)) or axes[0] != 0:
        raise ValueError(f"axes must order those of x{x.shape}, 0 first, got {axes}")
    return np.ascontiguousarray(x.transpose(axes))


def take(x: Int, *, picks: tuple[tuple[int, Array], ...]) -> Int:
    """x: (N, ...)  ->  x at the indices of each ``(axis, indices)``: a slice

    >>> take(np.array([[1, 2, 3]], np.int8), picks=((1, np.array([2, 0])),))
    array([[3, 1]], dtype=int8)
    """
    x = as_codes("x", x)
    for axis, indices in picks:
        if not 0 < axis < x.ndim:
            raise ValueError(f"axis must lie in [1, {x.ndim - 1}], got {axis}")
        as_integers("indices", indices, low=0, high=x.shape[axis] - 1)
        x = np.take(x, indices, axis)
    return x


def pad(x: Int, *, widths: Widths, value: int) -> Int:
    """x: (N, ...)  ->  every axis but the batch surrounded by the code ``value``

    Raises ValueError for widths that are negative or not one pair an axis, and for a
    value that the dtype of x does not hold. Real 0 is the zero-point.

    >>> pad(np.array([[5, 6]], np.uint8), widths=((1, 2),), value=3)
    array([[3, 5, 6, 3, 3]], dtype=uint8)
    """
    x = as_codes("x", x)
    if len(widths) != x.ndim - 1 or any(min(pair) < 0 for pair in widths):
        raise ValueError(f"widths must be a pair for every axis of x{x.shape} but the "
                         f"first, at least 0, got {widths}")  # fmt: skip
    info = np.iinfo(x.dtype)
    code = as_integers("value", value, low=info.min, high=info.max)
    return np.pad(x, ((0, 0), *widths), constant_values=code)


def clip(x: Int, *, q_min: int, q_max: int) -> Int:
    """clip(x, q_min, q_max), dtype of x"""
    x, info = as_codes("x", x), np.iinfo(x.dtype)
    return np.clip(x, max(q_min, info.min), min(q_max, info.max))


def resize(
    x: Int, *, size: int | Pair, mode: Mode = "nearest", rounding: str = "half_even"
) -> Int:
    """y_i = x at (i + 1/2) n / m - 1/2, half-pixel centres, the nearest or blended

    x: (N, C, H, W)  ->  (N, C, *size), dtype of x

    "nearest" takes the code at the nearest place, the lower one of two (ONNX's
    round_prefer_floor); "bilinear" rounds the exact blend of four codes once. Raises
    ValueError for sizes below 1, other modes and unknown roundings.

    >>> x = np.array([[[[0, 4]]]], np.uint8)
    >>> resize(x, size=(1, 4), mode="bilinear"), resize(x, size=(1, 4))
    (array([[[[0, 1, 3, 4]]]], dtype=uint8), array([[[[0, 0, 4, 4]]]], dtype=uint8))
    """
    x, sizes = as_planes(x), pair(size, name="size", least=1)
    check_rounding(rounding)
    if mode not in {"nearest", "bilinear"}:
        raise ValueError(f"mode must be 'nearest' or 'bilinear', got {mode!r}")
    places = [positions(n, m) for n, m in zip(x.shape[2:], sizes, strict=True)]
    if mode == "nearest":
        rows, cols = (
            divide(at, 2 * m, rounding="half_down")
            for at, m in zip(places, sizes, strict=True)
        )
        return x[:, :, rows[:, None], cols]  # (1)
    y = x.astype(np.int64)
    for axis, (at, m) in enumerate(zip(places, sizes, strict=True), start=2):
        low, share = np.divmod(at, 2 * m)
        high = np.minimum(low + 1, x.shape[axis] - 1)
        share = share.reshape(-1, *(1,) * (3 - axis))
        y = np.take(y, low, axis) * (2 * m - share) + np.take(y, high, axis) * share
    blend = divide(y, 4 * sizes[0] * sizes[1], rounding=rounding)  # (2)
    return blend.astype(x.dtype)


def positions(n: int, m: int) -> Int:
    """2 m (j + t) = (2 i + 1) n - m of every output i, within [0, 2 m (n - 1)]: (m,)"""
    return np.clip((2 * np.arange(m) + 1) * n - m, 0, 2 * m * (n - 1))


def resize_bilinear(
    x: Int,
    *,
    size: int | Pair,
    align_corners: bool,
    half_pixel_centers: bool,
    semantics: BlendSemantics = "tflite",
) -> Int:
    """y = round(sum of four codes times their shares of 10 bits / 2^20), (3)

    x: (N, C, H, W)  ->  (N, C, *size), dtype of x

    The integer RESIZE_BILINEAR of TensorFlow Lite (reference/resize_bilinear.h). The
    places are (4), the second with half-pixel centres; with aligned corners r is
    (n - 1) / (m - 1). The blend is rounded once, ties away from 0. With "xnnpack" it
    is (5), that of XNNPACK (s8-ibilinear): the places are those of (4) in float32, the
    shares of 11 bits, ties up. Raises ValueError for sizes below 1, unknown semantics,
    where both options are given, and where the rounded r of (4) leads beyond the plane.

    >>> x = np.array([[[[0, 4]]]], np.uint8)
    >>> resize_bilinear(x, size=(1, 4), align_corners=False, half_pixel_centers=True)
    array([[[[0, 1, 3, 4]]]], dtype=uint8)
    """
    x, sizes = as_planes(x), pair(size, name="size", least=1)
    if align_corners and half_pixel_centers:
        raise ValueError("align_corners and half_pixel_centers exclude each other")
    if semantics not in {"tflite", "xnnpack"}:
        raise ValueError(f"semantics must be 'tflite' or 'xnnpack', got {semantics!r}")
    place = float32_places if semantics == "xnnpack" else short_places
    y = x.astype(np.int64)
    for axis, (n, m) in enumerate(zip(x.shape[2:], sizes, strict=True), start=2):
        corners = int(align_corners and m > 1)
        low, high, share, whole = place(n, m, corners, centres=half_pixel_centers)
        share = share.reshape(-1, *(1,) * (3 - axis))
        y = np.take(y, low, axis) * (whole - share) + np.take(y, high, axis) * share
    if semantics == "xnnpack":
        return ((y + (1 << 21)) >> 22).astype(x.dtype)  # (5)
    return divide(y, 1 << 20, rounding="half_away").astype(x.dtype)  # (3)


def short_places(
    n: int, m: int, corners: int, *, centres: bool
) -> tuple[Int, Int, Int, int]:
    """(4) of m codes among n: lower and upper codes, shares of the upper, 2^10"""
    steps = m - corners
    ratio = (1024 * (n - corners) + steps // 2) // steps
    at = np.arange(m) * ratio
    if centres:
        at = at + ratio // 2 - 512  # (4)
    low = np.maximum(at // 1024 + (at < 0), 0)  # C divides towards 0
    high = np.minimum((at + 1023) // 1024, n - 1)
    if low[-1] > n - 1:
        raise ValueError(f"10 bits do not place {m} codes among {n}")
    return low, high, at - 1024 * low, 1024


def float32_places(
    n: int, m: int, corners: int, *, centres: bool
) -> tuple[Int, Int, Int, int]:
    """(4) in float32, as ``short_places`` with shares of 11 bits: ..., 2^11"""
    f = np.float32
    ratio = f(n - corners) / f(m - corners)
    offset = f(0.5) * ratio - f(0.5) if centres else f(0)
    at = np.clip(np.arange(m, dtype=f) * ratio + offset, f(0), f(n - 1))
    low = at.astype(np.int64)
    share = np.rint((at - low.astype(f)) * f(2048)).astype(np.int64)
    return low, np.minimum(low + 1, n - 1), share, 2048
