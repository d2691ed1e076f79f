"""What diagnose says where a choice explains the outputs, and where none does."""

import time

import numpy as np
import pytest
from refusals import refuses

from refqnn.conformance.choices.families import FAMILIES
from refqnn.conformance.choices.semantics import Semantics
from refqnn.conformance.judge.diagnose import diagnose
from refqnn.conformance.judge.patterns import near_ties, structural


def given(name, rng, n=2000, **changes):
    family = FAMILIES[name]
    inputs = family.draw(rng, n)
    return inputs, family.evaluate(family.default | changes, **inputs)


def test_what_conforms_says_what_it_could_not_see(rng):
    """Without a zero-point no data shows what becomes of it."""
    inputs, outputs = given("requantize", rng)
    inputs |= {"zero_point": 0}
    family = FAMILIES["requantize"]
    found = diagnose("requantize", inputs, family.evaluate(family.default, **inputs))
    assert found.conforms
    assert found.exit_code == 0
    every = {"added", "ignored", "subtracted"}
    assert set(found.unseen["zero_point_use"]) == every
    assert str(found).startswith(f"requantize  conforms  {len(outputs['y'])} / 2000")
    assert "other functions, too: " in str(found)
    assert not found.certain


def test_what_could_not_tell_was_not_compared():
    call = {"x": np.float32([1, 2]), "scale": 1.0, "zero_point": 0}
    call |= {"q_min": -128, "q_max": 127}
    found = diagnose("quantize", call, np.array([1, 2]))
    assert (found.evidence, found.conforms, found.exit_code) == (0, False, 3)
    assert "NOTHING COMPARED" in str(found)


def test_certain_is_said_of_all_variants_not_of_near_ones(rng):
    """Two answers away; a third cannot be seen where no input is NaN.

    With the zero-point inside the rounding a NaN that is cast is q_min.
    """
    x = (100 * rng.normal(size=300)).astype(np.float32)
    call = {"x": x, "scale": np.float32(0.5), "zero_point": 3}
    call |= {"q_min": -128, "q_max": 127}
    two = {"rounding": "trunc", "zero_point_when": "before_rounding"}
    family = FAMILIES["quantize"]
    found = diagnose("quantize", call, family.evaluate(family.default | two, **call))
    assert found.explained
    assert not found.certain
    assert set(found.unseen["nan"]) == set(family.axes["nan"]) - {"cast"}


def test_arguments_left_out_have_their_defaults(rng):
    x, w = rng.integers(0, 9, (1, 2, 5, 5)), rng.integers(-9, 9, (3, 2, 3, 3))
    y = FAMILIES["conv2d"].evaluate(
        FAMILIES["conv2d"].default,
        x.astype(np.uint8),
        w.astype(np.int8),
        np.zeros(3, np.int32),
        0,
        0,
        1,
        ((1, 1), (1, 1)),
        1,
        1,
    )["y"]
    given_ = {"x": x.astype(np.uint8), "w": w.astype(np.int8), "b": None, "padding": 1}
    assert diagnose("conv2d", given_, y).comparison.conforms
    refuses("strides", diagnose, "conv2d", {**given_, "strides": 1}, y)
    refuses("is missing", diagnose, "conv2d", {"x": x}, y)


def test_a_class_is_never_a_lone_winner():
    """Positive ties cannot tell half_up from half_away."""
    x = np.float32([0.25, 0.5, 2.5])
    inputs = {"x": x, "scale": 1.0, "zero_point": 0, "q_min": -128, "q_max": 127}
    found = diagnose("quantize", inputs, np.array([0, 1, 3]))
    told = {v["rounding"] for v in found.best.variants}
    assert {"half_up", "half_away"} <= told
    assert told.isdisjoint({"half_down", "floor", "ceil", "trunc"})
    assert not found.certain
    assert found.deciding >= 1
    assert "not told apart from 1 by this data" in str(found)


def test_only_differences_count_as_evidence():
    x = np.float32([0.25, 0.5, 3.0])
    inputs = {"x": x, "scale": 1.0, "zero_point": 0, "q_min": -128, "q_max": 127}
    found = diagnose("quantize", inputs, np.array([0, 1, 3]))
    assert found.evidence == 2  # 3.0 is 3 whatever the rounding


def test_the_line_that_reproduces_runs(rng):
    inputs, outputs = given("requantize", rng, requantize="floor")
    found = diagnose("requantize", inputs, outputs)
    import refqnn.integer

    q = eval(found.reproduce, {"refqnn": refqnn, "np": np})  # noqa: S307 - our own text
    acc = int(found.reproduce.split("[")[1].split("]")[0])
    at = np.flatnonzero(inputs["acc"] == acc)[0]
    assert q[0] != outputs["y"][at]
    wrong = (
        outputs["y"]
        != FAMILIES["requantize"].evaluate(FAMILIES["requantize"].default, **inputs)[
            "y"
        ]
    )
    assert abs(acc) == np.abs(inputs["acc"][wrong].astype(int)).min()


def test_single_deviations_come_before_pairs(rng):
    inputs, outputs = given("quantize", rng, rounding="trunc")
    found = diagnose("quantize", inputs, outputs)
    assert found.explanations[0].deviations == 1
    assert found.best.variants[0]["rounding"] == "trunc"


def test_three_deviations_are_found_where_that_is_quick(rng):
    inputs, outputs = given(
        "lstm_cell", rng, gate_order="o g f i", lstm_bias="input_only", forget_bias="1"
    )
    found = diagnose("lstm_cell", inputs, outputs)
    assert found.certain
    assert found.explanations[0].deviations == 3


def test_a_declared_semantics_is_the_start(rng):
    inputs, outputs = given("quantize", rng, rounding="floor", overflow="wrap")
    declared = Semantics(rounding="floor")
    found = diagnose("quantize", inputs, outputs, declared=declared)
    first = found.table()[1]
    assert "overflow = wrap" in first
    assert "rounding = floor" not in first
    assert "declared  quantize: rounding = floor" in str(found)


def test_gradients_are_diagnosed(rng):
    inputs, outputs = given("fake_quantize", rng, straight_through="input_open")
    found = diagnose("fake_quantize", inputs, outputs)
    assert found.best.variants[0]["straight_through"] == "input_open"


def test_ties_are_recognised(rng):
    inputs, outputs = given("quantize", rng, rounding="half_away")
    assert "half integer -> rounding" in str(diagnose("quantize", inputs, outputs))


def test_none_of_the_variants_is_said_with_the_structure(rng):
    inputs, outputs = given("conv2d", rng)
    found = diagnose("conv2d", inputs, outputs["y"] + 3)
    assert not found.explained
    assert "none of the" in str(found)
    assert "got = want + 3 everywhere" in str(found)


def test_a_wrong_shape_is_an_error_not_a_traceback(rng):
    inputs, outputs = given("conv2d", rng)
    found = diagnose("conv2d", inputs, outputs["y"][..., :-1])
    assert not found.conforms
    assert "UNREADABLE" in str(found)
    assert "stride, padding or ceil" in str(found)
    swapped = diagnose("conv2d", inputs, outputs["y"].transpose(0, 2, 3, 1))
    assert "transposed to axes (0, 2, 3, 1) -> layout" in str(swapped)


def test_missing_outputs_raise(rng):
    inputs, outputs = given("fake_quantize", rng)
    refuses("missing", diagnose, "fake_quantize", inputs, outputs["y"])


@pytest.mark.compiled
@pytest.mark.parametrize("name", ["quantize", "requantize"])
def test_100_000_mismatching_outputs_are_searched_in_five_seconds(name, rng):
    change = {"quantize": "rounding", "requantize": "requantize"}[name]
    inputs, outputs = given(name, rng, 400_000, **{change: "ceil"})
    wrong = (
        outputs["y"] != FAMILIES[name].evaluate(FAMILIES[name].default, **inputs)["y"]
    )
    kept = np.flatnonzero(wrong)[:100_000]
    axis = FAMILIES[name].elementwise
    inputs[axis] = inputs[axis][kept]
    begun = time.process_time()
    found = diagnose(name, inputs, outputs["y"][kept])
    assert time.process_time() - begun < 5
    assert found.comparison.mismatches == len(kept) > 20_000
    assert found.best.variants[0][change] == "ceil"


W = np.arange(24).reshape(2, 3, 4)
STRUCTURES = {
    "zero-point or bias": (W + 5, W),
    "bias": (W + np.array([1, 2, 3])[None, :, None], W),
    "got = 2 want -> scale": (2.0 * W, W * 1.0),
    "flipped along axis 2": (W[:, :, ::-1], W),
    "transposed to axes": (W.reshape(-1).reshape(4, 6).T.reshape(2, 3, 4), None),
    "axis 1 is permuted: [2, 0, 1]": (W[:, [2, 0, 1]], W),
    "nibble order": (W.reshape(-1, 2)[:, ::-1].reshape(W.shape), W),
    "multiples of 2^16": (W + 65536 * (W > 20), W),
    "want modulo 2^8 -> read or stored as unsigned": ((W - 9) % 256, W - 9),
    "saturation": (np.minimum(W, 20), W),
    "1 NaN": (np.where(W == 3, np.nan, W), W * 1.0),
    "nothing was computed": (0 * W, W),
    "shape (2, 3, 3), want (2, 3, 4)": (W[..., :-1], W),
}


@pytest.mark.parametrize("told", STRUCTURES)
def test_structures_are_recognised(told):
    got, want = STRUCTURES[told]
    if want is None:
        want = np.arange(24).reshape(2, 3, 4)
        got = np.ascontiguousarray(want.transpose(2, 0, 1)).reshape(want.shape)
    assert any(told in line for line in structural(np.asarray(got), np.asarray(want)))


def test_equal_arrays_have_no_structure(rng):
    assert structural(W, W) == []
    noise = rng.integers(0, 1000, W.shape)
    assert structural(noise, W) == []
    assert structural(np.array([[1, 9]]), np.array([[1, 3]])) == []


@pytest.mark.parametrize(("gap", "near"), [(2.0**-9, True), (2.0**-8, False)])
def test_ties_are_near_within_two_to_the_minus_nine(gap, near):
    exact, got, want = np.array([3.5 + gap, 1]), np.array([4, 1]), np.array([3, 1])
    assert bool(near_ties(exact, got, want)) == near


def test_where_is_told_for_several_calls_together(rng):
    """What all calls have in common: here a channel, and not the last column."""
    family = FAMILIES["conv2d"]
    calls = [family.draw(rng, 200) for _ in range(3)]
    outputs = [family.evaluate(family.default, **call)["y"] for call in calls]
    outputs[1][:, 2] += 1
    outputs[2][:, 2, :, -1] += 1
    found = diagnose("conv2d", calls, outputs)
    assert found.comparison.where == (
        "all on channel 2 of axis 1 -> a parameter of that channel",
    )
    assert found.comparison.first == (0, 2, 0, 0)
    assert "first     call 1: y[0, 2, 0, 0]" in str(found)


def test_other_outputs_are_named(rng):
    family = FAMILIES["fake_quantize"]
    call = family.draw(rng, 50)
    outputs = family.evaluate(family.default, **call)
    outputs["dx"] = outputs["dx"] + 5
    found = diagnose("fake_quantize", call, outputs)
    assert "first     dx[0, 0]" in str(found)
    assert not any(line.startswith("got = want") for line in found.structure)


def test_a_permutation_beside_another_answer_is_recognised(rng):
    call, outputs = given("conv2d", rng, padding_value="raw_zero")
    got = np.roll(outputs["y"], 1, axis=1)
    found = diagnose("conv2d", call, got)
    assert not found.explained
    assert "with padding_value = raw_zero: axis 1 is permuted: [5, 0," in str(found)


def test_what_is_far_away_is_not_called_near(rng):
    call, outputs = given("conv2d", rng)
    told = str(diagnose("conv2d", call, outputs["y"] ** 2 + 7))
    assert "nearest" not in told
    assert "none of the" in told


def test_a_lost_zero_point_is_named(rng):
    for name in ("requantize", "quantize"):
        family = FAMILIES[name]
        call = family.draw(rng, 500) | {"zero_point": 7}
        lost = family.evaluate(family.default | {"zero_point_use": "ignored"}, **call)
        found = diagnose(name, call, lost)
        assert found.best.variants[0]["zero_point_use"] == "ignored"
    call, outputs = given("linear", rng, x_zero_point_use="added")
    found = diagnose("linear", call, outputs)
    assert found.best.variants[0]["x_zero_point_use"] == "added"


def test_rivals_are_other_functions(rng):
    """floor commutes with integers: adding the zero-point before is no rival."""
    call, outputs = given("requantize", rng, requantize="floor")
    call |= {"multiplier": 1 << 30, "zero_point": 3}
    family = FAMILIES["requantize"]
    got = family.evaluate(family.default | {"requantize": "floor"}, **call)
    found = diagnose("requantize", call, got)
    first, rivals = found.best.variants[0], found.rivals()
    functions = [tuple(family.canonical(v).values()) for v in (first, *rivals)]
    assert len(set(functions)) == len(functions) < len(found.best.variants)
    assert {**first, "multiplier_bits": "15"} in rivals
    assert all(v["zero_point_when"] == "after_rounding" for v in rivals)
    assert diagnose("requantize", call, outputs["y"] * 5 + 1).rivals() == []


def test_one_output_can_be_enough_to_be_certain():
    """A plane of -1 whose maximum is 0 was padded with zeros."""
    family = FAMILIES["max_pool2d"]
    call = family.candidates()[0]
    found = diagnose("max_pool2d", call, np.zeros((1, 1, 1, 1), np.int64))
    assert (found.evidence, found.deciding) == (1, 0)
    assert found.certain
    assert found.best.variants[0]["max_pool_padding"] == "raw_zero"


def test_two_wrong_ends_are_saturation_and_one_is_not():
    want = np.array([1, 2, 9, 8])
    assert any("saturation" in line for line in structural(np.minimum(want, 5), want))
    one = structural(np.array([1, 2, 9, 5]), want)
    assert not any("saturation" in line for line in one)
    inside = structural(np.array([1, 0, 10, 8]), want)  # ends, but not nearer than want
    assert not any("saturation" in line for line in inside)


def test_offsets_of_channels_need_two_values_of_each():
    """Of one value for each channel anything is an offset."""
    offsets = np.array([1, 5, 7])[None, :, None]
    for n, told in ((2, True), (1, False)):
        want = np.arange(3 * n).reshape(1, 3, n) ** 2
        found = structural(want + offsets, want)
        assert ("one offset for each channel of axis 1 -> bias" in found) is told
