"""Images into flat planes and out of them, block by block (``refqnn.fast.planes``)."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic, overload

from refqnn._types import Array, Float
from refqnn.fast.compiler import njit
from refqnn.fast.planes import Layout, Outputs
from refqnn.fast.vectors import VECTOR_BYTES, Vectors


def copy(out: Array, to: int, x: Array, at: int, count: int) -> None:
    """Copy neighbours; compiled, by halves of a vector or by 16 bytes.

    The last part overlaps the one before. Fewer numbers, and those whose dtype changes,
    are copied one by one.
    """
    out[to : to + count] = x[at : at + count]


def _part(share: int) -> Callable[..., Any]:
    """Return a copy of so many numbers as one ``share``-th of a vector holds."""

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _, to, _, at = args
        ll = Vectors(context, builder, sig, args)
        x, out = builder.gep(ll.data(2), [at]), builder.gep(ll.data(0), [to])
        ll.copy_part(x, out, share)
        return context.get_dummy_value()

    @intrinsic
    def emit(typingctx, out, to, x, at):
        return types.void(out, to, x, at), build

    return emit


SMALL = VECTOR_BYTES // 16
copy_half, copy_small = _part(2), _part(SMALL)


@overload(copy)
def _compiled(out, to, x, at, count):
    number, lanes = out.dtype, 8 * VECTOR_BYTES // out.dtype.bitwidth
    half, small = lanes // 2, lanes // SMALL

    def convert(out, to, x, at, count):
        # of slices no index can be negative, which lets the loop become vectors
        row, numbers = out[to : to + count], x[at : at + count]
        for i in range(count):
            row[i] = number(numbers[i])

    def parts(out, to, x, at, count):
        last = count - (half if count >= half else small)
        if last < 0:
            for i in range(count):
                out[to + i] = x[at + i]
        elif count >= half:
            for i in range(0, last, half):
                copy_half(out, to + i, x, at + i)
            copy_half(out, to + last, x, at + last)
        else:
            for i in range(0, last, small):
                copy_small(out, to + i, x, at + i)
            copy_small(out, to + last, x, at + last)

    return parts if out.dtype == x.dtype else convert


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
    number, flat = y.dtype.type, y.reshape(-1)
    channels, height, width = y.shape[1:]
    last = min(first + lie.images, y.shape[0])
    for n in range(first, last):
        for o in range(count):
            for p in range(into.rows):
                at = o * lie.span + (n - first) * lie.image + p * lie.row
                row = (n * channels + o0 + o) * height + into.top + p * into.down
                to = row * width + into.left
                if into.right == 1:
                    copy(flat, to, out, at, into.cols)
                else:
                    for q in range(into.cols):
                        flat[to + q * into.right] = number(out[at + q])
