"""XNOR-Net: the best signs and scale, three gradients, and the scale map."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refqnn.ops import conv2d
from refqnn.quantizers import (
    binary,
    scale_map,
    xnor_activation,
    xnor_activation_backward,
    xnor_weight,
    xnor_weight_backward,
)

seeds = st.integers(0, 2**32 - 1)
every_gradient = pytest.mark.parametrize("gradient", ["exact", "paper", "released"])


@pytest.mark.parametrize("n", range(1, 11))
def test_no_other_signs_and_scale_are_closer(n, rng):
    w = rng.normal(size=(1, n))
    signs = np.array(list(product((-1, 1), repeat=n)))
    best = signs @ w[0] / n  # the least-squares scale of each
    errors = np.sum((w - best[:, None] * signs) ** 2, 1)
    error = np.sum((w - xnor_weight(w)[0]) ** 2)
    np.testing.assert_allclose(error, errors.min(), atol=1e-12)
    assert np.sum(errors < error + 1e-9) == 2  # these signs, or minus both


@given(seeds)
def test_the_error_is_the_energy_less_n_alpha_squared(seed):
    w = np.random.default_rng(seed).normal(size=(3, 2, 3, 3))
    y, _ = xnor_weight(w)
    alpha = np.abs(w).mean((1, 2, 3))
    error = np.sum((w - y) ** 2, (1, 2, 3))
    np.testing.assert_allclose(error, np.sum(w**2, (1, 2, 3)) - 18 * alpha**2)


@every_gradient
def test_the_values_are_those_of_the_binary_filter(gradient, rng):
    w = np.round(rng.normal(size=(3, 2, 3, 3)), 1)
    y, _ = xnor_weight(w, gradient=gradient)
    np.testing.assert_array_equal(y, binary(w)[0])


def jacobian(w):
    """dy_j / dw_i of the chain rule through alpha and sgn, loop by loop."""
    n, alpha = w.size, np.abs(w).mean()
    slope = np.zeros((n, n))
    for j, i in np.ndindex(n, n):
        b = 1 if w[j] >= 0 else -1
        slope[j, i] = np.sign(w[i]) / n * b
        if i == j and abs(w[i]) < 1:
            slope[j, i] += alpha
    return slope


W = np.array([0.5, -0.25, 1.0, -3.0, 0.0, 0.999])


def test_exact_is_the_chain_rule(rng):
    dy = rng.normal(size=6)
    dw = xnor_weight_backward(dy[None], xnor_weight(W[None])[1])
    np.testing.assert_allclose(dw[0], dy @ jacobian(W))


def test_paper_keeps_the_diagonal(rng):
    dy = rng.normal(size=6)
    _, cache = xnor_weight(W[None], gradient="paper")
    alpha, passes = np.abs(W).mean(), np.array([1, 1, 0, 0, 1, 1])
    want = dy * (1 / 6 + alpha * passes)
    np.testing.assert_allclose(xnor_weight_backward(dy[None], cache)[0], want)
    kept = W != 0  # at 0, the sign before alpha is 0
    np.testing.assert_allclose(want[kept], (dy * jacobian(W).diagonal())[kept])


def test_exact_moves_other_weights_and_paper_does_not():
    dy = np.array([[1.0, 0, 0, 0, 0, 0]])
    exact = xnor_weight_backward(dy, xnor_weight(W[None])[1])
    paper = xnor_weight_backward(dy, xnor_weight(W[None], gradient="paper")[1])
    np.testing.assert_array_equal(exact[0, 1:] != 0, W[1:] != 0)
    np.testing.assert_array_equal(paper[0, 1:], 0)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_released_is_paper_times_n_and_one_less_a_channel(channels, rng):
    w, dy = rng.normal(size=(2, 3, channels, 3, 3))
    paper, released = (
        xnor_weight_backward(dy, xnor_weight(w, gradient=gradient)[1])
        for gradient in ("paper", "released")
    )
    np.testing.assert_allclose(released, paper * 9 * channels * (1 - 1 / channels))


def test_a_filter_of_zeros_gives_zeros_and_no_gradient():
    w = np.array([[0.0, 0.0], [1.0, -2.0]])
    y, cache = xnor_weight(w)
    np.testing.assert_array_equal(y, [[0, 0], [1.5, -1.5]])
    np.testing.assert_array_equal(xnor_weight_backward(np.ones((2, 2)), cache)[0], 0)


def test_float32_sums_the_gradient_of_alpha_in_float64():
    w = np.ones((1, 2**12), np.float32)
    dy = np.full(w.shape, 2.0**-24, np.float32)
    dy[0, 0] = 1
    dw = xnor_weight_backward(dy, xnor_weight(w)[1])
    assert dw.dtype == np.float32
    assert dw[0, 1] == np.float32(dy.astype(float).sum() / 2**12)


def test_the_sign_of_zero_is_plus_one_and_the_mask_is_open():
    x = np.array([-1.0, -0.5, -0.0, 0.0, 1.0, 1.5])
    y, cache = xnor_activation(x)
    np.testing.assert_array_equal(y, [-1, -1, 1, 1, 1, 1])
    dx = xnor_activation_backward(np.full(6, 3.0), cache)
    np.testing.assert_array_equal(dx, [0, 3, 3, 3, 0, 0])


# -- the scale map --------------------------------------------------------------------


def test_the_scale_map_by_plain_loops(rng):
    x = rng.normal(size=(2, 3, 5, 6))
    K = scale_map(x, kernel=(3, 2), stride=2, padding=1)
    A = np.pad(np.abs(x).sum(1) / 3, ((0, 0), (1, 1), (1, 1)))
    want = np.zeros((2, 1, 3, 4))
    for n, p, q in np.ndindex(2, 3, 4):
        for i, j in np.ndindex(3, 2):
            want[n, 0, p, q] += A[n, 2 * p + i, 2 * q + j] / 6
    np.testing.assert_allclose(K, want)
    assert scale_map(x.astype(np.float32), kernel=2).dtype == np.float32
    with pytest.raises(ValueError, match="x must be finite"):
        scale_map(x * np.inf, kernel=2)


def test_scaled_sign_convolutions_are_exact_for_magnitudes_that_are_constant(rng):
    x = 0.5 * rng.choice([-1.0, 1.0], (2, 3, 5, 5))
    w = 0.25 * rng.choice([-1.0, 1.0], (4, 3, 3, 3))
    signs, _ = conv2d(xnor_activation(x)[0], np.sign(w))
    alpha = np.abs(w).mean((1, 2, 3)).reshape(-1, 1, 1)
    got = signs * scale_map(x, kernel=3) * alpha
    np.testing.assert_allclose(got, conv2d(x, w)[0])


def test_the_scale_map_brings_a_convolution_closer(rng):
    x, w = rng.normal(size=(2, 8, 9, 9)), rng.normal(size=(4, 8, 3, 3))
    x *= np.linspace(0.1, 4, 9)  # images are not equally bright everywhere
    signs, _ = conv2d(xnor_activation(x)[0], xnor_weight(w)[0])
    want, _ = conv2d(x, w)
    mapped = signs * scale_map(x, kernel=3)
    flat = signs * np.abs(x).mean()
    assert np.sum((mapped - want) ** 2) < 0.95 * np.sum((flat - want) ** 2)


def test_the_exact_gradient_is_that_of_every_filter_apart(rng):
    w, dy = rng.uniform(-0.9, 0.9, (2, 3, 4))
    _, cache = xnor_weight(w)
    dw = xnor_weight_backward(dy, cache)
    for row in range(3):
        alone = xnor_weight(w[row : row + 1])[1]
        want = xnor_weight_backward(dy[row : row + 1], alone)
        np.testing.assert_allclose(dw[row : row + 1], want)
    moved = xnor_weight(w + 1e-6 * dy, frozen=cache)[0]
    slope = np.sum(dy * (moved - xnor_weight(w - 1e-6 * dy, frozen=cache)[0])) / 2e-6
    np.testing.assert_allclose(slope, np.sum(dy * dw), rtol=1e-6)
