"""What a family is: an operation, the questions it asks, and how answers are computed.

``evaluate(choices, **inputs)`` is the reference under any combination of answers. Where
refqnn offers an answer it is refqnn that computes it; the others stand in the family's
file. ``REFUSED`` marks an element that an answer declares an error.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations, product
from math import prod
from typing import Any

import numpy as np

from refqnn._types import Array, Bool
from refqnn.conformance.choices.axes import AXES
from refqnn.conformance.choices.coverage import separating_twice
from refqnn.conformance.choices.kinds import Region

Choices = Mapping[str, str]
Inputs = dict[str, Any]
Outputs = dict[str, Array]

#: the code of an element that an answer refuses to compute
REFUSED = -(2**62)


#: beyond it, variants differ from refqnn in at most three answers
MOST_VARIANTS, DEVIATIONS = 200, 3


def as_given(choices: Choices) -> dict[str, str]:
    """Return the choices: no two of them are the same function."""
    return dict(choices)


@dataclass(frozen=True)
class Family:
    """One operation; ``axes`` maps each question to the answers it has here."""

    name: str
    #: lines in the order of computation; {axis} is filled with an equation
    equations: tuple[str, ...]
    axes: Mapping[str, tuple[str, ...]]
    evaluate: Callable[..., Outputs]
    #: inputs worth asking, smallest first
    candidates: Callable[[], list[Inputs]]
    #: random inputs of about n elements
    draw: Callable[[np.random.Generator, int], Inputs]
    #: the argument that is compared element by element with the output; "" if none
    elementwise: str = ""
    #: candidates of one shape are computed in one call, on a new first axis
    stacks: bool = False
    #: relative distance at which floating outputs count as equal; 0: bit for bit
    close: float = 0.0
    #: maps choices to the representative of those that are provably one function
    canonical: Callable[[Choices], dict[str, str]] = as_given
    #: real numbers before the rounding, where a tie can explain a difference
    exact: Callable[..., Array] | None = None
    #: what the function under judgement returns, in order
    outputs: tuple[str, ...] = ("y",)
    #: the call that reproduces an output, for people
    call: str = ""
    #: as ``draw``, over all regions
    wide: Callable[[np.random.Generator, int], Inputs] | None = None
    #: as ``wide``, of types that only some functions take: packs leave them out
    beyond: Callable[[np.random.Generator, int], Inputs] | None = None
    #: arguments that are scaled together, to be far below and far above 1
    scaled: tuple[str, ...] = ()
    #: where mathematics or code may go another way: "ARGUMENT: WHAT" and its predicate
    regions: Mapping[str, Region] = field(default_factory=dict)

    def call_of(self, *arguments: Any) -> Inputs:
        """Return the arguments of a call by name."""
        return dict(zip(self.arguments, arguments, strict=True))

    @property
    def default(self) -> dict[str, str]:
        """The answers of refqnn."""
        return {axis: AXES[axis].default for axis in self.axes}

    @cached_property
    def arguments(self) -> dict[str, int]:
        """Map the names of the inputs, in their order, to their numbers of axes.

        Those of the first candidate, which may be costly to draw.
        """
        return {name: np.ndim(value) for name, value in self.candidates()[0].items()}

    def variants(self) -> list[dict[str, str]]:
        """Return every combination of answers, the default first.

        Where they are more than ``MOST_VARIANTS``: all with at most three answers
        other than refqnn's.
        """
        if prod(map(len, self.axes.values())) > MOST_VARIANTS:
            return self.neighbours(self.default, DEVIATIONS)
        every = product(*self.axes.values())
        return [dict(zip(self.axes, values, strict=True)) for values in every]

    def choices(self, semantics: Choices) -> dict[str, str]:
        """Return the answers of a semantics to the questions of this family, by axis.

        Raises ValueError for an answer that the family does not have.
        """
        chosen = {axis: semantics[axis] for axis in self.axes}
        for axis, value in chosen.items():
            if value not in self.axes[axis]:
                raise ValueError(
                    f"{self.name} has no {axis} = {value!r}: one of "
                    f"{list(self.axes[axis])}"
                )
        return chosen

    def neighbours(self, choices: Choices, most: int = 2) -> list[dict[str, str]]:
        """Return the variants that differ in at most ``most`` answers, fewest first."""
        near = [dict(choices)]
        for k in range(1, most + 1):
            for axes in combinations(self.axes, k):
                others = [[v for v in self.axes[a] if v != choices[a]] for a in axes]
                near += [
                    {**choices, **dict(zip(axes, values, strict=True))}
                    for values in product(*others)
                ]
        return near

    def outputs_or_none(self, choices: Choices, call: Inputs) -> Outputs | None:
        """Evaluate a variant; None where it does not accept the call."""
        try:
            return self.evaluate(choices, **call)
        except (ValueError, IndexError):
            return None

    def same(self, got: Outputs, want: Outputs) -> bool:
        """Return whether all outputs have one shape and count as equal."""
        return all(
            np.shape(got[k]) == np.shape(w) and bool(np.all(self.agree(got[k], w)))
            for k, w in want.items()
        )

    def functions(
        self, variants: Iterable[Choices]
    ) -> dict[tuple[str, ...], list[dict[str, str]]]:
        """Group variants that are provably one function."""
        groups: dict[tuple[str, ...], list[dict[str, str]]] = {}
        for v in variants:
            groups.setdefault(key(self.canonical(v)), []).append(dict(v))
        return groups

    def few_of(self, calls: Sequence[Inputs], axis: str) -> list[Inputs]:
        """Return few of the calls: they tell the answers of an axis apart, twice."""
        forms = [self.default | {axis: value} for value in self.axes[axis]]
        answers = [
            [self.evaluate(v, **call)[self.outputs[0]].tobytes() for v in forms]
            for call in calls
        ]
        labels = np.array([[ways.index(a) for a in ways] for ways in answers]).T
        return [calls[at] for at in separating_twice(labels)]

    def single_deviations(self, choices: Choices) -> list[tuple[str, str]]:
        """Return every other answer of every axis."""
        return [
            (axis, value)
            for axis, answers in self.axes.items()
            for value in answers
            if value != choices[axis]
        ]

    def agree(self, got: Array, want: Array) -> Bool:
        """Return where two outputs count as equal; NaN equals NaN."""
        if not self.close:
            return equal(got, want)
        got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
        return np.isclose(got, want, rtol=self.close, atol=self.close, equal_nan=True)


def key(choices: Choices) -> tuple[str, ...]:
    """Return the answers alone."""
    return tuple(choices.values())


def distance(a: Choices, b: Choices) -> int:
    """Return in how many answers two choices differ.

    >>> distance({"nan": "zero"}, {"nan": "q_min"})
    1
    """
    return sum(a[axis] != b[axis] for axis in a)


def equal(a: Array, b: Array) -> Bool:
    """Return where values are the same, NaN being NaN.

    >>> equal(np.array([1, np.nan, 2]), np.array([1, np.nan, 3]))
    array([ True,  True, False])
    """
    a, b = np.asarray(a), np.asarray(b)
    if a.dtype.kind in "iub" and b.dtype.kind in "iub":
        return np.asarray(a == b)
    return np.asarray((a == b) | (np.isnan(a) & np.isnan(b)))


def stack(inputs: Sequence[Inputs]) -> Inputs:
    """Put the inputs of many calls on a new first axis; ints that agree stay."""
    first = inputs[0]
    together: Inputs = {}
    for name, value in first.items():
        column = [each[name] for each in inputs]
        same = isinstance(value, int) and all(v == value for v in column)
        together[name] = value if same and name in FIXED else np.stack(column)
    return together


#: arguments that are one number for a whole call
FIXED = ("q_min", "q_max")
