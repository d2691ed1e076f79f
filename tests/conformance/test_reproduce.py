"""The line that reproduces gives what is wanted; counter-examples are small."""

import numpy as np
import pytest

import refqnn.conformance
import refqnn.integer
from refqnn.conformance import Semantics, check_implementation, diagnose, want
from refqnn.conformance.choices.families import FAMILIES
from refqnn.conformance.judge.reproduce import (
    empty,
    literal,
    numbers,
    shrink,
    whole_call,
)


def evaluated(text):
    return eval(text, {"refqnn": refqnn, "np": np})  # noqa: S307 - our own text


@pytest.mark.parametrize("name", ["quantize", "dequantize", "requantize"])
@pytest.mark.parametrize("profile", ["refqnn", "onnxruntime"])
def test_the_line_gives_what_is_wanted_under_the_profile(name, profile, rng):
    family = FAMILIES[name]
    declared = refqnn.conformance.profiles[profile].semantics(name)
    call = family.draw(rng, 500)
    right = family.evaluate(family.choices(declared), **call)["y"]
    got = right + 1
    found = diagnose(name, call, got, declared=declared)
    at = int(np.argmin(np.abs(call[family.elementwise].astype(float))))
    assert evaluated(found.reproduce).ravel()[0] == right[at]
    assert f"want {right[at]}   got {got[at]}" in found.smallest
    assert f"smallest  {found.smallest}" in str(found)


def test_the_smallest_mismatch_is_told_with_its_exact_value():
    call = {"acc": np.int32([-8, -3, 5]), "multiplier": 1 << 30, "shift": -1}
    call |= {"zero_point": 0, "q_min": -128, "q_max": 127}
    got = np.array([-2, -1, 2])  # -2, -0.75, 1.25
    found = diagnose("requantize", call, got)
    told = "acc = 5, multiplier = 1073741824, shift = -1, zero_point = 0; exact = 1.25"
    assert found.smallest == f"{told}   want 1   got 2"
    assert "y[2]   want 1   got 2" in str(found)


def test_nan_is_never_the_smallest_while_there_is_a_number():
    x = np.float32([np.nan, 3.0])
    call = {"x": x, "scale": 1.0, "zero_point": 0, "q_min": -128, "q_max": 127}
    found = diagnose("quantize", call, np.array([0, 4]))
    assert found.smallest.startswith("x = 3.0")


def test_calls_of_arrays_are_written_while_they_are_small(rng):
    family = FAMILIES["max_pool2d"]
    call = family.candidates()[0]
    line = whole_call(family, family.default, call)
    np.testing.assert_array_equal(evaluated(line), [[[[-1]]]])
    other = {"max_pool_padding": "raw_zero"}
    line = whole_call(family, other, call)
    np.testing.assert_array_equal(evaluated(line), [[[[0]]]])
    assert whole_call(family, family.default, family.draw(rng, 9999)) == ""


@pytest.mark.parametrize(
    "value",
    [
        np.float32([0.1, np.nan, -np.inf]),
        np.int8([[1], [2]]),
        np.float32(0.5),
        ((0, 1), (2, 3)),
        True,
    ],
)
def test_literals_are_what_they_show(value):
    again = evaluated(literal(value))
    np.testing.assert_array_equal(again, value)
    assert np.asarray(again).dtype == np.asarray(value).dtype


def no_corner(x, w, *rest):
    """The last weight of every plane is lost."""
    w = w.copy()
    w[:, :, -1, -1] = 0
    names = tuple(FAMILIES["conv2d"].arguments)
    return want("conv2d", dict(zip(names, (x, w, *rest), strict=True)))


def test_counter_examples_of_live_functions_are_shrunk():
    found = check_implementation(no_corner, "conv2d", in_process=True)
    message = next(r.message for r in found.results if r.check == "random")
    line = message.split("shrunk    ")[1].splitlines()[0]
    y = evaluated(line)
    told = message.split("got {'y': ")[1].split("}")[0]
    assert np.any(y != np.array(evaluated(told)))
    call = evaluated(line.replace("refqnn.conformance.want", "dict", 1).replace(
        '"conv2d", dict(', "call=dict("))["call"]  # fmt: skip
    assert np.count_nonzero(call["w"]) == 1
    assert np.count_nonzero(call["b"]) == 0


def test_shrinking_keeps_the_failure_and_empties_the_rest(rng):
    family = FAMILIES["linear"]
    asked = []

    def fails(call):
        asked.append(1)
        return bool(call["x"].size and call["x"].flat[-1] > 100)

    call = family.draw(rng, 200)
    call["x"].flat[-1] = 200
    small = shrink(family, call, fails)
    assert fails(small)
    assert numbers(small) <= numbers(call)
    assert np.count_nonzero(small["x"]) == 1
    assert not small["w"].any()
    assert len(asked) <= 302


def test_emptied_finds_the_pair_that_matters():
    x = np.arange(1, 33).reshape(4, 8)

    def fails(call):
        return call["x"][1, 2] == 11 and call["x"][3, 7] == 32

    found = empty({"x": x}, "x", fails)
    assert np.count_nonzero(found) == 2
    assert x.all(), "the given array stays as it is"


def test_an_implementation_that_changes_its_mind_is_said_to():
    family, seen = FAMILIES["max_pool2d"], []

    def once(*inputs):
        seen.append(inputs[0].size == 1)
        call = dict(zip(family.arguments, inputs, strict=True))
        return want("max_pool2d", call) + (seen[-1] and sum(seen) == 1)

    found = check_implementation(once, "max_pool2d", in_process=True)
    assert "answers change" in str(found)


def test_declared_answers_are_shown(rng):
    call = FAMILIES["requantize"].draw(rng, 50)
    declared = Semantics(requantize="floor")
    got = np.zeros(50, np.int64)
    told = str(diagnose("requantize", call, got, declared=declared))
    assert "declared  requantize: requantize = floor" in told
