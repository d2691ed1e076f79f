"""The machine that runs a network of 8-bit codes, block of images by block of images.

Codes live in memory as quads: the int32 at a position of a plane holds four channels,
code c in bits 8 (c mod 4) and up. A signed code q is kept as q + 128, so that every
byte is what the tiles multiply. Planes are flat, with gaps of the zero-point between
rows and images (``refqnn.fast.planes``), and the same gaps serve the layer before and
the layer behind: the sums of a tile are requantized while they are in the first cache,
and four channels at once become the quads that the next layer reads.

A worker takes its images through all steps before it takes the next ones, so that codes
stay in its own cache, and no worker waits for another. Integers are exact: neither the
block nor the number of workers changes a bit.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from refqnn._types import Float, Int
from refqnn.fast.compiler import njit
from refqnn.fast.packing import copy
from refqnn.fast.scaling import WIDTH, scale
from refqnn.fast.tiles import (
    OUTER_QUADS,
    OUTER_WIDE,
    outer_quads,
    outer_quads_wide,
    weave,
)

HIGH_ROWS, LOW_ROWS, RUNS = OUTER_WIDE.rows, OUTER_QUADS.rows, OUTER_QUADS.runs
#: neighbours that a tile computes together
RUN = WIDTH // RUNS

#: kinds of steps
LOAD, SPLIT, MOVE, SUM, POOL, LOOK_UP, STORE = range(7)
#: what a sum is added to
ALONE, CODES, SUMS = range(3)
#: an entry of a map that is no place: what is there stays, at first the zero-point
FILL = -1


def _record(names: str) -> np.dtype[np.void]:
    return np.dtype([(name, np.int64) for name in names.split()])


#: where a tensor lies in the memory of a worker: planes of int32, ``channel`` apart
TENSOR = _record(
    "at channels planes rows cols row image margin span channel zero starts runs"
)
#: what is read, what is written and with which numbers
STEP = _record(
    "kind source target second plus blocks quads rows tiles terms offsets weights "
    "first factors form low high zero minus sign outside wide row_step col_step "
    "remainders map"
)


class Plan(NamedTuple):
    """Steps and tensors, laid out, and the numbers that they point into."""

    steps: Any
    tensors: Any
    numbers: Int
    weights: Int
    channels: Int
    singles: Float
    doubles: Float


def run(workers: int, *arguments: Any) -> None:
    """Run ``work`` in so many threads, which sleep when they are done.

    Raises what the first failing one raised.
    """
    with ThreadPoolExecutor(max(1, workers - 1)) as pool:
        others = [pool.submit(work, i, workers, *arguments) for i in range(1, workers)]
        work(0, workers, *arguments)
        for other in others:
            other.result()


@njit(nogil=True)
def work(
    worker: int,
    workers: int,
    x: Int,
    y: Int,
    sums: Int,
    plan: Plan,
    size: int,
    images: int,
) -> None:
    """Take every ``workers``-th block of images through all steps.

    x: (N, codes), y: (N, codes), sums: (N, accumulators)  ->  y, sums, written
    """
    memory = np.zeros(size, np.int32)
    tile = np.zeros((HIGH_ROWS, WIDTH), np.int32)
    skip, numbers = np.zeros((HIGH_ROWS, WIDTH), np.int32), plan.numbers
    for first in range(worker * images, x.shape[0], workers * images):
        count = min(images, x.shape[0] - first)
        for i in range(plan.steps.size):
            step = plan.steps[i]
            source, target = plan.tensors[step.source], plan.tensors[step.target]
            second = plan.tensors[step.second]
            if step.kind == SUM:
                _sum(step, source, second, target, plan, memory, tile, skip, images)
            elif step.kind == POOL:
                _pool(step, source, target, plan, memory, tile, images)
            elif step.kind == LOAD:
                _load(x, first, count, step, target, memory, images)
            elif step.kind == SPLIT:
                _split(step, source, target, numbers, memory, images)
            elif step.kind == MOVE:
                _move(step, source, target, numbers, memory, images)
            elif step.kind == LOOK_UP:
                _look_up(step, source, second, target, numbers, memory, images)
            else:
                _store(step, source, memory, y, sums, first, count)


@njit()
def _load(
    x: Int, first: int, count: int, step: Any, target: Any, memory: Int, images: int
) -> None:
    """Put four channels of every pixel into one entry."""
    rows, cols, last = target.rows, target.cols, target.channels - 1
    size, sign = rows * cols, np.int32(step.sign)
    quads = np.empty(size, np.int32)
    for n in range(count):
        image = x[first + n, step.outside : step.outside + (last + 1) * size]
        for c in range(0, target.channels, 4):
            # behind the last channel the last one again: its weights are 0
            a, b = image[c * size :], image[min(c + 1, last) * size :]
            d, e = image[min(c + 2, last) * size :], image[min(c + 3, last) * size :]
            for j in range(size):
                low = (np.int32(a[j]) ^ sign) | (np.int32(b[j]) ^ sign) << np.int32(8)
                high = (np.int32(d[j]) ^ sign) | (np.int32(e[j]) ^ sign) << np.int32(8)
                quads[j] = low | high << np.int32(16)
            at = target.at + c // 4 * target.channel + target.margin + n * target.image
            for h in range(rows):
                copy(memory, at + h * target.row, quads, h * cols, cols)
    _surround(target, memory, images)


@njit()
def _fill(target: Any, memory: Int) -> None:
    """Make every entry the zero-point."""
    memory[target.at : target.at + target.planes * target.channel] = target.zero


@njit()
def _surround(target: Any, memory: Int, images: int) -> None:
    """Make the margin and the gaps behind rows and images the zero-point.

    No tap of a pixel reaches further: a gap is as wide as the widest window needs.
    """
    zero = np.int32(target.zero)
    for plane in range(target.planes):
        at = target.at + plane * target.channel
        memory[at : at + target.margin] = zero
        at += target.margin
        for _ in range(images):
            for row in range(at, at + target.rows * target.row, target.row):
                for j in range(target.cols, target.row):
                    memory[row + j] = zero
            memory[at + target.rows * target.row : at + target.image] = zero
            at += target.image


@njit()
def _split(
    step: Any, source: Any, target: Any, numbers: Int, memory: Int, images: int
) -> None:
    """Copy every ``row_step``-th row and ``col_step``-th column, by remainders."""
    _fill(target, memory)
    kinds = target.planes // source.planes
    for plane in range(target.planes):
        which = step.remainders + 2 * (plane % kinds)
        a, b = numbers[which], numbers[which + 1]
        start = source.at + plane // kinds * source.channel + source.margin
        into = target.at + plane * target.channel + target.margin
        for n in range(images):
            for i, h in enumerate(range(a, source.rows, step.row_step)):
                seen = start + n * source.image + h * source.row + b
                row = into + n * target.image + i * target.row
                for j in range(-(-(source.cols - b) // step.col_step)):
                    at = np.uint64(seen + j * step.col_step)
                    memory[np.uint64(row + j)] = memory[at]


@njit()
def _move(
    step: Any, source: Any, target: Any, numbers: Int, memory: Int, images: int
) -> None:
    """Gather single codes: ``map`` says for each where it lies in the source."""
    if step.sign:  # the first of the steps that write this tensor
        _fill(target, memory)
    for n in range(images):
        seen = source.at + source.margin + n * source.image
        entry = step.map
        for plane in range(target.planes):
            at = target.at + plane * target.channel + target.margin + n * target.image
            for h in range(target.rows):
                for j in range(at + h * target.row, at + h * target.row + target.cols):
                    value = memory[j]
                    for i in range(4):
                        place, up = numbers[entry + i], np.int32(8 * i)
                        if place >= 0:
                            down = np.int32(8 * (place & 3))
                            code = (memory[seen + (place >> 2)] >> down) & np.int32(255)
                            value &= ~(np.int32(255) << up)
                            value |= code << up
                    memory[j] = value
                    entry += 4


@njit()
def _look_up(
    step: Any,
    source: Any,
    second: Any,
    target: Any,
    numbers: Int,
    memory: Int,
    images: int,
) -> None:
    """target = table[256 second + source], or without a second table[source]"""
    table = numbers[step.map : step.map + (65_536 if step.plus else 256)]
    for k in range(target.planes * target.channel):
        first, value = memory[np.uint64(source.at + k)], np.int32(0)
        if step.plus:
            other = memory[np.uint64(second.at + k)]
            for i in range(4):
                up = np.int32(8 * i)
                index = ((other >> up) & 255) * 256 + ((first >> up) & 255)
                value |= np.int32(table[np.uint64(index)]) << up
        else:
            for i in range(4):
                up = np.int32(8 * i)
                value |= np.int32(table[np.uint64((first >> up) & 255)]) << up
        memory[np.uint64(target.at + k)] = value
    if step.sign:
        _surround(target, memory, images)


@njit()
def _sum(
    step: Any,
    source: Any,
    second: Any,
    target: Any,
    plan: Plan,
    memory: Int,
    tile: Int,
    skip: Int,
    images: int,
) -> None:
    """Add products tile by tile, and requantize each while it is in the cache."""
    offsets = plan.numbers[step.offsets : step.offsets + step.terms]
    weights, channels, numbers = plan.weights, plan.channels, plan.numbers
    singles, doubles = plan.singles, plan.doubles
    sums, into = tile.reshape(-1), np.arange(RUNS) * RUN
    bias, at = np.zeros(HIGH_ROWS, np.int32), np.empty(RUNS, np.int64)
    places = np.empty(RUNS, np.int64)
    for b in range(step.blocks * step.tiles):
        block, o = b // step.tiles, b * step.rows
        first = source.at + source.margin + block * step.quads * source.channel
        w = step.weights + b * step.rows * step.terms
        if not step.factors:
            for r in range(step.rows):
                bias[r] = channels[step.first + o + r, 0]
        for i in range(target.starts, target.starts + target.runs, RUNS):
            starts = numbers[i : i + RUNS]
            for j in range(RUNS):
                at[j] = first + starts[j]
            if step.rows == HIGH_ROWS:
                outer_quads_wide(
                    sums, into, WIDTH, bias, 0, memory, at, offsets, weights, w
                )
            else:
                outer_quads(sums, into, WIDTH, bias, 0, memory, at, offsets, weights, w)
            if step.plus:
                _seen(step, second, memory, o, starts, skip)
            scale(tile, skip, channels, singles, doubles, step.first + o, step)
            _write(step, target, memory, tile, o, starts, places)
    if not step.wide:
        _surround(target, memory, images)


@njit(inline="always")
def _scale(tile: Int, skip: Int, plan: Plan, first: int, step: Any) -> None:
    scale(tile, skip, plan.channels, plan.singles, plan.doubles, first, step)


@njit(inline="always")
def _write(
    step: Any, target: Any, memory: Int, codes: Int, o: int, starts: Int, places: Int
) -> None:
    """Four rows of codes become one of quads."""
    flat = codes.reshape(-1)
    for r in range(0, step.rows, 1 if step.wide else 4):
        if step.wide:
            plane = target.at + (o + r) * target.channel
            for i in range(RUNS):
                copy(memory, plane + starts[i], flat, r * WIDTH + i * RUN, RUN)
        else:
            plane = target.at + (o + r) // 4 * target.channel + target.margin
            for i in range(RUNS):
                places[i] = plane + starts[i]
            weave(memory, places, flat, r * WIDTH, WIDTH)


@njit()
def _seen(step: Any, second: Any, memory: Int, o: int, starts: Int, skip: Int) -> None:
    """Read what is added to a tile: codes less their zero-point, or accumulators."""
    zero, flat = np.int32(step.minus), skip.reshape(-1)
    for r in range(step.rows):
        plane = second.at + (o + r) * second.channel
        if step.plus == CODES:
            plane = second.at + (o + r) // 4 * second.channel + second.margin
        for i in range(RUNS):
            copy(flat, r * WIDTH + i * RUN, memory, plane + starts[i], RUN)
        if step.plus == CODES:
            place = np.int32(8 * ((o + r) % 4))
            for j in range(WIDTH):
                skip[r, j] = ((skip[r, j] >> place) & 255) - zero


@njit()
def _pool(
    step: Any, source: Any, target: Any, plan: Plan, memory: Int, tile: Int, images: int
) -> None:
    """Sum every plane, and requantize the sums of a block of images at once."""
    count = source.rows * source.cols
    starts = plan.numbers[target.starts : target.starts + RUNS]
    places = np.empty(RUNS, np.int64)
    for plane in range(step.quads):
        for n in range(images):
            at = source.at + plane * source.channel + source.margin + n * source.image
            a = b = c = d = -step.minus * count
            for h in range(source.rows):
                row = memory[at + h * source.row : at + h * source.row + source.cols]
                for j in range(source.cols):
                    a += row[j] & 255
                    b += (row[j] >> 8) & 255
                    c += (row[j] >> 16) & 255
                    d += (row[j] >> 24) & 255
            tile[0, n], tile[1, n], tile[2, n], tile[3, n] = a, b, c, d
        _scale(tile, tile, plan, step.first + 4 * plane, step)
        _write(step, target, memory, tile, 4 * plane, starts, places)
    if not step.wide:
        _surround(target, memory, images)


@njit()
def _store(
    step: Any, source: Any, memory: Int, y: Int, sums: Int, first: int, count: int
) -> None:
    rows, cols, sign = source.rows, source.cols, np.int32(step.sign)
    size = rows * cols
    flat = np.empty(size, np.int32)
    for n in range(count):
        codes, numbers = y[first + n], sums[first + n]
        for c in range(0, source.channels, 1 if step.wide else 4):
            plane = c if step.wide else c // 4
            at = source.at + plane * source.channel + source.margin + n * source.image
            start = step.outside + c * size
            if step.wide:
                for h in range(rows):
                    copy(numbers, start + h * cols, memory, at + h * source.row, cols)
                continue
            for h in range(rows):
                copy(flat, h * cols, memory, at + h * source.row, cols)
            for i in range(min(4, source.channels - c)):
                place = np.int32(8 * i)
                into = codes[start + i * size : start + (i + 1) * size]
                for j in range(size):
                    into[j] = ((flat[j] >> place) & 255) ^ sign
