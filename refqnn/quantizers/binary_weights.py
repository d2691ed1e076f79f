r"""Binary weights: the sign, times the mean magnitude.

Chin, Chuang, Chandra, Marculescu. One Weight Bitwidth to Rule Them All. ECCV Workshops
2020, arXiv:2008.09916 ("Pareto").

    paper                    code        where
    mean |W_i|, eq. (2)      m           binary, by checks.mean_abs
    Q(W_i), eq. (4)          y           binary
    dQ/dW = I, eq. (5)       dw          binary_backward

Backward. Hold the residual r = Q(W) - W of the recorded weights: Q = W + r has slope 1
(5); the mean is treated as a constant.

The paper credits DoReFa (Zhou et al. 2016), whose scale is one per layer:
``group="layer"``. The printed scale per filter is that of XNOR-Net (Rastegari et al.
2016). Left open by the paper: the sign of 0. Here: +1, so that there are two levels.
"""

from dataclasses import dataclass
from typing import Literal, final

import numpy as np

from refqnn._types import Float
from refqnn.ops.checks import check_gradient
from refqnn.quantizers.checks import ResidualCache, check_values, group_axes, mean_abs
from refqnn.quantizers.module import GridQuantizer, odd_codes

Group = Literal["filter", "layer"]


def binary(
    w: Float, *, group: Group = "filter", frozen: ResidualCache | None = None
) -> tuple[Float, ResidualCache]:
    """y = m_i * sgn(w),  m_i = mean|w_i|,  sgn(0) = +1

    w: (O, ...)  ->  y: (O, ...), dtype of w

    A group of zeros gives zeros. Raises ValueError for NaN or infinity in w.

    ``frozen`` holds the residual that a cache recorded: see Backward, above.

    >>> binary(np.array([[3.0, -1.0], [0.0, 4.0]]))[0]
    array([[ 2., -2.],
           [ 2.,  2.]])
    """
    check_values(w, name="w")
    if frozen is not None:
        return w + frozen.residual, frozen
    m = mean_abs(w, group=group)  # (2)
    y = m * binary_codes(w, m)  # (4)
    return y, ResidualCache(y - w)


def binary_backward(dy: Float, cache: ResidualCache) -> Float:
    """dw = dy (5); the scale is treated as a constant.

    dy: (O, ...)  ->  dw: (O, ...)

    >>> binary_backward(np.array([[3.0]]), binary(np.array([[2.0]]))[1])
    array([[3.]])
    """
    check_gradient(dy, cache.residual.shape)
    return dy.copy()  # (5)


def binary_codes(w: Float, m: Float) -> Float:
    """q = sgn(w), as floats; +1 where the scale m is 0.

    w: (O, ...), m: broadcasts to w  ->  q: (O, ...) in {-1, 1}
    """
    one = np.ones((), w.dtype)
    return np.where((w >= 0) | (m == 0), one, -one)


@final
@dataclass(eq=False)
class Binary(GridQuantizer):
    """Equation (4) with the scale recomputed at every pass."""

    group: Group = "filter"
    bits: int = 1

    pair = (binary, binary_backward)
    codes = staticmethod(odd_codes)
    options = ("group",)
    most_bits = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        group_axes(np.zeros((1, 1)), self.group)

    def codes_and_scale(self, v: Float) -> tuple[Float, Float, int]:
        """Give the signs and m_i: (O, 1, ...) or (1, 1, ...)."""
        m = mean_abs(v, group=self.group)
        return binary_codes(v, m), m, 0
