"""Outputs of another implementation against a pack, and why they differ."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from refqnn._types import Array
from refqnn.conformance.carry.child import isolate
from refqnn.conformance.choices.families import Family, Outputs, family_of
from refqnn.conformance.judge.calls import (
    Answered,
    Broken,
    as_outputs,
    stack_scalar_calls,
)
from refqnn.conformance.judge.compare import Comparison, compare, unlike
from refqnn.conformance.judge.diagnose import Diagnosis, diagnose
from refqnn.conformance.reach.packs import Case, Pack, is_refused

#: cases that are described one by one
SHOWN = 3


def verify(pack: Pack, outputs: Mapping[str, Array]) -> list[Comparison]:
    """Compare outputs named ``CASE/NAME`` with a pack.

    A missing output is an error of its case, never skipped. Of an invalid case it is
    what is right, and no comparison; an answer to one is a mismatch.
    """
    of = family_of(pack.family)
    return [
        compare_case(of, case, outputs)
        for case in pack.cases
        if not refusable(case) or has_answers(case, outputs)
    ]


def refusable(case: Case) -> bool:
    """Say whether an error, or no answer at all, is right for a case."""
    return case.result == "invalid" or case.may_be_refused


def has_answers(case: Case, outputs: Mapping[str, Array]) -> bool:
    """Say whether at least one output of a case is there."""
    return any(f"{case.name}/{name}" in outputs for name in case.outputs)


def compare_case(of: Family, case: Case, outputs: Mapping[str, Array]) -> Comparison:
    """Compare the outputs of one case, the first that differs."""
    if case.result == "invalid":
        return Comparison(case.name, 1, 1, where=("must be refused, was answered",))
    first = compare_outputs(of, case, case.outputs, outputs)
    if first.conforms or first.error:
        return first
    others = (compare_outputs(of, case, o, outputs) for o in case.alternatives)
    return next((comparison for comparison in others if comparison.conforms), first)


def compare_outputs(
    of: Family, case: Case, wanted: Outputs, outputs: Mapping[str, Array]
) -> Comparison:
    """Compare every output of a case with what is wanted, the first that differs."""
    comparison = Comparison(case.name, 0, 0, error="no outputs")
    for name, want in wanted.items():
        key = f"{case.name}/{name}"
        if key not in outputs:
            return Comparison(key, 0, 0, error="missing")
        bound = of.close * (1 + np.abs(want)) if case.policy == "bound" else None
        comparison = compare(
            outputs[key], want, name=key, policy=case.policy, bound=bound
        )
        if not comparison.conforms:
            return comparison
    return comparison


def answers(
    pack: Pack, function: Any, *, in_process: bool = False, seconds: float = 10.0
) -> dict[str, Array]:
    """Call a function with every case; return its outputs, named ``CASE/NAME``.

    An exception is no answer where the case may be refused. The function runs in a
    child process, ``seconds`` for each case, unless ``in_process``.
    """
    of = family_of(pack.family)
    answered: dict[str, Array] = {}
    with isolate(function, seconds, in_process=in_process) as called:
        for case in pack.cases:
            try:
                outputs = as_outputs(of, called(*case.inputs.values()))
            except Exception as error:
                if isinstance(error, Broken) or not refusable(case):
                    raise
                continue
            if not is_refused(outputs):
                answered |= {f"{case.name}/{key}": v for key, v in outputs.items()}
    return answered


def diagnose_pack(pack: Pack, outputs: Mapping[str, Array]) -> Diagnosis | None:
    """Say which variants explain the outputs of the cases that can be compared."""
    of = family_of(pack.family)
    whole = [c for c in pack.cases if c.result == "valid" and fits(c, outputs)]
    if not whole:
        return None
    answers = [
        Answered(c.inputs, {k: outputs[f"{c.name}/{k}"] for k in c.outputs})
        for c in whole
    ]
    stacked = stack_scalar_calls(of, answers)
    calls, got = [a.call for a in stacked], [a.outputs for a in stacked]
    return diagnose(pack.family, calls, got, declared=pack.semantics, name=pack.family)


def fits(case: Case, outputs: Mapping[str, Array]) -> bool:
    """Say whether every output of a case is given in its shape and holds numbers."""
    return all(
        f"{case.name}/{name}" in outputs
        and not unlike(outputs[f"{case.name}/{name}"], want)
        for name, want in case.outputs.items()
    )


def report(comparisons: Sequence[Comparison], why: Diagnosis | None = None) -> str:
    """Write the first comparisons that fail, and the diagnosis of all cases together.

    The last line counts the cases that conform.
    """
    bad = [c for c in comparisons if not c.conforms]
    good = len(comparisons) - len(bad)
    lines = [str(c) for c in bad[:SHOWN]]
    if len(bad) > SHOWN:
        lines.append(f"and {len(bad) - SHOWN} more cases")
    explanation = [] if why is None else [f"all cases together\n{why}"]
    return "\n".join(
        [*lines, *explanation, f"{good} / {len(comparisons)} cases conform"]
    )
