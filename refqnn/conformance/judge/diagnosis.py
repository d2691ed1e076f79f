"""What diagnose found, and how it is shown."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, final

from refqnn.conformance.choices.families import Choices, family_of
from refqnn.conformance.choices.semantics import named
from refqnn.conformance.judge.compare import Comparison

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


def key(choices: Choices) -> tuple[str, ...]:
    """Return the answers alone."""
    return tuple(choices.values())


def changes(choices: Choices, declared: Choices) -> dict[str, str]:
    """Return the answers that differ from the declared ones."""
    return {a: v for a, v in choices.items() if declared[a] != v}
