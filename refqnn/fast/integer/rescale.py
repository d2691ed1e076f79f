"""Numba twin of ``refqnn.integer.requantize``: the same integers, equal bit for bit.

The accumulators are cut into rows along which no parameter changes, so that a kernel
reads multiplier, shift and zero-point once a row, and rows into blocks, which run in
parallel and vectorise. Accumulators of every dtype are int32 values and read as int32.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import prange

from refqnn._types import Array, Float, Int
from refqnn.fast.compiler import njit
from refqnn.fast.integer.rounding import carry, carry_terms
from refqnn.integer.checks import (
    as_int32_values,
    as_requantize_operands,
    as_skip_operands,
    fits_int32,
)
from refqnn.integer.rescale import FLOATING, FORMS, TWO_STAGE
from refqnn.integer.rescale import requantize as defined
from refqnn.integer.rescale import requantize_add as defined_add
from refqnn.integer.rounding import check_rounding

BLOCK = 4096


def requantize(
    acc: Int,
    multiplier: npt.ArrayLike,
    shift: npt.ArrayLike,
    zero_point: npt.ArrayLike,
    *,
    q_min: int,
    q_max: int,
    rounding: str = "half_up",
) -> Int:
    """See ``refqnn.integer.requantize``; beyond int32 the definition computes."""
    if not fits_int32(np.asarray(acc)) or rounding not in FORMS:
        to: Any = {"q_min": q_min, "q_max": q_max, "rounding": rounding}
        return defined(acc, multiplier, shift, zero_point, **to)
    dtype, acc, *given = as_requantize_operands(
        acc, multiplier, shift, zero_point, q_min, q_max
    )
    flat, m, e, z = as_rows(acc.astype(np.int32, copy=False), *given)
    q = np.empty(flat.shape, dtype)
    if rounding in FLOATING:
        real = np.ldexp(m.astype(np.float64), e - 31).astype(FLOATING[rounding])
        _floating(flat, real, z, q_min, q_max, q)
    elif rounding in TWO_STAGE:
        left, right = np.maximum(e, 0), np.maximum(-e, 0)
        if left.any():
            as_int32_values("acc * 2^shift", flat.astype(np.int64) << left[:, None])
        terms = carry_terms(TWO_STAGE[rounding], np.int64(1) << right)
        _two_stage(flat, m << left, right, terms, z, q_min, q_max, q)
    else:
        terms = carry_terms(rounding, np.int64(1) << (31 - e))
        _exact(flat, m, 31 - e, terms, z, q_min, q_max, q)
    return q.reshape(acc.shape)


def requantize_add(
    acc: Int,
    multiplier: npt.ArrayLike,
    skip: Int,
    skip_multiplier: npt.ArrayLike,
    shift: npt.ArrayLike,
    zero_point: npt.ArrayLike,
    *,
    q_min: int,
    q_max: int,
    rounding: str = "half_up",
) -> Int:
    """See ``refqnn.integer.requantize_add``; of the floating forms, the definition."""
    if rounding in FLOATING:
        to: Any = {"q_min": q_min, "q_max": q_max, "rounding": rounding}
        second = skip, skip_multiplier
        return defined_add(acc, multiplier, *second, shift, zero_point, **to)
    dtype, acc, *given = as_requantize_operands(
        acc, multiplier, shift, zero_point, q_min, q_max
    )
    skip, skip_m = as_skip_operands(acc, skip, skip_multiplier)
    check_rounding(rounding)
    flat, m, e, z, skip_m = as_rows(acc.astype(np.int32, copy=False), *given, skip_m)
    skip = np.ascontiguousarray(skip, np.int32).reshape(flat.shape)
    terms = carry_terms(rounding, np.int64(1) << (31 - e))
    q = np.empty(flat.shape, dtype)
    _add(flat, m, skip, skip_m, 31 - e, terms, z, q_min, q_max, q)
    return q.reshape(acc.shape)


def as_rows(x: Array, *params: Array) -> tuple[Array, ...]:
    """Cut ``x`` into rows along which no parameter changes.

    x: (...), params: broadcast to x  ->  x: (R, B), params: (R,)

    >>> rows, first = as_rows(np.zeros((2, 3, 4, 4)), np.ones((3, 1, 1)))
    >>> rows.shape, first.shape
    ((6, 16), (6,))
    """
    shapes = [(1,) * (x.ndim - p.ndim) + p.shape for p in params]
    changing = [axis + 1 for s in shapes for axis, size in enumerate(s) if size != 1]
    axes = max(changing, default=0)
    lead = x.shape[:axes]
    rows = np.ascontiguousarray(x).reshape(math.prod(lead), math.prod(x.shape[axes:]))
    # always copies: kernels would compile again for each that may not be written
    each = (
        np.array(np.broadcast_to(p.reshape(s[:axes]), lead), order="C").reshape(-1)
        for p, s in zip(params, shapes, strict=True)
    )
    return rows, *each


@njit(parallel=True)
def _exact(
    acc: Int, m: Int, shift: Int, terms: Int, z: Int, low: int, high: int, q: Int
) -> None:
    blocks = -(-acc.shape[1] // BLOCK)
    for task in prange(acc.shape[0] * blocks):
        row, start = task // blocks, task % blocks * BLOCK
        k, d = shift[row], np.int64(1) << shift[row]
        a, b, c = terms[0, row], terms[1, row], terms[2, row]
        for j in range(start, min(start + BLOCK, acc.shape[1])):
            product = np.int64(acc[row, j]) * m[row]
            t = carry(product >> k, product & (d - 1), d, a, b, c)
            q[row, j] = min(max(t + z[row], low), high)


@njit(parallel=True)
def _add(
    acc: Int,
    m: Int,
    skip: Int,
    skip_m: Int,
    shift: Int,
    terms: Int,
    z: Int,
    low: int,
    high: int,
    q: Int,
) -> None:
    blocks = -(-acc.shape[1] // BLOCK)
    for task in prange(acc.shape[0] * blocks):
        row, start = task // blocks, task % blocks * BLOCK
        k, d = shift[row], np.int64(1) << shift[row]
        a, b, c = terms[0, row], terms[1, row], terms[2, row]
        for j in range(start, min(start + BLOCK, acc.shape[1])):
            total = (
                np.int64(acc[row, j]) * m[row] + np.int64(skip[row, j]) * skip_m[row]
            )
            t = carry(total >> k, total & (d - 1), d, a, b, c)
            q[row, j] = min(max(t + z[row], low), high)


@njit(parallel=True)
def _two_stage(
    acc: Int, m: Int, shift: Int, terms: Int, z: Int, low: int, high: int, q: Int
) -> None:
    blocks = -(-acc.shape[1] // BLOCK)
    half = np.int64(1) << np.int64(30)
    for task in prange(acc.shape[0] * blocks):
        row, start = task // blocks, task % blocks * BLOCK
        k, d = shift[row], np.int64(1) << shift[row]
        a, b, c = terms[0, row], terms[1, row], terms[2, row]
        for j in range(start, min(start + BLOCK, acc.shape[1])):
            top = (np.int64(acc[row, j]) * m[row] + half) >> np.int64(31)
            t = carry(top >> k, top & (d - 1), d, a, b, c)
            q[row, j] = min(max(t + z[row], low), high)


@njit(parallel=True)
def _floating(acc: Int, real: Float, z: Int, low: int, high: int, q: Int) -> None:
    blocks = -(-acc.shape[1] // BLOCK)
    for task in prange(acc.shape[0] * blocks):
        row, start = task // blocks, task % blocks * BLOCK
        for j in range(start, min(start + BLOCK, acc.shape[1])):
            t = np.int64(np.rint(real.dtype.type(acc[row, j]) * real[row]))
            q[row, j] = min(max(t + z[row], low), high)
