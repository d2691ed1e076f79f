"""One step of a long short-term memory.

    (i, f, g, o) = x w_x^T + h w_h^T + b, cut into four                            (1)
    c' = sigmoid(f) c + sigmoid(i) tanh(g)                                         (2)
    h' = sigmoid(o) tanh(c')                                                       (3)

Hochreiter, Schmidhuber. Long Short-Term Memory. Neural Computation 9(8), 1997; with the
forget gate of Gers, Schmidhuber, Cummins, 2000.
Derivation of the backward pass: DERIVATIONS.md, "lstm_cell".
"""

from typing import NamedTuple

import numpy as np

from refqnn._types import Float
from refqnn.ops.activation import (
    SigmoidCache,
    TanhCache,
    sigmoid,
    sigmoid_backward,
    tanh,
    tanh_backward,
)
from refqnn.ops.checks import FLOATS, check_float, check_gradient
from refqnn.ops.fully_connected import LinearCache, linear, linear_backward
from refqnn.prompt import one_line


@one_line
class LSTMCache(NamedTuple):
    """The old cell state and the caches of the parts, in forward order."""

    c: Float
    from_x: LinearCache
    from_h: LinearCache
    gates: tuple[SigmoidCache, SigmoidCache, TanhCache, SigmoidCache]  # i f g o
    squashed: TanhCache  # tanh(c')


class LSTMGrads(NamedTuple):
    """Gradients in the order of the arguments."""

    dx: Float
    dh: Float
    dc: Float
    dw_x: Float
    dw_h: Float
    db: Float


def lstm_cell(
    x: Float, h: Float, c: Float, w_x: Float, w_h: Float, b: Float
) -> tuple[tuple[Float, Float], LSTMCache]:
    """c' = sigmoid(f) c + sigmoid(i) tanh(g),  h' = sigmoid(o) tanh(c')

    x: (N, I), h: (N, D), c: (N, D), w_x: (4D, I), w_h: (4D, D), b: (4D,)
    ->  (h': (N, D), c': (N, D))

    Gate order i f g o. Raises ValueError where the shapes do not fit.

    >>> zero, (x, h, c) = np.zeros, np.ones((3, 1, 1))
    >>> (h_new, c_new), _ = lstm_cell(x, h, c, zero((4, 1)), zero((4, 1)), zero(4))
    >>> c_new  # every sigmoid is a half, tanh(g) is 0
    array([[0.5]])
    """
    check_lstm(x, h, c, w_x, w_h)
    from_x, cache_x = linear(x, w_x, b)
    from_h, cache_h = linear(h, w_h)
    in_, forget, new, out = np.split(from_x + from_h, 4, axis=1)  # (1)
    i, cache_i = sigmoid(in_)
    f, cache_f = sigmoid(forget)
    g, cache_g = tanh(new)
    o, cache_o = sigmoid(out)
    c_new = f * c + i * g  # (2)
    squashed, cache_c = tanh(c_new)
    h_new = o * squashed  # (3)
    gates = (cache_i, cache_f, cache_g, cache_o)
    return (h_new, c_new), LSTMCache(c, cache_x, cache_h, gates, cache_c)


def lstm_cell_backward(dy: tuple[Float, Float], cache: LSTMCache) -> LSTMGrads:
    """Undo (3), (2), (1) with the gradients of h' and c'.

    dy = (dh': (N, D), dc': (N, D))
    ->  dx: (N, I), dh: (N, D), dc: (N, D), dw_x: (4D, I), dw_h: (4D, D), db: (4D,)

    >>> zero, (x, h, c) = np.zeros, np.ones((3, 1, 1))
    >>> _, cache = lstm_cell(x, h, c, zero((4, 1)), zero((4, 1)), zero(4))
    >>> lstm_cell_backward((zero((1, 1)), np.ones((1, 1))), cache).dc  # the forget gate
    array([[0.5]])
    """
    dh_new, dc_new = dy
    c, cache_x, cache_h, (cache_i, cache_f, cache_g, cache_o), cache_c = cache
    check_gradient(dh_new, c.shape, name="dh'")
    check_gradient(dc_new, c.shape, name="dc'")
    i, f, g, o = cache_i.y, cache_f.y, cache_g.y, cache_o.y
    dc_total = dc_new + tanh_backward(dh_new * o, cache_c)
    da = np.concatenate(
        [
            sigmoid_backward(dc_total * g, cache_i),
            sigmoid_backward(dc_total * c, cache_f),
            tanh_backward(dc_total * i, cache_g),
            sigmoid_backward(dh_new * cache_c.y, cache_o),
        ],
        axis=1,
    )
    dc = dc_total * f
    dx, dw_x, _ = linear_backward(da, cache_x)
    dh, dw_h, _ = linear_backward(da, cache_h)
    db = da.sum(axis=0, dtype=np.float64).astype(da.dtype)
    return LSTMGrads(dx, dh, dc, dw_x, dw_h, db)


def check_lstm(x: Float, h: Float, c: Float, w_x: Float, w_h: Float) -> None:
    """Raise a ValueError that names the arrays and the letter they disagree on."""
    for name, array in (("x", x), ("h", h), ("c", c), ("w_x", w_x), ("w_h", w_h)):
        if getattr(array, "dtype", None) not in FLOATS:
            check_float(**{name: array})
    if h.ndim != 2 or h.shape != c.shape:
        raise ValueError(f"h and c must be (N, D), the same: h{h.shape}, c{c.shape}")
    n, d = h.shape
    if x.ndim != 2 or x.shape[0] != n:
        raise ValueError(f"x (N, I) and h (N, D) disagree on N: x{x.shape}, h{h.shape}")
    if w_x.shape[:1] != (4 * d,) or w_h.shape != (4 * d, d):
        raise ValueError(
            f"w_x (4D, I), w_h (4D, D) and h (N, D) disagree on D: "
            f"w_x{w_x.shape}, w_h{w_h.shape}, h{h.shape}"
        )
