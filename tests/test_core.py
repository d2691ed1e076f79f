"""Parameters, buffers, the tape, and how modules are walked."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import refqnn
from refqnn import fast, ops
from refqnn.core import (
    Buffer,
    Param,
    Run,
    named_buffers,
    named_modules,
    named_params,
    walk,
    zero_grads,
)


@dataclass(eq=False)
class Leaf:
    w: Param
    running: Buffer
    name: str = "leaf"


@dataclass(eq=False)
class Tree:
    first: Leaf
    many: list[Any]
    by_name: dict[str, Any] = field(default_factory=dict)
    nothing: None = None


def param(*shape, **options):
    return Param(np.ones(shape), **options)


def leaf():
    return Leaf(param(2), Buffer(np.zeros(2)))


def tree():
    return Tree(leaf(), [leaf(), (param(3),)], {"skip": param(1)})


def test_a_new_gradient_is_zero_in_shape_and_dtype():
    p = Param(np.ones((2, 3), np.float32))
    assert p.grad.dtype == np.float32
    np.testing.assert_array_equal(p.grad, np.zeros((2, 3)))
    assert p.group == "weight"
    assert p.project is None


def test_walk_follows_fields_lists_tuples_and_dicts_in_order():
    names = [name for name, _ in walk(tree())]
    assert names == [
        "first.w",
        "first.running",
        "many.0.w",
        "many.0.running",
        "many.1.0",
        "by_name.skip",
    ]


def test_params_and_buffers_are_told_apart():
    t = tree()
    assert list(named_params(t)) == ["first.w", "many.0.w", "many.1.0", "by_name.skip"]
    assert list(named_buffers(t)) == ["first.running", "many.0.running"]
    assert named_params(t)["many.0.w"] is t.many[0].w
    assert named_buffers(t)["first.running"] is t.first.running


def test_a_shared_parameter_has_its_first_name():
    t = tree()
    t.many[0].w = t.first.w
    assert list(named_params(t)) == ["first.w", "many.1.0", "by_name.skip"]


def test_named_modules_are_the_dataclasses_from_the_top():
    t = tree()
    found = dict(named_modules(t))
    assert list(found) == ["", "first", "many.0"]
    assert found[""] is t
    assert found["many.0"] is t.many[0]
    assert next(named_modules(t, "net")) == ("net", t)


def test_zero_grads_keeps_the_arrays():
    t = tree()
    grads = [p.grad for p in named_params(t).values()]
    for grad in grads:
        grad[...] = 1
    zero_grads(t)
    for grad, p in zip(grads, named_params(t).values(), strict=True):
        assert grad is p.grad
        np.testing.assert_array_equal(grad, 0)


def test_a_plain_run_computes_and_records_nothing():
    run = Run()
    assert run.backend is refqnn
    assert (run.training, run.rng, run.tape, run.replay) == (False, None, None, None)
    y, _ = run.straight_through(ops.straight_through_round, np.array([0.4]))
    np.testing.assert_array_equal(y, [0.0])


def test_the_tape_holds_the_residuals_in_call_order():
    x = np.array([0.4, 1.7])
    run = Run(training=True, backend=fast).recording()
    y, cache = run.straight_through(ops.straight_through_round, x)
    s, _ = run.straight_through(ops.straight_through_sign, x - 1, closed=True)
    assert len(run.tape) == 2
    assert run.tape[0] is cache
    again = run.replaying(run.tape)
    assert (again.training, again.backend, again.tape) == (True, fast, None)
    moved, _ = again.straight_through(ops.straight_through_round, x + 0.25)
    np.testing.assert_allclose(moved, y + 0.25)
    moved, _ = again.straight_through(ops.straight_through_sign, x - 0.75)
    np.testing.assert_allclose(moved, s + 0.25)


def test_a_replay_that_asks_for_more_than_the_tape_fails():
    run = Run().recording().replaying([])
    with pytest.raises(StopIteration):
        run.straight_through(ops.straight_through_round, np.zeros(1))


def test_recording_starts_an_empty_tape_each_time():
    run = Run().recording()
    run.straight_through(ops.straight_through_round, np.zeros(1))
    assert run.recording().tape == []
    assert run.replaying(run.tape).recording().replay is None


def test_the_observer_sees_module_input_and_output():
    seen = []
    run = Run(observe=lambda *what: seen.append(what))
    module, x, y = leaf(), np.zeros(1), np.ones(1)
    run.see(module, x, y)
    Run().see(module, x, y)
    assert seen == [(module, x, y)]
    assert run.recording().observe is run.observe
