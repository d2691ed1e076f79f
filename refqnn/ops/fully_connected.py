"""The fully connected layer.

    y[n, o] = b[o] + sum_i w[o, i] x[n, i]                                         (1)

Derivation of the backward pass: DERIVATIONS.md, "linear".
"""

from typing import NamedTuple

import numpy as np

from refqnn._types import Float
from refqnn.ops.checks import FLOATS, check_float, check_gradient
from refqnn.prompt import one_line


@one_line
class LinearCache(NamedTuple):
    """What ``linear_backward`` needs."""

    x: Float
    w: Float
    has_bias: bool


class LinearGrads(NamedTuple):
    """Gradients in the order of the arguments; ``db`` is None without a bias."""

    dx: Float
    dw: Float
    db: Float | None


def linear(x: Float, w: Float, b: Float | None = None) -> tuple[Float, LinearCache]:
    """y = x w^T + b

    x: (N, I), w: (O, I), b: (O,)  ->  y: (N, O)

    Raises ValueError where the shapes do not fit. The result has the dtype of x.

    >>> x, w = np.array([[1.0, 2.0]]), np.array([[1.0, 1.0], [3.0, 0.0], [0.0, 5.0]])
    >>> linear(x, w, np.array([0.0, 0.0, 0.5]))[0]
    array([[ 3. ,  3. , 10.5]])
    """
    check_linear(x, w, b)
    y = x @ w.T  # (1): (N, I) . (I, O) -> (N, O)
    if b is not None:
        y = y + b
    return y.astype(x.dtype, copy=False), LinearCache(x, w, b is not None)


def linear_backward(dy: Float, cache: LinearCache) -> LinearGrads:
    """dx = dy w,  dw = dy^T x,  db = sum_n dy

    dy: (N, O)  ->  dx: (N, I), dw: (O, I), db: (O,)

    >>> x, w = np.array([[1.0, 2.0]]), np.array([[3.0, 4.0]])
    >>> linear_backward(np.array([[10.0]]), linear(x, w)[1])
    LinearGrads(dx=array([[30., 40.]]), dw=array([[10., 20.]]), db=None)
    """
    x, w, has_bias = cache
    check_gradient(dy, (x.shape[0], w.shape[0]))
    return LinearGrads(
        (dy @ w).astype(dy.dtype, copy=False),  # (N, O) . (O, I) -> (N, I)
        (dy.T @ x).astype(dy.dtype, copy=False),  # (O, N) . (N, I) -> (O, I)
        dy.sum(axis=0, dtype=np.float64).astype(dy.dtype) if has_bias else None,
    )


def check_linear(x: Float, w: Float, b: Float | None) -> None:
    """Raise a ValueError that names the arrays and the letter they disagree on."""
    for name, array in (("x", x), ("w", w), ("b", b)):
        if array is not None and getattr(array, "dtype", None) not in FLOATS:
            check_float(**{name: array})
    if x.ndim != 2 or w.ndim != 2:
        raise ValueError(f"x must be (N, I) and w (O, I): x{x.shape}, w{w.shape}")
    if x.shape[1] != w.shape[1]:
        raise ValueError(f"x (N, I) and w (O, I) disagree on I: x{x.shape}, w{w.shape}")
    if b is not None and b.shape != w.shape[:1]:
        raise ValueError(f"b (O,) and w (O, I) disagree on O: b{b.shape}, w{w.shape}")
