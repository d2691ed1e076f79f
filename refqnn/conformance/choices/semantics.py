"""Semantics: a point in the product of all choices, one answer for each axis.

>>> s = Semantics(rounding="half_away")
>>> s.rounding, s.overflow
('half_away', 'saturate')
>>> s.difference(s.replace(rounding="half_even"))
{'rounding': ('half_away', 'half_even')}
"""

from collections.abc import Iterator, Mapping
from typing import final

from refqnn.conformance.choices.axes import AXES
from refqnn.conformance.choices.families import FAMILIES, Family, family_of


@final
class Semantics(Mapping[str, str]):
    """An immutable answer to every question; what is not given is refqnn's answer."""

    __slots__ = ("_choices",)
    _choices: dict[str, str]

    def __init__(self, **choices: str) -> None:
        for axis, value in choices.items():
            check_choice(axis, value)
        defaults = {name: axis.default for name, axis in AXES.items()}
        object.__setattr__(self, "_choices", defaults | choices)

    def __getitem__(self, axis: str) -> str:
        return self._choices[axis]

    def __iter__(self) -> Iterator[str]:
        return iter(self._choices)

    def __len__(self) -> int:
        return len(self._choices)

    def __getattr__(self, axis: str) -> str:
        if axis in AXES:
            return self._choices[axis]
        raise AttributeError(f"Semantics has no axis {axis!r}: one of {list(AXES)}")

    def __setattr__(self, axis: str, value: object) -> None:
        raise AttributeError(f"Semantics is immutable: replace({axis}={value!r})")

    def __reduce__(self) -> tuple[object, tuple[dict[str, str]]]:
        return of, (self.deviations(),)

    def __hash__(self) -> int:
        return hash(tuple(self._choices.items()))

    def __repr__(self) -> str:
        given = ", ".join(f"{a}={v!r}" for a, v in self.deviations().items())
        return f"Semantics({given})"

    def replace(self, **choices: str) -> "Semantics":
        """Return the same semantics with some answers replaced."""
        return Semantics(**self._choices | choices)

    def deviations(self) -> dict[str, str]:
        """Return the answers that are not refqnn's own."""
        return {a: v for a, v in self._choices.items() if v != AXES[a].default}

    def difference(self, other: Mapping[str, str]) -> dict[str, tuple[str, str]]:
        """Return ``{axis: (mine, other's)}`` where the answers differ."""
        return {a: (v, other[a]) for a, v in self.items() if other[a] != v}

    def explain(self, family: str | None = None) -> str:
        """Return the equations in order, the answers filled in.

        >>> print(Semantics(max_pool_padding="raw_zero").explain("max_pool2d"))
        max_pool2d
          1  max(0, plane) at the border
        """
        if family:
            of = family_of(family)
            return equations_text(of, of.choices(self))
        return "\n".join(self.explain_or_say(name) for name in FAMILIES)

    def explain_or_say(self, family: str) -> str:
        """Return the equations of a family, or which answer it does not have."""
        try:
            return self.explain(family)
        except ValueError as error:
            return f"{family}\n  {error}"


def of(choices: Mapping[str, str]) -> Semantics:
    """Return the semantics with these answers."""
    return Semantics(**choices)


def check_choice(axis: str, value: str) -> None:
    """Raise for an axis or an answer that does not exist, listing those that do."""
    if axis not in AXES:
        raise ValueError(f"axis must be one of {list(AXES)}, got {axis!r}")
    known = list(AXES[axis].values)
    if value not in known:
        raise ValueError(f"{axis} must be one of {known}, got {value!r}")


def equations_text(family: Family, choices: Mapping[str, str]) -> str:
    """Write the numbered equations of a family with its choices filled in."""
    filled = {
        axis: AXES[axis].values[value].equation for axis, value in choices.items()
    }
    lines = [line.format(**filled) for line in family.equations]
    numbered = [f"  {i}  {line}" for i, line in enumerate(lines, 1)]
    return "\n".join([family.name, *numbered])


def deviations_text(choices: Mapping[str, str], declared: Mapping[str, str]) -> str:
    """Write the choices that deviate from declared ones as ``AXIS = VALUE``.

    >>> deviations_text({"nan": "zero"}, {"nan": "raise"})
    'nan = zero'
    """
    other = [f"{a} = {v}" for a, v in choices.items() if declared[a] != v]
    return ", ".join(other) or "as declared"
