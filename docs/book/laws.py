"""``{laws} FILE``: what holds for a quantizer, and where it does not.

The marks are those the tests prove; the numbers beside a counterexample are computed
when the book is built.
"""

from typing import Any

import numpy as np
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from refqnn.testing.laws import LAWS, POWERS

MARKS = {"y": "holds", "n": "fails", "c": "holds where", "-": "no parameter"}
CLAIMS = {
    "IDEM": "$Q(Q(v)) = Q(v)$",
    "ODD": "$Q(-v) = -Q(v)$",
    "SE": "$Q(kv) = k\\,Q(v)$",
    "JSE": "$Q(kv; kp) = k\\,Q(v; p)$",
    "INV": "$Q(kv; kp) = Q(v; p)$",
    "MONO": "$v_1 \\le v_2$ gives $Q(v_1) \\le Q(v_2)$",
    "ORTH": "$\\langle Q(v), v - Q(v) \\rangle = 0$",
    "BND": "the error is at most half the widest gap",
    "NEAR": "every value goes to a nearest level",
    "ZERO": "zeros give zeros",
}


def numbers(v: Any) -> str:
    """Write an array as short text.

    >>> numbers(np.array([0.5, -2]))
    '0.5, −2'
    """
    flat = [f"{x + 0.0:.4g}" for x in np.ravel(v)]  # one zero
    short = flat if len(flat) <= 8 else [*flat[:4], "…", *flat[-2:]]
    return ", ".join(short).replace("-", "\N{MINUS SIGN}")


def both_sides(row: Any, law: str, v: Any) -> str:
    """Write what a law compares on a counterexample."""
    y = row.apply(v)
    if law == "IDEM":
        return f"Q(v) = {numbers(y)}, quantized again {numbers(row.apply(y))}"
    if law == "ODD":
        return f"Q(−v) = {numbers(row.apply(-v))}, but −Q(v) = {numbers(-y)}"
    if law in {"SE", "JSE", "INV"}:
        for k in POWERS:
            scaled = row.apply(v * v.dtype.type(k), *(() if law == "SE" else (k,)))
            want = y if law == "INV" else k * y
            if not np.array_equal(scaled, want):
                given = "Q(kv)" if law == "SE" else "Q(kv; kp)"
                return f"k = {k}: {given} = {numbers(scaled)}, wanted {numbers(want)}"
    if law == "ORTH":
        parts = zip(row.groups(v), row.groups(y), strict=True)
        return f"⟨Q(v), v − Q(v)⟩ = {numbers([np.sum(q * (x - q)) for x, q in parts])}"
    return f"Q(v) = {numbers(y)}"


class LawTable(SphinxDirective):
    """The laws of every row of a quantizer's file."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Set the table, and a counterexample for each law that fails."""
        from tables.quantizers import ROWS  # noqa: PLC0415 - rows come with the tests

        rows = [row for row in ROWS if row.source[2] == self.arguments[0]]
        if not rows:
            raise self.error(f"no row is about {self.arguments[0]}")
        head = ["law", "claim", *(row.name for row in rows)]
        lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
        for law in LAWS:
            marks = [MARKS[row.laws[law].mark] for row in rows]
            lines.append(f"| {law} | {CLAIMS[law]} | " + " | ".join(marks) + " |")
        lines += ["", *self.counterexamples(rows)]
        box = nodes.container(classes=["laws"])
        self.state.nested_parse(type(self.content)(lines, "laws"), 0, box)
        return [box]

    def counterexamples(self, rows: list[Any]) -> list[str]:
        """List every counterexample with what it shows."""
        lines = []
        for row in rows:
            for law, verdict in row.laws.items():
                if verdict.counterexample is None:
                    continue
                v = np.atleast_2d(verdict.counterexample)
                name = f", {row.name}" if len(rows) > 1 else ""
                text = both_sides(row, law, v)
                lines.append(f"- **{law}**{name}, v = {numbers(v)}: {text}.")
        return lines


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("laws", LawTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
