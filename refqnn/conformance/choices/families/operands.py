"""Operands of a product rearranged, sums narrowed: answers about convolutions.

The product itself stays that of ``refqnn.integer``: an answer changes what is read from
the memory of an operand, what is subtracted from it, or how wide the sum is.
"""

from typing import Any

import numpy as np

from refqnn._types import Array, Int
from refqnn.geometry import Pair, output_size, window, windows

Padding = tuple[Pair, Pair]


def centre(x: Int, zero_point: int, use: str) -> tuple[Int, int]:
    """Return codes and the zero-point to subtract from them: itself, -itself or 0.

    >>> centre(np.uint8([3]), 7, "added")
    (array([3], dtype=int32), -7)
    """
    if use == "added":
        return x.astype(np.int32), -int(zero_point)
    return x, int(zero_point) if use == "subtracted" else 0


def sides(padding: Padding, side: str) -> Padding:
    """Exchange top with bottom and left with right where ``side`` is "swapped"."""
    (t, b), (l, r) = padding
    return ((b, t), (r, l)) if side == "swapped" else padding


def read_layout(w: Int, layout: str, kernel: str) -> Int:
    """Read the memory of w as ``layout``, then turn its planes: (O, C, Kh, Kw)"""
    o, c, h, k = w.shape
    if layout == "OHWI":
        w = w.reshape(o, h, k, c).transpose(0, 3, 1, 2)
    elif layout == "HWIO":
        w = w.reshape(h, k, c, o).transpose(3, 2, 0, 1)
    if kernel == "convolution":
        return w[:, :, ::-1, ::-1]
    if kernel == "transposed" and h == k:
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
    x: Int, w: Int, b: Int, z: int, wz: Any, stride: Any, dilation: Any, groups: int
) -> Int:
    """Sum neighbours in int16 that saturates, then correct for the zero-point."""
    at = window(w.shape[2:], stride=stride, padding=0, dilation=dilation)
    ho, wo = output_size(x.shape[2:], at)
    n, (o, cg, kh, kw) = x.shape[0], w.shape
    seen = windows(x.astype(np.int64), at).reshape(n, groups, cg, ho, wo, kh, kw)
    columns = seen.transpose(0, 1, 3, 4, 2, 5, 6).reshape(n, groups, 1, ho, wo, -1)
    real = w.astype(np.int64) - np.reshape(wz, (-1, 1, 1, 1))
    rows = real.reshape(groups, o // groups, 1, 1, -1)
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
    """Keep the low 16 bits of sums where ``accumulator`` is "int16_wrap"."""
    if accumulator == "int16_wrap":
        return (y + 2**15) % 2**16 - 2**15
    return y
