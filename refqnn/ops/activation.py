"""Elementwise nonlinearities.

    relu     y = max(x, 0)                                                         (1)
    relu6    y = min(max(x, 0), 6)                                                 (2)
    sigmoid  y = 1 / (1 + e^-x)                                                    (3)
    tanh     y = (e^x - e^-x) / (e^x + e^-x)                                       (4)

Derivation of the backward passes: DERIVATIONS.md, under each name.
"""

from typing import NamedTuple

import numpy as np

from refqnn._types import Bool, Float
from refqnn.ops.checks import FLOATS, check_float, check_gradient
from refqnn.prompt import one_line


@one_line
class ReLUCache(NamedTuple):
    """Where the output follows the input."""

    inside: Bool


@one_line
class SigmoidCache(NamedTuple):
    """The output; the derivative is a polynomial in it."""

    y: Float


@one_line
class TanhCache(NamedTuple):
    """The output; the derivative is a polynomial in it."""

    y: Float


def relu(x: Float) -> tuple[Float, ReLUCache]:
    """y = max(x, 0)

    x: (...)  ->  y: (...)

    >>> relu(np.array([-1.0, 0.0, 2.0]))[0]
    array([0., 0., 2.])
    """
    if getattr(x, "dtype", None) not in FLOATS:
        check_float(x=x)
    return np.maximum(x, 0), ReLUCache(x > 0)  # (1)


def relu_backward(dy: Float, cache: ReLUCache) -> Float:
    """dx = dy where x > 0, else 0; the derivative at the kink is 0.

    dy: (...)  ->  dx: (...)

    >>> relu_backward(np.array([5.0, 5.0, 5.0]), relu(np.array([-1.0, 0.0, 2.0]))[1])
    array([0., 0., 5.])
    """
    check_gradient(dy, cache.inside.shape)
    return np.where(cache.inside, dy, 0)


def relu6(x: Float) -> tuple[Float, ReLUCache]:
    """y = min(max(x, 0), 6)

    x: (...)  ->  y: (...)

    >>> relu6(np.array([-1.0, 2.0, 7.0]))[0]
    array([0., 2., 6.])
    """
    if getattr(x, "dtype", None) not in FLOATS:
        check_float(x=x)
    return np.minimum(np.maximum(x, 0), 6), ReLUCache((x > 0) & (x < 6))  # (2)


def relu6_backward(dy: Float, cache: ReLUCache) -> Float:
    """dx = dy where 0 < x < 6, else 0; the derivative at both kinks is 0.

    dy: (...)  ->  dx: (...)

    >>> relu6_backward(np.array([5.0, 5.0]), relu6(np.array([2.0, 6.0]))[1])
    array([5., 0.])
    """
    return relu_backward(dy, cache)


def sigmoid(x: Float) -> tuple[Float, SigmoidCache]:
    """y = 1 / (1 + e^-x), without overflow on either side.

    x: (...)  ->  y: (...)

    >>> sigmoid(np.array([-1000.0, 0.0, 1000.0]))[0]
    array([0. , 0.5, 1. ])
    """
    if getattr(x, "dtype", None) not in FLOATS:
        check_float(x=x)
    e = np.exp(-np.abs(x))  # at most 1
    y = np.where(x < 0, e, 1) / (1 + e)  # (3)
    return y, SigmoidCache(y)


def sigmoid_backward(dy: Float, cache: SigmoidCache) -> Float:
    """dx = dy y (1 - y)

    dy: (...)  ->  dx: (...)

    >>> sigmoid_backward(np.array([4.0]), sigmoid(np.array([0.0]))[1])
    array([1.])
    """
    check_gradient(dy, cache.y.shape)
    return dy * cache.y * (1 - cache.y)


def tanh(x: Float) -> tuple[Float, TanhCache]:
    """y = (e^x - e^-x) / (e^x + e^-x)

    x: (...)  ->  y: (...)

    >>> tanh(np.array([-1000.0, 0.0]))[0]
    array([-1.,  0.])
    """
    if getattr(x, "dtype", None) not in FLOATS:
        check_float(x=x)
    y = np.tanh(x)  # (4)
    return y, TanhCache(y)


def tanh_backward(dy: Float, cache: TanhCache) -> Float:
    """dx = dy (1 - y^2)

    dy: (...)  ->  dx: (...)

    >>> tanh_backward(np.array([3.0]), tanh(np.array([0.0]))[1])
    array([3.])
    """
    check_gradient(dy, cache.y.shape)
    return dy * (1 - cache.y**2)
