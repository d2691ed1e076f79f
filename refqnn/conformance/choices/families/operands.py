"""Operands of a product rearranged, sums narrowed: answers about convolutions.

The product itself stays that of ``refqnn.integer``: an answer changes what is read from
the memory of an operand, what is subtracted from it, or how wide the sum is.
"""

from typing import Any

import numpy as np

from refqnn import integer
from refqnn._types import Array, Int
from refqnn.conformance.choices.families.affine import in_width
from refqnn.geometry import Pair, output_size, window, windows

Padding = tuple[Pair, Pair]


def used_zero_point(zero_point: Any, use: str) -> Any:
    """Return the number to subtract from codes: the zero-point, its negative, or 0.

    >>> used_zero_point(7, "added"), used_zero_point(7, "ignored")
    (-7, 0)
    """
    return {"subtracted": 1, "ignored": 0, "added": -1}[use] * zero_point


def centre(x: Int, zero_point: int, difference: str) -> Int:
    """Return x - zero_point in int64, its low bits only where it wraps.

    >>> centre(np.int8([-100]), 37, "wraps")
    array([119])
    """
    return in_width(x.astype(np.int64) - zero_point, difference, x.dtype)


#: sums of this process by their operands, at most so many: variants share most of them
SUMS: dict[tuple[Any, ...], Int] = {}
MOST_SUMS = 2048


def sum_products(x: Int, w: Int, stride: Any, dilation: Any, groups: int) -> Int:
    """Return the sums of products of centred codes, in int64."""
    key = (x.tobytes(), x.shape, w.tobytes(), w.shape, stride, dilation, groups)
    if key not in SUMS:
        if len(SUMS) >= MOST_SUMS:
            SUMS.clear()
        SUMS[key] = integer.conv2d(
            x.astype(np.int32),
            w.astype(np.int32),
            stride=stride,
            dilation=dilation,
            groups=groups,
            accumulator="int64",
        )
    return SUMS[key]


def sides(padding: Padding, side: str) -> Padding:
    """Exchange top with bottom and left with right where ``side`` is "swapped"."""
    (t, b), (l, r) = padding
    return ((b, t), (r, l)) if side == "swapped" else padding


def read_layout(w: Int, own: str, layout: str) -> Int:
    """Read the memory of w, whose axes are ``own``, as ``layout``; the shape stays.

    >>> read_layout(np.array([[1, 2], [3, 4]]), "OI", "IO")
    array([[1, 3],
           [2, 4]])
    """
    read = [own.index(axis) for axis in layout]
    return w.reshape([w.shape[axis] for axis in read]).transpose(np.argsort(read))


def turn(w: Int, kernel: str) -> Int:
    """Turn the planes of w by 180 degrees, or exchange their axes, if so chosen."""
    if kernel == "convolution":
        return w[:, :, ::-1, ::-1]
    if kernel == "transposed" and w.shape[2] == w.shape[3]:
        return w.swapaxes(2, 3)
    return w


def interleave(a: Array, groups: int, axis: int) -> Array:
    """Bring the entries c % G = 0 to the front, then c % G = 1, and so on.

    >>> interleave(np.arange(6), 2, 0)
    array([0, 2, 4, 1, 3, 5])
    """
    order = np.arange(a.shape[axis]).reshape(-1, groups).T.ravel()
    return np.take(a, order, axis)


def paired_conv2d(
    x: Int, w: Int, b: Int, z: int, stride: Any, dilation: Any, groups: int
) -> Int:
    """Sum neighbours in int16 that saturates, then correct for the zero-point."""
    at = window(w.shape[2:], stride=stride, padding=0, dilation=dilation)
    ho, wo = output_size(x.shape[2:], at)
    n, (o, cg, kh, kw) = x.shape[0], w.shape
    seen = windows(x.astype(np.int64), at).reshape(n, groups, cg, ho, wo, kh, kw)
    columns = seen.transpose(0, 1, 3, 4, 2, 5, 6).reshape(n, groups, 1, ho, wo, -1)
    rows = w.reshape(groups, o // groups, 1, 1, -1)
    y = sum_pairs(columns * rows) - z * rows.sum(axis=-1)
    return y.reshape(n, o, ho, wo) + b[:, None, None]


def sum_pairs(products: Int) -> Int:
    """Sum over the last axis, two at a time in int16 that saturates.

    >>> sum_pairs(np.array([30000, 30000, -5]))
    np.int64(32762)
    """
    k = products.shape[-1]
    even = np.pad(products, [(0, 0)] * (products.ndim - 1) + [(0, k % 2)])
    pairs = even.reshape(*even.shape[:-1], -1, 2).sum(axis=-1)
    return np.clip(pairs, -(2**15), 2**15 - 1).sum(axis=-1)


def narrow(y: Int, accumulator: str) -> Int:
    """Keep the low bits of a sum, or clip it, if so chosen.

    >>> narrow(np.array([40_000]), "int16_wrap"), narrow(np.array([9]), "int32")
    (array([-25536]), array([9]))
    """
    width, _, how = accumulator.removeprefix("int").partition("_")
    half = 1 << (int(width) - 1)
    if how == "wrap":
        return (y + half) % (2 * half) - half
    return np.clip(y, -half, half - 1) if how == "saturate" else y
