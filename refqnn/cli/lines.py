"""The lines that a computation passes, with their values and equation numbers.

``lines_passed`` runs a computation under a tracer and notes every assignment and every
``return`` in functions of the package. What checks arguments, and what moves arrays
about, is passed over: ``SKIPPED``.
"""

import ast
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import refqnn

#: modules of the package that a reader does not step into
SKIPPED = (
    "refqnn.*.checks",
    "refqnn.cli*",
    "refqnn.core",
    "refqnn.geometry",
    "refqnn.prompt",
    "refqnn.quantizers.module",
)
PACKAGE = Path(refqnn.__file__).parent
#: ``# (3)``, ``# (7), (8)``, ``# (Q); why``
TAGS = re.compile(r"#\s*((?:\([^()\s]{1,6}\)(?:,\s*|\s+and\s+)?)+)")
#: numbers of an array that are written out
MOST_NUMBERS = 6
#: characters of a line's text that are printed
WIDTH = 64


@dataclass
class Line:
    """A statement that was executed: where it stands, its text and what it gave."""

    file: str
    number: int
    function: str
    text: str
    #: numbers of the equations that it computes
    equations: list[str]
    values: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        marks = " ".join(f"({equation})" for equation in self.equations)
        pairs = ", ".join(f"{name} = {value}" for name, value in self.values.items())
        text, values = cut(self.text), cut(pairs, 90)
        return f"{self.number:5} {marks:5} {text:{WIDTH}}  {values}".rstrip()


def cut(text: str, width: int = WIDTH) -> str:
    """Shorten a text to a width.

    >>> cut("abcdef", 5)
    'ab...'
    """
    return text if len(text) <= width else f"{text[: width - 3]}..."


@dataclass
class Statement:
    """A statement of a source file: its first line, its text, what it assigns."""

    first: int
    text: str
    equations: list[str]
    names: list[str]
    returns: bool


def is_skipped(module: str, function: str = "") -> bool:
    """Say whether a reader steps over a function: others', checks, comprehensions.

    >>> is_skipped("numpy"), is_skipped("refqnn.ops.checks"), is_skipped("refqnn.ops")
    (True, True, False)
    """
    if not module.startswith("refqnn.") or function.startswith(("<", "check_")):
        return True
    return any(fnmatchcase(module, pattern) for pattern in SKIPPED)


def lines_passed(compute: Callable[[], Any]) -> list[Line]:
    """Run a computation; list the assignments and returns it passes, in order."""
    recorder = Recorder()
    before = sys.gettrace()
    sys.settrace(recorder.enter)
    try:
        compute()
    finally:
        sys.settrace(before)
    return recorder.lines


class Recorder:
    """A tracer that notes statements when they begin and values when they are done."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        #: of each frame, the statement it is in
        self.at: dict[FrameType, tuple[Statement, Line]] = {}

    def enter(self, frame: FrameType, _event: str, _argument: Any) -> Any:
        """Follow a function of the package, but no check and no comprehension."""
        name, module = frame.f_code.co_name, frame.f_globals.get("__name__", "")
        made = frame.f_code.co_filename.startswith("<")  # by a NamedTuple
        return None if made or is_skipped(module, name) else self.move

    def move(self, frame: FrameType, event: str, argument: Any) -> Any:
        """Note that a frame comes to a line, or is left with a value."""
        if event == "return":
            self.finish(frame, argument)
        elif event == "line":
            path = frame.f_code.co_filename
            statement = statements(path).get(frame.f_lineno)
            if frame in self.at and self.at[frame][0].returns:
                return self.move  # leaving a with statement on the way out
            if frame not in self.at or self.at[frame][0] is not statement:
                self.finish(frame)
                if statement is not None:
                    file = frame.f_globals["__name__"].replace(".", "/") + ".py"
                    name = frame.f_code.co_name
                    line = Line(
                        file, statement.first, name, statement.text, statement.equations
                    )
                    self.lines.append(line)
                    self.at[frame] = statement, line
        return self.move

    def finish(self, frame: FrameType, result: Any = None) -> None:
        """Write what the statement of a frame gave into its line."""
        if frame not in self.at:
            return
        statement, line = self.at.pop(frame)
        if statement.returns:
            line.values["gives"] = number_text(result)
        for name in statement.names:
            if name in frame.f_locals:
                line.values[name] = number_text(frame.f_locals[name])


@cache
def statements(path: str) -> dict[int, Statement]:
    """Map each line of a file to the assignment or return that it belongs to."""
    source = Path(path).read_text("utf-8")
    rows, table = source.splitlines(), {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assign):
            targets: list[ast.expr] = node.targets
        elif isinstance(node, ast.AugAssign | ast.AnnAssign):
            targets = [node.target]
        elif isinstance(node, ast.Return):
            targets = []
        else:
            continue
        last = node.end_lineno or node.lineno
        marks = " ".join(
            m[1] for m in TAGS.finditer("\n".join(rows[node.lineno - 1 : last]))
        )
        statement = Statement(
            node.lineno,
            " ".join((ast.get_source_segment(source, node) or "").split()),
            re.findall(r"\(([^()]+)\)", marks),
            [name for target in targets for name in names_in(target)],
            isinstance(node, ast.Return),
        )
        table.update(dict.fromkeys(range(node.lineno, last + 1), statement))
    return table


def names_in(target: ast.expr) -> list[str]:
    """List the variables that an assignment binds, or writes an entry of.

    >>> names_in(ast.parse("a, b[i] = x").body[0].targets[0])
    ['a', 'b']
    """
    if isinstance(target, ast.Tuple):
        return [name for part in target.elts for name in names_in(part)]
    while isinstance(target, ast.Subscript):
        target = target.value
    return [target.id] if isinstance(target, ast.Name) else []


def number_text(value: Any) -> str:
    """Write a number, few numbers, or the first of many and the shape.

    >>> import numpy as np
    >>> number_text(np.array([0.5])), number_text(np.arange(3)), number_text((1.0, np))
    ('0.5', '[0 1 2]', '(1, numpy)')
    >>> number_text(np.zeros(6)), number_text(np.zeros((2, 8)))
    ('[0 0 0 0 0 0]', '0 ... (2, 8)')
    """
    import numpy as np

    from refqnn.prompt import short

    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return f"({', '.join(map(number_text, value))})"
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        few = value.ravel()[: MOST_NUMBERS + 1]
        words = [short(one) if few.dtype.kind == "f" else str(one) for one in few]
        if len(words) > MOST_NUMBERS:
            return f"{words[0]} ... {value.shape}"
        return words[0] if len(words) == 1 else f"[{' '.join(words)}]"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, np.integer):
        return str(value)
    return str(getattr(value, "__name__", "") or short(value))


def listing(lines: list[Line]) -> str:
    """Write lines below the name of the function they stand in."""
    text, where = [], ("", "")
    for line in lines:
        if (line.file, line.function) != where:
            where = (line.file, line.function)
            text.append(f"{line.file}  {line.function}")
        text.append(str(line))
    return "\n".join(text)
