r"""Two-step quantization (TSQ), step 1: sparse activation codes.

Wang, Hu, Zhang, Zhang, Liu, Cheng. Two-Step Quantization for Low-Bit Neural Networks.
CVPR 2018; it is not on arXiv. Its activations are those of Cai, He, Sun, Vasconcelos,
Deep Learning with Low Precision by Half-wave Gaussian Quantization (HWGQ),
arXiv:1702.00953, with a dead zone. Step 2, the weights, is in tsq_weights.py. (Q) and
(G) are names of this file, not numbers of the paper.

    paper                           code              where
    sparse quantizer Q, (Q)         y                 tsq_activation
    threshold eps, interval delta   eps, delta        tsq_activation, gaussian_delta
    straight through, (G)           dx                tsq_activation_backward

Step 1 learns the codes with float weights: eps and delta are constants, for inputs that
are N(0, 1) after batch normalization. The published 2-bit network has eps = 0.32 and
delta = 0.6487: ``gaussian_delta(2, 0.32)``. The best of all eps is delta / 2, plain
rounding; with eps = 0 it is HWGQ.

Backward. Hold the residual r = y - clip(x, 0, (2^b - 1) delta): slope 1 between its
ends, else 0 (G). So the gradient passes the dead zone 0 < x <= eps, as in the published
network: only what is negative or beyond the last level stops it. For more than two bits
this is assumed. Chosen here: intervals are closed on the right.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, final

import numpy as np

from refqnn._types import Float
from refqnn.core import Run
from refqnn.moved import other_half
from refqnn.ops.straight_through import (
    StraightThroughCache,
    frozen_form,
    masked_backward,
    residual,
)
from refqnn.quantizers.checks import check_bits, check_values
from refqnn.quantizers.module import GridQuantizer, unsigned_codes

#: tsq_weights.py was a part of this file
__getattr__ = other_half(__name__, "refqnn.quantizers.tsq_weights")


def tsq_activation(
    x: Float,
    eps: Float,
    delta: Float,
    *,
    bits: int,
    frozen: StraightThroughCache | None = None,
) -> tuple[Float, StraightThroughCache]:
    """y = 0 where x <= eps, else delta * k, k nearest to x / delta in 1 .. 2^b - 1

    x: (...), eps, delta: broadcast to x, 0 <= eps < delta  ->  y: (...), dtype of x

    2^b levels; x = (k + 1/2) delta goes to k. Raises ValueError for bits outside
    [1, 16], eps and delta outside their domain, and NaN or infinity.

    ``frozen`` adds the recorded residual where the gradient passes: see Backward.

    >>> x = np.array([-1.0, 0.3, 0.4, 1.5, 1.6, 9.0])
    >>> tsq_activation(x, np.array(0.3), np.array(1.0), bits=2)[0]
    array([0., 0., 1., 1., 2., 3.])
    """
    if frozen is not None:
        check_values(x, name="x")
        return frozen_form(x, frozen), frozen
    eps, delta = check_interval(x, eps, delta, bits)
    y = delta * tsq_codes(x, eps, delta, bits)  # (Q)
    inside = (x > 0) & (x < delta * (2**bits - 1))
    return y, StraightThroughCache(inside, residual(x, y, inside))


def tsq_activation_backward(dy: Float, cache: StraightThroughCache) -> Float:
    """dx = dy * 1{0 < x < (2^b - 1) delta}: the dead zone passes the gradient.

    dy: (...)  ->  dx: (...)

    >>> x = np.array([-1.0, 0.1, 2.0, 9.0])
    >>> _, cache = tsq_activation(x, np.array(0.3), np.array(1.0), bits=2)
    >>> tsq_activation_backward(np.ones(4), cache)
    array([0., 1., 1., 0.])
    """
    return masked_backward(dy, cache)  # (G)


def check_interval(
    x: Float, eps: Float, delta: Float, bits: int
) -> tuple[Float, Float]:
    """Check x, bits and 0 <= eps < delta; give eps and delta in the dtype of x."""
    delta, eps = check_values(
        x, name="x", bits=bits, positive={"delta": delta}, eps=eps
    )
    if not np.all((eps >= 0) & (eps < delta)):
        raise ValueError(f"eps must lie in [0, delta), got {eps} and delta {delta}")
    return eps, delta


def tsq_codes(x: Float, eps: Float, delta: Float, bits: int) -> Float:
    """Return k = 0 .. 2^b - 1, as floats: x (...)  ->  (...)."""
    with np.errstate(over="ignore"):  # infinite where x / delta is: the last level
        k = np.ceil(x / delta - x.dtype.type(0.5))  # ties down
    return np.where(x > eps, np.clip(k, 1, 2**bits - 1), 0).astype(x.dtype)


@lru_cache
def gaussian_delta(bits: int, eps: float | None = None) -> float:
    """Return the delta of least error for N(0, 1), or for both at eps = delta / 2.

    The least-squares scale of the codes: delta sum_k (2k - 1) P(x > a_k) =
    sum_k phi(a_k), where a_1 = eps, a_k = (k - 1/2) delta and phi is the density;
    x <= 0 does not count. Raises ValueError for bits outside [1, 8] and for an eps
    that is not below the delta it would give.

    >>> round(gaussian_delta(2, 0.0), 4), round(gaussian_delta(2), 4)
    (0.5388, 0.6508)
    """
    check_bits(bits, least=1, most=8)
    low, high = 0.0, 4.0
    while low < (middle := (low + high) / 2) < high:
        if excess_of_delta(middle, bits, eps) > 0:
            high = middle
        else:
            low = middle
    if eps is not None and not 0 <= eps < middle:
        raise ValueError(f"eps must lie in [0, delta), got {eps} and delta {middle}")
    return middle


def excess_of_delta(delta: float, bits: int, eps: float | None) -> float:
    """Return delta <k, k> - <x, k> of the codes k of N(0, 1): half the slope of MSE."""
    total = 0.0
    for k in range(1, 2**bits):
        a = eps if k == 1 and eps is not None else (k - 0.5) * delta
        tail = math.erfc(a / math.sqrt(2)) / 2
        density = math.exp(-a * a / 2) / math.sqrt(2 * math.pi)
        total += delta * (2 * k - 1) * tail - density
    return total


@final
@dataclass(eq=False)
class TSQActivation(GridQuantizer):
    """Step 1: fixed eps and delta for inputs that are N(0, 1).

    Without ``delta``, that of ``gaussian_delta``; without ``eps``, half of delta.
    """

    bits: int = 4
    eps: float | None = None
    delta: float | None = None

    pair = (tsq_activation, tsq_activation_backward)
    codes = staticmethod(unsigned_codes)
    most_bits = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        check_interval(np.zeros(1), *self.interval(), self.bits)

    def arguments(self, v: Float, run: Run, bits: int) -> tuple[Any, ...]:
        """Give eps () and delta ()."""
        return self.interval(bits)

    def interval(self, bits: int | None = None) -> tuple[Float, Float]:
        """Give eps () and delta () of these bits, or of the module's."""
        bits = self.bits_of(bits)
        delta = gaussian_delta(bits, self.eps) if self.delta is None else self.delta
        eps = delta / 2 if self.eps is None else self.eps
        return np.asarray(eps), np.asarray(delta)

    def codes_and_scale(self, v: Float) -> tuple[Float, Float, int]:
        """Give k and delta ()."""
        eps, delta = check_interval(v, *self.interval(), self.bits)
        return tsq_codes(v, eps, delta, self.bits), delta, 0

    def decision_boundaries(self, v: Float) -> Float:
        """Give the values where the code changes, eps first: (1, 2^b - 1)."""
        eps, delta = check_interval(v, *self.interval(), self.bits)
        middle = delta * np.arange(1.5, 2**self.bits - 1).astype(v.dtype)
        return np.append(eps, middle)[None]
