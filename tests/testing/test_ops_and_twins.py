"""``check_op`` and ``check_twin`` accept what is right and reject each broken law."""

import numpy as np
import pytest
from tables import draws

from refqnn import fast, ops
from refqnn.testing import check_op, check_twin

X = [np.array([[1.0, -2.0, 3.0], [0.5, -0.25, 2.0]])]


def copied(x):
    return x.copy(), None


def overwrites(x):
    x[...] = 1
    return x.copy(), None


def test_an_op_keeps_every_law():
    assert check_op(ops.relu, ops.relu_backward, X, batch=(0,)) < 1e-6
    error = check_op(
        ops.conv2d, ops.conv2d_backward, draws.conv2d, wrt=(0, 1, 2), examples=5
    )
    assert error < 1e-6
    rounding = ops.straight_through_round, ops.straight_through_round_backward
    check_op(*rounding, draws.elementwise, frozen=True, examples=5)


@pytest.mark.parametrize(
    ("forward", "backward", "says"),
    [
        (copied, lambda dy, _: 2 * dy, "a factor of 2"),
        (lambda x: (x, None), lambda dy, _: dy.copy(), "shares its memory with"),
        (copied, lambda dy, _: dy, "shares its memory with"),
        (overwrites, lambda dy, _: dy * 0, "is written to"),
        (
            lambda x: (x.copy(), None),
            lambda dy, _: dy.astype(np.float64),
            "the dtype is float64",
        ),
        (lambda x: (x - x.mean(0), None), lambda dy, _: dy - dy.mean(0), "in company"),
    ],
)
def test_an_op_that_breaks_a_law_is_named(forward, backward, says):
    with pytest.raises(AssertionError, match=says):
        check_op(forward, backward, X, batch=(0,))


def test_an_op_is_held_to_its_other_statement():
    with pytest.raises(AssertionError):
        check_op(copied, lambda dy, _: dy.copy(), X, loop=lambda x: x + 1e-9)


def test_a_twin_keeps_every_law():
    def draw(rng):
        return (rng.normal(size=(2, 3, 4, 4)).astype(np.float32),), {}

    assert check_twin(fast.ops.relu, ops.relu, draw=draw) == 20
    assert check_twin(lambda x: x + x, lambda x: 2 * x, examples=3) == 3


@pytest.mark.parametrize(
    "twin",
    [
        lambda x: 2 * x + np.asarray(1e-6, x.dtype),
        lambda x: 2 * x.astype(np.float32),
        lambda x: 2 * x.ravel(),
        lambda x: np.nan_to_num(2 * x),
        lambda x: x,
    ],
)
def test_a_twin_that_breaks_a_law_is_rejected(twin):
    with pytest.raises(AssertionError):
        check_twin(twin, lambda x: 2 * x)


def test_a_bound_allows_what_it_says_and_no_more():
    def near(x):
        return np.asarray(2 * x * (1 + np.finfo(x.dtype).eps))

    def bound(args, kwargs, want):  # noqa: ARG001 - the signature of bounds
        return 2 * float(np.finfo(args[0].dtype).eps) * np.abs(want) + 1e-37

    check_twin(near, lambda x: 2 * x, bound=bound)
    for wrong in (0.0, lambda a, k, w: bound(a, k, w) / 8):
        with pytest.raises(AssertionError):
            check_twin(near, lambda x: 2 * x, bound=wrong)
    with pytest.raises(ValueError, match="examples must be at least 1"):
        check_twin(near, near, examples=0)
