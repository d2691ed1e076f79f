"""Questions and answers through files, where there is no live function.

The file holds the inputs that separate all variants, then inputs over the regions of
the family that confirm. An elementwise family has one array an argument, an entry an
input; any other has ``0000/NAME``, ``0001/NAME``, ... for its calls.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from typing import Annotated, Any

import msgspec
import numpy as np

from refqnn._types import Array
from refqnn.conformance.choices import regions
from refqnn.conformance.choices.coverage import greedy
from refqnn.conformance.choices.families import FAMILIES
from refqnn.conformance.choices.family import (
    FIXED,
    Family,
    Inputs,
    Outputs,
    stack,
)
from refqnn.conformance.choices.variants import Table, table
from refqnn.conformance.judge import confirm
from refqnn.conformance.judge.calls import Answered
from refqnn.conformance.judge.confirm import Evidence
from refqnn.conformance.judge.failures import smallest_answer
from refqnn.conformance.judge.identification import Identification
from refqnn.conformance.judge.identify import (
    conclude,
    farther_variants,
    nearest_variant,
    refute,
    separating_answers,
)
from refqnn.conformance.judge.questions import (
    BadAnswer,
    Decision,
    as_vector,
    remaining,
)
from refqnn.files import (
    Unreadable,
    decode,
    header_entry,
    read_headed,
    read_npz,
    write_npz,
)

FORMAT = "refqnn probes 1"
#: entries that confirm, of an elementwise family
ENTRIES = 1500
#: random calls of any other family from which those that confirm are chosen
POOL = 200
#: how many of them visit a region
TIMES = 3


class Header(msgspec.Struct):
    """The JSON of a file of probes, beside its format."""

    family: str
    probes: list[int]
    confirming: Annotated[int, msgspec.Meta(ge=0)] = 0
    where: dict[str, int] = {}


def write_probes(
    family: str, path: str | PathLike[str], *, where: Mapping[str, int] | None = None
) -> int:
    """Write the inputs that separate all variants and that confirm; return how many.

    ``where`` keeps the calls that have these values of arguments: all that a kernel
    with a fixed range of codes can be asked.
    """
    known = table(family)
    header = {
        "format": FORMAT,
        "family": family,
        "probes": known.discriminating(),
        "confirming": len(confirming(known)),
        "where": dict(where or {}),
    }
    calls = probe_calls(header)
    if not calls:
        raise ValueError(f"no call of {family} has {header['where']}")
    write_npz(path, header_entry(header) | as_entries(known.family, calls))
    return len(calls)


def asked_by(header: Mapping[str, Any]) -> tuple[list[int], list[Inputs]]:
    """Return the numbers of the probes that separate, and the calls that confirm."""
    known, where = table(header["family"]), header.get("where", {})
    more = confirming(known)[: header.get("confirming", 0)]
    chosen = [p for p in header["probes"] if has(known.probes[p], where)]
    return chosen, [call for call in more if has(call, where)]


def has(call: Inputs, where: Mapping[str, int]) -> bool:
    """Say whether arguments of a call have given values.

    >>> has({"q_min": -128, "q_max": 127}, {"q_min": -128})
    True
    """
    if unknown := sorted(set(where) - set(call)):
        raise ValueError(f"arguments are {list(call)}, not {unknown}")
    return all(bool(np.all(np.asarray(call[k]) == v)) for k, v in where.items())


def probe_calls(header: Mapping[str, Any]) -> list[Inputs]:
    """Return the calls that a file of probes asks, in its order."""
    chosen, more = asked_by(header)
    probes = table(header["family"]).probes
    return [*(probes[p] for p in chosen), *more]


def confirming(known: Table) -> list[Inputs]:
    """Return the inputs that confirm, in the form of the probes.

    Entries of one shape for an elementwise family: the elements of its whole arrays,
    and the candidates that decide nothing.
    """
    family, calls = known.family, confirm.confirming_calls(known.family.name)
    if not family.stacks:
        forms = {plain_form(probe) for probe in known.probes}
        more = [*calls, *map(confirm.with_both_signs, regions.pool(family.name, POOL))]
        fits = [c for c in map(with_numbers, more) if plain_form(c) in forms]
        seen = regions.visits(family.name, fits)
        chosen = greedy(seen, np.full(seen.shape[1], TIMES))
        return [fits[i] for i in sorted(chosen)]
    form = form_of(known.probes[0])
    apart = [e for call in calls for e in confirm.elements(family, call)]
    if np.ndim(known.probes[0][family.elementwise]) == 0:
        apart = [e | {family.elementwise: scalar(e[family.elementwise])} for e in apart]
    fits = [e for e in [*apart, *known.probes] if form_of(e) == form]
    return fits[:: max(len(fits) // ENTRIES, 1)]


def with_numbers(call: Inputs) -> Inputs:
    """Return a call with one number for every pair of two equal ones."""
    return {
        name: value[0]
        if isinstance(value, tuple) and value[0] == value[1] and not np.ndim(value[0])
        else value
        for name, value in call.items()
    }


def plain_form(call: Inputs) -> tuple[str, ...]:
    """Return the types of the arguments that are no arrays."""
    return tuple(type(v).__name__ for v in call.values() if not np.ndim(v))


def scalar(value: Array) -> Any:
    """Return an array of one element as a number of its dtype."""
    return np.ravel(value)[0]


def form_of(call: Inputs) -> tuple[object, ...]:
    """Return fixed arguments, shapes and kinds of dtypes, alike in every entry."""
    return tuple(
        value if name in FIXED else (np.shape(value), np.asarray(value).dtype.kind)
        for name, value in call.items()
    )


def as_entries(family: Family, calls: Sequence[Inputs]) -> dict[str, Array]:
    """Return the arrays of a file of probes."""
    if family.stacks and calls:
        return {name: np.asarray(a) for name, a in stack(calls).items()}
    return {
        f"{i:04d}/{name}": np.asarray(a)
        for i, inputs in enumerate(calls)
        for name, a in inputs.items()
    }


def identify_files(
    probes: str | PathLike[str], outputs: str | PathLike[str] | Mapping[str, Array]
) -> Identification:
    """Identify the function whose outputs for a file of probes are in a file, or given.

    The outputs have the names of the family (``y``, ...; ``0000/y`` for calls), the
    entries in the order of the probes. Raises ValueError for files that are neither.
    """
    header = read_header(probes)
    known = table(header["family"])
    given = outputs if isinstance(outputs, Mapping) else read_npz(outputs)
    chosen, more = asked_by(header)
    count = len(chosen) + len(more)
    answers = [
        {name: part(known, given, i, name, count) for name in known.family.outputs}
        for i in range(count)
    ]
    decision = Decision(list(range(len(known.variants))), chosen, {}, 0, [])
    for probe, answer in zip(chosen, answers, strict=False):
        try:
            vector = as_vector(known, probe, answer)
        except BadAnswer as error:
            return conclude(known, [], chosen, str(error))
        decision.answers[probe] = vector
        alive = remaining(known, decision.alive, probe, vector)
        decision = decision._replace(alive=alive)
    return confirm_variants(known, decision, more, answers[len(chosen) :])


def confirm_variants(
    known: Table,
    decision: Decision,
    more: Sequence[Inputs],
    answers: Sequence[Outputs],
) -> Identification:
    """Conclude which variants left by a decision no confirming answer contradicts."""
    family = known.family
    if family.stacks and more:
        together = {
            name: np.stack([answer[name] for answer in answers])
            for name in family.outputs
        }
        arrays = [in_reference_shapes(family, Answered(stack(more), together))]
    else:
        arrays = [
            in_reference_shapes(family, Answered(call, answer))
            for call, answer in zip(more, answers, strict=True)
        ]
    evidence = Evidence(family, arrays)
    left = [known.variants[v] for v in decision.alive]
    left_over = confirm.survivors(family, left, arrays)
    verdict = conclude(known, left_over, decision.asked)
    if not left_over:
        everything = [*separating_answers(known, decision), *arrays]
        nearest = nearest_variant(known, decision, everything)
        smallest = smallest_answer(family, nearest, everything)
        farther = farther_variants(family, nearest, everything)
        verdict = (
            conclude(known, farther, decision.asked)
            if farther
            else refute(verdict, nearest, everything, smallest)
        )
    return replace(
        verdict,
        confirmed=evidence.total,
        regions=evidence.regions,
        unseen=evidence.missed,
    )


def in_reference_shapes(family: Family, answer: Answered) -> Answered:
    """Reshape outputs to the shapes of the reference's, where their sizes agree."""
    like = family.evaluate(family.default, **answer.call)
    outputs = {
        name: got.reshape(like[name].shape) if got.size == like[name].size else got
        for name, got in answer.outputs.items()
    }
    return Answered(answer.call, outputs)


def part(
    known: Table, given: Mapping[str, Array], i: int, name: str, count: int
) -> Array:
    """Return one output of the i-th of ``count`` probes; raise if the file lacks it."""
    key = name if known.family.stacks else f"{i:04d}/{name}"
    if key not in given:
        raise ValueError(f"the outputs lack {key!r}: they hold {sorted(given)[:8]}")
    array = given[key]
    if array.dtype.kind not in "biuf":
        raise ValueError(f"output {key!r} holds {array.dtype}, no real numbers")
    if not known.family.stacks:
        return np.ravel(array)
    if not array.ndim or len(array) != count:
        raise ValueError(
            f"output {key!r} has shape {array.shape}, not one entry for each of the "
            f"{count} probes"
        )
    return np.ravel(array[i])


def read_header(path: str | PathLike[str]) -> dict[str, Any]:
    """Read the header of a file of probes; raise Unreadable for another file."""
    header, _ = read_headed(path, FORMAT)
    decode(header, Header, f"{path}, its header")
    if header["family"] not in FAMILIES:
        raise Unreadable(f"{path} asks about no family: {header['family']!r:.60}")
    count = len(table(header["family"]).probes)
    if not all(0 <= probe < count for probe in header["probes"]):
        raise Unreadable(f"{path}: probes must lie in [0, {count})")
    return header
