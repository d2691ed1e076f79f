"""Twin of ``refqnn.quantizers.affine``: one pass over memory each way, same bits.

Blocks of fixed size run in parallel and every output depends on its own input only.
A replay, a range for every channel and other ties than to even run the definition.
"""

from typing import Any

import numpy as np
from numba import prange

from refqnn._types import Bool, Float, Int
from refqnn.fast.compiler import njit
from refqnn.ops.checks import check_float, check_gradient
from refqnn.quantizers import affine as definition
from refqnn.quantizers.affine_grid import AffineCache, affine_grid
from refqnn.quantizers.checks import LARGEST, check_values

BLOCK = 1 << 14


def affine(
    x: Float,
    lo: Float | float,
    hi: Float | float,
    *,
    bits: int,
    narrow_range: bool = False,
    rounding: str = "half_even",
    frozen: AffineCache | None = None,
) -> tuple[Float, AffineCache]:
    """See ``refqnn.quantizers.affine``."""
    one_range = np.size(lo) * np.size(hi) == 1
    fits = max(np.ndim(lo), np.ndim(hi)) <= np.ndim(x)
    if frozen is not None or not (one_range and fits) or rounding != "half_even":
        how: Any = {"narrow_range": narrow_range, "rounding": rounding}
        return definition(x, lo, hi, bits=bits, frozen=frozen, **how)
    check_float(x=x)
    empty = np.zeros((0,) * x.ndim, x.dtype)  # the kernel checks the values
    grid = affine_grid(empty, lo, hi, bits=bits, narrow_range=narrow_range)
    at = (*grid.ends(), grid.scale, grid.zero_point, LARGEST[x.dtype])
    flat = np.ascontiguousarray(x).reshape(-1)
    y, inside = np.empty_like(flat), np.empty(flat.shape, np.bool_)
    numbers = np.hstack([np.ravel(p) for p in at]).astype(x.dtype)
    if not _affine(flat, numbers, y, inside):
        check_values(x, name="x")
    out = y.reshape(x.shape)
    return out, AffineCache(x, out, inside.reshape(x.shape))


@njit(parallel=True)
def _affine(x: Float, at: Float, y: Float, inside: Bool) -> bool:
    low, high, scale, zero_point, bound = at[0], at[1], at[2], at[3], at[4]
    blocks = (x.size + BLOCK - 1) // BLOCK
    bad = np.zeros(blocks, np.int64)
    for block in prange(blocks):
        start, stop = block * BLOCK, (block + 1) * BLOCK
        v, out, mask = x[start:stop], y[start:stop], inside[start:stop]
        beyond = 0
        for i in range(v.size):
            beyond += 0 if abs(v[i]) <= bound else 1
            clipped = max(v[i], low)
            clipped = min(clipped, high)
            q = np.rint(clipped / scale) + zero_point
            out[i] = scale * (q - zero_point)
            mask[i] = clipped == v[i]
        bad[block] = beyond
    return not bad.any()


def affine_backward(dy: Float, cache: AffineCache) -> Float:
    """See ``refqnn.quantizers.affine_backward``."""
    check_gradient(dy, cache.inside.shape)
    return mask_gradient(dy, cache.inside)


def mask_gradient(dy: Float, inside: Bool) -> Float:
    """Return ``dy`` where ``inside``, else 0.

    dy: (...), inside: (...)  ->  (...)
    """
    dx = np.empty(dy.shape, dy.dtype)
    flat = np.ascontiguousarray(dy).reshape(-1)
    _masked(flat, np.ascontiguousarray(inside).reshape(-1), dx.reshape(-1))
    return dx


@njit(parallel=True)
def _masked(dy: Float, inside: Bool, dx: Float) -> None:
    zero = dy.dtype.type(0)
    for block in prange((dy.size + BLOCK - 1) // BLOCK):
        start, stop = block * BLOCK, (block + 1) * BLOCK
        g, mask, out = dy[start:stop], inside[start:stop], dx[start:stop]
        for i in range(g.size):
            out[i] = g[i] if mask[i] else zero


def batch_range(x: Float) -> tuple[Float, Float]:
    """See ``refqnn.quantizers.batch_range``.

    Reads the bits as integers: those of positive numbers are ordered as the numbers,
    infinity and NaN above all; with the sign bit flipped so are those of negative ones.
    """
    check_float(x=x)
    bits = np.ascontiguousarray(x).reshape(-1).view(f"i{x.itemsize}")
    sign = bits.dtype.type(np.iinfo(bits.dtype).min)
    below, above = _extremes(bits, sign).view(x.dtype)
    if not (below <= LARGEST[x.dtype] and above <= LARGEST[x.dtype]):
        check_values(x, name="x")
    return np.asarray(0 - below), np.asarray(above)


@njit(parallel=True)
def _extremes(bits: Int, sign: Int) -> Int:
    """Return the bits of the largest magnitude below and above 0; 0 for neither."""
    blocks = (bits.size + BLOCK - 1) // BLOCK
    ends = np.zeros((2, blocks + 1), bits.dtype)
    for block in prange(blocks):
        part = bits[block * BLOCK : (block + 1) * BLOCK]
        below = above = ends[0, blocks]
        for i in range(part.size):
            flipped = part[i] ^ sign
            below = max(below, flipped)
            above = max(above, part[i])
        ends[0, block] = below
        ends[1, block] = above
    most = np.zeros(2, bits.dtype)
    most[0], most[1] = ends[0].max(), ends[1].max()
    return most
