"""Rows of a comparison: one array of two sides, how far apart, and which mistake fits.

Rows stand in the order of computation, so the first that differs is where a mistake is.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from refqnn._types import Float
from refqnn.testing.mistakes import Matrices, matrix_mistake

#: below this share of the largest gradient of all, differences are rounding
FLOOR = 1e-6


class Row(NamedTuple):
    """One array of both sides."""

    #: "value", "output", "loss", "gradient of output" or "gradient"
    kind: str
    ours: str
    theirs: str
    #: largest difference over the largest magnitude of ours; infinite for other shapes
    error: float
    #: how theirs differs; "" within the tolerance
    diagnosis: str

    def __str__(self) -> str:
        verdict = self.diagnosis or "agrees"
        return f"{self.kind} of {self.theirs} ({self.ours}): {verdict}"


@dataclass(frozen=True)
class Comparison:
    """All rows of a comparison, and the parameters that were compared with nothing."""

    rows: tuple[Row, ...]
    not_compared: tuple[str, ...]

    @property
    def first(self) -> Row | None:
        """The first row that differs; None where both sides agree."""
        return next((row for row in self.rows if row.diagnosis), None)

    @property
    def agrees(self) -> bool:
        """Whether every row agrees and every parameter was compared."""
        return self.first is None and not self.not_compared

    def __str__(self) -> str:
        lines = []
        for kind in dict.fromkeys(row.kind for row in self.rows):
            errors = [row.error for row in self.rows if row.kind == kind]
            same = sum(not r.diagnosis for r in self.rows if r.kind == kind)
            largest = f"largest error {max(errors):.2g}"
            lines.append(f"{kind}: {same} of {len(errors)} agree, {largest}")
        if self.first is not None:
            lines.append(f"first difference: {self.first}")
            before = self.rows[: self.rows.index(self.first)]
            kind = self.first.kind
            agreed = [r.theirs for r in before if r.kind == kind]
            if agreed:
                lines.append(f"the last {kind} before it, of {agreed[-1]}, agrees")
        if self.not_compared:
            lines.append(f"not compared: {', '.join(self.not_compared)}")
        return "\n".join(lines)

    __repr__ = __str__


@dataclass
class Side:
    """What one side computed, in the order of computation."""

    values: dict[str, Float]
    outputs: dict[str, Float]
    #: derivatives of the loss by outputs, and by values
    output_grads: dict[str, Float]
    grads: dict[str, Float]
    loss: float = 0.0
    logits: Float = field(default_factory=lambda: np.zeros(0))
    #: every name of a learned array -> the first of its names
    same: dict[str, str] = field(default_factory=dict)


def row(
    kind: str, names: tuple[str, str], ours: Any, theirs: Any, tolerance: float,
    least: float = 0.0,
) -> Row:  # fmt: skip
    """Compare one array of both sides; differences below ``least`` are small."""
    a, b = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if a.size == b.size and a.size == 1:
        b = b.reshape(a.shape)
    if a.shape != b.shape:
        return Row(kind, *names, np.inf, f"its shape is {b.shape}, not {a.shape}")
    scale = max(float(np.abs(a).max(initial=0)), least) or 1.0
    difference = np.abs(a - b)
    error = float(difference.max(initial=0)) / scale
    if error <= tolerance:
        return Row(kind, *names, error, "")
    at = np.unravel_index(int(np.nan_to_num(difference, nan=np.inf).argmax()), a.shape)
    place = f"[{', '.join(map(str, at))}]" if at else ""
    numbers = f"{place} is {b[at]:.6g}, not {a[at]:.6g}".lstrip()
    if not np.isfinite(b[at]):
        return Row(kind, *names, np.inf, f"{numbers}: it is not finite")
    if kind == "logits" and is_softmax(b):
        return Row(kind, *names, error, f"{numbers}: it is a softmax, give logits")
    mistake = matrix_mistake(Matrices(b.reshape(1, -1), a.reshape(1, -1), None, a.size))
    return Row(kind, *names, error, f"{numbers}: {mistake}")


def paired_rows(
    kind: str, pairs: dict[str, list[str]], ours: dict[str, Float],
    theirs: dict[str, Float], tolerance: float,
) -> list[Row]:  # fmt: skip
    """Compare values, outputs or gradients of outputs, in the order of ``ours``."""
    return [
        row(kind, (name, there), y, theirs[there], tolerance)
        for name, y in ours.items()
        for there in pairs.get(name, [])
        if there in theirs
    ]


def is_softmax(y: Float) -> bool:
    """Whether all rows are positive and sum to 1. y: (N, K)"""
    return bool(y.ndim == 2 and y.min() > 0 and np.allclose(y.sum(1), 1))


def gradient_rows(
    layers: dict[str, list[str]], values: dict[str, list[str]],
    sides: tuple[Side, Side], tolerance: float,
) -> list[Row]:  # fmt: skip
    """Compare gradients from the last layer to the first.

    Where several of ours are one array there, as in layers that are shared, their sum
    is compared, behind the first of these layers.
    """
    ours, theirs = sides
    least = FLOOR * max(
        (np.abs(g).max(initial=0) for g in ours.grads.values()), default=0
    )
    waiting = shared_groups(values, theirs)
    rows = []
    for layer, dy in ours.output_grads.items():
        rows += paired_rows(
            "gradient of output", layers, {layer: dy}, theirs.output_grads, tolerance
        )
        for name in ours.grads:
            group = (
                waiting.pop(name, None) if name.rpartition(".")[0] == layer else None
            )
            if group is None or any(name in waiting for name in group[0]):
                continue
            grad = sum(ours.grads[each] for each in group[0])
            total = sum(theirs.grads[there] for there in group[1])
            names = (" + ".join(group[0]), " + ".join(group[1]))
            rows.append(row("gradient", names, grad, total, tolerance, least))
    return rows


def shared_groups(
    values: dict[str, list[str]], theirs: Side
) -> dict[str, tuple[list[str], list[str]]]:
    """Map each of our learned arrays to those that share theirs, and to theirs."""
    groups: dict[str, tuple[list[str], list[str]]] = {}
    for name, names in values.items():
        if not theirs.grads.keys() >= set(names):
            continue
        there = list(dict.fromkeys(theirs.same[each] for each in names))
        before = [g for g in groups.values() if set(g[1]) & set(there)]
        ours, others = [name], there
        for group in before:
            ours, others = [*group[0], *ours], [*group[1], *others]
        ours, others = list(dict.fromkeys(ours)), list(dict.fromkeys(others))
        groups |= dict.fromkeys(ours, (ours, others))
    return groups
