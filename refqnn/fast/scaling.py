"""Requantization of a tile of sums while it is cached: forms of ``integer.rescale``.

SHIFT      half_up, half_down, floor, ceil: (product + a) >> shift
CARRY      every single rounding, by the sum of ``refqnn.fast.integer.rounding``
TWICE      the high half of the doubled product, then a shift to the right
FLOAT32    rint(float32(acc) * float32(real)); FLOAT64 likewise
RAW        accumulators
"""

from typing import Any

import numpy as np

from refqnn._types import Float, Int
from refqnn.fast.compiler import njit
from refqnn.fast.integer.rounding import carry
from refqnn.fast.tiles import OUTER_QUADS
from refqnn.fast.vectors import VECTOR_BYTES

#: positions that are computed together
WIDTH = OUTER_QUADS.vectors * VECTOR_BYTES // 4
#: forms of requantization
RAW, SHIFT, CARRY, TWICE, FLOAT32, FLOAT64 = range(6)


@njit(inline="always")
def scale(
    sums: Int, skip: Int, channels: Int, singles: Float, doubles: Float, o: int,
    step: Any,
) -> None:  # fmt: skip
    """Replace sums by codes, or with RAW by accumulators: see ``integer.requantize``.

    A channel is bias, 2^f, multiplier, shift to the right, the terms of the carry, and
    the multiplier of the skip.
    """
    if step.factors:
        for r in range(step.rows):
            bias, factor = channels[o + r, 0], channels[o + r, 1]
            for j in range(WIDTH):
                sums[r, j] = sums[r, j] * factor + bias
    form = step.form
    if form == FLOAT32:
        _scale_in_float(sums, skip, singles, o, step)
    elif form == FLOAT64:
        _scale_in_float(sums, skip, doubles, o, step)
    elif form == TWICE:
        _scale_twice(sums, channels, o, step)
    elif form != RAW:
        _scale_once(sums, skip, channels, o, step)


@njit()
def _scale_once(sums: Int, skip: Int, channels: Int, o: int, step: Any) -> None:
    z, low, high = step.zero, step.low, step.high
    for r in range(step.rows):
        m, k, skip_m = channels[o + r, 2], channels[o + r, 3], channels[o + r, 7]
        a, b, c = channels[o + r, 4], channels[o + r, 5], channels[o + r, 6]
        d = np.int64(1) << k
        if step.form == CARRY:
            for j in range(WIDTH):
                total = np.int64(sums[r, j]) * m
                if step.plus:
                    total += np.int64(skip[r, j]) * skip_m
                t = carry(total >> k, total & (d - 1), d, a, b, c)
                sums[r, j] = min(max(t + z, low), high)
        elif step.plus:
            for j in range(WIDTH):
                total = np.int64(sums[r, j]) * m + np.int64(skip[r, j]) * skip_m
                sums[r, j] = min(max(((total + a) >> k) + z, low), high)
        else:
            for j in range(WIDTH):
                total = np.int64(sums[r, j]) * m
                sums[r, j] = min(max(((total + a) >> k) + z, low), high)


@njit()
def _scale_twice(sums: Int, channels: Int, o: int, step: Any) -> None:
    z, low, high = step.zero, step.low, step.high
    half = np.int64(1) << np.int64(30)
    for r in range(step.rows):
        m, k = channels[o + r, 2], channels[o + r, 3]
        a, b, c = channels[o + r, 4], channels[o + r, 5], channels[o + r, 6]
        d = np.int64(1) << k
        for j in range(WIDTH):
            top = (np.int64(sums[r, j]) * m + half) >> np.int64(31)
            t = carry(top >> k, top & (d - 1), d, a, b, c)
            sums[r, j] = min(max(t + z, low), high)


@njit(inline="always")
def _scale_in_float(sums: Int, skip: Int, reals: Float, o: int, step: Any) -> None:
    """Clamp before the zero-point is added: every such number is exact in float32."""
    kind, z = reals.dtype.type, np.int32(step.zero)
    least, most = kind(step.low - step.zero), kind(step.high - step.zero)
    for r in range(step.rows):
        real, skip_real = reals[o + r, 0], reals[o + r, 1]
        if step.plus:
            for j in range(WIDTH):
                t = np.rint(kind(sums[r, j]) * real + kind(skip[r, j]) * skip_real)
                sums[r, j] = np.int32(min(max(t, least), most)) + z
        else:
            for j in range(WIDTH):
                t = np.rint(kind(sums[r, j]) * real)
                sums[r, j] = np.int32(min(max(t, least), most)) + z
