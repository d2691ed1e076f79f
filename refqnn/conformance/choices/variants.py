"""Every variant of a family on every candidate input, computed once.

A probe is a candidate input; its outcome under a variant is the vector of everything
the function returns. Outcomes that count as equal share a label, so that choosing
inputs is arithmetic on a matrix of labels, one row a variant, one column a probe.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

from refqnn._types import Array, Int
from refqnn.conformance.choices.coverage import separating
from refqnn.conformance.choices.families import family_of
from refqnn.conformance.choices.family import FIXED, Family, Inputs, Outputs, stack


class Table(NamedTuple):
    """Labels of outcomes, and the outcomes themselves."""

    family: Family
    variants: list[dict[str, str]]
    probes: list[Inputs]
    #: for each probe (variants, values)
    outcomes: list[Array]
    #: (variants, probes)
    labels: Int

    def classes(self, alive: Iterable[int]) -> list[list[int]]:
        """Group variants that no probe tells apart."""
        groups: dict[bytes, list[int]] = {}
        for v in alive:
            groups.setdefault(self.labels[v].tobytes(), []).append(v)
        return list(groups.values())

    def best(self, alive: Sequence[int], asked: Iterable[int] = ()) -> int | None:
        """Return the probe that leaves the fewest variants on average, None if none.

        The first of several: candidates come smallest first.
        """
        sizes = expected_left(self.labels[list(alive)])
        sizes[list(asked)] = np.inf
        chosen = int(np.argmin(sizes))
        return chosen if sizes[chosen] < len(alive) else None

    def discriminating(self, alive: Sequence[int] | None = None) -> list[int]:
        """Return few probes that separate whatever any probe separates."""
        return separating(self.labels if alive is None else self.labels[list(alive)])


def expected_left(labels: Int) -> Array:
    """Return, for each probe, how many variants its answer leaves on average.

    labels: (variants, probes)  ->  (probes,)

    >>> expected_left(np.array([[0, 0], [0, 1]]))
    array([2., 1.])
    """
    n, p = labels.shape
    k = int(labels.max(initial=0)) + 1
    flat = (labels + k * np.arange(p)).ravel()
    counts = np.bincount(flat, minlength=k * p).reshape(p, k)
    return (counts.astype(np.float64) ** 2).sum(axis=1) / max(n, 1)


@cache
def table(name: str) -> Table:
    """Return the table of a family: computed once in a process."""
    family = family_of(name)
    return tabulate(family, family.variants(), family.candidates())


def tabulate(
    family: Family, variants: list[dict[str, str]], probes: list[Inputs]
) -> Table:
    """Evaluate every variant on every probe, what is provably one function once."""
    keys = [tuple(family.canonical(v).values()) for v in variants]
    functions = [
        dict(zip(family.axes, key, strict=True)) for key in dict.fromkeys(keys)
    ]
    place = {tuple(v.values()): i for i, v in enumerate(functions)}
    rows = np.array([place[key] for key in keys])
    outcomes = [o[rows] for o in outcomes_of(family, functions, probes)]
    labels = [label_rows(outcome, family.close) for outcome in outcomes]
    none = np.zeros((len(variants), 0), np.int64)
    return Table(
        family, variants, probes, outcomes, np.stack(labels, axis=1) if labels else none
    )


def outcomes_of(
    family: Family, functions: Sequence[Mapping[str, str]], probes: Sequence[Inputs]
) -> list[Array]:
    """Return one (functions, values) for each probe; what stacks in one call."""
    outcomes: dict[int, Array] = {}
    for places in stackable(family, probes):
        rows = len(places)
        call = stack([probes[p] for p in places]) if rows > 1 else probes[places[0]]
        each = [flat(family.evaluate(v, **call), rows) for v in functions]
        outcomes |= zip(places, np.stack(each, axis=1), strict=True)
    return [outcomes[p] for p in range(len(probes))]


def stackable(family: Family, probes: Sequence[Inputs]) -> list[list[int]]:
    """Group probes that are one call on a new first axis; the others stay alone.

    Those of a family that stacks, of one range of codes, one dtype and one shape, where
    every argument has as many axes as in the candidates.
    """
    if not family.stacks:
        return [[p] for p in range(len(probes))]
    axes = list(family.arguments.values())
    groups: dict[tuple[object, ...], list[int]] = {}
    for p, probe in enumerate(probes):
        arrays = [np.asarray(v) for v in probe.values()]
        alone = p if [a.ndim for a in arrays] != axes else None
        fixed = tuple(probe.get(name) for name in FIXED)
        shapes = tuple((a.dtype, a.shape) for a in arrays)
        groups.setdefault((alone, fixed, shapes), []).append(p)
    return list(groups.values())


def flat(outputs: Outputs, rows: int) -> Array:
    """Return everything a function returned, one row a probe, in float64.

    Codes of 53 bits and more do not occur.
    """
    parts = [np.asarray(a, np.float64).reshape(rows, -1) for a in outputs.values()]
    return np.concatenate(parts, axis=1)


def label_rows(outcomes: Array, close: float) -> Int:
    """Number the distinct rows.

    >>> label_rows(np.array([[1.0, 2.0], [1.0, 2.0], [1.0, 3.0]]), 0)
    array([0, 0, 1])
    """
    rows = np.round(outcomes / (10 * close)) if close else outcomes
    rows = np.nan_to_num(rows, nan=1e300, posinf=2e300, neginf=-2e300) + 0.0
    if rows.shape[1] == 1:
        return np.unique(rows[:, 0], return_inverse=True)[1]
    packed = np.ascontiguousarray(rows).view(f"V{8 * rows.shape[1]}").ravel()
    return np.unique(packed, return_inverse=True)[1]


def size(family: Family, probe: Inputs) -> int:
    """Count the scalar inputs of a probe, its cost; 1 if not elementwise."""
    return int(np.size(probe[family.elementwise])) if family.elementwise else 1
