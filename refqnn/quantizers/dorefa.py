r"""DoReFa-Net: weights through tanh, activations in [0, 1], stochastic gradients.

Zhou, Wu, Ni, Zhou, Wen, Zou. DoReFa-Net: Training Low Bitwidth Convolutional Neural
Networks with Low Bitwidth Gradients. arXiv:1606.06160.

    paper                            code       where
    quantize_k, section 2.2, (Q)     R(n u)/n   dorefa_activation_codes, n = 2^k - 1
    1-bit weights, section 2.3, (B)  y          dorefa_weight, by binary
    f_w^k, section 2.3, (W)          y          dorefa_weight
    chain rule of f_w^k, (D)         dw         dorefa_weight_backward
    f_alpha^k, section 2.4, (A)      y          dorefa_activation
    its straight-through slope, (P)  dx         dorefa_activation_backward
    N(k) = sigma / (2^k - 1), (N)    noise / n  dorefa_gradient, noise in [-1/2, 1/2)
    f_gamma^k, section 2.5, (G)      g_q        dorefa_gradient

Letters are names of this file, not numbers of the paper.

Backward. With t = tanh(w) and M = max|t|, hold the residual of the rounding: y = t / M
+ r. Then dt = dy / M - (sum dy t) / M^2 dM/dt, where dM/dt is sgn(t) on the weights
that attain the maximum, in equal shares; and dw = (1 - t^2) dt (D). One bit: y = w + r,
dw = dy. Activations: y = clip(x, 0, 1) + r, slope 1 on [0, 1] (P).

Left open by the paper: whether the chain
rule goes through max|tanh(w)|. The released code differentiates it
(``max_grad=True``, with equal shares where several weights attain the maximum);
``max_grad=False`` holds it. Weights that are all zero divide 0 by 0; here they give
zeros, which are no level of the grid, and no gradient.

The levels of weights and gradients are the odd multiples of 1/n: none is 0. A weight
of 0 sits on a tie, and half to even gives +1/n for every k >= 2.
"""

from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np

from refqnn._types import Float
from refqnn.ops.checks import check_gradient
from refqnn.ops.straight_through import (
    StraightThroughCache,
    frozen_form,
    masked_backward,
    residual,
)
from refqnn.prompt import one_line
from refqnn.quantizers.binary_weights import Binary, binary, binary_backward
from refqnn.quantizers.checks import ResidualCache, check_noise, check_values, flush
from refqnn.quantizers.module import (
    GradientQuantizer,
    GridQuantizer,
    odd_codes,
    unsigned_codes,
)


@one_line
class DoReFaWeightCache(NamedTuple):
    """What the backward needs, and what freezes the rounding."""

    t: Float  # tanh(w), float64
    M: float  # max|t|, 0 where all weights are
    at_max: Float  # sgn(t) / |A| on the set A where |t| = M, else 0
    residual: Float  # y - t / M
    max_grad: bool

    def ratio(self, w: Float) -> Float:
        """t / M of other weights, with A held; without ``max_grad`` M is held, too"""
        t = np.tanh(w.astype(np.float64))
        M = np.sum(self.at_max * t) if self.max_grad else self.M
        return t / M if self.M else np.zeros_like(t)


def dorefa_weight(
    w: Float,
    *,
    bits: int,
    max_grad: bool = True,
    frozen: DoReFaWeightCache | ResidualCache | None = None,
) -> tuple[Float, DoReFaWeightCache | ResidualCache]:
    """y = 2 quantize_k(tanh(w) / (2 max|tanh(w)|) + 1/2) - 1;  1 bit: mean|w| sgn(w)

    w: (O, ...)  ->  y: (O, ...), dtype of w

    The maximum, and for one bit the mean, run over the whole layer. bits in [1, 16].
    Raises ValueError for NaN or infinity in w.

    ``frozen`` holds the residual and the place of the maximum: see Backward.

    >>> dorefa_weight(np.array([[9.0, -9.0, 0.5, 0.0]]), bits=2)[0] * 3
    array([[ 3., -3.,  1.,  1.]])
    """
    if isinstance(frozen, ResidualCache) or bits == 1:
        recorded = frozen if isinstance(frozen, ResidualCache) else None
        return binary(w, group="layer", frozen=recorded)  # (B)
    check_values(w, name="w", bits=bits)
    if frozen is not None:
        return (frozen.ratio(w) + frozen.residual).astype(w.dtype), frozen
    t, M, scale = tanh_scale(w, bits)
    y = scale * dorefa_weight_codes(w, M, bits)  # (W)
    attained = (np.abs(t) == M) * np.sign(t)
    at_max = attained / max(np.count_nonzero(attained), 1)
    cache = DoReFaWeightCache(t, M, at_max, np.zeros_like(t), max_grad)
    return y, cache._replace(residual=y - cache.ratio(w))


def dorefa_weight_backward(
    dy: Float, cache: DoReFaWeightCache | ResidualCache
) -> Float:
    """dw = (1 - t^2) (dy / M - s sum(dy t) / M^2),  s = sgn(t) / |A| where |t| = M

    dy: (O, ...)  ->  dw: (O, ...)

    Straight through the rounding, exact through tanh and maximum; the second term
    is missing with ``max_grad=False``. One bit: dw = dy.

    >>> _, cache = dorefa_weight(np.ones((1, 1)), bits=2)  # t / M = 1 whatever w is
    >>> dorefa_weight_backward(np.ones((1, 1)), cache)
    array([[0.]])
    """
    if isinstance(cache, ResidualCache):
        return binary_backward(dy, cache)
    t, M, at_max, _, max_grad = cache
    check_gradient(dy, t.shape)
    if not M:
        return np.zeros_like(dy)
    dt = dy / M
    if max_grad:
        dt = dt - at_max * np.sum(dy * t) / M**2
    return ((1 - t**2) * dt).astype(dy.dtype)  # (D)


def tanh_scale(w: Float, bits: int) -> tuple[Float, float, Float]:
    """Return tanh(w), M = max|tanh(w)| in float64, and the scale 1/n, 0 where M is 0.

    w: (...)  ->  t: (...), M, scale: () in the dtype of w
    """
    t = np.tanh(w.astype(np.float64))
    M = np.abs(t).max(initial=0)
    live = flush(np.asarray(M, w.dtype)) > 0
    scale = np.asarray(live / (2**bits - 1), w.dtype)
    return t, float(M) if live else 0.0, scale


def dorefa_weight_codes(w: Float, M: float, bits: int) -> Float:
    """q = 2 R(n u) - n with u = tanh(w) / (2 M) + 1/2: the odd number next to n t / M

    w: (...)  ->  q: (...) in {-n, 2 - n, ..., n}, dtype of w

    n is odd, so R(n u) is floor(n t / (2 M)) + (n + 1) / 2 except on ties. Without the
    sum, weights near 0 keep their sign; of the ties only w = 0 exists, and gives +1.

    >>> dorefa_weight_codes(np.array([-9.0, -1e-20, 0.0, 9.0]), 1.0, 2)
    array([-3., -1.,  1.,  3.])
    """
    n = 2**bits - 1
    half = n * (np.tanh(w.astype(np.float64)) / (M or 1.0)) / 2
    q = 2 * np.floor(half) + 1
    return np.clip(q, -n, n).astype(w.dtype)


def dorefa_activation(
    x: Float, *, bits: int, frozen: StraightThroughCache | None = None
) -> tuple[Float, StraightThroughCache]:
    """y = quantize_k(clip(x, 0, 1)) = round(n clip(x, 0, 1)) / n,  n = 2^k - 1

    x: (...)  ->  y: (...), dtype of x

    2^k levels, ties to even; bits in [1, 16]. Raises ValueError for NaN or infinity.

    ``frozen`` holds residual and clip: see Backward.

    >>> dorefa_activation(np.array([-1.0, 0.4, 0.6, 2.0]), bits=1)[0]
    array([0., 0., 1., 1.])
    """
    check_values(x, name="x", bits=bits)
    if frozen is not None:
        return frozen_form(x, frozen), frozen
    y = unit_scale(x, bits) * dorefa_activation_codes(x, bits)  # (A)
    inside = (x >= 0) & (x <= 1)
    return y, StraightThroughCache(inside, residual(x, y, inside))


def dorefa_activation_backward(dy: Float, cache: StraightThroughCache) -> Float:
    """dx = dy where 0 <= x <= 1, else 0

    dy: (...)  ->  dx: (...)

    >>> x = np.array([-0.1, 0.0, 0.3, 1.0, 1.1])
    >>> dorefa_activation_backward(np.ones(5), dorefa_activation(x, bits=2)[1])
    array([0., 1., 1., 1., 0.])
    """
    return masked_backward(dy, cache)  # (P)


def unit_scale(x: Float, bits: int) -> Float:
    """Return 1 / (2^k - 1) in the dtype of x; n times it is exactly 1."""
    return np.asarray(1 / (2**bits - 1), x.dtype)


def dorefa_activation_codes(x: Float, bits: int) -> Float:
    """q = round(n clip(x, 0, 1)), as floats

    x: (...)  ->  q: (...) in {0, ..., n}
    """
    return np.rint((2**bits - 1) * np.clip(x, 0, 1)) + 0.0  # (Q); + 0.0: one zero


def dorefa_gradient(dy: Float, noise: Float, *, bits: int) -> Float:
    """g_q = 2 m (quantize_k(dy / (2 m) + 1/2 + noise / n) - 1/2),  m = max|dy|

    dy: (N, ...), noise: (N, ...) in [-1/2, 1/2)  ->  g_q: (N, ...), dtype of dy

    The maximum runs over one sample. The mean over uniform noise is dy itself; |g_q|
    never exceeds m; a sample of zeros gives zeros. The sum is clipped to [0, 1] before
    it is rounded, as in the released code. A gradient transform: it acts on what flows
    back, and has no backward. bits in [1, 16]. Raises ValueError for noise of another
    shape or beyond its interval, and for NaN or infinity in dy.

    >>> dorefa_gradient(np.array([[3.0, 0.5]]), np.array([[0.0, 0.4]]), bits=2)
    array([[3., 1.]])
    """
    check_values(dy, name="dy", bits=bits)
    check_noise(noise, dy)
    n = 2**bits - 1
    axes = tuple(range(1, dy.ndim))
    m = flush(np.abs(dy).max(axes, keepdims=True, initial=0))
    share = dy / np.where(m > 0, m, 1)  # 2 u - 1 lies in [-1, 1]
    u = np.clip((share.astype(np.float64) + 1) / 2 + noise / n, 0, 1)  # (N)
    q = 2 * np.rint(n * u) - n
    return m * (q / n).astype(dy.dtype)  # (G)


@final
@dataclass(eq=False)
class DoReFaWeight(GridQuantizer):
    """f_w^k of section 2.3, its maximum recomputed at every pass."""

    bits: int = 4
    max_grad: bool = True

    pair = (dorefa_weight, dorefa_weight_backward)
    codes = staticmethod(odd_codes)
    options = ("bits", "max_grad")

    def codes_and_scale(self, v: Float) -> tuple[Float, Float, int]:
        """Give odd codes and 1 / n (); of one bit the mean (1, 1, ...)."""
        if self.bits == 1:
            return Binary(group="layer").codes_and_scale(v)
        _, M, scale = tanh_scale(v, self.bits)
        return dorefa_weight_codes(v, M, self.bits), scale, 0

    def decision_boundaries(self, v: Float) -> Float:
        """artanh(2 j M / n), |j| < 2^(k-1): (1, n)"""
        check_values(v, name="v")
        if self.bits == 1:
            return Binary(group="layer").decision_boundaries(v)
        M = tanh_scale(v, self.bits)[1]
        even = self.grid()[:-1] + 1
        return np.arctanh(M * even / (2**self.bits - 1)).astype(v.dtype)[None]


@final
@dataclass(eq=False)
class DoReFaActivation(GridQuantizer):
    """f_alpha^k of section 2.4: a layer that quantizes to k/n within [0, 1]."""

    bits: int = 4

    pair = (dorefa_activation, dorefa_activation_backward)
    codes = staticmethod(unsigned_codes)

    def codes_and_scale(self, v: Float) -> tuple[Float, Float, int]:
        """Give the codes and 1 / n ()."""
        return dorefa_activation_codes(v, self.bits), unit_scale(v, self.bits), 0


@final
@dataclass(eq=False)
class DoReFaGradient(GradientQuantizer):
    """f_gamma^k of section 2.5 on what flows back; values pass unchanged.

    A convolution takes it as ``grad_quant``:

    >>> from refqnn.core import Param, Run
    >>> from refqnn.nn import Conv2d
    >>> conv = Conv2d(Param(np.ones((1, 1, 1, 1))), grad_quant=DoReFaGradient(bits=1))
    >>> run = Run(training=True, rng=np.random.default_rng(0))
    >>> y, cache = conv.forward(np.ones((1, 1, 1, 2)), run)
    >>> np.abs(conv.backward(np.array([[[[3.0, 0.1]]]]), cache))  # of +-max|dy|
    array([[[[3., 3.]]]])
    """

    bits: int = 8

    transform = staticmethod(dorefa_gradient)
