r"""Ternary weights at 0.7 of the mean magnitude: the "2 bit" of Pareto, and TWN.

Chin, Chuang, Chandra, Marculescu. One Weight Bitwidth to Rule Them All. ECCV Workshops
2020, arXiv:2008.09916 ("Pareto"). Li, Zhang, Liu. Ternary Weight Networks.
arXiv:1605.04711 ("TWN").

    paper                    code        where
    mean |W_i|, eq. (2)      m           ternary_statistics, by checks.mean_abs
    M_ij, eq. (3)            keep        ternary_codes
    Q(W_i), eq. (3)          y           ternary
    dQ/dW = I, eq. (5)       dw          ternary_backward

Equation (3) as printed compares the *signed* weight with 0.7 mean|W_i|: every negative
weight is masked, two levels {0, +m} remain, and a Gaussian filter keeps 0.64 of its
energy as error. Its scale is printed |W_i| without the bar; read elementwise the result
is W * M, which is pruned and not quantized. Three readings:

    variant      keep                   scale                    Gaussian MSE
    resolved     |w| >= 0.7 mean|w|     mean|w| of all           0.2776
    printed       w  >= 0.7 mean|w|     mean|w| of all           0.6388
    twn          |w| >  0.7 mean|w|     mean|w| of the kept      0.1916

Backward. Hold the residual r = Q(W) - W of the recorded weights: Q = W + r has slope 1
(5); threshold and scale are treated as constants.

The paper credits trained ternary quantization (Zhu et al. 2017), whose scales are
learned and whose threshold is a share of max|w|; the rule it prints is TWN's, with
another scale.
"""

from dataclasses import dataclass
from typing import Literal, final

import numpy as np

from refqnn._types import Float, Int
from refqnn.ops.checks import check_gradient
from refqnn.quantizers.checks import ResidualCache, check_values, mean_abs, mean_kept
from refqnn.quantizers.module import GridQuantizer

Variant = Literal["resolved", "printed", "twn"]


def ternary(
    w: Float, *, variant: Variant = "resolved", frozen: ResidualCache | None = None
) -> tuple[Float, ResidualCache]:
    """y = m_i * sgn(w) where |w| >= 0.7 m_i, else 0,  m_i = mean|w_i|

    w: (O, ...)  ->  y: (O, ...), dtype of w

    Variants are tabled at the top of this file. A filter of zeros gives zeros.
    Raises ValueError for NaN or infinity in w and for an unknown variant.

    ``frozen`` holds the residual that a cache recorded: see Backward, above.

    >>> ternary(np.array([[4.0, -3.0, 1.0, 0.0]]))[0]
    array([[ 2., -2.,  0.,  0.]])
    >>> ternary(np.array([[4.0, -3.0, 1.0, 0.0]]), variant="twn")[0]
    array([[ 3.5, -3.5,  0. ,  0. ]])
    """
    check_values(w, name="w")
    if frozen is not None:
        return w + frozen.residual, frozen
    threshold, scale = ternary_statistics(w, variant)
    y = scale * ternary_codes(w, threshold, variant)  # (3)
    return y, ResidualCache(y - w)


def ternary_backward(dy: Float, cache: ResidualCache) -> Float:
    """dw = dy (5); the threshold and the scale are treated as constants.

    dy: (O, ...)  ->  dw: (O, ...)

    >>> ternary_backward(np.array([[3.0]]), ternary(np.array([[2.0]]))[1])
    array([[3.]])
    """
    check_gradient(dy, cache.residual.shape)
    return dy.copy()  # (5)


def ternary_statistics(
    w: Float, variant: Variant, *, group: str = "filter"
) -> tuple[Float, Float]:
    """Return threshold 0.7 m_i and scale, in the dtype of w.

    w: (O, ...)  ->  threshold, scale: (O, 1, ...), or (1, 1, ...) with group="layer"
    """
    if variant not in {"resolved", "printed", "twn"}:
        raise ValueError(f"variant must be resolved, printed or twn, got {variant!r}")
    m = mean_abs(w, group=group)  # (2)
    threshold = 0.7 * m
    if variant == "twn":
        return threshold, mean_kept(np.abs(w), np.abs(w) > threshold, group=group)
    return threshold, m


def ternary_codes(w: Float, threshold: Float, variant: Variant) -> Float:
    """q = sgn(w) M, as floats; 0 where the threshold is 0.

    w: (O, ...), threshold: (O, 1, ...)  ->  q: (O, ...) in {-1, 0, 1}
    """
    keep = {
        "resolved": np.abs(w) >= threshold,
        "printed": w >= threshold,
        "twn": np.abs(w) > threshold,
    }[variant]
    return np.where(keep & (threshold > 0), np.sign(w), 0)


@final
@dataclass(eq=False)
class Ternary(GridQuantizer):
    """Equation (3) with threshold and scale recomputed at every pass."""

    variant: Variant = "resolved"
    bits: int = 2

    pair = (ternary, ternary_backward)
    options = ("variant",)
    fewest_bits = most_bits = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        ternary_statistics(np.zeros((1, 1)), self.variant)

    def grid(self) -> Int:
        """List the integer codes -1, 0, 1; as printed 0, 1."""
        return np.array([0, 1] if self.variant == "printed" else [-1, 0, 1])

    def codes_and_scale(self, v: Float) -> tuple[Float, Float, int]:
        """Give sgn(w) M and the scale (O, 1, ...)."""
        threshold, scale = ternary_statistics(v, self.variant)
        return ternary_codes(v, threshold, self.variant), scale, 0

    def decision_boundaries(self, v: Float) -> Float:
        """Give -0.7 m_i (if any) and 0.7 m_i: (O, 2), as printed (O, 1)."""
        check_values(v, name="v")
        t = ternary_statistics(v, self.variant)[0].reshape(-1, 1)
        return t if self.variant == "printed" else np.hstack([-t, t])
