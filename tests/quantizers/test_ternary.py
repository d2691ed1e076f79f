"""Equation (3) of Pareto fails as printed; what it means instead."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import norm

from refqnn.quantizers import Ternary, gaussian_mse, ternary

# one filter that is a Gaussian as nearly as 200 000 numbers can be
GAUSSIAN = norm.ppf((np.arange(200_000) + 0.5) / 200_000)[None]
M = math.sqrt(2 / math.pi)
T = 0.7 * M

filters = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 3), st.integers(1, 8)),
    elements=st.floats(-10, 10),
)


@given(filters)
def test_as_printed_every_negative_weight_is_masked(w):
    y, _ = ternary(w, variant="printed")
    np.testing.assert_array_equal(y[w < 0], 0)
    np.testing.assert_array_less(-1, np.sign(y), strict=False)
    m = np.abs(w).mean(1, keepdims=True)
    np.testing.assert_array_equal(np.isclose(y, m) | (y == 0), True)


def test_as_printed_two_levels_remain():
    y, _ = ternary(GAUSSIAN, variant="printed")
    np.testing.assert_allclose(np.unique(y), [0, M], atol=1e-4)


def test_without_the_bar_the_scale_leaves_the_weights_unquantized():
    keep = np.abs(GAUSSIAN) >= T
    without_bar = np.sign(GAUSSIAN) * keep * np.abs(GAUSSIAN)
    np.testing.assert_array_equal(without_bar, GAUSSIAN * keep)
    assert np.unique(without_bar).size > 100_000


def test_resolved_has_three_levels_and_both_signs():
    y, _ = ternary(GAUSSIAN, variant="resolved")
    np.testing.assert_allclose(np.unique(y), [-M, 0, M], atol=1e-4)
    assert abs(np.mean(y == 0) - 0.424) < 1e-3


def one_sided_error(scale):
    """E (Q - w)^2 where only w >= T becomes ``scale`` and the rest 0."""
    return 1 - 2 * scale * norm.pdf(T) + scale**2 * norm.sf(T)


def two_sided_error(scale):
    return 1 - 4 * scale * norm.pdf(T) + 2 * scale**2 * norm.sf(T)


KEPT_MEAN = norm.pdf(T) / norm.sf(T)  # E(|w| : |w| > T)


@pytest.mark.parametrize(
    ("variant", "closed_form", "figure"),
    [
        ("resolved", two_sided_error(M), 0.27764),
        ("printed", one_sided_error(M), 0.6388),
        ("twn", two_sided_error(KEPT_MEAN), 0.19162),
    ],
)
def test_gaussian_errors(variant, closed_form, figure):
    y, _ = ternary(GAUSSIAN, variant=variant)
    np.testing.assert_allclose(closed_form, figure, atol=6e-5)
    np.testing.assert_allclose(np.mean((y - GAUSSIAN) ** 2), closed_form, atol=1e-4)


def test_no_ternary_rule_beats_equation_1_at_two_bits():
    best = gaussian_mse(1.224006, bits=2)
    assert best < two_sided_error(KEPT_MEAN) < two_sided_error(M) < one_sided_error(M)


def test_a_weight_on_the_threshold_is_kept_except_by_twn():
    w = np.array([[0.7, -1.3]])  # mean 1, threshold 0.7
    np.testing.assert_array_equal(ternary(w)[0], [[1, -1]])
    np.testing.assert_array_equal(ternary(w, variant="printed")[0], [[1, 0]])
    np.testing.assert_array_equal(ternary(w, variant="twn")[0], [[0, -1.3]])


def test_statistics_belong_to_one_filter():
    w = np.array([[1.0, 0.5], [100.0, 0.5]])
    np.testing.assert_array_equal(ternary(w)[0], [[0.75, 0], [50.25, 0]])


def test_resolved_shrinks_by_the_kept_share_at_every_pass():
    w = np.array([[4.0, -4.0, 1.0, 0.0]])  # two of four kept
    once, _ = ternary(w)
    twice, _ = ternary(once)
    np.testing.assert_array_equal(twice, once / 2)
    fixed, _ = ternary(w, variant="twn")
    np.testing.assert_array_equal(ternary(fixed, variant="twn")[0], fixed)


def test_decision_boundaries_are_the_thresholds():
    v = np.array([[1.0, 3.0]])
    np.testing.assert_allclose(Ternary().decision_boundaries(v), [[-1.4, 1.4]])
    printed = Ternary(variant="printed")
    np.testing.assert_allclose(printed.decision_boundaries(v), [[1.4]])


@pytest.mark.parametrize("variant", ["resolved", "printed", "twn"])
def test_a_filter_below_the_normal_numbers_has_codes_0(variant):
    w = np.array([[1e-310, -3e-311]])
    q, scale, _ = Ternary(variant=variant).quantize(w)
    np.testing.assert_array_equal(q, 0)
    np.testing.assert_array_equal(scale, 0)
    assert not np.signbit(ternary(w, variant=variant)[0]).any()
