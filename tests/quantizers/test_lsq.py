import math

import numpy as np
import pytest
from refusals import refuses

from refqnn.core import Run
from refqnn.quantizers import LSQ, lsq, lsq_backward
from refqnn.quantizers.learned_step_size import lsq_levels, lsq_step
from refqnn.quantizers.module import positive


def test_equation_1_is_the_nearest_multiple_ties_to_even():
    v = np.arange(-48, 49) / 16  # s = 1/2: ties at odd quarters
    y, cache = lsq(v, np.array(0.5), q_n=4, q_p=3)
    want = [max(-4, min(3, round(2 * x))) / 2 for x in v.tolist()]
    np.testing.assert_array_equal(y, want)
    np.testing.assert_array_equal(cache.q, np.array(want) * 2)


def test_equation_3_by_hand():
    v = np.array([-9.0, -2.0, -1.9, 0.6, 1.4, 1.5, 9.0])
    dv, ds = lsq_backward(np.ones(7), lsq(v, np.array(0.5), q_n=4, q_p=3)[1])
    np.testing.assert_array_equal(dv, [0, 0, 1, 1, 1, 0, 0])
    # -4, -4, -4 + 3.8, 1 - 1.2, 3 - 2.8, 3, 3
    np.testing.assert_allclose(ds, -8 + 6 - 0.2 - 0.2 + 0.2)


def test_the_true_slope_in_s_is_another():
    v, s, h = np.array([0.6]), np.array(0.5), 1e-6
    args = {"q_n": 4, "q_p": 3}
    true = (lsq(v, s + h, **args)[0] - lsq(v, s - h, **args)[0]) / (2 * h)
    np.testing.assert_allclose(true, 1)  # the code itself
    _, ds = lsq_backward(np.ones(1), lsq(v, s, **args)[1])
    np.testing.assert_allclose(ds, 1 - 1.2)


def test_a_step_for_every_filter():
    v = np.array([[0.6, 9.0], [0.6, 9.0]])
    s = np.array([[0.5], [2.0]])
    y, cache = lsq(v, s, q_n=4, q_p=3)
    np.testing.assert_array_equal(y, [[0.5, 1.5], [0, 6]])
    _, ds = lsq_backward(np.ones((2, 2)), cache)
    np.testing.assert_allclose(ds, [[1 - 1.2 + 3], [0 - 0.3 + 3]])


def test_quotients_beyond_the_largest_number_saturate():
    v = np.array([1e19, -1e19, 0.0], np.float32)
    tiny = np.finfo(np.float32).tiny
    y, cache = lsq(v, np.array(tiny), q_n=4, q_p=3)
    np.testing.assert_array_equal(y, np.float32([3, -4, 0]) * tiny)
    dv, ds = lsq_backward(np.ones(3, np.float32), cache)
    np.testing.assert_array_equal(dv, [0, 0, 1])
    assert ds == -1
    replayed, _ = lsq(v, np.array(tiny), q_n=4, q_p=3, frozen=cache)
    np.testing.assert_array_equal(replayed, y)


@pytest.mark.parametrize("s", [0.0, -0.5, 1e-310, np.nan, np.inf])
def test_steps_that_are_none_raise(s):
    with pytest.raises(
        ValueError, match=r"step size s must be positive|s must be finite"
    ):
        lsq(np.ones(2), np.array(s), q_n=4, q_p=3)
    refuses("s must be", LSQ().set_step, s)


def test_one_bad_step_among_good_ones_raises():
    with pytest.raises(ValueError, match="step size s must be positive"):
        lsq(np.ones((2, 1)), np.array([[1.0], [0.0]]), q_n=4, q_p=3)


@pytest.mark.parametrize(
    "ends", [(-1, 3), (4, 0), (2**15 + 1, 3), (0, 2**16), (True, 3), (4, 3.0)]
)
def test_grids_that_are_none_raise(ends):
    refuses(r"q_n|q_p", lsq, np.ones(2), np.array(1.0), q_n=ends[0], q_p=ends[1])


def test_the_widest_grids_are_allowed():
    lsq(np.ones(1), np.array(1.0), q_n=2**15, q_p=2**15 - 1)
    lsq(np.ones(1), np.array(1.0), q_n=0, q_p=2**16 - 1)


def test_levels_of_weights_and_activations():
    assert lsq_levels(2, signed=True) == (2, 1)
    assert lsq_levels(1, signed=False) == (0, 1)
    refuses(r"bits must be an int in \[2, 16\], got 1", lsq_levels, 1, signed=True)
    assert LSQ(bits=1, of="activation").ends() == (0, 1)


# -- the module -----------------------------------------------------------------------


def test_the_first_training_pass_sets_the_step_and_no_other():
    v = np.array([[1.0, -3.0]])
    module = LSQ(bits=3)
    module.forward(v, Run(training=True))
    np.testing.assert_allclose(module.s.value, 2 * 2 / math.sqrt(3))
    module.forward(9 * v, Run(training=True))
    np.testing.assert_allclose(module.s.value, 4 / math.sqrt(3))


@pytest.mark.parametrize("value", [0.0, 1e-320])
def test_values_that_are_all_zero_warn_and_leave_a_step(value):
    with pytest.warns(UserWarning, match="v is all zero"):
        assert lsq_step(np.full(3, value), q_p=7) == np.finfo(np.float64).eps


def test_small_values_that_are_normal_have_a_step_of_their_own():
    tiny = float(np.finfo(np.float64).tiny)
    for value in (tiny, 1e-30):  # 2 mean|v| / sqrt(4)
        np.testing.assert_allclose(
            lsq_step(np.full(2, value), q_p=4), value, rtol=1e-15
        )


def test_the_gradient_scale_counts_weights_or_features():
    v = np.ones((4, 2, 3))
    assert LSQ().grad_scale(v, 7) == 1 / math.sqrt(24 * 7)
    assert LSQ(of="activation").grad_scale(v, 15) == 1 / math.sqrt(6 * 15)


def test_the_module_scales_the_gradient_of_its_step(rng):
    v, dy = rng.normal(size=(2, 4, 3))
    module = LSQ(bits=3)
    assert module.s.project is positive
    module.backward(dy, module.forward(v, Run(training=True))[1])
    plain = lsq_backward(dy, lsq(v, module.s.value, q_n=4, q_p=3)[1])[1]
    np.testing.assert_allclose(module.s.grad, plain / math.sqrt(12 * 3))
