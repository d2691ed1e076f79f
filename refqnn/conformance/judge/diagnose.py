"""diagnose: outputs alone, and the choice that explains them.

The declared semantics is compared first; then every variant with one other answer, then
with two, then, where that is quick, all. A variant is judged by its contradictions:
outputs that it would not give. Variants that give the same outputs on this data are
one class and are reported as one; inputs on which all variants agree are no evidence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, final

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
from refqnn.conformance.judge.calls import (
    as_one_vector,
    as_outputs,
    compare_calls,
    pairs,
)
from refqnn.conformance.judge.compare import Comparison
from refqnn.conformance.judge.patterns import moved, near_ties, structural
from refqnn.conformance.judge.reproduce import smallest

#: elements times variants up to which every combination is tried
AFFORDABLE = 30_000_000
#: explanations that are shown
SHOWN = 3
#: share of the outputs from which on a variant is called near
NEAR = 0.2
#: columns of an explanation
WIDTH = 58


class Explanation(NamedTuple):
    """Variants that give the same outputs on this data, and how those agree."""

    variants: tuple[dict[str, str], ...]
    #: answers that the first of them changes
    deviations: int
    agrees: int
    contradicted: int


@final
@dataclass(frozen=True)
class Diagnosis:
    """What ``diagnose`` found; ``str`` shows it to people."""

    family: str
    comparison: Comparison
    declared: Mapping[str, str]
    explanations: tuple[Explanation, ...] = ()
    searched: int = 0
    #: outputs on which at least two of the variants differ
    evidence: int = 0
    #: further inputs that separate the first class
    deciding: int = 0
    structure: tuple[str, ...] = ()
    #: the mismatch with the smallest input, and the call that computes what is wanted
    smallest: str = ""
    reproduce: str = ""

    @property
    def conforms(self) -> bool:
        """Whether something was compared and nothing contradicts the declaration."""
        return self.comparison.conforms

    @property
    def best(self) -> Explanation | None:
        """The explanation without a contradiction, if there is one."""
        found = self.explanations[:1]
        return found[0] if found and not found[0].contradicted else None

    @property
    def explained(self) -> bool:
        """Whether some variant gives exactly these outputs."""
        return self.best is not None

    @property
    def certain(self) -> bool:
        """Whether exactly one class of provably equal variants is left."""
        return self.best is not None and self.evidence > 0 and not self.deciding

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return self.comparison.as_dict() | {
            "explained": self.explained,
            "certain": self.certain,
            "searched": self.searched,
            "evidence": self.evidence,
            "deciding_inputs": self.deciding,
            "explanations": [
                {
                    "variants": [changes(v, self.declared) for v in each.variants],
                    "agrees": each.agrees,
                    "contradicted": each.contradicted,
                }
                for each in self.explanations
            ],
            "structure": list(self.structure),
            "smallest": self.smallest,
            "reproduce": self.reproduce,
        }

    def __str__(self) -> str:
        lines = [str(self.comparison)]
        if self.conforms or self.comparison.error:
            return "\n".join([*lines, *self.structure])
        if self.smallest:
            lines.append(f"smallest  {self.smallest}")
        told = named(self.declared, self.family_default())
        lines.append(f"declared  {self.family}: {told}")
        lines += [f"where     {line}" for line in self.structure]
        if self.explained:
            lines += self.table()
        else:
            lines.append(f"none of the {self.searched} variants explains it")
            lines += ["nearest", *self.table()[1:]] if self.near() else []
        lines.append(f"evidence  {self.evidence} outputs on which variants differ")
        if self.reproduce:
            lines.append(f"reproduce {self.reproduce}")
        return "\n".join(lines)

    def family_default(self) -> Choices:
        """Return the answers of refqnn."""
        return family_of(self.family).default

    def rivals(self) -> list[dict[str, str]]:
        """Return the variants of the best class that are other functions than 1."""
        if self.best is None:
            return []
        canonical = family_of(self.family).canonical
        functions = {key(canonical(v)): v for v in reversed(self.best.variants)}
        del functions[key(canonical(self.best.variants[0]))]
        return [*functions.values()][::-1]

    def near(self) -> list[Explanation]:
        """Return the first explanations, of those that contradict little."""
        return [
            e
            for e in self.explanations[:SHOWN]
            if not e.contradicted or e.agrees >= self.comparison.total * NEAR
        ]

    def table(self) -> list[str]:
        """Return the explanations, what agrees and what contradicts."""
        rows = [
            (
                named(each.variants[0], self.declared),
                f"{each.agrees}/{self.comparison.total}",
                each.contradicted,
            )
            for each in self.near()
        ]
        width = max([WIDTH, *(len(row[0]) for row in rows)])
        lines = [f"{'explained by':{width + 4}} {'agrees':>15}   contradicted by"]
        lines += [
            f" {i}  {told:{width}} {share:>15}   {contradicted}"
            for i, (told, share, contradicted) in enumerate(rows, 1)
        ]
        others = self.rivals()
        if others:
            told = "; ".join(named(v, self.declared) for v in others[:2])
            more = f" and {len(others) - 2} more" if len(others) > 2 else ""
            lines.append(
                f"not told apart from 1 by this data: {told}{more} -> refqnn probe "
                f"{self.family} ({self.deciding} more inputs decide)"
            )
        return lines


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
    return search_variants(of, choices, calls, got, want, comparison)


def search_variants(
    family: Family,
    declared: Choices,
    calls: Sequence[Inputs],
    got: Sequence[Outputs],
    want: Sequence[Outputs],
    comparison: Comparison,
) -> Diagnosis:
    """Judge the variants, one or two answers away, then all where that is quick."""
    vector = as_one_vector(got)
    near = family.neighbours(declared)
    outcomes = {key(v): vector_or_none(family, v, calls) for v in near}
    judged = judge(family, near, outcomes, vector, declared)
    every = family.variants()
    if judged[0].contradicted and len(every) * len(vector) <= AFFORDABLE:
        outcomes |= {key(v): vector_or_none(family, v, calls) for v in every}
        near = every
        judged = judge(family, near, outcomes, vector, declared)
    usable = [o for o in outcomes.values() if o is not None]
    lines = [*ties(family, calls, got, want)]
    if judged[0].contradicted:
        lines += [line for g, w in pairs(got, want) for line in structural(g, w)]
        lines += (
            []
            if lines
            else recognise_beside_one_answer(family, declared, calls[0], got[0])
        )
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


def recognise_beside_one_answer(
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


def vector_or_none(
    family: Family, variant: Choices, calls: Sequence[Inputs]
) -> Array | None:
    """Return the outputs of a variant; None where it does not accept the inputs."""
    try:
        return as_one_vector([family.evaluate(variant, **call) for call in calls])
    except ValueError:
        return None


def key(choices: Choices) -> tuple[str, ...]:
    """Return the answers alone."""
    return tuple(choices.values())


def changes(choices: Choices, declared: Choices) -> dict[str, str]:
    """Return the answers that differ from the declared ones."""
    return {a: v for a, v in choices.items() if declared[a] != v}
