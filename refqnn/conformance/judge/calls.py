"""The outputs of a function by name, and the comparison of several calls."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from refqnn._types import Array
from refqnn.conformance.choices.families import Choices, Family, Inputs, Outputs, stack
from refqnn.conformance.judge.compare import Comparison, compare, unlike


class Broken(RuntimeError):  # noqa: N818 - says what the implementation is
    """A foreign implementation crashed, hung or returned something else than arrays."""


class Answered(NamedTuple):
    """A call, and what the function answered."""

    call: Inputs
    outputs: Outputs


class Trial(NamedTuple):
    """A call, the outputs of the function, and those of the declared semantics."""

    call: Inputs
    got: Outputs
    want: Outputs


def trials(
    family: Family, declared: Choices, answers: Iterable[Answered]
) -> list[Trial]:
    """Put beside every answer the outputs of the declared semantics."""
    return [
        Trial(*answer, family.evaluate(declared, **answer.call)) for answer in answers
    ]


def compare_trials(family: Family, tried: Sequence[Trial], name: str) -> Comparison:
    """Compare one array as it is, several joined; the first wrong shape is an error."""
    pairs = [(t.got[key], want) for t in tried for key, want in t.want.items()]
    for g, w in pairs:
        if complaint := unlike(g, w):
            return Comparison(name, 0, 0, error=complaint)
    if len(pairs) == 1:
        return compare_arrays(family, *pairs[0], name)
    g, w = (
        np.concatenate([np.ravel(a) for a in side]) for side in zip(*pairs, strict=True)
    )
    whole = compare_arrays(family, g, w, name)
    parts = [
        (place(i, key, len(tried)), compare_arrays(family, t.got[key], want, name))
        for i, t in enumerate(tried)
        for key, want in t.want.items()
    ]
    bad = [(where, part) for where, part in parts if part.mismatches]
    if not bad:
        return whole
    shared = [line for line in bad[0][1].where if all(line in p.where for _, p in bad)]
    where, first = bad[0]
    return replace(whole, first=first.first, at=where, where=tuple(shared))


def compare_arrays(family: Family, got: Array, want: Array, name: str) -> Comparison:
    """Compare exactly, or within close (1 + |want|) for a family with ``close``."""
    if not family.close:
        return compare(got, want, name=name)
    bound = family.close * (1 + np.abs(want))
    return compare(got, want, name=name, policy="bound", bound=bound)


def place(call: int, output: str, calls: int) -> str:
    """Return the name of an output, and of its call where there are several.

    >>> place(3, "y", 9), place(0, "dx", 1)
    ('call 3: y', 'dx')
    """
    return f"call {call}: {output}" if calls > 1 else output


def outputs_in_order(answer: Any) -> tuple[Any, ...]:
    """Return the outputs of an answer: a tuple or a list of arrays are several.

    >>> outputs_in_order([1, 2]), len(outputs_in_order([np.ones(2), np.ones(3)]))
    (([1, 2],), 2)
    """
    if isinstance(answer, list):
        plain = all(np.isscalar(each) or isinstance(each, list) for each in answer)
        return (answer,) if plain else tuple(answer)
    return answer if isinstance(answer, tuple) else (answer,)


def as_outputs(family: Family, answer: Any) -> Outputs:
    """Return an answer by output name; raise where there are too few or too many."""
    if isinstance(answer, Mapping):
        parts = dict(answer)
    else:
        given = outputs_in_order(answer)
        if len(given) > len(family.outputs):
            raise ValueError(
                f"{family.name} returns {family.outputs}, got {len(given)} outputs"
            )
        parts = dict(zip(family.outputs, given, strict=False))
    missing = [name for name in family.outputs if name not in parts]
    if missing:
        raise ValueError(f"{family.name} returns {family.outputs}, missing {missing}")
    return {name: np.asarray(parts[name]) for name in family.outputs}


def stack_scalar_calls(family: Family, answers: Sequence[Answered]) -> list[Answered]:
    """Put scalar calls into one, which is the same and quicker; the others follow."""
    if not family.stacks or family.outputs != ("y",):
        return list(answers)
    scalars = [a for a in answers if not np.ndim(a.call[family.elementwise])]
    arrays = [a for a in answers if np.ndim(a.call[family.elementwise])]
    if len(scalars) > 1:
        together = {"y": np.stack([np.reshape(o["y"], ()) for _, o in scalars])}
        scalars = [Answered(stack([c for c, _ in scalars]), together)]
    return [*scalars, *arrays]


def as_one_vector(outputs: Sequence[Outputs]) -> Array:
    """Return every number of every call as one vector."""
    parts = [np.ravel(a).astype(np.float64) for o in outputs for a in o.values()]
    return np.concatenate(parts)
