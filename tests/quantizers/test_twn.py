"""TWN: statistics of a layer or a filter, exact cases, and that 0.7 is no optimum."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from refqnn.quantizers import ternary, twn

GAUSSIAN = norm.ppf((np.arange(200_000) + 0.5) / 200_000)[None]
seeds = st.integers(0, 2**32 - 1)


def by_loops(w):
    """Threshold, then the mean of what is kept, entry by entry."""
    flat = w.ravel().tolist()
    delta = 0.7 * sum(map(abs, flat)) / len(flat)
    kept = [abs(x) for x in flat if abs(x) > delta]
    alpha = sum(kept) / len(kept)
    y = [alpha * ((x > delta) - (x < -delta)) for x in flat]
    return np.array(y).reshape(w.shape)


@given(seeds)
def test_a_layer_and_a_filter_by_plain_loops(seed):
    w = np.random.default_rng(seed).normal(size=(3, 2, 3, 3))
    w[0] *= 9
    np.testing.assert_allclose(twn(w)[0], by_loops(w))
    want = np.stack([by_loops(each) for each in w])
    np.testing.assert_allclose(twn(w, group="filter")[0], want)
    assert not np.allclose(by_loops(w), want)


@given(seeds)
def test_a_scale_a_filter_is_the_variant_of_ternary(seed):
    w = np.random.default_rng(seed).normal(size=(3, 7)).astype(np.float32)
    np.testing.assert_array_equal(
        twn(w, group="filter")[0], ternary(w, variant="twn")[0]
    )


@pytest.mark.parametrize("m", [0.25, 0.7, 1e-20])
def test_constant_magnitudes_are_exact(m):
    w = m * np.array([[1.0, -1.0, 1.0], [-1.0, -1.0, 1.0]])
    np.testing.assert_allclose(twn(w)[0], w, rtol=1e-15)


def test_the_gaussian_facts():
    y, _ = twn(GAUSSIAN)
    np.testing.assert_allclose(y.max(), 1.184, atol=1e-3)
    np.testing.assert_allclose(np.mean(y == 0), 0.4235, atol=1e-3)
    np.testing.assert_allclose(np.mean((y - GAUSSIAN) ** 2), 0.19163, atol=1e-4)


def test_another_threshold_is_closer():
    keep = np.abs(GAUSSIAN) > 0.612
    best = np.abs(GAUSSIAN)[keep].mean() * np.sign(GAUSSIAN) * keep
    np.testing.assert_allclose(np.mean((best - GAUSSIAN) ** 2), 0.19017, atol=1e-4)
    assert np.mean((best - GAUSSIAN) ** 2) < np.mean((twn(GAUSSIAN)[0] - GAUSSIAN) ** 2)


def test_a_weight_on_the_threshold_is_dropped():
    np.testing.assert_array_equal(twn(np.array([[0.7], [-1.3]]))[0], [[0], [-1.3]])
