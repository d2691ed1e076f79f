r"""Weighted-entropy quantization: clusters of weights, powers of two of activations.

Park, Ahn, Yoo. Weighted-Entropy-Based Quantization for Deep Neural Networks. CVPR 2017;
it is not on arXiv. Its activations are rounded in the logarithm, after Miyashita, Lee,
Murmann, Convolutional Neural Networks using Logarithmic Data Representation,
arXiv:1603.01025.

    paper                            code            where
    importance i = w^2               energy          weq_boundaries
    P_l, share of cluster l          count / n       cluster_term
    S = -sum I_l P_l ln P_l          cluster_term    weq_entropy, weq_boundaries
    cluster boundaries               boundaries      weq_boundaries
    representative, sqrt(I_l)        rms             weq_representatives
    log quantizer, offset, step      thresholds      weq_activation
    search of offset and step        s               weq_log_search

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

The offset and the step count 1/16 octaves. The authors' code tries offsets from 2.5
octaves above the smallest activation; here from the smallest one.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple, final

import numpy as np

from refqnn._types import Bool, Float, Int
from refqnn.core import Buffer, Run
from refqnn.ops.checks import check_gradient
from refqnn.quantizers.checks import check_finite, flush
from refqnn.quantizers.module import (
    Quantizer,
    unset,
)

MOST_WEIGHT_LEVELS = 2**16
MOST_ACTIVATION_LEVELS = 2**8
#: the histogram of activations: 1024 bins of 1/16 octave, from 2^-40 to 2^24
BINS = 1024
FIRST_BIN = -640
#: of the energy of all weights; a smaller gain in S may be rounding
GAIN = 1e-12


class WEQWeightCache(NamedTuple):
    """What freezes the rounding; the backward is the identity."""

    residual: Float  # y - w


class WEQActivationCache(NamedTuple):
    """What ``weq_activation_backward`` needs, and what freezes the rounding."""

    positive: Bool  # where the gradient passes
    residual: Float  # y - relu(x)


# -- weights --------------------------------------------------------------------------


def weq_weight(
    w: Float,
    *,
    levels: int,
    boundaries: Float | None = None,
    frozen: WEQWeightCache | None = None,
) -> tuple[Float, WEQWeightCache]:
    """y = sgn(w) * rms of the weights in the cluster of |w|, sgn(0) = 1

    w: (...), boundaries: ((levels + 1) // 2 - 1,)  ->  y: (...), dtype of w

    All of w is one group. Without ``boundaries``, those of ``weq_boundaries``. The
    representatives are always those of w. Raises ValueError for levels outside
    [2, 2^16], fewer weights than clusters, boundaries that are negative or descend, and
    NaN or infinity.

    With ``frozen``, the recorded residual is added to w: the smooth function whose
    exact gradient ``weq_weight_backward`` is.

    >>> weq_weight(np.array([1.0, -7.0, 7.0, 5.0, -5.0]), levels=2)[0]  # 149 / 5
    array([ 5.45893763, -5.45893763,  5.45893763,  5.45893763, -5.45893763])
    >>> weq_weight(np.array([1.0, -7.0, 1.0]), levels=4)[0]
    array([ 1., -7.,  1.])
    """
    check_finite(w, name="w")
    if frozen is not None:
        return w + frozen.residual, frozen
    if boundaries is None:
        boundaries = weq_boundaries(w, levels=levels)
    boundaries = check_boundaries(boundaries, w, levels)
    y = weq_codebook(w, boundaries, levels)[weq_codes(w, boundaries, levels)]
    return y, WEQWeightCache(y - w)


def weq_weight_backward(dy: Float, cache: WEQWeightCache) -> Float:
    """dw = dy; boundaries and representatives are treated as constants.

    dy: (...)  ->  dw: (...)

    >>> weq_weight_backward(np.array([3.0]), weq_weight(np.ones(1), levels=2)[1])
    array([3.])
    """
    check_gradient(dy, cache.residual.shape)
    return dy.copy()


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
    check_finite(w, name="w")
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
    return -(energy[end] - energy[begin]) * np.log(share / 2)


def weq_entropy(w: Float, boundaries: Float, *, levels: int) -> float:
    """S = -sum_l I_l P_l ln(P_l / 2),  I_l = mean w^2 of cluster l, P_l its share

    w: (...), boundaries: ((levels + 1) // 2 - 1,)  ->  ()

    >>> s = weq_entropy(np.array([1.0, -7.0]), np.array([7.0]), levels=4)
    >>> bool(np.isclose(s, (1 + 49) / 2 * np.log(4)))
    True
    """
    check_finite(w, name="w")
    boundaries = check_boundaries(boundaries, w, levels)
    total = 0.0
    for cluster in split(w, boundaries)[levels % 2 :]:
        if cluster.size:
            square = (cluster**2).sum() / w.size  # I_l P_l
            total -= square * np.log(cluster.size / w.size / 2)
    return total


def cluster_count(levels: int) -> int:
    """Return the number of clusters of magnitudes: two levels each, zero has one.

    >>> cluster_count(4), cluster_count(5)
    (2, 3)
    """
    check_levels(levels, most=MOST_WEIGHT_LEVELS)
    return (levels + 1) // 2


def check_levels(levels: int, *, most: int) -> None:
    """Raise unless ``2 <= levels <= most``; a bool is not a number of levels."""
    known = isinstance(levels, int | np.integer) and not isinstance(levels, bool)
    if not known or not 2 <= levels <= most:
        raise ValueError(f"levels must be an int in [2, {most}], got {levels!r}")


def check_boundaries(boundaries: Float, w: Float, levels: int) -> Float:
    """Return the boundaries in the dtype of w; raise for some that are none."""
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
            rms = top * np.sqrt(np.mean((cluster / top) ** 2))
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


# -- activations ----------------------------------------------------------------------


def weq_activation(
    x: Float,
    offset: int,
    step: int,
    *,
    levels: int,
    frozen: WEQActivationCache | None = None,
) -> tuple[Float, WEQActivationCache]:
    """y = 2^((offset + k step) / 16),  k = round((16 log2 x - offset) / step) <= N - 2

    x: (...), offset, step: ints  ->  y: (...), dtype of x

    0 where x <= 0 or k < 0; ties away from 0, so k = -1/2 is rounded to 0, too. One
    level is 0, N - 1 are powers. Raises ValueError for levels outside [2, 256], a step
    that is not even and in [2, 32], powers outside the dtype, and NaN or infinity in x.

    With ``frozen``, the recorded residual is added where x was positive: the smooth
    function whose exact gradient ``weq_activation_backward`` is.

    >>> weq_activation(np.array([-1.0, 0.1, 1.0, 1.4, 1.5, 9.0]), 0, 16, levels=4)[0]
    array([0., 0., 1., 1., 2., 4.])
    """
    check_finite(x, name="x")
    if frozen is not None:
        return np.where(frozen.positive, x, 0) + frozen.residual, frozen
    thresholds, table = log_grid(offset, step, levels, x.dtype)
    y = table[log_codes(x, thresholds)]
    return y, WEQActivationCache(x > 0, y - np.maximum(x, 0))


def weq_activation_backward(dy: Float, cache: WEQActivationCache) -> Float:
    """dx = dy * 1{x > 0}, also where y was rounded to 0.

    dy: (...)  ->  dx: (...)

    >>> cache = weq_activation(np.array([-1.0, 0.1, 9.0]), 0, 16, levels=4)[1]
    >>> weq_activation_backward(np.ones(3), cache)
    array([0., 1., 1.])
    """
    check_gradient(dy, cache.positive.shape)
    return np.where(cache.positive, dy, 0)


def log_grid(offset: int, step: int, levels: int, dtype: Any) -> tuple[Float, Float]:
    """Return the thresholds (levels - 1,) and the levels (levels,), ascending."""
    check_levels(levels, most=MOST_ACTIVATION_LEVELS)
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
    check_finite(x, name="x")
    check_levels(levels, most=MOST_ACTIVATION_LEVELS)
    if not np.any(x > 0):
        raise ValueError(f"x must have a positive value, got shape {x.shape} without")
    count = np.append(0, np.cumsum(octave_histogram(x)))  # of the smaller bins
    lowest = int(np.searchsorted(count, 0, side="right")) - 1
    highest = int(np.searchsorted(count, count[-1])) - 1
    best, found = -np.inf, (lowest, 2)
    for step in range(2, 33, 2):
        last = highest - step // 2 * (2 * levels - 5)
        offsets = np.arange(lowest, last + 1)
        if offsets.size:
            s = log_entropy(offsets, step, levels, count)
            if s.max() > best:
                best, found = s.max(), (int(offsets[s.argmax()]), step)
    return found[0] + FIRST_BIN, found[1]


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
    return -(sixteenths(exponents + FIRST_BIN) * p * np.log(np.where(p > 0, p, 1))).sum(
        1
    )


# -- modules --------------------------------------------------------------------------


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
        check_finite(v, name="v")
        b = check_boundaries(self.boundaries.value, v, self.levels)
        return weq_codes(v, b, self.levels), weq_codebook(v, b, self.levels)

    def decision_boundaries(self, v: Float) -> Float:
        """Give the values where the code changes: (1, levels - 1)."""
        b = check_boundaries(self.boundaries.value, v, self.levels)
        between = np.zeros(1 - self.levels % 2, v.dtype)
        return np.concatenate([-b[::-1], between, b])[None]


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
        check_levels(self.levels, most=MOST_ACTIVATION_LEVELS)

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
        check_finite(v, name="v")
        thresholds, table = log_grid(*self.offset_and_step(), self.levels, v.dtype)
        return log_codes(v, thresholds), table

    def decision_boundaries(self, v: Float) -> Float:
        """Give the values where the code changes: (1, levels - 1)."""
        return log_grid(*self.offset_and_step(), self.levels, v.dtype)[0][None]
