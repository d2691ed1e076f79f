"""The mechanical mistakes that vectors cannot see, beside the variants they miss."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from refqnn.conformance.choices.equivalents import why_equivalent
from refqnn.conformance.choices.families import Inputs
from refqnn.conformance.choices.mutants import mistakes, unseen_mutants

#: names that a line of the report shows
SHOWN = 8


class Blindness(NamedTuple):
    """How many mistakes a family knows, and those that no call sees."""

    mistakes: int
    unseen: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"mistakes": self.mistakes, "unseen": list(self.unseen)}

    def __str__(self) -> str:
        seen = self.mistakes - len(self.unseen)
        head = f"{seen} / {self.mistakes} mistakes seen"
        if not self.unseen:
            return head
        names = "; ".join(self.unseen[:SHOWN])
        more = len(self.unseen) - SHOWN
        return f"{head}\nmistakes it cannot see: {names}" + (
            f"; and {more} more" if more > 0 else ""
        )


#: how the names of mistakes end that depend on the layout in memory, not on values
LAYOUT = ": not contiguous"


def blindness(
    family: str, calls: Iterable[Inputs], *, from_files: bool = False
) -> Blindness:
    """List the mistakes that answer every call as refqnn does; equivalents left out.

    Files hold values and no layout in memory: mistakes of layouts do not count there.

    >>> from refqnn.conformance.choices.families import FAMILIES
    >>> seen = blindness("dequantize", FAMILIES["dequantize"].candidates()[:1])
    >>> "q: absolute" in seen.unseen
    True
    """
    judged = [
        m.name
        for m in mistakes(family)
        if not why_equivalent(family, m.name)
        and not (from_files and m.name.endswith(LAYOUT))
    ]
    unseen = set(unseen_mutants(family, calls))
    return Blindness(len(judged), tuple(name for name in judged if name in unseen))
