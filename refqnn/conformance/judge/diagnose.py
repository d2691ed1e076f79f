"""diagnose: outputs alone, and the choice that explains them.

The declared semantics is compared first; then every variant with one other answer, then
with two, then, where that is quick, all. A variant is judged by its contradictions:
outputs that it would not give. Variants that give the same outputs on this data are
one class and are reported as one; inputs on which all variants agree are no evidence.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from refqnn._types import Array, Bool
from refqnn.conformance.choices.families import (
    Choices,
    Family,
    Inputs,
    Outputs,
    family_of,
)
from refqnn.conformance.choices.semantics import Semantics, named
from refqnn.conformance.choices.variants import table
from refqnn.conformance.judge.calls import as_outputs, compare_calls, joined, pairs
from refqnn.conformance.judge.compare import Comparison
from refqnn.conformance.judge.diagnosis import Diagnosis, Explanation, changes, key
from refqnn.conformance.judge.patterns import moved, near_ties, structural
from refqnn.conformance.judge.reproduce import smallest

#: elements times variants up to which every combination is tried
AFFORDABLE = 30_000_000


def diagnose(
    family: str,
    inputs: Inputs | Sequence[Inputs],
    outputs: Any,
    *,
    declared: Mapping[str, str] | None = None,
    name: str = "",
) -> Diagnosis:
    """Say which variants of a family explain ``outputs``.

    ``inputs`` are the arguments of one call by name, or of several calls; ``outputs``
    are what the other implementation returned: an array, a tuple, or a dict by output
    name, one for each call.

    >>> x = np.float32([0.25, 0.5, 1.5, 2.5])
    >>> given = dict(x=x, scale=1.0, zero_point=0, q_min=-128, q_max=127)
    >>> found = diagnose("quantize", given, np.array([0, 1, 2, 3]))
    >>> {v["rounding"] for v in found.best.variants} == {"half_up", "half_away"}
    True
    """
    of = family_of(family)
    choices = of.choices(Semantics() if declared is None else declared)
    calls = [inputs] if isinstance(inputs, dict) else list(inputs)
    answers = [outputs] if isinstance(inputs, dict) else list(outputs)
    if len(calls) != len(answers):
        raise ValueError(f"{len(calls)} calls, but outputs of {len(answers)}")
    got = [as_outputs(of, answer) for answer in answers]
    want = [of.evaluate(choices, **call) for call in calls]
    comparison = compare_calls(of, got, want, name or family)
    if comparison.conforms or comparison.error:
        shapes = shape_lines(got, want) if comparison.error else []
        return Diagnosis(family, comparison, choices, structure=tuple(shapes))
    return searched(of, choices, calls, got, want, comparison)


def searched(
    family: Family,
    declared: Choices,
    calls: Sequence[Inputs],
    got: Sequence[Outputs],
    want: Sequence[Outputs],
    comparison: Comparison,
) -> Diagnosis:
    """Judge the variants, one or two answers away, then all where that is quick."""
    vector = joined(got)
    near = family.neighbours(declared)
    outcomes = {key(v): joined_or_none(family, v, calls) for v in near}
    judged = judge(family, near, outcomes, vector, declared)
    every = family.variants()
    if judged[0].contradicted and len(every) * len(vector) <= AFFORDABLE:
        outcomes |= {key(v): joined_or_none(family, v, calls) for v in every}
        near = every
        judged = judge(family, near, outcomes, vector, declared)
    usable = [o for o in outcomes.values() if o is not None]
    lines = [*ties(family, calls, got, want)]
    if judged[0].contradicted:
        lines += [line for g, w in pairs(got, want) for line in structural(g, w)]
        lines += [] if lines else combined(family, declared, calls[0], got[0])
    least = smallest(family, declared, calls, got, want)
    return Diagnosis(
        family.name,
        comparison,
        declared,
        tuple(judged[:10]),
        len(usable),
        int(differing(family, usable).sum()),
        0 if judged[0].contradicted else deciding(family, judged[0].variants),
        tuple(dict.fromkeys(lines)),
        least.told,
        least.call,
    )


def combined(
    family: Family, declared: Choices, call: Inputs, got: Outputs
) -> list[str]:
    """Return what is recognised of the first call beside one other answer."""
    for variant in family.neighbours(declared, 1)[1:]:
        try:
            want = family.evaluate(variant, **call)
        except ValueError:
            continue
        found = [line for k, w in want.items() for line in moved(got[k], w)]
        if found:
            return [f"with {named(variant, declared)}: {line}" for line in found]
    return []


def judge(
    family: Family,
    variants: Sequence[Choices],
    outcomes: Mapping[tuple[str, ...], Array | None],
    vector: Array,
    declared: Choices,
) -> list[Explanation]:
    """Return the classes of variants, fewest contradictions first."""
    groups: dict[bytes, list[Choices]] = {}
    agreeing: dict[bytes, int] = {}
    for variant in variants:
        outcome = outcomes[key(variant)]
        if outcome is None:
            continue
        mark = fingerprint(outcome, family.close)
        groups.setdefault(mark, []).append(variant)
        if mark not in agreeing:
            agreeing[mark] = int(family.agree(vector, outcome).sum())
    found = [
        Explanation(
            tuple(dict(v) for v in group),
            len(changes(group[0], declared)),
            agreeing[mark],
            len(vector) - agreeing[mark],
        )
        for mark, group in groups.items()
    ]
    return sorted(found, key=lambda e: (e.contradicted, e.deviations))


def fingerprint(outcome: Array, close: float) -> bytes:
    """Return bytes that are the same for outcomes that count as equal."""
    rows = np.round(outcome / (10 * close)) if close else outcome
    return np.ascontiguousarray(rows + 0.0).tobytes()


def differing(family: Family, outcomes: Sequence[Array]) -> Bool:
    """Return on which outputs at least two variants differ."""
    differs = np.zeros(outcomes[0].shape, bool)
    for outcome in outcomes[1:]:
        differs |= ~family.agree(outcome, outcomes[0])
    return differs


def deciding(family: Family, variants: Sequence[Choices]) -> int:
    """Return how many inputs separate variants that are not provably one function."""
    if len({key(family.canonical(v)) for v in variants}) == 1:
        return 0
    known = table(family.name)
    place = {key(v): i for i, v in enumerate(known.variants)}
    return max(len(known.discriminating([place[key(v)] for v in variants])), 1)


def ties(
    family: Family,
    calls: Sequence[Inputs],
    got: Sequence[Outputs],
    want: Sequence[Outputs],
) -> list[str]:
    """Say so if every mismatch lies beside a tie."""
    if family.exact is None:
        return []
    output = family.outputs[0]
    lines = [
        near_ties(family.exact(**call), g[output], w[output])
        for call, g, w in zip(calls, got, want, strict=True)
        if not family.agree(g[output], w[output]).all()
    ]
    return lines[:1] if lines and all(lines) else []


def shape_lines(got: Sequence[Outputs], want: Sequence[Outputs]) -> list[str]:
    """Return what is recognised where shapes differ."""
    found = [structural(g, w) for g, w in pairs(got, want) if g.shape != w.shape]
    told = dict.fromkeys(line for lines in found for line in lines)
    return [f"structure {line}" for line in told]


def joined_or_none(
    family: Family, variant: Choices, calls: Sequence[Inputs]
) -> Array | None:
    """Return the outputs of a variant; None where it does not accept the inputs."""
    try:
        return joined([family.evaluate(variant, **call) for call in calls])
    except ValueError:
        return None
