"""Numba twin of ``refqnn.ops.conv``: register tiles over flat planes.

Error bound, forward and backward: each result is a sum of K products added one by one,
so it differs from the exact sum by at most ``K eps sum |a| |b|``.
"""

from typing import Any

import numpy as np
from numba import get_num_threads, prange

from refqnn._types import Array, Float, Int
from refqnn.fast.compiler import njit
from refqnn.fast.depthwise import (
    correlate_planes,
    one_channel,
    weight_grads_of_planes,
)
from refqnn.fast.packing import pack, pack_rows, unpack
from refqnn.fast.planes import (
    Axis,
    Layout,
    Outputs,
    forward_axis,
    gapless_starts,
    in_one_row,
    input_grad_axis,
    layout,
    taps,
    tile_weights,
)
from refqnn.fast.tiles import (
    DOT_NARROW,
    DOT_WIDE,
    OUTER_HALVES,
    OUTER_NARROW,
    OUTER_WIDE,
    dot_narrow,
    dot_wide,
    lanes_of,
    outer_halves,
    outer_narrow,
    outer_wide,
)
from refqnn.geometry import Padding, Pair, Window, output_size
from refqnn.ops.checks import check_gradient
from refqnn.ops.conv import Conv2dCache, Conv2dGrads, check_conv2d

#: tiles of outputs, and how many runs each computes
WIDE, HALVES, NARROW = range(3)
RUNS = (OUTER_WIDE.runs, OUTER_HALVES.runs, OUTER_NARROW.runs)


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
    rows, cols, (x, dy) = in_one_row(rows, cols, x, dy)
    lanes, single = lanes_of(dy.dtype), groups > 1 and og == cg == 1
    images, whole = (n * c, lanes) if single else (n, 1)
    lie = layout(rows, cols, channels=cg, images=images, tile=lanes, whole=whole)
    wide = og >= DOT_WIDE.rows
    tile = DOT_WIDE if wide else DOT_NARROW
    offsets = lie.offsets.reshape(-1)
    k = offsets.size
    padded = np.concatenate([offsets, np.repeat(offsets[-1:], -k % tile.taps)])
    lines = -(-og // tile.rows) * tile.rows
    parts = n if single else -(-n // max(lie.images, 1))
    partial = np.zeros((parts, groups, lines * padded.size), dy.dtype)
    workers = get_num_threads()
    if single:
        x, dy = one_channel(x), one_channel(dy)
        sums = partial.reshape(n * c, padded.size)
        weight_grads_of_planes(x, dy, sums, padded, lie, workers)
    else:
        _weight_grads(x, dy, partial, padded, lie, lines, wide, workers)
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

    x: (N, C, H, W), w: (O, C // G, Kh, Kw), bias: (O,)  ->  y: (N, O, ...), written:
    contiguous in memory

    Sums are carried in the dtype of w; int16 weights are taken in pairs of channels and
    carried in int32. int64 words of w and x hold 64 signs each, and a product is
    -2 popcount(x xor w). Outputs go to every ``step``-th row and column of y from
    ``corner`` on.
    """
    o, at, workers = w.shape[0], taps(rows, cols), get_num_threads()
    og = o // groups
    if step == (1, 1):
        rows, cols, (x, y) = in_one_row(rows, cols, x, y)
    flat = w[:, :, at.rows, at.cols]
    per = 2 if w.dtype == np.int16 else 1
    flat = flat if per == 1 else pair_channels(flat)
    lanes, wide = lanes_of(flat.dtype), og >= 4
    tile = OUTER_WIDE if wide else OUTER_NARROW
    into = Outputs(rows.out, cols.out, *corner, *step)
    single = groups > 1 and og == w.shape[1] == 1
    # rows of whole runs need no gaps between them, and go where they belong at once
    fits = og % tile.rows == 0 and y.dtype == flat.dtype and into.is_whole(y)
    direct = wide and fits and cols.out % (lanes // 2) == 0
    lie = layout(
        rows,
        cols,
        channels=flat.shape[1],
        per=per,
        images=x.shape[0] * groups if single else x.shape[0],
        tile=tile.vectors * lanes,
        shares=workers,
        kept=0 if direct else og,
        whole=lanes if single else 1,
    )
    if y.size == 0 or lie.offsets.size == 0:
        y[:, :, corner[0] :: step[0], corner[1] :: step[1]] = bias[:, None, None]
        return
    flat = flat.reshape(groups, og, -1)
    tiles = tile_weights(flat, tile.rows)
    biases = np.zeros((groups, tiles.shape[1] * tile.rows), flat.dtype)
    biases[:, :og] = bias.reshape(groups, -1)
    run = lanes // 2 if direct and cols.out % lanes else lanes
    starts: Int = np.arange(0, lie.span, lanes)
    if direct:
        starts = gapless_starts(
            lie.images, (rows.out, cols.out), lie.row, lie.image, run
        )
    kind = NARROW if not wide else WIDE if run == lanes else HALVES
    x = np.ascontiguousarray(x, x.dtype if per == 2 else flat.dtype)
    offsets = lie.offsets.reshape(-1)
    if single:
        x, y = one_channel(x), one_channel(y)
        w, bias = tiles.reshape(groups, -1), biases.reshape(-1)
        correlate_planes(x, w, bias, y, offsets, lie, into, lanes, workers)
        return
    whole = y.reshape(-1) if direct else np.empty(0, flat.dtype)
    _correlate(
        x, tiles, biases, y, whole, offsets, lie, into, starts, run, kind, workers
    )


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
    whole: Array,
    offsets: Int,
    lie: Layout,
    into: Outputs,
    starts: Int,
    run: int,
    kind: int,
    workers: int,
) -> None:
    """Tiles write into ``whole``, which is y, or where it is empty into a copy."""
    direct = whole.size > 0
    groups, count, _, rows = tiles.shape
    cg, og = x.shape[1] // groups, y.shape[1] // groups
    jobs = -(-x.shape[0] // lie.images) * groups
    plane = y.shape[2] * y.shape[3]
    per_image = starts.size // lie.images
    for worker in prange(workers):
        planes = np.zeros(lie.size, tiles.dtype)
        out = np.empty(0 if direct else count * rows * lie.span, tiles.dtype)
        ends = np.arange(starts.size) * run
        for job in range(worker, jobs, workers):
            first, group = job // groups * lie.images, job % groups
            pack(x, first, group * cg, cg, planes, lie)
            some, w, b = lie.margin + starts, tiles[group], bias[group]
            if direct:
                images = min(lie.images, x.shape[0] - first)
                for i in range(images * per_image):
                    n, place = divmod(i, per_image)
                    row = (first + n) * y.shape[1] + group * og
                    ends[i] = row * plane + place * run
                some = some[: images * per_image]
                _tiles(whole, ends, plane, b, planes, some, offsets, w, kind)
            else:
                _tiles(out, ends, lie.span, b, planes, some, offsets, w, kind)
                unpack(out, first, group * og, og, y, lie, into)


@njit()
def _tiles(
    out: Array,
    ends: Int,
    pitch: int,
    bias: Array,
    planes: Array,
    starts: Int,
    offsets: Int,
    tiles: Array,
    kind: int,
) -> None:
    """Compute runs of outputs, so many at once; a last tile repeats its last run."""
    w, size, rows = tiles.reshape(-1), tiles.shape[1] * tiles.shape[2], tiles.shape[2]
    runs = RUNS[kind]
    at, into = np.empty(runs, np.int64), np.empty(runs, np.int64)
    for first in range(0, starts.size, runs):
        for i in range(runs):
            k = min(first + i, starts.size - 1)
            at[i], into[i] = starts[k], ends[k]
        for t in range(tiles.shape[0]):
            r, u = t * rows, t * size
            if kind == WIDE:
                outer_wide(out, into, pitch, bias, r, planes, at, offsets, w, u)
            elif kind == HALVES:
                outer_halves(out, into, pitch, bias, r, planes, at, offsets, w, u)
            else:
                outer_narrow(out, into, pitch, bias, r, planes, at, offsets, w, u)
            into += rows * pitch


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
            pack(x, first, group * cg, cg, planes, lie)
            pack_rows(dy, first, group * og, og, rows, lie)
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
