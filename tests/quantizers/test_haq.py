import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refuses

from refqnn.core import Run
from refqnn.quantizers import (
    HAQLinear,
    KMeansWeight,
    cluster_means,
    fixed_point,
    haq_linear,
    haq_threshold,
    kmeans,
    kmeans_weight,
    kmeans_weight_backward,
)
from refqnn.quantizers.haq import cdf_distance
from refqnn.quantizers.haq_kmeans import first_centroids, nearest

seeds = given(seed=st.integers(0, 2**32 - 1))


def drawn(seed, size=40):
    rng = np.random.default_rng(seed)
    return rng, np.round(rng.normal(size=size) * 8) / 8  # with repeats


# -- linear ---------------------------------------------------------------------------


@seeds
def test_linear_one_weight_at_a_time(seed):
    rng, w = drawn(seed)
    a = float(rng.uniform(0.3, 3))
    for bits in (2, 4, 8):
        s = a / (2 ** (bits - 1) - 1)
        want = [round(max(-a, min(a, x)) / s) * s for x in w.tolist()]
        np.testing.assert_allclose(haq_linear(w, bits=bits, clip=a)[0], want)


def test_without_a_clip_it_is_the_largest_magnitude_of_the_layer():
    w = np.array([[1.0, -3.0], [0.25, 0.5]])
    np.testing.assert_array_equal(
        haq_linear(w, bits=3)[0], fixed_point(w, np.array(3.0), bits=3)[0]
    )
    for bits in (2, 5):
        assert haq_threshold(w, bits=bits, threshold="max") == 3
    assert haq_linear(np.zeros((0, 2)), bits=3)[0].shape == (0, 2)


# -- thresholds -----------------------------------------------------------------------


def released_distance(cdf, i, n):
    """The released comparison, point by point."""

    def between(points, x):  # a line through points at 0 .. 1
        at = x * (len(points) - 1)
        low = min(int(at), len(points) - 2)
        return points[low] + (at - low) * (points[low + 1] - points[low])

    cut = [*cdf[: i - 1], *[1.0] * (len(cdf) - i + 1)]
    coarse = [between(cut[:i], k / (n - 1)) for k in range(n)]
    cut[:i] = [between(coarse, k / (i - 1)) for k in range(i)]
    pairs = zip(cdf, cut, strict=True)
    return sum((p - q) * math.log2(p / q) for p, q in pairs)


@seeds
def test_the_distance_point_by_point(seed):
    rng = np.random.default_rng(seed)
    cdf = np.cumsum(rng.dirichlet(np.ones(12)) + 1e-9)
    cdf /= cdf[-1]
    for n, i in itertools.product((2, 4, 8), range(9, 13)):
        want = released_distance(cdf.tolist(), i, n)
        np.testing.assert_allclose(cdf_distance(cdf, i, n), want, atol=1e-12)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_the_released_threshold_by_a_loop_over_candidates(bits):
    w = np.random.default_rng(5).normal(size=2000)
    magnitude = np.abs(w)
    bins = math.ceil(magnitude.max() / (np.ptp(magnitude) / math.sqrt(w.size)))
    width = magnitude.max() / bins
    inner = [np.count_nonzero(magnitude < k * width) for k in range(1, bins)]
    cdf = [*(count / w.size for count in inner), 1.0]
    n = 2 ** (bits - 1)
    found = {i: released_distance(cdf, i, n) for i in range(n + 1, bins + 1)}
    want = (min(found, key=found.get) + 0.5) * width
    np.testing.assert_allclose(haq_threshold(w, bits=bits), want, rtol=1e-9)


def test_from_five_bits_and_with_a_short_histogram_it_is_the_maximum():
    w = np.random.default_rng(5).normal(size=2000)
    for bits in (5, 8):
        assert haq_threshold(w, bits=bits) == np.abs(w).max()
    assert haq_threshold(np.array([0.0, 0.1, -0.7]), bits=4) == 0.7


def test_an_empty_first_bin_takes_the_first_candidate_whatever_the_weights():
    for seed in (0, 1):
        w = np.random.default_rng(seed).uniform(0.5, 1, size=400)
        counts, edges = np.histogram(w, bins="sqrt", range=(0, w.max()))
        assert counts[0] == 0
        assert np.isnan(cdf_distance(np.cumsum(counts) / 400, 9, 4))
        for bits, first in ((2, 3), (3, 5), (4, 9)):
            want = (first + 0.5) * edges[1]
            np.testing.assert_allclose(haq_threshold(w, bits=bits), want)
        # a clip below most of the weights; the alternative keeps them
        assert haq_threshold(w, bits=3) < w.min()
        assert haq_threshold(w, bits=3, threshold="mse") > 0.8 * w.max()


@pytest.mark.parametrize("value", [0.0, 1e-9])
def test_small_weights_count_as_zero_in_released_code_only(value):
    w = np.full((2, 5), value)
    assert haq_threshold(w, bits=4) == 0
    assert haq_threshold(w, bits=4, threshold="mse") == value


@seeds
def test_no_candidate_has_less_squared_error_than_mse(seed):
    _, w = drawn(seed)
    for bits in (2, 4):

        def error(a, bits=bits):
            return np.sum((haq_linear(w, bits=bits, clip=a)[0] - w) ** 2)

        a = float(haq_threshold(w, bits=bits, threshold="mse"))
        top = np.abs(w).max()
        least = min(error(k / 128 * top) for k in range(1, 129))
        np.testing.assert_allclose(error(a), least, rtol=1e-12)
        assert error(a) <= error(top)


def test_thresholds_scale_with_the_weights_and_neither_overflow_nor_vanish():
    w = np.random.default_rng(1).normal(size=300)
    for threshold in ("haq_cdf", "mse", "max"):
        a = haq_threshold(w, bits=3, threshold=threshold)
        for exponent in (-20, 500):
            scaled = haq_threshold(np.ldexp(w, exponent), bits=3, threshold=threshold)
            np.testing.assert_allclose(scaled, np.ldexp(a, exponent), rtol=1e-12)
    refuses("threshold must be one of", haq_threshold, w, bits=3, threshold="kl")


# -- k-means --------------------------------------------------------------------------


def squared_error(w, centroids):
    return np.sum((kmeans_weight(w, centroids)[0] - w) ** 2)


@seeds
def test_assignment_is_the_nearest_by_brute_force(seed):
    rng, w = drawn(seed)
    centroids = np.round(rng.normal(size=5) * 4) / 4
    y, cache = kmeans_weight(w, centroids)
    for x, got, code in zip(w, y, cache.codes, strict=True):
        best = min(centroids, key=lambda c, x=x: (abs(x - c), c))
        assert got == best == centroids[code]


@seeds
def test_the_error_never_rises_and_residuals_sum_to_zero(seed):
    rng, w = drawn(seed)
    centroids = rng.normal(size=6)
    for _ in range(30):
        codes = nearest(w, centroids)
        after = cluster_means(w, codes, centroids)
        assert squared_error(w, after) <= squared_error(w, centroids) + 1e-12
        centroids = after
    found = kmeans(w, 5)
    y, cache = kmeans_weight(w, found)
    sums = np.bincount(cache.codes, w - y, minlength=5)
    np.testing.assert_allclose(sums, 0, atol=1e-12)
    np.testing.assert_allclose(y @ (w - y), 0, atol=1e-12)


@seeds
def test_the_result_is_a_fixed_point_better_than_its_start(seed):
    rng, w = drawn(seed)
    k = 4
    for options in ({}, {"init": "k-means++", "rng": rng}):
        found = kmeans(w, k, **options)
        assert np.all(np.diff(found) >= 0)
        again = cluster_means(w, nearest(w, found), found)
        np.testing.assert_allclose(again, found, atol=1e-14)
    start = first_centroids(w, k, "quantiles", None)
    assert squared_error(w, kmeans(w, k)) <= squared_error(w, start) + 1e-12


def best_of_all_partitions(w, k):
    """The least error of k intervals of the sorted weights."""
    w = np.sort(w)
    cuts = itertools.combinations(range(1, w.size), k - 1)
    return min(
        sum(np.sum((part - part.mean()) ** 2) for part in np.split(w, cut))
        for cut in cuts
    )


@seeds
def test_no_result_beats_the_best_partition_and_many_starts_come_near(seed):
    rng, w = drawn(seed, size=9)
    if np.unique(w).size <= 3:
        return
    best = best_of_all_partitions(w, 3)
    assert squared_error(w, kmeans(w, 3)) >= best - 1e-12
    tries = [kmeans(w, 3, init="k-means++", rng=rng) for _ in range(60)]
    # Lloyd stops at local optima, the best partition need not be in reach of a start
    assert best - 1e-12 <= min(squared_error(w, c) for c in tries) <= 1.1 * best + 1e-12


@seeds
def test_few_distinct_values_are_their_own_centroids(seed):
    rng = np.random.default_rng(seed)
    w = rng.integers(-2, 3, 30) / 4
    for k in (5, 16):
        found = kmeans(w, k)
        np.testing.assert_array_equal(found, np.unique(w))
        np.testing.assert_array_equal(kmeans_weight(w, found)[0], w)
    assert not np.signbit(kmeans(np.array([-0.0, 0.0]), 2)).any()


@seeds
def test_the_deterministic_start_is_affine_equivariant(seed):
    _, w = drawn(seed)
    found = kmeans(w, 4)
    np.testing.assert_array_equal(kmeans(w, 4), found)
    np.testing.assert_allclose(kmeans(4 * w + 2, 4), 4 * found + 2, atol=1e-12)
    rng = np.random.default_rng(seed)
    np.testing.assert_array_equal(kmeans(rng.permutation(w), 4), found)


def test_the_start_is_k_quantiles_of_the_distinct_values():
    w = np.repeat(np.arange(8.0), [1, 5, 1, 1, 9, 1, 1, 1])
    np.testing.assert_array_equal(
        first_centroids(w, 4, "quantiles", None), [1, 3, 5, 7]
    )
    np.testing.assert_array_equal(first_centroids(w, 3, "quantiles", None), [1, 4, 6])


def test_k_means_plus_plus_starts_at_distinct_weights_far_apart():
    w = np.array([0.0] * 50 + [100.0] * 50 + [0.125, 101.0])
    for seed in range(20):
        start = first_centroids(w, 2, "k-means++", np.random.default_rng(seed))
        assert start[1] - start[0] > 90
        assert np.isin(start, w).all()
        again = first_centroids(w, 2, "k-means++", np.random.default_rng(seed))
        np.testing.assert_array_equal(start, again)


def test_an_empty_cluster_keeps_its_centroid():
    w, centroids = np.array([0.0, 0.0, 10.0]), np.array([0.0, 5.0, 10.0])
    codes = nearest(w, centroids)
    np.testing.assert_array_equal(cluster_means(w, codes, centroids), centroids)
    _, cache = kmeans_weight(w, centroids, reduction="mean")
    _, dcentroids = kmeans_weight_backward(np.ones(3), cache)
    np.testing.assert_array_equal(dcentroids, [1, 0, 1])


def test_what_cannot_be_clustered_raises():
    w = np.arange(4.0)
    for k, array in ((0, w), (2, np.zeros(0))):
        refuses("must be >= 1", kmeans, array, k)
    for options in ({"init": "k-means++"}, {"init": "random"}):
        refuses("init must be 'quantiles'", kmeans, w, 2, **options)
    refuses("restarts must be at least 1, got 0", kmeans, w, 2, restarts=0)


@seeds
def test_the_best_of_several_restarts_wins(seed):
    _, w = drawn(seed)
    draws = {"init": "k-means++", "rng": np.random.default_rng(seed)}
    tries = [kmeans(w, 6, **draws) for _ in range(5)]
    draws["rng"] = np.random.default_rng(seed)
    least = min(squared_error(w, c) for c in tries)
    best = squared_error(w, kmeans(w, 6, restarts=5, **draws))
    assert best == pytest.approx(least, abs=1e-12)


@seeds
def test_centroid_gradients_are_sums_or_means_of_their_cluster(seed):
    rng, w = drawn(seed)
    centroids, dy = rng.normal(size=4), rng.normal(size=40)
    codes = kmeans_weight(w, centroids)[1].codes
    for reduction, combine in (("sum", sum), ("mean", np.mean)):
        cache = kmeans_weight(w, centroids, reduction=reduction)[1]
        dw, dcentroids = kmeans_weight_backward(dy, cache)
        np.testing.assert_array_equal(dw, dy)
        for k in range(4):
            own = dy[codes == k].tolist() or [0.0]
            np.testing.assert_allclose(dcentroids[k], combine(own), atol=1e-12)


@seeds
def test_released_fine_tuning_is_a_step_along_the_mean(seed):
    """Step every weight, replace it by the mean of its old cluster."""
    rng, w = drawn(seed)
    centroids, dy, lr = kmeans(w, 4), rng.normal(size=40), 0.1
    y, cache = kmeans_weight(w, centroids, reduction="mean")
    dw, dcentroids = kmeans_weight_backward(dy, cache)
    released = cluster_means(y - lr * dw, cache.codes, centroids)
    np.testing.assert_allclose(released, centroids - lr * dcentroids, atol=1e-12)


# -- modules --------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", ["haq_cdf", "mse", "max"])
def test_the_first_training_pass_calibrates_and_no_other(rng, threshold):
    w = rng.normal(size=(20, 30))
    module = HAQLinear(bits=3, threshold=threshold)
    y, _ = module.forward(w, Run(training=True))
    a = haq_threshold(w, bits=3, threshold=threshold)
    np.testing.assert_array_equal(y, haq_linear(w, bits=3, clip=a)[0])
    for run in (Run(training=True), Run()):
        y, _ = module.forward(3 * w, run)
        np.testing.assert_array_equal(y, haq_linear(3 * w, bits=3, clip=a)[0])
    assert module.clip.value == a


def test_weights_that_are_all_zero_leave_the_clip_unknown():
    module = HAQLinear()
    y, _ = module.forward(np.zeros((2, 2)), Run(training=True))
    np.testing.assert_array_equal(y, 0)
    refuses("the clip is unknown", module.forward, np.ones((1, 2)), Run())
    module.forward(np.array([[0.5, -2.0]]), Run(training=True))
    assert module.clip.value == 2


def test_clips_that_are_none_raise():
    for wrong in (0.0, -1.0, np.nan, np.inf, np.ones(2)):
        refuses("clip must be one positive number", HAQLinear().set_clip, wrong)


def test_the_first_training_pass_finds_the_codebook(rng):
    w = rng.normal(size=(20, 30))
    module = KMeansWeight(bits=3, reduction="mean")
    y, _ = module.forward(w, Run(training=True))
    found = kmeans(w, 8)
    np.testing.assert_array_equal(module.centroids.value, found)
    module.forward(2 * w, Run(training=True))
    np.testing.assert_array_equal(module.centroids.value, found)
    np.testing.assert_array_equal(module.forward(w, Run())[0], y)


def test_other_bits_find_a_codebook_of_their_own(rng):
    w = rng.normal(size=(4, 10))
    module = KMeansWeight(bits=3)
    module.forward(w, Run(training=True))
    y, cache = module.forward(w, Run(training=True), bits=1)
    np.testing.assert_array_equal(y, kmeans_weight(w, kmeans(w, 2))[0])
    np.testing.assert_array_equal(module.backward(np.ones_like(w), cache), 1)
    np.testing.assert_array_equal(module.centroids.grad, 0)
    np.testing.assert_array_equal(module.centroids.value, kmeans(w, 8))


def test_fewer_centroids_than_codes_repeat_the_last():
    module = KMeansWeight(bits=2)
    module.set_centroids(np.array([-1.0, 2.0]))
    np.testing.assert_array_equal(module.centroids.value, [-1, 2, 2, 2])
    v = np.array([[-3.0, 0.5, 0.6, 9.0]])
    codes, levels = module.encode(v)
    np.testing.assert_array_equal(levels[codes], [[-1, -1, 2, 2]])
    refuses(r"centroids must be at most 2\^2", module.set_centroids, np.arange(5.0))


def test_the_clip_of_mse_may_be_the_smallest_share():
    """20 000 at 1/128: what a wider clip costs them is more than one outlier gains."""
    w = np.append(np.full(20_000, 1 / 128), 1.0)
    assert haq_threshold(w, bits=2, threshold="mse") == 1 / 128
    least = np.array([np.finfo(np.float64).tiny])
    assert haq_threshold(least, bits=2, threshold="mse") > 0


def test_one_centroid_is_the_mean():
    assert kmeans(np.array([1.0, 2.0, 6.0]), 1) == 3


def test_a_histogram_of_one_bin_more_than_n_has_one_candidate():
    w = np.linspace(0, 3, 9)  # three bins, n = 2
    np.testing.assert_allclose(haq_threshold(w, bits=2), 3.5)
    assert haq_threshold(w, bits=3) == 3
