r"""HAQ's linear weight quantizer: a clip calibrated on the weights.

Wang, Liu, Lin, Lin, Han. HAQ: Hardware-Aware Automated Quantization with Mixed
Precision. CVPR 2019, arXiv:1811.08886. k-means is in haq_kmeans.py.

    paper                         code         where
    clamp(w, c), scale s, (L)     a, step      haq_linear
    c = argmin D_KL, (C)          a            haq_threshold
    straight through, (G)         dw           haq_linear_backward

(L), (C) and (G) are names of this file, not numbers of the paper, which uses the linear
quantizer for latency and energy and k-means for model size.

(C) speaks of the divergence of two distributions; released code (``"haq_cdf"``, below 5
bits, from 5 bits max|w|) compares *cumulated* histograms by sum (p - q) log2(p / q). If
the first bin is empty each of these sums is NaN, and the first candidate, n + 1 bins,
is taken whatever the weights are; a maximum of 1e-8 or less counts as 0; the last
candidate lies half a bin beyond max|w|. ``"mse"`` is the alternative: the clip of least
squared error among 128 shares of max|w|. ``"max"`` is max|w|.

Backward. Hold the residual r = y - w of the recorded weights: y = w + r has slope 1
everywhere, also where w is clipped, as released (G). The paper leaves it open, as it
does ties (half to even).
"""

from dataclasses import dataclass, field
from typing import Any, Literal, final

import numpy as np

from refqnn._types import Float
from refqnn.core import Buffer, Run
from refqnn.moved import other_half
from refqnn.ops.checks import check_gradient
from refqnn.quantizers.checks import LARGEST, ResidualCache, check_values
from refqnn.quantizers.fixed_point_weights import fixed_point_codes
from refqnn.quantizers.module import GridQuantizer, signed_codes, zero

#: haq_kmeans.py was a part of this file
__getattr__ = other_half(__name__, "refqnn.quantizers.haq_kmeans")

Threshold = Literal["haq_cdf", "mse", "max"]


def haq_linear(
    w: Float,
    *,
    bits: int,
    clip: Float | float | None = None,
    frozen: ResidualCache | None = None,
) -> tuple[Float, ResidualCache]:
    """y = s * round(clip(w, -a, a) / s),  s = a / (2^(b-1) - 1)

    w: (...), clip a: broadcasts to w, a >= 0  ->  y: (...), dtype of w

    2^b - 1 levels, ties to even, bits in [2, 16]; without ``clip`` it is max|w|. Where
    the clip is 0 the result is 0. Raises ValueError for bits out of range, a negative
    clip, and NaN or infinity in w or clip.

    ``frozen`` holds the residual that a cache recorded: see Backward, above.

    >>> haq_linear(np.array([-9.0, 0.4, 0.6]), bits=3, clip=3.0)[0]
    array([-3.,  0.,  1.])
    """
    if frozen is not None or clip is None:
        check_values(w, name="w")
    if frozen is not None:
        return w + frozen.residual, frozen
    a = np.abs(w).max(initial=0) if clip is None else clip
    (a,) = check_values(w, name="w", bits=bits, least=2, not_negative={"clip a": a})
    q, step = fixed_point_codes(w, a, bits)
    y = step * q  # (L)
    return y, ResidualCache(y - w)


def haq_linear_backward(dy: Float, cache: ResidualCache) -> Float:
    """dw = dy, also for weights that are clipped; a is treated as a constant.

    dy: (...)  ->  dw: (...)

    >>> haq_linear_backward(np.ones(1), haq_linear(np.ones(1), bits=2, clip=0.5)[1])
    array([1.])
    """
    check_gradient(dy, cache.residual.shape)
    return dy.copy()  # (G)


def haq_threshold(w: Float, *, bits: int, threshold: Threshold = "haq_cdf") -> Float:
    """Return the clip a of (C): released, of least squared error, or max|w|.

    w: (...)  ->  a: (), dtype of w; 0 if w is all zero

    A solver: it has no backward. Raises ValueError for bits outside [2, 16], an unknown
    threshold, and NaN or infinity in w.

    >>> haq_threshold(np.array([0.5, -2.0]), bits=4, threshold="max")
    array(2.)
    """
    check_values(w, name="w", bits=bits, least=2)
    solve = {"haq_cdf": cdf_threshold, "mse": mse_threshold, "max": max_threshold}
    if threshold not in solve:
        raise ValueError(f"threshold must be one of {[*solve]}, got {threshold!r}")
    return np.asarray(solve[threshold](w, bits), w.dtype)  # (C)


def max_threshold(w: Float, bits: int) -> float:  # noqa: ARG001 - a threshold's signature
    """Return max|w|; 0 of no weights."""
    return float(np.abs(w).max(initial=0))


def cdf_threshold(w: Float, bits: int) -> float:
    """Return the clip of released code, (i + 1/2) bins of the histogram of |w|.

    Candidates are i = n + 1 .. number of bins, n = 2^(b-1); see ``cdf_distance``. From
    5 bits, and where the histogram has n bins or fewer: max|w|.
    """
    top = max_threshold(w, bits)
    if np.isclose(top, 0):
        return 0.0
    magnitude = np.abs(w).astype(np.float64)
    counts, edges = np.histogram(magnitude, bins="sqrt", range=(0, top))
    n = 2 ** (bits - 1)
    if bits >= 5 or n + 1 > counts.size:
        return top
    cdf = np.cumsum(counts) / counts.sum()
    tried = np.arange(n + 1, counts.size + 1)
    distances = [cdf_distance(cdf, i, n) for i in tried.tolist()]
    best = tried[np.argmin(distances)]  # a NaN counts as the least
    return float((best + 0.5) * edges[1])


def cdf_distance(cdf: Float, i: int, n: int) -> float:
    """sum (p - q) log2(p / q) between a CDF and itself cut at bin i, on n points.

    >>> cdf_distance(np.array([0.25, 0.5, 0.75, 1.0]), 4, 2)  # a line stays a line
    0.0
    """
    cut = np.where(np.arange(cdf.size) >= i - 1, 1, cdf)
    fine, coarse = np.linspace(0, 1, i), np.linspace(0, 1, n)
    cut[:i] = np.interp(fine, coarse, np.interp(coarse, fine, cut[:i]))
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.sum((cdf - cut) * np.log2(cdf / cut)))


def mse_threshold(w: Float, bits: int) -> float:
    """Return the clip of least squared error among k / 128 max|w|, k = 1 .. 128."""
    top = max_threshold(w, bits)
    if top < np.finfo(w.dtype).tiny:
        return 0.0
    unit = w.astype(np.float64) / top  # squares cannot overflow
    shares = np.arange(128, 0, -1) / 128  # among equals the widest
    errors = [
        np.sum(haq_linear(unit, bits=bits, clip=a)[1].residual ** 2) for a in shares
    ]
    return float(top * shares[np.argmin(errors)])


@final
@dataclass(eq=False)
class HAQLinear(GridQuantizer):
    """The linear quantizer with the clip of the first weights it is trained on.

    As in released code the clip is then kept. To calibrate again call
    ``set_clip(haq_threshold(w, bits=...))``.
    """

    bits: int = 4
    threshold: Threshold = "haq_cdf"
    #: 0 as long as it is unknown
    clip: Buffer = field(init=False, default_factory=zero)

    pair = (haq_linear, haq_linear_backward)
    codes = staticmethod(signed_codes)
    options = ("bits", "clip")
    fewest_bits = 2
    unknown = "the clip is unknown: train, or call set_clip(clip)"
    known_by = "clip"
    begins_once = True

    def __post_init__(self) -> None:
        super().__post_init__()
        haq_threshold(np.zeros(1), bits=self.bits, threshold=self.threshold)

    def begin(self, v: Float, run: Run, bits: int) -> None:
        """Set the clip of the first weights."""
        solve = run.backend.quantizers.haq_threshold
        self.clip.value = solve(v, bits=bits, threshold=self.threshold)

    def arguments(self, v: Float, run: Run, bits: int) -> tuple[Any, ...]:
        """Check that the clip is known; a training pass takes the 0 of zeros, too."""
        if not run.training:
            self.check_known(v)
        return ()

    def set_clip(self, clip: Float | float) -> None:
        """Set the clip; raises ValueError unless it is one positive number."""
        a = np.asarray(clip, np.float64)
        if a.shape or not 0 < a <= LARGEST[np.dtype(np.float64)]:
            raise ValueError(f"clip must be one positive number, got {clip}")
        self.clip.value = a

    def codes_and_scale(self, v: Float) -> tuple[Float, Float, int]:
        """Give the codes of (L) and s ()."""
        (a,) = check_values(v, name="w", not_negative={"clip a": self.clip.value})
        return (*fixed_point_codes(v, a, self.bits), 0)
