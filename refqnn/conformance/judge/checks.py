"""check_implementation: every check of a family, and how many outputs each has seen.

A check that checked nothing has failed; so has an expected failure that did not fail.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import numpy as np

from refqnn.conformance.carry.words import one_line
from refqnn.conformance.choices.families import family_of
from refqnn.conformance.choices.family import Family
from refqnn.conformance.choices.variants import table
from refqnn.conformance.judge.arguments import Function
from refqnn.conformance.judge.calls import Broken
from refqnn.conformance.judge.confirm import every_call
from refqnn.conformance.judge.inspection import CHECKS, Check, Judge
from refqnn.conformance.judge.subject import Supports, subject_of


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
    #: regions that no check looked at, and calls that were left out, with the reason
    unseen: tuple[str, ...] = ()

    @property
    def conforms(self) -> bool:
        """Whether something was checked and every result is good."""
        something = any(r.checked for r in self.results)
        return something and all(r.good for r in self.results)

    @property
    def exit_code(self) -> int:
        """0 conforms, 1 mismatch, 3 nothing was checked."""
        if not sum(r.checked for r in self.results):
            return 3
        return 0 if self.conforms else 1

    def as_json(self) -> str:
        """Return the results as JSON."""
        rows = [r._asdict() for r in self.results]
        whole = {
            "family": self.family,
            "profile": self.profile,
            "results": rows,
            "unseen": list(self.unseen),
            "conforms": self.conforms,
        }
        return json.dumps(whole)

    def __str__(self) -> str:
        lines = [f"{self.family} under {self.profile}"]
        for r in self.results:
            lines.append(f"  {r.status:18} {r.check:14} {r.checked:8} outputs")
            lines += [f"      {line}" for line in r.message.splitlines()]
        if self.exit_code == 3:
            lines.append("  nothing was checked")
        if self.unseen:
            lines.append(f"  not looked at: {', '.join(self.unseen)}")
        return "\n".join(lines)


def check_implementation(
    function: Function,
    family: str,
    *,
    profile: str = "refqnn",
    supports: Supports | None = None,
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
    options: dict[str, Any] = {"in_process": in_process, "seconds": seconds}
    with judge_of(function, known, profile, supports=supports, **options) as judge:
        for name, check in CHECKS.items():
            rng = np.random.default_rng(seed)
            result = run_check(name, check, judge, rng)
            results.append(apply_expectation(result, name in expected_failures))
    unseen = judge.evidence.unseen_regions(judge.subject)
    return Results(family, profile, tuple(results), unseen)


@contextmanager
def judge_of(
    function: Function, family: Family, profile: str, **options: Any
) -> Iterator[Judge]:
    """Yield the judge of a function; which calls that takes is found out first."""
    with subject_of(family, function, **options) as subject:
        calls = *table(family.name).probes, *every_call(family.name)
        subject.settle(calls)
        yield Judge(subject, profile)


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
        supports: Supports | None = None,
        in_process: bool = False,
        seconds: float = 10.0,
        counts: list[int] | None = None,
    ) -> None:
        options: dict[str, Any] = {"in_process": in_process, "seconds": seconds}
        of = family_of(family)
        with judge_of(function, of, profile, supports=supports, **options) as judge:
            rng = np.random.default_rng(0)
            result = run_check(name, CHECKS[name], judge, rng)
        if counts is not None:
            counts.append(result.checked)
        if not result.good:
            raise AssertionError(f"{name}: {result.status}\n{result.message}")

    return check
