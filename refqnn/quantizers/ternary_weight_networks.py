r"""Ternary Weight Networks: -alpha, 0, alpha with alpha the mean of the kept weights.

Li, Zhang, Liu. Ternary Weight Networks. arXiv:1605.04711.

    paper                            code       where
    Delta = 0.7 E|W|                 threshold  twn, by ternary.ternary_statistics
    W^t in {-1, 0, +1}, |W| > Delta  q          twn, by ternary.ternary_codes
    alpha, mean |W| where kept       scale      twn, by ternary.ternary_statistics
    straight through                 dw         twn_backward

The statistics belong to a layer, as in the released code; ``group="filter"`` is
``ternary(variant="twn")``, and both share its formula. Delta is the paper's rule of
thumb, not the best threshold: for a Gaussian the error is 0.1916 of the energy, at the
best one (0.612 sigma) 0.1902. Left open by the paper: what a layer of zeros gives
(zeros; in the released code 0 / 0).
"""

from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np

from refqnn._types import Float, Int
from refqnn.core import Run
from refqnn.quantizers.checks import (
    as_codes,
    check_bits,
    check_finite,
    codebook,
    group_axes,
)
from refqnn.quantizers.ternary_weights import (
    TernaryCache,
    ternary_backward,
    ternary_codes,
    ternary_statistics,
)

Group = Literal["layer", "filter"]


def twn(
    w: Float, *, group: Group = "layer", frozen: TernaryCache | None = None
) -> tuple[Float, TernaryCache]:
    """y = alpha sgn(w) where |w| > 0.7 mean|w|, else 0;  alpha = mean|w| of the kept

    w: (O, ...)  ->  y: (O, ...), dtype of w

    A group of zeros gives zeros. Raises ValueError for NaN or infinity in w.

    With ``frozen``, the recorded residual is added to w: the smooth function whose
    exact gradient ``twn_backward`` is.

    >>> twn(np.array([[4.0, -3.0], [1.0, 0.0]]))[0]
    array([[ 3.5, -3.5],
           [ 0. ,  0. ]])
    """
    check_finite(w, name="w")
    if frozen is not None:
        return w + frozen.residual, frozen
    threshold, scale = ternary_statistics(w, "twn", group=group)
    y = scale * ternary_codes(w, threshold, "twn")
    return y, TernaryCache(y - w)


def twn_backward(dy: Float, cache: TernaryCache) -> Float:
    """dw = dy; threshold and scale are treated as constants.

    dy: (O, ...)  ->  dw: (O, ...)

    >>> twn_backward(np.array([[3.0]]), twn(np.array([[2.0]]))[1])
    array([[3.]])
    """
    return ternary_backward(dy, cache)


@final
@dataclass(eq=False)
class TWN:
    """Threshold and scale recomputed at every pass."""

    group: Group = "layer"
    bits: int = 2

    def __post_init__(self) -> None:
        check_bits(self.bits, least=2, most=2)
        group_axes(np.zeros((1, 1)), self.group)

    def forward(
        self, v: Float, run: Run, *, bits: int | None = None
    ) -> tuple[Float, Any]:
        """Quantize the filters ``v: (O, ...)``; ``bits`` can only be 2."""
        check_bits(self.bits if bits is None else bits, least=2, most=2)
        q = run.backend.quantizers
        y, cache = run.straight_through(q.twn, v, group=self.group)
        run.see(self, v, y)
        return y, (q, cache)

    def backward(self, dy: Float, cache: Any) -> Float:
        """Return dv."""
        q, recorded = cache
        return q.twn_backward(dy, recorded)

    def grid(self) -> Int:
        """Return the integer codes -1, 0, 1."""
        return np.array([-1, 0, 1])

    def quantize(self, v: Float) -> tuple[Int, Float, Int]:
        """Return codes, scale (1, 1, ...) or (O, 1, ...) and zero-point 0."""
        check_finite(v, name="v")
        threshold, scale = ternary_statistics(v, "twn", group=self.group)
        q = as_codes(ternary_codes(v, threshold, "twn"), self.grid())
        return q, scale, np.zeros(scale.shape, np.int32)

    def encode(self, v: Float) -> tuple[Int, Float]:
        """Return ``(codes, levels)``, one codebook a group, ``levels[codes] == y``."""
        return codebook(*self.quantize(v), self.grid())

    def decision_boundaries(self, v: Float) -> Float:
        """Return -Delta and Delta of every group: (1, 2) or (O, 2)."""
        check_finite(v, name="v")
        t = ternary_statistics(v, "twn", group=self.group)[0].reshape(-1, 1)
        return np.hstack([-t, t])
