"""Convolutions in which every channel is a group of its own, plane by plane.

The planes of all images are taken as they lie in memory, block by block: a channel of
many images would be read in steps of an image, which no cache line and no prefetcher
serves.
"""

import numpy as np
from numba import prange

from refqnn._types import Array, Float, Int
from refqnn.fast.compiler import njit
from refqnn.fast.packing import pack, pack_rows, unpack
from refqnn.fast.planes import Layout, Outputs
from refqnn.fast.tiles import DOT_NARROW, OUTER_NARROW, dot_narrow, outer_narrow

RUNS, TAPS = OUTER_NARROW.runs, DOT_NARROW.taps


def one_channel(x: Array) -> Array:
    """View every plane as an image of its own: (N, C, H, W)  ->  (N C, 1, H, W)"""
    n, c, *size = x.shape
    return x.reshape(n * c, 1, *size)


@njit(parallel=True)
def correlate_planes(
    x: Array,
    w: Array,
    bias: Array,
    y: Array,
    offsets: Int,
    lie: Layout,
    into: Outputs,
    lanes: int,
    workers: int,
) -> None:
    """Write ``bias[c] + sum over taps of w[c] x`` into y, of every plane of channel c.

    x: (N C, 1, H, W), w: (C, taps), bias: (C,), y: (N C, 1, Ho, Wo)
    """
    (channels, k), count = w.shape, x.shape[0]
    flat, blocks = w.reshape(-1), -(-count // lie.images)
    for worker in prange(workers):
        planes = np.zeros(lie.size, w.dtype)
        out = np.empty(lie.span, w.dtype)
        at, to = np.empty(RUNS, np.int64), np.empty(RUNS, np.int64)
        begin, end = blocks * worker // workers, blocks * (worker + 1) // workers
        for block in range(begin, end):
            first = block * lie.images
            pack(x, first, 0, 1, planes, lie)
            for i in range(min(lie.images, count - first)):
                c, last = (first + i) % channels, (i + 1) * lie.image - lanes
                for start in range(i * lie.image, last + 1, RUNS * lanes):
                    for r in range(RUNS):  # a last tile repeats its last run
                        to[r] = min(start + r * lanes, last)
                        at[r] = lie.margin + to[r]
                    outer_narrow(out, to, 0, bias, c, planes, at, offsets, flat, c * k)
            unpack(out, first, 0, 1, y, lie, into)


@njit(parallel=True)
def weight_grads_of_planes(
    x: Float, dy: Float, sums: Float, offsets: Int, lie: Layout, workers: int
) -> None:
    """Add to ``sums`` the products of dy and each tap of x, of every plane.

    x: (N C, 1, H, W), dy: (N C, 1, Ho, Wo)  ->  sums: (N C, taps)
    """
    count = x.shape[0]
    blocks = -(-count // max(1, lie.images))
    for worker in prange(workers):
        planes, rows = np.zeros(lie.size, x.dtype), np.zeros(lie.span, x.dtype)
        begin, end = blocks * worker // workers, blocks * (worker + 1) // workers
        for block in range(begin, end):
            first = block * lie.images
            pack(x, first, 0, 1, planes, lie)
            pack_rows(dy, first, 0, 1, rows, lie)
            for i in range(min(lie.images, count - first)):
                row, total = i * lie.image, sums[first + i]
                at = lie.margin + row
                for t in range(0, offsets.size, TAPS):
                    part = offsets[t : t + TAPS]
                    dot_narrow(total, t, 0, rows, row, 0, planes, at, part, lie.image)
