"""add, sub and mul of codes: every documented rescaling is named, others are not."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from refqnn import integer
from refqnn.conformance import identify
from refqnn.conformance.choices.families import FAMILIES

spec = importlib.util.spec_from_file_location(
    "independent", Path(__file__).with_name("independent.py")
)
independent = importlib.util.module_from_spec(spec)
spec.loader.exec_module(independent)


def variant(name, choices):
    family = FAMILIES[name]
    names = list(family.candidates()[0])
    return lambda *inputs: family.evaluate(
        choices, **dict(zip(names, inputs, strict=True))
    )["y"]


@pytest.mark.parametrize("name", ["add", "sub", "mul"])
def test_every_rescaling_is_named(name):
    for choices in FAMILIES[name].variants():
        answer = identify(variant(name, choices), name, in_process=True)
        assert answer.explained, choices
        assert answer.certain == choices
        assert answer.inputs <= 5


@pytest.mark.parametrize("name", ["add", "sub", "mul"])
def test_the_default_is_the_definition(name):
    answer = identify(getattr(integer, name), name, in_process=True)
    assert set(answer.certain.values()) == {"exact", "saturate"}


@pytest.mark.parametrize("name", ["add", "sub", "mul"])
def test_every_form_is_that_of_an_independent_loop(name):
    family, loop = FAMILIES[name], getattr(independent, name)
    drawn = [family.wide(np.random.default_rng(seed), 24) for seed in range(12)]
    for call in [*drawn, *family.candidates()]:
        for choices in family.variants():
            got = family.evaluate(choices, **call)["y"]
            np.testing.assert_array_equal(
                got, loop(choices, *call.values()), err_msg=str(choices)
            )


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
