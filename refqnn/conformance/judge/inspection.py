"""The checks of check_implementation: what each asks of a subject under a profile.

Every check returns how many outputs it compared and what is wrong; -1 outputs where it
does not apply.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, pairwise
from typing import Any

import numpy as np

from refqnn.conformance.choices import strategies
from refqnn.conformance.choices.family import (
    REFUSED,
    Family,
    Inputs,
    Outputs,
)
from refqnn.conformance.choices.profiles import profile_of
from refqnn.conformance.choices.regions import regions_visited
from refqnn.conformance.choices.variants import table
from refqnn.conformance.judge.arguments import DEFAULTS
from refqnn.conformance.judge.calls import (
    Answered,
    Broken,
    compare_trials,
    stack_scalar_calls,
    trials,
)
from refqnn.conformance.judge.confirm import (
    Evidence,
    ask_into,
    every_call,
    other_calls,
    without_refused,
)
from refqnn.conformance.judge.diagnose import diagnose
from refqnn.conformance.judge.reproduce import literals, numbers, shrink, whole_call
from refqnn.conformance.judge.subject import Subject, Unfit
from refqnn.conformance.reach.packs import is_refused

#: random calls of a check, and elements of each
CALLS, ELEMENTS = 5, 500
#: examples of Hypothesis, and inputs that must be refused
EXAMPLES, INVALID = 50, 3
#: regions that refqnn's own integer operations refuse
MAY_BE_REFUSED = {"sum: beyond 32 bits"}
#: numbers of a refused call that is shown
SHORT = 12


@dataclass(eq=False)
class Judge:
    """The state of the checks: subject, profile, and the outputs compared so far."""

    subject: Subject
    profile: str
    #: calls that were answered, for what the verdict is about
    evidence: Evidence = field(init=False)

    def __post_init__(self) -> None:
        self.evidence = Evidence(self.family)

    @property
    def family(self) -> Family:
        """The family of the subject."""
        return self.subject.family

    @property
    def declared(self) -> dict[str, str]:
        """The answers of the profile to the questions of the family."""
        return self.family.choices(profile_of(self.profile).semantics(self.family.name))

    def compare(
        self, calls: Iterable[Inputs], *, others: bool = False
    ) -> tuple[int, str]:
        """Return how many outputs were compared, and what is wrong; plain calls first.

        -1 outputs where the function supports none of the calls. With ``others`` drawn
        calls take the place of those that it does not take.
        """
        asked = [call for call in map(self.answerable, calls) if call is not None]
        evidence = Evidence(self.family)
        for call in sorted(asked, key=unplain):
            ask_into(evidence, self.subject, call)
            if evidence.broken:
                raise Broken(evidence.broken)
        if others and evidence.answered and (evidence.refused or self.subject.left_out):
            refused = len(evidence.refused)
            for call in other_calls(evidence, self.subject, len(asked)):
                taken = without_refused(self.family, self.declared, call)
                if taken is not None:
                    ask_into(evidence, self.subject, taken)
            if evidence.broken:
                raise Broken(evidence.broken)
            del evidence.refused[refused:]  # what may be refused, the covering says
        self.evidence.answered += evidence.answered
        if not evidence.answered:
            message = self.refusals(evidence)
            return (0, message) if message else (-1, "")
        checked, message = self.diagnosis(evidence.answered)
        refusals = self.refusals(evidence)
        return checked, "\n".join(line for line in (message, refusals) if line)

    def answerable(self, call: Inputs) -> Inputs | None:
        """Return a call as the subject takes it, without what the profile refuses."""
        usable = self.subject.usable(call)
        return usable and without_refused(self.family, self.declared, usable)

    def refusals(self, evidence: Evidence) -> str:
        """Say which calls were refused, and first where.

        What the type of an argument cannot hold is left out instead, and what refqnn
        itself refuses.
        """
        refused = []
        for call, why in evidence.refused:
            may = MAY_BE_REFUSED & regions_visited(self.family.name, [call])
            if may or Unfit.__name__ in why:
                self.subject.left_out.append((call, why))
            else:
                refused.append((call, why))
        if not refused:
            return ""
        call, why = refused[0]
        only = sorted(
            regions_visited(self.family.name, [call]) - set(evidence.regions)
        )[:2]
        where = f", first where {' and '.join(only)}" if only else ""
        small = literals(call) if numbers(call) <= SHORT else ""
        return f"{len(refused)} calls{where} {why}   {small}".rstrip()

    def diagnosis(self, answered: Sequence[Answered]) -> tuple[int, str]:
        """Return how many outputs were compared, and why some are wrong."""
        tried = trials(
            self.family, self.declared, stack_scalar_calls(self.family, answered)
        )
        comparison = compare_trials(self.family, tried, self.family.name)
        if comparison.conforms:
            return comparison.total, ""
        calls, outputs = [t.call for t in tried], [t.got for t in tried]
        diagnosis = diagnose(self.family.name, calls, outputs, declared=self.declared)
        message = str(diagnosis)
        if not diagnosis.comparison.error and not self.family.call:
            message += "\n" + self.shrunk_call(calls)
        return max(diagnosis.comparison.total, 1), message

    def ask(self, call: Inputs) -> Outputs:
        """Call the function; return its outputs by name."""
        return self.subject.ask(call)

    def agrees(self, call: Inputs, want: Outputs) -> bool:
        """Return whether the function answers as wanted."""
        return self.family.same(self.ask(call), want)

    def fails(self, call: Inputs) -> bool:
        """Return whether the function answers otherwise; an error is not that."""
        if self.subject.usable(call) is not call:
            return False
        try:
            return not self.agrees(call, self.family.evaluate(self.declared, **call))
        except Exception:  # noqa: BLE001 - the foreign function may raise anything
            return False

    def shrunk_call(self, calls: Sequence[Inputs]) -> str:
        """Return a small call that fails, as Python, and what was answered."""
        failing = next((call for call in calls if self.fails(call)), None)
        if failing is None:
            return "shrunk    asked again, it does not fail: answers change"
        small = shrink(self.family, failing, self.fails)
        got = {k: v.tolist() for k, v in self.ask(small).items()}
        call = (
            whole_call(self.family, self.declared, small) or f"{numbers(small)} numbers"
        )
        return f"shrunk    {call}\n          got {got}"


def unplain(call: Inputs) -> int:
    """Return how many arguments of a call are not the defaults of refqnn.

    >>> unplain({"zero_point": 0, "shift": 3}), unplain({"zero_point": 7})
    (0, 1)
    """
    return sum(
        not np.array_equal(np.asarray(call[name]), np.asarray(default(call)))
        for name, default in DEFAULTS.items()
        if name in call and name != "b"
    )


def vectors(judge: Judge, rng: np.random.Generator) -> tuple[int, str]:  # noqa: ARG001 - a check's signature
    """Judge the inputs that separate every pair of variants; errors aside."""
    known = table(judge.family.name)
    wanted = known.discriminating()
    return judge.compare(known.probes[p] for p in wanted if not bad(judge, p))


def bad(judge: Judge, probe: int) -> bool:
    """Return whether the profile declares an error for a probe."""
    known = table(judge.family.name)
    row = known.variants.index(judge.declared)
    return bool(np.any(known.outcomes[probe][row] == REFUSED))


def random(judge: Judge, rng: np.random.Generator) -> tuple[int, str]:
    """Judge random inputs."""
    return judge.compare(judge.family.draw(rng, ELEMENTS) for _ in range(CALLS))


def regions(judge: Judge, rng: np.random.Generator) -> tuple[int, str]:  # noqa: ARG001 - a check's signature
    """Judge whole arrays over every region of the family, gradients of both signs."""
    return judge.compare(every_call(judge.family.name), others=True)


def invalid(judge: Judge, rng: np.random.Generator) -> tuple[int, str]:  # noqa: ARG001 - a check's signature
    """Ask what must be refused: an answer is wrong."""
    known = table(judge.family.name)
    calls = [
        judge.subject.usable(c) for p, c in enumerate(known.probes) if bad(judge, p)
    ]
    asked = [call for call in calls if call is not None][:INVALID]
    for call in asked:
        try:
            got = judge.ask(call)
        except Broken:
            raise
        except Exception:  # noqa: BLE001 - any error is the right answer
            judge.evidence.answered.append(Answered(call, {}))
            continue
        if not is_refused(got):
            values = {k: v.tolist() for k, v in got.items()}
            return len(asked), f"must be refused: {literals(call)}   got {values}"
    return len(asked) or -1, ""


def properties(judge: Judge, rng: np.random.Generator) -> tuple[int, str]:  # noqa: ARG001 - a check's signature
    """Search with Hypothesis, where it is installed, and shrink what fails."""
    try:
        import hypothesis  # noqa: PLC0415
    except ImportError:
        return -1, "needs pip install hypothesis"
    quiet = hypothesis.settings(
        max_examples=EXAMPLES,
        database=None,
        derandomize=True,
        deadline=None,
        verbosity=hypothesis.Verbosity.quiet,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    search = Search(judge)
    with suppress(Mismatch):
        examples: Any = hypothesis.given(strategies.inputs(judge.family.name))
        quiet(examples(search.example))()
    return search.result()


@dataclass
class Search:
    """The results of Hypothesis' examples; the last one that fails is the smallest."""

    judge: Judge
    compared: int = 0
    failing: Inputs | None = None
    #: raised by the function: it is not asked again
    error: Exception | None = None

    def example(self, drawn: Inputs) -> None:
        """Judge one example; raise Mismatch where it fails."""
        call = None if self.error is not None else self.judge.answerable(drawn)
        if call is None:
            return
        want = self.judge.family.evaluate(self.judge.declared, **call)
        try:
            same = self.judge.agrees(call, want)
        except Unfit:
            return
        except Exception as error:  # noqa: BLE001 - the foreign function may raise anything
            if not MAY_BE_REFUSED & regions_visited(self.judge.family.name, [call]):
                self.error = error
            return
        self.compared += sum(w.size for w in want.values())
        if not same:
            self.failing = call
            raise Mismatch

    def result(self) -> tuple[int, str]:
        """Return how many outputs were compared, and what is wrong."""
        if self.error is not None:
            raise self.error
        if self.failing is None:
            return self.compared or -1, ""
        return self.compared, self.judge.compare([self.failing])[1]


class Mismatch(AssertionError):  # noqa: N818 - says what it is
    """An example that contradicts the profile."""


def one_call(judge: Judge, rng: np.random.Generator, n: int) -> Inputs | None:
    """Return a random call that the function takes; None where it takes none of 20."""
    drawn = (judge.answerable(judge.family.draw(rng, n)) for _ in range(20))
    every = (judge.answerable(c) for c in every_call(judge.family.name))
    return next((call for call in chain(drawn, every) if call is not None), None)


def repeat_call(judge: Judge, rng: np.random.Generator) -> tuple[int, str]:
    """Make one call twice: the outputs must have the same bits."""
    call = one_call(judge, rng, ELEMENTS)
    if call is None:
        return -1, ""
    first, second = (judge.ask(call) for _ in range(2))
    total = sum(a.size for a in first.values())
    same = all(first[k].tobytes() == second[k].tobytes() for k in first)
    return total, "" if same else "two calls with the same inputs differ"


def elementwise(judge: Judge, rng: np.random.Generator) -> tuple[int, str]:
    """Ask for the whole and for its pieces: vector code and its remainder agree."""
    name = judge.family.elementwise
    call = one_call(judge, rng, 37) if name else None
    if call is None or not np.shape(call[name]):
        return -1, ""
    shape = np.shape(call[name])
    whole = judge.ask(call)
    cuts = [0, 1, shape[0] // 2, shape[0]]
    pieces = [judge.ask(piece(call, shape, slice(a, b))) for a, b in pairwise(cuts)]
    outputs = [k for k, v in whole.items() if v.shape == shape]
    same = all(
        judge.family.agree(np.concatenate([p[k] for p in pieces]), whole[k]).all()
        for k in outputs
    )
    total = sum(whole[k].size for k in outputs)
    return total or -1, "" if same else (
        "a value depends on where in the array it stands"
    )


def piece(call: Inputs, shape: tuple[int, ...], rows: slice) -> Inputs:
    """Cut rows out of every argument that has ``shape`` or lies along its axis 0."""
    return {
        name: value[rows]
        if np.ndim(value) == len(shape) and np.shape(value)[0] == shape[0] > 1
        else value
        for name, value in call.items()
    }


Check = Callable[[Judge, np.random.Generator], tuple[int, str]]
CHECKS: dict[str, Check] = {
    "vectors": vectors,
    "random": random,
    "regions": regions,
    "properties": properties,
    "invalid": invalid,
    "repeated": repeat_call,
    "elementwise": elementwise,
}
