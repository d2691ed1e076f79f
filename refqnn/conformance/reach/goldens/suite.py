"""A suite of goldens: calls with the outputs that somebody recorded.

The score of a suite answers "does any case fail if this wrong semantics is swapped in?"
for every answer of every axis. The semantics that recorded the outputs is found first:
the variant that gives most of them, of several the nearest to refqnn.
"""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, final

from refqnn.conformance.choices.families import family_of
from refqnn.conformance.choices.family import Choices, Family, Inputs, Outputs
from refqnn.conformance.choices.semantics import deviations_text
from refqnn.conformance.reach.blindness import Blindness, blindness
from refqnn.conformance.reach.goldens import (
    cmsis_layers,
    onnx_directories,
    tosa_descriptors,
)
from refqnn.conformance.reach.goldens.golden import Golden, reason
from refqnn.conformance.reach.packs import Case, Pack
from refqnn.files import Unreadable

#: a variant gives the recorded outputs of a case, gives others, or raises
GIVES, DIFFERS, REFUSES = "gives", "differs", "refuses"
Reader = Callable[[Path], Golden]


@final
@dataclass(frozen=True)
class Suite:
    """Goldens that were read; files that were not, with the reason."""

    goldens: tuple[Golden, ...]
    unread: Mapping[str, str] = field(default_factory=dict)

    def groups(self) -> dict[tuple[str, str], list[Golden]]:
        """Return the goldens by family and by what they declare."""
        groups: dict[tuple[str, str], list[Golden]] = {}
        for golden in self.goldens:
            groups.setdefault((golden.family, golden.declared), []).append(golden)
        return groups

    def reasons(self) -> str:
        """Return the reasons why files were not read, the most frequent first."""
        counts = Counter(self.unread.values()).most_common()
        first = {why: name for name, why in reversed([*self.unread.items()])}
        return "\n".join(
            f"not read: {n} ({first[why]}{', ...' if n > 1 else ''}): {why}"
            for why, n in counts
        )


class Sight(NamedTuple):
    """How many cases fail if one answer is another."""

    axis: str
    value: str
    seen: int


@final
@dataclass(frozen=True)
class Score:
    """How many cases of one family fail under each answer; ``str`` is a table."""

    family: str
    declared: str
    cases: int
    #: the variant that gives most of the recorded outputs
    recorder: Mapping[str, str]
    #: cases whose outputs it does not give
    unexplained: tuple[str, ...]
    sights: tuple[Sight, ...]
    #: variants that some case tells from the recorder, of those that are others
    detected: int
    others: int
    blind_to: Blindness

    @property
    def blind(self) -> list[Sight]:
        """The answers that no case sees."""
        return [sight for sight in self.sights if not sight.seen]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "family": self.family,
            "declared": self.declared,
            "cases": self.cases,
            "recorder": dict(self.recorder),
            "unexplained": list(self.unexplained),
            "seen": [sight._asdict() for sight in self.sights],
            "detected": self.detected,
            "variants": self.others,
        } | self.blind_to.as_dict()

    def __str__(self) -> str:
        default = family_of(self.family).default
        declared = f" ({self.declared})" if self.declared else ""
        given = self.cases - len(self.unexplained)
        recorder = deviations_text(self.recorder, default)
        lines = [
            (
                f"{self.family}{declared}: {self.cases} cases, "
                f"{self.detected} / {self.others} variants detected"
            ),
            f"  recorded by: {recorder}, {given} / {self.cases}",
            *(f"  not recorded by it: {name}" for name in self.unexplained),
        ]
        for axis, value, seen in self.sights:
            note = "" if seen else "   no case sees it"
            lines.append(f"  {axis:18} {value:24} {seen} / {self.cases}{note}")
        lines += [f"  {line}" for line in str(self.blind_to).splitlines()]
        return "\n".join(lines)


def read(path: str | os.PathLike[str]) -> Suite:
    """Read every golden below a folder: ONNX directories, TOSA descriptors, C headers.

    What cannot be read is listed with the reason. Raises Unreadable for a folder that
    holds no golden at all.
    """
    root = Path(path)
    if not root.is_dir():
        raise Unreadable(f"{root} is not a folder")
    readers: tuple[tuple[str, Reader], ...] = (
        ("**/model.onnx", onnx_directories.read_directory),
        ("**/desc.json", tosa_descriptors.read_descriptor),
        ("**/config_data.h", cmsis_layers.read_layer),
    )
    goldens, unread = list[Golden](), dict[str, str]()
    for pattern, reader in readers:
        for file in sorted(root.glob(pattern)):
            name = file.parent.relative_to(root).as_posix()
            name = root.name if name == "." else name
            try:
                goldens.append(reader(file.parent)._replace(name=name))
            except Exception as error:  # noqa: BLE001 - foreign files may be anything
                unread[name] = reason(error)
    if not goldens and not unread:
        raise Unreadable(
            f"{root} holds no model.onnx with test_data_set_*, no desc.json and no "
            "config_data.h"
        )
    return Suite(tuple(goldens), unread)


def score(suite: Suite) -> list[Score]:
    """Count, family by family, how many cases fail under every other answer."""
    return [score_group(goldens) for goldens in suite.groups().values()]


def score_group(goldens: Sequence[Golden]) -> Score:
    """Find the variant that recorded a group, then count failures for every other."""
    family = family_of(goldens[0].family)
    near = family.neighbours(family.default, len(family.axes))
    reactions = dict[tuple[str, ...], list[str]]()

    def reactions_of(variant: Choices) -> list[str]:
        one = family.canonical(variant)  # of those that are one function
        key = tuple(one[axis] for axis in family.axes)
        if key not in reactions:
            reactions[key] = [reaction(family, one, golden) for golden in goldens]
        return reactions[key]

    recorder = max(near, key=lambda v: reactions_of(v).count(GIVES))
    mine = reactions_of(recorder)
    given = [i for i, word in enumerate(mine) if word == GIVES]

    def seen(variant: Choices) -> int:
        words = reactions_of(variant)
        return sum(words[i] != GIVES for i in given)

    same = family.canonical(recorder)
    others = [v for v in near if family.canonical(v) != same]
    flips = (
        (axis, value, {**recorder, axis: value})
        for axis, value in family.single_deviations(recorder)
    )
    return Score(
        family.name,
        goldens[0].declared,
        len(goldens),
        recorder,
        tuple(g.name for g, word in zip(goldens, mine, strict=True) if word != GIVES),
        tuple(
            Sight(axis, value, seen(variant))
            for axis, value, variant in flips
            if family.canonical(variant) != same
        ),
        sum(seen(v) > 0 for v in others),
        len(others),
        blindness(family.name, [golden.inputs for golden in goldens], from_files=True),
    )


def reaction(family: Family, variant: Choices, golden: Golden) -> str:
    """Return GIVES, DIFFERS or REFUSES for a variant and the inputs of a golden."""
    try:
        outputs = family.evaluate(variant, **golden.inputs)
    except ValueError:
        return REFUSES
    return GIVES if family.same(outputs, golden.outputs) else DIFFERS


def as_packs(suite: Suite) -> list[Pack]:
    """Return a pack for each group, its outputs as recorded."""
    return [as_pack(goldens) for goldens in suite.groups().values()]


def as_pack(goldens: Sequence[Golden]) -> Pack:
    """Return the goldens of a group under the semantics that recorded them."""
    family, recorder = family_of(goldens[0].family), score_group(goldens).recorder
    policy = "bound" if family.close else "exact"
    cases = tuple(
        Case(
            golden.name.replace("/", "."),
            golden.inputs,
            golden.outputs,
            policy,
            revealed_deviations(family, recorder, golden.inputs, golden.outputs),
        )
        for golden in goldens
    )
    return Pack(family.name, goldens[0].declared or "foreign", recorder, cases)


def revealed_deviations(
    family: Family, recorder: Choices, inputs: Inputs, outputs: Outputs
) -> tuple[str, ...]:
    """List the single deviations ``AXIS = VALUE`` under which a case fails."""
    golden = Golden("", family.name, inputs, outputs)
    return tuple(
        f"{axis} = {value}"
        for axis, value in family.single_deviations(recorder)
        if reaction(family, {**recorder, axis: value}, golden) == DIFFERS
    )
