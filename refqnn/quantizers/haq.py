r"""The two weight quantizers of HAQ: a calibrated linear one, and k-means.

Wang, Liu, Lin, Lin, Han. HAQ: Hardware-Aware Automated Quantization with Mixed
Precision. CVPR 2019, arXiv:1811.08886. The sum over a cluster is the gradient of Deep
Compression (Han, Mao, Dally. ICLR 2016, arXiv:1510.00149).

    paper                         code         where
    clamp(w, c), scale s, (L)     a, step      haq_linear
    c = argmin D_KL, (C)          a            haq_threshold
    codebook of k-means, (K)      centroids    kmeans
    quantized by the codebook     y            kmeans_weight

(L), (C) and (K) are names of this file, not numbers of the paper. The paper uses the
linear quantizer for latency and energy and k-means for model size; released code has
k-means as its default.

(C) speaks of the divergence of two distributions; released code (``"haq_cdf"``, below 5
bits, from 5 bits max|w|) compares *cumulated* histograms by sum (p - q) log2(p / q). If
the first bin is empty each of these sums is NaN, and the first candidate, n + 1 bins,
is taken whatever the weights are; a maximum of 1e-8 or less counts as 0; the last
candidate lies half a bin beyond max|w|. ``"mse"`` is the alternative: the clip of least
squared error among 128 shares of max|w|. ``"max"`` is max|w|.

Left open by the paper: ties (half to even; k-means: the lower centroid), the gradient
(the identity, also for what is clipped, as released), and the clusters: how they start
(released: k-means++; here by default quantiles, which draw nothing), what an empty one
does (released: a division of 0 by 0; here it keeps its centroid), and how fine-tuning
moves a centroid. Released code steps every weight and then replaces it by the mean of
its cluster: the centroid follows the *mean* of the gradients, ``reduction="mean"``.
The gradient of the loss is their sum, the default.
"""

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, final

import numpy as np

from refqnn._types import Float, Int
from refqnn.core import Buffer, Param, Run
from refqnn.ops.checks import check_gradient
from refqnn.quantizers.checks import (
    check_bits,
    check_finite,
    largest,
)
from refqnn.quantizers.fixed_point_weights import clip_and_step, fixed_point_codes
from refqnn.quantizers.module import (
    GridQuantizer,
    Quantizer,
    signed,
    unset,
    zero,
)

Threshold = Literal["haq_cdf", "mse", "max"]
Reduction = Literal["sum", "mean"]
Init = Literal["quantiles", "k-means++"]


class HAQLinearCache(NamedTuple):
    """What freezes rounding and clip; the backward is the identity."""

    residual: Float  # y - w


class KMeansCache(NamedTuple):
    """What the backward needs, and what freezes the assignment."""

    codes: Int  # indices of centroids, shape of w
    share: Float  # (K,): by how much a centroid follows its gradient sum
    centroids: Float  # (K,)
    residual: Float  # y - w


def haq_linear(
    w: Float,
    *,
    bits: int,
    clip: Float | float | None = None,
    frozen: HAQLinearCache | None = None,
) -> tuple[Float, HAQLinearCache]:
    """y = s * round(clip(w, -a, a) / s),  s = a / (2^(b-1) - 1)

    w: (...), clip a: broadcasts to w, a >= 0  ->  y: (...), dtype of w

    2^b - 1 levels, ties to even, bits in [2, 16]; without ``clip`` it is max|w|. Where
    the clip is 0 the result is 0. Raises ValueError for bits out of range, a negative
    clip, and NaN or infinity in w or clip.

    With ``frozen``, the recorded residual is added to w: the smooth function whose
    exact gradient ``haq_linear_backward`` is.

    >>> haq_linear(np.array([-9.0, 0.4, 0.6]), bits=3, clip=3.0)[0]
    array([-3.,  0.,  1.])
    """
    check_finite(w, name="w")
    if frozen is not None:
        return w + frozen.residual, frozen
    a = np.abs(w).max(initial=0) if clip is None else clip
    a, step = clip_and_step(w, np.asarray(a), bits)
    y = step * fixed_point_codes(w, a, step)  # (L)
    return y, HAQLinearCache(y - w)


def haq_linear_backward(dy: Float, cache: HAQLinearCache) -> Float:
    """dw = dy, also for weights that are clipped; a is treated as a constant.

    dy: (...)  ->  dw: (...)

    >>> haq_linear_backward(np.ones(1), haq_linear(np.ones(1), bits=2, clip=0.5)[1])
    array([1.])
    """
    check_gradient(dy, cache.residual.shape)
    return dy.copy()


def haq_threshold(w: Float, *, bits: int, threshold: Threshold = "haq_cdf") -> Float:
    """Return the clip a of (C): released, of least squared error, or max|w|.

    w: (...)  ->  a: (), dtype of w; 0 if w is all zero

    A solver: it has no backward. Raises ValueError for bits outside [2, 16], an unknown
    threshold, and NaN or infinity in w.

    >>> haq_threshold(np.array([0.5, -2.0]), bits=4, threshold="max")
    array(2.)
    """
    check_bits(bits, least=2)
    check_finite(w, name="w")
    solve = {"haq_cdf": cdf_threshold, "mse": mse_threshold, "max": max_threshold}
    if threshold not in solve:
        raise ValueError(f"threshold must be one of {[*solve]}, got {threshold!r}")
    return np.asarray(solve[threshold](w, bits), w.dtype)


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


def kmeans_weight(
    w: Float,
    centroids: Float,
    *,
    reduction: Reduction = "sum",
    frozen: KMeansCache | None = None,
) -> tuple[Float, KMeansCache]:
    """y = the nearest of the centroids, of two the lower

    w: (...), centroids: (K,), in any order  ->  y: (...), dtype of w

    Raises ValueError for centroids that are none, an unknown reduction, and NaN or
    infinity in w or centroids.

    With ``frozen``, the assignment is that recorded and w is added to its residual; a
    centroid moves by its full change ("sum") or by its change over the size of its
    cluster ("mean"): the smooth function whose exact gradient
    ``kmeans_weight_backward`` is.

    >>> kmeans_weight(np.array([-9.0, 0.4, 0.6]), np.array([1.0, 0.0]))[0]
    array([0., 0., 1.])
    """
    check_finite(w, name="w")
    centroids = check_centroids(w, centroids)
    if frozen is not None:
        moved = frozen.share * (centroids - frozen.centroids)
        return w + frozen.residual + moved[frozen.codes], frozen
    if reduction not in {"sum", "mean"}:
        raise ValueError(f"reduction must be 'sum' or 'mean', got {reduction!r}")
    codes = nearest(w, centroids)
    y = centroids[codes]  # (K)
    sizes = np.bincount(codes.ravel(), minlength=centroids.size)
    share = 1 / np.maximum(sizes if reduction == "mean" else 1, np.ones_like(sizes))
    return y, KMeansCache(codes, share.astype(w.dtype), centroids, y - w)


def kmeans_weight_backward(dy: Float, cache: KMeansCache) -> tuple[Float, Float]:
    """dw = dy;  dcentroids_k = sum of dy over cluster k, or their mean.

    dy: (...)  ->  dw: (...), dcentroids: (K,); 0 for an empty cluster

    >>> y, cache = kmeans_weight(np.array([0.1, 0.2, 9.0]), np.array([0.0, 1.0]))
    >>> kmeans_weight_backward(np.array([2.0, 4.0, 8.0]), cache)[1]
    array([6., 8.])
    """
    check_gradient(dy, cache.codes.shape)
    flat = dy.ravel().astype(np.float64)
    sums = np.bincount(cache.codes.ravel(), flat, minlength=cache.share.size)
    return dy.copy(), (cache.share * sums).astype(dy.dtype)


def nearest(w: Float, centroids: Float) -> Int:
    """Return the index of the nearest centroid, the lower one of two.

    w: (...), centroids: (K,)  ->  (...)

    >>> nearest(np.array([0.5, 0.6]), np.array([1.0, 0.0]))
    array([1, 0])
    """
    order = np.argsort(centroids, kind="stable")
    codes: Int = order[np.searchsorted(midpoints(centroids), w)]
    return codes


def midpoints(centroids: Float) -> Float:
    """Return the values halfway between neighbouring centroids: (K - 1,), ascending."""
    ordered = np.sort(centroids)
    return (ordered[:-1] + ordered[1:]) / 2


def check_centroids(w: Float, centroids: Float) -> Float:
    """Return the centroids in the dtype of w; raise unless (K,), finite and bounded."""
    centroids = np.asarray(centroids).astype(np.float64)
    if centroids.ndim != 1 or not centroids.size:
        raise ValueError(f"centroids must be (K,) with K >= 1, got {centroids.shape}")
    if not np.all(np.abs(centroids) <= largest(w.dtype)):
        raise ValueError(f"centroids must be finite and bounded, got {centroids}")
    return centroids.astype(w.dtype)


def kmeans(
    w: Float,
    k: int,
    *,
    init: Init = "quantiles",
    rng: np.random.Generator | None = None,
    iterations: int = 300,
) -> Float:
    """Return at most k centroids, each the mean of its cluster (Lloyd), ascending.

    w: (...)  ->  (min(k, distinct values),), dtype of w

    A solver: it has no backward. Stops when no weight changes its cluster, or after
    ``iterations``. No more than k distinct values are their own centroids. "quantiles"
    starts at k values evenly spaced among the distinct ones, "k-means++" draws from
    ``rng``. Raises ValueError for k < 1, no weights, an unknown init, k-means++ without
    rng, and NaN or infinity in w.

    >>> kmeans(np.array([0.0, 1.0, 9.0, 11.0]), 2)
    array([ 0.5, 10. ])
    """
    check_finite(w, name="w")
    if k < 1 or not w.size:
        raise ValueError(f"k and the number of weights must be >= 1: {k}, {w.size}")
    distinct = np.unique(w + 0.0)  # one zero
    centroids = distinct if distinct.size <= k else started(w, k, init, rng)
    codes = nearest(w, centroids)
    for _ in range(iterations if distinct.size > k else 0):
        before, centroids = codes, cluster_means(w, codes, centroids)
        codes = nearest(w, centroids)
        if np.array_equal(codes, before):
            break
    return centroids


def started(w: Float, k: int, init: Init, rng: np.random.Generator | None) -> Float:
    """Return the first k centroids, ascending; w has more distinct values than k."""
    if init == "quantiles":
        distinct = np.unique(w)
        return distinct[(2 * np.arange(k) + 1) * distinct.size // (2 * k)]
    if init != "k-means++" or rng is None:
        raise ValueError(
            f"init must be 'quantiles', or 'k-means++' with rng=, got {init!r}, {rng}"
        )
    flat = w.ravel()
    chosen = [rng.choice(flat)]
    while len(chosen) < k:
        far = np.abs(flat[:, None] - np.array(chosen)).min(1).astype(np.float64)
        weight = (far / far.max()) ** 2
        chosen.append(rng.choice(flat, p=weight / weight.sum()))
    return np.sort(np.array(chosen, w.dtype))


def cluster_means(w: Float, codes: Int, centroids: Float) -> Float:
    """Return the mean of every cluster; an empty one keeps its centroid.

    w: (...), codes: (...), centroids: (K,)  ->  (K,)

    One half of a Lloyd step, and the fine-tuning step of released code: with the codes
    of before an optimiser step and the weights after it.

    >>> w, codes = np.array([1.0, 3.0, 8.0]), np.array([0, 0, 2])
    >>> cluster_means(w, codes, np.array([0.0, 5.0, 9.0]))
    array([2., 5., 8.])
    """
    flat = w.ravel().astype(np.float64)
    sums = np.bincount(codes.ravel(), flat, minlength=centroids.size)
    sizes = np.bincount(codes.ravel(), minlength=centroids.size)
    means = sums / np.maximum(sizes, 1)
    return np.where(sizes > 0, means, centroids).astype(w.dtype)


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
    codes = staticmethod(signed)
    options = ("bits", "clip")
    fewest_bits = 2
    unknown = "the clip is unknown: train, or call set_clip(clip)"
    known_by = "clip"

    def __post_init__(self) -> None:
        haq_threshold(np.zeros(1), bits=self.bits, threshold=self.threshold)

    def begin(self, v: Float, run: Run, bits: int) -> None:
        """Set the clip of the first weights."""
        if not self.clip.value:
            solve = run.backend.quantizers.haq_threshold
            self.clip.value = solve(v, bits=bits, threshold=self.threshold)

    def arguments(self, v: Float, run: Run, bits: int) -> tuple[Any, ...]:
        """Check that the clip is known; a training pass takes the 0 of zeros, too."""
        return () if run.training else super().arguments(v, run, bits)

    def set_clip(self, clip: Float | float) -> None:
        """Set the clip; raises ValueError unless it is one positive number."""
        a = np.asarray(clip, np.float64)
        if a.shape or not 0 < a <= largest(np.float64):
            raise ValueError(f"clip must be one positive number, got {clip}")
        self.clip.value = a

    def codes_and_scale(self, v: Float) -> tuple[Float, Float, int]:
        """Give the codes of (L) and s ()."""
        a, step = clip_and_step(v, self.clip.value, self.bits)
        return fixed_point_codes(v, a, step), step, 0


@final
@dataclass(eq=False)
class KMeansWeight(Quantizer):
    """A codebook of 2^b weights, found by k-means in the first training pass.

    Weights and centroids both get gradients: to train only one, hold the other (a
    learning rate of 0 for its group). A call with other ``bits`` finds a codebook of
    its own and keeps nothing.
    """

    bits: int = 4
    reduction: Reduction = "sum"
    centroids: Param = field(init=False)
    #: 1 once the centroids are known
    known: Buffer = field(init=False, default_factory=unset)

    pair = (kmeans_weight, kmeans_weight_backward)
    options = ("reduction",)
    parameters = ("centroids",)
    unknown = "centroids are unknown: train, or call set_centroids(c)"

    def __post_init__(self) -> None:
        super().__post_init__()
        kmeans_weight(np.zeros(1), np.zeros(1), reduction=self.reduction)
        self.centroids = Param(np.zeros(2**self.bits), group="quantizer")

    def forward(
        self, v: Float, run: Run, *, bits: int | None = None
    ) -> tuple[Float, Any]:
        """Quantize ``v: (...)``; a codebook of other bits gets no gradient."""
        y, (op_backward, cache) = super().forward(v, run, bits=bits)
        if self.bits_of(bits) == self.bits or not v.size:
            return y, (op_backward, cache)
        return y, (lambda dy, recorded: op_backward(dy, recorded)[0], cache)

    def begin(self, v: Float, run: Run, bits: int) -> None:
        """Find the codebook of the first weights."""
        if bits == self.bits and not self.known.value:
            self.set_centroids(kmeans(v, 2**bits))

    def arguments(self, v: Float, run: Run, bits: int) -> tuple[Any, ...]:
        """Give the centroids; of other bits those of k-means on ``v``."""
        if bits == self.bits or not v.size:
            return super().arguments(v, run, bits)
        return (run.backend.quantizers.kmeans(v, 2**bits),)

    def set_centroids(self, centroids: Float) -> None:
        """Set 1 to 2^b centroids; with fewer the last is repeated."""
        centroids = check_centroids(np.zeros(1), centroids)
        missing = self.centroids.value.size - centroids.size
        if missing < 0:
            raise ValueError(
                f"centroids must be at most 2^{self.bits}: {centroids.size}"
            )
        self.hold(centroids=np.pad(centroids, (0, missing), mode="edge"))

    def encode(self, v: Float) -> tuple[Int, Float]:
        """Give ``(codes, levels)``, levels ascending, ``levels[codes] == y``."""
        check_finite(v, name="v")
        self.check_known(v)
        levels = np.sort(check_centroids(v, self.centroids.value))
        return nearest(v, levels), levels

    def decision_boundaries(self, v: Float) -> Float:
        """Give the values where the code changes: (1, 2^b - 1)."""
        self.check_known(v)
        return midpoints(check_centroids(v, self.centroids.value))[None]
