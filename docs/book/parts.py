"""Parts of files that already say something: heads of sources, parts of Markdown.

``{head} FILE`` shows citation and table of a source file; ``{open} FILE`` the prose
behind them. ``{part} FILE`` includes Markdown: all of it, a section (``:section:``) or
the paragraphs that begin with some words (``:paragraph:``). Nothing is written twice.
"""

import os
import re
from pathlib import PurePosixPath
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from book.tags import ROOT, head_of, line_of, read
from refqnn.papers.claims import read_claims

LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([\w./-]*[./][\w./-]*)(?:#[^)]*)?\)")
#: Markdown beside the code, and the page that shows it
SHOWN = {
    "refqnn/quantizers/README.md": "quantizers/index",
    "refqnn/ops/DERIVATIONS.md": "ops",
    "refqnn/integer/README.md": "integer",
    "refqnn/papers/README.md": "papers/index",
    "refqnn/papers/PARETO.md": "papers/proposition",
    "refqnn/conformance/README.md": "conformance",
    "CONTRIBUTING.md": "contributing",
    "CHANGELOG.md": "changes",
    "docs/reading/index.md": "reading/index",
}


class FilePart(SphinxDirective):
    """A directive about one file."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Parse what ``markdown`` writes."""
        path = self.arguments[0]
        try:
            text = self.markdown(path)
        except (ValueError, OSError) as error:
            raise self.error(str(error)) from error
        self.env.note_dependency(str(ROOT / path))
        box = nodes.container(classes=[self.name])
        box.document = self.state.document
        lines = StringList(text.splitlines(), source=path)
        self.state.nested_parse(lines, 0, box, match_titles=True)
        return [box] if self.name == "head" else box.children

    def markdown(self, path: str) -> str:
        """Write the part as Markdown."""
        raise NotImplementedError


class StopTests(SphinxDirective):
    """``{stop} 3``: the tests of a stop, a line each; tests/conftest.py marks them."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        """Set the command, and a link to every file."""
        command = f"pytest -m stop{int(self.arguments[0]):02d}"
        lines = ["```console", f"$ {command}", "```", ""]
        for test in self.content:
            path, _, name = test.partition("::")
            lines.append(f"- {{source}}`{path}{f'::{name}' if name else ''}`")
        box = nodes.container()
        self.state.nested_parse(StringList(lines, "stop"), 0, box)
        return box.children


class Examples(SphinxDirective):
    """``{examples}``: what every script of examples/ says, its command and figure.

    A line a script: its name, the seconds it takes, and the directive that draws.
    """

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Set a section for each script, from its docstring."""
        rows = {name: row for name, *row in (s.split(None, 3) for s in self.content)}
        lines: list[str] = []
        for path in sorted((ROOT / "examples").glob("*.py")):
            head = head_of(f"examples/{path.name}")
            text = [head.citation, *head.rest]
            lines += [f"## {escape(head.title.rstrip('.'))}", ""]
            lines += ["\n\n".join(prose(part) for part in text if part), ""]
            lines += [link(path.name, f"examples/{path.name}"), ""]
            lines += ["```console", f"$ python examples/{path.name}", "```", ""]
            if path.stem not in rows:
                raise self.error(f"{path.name} has no line: its seconds and its figure")
            seconds, kind, what = rows[path.stem]
            lines += [f"About {seconds} s on one thread of a busy machine.", ""]
            lines += [f"```{{{kind}}} {what}", "```", ""]
        lines = "\n".join(lines).splitlines()
        box = nodes.container()
        box.document = self.state.document
        self.state.nested_parse(
            StringList(lines, "examples"), 0, box, match_titles=True
        )
        return box.children


class ClaimTable(SphinxDirective):
    """``{claims} DFS``: every claim of a paper on record, with its verdict."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Set the table from papers/claims.csv."""
        own = [claim for claim in read_claims() if claim.paper == self.arguments[0]]
        if not own:
            raise self.error(f"no claim is about {self.arguments[0]}")
        lines = [
            "| claim | where it was asked | n | effect, points | verdict |",
            "| --- | --- | --- | --- | --- |",
        ]
        for claim in own:
            interval = f" ({claim.interval})" if claim.interval else ""
            limits = f"; {claim.missing}" if claim.missing else ""
            cells = (
                claim.claim,
                claim.regime,
                claim.n,
                f"{claim.effect}{interval}",
                f"{claim.verdict}{limits}",
            )
            lines.append(f"| {' | '.join(escape(cell) for cell in cells)} |")
        box = nodes.container(classes=["claims"])
        self.state.nested_parse(StringList(lines, "claims"), 0, box)
        return [box]


def link(text: str, target: str) -> str:
    """Write a link to a file: its page in the book, or its source."""
    text = text.replace("`", "")
    if target in SHOWN:
        return f"{{doc}}`{text} </{SHOWN[target]}>`"
    if target.partition("::")[0].endswith(".py"):
        return f"{{source}}`{text} <{target}>`"
    return f"`{text}`"


class HeadTable(FilePart):
    """Citation of a file, and its table of the paper's symbols."""

    def markdown(self, path: str) -> str:
        """Write citation and table; names of functions become links."""
        head = head_of(path)
        cells = [[prose(cell) for cell in row[:2]] for row in head.rows]
        where = [self.linked(path, row[2]) for row in head.rows]
        table = [
            f"| {symbol} | {f'`{name}`' if name else ''} | {place} |"
            for (symbol, _), place, name in zip(
                cells, where, [row[1] for row in head.rows], strict=True
            )
        ]
        top = ["| in the paper | in the code | where |", "| --- | --- | --- |"]
        file = link(path, path)
        shown = "\n".join([*top, *table]) if table else ""
        return f"{escape(' '.join(head.citation.split()))}\n\n{file}\n\n{shown}"

    def linked(self, path: str, where: str) -> str:
        """Turn names that the file defines into links to their lines."""

        def linked(name: re.Match[str]) -> str:
            try:
                line_of(path, name[0])
            except ValueError:
                return escape(name[0])
            return link(name[0], f"{path}::{name[0]}")

        return re.sub(r"[A-Za-z_][\w.]*\w", linked, where.replace("|", r"\|"))


class OpenPoints(FilePart):
    """What a file says behind its table."""

    def markdown(self, path: str) -> str:
        """Write the paragraphs; what is indented stays as it is."""
        parts, derived = [], False
        for part in head_of(path).rest:
            indented = part.startswith("    ")
            # the page itself derives the backward
            derived = part.startswith("Backward") or (derived and indented)
            if derived:
                continue
            parts.append(f"```text\n{part}\n```" if indented else prose(part))
        return "\n\n".join(parts)


class MarkdownPart(FilePart):
    """A Markdown file or a part of it."""

    option_spec: ClassVar[dict[str, Any]] = {
        "section": directives.unchanged,
        "paragraph": directives.unchanged,
        "row": directives.unchanged,
        "columns": directives.unchanged,
        "from": directives.unchanged,
        "to": directives.unchanged,
    }

    def markdown(self, path: str) -> str:
        """Write the part, its links seen from this page."""
        text = read(path)
        if "section" in self.options:
            text = section(text, self.options["section"])
        if "row" in self.options:
            text = row(text, self.options["row"])
        if "columns" in self.options:
            text = columns(text, self.options["columns"].split(", "))
        if "paragraph" in self.options:
            text = paragraphs(text, self.options["paragraph"])
        if "from" in self.options or "to" in self.options:
            text = between(text, self.options.get("from"), self.options.get("to"))
        text = re.sub(r"\A# .*\n", "", text)
        folder = PurePosixPath(path).parent

        def linked(old: re.Match[str]) -> str:
            return link(old[1], os.path.normpath(folder / old[2]))

        return LINK.sub(linked, text)


def section(text: str, title: str) -> str:
    """Cut the section under a heading, without it; ValueError for none."""
    found = re.search(
        rf"^(#+) {re.escape(title)}\n(.*?)(?=^#{{1,2}} |\Z)",
        text,
        re.MULTILINE | re.DOTALL,
    )
    if not found:
        raise ValueError(f"no heading {title!r}")
    return found[2].strip()


def first_table(text: str) -> list[list[str]]:
    """Read the cells of the first table of a text."""
    lines = text.split("\n| ", 1)[1].partition("\n\n")[0].splitlines()
    rows = [line.removeprefix("| ").removesuffix(" |") for line in lines]
    return [[cell.strip() for cell in re.split(r" \| ", line)] for line in rows]


def row(text: str, start: str) -> str:
    """Write the row of a table that begins with some words, a list of its cells."""
    head, _, *rows = first_table(text)
    cells = next((each for each in rows if each[0].startswith(start)), None)
    if cells is None:
        raise ValueError(f"no row of the table begins with {start!r}")
    shown = zip(head[2:], cells[2:], strict=True)
    return "\n".join(f"- **{name}**: {cell}" for name, cell in shown if cell)


def columns(text: str, names: list[str]) -> str:
    """Keep some columns of the first table of a text, and nothing else."""
    head, rule, *rows = first_table(text)
    kept = [head.index(name) for name in names]
    lines = [[each[i] for i in kept] for each in (head, rule, *rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def paragraphs(text: str, start: str) -> str:
    """Cut the paragraph that begins with some words, up to the next bold one."""
    parts = text.split("\n\n")
    lines = [line for part in parts for line in ("\n\n" + part).split("\n**")]
    at = next((i for i, line in enumerate(lines) if line.startswith(start + "**")), -1)
    if at < 0:
        raise ValueError(f"no paragraph begins with **{start}**")
    taken = [lines[at][len(start) + 2 :]]
    for line in lines[at + 1 :]:
        if not line.startswith("\n\n") or line.startswith(("\n\n#", "\n\n**")):
            break
        taken.append(line)
    return "".join(taken).lstrip(" :").strip()


def between(text: str, first: str | None, last: str | None) -> str:
    """Cut from the line that begins with some words to the next that does."""
    begun = text.index(f"\n{first}") + 1 if first else 0
    return text[begun : text.index(f"\n{last}", begun) if last else None].strip()


def prose(text: str) -> str:
    """Turn a paragraph of a docstring into Markdown."""
    parts = re.split(r"``(.+?)``", " ".join(text.split()))
    return "".join(
        f"`{part}`" if i % 2 else escape(part) for i, part in enumerate(parts)
    )


def escape(text: str) -> str:
    r"""Keep characters that Markdown reads as marks.

    >>> escape("a_b * c")
    'a\\_b \\* c'
    """
    return re.sub(r"([\\`*_$<>\[\]|#])", r"\\\1", text)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive("head", HeadTable)
    app.add_directive("open", OpenPoints)
    app.add_directive("part", MarkdownPart)
    app.add_directive("stop", StopTests)
    app.add_directive("examples", Examples)
    app.add_directive("claims", ClaimTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
