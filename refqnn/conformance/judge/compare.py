"""compare: where two results differ, by how much, and in what pattern.

Counts, a histogram in units of the last place, the first difference and the shape of
the set of differences. Why they differ is the question of ``diagnose``.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
import numpy.typing as npt

from refqnn._types import Array, Bool
from refqnn.conformance.choices.families import equal

Index = tuple[int, ...]
#: as many differences are described one by one
SHOWN_CHANNELS = 8
#: mismatches from which on a pattern of positions is no accident
FEW = 6
#: differences beyond it are counted together
MOST_UNITS = 9


@final
@dataclass(frozen=True)
class Comparison:
    """How many elements differ, by how much and where; ``str`` is a report."""

    name: str
    total: int
    mismatches: int
    #: difference in units of the last place -> how often; floats: in ulps, clipped
    histogram: Mapping[int, int] = field(default_factory=dict)
    first: Index | None = None
    #: the array that ``first`` is a place of
    at: str = "y"
    want: Any = None
    got: Any = None
    #: what all mismatches have in common, and what was not looked at
    where: tuple[str, ...] = ()
    #: why the arrays could not be compared
    error: str = ""

    @property
    def conforms(self) -> bool:
        """Whether something was compared and nothing differed."""
        return not self.error and not self.mismatches and self.total > 0

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "name": self.name,
            "conforms": self.conforms,
            "total": self.total,
            "mismatches": self.mismatches,
            "lsb": {str(k): v for k, v in self.histogram.items()},
            "at": self.at,
            "first": None if self.first is None else list(self.first),
            "want": plain(self.want),
            "got": plain(self.got),
            "where": list(self.where),
            "error": self.error,
        }

    def __str__(self) -> str:
        if self.error:
            return f"{self.name}  UNREADABLE  {self.error}"
        if not self.total:
            return f"{self.name}  NOTHING COMPARED"
        where = [f"where     {line}" for line in self.where]
        if not self.mismatches:
            head = f"{self.name}  conforms  {self.total} / {self.total}"
            return "\n".join([head, *where])
        share = 100 * self.mismatches / self.total
        head = (
            f"{self.name}  MISMATCH  {self.mismatches} / {self.total} ({share:.3g} %)"
        )
        return "\n".join([head, *self.details(), *where])

    def details(self) -> list[str]:
        """Return the first mismatch and the histogram, where there are any."""
        if self.first is None:
            return []
        at = f"[{', '.join(map(str, self.first))}]" if self.first else ""
        at = self.at + at
        lsb = "   ".join(
            f"{bin_name(k)}: {v}" for k, v in sorted(self.histogram.items())
        )
        return [
            f"first     {at}   want {self.want}   got {self.got}",
            f"lsb       {lsb}",
        ]


def bin_name(units: int) -> str:
    """Return the name of a bin of the histogram; those at the ends collect the rest.

    >>> bin_name(0), bin_name(-1), bin_name(9)
    ('0', '-1', '>= +9')
    """
    if abs(units) == MOST_UNITS:
        return f"{'<=' if units < 0 else '>='} {units:+d}"
    return f"{units:+d}" if units else "0"


def compare(
    got: npt.ArrayLike,
    want: npt.ArrayLike,
    *,
    name: str = "output",
    policy: str = "exact",
    bound: npt.ArrayLike | None = None,
) -> Comparison:
    """Compare two arrays of one shape, element by element.

    policy: ``exact``, ``lsb(k)`` for integers, ``ulp(k)`` for floats, or ``bound``: by
    at most ``bound``, broadcast to the arrays. NaN equals NaN.

    >>> print(compare(np.array([1, 3, 5]), np.array([1, 2, 5])))
    output  MISMATCH  1 / 3 (33.3 %)
    first     y[1]   want 2   got 3
    lsb       0: 2   +1: 1
    """
    got, want = np.asarray(got), np.asarray(want)
    complaint = unlike(got, want)
    if complaint:
        return Comparison(name, 0, 0, error=complaint)
    same = within_policy(got, want, policy, bound)
    missed = int(same.size - np.count_nonzero(same))
    if not missed:
        return Comparison(name, got.size, 0, {0: got.size} if got.size else {})
    first = tuple(int(i) for i in np.unravel_index(int(np.argmin(same)), same.shape))
    return Comparison(
        name,
        got.size,
        missed,
        histogram(got, want),
        first,
        want=want[first],
        got=got[first],
        where=tuple(pattern(~same)),
    )


def unlike(got: Array, want: Array) -> str:
    """Say why two arrays cannot be compared; "" if they can."""
    if got.shape != want.shape:
        return f"shape {got.shape}, want {want.shape}"
    for name, array in (("got", got), ("want", want)):
        if array.dtype.kind not in "biuf":
            return f"{name} has dtype {array.dtype}, which is no number"
    return ""


def within_policy(
    got: Array, want: Array, policy: str, bound: npt.ArrayLike | None = None
) -> Bool:
    """Return where ``got`` is as near to ``want`` as the policy allows.

    Raises ValueError for an unknown policy.
    """
    same = equal(got, want)
    if policy == "exact":
        return same
    if policy == "bound":
        if bound is None:
            raise ValueError('policy "bound" needs bound=')
        with np.errstate(invalid="ignore"):
            gap = np.abs(got.astype(np.float64) - want.astype(np.float64))
        return np.asarray(same | (gap <= np.asarray(bound)))
    units_allowed = re.fullmatch(r"(lsb|ulp)\((\d+)\)", policy)
    if not units_allowed:
        raise ValueError(
            f"policy must be 'exact', 'lsb(k)', 'ulp(k)' or 'bound', got {policy!r}"
        )
    away = units(got, want) if units_allowed[1] == "ulp" else got.astype(float) - want
    return np.asarray(same | (np.abs(away) <= int(units_allowed[2])))


def units(got: Array, want: Array) -> Array:
    """Return got - want in units of the last place, as float64; of codes, the codes.

    Codes are integers, also where they arrive as floats.

    >>> units(np.float32([1.0]), np.nextafter(np.float32([1.0]), np.float32(2)))
    array([-1.])
    """
    if got.dtype.kind in "iub" or want.dtype.kind in "iub" or whole(got, want):
        with np.errstate(invalid="ignore"):  # infinity - infinity
            return np.subtract(got, want, dtype=np.float64)
    dtype = np.result_type(got, want)
    if dtype not in (np.float32, np.float64):
        dtype = np.dtype(np.float64)
    a, b = (float_ranks(x.astype(dtype)) for x in (got, want))
    away = a.astype(np.float64) - b.astype(np.float64)
    with np.errstate(over="ignore"):
        return np.where(np.abs(away) < 2.0**52, (a - b).astype(np.float64), away)


def whole(*arrays: Array) -> bool:
    """Return whether floats are codes: whole numbers, or no numbers at all.

    >>> whole(np.array([3.0, np.nan])), whole(np.array([3.0, 2.5]))
    (True, False)
    """
    return all(bool(np.all((a == np.rint(a)) | ~np.isfinite(a))) for a in arrays)


def float_ranks(x: Array) -> Array:
    """Map floats to integers in the same order, neighbours to neighbours, 0 to 0."""
    bits = x.view(f"i{x.itemsize}").astype(np.int64)
    least = np.int64(np.iinfo(f"i{x.itemsize}").min)
    return np.where(bits < 0, least - bits, bits)


def histogram(got: Array, want: Array) -> dict[int, int]:
    """Count the differences; beyond 9 units the ends collect the rest.

    >>> histogram(np.array([1, 5]), np.array([1, 3]))
    {0: 1, 2: 1}
    """
    most = MOST_UNITS
    away = np.nan_to_num(units(got, want), nan=most)
    steps = np.clip(np.rint(away), -most, most).astype(np.int8).ravel()
    counts = np.bincount(steps + most)
    return {int(i) - most: int(counts[i]) for i in np.flatnonzero(counts)}


def pattern(wrong: Bool) -> list[str]:
    """Say where the mismatches lie: channels, border, last row or column.

    wrong: (...), channels on axis 1
    """
    side = last_line(wrong) or border(wrong) or positions(wrong)
    return [line for line in (channels(wrong), side) if line]


def positions(wrong: Bool) -> str:
    """Say so if every mismatch is in a tail, or at every k-th element of a vector.

    >>> positions(np.arange(37) >= 32)
    'all among the last 5 of 37 elements -> remainder of a vector loop'
    """
    n, places = wrong.size, np.flatnonzero(wrong)
    if n < 2 * FEW or len(places) < 2:
        return ""
    for lanes in (64, 32, 16, 8, 4):
        tail = n % lanes
        if 1 < tail < n / 2 and places[0] >= n - tail and len(places) > tail / 2:
            where = f"all among the last {tail} of {n} elements"
            return f"{where} -> remainder of a vector loop"
    if wrong.ndim != 1 or len(places) < FEW or np.all(wrong):
        return ""
    for lanes in (16, 8, 4, 2):
        rest = np.unique(places % lanes)
        if len(rest) == 1 and len(places) > n / lanes / 2:
            return f"all at positions {rest[0]} modulo {lanes} -> lanes of a vector"
    return ""


def channels(wrong: Bool) -> str:
    """Name the channels, if the mismatches keep to few of them, some to each."""
    if wrong.ndim < 2 or wrong.shape[1] < 2:
        return ""
    axes = tuple(a for a in range(wrong.ndim) if a != 1)
    hit = np.flatnonzero(wrong.any(axis=axes))
    few = min(SHOWN_CHANNELS, wrong.shape[1] // 2, np.count_nonzero(wrong) // 2)
    if len(hit) > few:
        return ""
    if len(hit) == 1:
        return f"all on channel {hit[0]} of axis 1 -> a parameter of that channel"
    return f"all on channels {', '.join(map(str, hit))} of axis 1 -> their parameters"


def border(wrong: Bool) -> str:
    """Say so if every mismatch is on the border of its plane."""
    if wrong.ndim != 4 or min(wrong.shape[2:]) < 3 or wrong[:, :, 1:-1, 1:-1].any():
        return ""
    return "all on the border of the planes -> padding"


def last_line(wrong: Bool) -> str:
    """Say so if every mismatch is in the last row or the last column."""
    if wrong.ndim != 4 or min(wrong.shape[2:]) < 2 or wrong[:, :, :-1, :-1].any():
        return ""
    return "all in the last row or column -> stride, ceil or padding there"


def plain(value: Any) -> Any:
    """Return a number that JSON can hold."""
    if value is None or not np.isscalar(value):
        return None
    number = value.item() if hasattr(value, "item") else value
    return number if np.isfinite(number) else repr(number)
