"""check_implementation: every check of a family, and how many outputs each has seen.

A check that checked nothing has failed; so has an expected failure that did not fail.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import numpy as np

from refqnn.conformance.carry.child import isolated
from refqnn.conformance.carry.words import one_line
from refqnn.conformance.choices import strategies
from refqnn.conformance.choices.families import (
    REFUSED,
    Family,
    Inputs,
    Outputs,
    family_of,
)
from refqnn.conformance.choices.profiles import profile_of
from refqnn.conformance.choices.variants import table
from refqnn.conformance.judge.calls import Broken, as_outputs, stack_scalar_calls
from refqnn.conformance.judge.diagnose import diagnose
from refqnn.conformance.judge.identify import lift_scalar
from refqnn.conformance.judge.reproduce import literals, numbers, shrink, whole_call
from refqnn.conformance.reach.packs import refused

Function = Callable[..., Any]
#: random calls of a check, and elements of each
CALLS, ELEMENTS = 5, 500
#: examples of Hypothesis, and inputs that must be refused
EXAMPLES, INVALID = 50, 3


class Judge(NamedTuple):
    """What a check knows: the family, the profile, the function."""

    family: Family
    profile: str
    function: Function

    @property
    def declared(self) -> dict[str, str]:
        """What the profile says about the family."""
        return self.family.choices(profile_of(self.profile).semantics(self.family.name))

    def diagnosis(self, calls: Sequence[Inputs]) -> tuple[int, str]:
        """Return how many outputs were compared, and what is wrong."""
        answers = [self.asked(call) for call in calls]
        calls, outputs = stack_scalar_calls(self.family, calls, answers)
        found = diagnose(self.family.name, calls, outputs, declared=self.declared)
        if found.conforms:
            return found.comparison.total, ""
        told = str(found)
        if not found.comparison.error and not self.family.call:
            told += "\n" + self.shrunk_call(calls)
        return max(found.comparison.total, 1), told

    def asked(self, call: Inputs) -> Outputs:
        """Return what the function answers."""
        answer = self.function(*lift_scalar(self.family, call).values())
        return self.shaped(call, answer)

    def agrees(self, call: Inputs, want: Outputs) -> bool:
        """Return whether the function answers as wanted."""
        got = self.asked(call)
        return all(
            got[k].shape == w.shape and bool(self.family.agree(got[k], w).all())
            for k, w in want.items()
        )

    def fails(self, call: Inputs) -> bool:
        """Return whether the function answers otherwise; an error is not that."""
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
        got = {k: v.tolist() for k, v in self.asked(small).items()}
        call = (
            whole_call(self.family, self.declared, small) or f"{numbers(small)} numbers"
        )
        return f"shrunk    {call}\n          got {got}"

    def shaped(self, call: Inputs, answer: Any) -> Outputs:
        """Return outputs of a lift_scalar scalar input as scalars again."""
        name = self.family.elementwise
        parts = as_outputs(self.family, answer)
        if not name or np.ndim(call[name]):
            return parts
        return {
            k: np.reshape(v, ()) if np.size(v) == 1 else v for k, v in parts.items()
        }


def vectors(judge: Judge, rng: np.random.Generator) -> tuple[int, str]:  # noqa: ARG001 - a check's signature
    """Judge the inputs that separate every pair of variants; errors aside."""
    known = table(judge.family.name)
    wanted = known.discriminating()
    return judge.diagnosis([known.probes[p] for p in wanted if not bad(judge, p)])


def bad(judge: Judge, probe: int) -> bool:
    """Return whether the profile declares an error for a probe."""
    known = table(judge.family.name)
    row = known.variants.index(judge.declared)
    return bool(np.any(known.outcomes[probe][row] == REFUSED))


def invalid(judge: Judge, rng: np.random.Generator) -> tuple[int, str]:  # noqa: ARG001 - a check's signature
    """Ask what must be refused: an answer is wrong."""
    known = table(judge.family.name)
    asked = [c for p, c in enumerate(known.probes) if bad(judge, p)][:INVALID]
    for call in asked:
        try:
            got = judge.asked(call)
        except Broken:
            raise
        except Exception:  # noqa: BLE001, S112 - any error is the right answer
            continue
        if not refused(got):
            told = {k: v.tolist() for k, v in got.items()}
            return len(asked), f"must be refused: {literals(call)}   got {told}"
    return len(asked) or -1, ""


def properties(judge: Judge, rng: np.random.Generator) -> tuple[int, str]:  # noqa: ARG001 - a check's signature
    """Search with Hypothesis, where it is installed, and shrink what it finds."""
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
    """What the examples of Hypothesis came to, the last failing one the smallest."""

    judge: Judge
    compared: int = 0
    failing: Inputs | None = None
    #: raised by the function: it is not asked again
    error: Exception | None = None

    def example(self, call: Inputs) -> None:
        """Judge one example; raise Mismatch where it fails."""
        want = self.judge.family.evaluate(self.judge.declared, **call)
        if self.error is not None or refused(want):
            return
        try:
            same = self.judge.agrees(call, want)
        except Exception as error:  # noqa: BLE001 - the foreign function may raise anything
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
        told = "" if self.failing is None else self.judge.diagnosis([self.failing])[1]
        return self.compared, told


class Mismatch(AssertionError):  # noqa: N818 - says what was found
    """An example that contradicts the profile."""


def random(judge: Judge, rng: np.random.Generator) -> tuple[int, str]:
    """Judge random inputs."""
    return judge.diagnosis([judge.family.draw(rng, ELEMENTS) for _ in range(CALLS)])


def repeated(judge: Judge, rng: np.random.Generator) -> tuple[int, str]:
    """Ask the same twice: the answers must be the same bits."""
    call = judge.family.draw(rng, ELEMENTS)
    first, second = (
        as_outputs(judge.family, judge.function(*call.values())) for _ in range(2)
    )
    total = sum(a.size for a in first.values())
    same = all(first[k].tobytes() == second[k].tobytes() for k in first)
    return total, "" if same else "two calls with the same inputs differ"


def elementwise(judge: Judge, rng: np.random.Generator) -> tuple[int, str]:
    """Ask for the whole and for its halves: vector code and its remainder agree."""
    name = judge.family.elementwise
    if not name or judge.family.outputs != ("y",):
        return -1, ""
    call = judge.family.draw(rng, 37)
    whole = as_outputs(judge.family, judge.function(*call.values()))["y"]
    parts = [
        as_outputs(judge.family, judge.function(*{**call, name: piece}.values()))["y"]
        for piece in np.array_split(call[name], [1, 18])
    ]
    same = judge.family.agree(np.concatenate(parts), whole).all()
    return whole.size, "" if same else "a value depends on where in the array it stands"


Check = Callable[[Judge, np.random.Generator], tuple[int, str]]
CHECKS: dict[str, Check] = {
    "vectors": vectors,
    "random": random,
    "properties": properties,
    "invalid": invalid,
    "repeated": repeated,
    "elementwise": elementwise,
}


class Result(NamedTuple):
    """One check: passed, failed, expected failure, unexpected pass, nothing checked."""

    check: str
    status: str
    #: outputs that were compared
    checked: int
    message: str = ""

    @property
    def good(self) -> bool:
        """Whether this result lets an implementation conform."""
        return self.status in {"passed", "expected failure", "does not apply"}


@final
@dataclass(frozen=True)
class Results:
    """All results; ``str`` is a table."""

    family: str
    profile: str
    results: tuple[Result, ...]

    @property
    def conforms(self) -> bool:
        """Whether something was checked and every result is good."""
        return bool(self.results) and all(r.good for r in self.results)

    @property
    def exit_code(self) -> int:
        """0 conforms, 1 mismatch, 3 nothing was checked."""
        if not sum(r.checked for r in self.results):
            return 3
        return 0 if self.conforms else 1

    def as_json(self) -> str:
        """Return the results as JSON."""
        rows = [r._asdict() for r in self.results]
        whole = {"family": self.family, "profile": self.profile, "results": rows}
        return json.dumps(whole | {"conforms": self.conforms})

    def __str__(self) -> str:
        lines = [f"{self.family} under {self.profile}"]
        for r in self.results:
            lines.append(f"  {r.status:18} {r.check:14} {r.checked:8} outputs")
            lines += [f"      {line}" for line in r.message.splitlines()]
        return "\n".join(lines)


def check_implementation(
    function: Function,
    family: str,
    *,
    profile: str = "refqnn",
    expected_failures: Mapping[str, str] | Sequence[str] = (),
    in_process: bool = False,
    seconds: float = 10.0,
    seed: int = 0,
) -> Results:
    """Run every check of a family on a function of its inputs.

    The function runs in a child process with a time limit for each call, unless
    ``in_process``. ``expected_failures`` names checks that are known to fail.

    >>> from refqnn.conformance.choices.strategies import want
    >>> mine = lambda *a: want("dequantize", dict(zip(("q", "scale", "zero_point"), a)))
    >>> check_implementation(mine, "dequantize", in_process=True).conforms
    True
    """
    known = family_of(family)
    unknown = set(expected_failures) - set(CHECKS)
    if unknown:
        raise ValueError(f"checks are {list(CHECKS)}, not {sorted(unknown)}")
    results = []
    with isolated(function, seconds, in_process=in_process) as called:
        for name, check in CHECKS.items():
            rng = np.random.default_rng(seed)
            result = run_check(name, check, Judge(known, profile, called), rng)
            results.append(apply_expectation(result, name in expected_failures))
    return Results(family, profile, tuple(results))


def run_check(
    name: str, check: Check, judge: Judge, rng: np.random.Generator
) -> Result:
    """Return the result of one check; what the function raises is a failure."""
    try:
        checked, message = check(judge, rng)
    except Broken as error:
        return Result(name, "failed", 0, str(error))
    except Exception as error:  # noqa: BLE001 - the foreign function may raise anything
        return Result(name, "failed", 0, one_line(error))
    if checked == 0:
        return Result(name, "nothing checked", 0, message)
    if checked < 0:
        return Result(name, "does not apply", 0, message)
    return Result(name, "failed" if message else "passed", checked, message)


def apply_expectation(result: Result, is_expected: bool) -> Result:
    """Turn an expected failure into a good result, and its absence into a bad one.

    >>> apply_expectation(Result("random", "passed", 9), True).status
    'unexpected pass'
    """
    if not is_expected:
        return result
    turned = {"failed": "expected failure", "passed": "unexpected pass"}
    return result._replace(status=turned.get(result.status, result.status))


def parametrize_with_checks(family: str) -> Any:
    """Return ``pytest.mark.parametrize("check", ...)`` over the checks of a family.

    @parametrize_with_checks("requantize")
    def test_mine(check, refqnn_options):  # --refqnn-profile, -seconds, -in-process
        check(my_requantize, **refqnn_options)
    """
    import pytest  # noqa: PLC0415

    family_of(family)
    return pytest.mark.parametrize(
        "check", [one_check(family, name) for name in CHECKS], ids=list(CHECKS)
    )


def one_check(family: str, name: str) -> Callable[..., None]:
    """Return a function that runs one check and raises AssertionError if it fails."""

    def check(
        function: Function,
        *,
        profile: str = "refqnn",
        in_process: bool = False,
        seconds: float = 10.0,
        counts: list[int] | None = None,
    ) -> None:
        with isolated(function, seconds, in_process=in_process) as called:
            judge = Judge(family_of(family), profile, called)
            rng = np.random.default_rng(0)
            result = run_check(name, CHECKS[name], judge, rng)
        if counts is not None:
            counts.append(result.checked)
        if not result.good:
            raise AssertionError(f"{name}: {result.status}\n{result.message}")

    return check
