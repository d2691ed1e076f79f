"""Twin of ``refqnn.quantizers.binary``: same bits.

The scale is that of the definition. A replay runs the definition, and so does the
backward, a copy.
"""

import numpy as np
from numba import prange

from refqnn._types import Float
from refqnn.fast.compiler import njit
from refqnn.quantizers import binary as definition
from refqnn.quantizers.binary_weights import Group
from refqnn.quantizers.checks import ResidualCache, check_values, mean_abs


def binary(
    w: Float, *, group: Group = "filter", frozen: ResidualCache | None = None
) -> tuple[Float, ResidualCache]:
    """See ``refqnn.quantizers.binary``."""
    if frozen is not None:
        return definition(w, group=group, frozen=frozen)
    check_values(w, name="w")
    m = mean_abs(w, group=group).reshape(-1)
    rows = np.ascontiguousarray(w).reshape(m.size, -1 if w.size else 0)
    y, residual = np.empty_like(rows), np.empty_like(rows)
    _binary(rows, m, y, residual)
    return y.reshape(w.shape), ResidualCache(residual.reshape(w.shape))


@njit(parallel=True)
def _binary(w: Float, m: Float, y: Float, residual: Float) -> None:
    for o in prange(w.shape[0]):
        v, out, rest = w[o], y[o], residual[o]
        low = -m[o] if m[o] > 0 else m[o]
        for i in range(v.size):
            out[i] = m[o] if v[i] >= 0 else low
            rest[i] = out[i] - v[i]
