"""Numba twins of ``refqnn.ops.norm``: statistics plane by plane, then one sweep.

A plane is what one image has of one channel. Each kernel is parallel over planes; what
planes add up to is summed over images in their order, so threads change no bit.

Error bound: all arithmetic is float64 as in the definition, so that y and dx differ
from it by one rounding to the dtype of x and by ``M eps64`` of the largest term.
"""

import numpy as np
from numba import prange

from refqnn._types import Float
from refqnn.fast.compiler import njit
from refqnn.ops.checks import check_gradient
from refqnn.ops.norm import (
    BatchNormCache,
    BatchNormGrads,
    BatchNormInferenceGrads,
    check_norm,
    check_variance,
)


def batch_norm(
    x: Float, gamma: Float, beta: Float, *, eps: float = 1e-5
) -> tuple[Float, BatchNormCache]:
    """See ``refqnn.ops.batch_norm``."""
    check_norm(x, eps, gamma=gamma, beta=beta)
    mean, var = batch_statistics(x)
    check_variance(var, eps)
    y = normalize(x, mean, np.sqrt(var + eps), gamma, beta)
    return y, BatchNormCache(x, gamma, mean, var, eps)


def batch_norm_backward(dy: Float, cache: BatchNormCache) -> BatchNormGrads:
    """See ``refqnn.ops.batch_norm_backward``."""
    x, gamma, mean, var, eps = cache
    check_gradient(dy, x.shape)
    std = np.sqrt(var + eps)
    dgamma, dbeta = parameter_grads(dy, x, mean, std)
    m = max(x.size // x.shape[1], 1)
    dx = np.empty(x.shape, dy.dtype)
    of_x = dgamma / (m * std)
    _centre(planes(dy), planes(x), planes(dx), gamma / std, mean, dbeta / m, of_x)
    return BatchNormGrads(dx, dgamma.astype(dy.dtype), dbeta.astype(dy.dtype))


def batch_norm_inference(
    x: Float, gamma: Float, beta: Float, mean: Float, var: Float, *, eps: float = 1e-5
) -> tuple[Float, BatchNormCache]:
    """See ``refqnn.ops.batch_norm_inference``."""
    check_norm(x, eps, gamma=gamma, beta=beta, mean=mean, var=var)
    check_variance(var, eps)
    mean, var = mean.astype(np.float64), var.astype(np.float64)
    y = normalize(x, mean, np.sqrt(var + eps), gamma, beta)
    return y, BatchNormCache(x, gamma, mean, var, eps)


def batch_norm_inference_backward(
    dy: Float, cache: BatchNormCache
) -> BatchNormInferenceGrads:
    """See ``refqnn.ops.batch_norm_inference_backward``."""
    x, gamma, mean, var, eps = cache
    check_gradient(dy, x.shape)
    std = np.sqrt(var + eps)
    dgamma, dbeta = parameter_grads(dy, x, mean, std)
    zero = np.zeros_like(mean)
    dx = np.empty(x.shape, dy.dtype)
    _centre(planes(dy), planes(x), planes(dx), gamma / std, mean, zero, zero)
    dmean = -gamma / std * dbeta
    dvar = -gamma / (2 * std**2) * dgamma
    vectors = (dgamma, dbeta, dmean, dvar)
    return BatchNormInferenceGrads(dx, *(g.astype(dy.dtype) for g in vectors))


def planes(x: Float) -> Float:
    """View (N, C, ...) as contiguous planes, copying only if need be.

    x: (N, C, H, W)  ->  (N, C, H W)
    """
    n, c = x.shape[:2]
    return np.ascontiguousarray(x).reshape(n, c, x.size // max(n * c, 1))


def batch_statistics(x: Float) -> tuple[Float, Float]:
    """Return mean and biased variance of each channel in float64.

    The spread of a channel is that inside its planes plus that of the planes' means.

    x: (N, C, ...)  ->  mean: (C,), var: (C,)
    """
    flat = planes(x)
    n, c, size = flat.shape
    means, squares = np.empty((n, c)), np.empty((n, c))
    _moments(flat, means, squares)
    mean = means.sum(axis=0) / max(n, 1)
    between = ((means - mean) ** 2).sum(axis=0) * size
    return mean, (squares.sum(axis=0) + between) / max(n * size, 1)


def normalize(x: Float, mean: Float, std: Float, gamma: Float, beta: Float) -> Float:
    """y = gamma (x - mean) / std + beta, rounded once to the dtype of x."""
    y = np.empty(x.shape, x.dtype)
    _scale(planes(x), planes(y), mean, gamma / std, beta.astype(np.float64))
    return y


def parameter_grads(
    dy: Float, x: Float, mean: Float, std: Float
) -> tuple[Float, Float]:
    """dgamma = sum dy x_hat, dbeta = sum dy

    dy: (N, C, ...), x: (N, C, ...)  ->  dgamma: (C,), dbeta: (C,), float64
    """
    by_x, plain = np.empty(x.shape[:2]), np.empty(x.shape[:2])
    _products(planes(dy), planes(x), mean, by_x, plain)
    return by_x.sum(axis=0) / std, plain.sum(axis=0)


@njit(parallel=True, fastmath={"reassoc", "contract"})
def _moments(x: Float, means: Float, squares: Float) -> None:
    n, c, size = x.shape
    for k in prange(n * c):
        image, channel = k // c, k % c
        plane = x[image, channel]
        total = 0.0
        for i in range(size):
            total += np.float64(plane[i])
        mean = total / size
        square = 0.0
        for i in range(size):
            away = np.float64(plane[i]) - mean
            square += away * away
        means[image, channel] = mean
        squares[image, channel] = square


@njit(parallel=True)
def _scale(x: Float, y: Float, mean: Float, slope: Float, beta: Float) -> None:
    n, c, size = x.shape
    for k in prange(n * c):
        image, channel = k // c, k % c
        m, s, b = mean[channel], slope[channel], beta[channel]
        for i in range(size):
            y[image, channel, i] = (np.float64(x[image, channel, i]) - m) * s + b


@njit(parallel=True, fastmath={"reassoc", "contract"})
def _products(dy: Float, x: Float, mean: Float, by_x: Float, plain: Float) -> None:
    n, c, size = x.shape
    for k in prange(n * c):
        image, channel = k // c, k % c
        m, product, total = mean[channel], 0.0, 0.0
        for i in range(size):
            g = np.float64(dy[image, channel, i])
            product += g * (np.float64(x[image, channel, i]) - m)
            total += g
        by_x[image, channel] = product
        plain[image, channel] = total


@njit(parallel=True)
def _centre(
    dy: Float,
    x: Float,
    dx: Float,
    slope: Float,
    mean: Float,
    of_one: Float,
    of_x: Float,
) -> None:
    n, c, size = x.shape
    for k in prange(n * c):
        image, channel = k // c, k % c
        s, m, p, q = slope[channel], mean[channel], of_one[channel], of_x[channel]
        for i in range(size):
            away = np.float64(x[image, channel, i]) - m
            dx[image, channel, i] = s * (
                np.float64(dy[image, channel, i]) - p - q * away
            )
