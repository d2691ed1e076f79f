"""Proposition 5.1: exact, by experiment, at its limits, and as printed; figure 4."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from refusals import refuses

from refqnn.core import Param
from refqnn.networks import vgg
from refqnn.nn import SGD, Conv2d, Sequential, Training, cosine, fit
from refqnn.papers.pareto import (
    MeanAbsVariance,
    channel_correlation,
    mean_abs_variance,
    mean_abs_variance_printed,
    rho,
    simulate,
)
from refqnn.papers.pareto.variance import (
    checked_correlation,
    equal_correlation,
    magnitude_excess,
)

ONE = 1 - 2 / math.pi  # the variance of |w| for sigma = 1


def pair(r):
    return np.array([[1, r], [r, 1]])


@pytest.mark.parametrize("r", [-0.8, 0.0, 0.3, 0.95])
def test_the_moment_of_a_pair_is_the_integral(r):
    x = np.linspace(-8, 8, 801)  # 0 is on the grid, where |x| has its kink
    a, b = np.meshgrid(x, x)
    density = np.exp(-(a * a - 2 * r * a * b + b * b) / (2 * (1 - r * r)))
    density /= 2 * math.pi * math.sqrt(1 - r * r)
    integral = np.sum(np.abs(a * b) * density) * (x[1] - x[0]) ** 2
    np.testing.assert_allclose(rho(pair(r)), integral, rtol=2e-4)


GRID = [
    (d, r)
    for d in (1, 2, 3, 9, 36, 144)
    for r in ("lowest", 0.0, 0.3, 0.8)
    if d > 1 or r == 0
]


@pytest.mark.parametrize(("d", "r"), GRID)
def test_monte_carlo_agrees(d, r):
    r = -0.9 / (d - 1) if r == "lowest" else r
    correlation = equal_correlation(d, r)
    draws = 20_000
    found = simulate(correlation, draws=draws, rng=np.random.default_rng([d, 7]))
    z = (found.variance - mean_abs_variance(correlation)) / found.standard_error
    assert abs(z) < 4
    assert found.standard_error < 0.05 * found.variance


def test_monte_carlo_rejects_the_formula_as_printed():
    """With the ordinary correlation for rho the printed value is far outside."""
    for r in (0.0, 0.3, 0.5):
        found = simulate(pair(r), draws=20_000, rng=np.random.default_rng(1))
        printed = mean_abs_variance_printed(2, r)
        assert abs(found.variance - printed) > 20 * found.standard_error


def test_monte_carlo_knows_any_matrix_and_sigma(rng):
    a = rng.standard_normal((5, 3))  # rank 3: singular
    covariance = a @ a.T
    scale = np.sqrt(np.diag(covariance))
    correlation = covariance / np.outer(scale, scale)
    found = simulate(correlation, draws=50_000, rng=rng, sigma=3.0)
    exact = mean_abs_variance(correlation, sigma=3.0)
    assert abs(found.variance - exact) < 4 * found.standard_error
    np.testing.assert_allclose(exact, 9 * mean_abs_variance(correlation))


def test_an_experiment_of_five_draws_by_hand():
    found = simulate(np.eye(1), draws=5, rng=np.random.default_rng(4), sigma=2.0)
    means = 2 * np.abs(np.random.default_rng(4).standard_normal(5))
    np.testing.assert_allclose(found.variance, np.var(means, ddof=1))
    second, fourth = (np.mean((means - means.mean()) ** k) for k in (2, 4))
    np.testing.assert_allclose(found.standard_error**2, (fourth - second**2) / 5)


def test_the_standard_error_of_the_experiment_is_right():
    rng = np.random.default_rng(3)
    many = [simulate(pair(0.5), draws=2000, rng=rng) for _ in range(300)]
    seen = np.std([found.variance for found in many])
    told = np.mean([found.standard_error for found in many])
    assert 0.85 < seen / told < 1.15
    exact = mean_abs_variance(pair(0.5))
    mean = np.mean([found.variance for found in many])
    assert abs(mean - exact) < 4 * told / math.sqrt(300)


@pytest.mark.parametrize("d", [2, 3, 10, 1000])
def test_the_printed_formula_with_rho_0_is_negative(d):
    assert mean_abs_variance_printed(d, 0.0) < 0
    assert mean_abs_variance_printed(1, 0.0) == pytest.approx(ONE)


def test_the_printed_value_at_d_2():
    assert round(mean_abs_variance_printed(2, 0.0, sigma=2.0), 3) == round(
        4 * -0.13662, 3
    )


correlations = st.integers(2, 6).flatmap(
    lambda d: hnp.arrays(float, (d, d + 2), elements=st.floats(-1, 1, width=32))
)


def as_correlation(factors):
    """Return the correlation of the rows, with a little of each on its own."""
    covariance = factors @ factors.T + 0.1 * np.eye(len(factors))
    scale = np.sqrt(np.diag(covariance))
    return covariance / np.outer(scale, scale)


@given(factors=correlations, sigma=st.floats(0.1, 10))
def test_with_the_right_rho_the_printed_formula_is_exact(factors, sigma):
    correlation = as_correlation(factors)
    d = len(correlation)
    exact = mean_abs_variance(correlation, sigma=sigma)
    printed = mean_abs_variance_printed(d, rho(correlation), sigma=sigma)
    np.testing.assert_allclose(printed, exact, rtol=1e-9)
    least = ONE / d * sigma**2
    assert least * (1 - 1e-9) <= exact <= ONE * sigma**2 * (1 + 1e-9)


@given(factors=correlations, signs=st.lists(st.sampled_from([1, -1]), min_size=6))
def test_signs_and_order_of_the_weights_do_not_matter(factors, signs):
    correlation = as_correlation(factors)
    s = np.array(signs[: len(correlation)])
    flipped = (correlation * np.outer(s, s))[::-1, ::-1]
    np.testing.assert_allclose(
        mean_abs_variance(flipped), mean_abs_variance(correlation), rtol=1e-12
    )


def test_limits():
    for d in (1, 2, 7, 50):
        np.testing.assert_allclose(mean_abs_variance(np.eye(d)), ONE / d)
        np.testing.assert_allclose(mean_abs_variance(np.ones((d, d))), ONE)
    np.testing.assert_allclose(mean_abs_variance(pair(-1)), ONE)
    assert mean_abs_variance(np.eye(3), sigma=0.0) == 0
    assert rho(np.eye(4)) == pytest.approx(2 / math.pi)
    assert rho(np.ones((4, 4))) == pytest.approx(1)


def test_the_floor_for_many_weights():
    r = 0.5
    floor = 2 / math.pi * (math.sqrt(1 - r * r) + r * math.asin(r) - 1)
    gaps = [mean_abs_variance(equal_correlation(d, r)) - floor for d in (10, 100, 500)]
    np.testing.assert_allclose(gaps, (ONE - floor) / np.array([10, 100, 500]))


def test_small_correlations_enter_squared():
    r = np.array([0.01, 0.05])
    np.testing.assert_allclose(magnitude_excess(r), r**2 / 2, rtol=1e-3)
    assert magnitude_excess(np.array(0.5)) > 0.125


def test_values_of_the_design():
    """d = 36, r = .3, and channels against kernel with .3 inside a slice."""
    assert round(mean_abs_variance(equal_correlation(36, 0.3)), 6) == 0.038161
    found = {
        (c, p): round(mean_abs_variance(channel_correlation(c, p, within=0.3)), 5)
        for c, p in ((1, 9), (1, 36), (4, 9), (1, 144), (16, 9))
    }
    assert found == {
        (1, 9): 0.06604,
        (1, 36): 0.03816,
        (4, 9): 0.01651,
        (1, 144): 0.03119,
        (16, 9): 0.00413,
    }


@pytest.mark.parametrize(
    ("within", "across", "channels_win"),
    [(0.3, 0.0, True), (-0.1, 0.0, True), (0.1, 0.3, False), (0.4, 0.3, True)],
)
def test_channels_beat_kernels_exactly_if_they_are_less_correlated(
    within, across, channels_win
):
    wide, tall = (
        mean_abs_variance(channel_correlation(c, p, within=within, across=across))
        for c, p in ((4, 2), (2, 4))
    )
    assert (wide < tall) == channels_win
    same = [
        mean_abs_variance(channel_correlation(c, p, within=0.2, across=0.2))
        for c, p in ((4, 2), (2, 4))
    ]
    np.testing.assert_allclose(same[0], same[1])


@pytest.mark.parametrize(
    ("correlation", "message"),
    [
        (np.ones(3), r"correlation must be \(d, d\) with d >= 1, got \(3,\)"),
        (np.ones((2, 3)), r"got \(2, 3\)"),
        (np.ones((0, 0)), r"got \(0, 0\)"),
        ([[1, 0.5], [0.4, 1]], "symmetric, off by 0.1"),
        ([[1, 0], [0, 0.9]], "1 on the diagonal, off by 0.1"),
        ([[1, 1.5], [1.5, 1]], r"in \[-1, 1\], off by 0.5"),
        ([[1, math.nan], [math.nan, 1]], "finite"),
        (
            1.2 * -np.ones((3, 3)) / 2 + 1.6 * np.eye(3),
            "eigenvalue below 0, off by 0.2",
        ),
    ],
    ids=str,
)
def test_what_is_no_correlation_matrix_raises(correlation, message):
    for function in (mean_abs_variance, rho):
        refuses(message, function, correlation)


def test_rounding_is_forgiven():
    almost = np.array([[1 + 1e-12, 1 + 1e-12], [1, 1 - 1e-12]])
    np.testing.assert_allclose(mean_abs_variance(almost), ONE)
    np.testing.assert_array_equal(checked_correlation(almost), np.ones((2, 2)))
    skew = checked_correlation([[1 - 1e-9, 0.5], [0.5 + 1e-9, 1]])
    assert skew[0, 1] == skew[1, 0] == 0.5 + 5e-10
    assert skew[0, 0] == 1
    refuses("symmetric, off by 1e-06", checked_correlation, [[1, 0.5], [0.5 + 1e-6, 1]])


def test_other_arguments_out_of_range_raise():
    for call, message in (
        (lambda: mean_abs_variance_printed(0, 0.5), "d must be an int of at least 1"),
        (lambda: mean_abs_variance_printed(2.0, 0.5), "d must be an int"),
        (lambda: mean_abs_variance_printed(2, math.inf), "rho must be finite, got inf"),
        (
            lambda: mean_abs_variance_printed(2, 0, sigma=-1),
            r"sigma must be in \[0, inf",
        ),
        (lambda: mean_abs_variance(np.eye(2), sigma=math.nan), "sigma must be in"),
        (lambda: mean_abs_variance(np.eye(2), sigma=math.inf), "sigma must be in"),
        (lambda: mean_abs_variance_printed(True, 0.5), "at least 1, got True"),
        (lambda: rho([[1.0]]), "d must be an int of at least 2, got 1"),
        (lambda: equal_correlation(3, -0.6), "eigenvalue below 0"),
        (lambda: channel_correlation(0, 3, within=0.1), "at least 1, got 0"),
        (
            lambda: simulate(np.eye(2), draws=1, rng=np.random.default_rng(0)),
            "draws must be an int of at least 2, got 1",
        ),
    ):
        refuses(message, call)


@given(
    w=hnp.arrays(
        np.float32, (7, 3, 2, 2), elements=st.floats(-4, 4, width=32, allow_nan=False)
    ),
    offset=st.sampled_from([0.0, 1000.0]),
)
def test_the_recorder_agrees_with_a_direct_computation(w, offset):
    recorder = MeanAbsVariance()
    steps = w + np.float32(offset)
    for values in steps:
        recorder.see("layer", values)
    means = np.abs(steps.astype(float)).mean(axis=(2, 3))  # (T, O)
    found = recorder.variations()["layer"]
    variance = means.var(axis=0, ddof=1)
    np.testing.assert_allclose(found.raw, variance.mean(), rtol=1e-9, atol=1e-18)
    alive = means.mean(axis=0) > 0
    share = variance[alive] / means.mean(axis=0)[alive] ** 2
    want = share.mean() if alive.any() else 0
    np.testing.assert_allclose(found.relative, want, rtol=1e-9, atol=1e-18)
    assert (found.d, found.steps) == (4, 7)


def test_the_relative_variance_does_not_depend_on_scale(rng):
    small, large = MeanAbsVariance(), MeanAbsVariance()
    for w in rng.standard_normal((5, 4, 9)):
        small.see("w", w)
        large.see("w", 10 * w)
    a, b = (recorder.variations()["w"] for recorder in (small, large))
    np.testing.assert_allclose([b.raw, b.relative], [100 * a.raw, a.relative])


def test_two_filters_by_hand():
    """Filter 0 has mean|w| 1 then 3, filter 1 has 2 and 2: variances 2 and 0."""
    network = Sequential({"conv": Conv2d(Param(np.ones((2, 1, 1, 2))))})
    recorder = MeanAbsVariance()
    for values in (((1, -1), (-2, 2)), ((2, -4), (1, 3))):
        network.layers["conv"].w.value = np.array(values, float).reshape(2, 1, 1, 2)
        recorder.record(network)
    assert recorder.variations() == {"conv": (2, 2, 1.0, 0.25)}


def test_it_follows_a_training(rng):
    network = vgg("c", width=1 / 32, classes=3, in_channels=1, weight_bits=1, rng=rng)
    names = ("depthwise2", "depthwise5")
    recorder, seen = MeanAbsVariance(only=names), []

    def both(training):
        recorder.after_step(training)
        w = training.network.layers["depthwise5"].w.value
        seen.append(np.abs(w.astype(float)).mean(axis=(1, 2, 3)))

    images = rng.integers(0, 256, (12, 1, 32, 32)).astype(np.uint8)
    sgd = SGD({"w": network.layers["depthwise5"].w})
    training = Training(network, sgd, cosine(0.1, steps=6), rng, batch=4)
    fit(training, (images, rng.integers(0, 3, 12)), epochs=2, after_step=both)
    found = recorder.variations()
    assert list(found) == list(names)
    assert [found[name].steps for name in names] == [6, 6]
    want = np.var(seen, axis=0, ddof=1).mean()
    assert want > 0
    np.testing.assert_allclose(found["depthwise5"].raw, want, rtol=1e-9)
    assert found["depthwise2"].raw == 0  # it was not trained


def test_the_recorder_refuses(rng):
    recorder = MeanAbsVariance()
    recorder.see("w", np.ones((1, 2)))
    refuses("needs 2 steps or more, got 1", recorder.variations)
    network = vgg("c", width=1 / 32, rng=rng)
    with pytest.raises(ValueError, match=r"only must be of \['conv1', .*, got 'conv9'"):
        MeanAbsVariance(only=("conv9",)).record(network)


def test_a_filter_of_zeros_has_no_relative_variance():
    recorder = MeanAbsVariance()
    for _ in range(2):
        recorder.see("w", np.zeros((2, 3)))
    assert recorder.variations()["w"] == (3, 2, 0.0, 0.0)
