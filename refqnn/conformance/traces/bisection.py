"""The first tensor of a trace that another implementation has differently.

The tensors before it agree, so the cause lies between them and it: in a sum of products
where an ``.accumulator`` differs, in a rounding where the accumulators agree and the
codes differ. What is not given is not judged, and said.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from refqnn._types import Array
from refqnn.conformance.traces.record import Record, Trace
from refqnn.deploy import Comparison
from refqnn.files import Unreadable

CONFORMS, MISMATCH, NOTHING_CHECKED = 0, 1, 3
#: differences that a report counts one by one, the most frequent ones
SHOWN = 9


@final
@dataclass(frozen=True, eq=False)
class Difference:
    """The first tensor that differs, and its first element that does."""

    name: str
    layer: str
    elements: int
    different: int
    #: other minus reference -> how often, the most frequent first; of integers only
    histogram: dict[int, int]
    #: the indices of axis 1 on which elements differ
    channels: list[int]
    at: tuple[int, ...]
    want: Any
    got: Any
    #: what the layer read in the reference, image ``at[0]`` only
    inputs: dict[str, Array]
    #: the call of refqnn that gives ``want``; empty where a number it needs is unknown
    reproduce: str

    def __str__(self) -> str:
        share = f"{100 * self.different / self.elements:.3g} %"
        counts = "  ".join(f"{d:+d}: {n}" for d, n in sorted(self.histogram.items()))
        place = ", ".join(map(str, self.at))
        read = ", ".join(f"{k}{a.shape}" for k, a in self.inputs.items())
        lines = [
            f"{self.name}  MISMATCH  {self.different} / {self.elements} ({share})",
            f"channels   {shorten(self.channels)}",
            f"layer      {self.layer}",
            f"first      [{place}]  want {self.want}  got {self.got}",
            f"lsb        {counts or 'not integers'}",
            f"inputs     {read or 'not recorded'}",
            f"reproduce  {self.reproduce}" if self.reproduce else "",
        ]
        return "\n".join(line for line in lines if line)


@final
@dataclass(frozen=True, eq=False)
class Bisection:
    """Where another trace leaves the reference."""

    compared: list[Comparison]
    first: Difference | None
    #: what could not be compared, and what differs beside values, a line each
    missing: list[str]
    extra: list[str]
    misfits: list[str]

    @property
    def exit_code(self) -> int:
        """0 conforms, 1 mismatch, 3 nothing was checked."""
        if self.first is not None or self.misfits:
            return MISMATCH
        return CONFORMS if self.compared else NOTHING_CHECKED

    def as_dict(self) -> Record:
        """Return the answer as plain values; inputs as nested lists."""
        first: Record | None = None
        if self.first is not None:
            first = dict(vars(self.first))
            first["histogram"] = {str(k): v for k, v in self.first.histogram.items()}
            first["inputs"] = {k: a.tolist() for k, a in self.first.inputs.items()}
        return {
            "conforms": self.exit_code == CONFORMS,
            "compared": [c._asdict() for c in self.compared],
            "first": first,
            "missing": self.missing,
            "extra": self.extra,
            "misfits": self.misfits,
        }

    def __str__(self) -> str:
        total = len(self.compared) + len(self.missing) + len(self.misfits)
        elements = sum(c.elements for c in self.compared)
        differ = [c for c in self.compared if c.different]
        lines = [
            *([str(self.first)] if self.first else []),
            *[f"also       {c.name}  {c.different} / {c.elements}" for c in differ[1:]],
            *self.misfits,
            *[f"missing    {name}: not judged" for name in self.missing],
            *[f"extra      {name}: not in the reference" for name in self.extra],
            f"compared   {len(self.compared)} of {total} tensors, {elements} elements",
        ]
        verdict = ("conforms", "MISMATCH", "", "NOTHING WAS CHECKED")[self.exit_code]
        return "\n".join([*lines, verdict])


def bisect(
    reference: Trace, other: Trace | Mapping[str, Array], *, any_dtype: bool = False
) -> Bisection:
    """Find the first tensor, in execution order, that ``other`` has differently.

    ``other`` may be a trace or a mapping from names to arrays. A tensor it lacks is not
    judged. One of another shape, or that holds no numbers, is a line among the
    ``misfits``, and so is one of another dtype unless ``any_dtype``; its values are
    compared all the same.

    >>> want = Trace({"conv": np.array([1, 2]), "pool": np.array([3, 4])})
    >>> found = bisect(want, {"conv": np.array([1, 2]), "pool": np.array([3, 5])})
    >>> found.first.name, found.first.at, found.first.histogram, found.exit_code
    ('pool', (1,), {0: 1, 1: 1}, 1)
    """
    theirs = other.tensors if isinstance(other, Trace) else other
    seen = Bisection(
        [],
        None,
        [name for name in reference.tensors if name not in theirs],
        [name for name in theirs if name not in reference.tensors],
        [],
    )
    first = None
    for name, want in reference.tensors.items():
        if name not in theirs:
            continue
        if want.dtype.kind not in "biuf":
            raise Unreadable(f"the reference {name!r} holds {want.dtype}, no numbers")
        got = np.asarray(theirs[name])
        seen.misfits.extend(misfits(name, want, got, any_dtype=any_dtype))
        if got.shape != want.shape or got.dtype.kind not in "biuf":
            continue
        differing = np.not_equal(want, got)
        seen.compared.append(Comparison(name, want.size, int(differing.sum())))
        if first is None and differing.any():
            first = difference(reference, name, got)
    return Bisection(seen.compared, first, seen.missing, seen.extra, seen.misfits)


def misfits(name: str, want: Array, got: Array, *, any_dtype: bool) -> list[str]:
    """Say what is wrong with a tensor before its values are looked at."""
    if got.dtype.kind not in "biuf":
        return [f"misfit     {name}: dtype {got.dtype} holds no numbers"]
    lines = []
    if got.shape != want.shape:
        lines.append(f"misshaped  {name}: {got.shape}, want {want.shape}")
    if got.dtype != want.dtype and not any_dtype:
        lines.append(f"dtype      {name}: {got.dtype}, want {want.dtype}")
    return lines


def difference(reference: Trace, name: str, got: Array) -> Difference:
    """Describe a tensor that differs, its first element with what it was made of."""
    want = reference.tensors[name]
    differing = np.not_equal(want, got)
    at = tuple(int(i) for i in np.argwhere(differing)[0])
    record = reference.manifest.get(name, {})
    axis = tuple(i for i in range(want.ndim) if i != 1)
    on = differing.any(axis=axis) if want.ndim > 1 else differing
    return Difference(
        name,
        str(record.get("layer", name)),
        want.size,
        int(differing.sum()),
        histogram(want, got),
        np.flatnonzero(on).tolist(),
        at,
        want[at].item(),
        got[at].item(),
        {
            source: reference.tensors[source][at[0] : at[0] + 1]
            for source in record.get("inputs", [])
            if source in reference.tensors
        },
        reproduction(reference, name, at),
    )


def histogram(want: Array, got: Array) -> dict[int, int]:
    """Return how often each difference occurs, the most frequent ones first.

    >>> histogram(np.array([1, 2, 3], np.uint8), np.array([0, 2, 3], np.uint8))
    {0: 2, -1: 1}
    """
    whole = np.isfinite(got) & (got == np.rint(got))
    if not np.all(whole & (np.abs(got.astype(np.float64)) < 2.0**53)):
        return {}
    values, counts = np.unique(
        got.astype(np.int64) - want.astype(np.int64), return_counts=True
    )
    order = np.argsort(-counts, kind="stable")[:SHOWN]
    return {int(values[i]): int(counts[i]) for i in order}


def reproduction(reference: Trace, name: str, at: tuple[int, ...]) -> str:
    """Return the call that gives one code from its accumulators.

    Of an accumulator, the name of the constants and of the input that it sums. Empty
    where the manifest lacks a number that the call needs.
    """
    record = reference.manifest.get(name, {})
    try:
        if record.get("kind") == "accumulator":
            used = ", ".join(record.get("constants", [])) or "no weights"
            return f"sum of {record['inputs'][0]} with {used}, output {list(at)}"
        return requantization(reference, record, at)
    except (KeyError, IndexError):
        return ""


def requantization(reference: Trace, record: Record, at: tuple[int, ...]) -> str:
    """Return the call of refqnn.integer; KeyError or IndexError for unknown numbers."""
    accs = [int(reference.tensors[source][at]) for source in record["inputs"]]
    keys = ("multiplier", "skip_multiplier")[: len(accs)]
    channel = at[1] if len(record["multiplier"]) > 1 else 0
    pairs = [
        f"np.array({acc}), {record[key][channel]}"
        for acc, key in zip(accs, keys, strict=False)
    ]
    if not pairs:
        return ""
    called = "requantize" if len(accs) == 1 else "requantize_add"
    rounding = record.get("rounding", "half_up")
    return (
        f"refqnn.integer.{called}({', '.join(pairs)}, {record['shift'][channel]}, "
        f"{record['zero_point']}, q_min={record['q_min']}, q_max={record['q_max']}, "
        f"rounding={rounding!r})"
    )


def shorten(numbers: list[int]) -> str:
    """Write the first eight numbers, and "..." for those left out.

    >>> shorten([1, 2]), shorten(list(range(20)))
    ('1, 2', '0, 1, 2, 3, 4, 5, 6, 7, ...')
    """
    return ", ".join([*map(str, numbers[:8]), *(["..."] if len(numbers) > 8 else [])])
