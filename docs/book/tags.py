"""Where equations stand in a source file: its head, its tags, its statements."""

import ast
import inspect
import io
import re
import tokenize
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
#: ``# (3)``, ``# (7), (8)``, ``# (Q); why``
TAGS = re.compile(r"#\s*((?:\([^()\s,]{1,6}\)(?:,\s*|\s+and\s+)?)+)")


class Head(NamedTuple):
    """What a file says before its code."""

    title: str
    citation: str
    #: paper symbol or equation, name in the code, where
    rows: list[tuple[str, str, str]]
    #: the paragraphs behind the table
    rest: list[str]


class Cut(NamedTuple):
    """Lines of a source file, and which of them carries the tag; from 1."""

    first: int
    last: int
    tagged: int
    text: str


@cache
def read(path: str) -> str:
    """Read a file of the project."""
    return (ROOT / path).read_text("utf-8")


@cache
def tags_of(source: str) -> dict[str, tuple[int, ...]]:
    """Map every tag of a source to the lines that carry it.

    >>> tags_of("a = 1  # (3)")
    {'3': (1,)}
    """
    lines: dict[str, tuple[int, ...]] = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        tags = TAGS.match(token.string) if token.type == tokenize.COMMENT else None
        for tag in re.findall(r"\(([^()]+)\)", tags[1]) if tags else ():
            lines[tag] = (*lines.get(tag, ()), token.start[0])
    return lines


def cuts(path: str, tag: str) -> list[Cut]:
    """Cut the statement of every line that carries a tag; ValueError for none."""
    source = read(path)
    lines = tags_of(source).get(tag)
    if not lines:
        known = ", ".join(tags_of(source)) or "none"
        raise ValueError(f"{path} has no line with the tag ({tag}); its tags: {known}")
    pieces: list[Cut] = []
    for line in lines:
        if not any(piece.first <= line <= piece.last for piece in pieces):
            pieces.append(statement_at(source, line))
    return pieces


def statement_at(source: str, line: int) -> Cut:
    r"""Cut the smallest statement around a line; of a block only its first line.

    >>> statement_at("if a:\n    b = (\n        c\n    )", 3).text
    'b = (\n    c\n)'
    """
    around = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or 0)
    ]
    best = min(around, key=lambda node: (node.end_lineno or 0) - node.lineno)
    first, last = best.lineno, best.end_lineno or best.lineno
    body = getattr(best, "body", None)
    if body:
        last = max(line, body[0].lineno - 1)
        first = line if last - first > 8 else first
    text = "\n".join(source.splitlines()[first - 1 : last])
    return Cut(first, last, line, inspect.cleandoc(" \n" + text).strip("\n"))


def line_of(path: str, name: str) -> int:
    """Find the line of a function, class, method or value; ValueError for none."""
    body = ast.parse(read(path)).body
    line = 0
    for part in name.split("."):
        node = next((each for each in body if part in names_of(each)), None)
        if node is None:
            raise ValueError(f"{path} defines no {name}")
        line, body = node.lineno, getattr(node, "body", [])
    return line


def names_of(node: ast.stmt) -> list[str]:
    """List the names that a statement defines."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return [node.target.id]
    return []


def head_of(path: str) -> Head:
    """Read title, citation, table and prose of a file's docstring."""
    text = inspect.cleandoc(ast.get_docstring(ast.parse(read(path)), clean=True) or "")
    title, *parts = text.split("\n\n")
    at = next((i for i, part in enumerate(parts) if is_table(part)), None)
    if at is None:
        return Head(title, parts[0] if parts else "", [], parts[1:])
    rows = [row_of(line) for line in continued(parts[at])[1:]]
    before = parts[:at]
    rest = [*before[1:], *parts[at + 1 :]]
    return Head(" ".join(title.split()), before[0] if before else "", rows, rest)


def is_table(part: str) -> bool:
    """Say whether a paragraph is a table of the paper's symbols."""
    return re.match(r"\s{4}\S.*?\s{2,}\S", part) is not None and "\n" in part


def continued(part: str) -> list[str]:
    """Split a table into rows; a line whose first cell is empty continues the last."""
    rows: list[str] = []
    for line in part.splitlines():
        if rows and line.startswith(" " * 8):
            rows[-1] += " " + line.strip()
        else:
            rows.append(line.strip())
    return rows


def row_of(line: str) -> tuple[str, str, str]:
    """Split a row at runs of spaces; a cell that is missing is empty."""
    cells = [*re.split(r"\s{2,}", line, maxsplit=2), "", ""]
    return cells[0], cells[1], cells[2]
