r"""Weighted-entropy quantization of activations: zero and powers of two.

Park, Ahn, Yoo. Weighted-Entropy-Based Quantization for Deep Neural Networks. CVPR 2017;
it is not on arXiv. Activations are rounded in the logarithm, after Miyashita, Lee,
Murmann, Convolutional Neural Networks using Logarithmic Data Representation,
arXiv:1603.01025. Its weights are in weq.py. Letters are names of this file, not numbers
of the paper.

    paper                            code            where
    log quantizer (A)                y               weq_activation
    offset, step                     thresholds      log_grid
    S = -sum y_k p_k ln p_k, (B)     s               log_entropy, for weq_log_search
    straight through, (G)            dx              weq_activation_backward

Backward. Hold the residual r = y - max(x, 0) of the recorded activations: slope 1 where
x > 0, also where y was rounded to 0 (G).

The offset and the step count 1/16 octaves. The authors' code tries offsets from 2.5
octaves above the smallest activation; here from the smallest one.
"""

from dataclasses import dataclass, field
from typing import Any, final

import numpy as np

from refqnn._types import Float, Int
from refqnn.core import Buffer, Run
from refqnn.ops.straight_through import (
    StraightThroughCache,
    frozen_form,
    masked_backward,
    residual,
)
from refqnn.quantizers.checks import check_bits, check_values
from refqnn.quantizers.module import Quantizer, unset
from refqnn.quantizers.weq import bits_of_levels

MOST_LEVELS = 2**8
#: the histogram of activations: 1024 bins of 1/16 octave, from 2^-40 to 2^24
BINS = 1024
FIRST_BIN = -640


def weq_activation(
    x: Float,
    offset: int,
    step: int,
    *,
    levels: int,
    frozen: StraightThroughCache | None = None,
) -> tuple[Float, StraightThroughCache]:
    """y = 2^((offset + k step) / 16),  k = round((16 log2 x - offset) / step) <= N - 2

    x: (...), offset, step: ints  ->  y: (...), dtype of x

    0 where x <= 0 or k < 0; ties away from 0, so k = -1/2 is rounded to 0, too. One
    level is 0, N - 1 are powers. Raises ValueError for levels outside [2, 256], a step
    that is not even and in [2, 32], powers outside the dtype, and NaN or infinity in x.

    ``frozen`` adds the recorded residual where x was positive: see Backward.

    >>> weq_activation(np.array([-1.0, 0.1, 1.0, 1.4, 1.5, 9.0]), 0, 16, levels=4)[0]
    array([0., 0., 1., 1., 2., 4.])
    """
    check_values(x, name="x")
    if frozen is not None:
        return frozen_form(x, frozen), frozen
    thresholds, table = log_grid(offset, step, levels, x.dtype)
    y = table[log_codes(x, thresholds)]  # (A)
    return y, StraightThroughCache(x > 0, residual(x, y, x > 0))


def weq_activation_backward(dy: Float, cache: StraightThroughCache) -> Float:
    """dx = dy * 1{x > 0}, also where y was rounded to 0.

    dy: (...)  ->  dx: (...)

    >>> cache = weq_activation(np.array([-1.0, 0.1, 9.0]), 0, 16, levels=4)[1]
    >>> weq_activation_backward(np.ones(3), cache)
    array([0., 1., 1.])
    """
    return masked_backward(dy, cache)  # (G)


def log_grid(offset: int, step: int, levels: int, dtype: Any) -> tuple[Float, Float]:
    """Return the thresholds (levels - 1,) and the levels (levels,), ascending."""
    check_bits(levels, least=2, most=MOST_LEVELS, name="levels")
    for name, value in (("offset", offset), ("step", step)):
        if np.ndim(value) or not np.issubdtype(np.asarray(value).dtype, np.integer):
            raise ValueError(f"{name} must be an int, got {value!r}")
    if not 2 <= step <= 32 or step % 2:
        raise ValueError(f"step must be even and in [2, 32], got {step}")
    exponents = int(offset) + int(step) * np.arange(levels - 1)
    finite = np.finfo(dtype)
    if exponents[0] < 16 * (finite.minexp + 1) or exponents[-1] >= 16 * finite.maxexp:
        raise ValueError(
            f"offset and step must keep the powers in {finite.dtype}, got 2^"
            f"({exponents[0]}/16) to 2^({exponents[-1]}/16)"
        )
    thresholds = sixteenths(exponents - step // 2).astype(dtype)
    return thresholds, np.append(0, sixteenths(exponents)).astype(dtype)


def sixteenths(exponents: Int) -> Float:
    """2^(e / 16), exact in the whole octaves.

    >>> sixteenths(np.array([-16, 0, 32]))
    array([0.5, 1. , 4. ])
    """
    return np.ldexp(2.0 ** (exponents % 16 / 16), exponents // 16)


def log_codes(x: Float, thresholds: Float) -> Int:
    """Return 1 + k, or 0 for the level 0: x (...)  ->  (...)."""
    codes = np.searchsorted(thresholds, x, side="right")
    return np.where(x == thresholds[0], 0, codes)  # k = -1/2 is rounded to -1


def weq_log_search(x: Float, *, levels: int) -> tuple[int, int]:
    """Return the offset and the step that maximise S = -sum_k y_k p_k ln p_k

    x: (...)  ->  offset, step in 1/16 octaves

    p_k is the share of the positive x at the power y_k; zero does not count. Tried are
    the steps 2, 4, .. 32, and offsets from the smallest positive x up to where the
    largest still reaches the last level; if none is left, the smallest of both. The
    search counts x in bins of 1/16 octave, what is outside [2^-40, 2^24) in the outer
    bins. A solver: it has no backward. Raises ValueError where no x is positive.

    >>> weq_log_search(np.array([1.0, 1.0, 4.0]), levels=3)  # the powers 2 and 8
    (16, 32)
    """
    check_values(x, name="x")
    check_bits(levels, least=2, most=MOST_LEVELS, name="levels")
    if not np.any(x > 0):
        raise ValueError(f"x must have a positive value, got shape {x.shape} without")
    count = np.append(0, np.cumsum(octave_histogram(x)))  # of the smaller bins
    lowest = int(np.searchsorted(count, 0, side="right")) - 1
    highest = int(np.searchsorted(count, count[-1])) - 1
    best, chosen = -np.inf, (lowest, 2)
    for step in range(2, 33, 2):
        last = highest - step // 2 * (2 * levels - 5)
        offsets = np.arange(lowest, last + 1)
        if offsets.size:
            s = log_entropy(offsets, step, levels, count)
            if s.max() > best:
                best, chosen = s.max(), (int(offsets[s.argmax()]), step)
    return chosen[0] + FIRST_BIN, chosen[1]


def octave_histogram(x: Float) -> Int:
    """Count the positive x in bins of 1/16 octave: (1024,)."""
    octaves = 16 * np.log2(x[x > 0].astype(np.float64))
    bins = np.clip(np.floor(octaves) - FIRST_BIN, 0, BINS - 1)
    return np.bincount(bins.astype(int), minlength=BINS)


def log_entropy(offsets: Int, step: int, levels: int, count: Int) -> Float:
    """S for every offset, up to a factor: (offsets,), count (1025,)  ->  (offsets,)."""
    exponents = offsets[:, None] + step * np.arange(levels - 1)
    edges = np.append(exponents - step // 2, np.full((offsets.size, 1), BINS), axis=1)
    p = np.diff(count[np.clip(edges, 0, BINS)]) / count[-1]
    y = sixteenths(exponents + FIRST_BIN)
    return -(y * p * np.log(np.where(p > 0, p, 1))).sum(1)  # (B)


@final
@dataclass(eq=False)
class WEQActivation(Quantizer):
    """ReLU and the log quantizer; offset and step are searched in training passes.

    A batch without a positive value keeps the last offset and step, and needs none in
    evaluation. The bits of a call can only be log2(levels).
    """

    levels: int = 16
    offset: Buffer = field(init=False, default_factory=lambda: Buffer(np.asarray(0)))
    step: Buffer = field(init=False, default_factory=lambda: Buffer(np.asarray(2)))
    #: 1 once offset and step are known
    known: Buffer = field(init=False, default_factory=unset)

    pair = (weq_activation, weq_activation_backward)
    options = ("levels",)
    unknown = "offset and step are unknown: train, or call set_grid"

    def __post_init__(self) -> None:
        log_grid(0, 2, self.levels, np.float64)

    def bits_of(self, bits: int | None) -> int:
        """log2(levels)"""
        return bits_of_levels(bits, self.levels)

    def begin(self, v: Float, run: Run, bits: int) -> None:
        """Search offset and step of this pass."""
        if np.any(v > 0):
            self.set_grid(*weq_log_search(v, levels=self.levels))

    def arguments(self, v: Float, run: Run, bits: int) -> tuple[Any, ...]:
        """Give offset and step."""
        self.check_known(v[v > 0])
        return self.offset_and_step()

    def offset_and_step(self) -> tuple[int, int]:
        """Give both in 1/16 octaves."""
        return int(self.offset.value), int(self.step.value)

    def set_grid(self, offset: int, step: int) -> None:
        """Set offset and step, in 1/16 octaves: calibration without training."""
        log_grid(offset, step, self.levels, np.float64)
        self.hold(offset=offset, step=step)

    def encode(self, v: Float) -> tuple[Int, Float]:
        """Give ``(codes, levels)`` with ``levels[codes] == y``."""
        check_values(v, name="v")
        thresholds, table = log_grid(*self.offset_and_step(), self.levels, v.dtype)
        return log_codes(v, thresholds), table

    def decision_boundaries(self, v: Float) -> Float:
        """Give the values where the code changes: (1, levels - 1)."""
        return log_grid(*self.offset_and_step(), self.levels, v.dtype)[0][None]
