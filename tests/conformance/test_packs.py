"""Packs: the same bytes every time, a changed byte is seen, variants are detected."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from refqnn import cli
from refqnn.conformance import exports, pack_files, pack_verify, packs
from refqnn.conformance.families import FAMILIES
from refqnn.conformance.packs import Unreadable

ROOT = Path(__file__).parent.parent.parent
SMALL = [
    "requantize",
    "dequantize",
    "linear",
    "max_pool2d",
    "lstm_cell",
    "batch_norm",
    "softmax_cross_entropy",
    "sgd",
    "gate",
    "pact",
    "lsq",
    "ternary",
    "twn",
]


@pytest.mark.parametrize("name", SMALL)
def test_a_pack_detects_every_variant(name):
    assert packs.score(packs.generate(name))[1] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in FAMILIES if n not in SMALL])
def test_every_other_pack_detects_every_variant(name):
    assert packs.score(packs.generate(name))[1] == []


def test_score_lists_what_a_weak_pack_misses():
    pack = packs.generate("requantize")
    weak = packs.Pack(pack.family, pack.profile, pack.semantics, pack.cases[:1])
    count, missed = packs.score(weak)
    assert missed
    assert count + len(missed) == packs.score(pack)[0]


def test_packs_are_the_same_bytes_in_another_process(tmp_path):
    code = (
        "import sys; from refqnn.conformance import pack_files, packs;"
        "pack_files.write(packs.generate('requantize'), sys.argv[1])"
    )
    for threads in ("1", "2"):
        env = os.environ | {"OMP_NUM_THREADS": threads, "PYTHONHASHSEED": threads}
        command = [sys.executable, "-c", code, str(tmp_path / threads)]
        subprocess.run(command, check=True, cwd=ROOT, env=env)
    for name in ("manifest.json", "vectors.npz"):
        assert (tmp_path / "1" / name).read_bytes() == (
            tmp_path / "2" / name
        ).read_bytes()


def test_a_pack_survives_its_files(tmp_path):
    pack = packs.generate("dequantize", profile="onnx")
    pack_files.write(pack, tmp_path)
    again = pack_files.read(tmp_path)
    assert again.manifest() == pack.manifest()


def test_a_changed_byte_is_caught(tmp_path):
    pack = packs.generate("dequantize")
    pack_files.write(pack, tmp_path)
    arrays = dict(np.load(tmp_path / "vectors.npz"))
    arrays["0000/out/y"] = arrays["0000/out/y"] + np.float32(1)
    np.savez(tmp_path / "vectors.npz", **arrays)
    with pytest.raises(Unreadable, match="not what the digest says"):
        pack_files.read(tmp_path)


def test_the_digest_sees_names_dtypes_shapes_and_bytes():
    base = {"a": np.zeros(4, np.int8)}
    others = [
        {"b": base["a"]},
        {"a": np.zeros(4, np.uint8)},
        {"a": np.zeros((2, 2), np.int8)},
        {"a": np.int8([0, 0, 0, 1])},
    ]
    assert len({packs.digest(a) for a in (base, *others)}) == 5
    swapped = {"a": np.arange(3, dtype=">i4")}
    assert packs.digest(swapped) == packs.digest({"a": np.arange(3, dtype="<i4")})


def test_manifests_follow_the_schema():
    manifest = json.loads(json.dumps(packs.generate("requantize").manifest()))
    rules = pack_files.schema()
    assert set(rules["required"]) <= set(manifest) <= set(rules["properties"])
    assert re.fullmatch(rules["properties"]["digest"]["pattern"], manifest["digest"])
    case = rules["properties"]["cases"]["items"]
    for each in manifest["cases"]:
        assert set(case["required"]) <= set(each) <= set(case["properties"])
        assert re.fullmatch(case["properties"]["policy"]["pattern"], each["policy"])
        assert each["result"] in case["properties"]["result"]["enum"]


def test_cases_name_the_mistakes_they_reveal():
    revealed = {r for case in packs.generate("requantize").cases for r in case.reveals}
    assert {"requantize = trunc", "overflow = wrap", "multiplier_bits = 15"} <= revealed


def test_invalid_cases_are_those_that_must_be_refused():
    cases = packs.generate("quantize").cases
    bad = [c for c in cases if c.result == "invalid"]
    assert bad
    assert all(np.isnan(c.inputs["x"]).any() for c in bad)


def test_exports_hold_every_number():
    pack = packs.generate("dequantize")
    total = sum(a.size for a in pack.arrays().values())
    assert exports.export(pack, "csv").count(b"\n") == total + 1
    words = [
        w for w in exports.export(pack, "hex").split(b"\n") if w and w[:2] != b"//"
    ]
    assert len(words) == total
    header = exports.export(pack, "c-header").decode()
    assert header.count("static const") == len(pack.arrays())
    assert "0x1." in header
    with pytest.raises(ValueError, match="format must be one of"):
        exports.export(pack, "xml")


def command(*argv):
    return cli.main([*map(str, argv)])


def test_the_command_line_and_its_exit_codes(tmp_path, capsys):
    pack, out, probes = tmp_path / "pack", tmp_path / "out.npz", tmp_path / "p.npz"
    assert command("generate", "dequantize", "-o", pack) == 0
    known = pack_files.read(pack)
    family = FAMILIES["dequantize"]
    names = list(known.cases[0].inputs)

    def answer(shift):
        return pack_verify.answers(
            known,
            lambda *a: (
                family.evaluate(family.default, **dict(zip(names, a, strict=True)))["y"]
                + np.float32(shift)
            ),
        )

    np.savez(out, **answer(0))
    assert command("verify", pack, out) == 0
    np.savez(out, **answer(1))
    assert command("verify", pack, out) == 1
    np.savez(out, other=np.zeros(1))
    assert command("verify", pack, out) == 3
    assert command("verify", pack, tmp_path / "absent.npz") == 4
    assert command("verify", tmp_path, out) == 4
    assert command("generate", "conv9d") == 2
    assert command("score", pack) == 0
    assert command("export", pack, "--format", "csv", "-o", tmp_path / "a.csv") == 0
    assert command("probe", "dequantize", "-o", probes) == 0
    assert command("identify", probes, out) == 4
    arrays = dict(np.load(probes))
    arrays.pop("json")
    np.savez(out, **family.evaluate(family.default, **arrays))
    assert command("identify", probes, out) == 0
    np.savez(out, y=np.full(len(arrays["q"]), 7.0))
    assert command("identify", probes, out) == 1
    for what in ("ops", "quantizers", "profiles", "axes", "checks"):
        assert command("list", what) == 0
    assert command("explain", "requantize", "--profile", "onnxruntime") == 0
    assert "Traceback" not in capsys.readouterr().err


def test_json_answers_are_json(capsys):
    assert command("list", "profiles", "--json") == 0
    assert "torch" in json.loads(capsys.readouterr().out)["profiles"]
