"""Banner's grid, its ranges, and the stochastic gradient."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refuses

from refqnn.core import Run
from refqnn.quantizers import (
    MinMax,
    min_max,
    min_max_gradient,
    sample_range,
)
from refqnn.quantizers.min_max_grid import min_max_integers

seeds = st.integers(0, 2**32 - 1)
every_zero = pytest.mark.parametrize("true_zero", [True, False])


def as_released(x, lo, hi, bits):
    """The grid without a true zero, entry by entry."""
    n = 2**bits - 1
    s = max((hi - lo) / n, 1e-8)
    y = [s * round(min(max((v - lo) / s, 0), n)) + lo for v in x.ravel().tolist()]
    return np.array(y).reshape(x.shape)


def with_a_zero(x, lo, hi, bits):
    """The grid with an integer zero-point, entry by entry."""
    lo, hi = min(lo, 0), max(hi, 0)
    n = 2**bits - 1
    s = max((hi - lo) / n, 1e-8)
    z = round(-lo / s)
    y = [s * (min(max(round(v / s) + z, 0), n) - z) for v in x.ravel().tolist()]
    return np.array(y).reshape(x.shape)


@given(seeds, st.integers(1, 12))
def test_both_grids_by_plain_loops(seed, bits):
    rng = np.random.default_rng(seed)
    x, ends = 2 * rng.normal(size=(3, 4)), np.sort(rng.normal(size=2))
    got = [min_max(x, *ends, bits=bits, true_zero=z)[0] for z in (False, True)]
    np.testing.assert_allclose(got[0], as_released(x, *ends, bits), atol=1e-13)
    np.testing.assert_allclose(got[1], with_a_zero(x, *ends, bits), atol=1e-13)


@given(seeds, st.integers(1, 12))
def test_zero_is_a_level_with_a_true_zero_and_the_minimum_without(seed, bits):
    lo, hi = np.sort(np.random.default_rng(seed).normal(size=2))
    at = np.array([0.0, lo])
    assert min_max(at, lo, hi, bits=bits)[0][0] == 0
    assert min_max(at, lo, hi, bits=bits, true_zero=False)[0][1] == lo


def test_without_a_true_zero_a_zero_moves():
    y, _ = min_max(np.zeros(1), -0.9, 1.6, bits=2, true_zero=False)
    np.testing.assert_allclose(y, -0.9 + 2.5 / 3)


@given(seeds)
def test_codes_move_with_the_input_and_its_range(seed):
    rng = np.random.default_rng(seed)
    x = rng.integers(-64, 64, (2, 5)) / 16
    at = {"bits": 4, "true_zero": False}
    lo, hi = -4.0, 3.5  # s = 1/2: sums are exact
    for c in (0.25, -8.0, 100.0):
        moved, _ = min_max(x + c, lo + c, hi + c, **at)
        np.testing.assert_array_equal(moved, min_max(x, lo, hi, **at)[0] + c)


@every_zero
def test_a_range_without_width_has_the_scale_of_the_floor(true_zero):
    x = np.array([0.0, 1.4e-8, 1.0])
    y, _ = min_max(x, 0.0, 0.0, bits=2, true_zero=true_zero)
    np.testing.assert_allclose(y, [0, 1e-8, 3e-8], rtol=1e-12)
    y, _ = min_max(np.array([2.0]), 2.0, 2.0, bits=4, true_zero=False)
    np.testing.assert_array_equal(y, 2)


# -- ranges ---------------------------------------------------------------------------


def test_the_range_of_a_batch_is_the_mean_over_its_samples(rng):
    x = rng.normal(size=(4, 2, 3, 3)).astype(np.float32)
    lo, hi = sample_range(x)
    np.testing.assert_allclose(lo, np.mean([each.min() for each in x]), rtol=1e-6)
    np.testing.assert_allclose(hi, np.mean([each.max() for each in x]), rtol=1e-6)
    assert sample_range(np.zeros((0, 3))) == (0, 0)


def test_training_takes_its_own_range_and_evaluation_the_running_one():
    one, two = np.array([[-1.0, 2.0], [-3.0, 4.0]]), np.array([[-4.0, 8.0]])
    module = MinMax(bits=3)
    y, _ = module.forward(one, Run(training=True))
    np.testing.assert_array_equal(y, min_max(one, -2.0, 3.0, bits=3)[0])
    np.testing.assert_allclose((module.lo.value, module.hi.value), (-1.8, 2.7))
    module.forward(two, Run(training=True))
    ends = 0.1 * -1.8 - 0.9 * 4, 0.1 * 2.7 + 0.9 * 8
    np.testing.assert_allclose((module.lo.value, module.hi.value), ends)
    y, _ = module.forward(one, Run())
    np.testing.assert_allclose(y, min_max(one, *ends, bits=3)[0])


def test_weights_take_their_own_range_always():
    w = np.array([[-1.0, 0.3], [2.0, 0.0]])
    module = MinMax(of="weight", true_zero=False)
    for run in (Run(), Run(training=True)):
        y, _ = module.forward(w, run)
        np.testing.assert_array_equal(y, as_released(w, -1.0, 2.0, 4))
    assert not module.known.value


def test_a_range_is_set_without_training():
    module = MinMax()
    module.set_range(-1, 2)
    module.forward(np.ones((1, 2)), Run())
    refuses("lo must not exceed hi", module.set_range, 2, 1)


def test_without_a_true_zero_there_is_no_integer_zero_point():
    with pytest.raises(ValueError, match="no integer zero-point"):
        MinMax(of="weight", true_zero=False).quantize(np.ones((1, 2)))


# -- gradients ------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [1, 2, 5])
@pytest.mark.parametrize("offset", [0.0, -3.0])
def test_the_gradient_is_unbiased_over_all_noise(bits, offset):
    n = 2**bits - 1  # the scale is 1, and dy lies on 64 cells a step
    dy = np.arange(64 * n + 1) / 64 + offset
    noise = (np.arange(64) + 0.5) / 64 - 0.5
    draws = [min_max_gradient(dy, np.full_like(dy, z), bits=bits) for z in noise]
    np.testing.assert_allclose(np.mean(draws, axis=0), dy, atol=1e-12)
    assert np.unique(draws).size == 2**bits


@given(seeds, st.integers(1, 8))
def test_quantized_gradients_stay_within_the_range(seed, bits):
    rng = np.random.default_rng(seed)
    dy = rng.normal(size=(2, 3, 4)).astype(np.float32)
    g_q = min_max_gradient(dy, rng.random(dy.shape) - 0.5, bits=bits)
    assert g_q.dtype == np.float32
    ends = np.array([dy.min(), dy.max()])
    np.testing.assert_array_less(ends[0] - 1e-6, g_q)
    np.testing.assert_array_less(g_q, ends[1] + 1e-6)
    assert np.unique(g_q).size <= 2**bits


def test_gradients_without_width_stay_as_they_are():
    for value in (0.0, -0.25):
        dy = np.full((2, 3), value)
        np.testing.assert_array_equal(min_max_gradient(dy, 0 * dy, bits=8), dy)


def test_noise_rounds_up_as_often_as_the_rest_is_large():
    x, rng = np.full(40_000, 0.3), np.random.default_rng(0)
    y, _ = min_max(x, 0.0, 3.0, bits=2, noise=rng.random(x.shape) - 0.5)
    assert set(np.unique(y)) == {0.0, 1.0}
    assert abs(y.mean() - 0.3) < 4 * np.sqrt(0.3 * 0.7 / x.size)


def test_a_stochastic_grid_is_noisy_in_evaluation_too():
    module = MinMax(bits=2, stochastic=True)
    module.set_range(0.0, 3.0)
    x = np.full((1, 50), 0.5)
    y, _ = module.forward(x, Run(rng=np.random.default_rng(0)))
    assert set(np.unique(y)) == {0.0, 1.0}
    refuses("needs noise", module.forward, x, Run())


def test_a_grid_is_not_noisy_unless_asked():
    module = MinMax(bits=2)
    module.set_range(0.0, 3.0)
    y, _ = module.forward(np.linspace(0, 3, 7), Run())
    np.testing.assert_array_equal(y, [0, 0, 1, 2, 2, 2, 3])


def test_noise_beyond_its_interval_raises():
    with pytest.raises(ValueError, match=r"noise must lie in \[-1/2, 1/2\), got 0.5"):
        min_max(np.zeros(2), 0.0, 1.0, bits=2, noise=np.array([0.0, 0.5]))
    with pytest.raises(ValueError, match="noise must have the shape"):
        min_max(np.zeros(2), 0.0, 1.0, bits=2, noise=np.zeros(3))


def test_noise_is_added():
    x, up = np.array([0.4, 0.6]), np.array([0.25, -0.25])
    for noise, want in ((up, [1, 0]), (-up, [0, 1]), (None, [0, 1])):
        y, _ = min_max(x, 0.0, 3.0, bits=2, noise=noise)
        np.testing.assert_array_equal(y, want)


@pytest.mark.parametrize(
    ("bits", "dtype"), [(8, "uint8"), (9, "uint16"), (16, "uint16"), (17, "int32")]
)
def test_codes_have_the_smallest_type_that_holds_them(bits, dtype):
    q, scale, zero_point = min_max_integers(np.array([0.0, 9.0]), 0.0, 1.0, bits=bits)
    assert q.dtype == dtype
    assert q.tolist() == [zero_point, 2**bits - 1]
    assert scale == 1 / (2**bits - 1)
