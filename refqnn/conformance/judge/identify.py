"""identify: ask a black box as little as possible, then try to refute what it seems.

Every question is the candidate input whose answer is expected to leave the fewest of
the variants that agree with all answers so far. Whole arrays over every region of the
family then confirm: what they contradict is none of the variants, and is said to be,
with the region and the smallest input. What no input separates is one class.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, final

import numpy as np

from refqnn._types import Array, Bool
from refqnn.conformance.carry.child import isolated
from refqnn.conformance.carry.words import one_line
from refqnn.conformance.choices.axes import AXES
from refqnn.conformance.choices.families import (
    REFUSED,
    Choices,
    Family,
    Inputs,
    Outputs,
    family_of,
)
from refqnn.conformance.choices.semantics import Semantics, named, of
from refqnn.conformance.choices.variants import Table, size, table, tabulate
from refqnn.conformance.judge import confirm as confirmation
from refqnn.conformance.judge.arguments import Function
from refqnn.conformance.judge.calls import Broken, as_outputs, compare_calls
from refqnn.conformance.judge.compare import Comparison
from refqnn.conformance.judge.confirm import Answered, Evidence
from refqnn.conformance.judge.partial import (
    UnknownAnswer,
    rule_of_vectors,
    unknown_answer,
    unknown_output,
)
from refqnn.conformance.judge.subject import Subject, Supports, subject_of

#: calls of a random verification, each with parameters of its own
PARTS = 10
#: answers of no variant after which nothing more is asked
STRANGE = 12
#: variants that are held against whole arrays
HELD = 64


@final
@dataclass(frozen=True)
class Identification:
    """What a function may be after the questions that decide and that confirm."""

    family: str
    #: every variant that agrees with all answers, one class that no input separates
    alive: tuple[Mapping[str, str], ...]
    #: axes on which all of them agree, the other answers contradicted
    certain: Mapping[str, str]
    #: axes on which they do not, and the answers left
    undetermined: Mapping[str, tuple[str, ...]]
    #: inputs that decided: scalars of an elementwise family, calls of any other
    inputs: int
    probes: tuple[int, ...]
    #: why an answer could not be used, or what refutes every variant
    complaint: str = ""
    #: outputs of whole arrays that confirmed, the regions that they visit, and the
    #: regions that were not looked at
    confirmed: int = 0
    regions: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()
    #: axes of which no known answer fits, and the inputs that tell
    unknown: Mapping[str, str] = field(default_factory=dict)
    #: the variant that agrees with most outputs, where none agrees with all
    nearest: Mapping[str, str] = field(default_factory=dict)
    #: the smallest input that contradicts it, and both answers
    smallest: str = ""
    #: the rules of one element and of vectors, where they differ
    rules: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def explained(self) -> bool:
        """Whether some variant agrees with every answer."""
        return bool(self.alive)

    @property
    def semantics(self) -> Semantics:
        """The first variant that agrees; raises ValueError if there is none."""
        if not self.alive:
            raise ValueError(f"no variant of {self.family} agrees with every answer")
        return of(self.alive[0])

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "family": self.family,
            "explained": self.explained,
            "certain": dict(self.certain),
            "undetermined": {a: list(v) for a, v in self.undetermined.items()},
            "unknown": dict(self.unknown),
            "variants_left": len(self.alive),
            "inputs": self.inputs,
            "probes": list(self.probes),
            "confirmed": self.confirmed,
            "regions": list(self.regions),
            "unseen": list(self.unseen),
            "nearest": dict(self.nearest),
            "smallest": self.smallest,
            "rules": {k: dict(v) for k, v in self.rules.items()},
            "complaint": self.complaint,
        }

    def __str__(self) -> str:
        head = f"{self.family}: decided by {self.inputs} inputs"
        if self.confirmed:
            how = "confirmed" if self.alive else "held against"
            head += (
                f", {how} on {self.confirmed} outputs in {len(self.regions)} regions"
            )
        lines = [] if self.alive else [f"  {self.verdict()}"]
        lines += [f"  {a:18} {v}{star(a, v)}" for a, v in self.certain.items()]
        lines += [
            f"  {a:18} undetermined: {' or '.join(v)}"
            for a, v in self.undetermined.items()
        ]
        lines += [f"  {a:18} none of the known: {v}" for a, v in self.unknown.items()]
        default = family_of(self.family).default
        lines += [f"  {who:18} {named(v, default)}" for who, v in self.rules.items()]
        if self.nearest:
            lines.append(f"  nearest            {named(self.nearest, default)}")
        if self.smallest:
            lines.append(f"  smallest           {self.smallest}")
        if self.unseen:
            lines.append(f"  not looked at: {', '.join(self.unseen)}")
        return "\n".join([head, *lines])

    def verdict(self) -> str:
        """Say why no variant is left."""
        count = len(family_of(self.family).variants())
        none = f"none of the {count} variants"
        return f"{none}: {self.complaint}" if self.complaint else none


def star(axis: str, value: str) -> str:
    """Mark an answer that is not refqnn's.

    >>> star("rounding", "floor")
    '   (refqnn: half_even)'
    """
    default = AXES[axis].default
    return "" if value == default else f"   (refqnn: {default})"


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
        calls = confirmation.confirming_calls(family)
        usable = askable(subject, known, calls)
        decision = decide(subject, usable)
        if decision.complaint:
            return conclude(usable, (), decision.asked, complaint=decision.complaint)
        evidence = confirmation.gather(subject, calls if confirm else ())
        return weigh(subject, usable, decision, evidence)


class Decision(NamedTuple):
    """What the questions that decide came to."""

    alive: list[int]
    asked: list[int]
    #: the answers that could be used, by probe
    answers: dict[int, Array]
    #: how many of them no variant gives that agreed before
    strange: int
    refused: list[tuple[Inputs, str]]
    complaint: str = ""


def askable(subject: Subject, known: Table, calls: Sequence[Inputs]) -> Table:
    """Return a table of the probes that the subject takes, as it takes them."""
    subject.settle([*known.probes, *calls])
    subject.find_built_in_range()
    pool = [subject.usable(probe) for probe in known.probes]
    subject.left_out.clear()
    if all(a is b for a, b in zip(pool, known.probes, strict=True)):
        return known
    usable = [each for each in pool if each is not None]
    if not usable:
        found = [subject.usable(call) for call in calls]
        subject.left_out.clear()
        usable = [each for each in found if each is not None][:6]
    return tabulate(known.family, known.variants, usable)


def decide(subject: Subject, known: Table) -> Decision:
    """Ask until no probe tells the variants left apart.

    An answer that none of them gives is set aside, and the others are asked.
    """
    state = Decision(list(range(len(known.variants))), [], {}, 0, [])
    if not known.probes:
        return state._replace(complaint="nothing that the function supports to ask")
    while state.strange < STRANGE and not state.complaint:
        probe = known.best(state.alive, state.asked) if state.alive else None
        if probe is None:
            break
        state = after_question(subject, known, state, probe)
    if len(state.refused) == len(state.asked) > 0:
        return state._replace(complaint=state.refused[0][1])
    return state


def after_question(
    subject: Subject, known: Table, state: Decision, probe: int
) -> Decision:
    """Ask for one probe and return what is known then."""
    call, asked = known.probes[probe], [*state.asked, probe]
    try:
        answer = ask(subject, known, probe)
    except Broken as error:
        return state._replace(asked=asked, complaint=str(error))
    except BadAnswer as error:
        return state._replace(asked=asked, complaint=str(error))
    except Exception as error:  # noqa: BLE001 - the foreign function may raise anything
        refused = [*state.refused, (call, f"refused: {one_line(error)}")]
        return state._replace(asked=asked, refused=refused)
    answers = state.answers | {probe: answer}
    left = remaining(known, state.alive, probe, answer)
    return state._replace(
        alive=left or state.alive,
        asked=asked,
        answers=answers,
        strange=state.strange + (not left),
    )


class BadAnswer(ValueError):  # noqa: N818 - says what it is
    """An answer that is no array of the right size."""


def ask(subject: Subject, known: Table, probe: int) -> Array:
    """Return the answer as a vector: REFUSED for an error, where a variant has one.

    Raises BadAnswer for what is no answer.
    """
    call, outcomes = known.probes[probe], known.outcomes[probe]
    try:
        outputs = subject.ask(call)
    except Broken:
        raise
    except ValueError as error:
        if str(error).startswith(f"{known.family.name} returns"):
            raise BadAnswer(str(error)) from error
        return refusal(outcomes, error)
    except Exception as error:  # noqa: BLE001 - the foreign function may raise anything
        return refusal(outcomes, error)
    return as_vector(outputs, outcomes.shape[1])


def refusal(outcomes: Array, error: Exception) -> Array:
    """Return the answer "an error" where a variant gives it; raise the error else."""
    if np.any(outcomes == REFUSED):
        return np.full(outcomes.shape[1], REFUSED, np.float64)
    raise error


def as_vector(outputs: Outputs, want: int) -> Array:
    """Return everything a function returned as one vector of ``want`` numbers."""
    parts = [np.asarray(part, np.float64).ravel() for part in outputs.values()]
    vector = np.concatenate(parts)
    if len(vector) != want:
        raise BadAnswer(f"returned {len(vector)} numbers, want {want}")
    return vector


def remaining(
    known: Table, alive: Sequence[int], probe: int, answer: Array
) -> list[int]:
    """Return the variants, of those alive, that give this answer to a probe."""
    rows = known.outcomes[probe][list(alive)]
    same: Bool = np.all(known.family.agree(answer, rows), axis=1)
    return [v for v, is_same in zip(alive, same, strict=True) if is_same]


def weigh(
    subject: Subject, known: Table, decision: Decision, evidence: Evidence
) -> Identification:
    """Return what the deciding answers and the whole arrays leave together."""
    family, arrays = known.family, evidence.answered
    evidence.refused.extend(decision.refused)
    asked = Evidence(
        family,
        [
            Answered(known.probes[p], unflattened(family, known.probes[p], answer))
            for p, answer in decision.answers.items()
            if not np.any(answer == REFUSED)
        ],
    )
    seen = Evidence(family, [*asked.answered, *arrays], evidence.refused)
    about: dict[str, Any] = {
        "confirmed": evidence.total,
        "regions": evidence.regions,
        "unseen": seen.unseen(subject),
    }
    if evidence.broken:
        left = conclude(known, (), decision.asked, complaint=evidence.broken)
        return replace(left, **about)
    candidates = [known.variants[v] for v in decision.alive]
    if not decision.strange:
        left_over = confirmation.survivors(family, candidates, arrays)
        if left_over:
            return replace(conclude(known, left_over, decision.asked), **about)
    decision = ask_all(subject, known, decision)
    none = refuted(subject, known, decision, arrays, seen.answered)
    return replace(none, **about)


def ask_all(subject: Subject, known: Table, decision: Decision) -> Decision:
    """Ask for whatever separates variants, where no variant agrees with all."""
    for probe in known.discriminating():
        if probe not in decision.asked and not decision.complaint:
            decision = after_question(subject, known, decision, probe)
    return decision


def unflattened(family: Family, call: Inputs, answer: Array) -> Outputs:
    """Return a vector of all outputs as the outputs, shaped as the reference's."""
    like, start, found = family.evaluate(family.default, **call), 0, {}
    for name, array in like.items():
        found[name] = answer[start : start + array.size].reshape(array.shape)
        start += array.size
    return found


def refuted(
    subject: Subject,
    known: Table,
    decision: Decision,
    arrays: Sequence[Answered],
    everything: Sequence[Answered],
) -> Identification:
    """Return what can be said of a function that is none of the variants."""
    family = known.family
    none = conclude(known, (), decision.asked)
    if not decision.strange:
        for single in [known.variants[v] for v in decision.alive][:3]:
            others = family.neighbours(single)[1:]
            vector = rule_of_vectors(family, single, others, arrays)
            if vector is not None:
                return two_rules(none, single, vector)
    unknown = unknown_answer(known, decision.answers, arrays) or unknown_output(
        known, decision.answers, arrays
    )
    if unknown is not None:
        return but_for(unknown, conclude(known, unknown.variants, decision.asked))
    nearest = nearest_variant(known, decision, everything)
    region = confirmation.where_it_differs(family, nearest, everything)
    wrong = sum(confirmation.contradictions(family, nearest, everything))
    total = sum(a.size for _, out in everything for a in out.values())
    where = f"fits everything but {region}" if region else "none fits everything"
    return replace(
        none,
        complaint=f"{where} ({wrong} of {total} outputs)",
        nearest=nearest if 2 * wrong < total else {},
        smallest=confirmation.smallest_failure(subject, nearest, everything),
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
    """Return the verdict on a function of two rules: certain is what both share."""
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
    """Say what is certain among the variants left and what is not."""
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
    in_process: bool = False,
    seconds: float = 60.0,
) -> Comparison:
    """Compare a function with the semantics it is said to have, on random inputs.

    >>> rint = lambda x, s, z, lo, hi: np.clip(np.rint(x / s) + z, lo, hi)
    >>> said = Semantics(rounding="half_up")
    >>> found = verify(rint, "quantize", said, rng=np.random.default_rng(0), inputs=999)
    >>> found.conforms
    False
    """
    of_family = family_of(family)
    choices = of_family.choices(semantics)
    calls = [of_family.draw(rng, max(inputs // PARTS, 1)) for _ in range(PARTS)]
    try:
        with isolated(fn, seconds, in_process=in_process) as called:
            got = [as_outputs(of_family, called(*call.values())) for call in calls]
    except Exception as error:  # noqa: BLE001 - the foreign function may raise anything
        return Comparison(family, 0, 0, error=one_line(error))
    want = [of_family.evaluate(choices, **call) for call in calls]
    return compare_calls(of_family, got, want, family)
