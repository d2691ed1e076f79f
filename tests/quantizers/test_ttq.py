"""TTQ: the sign that equation (7) lacks, and learned levels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refqnn.core import Run
from refqnn.quantizers import TTQ, ttq, ttq_backward

seeds = st.integers(0, 2**32 - 1)


def by_loops(w, wp, wn, t):
    delta = t * max(abs(x) for x in w.ravel())
    y = [wp if x > delta else -wn if x < -delta else 0 for x in w.ravel()]
    return np.array(y).reshape(w.shape)


@given(seeds, st.floats(0, 0.9))
def test_equation_6_by_plain_loops(seed, t):
    w = np.random.default_rng(seed).normal(size=(3, 2, 2))
    np.testing.assert_array_equal(ttq(w, 0.7, 0.4, t=t)[0], by_loops(w, 0.7, 0.4, t))


def slopes_in_the_levels(w, dy, t):
    """Differences of the quantizer itself: nothing is rounded between level and y."""
    h, slopes = 0.125, []
    for step in ((h, 0), (0, h)):
        up, down = (
            ttq(w, 1 + sign * step[0], 1 + sign * step[1], t=t)[0] for sign in (1, -1)
        )
        slopes.append(np.sum(dy * (up - down)) / (2 * h))
    return slopes


@given(seeds)
def test_the_sign_of_equation_7_is_wrong_for_the_negative_level(seed):
    w, dy = np.random.default_rng(seed).normal(size=(2, 3, 4))
    t = 0.2
    delta = t * np.abs(w).max()
    _, dwp, dwn = ttq_backward(dy, ttq(w, np.ones(()), np.ones(()), t=t)[1])
    np.testing.assert_allclose([dwp, dwn], slopes_in_the_levels(w, dy, t), atol=1e-12)
    np.testing.assert_allclose(dwp, dy[w > delta].sum(), atol=1e-12)
    as_printed = dy[w < -delta].sum()
    np.testing.assert_allclose(dwn, -as_printed, atol=1e-12)


def test_descent_with_the_printed_sign_moves_away_from_the_weights():
    w = np.array([[-2.0, -2.0, 2.0]])
    y, cache = ttq(w, 2.0, 1.0, t=0.05)
    dwn = ttq_backward(y - w, cache).dwn  # of half the squared error
    after = {sign: 1 - 0.1 * sign * dwn for sign in (1, -1)}
    errors = {
        s: np.sum((ttq(w, 2.0, wn, t=0.05)[0] - w) ** 2) for s, wn in after.items()
    }
    assert errors[1] < np.sum((y - w) ** 2) < errors[-1]


def test_equation_8_by_hand():
    w = np.array([[1.0, 0.1, -0.1, -1.0]])
    _, cache = ttq(w, 3.0, 5.0, t=0.2)
    dw = ttq_backward(np.array([[1.0, 2.0, 3.0, 4.0]]), cache).dw
    np.testing.assert_array_equal(dw, [[3, 2, 3, 20]])


def test_a_weight_on_the_threshold_is_zero_and_no_weight_is_kept_from_t_1_on():
    w = np.array([[1.0, 0.25, -0.25]])
    np.testing.assert_array_equal(ttq(w, 1.0, 1.0, t=0.25)[0], [[1, 0, 0]])
    for t in (1, 1.5):
        np.testing.assert_array_equal(ttq(w, 1.0, 1.0, t=t)[0], 0)


def test_the_threshold_belongs_to_the_layer():
    w = np.array([[10.0, 1.0], [1.0, 0.5]])
    np.testing.assert_array_equal(ttq(w, 1.0, 1.0, t=0.1)[0], [[1, 0], [0, 0]])


@pytest.mark.parametrize(("wp", "wn"), [(1, 1), (0.7, 0.4), (1, 0.03), (0.06, 1)])
def test_idempotent_where_the_smaller_level_passes_the_threshold(wp, wn):
    t = 0.05
    y, _ = ttq(np.array([[1.0, -1.0, 0.0]]), wp, wn, t=t)
    again = np.array_equal(ttq(y, wp, wn, t=t)[0], y)
    assert again == (min(wp, wn) > t * max(wp, wn))


# -- the module -----------------------------------------------------------------------


def test_levels_start_at_one(rng):
    y, _ = TTQ().forward(rng.normal(size=(3, 4)), Run(training=True))
    np.testing.assert_array_equal(np.unique(y), [-1, 0, 1])


def test_the_projection_keeps_the_levels_positive():
    module = TTQ()
    for p in (module.wp, module.wn):
        assert p.project(np.array(-0.71)) > 0
        assert p.project(np.array(0.25)) == 0.25
        p.value = p.project(np.array(-0.71))
    module.forward(np.ones((1, 1), np.float32), Run())


def test_the_share_of_the_threshold_is_the_module_s():
    w = np.array([[1.0, 0.4]])
    np.testing.assert_array_equal(TTQ(t=0.5).forward(w, Run())[0], [[1, 0]])
    np.testing.assert_array_equal(TTQ(t=0.3).forward(w, Run())[0], [[1, 1]])
