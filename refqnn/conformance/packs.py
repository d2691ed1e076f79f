"""Packs: vectors with a purpose, in two files that regenerate byte for byte.

    manifest.json   what each case is, how it is compared, which mistakes it reveals
    vectors.npz     CASE/in/NAME and CASE/out/NAME, CASE/bound/NAME where needed

The digest covers names, dtypes, shapes and little-endian bytes of every array: not the
container, so that a repacked file is the same pack and a changed byte is not. The JSON
Schema of the manifest is ``schema/pack.json`` in this folder.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple, final

import numpy as np

from refqnn._types import Array
from refqnn.conformance.calls import as_outputs
from refqnn.conformance.compare import Comparison, compare
from refqnn.conformance.families import REFUSED, Family, Inputs, Outputs, family_of
from refqnn.conformance.profiles import profile_of
from refqnn.conformance.tables import table
from refqnn.data import read_npz
from refqnn.nn.checkpoint import write_npz

VERSION = "1.0.0"
SEED = 20_240_616
#: elements of the random case
RANDOM = 256


class Unreadable(ValueError):  # noqa: N818 - says what the file is
    """A file that is damaged or none of ours; the command line leaves with 4."""

    exit_code = 4


class Case(NamedTuple):
    """One call: inputs, outputs, the policy, and the deviations it reveals."""

    name: str
    inputs: Inputs
    outputs: Outputs
    policy: str
    reveals: tuple[str, ...]
    #: valid, acceptable (more than one answer is right) or invalid (must be refused)
    result: str = "valid"


@final
@dataclass(frozen=True)
class Pack:
    """Cases of one family under one semantics."""

    family: str
    profile: str
    semantics: Mapping[str, str]
    cases: tuple[Case, ...]

    def arrays(self) -> dict[str, Array]:
        """Return every array under its name in the file."""
        found: dict[str, Array] = {}
        for case in self.cases:
            for name, value in case.inputs.items():
                found[f"{case.name}/in/{name}"] = little_endian(np.asarray(value))
            for name, value in case.outputs.items():
                found[f"{case.name}/out/{name}"] = little_endian(np.asarray(value))
        return found

    def manifest(self) -> dict[str, Any]:
        """Return what the manifest says."""
        return {
            "format": "refqnn pack",
            "version": VERSION,
            "family": self.family,
            "profile": self.profile,
            "semantics": dict(self.semantics),
            "digest": digest(self.arrays()),
            "cases": [
                {
                    "name": case.name,
                    "inputs": list(case.inputs),
                    "outputs": list(case.outputs),
                    "policy": case.policy,
                    "result": case.result,
                    "reveals": list(case.reveals),
                }
                for case in self.cases
            ],
        }


def little_endian(array: Array) -> Array:
    """Return an array in C order and little-endian bytes.

    >>> little_endian(np.array([1], ">i2")).dtype.str
    '<i2'
    """
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(
        array.shape
    )


def digest(arrays: Mapping[str, Array]) -> str:
    """Return the sha256 of names, dtypes, shapes and bytes, names sorted.

    >>> digest({"a": np.int8([1])}) == digest({"a": np.int16([1])})
    False
    """
    whole = hashlib.sha256()
    for name in sorted(arrays):
        array = little_endian(arrays[name])
        head = json.dumps([name, array.dtype.str, list(array.shape)])
        whole.update(head.encode() + b"\n" + array.tobytes())
    return f"sha256:{whole.hexdigest()}"


def generate(family: str, *, profile: str = "refqnn") -> Pack:
    """Return the cases that separate every variant of a family, and a random one.

    The same bits on every day, machine and number of threads.
    """
    known = table(family)
    of = known.family
    choices = of.choices(profile_of(profile).semantics(family))
    rng = np.random.default_rng(SEED)
    calls = [known.probes[p] for p in known.discriminating()]
    calls.append(of.draw(rng, RANDOM))
    cases = (case_of(of, choices, f"{i:04d}", call) for i, call in enumerate(calls))
    return Pack(family, profile, choices, tuple(cases))


def case_of(of: Family, choices: Mapping[str, str], name: str, call: Inputs) -> Case:
    """Return a case: what the semantics answers, and which deviations answer else."""
    outputs = of.evaluate(choices, **call)
    refused = any(np.any(a == REFUSED) for a in outputs.values())
    reveals = [
        f"{axis} = {value}"
        for axis, values in of.axes.items()
        for value in values
        if value != choices[axis]
        and differs(of, of.evaluate({**choices, axis: value}, **call), outputs)
    ]
    policy = "bound" if of.close else "exact"
    result = "invalid" if refused else "valid"
    return Case(name, call, outputs, policy, tuple(reveals), result)


def differs(of: Family, got: Outputs, want: Outputs) -> bool:
    """Return whether a comparison under the policy of the family fails."""
    return not all(of.agree(got[name], want[name]).all() for name in want)


def write(pack: Pack, folder: str | os.PathLike[str]) -> None:
    """Write a pack; the folder is made."""
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    write_npz(path / "vectors.npz", pack.arrays())
    text = json.dumps(pack.manifest(), indent=1, sort_keys=True) + "\n"
    part = path / ".manifest.json.part"
    part.write_text(text, encoding="utf-8")
    part.replace(path / "manifest.json")


def read(folder: str | os.PathLike[str]) -> Pack:
    """Read a pack; raise Unreadable where files are missing, damaged or changed."""
    path = Path(folder)
    try:
        manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        arrays = read_npz(path / "vectors.npz")
    except (OSError, ValueError) as error:
        raise Unreadable(f"{folder} is no pack: {error}") from error
    try:
        family_of(manifest["family"])
        if digest(arrays) != manifest["digest"]:
            raise Unreadable(f"{folder}: vectors.npz is not what the digest says")
        cases = tuple(read_case(row, arrays) for row in manifest["cases"])
        found = Pack(
            manifest["family"], manifest["profile"], manifest["semantics"], cases
        )
    except (KeyError, TypeError) as error:
        raise Unreadable(f"{folder}: the manifest lacks {error}") from error
    return found


def read_case(row: Mapping[str, Any], arrays: Mapping[str, Array]) -> Case:
    """Return one case of a manifest."""
    inputs = {k: scalar(arrays[f"{row['name']}/in/{k}"]) for k in row["inputs"]}
    outputs = {k: arrays[f"{row['name']}/out/{k}"] for k in row["outputs"]}
    reveals = tuple(row["reveals"])
    return Case(row["name"], inputs, outputs, row["policy"], reveals, row["result"])


def scalar(array: Array) -> Any:
    """Return what was a Python int or bool as one again, the rest as it is."""
    return array.item() if array.ndim == 0 and array.dtype.char in "l?" else array


def verify(pack: Pack, outputs: Mapping[str, Array]) -> list[Comparison]:
    """Compare outputs named ``CASE/NAME`` with a pack; invalid cases are left out.

    A missing output is an error of its case, never skipped.
    """
    of = family_of(pack.family)
    return [
        compare_case(of, case, outputs) for case in pack.cases if case.result == "valid"
    ]


def compare_case(of: Family, case: Case, outputs: Mapping[str, Array]) -> Comparison:
    """Compare the outputs of one case, the first that differs."""
    found = Comparison(case.name, 0, 0, error="no outputs")
    for name, want in case.outputs.items():
        key = f"{case.name}/{name}"
        if key not in outputs:
            return Comparison(key, 0, 0, error="missing")
        bound = of.close * (1 + np.abs(want)) if case.policy == "bound" else None
        found = compare(outputs[key], want, name=key, policy=case.policy, bound=bound)
        if not found.conforms:
            return found
    return found


def answers(pack: Pack, function: Any) -> dict[str, Array]:
    """Return what a function answers to every valid case, named ``CASE/NAME``."""
    of = family_of(pack.family)
    return {
        f"{case.name}/{name}": value
        for case in pack.cases
        if case.result == "valid"
        for name, value in as_outputs(of, function(*case.inputs.values())).items()
    }


def score(pack: Pack) -> tuple[int, list[dict[str, str]]]:
    """Return how many variants a pack detects, and those that it does not.

    Variants that are provably the pack's own semantics do not count.
    """
    of = family_of(pack.family)
    mine = of.canonical(pack.semantics)
    others = [v for v in of.variants() if of.canonical(v) != mine]
    missed = [v for v in others if not detected(of, pack, v)]
    return len(others) - len(missed), missed


def detected(of: Family, pack: Pack, variant: Mapping[str, str]) -> bool:
    """Return whether some case fails under a variant."""
    return any(
        differs(of, of.evaluate(variant, **case.inputs), case.outputs)
        for case in reversed(pack.cases)
    )


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a manifest."""
    file = resources.files("refqnn.conformance") / "schema" / "pack.json"
    return dict(json.loads(file.read_text(encoding="utf-8")))


def export(pack: Pack, kind: str) -> bytes:
    """Return a pack as ``c-header``, ``hex``, ``csv`` or ``safetensors``."""
    if kind not in FORMATS:
        raise ValueError(f"format must be one of {list(FORMATS)}, got {kind!r}")
    made: bytes = FORMATS[kind](pack)
    return made


def c_header(pack: Pack) -> bytes:
    """One ``static const`` array an entry, its length beside it."""
    guard = f"REFQNN_{pack.family.upper()}_H"
    lines = [f"#ifndef {guard}", f"#define {guard}", "#include <stdint.h>"]
    lines.append("#include <math.h>")
    for name, array in pack.arrays().items():
        symbol = f"case_{name.replace('/', '_')}"
        values = ", ".join(c_number(v) for v in array.ravel().tolist())
        kind = C_NAMES[array.dtype.kind + str(array.dtype.itemsize)]
        lines.append(f"enum {{ {symbol}_size = {array.size} }};")
        lines.append(f"static const {kind} {symbol}[] = {{{values}}};")
    return ("\n".join([*lines, "#endif"]) + "\n").encode()


C_NAMES = {
    **{f"i{n}": f"int{8 * n}_t" for n in (1, 2, 4, 8)},
    **{f"u{n}": f"uint{8 * n}_t" for n in (1, 2, 4, 8)},
    "f4": "float",
    "f8": "double",
    "b1": "uint8_t",
}


def c_number(value: float) -> str:
    """Return a number in C; floats in hexadecimal, which is exact.

    >>> c_number(3), c_number(0.5), c_number(float("inf"))
    ('3', '0x1.0000000000000p-1', 'INFINITY')
    """
    if isinstance(value, bool | int):
        return str(int(value))
    if np.isnan(value):
        return "NAN"
    if np.isinf(value):
        return "INFINITY" if value > 0 else "-INFINITY"
    return value.hex()


def hexadecimal(pack: Pack) -> bytes:
    """A comment with the name, then one word a line, most significant digit first."""
    lines = []
    for name, array in pack.arrays().items():
        lines.append(f"// {name} {array.dtype.name} {list(array.shape)}")
        words = array.astype(array.dtype.newbyteorder(">")).tobytes()
        n = array.dtype.itemsize
        lines += [words[i : i + n].hex() for i in range(0, len(words), n)]
    return ("\n".join(lines) + "\n").encode()


def csv(pack: Pack) -> bytes:
    """One line a number: array, index, value."""
    lines = ["array,index,value"]
    for name, array in pack.arrays().items():
        lines += [f"{name},{i},{v!r}" for i, v in enumerate(array.ravel().tolist())]
    return ("\n".join(lines) + "\n").encode()


def safetensors(pack: Pack) -> bytes:
    """Return the arrays in the format of the safetensors package, if it is there."""
    try:
        from safetensors.numpy import save  # noqa: PLC0415
    except ImportError as error:
        raise ValueError("format safetensors needs: pip install safetensors") from error
    return bytes(save(pack.arrays()))


FORMATS = {
    "c-header": c_header,
    "hex": hexadecimal,
    "csv": csv,
    "safetensors": safetensors,
}


def listed(comparisons: Sequence[Comparison]) -> str:
    """Return the comparisons that fail, and how many conform."""
    bad = [str(c) for c in comparisons if not c.conforms]
    good = len(comparisons) - len(bad)
    return "\n".join([*bad, f"{good} / {len(comparisons)} cases conform"])
