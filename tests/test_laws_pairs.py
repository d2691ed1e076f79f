"""The laws of every forward and backward pair, over the table of all pairs.

A public pair of refqnn.ops without a row makes the suite fail. Each checker is shown to
reject a wrong implementation.
"""

import inspect
import re
from dataclasses import replace
from importlib import resources

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import quantizers
from tables.ops import PAIRS

from refqnn import ops
from refqnn.testing.pairs import (
    check_batch_independence,
    check_dtype,
    check_linear_in_dy,
    check_loop,
    check_rejects_wrong_gradients,
    check_replay,
    check_untouched,
    check_vjp,
)

PARTS = {
    "conv2d_input_grad",
    "conv2d_weight_grad",
    "log_softmax",
    "residual",
    "sum_to",
}
BY_NAME = {pair.name: pair for pair in PAIRS}
#: the quantizers, too, are pairs
ALL = [*PAIRS, *quantizers.PAIRS]
every_pair = pytest.mark.parametrize("pair", ALL, ids=str)
every_op = pytest.mark.parametrize("pair", PAIRS, ids=str)
drawn = given(seed=st.integers(0, 2**32 - 1))


# The laws


@every_pair
@drawn
def test_vjp_equals_the_numerical_directional_derivative(pair, seed):
    rng = np.random.default_rng(seed)
    check_vjp(pair, *pair.draw(rng), rng)


@every_pair
@drawn
def test_backward_is_linear_in_dy(pair, seed):
    rng = np.random.default_rng(seed)
    check_linear_in_dy(pair, *pair.draw(rng), rng)


@every_pair
@drawn
def test_nothing_is_mutated_or_aliased(pair, seed):
    rng = np.random.default_rng(seed)
    check_untouched(pair, *pair.draw(rng), rng)


@every_op
@drawn
def test_agrees_with_plain_loops(pair, seed):
    check_loop(pair, *pair.draw(np.random.default_rng(seed)))


@every_pair
@drawn
def test_dtype_is_kept(pair, seed):
    rng = np.random.default_rng(seed)
    check_dtype(pair, *pair.draw(rng), rng)


@pytest.mark.parametrize("pair", [p for p in PAIRS if p.batch], ids=str)
@drawn
def test_images_do_not_see_each_other(pair, seed):
    check_batch_independence(pair, *pair.draw(np.random.default_rng(seed)))


@pytest.mark.parametrize("pair", [p for p in ALL if p.straight_through], ids=str)
@drawn
def test_replay_repeats_the_recorded_point(pair, seed):
    check_replay(pair, *pair.draw(np.random.default_rng(seed)))


@every_pair
@drawn
def test_wrong_gradients_raise(pair, seed):
    check_rejects_wrong_gradients(pair, *pair.draw(np.random.default_rng(seed)))


@pytest.mark.parametrize(
    ("pair", "message", "args", "options"),
    [(pair, *wrong) for pair in PAIRS for wrong in pair.wrong],
)
def test_wrong_inputs_raise(pair, message, args, options):
    with pytest.raises(ValueError, match=message):
        pair.forward(*args, **options)


@every_op
@pytest.mark.parametrize("dtype", [np.float16, np.int64, np.complex128])
def test_other_dtypes_raise(pair, dtype):
    args, options = pair.draw(np.random.default_rng(0))
    for at in [at for at in pair.wrt if args[at] is not None]:
        there = [*args]
        there[at] = args[at].astype(dtype)
        with pytest.raises(ValueError, match="must be a float32 or float64 array"):
            pair.forward(*there, **options)


# The table is complete


def public_functions():
    return {n for n, f in vars(ops).items() if inspect.isfunction(f)}


def missing_rows(names, rows):
    """Public names that are neither half of a row nor a declared part."""
    halves = {f"{row}{end}" for row in rows for end in ("", "_backward")}
    return names - halves - PARTS


def test_every_public_function_has_a_row():
    assert missing_rows(public_functions(), BY_NAME) == set()


def test_a_new_pair_without_a_row_is_noticed():
    names = public_functions() | {"gelu", "gelu_backward"}
    assert missing_rows(names, BY_NAME) == {"gelu", "gelu_backward"}


def headings(text):
    return re.findall(r"^## (\w+)", text, flags=re.MULTILINE)


def test_every_pair_is_derived_in_file_order():
    text = resources.files("refqnn.ops").joinpath("DERIVATIONS.md").read_text("utf-8")
    by_file = sorted(
        PAIRS,
        key=lambda p: (p.forward.__module__, inspect.getsourcelines(p.forward)[1]),
    )
    assert headings(text) == [pair.name for pair in by_file]


# The checkers reject


def broken(name, **halves):
    """The row with one half replaced by ``wrong(right result, ...)``."""
    pair = BY_NAME[name]
    changed = {}
    for half, wrong in halves.items():
        right = getattr(pair, half)
        changed[half] = lambda *a, _f=right, _w=wrong, **k: _w(_f(*a, **k), *a)
    return replace(pair, **changed)


def scale_first(by):
    return lambda grads, *_: type(grads)(grads[0] * by, *grads[1:])


X = (np.array([[1.0, -2.0, 3.0]]),)
WX = (*X, np.ones((2, 3)), np.zeros(2))


def test_check_vjp_rejects_a_wrong_sign_a_factor_and_a_wrong_argument(rng):
    for wrong in (
        broken("relu", backward=lambda dx, *_: -dx),
        broken("relu", backward=lambda dx, *_: dx * (1 + 1e-5)),
        broken("relu", backward=lambda dx, *_: dx[0]),
    ):
        with pytest.raises(AssertionError):
            check_vjp(wrong, X, {}, rng)
    with pytest.raises(AssertionError):
        check_vjp(broken("linear", backward=scale_first(2)), WX, {}, rng)
    bare = (*WX[:2], None)
    wrong = broken("linear", backward=lambda g, *_: g._replace(db=np.zeros(2)))
    with pytest.raises(AssertionError):
        check_vjp(wrong, bare, {}, rng)


def test_check_linear_rejects_an_offset_and_a_square(rng):
    for bend in (lambda dx, *_: dx + 1, lambda dx, *_: dx**2):
        with pytest.raises(AssertionError):
            check_linear_in_dy(broken("relu", backward=bend), X, {}, rng)


def overwrite(result, x, *_):
    x[...] = 0
    return result


def test_check_untouched_rejects_mutation_and_aliases(rng):
    def fresh():
        return (X[0].copy(),)

    for wrong in (
        broken("relu", forward=overwrite),
        broken("relu", backward=overwrite),
        broken("relu", forward=lambda y, x: (x[:], y[1])),
        broken("relu", backward=lambda dx, dy, *_: dy),  # noqa: ARG005 - same signature
    ):
        with pytest.raises(AssertionError):
            check_untouched(wrong, fresh(), {}, rng)
    wrong = broken("add", backward=lambda g, *_: (g[0], g[0]))
    with pytest.raises(AssertionError):
        check_untouched(wrong, (X[0], X[0] + 1), {}, rng)


def test_check_loop_rejects_a_value_and_a_shape():
    for bend in (lambda y, *_: (y[0] + 1e-9, y[1]), lambda y, *_: (y[0][None], y[1])):
        with pytest.raises(AssertionError):
            check_loop(broken("relu", forward=bend), X, {})


def test_check_dtype_rejects_float64_on_either_way(rng):
    for wrong in (
        broken("relu", forward=lambda y, *_: (y[0].astype(np.float64), y[1])),
        broken("relu", backward=lambda dx, *_: dx.astype(np.float64)),
    ):
        with pytest.raises(AssertionError):
            check_dtype(wrong, X, {}, rng)


def test_check_batch_independence_rejects_the_mean_of_the_batch(rng):
    wrong = broken("relu", forward=lambda y, *_: (y[0] - y[0].mean(0), y[1]))
    with pytest.raises(AssertionError):
        check_batch_independence(wrong, (rng.normal(size=(3, 4)),), {})


def test_check_replay_rejects_a_forgotten_residual():
    pair = BY_NAME["straight_through_round"]

    def forgets(x, frozen=None):
        y, cache = pair.forward(x)
        return (y, cache) if frozen is None else (x, cache)

    with pytest.raises(AssertionError):
        check_replay(replace(pair, forward=forgets), (np.array([0.3]),), {})


def test_check_wrong_gradients_rejects_silent_broadcasting():
    quiet = replace(BY_NAME["relu"], backward=lambda dy, cache: dy * cache.inside)
    with pytest.raises(AssertionError):
        check_rejects_wrong_gradients(quiet, X, {})
