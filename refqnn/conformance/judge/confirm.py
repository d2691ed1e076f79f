"""Whole arrays over all regions of a family, asked to refute what few inputs decided.

A verdict may claim only what would have been refuted had it been false. ``gather`` asks
for the arrays of a covering; ``contradictions`` counts what a variant would not have
answered; ``where_it_differs`` names the regions of the inputs that refute.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from refqnn._types import Array, Bool
from refqnn.conformance.carry.words import one_line
from refqnn.conformance.choices import kinds, regions
from refqnn.conformance.choices.families import family_of
from refqnn.conformance.choices.family import (
    REFUSED,
    Choices,
    Family,
    Inputs,
    Outputs,
    key,
)
from refqnn.conformance.judge.arguments import GRADIENTS, without_special
from refqnn.conformance.judge.calls import Answered, Broken
from refqnn.conformance.judge.reproduce import numbers
from refqnn.conformance.judge.subject import Subject

#: lengths of drawn arrays
LENGTHS = (*kinds.LENGTHS, 1000)
#: elements of which the regions are compared
LOOKED_AT = 60
#: how much more often a region must be visited by the inputs that contradict
APART = 0.2
#: calls that are drawn in place of those that were refused, at most
OTHERS = 400
#: calls that shall visit each region
VISITS = 3
#: elements that are asked alone where no array is answered
ALONE = 300


@dataclass
class Evidence:
    """Calls that a function answered, calls that it refused, how a call ended it."""

    family: Family
    answered: list[Answered] = field(default_factory=list)
    refused: list[tuple[Inputs, str]] = field(default_factory=list)
    #: how a call ended the process, or what is no answer at all
    broken: str = ""

    @property
    def total(self) -> int:
        """How many outputs were answered."""
        return sum(a.size for _, out in self.answered for a in out.values())

    @property
    def regions(self) -> tuple[str, ...]:
        """The regions that the answered calls visit, in the order of the family."""
        name = self.family.name
        seen = regions.regions_visited(name, [call for call, _ in self.answered])
        return tuple(region for region in regions.regions_of(name) if region in seen)

    @property
    def missed(self) -> tuple[str, ...]:
        """The regions that no answered call visits."""
        seen = set(self.regions)
        return tuple(r for r in regions.regions_of(self.family.name) if r not in seen)

    def unseen_regions(self, subject: Subject) -> tuple[str, ...]:
        """List the regions that no answered call visits, with the known reasons.

        Calls that were not answered and visit none of them are counted by reason.
        """
        reasons: dict[str, list[str]] = {}
        left, missed = [*self.refused, *subject.left_out], list(self.missed)
        counts = Counter(why for _, why in left)
        name = self.family.name
        for why in counts:
            visited = regions.regions_visited(
                name, [c for c, other in left if other == why]
            )
            reasons[why] = [region for region in missed if region in visited]
            missed = [region for region in missed if region not in visited]
        lines = [
            f"{', '.join(unvisited) or f'{counts[why]} calls'} ({why})"
            for why, unvisited in reasons.items()
        ]
        return (*missed, *lines)


@cache
def confirming_calls(name: str) -> tuple[Inputs, ...]:
    """Return the covering of a family and drawn arrays of every length.

    Gradients that come in are of both signs and of unequal size.
    """
    family = family_of(name)
    drawn = [family.draw(np.random.default_rng([7, n]), n) for n in LENGTHS]
    calls = [*regions.covering(name), *map(with_both_signs, drawn)]
    return tuple(sorted(map(decided_everywhere, calls), key=numbers))


@cache
def every_call(name: str) -> tuple[Inputs, ...]:
    """Return the calls that confirm, and those of types that not every function takes.

    A function may refuse the latter: the verdict names what was not looked at.
    """
    draw = family_of(name).beyond
    if draw is None:
        return confirming_calls(name)
    seeds = [[11, n, k] for n in LENGTHS for k in range(4)]
    further = [draw(np.random.default_rng(seed), seed[1]) for seed in seeds]
    return (*confirming_calls(name), *further)


def decided_everywhere(call: Inputs) -> Inputs:
    """Return a call with 0 for every x of which no semantics says where it lies.

    Its quotient by the scale underflows, or lies on another side of an end of the grid
    than x of the scaled end: which of both is compared is no choice that has a name.
    """
    if not {"x", "scale", "zero_point"} <= call.keys() or call["x"].dtype.kind != "f":
        return call
    x, s = call["x"], np.asarray(call["scale"], call["x"].dtype)
    if s.ndim and any(name in GRADIENTS for name in call):
        return call
    with np.errstate(all="ignore"):
        quotient = x / s
        lost = (x != 0) & (np.abs(quotient) < np.finfo(np.float32).tiny)
        if any(name in GRADIENTS for name in call):
            for end in (call["q_min"], call["q_max"]):
                level = np.asarray(end - np.asarray(call["zero_point"]), s.dtype)
                lost |= np.sign(x - s * level) != np.sign(quotient - level)
    lost &= np.isfinite(x)
    return call | {"x": np.where(lost, 0, x).astype(x.dtype)} if lost.any() else call


def with_both_signs(call: Inputs) -> Inputs:
    """Return a call whose incoming gradients have both signs and unequal sizes."""
    changed = {
        name: (value * np.resize([1.5, -0.75, 0.5, -1.25, 0.25], np.shape(value)))
        for name, value in call.items()
        if name in GRADIENTS
    }
    return call | {k: v.astype(np.asarray(call[k]).dtype) for k, v in changed.items()}


def gather(subject: Subject, calls: Iterable[Inputs]) -> Evidence:
    """Ask for every call that the subject takes; stop where it breaks.

    A refused array that holds NaN or infinity is asked again without; other calls take
    the place of those that are not taken or refused; where no array is answered,
    elements are asked alone.
    """
    evidence = Evidence(subject.family)
    given = list(calls)
    usable = [each for each in map(subject.usable, given) if each is not None]
    for call in usable:
        ask_into(evidence, subject, call)
        if evidence.broken:
            return evidence
    if evidence.answered:
        for call in other_calls(evidence, subject, len(given)):
            ask_into(evidence, subject, call)
    if not evidence.answered and subject.family.elementwise:
        apart = [e for call in usable for e in elements(subject.family, call)]
        for call in apart[:: max(len(apart) // ALONE, 1)]:
            ask_into(evidence, subject, call)
    return evidence


def other_calls(evidence: Evidence, subject: Subject, wanted: int) -> Iterator[Inputs]:
    """Draw calls to be asked for in turn, until ``wanted`` are answered.

    What a partial kernel takes is a small part of a covering, too small to refute.
    Regions that hardly any answered call visits are looked for in all that is drawn,
    and pairs of regions that only calls visit which are not answered.
    """
    left_out, name = list(subject.left_out), subject.family.name
    unanswered = [call for call, _ in (*evidence.refused, *left_out)]
    answered = [call for call, _ in evidence.answered]
    left = np.asarray(regions.visits_and_pairs(name, unanswered).any(axis=0), np.int64)
    left[: len(regions.regions_of(name))] = VISITS if unanswered else 0
    left -= regions.visits_and_pairs(name, answered).sum(axis=0)
    for call in regions.pool(name, OTHERS, start=3):
        before = len(evidence.answered)
        if evidence.broken or (before >= wanted and left.max(initial=0) <= 0):
            break
        usable = subject.usable(call)
        if usable is None:
            continue
        visited = regions.visits_and_pairs(name, [usable])[0]
        if before < wanted or left[visited].max(initial=0) > 0:
            yield usable
            left -= visited & (len(evidence.answered) > before)
    subject.left_out[:] = left_out


def ask_into(evidence: Evidence, subject: Subject, call: Inputs) -> None:
    """Ask for one call and note how it ended."""
    try:
        evidence.answered.append(Answered(call, subject.ask(call)))
    except Broken as error:
        evidence.broken = str(error)
    except Exception as error:  # noqa: BLE001 - the foreign function may raise anything
        evidence.refused.append((call, f"refused: {one_line(error)}"))
        plain = without_special(subject.family, call)
        if plain is not None:
            ask_into(evidence, subject, plain)


def without_refused(family: Family, declared: Choices, call: Inputs) -> Inputs | None:
    """Return a call whose refused elements are replaced by one that is not.

    None for a call that a semantics refuses as a whole.
    """
    try:
        wants = family.evaluate(declared, **call)
    except ValueError:
        return None
    bad = next((w == REFUSED for w in wants.values() if np.any(w == REFUSED)), None)
    if bad is None:
        return call
    name = family.elementwise
    if not name or np.shape(bad) != np.shape(call[name]) or np.all(bad):
        return None
    data = np.asarray(call[name])
    return call | {name: np.where(bad, data[~bad].ravel()[0], data)}


def right(
    family: Family, choices: Choices, call: Inputs, got: Outputs
) -> Outputs | None:
    """Return, by output, where an answer is the one of a variant.

    Where a variant refuses a number that is not NaN, any answer is right. None where
    it does not accept the call.
    """
    want = family.outputs_or_none(choices, call)
    return want and {
        name: right_elements(family, call, got[name], expected)
        for name, expected in want.items()
    }


def right_elements(family: Family, call: Inputs, got: Array, want: Array) -> Bool:
    """Return where one output is right; nowhere if it has another shape."""
    if got.shape != want.shape:
        return np.zeros(want.shape or (1,), bool)
    good = family.agree(got, want)
    undefined = np.asarray(want == REFUSED)
    if undefined.any() and family.elementwise:
        good = good | (undefined & ~np.isnan(call[family.elementwise]))
    return np.asarray(good)


def contradictions(
    family: Family, choices: Choices, answers: Iterable[Answered]
) -> list[int]:
    """Return how many outputs of every answer a variant would not have given.

    All of them where the variant does not accept the call.
    """
    return [count_wrong(family, choices, call, got) for call, got in answers]


def count_wrong(family: Family, choices: Choices, call: Inputs, got: Outputs) -> int:
    """Return how many outputs of one answer a variant would not have given."""
    parts = right(family, choices, call, got)
    if parts is None:
        return sum(a.size for a in got.values())
    return sum(int(good.size - np.count_nonzero(good)) for good in parts.values())


def survivors(
    family: Family, variants: Sequence[Choices], answers: Sequence[Answered]
) -> list[Choices]:
    """Return the variants that no answer contradicts, each function tried once.

    Small calls first: they are quick, and contradict most.
    """
    groups = family.functions(variants)
    for call, got in sorted(answers, key=lambda a: numbers(a.call)):
        groups = {
            function: group
            for function, group in groups.items()
            if not count_wrong(family, group[0], call, got)
        }
    left = {key(v) for group in groups.values() for v in group}
    return [v for v in variants if key(v) in left]


def where_it_differs(
    family: Family, choices: Choices, answers: Sequence[Answered]
) -> str:
    """Name the regions that the contradicted inputs visit and the others do not.

    Elements are compared where the outputs have the shape of the input, else calls. ""
    where no region separates them.
    """
    wrong: list[Inputs] = []
    good: list[Inputs] = []
    for call, got in answers:
        split(family, choices, call, got, wrong, good)
    wrong, good = thin(wrong), thin(good)
    if not wrong:
        return ""
    names = list(regions.regions_of(family.name))
    in_wrong = regions.visits(family.name, wrong)
    in_good = regions.visits(family.name, good)
    share = in_wrong.mean(axis=0) - (in_good.mean(axis=0) if len(good) else 0)
    share = np.where(in_wrong.all(axis=0), share, share - 1)
    best = [i for i in np.argsort(-share, kind="stable")[:2] if share[i] > APART]
    return " and ".join(names[i] for i in best)


def split(
    family: Family,
    choices: Choices,
    call: Inputs,
    got: Outputs,
    wrong: list[Inputs],
    good: list[Inputs],
) -> None:
    """Add the elements of a call to those that contradict a variant or to the others.

    The whole call where its outputs are not elements.
    """
    parts = right(family, choices, call, got)
    if parts is None:
        return
    name = family.elementwise or "x"
    shape = np.shape(call.get(name, ()))
    same = [part for part in parts.values() if part.shape == shape and shape]
    bad_elements = [part for part in same if not part.all()]
    if not bad_elements or not family.elementwise:
        fine = all(part.all() for part in parts.values())
        (good if fine else wrong).append(call)
        return
    agree = np.logical_and.reduce(same).ravel()
    for place, each in enumerate(elements(family, call)):
        (good if agree[place] else wrong).append(each)


def thin(calls: list[Inputs]) -> list[Inputs]:
    """Take every n-th of many calls, such that about LOOKED_AT are left."""
    return calls[:: max(len(calls) // LOOKED_AT, 1)]


def elements(family: Family, call: Inputs) -> list[Inputs]:
    """Return one call of one element for every element of an elementwise call.

    An element of data is an array, an element of a parameter a number.
    """
    data = np.asarray(call[family.elementwise])
    spread = {
        name: np.broadcast_to(value, data.shape).ravel()
        for name, value in call.items()
        if isinstance(value, np.ndarray) and value.ndim
    }
    return [
        {
            name: spread[name][i] if name in spread else value
            for name, value in call.items()
        }
        | {family.elementwise: data.ravel()[i].reshape((1,) * data.ndim)}
        for i in range(data.size)
    ]
