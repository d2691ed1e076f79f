"""Questions asked of live functions and through files."""

from types import SimpleNamespace

import numpy as np
import pytest

from refqnn import data, files
from refqnn.conformance.choices.families import FAMILIES
from refqnn.conformance.choices.semantics import Semantics
from refqnn.conformance.choices.variants import table
from refqnn.conformance.judge.identification import Identification
from refqnn.conformance.judge.identify import identify, verify
from refqnn.conformance.judge.identify_files import identify_files, write_probes
from refqnn.conformance.judge.questions import decide, remaining


def variant(name, **changes):
    family = FAMILIES[name]

    def call(*args):
        inputs = dict(zip(family.draw(np.random.default_rng(0), 9), args, strict=True))
        return tuple(family.evaluate(family.default | changes, **inputs).values())

    return call


def test_forward_and_backward_are_asked_together():
    whole = variant("fake_quantize", straight_through="input_open", scale_gradient="1")
    seen = {}

    def forward(*inputs):
        seen["forward"] = True
        return whole(*inputs, np.ones_like(inputs[0]))[0]

    def backward(dy, *inputs):
        return whole(*inputs, dy)[1:]

    found = identify(forward, "fake_quantize", backward=backward, in_process=True)
    assert seen
    assert found.certain["straight_through"] == "input_open"
    assert found.certain["scale_gradient"] == "1"
    assert found.inputs <= 16


def test_an_exception_is_an_answer_only_where_an_answer_is_an_error():
    def refuses_nan(x, scale, zero_point, q_min, q_max):
        if np.isnan(x).any():
            raise ValueError("NaN")
        return np.clip(np.rint(x / scale) + zero_point, q_min, q_max)

    assert identify(refuses_nan, "quantize").certain["nan"] == "raise"

    def broken(*_):
        raise RuntimeError("no such kernel")

    found = identify(broken, "requantize")
    assert not found.explained
    assert "RuntimeError: no such kernel" in str(found)


@pytest.mark.parametrize("answer", [np.zeros(5), "text", None])
def test_garbage_is_complained_about(answer):
    found = identify(lambda *_: answer, "conv2d")
    assert not found.explained
    assert "returned" in found.complaint
    with pytest.raises(ValueError, match="no variant"):
        _ = found.semantics


def test_strange_answers_end_the_questions():
    subject = SimpleNamespace(ask=lambda call: {"y": np.full(call["acc"].shape, 10**9)})
    decision = decide(subject, table("requantize"))
    assert decision.strange == len(decision.asked) == 12


@pytest.mark.parametrize(("answered", "asked"), [(None, 200), (199, 201)])
def test_refusals_end_the_questions_where_nothing_was_answered(answered, asked):
    """One that answers its 200th question, and no other, is asked for more."""
    calls = []

    def ask(call):
        calls.append(call)
        if len(calls) - 1 != answered:
            raise RuntimeError("no such kernel")
        return FAMILIES["requantize"].evaluate(FAMILIES["requantize"].default, **call)

    decision = decide(SimpleNamespace(ask=ask), table("requantize"))
    assert len(calls) == len(decision.asked) >= asked
    assert (len(calls) == 200) == bool(decision.complaint) == (answered is None)


def test_undetermined_axes_list_what_is_left():
    found = identify(variant("requantize"), "requantize")
    assert found.certain["requantize"] == "half_up"
    assert found.undetermined == {
        "zero_point_when": ("after_rounding", "before_rounding"),
        "float_sum": ("rounded", "fused"),
    }
    assert "undetermined: after_rounding or before_rounding" in str(found)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("quantize", {"rounding": "half_up", "nan": "q_max"}),
        ("lstm_cell", {"gate_order": "f i o g"}),
        ("avg_pool2d", {"pool_rounding": "floor"}),
    ],
)
def test_probes_travel_through_files(name, changes, tmp_path):
    family = FAMILIES[name]
    probes, outputs = tmp_path / "p.npz", tmp_path / "out.npz"
    count = write_probes(name, probes)
    entries = data.read_npz(probes)
    del entries["json"]
    chosen = family.default | changes
    if family.stacks:
        entries["q_min"], entries["q_max"] = -128, 127
        np.savez(outputs, **family.evaluate(chosen, **entries))
    else:
        given = {}
        for i in range(count):
            call = {
                k.split("/")[1]: v.item() if v.ndim == 0 else v
                for k, v in entries.items()
                if k.startswith(f"{i:04d}/")
            }
            for k, v in family.evaluate(chosen, **call).items():
                given[f"{i:04d}/{k}"] = v
        np.savez(outputs, **given)
    found = identify_files(probes, outputs)
    for axis, value in changes.items():
        assert found.certain[axis] == value


def test_files_of_another_kind_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", y=np.zeros(3))
    with pytest.raises(ValueError, match="is not a 'refqnn probes 1'"):
        identify_files(tmp_path / "a.npz", tmp_path / "a.npz")
    write_probes("requantize", tmp_path / "p.npz")
    with pytest.raises(ValueError, match="the outputs lack 'y'"):
        identify_files(tmp_path / "p.npz", tmp_path / "p.npz")
    count = data.read_npz(tmp_path / "p.npz")["acc"].size
    for size in (3, count - 1, count + 1):
        with pytest.raises(ValueError, match=f"not one entry for each of the {count}"):
            identify_files(tmp_path / "p.npz", {"y": np.zeros(size)})
    with pytest.raises(ValueError, match="holds <U1, no real numbers"):
        identify_files(tmp_path / "p.npz", {"y": np.array(["a"] * count)})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"probes": [-1]}, r"probes must lie in \[0, "),
        ({"probes": [10**6]}, r"probes must lie in \[0, "),
        ({"probes": [0.5]}, "Expected `int`, got `float`"),
        ({"probes": None}, "Expected `array`, got `null`"),
        ({"confirming": -1}, "Expected `int` >= 0"),
        ({"family": "conv9d"}, "asks about no family: 'conv9d'"),
        ({"family": {}}, "Expected `str`, got `object`"),
    ],
)
def test_probes_that_are_no_questions_are_refused(tmp_path, changes, message):
    path = tmp_path / "p.npz"
    write_probes("dequantize", path)
    header, arrays = files.read_headed(path, "refqnn probes 1")
    files.write_npz(path, arrays, header | changes)
    with pytest.raises(files.Unreadable, match=message):
        identify_files(path, {"y": np.zeros(9999)})


def test_verify_can_refute(rng):
    floor = variant("requantize", requantize="floor")
    said = Semantics(requantize="floor")
    assert verify(floor, "requantize", said, rng=rng, inputs=2000).conforms
    assert not verify(floor, "requantize", Semantics(), rng=rng, inputs=2000).conforms


@pytest.mark.parametrize(
    ("alive", "how"), [(True, "confirmed"), (False, "held against")]
)
def test_what_fits_is_confirmed_and_what_does_not_has_a_verdict(alive, how):
    default = dict(FAMILIES["dequantize"].default)
    found = Identification(
        "dequantize",
        (default,) * alive,
        {},
        {},
        7,
        (1,),
        confirmed=5,
        regions=("ties",),
    )
    assert found.explained == alive
    head, *lines = str(found).splitlines()
    assert head == f"dequantize: decided by 7 inputs, {how} on 5 outputs in 1 regions"
    none = f"  none of the {len(FAMILIES['dequantize'].variants())} variants"
    assert lines == [none] * (not alive)
    if alive:
        assert default.items() <= dict(found.semantics).items()
    else:
        with pytest.raises(ValueError, match="no variant of dequantize agrees"):
            found.semantics  # noqa: B018 - a property


def test_variants_that_remain_are_those_asked_about_in_any_sequence():
    known = table("requantize")
    alive = range(len(known.variants))
    probe = known.discriminating()[0]
    left = remaining(known, alive, probe, known.outcomes[probe][3])
    assert 3 in left
    assert len(left) < len(alive)
    assert remaining(known, tuple(left), probe, known.outcomes[probe][3]) == left
