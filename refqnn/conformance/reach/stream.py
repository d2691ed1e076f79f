"""A pack as lines on a pipe: ``refqnn generate --stream | ./impl | refqnn verify -``.

One JSON object a line. The first is the header, which an implementation passes through:

    {"refqnn": "stream 1", "family": "requantize", "profile": "refqnn", "digest": ...}

Every other line is a call, numbered, its arguments by name; an elementwise family is
asked number by number, so that ``scanf`` reads a line. The answer is a line with the
same number and the outputs by name, in any order of lines:

    {"call": 0, "acc": 1, "multiplier": 1073741824, "shift": 0, ...}
    {"call": 0, "y": 1}

null, or no line, is a refusal. Infinities and NaN are spelled as Python's json does.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec
import numpy as np

from refqnn._types import Array
from refqnn.conformance.choices.families import Family, Inputs, family_of
from refqnn.conformance.reach.packs import Pack, generate
from refqnn.files import Unreadable, decode, parse_object

FORMAT = "stream 1"


class Header(msgspec.Struct):
    """The first line, beside its format."""

    family: str
    profile: str
    digest: str


class Call(NamedTuple):
    """One line: a whole case, or one element of it."""

    case: str
    #: place in the case, None: the whole
    element: int | None
    inputs: Inputs


def header(pack: Pack) -> dict[str, Any]:
    """Return the first line: the pack's family, profile and digest."""
    return {
        "refqnn": FORMAT,
        "family": pack.family,
        "profile": pack.profile,
        "digest": pack.manifest()["digest"],
    }


def calls(pack: Pack) -> list[Call]:
    """Return the calls in the order of their numbers."""
    of = family_of(pack.family)
    return [call for case in pack.cases for call in split(of, case.name, case.inputs)]


def split(of: Family, case: str, inputs: Inputs) -> Iterator[Call]:
    """Yield a case element by element, where the family is elementwise."""
    data = np.asarray(inputs[of.elementwise]) if of.elementwise else None
    if data is None or of.outputs != ("y",) or not data.ndim:
        yield Call(case, None, inputs)
        return
    whole = {k: np.broadcast_to(v, data.shape).ravel() for k, v in inputs.items()}
    for i in range(data.size):
        yield Call(case, i, {k: v[i] for k, v in whole.items()})


def lines(pack: Pack) -> Iterator[str]:
    """Yield the lines of a pack."""
    yield json.dumps(header(pack))
    for number, call in enumerate(calls(pack)):
        arguments = {k: np.asarray(v).tolist() for k, v in call.inputs.items()}
        yield json.dumps({"call": number} | arguments)


def read(source: Iterable[str]) -> tuple[Pack, dict[str, Array]]:
    """Read answers to a stream: its pack, and the outputs named ``CASE/NAME``.

    Raises Unreadable, naming the line, for what is no answer.
    """
    rows = [objects(i, line) for i, line in enumerate(source, 1) if line.strip()]
    if not rows or rows[0].get("refqnn") != FORMAT:
        raise Unreadable(
            "the first line is not the header of refqnn generate --stream: an "
            "implementation passes it through"
        )
    head = decode(rows[0], Header, "line 1")
    try:
        pack = generate(head.family, profile=head.profile)
    except (KeyError, ValueError) as error:
        raise Unreadable(f"the header names no pack: {error}") from error
    if head.digest != pack.manifest()["digest"]:
        raise Unreadable("the header is of a pack that this version does not generate")
    return pack, assemble(pack, rows[1:])


def objects(number: int, line: str) -> dict[str, Any]:
    """Return a line as a JSON object."""
    return parse_object(line, f"line {number}")


def assemble(pack: Pack, rows: Iterable[Mapping[str, Any]]) -> dict[str, Array]:
    """Join answers to arrays named ``CASE/NAME``; leave out incomplete ones."""
    asked = calls(pack)
    answers = by_number(rows, len(asked))
    shapes = {
        c.name: {k: np.shape(v) for k, v in c.outputs.items()} for c in pack.cases
    }
    parts: dict[str, Any] = {}
    for number, call in enumerate(asked):
        for name in shapes[call.case]:
            value = answers.get(number, {}).get(name)
            if value is None:
                continue
            array = as_array(number, value)
            if call.element is None:
                parts[f"{call.case}/{name}"] = array
            else:
                parts.setdefault(f"{call.case}/{name}", {})[call.element] = array
    return {
        key: value
        if isinstance(value, np.ndarray)
        else join_elements(value, shapes, key)
        for key, value in parts.items()
        if isinstance(value, np.ndarray) or whole(value, shapes, key)
    }


def by_number(
    rows: Iterable[Mapping[str, Any]], count: int
) -> dict[int, Mapping[str, Any]]:
    """Return the rows by the number of their call, each number once."""
    rows_by_number: dict[int, Mapping[str, Any]] = {}
    for row in rows:
        number = row.get("call")
        if type(number) is not int or not 0 <= number < count:
            raise Unreadable(f"call {number!r} is none of 0 to {count - 1}")
        if number in rows_by_number:
            raise Unreadable(f"call {number} is answered twice")
        rows_by_number[number] = row
    return rows_by_number


def as_array(number: int, value: Any) -> Array:
    """Return numbers, or nested lists of numbers, as an array."""
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise Unreadable(f"call {number}: {error}") from error
    if array.dtype.kind not in "biuf":
        raise Unreadable(f"call {number}: {value!r:.40} is no number")
    return array


Shapes = Mapping[str, Mapping[str, tuple[int, ...]]]


def whole(elements: Mapping[int, Array], shapes: Shapes, key: str) -> bool:
    """Return whether every element of a case was answered."""
    case, _, name = key.partition("/")
    return len(elements) == int(np.prod(shapes[case][name]))


def join_elements(elements: Mapping[int, Array], shapes: Shapes, key: str) -> Array:
    """Join the elements of one output, by place, to its array."""
    case, _, name = key.partition("/")
    flat = np.array([elements[i].item() for i in sorted(elements)])
    return flat.reshape(shapes[case][name])
