r"""A convolution whose batch norm is folded first and whose weights are quantized then.

QuantNAS (Gao et al., CVPR 2024 NAS workshop): the supplement says that layers are
folded and that folded weights differ from subnet to subnet. How they are trained is our
design; with Z = conv(X, W), its mean mu and biased variance v per channel:

    symbol                                   code             where
    sigma = sqrt(v + eps)               (1)  sigma            folded_conv2d
    W_f = gamma / sigma W               (2)  w_f              fold
    b_f = beta - gamma mu / sigma       (3)  b_f              fold
    Y = conv(X, Q(W_f)) + b_f           (4)  y                folded_conv2d
    G = dL/dY, s_b = sum G per channel       dy, s_b          folded_conv2d_backward
    D = dL/dW_f, behind the mask of LSQ      d                folded_conv2d_backward

Backward, <D, W> a sum over each filter and M = N Ho Wo values in a channel:

    dbeta = s_b,  dgamma = <D, W> / sigma - s_b mu / sigma                          (5)
    dmu = -s_b gamma / sigma                                                        (6)
    dsigma = gamma (s_b mu - <D, W>) / sigma^2,  dv = dsigma / (2 sigma)            (7)
    dZ = dmu / M + 2 dv (Z - mu) / M                                                (8)
    dW = gamma / sigma D + conv_weight_grad(X, dZ)                                  (9)
    dX = conv_input_grad(G, Q(W_f)) + conv_input_grad(dZ, W)                       (10)

(8) has no term of v through mu: sum(Z - mu) = 0. With given statistics mu and v are
constants, and the terms of dZ drop out. X is what the layer reads: activation
quantizers are layers of their own, so both convolutions see the same codes.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import refqnn
from refqnn._types import Float
from refqnn.geometry import Padding, Pair
from refqnn.ops.checks import check_float, check_real
from refqnn.ops.norm import check_variance, lift
from refqnn.prompt import one_line
from refqnn.quantizers.learned_step_size import LSQCache

EPS = 1e-5


class Statistics(NamedTuple):
    """What a batch norm normalises by: mean and biased variance of each channel."""

    mean: Float  # (O,) float64
    var: Float


@one_line
class FoldedCache(NamedTuple):
    """What ``folded_conv2d_backward`` needs, and what freezes the rounding."""

    backend: Any
    w: Float
    gamma: Float
    at: Statistics
    sigma: Float
    z: Float | None  # None: the statistics were given
    conv_z: Any
    conv_y: Any
    quant: LSQCache | None
    w_f: Float


class FoldedGrads(NamedTuple):
    """Gradients in the order of the arguments; ``ds`` is None without a step."""

    dx: Float
    dw: Float
    dgamma: Float
    dbeta: Float
    ds: Float | None


def folded_conv2d(
    x: Float,
    w: Float,
    gamma: Float,
    beta: Float,
    s: Float | Callable[[Float], Float] | None = None,
    *,
    q_n: int = 8,
    q_p: int = 7,
    grad_scale: float = 1.0,
    statistics: Statistics | None = None,
    stride: int | Pair = 1,
    padding: Padding = 0,
    eps: float = EPS,
    backend: Any = refqnn,
    frozen: FoldedCache | None = None,
) -> tuple[Float, FoldedCache]:
    """y = conv(x, lsq(gamma / sigma w)) + beta - gamma mu / sigma

    x: (N, C, H, W), w: (O, C, Kh, Kw), gamma, beta: (O,), s: ()  ->  y: (N, O, Ho, Wo)

    mu and sigma are those of conv(x, w) over the batch, or of ``statistics``. Without
    ``s`` the folded weights are not quantized, and y is batch norm of the convolution.
    Raises ValueError where shapes do not fit, var + eps is not positive, or an array or
    a step is not one that LSQ takes.

    ``s`` may be a function of the folded weights; what it reads of them is a constant
    in the backward. ``frozen`` holds the rounding residual of LSQ, and these weights.

    >>> x, w = np.array([[[[1.0]]], [[[5.0]]]]), np.array([[[[2.0]]]])
    >>> one = np.ones(1)  # 2 x is 2 and 10: mean 6, standard deviation 4
    >>> folded_conv2d(x, w, one, 0 * one, eps=0)[0].ravel()
    array([-1.,  1.])
    """
    conv = {"stride": stride, "padding": padding}
    check_channels(w, gamma=gamma, beta=beta)
    check_real(eps, name="eps", low=0)
    z, conv_z = None, None
    if statistics is None:
        z, conv_z = backend.ops.conv2d(x, w, **conv)
        statistics = Statistics(*backend.ops.norm.batch_statistics(z))
    mean, var = statistics
    check_channels(w, mean=mean, var=var)
    check_variance(var, eps)
    sigma = np.sqrt(var + eps)  # (1)
    w_f, b_f = fold(w, gamma, beta, statistics, eps=eps)
    quant = None
    w_q, seen = w_f, w_f if frozen is None else frozen.w_f
    if s is not None:
        w_q, quant = backend.quantizers.lsq(
            w_f,
            s(seen) if callable(s) else s,
            q_n=q_n,
            q_p=q_p,
            grad_scale=grad_scale,
            frozen=None if frozen is None else frozen.quant,
        )
    y, conv_y = backend.ops.conv2d(x, w_q, b_f, **conv)  # (4)
    at = Statistics(mean, var)
    return y, FoldedCache(backend, w, gamma, at, sigma, z, conv_z, conv_y, quant, seen)


def folded_conv2d_backward(dy: Float, cache: FoldedCache) -> FoldedGrads:
    """Return ``dx, dw, dgamma, dbeta, ds``: equations (5) to (10).

    dy: (N, O, Ho, Wo)  ->  shapes of the arguments
    """
    backend, w, gamma, (mean, _), sigma, z, conv_z, conv_y, quant, _ = cache
    dx, d, s_b = backend.ops.conv2d_backward(dy, conv_y)
    s_b, ds = s_b.astype(np.float64), None
    if quant is not None:
        d, ds = backend.quantizers.lsq_backward(d, quant)
    along = (d.astype(np.float64) * w).reshape(len(w), -1).sum(1)  # <D, W>
    dgamma = (along - s_b * mean) / sigma  # (5)
    dw = lift_filters(gamma / sigma) * d
    if z is not None:
        m = z.size // z.shape[1]
        dmean = -s_b * gamma / sigma  # (6)
        dvar = gamma * (s_b * mean - along) / sigma**2 / (2 * sigma)  # (7)
        dz = lift(dmean / m, z) + lift(2 * dvar / m, z) * (z - lift(mean, z))  # (8)
        through = backend.ops.conv2d_backward(dz.astype(dy.dtype), conv_z)
        dw = dw + through.dw  # (9)
        dx = dx + through.dx  # (10)
    dx, dw, dgamma, dbeta = (g.astype(dy.dtype) for g in (dx, dw, dgamma, s_b))
    return FoldedGrads(dx, dw, dgamma, dbeta, ds)


def fold(
    w: Float, gamma: Float, beta: Float, statistics: Statistics, *, eps: float = EPS
) -> tuple[Float, Float]:
    """W_f = gamma / sigma W,  b_f = beta - gamma mu / sigma

    w: (O, C, Kh, Kw), gamma, beta: (O,)  ->  w_f: shape of w, b_f: (O,)

    Computed in float64 and rounded once to the dtype of w.

    >>> at = Statistics(np.array([3.0]), np.array([4.0]))
    >>> w_f, b_f = fold(np.full((1, 1, 1, 1), 6.0), np.ones(1), np.ones(1), at, eps=0)
    >>> w_f.ravel(), b_f
    (array([3.]), array([-0.5]))
    """
    mean, var = statistics
    gain = gamma / np.sqrt(var + eps)
    w_f = lift_filters(gain) * w  # (2)
    b_f = beta - gain * mean  # (3)
    return w_f.astype(w.dtype), b_f.astype(w.dtype)


def check_channels(w: Float, **vectors: Float) -> None:
    """Raise unless every vector is of floats, one for each filter of w.

    >>> check_channels(np.zeros((4, 2, 3, 3)), gamma=np.ones(4))
    """
    check_float(w=w, **vectors)
    for name, vector in vectors.items():
        if vector.shape != w.shape[:1]:
            raise ValueError(
                f"{name} (O,) and w (O, C, Kh, Kw) disagree on O: "
                f"{name}{vector.shape}, w{w.shape}"
            )


def calibrated_statistics(z: Float, *, batch: int, backend: Any = refqnn) -> Statistics:
    """Return the mean of the batches' means, and the mean of their variances.

    z: (N, O, Ho, Wo), cut into batches of ``batch`` images  ->  mean, var: (O,)

    What is left over after the last whole batch is left out; a choice, as are the two
    means (those of once-for-all).

    >>> calibrated_statistics(np.array([0.0, 2.0, 4.0, 8.0]).reshape(4, 1), batch=2)
    Statistics(mean=array([3.5]), var=array([2.5]))
    """
    if not 1 <= batch <= len(z):
        raise ValueError(f"batch must be in [1, N = {len(z)}], got {batch}")
    starts = range(0, len(z) - batch + 1, batch)
    batches = [backend.ops.norm.batch_statistics(z[i : i + batch]) for i in starts]
    means, variances = zip(*batches, strict=True)
    return Statistics(np.mean(means, axis=0), np.mean(variances, axis=0))


def lift_filters(v: Float) -> Float:
    """View a value per filter so that it broadcasts against (O, C, Kh, Kw)."""
    return v.reshape(-1, 1, 1, 1)
