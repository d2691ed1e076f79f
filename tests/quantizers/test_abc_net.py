"""ABC-Net: nested bases, least squares, what M + 1 levels can be, and gradients."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refuses

from refqnn.core import Run
from refqnn.quantizers import (
    ABCActivation,
    ABCWeight,
    abc_activation,
    abc_activation_backward,
    abc_alpha,
    abc_weight,
    abc_weight_backward,
)
from refqnn.quantizers.abc_net import abc_thresholds, shifts_apart

seeds = st.integers(0, 2**32 - 1)


def bases_of(w, m):
    """B_i as printed, in a loop."""
    u = [0] if m == 1 else [-1 + 2 * (i - 1) / (m - 1) for i in range(1, m + 1)]
    return np.array([np.where(w - w.mean() + ui * w.std() >= 0, 1, -1) for ui in u])


def error(w, m):
    return float(np.sum((w - abc_weight(w, bases=m)[0]) ** 2))


@given(seed=seeds, m=st.integers(1, 6))
def test_the_weights_are_the_best_sum_of_the_printed_bases(seed, m):
    w = np.random.default_rng(seed).normal(size=40)
    b = bases_of(w, m)
    alpha = abc_alpha(w, bases=m)
    y = abc_weight(w, bases=m)[0]
    np.testing.assert_allclose(y, alpha @ b, atol=1e-12)
    np.testing.assert_allclose(b @ (w - y), 0, atol=1e-10)


@given(seed=seeds, m=st.integers(1, 6))
def test_inner_levels_are_means_and_the_ends_are_opposite(seed, m):
    w = np.random.default_rng(seed).normal(size=60)
    y = abc_weight(w, bases=m)[0]
    code = (w[:, None] >= abc_thresholds(w, m)).sum(1)
    for c in range(1, m):
        if np.any(code == c):
            np.testing.assert_allclose(y[code == c], w[code == c].mean(), atol=1e-12)
    ends = (code == 0) | (code == m)
    side = np.where(code == m, 1, -1)[ends]
    want = side * np.sum(side * w[ends]) / max(side.size, 1)
    np.testing.assert_allclose(y[ends], want, atol=1e-12)


@given(seed=seeds, m=st.integers(1, 6))
def test_away_from_ties_the_sign_of_all_weights_passes_through(seed, m):
    w = np.random.default_rng(seed).normal(size=40)
    y, of_minus = abc_weight(w, bases=m)[0], abc_weight(-w, bases=m)[0]
    np.testing.assert_allclose(of_minus, -y, atol=1e-12)


@given(seed=seeds)
@pytest.mark.parametrize("chain", [(1, 3, 5, 9), (2, 3, 5, 9)])
def test_the_error_falls_along_nested_grids(chain, seed):
    w = np.random.default_rng(seed).normal(size=30) ** 3
    errors = [error(w, m) for m in chain]
    assert all(b <= a + 1e-10 for a, b in itertools.pairwise(errors))


def test_four_bases_can_be_worse_than_three():
    w = np.array([2.0, -2.0, 1.0, 2.0, 4.0])
    np.testing.assert_allclose([error(w, 3), error(w, 4)], [2, 8 / 3])


def test_order_can_be_lost_by_hand():
    w = np.array([0.0, 2.0, 3.0])  # codes 0, 2, 3: ends tied to (3 - 0) / 2
    np.testing.assert_allclose(abc_weight(w, bases=3)[0], [-1.5, 2, 1.5])
    assert abc_alpha(w, bases=3).min() < 0


@pytest.mark.parametrize("m", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("value", [0.7, -0.7, 0.0, 1e-30, 1e18])
def test_a_constant_tensor_is_itself(m, value):
    w = np.full((2, 3), value, np.float32)
    np.testing.assert_array_equal(abc_weight(w, bases=m)[0], w)
    w = np.full((2, 3), value)
    np.testing.assert_allclose(abc_weight(w, bases=m)[0], w, rtol=1e-14)


def test_coinciding_bases_share_their_weight():
    np.testing.assert_allclose(abc_alpha(np.full(4, 3.0), bases=3), [1, 1, 1])


def test_values_on_a_threshold_are_plus_one():
    w = np.array([1.0, 5.0, 3.0, 3.0, 1.0, 5.0])
    np.testing.assert_array_equal(abc_weight(w, bases=1)[1].y[2:4] > 0, True)


@pytest.mark.parametrize("big", [1e150, 1e-200])
def test_the_deviation_neither_overflows_nor_vanishes(big):
    t = abc_thresholds(np.array([1.0, 5.0]) * big, 3)
    np.testing.assert_allclose(t / big, [1, 3, 5])


def test_a_held_alpha_is_used_and_its_slope_is_the_basis(rng):
    w, dy = rng.normal(size=(2, 20))
    alpha = np.array([0.5, -0.25, 2.0])
    y = abc_weight(w, bases=3, alpha=alpha)[0]
    np.testing.assert_allclose(y, alpha @ bases_of(w, 3))
    for i, b in enumerate(bases_of(w, 3)):
        h = np.eye(3)[i] / 2
        ends = [abc_weight(w, bases=3, alpha=alpha + s)[0] for s in (h, -h)]
        np.testing.assert_allclose(dy @ (ends[0] - ends[1]), dy @ b)


def test_the_gradient_of_weights_is_the_sum_of_alpha(rng):
    w, dy = 2 * rng.normal(size=(2, 20))
    alpha = abc_alpha(w, bases=3)
    dw = abc_weight_backward(dy, abc_weight(w, bases=3)[1])
    np.testing.assert_allclose(dw, dy * alpha.sum())
    clipped = abc_weight_backward(dy, abc_weight(w, bases=3, clip_grad=True)[1])
    np.testing.assert_allclose(clipped, np.where(np.abs(w) <= 1, dw, 0))
    edge = abc_weight(np.array([1.0, -1.0, 3.0]), bases=1, clip_grad=True)[1]
    np.testing.assert_array_equal(edge.slope != 0, [True, True, False])


# -- activations ----------------------------------------------------------------------


@given(seed=seeds, n=st.integers(1, 5))
def test_activations_are_the_printed_sum(seed, n):
    rng = np.random.default_rng(seed)
    x = rng.integers(-32, 33, 50) / 16
    v, beta = rng.integers(-16, 17, n) / 16, rng.normal(size=n)
    h = [np.where(np.clip(x + each, 0, 1) >= 0.5, 1, -1) for each in v]
    y = abc_activation(x, v, beta)[0]
    np.testing.assert_allclose(y, beta @ np.array(h), atol=1e-12)
    assert np.unique(y).size <= n + 1


def test_shifts_are_from_1_to_16_in_one_axis():
    x = np.linspace(-1, 2, 7)
    for n in (1, 16):
        assert abc_activation(x, np.zeros(n), np.ones(n) / n)[0].shape == x.shape
    for v in (np.zeros(0), np.zeros(17), np.zeros((1, 2)), np.array(0.0)):
        with pytest.raises(ValueError, match=r"v must be \(N,\), 1 <= N <= 16, got"):
            abc_activation(x, v, np.ones_like(v))


def test_gradients_of_activations_by_hand():
    x = np.array([-0.5, 0.0, 0.25, 1.0, 1.5])
    v, beta = np.array([0.0, 0.5]), np.array([2.0, 3.0])
    cache = abc_activation(x, v, beta, ste_slope=2)[1]
    dx, dv, dbeta = abc_activation_backward(np.arange(1.0, 6), cache)
    # near: v = 0 at 0, 1/4, 1; v = 1/2 at -1/2, 0, 1/4
    np.testing.assert_array_equal(dx, 2 * np.array([3, 5, 5, 2, 0]) * np.arange(1, 6))
    np.testing.assert_array_equal(dv, [2 * 2 * (2 + 3 + 4), 2 * 3 * (1 + 2 + 3)])
    np.testing.assert_array_equal(dbeta, [-1 - 2 - 3 + 4 + 5, -1 + 2 + 3 + 4 + 5])


def test_a_negative_beta_loses_order():
    y = abc_activation(np.array([0.0, 1.0]), np.zeros(1), -np.ones(1))[0]
    np.testing.assert_array_equal(y, [1, -1])


def test_equal_shifts_get_equal_gradients_and_the_first_ones_differ(rng):
    x, dy = rng.normal(size=(2, 30))
    cache = abc_activation(x, np.zeros(3), np.ones(3))[1]
    _, dv, dbeta = abc_activation_backward(dy, cache)
    assert np.ptp(dv) == np.ptp(dbeta) == 0
    for n in (1, 3, 5):
        v = shifts_apart(n)
        assert np.unique(v).size == n
        np.testing.assert_allclose(v, -v[::-1])
        assert np.abs(v).max() < 0.5
        np.testing.assert_array_equal(ABCActivation(bases=n).v.value, v)


# -- modules --------------------------------------------------------------------------


@pytest.mark.parametrize("make", [ABCWeight, ABCActivation])
def test_bases_are_counted_not_bits(make):
    refuses("bits must be None", make().forward, np.ones((1, 2)), Run(), bits=2)
