"""DoReFa: fixed points, ties at 0, unbiased gradients, and the maximum in the chain."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refuses

from refqnn.core import Param, Run
from refqnn.nn import Conv2d
from refqnn.quantizers import (
    DoReFaGradient,
    binary,
    dorefa_activation,
    dorefa_activation_backward,
    dorefa_gradient,
    dorefa_weight,
    dorefa_weight_backward,
)

seeds = st.integers(0, 2**32 - 1)
every_k = pytest.mark.parametrize("k", [2, 3, 4, 5, 8])


def as_printed(w, k):
    """f_w^k entry by entry, ties to even."""
    n, top = 2**k - 1, max(abs(math.tanh(x)) for x in w.ravel())
    u = [math.tanh(x) / (2 * top) + 0.5 for x in w.ravel()]
    return np.array([2 * round(n * each) / n - 1 for each in u]).reshape(w.shape)


@every_k
@given(seed=seeds)
def test_weights_are_the_printed_formula(k, seed):
    w = np.random.default_rng(seed).normal(size=(3, 2, 2)) * 2
    np.testing.assert_allclose(
        dorefa_weight(w, bits=k)[0], as_printed(w, k), atol=1e-14
    )


@every_k
def test_a_weight_of_zero_becomes_one_nth(k):
    w = np.array([[0.0, -0.0, 0.5, -1.0]])
    y, _ = dorefa_weight(w, bits=k)
    np.testing.assert_array_equal(y[0, :2], 1 / (2**k - 1))
    np.testing.assert_array_equal(as_printed(w, k)[0, :2] > 0, True)


@pytest.mark.parametrize("k", range(2, 17))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_outer_levels_are_one_exactly(k, dtype):
    w = np.array([[0.3, -0.3, 0.1]], dtype)
    np.testing.assert_array_equal(dorefa_weight(w, bits=k)[0][0, :2], [1, -1])
    x = np.array([0.0, 1.0, 7.0], dtype)
    np.testing.assert_array_equal(dorefa_activation(x, bits=k)[0], [0, 1, 1])


@pytest.mark.parametrize("k", range(2, 9))
def test_all_levels_are_fixed_points_up_to_three_bits_then_eight(k):
    levels = np.arange(1 - 2**k, 2**k, 2)[None] / (2**k - 1)
    fixed = np.isclose(dorefa_weight(levels, bits=k)[0], levels, atol=1e-12)
    assert fixed.sum() == (2**k if k <= 3 else 8)


def test_one_bit_is_the_binary_of_a_layer(rng):
    w = rng.normal(size=(3, 4))
    y, cache = dorefa_weight(w, bits=1)
    np.testing.assert_array_equal(y, binary(w, group="layer")[0])
    np.testing.assert_array_equal(np.abs(y), np.abs(w).mean())
    np.testing.assert_array_equal(dorefa_weight_backward(w, cache), w)


@pytest.mark.parametrize("max_grad", [True, False])
def test_weights_that_are_all_zero_give_zeros_and_no_gradient(max_grad):
    w = np.zeros((2, 3))
    y, cache = dorefa_weight(w, bits=3, max_grad=max_grad)
    np.testing.assert_array_equal(y, 0)
    np.testing.assert_array_equal(dorefa_weight_backward(np.ones((2, 3)), cache), 0)


def test_the_maximum_takes_part_in_the_chain_or_not():
    w, dy = np.array([[0.5, -1.0]]), np.array([[1.0, 2.0]])
    t, M = np.tanh(w), math.tanh(1)
    _, cache = dorefa_weight(w, bits=4, max_grad=False)
    held = (1 - t**2) * dy / M
    np.testing.assert_allclose(dorefa_weight_backward(dy, cache), held)
    _, cache = dorefa_weight(w, bits=4)
    # y_1 = t_1 / |t_2|, y_2 = -1 whatever w is: dy_1 reaches w_2, dy_2 reaches nobody
    want = (1 - t**2) * [[1 / M, t[0, 0] / M**2]]
    np.testing.assert_allclose(dorefa_weight_backward(dy, cache), want)


def test_weights_that_share_the_maximum_share_its_gradient():
    w = np.array([[1.0, 1.0, -1.0, 0.5]])
    dy = np.array([[0.0, 0.0, 0.0, 1.0]])
    dw = dorefa_weight_backward(dy, dorefa_weight(w, bits=4)[1])[0]
    np.testing.assert_allclose(dw[:3], dw[0] * np.array([1, 1, -1]))
    M = math.tanh(1)
    np.testing.assert_allclose(dw[0], -(1 - M**2) * math.tanh(0.5) / M**2 / 3)


def test_activations_pass_the_gradient_on_the_closed_unit_interval():
    x = np.array([-1e-9, -0.0, 0.0, 0.5, 1.0, 1 + 1e-9])
    dx = dorefa_activation_backward(np.full(6, 3.0), dorefa_activation(x, bits=2)[1])
    np.testing.assert_array_equal(dx, [0, 3, 3, 3, 3, 0])


# -- gradients ------------------------------------------------------------------------


def over_all_noise(dy, bits, cells):
    """Mean over noise at the centres of cells: exact where n u is on the cells."""
    noise = (np.arange(cells) + 0.5) / cells - 0.5
    draws = [dorefa_gradient(dy, np.full_like(dy, z), bits=bits) for z in noise]
    return np.mean(draws, axis=0)


@pytest.mark.parametrize("bits", [1, 2, 3, 6])
def test_the_gradient_quantizer_is_unbiased(bits):
    # m = 1: n u = n (dy + 1) / 2 is a multiple of 1/64, and there are 64 cells
    n = 2**bits - 1
    dy = (2 * np.arange(64 * n + 1) / (64 * n) - 1)[None]
    np.testing.assert_allclose(over_all_noise(dy, bits, 64), dy, atol=1e-12)
    np.testing.assert_allclose(over_all_noise(8 * dy, bits, 64), 8 * dy, atol=1e-11)


def test_noise_of_another_width_is_biased():
    dy = np.array([[1.0, 0.25]])
    noise = (np.arange(64) + 0.5) / 128 - 0.25
    draws = [dorefa_gradient(dy, np.full_like(dy, z), bits=2) for z in noise]
    assert abs(np.mean(draws, axis=0)[0, 1] - 0.25) > 1e-3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(seed=seeds, bits=st.integers(1, 16))
def test_quantized_gradients_are_levels_within_the_maximum(dtype, seed, bits):
    rng = np.random.default_rng(seed)
    dy = (rng.normal(size=(3, 2, 4)) * rng.lognormal(size=(3, 1, 1))).astype(dtype)
    g_q = dorefa_gradient(dy, rng.random(dy.shape) - 0.5, bits=bits)
    m = np.abs(dy).max((1, 2), keepdims=True)
    assert g_q.dtype == dtype
    assert np.all(np.abs(g_q) <= m)
    odd = g_q / m * (2**bits - 1)
    np.testing.assert_allclose(odd, 2 * np.round((odd - 1) / 2) + 1, rtol=1e-5)
    step = 2 * m / (2**bits - 1)
    assert np.all(np.abs(g_q - dy) <= step * (1 + 1e-5))


@pytest.mark.parametrize("bits", range(1, 17))
def test_the_largest_noise_does_not_pass_the_maximum(bits):
    dy = np.array([[1.0, -1.0]])
    for z in (-0.5, np.nextafter(0.5, 0)):
        assert np.abs(dorefa_gradient(dy, np.full((1, 2), z), bits=bits)).max() == 1


def test_every_sample_has_a_maximum_of_its_own_and_zeros_stay_zeros():
    dy = np.array([[4.0, 1.0], [0.0, 0.0], [0.25, 0.25]])
    g_q = dorefa_gradient(dy, np.full((3, 2), 0.25), bits=1)
    np.testing.assert_array_equal(g_q, [[4, 4], [0, 0], [0.25, 0.25]])
    zeros = dorefa_gradient(np.full((1, 2), 1e-310), np.zeros((1, 2)), bits=4)
    np.testing.assert_array_equal(zeros, 0)
    assert dorefa_gradient(np.zeros((0, 2)), np.zeros((0, 2)), bits=2).shape == (0, 2)


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        (np.zeros(2), "noise must have the shape of dy"),
        (np.full((1, 2), 0.5), "noise must lie in"),
        (np.full((1, 2), -0.6), "noise must lie in"),
        (np.full((1, 2), np.nan), "noise must lie in"),
    ],
)
def test_noise_that_is_none_raises(noise, message):
    refuses(message, dorefa_gradient, np.ones((1, 2)), noise, bits=2)


@pytest.mark.parametrize("bits", [0, 17, True])
def test_bits_out_of_range_raise(bits):
    for call in (
        lambda: DoReFaGradient(bits=bits),
        lambda: DoReFaGradient().forward(np.ones(1), Run(), bits=bits),
        lambda: dorefa_gradient(np.ones(1), np.zeros(1), bits=bits),
    ):
        refuses(r"bits must be an int in \[1, 16\]", call)


def test_a_convolution_sends_the_quantized_gradient_on(rng):
    x, w = rng.normal(size=(2, 1, 4, 4)), rng.normal(size=(2, 1, 1, 1))
    conv = Conv2d(Param(w), grad_quant=DoReFaGradient(bits=2))
    y, cache = conv.forward(x, Run(training=True, rng=np.random.default_rng(1)))
    dy = rng.normal(size=y.shape)
    noise = np.random.default_rng(1).random(y.shape) - 0.5
    g_q = dorefa_gradient(dy, noise, bits=2)
    np.testing.assert_allclose(
        conv.backward(dy, cache)[:, 0], np.tensordot(g_q, w[:, 0, 0, 0], (1, 0))
    )
    np.testing.assert_allclose(
        conv.w.grad[:, 0, 0, 0], np.einsum("nohw,nhw->o", g_q, x[:, 0])
    )


# -- modules --------------------------------------------------------------------------
