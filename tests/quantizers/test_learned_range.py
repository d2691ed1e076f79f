"""A learned minimum and maximum: the grid, both gradients by hand, the module."""

import numpy as np
import pytest

from refqnn.core import Run
from refqnn.nn import SGD
from refqnn.quantizers import (
    PACT,
    Affine,
    LearnedMinMax,
    learned_min_max,
    learned_min_max_backward,
)

LO, HI = np.array(-1.1), np.array(1.9)  # s = 1, lo / s = -1.1, Z = 1, levels -1 .. 2


def test_levels():
    x = np.array([-9.0, -1.4, -0.6, 0.5, 1.5, 1.6, 2.4, 9.0])
    y, _ = learned_min_max(x, LO, HI, bits=2)
    np.testing.assert_array_equal(y, [-1, -1, -1, 0, 2, 2, 2, 2])


def test_gradients_by_hand():
    """Inside e is that of x, outside that of lo: -1 + 1.1."""
    x = np.array([-9.0, -1.4, 0.3, 1.8, 2.4, 9.0])
    _, cache = learned_min_max(x, LO, HI, bits=2)
    wants = [
        (0, 1 - 0.1 / 3, 0.1 / 3),
        (1, -0.4 / 3, 0.4 / 3),
        (1, 0.3 / 3, -0.3 / 3),
        (1, -0.2 / 3, 0.2 / 3),
        (1, 0.4 / 3, -0.4 / 3),
        (0, -0.1 / 3, 1 + 0.1 / 3),
    ]
    for i, want in enumerate(wants):
        dx, dlo, dhi = learned_min_max_backward(np.eye(6)[i], cache)
        np.testing.assert_allclose((dx[i], dlo, dhi), want, atol=1e-12)


def test_the_sum_of_both_ends_and_x_is_dy(rng):
    """Moving x, lo and hi together moves y as much: translation, up to roundings."""
    x = rng.normal(size=(5, 7))
    _, cache = learned_min_max(x, np.array(-0.7), np.array(1.2), bits=3)
    dy = rng.normal(size=x.shape)
    dx, dlo, dhi = learned_min_max_backward(dy, cache)
    np.testing.assert_allclose(dx.sum() + dlo + dhi, dy.sum(), rtol=1e-12)


def test_the_grid_is_that_of_the_affine_quantizer(rng):
    x = rng.normal(size=(5, 7))
    affine, learned = Affine(bits=4), LearnedMinMax(bits=4)
    for module in (affine, learned):
        module.set_range(-0.7, 1.3)
    for mine, theirs in zip(learned.quantize(x), affine.quantize(x), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_torch_computes_the_same(rng):
    torch = pytest.importorskip("torch", reason="needs the optional package torch")
    x, dy = rng.normal(size=(2, 4, 6))
    t, lo, hi = (
        torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (x, -0.7, 1.1)
    )

    def rounded(v):
        return v + (v.round() - v).detach()

    s = (hi - lo) / 7
    z = rounded(lo / s)
    y = s * (torch.clamp(rounded(t / s) - z, 0, 7) + z)
    y.backward(torch.tensor(dy))
    mine, cache = learned_min_max(x, np.array(-0.7), np.array(1.1), bits=3)
    np.testing.assert_allclose(mine, y.detach().numpy(), rtol=1e-12, atol=1e-12)
    grads = learned_min_max_backward(dy, cache)
    for grad, leaf in zip(grads, (t, lo, hi), strict=True):
        np.testing.assert_allclose(grad, leaf.grad.numpy(), rtol=1e-10, atol=1e-12)


def test_the_first_batch_sets_the_range_and_steps_keep_0_in_it():
    module = LearnedMinMax(bits=2)
    module.forward(np.array([0.5, 3.0]), Run(training=True))
    assert (module.lo.value, module.hi.value) == (0.0, 3.0)
    module.forward(np.array([-5.0, 9.0]), Run(training=True))
    assert (module.lo.value, module.hi.value) == (0.0, 3.0)
    module.lo.grad[...], module.hi.grad[...] = -1.0, 100.0
    SGD({"lo": module.lo, "hi": module.hi}).step(lr=1.0)
    assert (module.lo.value, module.hi.value) == (0.0, 2.0**-20)
    all_zero = LearnedMinMax()
    y, _ = all_zero.forward(np.zeros(3), Run(training=True))
    np.testing.assert_array_equal(y, 0)


def test_a_clipping_level_a_channel_is_pact_a_channel(rng):
    x = np.abs(rng.normal(size=(4, 3, 5, 5))) * np.array([1.0, 2.0, 4.0])[:, None, None]
    options = {"bits": 3, "percentile": 90.0, "decay": 0.01, "scope": "rounding"}
    together = PACT(channels=3, **options)
    y, cache = together.forward(x, Run(training=True))
    dy = rng.normal(size=x.shape)
    dx = together.backward(dy, cache)
    for i in range(3):
        alone = PACT(**options)
        want, alone_cache = alone.forward(x[:, i : i + 1], Run(training=True))
        np.testing.assert_array_equal(y[:, i : i + 1], want)
        dwant = alone.backward(dy[:, i : i + 1], alone_cache)
        np.testing.assert_array_equal(dx[:, i : i + 1], dwant)
        assert together.alpha.value[i] == alone.alpha.value
        np.testing.assert_allclose(together.alpha.grad[i], alone.alpha.grad, rtol=1e-12)
    codes, levels = together.encode(x)
    np.testing.assert_array_equal(levels[codes], together.forward(x, Run())[0])
    together.set_alpha(2.0)
    np.testing.assert_array_equal(together.alpha.value, [2, 2, 2])
    with pytest.raises(ValueError, match=r"alpha must have shape \(3,\) or one number"):
        together.set_alpha(np.ones(2))
    with pytest.raises(ValueError, match="alpha must"):
        together.set_alpha(np.array([1.0, -1.0, 1.0]))
    with pytest.raises(
        ValueError, match=r"3 channels on axis 1, one a number: v\(2, 4"
    ):
        together.forward(np.ones((2, 4)), Run())
