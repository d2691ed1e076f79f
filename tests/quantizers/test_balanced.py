"""Balanced Quantization: equal counts, invariance, and the roundings that are wrong."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refqnn.core import Run
from refqnn.quantizers import Balanced, balanced
from refqnn.quantizers.balanced_quantization import balanced_codes, balanced_thresholds

seeds = st.integers(0, 2**32 - 1)
bits_ = st.integers(1, 5)


def leaves(w, bits, split="median"):
    return balanced_codes(w, balanced_thresholds(w, bits, split), split)


def leaves_by_recursion(w, bits, split):
    """Split sets of indices, as printed."""
    code = np.zeros(w.size, int)

    def go(index, level, base):
        if index.size == 0:
            return
        if level == 0:
            code[index] = base
            return
        part = w[index]
        if split == "median":
            left = part <= np.sort(part)[(part.size - 1) // 2]
        else:
            left = part < part.mean()
        go(index[left], level - 1, 2 * base)
        go(index[~left], level - 1, 2 * base + 1)

    go(np.arange(w.size), bits, 0)
    return code


@pytest.mark.parametrize("split", ["median", "mean"])
@given(seed=seeds, bits=bits_, n=st.integers(1, 50), ties=st.booleans())
def test_codes_are_the_leaves_of_the_recursion(split, seed, bits, n, ties):
    rng = np.random.default_rng(seed)
    w = rng.integers(-8, 9, n) / 8 if ties else rng.normal(size=n)
    want = leaves_by_recursion(w, bits, split)
    np.testing.assert_array_equal(leaves(w, bits, split), want)
    if np.ptp(w):
        n = 2**bits - 1
        y = balanced(w, bits=bits, split=split)[0]
        even = 2 * np.abs(w).max() * (want / n - 0.5)
        np.testing.assert_allclose(y, even, rtol=1e-14)


@given(seed=seeds, bits=bits_, n=st.integers(1, 100))
def test_counts_differ_by_at_most_one(seed, bits, n):
    w = np.random.default_rng(seed).permutation(n) ** 3.0
    counts = np.bincount(leaves(w, bits), minlength=2**bits)
    assert counts.size == 2**bits
    assert np.ptp(counts) <= 1


@given(seed=seeds, bits=bits_, n=st.integers(1, 50))
def test_increasing_maps_change_no_code(seed, bits, n):
    w = np.random.default_rng(seed).integers(-20, 21, n).astype(float)
    for grown in (w**3, np.exp(w), 3 * w - 100):
        np.testing.assert_array_equal(leaves(grown, bits), leaves(w, bits))


def test_means_are_neither_balanced_nor_unchanged_by_increasing_maps():
    w = np.array([1.0, 2.0, 3.0, 9.0])
    np.testing.assert_array_equal(leaves(w, 1, "mean"), [0, 0, 0, 1])
    np.testing.assert_array_equal(leaves(np.log(w), 1, "mean"), [0, 0, 1, 1])
    np.testing.assert_array_equal(leaves(w, 1), [0, 0, 1, 1])


def test_cutting_at_means_is_often_not_idempotent_from_four_bits(rng):
    y = balanced(np.array([1.0, -1.75, 0.8125]), bits=4, split="mean")[0]
    assert np.any(balanced(y, bits=4, split="mean")[0] != y)
    changed = {}
    for bits in (4, 5):
        w = rng.normal(size=(50, 200))
        y = [balanced(x, bits=bits, split="mean")[0] for x in w]
        again = [balanced(x, bits=bits, split="mean")[0] for x in y]
        changed[bits] = np.mean([np.any(a != b) for a, b in zip(y, again, strict=True)])
    assert changed[4] > 0.2
    assert changed[5] > 0.9


def equalised(w, bits):
    """W_e: bin l mapped onto [l / 2^b, (l + 1) / 2^b] by its own ends."""
    code, out = leaves(w, bits), np.empty(w.shape)
    for leaf in np.unique(code):
        part = w[code == leaf]
        share = (part - part.min()) / np.ptp(part)
        out[code == leaf] = (leaf + share) / 2**bits
    return out


def test_plain_rounding_gives_the_end_levels_half_their_share():
    """R(3 u) of u uniform: [0, 1/6), [1/6, 1/2), [1/2, 5/6), [5/6, 1]."""
    u = (np.arange(1200) + 0.5) / 1200
    counts = np.bincount(np.rint(3 * u).astype(int))
    np.testing.assert_array_equal(counts, [200, 400, 400, 200])
    np.testing.assert_array_equal(np.bincount(leaves(u, 2)), [300] * 4)
    plain = np.bincount(np.rint(3 * equalised(u, 2)).astype(int)) / 1200
    np.testing.assert_allclose(plain, [1 / 6, 1 / 3, 1 / 3, 1 / 6], atol=2e-3)


def test_the_largest_of_a_bin_is_on_the_edge_of_the_next():
    w = np.arange(16.0)
    floored = np.minimum(np.floor(4 * equalised(w, 2)), 3)
    np.testing.assert_array_equal(np.bincount(floored.astype(int)), [3, 4, 4, 5])
    np.testing.assert_array_equal(np.bincount(leaves(w, 2)), [4] * 4)


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("value", [0.7, -0.7, 0.3, 1e-40, 0.0])
@pytest.mark.parametrize("split", ["median", "mean"])
def test_a_constant_is_itself(bits, value, split):
    w = np.full((2, 3), value)
    np.testing.assert_array_equal(balanced(w, bits=bits, split=split)[0], w)
    twice = balanced(w, bits=bits, split=split, scale="2E")[0]
    np.testing.assert_allclose(twice, 2 * w, rtol=1e-15)


def test_scales():
    w = np.array([-1.0, 0.5, 2.5, 4.0])
    assert balanced(w, bits=2)[0].max() == 4
    assert balanced(w, bits=2, scale="2E")[0].max() == 4
    w = np.array([-1.0, 0.5, 2.0, 8.5])  # 2 E = 6
    assert balanced(w, bits=2)[0].max() == 8.5
    assert balanced(w, bits=2, scale="2E")[0].max() == 6


def test_all_filters_are_one_group(rng):
    w = rng.normal(size=(4, 2, 3))
    want = balanced(w.ravel(), bits=3)[0].reshape(w.shape)
    np.testing.assert_array_equal(balanced(w, bits=3)[0], want)


def test_the_module(rng):
    w = rng.normal(size=(3, 8))
    module = Balanced(bits=3, split="mean", scale="2E")
    np.testing.assert_array_equal(module.grid(), [-7, -5, -3, -1, 1, 3, 5, 7])
    fewer = module.forward(w, Run(), bits=1)[0]
    assert np.unique(fewer).size == 2


def test_a_mean_that_rounds_above_equal_weights_is_not_above_them():
    w = np.array([0.1, 0.1, 0.1, 5.0])
    assert np.mean(w[:3]) > w[0]
    np.testing.assert_array_equal(leaves(w, 2, "mean"), [1, 1, 1, 3])


def test_zeros_are_positive_like_every_constant():
    assert Balanced().quantize(np.zeros((1, 3)))[0].tolist() == [[1, 1, 1]]
