"""Identification: which answers are certain, which are not, on what evidence."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

from refqnn.conformance.choices.axes import AXES
from refqnn.conformance.choices.families import family_of
from refqnn.conformance.choices.semantics import Semantics, deviations_text, of


@final
@dataclass(frozen=True)
class Identification:
    """The verdict on a function: variants that fit, answers that are certain or not."""

    family: str
    #: every variant that agrees with all answers, one class that no input separates
    alive: tuple[Mapping[str, str], ...]
    #: axes on which all of them agree, the other answers contradicted
    certain: Mapping[str, str]
    #: axes on which they do not, and the answers left
    undetermined: Mapping[str, tuple[str, ...]]
    #: inputs that decided: scalars of an elementwise family, calls of any other
    inputs: int
    probes: tuple[int, ...]
    #: why an answer could not be used, or what refutes every variant
    complaint: str = ""
    #: outputs of whole arrays that confirmed, the regions that they visit, and the
    #: regions that were not looked at
    confirmed: int = 0
    regions: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()
    #: axes of which no known answer fits, and the inputs that tell
    unknown: Mapping[str, str] = field(default_factory=dict)
    #: the variant that agrees with most outputs, where none agrees with all
    nearest: Mapping[str, str] = field(default_factory=dict)
    #: the smallest input that contradicts it, and both answers
    smallest: str = ""
    #: the rules of one element and of vectors, where they differ
    rules: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def explained(self) -> bool:
        """Whether some variant agrees with every answer."""
        return bool(self.alive)

    @property
    def semantics(self) -> Semantics:
        """The first variant that agrees; raises ValueError if no variant does."""
        if not self.alive:
            raise ValueError(f"no variant of {self.family} agrees with every answer")
        return of(self.alive[0])

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "family": self.family,
            "explained": self.explained,
            "certain": dict(self.certain),
            "undetermined": {a: list(v) for a, v in self.undetermined.items()},
            "unknown": dict(self.unknown),
            "variants_left": len(self.alive),
            "inputs": self.inputs,
            "probes": list(self.probes),
            "confirmed": self.confirmed,
            "regions": list(self.regions),
            "unseen": list(self.unseen),
            "nearest": dict(self.nearest),
            "smallest": self.smallest,
            "rules": {k: dict(v) for k, v in self.rules.items()},
            "complaint": self.complaint,
        }

    def __str__(self) -> str:
        head = f"{self.family}: decided by {self.inputs} inputs"
        if self.confirmed:
            how = "confirmed" if self.alive else "held against"
            head += (
                f", {how} on {self.confirmed} outputs in {len(self.regions)} regions"
            )
        lines = [] if self.alive else [f"  {self.verdict()}"]
        lines += [f"  {a:18} {v}{star(a, v)}" for a, v in self.certain.items()]
        lines += [
            f"  {a:18} undetermined: {' or '.join(v)}"
            for a, v in self.undetermined.items()
        ]
        lines += [f"  {a:18} none of the known: {v}" for a, v in self.unknown.items()]
        default = family_of(self.family).default
        lines += [
            f"  {who:18} {deviations_text(v, default)}" for who, v in self.rules.items()
        ]
        if self.nearest:
            lines.append(
                f"  nearest            {deviations_text(self.nearest, default)}"
            )
        if self.smallest:
            lines.append(f"  smallest           {self.smallest}")
        if self.unseen:
            lines.append(f"  not looked at: {', '.join(self.unseen)}")
        return "\n".join([head, *lines])

    def verdict(self) -> str:
        """Say why no variant is left."""
        count = len(family_of(self.family).variants())
        none = f"none of the {count} variants"
        return f"{none}: {self.complaint}" if self.complaint else none


def star(axis: str, value: str) -> str:
    """Mark an answer that is not refqnn's.

    >>> star("rounding", "floor")
    '   (refqnn: half_even)'
    """
    default = AXES[axis].default
    return "" if value == default else f"   (refqnn: {default})"
