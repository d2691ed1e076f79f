import itertools
import math

import numpy as np
import pytest
from refusals import refuses

from refqnn.core import Run
from refqnn.quantizers import (
    WEQActivation,
    WEQWeight,
    weq_activation,
    weq_activation_backward,
    weq_boundaries,
    weq_entropy,
    weq_log_search,
    weq_weight,
)

LEVELS = [2, 3, 4, 5, 8, 16, 17]


def heavy(seed, n=200):
    rng = np.random.default_rng(seed)
    return rng.normal(size=n) * rng.lognormal(sigma=1.5, size=n)


# -- the search, by plain loops --------------------------------------------------------


def entropy_of_positions(s, positions, *, odd):
    """S of the sorted squares s cut at positions, as the spec writes it."""
    total, ends = 0.0, [0, *positions, len(s)]
    for i, (begin, end) in enumerate(itertools.pairwise(ends)):
        if i == 0 and odd:
            continue
        share, importance = (end - begin) / len(s), sum(s[begin:end]) / (end - begin)
        total -= importance * share * math.log(share / 2)
    return total


def ascent(w, levels, *, split_ties=False):
    """Positions of a local maximum, one boundary and one place at a time."""
    a = sorted(np.abs(w).tolist())
    s, n, h = [x * x for x in a], len(a), (levels + 1) // 2
    positions = [i * n // h for i in range(1, h)]
    moved = True
    while moved:
        moved = False
        for i in range(h - 1):
            low = positions[i - 1] if i else 0
            high = positions[i + 1] if i + 1 < h - 1 else n
            here = entropy_of_positions(s, positions, odd=levels % 2)
            best, place = here + 1e-12 * sum(s), positions[i]
            for c in range(low + 1, high):
                if split_ties or a[c - 1] < a[c]:
                    trial = [*positions[:i], c, *positions[i + 1 :]]
                    gain = entropy_of_positions(s, trial, odd=levels % 2)
                    if gain > best + 1e-13:
                        best, place = gain, c
            moved |= place != positions[i]
            positions[i] = place
    return positions


@pytest.mark.parametrize("levels", LEVELS[:6])
@pytest.mark.parametrize("seed", range(4))
def test_boundaries_are_those_of_plain_loops(levels, seed):
    w = heavy(seed, 40)
    want = np.sort(np.abs(w))[ascent(w, levels)]
    np.testing.assert_array_equal(weq_boundaries(w, levels=levels), want)


@pytest.mark.parametrize("levels", LEVELS)
def test_the_entropy_never_falls_from_sweep_to_sweep(levels):
    w = np.round(heavy(1) * 8) / 8  # equal magnitudes, too
    s = [
        weq_entropy(w, weq_boundaries(w, levels=levels, sweeps=k), levels=levels)
        for k in range(12)
    ]
    assert all(later >= earlier for earlier, later in itertools.pairwise(s))
    assert levels == 2 or s[-1] > s[0]


@pytest.mark.parametrize("levels", LEVELS)
def test_no_single_boundary_can_gain(levels):
    w = np.round(heavy(2) * 8) / 8
    b = weq_boundaries(w, levels=levels)
    most = weq_entropy(w, b, levels=levels)
    for i in range(b.size):
        for value in np.unique(np.abs(w)):
            moved = b.copy()
            moved[i] = value
            inside = np.append(np.append(0, b)[i], b[i + 1 : i + 2])
            if (
                inside[0] < value
                and np.all(value < inside[1:])
                and value > np.abs(w).min()
            ):
                assert weq_entropy(w, moved, levels=levels) <= most * (1 + 1e-12)
    np.testing.assert_array_equal(weq_boundaries(w, levels=levels, start=b), b)


def test_the_search_begins_with_equal_counts():
    w = np.arange(1.0, 11.0)  # floor(l 10 / 4): positions 2, 5 and 7
    b = weq_boundaries(w, levels=8, sweeps=0)
    np.testing.assert_array_equal(b, [3, 6, 8])


def test_a_boundary_stands_between_two_magnitudes_only():
    w = np.array([1.0, 1, 1, 1, -1, -1, 2, 3])
    np.testing.assert_array_equal(weq_boundaries(w, levels=4, sweeps=0), [2])
    np.testing.assert_array_equal(weq_boundaries(w, levels=6), [2, 3])


def test_the_search_may_begin_elsewhere():
    w = heavy(3)
    cold, warm = (
        weq_boundaries(w, levels=8, start=start, sweeps=0)
        for start in (None, np.array([0.1, 0.5, 2.0]))
    )
    a = np.sort(np.abs(w))
    np.testing.assert_array_equal(warm, [a[a >= b][0] for b in (0.1, 0.5, 2.0)])
    assert not np.array_equal(cold, warm)


# -- the quantizer ---------------------------------------------------------------------


@pytest.mark.parametrize("levels", [2, 4, 8, 16, 256])
@pytest.mark.parametrize("grain", [0, 8])
def test_an_even_number_of_levels_keeps_the_energy(levels, grain):
    w = np.round(heavy(4, 600) * grain) / grain if grain else heavy(4, 600)
    y, _ = weq_weight(w, levels=levels)
    np.testing.assert_allclose(np.sum(y**2), np.sum(w**2), rtol=1e-13)


@pytest.mark.parametrize("levels", [3, 5, 17])
def test_an_odd_number_of_levels_loses_the_energy_around_zero(levels):
    w = heavy(5)
    y, _ = weq_weight(w, levels=levels)
    near = np.abs(w) < weq_boundaries(w, levels=levels)[0]
    assert near.any()
    np.testing.assert_array_equal(y == 0, near)
    np.testing.assert_allclose(np.sum(y**2), np.sum(w[~near] ** 2), rtol=1e-13)


def with_split_ties(w, levels):
    """The same search with boundaries anywhere, and values at or above them."""
    positions = ascent(w, levels, split_ties=True)
    a = np.sort(np.abs(w))
    clusters = np.split(a, positions)
    rep = np.array([np.sqrt(np.mean(c**2)) for c in clusters])
    return np.sign(w) * rep[np.searchsorted(a[positions], np.abs(w), side="right")]


def test_boundaries_that_split_equal_magnitudes_break_both_laws():
    """Why none does: energy is lost, and a second pass moves the levels."""
    w = np.array([1.0, 2.0, 2.0])
    once = with_split_ties(w, 4)
    np.testing.assert_allclose(once, [np.sqrt((1 + 4) / 2), 2, 2])
    assert abs(np.sum(once**2) / np.sum(w**2) - 1) > 0.1
    np.testing.assert_allclose(with_split_ties(once, 4), [np.sqrt(3.25), 2, 2])
    np.testing.assert_array_equal(weq_weight(w, levels=4)[0], w)


def test_zero_is_positive_where_there_is_no_level_0():
    w = np.array([0.0, -0.0, -1.0, 3.0])
    y, _ = weq_weight(w, levels=2)
    np.testing.assert_allclose(y, np.sqrt(2.5) * np.array([1, 1, -1, 1]))
    np.testing.assert_array_equal(weq_weight(w, levels=3)[0][:2], 0)


@pytest.mark.parametrize("levels", LEVELS)
def test_all_zeros_give_zeros_and_no_entropy(levels):
    w = np.zeros((4, 4))
    b = weq_boundaries(w, levels=levels)
    np.testing.assert_array_equal(b, 0)
    assert weq_entropy(w, b, levels=levels) == 0
    y, _ = weq_weight(w, levels=levels)
    np.testing.assert_array_equal(y, 0)
    assert not np.signbit(y).any()


@pytest.mark.parametrize("levels", [4, 7, 8])
def test_fewer_magnitudes_than_clusters_stay_as_they_are(levels):
    w = np.array([0.7, -0.7, 0.3, 0.3])
    np.testing.assert_array_equal(weq_weight(w, levels=levels)[0], w)


def test_the_squares_of_large_and_small_weights_stay_finite():
    w = heavy(6)
    y, _ = weq_weight(w, levels=8)
    for k in (2.0**500, 2.0**-1000):
        np.testing.assert_array_equal(weq_weight(w * k, levels=8)[0], k * y)


def test_rounding_leaves_no_cluster():
    a = 3.2865069716518276
    w = np.array([a] * 23 + [np.nextafter(a, 4)])
    assert w[-1] * np.sqrt(np.mean((w / w[-1]) ** 2)) < a
    assert weq_weight(w, levels=2)[0][0] == a


def test_an_empty_cluster_is_its_lower_boundary():
    module = WEQWeight(levels=6)
    module.set_boundaries(np.array([1.0, 2.0]))
    _, levels = module.encode(np.array([0.5, -0.5]))
    np.testing.assert_array_equal(levels, [-2, -1, -0.5, 0.5, 1, 2])
    _, levels = module.encode(np.array([3.0]))
    np.testing.assert_array_equal(levels, [-3, -1, 0, 0, 1, 3])


def test_it_is_not_the_quantizer_of_least_error():
    w = np.array([1.0, 3.0])
    y, _ = weq_weight(w, levels=2)
    assert np.sum((w - y) ** 2) > np.sum((w - 2) ** 2)


# -- the module of weights -------------------------------------------------------------


def test_training_refreshes_the_boundaries_and_evaluation_does_not():
    module = WEQWeight(levels=8)
    w = heavy(7)
    y, _ = module.forward(w, Run(training=True))
    np.testing.assert_array_equal(y, weq_weight(w, levels=8)[0])
    held = module.boundaries.value.copy()
    module.forward(3 * w, Run())
    np.testing.assert_array_equal(module.boundaries.value, held)
    module.forward(4 * w, Run(training=True))
    np.testing.assert_array_equal(module.boundaries.value, 4 * held)


def test_evaluation_takes_the_held_boundaries():
    module = WEQWeight(levels=4)
    module.set_boundaries(np.array([2.0]))
    y, _ = module.forward(np.array([1.0, 1.9, 2.0, -9.0]), Run())
    low, high = np.sqrt((1 + 1.9**2) / 2), np.sqrt((4 + 81) / 2)
    np.testing.assert_allclose(y, [low, low, high, -high])


def test_a_warm_start_and_few_sweeps():
    w = heavy(9)
    first = weq_boundaries(w, levels=8, sweeps=1)
    module = WEQWeight(levels=8, sweeps=1, warm_start=True)
    module.forward(w, Run(training=True))
    np.testing.assert_array_equal(module.boundaries.value, first)
    module.forward(w, Run(training=True))
    second = weq_boundaries(w, levels=8, sweeps=1, start=first)
    np.testing.assert_array_equal(module.boundaries.value, second)
    assert not np.array_equal(first, second)
    cold = WEQWeight(levels=8, sweeps=1)
    for _ in range(2):
        cold.forward(w, Run(training=True))
    np.testing.assert_array_equal(cold.boundaries.value, first)


@pytest.mark.parametrize("make", [WEQWeight, WEQActivation])
def test_bits_of_a_call_are_the_levels_of_the_module(make):
    module = make(levels=8)
    v = np.arange(1.0, 20.0)
    module.forward(v, Run(training=True), bits=3)
    for bits in (2, 4, True):
        refuses("bits must give levels=8", module.forward, v, Run(), bits=bits)


# -- activations -----------------------------------------------------------------------


def half_away(t):
    return math.copysign(math.floor(abs(t) + 0.5), t)


@pytest.mark.parametrize(
    ("offset", "step", "levels"), [(-33, 10, 8), (5, 32, 4), (0, 2, 2)]
)
def test_the_log_quantizer_is_the_formula(offset, step, levels):
    x = np.concatenate([heavy(11), [0.0, -0.0]])
    y, _ = weq_activation(x, offset, step, levels=levels)
    for given, got in zip(x, y, strict=True):
        want = 0.0
        if given > 0:
            k = min(levels - 2, half_away((16 * math.log2(given) - offset) / step))
            want = 2 ** ((offset + k * step) / 16) if k >= 0 else 0.0
        np.testing.assert_allclose(got, want, rtol=1e-14)


def test_ties_are_rounded_away_from_zero():
    # offset 0, a step of two octaves: thresholds 1/2, 2, 8 between 0, 1, 4, 16
    x = np.array([0.5, np.nextafter(0.5, 1), 2, np.nextafter(2, 0), 8, 1e9])
    y, _ = weq_activation(x, 0, 32, levels=4)
    np.testing.assert_array_equal(y, [0, 1, 4, 1, 16, 16])


def test_octaves_shift_exactly():
    x = np.abs(heavy(12))
    y, _ = weq_activation(x, -20, 6, levels=16)
    for octaves in (-3, 1, 7):
        shifted, _ = weq_activation(x * 2.0**octaves, -20 + 16 * octaves, 6, levels=16)
        np.testing.assert_array_equal(shifted, y * 2.0**octaves)


@pytest.mark.parametrize("step", [2, 8, 32])
def test_the_relative_error_is_that_of_half_a_step(step):
    top = 2.0 ** (14 * step / 16)
    x = np.geomspace(1, top, 5000)
    y, _ = weq_activation(x, 0, step, levels=16)
    worst = np.max(np.abs(y - x) / x)
    bound = 2 ** (step / 32) - 1
    assert 0.98 * bound < worst <= bound * (1 + 1e-12)


def test_the_gradient_passes_where_a_positive_value_became_0():
    x = np.array([-1.0, 0.0, 1e-6, 1.0, 1e6])
    y, cache = weq_activation(x, 0, 16, levels=4)
    assert y[2] == 0
    dx = weq_activation_backward(np.arange(1.0, 6.0), cache)
    np.testing.assert_array_equal(dx, [0, 0, 3, 4, 5])


def log_entropy_by_loops(bins, offset, step, levels):
    total = 0.0
    for k in range(levels - 1):
        low = offset + k * step - step // 2
        high = low + step if k < levels - 2 else math.inf
        p = sum(low <= b < high for b in bins) / len(bins)
        total -= 2 ** ((offset + k * step) / 16) * p * math.log(p) if p else 0
    return total


@pytest.mark.parametrize("levels", [2, 3, 5])
def test_the_log_search_finds_the_most_entropy(levels):
    x = np.exp(heavy(13, 40) / 4)
    bins = [math.floor(16 * math.log2(v)) for v in x]
    tried = {
        (offset, step): log_entropy_by_loops(bins, offset, step, levels)
        for step in range(2, 33, 2)
        for offset in range(min(bins), max(bins) - step // 2 * (2 * levels - 5) + 1)
    }
    found = weq_log_search(np.append(x, [-5.0, 0.0]), levels=levels)
    np.testing.assert_allclose(tried[found], max(tried.values()), rtol=1e-12)


def test_the_log_search_moves_with_the_octave():
    x = np.abs(heavy(14))
    offset, step = weq_log_search(x, levels=8)
    assert weq_log_search(x * 8, levels=8) == (offset + 48, step)


def test_the_log_search_on_little():
    assert weq_log_search(np.array([1.0, 1.0]), levels=8) == (0, 2)
    assert weq_log_search(np.array([2.0**-60, -1.0]), levels=8) == (-640, 2)
    assert weq_log_search(np.array([2.0**40]), levels=8) == (383, 2)
    for x in (np.array([-1.0, 0.0]), np.zeros(0)):
        refuses("x must have a positive value", weq_log_search, x, levels=8)


def test_every_found_grid_fits_float32():
    for top in (2.0**23, 2.0**63):
        x = np.array([top], np.float32)
        assert np.isfinite(
            weq_activation(x, *weq_log_search(x, levels=256), levels=256)[0]
        )


def test_training_refreshes_the_grid_and_evaluation_does_not():
    module = WEQActivation(levels=8)
    x = heavy(15)
    y, _ = module.forward(x, Run(training=True))
    held = weq_log_search(x, levels=8)
    np.testing.assert_array_equal(y, weq_activation(x, *held, levels=8)[0])
    module.forward(64 * x, Run())
    assert module.offset_and_step() == held
    module.forward(64 * x, Run(training=True))
    assert module.offset_and_step() == (held[0] + 96, held[1])


def test_a_batch_without_a_positive_value_keeps_the_grid():
    module = WEQActivation(levels=8)
    for run in (Run(), Run(training=True)):
        np.testing.assert_array_equal(module.forward(-np.ones(3), run)[0], 0)
        assert module.known.value == 0
    module.set_grid(16, 4)
    module.forward(-np.ones(3), Run(training=True))
    assert module.offset_and_step() == (16, 4)
    refuses("step must be even", module.set_grid, 0, 5)
