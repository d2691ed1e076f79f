"""Numba twin of ``refqnn.ops.conv``: register tiles over flat planes.

Error bound, forward and backward: each result is a sum of K products added one by one,
so it differs from the exact sum by at most ``K eps sum |a| |b|``.
"""

from typing import Any

import numpy as np
from numba import get_num_threads, prange

from refqnn._types import Array, Float, Int
from refqnn.fast.compiler import njit
from refqnn.fast.planes import (
    Axis,
    Layout,
    Outputs,
    forward_axis,
    input_grad_axis,
    layout,
    taps,
    tile_weights,
)
from refqnn.fast.tiles import (
    DOT_NARROW,
    DOT_WIDE,
    OUTER_NARROW,
    OUTER_WIDE,
    VECTOR_BYTES,
    dot_narrow,
    dot_wide,
    lanes_of,
    outer_narrow,
    outer_wide,
)
from refqnn.geometry import Padding, Pair, Window, output_size
from refqnn.ops.checks import check_gradient
from refqnn.ops.conv import Conv2dCache, Conv2dGrads, check_conv2d


def conv2d(
    x: Float,
    w: Float,
    b: Float | None = None,
    *,
    stride: int | Pair = 1,
    padding: Padding = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
) -> tuple[Float, Conv2dCache]:
    """See ``refqnn.ops.conv2d``."""
    at = check_conv2d(x, w, b, stride, padding, dilation, groups)
    n, _, h, width = x.shape
    ho, wo = output_size((h, width), at)
    y = np.empty((n, w.shape[0], ho, wo), x.dtype)
    bias = np.zeros(w.shape[0], x.dtype) if b is None else b.astype(x.dtype)
    rows, cols = forward_axis(h, ho, 0, at), forward_axis(width, wo, 1, at)
    correlate(x, w, bias, y, rows, cols, groups=groups)
    return y, Conv2dCache(x, w, b is not None, at, groups, (ho, wo))


def conv2d_backward(
    dy: Float, cache: Conv2dCache, *, toward_x: Float | None = None
) -> Conv2dGrads:
    """See ``refqnn.ops.conv2d_backward``."""
    x, w, has_bias, at, groups, size = cache
    toward_x = dy if toward_x is None else toward_x
    for g in (dy, toward_x):
        check_gradient(g, (x.shape[0], w.shape[0], *size))
    return Conv2dGrads(
        conv2d_input_grad(toward_x, w, x.shape, at, groups),
        conv2d_weight_grad(dy, x, at, groups),
        dy.sum(axis=(0, 2, 3), dtype=np.float64).astype(dy.dtype) if has_bias else None,
    )


def conv2d_input_grad(
    dy: Float, w: Float, x_shape: tuple[int, ...], at: Window, groups: int
) -> Float:
    """See ``refqnn.ops.conv2d_input_grad``."""
    c, h, width = x_shape[1:]
    dx = np.zeros(x_shape, dy.dtype)
    o, cg = w.shape[:2]
    per_group = w.reshape(groups, o // groups, cg, *at.kernel)
    turned = per_group.swapaxes(1, 2).reshape(c, o // groups, *at.kernel)
    none = np.zeros(c, dy.dtype)
    for a in range(min(at.stride[0], h)):
        rows = input_grad_axis(h, dy.shape[2], 0, at, a)
        for b in range(min(at.stride[1], width)):
            cols = input_grad_axis(width, dy.shape[3], 1, at, b)
            into: Any = {"groups": groups, "corner": (a, b), "step": at.stride}
            correlate(dy, turned, none, dx, rows, cols, **into)
    return dx


def conv2d_weight_grad(dy: Float, x: Float, at: Window, groups: int) -> Float:
    """See ``refqnn.ops.conv2d_weight_grad``."""
    x, dy = np.ascontiguousarray(x), np.ascontiguousarray(dy)
    n, o, ho, wo = dy.shape
    c, h, width = x.shape[1:]
    og, cg = o // groups, c // groups
    rows, cols = forward_axis(h, ho, 0, at), forward_axis(width, wo, 1, at)
    lie = layout(rows, cols, channels=cg, images=n, tile=lanes_of(dy.dtype))
    wide = og >= DOT_WIDE.rows
    tile = DOT_WIDE if wide else DOT_NARROW
    offsets = lie.offsets.reshape(-1)
    k = offsets.size
    padded = np.concatenate([offsets, np.repeat(offsets[-1:], -k % tile.taps)])
    lines = -(-og // tile.rows) * tile.rows
    blocks = -(-n // lie.images) if n else 0
    partial = np.zeros((blocks, groups, lines * padded.size), dy.dtype)
    _weight_grads(x, dy, partial, padded, lie, lines, wide, get_num_threads())
    total = partial.sum(axis=0, dtype=np.float64).reshape(groups, lines, -1)
    return np.ascontiguousarray(
        total[:, :og, :k].reshape(o, cg, *at.kernel).astype(dy.dtype)
    )


def correlate(
    x: Array,
    w: Array,
    bias: Array,
    y: Array,
    rows: Axis,
    cols: Axis,
    *,
    groups: int,
    corner: Pair = (0, 0),
    step: Pair = (1, 1),
) -> None:
    """Write ``bias[o] + sum over c and taps of w x`` into ``y``.

    x: (N, C, H, W), w: (O, C // G, Kh, Kw), bias: (O,)  ->  y: (N, O, ...), written

    Sums are carried in the dtype of w; int16 weights are taken in pairs of channels and
    carried in int32. Outputs go to every ``step``-th row and column of y from
    ``corner`` on.
    """
    o = w.shape[0]
    at = taps(rows, cols)
    flat = w[:, :, at.rows, at.cols]
    per = 2 if w.dtype == np.int16 else 1
    flat = flat if per == 1 else pair_channels(flat)
    wide = o // groups >= 4
    tile = OUTER_WIDE if wide else OUTER_NARROW
    lie = layout(
        rows,
        cols,
        channels=flat.shape[1],
        per=per,
        images=x.shape[0],
        tile=tile.vectors * lanes_of(flat.dtype),
    )
    if y.size == 0 or lie.offsets.size == 0:
        y[:, :, corner[0] :: step[0], corner[1] :: step[1]] = bias[:, None, None]
        return
    flat = flat.reshape(groups, o // groups, -1)
    tiles = np.stack([tile_weights(group, tile.rows) for group in flat])
    into = Outputs(rows.out, cols.out, *corner, *step)
    offsets = lie.offsets.reshape(-1)
    x, workers = np.ascontiguousarray(x), get_num_threads()
    _correlate(x, tiles, bias, y, offsets, lie, into, wide, workers)


def pair_channels(w: Int) -> Int:
    """Put the weights of neighbouring channels into one int32; a last one gets a 0.

    w: (O, C, T) int16  ->  (O, ceil(C / 2), T) int32

    >>> pair_channels(np.array([[[1], [2], [3]]], np.int16)).ravel()
    array([131073,      3], dtype=int32)
    """
    o, c, t = w.shape
    even = np.zeros((o, c + c % 2, t), np.int16)
    even[:, :c] = w
    pairs = even.reshape(o, -1, 2, t).swapaxes(2, 3)
    return np.ascontiguousarray(pairs).view(np.int32)[..., 0]


@njit(parallel=True)
def _correlate(
    x: Array,
    tiles: Array,
    bias: Array,
    y: Array,
    offsets: Int,
    lie: Layout,
    into: Outputs,
    wide: bool,
    workers: int,
) -> None:
    groups, count = tiles.shape[:2]
    cg, og = x.shape[1] // groups, y.shape[1] // groups
    rows = OUTER_WIDE.rows if wide else OUTER_NARROW.rows
    jobs = -(-x.shape[0] // lie.images) * groups
    for worker in prange(workers):
        planes = np.zeros(lie.size, tiles.dtype)
        out = np.empty(count * rows * lie.span, tiles.dtype)
        for job in range(worker, jobs, workers):
            first, group = job // groups * lie.images, job % groups
            _pack(x, first, group * cg, cg, planes, lie)
            _tiles(out, planes, offsets, tiles[group], lie, wide)
            _unpack(out, first, group * og, og, bias, y, lie, into)


@njit()
def _tiles(
    out: Array, planes: Array, offsets: Int, tiles: Array, lie: Layout, wide: bool
) -> None:
    w, size = tiles.reshape(-1), tiles.shape[1] * tiles.shape[2]
    vectors = OUTER_WIDE.vectors if wide else OUTER_NARROW.vectors
    width = vectors * VECTOR_BYTES // planes.itemsize
    for p in range(0, lie.span, width):
        start = lie.margin + p
        for t in range(tiles.shape[0]):
            at = t * tiles.shape[2] * lie.span + p
            if wide:
                outer_wide(out, at, lie.span, planes, start, offsets, w, t * size)
            else:
                outer_narrow(out, at, lie.span, planes, start, offsets, w, t * size)


@njit(parallel=True)
def _weight_grads(
    x: Float,
    dy: Float,
    partial: Float,
    offsets: Int,
    lie: Layout,
    lines: int,
    wide: bool,
    workers: int,
) -> None:
    blocks, groups = partial.shape[:2]
    cg, og = x.shape[1] // groups, dy.shape[1] // groups
    for worker in prange(workers):
        planes = np.zeros(lie.size, x.dtype)
        rows = np.zeros(lines * lie.span, x.dtype)
        for job in range(worker, blocks * groups, workers):
            block, group = job // groups, job % groups
            first = block * lie.images
            if first + lie.images > x.shape[0]:
                rows[:] = 0
            _pack(x, first, group * cg, cg, planes, lie)
            _pack_rows(dy, first, group * og, og, rows, lie)
            sums = partial[block, group]
            _dots(sums, rows, planes, offsets, lie, lines, wide)


@njit()
def _dots(
    sums: Float, dy: Float, x: Float, offsets: Int, lie: Layout, lines: int, wide: bool
) -> None:
    """Add the products of a block: rows of dy times taps of x, tile by tile."""
    k, span, start = offsets.size, lie.span, lie.margin
    rows = DOT_WIDE.rows if wide else DOT_NARROW.rows
    taps = DOT_WIDE.taps if wide else DOT_NARROW.taps
    for o in range(0, lines, rows):
        for t in range(0, k, taps):
            at, part = o * k + t, offsets[t : t + taps]
            if wide:
                dot_wide(sums, at, k, dy, o * span, span, x, start, part, span)
            else:
                dot_narrow(sums, at, k, dy, o * span, span, x, start, part, span)


@njit()
def _pack(
    x: Array, first: int, c0: int, channels: int, planes: Array, lie: Layout
) -> None:
    """Copy a block of images into planes, one channel or a pair in each entry."""
    for n in range(first, min(first + lie.images, x.shape[0])):
        for c in range(0, channels, lie.per):
            both = c + 1 < channels
            for r in range(lie.remainders.shape[0]):
                a, b = lie.remainders[r]
                plane = (c // lie.per * lie.remainders.shape[0] + r) * lie.channel
                plane += lie.margin + (n - first) * lie.image
                for i, h in enumerate(range(a, x.shape[2], lie.row_stride)):
                    row = planes[plane + i * lie.row : plane + (i + 1) * lie.row]
                    if lie.per == 1:
                        _copy(x[n, c0 + c, h], b, lie.col_stride, row)
                    else:
                        low, high = x[n, c0 + c, h], x[n, c0 + c + both, h]
                        _copy_pair(low, high, both, b, lie.col_stride, row)


@njit()
def _copy(x: Array, first: int, stride: int, row: Array) -> None:
    if stride == 1:
        for j in range(x.size):
            row[j] = x[j]
    else:
        for j, v in enumerate(range(first, x.size, stride)):
            row[j] = x[v]


@njit()
def _copy_pair(
    low: Array, high: Array, both: bool, first: int, stride: int, row: Array
) -> None:
    """Put low into the lower 16 bits, high into the upper."""
    number, upper = row.dtype.type, np.int64(65_536) * both
    for j, v in enumerate(range(first, low.size, stride)):
        row[j] = number((np.int64(low[v]) & 65_535) + np.int64(high[v]) * upper)


@njit()
def _pack_rows(
    dy: Float, first: int, o0: int, count: int, rows: Float, lie: Layout
) -> None:
    last = min(first + lie.images, dy.shape[0])
    for n in range(first, last):
        for o in range(count):
            for p in range(dy.shape[2]):
                at = o * lie.span + (n - first) * lie.image + p * lie.row
                for q in range(dy.shape[3]):
                    rows[at + q] = dy[n, o0 + o, p, q]


@njit()
def _unpack(
    out: Float,
    first: int,
    o0: int,
    count: int,
    bias: Array,
    y: Array,
    lie: Layout,
    into: Outputs,
) -> None:
    number = y.dtype.type
    last = min(first + lie.images, y.shape[0])
    for n in range(first, last):
        for o in range(count):
            b = bias[o0 + o]
            for p in range(into.rows):
                at = o * lie.span + (n - first) * lie.image + p * lie.row
                row = y[n, o0 + o, into.top + p * into.down, into.left :]
                if into.right == 1:
                    for q in range(into.cols):
                        row[q] = number(out[at + q]) + b
                else:
                    for q in range(into.cols):
                        row[q * into.right] = number(out[at + q]) + b
