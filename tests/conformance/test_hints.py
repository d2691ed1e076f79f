"""Mistakes that are no choice are recognised, and only where they make sense."""

# ruff: noqa: ARG005 - changes of outputs have one signature

import numpy as np
import pytest

from refqnn import integer
from refqnn.conformance import compare, diagnose
from refqnn.conformance.choices.families import FAMILIES
from refqnn.conformance.judge.hints import factor_of_calls, readings

CONV = {
    "stride": (2, 1),
    "padding": ((1, 0), (2, 1)),
    "dilation": (1, 2),
    "x_zero_point": 5,
}


def conv(rng, **changes):
    """A call, and the outputs of the same call with some arguments changed."""
    family = FAMILIES["conv2d"]
    call = {
        "x": rng.integers(-8, 8, (2, 2, 7, 9)).astype(np.int8),
        "w": rng.integers(-8, 8, (4, 2, 3, 2)).astype(np.int8),
        "b": rng.integers(-99, 99, 4).astype(np.int32),
        "w_zero_point": 0,
        "groups": 1,
        **CONV,
    }
    call = {name: call[name] for name in family.arguments}
    for name, change in changes.items():
        changes[name] = change(call[name])
    return call, family.evaluate(family.default, **{**call, **changes})["y"]


def nibbles(w):
    return w.reshape(-1, 2)[:, ::-1].reshape(w.shape)


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("w", nibbles, "w with its nibbles exchanged: order of packing"),
        ("w", lambda w: w % 16, "w as unsigned nibbles"),
        ("b", lambda b: b[::-1], "b reversed along axis 0"),
        ("b", lambda b: np.roll(b, -1), "b one place further along axis 0"),
        ("b", lambda b: np.full_like(b, b[0]), "b with the first element for all"),
        ("w", lambda w: w[::-1], "w reversed along axis 0"),
        ("stride", lambda s: s[::-1], "stride with h and w exchanged"),
    ],
)
def test_arguments_read_wrongly_are_named(name, change, told, rng):
    if name == "stride":
        change_ = {"stride": change}
        call, got = conv(rng, **change_)
        if got.shape != conv(rng)[1].shape:
            call["stride"], wrong = (1, 2), conv(rng, stride=lambda _: (2, 1))[1]
            found = diagnose("conv2d", call, wrong)
            assert "UNREADABLE" in str(found)
            return
    else:
        call, got = conv(rng, **{name: change})
    found = diagnose("conv2d", call, got)
    assert any(line.startswith(told) for line in found.structure), found.structure
    right = FAMILIES["conv2d"].evaluate(FAMILIES["conv2d"].default, **call)["y"]
    assert not any(
        "gives what was got" in x
        for x in diagnose(
            "conv2d", call, right + rng.integers(0, 3, right.shape)
        ).structure
    )


def channels(rng):
    acc = rng.integers(-20000, 20000, (1, 8, 8, 8)).astype(np.int32)
    m, s = integer.quantize_multiplier(rng.uniform(0.001, 0.004, 8))
    call = {"acc": acc, "multiplier": np.asarray(m)[:, None, None]}
    call |= {"shift": np.asarray(s)[:, None, None], "zero_point": 3}
    return call | {"q_min": -128, "q_max": 127}, np.asarray(m), np.asarray(s)


@pytest.mark.parametrize(
    ("place", "told"),
    [
        (lambda v: v, "multiplier and shift along axis 3 instead of 1"),
        (lambda v: v[:, None], "multiplier and shift along axis 2 instead of 1"),
        (lambda v: v[::-1, None, None], "multiplier and shift reversed along axis 0"),
        (lambda v: v[0], "multiplier and shift with the first element for all"),
    ],
)
def test_parameters_of_channels_along_a_wrong_axis_are_named(place, told, rng):
    call, m, s = channels(rng)
    got = integer.requantize(call["acc"], place(m), place(s), 3, q_min=-128, q_max=127)
    found = diagnose("requantize", call, got)
    assert not found.explained
    assert f"{told} gives what was got" in found.structure


def test_a_multiplier_and_a_shift_that_do_not_belong_together_are_a_scale():
    """966 / 2^15 twice too large: 5523 becomes 163, not 81."""
    m, s = integer.quantize_multiplier(0.01474)
    wide = {"q_min": -(2**31), "q_max": 2**31 - 1}
    acc = np.random.default_rng(0).integers(-30000, 30000, 500).astype(np.int32)
    acc[0] = 5523
    rule = {"rounding": "two_stage_half_away"}
    got = integer.requantize(acc, 966, 16, 0, **wide, **rule)
    assert (int(integer.requantize(acc, m, s, 0, **wide, **rule)[0]), int(got[0])) == (
        81,
        163,
    )
    call = {"acc": acc, "multiplier": m, "shift": s, "zero_point": 0, **wide}
    told = diagnose("requantize", call, got).structure
    assert told[0].startswith("got = 2 want before the rounding -> scale")
    for shift, word in ((s + 1, "one more"), (s - 1, "one less"), (-s, "other sign")):
        few = {**call, "acc": acc // 100}
        got = integer.requantize(few["acc"], m, shift, 0, **wide)
        told = diagnose("requantize", few, got).structure
        assert any(word in line and "scale" in line for line in told), shift


def gradient(rng, change, n=64):
    family = FAMILIES["fake_quantize"]
    calls, outputs = [], []
    for size in (n, 2 * n):
        call = family.draw(rng, size)
        signs = rng.choice([-1.0, 1.5, 2.0], call["dy"].shape)
        call |= {"dy": signs.astype(np.float32)}
        right = family.evaluate(family.default, **call)
        calls.append(call)
        outputs.append(change(call, dict(right), family))
    return diagnose("fake_quantize", calls, outputs)


def again(call, family, dy):
    return family.evaluate(family.default, **{**call, "dy": dy})


@pytest.mark.parametrize(
    ("told", "change"),
    [
        ("ds: got = -1 want -> sign", lambda c, o, f: o | {"ds": -o["ds"]}),
        (
            "ds: got = want / N -> a mean instead of a sum",
            lambda c, o, f: o | {"ds": o["ds"] / c["x"].size},
        ),
        ("dx: got = 3 want -> scale", lambda c, o, f: o | {"dx": 3 * o["dx"]}),
        (
            "dx: passes where it should be stopped above -> mask",
            lambda c, o, f: o | {"dx": np.where(above(c), c["dy"], o["dx"])},
        ),
        (
            "dx: is stopped below -> mask",
            lambda c, o, f: o | {"dx": np.where(c["x"] < -c["scale"], 0, o["dx"])},
        ),
        (
            "dy without its sign gives what was got",
            lambda c, o, f: again(c, f, np.abs(c["dy"])),
        ),
        (
            "dy ignored gives what was got",
            lambda c, o, f: again(c, f, np.ones_like(c["dy"])),
        ),
    ],
)
def test_gradients_have_hints_of_their_own(told, change, rng):
    found = gradient(rng, change)
    assert found.explained or told in found.structure


def above(call):
    levels = call["scale"] * (call["q_max"] - call["zero_point"])
    return call["x"] > levels


def test_a_scalar_has_no_structure():
    """Of one number anything is an offset, a ratio, a constant."""
    family = FAMILIES["pact"]
    call = family.draw(np.random.default_rng(0), 24)
    right = family.evaluate(family.default, **call)
    found = diagnose("pact", call, right | {"dalpha": 7 * right["dalpha"] + 1})
    assert not found.explained
    assert not any("dalpha" in line or "everywhere" in line for line in found.structure)


def test_readings_leave_the_call_as_it_is():
    call = {"w": np.arange(4, dtype=np.int8), "zero_point": 3, "dy": np.ones(2)}
    kept = {name: np.array(value) for name, value in call.items()}
    ways = dict(readings(call))
    assert ways["zero_point ignored"]["zero_point"] == 0
    assert ways["zero_point added instead of subtracted"]["zero_point"] == -3
    for name, value in kept.items():
        np.testing.assert_array_equal(call[name], value)


def test_factors_are_told_apart_by_their_size():
    n = np.array([16.0, 64.0])
    assert factor_of_calls("ds", np.array([2.0, 2.0]), n) == [
        "ds: got = 2 want -> scale"
    ]
    assert factor_of_calls("ds", n, n) == [
        "ds: got = want N -> a sum instead of a mean"
    ]
    assert factor_of_calls("ds", n**-0.5, n) == ["ds: got = want / sqrt(N) -> factor"]
    assert factor_of_calls("ds", np.array([1.0, 1.0]), n) == []
    assert factor_of_calls("ds", np.array([1.0, 3.0]), n) == []


def test_results_that_depend_on_the_position_are_told():
    want = np.arange(100, dtype=np.int32)
    tail, lanes, spread = want.copy(), want.copy(), want.copy()
    tail[96:] += 1
    lanes[3::8] += 1
    spread[[1, 5, 12, 30, 41, 67, 93]] += 1
    assert compare(tail, want).where == (
        "all among the last 4 of 100 elements -> remainder of a vector loop",
    )
    assert "remainder" in str(compare(tail.reshape(5, 20), want.reshape(5, 20)).where)
    assert compare(lanes, want).where == (
        "all at positions 3 modulo 8 -> lanes of a vector",
    )
    assert compare(spread, want).where == ()
    assert compare(want + 1, want).where == ()


def test_codes_that_arrive_as_floats_are_counted_as_codes():
    want = np.array([5, 6, 7, 8])
    got = np.array([5.0, 7.0, 7.0, 6.0])
    assert compare(got, want).histogram == {-2: 1, 0: 2, 1: 1}
    assert compare(got, want.astype(float)).histogram == {-2: 1, 0: 2, 1: 1}
    ulps = compare(np.nextafter([0.5, 1.5], 2), np.array([0.5, 1.5])).histogram
    assert ulps == {1: 2}


def test_mistakes_that_data_cannot_see_are_counted():
    call = {"q": np.int8([1, 2]), "scale": np.float32(1), "zero_point": 0}
    found = diagnose("dequantize", call, integer.dequantize(*call.values()))
    assert "zero_point: 0" in found.mistakes
    assert "scale: 1.0" in found.mistakes
    rich = FAMILIES["dequantize"].draw(np.random.default_rng(1), 99)
    more = diagnose("dequantize", rich, integer.dequantize(*rich.values()))
    assert "zero_point: 0" not in more.mistakes
    assert len(more.mistakes) < len(found.mistakes)
    assert f"blind to  {len(more.mistakes)} mistakes" in str(more)
