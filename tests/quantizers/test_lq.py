"""LQ-Nets: nearest levels, the descent of QEM, and the basis as state."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refuses

from refqnn.core import Run
from refqnn.quantizers import (
    LQActivation,
    LQWeight,
    binary,
    lq,
    lq_backward,
    qem,
    qem_step,
)
from refqnn.quantizers.lq_nets import (
    codes_and_levels,
    first_weight_basis,
    lq_thresholds,
    moving_average,
)

TRAIN = Run(training=True)
seeds = st.integers(0, 2**32 - 1)
signs = pytest.mark.parametrize("signed", [True, False])


def every_code(k, *, signed):
    return list(itertools.product((-1, 1) if signed else (0, 1), repeat=k))


def nearest(x, v, *, signed):
    """Plain loops over every code; of two nearest levels the lower."""
    levels = {
        sum(a * b for a, b in zip(v, e, strict=True))
        for e in every_code(len(v), signed=signed)
    }
    return [min(levels, key=lambda q: (abs(a - q), q)) for a in x]


def codes_of(x, v, *, signed):
    return lq(x, v, signed=signed)[1].e.astype(float)


def error(x, v, *, signed):
    return float(np.sum((x - lq(x, v, signed=signed)[0]) ** 2))


@signs
@given(seed=seeds, k=st.integers(1, 5))
def test_every_value_goes_to_the_nearest_of_all_levels(signed, seed, k):
    rng = np.random.default_rng(seed)
    v = rng.integers(-8, 9, k) / 4  # negative, zero, equal bits; ties
    x = rng.integers(-64, 65, 40) / 8
    y, cache = lq(x, v, signed=signed)
    np.testing.assert_array_equal(y, nearest(x, v, signed=signed))
    np.testing.assert_array_equal(cache.e @ v, y)
    assert set(map(tuple, cache.e.tolist())) <= set(every_code(k, signed=signed))


@signs
def test_filters_are_quantized_one_by_one(signed, rng):
    x, v = rng.normal(size=(3, 2, 5)), rng.normal(size=(3, 3))
    y = lq(x, v, signed=signed)[0]
    for i in range(3):
        np.testing.assert_array_equal(y[i], lq(x[i], v[i], signed=signed)[0])
    codes, levels = codes_and_levels(x, v, signed=signed)
    np.testing.assert_array_equal(levels[codes], y)
    np.testing.assert_array_equal(codes // 8 == np.arange(3)[:, None, None], True)


def test_neighbouring_floats_as_levels_are_told_apart():
    for low in (np.float64(1), np.nextafter(1, 2)):  # midpoints round down and up
        levels = np.array([[low, np.nextafter(low, 2)]])
        t = lq_thresholds(levels)
        assert low <= t < levels[0, 1]


# -- QEM ------------------------------------------------------------------------------


@signs
@given(seed=seeds, k=st.integers(1, 4), ridge=st.sampled_from([0.0, 1e-4, 10.0]))
def test_neither_half_of_a_step_raises_the_error(signed, seed, k, ridge):
    rng = np.random.default_rng(seed)
    x, v = rng.normal(size=30) ** 3, rng.normal(size=k)
    before = error(x, v, signed=signed)
    for _ in range(5):
        b = codes_of(x, v, signed=signed)
        v = qem_step(x, v, signed=signed, ridge=ridge)
        solved = np.sum((x - b @ v) ** 2)
        encoded = error(x, v, signed=signed)
        assert solved <= before * (1 + 1e-12)
        assert encoded <= solved * (1 + 1e-12)
        before = encoded


@signs
@given(seed=seeds, ridge=st.sampled_from([0, 1e-4, 0.5]))
def test_a_step_solves_the_ridge_equation(signed, seed, ridge):
    rng = np.random.default_rng(seed)
    x, v = rng.normal(size=50), rng.normal(size=3)
    b = codes_of(x, v, signed=signed)
    star = qem_step(x, v, signed=signed, ridge=ridge)
    left = (b.T @ b + ridge * np.eye(3)) @ star
    np.testing.assert_allclose(left, b.T @ x + ridge * v, atol=1e-10)


@given(seed=seeds)
def test_one_bit_of_a_weight_is_the_binary_weight_network(seed):
    w = np.random.default_rng(seed).normal(size=(3, 2, 7))
    v = qem_step(w, np.full((3, 1), 0.1), signed=True, ridge=0)
    np.testing.assert_allclose(v[:, 0], np.abs(w).mean((1, 2)), rtol=1e-12)
    np.testing.assert_allclose(lq(w, v, signed=True)[0], binary(w)[0], rtol=1e-12)


@signs
@pytest.mark.parametrize("k", [0.25, 2.0, 1024.0])
def test_a_step_is_equivariant_with_the_ridge(signed, k, rng):
    x, v = rng.normal(size=(3, 20)), rng.normal(size=(3, 3))
    once = qem_step(x, v, signed=signed, ridge=0.5)
    np.testing.assert_array_equal(
        qem_step(k * x, k * v, signed=signed, ridge=0.5), k * once
    )


def test_one_step_by_hand():
    x = np.array([3.0, 1.0, -1.0, -3.0])  # codes ++ -+ +- --: B^T B = 4 I
    v = qem_step(x, np.array([0.75, 1.25]), signed=True, ridge=0)
    np.testing.assert_allclose(v, [1, 2], rtol=1e-15)
    v = qem_step(x, np.array([0.75, 1.25]), signed=True, ridge=4)  # half way
    np.testing.assert_allclose(v, [0.875, 1.625], rtol=1e-15)


@pytest.mark.parametrize("ridge", [0.0, 1e-4])
def test_a_bit_that_never_fires_stays(ridge):
    x = np.array([0.0, 0.1, 1.1, 0.9])
    v = np.array([0.8, 64.0])
    b = codes_of(x, v, signed=False)
    assert np.linalg.matrix_rank(b.T @ b) == 1  # the released solve has no answer
    star = qem_step(x, v, signed=False, ridge=ridge)
    np.testing.assert_allclose(star, [1, 64], rtol=1e-4)
    assert star[1] == 64


@pytest.mark.parametrize("ridge", [0.0, 1e-4])
def test_constant_and_zero_weights_have_a_basis(ridge):
    v = np.array([[0.5, 1.0]])
    star = qem_step(np.full((1, 6), 2.0), v, signed=True, ridge=ridge)
    np.testing.assert_allclose(star, [[0.75, 1.25]], rtol=1e-4)  # nearest to v
    star = qem_step(np.zeros((1, 6)), v, signed=True, ridge=ridge)
    np.testing.assert_allclose(star, [[0.75, 0.75]], rtol=1e-4)


def test_more_than_one_bit_can_end_in_a_local_minimum():
    x = np.array([3.0, 3.0, 0.0, -3.0])
    stuck, best = (
        qem(x, np.array(v), signed=True, steps=60, ridge=0)
        for v in ([0.5, 3.5], [0.0, 2.0])
    )
    np.testing.assert_allclose(stuck, [0.875, 3.125])  # levels 2.25 and 4
    np.testing.assert_allclose(error(x, stuck, signed=True), 6.75)
    np.testing.assert_allclose(error(x, best, signed=True), 0, atol=1e-24)


def test_steps_are_counted(rng):
    x, v = rng.normal(size=40), np.array([0.3, 0.6])
    np.testing.assert_array_equal(qem(x, v, signed=True, steps=0), v)
    twice = qem_step(x, qem_step(x, v, signed=True), signed=True)
    np.testing.assert_array_equal(qem(x, v, signed=True, steps=2), twice)


def test_no_values_change_nothing():
    for x, v in ((np.zeros((3, 0)), np.ones((3, 2))), (np.zeros((0, 3)), np.ones(2))):
        np.testing.assert_array_equal(qem_step(x, v, signed=True), v)


def test_bad_arguments_of_the_solver_raise():
    with pytest.raises(ValueError, match="ridge must lie in"):
        qem_step(np.ones(2), np.ones(1), signed=True, ridge=-1)
    refuses("x must be finite", qem_step, np.array([np.nan]), np.ones(1), signed=True)
    with pytest.raises(ValueError, match=r"v must be \(K,\) or \(O, K\)"):
        qem_step(np.ones((2, 3)), np.ones((3, 1)), signed=True)


# -- gradients ------------------------------------------------------------------------


def test_only_activations_above_the_largest_level_pass_no_gradient():
    x, v = np.array([-9.0, 0.0, 3.0, np.nextafter(3.0, 4)]), np.array([1.0, 2.0])
    dx = lq_backward(np.full(4, 2.0), lq(x, v, signed=False)[1])[0]
    np.testing.assert_array_equal(dx, [2, 2, 2, 0])
    dx = lq_backward(np.full(4, 2.0), lq(9 * x, v, signed=True)[1])[0]
    np.testing.assert_array_equal(dx, 2)


# -- the moving average ---------------------------------------------------------------


@given(seed=seeds)
def test_averages_are_those_of_their_closed_forms(seed):
    stars = np.random.default_rng(seed).normal(size=(6, 3))
    debiased = plain = np.full(3, 100.0)
    for t, star in enumerate(stars, 1):
        debiased = moving_average(debiased, star, t, ema="debiased")
        plain = moving_average(plain, star, t, ema="plain")
        share = 0.1 * 0.9 ** np.arange(t)[::-1] @ stars[:t]
        np.testing.assert_allclose(debiased, share / (1 - 0.9**t), atol=1e-12)
        np.testing.assert_allclose(plain, share + 0.9**t * 100, atol=1e-12)
        if t == 1:
            np.testing.assert_array_equal(debiased, star)


# -- modules --------------------------------------------------------------------------


def test_the_first_basis_of_weights():
    v = first_weight_basis((8, 16, 3, 3), bits=3)
    unit = 0.6745 * math.sqrt(2 / (3 * 3 * 8)) / 4
    np.testing.assert_allclose(v, np.tile([unit, 2 * unit, 4 * unit], (8, 1)))
    np.testing.assert_allclose(
        first_weight_basis((2, 9), bits=1), [[0.6745]] * 2
    )  # n = O


def test_the_first_basis_of_activations():
    v = LQActivation(bits=2).basis.value
    np.testing.assert_allclose(v, [1.349 / 3, 2.698 / 3])
    np.testing.assert_allclose(v.sum(), 1.349)


@pytest.mark.parametrize("ema", ["debiased", "plain"])
def test_a_training_pass_moves_the_basis_for_the_next_one(ema, rng):
    w = rng.normal(size=(3, 2, 9))
    module = LQWeight(bits=2, ema=ema)
    first = first_weight_basis(w.shape, bits=2)
    y = module.forward(w, TRAIN)[0]
    np.testing.assert_array_equal(y, lq(w, first, signed=True)[0])
    star = qem_step(w, first, signed=True)
    if ema == "plain":
        star = 0.9 * first + (1 - 0.9) * star
    np.testing.assert_array_equal(module.basis.value, star)
    assert module.count.value == 1
    second = module.forward(w, TRAIN)[0]
    np.testing.assert_array_equal(second, lq(w, star, signed=True)[0])
    want = moving_average(star, qem_step(w, star, signed=True), 2, ema=ema)
    np.testing.assert_array_equal(module.basis.value, want)
    assert module.count.value == 2


def test_activations_move_their_one_basis(rng):
    x = np.abs(rng.normal(size=(4, 3, 2)))
    module = LQActivation(bits=2)
    first = module.basis.value.copy()
    module.forward(x, TRAIN)
    star = qem_step(x, first, signed=False)
    np.testing.assert_array_equal(module.basis.value, star)
    y = module.forward(x, TRAIN)[0]
    np.testing.assert_array_equal(y, lq(x, star, signed=False)[0])
    want = moving_average(star, qem_step(x, star, signed=False), 2, ema="debiased")
    np.testing.assert_array_equal(module.basis.value, want)
    assert LQActivation(ema="plain").ema == "plain"


MODULES = pytest.mark.parametrize("make", [LQWeight, LQActivation])


@MODULES
def test_training_lowers_the_error_and_keeps_low_precision_inputs(make, rng):
    v = np.abs(rng.normal(size=(2, 200))).astype(np.float32) * 5
    v *= 1 if make is LQActivation else rng.choice([-1, 1], v.shape)
    module = make(bits=2)
    errors = [np.sum((module.forward(v, TRAIN)[0] - v) ** 2) for _ in range(8)]
    assert errors[-1] < 0.3 * errors[0]
    assert module.forward(v, Run())[0].dtype == np.float32
    assert module.basis.value.dtype == np.float64


@MODULES
def test_a_basis_is_set_without_training(make):
    v = np.array([[0.5, 1.0]])[: 1 if make is LQWeight else None]
    basis = v if make is LQWeight else v[0]
    module = make(bits=2)
    module.set_basis(basis)
    assert module.count.value == 1
    codes, levels = module.encode(np.array([[0.6, 0.4]]))
    np.testing.assert_array_equal(levels[codes], [[0.5, 0.5]])
    for wrong in (basis[..., :1], basis[None], 1.0):
        refuses("basis must be", module.set_basis, wrong)
    refuses("v must be finite", module.set_basis, basis * np.inf)


def test_filters_give_the_buffer_its_final_shape(rng):
    w = rng.normal(size=(3, 4))
    module = LQWeight(bits=2, filters=3)
    assert module.basis.value.shape == (3, 2)
    module.forward(w, TRAIN)
    assert module.basis.value.shape == (3, 2)
    refuses(r"filters is 3, the weights are \(2, 4\)", module.forward, w[:2], Run())


@MODULES
def test_bits_are_those_of_the_basis(make):
    with pytest.raises(ValueError, match="bits must be 4, the length of the basis"):
        make().forward(np.ones((1, 2)), Run(), bits=3)
