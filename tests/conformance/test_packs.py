"""Packs: the same bytes every time, a changed byte is seen, variants are detected."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from refqnn.conformance.choices.families import FAMILIES
from refqnn.conformance.choices.kinds import LENGTHS
from refqnn.conformance.judge.calls import Broken
from refqnn.conformance.reach import (
    exports,
    pack_files,
    pack_verify,
    packs,
)
from refqnn.conformance.reach.blindness import blindness
from refqnn.conformance.reach.packs import Unreadable

ROOT = Path(__file__).parent.parent.parent


#: digests of ``bits``. Whoever changes a draw writes them anew, and a line under
#: Numerics in CHANGELOG.md: PYTHONPATH=.:tests python -m conformance.test_packs
TABLE = Path(__file__).parent / "bits.json"
BITS = json.loads(TABLE.read_text())


def bits(pack):
    """Digest the calls of a pack and of its family, and what is compared exactly."""
    of = FAMILIES[pack.family]
    drawn = (of.draw(np.random.default_rng(n), n) for n in LENGTHS)
    asked = [*of.candidates(), *drawn]
    arrays = {
        f"{i}/{k}": np.asarray(v) for i, c in enumerate(asked) for k, v in c.items()
    }
    exact = {case.name for case in pack.cases if case.policy == "exact"}
    for name, array in pack.arrays().items():
        case, place = name.split("/")[:2]
        if place == "in" or case in exact:
            arrays[f"pack/{name}"] = array
    return packs.digest(arrays)[7:23]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_pack_detects_every_variant_and_keeps_the_bits_of_its_calls(name):
    pack = packs.generate(name)
    assert packs.score(pack)[1] == []
    assert bits(pack) == BITS[name]


@pytest.mark.once
@pytest.mark.parametrize("name", ["requantize", "max_pool2d", "lsq"])
def test_a_pack_sees_every_mistake(name):
    """A pack holds the covering, which is judged for every family in test_mutants."""
    pack = packs.generate(name)
    assert blindness(name, [case.inputs for case in pack.cases]).unseen == ()


def test_a_pack_of_variants_alone_is_blind():
    """What separates the variants does not look anywhere else."""
    table_of = [case.inputs for case in packs.generate("requantize").cases[:10]]
    blind = blindness("requantize", table_of)
    assert "shift: first element for all" in blind.unseen
    assert "mistakes it cannot see" in str(blind)


@pytest.mark.parametrize(
    ("name", "profile"),
    [
        ("requantize", "onnx"),
        ("requantize", "onnxruntime"),
        ("avg_pool2d", "torch"),
        ("lstm_cell", "onnxruntime"),
        ("batch_norm", "onnx"),
    ],
)
def test_packs_of_other_profiles_detect_every_variant(name, profile):
    assert packs.score(packs.generate(name, profile=profile))[1] == []


def test_score_lists_what_a_weak_pack_misses():
    pack = packs.generate("requantize")
    weak = packs.Pack(pack.family, pack.profile, pack.semantics, pack.cases[:1])
    count, missed = packs.score(weak)
    assert missed
    assert count + len(missed) == packs.score(pack)[0]


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


def plain(schema, known):
    """Resolve references; leave out titles, defaults and the order of lists."""
    if "$ref" in schema:
        return plain(known[schema["$ref"].rsplit("/", 1)[-1]], known)
    rules = {"enum": [schema["const"]]} if "const" in schema else {}
    for key, value in schema.items():
        if key in {"$schema", "title", "description", "default", "const"}:
            continue
        if key == "properties":
            rules[key] = {name: plain(rule, known) for name, rule in value.items()}
        elif isinstance(value, list):
            rules[key] = sorted(value)
        else:
            rules[key] = plain(value, known) if isinstance(value, dict) else value
    return rules


def published():
    folder = Path(pack_files.__file__).parent / "schema" / "pack.json"
    return plain(json.loads(folder.read_text()), {})


def test_the_published_schema_says_what_the_reader_checks():
    ours = msgspec.json.schema(pack_files.Manifest)
    assert plain(ours, ours["$defs"]) == published()
    changed = {**published(), "required": ["format"]}
    assert plain(ours, ours["$defs"]) != changed


def test_every_manifest_is_as_declared():
    for family in ("requantize", "quantize", "batch_norm"):
        manifest = packs.generate(family).manifest()
        msgspec.convert(manifest, pack_files.Manifest)
        assert set(manifest) == set(published()["properties"])


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


def test_a_changed_word_of_the_manifest_is_caught(tmp_path):
    pack_files.write(packs.generate("dequantize"), tmp_path)
    path = tmp_path / "manifest.json"
    path.write_text(path.read_text().replace('"exact"', '"lsb(1)"', 1))
    with pytest.raises(Unreadable, match="not what the digest says"):
        pack_files.read(tmp_path)


@pytest.mark.once
def test_every_changed_byte_of_the_vectors_is_caught_or_changes_nothing(tmp_path):
    """Of a pack of two cases: the container may change, the arrays may not."""
    pack = packs.generate("max_pool2d")
    small = replace(pack, cases=pack.cases[:2])
    pack_files.write(small, tmp_path)
    path = tmp_path / "vectors.npz"
    content, known = path.read_bytes(), small.arrays()
    for at in range(0, len(content), 3):
        changed = bytearray(content)
        changed[at] ^= 0x10
        path.write_bytes(bytes(changed))
        try:
            found = pack_files.read(tmp_path).arrays()
        except Unreadable:
            continue
        for name, array in known.items():
            np.testing.assert_array_equal(found[name], array, strict=True)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda m: m.pop("cases"), "missing required field `cases`"),
        (lambda m: m.update(version="2.0.0"), "version"),
        (lambda m: m.update(more=1), "unknown field `more`"),
        (lambda m: m.update(cases=[]), "length >= 1"),
        (lambda m: m["cases"][0].update(policy="near"), "policy"),
        (lambda m: m["cases"][0].update(result="good"), "Invalid enum value 'good'"),
        (lambda m: m["cases"][0].update(alternatives=-1), ">= 0"),
        (lambda m: m["cases"][0].update(name=3), "Expected `str`, got `int`"),
        (lambda m: m.update(format="pack"), "Invalid enum value 'pack'"),
    ],
)
def test_a_manifest_that_breaks_the_schema_is_unreadable(tmp_path, change, told):
    pack_files.write(packs.generate("dequantize"), tmp_path)
    path = tmp_path / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))
    with pytest.raises(Unreadable, match=re.escape(told)):
        pack_files.read(tmp_path)


def test_what_fits_the_schema_and_nothing_else_is_unreadable(tmp_path):
    pack = packs.generate("dequantize")
    pack_files.write(pack, tmp_path)
    path = tmp_path / "manifest.json"
    for change in ({"family": "conv9d"}, {"semantics": {}}):
        told = pack.manifest() | change
        told["digest"] = packs.digest(pack.arrays(), told)
        path.write_text(json.dumps(told))
        with pytest.raises(Unreadable, match="does not fit"):
            pack_files.read(tmp_path)


def test_what_must_be_refused_may_not_be_answered():
    pack = packs.generate("quantize")
    bad = next(c for c in pack.cases if c.result == "invalid")
    given = pack_verify.answers(pack, refusing)
    assert f"{bad.name}/y" not in given
    assert all(c.conforms for c in pack_verify.verify(pack, given))
    found = pack_verify.verify(pack, given | {f"{bad.name}/y": np.zeros(())})
    wrong = [c for c in found if not c.conforms]
    assert [c.name for c in wrong] == [bad.name]
    assert "must be refused" in str(wrong[0])
    assert (wrong[0].total, wrong[0].mismatches) == (1, 1)


def test_every_output_of_a_case_is_compared():
    pack = packs.generate("lstm_cell")
    family = FAMILIES["lstm_cell"]
    given = {
        f"{case.name}/{name}": value
        for case in pack.cases
        for name, value in family.evaluate(family.default, **case.inputs).items()
    }
    assert all(c.conforms for c in pack_verify.verify(pack, given))
    given["0000/c"] = given["0000/c"] + 1
    wrong = [c for c in pack_verify.verify(pack, given) if not c.conforms]
    assert [c.name for c in wrong] == ["0000/c"]


def test_a_manifest_without_optional_entries_is_read(tmp_path):
    """Alternatives and refusals came with version 1.1."""
    pack = packs.generate("dequantize")
    pack_files.write(pack, tmp_path)
    told = pack.manifest() | {"version": "1.0.0"}
    told["cases"] = [
        {k: v for k, v in case.items() if k not in {"alternatives", "may_be_refused"}}
        for case in told["cases"]
    ]
    del told["open"], told["profile"]
    told["digest"] = packs.digest(pack.arrays(), told)
    (tmp_path / "manifest.json").write_text(json.dumps(told))
    again = pack_files.read(tmp_path)
    assert (again.profile, again.open) == ("", ())
    assert [c.name for c in again.cases] == [c.name for c in pack.cases]
    assert not any(c.may_be_refused or c.alternatives for c in again.cases)


def test_a_crash_is_no_refusal():
    def crashing(x, *_):
        if np.isnan(x).any():
            os.abort()
        return np.zeros(np.shape(x))

    pack = packs.generate("quantize")
    with pytest.raises(Broken, match="signal 6"):
        pack_verify.answers(pack, crashing)
    with pytest.raises(ZeroDivisionError):
        pack_verify.answers(pack, lambda *_: 1 // 0, in_process=True)


def refusing(x, scale, zero_point, q_min, q_max):
    """The default semantics of quantize, in NumPy."""
    if np.isnan(x).any():
        raise ValueError("NaN")
    return np.clip(np.rint(x / scale) + zero_point, q_min, q_max)


def test_axes_that_a_specification_leaves_open_are_acceptable():
    pack = packs.generate("quantize", profile="onnxruntime")
    open_ = [c for c in pack.cases if c.result == "acceptable"]
    assert open_
    assert all(np.isnan(c.inputs["x"]).any() for c in open_)
    answers = {
        f"{c.name}/y": FAMILIES["quantize"].evaluate(pack.semantics, **c.inputs)["y"]
        for c in pack.cases
    }
    for code in (-128, 127, int(open_[0].inputs["zero_point"])):
        given = answers | {f"{c.name}/y": np.asarray(code) for c in open_[:1]}
        assert all(c.conforms for c in pack_verify.verify(pack, given))
    given = answers | {f"{open_[0].name}/y": np.asarray(55)}
    assert not all(c.conforms for c in pack_verify.verify(pack, given))
    without = {k: v for k, v in answers.items() if not k.startswith(open_[0].name)}
    assert all(c.conforms for c in pack_verify.verify(pack, without))
    assert packs.score(pack)[1] == []


def test_outputs_of_a_pack_are_diagnosed():
    pack = packs.generate("requantize")
    of = FAMILIES["requantize"]
    answers = {
        f"{c.name}/y": of.evaluate(of.default | {"requantize": "trunc"}, **c.inputs)[
            "y"
        ]
        for c in pack.cases
    }
    found = pack_verify.diagnose_pack(pack, answers)
    assert found.best.variants[0]["requantize"] == "trunc"
    assert pack_verify.diagnose_pack(pack, {}) is None
    told = pack_verify.report(pack_verify.verify(pack, answers), found)
    assert "requantize = trunc" in told
    assert f"/ {len(pack.cases)} cases conform" in told


@pytest.mark.parametrize("name", ["conv2d", "avg_pool2d", "training_step", "sgd"])
def test_packs_of_calls_survive_their_files(name, tmp_path):
    """Tuples, lists of numbers and flags come back as what the family takes."""
    pack = packs.generate(name)
    pack_files.write(pack, tmp_path)
    again = pack_files.read(tmp_path)
    assert again.manifest() == pack.manifest()
    of = FAMILIES[name]
    for case in again.cases:
        for key, value in of.evaluate(of.default, **case.inputs).items():
            np.testing.assert_array_equal(value, case.outputs[key])


def test_packs_are_the_same_bytes_in_another_process_on_another_day(tmp_path):
    """The clock is moved: NumPy and zip files could write a date; one thread."""
    code = (
        "import sys, time, datetime; past = time.time() - 400 * 86400;"
        "time.time = lambda: past; time.localtime = lambda *_: time.gmtime(0);"
        "from refqnn.conformance import pack_files, packs;"
        "pack_files.write(packs.generate('requantize'), sys.argv[1])"
    )
    other = tmp_path / "elsewhere" / "pack"
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "1"}
    command = [sys.executable, "-c", code, str(other)]
    subprocess.run(command, check=True, cwd=tmp_path, env=env)
    pack_files.write(packs.generate("requantize"), tmp_path / "here")
    for name in ("manifest.json", "vectors.npz"):
        assert (other / name).read_bytes() == (tmp_path / "here" / name).read_bytes()


if __name__ == "__main__":
    table = {name: bits(packs.generate(name)) for name in FAMILIES}
    TABLE.write_text(json.dumps(table, indent=1) + "\n")
