"""The questions that decide: few inputs, each expected to leave the fewest variants."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from refqnn._types import Array, Bool
from refqnn.conformance.carry.words import one_line
from refqnn.conformance.choices.families import REFUSED, Inputs, Outputs
from refqnn.conformance.choices.variants import Table, tabulate
from refqnn.conformance.judge.calls import Broken, as_one_vector
from refqnn.conformance.judge.subject import Subject

#: answers of no variant after which nothing more is asked
STRANGE = 12
#: refusals in a row, from the first question, after which nothing more is asked
DEAF = 200


class Decision(NamedTuple):
    """Variants alive after the questions that decide, and the answers to these."""

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
    subject.find_built_in_range(or_narrower=True)
    pool = [subject.usable(probe) for probe in known.probes]
    subject.left_out.clear()
    if all(a is b for a, b in zip(pool, known.probes, strict=True)):
        return known
    usable = [each for each in pool if each is not None]
    if not usable:
        whole = [subject.usable(call) for call in calls]
        subject.left_out.clear()
        usable = [each for each in whole if each is not None][:6]
    return tabulate(known.family, known.variants, usable)


def decide(subject: Subject, known: Table) -> Decision:
    """Ask until no probe tells the variants left apart.

    An answer that none of them gives is set aside, and the others are asked.
    """
    state = Decision(list(range(len(known.variants))), [], {}, 0, [])
    if not known.probes:
        return state._replace(complaint="nothing that the function supports to ask")
    while state.strange < STRANGE and not state.complaint and not is_deaf(state):
        probe = known.best(state.alive, state.asked) if state.alive else None
        if probe is None:
            break
        state = after_question(subject, known, state, probe)
    if state.refused and refuses_all(state):
        return state._replace(complaint=state.refused[0][1])
    return state


def is_deaf(state: Decision) -> bool:
    """Say whether a function has refused so much that it answers nothing."""
    return len(state.refused) >= DEAF and refuses_all(state)


def refuses_all(state: Decision) -> bool:
    """Say whether no question was answered: NaN is refused with all else."""
    return all(np.all(answer == REFUSED) for answer in state.answers.values())


def after_question(
    subject: Subject, known: Table, state: Decision, probe: int
) -> Decision:
    """Ask for one probe and return what is known then."""
    call, asked = known.probes[probe], [*state.asked, probe]
    try:
        answer = ask(subject, known, probe)
    except (Broken, BadAnswer) as error:
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
    except Exception as error:
        if str(error).startswith(f"{known.family.name} returns"):
            raise BadAnswer(str(error)) from error
        if not np.any(outcomes == REFUSED):
            raise
        return np.full(outcomes.shape[1], REFUSED, np.float64)
    return as_vector(known, probe, outputs)


def as_vector(known: Table, probe: int, outputs: Outputs) -> Array:
    """Return everything a function returned as one vector; raise for another size."""
    vector = as_one_vector([outputs])
    if len(vector) != known.outcomes[probe].shape[1]:
        family = known.family
        like = family.outputs_or_none(family.default, known.probes[probe]) or {}
        got, want = (
            ", ".join(f"{name} {np.shape(value)}" for name, value in each.items())
            for each in (outputs, like)
        )
        raise BadAnswer(f"returned arrays of shapes {got}; wanted {want}")
    return vector


def remaining(
    known: Table, alive: Sequence[int], probe: int, answer: Array
) -> list[int]:
    """Return the variants, of those alive, that give this answer to a probe."""
    rows = known.outcomes[probe][list(alive)]
    same: Bool = np.all(known.family.agree(answer, rows), axis=1)
    return [v for v, is_same in zip(alive, same, strict=True) if is_same]


def ask_all(subject: Subject, known: Table, decision: Decision) -> Decision:
    """Ask for whatever separates variants, where no variant agrees with all."""
    for probe in known.discriminating():
        if probe not in decision.asked and not decision.complaint:
            decision = after_question(subject, known, decision, probe)
    return decision
