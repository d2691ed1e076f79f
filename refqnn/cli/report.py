"""The report of the demo: claims, whether they hold, and networks in plain numbers."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, final

from refqnn.files import read_json


class Claim(NamedTuple):
    """One checked statement."""

    name: str
    text: str
    #: None where something is reported and nothing claimed
    holds: bool | None


@final
@dataclass(frozen=True, eq=False)
class Report:
    """Claims, and whether they hold; ``columns`` are the networks in plain numbers."""

    columns: dict[str, dict[str, float]]
    claims: tuple[Claim, ...]
    files: tuple[str, ...]
    #: another implementation, judged
    diagnosis: str = ""
    #: digest of its settings and seed
    settings: str = ""

    @property
    def holds(self) -> bool:
        """Return whether every claim does."""
        return all(claim.holds is not False for claim in self.claims)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values, for JSON."""
        return {
            "holds": self.holds,
            "networks": self.columns,
            "claims": [claim._asdict() for claim in self.claims],
            "files": list(self.files),
            "diagnosis": self.diagnosis,
            "settings": self.settings,
        }

    def __str__(self) -> str:
        verdicts = {True: "holds", False: "FAILS", None: "told"}
        claims = [f"{verdicts[c.holds]:<6} {c.name}: {c.text}" for c in self.claims]
        return "\n\n".join(
            (
                table(self.columns),
                "\n".join(claims),
                "wrote " + "\n      ".join(self.files),
                self.diagnosis,
            )
        ).rstrip()


def report_in(folder: Path, settings: str) -> Report | None:
    """Read the report of a folder; None unless it is of these settings."""
    path = folder / "report.json"
    there = read_json(path) if path.exists() else None
    if not isinstance(there, dict) or there.pop("settings", "") != settings:
        return None
    with suppress(KeyError, TypeError):  # of another version
        claims = tuple(Claim(**claim) for claim in there["claims"])
        files = tuple(there["files"])
        return Report(there["networks"], claims, files, there["diagnosis"], settings)
    return None


def table(columns: dict[str, dict[str, float]]) -> str:
    """Return accuracy, size and work side by side.

    >>> print(table({"float": {"accuracy": 0.9, "c_size_bits": 3200, "macs": 50}}))
                         float
    test accuracy       90.0 %
    C_size, bits         3,200
    multiply-adds           50
    """
    rows: Sequence[tuple[str, Callable[[dict[str, float]], str]]] = (
        ("test accuracy", lambda c: f"{100 * c['accuracy']:.1f} %"),
        ("C_size, bits", lambda c: f"{c['c_size_bits']:,}"),
        ("multiply-adds", lambda c: f"{c['macs']:,}"),
    )
    lines = [" " * 14 + "".join(f"{name:>12}" for name in columns)]
    for title, show in rows:
        cells = "".join(f"{show(column):>12}" for column in columns.values())
        lines.append(f"{title:<14}{cells}")
    return "\n".join(lines)
