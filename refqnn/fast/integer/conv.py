"""Numba twin of ``refqnn.integer.conv``: exact integer sums carried by floating point.

float32 holds every integer up to 2^24 and float64 up to 2^53. While the sum of
``|w - w_zero_point| max|x - x_zero_point|`` stays below that, every product and every
partial sum is such an integer, so the sum is exact in any order. Input channels are
cut into runs that keep the bound; the runs are added as integers.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from refqnn._types import Int
from refqnn.fast.ops.conv import correlate
from refqnn.fast.planes import forward_axis
from refqnn.geometry import Padding, Pair, Window, output_size, pad_planes, window
from refqnn.integer.conv import (
    Accumulator,
    PaddingValue,
    as_conv2d_operands,
    check_accumulator,
    check_padding_value,
)
from refqnn.integer.conv import correlate as correlate_definition


def conv2d(
    x: Int,
    w: Int,
    b: Int | None = None,
    *,
    x_zero_point: npt.ArrayLike = 0,
    w_zero_point: npt.ArrayLike = 0,
    stride: int | Pair = 1,
    padding: Padding = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
    padding_value: PaddingValue = "zero_point",
    accumulator: Accumulator = "int32",
) -> Int:
    """See ``refqnn.integer.conv2d``."""
    x, w, b, xz, wz = as_conv2d_operands(
        x, w, b, x_zero_point, w_zero_point, groups=groups
    )
    check_padding_value(padding_value)
    at = window(w.shape[2:], stride=stride, padding=padding, dilation=dilation)
    ho, wo = output_size(x.shape[2:], at)
    centred = w.astype(np.int64) - wz[:, None, None, None]
    check_accumulator(x.dtype, xz, centred, b, accumulator)
    if padding_value == "raw_zero":
        x, at = pad_planes(x, at), at._replace(padding=((0, 0), (0, 0)))
    y = np.empty((x.shape[0], w.shape[0], ho, wo), accumulator)
    bias = np.zeros(len(w), y.dtype) if b is None else b.astype(y.dtype)
    sum_exactly(x, xz, centred, bias, y, at, groups)
    return y


def sum_exactly(
    x: Int, x_zero_point: int, w: Int, bias: Int, y: Int, at: Window, groups: int
) -> None:
    """Write ``bias + sum of w (x - x_zero_point)`` into ``y``, run by run.

    x: (N, C, H, W), w: (O, C // G, Kh, Kw), bias: (O,)  ->  y: (N, O, Ho, Wo), written
    """
    info = np.iinfo(x.dtype)
    largest = max(info.max - x_zero_point, x_zero_point - info.min)
    number = carrier(w, largest)
    if number is None:
        padded = pad_planes(x.astype(np.int64), at, x_zero_point) - x_zero_point
        y[...] = correlate_definition(padded, w, at, groups, np.dtype(np.int64))
        y += bias[:, None, None]
        return
    rows = forward_axis(x.shape[2], y.shape[2], 0, at)
    cols = forward_axis(x.shape[3], y.shape[3], 1, at)
    for channels in exact_runs(w, largest, EXACT[number]):
        correlate(
            x,
            w.astype(number),
            bias,
            y,
            rows,
            cols,
            groups=groups,
            channels=channels,
            zero_point=x_zero_point,
        )


#: below this, the sums of integers are integers in floating point
EXACT: dict[np.dtype[Any], int] = {
    np.dtype(np.float32): 2**24,
    np.dtype(np.float64): 2**53,
}


def carrier(w: Int, largest: int) -> np.dtype[Any] | None:
    """Return the float that holds the sums of any one input channel exactly.

    w: (O, C, Kh, Kw), largest: |x - x_zero_point| at most  ->  None where none does

    >>> w = np.full((1, 2, 3, 3), 127)
    >>> carrier(w, 255), carrier(w, 65_535), carrier(w, 2**50)
    (dtype('float32'), dtype('float64'), None)
    """
    most = int(np.abs(w).sum(axis=(2, 3)).max(initial=0)) * largest
    return next((number for number, limit in EXACT.items() if most < limit), None)


def exact_runs(w: Int, largest: int, limit: int) -> Iterator[Pair]:
    """Cut the input channels into runs whose sums stay below ``limit``.

    w: (O, C, Kh, Kw), one channel alone below the limit  ->  (c0, c1) of every run

    >>> list(exact_runs(np.full((1, 5, 1, 1), 3), largest=2, limit=13))
    [(0, 2), (2, 4), (4, 5)]
    """
    sums = np.abs(w).sum(axis=(2, 3)).astype(object) * largest  # (O, C), any size
    first, channels = 0, max(w.shape[1], 1)
    while first < channels:
        total = np.cumsum(sums[:, first:], axis=1).max(axis=0, initial=0)
        last = first + max(1, int((total < limit).sum()))
        yield first, last
        first = last
