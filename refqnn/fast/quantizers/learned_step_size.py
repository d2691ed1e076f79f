"""Twin of ``refqnn.quantizers.lsq``: forward and dv the same bits.

Error bound of ds: the products are those of the definition; n of them are added in
float64, block by block, where the definition adds pairwise, so the two sums differ by
at most ``2 n eps64 sum |dv_hat * residual|`` before they are rounded to the dtype.
A replay and more than one step run the definition.
"""

import numpy as np
from numba import prange

from refqnn._types import Float
from refqnn.fast.compiler import njit
from refqnn.ops.checks import check_gradient
from refqnn.quantizers import lsq as definition
from refqnn.quantizers import lsq_backward as definition_backward
from refqnn.quantizers.learned_step_size import LSQCache, check_step

BLOCK = 1 << 14


def lsq(
    v: Float,
    s: Float,
    *,
    q_n: int,
    q_p: int,
    grad_scale: float = 1.0,
    frozen: LSQCache | None = None,
) -> tuple[Float, LSQCache]:
    """See ``refqnn.quantizers.lsq``."""
    if frozen is not None or np.size(s) != 1:
        return definition(v, s, q_n=q_n, q_p=q_p, grad_scale=grad_scale, frozen=frozen)
    (s,) = check_step(v, s, q_n, q_p, name="v")
    flat = np.ascontiguousarray(v).reshape(-1)
    v_hat, u, q = np.empty((3, v.size), v.dtype)
    with np.errstate(over="ignore"):
        _lsq(flat, np.array([s.item(), -q_n, q_p], v.dtype), v_hat, u, q)
    cache = LSQCache(u.reshape(v.shape), q.reshape(v.shape), s, q_n, q_p, grad_scale)
    return v_hat.reshape(v.shape), cache


@njit(parallel=True)
def _lsq(v: Float, at: Float, v_hat: Float, u: Float, q: Float) -> None:
    s, low, high = at[0], at[1], at[2]
    zero = v.dtype.type(0)
    for block in prange((v.size + BLOCK - 1) // BLOCK):
        start, stop = block * BLOCK, (block + 1) * BLOCK
        x, y, ratio, code = (
            v[start:stop],
            v_hat[start:stop],
            u[start:stop],
            q[start:stop],
        )
        for i in range(x.size):
            t = x[i] / s
            ratio[i] = t
            t = max(t, low)
            t = min(t, high)
            code[i] = np.rint(t) + zero
            y[i] = s * code[i]


def lsq_backward(dv_hat: Float, cache: LSQCache) -> tuple[Float, Float]:
    """See ``refqnn.quantizers.lsq_backward``."""
    check_gradient(dv_hat, cache.u.shape)
    if cache.s.size != 1:
        return definition_backward(dv_hat, cache)
    dv = np.empty(dv_hat.shape, dv_hat.dtype)
    dy, u, q = (np.ascontiguousarray(p).reshape(-1) for p in (dv_hat, *cache[:2]))
    ends = np.array([-cache.q_n, cache.q_p], cache.u.dtype)
    ds = cache.grad_scale * _lsq_backward(dy, u, q, ends, dv.reshape(-1))
    return dv, np.full(cache.s.shape, ds, dv_hat.dtype)


@njit(parallel=True, fastmath={"reassoc"})
def _lsq_backward(g: Float, u: Float, q: Float, ends: Float, dv: Float) -> float:
    low, high = ends[0], ends[1]
    zero = g.dtype.type(0)
    blocks = (g.size + BLOCK - 1) // BLOCK
    sums = np.zeros(blocks)
    for block in prange(blocks):
        start, stop = block * BLOCK, (block + 1) * BLOCK
        dy, ratio, code, out = (
            g[start:stop],
            u[start:stop],
            q[start:stop],
            dv[start:stop],
        )
        total = 0.0
        for i in range(dy.size):
            inside = (low < ratio[i]) & (ratio[i] < high)
            out[i] = dy[i] if inside else zero
            total += np.float64(dy[i] * (code[i] - ratio[i] if inside else code[i]))
        sums[block] = total
    return sums.sum()
