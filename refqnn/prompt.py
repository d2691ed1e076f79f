"""What objects look like at the prompt: arrays by shape, tables in text and in HTML."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

import numpy as np

Rows = Sequence[Mapping[str, Any]]
Kind = TypeVar("Kind")
#: of the text of one field
MOST = 60


def short(value: Any) -> str:
    """Write a value on one line: an array as dtype and shape, one number as itself.

    >>> short(np.zeros((2, 3), np.float32)), short(np.array(0.5)), short(np.True_)
    ('float32 (2, 3)', '0.5', 'True')
    """
    if isinstance(value, np.ndarray) and value.ndim:
        return kind_and_shape(value)
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "iuf":
        return f"{value.item():.6g}"
    value = value.item() if isinstance(value, np.generic) else value
    text = " ".join(repr(value).split())
    return text if len(text) <= MOST else f"{text[: MOST - 3]}..."


def kind_and_shape(array: Any) -> str:
    """Write dtype and shape of an array.

    >>> kind_and_shape(np.zeros(3))
    'float64 (3,)'
    """
    return f"{array.dtype} {array.shape}"


def short_repr(self: Any) -> str:
    """Write a dataclass or a named tuple on one line, every field by ``short``."""
    names = self._fields if hasattr(self, "_fields") else field_names(self)
    inner = ", ".join(f"{name}={short(getattr(self, name))}" for name in names)
    return f"{type(self).__name__}({inner})"


def one_line(kind: type[Kind]) -> type[Kind]:
    """Let a class represent itself by ``short_repr``; a decorator of named tuples."""
    kind.__repr__ = short_repr  # type: ignore[method-assign]
    return kind


def field_names(value: Any) -> list[str]:
    """List the fields of a dataclass that its representation shows."""
    return [f.name for f in fields(value) if f.repr] if is_dataclass(value) else []


def text_table(rows: Rows) -> str:
    """Align rows under the names of their columns, numbers to the right.

    >>> print(text_table([{"layer": "stem", "bits": 8}, {"layer": "fc", "bits": 16}]))
    layer  bits
    stem      8
    fc       16
    """
    if not rows:
        return ""
    columns = list(rows[0])
    cells = [columns, *([cell(row[c]) for c in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    right = [not isinstance(rows[0][c], str) for c in columns]
    lines = [
        "  ".join(
            text.rjust(width) if numeric else text.ljust(width)
            for text, width, numeric in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in cells
    ]
    return "\n".join(lines)


def html_table(title: str, rows: Rows) -> str:
    """Write rows as an HTML table with a caption; every text is escaped.

    >>> html_table("a < b", [{"n": 1}])
    '<table><caption>a &lt; b</caption><tr><th>n</th></tr><tr><td>1</td></tr></table>'
    """
    columns = list(rows[0]) if rows else []
    head = "".join(f"<th>{html.escape(c)}</th>" for c in columns)
    lines = [
        "".join(f"<td>{html.escape(cell(row[c]))}</td>" for c in columns)
        for row in rows
    ]
    body = "".join(f"<tr>{line}</tr>" for line in [head, *lines])
    return f"<table><caption>{html.escape(title)}</caption>{body}</table>"


def cell(value: Any) -> str:
    """Write one cell: whole numbers with separators, None as nothing.

    >>> cell(1234567), cell(None), cell((1, 28, 28))
    ('1,234,567', '', '(1, 28, 28)')
    """
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
