r"""Weighted-entropy quantization of weights: clusters of magnitudes.

Park, Ahn, Yoo. Weighted-Entropy-Based Quantization for Deep Neural Networks. CVPR 2017;
it is not on arXiv. Its activations are in weq_logarithm.py, after arXiv:1603.01025.
Letters are names of this file, not numbers of the paper.

    paper                            code            where
    importance i = w^2               energy          weq_boundaries
    P_l, share of cluster l          count / n       cluster_term
    S = -sum I_l P_l ln P_l, (A)     its terms       cluster_term, weq_entropy
    cluster boundaries               boundaries      weq_boundaries
    representative, sqrt(I_l), (R)   rms             weq_representatives
    quantized weight, (Q)            y               weq_weight
    straight through, (G)            dw              weq_weight_backward

Backward. Hold the residual r = y - w of the recorded weights: y = w + r has slope 1;
boundaries and representatives are treated as constants (G).

Both signs share the clusters of magnitudes, as in the authors' code; the paper is said
to treat the signs apart (unconfirmed). A cluster of magnitudes is then two levels of
half its share each, hence P_l / 2 in S. An odd number of levels adds a cluster around
zero with the representative 0, which S leaves out.

Left open, and chosen here: the search moves one boundary at a time to the best place
between its neighbours (the first of equals), from equal counts, until a sweep gains
nothing: a local maximum. No boundary splits equal magnitudes: only then a cluster is an
interval of magnitudes, the energy of the weights is preserved exactly, and quantizing
again changes nothing. The authors' code bisects, which assumes one maximum, splits
equal magnitudes, and takes a boundary as the root of a difference of float32 sums.

With fewer distinct magnitudes than clusters each has its own, and the lowest clusters
stay empty. With fewer weights than clusters there is an error.
"""

from dataclasses import dataclass, field
from typing import final

import numpy as np

from refqnn._types import Float, Int
from refqnn.core import Buffer, Run
from refqnn.moved import other_half
from refqnn.ops.checks import check_gradient
from refqnn.quantizers.checks import ResidualCache, check_bits, check_values, flush
from refqnn.quantizers.module import Quantizer, unset

#: weq_logarithm.py was a part of this file
__getattr__ = other_half(__name__, "refqnn.quantizers.weq_logarithm")

MOST_WEIGHT_LEVELS = 2**16
#: of the energy of all weights; a smaller gain in S may be rounding
GAIN = 1e-12


def weq_weight(
    w: Float,
    *,
    levels: int,
    boundaries: Float | None = None,
    frozen: ResidualCache | None = None,
) -> tuple[Float, ResidualCache]:
    """y = sgn(w) * rms of the weights in the cluster of |w|, sgn(0) = 1

    w: (...), boundaries: ((levels + 1) // 2 - 1,)  ->  y: (...), dtype of w

    All of w is one group. Without ``boundaries``, those of ``weq_boundaries``. The
    representatives are always those of w. Raises ValueError for levels outside
    [2, 2^16], fewer weights than clusters, boundaries that are negative or descend, and
    NaN or infinity.

    ``frozen`` holds the residual that a cache recorded: see Backward, above.

    >>> weq_weight(np.array([1.0, -7.0, 7.0, 5.0, -5.0]), levels=2)[0]  # 149 / 5
    array([ 5.45893763, -5.45893763,  5.45893763,  5.45893763, -5.45893763])
    >>> weq_weight(np.array([1.0, -7.0, 1.0]), levels=4)[0]
    array([ 1., -7.,  1.])
    """
    check_values(w, name="w")
    if frozen is not None:
        return w + frozen.residual, frozen
    if boundaries is None:
        boundaries = weq_boundaries(w, levels=levels)
    boundaries = check_boundaries(boundaries, w, levels)
    codes = weq_codes(w, boundaries, levels)
    y = weq_codebook(w, boundaries, levels)[codes]  # (Q)
    return y, ResidualCache(y - w)


def weq_weight_backward(dy: Float, cache: ResidualCache) -> Float:
    """dw = dy; boundaries and representatives are treated as constants.

    dy: (...)  ->  dw: (...)

    >>> weq_weight_backward(np.array([3.0]), weq_weight(np.ones(1), levels=2)[1])
    array([3.])
    """
    check_gradient(dy, cache.residual.shape)
    return dy.copy()  # (G)


def weq_boundaries(
    w: Float, *, levels: int, start: Float | None = None, sweeps: int | None = None
) -> Float:
    """Return the magnitudes where clusters begin: a local maximum of S.

    w: (...), start: as the result  ->  ((levels + 1) // 2 - 1,), ascending

    Coordinate ascent from equal counts, or from the boundaries ``start``; ``sweeps``
    limits how often it passes over all boundaries. A solver: it has no backward. Raises
    ValueError as ``weq_weight``.

    >>> weq_boundaries(np.array([1.0, 1.0, -1.0, 9.0, -9.0]), levels=4)
    array([9.])
    """
    check_values(w, name="w")
    clusters = cluster_count(levels)
    if 0 < w.size < clusters:
        raise ValueError(
            f"w must have at least {clusters} values for levels={levels}, got {w.size}"
        )
    values, counts = np.unique(np.abs(w), return_counts=True)
    if values.size <= clusters:
        return own_clusters(values, clusters)
    ends = clusters_of_equal_counts(counts, clusters)
    if start is not None:
        first = np.searchsorted(values, check_boundaries(start, w, levels))
        ends = between_neighbours(first, values.size)
    count = np.append(0, np.cumsum(counts))
    energy = np.append(0, np.cumsum((values / values[-1].astype(float)) ** 2 * counts))
    while sweeps is None or sweeps > 0:
        if not ascend(ends, count, energy, levels):
            break
        sweeps = None if sweeps is None else sweeps - 1
    return values[ends[1:-1]]


def ascend(ends: Int, count: Int, energy: Float, levels: int) -> bool:
    """Move each boundary, ascending, to its best place; return whether one moved.

    ends: (clusters + 1,) into the distinct magnitudes, changed in place
    count, energy: (distinct + 1,), of all smaller magnitudes
    """
    moved = False
    for i in range(1, ends.size - 1):
        places = np.arange(ends[i - 1] + 1, ends[i + 1])
        s = cluster_term(places, ends[i + 1], count, energy)
        if i > 1 or levels % 2 == 0:  # the cluster around zero does not count
            s += cluster_term(ends[i - 1], places, count, energy)
        best = int(s.argmax())  # the first of equals
        if s[best] > s[ends[i] - places[0]] + GAIN * energy[-1]:
            ends[i] = places[best]
            moved = True
    return moved


def cluster_term(begin: Int, end: Int, count: Int, energy: Float) -> Float:
    """-I_l P_l ln(P_l / 2) times n: I_l P_l n is the energy of the cluster."""
    share = (count[end] - count[begin]) / count[-1]
    return -(energy[end] - energy[begin]) * np.log(share / 2)  # (A)


def weq_entropy(w: Float, boundaries: Float, *, levels: int) -> float:
    """S = -sum_l I_l P_l ln(P_l / 2),  I_l = mean w^2 of cluster l, P_l its share

    w: (...), boundaries: ((levels + 1) // 2 - 1,)  ->  ()

    >>> s = weq_entropy(np.array([1.0, -7.0]), np.array([7.0]), levels=4)
    >>> bool(np.isclose(s, (1 + 49) / 2 * np.log(4)))
    True
    """
    check_values(w, name="w")
    boundaries = check_boundaries(boundaries, w, levels)
    total = 0.0
    for cluster in split(w, boundaries)[levels % 2 :]:
        if cluster.size:
            square = (cluster**2).sum() / w.size  # I_l P_l
            total -= square * np.log(cluster.size / w.size / 2)  # (A)
    return total


def cluster_count(levels: int) -> int:
    """Return the number of clusters of magnitudes: two levels each, zero has one.

    >>> cluster_count(4), cluster_count(5)
    (2, 3)
    """
    check_bits(levels, least=2, most=MOST_WEIGHT_LEVELS, name="levels")
    return (levels + 1) // 2


def check_boundaries(boundaries: Float, w: Float, levels: int) -> Float:
    """Return boundaries in the dtype of w; raise unless finite, >= 0 and ascending."""
    b = np.asarray(boundaries)
    shape = (cluster_count(levels) - 1,)
    if b.shape != shape:
        raise ValueError(f"boundaries must have the shape {shape}, got {b.shape}")
    if not (np.all(b >= 0) and np.all(b < np.inf) and np.all(b[1:] >= b[:-1])):
        raise ValueError(f"boundaries must be finite, >= 0 and ascend, got {b}")
    return b.astype(w.dtype)


def own_clusters(values: Float, clusters: int) -> Float:
    """Give every distinct magnitude its own cluster; the lowest clusters stay empty.

    >>> own_clusters(np.array([2.0, 5.0]), 4)
    array([2., 2., 5.])
    """
    if not values.size:
        return np.zeros(clusters - 1, values.dtype)
    return np.append(np.repeat(values[0], clusters - values.size), values[1:])


def clusters_of_equal_counts(counts: Int, clusters: int) -> Int:
    """Return where clusters end, in distinct values, nearest above floor(l n / h).

    >>> clusters_of_equal_counts(np.array([1, 1, 1, 1, 1]), 2)
    array([0, 2, 5])
    """
    n = int(counts.sum())
    begin = np.append(0, np.cumsum(counts)[:-1])  # the smaller values of each
    want = np.arange(1, clusters) * n // clusters
    return between_neighbours(np.searchsorted(begin, want), counts.size)


def between_neighbours(places: Int, distinct: int) -> Int:
    """Return 0, ``places`` moved as little as no empty cluster allows, and the end.

    >>> between_neighbours(np.array([0, 3, 3, 7]), 7)
    array([0, 1, 3, 4, 6, 7])
    """
    l = np.arange(1, places.size + 1)
    up = np.maximum(np.maximum.accumulate(places - l), 0) + l
    most = distinct - places.size - 1 + l
    return np.concatenate([[0], np.minimum(up, most), [distinct]])


def split(w: Float, boundaries: Float) -> list[Float]:
    """Return the sorted magnitudes of every cluster, in float64."""
    a = np.sort(np.abs(w), axis=None)
    return np.split(a.astype(np.float64), np.searchsorted(a, boundaries))


def weq_representatives(w: Float, boundaries: Float, levels: int) -> Float:
    """rep_l = sqrt(I_l); 0 for the cluster around zero; ascending.

    An empty cluster is represented by its lower boundary.

    w: (...), boundaries: (clusters - 1,)  ->  (clusters,), dtype of w
    """
    rep = np.append(0, boundaries).astype(np.float64)
    for l, cluster in enumerate(split(w, boundaries)):
        if cluster.size and cluster[-1] > 0:
            top = cluster[-1]  # divided out: no square overflows
            rms = top * np.sqrt(np.mean((cluster / top) ** 2))  # (R)
            rep[l] = max(rms, cluster[0])  # rounding leaves no cluster
    rep[: levels % 2] = 0
    return flush(rep.astype(w.dtype))


def weq_codebook(w: Float, boundaries: Float, levels: int) -> Float:
    """Return the levels, ascending: (levels,)."""
    rep = weq_representatives(w, boundaries, levels)
    return np.append(-rep[levels % 2 :][::-1], rep) + 0.0  # + 0.0: one zero


def weq_codes(w: Float, boundaries: Float, levels: int) -> Int:
    """Return the index of the level: w (...)  ->  (...) in 0 .. levels - 1."""
    cluster = np.searchsorted(boundaries, np.abs(w), side="right")
    half = levels // 2
    return np.where(w < 0, half - 1 + levels % 2 - cluster, half + cluster)


def bits_of_levels(bits: int | None, levels: int) -> int:
    """floor(log2(levels)); raises where a call asks for other bits than those."""
    if bits is not None and (isinstance(bits, bool) or 2**bits != levels):
        raise ValueError(f"bits must give levels={levels}, got bits={bits!r}")
    return levels.bit_length() - 1


@final
@dataclass(eq=False)
class WEQWeight(Quantizer):
    """Clusters of the weights of a layer, searched in every training pass.

    ``warm_start`` begins the search at the last boundaries, as the authors' code does:
    faster, but the result depends on the weights before. ``sweeps`` limits the search:
    it takes hundreds of sweeps from 32 levels on. The bits of a call can only be
    log2(levels).
    """

    levels: int = 16
    warm_start: bool = False
    sweeps: int | None = None
    boundaries: Buffer = field(init=False)
    #: 1 once the boundaries are known
    known: Buffer = field(init=False, default_factory=unset)

    pair = (weq_weight, weq_weight_backward)
    options = ("levels", "boundaries")
    unknown = "boundaries are unknown: train, or call set_boundaries(b)"

    def __post_init__(self) -> None:
        self.boundaries = Buffer(np.zeros(cluster_count(self.levels) - 1))

    def bits_of(self, bits: int | None) -> int:
        """log2(levels)"""
        return bits_of_levels(bits, self.levels)

    def begin(self, v: Float, run: Run, bits: int) -> None:
        """Search the boundaries of this pass."""
        warm = self.warm_start and self.known.value
        start = self.boundaries.value if warm else None
        self.set_boundaries(
            weq_boundaries(v, levels=self.levels, start=start, sweeps=self.sweeps)
        )

    def set_boundaries(self, boundaries: Float) -> None:
        """Set the boundaries: calibration without training."""
        self.hold(boundaries=check_boundaries(boundaries, np.zeros(1), self.levels))

    def encode(self, v: Float) -> tuple[Int, Float]:
        """Give ``(codes, levels)`` with ``levels[codes] == y``."""
        check_values(v, name="v")
        b = check_boundaries(self.boundaries.value, v, self.levels)
        return weq_codes(v, b, self.levels), weq_codebook(v, b, self.levels)

    def decision_boundaries(self, v: Float) -> Float:
        """Give the values where the code changes: (1, levels - 1)."""
        b = check_boundaries(self.boundaries.value, v, self.levels)
        between = np.zeros(1 - self.levels % 2, v.dtype)
        return np.concatenate([-b[::-1], between, b])[None]
