"""Numba twin of ``refqnn.integer.pool``, parallel over planes, equal bit for bit."""

import numpy as np
import numpy.typing as npt
from numba import prange

from refqnn._types import Int
from refqnn.fast.compiler import njit
from refqnn.fast.integer.rounding import carry, carry_terms
from refqnn.geometry import Padding, Pair, Window, output_size
from refqnn.integer.pool import (
    as_planes,
    as_pool_operands,
    check_covered,
    check_sum,
    counts,
    one_zero_point,
)
from refqnn.integer.rounding import check_rounding


def avg_pool2d(
    x: Int,
    *,
    kernel: int | Pair,
    stride: int | Pair | None = None,
    padding: Padding = 0,
    zero_point: npt.ArrayLike = 0,
    rounding: str = "half_away",
    count_include_pad: bool = True,
) -> Int:
    """See ``refqnn.integer.avg_pool2d``."""
    x, at = as_pool_operands(x, kernel, stride, padding)
    check_rounding(rounding)
    z = one_zero_point(zero_point, x)
    if not count_include_pad:
        check_covered(at)
    count = counts(x, at, count_include_pad=count_include_pad)
    y = np.empty((*x.shape[:2], *count.shape), x.dtype)
    terms = carry_terms(rounding, count)
    _average(np.ascontiguousarray(x), z, steps(at), count, terms, y)
    return y


def max_pool2d(
    x: Int,
    *,
    kernel: int | Pair,
    stride: int | Pair | None = None,
    padding: Padding = 0,
) -> Int:
    """See ``refqnn.integer.max_pool2d``."""
    x, at = as_pool_operands(x, kernel, stride, padding)
    check_covered(at)
    size = output_size((x.shape[2], x.shape[3]), at)
    y = np.empty((*x.shape[:2], *size), x.dtype)
    _maximum(np.ascontiguousarray(x), steps(at), np.iinfo(x.dtype).min, y)
    return y


def sum_pool2d(x: Int, *, zero_point: npt.ArrayLike = 0) -> Int:
    """See ``refqnn.integer.sum_pool2d``."""
    x = as_planes(x)
    z = one_zero_point(zero_point, x)
    check_sum(x, z)
    y = np.empty(x.shape[:2], np.int32)
    _sum(np.ascontiguousarray(x), z, y)
    return y


def steps(at: Window) -> Int:
    """Return kernel, stride and low padding of the window, for a compiled kernel."""
    return np.array([at.kernel, at.stride, (at.padding[0][0], at.padding[1][0])])


@njit(parallel=True)
def _average(x: Int, z: int, at: Int, count: Int, terms: Int, y: Int) -> None:
    channels, (h, w), (ho, wo) = x.shape[1], x.shape[2:], y.shape[2:]
    (kh, kw), (sh, sw), (top, left) = at[0], at[1], at[2]
    for plane in prange(x.shape[0] * channels):
        n, c = plane // channels, plane % channels
        for p in range(ho):
            for q in range(wo):
                total = np.int64(0)
                for i in range(max(p * sh - top, 0), min(p * sh - top + kh, h)):
                    for j in range(max(q * sw - left, 0), min(q * sw - left + kw, w)):
                        total += np.int64(x[n, c, i, j]) - z
                d, (a, b, e) = count[p, q], terms[:, p, q]
                y[n, c, p, q] = z + carry(total // d, total % d, d, a, b, e)


@njit(parallel=True)
def _maximum(x: Int, at: Int, lowest: int, y: Int) -> None:
    channels, (h, w), (ho, wo) = x.shape[1], x.shape[2:], y.shape[2:]
    (kh, kw), (sh, sw), (top, left) = at[0], at[1], at[2]
    for plane in prange(x.shape[0] * channels):
        n, c = plane // channels, plane % channels
        for p in range(ho):
            for q in range(wo):
                best = np.int64(lowest)
                for i in range(max(p * sh - top, 0), min(p * sh - top + kh, h)):
                    for j in range(max(q * sw - left, 0), min(q * sw - left + kw, w)):
                        best = max(best, np.int64(x[n, c, i, j]))
                y[n, c, p, q] = best


@njit(parallel=True)
def _sum(x: Int, z: int, y: Int) -> None:
    channels = x.shape[1]
    for plane in prange(x.shape[0] * channels):
        n, c = plane // channels, plane % channels
        total = np.int64(0)
        for i in range(x.shape[2]):
            for j in range(x.shape[3]):
                total += np.int64(x[n, c, i, j]) - z
        y[n, c] = total
