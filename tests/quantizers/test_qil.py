import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refuses

from refqnn.core import Param, Run, named_params, zero_grads
from refqnn.nn import SGD
from refqnn.quantizers import (
    QILActivation,
    QILWeight,
    clipping_ratio,
    pruning_ratio,
    qil_activation,
    qil_activation_backward,
    qil_thresholds,
    qil_weight,
    qil_weight_backward,
)
from refqnn.quantizers.module import positive
from refqnn.quantizers.qil import half_of_largest

ONE, HALF = np.ones(()), np.array(0.5)
seeds = given(seed=st.integers(0, 2**32 - 1))


def drawn(seed):
    rng = np.random.default_rng(seed)
    c = rng.uniform(0.5, 1.5)
    return rng, rng.normal(size=60), c, rng.uniform(0.2, 1) * c, rng.uniform(0.4, 2.5)


def plain(w, c, d, gamma, bits):
    """The case split of the paper, one weight at a time."""
    n, sign = 2 ** (bits - 1) - 1, math.copysign(1, w)
    if abs(w) < c - d:
        bent = 0.0
    elif abs(w) > c + d:
        bent = sign
    else:
        bent = sign * (0.5 / d * abs(w) + 0.5 - 0.5 * c / d) ** gamma
    return round(bent * n) / n


# -- forward --------------------------------------------------------------------------


@seeds
def test_the_case_split_one_weight_at_a_time(seed):
    _, w, c, d, gamma = drawn(seed)
    for bits in (2, 3, 4, 8):
        y, _ = qil_weight(w, *map(np.array, (c, d, gamma)), bits=bits)
        want = [plain(x, c, d, gamma, bits) for x in w.tolist()]
        np.testing.assert_allclose(y, want, atol=1e-15)


@seeds
def test_activations_are_the_positive_side_of_weights_of_one_bit_more(seed):
    _, x, c, d, _ = drawn(seed)
    at = np.array(c), np.array(d)
    y, cache = qil_activation(x, *at, bits=4)
    magnitude, weight = qil_weight(np.abs(x), *at, ONE, bits=5)
    np.testing.assert_array_equal(y[x > 0], magnitude[x > 0])
    np.testing.assert_array_equal(y[x <= 0], 0)
    here = qil_activation_backward(np.ones(60) * (x > 0), cache)
    there = qil_weight_backward(np.ones(60) * (x > 0), weight)
    for one, two in zip(here, there, strict=False):
        np.testing.assert_allclose(one, two)


def test_ends_of_the_interval():
    w = np.array([0.25, -0.25, 1.25, -1.25])
    y, cache = qil_weight(w, np.array(0.75), HALF, ONE, bits=4)
    np.testing.assert_array_equal(y, [0, 0, 1, -1])
    np.testing.assert_array_equal(cache.inside(), [False] * 4)


def test_two_bits_at_gamma_one_prune_exactly_up_to_the_centre():
    c, w = np.array(0.75), np.arange(-64, 65) / 32
    for d in (0.125, 0.25, 0.5, 0.75):
        y, _ = qil_weight(w, c, np.array(d), ONE, bits=2)
        np.testing.assert_array_equal(y == 0, np.abs(w) <= 0.75)


@seeds
def test_the_effective_pruning_threshold(seed):
    _, w, c, d, gamma = drawn(seed)
    for bits in (2, 3, 5):
        n = 2 ** (bits - 1) - 1
        t = c - d + 2 * d * (1 / (2 * n)) ** (1 / gamma)
        np.testing.assert_allclose(qil_thresholds(c, d, gamma, steps=n)[0], t)
        w[:2] = t * (1 - 1e-9), t * (1 + 1e-9)
        y, _ = qil_weight(w, *map(np.array, (c, d, gamma)), bits=bits)
        np.testing.assert_array_equal(y == 0, np.abs(w) <= t)


def test_the_largest_level_is_one_for_every_number_of_bits():
    for dtype in (np.float32, np.float64):
        big = np.full(1, 9, dtype)
        for bits in range(2, 17):
            assert qil_weight(-big, ONE, HALF, ONE, bits=bits)[0] == -1
            assert qil_activation(big, ONE, HALF, bits=bits)[0] == 1


def test_a_half_width_beyond_the_centre_jumps_at_zero_and_stays_monotone():
    w = np.array([-0.5, -1e-9, 0.0, 1e-9, 0.5])
    c, d = np.array(0.25), np.array(0.5)  # u(0) = 1/4
    y, cache = qil_weight(w, c, d, ONE, bits=4)
    np.testing.assert_allclose(7 * y, [-5, -2, 0, 2, 5])
    dw, *_ = qil_weight_backward(np.ones(5), cache)
    np.testing.assert_array_equal(dw, [1, 1, 0, 1, 1])
    x, _ = qil_activation(np.zeros(1), c, d, bits=4)
    np.testing.assert_allclose(15 * x, 4)  # a zero that is none


def test_idempotent_at_one_half_and_gamma_one_only():
    w = np.linspace(-1.5, 1.5, 301)

    def once_and_twice(c, d, gamma):
        once, _ = qil_weight(w, c, d, gamma, bits=4)
        return once, qil_weight(once, c, d, gamma, bits=4)[0]

    np.testing.assert_allclose(*once_and_twice(HALF, HALF, ONE), rtol=1e-15)
    for at in ((ONE, HALF, ONE), (HALF, HALF, 2 * ONE), (HALF, 0.5 * HALF, ONE)):
        once, twice = once_and_twice(*at)
        assert np.abs(once - twice).max() > 0.1


def test_quotients_beyond_the_largest_number_are_clipped():
    w = np.array([1e18, -1e18, 0.0], np.float32)
    tiny = np.array(np.finfo(np.float32).tiny)
    y, cache = qil_weight(w, tiny, tiny, ONE, bits=4)
    np.testing.assert_array_equal(y, [1, -1, 0])
    for grad in qil_weight_backward(np.ones(3, np.float32), cache):
        np.testing.assert_array_equal(grad, 0)


# -- backward -------------------------------------------------------------------------


@seeds
def test_algebraic_identities(seed):
    rng, w, c, d, gamma = drawn(seed)
    dy = rng.normal(size=60)
    cache = qil_weight(w, *map(np.array, (c, d, gamma)), bits=4)[1]
    dw, dc, dd, _ = qil_weight_backward(dy, cache)
    np.testing.assert_allclose(dc, -np.sum(np.sign(w) * dw), atol=1e-12)
    np.testing.assert_allclose(w @ dw + c * dc + d * dd, 0, atol=1e-10)  # Euler
    dx, dc, dd = qil_activation_backward(
        dy, qil_activation(w, np.array(c), np.array(d), bits=4)[1]
    )
    np.testing.assert_allclose(dc, -dx.sum(), atol=1e-12)
    np.testing.assert_allclose(w @ dx + c * dc + d * dd, 0, atol=1e-10)


@seeds
def test_gradients_are_the_slopes_of_the_transform_without_rounding(seed):
    rng, w, c, d, gamma = drawn(seed)
    u = 0.5 + 0.5 * (np.abs(w) - c) / d
    w, dy = w[np.abs(u * (1 - u)) > 1e-2], rng.normal(size=60)[: w.size]
    dy, h = dy[: w.size], 1e-6

    def loss(w, c, d, gamma):
        u = np.clip(0.5 + 0.5 * (np.abs(w) - c) / d, 0, 1)
        return np.sum(dy * np.sign(w) * u**gamma)

    at = [w, np.array(c), np.array(d), np.array(gamma)]
    grads = qil_weight_backward(dy, qil_weight(*at, bits=2)[1])
    for i, grad in enumerate(grads):
        way = rng.normal(size=at[i].shape)
        ends = [loss(*at[:i], at[i] + k * h * way, *at[i + 1 :]) for k in (1, -1)]
        slope = (ends[0] - ends[1]) / (2 * h)
        np.testing.assert_allclose(np.sum(grad * way), slope, rtol=1e-5, atol=1e-7)


def test_the_gradient_of_gamma_by_hand_and_its_limit():
    w = np.array([0.5, -0.25, 1e-200, 1e-300, 0.0])
    for gamma in (0.5, 1.0, 2.0):
        cache = qil_weight(w, HALF, HALF, np.array(gamma), bits=4)[1]
        each = [float(qil_weight_backward(np.eye(5)[i], cache)[3]) for i in range(5)]
        u = np.array([0.5, 0.25])
        want = u**gamma * np.log(u) * [1, -1]
        np.testing.assert_allclose(each, [*want, 0, 0, 0], atol=1e-90)
    u = np.logspace(-12, -300, 20)
    centre = np.array(0.0)
    cache = qil_weight(u, centre, HALF, ONE, bits=4)[1]._replace(u=u)
    limit = [float(qil_weight_backward(g, cache)[3]) for g in np.eye(20)]
    np.testing.assert_allclose(limit, u * np.log(u))
    assert np.all(np.diff(np.abs(limit)) < 0)


# -- ratios and the first interval ----------------------------------------------------


@seeds
def test_ratios_count(seed):
    _, w, c, d, gamma = drawn(seed)
    at = tuple(map(np.array, (c, d, gamma)))
    zeros = [plain(x, c, d, gamma, 3) == 0 for x in w.tolist()]
    assert pruning_ratio(w, *at, bits=3) == sum(zeros) / 60
    assert clipping_ratio(w, *at[:2]) == sum(abs(x) > c + d for x in w.tolist()) / 60


def test_ratios_of_nothing_are_zero():
    assert pruning_ratio(np.zeros(0), ONE, HALF, ONE, bits=2) == 0
    assert clipping_ratio(np.zeros(0), ONE, HALF) == 0
    refuses("d must be positive", clipping_ratio, np.ones(1), ONE, -HALF)


def test_the_first_interval_prunes_and_clips_nothing_before_rounding():
    v = np.array([[0.5, -3.0, 1e-3]])
    module = QILWeight()
    module.forward(v, Run(training=True))
    assert (module.c.value, module.d.value, module.gamma.value) == (1.5, 1.5, 1)
    assert clipping_ratio(v, module.c.value, module.d.value) == 0
    assert (module.c.value - module.d.value) == 0
    module.forward(9 * v, Run(training=True))
    assert module.c.value == 1.5
    activation = QILActivation()
    activation.forward(np.array([[0.5, -3.0, 2.0]]), Run(training=True))
    assert (activation.c.value, activation.d.value) == (1, 1)


@pytest.mark.parametrize("v", [np.zeros(3), np.full(3, 1e-320), np.array([-1.0])])
def test_values_without_a_positive_entry_warn_and_leave_an_interval(v):
    with pytest.warns(UserWarning, match="no positive entry"):
        assert half_of_largest(v) == np.finfo(np.float64).eps


@pytest.mark.parametrize("bad", [{"d": 0.0}, {"d": -1.0}, {"gamma": 0.0}])
def test_intervals_that_are_none_raise_and_change_nothing(bad):
    module = QILWeight()
    with pytest.raises(ValueError, match="must be positive and normal"):
        module.set_interval(**({"c": 0.5, "d": 0.5} | bad))
    assert module.known.value == 0
    refuses("d must be positive", QILActivation().set_interval, 1, 0)


# -- modules --------------------------------------------------------------------------


@pytest.mark.parametrize("make", [QILWeight, QILActivation])
@given(steps=st.lists(st.floats(-3, 3), min_size=3, max_size=3))
def test_a_step_of_the_optimiser_stays_in_the_domain(make, steps):
    module = make()
    module.set_interval(1, 0.75)
    params = named_params(module)
    for param, step in zip(params.values(), steps, strict=False):
        param.grad += step
    SGD(params).step(lr=1.0)
    c, d = float(module.c.value), float(module.d.value)
    assert 0 < d <= c
    assert c == max(1 - steps[0], float(positive(np.array(0.0))))
    if 0.75 - steps[1] > 0:
        assert d == min(0.75 - steps[1], c)
    module.forward(np.ones((1, 2)), Run())


@pytest.mark.parametrize("make", [QILWeight, QILActivation])
def test_an_interval_driven_to_zero_warns_and_recovers(make, rng):
    module, v = make(bits=2), np.abs(rng.normal(size=1000)).astype(np.float32)
    optimiser = SGD(named_params(module))
    module.forward(v, Run(training=True))
    module.c.grad += 10  # one step far below 0
    module.d.grad += 10
    with pytest.warns(UserWarning, match="is held at"):
        optimiser.step(1.0)
    floor = v.max() / 64
    assert module.c.value == pytest.approx(floor)
    assert module.d.value == pytest.approx(floor)
    zero_grads(module)
    y, cache = module.forward(v, Run(training=True))
    assert np.count_nonzero(module.backward(np.sign(y - 1.5 * v), cache)) > 10
    for _ in range(40):  # towards y = 1.5 v: the interval widens again
        zero_grads(module)
        y, cache = module.forward(v, Run(training=True))
        module.backward((y - np.clip(v / v.max(), 0, 1)) / v.size, cache)
        optimiser.step(0.5)
    assert module.c.value > 8 * floor


def test_the_floor_follows_the_weights_and_leaves_usual_intervals_alone(rng):
    module, v = QILWeight(), rng.normal(size=100)
    module.forward(v, Run(training=True))
    start = module.c.value.copy()
    SGD(named_params(module)).step(1.0)
    np.testing.assert_array_equal(module.c.value, start)
    module.forward(8 * v, Run(training=True))
    assert module.floor == pytest.approx(np.abs(v).max() / 8)


@pytest.mark.parametrize(
    ("bits", "share"), [(2, 0.95), (3, 0.48), (4, 0.22), (5, 0.10)]
)
def test_the_start_zeroes_what_the_head_of_the_file_says(bits, share):
    w = np.random.default_rng(0).standard_normal(10_000)
    module = QILWeight(bits=bits)
    y, _ = module.forward(w, Run(training=True))
    zeros = np.mean(y == 0)
    assert zeros == pytest.approx(share, abs=0.015)
    below = np.abs(w) <= np.abs(w).max() / (2**bits - 2)  # t_1 = max / (2 n)
    assert zeros == np.mean(below)


def test_parameters_are_in_the_order_the_projection_needs():
    for make, more in ((QILWeight, ["gamma"]), (QILActivation, [])):
        assert list(named_params(make())) == ["c", "d", *more]
    gamma = QILWeight().gamma
    assert isinstance(gamma, Param)
    for value in (-1.0, 0.0, 0.7):
        assert gamma.project(np.asarray(value)) == positive(np.asarray(value))


def test_gamma_can_be_held(rng):
    v = rng.normal(size=(4, 3))
    for learn in (True, False):
        module = QILWeight(bits=3, learn_gamma=learn)
        module.backward(v, module.forward(v, Run(training=True))[1])
        assert np.any(module.gamma.grad != 0) == learn


def test_boundaries_beyond_the_centre_stay_ordered():
    module = QILWeight(bits=4)
    module.set_interval(0.25, 0.5)
    t = module.decision_boundaries(np.zeros((1, 1)))[0]
    assert np.all(np.diff(t) >= 0)
    np.testing.assert_allclose(t, -t[::-1])
