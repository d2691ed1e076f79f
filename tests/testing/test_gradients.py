"""The checker of gradients: what it accepts, refuses, and says."""

import numpy as np
import pytest

from refqnn import ops
from refqnn import quantizers as qz
from refqnn.testing import check_gradients, mistakes

V = np.random.default_rng(0).normal(size=(3, 5))
LSQ = {"frozen": True, "options": {"q_n": 4, "q_p": 3}}


def square(x):
    return x * x, x


def square_backward(dy, x):
    return 2 * x * dy


@pytest.mark.parametrize("wrt", [(0, 1), ("v", "s"), [0, "s"]])
def test_the_error_of_a_right_gradient_is_small_and_not_made_up(wrt):
    error = check_gradients(qz.lsq, qz.lsq_backward, (V, np.array(0.3)), wrt=wrt, **LSQ)
    assert 0 < error < 1e-6


def test_arguments_are_taken_in_float64_and_left_alone():
    v = V.astype(np.float32)
    before = v.copy()
    assert check_gradients(square, square_backward, [v], wrt="x") < 1e-6
    np.testing.assert_array_equal(v, before, strict=True)


def test_several_outputs_and_an_argument_that_is_none():
    args = (np.ones((2, 3)), np.ones((2, 3)), None)
    check_gradients(ops.linear, ops.linear_backward, args, wrt=(0, 1, 2))

    def invented(dy, cache):
        return ops.linear_backward(dy, cache)._replace(db=np.zeros(2))

    with pytest.raises(AssertionError, match="db must be None"):
        check_gradients(ops.linear, invented, args, wrt=(0, 1, 2))


def test_tiny_and_huge_scales_are_differenced_alike():
    for size in (1e-6, 1e6):
        check_gradients(square, square_backward, [V * size], wrt=0)
        with pytest.raises(AssertionError, match=r"a factor of 1\.0001"):
            check_gradients(square, lambda dy, x: 2.0002 * x * dy, [V * size], wrt=0)


@pytest.mark.parametrize(
    ("backward", "says"),
    [
        (lambda dy, x: (2 * x * dy)[0], r"dx has the shape \(5,\), x has \(3, 5\)"),
        (lambda dy, x: 2 * x * dy * np.nan, "dx is not finite"),
        (lambda dy, x: None, "dx is None, x is an array"),  # noqa: ARG005
        (lambda dy, x: (2 * x * dy, dy), "2 gradients for 1 arguments"),
        (lambda dy, x: 2 * x * dy**2, "not linear in dy"),
        (lambda dy, x: 2 * x * dy * dy.size, "the sum over 15 outputs"),
        (lambda dy, x: 2 * x * dy / dy.size, "the mean over 15 outputs"),
        (lambda dy, x: np.where(x < 0, 0, 2 * x * dy), "closed on the lower side"),
        (lambda dy, x: np.where(x > 0, 0, 2 * x * dy), "closed on the upper side"),
        (lambda dy, x: np.where(x > 0, 4 * x * dy, 2 * x * dy), "a factor of 2 on the"),
        (lambda dy, x: np.where(x > 0, -2, 2) * x * dy, "sign is turned on the upper"),
        (lambda dy, x: 2 * x * dy + x * dy.sum(), "dx"),
    ],
)
def test_every_mistake_is_named(backward, says):
    with pytest.raises(AssertionError, match=says):
        check_gradients(square, backward, [V], wrt=0)


def test_a_mistake_in_the_gradient_of_one_number_is_named():
    def total(x):
        return np.sum(x**2), x

    check_gradients(total, lambda dy, x: 2 * x * dy, [V], wrt=0)
    with pytest.raises(AssertionError, match="a factor of 2"):
        check_gradients(total, lambda dy, x: 4 * x * dy, [V], wrt=0)


def test_an_opened_mask_says_on_which_side():
    for opened, side in ((V > 0.9, "upper"), (V < -1.2, "lower")):

        def backward(dy, cache, opened=opened):
            dv, ds = qz.lsq_backward(dy, cache)
            return np.where(opened, dy, dv), ds

        with pytest.raises(AssertionError, match=f"opened on the {side} side"):
            check_gradients(qz.lsq, backward, (V, np.array(0.3)), wrt=(0, 1), **LSQ)


@pytest.mark.parametrize("slope", [1.0, -1.0])
def test_a_side_is_seen_against_places_that_let_a_gradient_through(slope):
    slopes = slope * np.array([[1.0], [0.0], [0.0], [0.0]])
    case = mistakes.Matrices(np.zeros((4, 1)), slopes, np.arange(4.0), 4)
    said = mistakes.side(np.array([[False], [True], [False], [True]]), case)
    assert said == "on the upper side (values 1 to 3)"


def test_exchanged_and_transposed_gradients():
    a, b = V[:3, :3], V[:, 2:]

    def times(a, b):
        return a @ b, (a, b)

    def right(dy, cache):
        return dy @ cache[1].T, cache[0].T @ dy

    check_gradients(times, right, (a, b), wrt=(0, 1))
    with pytest.raises(AssertionError, match="exchanged with db"):
        check_gradients(times, lambda dy, c: right(dy, c)[::-1], (a, b), wrt=(0, 1))
    with pytest.raises(AssertionError, match="transposed"):
        check_gradients(times, lambda dy, c: (right(dy, c)[0].T,), (a, b), wrt=(0,))


def test_a_straight_through_gradient_needs_the_frozen_form():
    options = {"options": LSQ["options"]}
    with pytest.raises(AssertionError, match="constant; difference its smooth form"):
        check_gradients(
            qz.lsq, qz.lsq_backward, (V, np.array(0.3)), wrt=(0, 1), **options
        )


def test_a_kink_is_no_mistake_of_the_backward():
    x = np.array([0.0, 1.0])
    with pytest.raises(AssertionError, match="jumps or bends there"):
        check_gradients(ops.relu, ops.relu_backward, [x], wrt=0)


def test_a_forward_that_forgets_the_frozen_residual_is_found():
    def forgets(v, frozen=None):
        return (np.rint(v), v) if frozen is None else (v, v)

    with pytest.raises(AssertionError, match="does not repeat its own output"):
        check_gradients(forgets, lambda dy, _: dy, [V], wrt=0, frozen=True)


@pytest.mark.parametrize(
    ("forward", "says"),
    [
        (lambda x: x * x, r"must give \(y, cache\), gives ndarray"),
        (lambda x: (x * x, x, x), r"must give \(y, cache\), gives tuple"),
        (lambda x: [x * x, x], r"must give \(y, cache\), gives list"),
        (lambda x: ((x * x).astype(np.float32), x), "gives float32 for float64"),
        (lambda x: (x * np.inf, x), "not finite"),
    ],
)
def test_a_broken_forward_is_named(forward, says):
    with pytest.raises(AssertionError, match=says):
        check_gradients(forward, square_backward, [V], wrt=0)


@pytest.mark.parametrize("wrt", [1, "y", (0, 3), -1])
def test_an_argument_that_is_not_there_raises(wrt):
    with pytest.raises(ValueError, match=r"wrt must be positions or names of \['x'\]"):
        check_gradients(square, square_backward, [V], wrt=wrt)


def test_integers_have_no_gradient():
    with pytest.raises(ValueError, match="x, which is int64"):
        check_gradients(square, square_backward, [np.arange(3)], wrt=0)
