r"""Ternary Weight Networks: -alpha, 0, alpha with alpha the mean of the kept weights.

Li, Zhang, Liu. Ternary Weight Networks. arXiv:1605.04711.

    paper                            code       where
    Delta = 0.7 E|W|, (A)            threshold  twn, by ternary_statistics
    W^t: sgn(W) if |W| > Delta, (B)  t          twn, by ternary_codes
    alpha, mean |W| where kept, (A)  alpha      twn, by ternary_statistics
    W ~ alpha W^t, (C)               y          twn
    straight through, (D)            dw         twn_backward

(A) to (D) are names of this file, not numbers of the paper; the two functions are those
of ternary_weights.py.

Backward. Hold the residual r = y - W of the recorded weights: y = W + r has slope 1;
Delta and alpha are treated as constants (D).

The statistics belong to a layer, as in the released code; ``group="filter"`` is
``ternary(variant="twn")``, and both share its formula. Delta is the paper's rule of
thumb, not the best threshold: for a Gaussian the error is 0.1916 of the energy, at the
best one (0.612 sigma) 0.1902. Left open by the paper: what a layer of zeros gives
(zeros; in the released code 0 / 0).
"""

from dataclasses import dataclass
from typing import Literal, final

import numpy as np

from refqnn._types import Float
from refqnn.quantizers.checks import ResidualCache, check_values, group_axes
from refqnn.quantizers.module import GridQuantizer, signed_codes
from refqnn.quantizers.ternary_weights import (
    ternary_backward,
    ternary_codes,
    ternary_statistics,
)

Group = Literal["layer", "filter"]


def twn(
    w: Float, *, group: Group = "layer", frozen: ResidualCache | None = None
) -> tuple[Float, ResidualCache]:
    """y = alpha sgn(w) where |w| > 0.7 mean|w|, else 0;  alpha = mean|w| of the kept

    w: (O, ...)  ->  y: (O, ...), dtype of w

    A group of zeros gives zeros. Raises ValueError for NaN or infinity in w.

    ``frozen`` holds the residual that a cache recorded: see Backward, above.

    >>> twn(np.array([[4.0, -3.0], [1.0, 0.0]]))[0]
    array([[ 3.5, -3.5],
           [ 0. ,  0. ]])
    """
    check_values(w, name="w")
    if frozen is not None:
        return w + frozen.residual, frozen
    threshold, alpha = ternary_statistics(w, "twn", group=group)  # (A)
    t = ternary_codes(w, threshold, "twn")  # (B)
    y = alpha * t  # (C)
    return y, ResidualCache(y - w)


def twn_backward(dy: Float, cache: ResidualCache) -> Float:
    """dw = dy; threshold and scale are treated as constants.

    dy: (O, ...)  ->  dw: (O, ...)

    >>> twn_backward(np.array([[3.0]]), twn(np.array([[2.0]]))[1])
    array([[3.]])
    """
    return ternary_backward(dy, cache)  # (D)


@final
@dataclass(eq=False)
class TWN(GridQuantizer):
    """Threshold and scale recomputed at every pass."""

    group: Group = "layer"
    bits: int = 2

    pair = (twn, twn_backward)
    codes = staticmethod(signed_codes)
    options = ("group",)
    fewest_bits = most_bits = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        group_axes(np.zeros((1, 1)), self.group)

    def codes_and_scale(self, v: Float) -> tuple[Float, Float, int]:
        """Give W^t and alpha: (1, 1, ...) or (O, 1, ...)."""
        threshold, scale = ternary_statistics(v, "twn", group=self.group)
        return ternary_codes(v, threshold, "twn"), scale, 0

    def decision_boundaries(self, v: Float) -> Float:
        """Give -Delta and Delta of every group: (1, 2) or (O, 2)."""
        check_values(v, name="v")
        t = ternary_statistics(v, "twn", group=self.group)[0].reshape(-1, 1)
        return np.hstack([-t, t])
