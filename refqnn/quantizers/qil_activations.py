r"""Quantization Interval Learning (QIL) of activations: weights are in qil.py.

Jung, Son, Lee, Son, Han, Kwak, Hwang, Choi. Learning to Quantize Deep Networks by
Optimizing Quantization Intervals with Task Loss. CVPR 2019, arXiv:1808.05779.

    paper                         code      where
    alpha x + beta, (U)           u         qil_activation; alpha = 1/2d
    T_X, transformer, (T)         bent      qil_activation
    Q, discretizer, (D)           y         qil_activation
    gradient of x, (X)            dx        qil_activation_backward
    those of c, (C), and delta,   dc, dd    qil_activation_backward
      (E)

Letters are names of this file, not numbers of the paper. The exponent gamma is 1,
for activations are transformed at run time. Zeros stay 0 where d <= c.

Backward. Straight through the rounding y is T_X plus a constant; inside the interval
T_X = 1/2 + (x - c) / 2d, whose slope is 1 / 2d in x (X), -1 / 2d in c (C) and -(x - c)
/ 2d^2 in d (E). Outside T_X is constant.
"""

from dataclasses import dataclass, field
from typing import NamedTuple, final

import numpy as np

from refqnn._types import Bool, Float
from refqnn.core import Buffer, Param
from refqnn.ops.broadcast import sum_to
from refqnn.ops.checks import check_gradient
from refqnn.prompt import one_line
from refqnn.quantizers.checks import check_values
from refqnn.quantizers.module import positive_one, unset, unsigned_codes
from refqnn.quantizers.qil import IntervalQuantizer, qil_thresholds


@one_line
class QILActivationCache(NamedTuple):
    """What the backward needs, and what freezes rounding and interval."""

    u: Float  # alpha x + beta, shape of x
    c: Float
    d: Float
    residual: Float  # y - u inside, y outside

    def inside(self) -> Bool:
        """Return where gradients pass: inside the open interval."""
        return (self.u > 0) & (self.u < 1)


def qil_activation(
    x: Float, c: Float, d: Float, *, bits: int, frozen: QILActivationCache | None = None
) -> tuple[Float, QILActivationCache]:
    """y = round(n T) / n,  T = clip(1/2 + (x - c) / 2d, 0, 1)

    x: (...), c, d: broadcast to x, d > 0  ->  y: (...), dtype of x

    2^b levels from 0 to 1, n = 2^b - 1, ties to even, bits in [1, 16]. Zeros become 0
    if d <= c. Raises ValueError for d below the smallest normal number, and for NaN or
    infinity in x, c or d.

    ``frozen`` holds the residual, and what is pruned or clipped: see Backward.

    >>> x = np.array([-9.0, 0.3, 0.6, 9.0])
    >>> qil_activation(x, np.array(0.5), np.array(0.5), bits=2)[0] * 3
    array([0., 1., 2., 3.])
    """
    d, c = check_values(x, name="x", bits=bits, positive={"d": d}, c=c)
    n = 2**bits - 1
    with np.errstate(over="ignore"):  # infinite where far outside: pruned or clipped
        u = 0.5 + 0.5 * ((x - c) / d)  # (U)
    if frozen is not None:
        return np.where(frozen.inside(), u, 0) + frozen.residual, frozen
    bent = np.clip(u, 0, 1)  # (T)
    q = np.rint(n * bent) + 0.0  # + 0.0: a code has one zero
    y = np.asarray(1 / n, x.dtype) * q  # (D)
    cache = QILActivationCache(u, c, d, y)
    return y, cache._replace(residual=y - np.where(cache.inside(), u, 0))


def qil_activation_backward(
    dy: Float, cache: QILActivationCache
) -> tuple[Float, Float, Float]:
    """dx = dy / 2d inside the interval, dc = -sum dx, dd = -sum dx (x - c) / d

    dy: (...)  ->  dx: (...), dc: shape of c, dd: shape of d

    >>> x, half = np.array([-9.0, 0.25]), np.array(0.5)
    >>> qil_activation_backward(np.ones(2), qil_activation(x, half, half, bits=2)[1])
    (array([0., 1.]), array(-1.), array(0.5))
    """
    check_gradient(dy, cache.u.shape)
    inside = cache.inside()
    dx = np.where(inside, dy, 0) / (2 * cache.d)  # (X)
    u = np.where(inside, cache.u, 1)
    d_centre = -dx  # (C)
    d_width = d_centre * (2 * u - 1)  # (E): 2 u - 1 = (x - c) / d
    dc = sum_to(d_centre.astype(np.float64), cache.c.shape)
    dd = sum_to(d_width.astype(np.float64), cache.d.shape)
    sums = (np.asarray(dc, dx.dtype), np.asarray(dd, dx.dtype))
    return dx.astype(dy.dtype, copy=False), *sums


@final
@dataclass(eq=False)
class QILActivation(IntervalQuantizer):
    """One learned interval for the activations of a layer.

    The first training batch sets the interval; gamma is 1, for activations are
    transformed at run time.
    """

    bits: int = 4
    c: Param = field(init=False, default_factory=positive_one)
    d: Param = field(init=False, default_factory=positive_one)
    #: 1 once the interval is known
    known: Buffer = field(init=False, default_factory=unset)

    pair = (qil_activation, qil_activation_backward)
    parameters = ("c", "d")
    codes = staticmethod(unsigned_codes)
    signed = False

    def steps(self) -> int:
        """n = 2^b - 1"""
        return int(2**self.bits - 1)

    def decision_boundaries(self, v: Float) -> Float:
        """Give the values where the code changes: (1, 2^b - 1)."""
        c, d = self.at()
        t = qil_thresholds(c, d, np.ones(()), steps=self.steps())
        return t[None].astype(v.dtype)
