r"""Quantization Interval Learning (QIL): a learned interval prunes, clips and bends.

Jung, Son, Lee, Son, Han, Kwak, Hwang, Choi. Learning to Quantize Deep Networks by
Optimizing Quantization Intervals with Task Loss. CVPR 2019, arXiv:1808.05779.

Weights; activations, with the same interval and gamma = 1, are in qil_activations.py.

    paper                         code      where
    c, delta (half width)         c, d      IntervalQuantizer
    alpha |w| + beta, (U)         u         qil_weight; alpha = 1/2d, beta = 1/2 - c/2d
    T_W, transformer, (T)         bent      qil_weight, by bend
    Q, discretizer, (D)           y         qil_weight
    p, pruning threshold c - d,   t_1       qil_thresholds, after rounding
      (P)
    gamma                         gamma     weights only; activations hold it at 1
    gradient of w, (W)            dw        qil_weight_backward
    those of c, (C), and delta,   dc, dd    qil_weight_backward
      (E)
    that of gamma, (G)            dgamma    qil_weight_backward

Letters are names of this file, not numbers of the paper. The transformed values lie
in [-1, 1] (weights) or [0, 1] (activations) and are not scaled back: a batch norm or a
scale of its own must follow.

One bit of a weight is its sign, so 2^(b-1) - 1 steps are left for the magnitude: "2
bit" weights are ternary, and one bit has no step. Rounding moves the pruning threshold
from c - d to ``c - d + 2 d (1 / (2 n))^(1 / gamma)``; at 2 bits and gamma = 1 that is
c, and d shapes the gradient only.

Backward. Straight through the rounding y is T_W plus a constant. Inside the interval
T_W = sgn(w) u^gamma with u = 1/2 + (|w| - c) / 2d, so h = gamma u^(gamma - 1) / 2d is
the slope in w (W), since sgn(w) d|w|/dw = 1. In c it is -sgn(w) h (C); in d it is
-sgn(w) h (|w| - c) / d, and (|w| - c) / d = 2 u - 1 (E); in gamma sgn(w) u^gamma ln u
(G). Outside T_W is constant.

Left open by the paper, and chosen here: how ties round (half to even); the gradient at
the ends of the interval (none: for gamma < 1 the slope at the lower end is infinite);
the first interval (c = d = max/2, gamma = 1: nothing is clipped and nothing lies below
c - d = 0, but rounding zeroes what is below t_1 = max / (2 n): of 10^4 Gaussian weights
some 95, 48, 22 and 10 % at 2, 3, 4 and 5 bits); whether the half width may exceed the
centre. If it does, T_W jumps at 0 and zeros of an activation may become a positive
level, so the modules project d <= c after each step: ``Param.project`` sees one
parameter, and the modules give d a projection that reads the c of the same module,
which the optimiser has stepped before it (fields are stepped in order); and how small
an interval may become. One that a step carries to 0 holds no weight, so all gradients
are 0 and the layer is sgn(w) for ever: c and d stay above ``FLOOR`` max|w| of the last
training pass, with a warning where c is held there. No release of the authors was
found. The paper trains the interval at a smaller learning rate than the weights: give
the optimiser a factor for the group "quantizer".
"""

import warnings
from dataclasses import dataclass, field
from typing import NamedTuple, final

import numpy as np

from refqnn._types import Bool, Float
from refqnn.core import Buffer, Param, Run
from refqnn.moved import other_half
from refqnn.ops.broadcast import sum_to
from refqnn.ops.checks import check_gradient
from refqnn.prompt import one_line
from refqnn.quantizers.checks import check_values
from refqnn.quantizers.module import (
    GridQuantizer,
    positive,
    positive_one,
    signed_codes,
    unset,
)

#: least share of max|w| that centre and half width keep: of Gaussian weights a tenth
#: lies in the interval then, and has gradients
FLOOR = 1 / 64
#: qil_activations.py was a part of this file
__getattr__ = other_half(__name__, "refqnn.quantizers.qil_activations")


@one_line
class QILWeightCache(NamedTuple):
    """What the backward needs, and what freezes rounding and interval."""

    sign: Float  # sgn(w), 0 at 0
    u: Float  # alpha |w| + beta, shape of w
    c: Float
    d: Float
    gamma: Float
    residual: Float  # y - T_W inside, y outside

    def inside(self) -> Bool:
        """Return where gradients pass: inside the open interval, except at w = 0."""
        return (self.u > 0) & (self.u < 1) & (self.sign != 0)


def qil_weight(
    w: Float,
    c: Float,
    d: Float,
    gamma: Float,
    *,
    bits: int,
    frozen: QILWeightCache | None = None,
) -> tuple[Float, QILWeightCache]:
    """y = round(n T) / n,  T = sgn(w) clip(1/2 + (|w| - c) / 2d, 0, 1)^gamma

    w: (...), c, d, gamma: broadcast to w, d, gamma > 0  ->  y: (...), dtype of w

    2^b - 1 levels from -1 to 1, n = 2^(b-1) - 1, ties to even, sgn(0) = 0, bits in [2,
    16]. Raises ValueError for d or gamma below the smallest normal number, and for NaN
    or infinity in w or a parameter.

    ``frozen`` holds the residual, and what is pruned or clipped: see Backward.

    >>> w = np.array([-9.0, -0.7, 0.2, 0.3, 0.45])
    >>> qil_weight(w, np.array(0.5), np.array(0.5), np.array(1.0), bits=3)[0] * 3
    array([-3., -2.,  1.,  1.,  1.])
    """
    d, gamma, c = check_values(
        w, name="w", bits=bits, least=2, positive={"d": d, "gamma": gamma}, c=c
    )
    n = 2 ** (bits - 1) - 1
    sign = np.sign(w) if frozen is None else frozen.sign
    with np.errstate(over="ignore"):  # infinite where far outside: pruned or clipped
        u = 0.5 + 0.5 * ((sign * w - c) / d)  # (U)
    if frozen is not None:
        inside = frozen.inside()
        bent = bend(np.where(inside, u, 1), gamma)
        return np.where(inside, sign * bent, 0) + frozen.residual, frozen
    bent = sign * bend(u, gamma)  # (T)
    q = np.rint(n * bent) + 0.0  # + 0.0: a code has one zero
    y = np.asarray(1 / n, w.dtype) * q  # (D)
    cache = QILWeightCache(sign, u, c, d, gamma, y)
    return y, cache._replace(residual=y - np.where(cache.inside(), bent, 0))


def qil_weight_backward(
    dy: Float, cache: QILWeightCache
) -> tuple[Float, Float, Float, Float]:
    """Straight through the rounding, exact through T; nothing passes outside.

    dy: (...)  ->  dw: (...), dc: shape of c, dd: shape of d, dgamma: shape of gamma

    dc = -sum sgn(w) dw, and <w, dw> + c dc + d dd = 0 (T has degree 0 in w, c, d).
    dgamma vanishes where u does: u^gamma ln u -> 0.

    >>> w, half, one = np.array([-9.0, 0.25]), np.array(0.5), np.array(1.0)
    >>> qil_weight_backward(np.ones(2), qil_weight(w, half, half, one, bits=3)[1])[:3]
    (array([0., 1.]), array(-1.), array(0.5))
    """
    check_gradient(dy, cache.u.shape)
    inside = cache.inside()
    d_bent = np.where(inside, dy, 0)
    u = np.where(inside, cache.u, 1)
    slope = cache.gamma * u ** (cache.gamma - 1) / (2 * cache.d)
    dw = d_bent * slope  # (W)
    d_centre = -cache.sign * dw  # (C)
    d_gamma = d_bent * cache.sign * u**cache.gamma * np.log(u)  # (G)
    d_width = d_centre * (2 * u - 1)  # (E): 2 u - 1 = (|w| - c) / d
    dc = sum_to(d_centre.astype(np.float64), cache.c.shape)
    dd = sum_to(d_width.astype(np.float64), cache.d.shape)
    dgamma = sum_to(d_gamma.astype(np.float64), cache.gamma.shape)
    sums = (np.asarray(dc, dw.dtype), np.asarray(dd, dw.dtype))
    return dw.astype(dy.dtype, copy=False), *sums, np.asarray(dgamma, d_gamma.dtype)


def bend(u: Float, gamma: Float) -> Float:
    """clip(u, 0, 1)^gamma

    >>> bend(np.array([-1.0, 0.5, 7.0]), np.array(2.0))
    array([0.  , 0.25, 1.  ])
    """
    bent: Float = np.clip(u, 0, 1) ** gamma
    return bent


def qil_thresholds(c: Float, d: Float, gamma: Float, *, steps: int) -> Float:
    """t_k = c - d + 2d ((k - 1/2) / n)^(1 / gamma): the magnitudes where codes change.

    c, d, gamma: ()  ->  (n,), k = 1 .. n, ascending

    What is at most t_1 (the effective pruning threshold) becomes 0.

    >>> qil_thresholds(np.array(0.5), np.array(0.25), np.array(1.0), steps=1)
    array([0.5])
    """
    share = (np.arange(1, steps + 1) - 0.5) / steps
    t: Float = c - d + 2 * d * share ** (1 / gamma)  # (P)
    return t


def pruning_ratio(w: Float, c: Float, d: Float, gamma: Float, *, bits: int) -> float:
    """Return the share of weights that become exactly 0; 0 of no weights.

    >>> w, half = np.array([0.1, -0.4, 0.6, 9.0]), np.array(0.5)
    >>> pruning_ratio(w, half, half, np.array(1.0), bits=2)
    0.5
    """
    y, _ = qil_weight(w, c, d, gamma, bits=bits)
    return float(np.count_nonzero(y == 0) / max(w.size, 1))


def clipping_ratio(w: Float, c: Float, d: Float) -> float:
    """Return the share of weights with |w| > c + d; 0 of no weights.

    >>> clipping_ratio(np.array([0.1, -0.4, 0.6, 9.0]), np.array(0.5), np.array(0.5))
    0.25
    """
    d, c = check_values(w, name="w", positive={"d": d}, c=c)
    return float(np.count_nonzero(np.abs(w) > c + d) / max(w.size, 1))


def half_of_largest(v: Float) -> float:
    """c = d = max v / 2: the first interval; v of no positive entry warns, gives eps.

    >>> half_of_largest(np.array([0.5, 3.0]))
    1.5
    """
    check_values(v, name="v")
    half = float(v.max(initial=0)) / 2
    if half < np.finfo(v.dtype).tiny:
        warnings.warn("v has no positive entry: c and d start at eps", stacklevel=2)
        return float(np.finfo(v.dtype).eps)
    return half


class IntervalQuantizer(GridQuantizer):
    """A learned interval that the first training pass sets, floor <= d <= c kept."""

    unknown = "the interval is unknown: train, or call set_interval(c, d)"
    #: what c and d do not fall below, from the last training pass
    floor = 0.0
    #: whether the interval is one of |w|, or of x itself
    signed = True
    c: Param
    d: Param
    known: Buffer

    def __post_init__(self) -> None:
        super().__post_init__()
        self.c.project = self.above_floor
        self.d.project = self.at_most_centre

    def above_floor(self, c: Float) -> Float:
        """Put the centre back to the floor, where some gradients are left; warn.

        Always in the same words: Python shows a warning once, and steps are many.
        """
        if np.any(c < self.floor) and self.floor:
            held = f"the centre of an interval is held at {FLOOR} of max|w|"
            warnings.warn(f"{held}: lower its learning rate", stacklevel=2)
        return positive(np.maximum(c, self.floor))

    def at_most_centre(self, d: Float) -> Float:
        """Put the half width back into [floor, c]; c is stepped before d."""
        return np.minimum(positive(np.maximum(d, self.floor)), self.c.value)

    def begin(self, v: Float, run: Run, bits: int) -> None:
        """Set the floor, and the first interval: c = d = half the largest magnitude."""
        magnitude = np.abs(v) if self.signed else v
        if not self.known.value:
            half = half_of_largest(magnitude)
            self.set_interval(half, half)
        self.floor = FLOOR * max(float(magnitude.max(initial=0)), 0.0)

    def steps(self) -> int:
        """Give n, the number of steps from 0 to 1."""
        raise NotImplementedError

    def at(self) -> tuple[Float, ...]:
        """Give the values of c, d (and gamma)."""
        return tuple(getattr(self, name).value for name in self.parameters)

    def set_interval(self, c: float, d: float) -> None:
        """Set centre and half width; raises ValueError for d that is not positive."""
        self.put(c, d)

    def put(self, *values: float) -> None:
        """Set c, d (and gamma): in their domain, and known from now on."""
        self.pair[0](np.zeros(1), *np.array(values), bits=self.bits)
        own = [(name, getattr(self, name).value.dtype) for name in self.parameters]
        new = zip(own, values, strict=True)
        self.hold(**{name: np.asarray(p, dtype) for (name, dtype), p in new})

    def codes_and_scale(self, v: Float) -> tuple[Float, Float, int]:
        """Give n y and 1 / n ()."""
        y, _ = self.pair[0](v, *self.at(), bits=self.bits)
        n = self.steps()  # n / n is 1 for every n here
        return np.rint(n * y), np.asarray(1 / n, v.dtype), 0


@final
@dataclass(eq=False)
class QILWeight(IntervalQuantizer):
    """One learned interval and one exponent for a whole weight tensor.

    The first training pass sets the interval. Progressive training (full precision, 5,
    4, 3, 2 bits): build the next module with fewer bits and give it the parameters of
    the last, or lower ``bits``; the interval does not depend on them.
    """

    bits: int = 4
    #: False holds gamma where it is: backward adds nothing to its gradient
    learn_gamma: bool = True
    c: Param = field(init=False, default_factory=positive_one)
    d: Param = field(init=False, default_factory=positive_one)
    gamma: Param = field(init=False, default_factory=positive_one)
    #: 1 once the interval is known
    known: Buffer = field(init=False, default_factory=unset)

    pair = (qil_weight, qil_weight_backward)
    codes = staticmethod(signed_codes)
    parameters = ("c", "d", "gamma")
    fewest_bits = 2

    def steps(self) -> int:
        """n = 2^(b-1) - 1"""
        return int(2 ** (self.bits - 1) - 1)

    def param_gradient(self, name: str, grad: Float) -> Float:
        """Give 0 for a gamma that is not learned."""
        fixed = name == "gamma" and not self.learn_gamma
        return np.zeros_like(grad) if fixed else grad

    def set_interval(self, c: float, d: float, gamma: float = 1.0) -> None:
        """Set centre, half width and exponent.

        Raises ValueError for d or gamma that is not positive.
        """
        self.put(c, d, gamma)

    def decision_boundaries(self, v: Float) -> Float:
        """Give the values where the code changes: (1, 2n); with d > c some are 0."""
        c, d, gamma = self.at()
        t = np.maximum(qil_thresholds(c, d, gamma, steps=self.steps()), 0)
        return np.hstack([-t[::-1], t])[None].astype(v.dtype)
