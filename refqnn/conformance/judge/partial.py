"""Verdicts about a part: one question without a known answer, two rules side by side.

An axis is "none of the known" if the answers agree with variants wherever that axis
does not matter, and with none of its values for most inputs where it does. An array may
be computed by another rule than one element, but for the tail of its last vector.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from refqnn._types import Array, Bool
from refqnn.conformance.choices.family import REFUSED, Choices, Family, Inputs, Outputs
from refqnn.conformance.choices.variants import Table
from refqnn.conformance.judge.calls import Answered
from refqnn.conformance.judge.confirm import right, right_elements
from refqnn.conformance.judge.reproduce import call_text, wrong_values

#: an answer is unknown if no known one fits this share of the inputs that tell: one
#: that fits half of them, as with a sign lost, is right but for a region
FITS = 1 / 3
#: sets of other answers that are tried on whole arrays
TRIED = 60
#: inputs that are shown
SHOWN = 3
#: elements of the longest vector of a machine
VECTOR = 64


class UnknownAnswer(NamedTuple):
    """An axis without a known answer, and what holds of the others."""

    axis: str
    #: the variants that agree wherever the axis does not matter
    variants: list[dict[str, str]]
    #: inputs that tell, what was answered there, and what the known answers would be
    shown: str


class Row(NamedTuple):
    """Values of one axis under the same other answers, with where they differ."""

    members: list[int]
    #: outputs on which the values differ
    telling: int
    #: of these, on how many the best value is right
    fitted: int
    #: outputs on which they do not
    others: int


def unknown_answer(
    known: Table, answers: Mapping[int, Array], arrays: Sequence[Answered]
) -> UnknownAnswer | None:
    """Find the one axis of which no known answer fits; None where some answer does.

    ``answers`` are those to probes of the table, ``arrays`` whole calls.
    """
    candidates = [
        (row, axis)
        for axis, values in known.family.axes.items()
        if len(values) > 1
        for row in rows_of(known, axis, answers, arrays)[:1]
        if row.telling and row.fitted < FITS * row.telling and row.others
    ]
    if not candidates:
        return None
    _, axis = max(candidates, key=lambda pair: pair[0].others)
    rows = rows_of(known, axis, answers, arrays)
    left = [known.variants[v] for row in rows for v in row.members]
    return UnknownAnswer(axis, left, telling_inputs(known, axis, rows[0], answers))


def unknown_output(
    known: Table, answers: Mapping[int, Array], arrays: Sequence[Answered]
) -> UnknownAnswer | None:
    """Return the one output that no variant gives, where all others fit some variant.

    Only an output that is wrong nearly everywhere: one that is right but for a region
    is not unknown.
    """
    family = known.family
    for output in family.outputs if len(family.outputs) > 1 and arrays else ():
        left = [
            v
            for v in range(len(known.variants))
            if all(fits_but(known, v, output, *answer) for answer in answers.items())
        ]
        choices = survivors_but(
            family, [known.variants[v] for v in left], output, arrays
        )
        if choices and share_right(family, choices[0], output, arrays) < FITS:
            return UnknownAnswer(
                output, choices, first_wrong(family, choices[0], output, arrays)
            )
    return None


def first_wrong(
    family: Family, variant: Choices, output: str, arrays: Sequence[Answered]
) -> str:
    """Write the wrong values of an output in the first array that has some."""
    for call, got in arrays:
        want = family.evaluate(variant, **call)[output]
        wrong = ~right_elements(family, call, got[output], want).ravel()
        if wrong.any() and got[output].shape == want.shape:
            values = wrong_values(family, output, got[output], want)
            return f"{call_text(call)}   {values}"
    return ""


def fits_but(known: Table, variant: int, output: str, probe: int, got: Array) -> bool:
    """Return whether a variant gives an answer to a probe, one output aside."""
    like = known.family.evaluate(known.variants[variant], **known.probes[probe])
    kept = np.concatenate(
        [np.full(array.size, name != output) for name, array in like.items()]
    )
    want = known.outcomes[probe][variant]
    return bool(np.all(np.asarray(known.family.agree(got, want))[kept]))


def survivors_but(
    family: Family,
    variants: Sequence[dict[str, str]],
    output: str,
    arrays: Sequence[Answered],
) -> list[dict[str, str]]:
    """Return the variants that no array contradicts, one output aside."""
    left = list(variants)
    for call, got in arrays:
        kept = []
        for variant in left:
            parts = right(family, variant, call, got)
            if parts is not None and all(
                good.all() for name, good in parts.items() if name != output
            ):
                kept.append(variant)
        left = kept
    return left


def share_right(
    family: Family, variant: Choices, output: str, arrays: Sequence[Answered]
) -> float:
    """Return the share of an output's elements that agree with a variant's."""
    parts = [right(family, variant, *answer) or {} for answer in arrays]
    good = [part[output].ravel() for part in parts if part]
    return float(np.mean(np.concatenate(good)))


def rows_of(
    known: Table,
    axis: str,
    answers: Mapping[int, Array],
    arrays: Sequence[Answered],
) -> list[Row]:
    """Return the sets of other answers that hold wherever one axis does not matter."""
    groups = group_variants(known.variants, axis)
    want = np.concatenate([known.outcomes[p] for p in answers], axis=1)
    got = np.concatenate(list(answers.values()))
    agree = np.asarray(known.family.agree(got, want))
    first = np.empty(len(known.variants), np.int64)
    for members in groups:
        first[members] = members[0]
    apart = ~np.asarray(known.family.agree(want, want[first]))
    rows = []
    for members in groups:
        tells = apart[members].any(axis=0)
        if np.all(agree[members[0]] | tells):
            fitted = agree[members][:, tells].sum(axis=1).max(initial=0)
            rows.append(Row(members, int(tells.sum()), fitted, int((~tells).sum())))
    rows = sorted(rows, key=lambda row: -row.others)[:TRIED]
    for call, outputs in arrays:
        tried = [extend_row(known, row, call, outputs) for row in rows]
        rows = [row for row in tried if row is not None]
    return rows


def group_variants(variants: Sequence[Choices], axis: str) -> list[list[int]]:
    """Group variants that differ in one axis only.

    >>> group_variants([{"a": "0", "b": "0"}, {"a": "1", "b": "0"}], "a")
    [[0, 1]]
    """
    groups: dict[tuple[str, ...], list[int]] = {}
    for i, variant in enumerate(variants):
        others = tuple(value for name, value in variant.items() if name != axis)
        groups.setdefault(others, []).append(i)
    return list(groups.values())


def extend_row(known: Table, row: Row, call: Inputs, got: Outputs) -> Row | None:
    """Add the outputs of one call to a row; None where they contradict it."""
    family = known.family
    every = [family.outputs_or_none(known.variants[v], call) for v in row.members]
    wants = [want for want in every if want is not None]
    if len(wants) < len(every):
        return row
    telling, fitted, others = 0, np.zeros(len(wants), np.int64), 0
    for name in wants[0]:
        base = wants[0][name]
        tells: Bool = np.zeros(base.shape, bool)
        for want in wants[1:]:
            tells = tells | ~np.asarray(family.agree(want[name], base))
        good = [right_elements(family, call, got[name], want[name]) for want in wants]
        if good[0].shape != tells.shape or not np.all(good[0] | tells):
            return None
        telling += int(tells.sum())
        others += int((~tells).sum())
        fitted += np.array([int(each[tells].sum()) for each in good])
    best = row.fitted + int(fitted.max())
    return Row(row.members, row.telling + telling, best, row.others + others)


def telling_inputs(
    known: Table, axis: str, row: Row, answers: Mapping[int, Array]
) -> str:
    """Return some inputs at which an axis matters and no value fits, as text."""
    lines = []
    for probe, got in answers.items():
        want = known.outcomes[probe][row.members]
        if known.family.agree(got, want).all(axis=1).any():
            continue
        call = known.probes[probe]
        values = [known.variants[v][axis] for v in row.members]
        options = ", ".join(
            f"{value} {text(rows)}" for value, rows in zip(values, want, strict=True)
        )
        lines.append(f"{call_text(call)}: {text(got)} (known: {options})")
    return "; ".join(lines[:SHOWN])


def text(values: Array) -> str:
    """Return a few numbers as text.

    >>> text(np.array([1.0, -2.5]))
    '1 -2.5'
    """
    shown = " ".join(
        "an error" if v == REFUSED else f"{v:.6g}" for v in values[:4].tolist()
    )
    return f"{shown} ..." if len(values) > 4 else shown


def rule_of_vectors(
    family: Family,
    single: Choices,
    variants: Sequence[Choices],
    answers: Sequence[Answered],
) -> Choices | None:
    """Return the variant that whole vectors follow where one element follows another.

    Every output is right under one of both; beside the first but for arrays shorter
    than a vector, tails and layouts that are no vectors, under the one of vectors.
    """
    if not family.elementwise:
        return None
    return next(
        (
            variant
            for variant in variants
            if all(follows(family, single, variant, *answer) for answer in answers)
        ),
        None,
    )


def follows(
    family: Family, single: Choices, vector: Choices, call: Inputs, got: Outputs
) -> bool:
    """Return whether an array follows one rule in vectors and either in its tail."""
    one, many = (family.outputs_or_none(rule, call) for rule in (single, vector))
    if one is None or many is None:
        return False
    data = np.asarray(call[family.elementwise])
    whole = data.size - data.size % VECTOR if data.flags.c_contiguous else 0
    for name, want in many.items():
        good = right_elements(family, call, got[name], want)
        other = right_elements(family, call, got[name], one[name])
        if data.size > 1 and good.shape == data.shape:
            alone = np.arange(data.size).reshape(data.shape) >= whole
            good = good | (other & alone)
        elif data.size == 1:
            good = other
        if not good.all():
            return False
    return True
