r"""A learned minimum and maximum: the affine grid whose ends are parameters.

You, Park, Lee, An, Patel, Nagel. How to Parameterize Asymmetric Quantization Ranges for
Quantization-Aware Training. 2024, arXiv:2404.16898: the parameterization "min/max".

    paper                           code          where
    theta_min, theta_max            lo, hi        learned_min_max
    s = (max - min) / (2^b - 1),    scale         range_grid
      (S)
    z, the rounded min / s, (Z)     -zero_point   range_grid
    x_hat, (Y)                      y             learned_min_max
    gradient of x_hat in x, (X)     dx            learned_min_max_backward
    those of min, (L), max, (H)     dlo, dhi      learned_min_max_backward

Letters are names of this file, not numbers of the paper. With n = 2^b - 1 and r for
rounding,

    s = (hi - lo) / n                                                   (S)
    Z = -r(lo / s)                                                      (Z)
    y = s (clip(r(x / s) + Z, 0, n) - Z)                                (Y)

Backward. Straight through each rounding its residual is held, e = r(t) - t. Not
clipped, y = s r(x / s) = x + s e with e that of x / s. Clipped below, y = -s Z = s r(lo
/ s) = lo + s e with e that of lo / s. Clipped above, y = s (n - Z) = n s + lo + s e =
hi + s e, the same e. So everywhere

    y = (x, lo or hi) + s e,   ds / dhi = -ds / dlo = 1 / n,
    dy / dx = 1 where not clipped, else 0                               (X)
    dy / dlo = 1 where clipped below - e / n                            (L)
    dy / dhi = 1 where clipped above + e / n                            (H)

The range holds 0, lo <= 0 <= hi, so that 0 is a level and Z an integer of the grid.

Left open, chosen here: ties (half to even); that the range holds 0 (projected after a
step; the paper lets both ends move freely); both ends start at the range of the first
training batch, widened to hold 0.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple, final

import numpy as np

from refqnn._types import Bool, Float
from refqnn.core import Buffer, Param, Run
from refqnn.ops.broadcast import sum_to
from refqnn.ops.checks import check_gradient
from refqnn.prompt import one_line
from refqnn.quantizers.checks import check_values
from refqnn.quantizers.module import GridQuantizer, unset, unsigned_codes


@one_line
class RangeCache(NamedTuple):
    """What the backward needs, and what freezes roundings and masks."""

    below: Bool  # clipped at lo, shape of x
    above: Bool  # clipped at hi, shape of x
    e: Float  # residual of the rounding that made y, in steps, shape of x
    lo: Float
    hi: Float
    n: int


class RangeGrid(NamedTuple):
    """The levels ``scale * (q - zero_point)``, q = 0 .. n; lo and hi in the dtype."""

    lo: Float
    hi: Float
    scale: Float
    zero_point: Float
    n: int


def learned_min_max(
    x: Float, lo: Float, hi: Float, *, bits: int, frozen: RangeCache | None = None
) -> tuple[Float, RangeCache]:
    """y = s (clip(round(x / s) + Z, 0, n) - Z),  s = (hi - lo) / n,  Z = -round(lo / s)

    x: (...), lo, hi: broadcast to x, lo <= 0 <= hi  ->  y: (...), dtype of x

    n = 2^b - 1, ties to even, bits in [1, 16]. Raises ValueError for a range that does
    not hold 0 or whose step is below the smallest normal number, and for NaN or
    infinity in x or the range.

    ``frozen`` holds the residuals of the roundings and the masks: see Backward.

    >>> learned_min_max(np.array([-9.0, 0.4, 0.6, 9.0]), -1.0, 2.0, bits=2)[0]
    array([-1.,  0.,  1.,  2.])
    """
    lo, hi = check_values(x, name="x", bits=bits, lo=lo, hi=hi)
    if frozen is not None:  # smooth beyond 0, too
        ends = np.where(frozen.below, lo, np.where(frozen.above, hi, x))
        return ends + (hi - lo) / frozen.n * frozen.e, frozen
    grid = range_grid(lo, hi, bits)
    with np.errstate(over="ignore"):  # infinite where |x| / s is: clipped
        t = x / grid.scale
    code = np.rint(t) + grid.zero_point
    below, above = code < 0, code > grid.n
    q = np.clip(code, 0, grid.n)
    y = grid.scale * (q - grid.zero_point)  # (Y)
    of_end = -grid.zero_point - grid.lo / grid.scale
    e = np.where(below | above, of_end, np.rint(t) - np.where(below | above, 0, t))
    return y, RangeCache(below, above, e, grid.lo, grid.hi, grid.n)


def learned_min_max_backward(
    dy: Float, cache: RangeCache
) -> tuple[Float, Float, Float]:
    """dlo = sum dy (1{below} - e / n),  dhi = sum dy (1{above} + e / n)

    dy: (...)  ->  dx: (...), dlo, dhi: shapes of lo, hi

    >>> x = np.array([-9.0, 0.25, 9.0])
    >>> cache = learned_min_max(x, np.array(-1.0), np.array(2.0), bits=2)[1]
    >>> learned_min_max_backward(np.ones(3), cache)  # e = 0, -0.25, 0
    (array([0., 1., 0.]), array(1.08333333), array(0.91666667))
    """
    below, above, e, lo, hi, n = cache
    check_gradient(dy, below.shape)
    dx = np.where(below | above, 0, dy)  # (X)
    every_lo = (dy * (below - e / n)).astype(np.float64)  # (L)
    every_hi = (dy * (above + e / n)).astype(np.float64)  # (H)
    dlo, dhi = sum_to(every_lo, lo.shape), sum_to(every_hi, hi.shape)
    return dx, np.asarray(dlo, dy.dtype), np.asarray(dhi, dy.dtype)


def range_grid(lo: Float, hi: Float, bits: int) -> RangeGrid:
    """s = (hi - lo) / n,  Z = -round(lo / s),  in the dtype of lo

    lo, hi: (...)  ->  arrays of their common shape

    >>> range_grid(np.array(-1.25), np.array(1.75), 2)[2:]
    (array(1.), array(1.), 3)
    """
    if not np.all((lo <= 0) & (hi >= 0)):
        raise ValueError(f"the range must hold 0: lo = {lo}, hi = {hi}")
    n = 2**bits - 1
    scale = np.asarray((hi - lo) / n)  # (S)
    if not np.all(scale >= np.finfo(scale.dtype).tiny):
        raise ValueError(f"hi - lo must have a normal step, got lo = {lo}, hi = {hi}")
    zero_point = np.asarray(np.rint(-lo / scale) + 0.0)  # (Z)
    return RangeGrid(lo, hi, scale, zero_point, n)


def at_most_zero(lo: Float) -> Float:
    """min(lo, 0)"""
    return np.minimum(lo, 0.0)


def above_zero(hi: Float) -> Float:
    """max(hi, 2^-20): a range that keeps a step.

    >>> above_zero(np.array(-1.0)) > 0
    np.True_
    """
    return np.maximum(hi, 2.0**-20)


def low_end() -> Param:
    """Make a learned minimum that starts at 0 and is kept at or below it."""
    return Param(np.zeros(()), group="quantizer", project=at_most_zero)


def high_end() -> Param:
    """Make a learned maximum that starts at 1 and is kept above 0."""
    return Param(np.ones(()), group="quantizer", project=above_zero)


@final
@dataclass(eq=False)
class LearnedMinMax(GridQuantizer):
    """A learned range for the activations of a layer; it starts at that of a batch."""

    bits: int = 4
    lo: Param = field(init=False, default_factory=low_end)
    hi: Param = field(init=False, default_factory=high_end)
    #: 1 once the range is known
    known: Buffer = field(init=False, default_factory=unset)

    pair = (learned_min_max, learned_min_max_backward)
    parameters = ("lo", "hi")
    codes = staticmethod(unsigned_codes)
    unknown = "the range is unknown: train, or call set_range(lo, hi)"
    begins_once = True

    def begin(self, v: Float, run: Run, bits: int) -> None:
        """Set the ends to those of the first batch, widened to hold 0."""
        self.set_range(v.min(initial=0), above_zero(v.max(initial=0)))

    def set_range(self, lo: Any, hi: Any) -> None:
        """Set the range, which holds 0: calibration without training."""
        lo, hi = check_values(np.zeros(1), name="x", bits=self.bits, lo=lo, hi=hi)
        range_grid(lo, hi, self.bits)
        self.hold(lo=lo, hi=hi)

    def codes_and_scale(self, v: Float) -> tuple[Float, Float, Float]:
        """Give unsigned codes, s () and Z ()."""
        lo, hi = check_values(v, name="x", lo=self.lo.value, hi=self.hi.value)
        grid = range_grid(lo, hi, self.bits)
        with np.errstate(over="ignore"):
            t = np.rint(v / grid.scale)
        return np.clip(t + grid.zero_point, 0, grid.n), grid.scale, grid.zero_point
