r"""Affine quantization with an integer zero-point and a running range.

Jacob, Kligys, Chen, Zhu, Tang, Howard, Adam, Kalenichenko. Quantization and Training of
Neural Networks for Efficient Integer-Arithmetic-Only Inference. CVPR 2018,
arXiv:1712.05877.

    paper                          code                 where
    r = S (q - Z), eq. (1)         y                    affine
    S, eq. (12): s(a, b, n)        scale                affine_grid
    clamp, rounding, eq. (12)      clipped, q           affine
    Z, section 3.1: nudged to an   zero_point           affine_grid
      integer so that 0 is exact,
      (Z)
    [a; b], section 3.1            lo, hi               batch_range, Affine.observe
    EMA with smoothing near 1      decay                Affine.observe
    straight through, (G)          dx                   affine_backward

(Z) and (G) are names of this file, not numbers of the paper.

Backward. Hold Z, the range and the residual of the rounding, r = y - clamp(x): then y =
clamp(x) + r, whose slope is 1 where the clamp does not act and 0 where it does (G).

Left open by the paper: ties (``rounding``; released code rounds half up, here half to
even), whether x / S is rounded before or after Z is added (here before: Z is an
integer), what follows a range without width (one level, 0), and the gradient: one where
the clamp does not act, no gradient for the range.

The scale is computed in float64 and rounded once to the dtype of x.
"""

from dataclasses import dataclass, field
from typing import NamedTuple, final

import numpy as np

from refqnn._types import Bool, Float, Int
from refqnn.core import Buffer, Run
from refqnn.integer.rounding import ROUND, check_rounding
from refqnn.ops.checks import FLOATS, check_float, check_gradient
from refqnn.prompt import one_line
from refqnn.quantizers.checks import LARGEST, check_values
from refqnn.quantizers.module import GridQuantizer, unset, zero


@one_line
class AffineCache(NamedTuple):
    """What the backward needs, and what freezes rounding, mask and range."""

    x: Float
    y: Float
    inside: Bool  # where the clamp does not act


class AffineGrid(NamedTuple):
    """The levels ``scale * (q - zero_point)``, q_min <= q <= q_max."""

    scale: Float
    zero_point: Float  # integers, in the dtype of x
    q_min: Float
    q_max: Float

    def ends(self) -> tuple[Float, Float]:
        """Return the lowest and the highest level: the nudged range."""
        return (
            self.scale * (self.q_min - self.zero_point),
            self.scale * (self.q_max - self.zero_point),
        )


def affine(
    x: Float,
    lo: Float | float,
    hi: Float | float,
    *,
    bits: int,
    narrow_range: bool = False,
    rounding: str = "half_even",
    frozen: AffineCache | None = None,
) -> tuple[Float, AffineCache]:
    """y = S (q - Z),  q = round(clamp(x) / S) + Z,  S = (hi - lo) / (2^b - 1)

    x: (...), lo, hi: broadcast to x  ->  y: (...), dtype of x

    The range is widened to hold 0, then nudged so that 0 is a level. 2^b levels, with
    ``narrow_range`` one fewer; bits in [1, 16] (narrow [2, 16]). A range whose step is
    below the smallest normal number has the single level 0. Raises ValueError for lo >
    hi, and for NaN or infinity in x or the range.

    ``frozen`` holds residual, mask and range: see Backward. (A recorded cache refers to
    the ``x`` it was given: perturb a copy.)

    >>> affine(np.array([-1.0, 0.4, 0.6, 9.0]), 0.0, 3.0, bits=2)[0]
    array([0., 0., 1., 3.])
    """
    if frozen is not None:
        check_values(x, name="x")
        residual = frozen.y - np.where(frozen.inside, frozen.x, 0)
        return np.where(frozen.inside, x, 0) + residual, frozen
    grid = affine_grid(
        x, lo, hi, bits=bits, narrow_range=narrow_range, rounding=rounding
    )
    scale, zero_point, q_min, q_max = grid
    lowest, highest = scale * (q_min - zero_point), scale * (q_max - zero_point)
    clipped = np.clip(x, lowest, highest)
    q = ROUND[rounding](clipped / scale) + zero_point  # (12)
    y = scale * (q - zero_point)  # (1)
    return y, AffineCache(x, y, clipped == x)


def affine_backward(dy: Float, cache: AffineCache) -> Float:
    """dx = dy where x lies within the nudged range, its ends included, else 0.

    dy: (...)  ->  dx: (...)

    >>> x = np.array([-1.0, 0.0, 0.4, 3.0, 9.0])
    >>> affine_backward(np.ones(5), affine(x, 0.0, 3.0, bits=2)[1])
    array([0., 1., 1., 1., 0.])
    """
    check_gradient(dy, cache.inside.shape)
    return np.where(cache.inside, dy, 0)  # (G)


def affine_grid(
    x: Float,
    lo: Float | float,
    hi: Float | float,
    *,
    bits: int,
    narrow_range: bool = False,
    rounding: str = "half_even",
) -> AffineGrid:
    """S = (hi - lo) / (q_max - q_min),  Z = round(q_min - lo / S) within [q_min, q_max]

    lo, hi: broadcast to x  ->  four arrays of their shape, dtype of x

    >>> affine_grid(np.zeros(1), -1.0, 2.0, bits=2)
    AffineGrid(scale=array(1.), zero_point=array(1.), q_min=array(0.), q_max=array(3.))
    """
    if rounding not in ROUND:
        check_rounding(rounding)
    lo, hi = check_values(
        x, name="x", bits=bits, least=1 + narrow_range, dtype=np.float64, lo=lo, hi=hi
    )
    if np.any(lo > hi):
        raise ValueError(f"lo must not exceed hi, got lo = {lo}, hi = {hi}")
    lo, hi = np.minimum(lo, 0), np.maximum(hi, 0)
    q_min, q_max = int(narrow_range), 2**bits - 1
    wide = (hi - lo) / (q_max - q_min)  # (12)
    live = wide.astype(x.dtype) >= np.finfo(x.dtype).tiny
    scale = np.where(live, wide, 1)
    z = np.clip(ROUND[rounding](q_min - lo / scale), q_min, q_max)  # (Z)
    return AffineGrid(
        scale.astype(x.dtype),
        np.where(live, z, q_min).astype(x.dtype),
        np.full(wide.shape, q_min, x.dtype),
        np.where(live, q_max, q_min).astype(x.dtype),
    )


def batch_range(x: Float) -> tuple[Float, Float]:
    """Return ``(min(x, 0), max(x, 0))`` over everything: a range that holds 0.

    x: (...)  ->  lo: (), hi: (), dtype of x

    Raises ValueError for NaN or infinity in x. An empty array gives (0, 0).

    >>> batch_range(np.array([0.5, 2.0]))
    (array(0.), array(2.))
    """
    if getattr(x, "dtype", None) not in FLOATS:
        check_float(x=x)
    lo, hi = x.min(initial=0), x.max(initial=0)  # NaN where x has one
    if not max(-lo, hi) <= LARGEST[x.dtype]:
        check_values(x, name="x")
    return np.asarray(lo + 0.0), np.asarray(hi + 0.0)  # 0.0, never -0.0


@final
@dataclass(eq=False)
class Affine(GridQuantizer):
    """An activation quantizer: running range in training, the same range in evaluation.

    The running mean of the batch ranges is debiased: after t updates it is ``sum_i
    decay^(t - i) range_i`` divided by ``sum_i decay^(t - i)``, so that the first update
    sets it to the first range exactly.
    """

    bits: int = 4
    #: weight of the past; 1 - decay is the weight of a batch after many
    decay: float = 0.95
    narrow_range: bool = False
    rounding: str = "half_even"
    lo: Buffer = field(init=False, default_factory=zero)
    hi: Buffer = field(init=False, default_factory=zero)
    updates: Buffer = field(init=False, default_factory=unset)

    pair = (affine, affine_backward)
    options = ("bits", "narrow_range", "rounding")
    parameters = ("lo", "hi")
    unknown = "the range is unknown: train, or call set_range(lo, hi)"
    known_by = "updates"

    def __post_init__(self) -> None:
        self.fewest_bits = 1 + self.narrow_range
        self.bits_of(None)
        check_rounding(self.rounding)
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay must lie in [0, 1), got {self.decay}")

    def begin(self, v: Float, run: Run, bits: int) -> None:
        """Let the range of the batch join the running range."""
        self.observe(*run.backend.quantizers.batch_range(v))

    def observe(self, lo: Float | float, hi: Float | float) -> None:
        """Let the range of one batch join the running range."""
        t = int(self.updates.value) + 1
        share = (1 - self.decay) / (1 - self.decay**t)  # 1 at t = 1
        was_lo, was_hi = self.lo.value, self.hi.value
        self.lo.value = np.asarray(was_lo + share * (min(float(lo), 0.0) - was_lo))
        self.hi.value = np.asarray(was_hi + share * (max(float(hi), 0.0) - was_hi))
        self.updates.value = np.asarray(t)

    def set_range(self, lo: Float | float, hi: Float | float) -> None:
        """Set the range, widened to hold 0: calibration without training.

        Raises ValueError for lo > hi and for what is not finite.
        """
        affine_grid(np.zeros(1), lo, hi, bits=self.bits, narrow_range=self.narrow_range)
        self.hold(lo=min(float(lo), 0.0), hi=max(float(hi), 0.0))

    def grid_of(self, v: Float) -> AffineGrid:
        """Give the grid of the running range in the dtype of ``v``."""
        return affine_grid(
            v,
            self.lo.value,
            self.hi.value,
            bits=self.bits,
            narrow_range=self.narrow_range,
            rounding=self.rounding,
        )

    def grid(self) -> Int:
        """List the integer codes of the running range: 0 or 1 .. 2^b - 1."""
        at = self.grid_of(np.zeros(1))
        return np.arange(int(at.q_min), int(at.q_max) + 1)

    def codes_on_grid(self, v: Float) -> tuple[Float, Float, Float, Int]:
        """Give unsigned codes, S (), Z () and the codes there are."""
        at = self.grid_of(v)
        q = ROUND[self.rounding](np.clip(v, *at.ends()) / at.scale) + at.zero_point
        grid = np.arange(int(at.q_min), int(at.q_max) + 1)
        return q, at.scale, at.zero_point, grid
