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
from checkers import check_rejects_wrong_gradients
from hypothesis import given
from hypothesis import strategies as st
from refusals import refuses
from tables import quantizers
from tables.ops import PAIRS

from refqnn import ops
from refqnn.testing.pairs import (
    check_batch_independence,
    check_dtype,
    check_linear_in_dy,
    check_loop,
    check_replay,
    check_untouched,
    check_vjp,
)

PARTS = {"conv2d_input_grad", "conv2d_weight_grad", "log_softmax", "residual", "sum_to"}
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
def test_other_laws_of_gradients(pair, seed):
    """Linear in dy, nothing mutated or aliased, the dtype kept: of one draw."""
    for check in (check_linear_in_dy, check_untouched, check_dtype):
        rng = np.random.default_rng(seed)
        check(pair, *pair.draw(rng), rng)


@every_op
@drawn
def test_agrees_with_plain_loops(pair, seed):
    check_loop(pair, *pair.draw(np.random.default_rng(seed)))


@every_pair
@drawn
def test_replays_refusals_and_independence(pair, seed):
    """A replay repeats the record; wrong gradients raise; images are apart."""
    checks = [check_rejects_wrong_gradients]
    checks += [check_replay] if pair.straight_through else []
    checks += [check_batch_independence] if pair.batch and pair in PAIRS else []
    for check in checks:
        check(pair, *pair.draw(np.random.default_rng(seed)))


@pytest.mark.parametrize(
    ("pair", "message", "args", "options"),
    [(pair, *wrong) for pair in PAIRS for wrong in pair.wrong],
)
def test_wrong_inputs_raise(pair, message, args, options):
    refuses(message, pair.forward, *args, **options)


@every_op
@pytest.mark.parametrize("dtype", [np.float16, np.int64, np.complex128])
def test_other_dtypes_raise(pair, dtype):
    args, options = pair.draw(np.random.default_rng(0))
    for at in [at for at in pair.wrt if args[at] is not None]:
        there = [*args]
        there[at] = args[at].astype(dtype)
        refuses("must be a float32 or float64 array", pair.forward, *there, **options)


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


def overwrite(result, x, *_):
    x[...] = 0
    return result


NO_BIAS = (*WX[:2], None)
TWO = (X[0], X[0] + 1)
#: check, op, half, what becomes of its result, arguments
MISTAKES = (
    (check_vjp, "relu", "backward", lambda dx, *_: -dx, X),
    (check_vjp, "relu", "backward", lambda dx, *_: dx * (1 + 1e-5), X),
    (check_vjp, "relu", "backward", lambda dx, *_: dx[0], X),
    (check_vjp, "linear", "backward", scale_first(2), WX),
    (
        check_vjp,
        "linear",
        "backward",
        lambda g, *_: g._replace(db=np.zeros(2)),
        NO_BIAS,
    ),
    (check_linear_in_dy, "relu", "backward", lambda dx, *_: dx + 1, X),
    (check_linear_in_dy, "relu", "backward", lambda dx, *_: dx**2, X),
    (check_untouched, "relu", "forward", overwrite, X),
    (check_untouched, "relu", "backward", overwrite, X),
    (check_untouched, "relu", "forward", lambda y, x: (x[:], y[1]), X),
    (check_untouched, "relu", "backward", lambda _, dy, *__: dy, X),
    (check_untouched, "add", "backward", lambda g, *_: (g[0], g[0]), TWO),
    (check_loop, "relu", "forward", lambda y, *_: (y[0] + 1e-9, y[1]), X),
    (check_loop, "relu", "forward", lambda y, *_: (y[0][None], y[1]), X),
    (check_dtype, "relu", "forward", lambda y, *_: (y[0].astype(float), y[1]), X),
    (check_dtype, "relu", "backward", lambda dx, *_: dx.astype(float), X),
    (
        check_batch_independence,
        "relu",
        "forward",
        lambda y, *_: (y[0] - y[0].mean(0), y[1]),
        (np.arange(-4.0, 8.0).reshape(3, 4),),
    ),
)


@pytest.mark.parametrize(("check", "name", "half", "wrong", "args"), MISTAKES)
def test_checks_reject(check, name, half, wrong, args, rng):
    draws = () if check in {check_loop, check_batch_independence} else (rng,)
    fresh = [np.array(a) if a is not None else None for a in args]
    with pytest.raises(AssertionError):
        check(broken(name, **{half: wrong}), tuple(fresh), {}, *draws)


def test_check_replay_rejects_a_forgotten_residual():
    pair = BY_NAME["straight_through_round"]

    def forgets(x, frozen=None):
        y, cache = pair.forward(x)
        return (y, cache) if frozen is None else (x, cache)

    with pytest.raises(AssertionError):
        check_replay(replace(pair, forward=forgets), (np.array([0.3]),), {})


def test_check_replay_allows_the_roundings_of_large_values():
    pair = BY_NAME["straight_through_round"]

    def rounds(x, frozen=None):
        y, cache = pair.forward(x)
        return y + (0 if frozen is None else 1e-9), cache

    check_replay(replace(pair, forward=rounds), (np.array([-1e6]),), {})


def test_check_wrong_gradients_rejects_silent_broadcasting():
    quiet = replace(BY_NAME["relu"], backward=lambda dy, cache: dy * cache.inside)
    with pytest.raises(AssertionError):
        check_rejects_wrong_gradients(quiet, X, {})
