"""LSQ+: levels, both gradients by hand, the first values, the module."""

import math

import numpy as np
import pytest
from refusals import refuses

from refqnn.core import Run
from refqnn.quantizers import (
    LSQ,
    LSQPlus,
    lsq,
    lsq_backward,
    lsq_plus,
    lsq_plus_backward,
)
from refqnn.quantizers.learned_offset import range_start

S, BETA = np.array(0.5), np.array(-0.25)


def test_levels_are_the_nearest_multiples_above_the_offset():
    x = np.arange(-32, 49) / 16
    y, cache = lsq_plus(x, S, BETA, q_p=3)
    want = [max(0, min(3, round(2 * (v + 0.25)))) for v in x.tolist()]
    np.testing.assert_array_equal(cache.q, want)
    np.testing.assert_array_equal(y, np.array(want) / 2 - 0.25)


def test_gradients_by_hand():
    x = np.array([-9.0, -0.25, 0.3, 0.9, 1.25, 9.0])
    _, cache = lsq_plus(x, S, BETA, q_p=3)
    for i, want in enumerate(
        [(0, 0, 1), (0, 0, 1), (1, 1 - 1.1, 0), (1, 2 - 2.3, 0), (0, 3, 1), (0, 3, 1)]
    ):
        dy = np.eye(6)[i]
        dx, ds, dbeta = lsq_plus_backward(dy, cache)
        np.testing.assert_allclose((dx[i], ds, dbeta), want, atol=1e-12)
        assert np.count_nonzero(dx) == want[0]


def test_without_an_offset_it_is_lsq(rng):
    x = rng.normal(size=(3, 5))
    y, cache = lsq_plus(x, S, np.zeros(()), q_n=4, q_p=3, grad_scale=0.5)
    want, of_lsq = lsq(x, S, q_n=4, q_p=3, grad_scale=0.5)
    np.testing.assert_array_equal(y, want)
    np.testing.assert_array_equal(cache.residual(), of_lsq.residual())


def test_the_first_batch_sets_both():
    x = np.array([[-1.0, 0.2], [0.4, 2.0]])
    module = LSQPlus(bits=2)
    y, _ = module.forward(x, Run(training=True))
    assert (module.s.value, module.beta.value) == (1.0, -1.0)
    np.testing.assert_array_equal(y, [[-1, 0], [0, 2]])
    module.forward(9 * x, Run(training=True))
    assert module.s.value == 1.0


def test_gradients_are_scaled_by_the_features_of_an_example(rng):
    x = rng.normal(size=(4, 3, 2, 2))
    module = LSQPlus(bits=3)
    module.set_step(0.2, -0.5)
    y, cache = module.forward(x, Run())
    dx = module.backward(np.ones_like(y), cache)
    want = lsq_plus_backward(
        np.ones_like(x), lsq_plus(x, np.array(0.2), np.array(-0.5), q_p=7)[1]
    )
    g = 1 / math.sqrt(12 * 7)
    np.testing.assert_array_equal(dx, want[0])
    np.testing.assert_allclose(module.s.grad, g * want[1], rtol=1e-12)
    np.testing.assert_allclose(module.beta.grad, g * want[2], rtol=1e-12)


def test_a_constant_batch_warns():
    with pytest.warns(UserWarning, match="x is constant"):
        s, beta = range_start(np.full(3, 0.5), q_n=0, q_p=3)
    assert (s, beta) == (np.finfo(float).eps, 0.5)
    s, beta = range_start(np.array([-4.0, 3.0]), q_n=4, q_p=3)
    assert (s, beta) == (1.0, 0.0)


def test_there_is_no_integer_zero_point():
    module = LSQPlus(bits=2)
    module.set_step(0.5, -0.25)
    refuses("no integer zero-point: round_offset", module.quantize, np.ones(3))
    refuses("beta must be finite", module.set_step, 0.5, np.nan)
    refuses("must be positive", module.set_step, 0.0, 0.0)


def test_torch_computes_the_same(rng):
    torch = pytest.importorskip("torch", reason="needs the optional package torch")
    x = rng.normal(size=(4, 6))
    t, s, beta = (
        torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (x, 0.3, -0.4)
    )
    u = (t - beta) / s
    c = torch.where(u <= 0, torch.zeros_like(u), torch.where(u >= 7, 7.0, u))
    y = s * (c + (c.round() - c).detach()) + beta
    dy = rng.normal(size=x.shape)
    y.backward(torch.tensor(dy))
    mine, cache = lsq_plus(x, np.array(0.3), np.array(-0.4), q_p=7)
    np.testing.assert_allclose(mine, y.detach().numpy(), rtol=1e-12)
    for grad, leaf in zip(lsq_plus_backward(dy, cache), (t, s, beta), strict=True):
        np.testing.assert_allclose(grad, leaf.grad.numpy(), rtol=1e-10, atol=1e-12)


# -- one step a channel of LSQ --------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1])
def test_torch_computes_the_same_with_a_step_a_channel(rng, axis):
    torch = pytest.importorskip("torch", reason="needs the optional package torch")
    x, dy = rng.normal(size=(2, 4, 4, 3, 3))
    shape = [1, 1, 1, 1]
    shape[axis] = 4
    steps = rng.uniform(0.1, 0.6, shape)
    v, s = (torch.tensor(a, requires_grad=True) for a in (x, steps))
    u, g = v / s, 1 / np.sqrt(9 * 4 * 3)
    ends = torch.full_like(u, -4), torch.full_like(u, 3)
    c = torch.where(u <= -4, ends[0], torch.where(u >= 3, ends[1], u))
    (s * (c + (c.round() - c).detach())).backward(torch.tensor(dy))
    _, cache = lsq(x, steps, q_n=4, q_p=3, grad_scale=g)
    dv, ds = lsq_backward(dy, cache)
    np.testing.assert_allclose(dv, v.grad.numpy(), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(ds, g * s.grad.numpy(), rtol=1e-10, atol=1e-12)


def channel_parts(v, of):
    axis = int(of == "activation")
    return [np.take(v, [i], axis=axis) for i in range(v.shape[axis])]


@pytest.mark.parametrize("of", ["weight", "activation"])
def test_a_step_a_channel_is_a_quantizer_a_channel(rng, of):
    v = rng.normal(size=(4, 4, 3, 3)) * np.arange(1, 5)[:, None, None, None]
    together = LSQ(bits=4, of=of, channels=4)
    y, cache = together.forward(v, Run(training=True))
    dy = rng.normal(size=v.shape)
    dx = together.backward(dy, cache)
    axis = int(of == "activation")
    for i, part in enumerate(channel_parts(v, of)):
        alone = LSQ(bits=4, of=of)
        want, alone_cache = alone.forward(part, Run(training=True))
        np.testing.assert_array_equal(np.take(y, [i], axis=axis), want)
        np.testing.assert_allclose(together.s.value[i], alone.s.value, rtol=1e-15)
        dwant = alone.backward(np.take(dy, [i], axis=axis), alone_cache)
        np.testing.assert_array_equal(np.take(dx, [i], axis=axis), dwant)
        np.testing.assert_allclose(together.s.grad[i], alone.s.grad, rtol=1e-12)


def test_steps_a_channel_are_set_stored_and_checked():
    module = LSQ(bits=2, channels=2)
    module.set_step(0.5)
    np.testing.assert_array_equal(module.s.value, [0.5, 0.5])
    module.set_step(np.array([0.5, 2.0]))
    v = np.array([[0.6, 9.0], [0.6, 9.0]])
    np.testing.assert_array_equal(module.forward(v, Run())[0], [[0.5, 0.5], [0, 2]])
    codes, levels = module.encode(v)
    np.testing.assert_array_equal(levels[codes], module.forward(v, Run())[0])
    assert module.decision_boundaries(v).shape == (2, 3)
    for wrong in (np.ones(3), np.ones((2, 1))):
        refuses(r"s must have shape \(2,\) or one number", module.set_step, wrong)
    with pytest.raises(
        ValueError, match=r"2 channels on axis 0, one a number: v\(3, 2"
    ):
        module.forward(np.ones((3, 2)), Run())
