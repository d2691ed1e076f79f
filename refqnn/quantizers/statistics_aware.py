r"""SAWB: weights clipped by their first two moments.

Choi, Chuang, Wang, Venkataramani, Srinivasan, Gopalakrishnan. Bridging the Accuracy Gap
for 2-bit Quantized Neural Networks (QNN). 2018, arXiv:1807.06964. Also: Accurate and
Efficient 2-bit Quantized Neural Networks. SysML 2019.

    paper                                code             where
    alpha*, (A)                          a                sawb_clip
    E|w|, sqrt(E w^2)                    mean, rms        sawb_clip
    c_1, c_2, fitted over distributions  c1, c2           SAWB_COEFFICIENTS
    quantized weights, (Q)               y                sawb
    straight through, (G)                dw               sawb_backward

(A), (Q) and (G) are names of this file, not numbers of the paper. ``alpha* = c1 rms -
c2 mean`` is fitted to the clips of least squared error of several distributions, of one
layer's weights each. The paper fits 2 bits and prints one pair, 3.2 and 2.1; the table
below is that of released code (fms-model-optimizer), whose 2-bit pair has more digits.

The grid of the paper has 2^b levels and no 0 ("mid_rise": odd codes, 2 bits give -a,
-a/3, a/3, a). Released code has a second one of 2^b - 1 levels with a 0 ("mid_tread"),
with coefficients of its own.

Backward. Hold the residual r = y - clip(w, -a, a), alpha* as a constant: slope 1 where
|w| <= a, else 0 (G). "sawb+" holds y - w: slope 1 everywhere.

Left open by the paper: ties (half to even of the level's index), and what happens where
alpha* is not a clip. It is negative if mean / rms > c1 / c2, as for weights of one
magnitude: alpha* = -0.12 |w| at 4 bits, -3.28 |w| at 8. Released code falls back to
max|w|; here also just above 0, where alpha* < mean / 4. ``gradient="sawb"`` masks
the clipped weights, "sawb+" passes everything; alpha* has no gradient in either.
"""

from dataclasses import dataclass, field
from typing import Any, Literal, final

import numpy as np

from refqnn._types import Float, Int
from refqnn.core import Buffer, Run
from refqnn.ops.straight_through import (
    StraightThroughCache,
    frozen_form,
    masked_backward,
    residual,
)
from refqnn.quantizers.checks import check_bits, check_choice, check_values, flush
from refqnn.quantizers.module import GridQuantizer, unset, zero

Grid = Literal["mid_rise", "mid_tread"]
Gradient = Literal["sawb", "sawb+"]

#: c1, c2 of (A), by grid and bits
SAWB_COEFFICIENTS = {
    "mid_rise": {
        2: (3.12, 2.064),
        3: (7.509, 6.892),
        4: (12.68, 12.80),
        5: (17.74, 18.64),
        8: (31.76, 35.04),
    },
    "mid_tread": {
        2: (2.6, 1.71),
        4: (12.035, 12.03),
        7: (28.24, 30.81),
        8: (31.76, 35.04),
    },
}


def sawb(
    w: Float,
    *,
    bits: int,
    grid: Grid = "mid_rise",
    clip: Float | float | None = None,
    gradient: Gradient = "sawb",
    frozen: StraightThroughCache | None = None,
) -> tuple[Float, StraightThroughCache]:
    """y = a (2 round(n (clip(w / a, -1, 1) / 2 + 1/2)) / n - 1)

    w: (...), clip a: ()  ->  y: (...), dtype of w

    n = 2^b - 1 ("mid_rise"), 2^b - 2 ("mid_tread"): n + 1 levels from -a to a. Without
    ``clip`` it is ``sawb_clip(w)``; with it, bits may be any in [2, 16]. A clip of 0
    gives zeros. Raises ValueError for bits without coefficients, a negative clip,
    unknown options, and NaN or infinity in w or clip.

    ``frozen`` holds the residual that a cache recorded: see Backward, above.

    >>> sawb(np.array([-9.0, -0.5, 0.5, 2.5]), bits=2, clip=3.0)[0]
    array([-3., -1.,  1.,  3.])
    >>> sawb(np.array([-9.0, -0.5, 0.5, 2.5]), bits=2, grid="mid_tread", clip=3.0)[0]
    array([-3.,  0.,  0.,  3.])
    """
    check_values(w, name="w")
    if frozen is not None:
        return frozen_form(w, frozen), frozen
    check_choice(gradient, "sawb", "sawb+", name="gradient")
    a = sawb_clip(w, bits, grid) if clip is None else clip
    a, step = clip_and_step(w, a, bits, grid)
    y = step * sawb_codes(w, a, step, grid)  # (Q)
    inside = (np.abs(w) <= a) | (gradient == "sawb+")
    return y, StraightThroughCache(inside, residual(w, y, inside))


def sawb_backward(dy: Float, cache: StraightThroughCache) -> Float:
    """dw = dy 1{|w| <= a}, with "sawb+" dw = dy; a is treated as a constant.

    dy: (...)  ->  dw: (...)

    >>> w = np.array([-9.0, 0.4, 3.0])
    >>> sawb_backward(np.ones(3), sawb(w, bits=2, clip=3.0)[1])
    array([0., 1., 1.])
    """
    return masked_backward(dy, cache)  # (G)


def sawb_clip(w: Float, bits: int, grid: Grid = "mid_rise") -> Float:
    """a = c1 sqrt(mean w^2) - c2 mean|w|, or max|w| where that is below mean|w| / 4.

    w: (...)  ->  a: (), dtype of w; 0 if w is all zero

    A solver: it has no backward. Raises ValueError for bits without coefficients and
    for NaN or infinity in w.

    >>> round(float(sawb_clip(np.array([-3.0, 1.0, 0.0, 0.0]), 2)), 4)  # rms 1.5811
    2.8692
    >>> sawb_clip(np.array([-1.5, 1.5]), 4)  # one magnitude: max|w|
    array(1.5)
    """
    check_values(w, name="w")
    c1, c2 = coefficients(bits, grid)
    largest = np.abs(w).max(initial=0).astype(np.float64)
    if largest < np.finfo(w.dtype).tiny:
        return np.zeros((), w.dtype)
    share = np.abs(w).astype(np.float64) / largest  # squares cannot overflow
    mean, rms = share.mean(), np.sqrt(np.mean(share * share))
    a = c1 * rms - c2 * mean  # (A)
    return np.asarray(largest * (1 if a < mean / 4 else a), w.dtype)


def coefficients(bits: int, grid: Grid) -> tuple[float, float]:
    """Return c1 and c2; raise for bits that released code does not have."""
    steps(2, grid)
    check_bits(bits, least=2, most=8)
    table = SAWB_COEFFICIENTS[grid]
    if bits not in table:
        raise ValueError(f"bits of {grid} must be one of {[*table]}, got {bits}")
    return table[bits]


def steps(bits: int, grid: Grid) -> int:
    """n, the number of steps: 2^b - 1 (mid_rise) or 2^b - 2 (mid_tread)."""
    check_bits(bits, least=2)
    check_choice(grid, *SAWB_COEFFICIENTS, name="grid")
    return int(2**bits - (1 if grid == "mid_rise" else 2))


def largest_code(bits: int, grid: Grid) -> int:
    """Return the code of a: n with odd codes (mid_rise), n / 2 (mid_tread)."""
    n = steps(bits, grid)
    return n if grid == "mid_rise" else n // 2


def clip_and_step(
    w: Float, a: Float | float, bits: int, grid: Grid
) -> tuple[Float, Float]:
    """Return a and the factor of its codes, a / largest code, in the dtype of w."""
    top = largest_code(bits, grid)
    (a,) = check_values(w, name="w", clip=a)
    if a.shape or a < 0:
        raise ValueError(f"clip must be one number, not negative, got {a}")
    return a, flush(a / top)


def sawb_codes(w: Float, a: Float, step: Float, grid: Grid) -> Float:
    """q = 2 k - n (mid_rise: odd) or k - n / 2 (mid_tread), k = round(...) of (Q).

    Written in steps u = w / step, near 0 without loss: there (Q) adds 1/2 to w. A tie
    goes to even k, which is an odd code of mid_tread. Where the step is 0 the code is
    that of w = 0.

    w: (...), a, step: ()  ->  q: (...), as floats
    """
    u = np.where(step > 0, np.clip(w, -a, a) / np.where(step > 0, step, 1), 0)
    if grid == "mid_tread":
        return np.rint(u - 1) + 1
    sign = np.where(u >= 0, np.ones_like(u), -np.ones_like(u))
    return np.where(np.abs(u) < 1, sign, 2 * np.rint((u - 1) / 2) + 1)


@final
@dataclass(eq=False)
class SAWB(GridQuantizer):
    """Each training pass computes the clip of a layer and keeps it for evaluation.

    A call with other ``bits`` computes a clip for them and keeps nothing.
    """

    bits: int = 4
    levels: Grid = "mid_rise"
    gradient: Gradient = "sawb"
    clip: Buffer = field(init=False, default_factory=zero)
    #: 1 once the clip is known
    known: Buffer = field(init=False, default_factory=unset)

    pair = (sawb, sawb_backward)
    fewest_bits, most_bits = 2, 8
    unknown = "the clip is unknown: train, or call set_clip(clip)"

    def __post_init__(self) -> None:
        coefficients(self.bits, self.levels)
        sawb(np.zeros(1), bits=2, clip=0.0, gradient=self.gradient)

    def begin(self, v: Float, run: Run, bits: int) -> None:
        """Set the clip (A) of this pass."""
        if bits == self.bits:
            solve = run.backend.quantizers.sawb_clip
            self.set_clip(solve(v, bits, self.levels))

    def arguments(self, v: Float, run: Run, bits: int) -> tuple[Any, ...]:
        """Check that the clip of the module's own bits is known."""
        if bits == self.bits:
            self.check_known(v)
        return ()

    def keywords(self, v: Float, run: Run, bits: int) -> dict[str, Any]:
        """Give bits, grid, gradient and the clip; of other bits the clip is None."""
        clip = self.clip.value if bits == self.bits else None
        own = {"grid": self.levels, "gradient": self.gradient}
        return {"bits": bits, "clip": clip, **own}

    def set_clip(self, clip: Float | float) -> None:
        """Set the clip: calibration without training."""
        self.hold(clip=clip_and_step(np.zeros(1), clip, self.bits, self.levels)[0])

    def grid(self) -> Int:
        """List the integer codes: odd (mid_rise), or -n/2 .. n/2 (mid_tread)."""
        step = 2 if self.levels == "mid_rise" else 1
        top = largest_code(self.bits, self.levels)
        return np.arange(-top, top + 1, step)

    def codes_and_scale(self, v: Float) -> tuple[Float, Float, int]:
        """Give the codes of (Q) and the factor of a code ()."""
        a, step = clip_and_step(v, self.clip.value, self.bits, self.levels)
        return sawb_codes(v, a, step, self.levels), step, 0
