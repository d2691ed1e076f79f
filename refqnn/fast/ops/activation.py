"""Numba twins of ``refqnn.ops.activation``: relu and relu6, equal bit for bit."""

from typing import Any

import numpy as np
from numba import prange

from refqnn._types import Bool, Float
from refqnn.fast.compiler import njit
from refqnn.ops.activation import ReLUCache
from refqnn.ops.checks import check_float, check_gradient


def relu(x: Float) -> tuple[Float, ReLUCache]:
    """See ``refqnn.ops.relu``."""
    check_float(x=x)
    return clamp(x, np.inf)


def relu_backward(dy: Float, cache: ReLUCache) -> Float:
    """See ``refqnn.ops.relu_backward``."""
    check_gradient(dy, cache.inside.shape)
    dx = np.empty(dy.shape, dy.dtype)
    inside = np.ascontiguousarray(cache.inside)
    _mask(np.ascontiguousarray(dy).reshape(-1), inside.reshape(-1), dx.reshape(-1))
    return dx


def relu6(x: Float) -> tuple[Float, ReLUCache]:
    """See ``refqnn.ops.relu6``."""
    check_float(x=x)
    return clamp(x, 6.0)


def relu6_backward(dy: Float, cache: ReLUCache) -> Float:
    """See ``refqnn.ops.relu6_backward``."""
    return relu_backward(dy, cache)


def clamp(x: Float, top: float) -> tuple[Float, ReLUCache]:
    """y = min(max(x, 0), top) and where 0 < x < top"""
    y, inside = np.empty(x.shape, x.dtype), np.empty(x.shape, np.bool_)
    flat = np.ascontiguousarray(x).reshape(-1)
    _clamp(flat, x.dtype.type(top), y.reshape(-1), inside.reshape(-1))
    return y, ReLUCache(inside)


@njit(parallel=True)
def _clamp(x: Float, top: np.floating[Any], y: Float, inside: Bool) -> None:
    zero, endless = x.dtype.type(0), top == np.inf
    for i in prange(x.size):
        v = zero if x[i] <= zero else x[i]  # noqa: FURB136 - max would lose NaN
        y[i] = top if v >= top else v  # noqa: FURB136 - min would lose NaN
        inside[i] = (x[i] > zero) & ((x[i] < top) | endless)


@njit(parallel=True)
def _mask(dy: Float, inside: Bool, dx: Float) -> None:
    zero = dy.dtype.type(0)
    for i in prange(dy.size):
        dx[i] = dy[i] if inside[i] else zero
