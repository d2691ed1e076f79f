"""identify: ask a black box as little as possible, then try to refute what it seems.

Every question is the candidate input whose answer is expected to leave the fewest of
the variants that agree with all answers so far. Whole arrays over every region of the
family then confirm: what they contradict is none of the variants, and is said to be,
with the region and the smallest input. What no input separates is one class.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from refqnn._types import Array
from refqnn.conformance.choices.families import family_of
from refqnn.conformance.choices.family import REFUSED, Choices, Family, Inputs, Outputs
from refqnn.conformance.choices.variants import Table, size, table
from refqnn.conformance.judge import confirm as confirmation
from refqnn.conformance.judge.arguments import Function
from refqnn.conformance.judge.calls import Answered, compare_trials, trials
from refqnn.conformance.judge.compare import Comparison
from refqnn.conformance.judge.confirm import Evidence
from refqnn.conformance.judge.failures import smallest_failure
from refqnn.conformance.judge.identification import Identification
from refqnn.conformance.judge.partial import (
    UnknownAnswer,
    rule_of_vectors,
    unknown_answer,
    unknown_output,
)
from refqnn.conformance.judge.questions import Decision, ask_all, askable, decide
from refqnn.conformance.judge.subject import Subject, Supports, subject_of

#: calls of a random verification, each with parameters of its own, at least; at most
PARTS, MOST_CALLS = 10, 10_000


def identify(
    fn: Function,
    family: str,
    *,
    backward: Function | None = None,
    supports: Supports | None = None,
    confirm: bool = True,
    in_process: bool = False,
    seconds: float = 10.0,
) -> Identification:
    """Return which variants of ``family`` the function ``fn`` may be.

    ``fn`` takes the inputs of the family by position, or some of them by their names,
    and returns its outputs in order; an exception counts as the answer "an error" where
    there is one. It runs in a child process, ``seconds`` for each call, unless
    ``in_process``. With ``backward``, ``fn`` leaves out dy and returns the first
    output; ``backward(dy, *inputs)`` returns the others. ``supports(call)`` says which
    calls, by name of argument, the verdict is about. Without ``confirm``, only the
    questions that decide are asked.

    >>> found = identify(lambda x, s, z, lo, hi: np.clip(np.rint(x / s) + z, lo, hi),
    ...                  "quantize")
    >>> found.certain["rounding"], found.certain["zero_point_when"], found.unseen
    ('half_even', 'after_rounding', ())
    """
    known = table(family)
    with subject_of(
        known.family,
        fn,
        backward=backward,
        supports=supports,
        in_process=in_process,
        seconds=seconds,
    ) as subject:
        subject.skips_zeros = True
        calls = confirmation.every_call(family)
        usable = askable(subject, known, calls)
        decision = decide(subject, usable)
        if decision.complaint:
            return conclude(usable, (), decision.asked, complaint=decision.complaint)
        further = (*calls, *separating_calls(known)) if confirm else ()
        evidence = confirmation.gather(subject, further)
        return weigh(subject, usable, decision, evidence)


def weigh(
    subject: Subject, known: Table, decision: Decision, evidence: Evidence
) -> Identification:
    """Conclude from the answers that decide and the whole arrays that confirm."""
    family, arrays = known.family, evidence.answered
    evidence.refused.extend(decision.refused)
    asked = separating_answers(known, decision)
    seen = Evidence(family, [*asked, *arrays], evidence.refused)
    refusals = [known.probes[p] for p, a in decision.answers.items() if REFUSED in a]
    looked_at = [*seen.answered, *(Answered(call, {}) for call in refusals)]
    about: dict[str, Any] = {
        "confirmed": evidence.total,
        "regions": evidence.regions,
        "unseen": replace(seen, answered=looked_at).unseen_regions(subject),
    }
    if evidence.broken:
        left = conclude(known, (), decision.asked, complaint=evidence.broken)
        return replace(left, **about)
    candidates = [known.variants[v] for v in decision.alive]
    if not decision.strange:
        left_over = confirmation.survivors(family, candidates, arrays)
        if left_over:
            whole = conclude(known, left_over, decision.asked)
            fixed = fixed_range(subject, left_over)
            return replace(but_for(fixed, whole) if fixed else whole, **about)
    decision = ask_all(subject, known, decision)
    none = refutation(subject, known, decision, arrays, seen.answered)
    return replace(none, **about)


def separating_calls(known: Table) -> list[Inputs]:
    """Return few calls that tell all variants apart, but for those that one refuses."""
    few = known.discriminating()
    return [known.probes[p] for p in few if not np.any(known.outcomes[p] == REFUSED)]


def fixed_range(subject: Subject, variants: Sequence[Choices]) -> UnknownAnswer | None:
    """Return the range that a function has whatever q_min and q_max, as an answer.

    None for that of a type. Nothing would have refuted that another is made from the
    arguments, as the known answers make it.
    """
    if subject.narrower is None:
        return None
    shown = "{} .. {}, whatever q_min and q_max are".format(*subject.narrower)
    return UnknownAnswer("code_range", [*map(dict, variants)], shown)


def separating_answers(known: Table, decision: Decision) -> list[Answered]:
    """Return the calls that decide, each with its answer, but for refused ones."""
    return [
        Answered(known.probes[p], unflatten(known.family, known.probes[p], answer))
        for p, answer in decision.answers.items()
        if not np.any(answer == REFUSED)
    ]


def unflatten(family: Family, call: Inputs, answer: Array) -> Outputs:
    """Split a vector of all outputs into arrays by name, shaped as the reference's."""
    like, start, outputs = family.evaluate(family.default, **call), 0, {}
    for name, array in like.items():
        outputs[name] = answer[start : start + array.size].reshape(array.shape)
        start += array.size
    return outputs


def refutation(
    subject: Subject,
    known: Table,
    decision: Decision,
    arrays: Sequence[Answered],
    everything: Sequence[Answered],
) -> Identification:
    """Say how a function differs from all variants: two rules, an axis or a region."""
    family = known.family
    none = conclude(known, (), decision.asked)
    if not decision.strange:
        for single in [known.variants[v] for v in decision.alive][:3]:
            others = family.neighbours(single)[1:]
            vector = rule_of_vectors(family, single, others, arrays)
            if vector is not None:
                return two_rules(none, single, vector)
    nearest = nearest_variant(known, decision, everything)
    if farther := farther_variants(family, nearest, everything):
        return conclude(known, farther, decision.asked)
    unknown = unknown_answer(known, decision.answers, arrays) or unknown_output(
        known, decision.answers, arrays
    )
    if unknown is not None:
        return but_for(unknown, conclude(known, unknown.variants, decision.asked))
    smallest = smallest_failure(subject, nearest, everything)
    return refute(none, nearest, everything, smallest)


def farther_variants(
    family: Family, nearest: Choices, everything: Sequence[Answered]
) -> list[Choices]:
    """Return the variants beside the nearest, and beside those, that fit everything.

    Where a family has many answers its table leaves out variants that differ from
    refqnn in four.
    """
    beside = confirmation.survivors(family, family.neighbours(nearest, 1), everything)
    others = [v for near in beside[:3] for v in family.neighbours(near, 1)]
    unique = {tuple(v.items()): v for v in [*beside, *others]}
    return confirmation.survivors(family, list(unique.values()), everything)


def refute(
    none: Identification,
    nearest: Choices,
    everything: Sequence[Answered],
    smallest: str,
) -> Identification:
    """Return the verdict that no variant fits: the nearest, and where it does not."""
    family = family_of(none.family)
    region = confirmation.where_it_differs(family, nearest, everything)
    wrong = sum(confirmation.contradictions(family, nearest, everything))
    total = sum(a.size for _, out in everything for a in out.values())
    is_near = 2 * wrong < total
    near = region and is_near
    where = f"fits everything but {region}" if near else "none fits everything"
    return replace(
        none,
        complaint=f"{where} ({wrong} of {total} outputs)",
        nearest=nearest if is_near else {},
        smallest=smallest,
    )


def but_for(unknown: UnknownAnswer, part: Identification) -> Identification:
    """Return the verdict on all axes but the one of which no known answer fits."""
    left = {a: v for a, v in part.undetermined.items() if a != unknown.axis}
    return replace(
        part,
        alive=(),
        complaint=f"{unknown.axis} has an answer that none of them gives",
        certain={a: v for a, v in part.certain.items() if a != unknown.axis},
        undetermined=left,
        unknown={unknown.axis: unknown.shown},
    )


def nearest_variant(
    known: Table, decision: Decision, everything: Sequence[Answered]
) -> Choices:
    """Return the variant that fewest outputs contradict, of those that decide best."""
    scores = np.zeros(len(known.variants), np.int64)
    for probe, answer in decision.answers.items():
        good = known.family.agree(answer, known.outcomes[probe])
        scores += np.asarray(good).all(axis=1)
    best = [int(v) for v in np.argsort(-scores, kind="stable")[:8]]
    order = dict.fromkeys([*decision.alive[:8], *best])
    return min(
        (known.variants[v] for v in order),
        key=lambda v: sum(confirmation.contradictions(known.family, v, everything)),
    )


def two_rules(none: Identification, single: Choices, vector: Choices) -> Identification:
    """Return the verdict on two rules: answers that both share are certain."""
    return replace(
        none,
        complaint="one element and a vector follow different rules",
        certain={a: v for a, v in single.items() if vector[a] == v},
        rules={"one element": dict(single), "vectors": dict(vector)},
    )


def conclude(
    known: Table,
    left: Sequence[Choices],
    asked: Sequence[int],
    complaint: str = "",
) -> Identification:
    """Sort the answers of variants that are left into certain and undetermined ones."""
    given = {
        axis: tuple(dict.fromkeys(v[axis] for v in left)) for axis in known.family.axes
    }
    return Identification(
        known.family.name,
        tuple(left),
        {a: v[0] for a, v in given.items() if len(v) == 1},
        {a: v for a, v in given.items() if len(v) > 1},
        sum(size(known.family, known.probes[p]) for p in asked),
        tuple(asked),
        complaint,
    )


def verify(
    fn: Function,
    family: str,
    semantics: Mapping[str, str],
    *,
    rng: np.random.Generator,
    inputs: int = 100_000,
    supports: Supports | None = None,
    in_process: bool = False,
    seconds: float = 60.0,
) -> Comparison:
    """Compare a function with the semantics it is said to have.

    On random inputs, of which none may be refused, then on whole arrays over all
    regions, of which it may refuse some.

    ``supports(call)`` says of which calls.

    >>> from refqnn.conformance import Semantics
    >>> rint = lambda x, s, z, lo, hi: np.clip(np.rint(x / s) + z, lo, hi)
    >>> said = Semantics(rounding="half_up")
    >>> found = verify(rint, "quantize", said, rng=np.random.default_rng(0), inputs=999)
    >>> found.conforms
    False
    """
    of = family_of(family)
    choices = of.choices(semantics)
    drawn = random_calls(of, rng, max(inputs // PARTS, 1), supports)
    further = confirmation.every_call(family)
    options: dict[str, Any] = {"in_process": in_process, "seconds": seconds}
    options |= {"supports": supports}
    with subject_of(of, fn, **options) as subject:
        subject.settle([*drawn, *further])
        subject.find_built_in_range()
        evidence = Evidence(of)
        for call in (*drawn, *further):
            usable = subject.usable(call)
            given = usable and confirmation.without_refused(of, choices, usable)
            if given is not None:
                confirmation.ask_into(evidence, subject, given)
            failed = evidence.broken or (evidence.refused and not evidence.answered)
            if failed:
                error = evidence.broken or evidence.refused[0][1]
                return Comparison(family, 0, 0, error=error)
        unseen = evidence.unseen_regions(subject)
    held = compare_trials(of, trials(of, choices, evidence.answered), family)
    lines = [f"not looked at: {', '.join(unseen)}"] if unseen else []
    return replace(held, where=(*held.where, *lines))


def random_calls(
    family: Family, rng: np.random.Generator, n: int, supports: Supports | None
) -> list[Inputs]:
    """Draw calls of about n elements, more where a family draws fewer at once."""
    calls: list[Inputs] = []
    elements, wanted = 0, PARTS * (n if family.elementwise else 1)
    for _ in range(MOST_CALLS):
        call = family.draw(rng, n)
        if supports is None or supports(call):
            calls.append(call)
            elements += size(family, call)
        if elements >= wanted:
            break
    return calls
