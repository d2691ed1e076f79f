"""The variants that explain outputs, and what the outputs could not have told.

Variants are tried on few outputs first; what those contradict is not tried on the rest.
A variant that no output contradicts explains them; all of these together are what the
data cannot tell apart.
"""

import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from refqnn._types import Array, Bool
from refqnn.conformance.choices.family import Choices, Family, Outputs, key
from refqnn.conformance.choices.variants import table
from refqnn.conformance.judge.calls import Answered, as_one_vector
from refqnn.conformance.judge.confirm import survivors

#: elements of a sample, wrong ones and others
SAMPLE = 300
#: outputs times variants up to which those with two other answers are shown as well
AFFORDABLE = 3_000_000
#: seconds that trying every variant may cost
PATIENCE = 15.0


class Explanation(NamedTuple):
    """Variants that give the same outputs on this data, and how those agree."""

    variants: tuple[dict[str, str], ...]
    #: answers that the first of them changes
    deviations: int
    agrees: int
    contradicted: int


class Search(NamedTuple):
    """Variants that were tried, classes of those that agree, how much data decides."""

    explanations: list[Explanation]
    #: variants that were tried
    tried: int
    #: whether these are all there are
    complete: bool
    #: outputs on which at least two of those shown differ
    evidence: int

    @property
    def fits(self) -> tuple[dict[str, str], ...]:
        """The variants that no output contradicts."""
        first = self.explanations[:1]
        return first[0].variants if first and not first[0].contradicted else ()


def search(family: Family, declared: Choices, answers: Sequence[Answered]) -> Search:
    """Try every variant, those with the fewest other answers first."""
    near = family.neighbours(declared)
    every = unique([*near, *family.variants()])
    begun = time.perf_counter()
    wants = [family.evaluate(declared, **call) for call, _ in answers]
    cost = time.perf_counter() - begun
    samples = [
        part
        for answer, want in zip(answers, wants, strict=True)
        for part in sample_parts(family, declared, answer, want)
    ]
    complete = bool(samples) or cost * len(family.functions(every)) < PATIENCE
    tried = every if complete else near
    left = survivors(family, tried, samples) if samples else tried
    exact = survivors(family, left, answers)
    total = sum(a.size for _, got in answers for a in got.values())
    few = near if total * len(near) <= AFFORDABLE else family.neighbours(declared, 1)
    shown = unique([*exact, *few])
    vector = as_one_vector([got for _, got in answers])
    outcomes = []
    for v in shown:
        outputs = [family.outputs_or_none(v, call) for call, _ in answers]
        given = [each for each in outputs if each is not None]
        if len(given) == len(outputs):
            outcomes.append((v, as_one_vector(given)))
    return Search(
        explanations_of(family, declared, outcomes, vector, exact),
        len(tried),
        complete,
        int(differing(family, [outcome for _, outcome in outcomes]).sum()),
    )


def unique(variants: Sequence[Choices]) -> list[dict[str, str]]:
    """Return variants without repetition, in their order."""
    return list({key(v): dict(v) for v in variants}.values())


def sample_parts(
    family: Family, declared: Choices, answer: Answered, want: Outputs
) -> Iterator[Answered]:
    """Yield one part of a large answer, itself an answer to a smaller call.

    Some elements of an elementwise family, contradicted ones first; the first image of
    several, if the declared semantics gives what it gives in the whole.
    """
    call, got = answer
    total = sum(a.size for a in got.values())
    if total <= 2 * SAMPLE:
        return
    if family.elementwise and family.outputs == ("y",):
        shape = np.shape(call[family.elementwise])
        wrong = ~np.asarray(family.agree(got["y"], want["y"])).ravel()
        places = np.concatenate(
            [some(np.flatnonzero(wrong)), some(np.flatnonzero(~wrong))]
        )
        yield Answered(
            {k: taken_from(v, shape, places) for k, v in call.items()},
            {"y": got["y"].ravel()[places]},
        )
    elif np.ndim(call.get("x", 0)) > 1 and len(call["x"]) > 1:
        one = {**call, "x": call["x"][:1]}
        first = {k: v[:1] for k, v in want.items() if v.ndim}
        again = family.outputs_or_none(declared, one) or {}
        if first.keys() == again.keys() and all(
            np.array_equal(again[k], v) for k, v in first.items()
        ):
            yield Answered(one, {k: v[:1] for k, v in got.items()})


def some(places: Array) -> Array:
    """Return at most SAMPLE places, evenly taken."""
    return places[:: max(len(places) // SAMPLE, 1)][:SAMPLE]


def taken_from(value: object, shape: tuple[int, ...], places: Array) -> object:
    """Return the elements of an argument at places of the data; a number as it is."""
    if not isinstance(value, np.ndarray) or not value.ndim:
        return value
    return np.broadcast_to(value, shape).ravel()[places]


def explanations_of(
    family: Family,
    declared: Choices,
    outcomes: Sequence[tuple[Choices, Array]],
    vector: Array,
    exact: Sequence[Choices],
) -> list[Explanation]:
    """Group variants by their outputs, the class of fewest contradictions first."""
    fits = {key(v) for v in exact}
    groups: dict[bytes, list[dict[str, str]]] = {}
    agreeing: dict[bytes, int] = {}
    for variant, outcome in outcomes:
        mark = b"" if key(variant) in fits else fingerprint(outcome, family.close)
        groups.setdefault(mark, []).append(dict(variant))
        if mark not in agreeing:
            agree = int(np.asarray(family.agree(vector, outcome)).sum())
            agreeing[mark] = agree if mark else len(vector)
    explanations = [
        Explanation(
            tuple(group),
            len(changes(group[0], declared)),
            agreeing[mark],
            len(vector) - agreeing[mark],
        )
        for mark, group in groups.items()
    ]
    return sorted(explanations, key=lambda e: (e.contradicted, e.deviations))


def fingerprint(outcome: Array, close: float) -> bytes:
    """Return bytes that are the same for outcomes that count as equal."""
    rows = np.round(outcome / (10 * close)) if close else outcome
    return np.ascontiguousarray(rows + 0.0).tobytes()


def differing(family: Family, outcomes: Sequence[Array]) -> Bool:
    """Return on which outputs at least two variants differ."""
    differs = np.zeros(outcomes[0].shape, bool)
    for outcome in outcomes[1:]:
        differs |= ~np.asarray(family.agree(outcome, outcomes[0]))
    return differs


def deciding_inputs(family: Family, variants: Sequence[Choices]) -> int:
    """Return how many inputs separate variants that are not provably one function."""
    if len(family.functions(variants)) <= 1:
        return 0
    known = table(family.name)
    place = {key(v): i for i, v in enumerate(known.variants)}
    rows = [place[key(v)] for v in variants if key(v) in place]
    return max(len(known.discriminating(rows)) if rows else 0, 1)


def changes(choices: Choices, declared: Choices) -> dict[str, str]:
    """Return the answers that differ from the declared ones."""
    return {a: v for a, v in choices.items() if declared[a] != v}
