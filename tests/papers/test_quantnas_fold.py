"""QuantNAS: the folded, quantized convolution and its hand-derived backward."""

import numpy as np
import pytest
from refusals import refuses

from refqnn.ops import batch_norm, batch_norm_inference, conv2d
from refqnn.papers.quantnas.fold import (
    Statistics,
    calibrated_statistics,
    fold,
    folded_conv2d,
    folded_conv2d_backward,
)
from refqnn.quantizers import lsq
from refqnn.quantizers.learned_step_size import lsq_backward
from refqnn.testing import check_gradients, check_op

OPTIONS = {"q_n": 8, "q_p": 7, "grad_scale": 0.3, "stride": 2, "padding": 1}


def drawn(rng, dtype=np.float64):
    """Return x, w, gamma of both signs, beta and a step at which weights saturate."""
    arrays = (
        rng.standard_normal((3, 2, 6, 5)),
        rng.standard_normal((4, 2, 3, 3)) + 0.3,
        rng.choice([-1, 1], 4) * rng.uniform(0.5, 1.5, 4),
        rng.standard_normal(4),
        np.array(0.04),
    )
    return [a.astype(dtype) for a in arrays]


def given(rng):
    return Statistics(rng.standard_normal(4), rng.uniform(0.5, 2, 4))


@pytest.mark.parametrize("statistics", ["batch", "given"])
def test_the_laws_of_pairs(rng, statistics):
    arrays = drawn(rng)
    at = given(rng) if statistics == "given" else None
    options = OPTIONS | {"statistics": at}
    cache = folded_conv2d(*arrays, **options)[1]
    u = cache.quant.u
    assert 0 < np.mean(cache.quant.inside()) < 1, "some weights must saturate"
    assert np.abs(u - np.rint(u)).max() > 0.1

    def draw(_):
        return tuple(arrays), options

    pair = folded_conv2d, folded_conv2d_backward
    check_op(*pair, draw, wrt=(0, 1, 2, 3, 4), frozen=True, examples=3)


def test_the_activation_step_in_front_equals_differences_of_the_frozen_form(rng):
    x, *others = drawn(rng)
    grid = {"q_n": 0, "q_p": 7, "grad_scale": 0.5}

    def forward(x, s_x, *, frozen=(None, None)):
        codes, first = lsq(x, s_x, **grid, frozen=frozen[0])
        y, second = folded_conv2d(codes, *others, **OPTIONS, frozen=frozen[1])
        return y, (first, second)

    def backward(dy, cache):
        return lsq_backward(folded_conv2d_backward(dy, cache[1]).dx, cache[0])

    check_gradients(forward, backward, [x, np.array(0.2)], wrt=(0, 1), frozen=True)


def test_folding_is_exact_without_quantization(rng):
    x, w, gamma, beta, _ = drawn(rng)
    conv = {"stride": 2, "padding": 1}
    z, _ = conv2d(x, w, **conv)
    want, _ = batch_norm(z, gamma, beta)
    got, _ = folded_conv2d(x, w, gamma, beta, **conv)
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)
    at = given(rng)
    want, _ = batch_norm_inference(z, gamma, beta, *at)
    got, cache = folded_conv2d(x, w, gamma, beta, statistics=at, **conv)
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)
    assert cache.z is None, "given statistics need one convolution, not two"


def test_folding_is_exact_to_1e_6_in_float32(rng):
    x, w, gamma, beta, _ = drawn(rng, np.float32)
    want, _ = batch_norm(conv2d(x, w)[0], gamma, beta)
    got, _ = folded_conv2d(x, w, gamma, beta)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_weights_are_quantized_after_folding(rng):
    x, w, gamma, beta, s = drawn(rng)
    _, cache = folded_conv2d(x, w, gamma, beta, s, **OPTIONS)
    w_f, _ = fold(w, gamma, beta, cache.at)
    want, _ = lsq(w_f, s, q_n=8, q_p=7)
    np.testing.assert_array_equal(cache.conv_y.w, want)
    assert np.abs(cache.conv_y.w / s - np.rint(cache.conv_y.w / s)).max() < 1e-9


def test_float32_gradients_are_those_of_float64(rng):
    arrays = drawn(rng, np.float32)
    found = []
    for dtype in (np.float32, np.float64):
        y, cache = folded_conv2d(*(a.astype(dtype) for a in arrays), **OPTIONS)
        found.append(folded_conv2d_backward(np.ones_like(y), cache))
        assert all(grad.dtype == dtype for grad in found[-1])
    for got, want in zip(*found, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-3)


def test_filters_are_summed_in_float64():
    x = np.array([1e4, 1.0, -1e4], np.float32).reshape(1, 3, 1, 1)
    w, one = np.abs(x), np.ones(1, np.float32)  # <D, W> = 1e8 + 1 - 1e8
    at = Statistics(np.zeros(1), np.ones(1))
    y, cache = folded_conv2d(x, w, one, one, statistics=at, eps=0)
    assert folded_conv2d_backward(np.ones_like(y), cache).dgamma == 1


def test_the_gradient_of_the_step_is_scaled(rng):
    arrays, found = drawn(rng), []
    for scale in (1.0, 0.3):
        y, cache = folded_conv2d(*arrays, **OPTIONS | {"grad_scale": scale})
        found.append(folded_conv2d_backward(np.ones_like(y), cache))
    np.testing.assert_allclose(found[1].ds, 0.3 * found[0].ds, rtol=1e-12)
    np.testing.assert_array_equal(found[1].dw, found[0].dw)


def test_folded_arrays_are_rounded_once(rng):
    _, w, gamma, beta, _ = drawn(rng, np.float32)
    at = given(rng)
    wide = fold(*(a.astype(np.float64) for a in (w, gamma, beta)), at)
    for got, want in zip(fold(w, gamma, beta, at), wide, strict=True):
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got, want.astype(np.float32))


def test_images_after_the_last_whole_batch_are_left_out(rng):
    z = rng.standard_normal((7, 3, 2, 2))
    got = calibrated_statistics(z, batch=3)
    for a, b in zip(got, calibrated_statistics(z[:6], batch=3), strict=True):
        np.testing.assert_array_equal(a, b)


def test_statistics_of_the_training_distribution_are_those_of_its_batches(rng):
    z = rng.standard_normal((64, 3, 4, 4)) * 2 + 1
    mean, var = calibrated_statistics(z, batch=16)
    np.testing.assert_allclose(mean, z.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(var, z.var((0, 2, 3)), rtol=0.02)
    one = calibrated_statistics(z, batch=64)
    np.testing.assert_allclose(one.var, z.var((0, 2, 3)), rtol=1e-12)


def test_bad_arguments_raise(rng):
    x, w, gamma, beta, s = drawn(rng)
    with pytest.raises(ValueError, match=r"gamma \(O,\) and w .* disagree on O: gam"):
        folded_conv2d(x, w, gamma[:2], beta)
    short = Statistics(np.zeros(4), np.ones(1))
    with pytest.raises(ValueError, match=r"var \(O,\) and w .* var\(1,\), w\(4,"):
        folded_conv2d(x, w, gamma, beta, statistics=short)
    with pytest.raises(ValueError, match=r"eps must lie in \[0, inf\], got -1"):
        folded_conv2d(x, w, gamma, beta, eps=-1)
    y, cache = folded_conv2d(x, w, gamma, beta)
    refuses("dy must have the shape", folded_conv2d_backward, y[:, :2], cache)
    refuses("disagree on C", folded_conv2d, x[:, :1], w, gamma, beta)
    refuses("step size s", folded_conv2d, x, w, gamma, beta, -s)
    at = Statistics(np.zeros(4), -np.ones(4))
    refuses("var", folded_conv2d, x, w, gamma, beta, statistics=at)
    for batch in (0, 5):
        with pytest.raises(ValueError, match=rf"in \[1, N = 4\], got {batch}"):
            calibrated_statistics(x[:1].repeat(4, 0), batch=batch)


def test_torch_computes_the_same_and_a_gamma_of_zero_has_a_gradient(rng):
    torch = pytest.importorskip("torch", reason="needs the optional package torch")
    conv2d_of_torch = torch.nn.functional.conv2d
    x, w = rng.normal(size=(4, 3, 6, 6)), rng.normal(size=(5, 3, 3, 3))
    gamma, beta, s = rng.normal(size=5), rng.normal(size=5), np.array(0.1)
    gamma[2] = 0.0
    dy = rng.normal(size=(4, 5, 6, 6))
    leaves = [torch.tensor(a, requires_grad=True) for a in (x, w, gamma, beta, s)]
    x_t, w_t, gamma_t, beta_t, s_t = leaves
    z = conv2d_of_torch(x_t, w_t, padding=1)
    mean, var = z.mean((0, 2, 3)), z.var((0, 2, 3), unbiased=False)
    gain = gamma_t / torch.sqrt(var + 1e-5)
    u = gain.reshape(-1, 1, 1, 1) * w_t / s_t
    ends = torch.full_like(u, -8), torch.full_like(u, 7)
    c = torch.where(u <= -8, ends[0], torch.where(u >= 7, ends[1], u))
    w_q = s_t * (c + (c.round() - c).detach())
    y = conv2d_of_torch(x_t, w_q, beta_t - gain * mean, padding=1)
    y.backward(torch.tensor(dy))
    mine, cache = folded_conv2d(x, w, gamma, beta, s, padding=1)
    np.testing.assert_allclose(mine, y.detach().numpy(), rtol=1e-10, atol=1e-12)
    grads = folded_conv2d_backward(dy, cache)
    for grad, leaf in zip(grads, leaves, strict=True):
        np.testing.assert_allclose(grad, leaf.grad.numpy(), rtol=1e-10, atol=1e-11)
    assert grads.dgamma[2] != 0
    assert np.any(np.abs(u.detach().numpy()) > 7)
