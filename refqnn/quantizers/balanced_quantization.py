r"""Balanced Quantization: as many weights on every level.

Zhou, Wang, Wen, He, Zou. Balanced Quantization: An Effective and Efficient Approach to
Quantized Neural Networks. Journal of Computer Science and Technology 32, 2017,
arXiv:1706.07145. The paper's names for the parts, without its equation numbers:

    paper                                    code    where
    recursive partition by the median, (P)   t       cuts, balanced_thresholds
    the bin l of a weight, l of W_e, (L)     code    balanced_codes
    rescaling to [-S, S], (R)                y       balanced, odd_codes_and_step
    straight-through, (G)                    dw      balanced_backward

(P), (L), (R) and (G) are names of this file, not numbers of the paper.

Every set of weights is cut at its lower median (a median goes left), b times. The code
is the number of the leaf; the 2^b levels are even, y = 2 S (code / (2^b - 1) - 1/2).

Backward. Hold the residual r = y - w of the recorded weights: y = w + r has slope 1
everywhere, leaves and S being constants (G).

Left open by the paper or not confirmed, and chosen here:

- The paper maps every bin to an interval of width 2^-b (W_e) and rounds that. The leaf
  is used directly: the largest weight of a bin maps exactly to the edge of the next
  bin, so floor(2^b W_e) moves one weight a bin. Rounding (2^b - 1) W_e plainly is
  wrong: at b = 2 the shares are 1/6, 1/3, 1/3, 1/6.
- S is max |w|; ``scale="2E"`` is twice mean |w|, and may clip.
- ``split="mean"`` cuts at the mean instead (below it goes left): cheaper, and neither
  balanced nor unchanged by increasing maps.
- Equal weights stay together, so that with ties counts differ and leaves may be empty.
- A constant tensor has no median to cut at: S sgn(w), which is w itself for
  S = max |w|.
"""

from dataclasses import dataclass
from typing import Literal, final

import numpy as np

from refqnn._types import Float, Int
from refqnn.ops.checks import check_gradient
from refqnn.quantizers.checks import (
    ResidualCache,
    check_choice,
    check_values,
    flush,
    mean_abs,
)
from refqnn.quantizers.module import GridQuantizer, odd_codes

MOST_BITS = 8

Split = Literal["median", "mean"]
Scale = Literal["max", "2E"]


def balanced(
    w: Float,
    *,
    bits: int,
    split: Split = "median",
    scale: Scale = "max",
    frozen: ResidualCache | None = None,
) -> tuple[Float, ResidualCache]:
    """y = S (2 code - n) / n,  n = 2^b - 1, code the leaf of the recursive split

    w: (O, ...)  ->  y: (O, ...), dtype of w; all filters are one group

    Raises ValueError for NaN or infinity in w, for bits outside [1, 8] and for an
    unknown split or scale.

    ``frozen`` holds the residual that a cache recorded: see Backward, above.

    >>> balanced(np.array([0.1, 9.0, 0.3, 0.2]), bits=2)[0]
    array([-9.,  9.,  3., -3.])
    """
    check_values(w, name="w", bits=bits, most=MOST_BITS)
    check_options(split, scale)
    if frozen is not None:
        return w + frozen.residual, frozen
    q, s = odd_codes_and_step(w, bits, split, scale)
    y = s * q  # (R), s = S / n
    return y, ResidualCache(y - w)


def balanced_backward(dy: Float, cache: ResidualCache) -> Float:
    """dw = dy; partition and scale are treated as constants.

    dy: (O, ...)  ->  dw: (O, ...)

    >>> balanced_backward(np.array([3.0]), balanced(np.array([2.0]), bits=2)[1])
    array([3.])
    """
    check_gradient(dy, cache.residual.shape)
    return dy.copy()  # (G)


def check_options(split: str, scale: str) -> None:
    """Raise for an unknown split or scale."""
    check_choice(split, "median", "mean", name="split")
    check_choice(scale, "max", "2E", name="scale")


def odd_codes_and_step(
    w: Float, bits: int, split: str, scale: str
) -> tuple[Float, Float]:
    """Return 2 code - n, odd numbers in [-n, n], and S / n; a constant has 1 and S.

    w: (O, ...)  ->  q: (O, ...), s: (1, 1, ...), both in the dtype of w
    """
    mean = mean_abs(w, group="layer")
    s = 2 * mean if scale == "2E" else flush(np.abs(w).max(initial=0, keepdims=True))
    if is_constant(w):
        return np.where(w >= 0, 1, -1).astype(w.dtype), s
    n = 2**bits - 1
    code = balanced_codes(w, balanced_thresholds(w, bits, split), split)
    return (2 * code - n).astype(w.dtype), flush(s / np.asarray(n, w.dtype))


def is_constant(w: Float) -> bool:
    """Say whether there is nothing to split: at most one value."""
    return w.size == 0 or bool(w.min() == w.max())


def balanced_codes(w: Float, thresholds: Float, split: str) -> Int:
    """Return the leaf of every weight: how many thresholds it has passed.

    w: (...), thresholds: (2^b - 1,)  ->  (...); on the median goes left, on the mean
    right

    >>> balanced_codes(np.array([1.0, 2.0]), np.array([1.0, 1.5, 2.0]), "median")
    array([0, 2])
    """
    side: Literal["left", "right"] = "left" if split == "median" else "right"
    return np.searchsorted(thresholds, w, side=side)  # (L)


def balanced_thresholds(w: Float, bits: int, split: str) -> Float:
    """Return where the weights are cut, in ascending order.

    w: (...)  ->  (2^b - 1,), dtype of w

    >>> balanced_thresholds(np.array([0.1, 9.0, 0.3, 0.2]), 2, "median")
    array([0.1, 0.2, 0.3])
    """
    ascending = np.sort(w, axis=None)
    return np.array(cuts(ascending, bits, split, 0.0), w.dtype)


def cuts(w: Float, bits: int, split: str, last: float) -> list[float]:
    """Return the cuts of sorted ``w``; no weights repeat the last cut above them.

    w: (m,) ascending  ->  2^b - 1 numbers, ascending
    """
    if bits == 0:
        return []
    t = cut(w, split) if w.size else last  # (P)
    middle = int(np.searchsorted(w, t, side="right" if split == "median" else "left"))
    left, right = w[:middle], w[middle:]
    return [*cuts(left, bits - 1, split, t), t, *cuts(right, bits - 1, split, t)]


def cut(w: Float, split: str) -> float:
    """Return the lower median or the mean of sorted ``w``, as its dtype has it.

    >>> cut(np.array([1.0, 2.0, 9.0, 12.0]), "median")
    2.0
    >>> cut(np.array([1.0, 2.0, 9.0, 12.0]), "mean")
    6.0
    """
    if split == "median":
        return float(w[(w.size - 1) // 2])
    mean = w.mean(dtype=np.float64).astype(w.dtype)
    return float(np.clip(mean, w[0], w[-1]))  # of equal weights: not above them


@final
@dataclass(eq=False)
class Balanced(GridQuantizer):
    """The partition and the scale of all weights, found again at every pass."""

    bits: int = 4
    split: Split = "median"
    scale: Scale = "max"

    pair = (balanced, balanced_backward)
    codes = staticmethod(odd_codes)
    options = ("bits", "split", "scale")
    most_bits = MOST_BITS

    def __post_init__(self) -> None:
        super().__post_init__()
        check_options(self.split, self.scale)

    def codes_and_scale(self, v: Float) -> tuple[Float, Float, int]:
        """Give odd codes and S / n (1, 1, ...)."""
        q, s = odd_codes_and_step(v, self.bits, self.split, self.scale)
        return q, s, 0

    def decision_boundaries(self, v: Float) -> Float:
        """Give where the weights are cut: (1, 2^b - 1)."""
        check_values(v, name="v")
        return balanced_thresholds(v, self.bits, self.split)[None]
