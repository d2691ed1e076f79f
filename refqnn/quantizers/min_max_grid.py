r"""A uniform grid from minimum to maximum, and stochastic gradients on it.

Banner, Hubara, Hoffer, Soudry. Scalable Methods for 8-bit Training of Neural Networks.
NeurIPS 2018, arXiv:1805.11046. Its grid is that of gemmlowp; range batch normalization
is ``ops.range_batch_norm``, gradient bifurcation ``nn.Conv2d(bifurcate=True)``.

    paper                            code       where
    (max - min) / (2^b - 1), (S)     scale      min_max_grid
    zero-point of gemmlowp, (Z)      z          min_max_grid
    rounding to the grid, (Q)        q, y       min_max_codes, min_max
    straight through, (D)            dx         min_max_backward
    range of activations, (R)        lo, hi     sample_range, MinMax.observe
    8-bit layer gradients, (G)       g_q        min_max_gradient

Letters are names of this file, not numbers of the paper.

Backward. Hold the residual r = y - x of the recorded values: y = x + r has slope 1
everywhere, beyond the range too (D). The gradient quantizer (G) acts on dy itself: with
noise uniform in [-1/2, 1/2) its mean is dy.

Read in the released code, not confirmed in the paper: the floor 1e-8 of the scale, a
gradient of one even where the clip acts, the mean over samples as the range of a
batch, run <- 0.1 run + 0.9 new from 0, and noise in the gradient before it is clipped.
The released quantizer also rounds activations stochastically, in evaluation too, by a
misplaced argument: ``MinMax(stochastic=True)``; here they round to nearest, ties to
even.

``true_zero=True``: the range is widened to hold 0 and the zero-point rounded to an
integer, so that 0 is a level (choices; a release cuts the zero-point and does not
widen). ``true_zero=False``: the lowest level is the minimum itself.
"""

from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, final

import numpy as np

from refqnn._types import Float, Int
from refqnn.core import Buffer, Run
from refqnn.ops.checks import check_gradient
from refqnn.quantizers.checks import (
    ResidualCache,
    boundaries,
    check_noise,
    check_values,
    codebook,
    draw_noise,
)
from refqnn.quantizers.module import (
    GradientQuantizer,
    GridQuantizer,
    check_of,
    unset,
    unsigned_codes,
    zero,
)

SMALLEST_SCALE = 1e-8
#: float32 holds every code up to 2^24; DFS compares with networks of up to 22 bits
MOST_BITS = 24


class MinMaxGrid(NamedTuple):
    """The levels ``scale * (q - zero_point) + offset``, q = 0 .. 2^b - 1."""

    scale: Float
    zero_point: Float  # integers, in the dtype of x
    offset: Float  # 0 with a true zero


def min_max(
    x: Float,
    lo: Float | float,
    hi: Float | float,
    *,
    bits: int,
    true_zero: bool = True,
    noise: Float | None = None,
    frozen: ResidualCache | None = None,
) -> tuple[Float, ResidualCache]:
    """y = s (q - z) + offset,  s = max((hi - lo) / (2^b - 1), 1e-8)

    x: (...), lo, hi: broadcast to x  ->  y: (...), dtype of x

    With a true zero, offset = 0, z = round(-lo / s) and the range is widened to hold
    0; without, z = 0 and offset = lo. 2^b levels, ties to even; bits in [1, 24].
    ``noise``, the shape of x and in [-1/2, 1/2), is added to x / s before it is clipped
    and rounded: stochastic rounding. Raises ValueError for lo > hi, for noise of
    another shape or beyond its interval, and for NaN or infinity in x or the range.

    ``frozen`` holds the residual that a cache recorded: see Backward, above.

    >>> min_max(np.array([-1.0, 0.4, 9.0]), -0.4, 2.6, bits=2)[0]
    array([0., 0., 3.])
    >>> min_max(np.array([-1.0, 0.4, 9.0]), -0.5, 2.5, bits=2, true_zero=False)[0]
    array([-0.5,  0.5,  2.5])
    """
    if frozen is not None:
        check_values(x, name="x")
        return x + frozen.residual, frozen
    grid = min_max_grid(x, lo, hi, bits=bits, true_zero=true_zero)
    q = min_max_codes(x, grid, bits, noise)
    y = grid.scale * (q - grid.zero_point) + grid.offset  # (Q)
    return y, ResidualCache(y - x)


def min_max_backward(dy: Float, cache: ResidualCache) -> Float:
    """dx = dy, beyond the range, too.

    dy: (...)  ->  dx: (...)

    >>> min_max_backward(np.ones(1), min_max(np.array([9.0]), 0.0, 3.0, bits=2)[1])
    array([1.])
    """
    check_gradient(dy, cache.residual.shape)
    return dy.copy()  # (D)


def min_max_grid(
    x: Float, lo: Float | float, hi: Float | float, *, bits: int, true_zero: bool = True
) -> MinMaxGrid:
    """s = max((hi - lo) / n, 1e-8),  z = round(-lo / s),  in the dtype of x

    lo, hi: broadcast to x  ->  three arrays of their shape

    >>> min_max_grid(np.zeros(1), -1.25, 1.75, bits=2)
    MinMaxGrid(scale=array(1.), zero_point=array(1.), offset=array(0.))
    """
    lo, hi = check_values(
        x, name="x", bits=bits, most=MOST_BITS, dtype=np.float64, lo=lo, hi=hi
    )
    if np.any(lo > hi):
        raise ValueError(f"lo must not exceed hi, got lo = {lo}, hi = {hi}")
    if true_zero:
        lo, hi = np.minimum(lo, 0), np.maximum(hi, 0)
    scale = np.maximum((hi - lo) / (2**bits - 1), SMALLEST_SCALE)  # (S)
    z = np.rint(-lo / scale) + 0.0 if true_zero else np.zeros(scale.shape)  # (Z)
    offset = np.zeros(scale.shape) if true_zero else np.broadcast_to(lo, scale.shape)
    dtype = x.dtype
    return MinMaxGrid(
        np.array(scale, dtype), np.array(z, dtype), np.array(offset, dtype)
    )


def min_max_codes(
    x: Float, grid: MinMaxGrid, bits: int, noise: Float | None = None
) -> Float:
    """q = z + round(clip((x - offset) / s + noise, -z, n - z)), as floats

    x: (...)  ->  q: (...) in {0, ..., n}
    """
    z = grid.zero_point
    t = (x - grid.offset) / grid.scale
    if noise is not None:
        check_noise(noise, x)
        t = t + noise.astype(x.dtype)
    return z + np.rint(np.clip(t, -z, 2**bits - 1 - z))  # (Q)


def min_max_integers(
    v: Float, lo: Float | float, hi: Float | float, *, bits: int
) -> tuple[Int, float, int]:
    """v: (...)  ->  codes (...) in [0, 2^b) of a grid with a true zero, s and z

    uint8 up to 8 bits, uint16 up to 16, int32 above.

    >>> min_max_integers(np.array([-1.0, 0.4, 9.0]), -0.4, 2.6, bits=2)
    (array([0, 0, 3], dtype=uint8), 1.0, 0)
    """
    grid = min_max_grid(v, lo, hi, bits=bits)
    q = min_max_codes(v, grid, bits)
    dtype = np.uint8 if bits <= 8 else np.uint16 if bits <= 16 else np.int32
    return q.astype(dtype), float(grid.scale), int(grid.zero_point)


def whole_range(x: Float) -> tuple[Float, Float]:
    """Return the minimum and the maximum over everything: the range of weights.

    x: (...)  ->  lo: (), hi: (), float64; (0, 0) where x is empty

    >>> whole_range(np.array([[1.0, 3.0], [-2.0, 5.0]]))
    (array(-2.), array(5.))
    """
    check_values(x, name="x")
    if not x.size:
        return np.zeros(()), np.zeros(())
    return np.asarray(x.min(), float), np.asarray(x.max(), float)


def sample_range(x: Float) -> tuple[Float, Float]:
    """Return the means over samples of minimum and maximum: the range of activations.

    x: (N, ...)  ->  lo: (), hi: (), float64; (0, 0) where x is empty

    Raises ValueError for NaN or infinity in x.

    >>> sample_range(np.array([[1.0, 3.0], [-2.0, 5.0]]))
    (array(-0.5), array(4.))
    """
    check_values(x, name="x")
    if not x.size:
        return np.zeros(()), np.zeros(())
    rows = x.reshape(x.shape[0], -1)
    ends = (rows.min(1), rows.max(1))  # (R)
    return np.asarray(ends[0].mean(dtype=float)), np.asarray(ends[1].mean(dtype=float))


def min_max_gradient(dy: Float, noise: Float, *, bits: int) -> Float:
    """g_q = s round(clip((dy - lo) / s + noise, 0, n)) + lo,  lo, hi = min dy, max dy

    dy: (...), noise: (...) in [-1/2, 1/2)  ->  g_q: (...), dtype of dy

    The range is that of the whole tensor, so nothing is clipped but the noise, and the
    mean over uniform noise is dy itself. A gradient transform: it acts on what flows
    back, and has no backward. bits in [1, 24]. Raises ValueError for noise of another
    shape or beyond its interval, and for NaN or infinity in dy.

    >>> min_max_gradient(np.array([0.0, 1.0, 3.0]), np.array([0.0, 0.4, 0.4]), bits=1)
    array([0., 3., 3.])
    """
    check_noise(noise, dy)
    lo, hi = whole_range(dy)
    n = 2**bits - 1
    s = min_max_grid(np.zeros(1), lo, hi, bits=bits, true_zero=False).scale
    t = (dy.astype(np.float64) - lo) / s
    g_q = s * np.rint(np.clip(t + noise, 0, n)) + lo  # (G)
    return g_q.astype(dy.dtype)


@final
@dataclass(eq=False)
class MinMax(GridQuantizer):
    """A grid over the range of a batch, over a running range, or over that of weights.

    Activations: run <- keep * run + (1 - keep) * range of the batch, from 0, read in
    evaluation; a training pass takes the range of its own batch. Weights: their own
    minimum and maximum at every pass.
    """

    bits: int = 4
    of: Literal["weight", "activation"] = "activation"
    true_zero: bool = True
    #: share of the past, the "momentum" of the released code
    keep: float = 0.1
    #: noise in every pass, also in evaluation, as released
    stochastic: bool = False
    lo: Buffer = field(init=False, default_factory=zero)
    hi: Buffer = field(init=False, default_factory=zero)
    #: 1 once a range is known
    known: Buffer = field(init=False, default_factory=unset)

    pair = (min_max, min_max_backward)
    options = ("bits", "true_zero")
    codes = staticmethod(unsigned_codes)
    most_bits = MOST_BITS
    unknown = "the range is unknown: train, or call set_range(lo, hi)"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_of(self.of)
        if not 0 <= self.keep < 1:
            raise ValueError(f"keep must lie in [0, 1), got {self.keep}")

    def arguments(self, v: Float, run: Run, bits: int) -> tuple[Any, ...]:
        """Give the range of this pass; a training pass joins the running range."""
        if self.of == "weight" or not run.training:
            return self.range_of(v)
        lo, hi = sample_range(v)
        if run.replay is None and v.size:
            self.observe(lo, hi)
        return lo, hi

    def keywords(self, v: Float, run: Run, bits: int) -> dict[str, Any]:
        """Give bits, true_zero and the noise of a stochastic pass."""
        noise = None
        if self.stochastic and run.replay is None:
            noise = draw_noise(v.shape, replace(run, training=True))
        return {"bits": bits, "true_zero": self.true_zero, "noise": noise}

    def is_known(self) -> bool:
        """Say whether a range is there; weights have their own."""
        return self.of == "weight" or super().is_known()

    def range_of(self, v: Float) -> tuple[Float, Float]:
        """Give the range of the weights, or the running one of activations."""
        if self.of == "weight":
            return whole_range(v)
        if v.size and not self.known.value:
            raise ValueError(self.unknown)
        return self.lo.value, self.hi.value

    def observe(self, lo: Float | float, hi: Float | float) -> None:
        """Let the range of one batch join the running range."""
        keep, new = self.keep, 1 - self.keep
        self.hold(
            lo=keep * self.lo.value + new * float(lo),
            hi=keep * self.hi.value + new * float(hi),
        )

    def set_range(self, lo: Float | float, hi: Float | float) -> None:
        """Set the running range: calibration without training."""
        min_max_grid(np.zeros(1), lo, hi, bits=self.bits)
        self.hold(lo=float(lo), hi=float(hi))

    def grid_of(self, v: Float) -> MinMaxGrid:
        """Give the levels for ``v`` in evaluation."""
        ends = self.range_of(v)
        return min_max_grid(v, *ends, bits=self.bits, true_zero=self.true_zero)

    def codes_and_scale(self, v: Float) -> tuple[Float, Float, Float]:
        """Give the codes, the scale () and the zero-point ()."""
        at = self.grid_of(v)
        return min_max_codes(v, at, self.bits), at.scale, at.zero_point

    def quantize(self, v: Float) -> tuple[Int, Float, Int]:
        """Give codes, scale () and zero-point () of ``v: (...)``.

        Raises ValueError without a true zero: those levels have no integer zero-point.
        """
        if not self.true_zero:
            raise ValueError("true_zero=False has no integer zero-point: use encode(v)")
        return super().quantize(v)

    def encode(self, v: Float) -> tuple[Int, Float]:
        """Give ``(codes, levels)`` with ``levels[codes] == y``."""
        codes, levels = codebook(*super().quantize(v), self.grid())
        return codes, levels + self.grid_of(v).offset

    def decision_boundaries(self, v: Float) -> Float:
        """Give the midpoints between neighbouring levels: (1, 2^b - 1)."""
        _, scale, zero_point = super().quantize(v)
        return boundaries(scale, zero_point, self.grid()) + self.grid_of(v).offset


@final
@dataclass(eq=False)
class MinMaxGradient(GradientQuantizer):
    """Round the gradient stochastically on its grid; values pass unchanged."""

    bits: int = 8

    transform = staticmethod(min_max_gradient)
    most_bits = MOST_BITS
