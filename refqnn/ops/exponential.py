"""Softmax along one axis, and its logarithm.

    y_k = e^(x_k - m) / sum_j e^(x_j - m),   m = max_j x_j                         (1)
    log y_k = (x_k - m) - log sum_j e^(x_j - m)                                    (2)

Derivation of the backward pass: DERIVATIONS.md, "softmax".
"""

from typing import NamedTuple

import numpy as np

from refqnn._types import Float
from refqnn.ops.checks import FLOATS, check_float, check_gradient
from refqnn.prompt import one_line


@one_line
class SoftmaxCache(NamedTuple):
    """The output and the axis it sums to one along."""

    y: Float
    axis: int


def softmax(x: Float, *, axis: int = -1) -> tuple[Float, SoftmaxCache]:
    """y_k = e^(x_k) / sum_j e^(x_j), shifted by the maximum.

    x: (..., K, ...)  ->  y: (..., K, ...)

    Sums are carried in float64. Raises ValueError if x has no such axis or K = 0.

    >>> softmax(np.array([[1000.0, 1000.0], [0.0, np.log(3)]]))[0]
    array([[0.5 , 0.5 ],
           [0.25, 0.75]])
    """
    check_axis(x, axis)
    e = np.exp(x - x.max(axis, keepdims=True))
    y = (e / e.sum(axis, np.float64, keepdims=True)).astype(x.dtype)  # (1)
    return y, SoftmaxCache(y, axis)


def softmax_backward(dy: Float, cache: SoftmaxCache) -> Float:
    """dx_k = y_k (dy_k - sum_j dy_j y_j)

    dy: (..., K, ...)  ->  dx: (..., K, ...)

    >>> softmax_backward(np.array([8.0, 0.0]), softmax(np.array([0.0, 0.0]))[1])
    array([ 2., -2.])
    """
    y, axis = cache
    check_gradient(dy, y.shape)
    mean = (dy * y).sum(axis, np.float64, keepdims=True)
    return (y * (dy - mean)).astype(dy.dtype)


def log_softmax(x: Float, *, axis: int = -1) -> Float:
    """log y_k = x_k - m - log sum_j e^(x_j - m): of (1), where e^(x_k) may vanish

    x: (..., K, ...)  ->  (..., K, ...), float64

    A part of losses, which have the backward. Raises ValueError as ``softmax``.

    >>> log_softmax(np.array([-2000.0, 0.0]))
    array([-2000.,     0.])
    """
    check_axis(x, axis)
    z = x.astype(np.float64)
    z -= z.max(axis, keepdims=True)
    return np.asarray(z - np.log(np.exp(z).sum(axis, keepdims=True)))  # (2)


def check_axis(x: Float, axis: int) -> None:
    """Raise unless ``x`` is a float array with entries along ``axis``."""
    if getattr(x, "dtype", None) not in FLOATS:
        check_float(x=x)
    if not -x.ndim <= axis < x.ndim or x.shape[axis] == 0:
        raise ValueError(f"axis = {axis} must be an axis of x with entries: x{x.shape}")
