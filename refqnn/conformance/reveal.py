"""The smallest input that reveals each answer, found by search.

For an answer of an axis, the others being refqnn's: the fewest and then the first
candidates to which no other answer of the axis gives the same outputs. Candidates come
smallest first, so the first are the smallest.
"""

from functools import cache
from itertools import combinations
from typing import Any

import numpy as np

from refqnn.conformance.families import Inputs, family_of
from refqnn.conformance.tables import Table, table

MOST = 3


@cache
def revealing(family: str, axis: str, value: str) -> tuple[int, ...]:
    """Return the probes that reveal an answer; () where it is provably another.

    >>> [float(table("quantize").probes[p]["x"])
    ...  for p in revealing("quantize", "overflow", "wrap")]
    [128.0]
    """
    known = table(family)
    rows = siblings(known, axis)
    mine = rows.pop(value)
    canonical = family_of(family).canonical
    apart = [
        known.labels[mine] != known.labels[other]
        for other in rows.values()
        if canonical(known.variants[mine]) != canonical(known.variants[other])
    ]
    return fewest(np.stack(apart)) if apart else ()


def siblings(known: Table, axis: str) -> dict[str, int]:
    """Return the row of each answer of an axis, the other answers being refqnn's."""
    default = known.family.default
    places = {tuple(v.values()): i for i, v in enumerate(known.variants)}
    return {
        value: places[tuple((default | {axis: value}).values())]
        for value in known.family.axes[axis]
    }


def fewest(apart: Any) -> tuple[int, ...]:
    """Return the first smallest set of columns that covers every row.

    apart: (others, probes)

    >>> fewest(np.array([[True, False], [False, True]]))
    (0, 1)
    """
    useful = np.flatnonzero(apart.any(axis=0))
    patterns = {apart[:, p].tobytes(): int(p) for p in reversed(useful)}
    columns = sorted(patterns.values())
    for size in range(1, MOST + 1):
        for chosen in combinations(columns, size):
            if apart[:, chosen].any(axis=1).all():
                return chosen
    raise ValueError(f"no {MOST} candidates tell an answer from {len(apart)} others")


def shown(inputs: Inputs) -> str:
    """Return scalar inputs in a line; arrays by their shape.

    >>> shown({"acc": np.int32(1), "shift": 0, "w": np.zeros((2, 2))})
    'acc = 1, shift = 0, w (2, 2)'
    """
    told = [
        f"{name} = {np.ravel(value)[0]}"
        if np.size(value) == 1
        else f"{name} {np.shape(value)}"
        for name, value in inputs.items()
    ]
    return ", ".join(told)
