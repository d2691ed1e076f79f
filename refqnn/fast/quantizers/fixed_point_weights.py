"""Twin of ``refqnn.quantizers.fixed_point``: same bits.

``gaussian_clip`` is the definition: its mean decides the bits of everything after it.
A replay, and a clip that is neither one number nor one a filter, run the definition.
"""

import numpy as np
from numba import prange

from refqnn._types import Bool, Float
from refqnn.fast.compiler import njit
from refqnn.fast.quantizers.affine_grid import mask_gradient
from refqnn.ops.checks import check_gradient
from refqnn.ops.straight_through import StraightThroughCache
from refqnn.quantizers import fixed_point as definition
from refqnn.quantizers.checks import check_values, flush


def fixed_point(
    w: Float,
    a: Float,
    *,
    bits: int,
    clip_grad: bool = False,
    frozen: StraightThroughCache | None = None,
) -> tuple[Float, StraightThroughCache]:
    """See ``refqnn.quantizers.fixed_point``."""
    one_a_filter = w.ndim > 0 and np.shape(a) == (w.shape[0],) + (1,) * (w.ndim - 1)
    if frozen is not None or not (one_a_filter or np.size(a) == 1):
        return definition(w, a, bits=bits, clip_grad=clip_grad, frozen=frozen)
    (a,) = check_values(w, name="w", bits=bits, least=2, not_negative={"clip a": a})
    s = flush(a / (2 ** (bits - 1) - 1))
    rows = np.ascontiguousarray(w).reshape(a.size, -1 if w.size else 0)
    y, residual = np.empty_like(rows), np.empty_like(rows)
    inside = np.empty(rows.shape, np.bool_)
    _fixed_point(rows, a.reshape(-1), s.reshape(-1), clip_grad, y, inside, residual)
    cache = StraightThroughCache(inside.reshape(w.shape), residual.reshape(w.shape))
    return y.reshape(w.shape), cache


@njit(parallel=True)
def _fixed_point(
    w: Float,
    a: Float,
    s: Float,
    clip_grad: bool,
    y: Float,
    inside: Bool,
    residual: Float,
) -> None:
    zero = w.dtype.type(0)
    for o in prange(w.shape[0]):
        v, out, mask, rest = w[o], y[o], inside[o], residual[o]
        high, low = a[o], -a[o]
        scale = s[o] if s[o] > 0 else w.dtype.type(1)
        for i in range(v.size):
            clipped = max(v[i], low)
            clipped = min(clipped, high)
            q = np.rint(clipped / scale) + zero
            out[i] = s[o] * q if s[o] > 0 else zero
            mask[i] = abs(v[i]) <= high if clip_grad else True
            rest[i] = out[i] - (v[i] if mask[i] else zero)


def fixed_point_backward(dy: Float, cache: StraightThroughCache) -> Float:
    """See ``refqnn.quantizers.fixed_point_backward``."""
    check_gradient(dy, cache.inside.shape)
    return mask_gradient(dy, cache.inside)
