r"""XNOR-Net and its binary-weight network: signs with one scale a filter.

Rastegari, Ordonez, Redmon, Farhadi. XNOR-Net: ImageNet Classification Using Binary
Convolutional Neural Networks. ECCV 2016, arXiv:1603.05279.

    paper                            code       where
    W ~ alpha B, 3.1, (W)            y          xnor_weight
    B = sign(W), 3.1, (B)            b          xnor_weight, by binary.binary_codes
    alpha = |W|_1 / n, 3.1, (S)      alpha      xnor_weight, by checks.mean_abs
    dC/dW, 3.1, (G)                  dw         xnor_weight_backward
    sign(I), 3.2, (I)                y          xnor_activation
    dC/dI, 3.2, (P)                  dx         xnor_activation_backward
    A = sum_c |I_c| / c, 3.2, (A)    A          scale_map
    K = A * k, 3.2, (K)              K          scale_map

3.1 and 3.2 are sections of the paper; letters are names of this file, not numbers of
the paper.

Backward. The gradient of y = alpha sgn(w) exists in three readings; s is the sign with
s(0) = 0, b the sign with b(0) = +1, and pass is 1 where |w| < 1, else 0:

    gradient     dw_i
    exact        s_i / n sum_j dy_j b_j + alpha pass_i dy_i
    paper        (1 / n + alpha pass_i) dy_i
    released     (1 / n + alpha pass_i) dy_i (1 - 1 / C) n

``exact`` is the chain rule through alpha, with the sign taken as the clip to [-1, 1].
``paper`` keeps of its sum the term j = i. ``released`` is the factor of the released
code under SGD (under Adam times 1e9, too): with C = 1 channel, as in a depthwise
filter, it is 0. Each is the exact gradient of its frozen form: alpha(w) (w + residual)
for the first, with the recorded set of signs; linear in w for the other two.

Activations: sgn(x) = clip(x, -1, 1) + r with r held, slope 1 where |x| < 1 (P).

Left open by the paper: the sign of 0 (+1), and whether a gradient reaches K (none).
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple, final

import numpy as np

from refqnn._types import Float
from refqnn.geometry import Padding, Pair
from refqnn.ops.checks import check_gradient
from refqnn.ops.pool import avg_pool2d
from refqnn.ops.straight_through import (
    StraightThroughCache,
    straight_through_sign,
    straight_through_sign_backward,
)
from refqnn.prompt import one_line
from refqnn.quantizers.binary_weights import binary_codes
from refqnn.quantizers.checks import check_values, mean_abs
from refqnn.quantizers.module import GridQuantizer, odd_codes

Gradient = Literal["exact", "paper", "released"]


@one_line
class XnorWeightCache(NamedTuple):
    """What the backward needs, and what freezes signs and mask."""

    w: Float
    b: Float  # signs, +1 at 0
    alpha: Float  # (O, 1, ...)
    gradient: Gradient

    def inside(self) -> Float:
        """Return 1 where |w| < 1, else 0."""
        return (np.abs(self.w) < 1).astype(self.w.dtype)

    def factor(self) -> Float:
        """(1 / n + alpha pass), times (1 - 1 / C) n as released."""
        n = max(self.w[:1].size, 1)
        paper = 1 / n + self.alpha * self.inside()
        if self.gradient == "paper":
            return paper
        return paper * ((1 - 1 / max(self.w.shape[1], 1)) * n)


def xnor_weight(
    w: Float, *, gradient: Gradient = "exact", frozen: XnorWeightCache | None = None
) -> tuple[Float, XnorWeightCache]:
    """y = alpha_i * sgn(w),  alpha_i = mean|w_i|,  sgn(0) = +1

    w: (O, ...)  ->  y: (O, ...), dtype of w

    The best approximation of a filter by one number times signs. ``gradient`` chooses
    what the backward returns (tabled at the top of this file); "released" needs the
    axis of input channels, w: (O, C, ...). A filter of zeros gives zeros. Raises
    ValueError for NaN or infinity in w.

    ``frozen`` holds signs and mask: see Backward. (A recorded cache refers to the ``w``
    it was given: perturb a copy.)

    >>> xnor_weight(np.array([[3.0, -1.0], [0.0, 4.0]]))[0]
    array([[ 2., -2.],
           [ 2.,  2.]])
    """
    check_values(w, name="w")
    if frozen is not None:
        return frozen_form(w, frozen), frozen
    check_reading(gradient, w)
    alpha = mean_abs(w)  # (S)
    b = binary_codes(w, alpha)  # (B)
    y = alpha * b  # (W)
    return y, XnorWeightCache(w, b, alpha, gradient)


def frozen_form(w: Float, cache: XnorWeightCache) -> Float:
    """y of the signs and masks in the cache: the function whose gradient (G) is.

    w: (O, ...)  ->  y: (O, ...)
    """
    moved = w - cache.w
    if cache.gradient != "exact":
        y = cache.alpha * cache.b + cache.factor() * moved
        return y.astype(w.dtype)
    alpha = cache.alpha + filter_mean(np.sign(cache.w) * moved)
    return (alpha * (cache.b + cache.inside() * moved)).astype(w.dtype)


def xnor_weight_backward(dy: Float, cache: XnorWeightCache) -> Float:
    """dw = s mean_i(dy b) + alpha dy where |w| < 1, or one of the other readings.

    dy: (O, ...)  ->  dw: (O, ...)

    >>> w = np.array([[0.5, -2.0]])
    >>> xnor_weight_backward(np.array([[1.0, 0.0]]), xnor_weight(w)[1])
    array([[ 1.75, -0.5 ]])
    """
    check_gradient(dy, cache.w.shape)
    if cache.gradient != "exact":
        return (dy * cache.factor()).astype(dy.dtype)
    through_alpha = np.sign(cache.w) * filter_mean(dy * cache.b)
    dw = through_alpha + cache.alpha * cache.inside() * dy  # (G)
    return dw.astype(dy.dtype)


def filter_mean(v: Float) -> Float:
    """Return the mean over every filter, in float64.

    v: (O, ...)  ->  (O, 1, ...)
    """
    total = v.sum(tuple(range(1, v.ndim)), np.float64, keepdims=True)
    return total / max(v[:1].size, 1)


def check_reading(gradient: str, w: Float) -> None:
    """Raise unless ``gradient`` is a reading that these weights have."""
    if gradient not in {"exact", "paper", "released"}:
        raise ValueError(f"gradient must be exact, paper or released, got {gradient!r}")
    if gradient == "released" and w.ndim < 2:
        raise ValueError(
            f"gradient 'released' needs w: (O, C, ...), got the shape {w.shape}"
        )


def xnor_activation(
    x: Float, *, frozen: StraightThroughCache | None = None
) -> tuple[Float, StraightThroughCache]:
    """y = sgn(x),  sgn(0) = +1;  gradient 1 where |x| < 1

    x: (...)  ->  y: (...), dtype of x

    Raises ValueError for NaN or infinity in x. Frozen as ``straight_through_sign``.

    >>> xnor_activation(np.array([-0.3, 0.0, 2.0]))[0]
    array([-1.,  1.,  1.])
    """
    check_values(x, name="x")
    return straight_through_sign(x, frozen=frozen)  # (I)


def xnor_activation_backward(dy: Float, cache: StraightThroughCache) -> Float:
    """dx = dy where |x| < 1, else 0

    dy: (...)  ->  dx: (...)

    >>> _, cache = xnor_activation(np.array([-0.3, 1.0, 2.0]))
    >>> xnor_activation_backward(np.ones(3), cache)
    array([1., 0., 0.])
    """
    return straight_through_sign_backward(dy, cache)  # (P)


def scale_map(
    x: Float, *, kernel: int | Pair, stride: int | Pair = 1, padding: Padding = 0
) -> Float:
    """K = mean over channels and window of |x|: the scales of section 3.2.

    x: (N, C, H, W)  ->  K: (N, 1, Ho, Wo), dtype of x

    x * w is close to (sgn(x) * sgn(w)) K alpha. Padding counts as zeros. No gradient
    is taken through K. Raises ValueError for NaN or infinity in x.

    >>> x = np.array([[[[1.0, -3.0]], [[-2.0, 2.0]]]])
    >>> scale_map(x, kernel=(1, 2))
    array([[[[2.]]]])
    """
    check_values(x, name="x")
    A = np.abs(x).mean(1, np.float64, keepdims=True)  # (A)
    K, _ = avg_pool2d(A, kernel=kernel, stride=stride, padding=padding)  # (K)
    return K.astype(x.dtype)


@final
@dataclass(eq=False)
class XnorWeight(GridQuantizer):
    """alpha B with the scale recomputed at every pass."""

    gradient: Gradient = "exact"
    bits: int = 1

    pair = (xnor_weight, xnor_weight_backward)
    codes = staticmethod(odd_codes)
    options = ("gradient",)
    most_bits = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_reading(self.gradient, np.zeros((1, 1)))

    def codes_and_scale(self, v: Float) -> tuple[Float, Float, int]:
        """Give B and alpha (O, 1, ...)."""
        alpha = mean_abs(v)
        return binary_codes(v, alpha), alpha, 0


@final
@dataclass(eq=False)
class XnorActivation(GridQuantizer):
    """The sign of section 3.2, a layer between batch normalization and a convolution.

    Not behind a ReLU, where every sign is +1: networks of the method "xnor" have affine
    activations. A block in the order of the paper, without its batch normalization:

    >>> from refqnn.core import Param, Run
    >>> from refqnn.nn import Conv2d
    >>> signs, _ = XnorActivation().forward(np.array([[[[0.5, -2.0]]]]), Run())
    >>> w = Param(np.array([[[[3.0, -1.0]]]]))
    >>> Conv2d(w, weight_quant=XnorWeight()).forward(signs, Run())[0]  # 2 (1 + 1)
    array([[[[4.]]]])
    """

    bits: int = 1

    pair = (xnor_activation, xnor_activation_backward)
    codes = staticmethod(odd_codes)
    options = ()
    most_bits = 1

    def codes_and_scale(self, v: Float) -> tuple[Float, Float, int]:
        """Give the signs and the scale 1 ()."""
        one = np.ones((), v.dtype)
        return binary_codes(v, one), one, 0
