"""Questions and answers through files, where there is no live function."""

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np

from refqnn._types import Array
from refqnn.conformance.choices.families import FAMILIES, stack
from refqnn.conformance.choices.variants import Table, table
from refqnn.conformance.judge.identify import (
    Identification,
    as_vector,
    conclude,
    remaining,
)
from refqnn.files import Unreadable, headed, read_headed, read_npz, write_npz

FORMAT = "refqnn probes 1"


def identify_answers(
    family: str, probes: Sequence[int], answers: Sequence[Array]
) -> Identification:
    """Return what answers to given probes leave, without a live function."""
    known = table(family)
    alive = list(range(len(known.variants)))
    complaint = ""
    for probe, answer in zip(probes, answers, strict=True):
        vector, said = as_vector(answer, known.outcomes[probe].shape[1])
        complaint = complaint or said
        alive = remaining(known, alive, probe, vector)
    return conclude(known, alive, probes, complaint)


def write_probes(family: str, path: str | PathLike[str]) -> int:
    """Write the inputs that separate all variants of a family; return how many.

    An elementwise family has one array an argument, an entry a probe; any other has
    ``0000/NAME``, ``0001/NAME``, ... for its calls.
    """
    known = table(family)
    chosen = known.discriminating()
    header = {"format": FORMAT, "family": family, "probes": chosen}
    write_npz(path, headed(header) | as_entries(known, chosen))
    return len(chosen)


def as_entries(known: Table, probes: Sequence[int]) -> dict[str, Array]:
    """Return the arrays of a file of probes."""
    chosen = [known.probes[p] for p in probes]
    if known.family.stacks and chosen:
        return {name: np.asarray(a) for name, a in stack(chosen).items()}
    return {
        f"{i:04d}/{name}": np.asarray(a)
        for i, inputs in enumerate(chosen)
        for name, a in inputs.items()
    }


def identify_files(
    probes: str | PathLike[str], outputs: str | PathLike[str] | Mapping[str, Array]
) -> Identification:
    """Return what a file of outputs, or its arrays, say about a file of probes.

    The outputs have the names of the family (``y``, ...; ``0000/y`` for calls), the
    entries in the order of the probes. Raises ValueError for files that are neither.
    """
    header = read_header(probes)
    known = table(header["family"])
    given = outputs if isinstance(outputs, Mapping) else read_npz(outputs)
    answers = [
        np.concatenate([part(known, given, i, name) for name in known.family.outputs])
        for i in range(len(header["probes"]))
    ]
    return identify_answers(header["family"], header["probes"], answers)


def part(known: Table, given: Mapping[str, Array], i: int, name: str) -> Array:
    """Return one output of the i-th probe; raise if the file lacks it."""
    key = name if known.family.stacks else f"{i:04d}/{name}"
    if key not in given:
        raise ValueError(f"the outputs lack {key!r}: they hold {sorted(given)[:8]}")
    array = given[key]
    if not known.family.stacks:
        return np.ravel(array)
    if not array.ndim or i >= len(array):
        raise ValueError(
            f"output {key!r} has shape {array.shape}, too few for probe {i}"
        )
    return np.ravel(array[i])


def read_header(path: str | PathLike[str]) -> dict[str, Any]:
    """Return the header of a file of probes; raise ValueError if it is none."""
    header, _ = read_headed(path, FORMAT)
    if header.get("family") not in FAMILIES:
        raise Unreadable(f"{path} asks about no family: {header.get('family')!r:.60}")
    return header
