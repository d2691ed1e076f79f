r"""Fixed-point weights with a clip that suits a Gaussian.

Chin, Chuang, Chandra, Marculescu. One Weight Bitwidth to Rule Them All. ECCV Workshops
2020, arXiv:2008.09916 ("Pareto").

    paper                    code        where
    Q(W_i), s_i, eq. (1)     y, s        fixed_point
    mean |W_i|, eq. (2)      m           gaussian_clip, by checks.mean_abs
    dQ/dW = I, eq. (5)       dw          fixed_point_backward
    c, a_i*, appendix B,     a           gaussian_clip, by GAUSSIAN_RATIO
      (B2)
    E w Q, E Q^2, (B1)       e_wq, e_qq  gaussian_mse

Left open by the paper: how ties round (here half to even), what a filter of zeros gives
(zeros), the constants c (derived below), whether (5) ignores the clip (as printed: yes;
``clip_grad=True`` masks it). Equation (1) needs two bits or more: one bit divides by 0.

Backward. Hold the residual r = Q(w) - w of the recorded weights: Q = w + r has slope 1
everywhere (5). With ``clip_grad`` it is clip(w, -a, a) + r, slope 0 where the clip
acts. The clip a is a constant in both.

Appendix B finds ``a* = argmin E (Q_a(w) - w)^2`` by simulation. In closed form: with
unit sigma, L = 2^(b-1) - 1 and the thresholds t_k = (k - 1/2) s, phi and Phi the
Gaussian's,

    E w Q = 2 s sum_k phi(t_k),      E Q^2 = 2 s^2 sum_k (2 k - 1) Phi(-t_k)     (B1)

At the best step moving a threshold changes nothing to first order, so E w Q = E Q^2
there, one equation for s. The ratio does not depend on sigma:

    c = E|w| / a*,      a_i = mean|w_i| / c                                      (B2)

(B1) and (B2) are names of this file.
"""

import math
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from scipy.special import ndtr

from refqnn._types import Float
from refqnn.core import Run
from refqnn.ops.checks import FLOATS, check_gradient
from refqnn.ops.straight_through import StraightThroughCache, frozen_form
from refqnn.quantizers.checks import check_bits, check_values, mean_abs
from refqnn.quantizers.module import GridQuantizer, signed_codes

#: a* / sigma of a Gaussian, by bits; the root of E w Q = E Q^2 with (B1)
GAUSSIAN_CLIP = {
    2: 1.224006,
    3: 1.952309,
    4: 2.473879,
    5: 2.898728,
    6: 3.270115,
    7: 3.607461,
    8: 3.920501,
    9: 4.214679,
    10: 4.493382,
    11: 4.758930,
    12: 5.013034,
    13: 5.257027,
    14: 5.491986,
    15: 5.718805,
    16: 5.938239,
}
#: c = E|w| / a* of a Gaussian, by bits
GAUSSIAN_RATIO = {b: math.sqrt(2 / math.pi) / a for b, a in GAUSSIAN_CLIP.items()}


def fixed_point(
    w: Float,
    a: Float,
    *,
    bits: int,
    clip_grad: bool = False,
    frozen: StraightThroughCache | None = None,
) -> tuple[Float, StraightThroughCache]:
    """y = s * round(clip(w, -a, a) / s),  s = a / (2^(b-1) - 1)

    w: (...), a: broadcasts to w, a >= 0  ->  y: (...), dtype of w

    2^b - 1 levels, ties to even, bits in [2, 16]. Where ``a`` is 0 the result is 0.
    Raises ValueError for bits out of range, a < 0, and NaN or infinity in w or a.

    ``frozen`` holds the residual that a cache recorded: see Backward, above.

    >>> fixed_point(np.array([-9.0, 0.4, 0.6]), np.array(3.0), bits=3)[0]
    array([-3.,  0.,  1.])
    """
    if frozen is not None:
        check_values(w, name="w")
        return frozen_form(w, frozen), frozen
    (a,) = check_values(w, name="w", bits=bits, least=2, not_negative={"clip a": a})
    q, s = fixed_point_codes(w, a, bits)
    y = s * q  # (1)
    inside = np.abs(w) <= a if clip_grad else np.ones(w.shape, bool)
    return y, StraightThroughCache(inside, y - np.where(inside, w, 0))


def fixed_point_backward(dy: Float, cache: StraightThroughCache) -> Float:
    """dw = dy (5), or dy * 1{|w| <= a} with ``clip_grad``; a is treated as a constant.

    dy: (...)  ->  dw: (...)

    >>> w, a = np.array([-9.0, 0.4]), np.array(3.0)
    >>> fixed_point_backward(np.ones(2), fixed_point(w, a, bits=3, clip_grad=True)[1])
    array([0., 1.])
    """
    check_gradient(dy, cache.inside.shape)
    return np.where(cache.inside, dy, 0)  # (5)


def fixed_point_codes(w: Float, a: Float, bits: int) -> tuple[Float, Float]:
    """q = round(clip(w, -a, a) / s),  s = a / (2^(b-1) - 1)

    w: (...), a: broadcasts to w, checked  ->  q: (...) as floats, s: shape of a

    A step below the smallest normal number is 0, and so are its codes.

    >>> fixed_point_codes(np.array([-9.0, 0.4, 0.6]), np.array(3.0), 3)
    (array([-3.,  0.,  1.]), np.float64(1.0))
    """
    s = a / (2 ** (bits - 1) - 1)
    s = s * (s >= np.finfo(w.dtype).tiny)
    t = np.clip(w, -a, a) / np.where(s > 0, s, 1)
    return np.where(s > 0, np.rint(t) + 0.0, 0), s  # + 0.0: a code has one zero


def gaussian_clip(w: Float, *, bits: int) -> Float:
    """a_i = mean|w_i| / c_b: the clip that is best for a Gaussian filter (appendix B).

    w: (O, ...)  ->  a: (O, 1, ...), dtype of w

    A solver: it has no backward. Raises ValueError for bits outside [2, 16].

    >>> gaussian_clip(np.full((1, 4), math.sqrt(2 / math.pi)), bits=4).round(4)
    array([[2.4739]])
    """
    check_values(w, name="w", bits=bits, least=2)
    m = mean_abs(w)  # (2)
    return m / GAUSSIAN_RATIO[bits]  # (B2); c < 1: normal where m is


def gaussian_mse(a: float, *, bits: int) -> float:
    """E (Q_a(w) - w)^2 of (1) for w ~ N(0, 1), from the moments (B1).

    a: ()  ->  ()

    >>> round(gaussian_mse(1.224, bits=2), 5)
    0.19017
    """
    check_bits(bits, least=2)
    steps = 2 ** (bits - 1) - 1
    s = a / steps
    k = np.arange(1, steps + 1)
    t = (k - 0.5) * s
    density = np.exp(-t * t / 2) / math.sqrt(2 * math.pi)
    tails = (2 * k - 1) * ndtr(-t)
    e_wq, e_qq = 2 * s * density.sum(), 2 * s * s * tails.sum()  # (B1)
    return float(1 - 2 * e_wq + e_qq)


@final
@dataclass(eq=False)
class FixedPoint(GridQuantizer):
    """Equation (1) with the clip of appendix B recomputed at every pass."""

    bits: int = 4
    clip_grad: bool = False

    pair = (fixed_point, fixed_point_backward)
    codes = staticmethod(signed_codes)
    options = ("bits", "clip_grad")
    fewest_bits = 2

    def arguments(self, v: Float, run: Run, bits: int) -> tuple[Any, ...]:
        """Give the clip of every filter: (O, 1, ...)."""
        if v.dtype not in FLOATS:
            check_values(v, name="w")
        return (mean_abs(v) / GAUSSIAN_RATIO[bits],)  # the pair checks the values

    def codes_and_scale(self, v: Float) -> tuple[Float, Float, int]:
        """Give the codes of (1) and s_i (O, 1, ...)."""
        q, s = fixed_point_codes(v, gaussian_clip(v, bits=self.bits), self.bits)
        return q, s, 0
