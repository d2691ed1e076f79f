import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refuses
from scipy.optimize import minimize_scalar
from scipy.stats import laplace, norm

from refqnn.core import Run
from refqnn.quantizers import SAWB, SAWB_COEFFICIENTS, sawb, sawb_backward, sawb_clip

PAIRS = [(grid, bits) for grid, table in SAWB_COEFFICIENTS.items() for bits in table]
every_grid = pytest.mark.parametrize(("grid", "bits"), PAIRS)
seeds = given(seed=st.integers(0, 2**32 - 1))


def steps(bits, grid):
    return 2**bits - (1 if grid == "mid_rise" else 2)


def plain(w, a, bits, grid):
    """(Q) one weight at a time, as printed."""
    n = steps(bits, grid)
    k = round(n * (max(-1.0, min(1.0, w / a)) / 2 + 0.5))
    return a * (2 * k / n - 1)


@every_grid
@seeds
def test_the_formula_one_weight_at_a_time(grid, bits, seed):
    rng = np.random.default_rng(seed)
    w, a = rng.normal(size=50), float(rng.uniform(0.2, 3))
    y, _ = sawb(w, bits=bits, grid=grid, clip=a)
    np.testing.assert_allclose(y, [plain(x, a, bits, grid) for x in w], atol=1e-14)


@every_grid
def test_ties_go_to_the_even_index_of_the_level(grid, bits):
    n = steps(bits, grid)
    w = (np.arange(n) + 0.5) - n / 2  # a = n / 2: one level a unit
    y, _ = sawb(w, bits=bits, grid=grid, clip=n / 2)
    want = [round(k + 0.5) - n / 2 for k in range(n)]
    np.testing.assert_array_equal(y, want)
    assert np.array_equal(y, -y[::-1]) == (grid == "mid_tread")


# -- the clip -------------------------------------------------------------------------


def test_the_table_of_released_code():
    assert SAWB_COEFFICIENTS == {
        "mid_rise": {
            2: (3.12, 2.064),
            3: (7.509, 6.892),
            4: (12.68, 12.80),
            5: (17.74, 18.64),
            8: (31.76, 35.04),
        },
        "mid_tread": {
            2: (2.6, 1.71),
            4: (12.035, 12.03),
            7: (28.24, 30.81),
            8: (31.76, 35.04),
        },
    }


@every_grid
@seeds
def test_the_clip_is_linear_in_both_moments(grid, bits, seed):
    w = np.random.default_rng(seed).normal(size=(4, 10))
    c1, c2 = SAWB_COEFFICIENTS[grid][bits]
    rms = math.sqrt(sum(x * x for x in w.ravel()) / 40)
    mean = sum(abs(x) for x in w.ravel()) / 40
    a = c1 * rms - c2 * mean
    want = a if a >= mean / 4 else np.abs(w).max()
    np.testing.assert_allclose(sawb_clip(w, bits, grid), want, rtol=1e-12)


def best_clip(w, bits, grid):
    """The clip of least squared error, by search."""

    def error(a):
        return np.mean((sawb(w, bits=bits, grid=grid, clip=a)[0] - w) ** 2)

    found = minimize_scalar(error, bounds=(0.3, 12), method="bounded")
    return found.x, error


#: the fits are linear, not exact: at most 1.05 of the least error
@pytest.mark.parametrize(("grid", "bits"), [p for p in PAIRS if p[1] in {2, 4}])
@pytest.mark.parametrize("distribution", [norm, laplace])
def test_the_clip_is_nearly_the_best_one(grid, bits, distribution):
    w = distribution.ppf((np.arange(20_000) + 0.5) / 20_000)
    best, error = best_clip(w, bits, grid)
    a = float(sawb_clip(w, bits, grid))
    assert error(a) <= 1.05 * error(best)
    np.testing.assert_allclose(a, best, rtol=0.12)


def test_two_bits_of_a_gaussian_against_max_1960():
    w = norm.ppf((np.arange(100_000) + 0.5) / 100_000)
    np.testing.assert_allclose(best_clip(w, 2, "mid_rise")[0], 1.5 * 0.9957, rtol=2e-3)
    np.testing.assert_allclose(sawb_clip(w, 2), 1.473, rtol=1e-3)


def two_magnitudes(ratio):
    """Weights of 0 and 1 with mean / rms = ratio = sqrt(share of ones)."""
    w = np.zeros(100_000)
    w[: round(ratio**2 * w.size)] = 1
    return w


@pytest.mark.parametrize(("bits", "ratio"), [(4, 0.9906), (5, 0.9517), (8, 0.9064)])
def test_where_the_formula_turns_negative(bits, ratio):
    c1, c2 = SAWB_COEFFICIENTS["mid_rise"][bits]
    np.testing.assert_allclose(c1 / c2, ratio, atol=5e-5)
    for off, sign in ((-2e-4, 1), (2e-4, -1)):
        w = two_magnitudes(ratio + off)
        mean, rms = w.mean(), math.sqrt(np.mean(w * w))
        assert np.sign(c1 * rms - c2 * mean) == sign
        assert sawb_clip(w, bits) == 1  # just above zero is no clip, either


@pytest.mark.parametrize("bits", [4, 5, 8])
def test_the_fallback_begins_at_a_quarter_of_the_mean(bits):
    c1, c2 = SAWB_COEFFICIENTS["mid_rise"][bits]
    edge = c1 / (c2 + 0.25)  # mean / rms where c1 rms - c2 mean = mean / 4
    below, above = two_magnitudes(edge - 1e-3), two_magnitudes(edge + 1e-3)
    np.testing.assert_allclose(
        sawb_clip(below, bits),
        c1 * math.sqrt(np.mean(below**2)) - c2 * below.mean(),
    )
    assert sawb_clip(below, bits) < 0.3
    assert sawb_clip(above, bits) == 1


@pytest.mark.parametrize(("bits", "collapse"), [(4, -0.12), (8, -3.28)])
def test_weights_of_one_magnitude_stay_as_they_are(bits, collapse):
    c1, c2 = SAWB_COEFFICIENTS["mid_rise"][bits]
    np.testing.assert_allclose(c1 - c2, collapse)
    w = np.array([[0.7, -0.7], [0.7, 0.7]])
    np.testing.assert_allclose(sawb(w, bits=bits)[0], w)


def test_eight_bits_clip_a_uniform_distribution():
    w = np.linspace(-1, 1, 20_001)
    np.testing.assert_allclose(sawb_clip(w, 8), 0.82, atol=0.005)


def test_moments_neither_overflow_nor_vanish():
    w = np.random.default_rng(0).normal(size=50)
    a = sawb_clip(w, 2)
    for exponent in (-900, 500):
        scaled = sawb_clip(np.ldexp(w, exponent), 2)
        np.testing.assert_array_equal(scaled, np.ldexp(a, exponent))
    assert sawb_clip(w.astype(np.float32), 2).dtype == np.float32


@pytest.mark.parametrize("value", [0.0, 1e-310])
@pytest.mark.parametrize("grid", SAWB_COEFFICIENTS)
def test_weights_that_are_all_zero_give_zeros(value, grid):
    w = np.full((2, 2), value)
    assert sawb_clip(w, 4, grid) == 0
    np.testing.assert_array_equal(sawb(w, bits=4, grid=grid)[0], 0)
    assert sawb_clip(np.zeros((0, 3)), 4, grid) == 0


# -- backward -------------------------------------------------------------------------


def test_the_mask_is_closed_and_sawb_plus_has_none():
    w = np.array([-3.1, -3.0, 0.0, 3.0, 3.1])
    dy = np.array([1.0, 2, 4, 8, 16])
    for gradient, want in (("sawb", [0, 2, 4, 8, 0]), ("sawb+", dy)):
        cache = sawb(w, bits=2, clip=3.0, gradient=gradient)[1]
        np.testing.assert_array_equal(sawb_backward(dy, cache), want)


@seeds
def test_the_mask_is_that_of_the_clip_that_was_used(seed):
    w = np.random.default_rng(seed).normal(size=30)
    dw = sawb_backward(np.ones(30), sawb(w, bits=2)[1])
    np.testing.assert_array_equal(dw, np.abs(w) <= sawb_clip(w, 2))


# -- the module -----------------------------------------------------------------------


@every_grid
def test_training_stores_the_clip_and_evaluation_uses_it(rng, grid, bits):
    w = rng.normal(size=(3, 10))
    module = SAWB(bits=bits, levels=grid)
    y, _ = module.forward(w, Run(training=True))
    np.testing.assert_array_equal(y, sawb(w, bits=bits, grid=grid)[0])
    a = module.clip.value
    np.testing.assert_array_equal(a, sawb_clip(w, bits, grid))
    y, _ = module.forward(5 * w, Run())
    np.testing.assert_array_equal(y, sawb(5 * w, bits=bits, grid=grid, clip=a)[0])
    assert module.clip.value == a
    module.forward(4 * w, Run(training=True))
    np.testing.assert_array_equal(module.clip.value, 4 * a)


def test_other_bits_keep_the_clip(rng):
    w = rng.normal(size=(3, 10))
    module = SAWB(bits=4)
    module.forward(w, Run(training=True))
    a = module.clip.value
    y, _ = module.forward(2 * w, Run(training=True), bits=2)
    np.testing.assert_array_equal(y, sawb(2 * w, bits=2)[0])
    assert module.clip.value == a


def test_the_gradient_option_and_the_state():
    w = np.array([[1.0, -1.0, 9.0, 0.5]])
    for gradient, want in (("sawb", [1, 1, 0, 1]), ("sawb+", [1, 1, 1, 1])):
        module = SAWB(bits=2, gradient=gradient)
        module.set_clip(2.0)
        _, cache = module.forward(w, Run())
        np.testing.assert_array_equal(module.backward(np.ones((1, 4)), cache), [want])
    refuses("not negative", module.set_clip, -1.0)
    assert module.clip.value == 2
    assert SAWB(bits=7, levels="mid_tread").bits == 7


def test_codes_are_odd_where_there_is_no_zero():
    for levels, codes in (("mid_rise", [-3, -1, 1, 3]), ("mid_tread", [-1, 0, 1])):
        module = SAWB(bits=2, levels=levels)
        module.set_clip(3.0)
        np.testing.assert_array_equal(module.grid(), codes)
        q, scale, zero_point = module.quantize(np.array([[-9.0, -0.5, 0.5, 9.0]]))
        np.testing.assert_array_equal(np.unique(q), codes)
        assert (scale, zero_point) == (3 / codes[-1], 0)
