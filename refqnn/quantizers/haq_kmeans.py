r"""HAQ's second weight quantizer: a codebook found by k-means.

Wang, Liu, Lin, Lin, Han. HAQ: Hardware-Aware Automated Quantization with Mixed
Precision. CVPR 2019, arXiv:1811.08886. The sum over a cluster is the gradient of Deep
Compression (Han, Mao, Dally. ICLR 2016, arXiv:1510.00149). The linear quantizer is in
haq.py. Letters are names of this file, not numbers of the paper.

    paper                         code         where
    codebook of k-means, (K)      centroids    kmeans, by lloyd
    quantized by the codebook (Y) y            kmeans_weight
    gradient of a centroid, (G)   dcentroids   kmeans_weight_backward

Backward. The assignment is held: y = c_k for every weight of cluster k, so dc_k is the
sum of dy over the cluster, exactly (G). In w the residual c_k - w is held: slope 1.

The paper uses k-means for model size; released code has it as its default.

Left open by the paper: ties (the lower centroid), the gradient in w (the identity, as
released), and the clusters: how they start (released: k-means++; here by default
quantiles, which draw nothing), what an empty one does (released: a division of 0 by 0;
here it keeps its centroid), and how fine-tuning moves a centroid. Released code steps
every weight and then replaces it by the mean of its cluster: the centroid follows the
*mean* of the gradients, ``reduction="mean"``. The gradient of the loss is their sum,
the default.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple, final

import numpy as np

from refqnn._types import Float, Int
from refqnn.core import Buffer, Param, Run
from refqnn.ops.checks import check_gradient
from refqnn.prompt import one_line
from refqnn.quantizers.checks import LARGEST, check_choice, check_values
from refqnn.quantizers.module import Quantizer, unset

Reduction = Literal["sum", "mean"]


Init = Literal["quantiles", "k-means++"]


@one_line
class KMeansCache(NamedTuple):
    """What the backward needs, and what freezes the assignment."""

    codes: Int  # indices of centroids, shape of w
    share: Float  # (K,): by how much a centroid follows its gradient sum
    centroids: Float  # (K,)
    residual: Float  # y - w


def kmeans_weight(
    w: Float,
    centroids: Float,
    *,
    reduction: Reduction = "sum",
    frozen: KMeansCache | None = None,
) -> tuple[Float, KMeansCache]:
    """y = the nearest of the centroids, of two the lower

    w: (...), centroids: (K,), in any order  ->  y: (...), dtype of w

    Raises ValueError for centroids of another shape or none at all, an unknown
    reduction, and NaN or infinity in w or centroids.

    ``frozen`` holds the assignment; a centroid moves by its full change ("sum") or by
    its change over the size of its cluster ("mean"): see Backward.

    >>> kmeans_weight(np.array([-9.0, 0.4, 0.6]), np.array([1.0, 0.0]))[0]
    array([0., 0., 1.])
    """
    check_values(w, name="w")
    centroids = check_centroids(w, centroids)
    if frozen is not None:
        moved = frozen.share * (centroids - frozen.centroids)
        return w + frozen.residual + moved[frozen.codes], frozen
    check_choice(reduction, "sum", "mean", name="reduction")
    codes = nearest(w, centroids)
    y = centroids[codes]  # (Y)
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
    return dy.copy(), (cache.share * sums).astype(dy.dtype)  # (G)


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
    if not np.all(np.abs(centroids) <= LARGEST[w.dtype]):
        raise ValueError(f"centroids must be finite and bounded, got {centroids}")
    return centroids.astype(w.dtype)


def kmeans(
    w: Float,
    k: int,
    *,
    init: Init = "quantiles",
    rng: np.random.Generator | None = None,
    iterations: int = 300,
    restarts: int = 1,
) -> Float:
    """Return at most k centroids, each the mean of its cluster (Lloyd), ascending.

    w: (...)  ->  (min(k, distinct values),), dtype of w

    A solver: it has no backward. Stops when no weight changes its cluster, or after
    ``iterations``. No more than k distinct values are their own centroids. "quantiles"
    starts at k values evenly spaced among the distinct ones, "k-means++" draws from
    ``rng``; of several ``restarts`` the least squared error wins. Raises ValueError for
    k or restarts < 1, no weights, an unknown init, k-means++ without rng, and NaN or
    infinity in w.

    >>> kmeans(np.array([0.0, 1.0, 9.0, 11.0]), 2)
    array([ 0.5, 10. ])
    """
    check_values(w, name="w")
    if k < 1 or not w.size:
        raise ValueError(f"k and the number of weights must be >= 1: {k}, {w.size}")
    if restarts < 1:
        raise ValueError(f"restarts must be at least 1, got {restarts}")
    distinct = np.unique(w + 0.0)  # one zero
    if distinct.size <= k:
        return distinct
    starts = (first_centroids(w, k, init, rng) for _ in range(restarts))
    tries = [lloyd(w, start, iterations) for start in starts]
    return min(tries, key=partial(squared_error, w)) if restarts > 1 else tries[0]


def lloyd(w: Float, centroids: Float, iterations: int) -> Float:
    """Move centroids to the means of their clusters until no weight changes its own.

    w: (...), centroids: (K,)  ->  (K,)
    """
    codes = nearest(w, centroids)
    for _ in range(iterations):
        before, centroids = codes, cluster_means(w, codes, centroids)  # (K)
        codes = nearest(w, centroids)
        if np.array_equal(codes, before):
            break
    return centroids


def squared_error(w: Float, centroids: Float) -> float:
    """sum (w - y)^2, y the nearest of the centroids, in float64

    >>> squared_error(np.array([0.0, 1.0, 5.0]), np.array([0.5, 5.0]))
    0.5
    """
    gap = w.astype(np.float64) - centroids[nearest(w, centroids)]
    return float(np.sum(gap**2))


def first_centroids(
    w: Float, k: int, init: Init, rng: np.random.Generator | None
) -> Float:
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
    nearest_one = np.full(flat.shape, np.inf, w.dtype)
    while len(chosen) < k:
        nearest_one = np.minimum(nearest_one, np.abs(flat - chosen[-1]))
        far = nearest_one.astype(np.float64)
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
    begins_once = True

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
        if bits == self.bits:
            self.set_centroids(kmeans(v, 2**bits))

    def arguments(self, v: Float, run: Run, bits: int) -> tuple[Any, ...]:
        """Give the centroids; of other bits those of k-means on ``v``."""
        if bits == self.bits or not v.size:
            self.check_known(v)
            return (self.centroids.value,)
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
        check_values(v, name="v")
        self.check_known(v)
        levels = np.sort(check_centroids(v, self.centroids.value))
        return nearest(v, levels), levels

    def decision_boundaries(self, v: Float) -> Float:
        """Give the values where the code changes: (1, 2^b - 1)."""
        self.check_known(v)
        return midpoints(check_centroids(v, self.centroids.value))[None]
