"""An axis, which is a question with its answers, and the values of the answers."""

import re
from collections.abc import Mapping
from typing import NamedTuple


class Value(NamedTuple):
    """One answer: its equation, and where it is met."""

    equation: str
    users: str


class Axis(NamedTuple):
    """A question and its answers, the default first."""

    question: str
    values: Mapping[str, Value]

    @property
    def default(self) -> str:
        """The answer of refqnn itself."""
        return next(iter(self.values))


def read_table(text: str) -> dict[str, Axis]:
    r"""Read axes "NAME: QUESTION", their values "NAME | EQUATION | USERS" indented.

    A line that is indented by eight continues the one above.

    >>> read_table("bias: is it added?\n    added | b + sum | ONNX")["bias"].values
    {'added': Value(equation='b + sum', users='ONNX')}
    """
    axes: dict[str, Axis] = {}
    values: dict[str, Value] = {}
    for entry in entries(text):
        line = entry.strip()
        if line != entry:
            value, equation, users = line.split(" | ")
            values[value] = Value(equation, users)
        else:
            name, _, question = line.partition(": ")
            values = {}
            axes[name] = Axis(question, values)
    return axes


def entries(text: str) -> list[str]:
    """Return the lines of a table, each joined with those that continue it."""
    return re.sub(r"\n {8}", " ", text.strip("\n")).split("\n")


def default_first(
    rows: Mapping[str, tuple[str, str]], default: str
) -> dict[str, Value]:
    """Make a value of every row ``(equation, users)``, ``default`` first.

    >>> list(default_first({"a": ("", ""), "b": ("", "")}, "b"))
    ['b', 'a']
    """
    order = sorted(rows, key=lambda name: name != default)
    return {name: Value(*rows[name]) for name in order}
