"""Numba twin of ``refqnn.integer.affine``: the same codes, equal bit for bit."""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from numba import prange

from refqnn import integer
from refqnn._types import Float, Int
from refqnn.fast.compiler import njit
from refqnn.fast.integer.rescale import BLOCK, as_rows
from refqnn.fast.integer.rounding import thresholds
from refqnn.integer.affine import as_operands, check_quantize
from refqnn.integer.checks import (
    as_codes,
    check_broadcasts,
    check_float,
    check_scale,
    code_dtype,
    zero_point_of,
)


def quantize(
    x: Float,
    scale: npt.ArrayLike,
    zero_point: npt.ArrayLike,
    *,
    q_min: int,
    q_max: int,
    rounding: str = "half_even",
    scaling: Literal["divide", "reciprocal"] = "divide",
    zero_point_when: Literal["after_rounding", "before_rounding"] = "after_rounding",
    overflow: Literal["saturate", "wrap"] = "saturate",
    nan: Literal["raise", "q_min", "q_max", "zero"] = "raise",
) -> Int:
    """See ``refqnn.integer.quantize``, which computes what wraps around."""
    dtype = code_dtype(q_min, q_max)
    check_quantize(rounding, scaling, zero_point_when, overflow, nan)
    if overflow == "wrap":
        return integer.quantize(
            x,
            scale,
            zero_point,
            q_min=q_min,
            q_max=q_max,
            rounding=rounding,
            scaling=scaling,
            zero_point_when=zero_point_when,
            overflow=overflow,
            nan=nan,
        )
    x, s, z = as_operands(x, scale, zero_point, q_min, q_max, scaling=scaling)
    flat, s, z = as_rows(x, s, z)
    instead = {"q_min": np.full_like(z, q_min), "q_max": np.full_like(z, q_max)}
    q = np.empty(flat.shape, dtype)
    missing = np.zeros((flat.shape[0], -(-flat.shape[1] // BLOCK)), np.int64)
    with np.errstate(all="ignore"):
        _quantize(
            flat,
            s if scaling == "divide" else 1 / s,
            scaling == "divide",
            z,
            zero_point_when == "before_rounding",
            thresholds(rounding, x.dtype),
            instead.get(nan, z),
            q_min,
            q_max,
            q,
            missing,
        )
    if nan == "raise" and missing.any():
        raise ValueError(f'x holds {missing.sum()} NaN and nan="raise"')
    return q.reshape(x.shape)


def dequantize(q: Int, scale: npt.ArrayLike, zero_point: npt.ArrayLike) -> Float:
    """See ``refqnn.integer.dequantize``."""
    q = as_codes("q", q)
    s = np.asarray(scale)
    check_float("scale", s)
    check_scale(s)
    z = zero_point_of("zero_point", zero_point, q)
    check_broadcasts(q, to="q", scale=s, zero_point=z)
    flat, s, z = as_rows(q, s, z)
    x = np.empty(flat.shape, s.dtype)
    with np.errstate(all="ignore"):
        _dequantize(flat, s, z, x)
    return x.reshape(q.shape)


@njit(parallel=True)
def _quantize(
    x: Float,
    s: Float,
    divide: bool,
    z: Int,
    early: bool,
    t: Float,
    instead: Int,
    low: int,
    high: int,
    q: Int,
    missing: Int,
) -> None:
    kind = x.dtype.type
    blocks = missing.shape[1]
    for task in prange(x.shape[0] * blocks):
        row, block = task // blocks, task % blocks
        start, stop = block * BLOCK, min((block + 1) * BLOCK, x.shape[1])
        sooner, later = kind(z[row] if early else 0), np.int64(0 if early else z[row])
        missing[row, block] = _codes(
            x[row, start:stop],
            s[row],
            divide,
            sooner,
            t,
            np.float64(low - later),
            np.float64(high - later),
            int(later),
            instead[row],
            q[row, start:stop],
        )


@njit()
def _codes(
    x: Float,
    s: np.floating[Any],
    divide: bool,
    sooner: np.floating[Any],
    t: Float,
    least: float,
    most: float,
    later: int,
    instead: int,
    q: Int,
) -> int:
    """Quantize one block without a branch; return how many NaN it holds."""
    kind, missing = x.dtype.type, 0
    one, two, half, zero = kind(1), kind(2), kind(0.5), kind(0)
    for j in range(x.size):
        u = (x[j] / s if divide else x[j] * s) + sooner
        down = np.floor(abs(u))
        odd = down - two * np.floor(down * half) == one
        above = t[1, 0] if odd else t[0, 0]
        below = t[1, 1] if odd else t[0, 1]
        carry = abs(u) - down >= (below if u < zero else above)
        size = np.float64(down + one if carry else down)
        code = np.int64(min(max(least, -size if u < zero else size), most)) + later
        absent = x[j] != x[j]
        missing += absent
        q[j] = instead if absent else code
    return missing


@njit(parallel=True)
def _dequantize(q: Int, s: Float, z: Int, x: Float) -> None:
    blocks = -(-q.shape[1] // BLOCK)
    for task in prange(q.shape[0] * blocks):
        row, start = task // blocks, task % blocks * BLOCK
        for j in range(start, min(start + BLOCK, q.shape[1])):
            x[row, j] = s[row] * s.dtype.type(np.int64(q[row, j]) - z[row])
