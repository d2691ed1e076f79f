"""One pytest test a law: ``@parametrize_with_laws(quantizer, expected={...})``."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from refqnn.testing.laws import LAWS
from refqnn.testing.quantizers import (
    Report,
    check_expected,
    check_quantizer,
    verdicts_of,
)


@dataclass(frozen=True)
class Claim:
    """That a quantizer obeys a law, or that it does not: ``claim()`` checks it."""

    law: str
    verdict: str
    report: Any

    def __call__(self) -> Report:
        """Check; AssertionError with the counterexample. The search runs once."""
        report: Report = self.report()
        check_expected(report, {self.law: self.verdict})
        return report

    def __str__(self) -> str:
        return f"{self.law}-{self.verdict.replace(' ', '-')}"


def parametrize_with_laws(
    forward: Any,
    backward: Any = None,
    *,
    expected: Mapping[str, Any] | Iterable[str] | None = None,
    parameters: Sequence[Any] = (),
    options: Mapping[str, Any] | None = None,
    groups: Any = None,
) -> Any:
    """Give a test the argument ``law``, once for each law that is expected.

    ``expected`` as in ``check_quantizer``; None: that all ten hold. Raises ValueError
    where nothing would be checked.

    >>> @parametrize_with_laws(lambda v: v * 0, expected=["ODD", "ZERO"])
    ... def test_zero(law):
    ...     law()
    >>> [str(claim) for claim in test_zero.pytestmark[0].args[1]]
    ['ODD-holds', 'ZERO-holds']
    """
    import pytest  # noqa: PLC0415 - an extra

    claims = verdicts_of(list(LAWS) if expected is None else expected)
    if not claims:
        raise ValueError("expected must name a law, nothing would be checked")

    @functools.cache
    def report() -> Report:
        return check_quantizer(
            forward, backward, parameters=parameters, options=options, groups=groups
        )

    cases = [Claim(law, verdict, report) for law, verdict in claims.items()]
    return pytest.mark.parametrize("law", cases, ids=str)
