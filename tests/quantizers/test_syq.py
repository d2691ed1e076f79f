import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refuses

from refqnn.core import Run
from refqnn.quantizers import SYQ, syq, syq_backward, syq_scale


def kernels(seed, shape=(4, 3, 3, 2)):
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape) * rng.lognormal(size=shape)


def scales(seed, shape):
    return np.random.default_rng(seed).uniform(0.3, 2, shape)


SHAPES = {"pixel": (3, 2), "row": (3, 1), "layer": ()}


@pytest.mark.parametrize("group", SHAPES)
@pytest.mark.parametrize(("levels", "eta"), [(3, 0.05), (3, 0.0), (3, 0.4), (2, 0.0)])
def test_forward_and_backward_by_plain_loops(group, levels, eta):
    w, dy = kernels(0), kernels(1)
    w[0, 0, 0, 0] = 0
    alpha = scales(2, SHAPES[group])
    y, cache = syq(w, alpha, eta=eta, levels=levels, group=group)
    dw, dalpha = syq_backward(dy, cache)
    want = np.zeros((3, 2))
    threshold = eta * np.abs(w).max()
    for o, i, r, c in np.ndindex(w.shape):
        v, scale = w[o, i, r, c], np.broadcast_to(alpha, (3, 2))[r, c]
        kept = levels == 2 or abs(v) > threshold
        code = math.copysign(1, v) if kept else 0
        assert y[o, i, r, c] == scale * code
        assert dw[o, i, r, c] == dy[o, i, r, c] * (scale if kept else 1)
        want[r, c] += dy[o, i, r, c] * code
    axes = {"pixel": (), "row": (1,), "layer": (0, 1)}[group]
    want = want.sum(axes, keepdims=group == "row")
    np.testing.assert_allclose(dalpha, want, rtol=1e-12)


def test_a_binary_zero_is_positive_and_its_slope_alpha():
    w = np.array([[0.0, -0.0, -2.0]])
    y, cache = syq(w, np.array(0.5), eta=0, levels=2, group="layer")
    np.testing.assert_array_equal(y, [[0.5, 0.5, -0.5]])
    dw, dalpha = syq_backward(np.ones_like(w), cache)
    np.testing.assert_array_equal(dw, 0.5)
    assert dalpha == 1


def test_a_weight_at_the_threshold_is_0():
    w = np.array([[4.0, 1.0, -1.0, np.nextafter(1, 2)]])
    y, _ = syq(w, np.array(1.0), eta=0.25, group="layer")
    np.testing.assert_array_equal(y, [[1, 0, 0, 1]])


def test_zeros_stay_zero_with_three_levels_only():
    w = np.zeros((2, 1, 3, 3))
    for eta in (0.0, 0.05):
        np.testing.assert_array_equal(syq(w, np.ones((3, 3)), eta=eta)[0], 0)
    np.testing.assert_array_equal(syq(w, np.ones((3, 3)), eta=0, levels=2)[0], 1)


@given(seed=st.integers(0, 2**32 - 1))
def test_codes_do_not_change_with_the_scale_of_the_weights(seed):
    w, alpha = kernels(seed), scales(seed, (3, 2))
    y, _ = syq(w, alpha, eta=0.3)
    for k in (2.0**-9, 2.0, 2.0**30):
        np.testing.assert_array_equal(syq(k * w, alpha, eta=0.3)[0], y)


@given(seed=st.integers(0, 2**32 - 1), eta=st.sampled_from([0.05, 0.3]))
def test_twice_is_once_if_the_scales_are_alike(seed, eta):
    """Min alpha > eta max alpha: no kept weight falls below the next threshold."""
    rng = np.random.default_rng(seed)
    alpha = rng.uniform(1.001 * eta, 1, (3, 2))
    once, _ = syq(kernels(seed), alpha, eta=eta)
    np.testing.assert_array_equal(syq(once, alpha, eta=eta)[0], once)


def test_twice_may_drop_a_pixel_if_they_are_not():
    w, alpha = np.ones((1, 1, 1, 2)), np.array([[0.02, 1.0]])
    once, _ = syq(w, alpha, eta=0.05)
    np.testing.assert_array_equal(once.ravel(), [0.02, 1])
    np.testing.assert_array_equal(syq(once, alpha, eta=0.05)[0].ravel(), [0, 1])


def test_the_condition_is_not_necessary():
    """The large scale occurs with code 0 only: nothing is dropped."""
    w = np.array([1.0, 0.0]).reshape(1, 1, 1, 2)
    alpha = np.array([[0.02, 1.0]])
    once, _ = syq(w, alpha, eta=0.05)
    np.testing.assert_array_equal(syq(once, alpha, eta=0.05)[0], once)


def test_a_scale_that_is_not_positive_warns():
    w = np.array([[1.0, -2.0]])
    with pytest.warns(UserWarning, match="alpha <= 0 flips or drops"):
        y, _ = syq(w, np.array(-0.5), eta=0.05)
    np.testing.assert_array_equal(y, [[-0.5, 0.5]])
    with pytest.warns(UserWarning, match="alpha <= 0"):
        assert not syq(w, np.array(0.0), eta=0.05)[0].any()


def test_scales_of_every_rank():
    w, alpha = kernels(7), scales(8, (3, 2))
    y, cache = syq(w, alpha, eta=0.05)
    long, long_cache = syq(w, alpha[None, None], eta=0.05)
    np.testing.assert_array_equal(y, long)
    short_grad, long_grad = (
        syq_backward(np.ones_like(w), c)[1] for c in (cache, long_cache)
    )
    assert (short_grad.shape, long_grad.shape) == ((3, 2), (1, 1, 3, 2))
    np.testing.assert_array_equal(short_grad, long_grad[0, 0])
    for alpha in (np.array(0.5), np.array([[0.5]])):
        for group in SHAPES:
            assert syq(np.ones((4, 5)), alpha, eta=0.05, group=group)[0].max() == 0.5


def test_the_first_scales_are_the_means_of_the_groups():
    w = kernels(9)
    a = np.abs(w)
    for group, axes in {
        "pixel": (0, 1),
        "row": (0, 1, 3),
        "layer": (0, 1, 2, 3),
    }.items():
        want = a.mean(axes, keepdims=True)
        np.testing.assert_allclose(syq_scale(w, group=group), want, rtol=1e-14)
    np.testing.assert_allclose(
        syq_scale(w[:, 0, 0], group="pixel"), [[a[:, 0, 0].mean()]]
    )


# -- the module -----------------------------------------------------------------------


@pytest.mark.parametrize("group", SHAPES)
def test_the_first_training_pass_sets_the_scales_and_no_other(group):
    module = SYQ((3, 2), group=group)
    w = kernels(10)
    y, _ = module.forward(w, Run(training=True))
    first = syq_scale(w, group=group)
    np.testing.assert_array_equal(module.alpha.value.ravel(), first.ravel())
    assert module.alpha.value.shape == SHAPES[group]
    np.testing.assert_array_equal(y, syq(w, first, eta=0.05, group=group)[0])
    module.forward(5 * w, Run(training=True))
    np.testing.assert_array_equal(module.alpha.value.ravel(), first.ravel())


def test_eta_is_that_of_the_paper_unless_given():
    assert SYQ().share() == 0.05
    assert SYQ(levels=2).share() == 0
    assert SYQ(eta=0.3).share() == 0.3


def test_bits_of_a_call_are_those_of_the_levels():
    for levels in (2, 3):
        module = SYQ(levels=levels)
        v = np.ones((2, 2))
        module.forward(v, Run(training=True), bits=levels - 1)
        for bits in (True, 4, 4 - levels):
            refuses("bits must be", module.forward, v, Run(), bits=bits)


@pytest.mark.parametrize("kernel", [(3, 3), (2, 3), (1, 1)])
def test_scales_of_another_kernel_raise(kernel):
    module = SYQ((3, 2))
    refuses(r"alpha must have the shape \(3, 2\)", module.set_scale, np.ones(kernel))
    with pytest.raises(ValueError, match=r"alpha must have the shape \(3, 2\)"):
        module.forward(kernels(13, (2, 2, *kernel)), Run(training=True))
    assert module.known.value == 0


def test_codebooks_of_the_pixels_stand_one_after_another():
    module = SYQ((1, 2))
    module.set_scale([[0.5, 2.0]])
    w = np.array([[4.0, 1.0], [-1.0, 0.0]]).reshape(2, 1, 1, 2)
    codes, levels = module.encode(w)
    np.testing.assert_array_equal(levels, [-0.5, 0, 0.5, -2, 0, 2])
    np.testing.assert_array_equal(codes.reshape(2, 2), [[2, 5], [0, 4]])
    np.testing.assert_array_equal(module.decision_boundaries(w), [[-0.2, 0.2]] * 2)
