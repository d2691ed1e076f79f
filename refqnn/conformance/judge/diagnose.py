"""diagnose: outputs alone, and the choice that explains them.

The declared semantics is compared first, then every variant (``search``). A variant is
judged by its contradictions: outputs that it would not give. Variants that give the
same outputs on this data are one class and are reported as one; inputs on which all
variants agree are no evidence, and a comparison without evidence compared nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, final

import numpy as np

from refqnn.conformance.choices import mutants
from refqnn.conformance.choices.families import family_of
from refqnn.conformance.choices.family import REFUSED, Choices, Family, Inputs, key
from refqnn.conformance.choices.semantics import Semantics, deviations_text
from refqnn.conformance.judge.arguments import complete
from refqnn.conformance.judge.calls import (
    Answered,
    Trial,
    as_outputs,
    compare_trials,
    trials,
)
from refqnn.conformance.judge.compare import Comparison
from refqnn.conformance.judge.hints import hints
from refqnn.conformance.judge.patterns import moves, near_ties, structural
from refqnn.conformance.judge.reproduce import numbers, smallest
from refqnn.conformance.judge.search import (
    Explanation,
    Search,
    changes,
    deciding_inputs,
    search,
)

#: explanations that are shown
SHOWN = 3
#: numbers of data on which mistakes are tried
MOST_NUMBERS = 50_000
#: share of the outputs from which on a variant is called near
NEAR = 0.2
#: columns of an explanation
WIDTH = 58


@final
@dataclass(frozen=True)
class Diagnosis:
    """A comparison, and the variants that explain it; ``str`` is a report."""

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
    #: mistakes that data which conforms cannot see
    mistakes: tuple[str, ...] = ()
    #: the mismatch with the smallest input, and the call that computes what is wanted
    smallest: str = ""
    reproduce: str = ""

    @property
    def conforms(self) -> bool:
        """Whether something that could tell was compared, and nothing contradicts."""
        return self.comparison.conforms and self.could_tell

    @property
    def could_tell(self) -> bool:
        """Whether two functions of the family differ on any output, if it has two."""
        return self.evidence > 0 or len(family_of(self.family).variants()) == 1

    @property
    def exit_code(self) -> int:
        """0 conforms, 1 mismatch, 3 nothing was compared that could tell."""
        if self.comparison.conforms or not (
            self.comparison.total or self.comparison.error
        ):
            return 0 if self.conforms else 3
        return 1

    @property
    def unseen(self) -> dict[str, tuple[str, ...]]:
        """The axes that this data cannot see, and the answers that fit it."""
        functions = self.functions.values()
        fits = {
            axis: tuple(dict.fromkeys(v[axis] for v in functions))
            for axis in family_of(self.family).axes
        }
        return {axis: values for axis, values in fits.items() if len(values) > 1}

    @property
    def functions(self) -> dict[tuple[str, ...], dict[str, str]]:
        """The first variant of every function of the best class, the last first."""
        canonical = family_of(self.family).canonical
        variants = self.best.variants if self.best else ()
        return {key(canonical(v)): v for v in reversed(variants)}

    @property
    def best(self) -> Explanation | None:
        """The explanation without a contradiction, if there is one."""
        first = self.explanations[:1]
        return first[0] if first and not first[0].contradicted else None

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
            "unseen": {axis: list(values) for axis, values in self.unseen.items()},
            "mistakes": list(self.mistakes),
            "structure": list(self.structure),
            "smallest": self.smallest,
            "reproduce": self.reproduce,
        }

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        lines = [str(self.comparison)]
        if self.comparison.error or not self.comparison.total:
            return "\n".join([*lines, *self.structure])
        if self.comparison.conforms:
            return "\n".join([*lines, *self.what_fits()])
        if self.smallest:
            lines.append(f"smallest  {self.smallest}")
        deviations = deviations_text(self.declared, family_of(self.family).default)
        lines.append(f"declared  {self.family}: {deviations}")
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

    def what_fits(self) -> list[str]:
        """Return how many functions fit data that conforms, and what it cannot see."""
        if not self.could_tell:
            return ["NOTHING COMPARED: every variant gives these outputs"]
        lines = [f"evidence  {self.evidence} outputs on which variants differ"]
        others = self.rivals()
        if others:
            axes = "; ".join(f"{a}: {' or '.join(v)}" for a, v in self.unseen.items())
            lines.append(f"fits      {len(others)} other functions, too: {axes}")
        if self.mistakes:
            few = ", ".join(self.mistakes[:SHOWN])
            lines.append(f"blind to  {len(self.mistakes)} mistakes, as {few}")
        return lines

    def rivals(self) -> list[dict[str, str]]:
        """Return the variants of the best class that are other functions than 1."""
        best = self.best.variants[0] if self.best else {}
        return [v for v in reversed(self.functions.values()) if v is not best]

    def near(self) -> list[Explanation]:
        """Return the first explanations, of those that contradict little."""
        return [
            e
            for e in self.explanations[:SHOWN]
            if not e.contradicted or e.agrees >= self.comparison.total * NEAR
        ]

    def table(self) -> list[str]:
        """List the explanations with the share of outputs that agree and contradict."""
        rows = [
            (
                deviations_text(each.variants[0], self.declared),
                f"{each.agrees}/{self.comparison.total}",
                each.contradicted,
            )
            for each in self.near()
        ]
        width = max([WIDTH, *(len(row[0]) for row in rows)])
        lines = [f"{'explained by':{width + 4}} {'agrees':>15}   contradicted by"]
        lines += [
            f" {i}  {text:{width}} {share:>15}   {contradicted}"
            for i, (text, share, contradicted) in enumerate(rows, 1)
        ]
        others = self.rivals()
        if others:
            rivals = "; ".join(deviations_text(v, self.declared) for v in others[:2])
            more = f" and {len(others) - 2} more" if len(others) > 2 else ""
            lines.append(
                f"not told apart from 1 by this data: {rivals}{more} -> refqnn probe "
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

    >>> import numpy as np
    >>> x = np.float32([0.25, 0.5, 1.5, 2.5])
    >>> given = dict(x=x, scale=1.0, zero_point=0, q_min=-128, q_max=127)
    >>> found = diagnose("quantize", given, np.array([0, 1, 2, 3]))
    >>> {v["rounding"] for v in found.best.variants} == {"half_up", "half_away"}
    True
    """
    of = family_of(family)
    choices = of.choices(Semantics() if declared is None else declared)
    alone = isinstance(inputs, dict)
    every = [inputs] if isinstance(inputs, dict) else list(inputs)
    calls = [complete(of, call) for call in every]
    given = [outputs] if alone else list(outputs)
    if len(calls) != len(given):
        raise ValueError(f"{len(calls)} calls, but outputs of {len(given)}")
    got = [as_outputs(of, answer) for answer in given]
    answers = [Answered(c, g) for c, g in zip(calls, got, strict=True)]
    tried = trials(of, choices, answers)
    comparison = compare_trials(of, tried, name or family)
    if comparison.error or not comparison.total:
        lines = shape_lines(tried)
        return Diagnosis(family, comparison, choices, structure=tuple(lines))
    result = search(of, choices, answers)
    whole = Diagnosis(
        family,
        comparison,
        choices,
        tuple(result.explanations[:10]),
        result.tried,
        result.evidence,
        deciding_inputs(of, result.fits) if result.complete else 1,
    )
    if comparison.conforms:
        return replace(whole, mistakes=unseen_mistakes(of, choices, calls))
    least = smallest(of, choices, tried)
    return replace(
        whole,
        structure=tuple(recognise(of, choices, tried, result)),
        smallest=least.message,
        reproduce=least.call,
    )


def unseen_mistakes(
    family: Family, declared: Choices, calls: Sequence[Inputs]
) -> tuple[str, ...]:
    """Return the mutants of refqnn's own semantics that some calls cannot see.

    Not of other semantics, nor of more numbers than MOST_NUMBERS.
    """
    if dict(declared) != family.default or sum(map(numbers, calls)) > MOST_NUMBERS:
        return ()
    return tuple(mutants.unseen_mistakes(family.name, calls))


def recognise(
    family: Family, declared: Choices, tried: Sequence[Trial], result: Search
) -> list[str]:
    """List the patterns in mismatches; those of mistakes only where no variant fits."""
    lines = ties(family, tried)
    if not result.fits:
        lines += hints(family, declared, tried)
        lines += [
            line
            for _, got, want in tried
            for name in want
            if name not in family.outputs[1:] or not name.startswith("d")
            for line in structural(got[name], want[name])
        ]
        if not lines:
            lines = recognise_beside_one_answer(family, declared, tried[0])
    return list(dict.fromkeys(lines))


def recognise_beside_one_answer(
    family: Family, declared: Choices, first: Trial
) -> list[str]:
    """List how outputs are those of a variant with one other answer, but moved."""
    for variant in family.neighbours(declared, 1)[1:]:
        want = family.outputs_or_none(variant, first.call) or {}
        if any(np.any(w == REFUSED) for w in want.values()):
            continue
        lines = [line for k, w in want.items() for line in moves(first.got[k], w)]
        if lines:
            return [
                f"with {deviations_text(variant, declared)}: {line}" for line in lines
            ]
    return []


def ties(family: Family, tried: Sequence[Trial]) -> list[str]:
    """Say so if every mismatch lies beside a tie."""
    if family.exact is None:
        return []
    output = family.outputs[0]
    lines = [
        near_ties(family.exact(**call), got[output], want[output])
        for call, got, want in tried
        if not family.agree(got[output], want[output]).all()
    ]
    return lines[:1] if lines and all(lines) else []


def shape_lines(tried: Sequence[Trial]) -> list[str]:
    """List the patterns that relate shapes which differ, each once."""
    each = [
        structural(t.got[name], want)
        for t in tried
        for name, want in t.want.items()
        if t.got[name].shape != want.shape
    ]
    return [f"structure {line}" for line in dict.fromkeys(chain(*each))]
