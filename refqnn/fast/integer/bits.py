"""Numba twin of ``refqnn.integer.bits``: 64 products in one xor and one bit count.

    sum over c of x_c w_c  =  channels - 2 popcount(x_bits xor w_bits)             (1)

The padding planes hold zero words, which is padding with -1; another padding value v
adds ``(1 + v) sum of w`` for every tap that falls outside, once for all images.
"""

import numpy as np
from numba import prange

from refqnn._types import Array, Bool, Int
from refqnn.fast.compiler import njit
from refqnn.fast.ops.conv import correlate
from refqnn.fast.planes import forward_axis
from refqnn.geometry import (
    Padding,
    Pair,
    Window,
    output_size,
    pad_planes,
    window,
    windows,
)
from refqnn.integer.bits import WORD, as_packable, check_xnor_conv2d


def pack_bits(x: Array) -> Int:
    """See ``refqnn.integer.pack_bits``."""
    x = as_packable(x)
    positive = np.ascontiguousarray(x if x.dtype == bool else x >= 0)
    n, c, h, w = x.shape
    words = np.zeros((n, -(-c // WORD), h, w), np.uint64)
    _pack_signs(positive, words)
    return words


@njit(parallel=True)
def _pack_signs(positive: Bool, words: Int) -> None:
    n, c, h, w = positive.shape
    per_image = words.shape[1]
    for task in prange(n * per_image):
        image, word = task // per_image, task % per_image
        for channel in range(word * WORD, min((word + 1) * WORD, c)):
            place = np.uint64(channel - word * WORD)
            for i in range(h):
                for j in range(w):
                    bit = np.uint64(positive[image, channel, i, j])
                    words[image, word, i, j] |= bit << place


def xnor_conv2d(
    x_bits: Int,
    w_bits: Int,
    *,
    channels: int,
    stride: int | Pair = 1,
    padding: Padding = 0,
    padding_value: int = -1,
) -> Int:
    """See ``refqnn.integer.xnor_conv2d``."""
    check_xnor_conv2d(x_bits, w_bits, channels=channels, padding_value=padding_value)
    o, _, kh, kw = w_bits.shape
    at = window((kh, kw), stride=stride, padding=padding)
    n, _, h, width = x_bits.shape
    ho, wo = output_size((h, width), at)
    rows, cols = forward_axis(h, ho, 0, at), forward_axis(width, wo, 1, at)
    y = np.empty((n, o, ho, wo), np.int32)
    every = np.full(o, channels * kh * kw)
    x, w = (np.ascontiguousarray(bits).view(np.int64) for bits in (x_bits, w_bits))
    correlate(x, w, every, y, rows, cols, groups=1)  # (1)
    if padding_value != -1:
        y += (1 + padding_value) * _outside(w_bits, channels, (h, width), at)
    return y


def _outside(w_bits: Int, channels: int, size: Pair, at: Window) -> Int:
    """Sum the weights whose tap falls into the padding.  ->  (O, Ho, Wo)"""
    pad = pad_planes(np.zeros((1, 1, *size), np.int32), at, 1)
    taps = windows(pad, at)[0, 0]  # (Ho, Wo, Kh, Kw), 1 where outside
    ones = np.bitwise_count(w_bits).sum(axis=1, dtype=np.int32)
    # (Ho, Wo, Kh, Kw) . (O, Kh, Kw) -> (O, Ho, Wo)
    return np.einsum("pqij,oij->opq", taps, 2 * ones - np.int32(channels))
