"""An axis, which is a question with its answers, and the values of the answers."""

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


def default_first(
    rows: Mapping[str, tuple[str, str]], default: str
) -> dict[str, Value]:
    """Make a value of every row ``(equation, users)``, ``default`` first.

    >>> list(default_first({"a": ("", ""), "b": ("", "")}, "b"))
    ['b', 'a']
    """
    order = sorted(rows, key=lambda name: name != default)
    return {name: Value(*rows[name]) for name in order}
