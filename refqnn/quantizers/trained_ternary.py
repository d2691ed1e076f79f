r"""Trained ternary quantization: {-W_n, 0, +W_p} with both levels learned.

Zhu, Han, Mao, Dally. Trained Ternary Quantization. ICLR 2017, arXiv:1612.01064.

    paper                            code       where
    w_l^t, eq. (6)                   y          ttq
    W_l^p, W_l^n                     wp, wn     ttq
    dL/dW_l^p, dL/dW_l^n, eq. (7)    dwp, dwn   ttq_backward
    dL/dw_l, eq. (8)                 dw         ttq_backward
    Delta_l = t max|w|, eq. (9)      threshold  ttq_threshold

Backward. The codes are held: y = W_p above Delta and -W_n below, so W_p gets the sum of
the gradients above and W_n minus the sum of those below, both exactly (7). In w the
factor is that of (8): W_p above, 1 between, W_n below.

Erratum: equation (7) as printed gives both levels the plain sum of the gradients. The
output below -Delta is -W_n with W_n positive, so its gradient is *minus* the sum; the
released code, which is differentiated automatically, has that sign.

Choices: W_p and W_n are positive (raises; ``project`` puts them back after a step),
which the paper does not enforce and the released code can leave. A weight exactly on
the threshold is 0, as printed. Both levels start at 1.
"""

from dataclasses import dataclass, field
from typing import NamedTuple, final

import numpy as np

from refqnn._types import Float, Int
from refqnn.core import Param
from refqnn.ops.broadcast import sum_to
from refqnn.ops.checks import check_gradient, check_real
from refqnn.prompt import one_line
from refqnn.quantizers.checks import check_values
from refqnn.quantizers.module import Quantizer, positive_one


@one_line
class TTQCache(NamedTuple):
    """What the backward needs, and what freezes the codes and the factors of dw."""

    w: Float
    q: Float  # codes in {-1, 0, 1}
    wp: Float  # in the dtype of w
    wn: Float

    def factor(self) -> Float:
        """Return dy/dw of (8): W_p above, 1 between, W_n below."""
        return by_sign(self.q, self.wp, self.wn, between=1)


def ttq(
    w: Float,
    wp: Float | float,
    wn: Float | float,
    *,
    t: float,
    frozen: TTQCache | None = None,
) -> tuple[Float, TTQCache]:
    """y = W_p where w > Delta, -W_n where w < -Delta, else 0;  Delta = t max|w|

    w: (O, ...), wp, wn: broadcast to w, > 0  ->  y: (O, ...), dtype of w

    The maximum runs over the layer; with t >= 1 no weight is kept. Raises ValueError
    for levels below the smallest normal number, for a negative t, and for NaN or
    infinity in w or in the levels.

    ``frozen`` holds codes and factors of dw: see Backward. (A recorded cache refers to
    the ``w`` it was given: perturb a copy.)

    >>> ttq(np.array([[1.0, -0.5, 0.04, -0.05]]), 2.0, 3.0, t=0.05)[0]
    array([[ 2., -3.,  0.,  0.]])
    """
    wp, wn = check_levels(w, wp, wn)
    if frozen is not None:
        moved = frozen.factor() * (w - frozen.w)
        return by_sign(frozen.q, wp, -wn) + moved, frozen
    q = ttq_codes(w, ttq_threshold(w, t))
    return by_sign(q, wp, -wn), TTQCache(w, q, wp, wn)  # (6)


class TTQGrads(NamedTuple):
    """Gradients in the order of the arguments."""

    dw: Float
    dwp: Float
    dwn: Float


def ttq_backward(dy: Float, cache: TTQCache) -> TTQGrads:
    """dwp = sum of dy where w > Delta, dwn = -sum of dy where w < -Delta

    dy: (O, ...)  ->  dw: (O, ...) (8), dwp, dwn: shapes of wp, wn

    >>> w = np.array([[1.0, -0.5, 0.04]])
    >>> _, cache = ttq(w, np.array(2.0), np.array(3.0), t=0.05)
    >>> dw, dwp, dwn = ttq_backward(np.array([[1.0, 10.0, 100.0]]), cache)
    >>> dw, float(dwp), float(dwn)
    (array([[  2.,  30., 100.]]), 1.0, -10.0)
    """
    check_gradient(dy, cache.q.shape)
    dw = cache.factor() * dy  # (8)
    above, below = np.where(cache.q > 0, dy, 0), np.where(cache.q < 0, -dy, 0)  # (7)
    dwp, dwn = sum_to(above, cache.wp.shape), sum_to(below, cache.wn.shape)
    return TTQGrads(dw, np.asarray(dwp), np.asarray(dwn))


def ttq_threshold(w: Float, t: float) -> Float:
    """Delta = t max|w| over the layer (9); raises for a t that is negative or infinite.

    w: (O, ...)  ->  (), dtype of w

    >>> ttq_threshold(np.array([2.0, -4.0]), 0.25)
    array(1.)
    """
    check_real(t, name="t", low=0, high=1e6)
    return np.asarray(t * np.abs(w).max(initial=0), w.dtype)  # (9)


def ttq_codes(w: Float, threshold: Float) -> Float:
    """q = sgn(w) where |w| > Delta, else 0

    w: (O, ...), threshold: ()  ->  q: (O, ...) in {-1, 0, 1}
    """
    return np.where(np.abs(w) > threshold, np.sign(w), 0)


def by_sign(q: Float, above: Float, below: Float, *, between: float = 0) -> Float:
    """Return ``above`` where q > 0, ``below`` where q < 0 and ``between`` elsewhere.

    >>> by_sign(np.array([-1.0, 0.0, 1.0]), np.array(2.0), np.array(-3.0))
    array([-3.,  0.,  2.])
    """
    return np.where(q > 0, above, np.where(q < 0, below, q.dtype.type(between)))


def check_levels(w: Float, wp: Float | float, wn: Float | float) -> list[Float]:
    """Check weights and levels; give W_p and W_n in the dtype of w."""
    return check_values(w, name="w", positive={"level wp": wp, "level wn": wn})


@final
@dataclass(eq=False)
class TTQ(Quantizer):
    """Equation (6) with one pair of learned levels for a layer."""

    t: float = 0.05
    bits: int = 2
    wp: Param = field(init=False, default_factory=positive_one)
    wn: Param = field(init=False, default_factory=positive_one)

    pair = (ttq, ttq_backward)
    options = ("t",)
    parameters = ("wp", "wn")
    fewest_bits = most_bits = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        ttq_threshold(np.zeros(1), self.t)

    def encode(self, v: Float) -> tuple[Int, Float]:
        """Give ``(codes, levels)`` with levels -W_n, 0, W_p: ``levels[codes] == y``.

        v: (...)  ->  codes: (...) in {0, 1, 2}, levels: (3,)
        """
        wp, wn = check_levels(v, self.wp.value, self.wn.value)
        q = ttq_codes(v, ttq_threshold(v, self.t))
        return q.astype(np.int64) + 1, np.array([-wn, 0, wp], v.dtype)

    def decision_boundaries(self, v: Float) -> Float:
        """Give -Delta and Delta: (1, 2)."""
        check_values(v, name="v")
        threshold = ttq_threshold(v, self.t)
        return np.array([[-threshold, threshold]], v.dtype)
