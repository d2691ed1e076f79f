"""As much of JSON Schema as the schema of a pack uses.

type, required, properties, additionalProperties, items, minItems, minimum, enum, const
and pattern; an unknown keyword raises, so that a schema never asks for what nobody
checks.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

TYPES: dict[str, type] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "boolean": bool,
}
TITLES = {"$schema", "title", "description"}


def problems(
    value: Any, schema: Mapping[str, Any], where: str = "manifest"
) -> list[str]:
    """Return a line for everything in which a value does not follow a schema.

    >>> problems({"a": 1}, {"type": "object", "required": ["b"]})
    ["manifest lacks 'b'"]
    """
    return list(found(value, schema, where))


def found(value: Any, schema: Mapping[str, Any], where: str) -> Iterator[str]:
    """Yield what is wrong with a value, then with what it holds."""
    kind = schema.get("type")
    if kind and not is_of(value, kind):
        yield f"{where} is {type(value).__name__}, want {kind}"
        return
    for word, wanted in schema.items():
        if word not in KEYWORDS:
            raise ValueError(f"{where}: the schema says {word!r}, which is not checked")
        yield from KEYWORDS[word](value, wanted, where)
    if isinstance(value, dict):
        yield from members(value, schema, where)


def is_of(value: Any, kind: str) -> bool:
    """Return whether a value has a type; a bool is no integer."""
    return isinstance(value, TYPES[kind]) and (
        kind == "boolean" or not isinstance(value, bool)
    )


def members(
    value: Mapping[str, Any], schema: Mapping[str, Any], where: str
) -> Iterator[str]:
    """Yield what is wrong with the members of an object."""
    known, rest = schema.get("properties", {}), schema.get("additionalProperties", True)
    for name, member in value.items():
        rule = known.get(name, rest)
        if rule is False:
            yield f"{where} has {name!r}, which is not known"
        elif isinstance(rule, dict):
            yield from found(member, rule, f"{where}.{name}")


def lacks(value: Any, names: list[str], where: str) -> Iterator[str]:
    """Yield the members that are required and missing."""
    yield from (f"{where} lacks {name!r}" for name in names if name not in value)


def each(value: Any, rule: Mapping[str, Any], where: str) -> Iterator[str]:
    """Yield what is wrong with the items of an array."""
    for i, item in enumerate(value):
        yield from found(item, rule, f"{where}[{i}]")


def short(value: Any, least: int, where: str) -> Iterator[str]:
    """Yield a line for an array of too few items."""
    if len(value) < least:
        yield f"{where} has {len(value)} items, at least {least} are needed"


def small(value: Any, least: int, where: str) -> Iterator[str]:
    """Yield a line for a number that is too small."""
    if value < least:
        yield f"{where} is {value}, at least {least} is needed"


def other(value: Any, known: list[Any], where: str) -> Iterator[str]:
    """Yield a line for a value that is none of those known."""
    if value not in known:
        yield f"{where} is {value!r}, want one of {known}"


def unmatched(value: Any, pattern: str, where: str) -> Iterator[str]:
    """Yield a line for a string that does not match."""
    if not re.search(pattern, value):
        yield f"{where} is {value!r}, want {pattern}"


def nothing(*_: Any) -> Iterator[str]:
    """What is checked elsewhere, or only told."""
    return iter(())


KEYWORDS: dict[str, Any] = {
    **dict.fromkeys(TITLES, nothing),
    **dict.fromkeys(("type", "properties", "additionalProperties"), nothing),
    "required": lacks,
    "items": each,
    "minItems": short,
    "minimum": small,
    "enum": other,
    "const": lambda value, known, where: other(value, [known], where),
    "pattern": unmatched,
}
