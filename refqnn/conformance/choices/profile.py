"""A profile: rows of what the operators of one version of a runtime do."""

import re
import textwrap
from collections.abc import Mapping
from typing import NamedTuple

from refqnn.conformance.choices.axes.axis import entries
from refqnn.conformance.choices.semantics import Semantics, of

VERIFIED = "2026-11-30"


class Row(NamedTuple):
    """One operator: its family, where it deviates from refqnn, how many were asked."""

    operator: str
    family: str
    deviations: Mapping[str, str]
    #: scalar inputs, or calls, that identify asked
    probes: int
    note: str = ""
    #: what it does on other processors, where that differs
    elsewhere: Mapping[str, str] | None = None
    #: axes that the runtime's specification leaves open: any answer is acceptable
    open: tuple[str, ...] = ()


class Profile(NamedTuple):
    """One version of a runtime."""

    runtime: str
    version: str
    rows: tuple[Row, ...]
    #: the day of the last verification, ISO 8601
    verified: str

    def semantics(self, family: str) -> Semantics:
        """Return the semantics of the runtime's first operator of a family.

        Raises ValueError for a family that was not asked.
        """
        return of(self.row(family).deviations)

    def row(self, family: str) -> Row:
        """Return the first operator of a family."""
        for row in self.rows:
            if row.family == family:
                return row
        known = list(dict.fromkeys(row.family for row in self.rows))
        raise ValueError(f"{self.runtime} was asked about {known}, not {family!r}")


def profile(runtime: str, version: str, rows: str) -> Profile:
    """Read rows "OPERATOR | FAMILY | DEVIATIONS | PROBES | NOTE", the note optional.

    Deviations are "AXIS = ANSWER", of an axis that the specification leaves open
    "AXIS = ANSWER (open)", or "as refqnn"; "or as refqnn" after them on other hardware.
    """
    lines = map(str.strip, entries(textwrap.dedent(rows)))
    return Profile(runtime, version, tuple(map(read_row, lines)), VERIFIED)


def read_row(line: str) -> Row:
    """Read one row of a profile.

    >>> read_row("Cast | quantize | nan = q_min (open) | 8").deviations
    {'nan': 'q_min'}
    """
    operator, family, said, probes, *note = line.split(" | ")
    pairs = re.findall(r"(\w+) = ([^,(]+?)( \(open\))?(?=,|$)", said)
    return Row(
        operator,
        family,
        {axis: answer for axis, answer, _ in pairs},
        int(probes),
        "".join(note),
        elsewhere={} if said.endswith("or as refqnn") else None,
        open=tuple(axis for axis, _, is_open in pairs if is_open),
    )
