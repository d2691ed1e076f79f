"""Twin of ``refqnn.quantizers.ternary``: same bits.

Threshold and scale are those of the definition. A replay runs the definition, and so
does the backward, a copy.
"""

import numpy as np
from numba import prange

from refqnn._types import Float
from refqnn.fast.compiler import njit
from refqnn.quantizers import ternary as definition
from refqnn.quantizers.checks import ResidualCache, check_values
from refqnn.quantizers.ternary_weights import Variant, ternary_statistics


def ternary(
    w: Float, *, variant: Variant = "resolved", frozen: ResidualCache | None = None
) -> tuple[Float, ResidualCache]:
    """See ``refqnn.quantizers.ternary``."""
    if frozen is not None:
        return definition(w, variant=variant, frozen=frozen)
    check_values(w, name="w")
    threshold, scale = ternary_statistics(w, variant)
    rows = np.ascontiguousarray(w).reshape(scale.size, -1 if w.size else 0)
    y, residual = np.empty_like(rows), np.empty_like(rows)
    edge = threshold.reshape(-1)
    if variant == "twn":  # strictly beyond a number: from its successor on
        edge = np.nextafter(edge, edge.dtype.type(np.inf))
    floor = np.where(threshold.reshape(-1) > 0, edge, edge.dtype.type(np.inf))
    _ternary(rows, floor, scale.reshape(-1), variant != "printed", y, residual)
    return y.reshape(w.shape), ResidualCache(residual.reshape(w.shape))


@njit(parallel=True)
def _ternary(
    w: Float, edge: Float, scale: Float, both_signs: bool, y: Float, residual: Float
) -> None:
    for o in prange(w.shape[0]):
        v, out, rest = w[o], y[o], residual[o]
        zero = scale[o] * w.dtype.type(0)
        for i in range(v.size):
            level = scale[o] if v[i] >= edge[o] else zero
            out[i] = -scale[o] if both_signs and v[i] <= -edge[o] else level
            rest[i] = out[i] - v[i]
