"""The public strategies, used on refqnn itself: the twins, and every semantics."""

import numpy as np
import pytest
from hypothesis import given

from refqnn import fast
from refqnn.conformance import Semantics, want
from refqnn.conformance.choices import strategies
from refqnn.conformance.choices.families import FAMILIES, REFUSED


def twin_of(name, call):
    """What the compiled twin answers."""
    options = dict(call)
    if name in {"quantize", "requantize"}:
        ends = {k: options.pop(k) for k in ("q_min", "q_max")}
        x, *rest = options.values()
        y = getattr(fast.integer, name)(np.atleast_1d(x), *rest, **ends)
        return y.reshape(np.shape(x))
    if name in {"conv2d", "linear"}:
        x, w, b = (options.pop(k) for k in "xwb")
        return getattr(fast.integer, name)(x, w, b, **options, accumulator="int64")
    return getattr(fast.integer, name)(options.pop("x"), **options)


@pytest.mark.parametrize(
    "name",
    ["quantize", "requantize", "conv2d", "linear", "avg_pool2d", "max_pool2d"],
)
def test_compiled_twins_answer_as_the_family_does(name):
    @given(strategies.inputs(name))
    def agree(call):
        expected = want(name, call)
        if not np.any(expected == REFUSED):
            np.testing.assert_array_equal(twin_of(name, call), expected)

    agree()


@pytest.mark.parametrize("name", FAMILIES)
def test_every_semantics_of_a_family_is_explained_and_evaluates(name):
    @given(strategies.semantics(name), strategies.inputs(name, most=16))
    def holds(chosen, call):
        assert chosen.explain(name).startswith(name)
        outputs = want(name, call, chosen)
        several = outputs if isinstance(outputs, tuple) else (outputs,)
        assert len(several) == len(FAMILIES[name].outputs)

    holds()


@given(strategies.families())
def test_families_are_drawn(name):
    assert FAMILIES[name].choices(Semantics()) == FAMILIES[name].default
