"""Images into flat planes and out of them, block by block (``refqnn.fast.planes``)."""

import numpy as np

from refqnn._types import Array, Float
from refqnn.fast.compiler import njit
from refqnn.fast.planes import Layout, Outputs
from refqnn.fast.tiles import copy


@njit()
def pack(
    x: Array,
    first: int,
    c0: int,
    channels: int,
    planes: Array,
    lie: Layout,
) -> None:
    """Copy a block of images into planes, one channel or a pair in each entry."""
    all_channels, h, w = x.shape[1:]
    flat, apart = x.reshape(-1), w * lie.row_stride
    for n in range(first, min(first + lie.images, x.shape[0])):
        for c in range(0, channels, lie.per):
            image = (n * all_channels + c0 + c) * h * w
            second = h * w if c + 1 < channels else 0
            for r in range(lie.remainders.shape[0]):
                a, b = lie.remainders[r]
                to = (c // lie.per * lie.remainders.shape[0] + r) * lie.channel
                to += lie.margin + (n - first) * lie.image
                for at in range(image + a * w, image + h * w, apart):
                    if lie.per == 2:
                        _copy_pair(flat, at, second, w, b, lie.col_stride, planes, to)
                    elif lie.col_stride == 1:
                        copy(planes, to, flat, at, w)
                    else:
                        for i, v in enumerate(range(b, w, lie.col_stride)):
                            planes[to + i] = flat[at + v]
                    to += lie.row


@njit()
def _copy_pair(
    x: Array, at: int, second: int, w: int, first: int, stride: int, planes: Array,
    to: int,
) -> None:  # fmt: skip
    """Put x[at + v] into the lower 16 bits, x[at + second + v] into the upper."""
    number, upper = planes.dtype.type, np.int64(65_536) * (second > 0)
    for i, v in enumerate(range(at + first, at + w, stride)):
        low, high = np.int64(x[v]), np.int64(x[v + second])
        planes[to + i] = number((low & 65_535) + high * upper)


@njit()
def pack_rows(
    dy: Float, first: int, o0: int, count: int, rows: Float, lie: Layout
) -> None:
    """Copy a block of gradients into rows, where the planes have their outputs."""
    channels, h, w = dy.shape[1:]
    flat = dy.reshape(-1)
    for n in range(first, min(first + lie.images, dy.shape[0])):
        for o in range(count):
            at = (n * channels + o0 + o) * h * w
            to = o * lie.span + (n - first) * lie.image
            for _ in range(h):
                copy(rows, to, flat, at, w)
                at += w
                to += lie.row


@njit()
def unpack(
    out: Float,
    first: int,
    o0: int,
    count: int,
    y: Array,
    lie: Layout,
    into: Outputs,
) -> None:
    """Copy a block of outputs into y, without the gaps between rows."""
    number = y.dtype.type
    last = min(first + lie.images, y.shape[0])
    for n in range(first, last):
        for o in range(count):
            for p in range(into.rows):
                at = o * lie.span + (n - first) * lie.image + p * lie.row
                row = y[n, o0 + o, into.top + p * into.down, into.left :]
                if into.right == 1:
                    for q in range(into.cols):
                        row[q] = number(out[at + q])
                else:
                    for q in range(into.cols):
                        row[q * into.right] = number(out[at + q])
