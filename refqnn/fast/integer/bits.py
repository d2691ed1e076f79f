"""Numba twin of ``refqnn.integer.bits``: 64 products in one xor and one bit count.

    sum over c of x_c w_c  =  channels - 2 popcount(x_bits xor w_bits)             (1)

The padding planes hold zero words, which is padding with -1; another padding value v
adds ``(1 + v) sum of w`` for every tap that falls outside, once for all images.
"""

import numpy as np
from numba import get_num_threads, prange
from numba.extending import overload

from refqnn._types import Array, Bool, Int
from refqnn.fast.compiler import njit
from refqnn.fast.ops.conv import _pack, _unpack
from refqnn.fast.planes import Layout, Outputs, forward_axis, layout
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

_WIDTH = 512


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
    o, words, kh, kw = w_bits.shape
    at = window((kh, kw), stride=stride, padding=padding)
    n, _, h, width = x_bits.shape
    ho, wo = output_size((h, width), at)
    rows, cols = forward_axis(h, ho, 0, at), forward_axis(width, wo, 1, at)
    lie = layout(rows, cols, channels=words, images=n, tile=_WIDTH)
    y = np.empty((n, o, ho, wo), np.int32)
    every = np.full(o, channels * kh * kw, np.int32)
    into = Outputs(ho, wo)
    offsets, flat = lie.offsets.reshape(-1), w_bits.reshape(o, -1)
    if y.size:
        x = np.ascontiguousarray(x_bits)
        _xnor(x, flat, every, y, offsets, lie, into, get_num_threads())
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


@njit(parallel=True)
def _xnor(
    x: Int,
    w: Int,
    every: Int,
    y: Int,
    offsets: Int,
    lie: Layout,
    into: Outputs,
    workers: int,
) -> None:
    words, o = x.shape[1], w.shape[0]
    blocks = -(-x.shape[0] // lie.images)
    for worker in prange(workers):
        planes = np.zeros(lie.size, np.uint64)
        out = np.empty(o * lie.span, np.int64)
        for block in range(worker, blocks, workers):
            first = block * lie.images
            _pack(x, first, 0, words, planes, lie)
            for p in range(0, lie.span, _WIDTH):
                for row in range(o):
                    at = row * lie.span + p
                    sums = out[at : at + _WIDTH]
                    _differences(sums, planes, lie.margin + p, offsets, w[row])
            _unpack(out, first, 0, o, every, y, lie, into)


@njit()
def _differences(sums: Int, planes: Int, start: int, offsets: Int, w: Int) -> None:
    """sums[j] = -2 * (bits in which the words under the window differ from w)"""
    sums[:] = 0
    whole = offsets.size // 3 * 3
    for k in range(0, whole, 3):
        first = planes[start + offsets[k] : start + offsets[k] + _WIDTH]
        second = planes[start + offsets[k + 1] : start + offsets[k + 1] + _WIDTH]
        third = planes[start + offsets[k + 2] : start + offsets[k + 2] + _WIDTH]
        w1, w2, w3 = w[k], w[k + 1], w[k + 2]
        for j in range(_WIDTH):
            ones = _ones(first[j] ^ w1) + _ones(second[j] ^ w2) + _ones(third[j] ^ w3)
            sums[j] -= 2 * ones  # (1)
    for k in range(whole, offsets.size):
        seen = planes[start + offsets[k] : start + offsets[k] + _WIDTH]
        for j in range(_WIDTH):
            sums[j] -= 2 * _ones(seen[j] ^ w[k])  # (1)


def _ones(word: int) -> int:
    return int(np.bitwise_count(word))


@overload(_ones)
def _ones_compiled(word):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202, ARG001 - Numba reads the name
    def fields(word):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        """Add neighbouring fields of 1, 2 and 4 bits; LLVM makes it one instruction."""
        twos, fours = np.uint64(0x5555555555555555), np.uint64(0x3333333333333333)
        v = word - ((word >> np.uint64(1)) & twos)
        v = (v & fours) + ((v >> np.uint64(2)) & fours)
        v = (v + (v >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
        return np.int64((v * np.uint64(0x0101010101010101)) >> np.uint64(56))

    return fields
