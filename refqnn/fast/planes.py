"""Flat planes: the memory layout on which every tap of a convolution is one offset.

A block of images is stored channel by channel. Within a channel all images, and within
an image all rows, lie one behind the other with gaps of zeros between them, so that

    value of tap (i, j) for the output at p  =  plane[margin + p + offset(i, j)]     (1)

for every output p of the block at once, borders included: an offset that leaves the
image lands in a gap. One gap serves the end of a row and the beginning of the next.
A stride s splits an image into s * s planes, one for each remainder of row and column,
which turns strided taps into unit steps.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from refqnn._types import Array, Int
from refqnn.geometry import Pair, Window

#: kinds of layers that are remembered; networks call with the same ones again and again
KINDS = 512


class Axis(NamedTuple):
    """One axis of a correlation whose taps read a plane at ``position + shift``."""

    stride: int  # entries of the image from one entry of a plane to the next
    plane: int  # entries of the plane along this axis
    out: int  # outputs along this axis
    taps: tuple[tuple[int, int, int], ...]  # (index of the tap, remainder, shift)

    @property
    def before(self) -> int:
        """Entries read before the first of the plane."""
        return max([0, *(-shift for _, _, shift in self.taps)])

    @property
    def reach(self) -> int:
        """The furthest that a tap reads ahead of its output."""
        return max([0, *(shift for _, _, shift in self.taps)])

    @property
    def after(self) -> int:
        """Entries read behind the last of the plane."""
        return max(0, self.out - 1 + self.reach - (self.plane - 1))

    @property
    def pitch(self) -> int:
        """Entries from one plane (or row) to the next."""
        return max(self.plane + max(self.before, self.after), self.out)


@lru_cache(maxsize=KINDS)
def forward_axis(size: int, out: int, axis: int, at: Window) -> Axis:
    """Tap i of output p reads entry ``p s + i d - pad = s (p + shift) + remainder``.

    >>> at = Window((3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1))
    >>> forward_axis(8, 4, 0, at).taps
    ((0, 1, -1), (1, 0, 0), (2, 1, 0))
    """
    stride, dilation, before = at.stride[axis], at.dilation[axis], at.padding[axis][0]
    taps = []
    for i in range(at.kernel[axis]):
        shift, remainder = divmod(i * dilation - before, stride)
        taps.append((i, remainder, shift))
    return Axis(stride, -(-size // stride), out, tuple(taps))


@lru_cache(maxsize=KINDS)
def input_grad_axis(size: int, out: int, axis: int, at: Window, remainder: int) -> Axis:
    """Entry ``s m + remainder`` of dx reads dy at ``m - (i d - pad - remainder) / s``.

    Only the taps for which the division has no rest take part.

    >>> at = Window((3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1))
    >>> input_grad_axis(8, 4, 0, at, 0).taps, input_grad_axis(8, 4, 0, at, 1).taps
    (((1, 0, 0),), ((0, 0, 1), (2, 0, 0)))
    """
    stride, dilation, before = at.stride[axis], at.dilation[axis], at.padding[axis][0]
    taps = []
    for i in range(at.kernel[axis]):
        shift, rest = divmod(i * dilation - before - remainder, stride)
        if rest == 0:
            taps.append((i, 0, -shift))
    return Axis(1, out, -(-(size - remainder) // stride), tuple(taps))


def in_one_row(
    rows: Axis, cols: Axis, *images: Array
) -> tuple[Axis, Axis, tuple[Array, ...]]:
    """Give planes that a 1x1 window of stride 1 reads as one row each; others as is.

    images: (N, C, H, W) each  ->  (N, C, 1, H W)

    >>> axis = Axis(stride=1, plane=4, out=4, taps=((0, 0, 0),))
    >>> rows, cols, (x,) = in_one_row(axis, axis, np.zeros((2, 3, 4, 4)))
    >>> rows.out, cols.out, x.shape
    (1, 16, (2, 3, 1, 16))
    """
    point = ((0, 0, 0),)
    if any((a.stride, a.plane, a.taps) != (1, a.out, point) for a in (rows, cols)):
        return rows, cols, images
    size = rows.out * cols.out
    flat = tuple(image.reshape(*image.shape[:2], 1, size) for image in images)
    return Axis(1, 1, 1, point), Axis(1, size, size, point), flat


class Layout(NamedTuple):
    """Where a block of images lies in memory, and what each tap's offset is."""

    images: int  # images of a block
    per: int  # channels that share an entry
    row_stride: int  # entries of the image from one row of a plane to the next
    col_stride: int
    row: int  # entries from one row to the next
    image: int  # entries from one image to the next
    margin: int  # zeros before the first image
    span: int  # entries from the first output to the last, gaps included
    channel: int  # entries from one plane of the block to the next
    size: int  # entries of a block
    remainders: Int  # (planes of a channel, 2): which rows and columns each holds
    offsets: Int  # (channels, taps): where tap t of channel c reads, relative to p


class Outputs(NamedTuple):
    """Which entries of y a correlation writes."""

    rows: int
    cols: int
    top: int = 0  # the first row and column
    left: int = 0
    down: int = 1  # from one row to the next
    right: int = 1

    def is_whole(self, y: Array) -> bool:
        """Return whether every entry of y (N, O, H, W) is written."""
        return self == Outputs(*y.shape[2:])


class Taps(NamedTuple):
    """The taps of a window that take part, in the order of ``Layout.offsets``."""

    rows: Int
    cols: Int


@lru_cache(maxsize=KINDS)
def taps(rows: Axis, cols: Axis) -> Taps:
    """Return the kernel row and column of every tap, row by row."""
    pairs = np.array(
        [(i, j) for i, _, _ in rows.taps for j, _, _ in cols.taps], np.int64
    ).reshape(-1, 2)
    return Taps(pairs[:, 0], pairs[:, 1])


_PLANES, _OUTPUTS, _KEPT = 65_536, 4_096, 65_536


def gapless_starts(images: int, size: Pair, row: int, image: int, run: int) -> Int:
    """Where runs of outputs begin when rows are whole runs: without their gaps.

    ``row`` and ``image`` are the entries from one row, and one image, to the next.

    >>> gapless_starts(1, (2, 8), row=9, image=27, run=4)
    array([ 0,  4,  9, 13])
    """
    at = np.add.outer(np.arange(images) * image, np.arange(size[0]) * row)
    return np.add.outer(at, np.arange(0, size[1], run)).reshape(-1)


@lru_cache(maxsize=KINDS)
def layout(
    rows: Axis,
    cols: Axis,
    *,
    channels: int,
    images: int,
    tile: int,
    per: int = 1,
    shares: int = 1,
    kept: int = 0,
    whole: int = 1,
) -> Layout:
    """Lay out blocks of images for the taps of two axes.

    A block holds as many images as fit ``_PLANES`` inputs and ``_OUTPUTS`` outputs of
    one channel, which keeps it in the second-level cache and short of the TLB's reach.
    ``tile`` is the number of neighbouring outputs that are computed together; ``per``
    real channels share each of the ``channels``. ``shares`` workers take the blocks in
    turn. ``kept`` channels of outputs lie beside the planes, in the same cache, until
    they are copied into y; 0 where none do. An image takes a multiple of ``whole``
    entries.
    """
    row, image = cols.pitch, -(-rows.pitch * cols.pitch // whole) * whole
    keys = sorted({(a, b) for _, a, _ in rows.taps for _, b, _ in cols.taps})
    plane_of = {key: index for index, key in enumerate(keys)}
    most = min(_OUTPUTS, _KEPT // kept) if kept else _OUTPUTS
    fits = min(_PLANES // max(1, channels * len(keys)), most) // image
    block = min(images, max(1, fits))
    if shares > 1 and block:  # the largest that leaves the busiest worker least to do
        block = min(range(block, 0, -1), key=lambda b: -(-images // (b * shares)) * b)
    span = -(-block * image // tile) * tile
    margin = rows.before * row + cols.before
    end = margin + span + rows.reach * row + cols.reach
    channel = (end // 16 + 1 | 1) * 16  # odd in cache lines: channels share no set
    shifts = [
        plane_of[a, b] * channel + u * row + v
        for _, a, u in rows.taps
        for _, b, v in cols.taps
    ]
    first = np.arange(channels)[:, None] * (len(keys) * channel)
    return Layout(
        images=block,
        per=per,
        row_stride=rows.stride,
        col_stride=cols.stride,
        row=row,
        image=image,
        margin=margin,
        span=span,
        channel=channel,
        size=channels * len(keys) * channel,
        remainders=np.array(keys, np.int64).reshape(-1, 2),
        offsets=first + np.array(shifts, np.int64),
    )


def tile_weights(w: Array, rows: int) -> Array:
    """Order weights as the outer tiles read them, the last tile filled with zeros.

    w: (..., O, K)  ->  (..., ceil(O / rows), K, rows)
    """
    *groups, o, k = w.shape
    tiles = -(-o // rows)
    padded = np.zeros((*groups, tiles * rows, k), w.dtype)
    padded[..., :o, :] = w
    padded = padded.reshape(*groups, tiles, rows, k)
    return np.ascontiguousarray(padded.swapaxes(-1, -2))
