"""add, sub and mul of codes: every documented rescaling is named, others are not."""

import numpy as np
import pytest
from conformance.forms import assert_loops, assert_named, variant

from refqnn import integer
from refqnn.conformance import identify
from refqnn.conformance.choices.families import FAMILIES


@pytest.mark.parametrize("name", ["add", "sub", "mul"])
def test_every_rescaling_is_named(name):
    assert_named(name, FAMILIES[name].variants(), inputs=5)


@pytest.mark.parametrize("name", ["add", "sub", "mul"])
def test_the_default_is_the_definition(name):
    answer = identify(getattr(integer, name), name, in_process=True)
    assert set(answer.certain.values()) == {"exact", "saturate"}


@pytest.mark.parametrize("name", ["add", "sub", "mul"])
def test_every_form_is_that_of_an_independent_loop(name):
    assert_loops(name, FAMILIES[name].variants())


def test_a_sum_whose_zero_point_is_added_twice_is_none_of_them():
    def twice(x, y, *grids):
        *grids, s, z, low, high = grids
        q = variant("add", FAMILIES["add"].default)(x, y, *grids, s, z, -500, 500)
        return np.clip(q + z, low, high)

    answer = identify(twice, "add", in_process=True)
    assert not answer.explained
    assert not answer.certain


@pytest.mark.parametrize(
    ("form", "q"), [("exact", 18), ("tflite", 19), ("xnnpack", 19), ("separate", 19)]
)
def test_a_tie_tells_how_a_sum_is_rounded(form, q):
    """(37 - 0) / 2 = 18.5: to even, away from 0, up."""
    call = FAMILIES["add"].candidates()[0] | {
        "x": np.int8(37),
        "y": np.int8(0),
        "x_scale": 0.5,
        "x_zero_point": 0,
        "y_scale": 0.5,
        "y_zero_point": 0,
        "scale": 1.0,
        "zero_point": 0,
    }
    choices = {"sum_rescaling": form, "overflow": "saturate"}
    assert FAMILIES["add"].evaluate(choices, **call)["y"] == q
