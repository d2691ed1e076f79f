"""Packs: vectors with a purpose, in two files, the same bytes every time on a machine.

    manifest.json   what each case is, how it is compared, which mistakes it reveals
    vectors.npz     CASE/in/NAME, CASE/out/NAME, CASE/also/K/NAME

A valid case has one right answer. An acceptable one has alternatives, where the profile
lists an axis that the runtime's specification leaves open. An invalid one must be
refused: an implementation that answers it at all is wrong.

The digest covers the manifest, and names, dtypes, shapes and little-endian bytes of
every array: not the container, so that a repacked file is the same pack and a changed
byte is not. The JSON
Schema of the manifest is ``schema/pack.json`` in this folder.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import numpy as np

from refqnn import files
from refqnn._types import Array
from refqnn.conformance.choices.families import family_of
from refqnn.conformance.choices.family import REFUSED, Family, Inputs, Outputs
from refqnn.conformance.choices.profiles import profile_of
from refqnn.conformance.choices.regions import covering
from refqnn.conformance.choices.variants import table
from refqnn.conformance.judge.identify_files import has
from refqnn.files import Unreadable  # noqa: F401 - its former place

VERSION = "1.1.0"
SEED = 20_240_616
#: elements of the random case
RANDOM = 256


class Case(NamedTuple):
    """One call: inputs, outputs, the policy, and the deviations it reveals."""

    name: str
    inputs: Inputs
    outputs: Outputs
    policy: str
    reveals: tuple[str, ...]
    #: valid, acceptable (one of ``alternatives`` is right, too) or invalid (must be
    #: refused)
    result: str = "valid"
    alternatives: tuple[Outputs, ...] = ()
    #: whether an error is right, too
    may_be_refused: bool = False


@final
@dataclass(frozen=True)
class Pack:
    """Cases of one family under one semantics."""

    family: str
    profile: str
    semantics: Mapping[str, str]
    cases: tuple[Case, ...]
    #: axes of which every answer is acceptable
    open: tuple[str, ...] = ()

    def arrays(self) -> dict[str, Array]:
        """Return every array under its name in the file."""
        arrays: dict[str, Array] = {}
        for case in self.cases:
            for name, value in case.inputs.items():
                arrays[f"{case.name}/in/{name}"] = little_endian(np.asarray(value))
            for place, outputs in (
                ("out", case.outputs),
                *((f"also/{k}", other) for k, other in enumerate(case.alternatives)),
            ):
                for name, value in outputs.items():
                    at = f"{case.name}/{place}/{name}"
                    arrays[at] = little_endian(np.asarray(value))
        return arrays

    def manifest(self) -> dict[str, Any]:
        """Return the manifest as JSON holds it, digest included."""
        entries: dict[str, Any] = {
            "format": "refqnn pack",
            "version": VERSION,
            "family": self.family,
            "profile": self.profile,
            "semantics": dict(self.semantics),
            "open": list(self.open),
            "cases": [row_of(case) for case in self.cases],
        }
        return entries | {"digest": digest(self.arrays(), entries)}


def row_of(case: Case) -> dict[str, Any]:
    """Return the row of a case in the manifest: names, policy, result, deviations."""
    return {
        "name": case.name,
        "inputs": list(case.inputs),
        "outputs": list(case.outputs),
        "policy": case.policy,
        "result": case.result,
        "alternatives": len(case.alternatives),
        "may_be_refused": case.may_be_refused,
        "reveals": list(case.reveals),
    }


def little_endian(array: Array) -> Array:
    """Return an array in C order and little-endian bytes.

    >>> little_endian(np.array([1], ">i2")).dtype.str
    '<i2'
    """
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(
        array.shape
    )


def digest(
    arrays: Mapping[str, Array], manifest: Mapping[str, Any] | None = None
) -> str:
    """Return the sha256 of a manifest without its digest and of arrays, names sorted.

    Of an array: name, dtype, shape and little-endian bytes.

    >>> digest({"a": np.int8([1])}) == digest({"a": np.int16([1])})
    False
    """
    entries = {k: v for k, v in (manifest or {}).items() if k != "digest"}
    text = json.dumps(entries, sort_keys=True) + "\n"
    plain = {name: little_endian(array) for name, array in arrays.items()}
    return f"sha256:{files.digest(text, plain, head_of)}"


def head_of(name: str, array: Array) -> str:
    """Say name, dtype and shape in a line of JSON."""
    return json.dumps([name, array.dtype.str, [*array.shape]]) + "\n"


def generate(
    family: str, *, profile: str = "refqnn", where: Mapping[str, int] | None = None
) -> Pack:
    """Return cases that separate every variant, a random one, and whole arrays.

    The arrays visit every region of the family: they refute mistakes that are no
    variant. ``where`` keeps the calls that have these values of arguments. Calls, and
    outputs of the policy "exact", have the same bits on every day and machine; of those
    that a bound judges the last bits are those of the matrix products of NumPy.
    """
    known = table(family)
    of = known.family
    chosen = profile_of(profile)
    choices, unsaid = of.choices(chosen.semantics(family)), chosen.row(family).open
    rng = np.random.default_rng(SEED)
    calls = [known.probes[p] for p in known.discriminating()]
    calls += [of.draw(rng, RANDOM), *covering(family)]
    calls = [call for call in calls if has(call, where or {})]
    if not calls:
        raise ValueError(f"no call of {family} has {where}")
    cases = (
        case_of(of, choices, f"{i:04d}", call, unsaid) for i, call in enumerate(calls)
    )
    return Pack(family, profile, choices, tuple(cases), unsaid)


def case_of(
    of: Family,
    choices: Mapping[str, str],
    name: str,
    call: Inputs,
    unsaid: Sequence[str] = (),
) -> Case:
    """Return a case: outputs of the semantics, and the deviations that differ.

    Whatever an answer to one of the axes ``unsaid`` gives is acceptable.
    """
    outputs = of.evaluate(choices, **call)
    reveals, accepted, refusable = [], list[Outputs](), False
    for axis, value in of.single_deviations(choices):
        other = of.evaluate({**choices, axis: value}, **call)
        if of.same(other, outputs):
            continue
        if axis not in unsaid:
            reveals.append(f"{axis} = {value}")
        elif is_refused(other):
            refusable = True
        elif not any(of.same(other, known) for known in accepted):
            accepted.append(other)
    policy = "bound" if of.close else "exact"
    result = "acceptable" if accepted or refusable else "valid"
    result = "invalid" if is_refused(outputs) else result
    return Case(
        name, call, outputs, policy, tuple(reveals), result, tuple(accepted), refusable
    )


def is_refused(outputs: Outputs) -> bool:
    """Say whether an output holds the mark of an element that must be refused."""
    return any(bool(np.any(a == REFUSED)) for a in outputs.values())


def score(pack: Pack) -> tuple[int, list[dict[str, str]]]:
    """Count the variants under which some case fails; list those under which none does.

    Variants that are provably the pack's own semantics, or differ from it on open axes
    alone, do not count.
    """
    of = family_of(pack.family)
    accepted = {axis: pack.semantics[axis] for axis in pack.open}
    mine = of.canonical(pack.semantics)
    others = [v for v in of.variants() if of.canonical({**v, **accepted}) != mine]
    cases = [*reversed(pack.cases)]  # whole arrays first: they fail under most
    missed = [v for v in others if not any(fails(of, case, v) for case in cases)]
    return len(others) - len(missed), missed


def fails(of: Family, case: Case, variant: Mapping[str, str]) -> bool:
    """Say whether a variant's outputs equal neither the outputs nor an alternative."""
    got = of.evaluate(variant, **case.inputs)
    if case.may_be_refused and is_refused(got):
        return False
    return not any(of.same(got, w) for w in (case.outputs, *case.alternatives))
