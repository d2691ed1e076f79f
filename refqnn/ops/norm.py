"""Normalization of each channel, by the batch, by given statistics or by its range.

    mean = sum x / M,   var = sum (x - mean)^2 / M,   M = N H W                    (1)
    y = gamma (x - mean) / sqrt(var + eps) + beta                                  (2)

    R = mean over chunks k of (max_k x - min_k x)                                  (3)
    y = gamma (x - mean) / (K R + eps) + beta                                      (4)

(1), (2): Ioffe, Szegedy. Batch Normalization. ICML 2015, arXiv:1502.03167.
(3), (4): Banner, Hubara, Hoffer, Soudry. Scalable Methods for 8-bit Training of Neural
Networks. NeurIPS 2018, arXiv:1805.11046. For normal x, K R is close to the standard
deviation only with the released constant; K is an option here.

Everything is computed in float64 and rounded once to the dtype of x. Statistics in the
caches are float64. Derivation of the backward passes: DERIVATIONS.md.
"""

import math
from typing import Literal, NamedTuple

import numpy as np

from refqnn._types import Float, Int
from refqnn.ops.checks import FLOATS, check_float, check_gradient, check_real
from refqnn.prompt import one_line


@one_line
class BatchNormCache(NamedTuple):
    """Input, statistics (float64, ``var`` divided by M) and scale."""

    x: Float
    gamma: Float
    mean: Float
    var: Float
    eps: float


class BatchNormGrads(NamedTuple):
    """Gradients in the order of the arguments."""

    dx: Float
    dgamma: Float
    dbeta: Float


class BatchNormInferenceGrads(NamedTuple):
    """Gradients in the order of the arguments."""

    dx: Float
    dgamma: Float
    dbeta: Float
    dmean: Float
    dvar: Float


@one_line
class RangeBatchNormCache(NamedTuple):
    """Input, statistics (float64), and where each chunk has its extremes."""

    x: Float
    gamma: Float
    mean: Float
    scale: Float  # K R + eps
    K: float
    first_max: Int  # (C, chunks), positions along (N, H, W) read in order
    first_min: Int


def batch_norm(
    x: Float, gamma: Float, beta: Float, *, eps: float = 1e-5
) -> tuple[Float, BatchNormCache]:
    """y = gamma (x - mean) / sqrt(var + eps) + beta, statistics of the batch

    x: (N, C, H, W) or (N, C), gamma: (C,), beta: (C,)  ->  y: shape of x

    ``cache.mean`` and ``cache.var`` (biased) are what running statistics move towards.
    An empty batch has mean 0 and variance 0. Raises ValueError where shapes do not fit
    or var + eps is 0.

    >>> y, cache = batch_norm(np.array([[1.0], [5.0]]), np.ones(1), np.zeros(1), eps=0)
    >>> y.ravel(), cache.mean, cache.var
    (array([-1.,  1.]), array([3.]), array([4.]))
    """
    check_norm(x, eps, gamma=gamma, beta=beta)
    mean, var = batch_statistics(x)  # (1)
    if np.any(var + eps <= 0):
        check_variance(var, eps)
    each = (-1, *(1,) * (x.ndim - 2))  # (C, 1, 1) for planes
    x_hat = (x - mean.reshape(each)) / np.sqrt(var + eps).reshape(each)
    y = gamma.reshape(each) * x_hat + beta.reshape(each)  # (2)
    y = y.astype(x.dtype, copy=False)
    return y, BatchNormCache(x, gamma, mean, var, eps)


def batch_norm_backward(dy: Float, cache: BatchNormCache) -> BatchNormGrads:
    """dx = gamma / std (dy - mean dy - x_hat mean(dy x_hat))

    dy: shape of x  ->  dx: shape of x, dgamma: (C,), dbeta: (C,)

    >>> x = np.array([[-1.0], [1.0]])
    >>> _, cache = batch_norm(x, np.ones(1), np.zeros(1), eps=0)
    >>> batch_norm_backward(np.array([[3.0], [3.0]]), cache).dx  # shifts cancel
    array([[0.],
           [0.]])
    """
    x, gamma, mean, var, eps = cache
    check_gradient(dy, x.shape)
    std = np.sqrt(var + eps)
    x_hat = standardize(x, mean, std)
    dgamma, dbeta = channel_sum(dy * x_hat), channel_sum(dy)
    m = max(x.size // x.shape[1], 1)
    centred = dy - lift(dbeta / m, x) - x_hat * lift(dgamma / m, x)
    dx = lift(gamma / std, x) * centred
    return BatchNormGrads(*(g.astype(dy.dtype) for g in (dx, dgamma, dbeta)))


def batch_norm_inference(
    x: Float, gamma: Float, beta: Float, mean: Float, var: Float, *, eps: float = 1e-5
) -> tuple[Float, BatchNormCache]:
    """y = gamma (x - mean) / sqrt(var + eps) + beta, statistics given

    x: (N, C, H, W) or (N, C), gamma, beta, mean, var: (C,)  ->  y: shape of x

    Raises ValueError where shapes do not fit or var + eps is not positive.

    >>> one = np.ones(1)
    >>> x, gamma, beta, mean, var = 7 * one[None], 2 * one, one, 3 * one, 4 * one
    >>> batch_norm_inference(x, gamma, beta, mean, var, eps=0)[0]
    array([[5.]])
    """
    check_norm(x, eps, gamma=gamma, beta=beta, mean=mean, var=var)
    if np.any(var + eps <= 0):
        check_variance(var, eps)
    mean, var = mean.astype(np.float64), var.astype(np.float64)
    each = (-1, *(1,) * (x.ndim - 2))  # (C, 1, 1) for planes
    x_hat = (x - mean.reshape(each)) / np.sqrt(var + eps).reshape(each)
    y = gamma.reshape(each) * x_hat + beta.reshape(each)  # (2)
    y = y.astype(x.dtype, copy=False)
    return y, BatchNormCache(x, gamma, mean, var, eps)


def batch_norm_inference_backward(
    dy: Float, cache: BatchNormCache
) -> BatchNormInferenceGrads:
    """dx = dy gamma / std,  dmean = -sum dx,  dvar = -sum(dx (x - mean)) / (2 std^2)

    dy: shape of x  ->  dx: shape of x, dgamma, dbeta, dmean, dvar: (C,)

    >>> one = np.ones(1)
    >>> x, gamma, beta, mean, var = 7 * one[None], 2 * one, one, 3 * one, 4 * one
    >>> _, cache = batch_norm_inference(x, gamma, beta, mean, var, eps=0)
    >>> [float(g.item()) for g in batch_norm_inference_backward(one[None], cache)]
    [1.0, 2.0, 1.0, -1.0, -0.5]
    """
    x, gamma, mean, var, eps = cache
    check_gradient(dy, x.shape)
    std = np.sqrt(var + eps)
    dgamma, dbeta = channel_sum(dy * standardize(x, mean, std)), channel_sum(dy)
    dx = lift(gamma / std, x) * dy
    dmean = -gamma / std * dbeta
    dvar = -gamma / (2 * std**2) * dgamma
    grads = (dx, dgamma, dbeta, dmean, dvar)
    return BatchNormInferenceGrads(*(g.astype(dy.dtype) for g in grads))


def range_batch_norm(
    x: Float,
    gamma: Float,
    beta: Float,
    *,
    chunks: int = 1,
    constant: Literal["paper", "released"] | float = "paper",
    eps: float = 1e-5,
) -> tuple[Float, RangeBatchNormCache]:
    """y = gamma (x - mean) / (K R + eps) + beta, R the mean range of the chunks

    x: (N, C, H, W) or (N, C), gamma: (C,), beta: (C,)  ->  y: shape of x

    The N H W values of a channel, in that order, are cut into ``chunks`` of n values.
    ``constant`` is K: "paper" 1 / sqrt(2 ln n), "released" 0.5402 / sqrt(2 ln n), or a
    number. Raises ValueError if the chunks do not come out even, or n < 2, or
    K R + eps is 0.

    >>> x = np.array([[1.0], [5.0]])
    >>> range_batch_norm(x, np.ones(1), np.zeros(1), constant=0.25, eps=0)[0].ravel()
    array([-2.,  2.])
    """
    check_norm(x, eps, gamma=gamma, beta=beta)
    rows = channel_chunks(x, chunks)
    n = rows.shape[2]
    K = range_constant(constant, n)
    starts = np.arange(chunks) * n
    first_max, first_min = starts + rows.argmax(axis=2), starts + rows.argmin(axis=2)
    R = (rows.max(axis=2) - rows.min(axis=2)).mean(axis=1)  # (3)
    mean, scale = rows.mean(axis=(1, 2)), K * R + eps
    if not np.all(scale != 0):
        raise ValueError(f"K R + eps is 0 in channel {np.argmin(scale)}: give eps > 0")
    y = lift(gamma, x) * standardize(x, mean, scale) + lift(beta, x)  # (4)
    y = y.astype(x.dtype, copy=False)
    return y, RangeBatchNormCache(x, gamma, mean, scale, K, first_max, first_min)


def range_batch_norm_backward(dy: Float, cache: RangeBatchNormCache) -> BatchNormGrads:
    """dx = gamma / s (dy - mean dy - K sum(dy x_hat) dR/dx),  s = K R + eps

    dy: shape of x  ->  dx: shape of x, dgamma: (C,), dbeta: (C,)

    dR/dx is 1 / chunks at each chunk's first maximum, -1 / chunks at its first minimum.

    >>> _, cache = range_batch_norm(np.array([[-1.0], [1.0]]), np.ones(1), np.zeros(1))
    >>> range_batch_norm_backward(np.array([[3.0], [3.0]]), cache).dx
    array([[0.],
           [0.]])
    """
    x, gamma, mean, s, K, first_max, first_min = cache
    check_gradient(dy, x.shape)
    dgamma, dbeta = channel_sum(dy * standardize(x, mean, s)), channel_sum(dy)
    centred = dy - lift(dbeta / (x.size // x.shape[1]), x)
    rows = np.moveaxis(centred, 1, 0).reshape(x.shape[1], -1)  # a copy, (C, M)
    toll = (K * dgamma / first_max.shape[1])[:, None]
    channel = np.arange(x.shape[1])[:, None]
    rows[channel, first_max] -= toll
    rows[channel, first_min] += toll
    over = np.moveaxis(rows.reshape(x.shape[1], x.shape[0], *x.shape[2:]), 0, 1)
    dx = np.ascontiguousarray(lift(gamma / s, x) * over)
    return BatchNormGrads(*(g.astype(dy.dtype) for g in (dx, dgamma, dbeta)))


def range_constant(constant: str | float, n: int) -> float:
    """Return K of equation (4) for chunks of n values.

    >>> range_constant(0.25, 100)
    0.25
    """
    by_name = {
        "paper": 1.0,
        "released": 0.5 * 0.35 * (1 + math.sqrt(math.pi * math.log(4))),
    }
    if isinstance(constant, str):
        if constant not in by_name:
            raise ValueError(
                f"constant must be one of {[*by_name]} or a number, got {constant!r}"
            )
        return by_name[constant] / math.sqrt(2 * math.log(n))
    check_real(constant, name="constant", low=0)
    return float(constant)


def channel_chunks(x: Float, chunks: int) -> Float:
    """Cut the values of every channel into chunks, in float64.

    x: (N, C, H, W)  ->  (C, chunks, n)
    """
    m = x.size // x.shape[1]
    if isinstance(chunks, bool) or not isinstance(chunks, int) or chunks < 1:
        raise ValueError(f"chunks must be an int of at least 1, got {chunks!r}")
    if m % chunks or m // chunks < 2:
        raise ValueError(
            f"chunks = {chunks} must cut the N H W = {m} values of a channel into "
            "equal parts of at least 2"
        )
    rows = np.moveaxis(x, 1, 0).reshape(x.shape[1], chunks, m // chunks)
    return rows.astype(np.float64)


def batch_statistics(x: Float) -> tuple[Float, Float]:
    """Return mean and biased variance of each channel in float64, equation (1).

    x: (N, C, H, W) or (N, C)  ->  mean: (C,), var: (C,)
    """
    m, axes = max(x.size // x.shape[1], 1), (0, *range(2, x.ndim))
    mean = x.sum(axes, dtype=np.float64) / m
    centred = x - mean.reshape(-1, *(1,) * (x.ndim - 2))
    return mean, (centred**2).sum(axes, dtype=np.float64) / m


def standardize(x: Float, mean: Float, std: Float) -> Float:
    """x_hat = (x - mean) / std in float64"""
    return (x - lift(mean, x)) / lift(std, x)


def channel_sum(x: Float) -> Float:
    """Sum over all axes but that of the channels, in float64.

    x: (N, C, ...)  ->  (C,)
    """
    return x.sum(axis=(0, *range(2, x.ndim)), dtype=np.float64)


def lift(v: Float, x: Float) -> Float:
    """View a value per channel so that it broadcasts against x.

    v: (C,)  ->  (C, 1, 1) for x: (N, C, H, W)
    """
    return v.reshape(-1, *(1,) * (x.ndim - 2))


def check_norm(x: Float, eps: float, **vectors: Float) -> None:
    """Raise a ValueError that names the arrays and the letter they disagree on."""
    for name, array in {"x": x, **vectors}.items():
        if getattr(array, "dtype", None) not in FLOATS:
            check_float(**{name: array})
    if x.ndim < 2 or x.shape[1] == 0:
        raise ValueError(f"x must be (N, C, H, W) or (N, C) with C >= 1: x{x.shape}")
    for name, vector in vectors.items():
        if vector.shape != (x.shape[1],):
            raise ValueError(
                f"{name} (C,) and x disagree on C: "
                f"{name}{vector.shape}, C = {x.shape[1]}"
            )
    if not eps >= 0:
        check_real(eps, name="eps", low=0)


def check_variance(var: Float, eps: float) -> None:
    """Raise unless every channel can be divided by its standard deviation."""
    if np.any(var + eps <= 0):
        c = int(np.argmax(var + eps <= 0))
        raise ValueError(
            f"var + eps must be positive, is {var[c] + eps} in channel {c}"
        )
