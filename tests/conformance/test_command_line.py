"""The commands of section 3.6 as written, with their exit codes; pipes and files."""

import io
import json
import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from refqnn import cli
from refqnn.cli import inputs
from refqnn.conformance.choices.families import FAMILIES
from refqnn.conformance.choices.profiles import profiles
from refqnn.conformance.reach import goldens, pack_files, pack_verify, packs, stream
from refqnn.conformance.reach.packs import Unreadable


def command(*argv):
    return cli.main([*map(str, argv)])


@pytest.fixture
def typed(monkeypatch):
    """Give bytes to standard input."""

    def give(content):
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(content)))

    return give


def answers(pack, **changes):
    of = FAMILIES[pack.family]
    return {
        f"{case.name}/{name}": value
        for case in pack.cases
        for name, value in of.evaluate(of.default | changes, **case.inputs).items()
    }


def as_bytes(arrays):
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


@pytest.mark.parametrize("what", ["ops", "quantizers", "profiles", "axes", "checks"])
def test_lists(what, capsys):
    assert command("list", what) == 0
    assert capsys.readouterr().out.count("\n") >= 3
    assert command("list", what, "--json") == 0
    assert list(json.loads(capsys.readouterr().out)) == [what]


def test_profiles_say_when_they_were_verified(capsys):
    assert command("list", "profiles") == 0
    assert capsys.readouterr().out.count("verified 20") == len(profiles)
    assert command("list", "profiles", "--json") == 0
    torch = json.loads(capsys.readouterr().out)["profiles"]["torch"]
    assert torch["version"] == "2.13.0"
    assert torch["rows"][0]["deviations"]["scaling"] == "reciprocal_fma"


def test_explain(capsys):
    assert command("explain", "requantize", "--profile", "onnx") == 0
    assert "rint(float64(acc) * float32(real))" in capsys.readouterr().out
    assert command("explain", "requantize", "--profile", "onnx", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["semantics"]["requantize"] == "mixed_half_even"


def test_verify_and_its_exit_codes(tmp_path, capsys):
    pack, out = tmp_path / "pack", tmp_path / "out.npz"
    assert command("generate", "conv2d", "-o", pack) == 0
    known = pack_files.read(pack)
    np.savez(out, **answers(known))
    assert command("verify", pack, out) == 0
    np.savez(out, **answers(known, kernel="convolution"))
    assert command("verify", pack, out) == 1
    assert "kernel = convolution" in capsys.readouterr().out
    assert command("verify", pack, out, "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert found["diagnosis"]["explained"]
    assert found["conforms"] is False
    np.savez(out, other=np.zeros(1))
    assert command("verify", pack, out) == 3
    assert command("verify", pack, tmp_path / "absent.npz") == 4
    out.write_bytes(b"PK garbage")
    assert command("verify", pack, out) == 4
    assert command("verify", tmp_path, out) == 4
    assert command("verify", pack) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_outputs_come_from_a_pipe_or_a_folder(tmp_path, typed):
    pack = packs.generate("dequantize")
    pack_files.write(pack, tmp_path / "pack")
    given = answers(pack)
    typed(as_bytes(given))
    assert command("verify", tmp_path / "pack", "-") == 0
    typed(b"")
    assert command("verify", tmp_path / "pack", "-") == 4
    folder = tmp_path / "outputs"
    folder.mkdir()
    for case in pack.cases:
        np.savez(folder / f"{case.name}.npz", y=given[f"{case.name}/y"])
    assert command("verify", tmp_path / "pack", folder) == 0


def test_probes_and_what_they_tell(tmp_path, typed):
    probes, out = tmp_path / "p.npz", tmp_path / "out.npz"
    assert command("probe", "dequantize", "-o", probes) == 0
    family = FAMILIES["dequantize"]
    arrays = dict(np.load(probes))
    arrays.pop("json")
    right = family.evaluate(family.default, **arrays)
    np.savez(out, **right)
    assert command("identify", probes, out) == 0
    typed(as_bytes(right))
    assert command("identify", probes, "-") == 0
    np.savez(out, y=np.full(len(arrays["q"]), 7.0))
    assert command("identify", probes, out) == 1
    assert command("identify", out, out) == 4
    assert command("identify", probes, probes) == 4
    assert command("identify", tmp_path / "absent.npz", out) == 4


def test_bytes_go_to_standard_output_alone(tmp_path, capfdbinary):
    probes = tmp_path / "p.npz"
    assert command("probe", "lstm_cell", "-o", probes) == 0
    capfdbinary.readouterr()
    assert command("probe", "lstm_cell", "-o", "-") == 0
    assert capfdbinary.readouterr().out == probes.read_bytes()
    assert command("probe", "lstm_cell", "-o", "-", "--json") == 2


@pytest.mark.parametrize("form", ["c-header", "hex", "csv", "safetensors"])
def test_exports(form, tmp_path, capfdbinary):
    if form == "safetensors":
        pytest.importorskip("safetensors")
    pack, file = tmp_path / "pack", tmp_path / "file"
    assert command("generate", "dequantize", "-o", pack) == 0
    assert command("export", pack, "--format", form, "-o", file) == 0
    capfdbinary.readouterr()
    assert command("export", pack, "--format", form) == 0
    beside = pack.with_suffix({"c-header": ".h"}.get(form, f".{form}"))
    assert beside.read_bytes() == file.read_bytes()
    capfdbinary.readouterr()
    assert command("export", pack, "--format", form, "-o", "-") == 0
    assert capfdbinary.readouterr().out == file.read_bytes()
    assert command("export", tmp_path, "--format", form, "-o", file) == 4
    if form == "safetensors":
        from safetensors.numpy import load

        for name, array in load(file.read_bytes()).items():
            want = pack_files.read(pack).arrays()[name]
            np.testing.assert_array_equal(array, want, strict=True)


def test_scores(tmp_path, capsys):
    assert command("generate", "conv2d", "-o", tmp_path / "pack") == 0
    assert command("score", tmp_path / "pack") == 0
    pack = packs.generate("requantize")
    weak = packs.Pack(pack.family, pack.profile, pack.semantics, pack.cases[:1])
    pack_files.write(weak, tmp_path / "weak")
    capsys.readouterr()
    assert command("score", tmp_path / "weak") == 1
    assert "missed: requantize = " in capsys.readouterr().out
    assert command("score", tmp_path / "absent") == 4
    (tmp_path / "empty").mkdir()
    assert command("score", tmp_path / "empty") == 4


def test_foreign_goldens_are_scored_and_converted(tmp_path, capsys, monkeypatch):
    cases = packs.generate("linear").cases
    right = [goldens.Golden(c.name, "linear", c.inputs, c.outputs) for c in cases]
    suite = goldens.Suite(tuple(right), {"b": "too odd"})
    monkeypatch.setattr(goldens, "read", lambda _: suite)
    assert command("score", tmp_path) == 0
    shown = capsys.readouterr().out
    line = r"linear: \d+ cases, (\d+) / (\d+) variants"
    detected, of = re.search(line, shown).groups()
    assert detected == of
    assert "not read: 1 (b): too odd" in shown
    assert command("convert", tmp_path, "-o", tmp_path / "packs") == 0
    assert command("verify", tmp_path / "packs" / "linear-foreign", tmp_path) == 3
    family, call = FAMILIES["linear"], cases[0].inputs
    weak = call | {"x": np.zeros_like(call["x"]), "x_zero_point": 0}
    blind = goldens.Golden("a", "linear", weak, family.evaluate(family.default, **weak))
    monkeypatch.setattr(goldens, "read", lambda _: goldens.Suite((blind,)))
    assert command("score", tmp_path) == 1
    monkeypatch.setattr(goldens, "read", lambda _: goldens.Suite((), {"b": "odd"}))
    assert command("score", tmp_path) == 3


def test_usage(capsys):
    assert command("generate", "conv9d") == 2
    assert command("list", "everything") == 2
    assert command("generate", "requantize", "--stream", "-o", "x") == 2
    assert "family must be one of" in capsys.readouterr().err


ALWAYS_ZERO = """
import sys, json
for i, line in enumerate(sys.stdin):
    row = json.loads(line)
    print(json.dumps({'call': row['call'], 'y': 0} if i else row))
"""


def implementation(lines, change=int):
    """Answer a stream as a program in another language would."""
    head, *calls = lines
    told = [head]
    for line in calls:
        call = json.loads(line)
        number = call.pop("call")
        product = call["acc"] * call["multiplier"]
        q = (product + (1 << (30 - call["shift"]))) >> (31 - call["shift"])
        q = min(max(q + call["zero_point"], call["q_min"]), call["q_max"])
        told.append(json.dumps({"call": number, "y": change(q)}))
    return told


def test_a_stream_goes_through_a_pipe():
    """refqnn generate requantize --stream | ./impl | refqnn verify -"""
    refqnn = [sys.executable, "-m", "refqnn"]
    program = [sys.executable, "-c", ALWAYS_ZERO]
    asked = subprocess.Popen(
        [*refqnn, "generate", "requantize", "--stream"], stdout=subprocess.PIPE
    )
    with asked:
        answered = subprocess.run(
            program, stdin=asked.stdout, capture_output=True, check=True
        )
    judged = subprocess.run(
        [*refqnn, "verify", "-"],
        input=answered.stdout,
        capture_output=True,
        check=False,
    )
    assert judged.returncode == 1
    assert b"nothing was computed" in judged.stdout
    assert judged.stderr == b""


def test_a_right_stream_conforms(typed, capsys):
    assert command("generate", "requantize", "--stream") == 0
    lines = capsys.readouterr().out.splitlines()
    typed("\n".join(implementation(lines)).encode())
    assert command("verify", "-") == 0
    shuffled = implementation(lines)[:1] + implementation(lines)[:0:-1]
    typed("\n".join(shuffled).encode())
    assert command("verify", "-") == 0
    typed("\n".join(implementation(lines, lambda q: max(q, 0))).encode())
    assert command("verify", "-") == 1
    typed(lines[0].encode())
    assert command("verify", "-") == 3


def test_streams_of_calls_hold_whole_arrays():
    pack = packs.generate("max_pool2d")
    lines = list(stream.lines(pack))
    assert len(lines) == 1 + len(pack.cases)
    want = answers(pack)
    told = [
        json.dumps({"call": i, "y": want[f"{case.name}/y"].tolist()})
        for i, case in enumerate(pack.cases)
    ]
    again, given = stream.read([lines[0], *told])
    assert again.manifest() == pack.manifest()
    assert all(c.conforms for c in pack_verify.verify(pack, given))


def test_null_and_silence_refuse():
    pack = packs.generate("quantize")
    lines = list(stream.lines(pack))
    calls = [json.loads(line) for line in lines[1:]]
    nan = [i for i, call in enumerate(calls) if call["x"] != call["x"]]
    assert nan
    want = answers(pack)
    told = [json.dumps({"call": i, "y": None}) for i in nan[1:]]
    for i, call in enumerate(stream.calls(pack)):
        if i not in nan:
            y = np.ravel(want[f"{call.case}/y"])[call.element or 0]
            told.append(json.dumps({"call": i, "y": int(y)}))
    _, given = stream.read([lines[0], *told])
    assert all(c.conforms for c in pack_verify.verify(pack, given))


HEAD = next(stream.lines(packs.generate("max_pool2d")))


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([], "first line is not the header"),
        (['{"call": 0, "y": 1}'], "first line is not the header"),
        ([HEAD, "garbage"], "line 2 is no JSON"),
        ([HEAD, "[1]"], "line 2 is no JSON object"),
        ([HEAD, "[" * 100_000], "line 2 is JSON nested more than 64 deep"),
        ([HEAD, '{"call": 99, "y": 1}'], r"call 99 is none of 0 to \d+"),
        ([HEAD, '{"y": 1}'], "call None is none of"),
        ([HEAD, '{"call": true, "y": 1}'], "call True is none of"),
        ([HEAD, '{"call": 0, "y": 1}'] * 2, "call None is none of"),
        ([HEAD, '{"call": 0, "y": 1}', '{"call": 0, "y": 2}'], "answered twice"),
        ([HEAD, '{"call": 0, "y": "one"}'], "is no number"),
        ([HEAD, '{"call": 0, "y": [[1], [2, 3]]}'], "call 0: "),
        ([HEAD.replace("sha256:", "sha256:0")], "does not generate"),
        ([HEAD.replace("max_pool2d", "conv9d")], "names no pack"),
    ],
)
def test_streams_that_are_none_are_unreadable(lines, told):
    with pytest.raises(Unreadable, match=told):
        stream.read(lines)


def test_input_without_an_end_is_refused(typed, monkeypatch, capsys):
    monkeypatch.setattr(inputs, "LARGEST_INPUT", 10)
    for size in (10, 11):
        typed(b"x" * size)
        assert command("verify", "-") == 4
        assert ("more than 10 bytes" in capsys.readouterr().err) == (size == 11)
