"""The smallest input that reveals each answer, found by search.

For an answer of an axis, the others being refqnn's, or all but two where refqnn's do
not ask: the fewest and then the first candidates to which no other answer of the axis
gives the same outputs. Candidates come smallest first, so the first are the smallest.
"""

from functools import cache
from itertools import combinations
from typing import Any

import numpy as np

from refqnn.conformance.choices.axes import AXES
from refqnn.conformance.choices.families import FAMILIES, Choices, Inputs
from refqnn.conformance.choices.variants import Table, table

MOST = 3
#: numbers of an argument that are shown
FEW = 2


@cache
def revealing(family: str, axis: str, value: str) -> tuple[int, ...]:
    """Return the probes that reveal an answer; () where it is provably another.

    >>> [float(table("quantize").probes[p]["x"])
    ...  for p in revealing("quantize", "overflow", "wrap")]
    [128.0]
    """
    known = table(family)
    for base in known.family.neighbours(known.family.default, 2):
        if base[axis] != known.family.default[axis]:
            continue
        rows = siblings(known, axis, base)
        mine = rows.pop(value)
        apart = [
            known.labels[mine] != known.labels[other]
            for other in rows.values()
            if not one_function(known, mine, other)
        ]
        if apart:
            return fewest(np.stack(apart))
    return ()


def one_function(known: Table, a: int, b: int) -> bool:
    """Say whether two variants are provably one function."""
    canonical = known.family.canonical
    return canonical(known.variants[a]) == canonical(known.variants[b])


def siblings(known: Table, axis: str, base: Choices) -> dict[str, int]:
    """Return the row of each answer of an axis, the other answers being given ones."""
    places = {tuple(v.values()): i for i, v in enumerate(known.variants)}
    return {
        value: places[tuple({**base, axis: value}.values())]
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


def numbers_text(inputs: Inputs) -> str:
    """Write the arguments of a call in a line, without q_min and q_max.

    >>> numbers_text({"acc": np.int32(1), "x": np.float32([[0.1], [2]]), "q_min": -128})
    'acc = 1, x = 0.1 and 2.0'
    """
    return ", ".join(
        f"{name} = {' and '.join(map(str, np.ravel(value)))}"
        for name, value in inputs.items()
        if name not in {"q_min", "q_max"}
    )


def shown_inputs(axis: str, value: str) -> str:
    """Write the inputs that separate an answer from all others of its axis.

    Those of the first family that has such inputs: numbers where there are few, else
    the places among the candidates of the family.
    """
    having = [f.name for f in FAMILIES.values() if value in f.axes.get(axis, ())]
    for family in having:
        probes = revealing(family, axis, value)
        if probes:
            inputs = [table(family).probes[p] for p in probes]
            if all(np.size(v) <= FEW for call in inputs for v in call.values()):
                return "; ".join(map(numbers_text, inputs))
            return f"candidates {', '.join(map(str, probes))} of {family}"
    raise ValueError(f"no family reveals {axis} = {value!r}")


def axes_table() -> str:
    """Return every axis and value as a Markdown table."""
    lines = ["| axis | value | equation | who uses it | families | revealed by |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    for name, axis in AXES.items():
        asking = [f.name for f in FAMILIES.values() if name in f.axes]
        where = ", ".join(asking[:3]) + (" ..." if len(asking) > 3 else "")
        for value, row in axis.values.items():
            mark = f"`{value}`"
            mark = f"**{mark}**" if value == axis.default else mark
            cells = (
                f"`{name}`", mark, row.equation, row.users, where,
                shown_inputs(name, value),
            )  # fmt: skip
            escaped = (cell.replace("|", "\\|") for cell in cells)
            lines.append(f"| {' | '.join(escaped)} |")
    return "\n".join(lines) + "\n"
