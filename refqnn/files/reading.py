"""Read bytes and JSON without trust: sizes are bounded, errors are of one kind."""

import gzip
import io
import json
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, TypeVar

import msgspec

StrPath = str | os.PathLike[str]
T = TypeVar("T")

#: levels of lists and objects in a file of JSON
DEEPEST = 64
#: bytes of a file of JSON, and of any other that is read into memory
LARGEST_JSON, LARGEST = 2**28, 2**31


class Unreadable(ValueError):  # noqa: N818 - says what the file is
    """A file that cannot be read, or is of another kind; a command leaves with 4."""

    exit_code = 4


class Absent(Unreadable, FileNotFoundError):  # noqa: N818 - says what the file is
    """A file that is not there."""


@contextmanager
def open_file(path: StrPath) -> Iterator[BinaryIO]:
    """Open a file to read its bytes; raise Unreadable for pipes, devices, folders.

    A pipe is not waited for.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError as error:
        raise Absent(f"{path} cannot be read: {error.strerror}") from error
    except OSError as error:
        raise Unreadable(f"{path} cannot be read: {error.strerror}") from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Unreadable(f"{path} cannot be read: it is not a regular file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            yield file
    finally:
        os.close(descriptor)


def printable(text: str) -> str:
    r"""Return text with control characters escaped: none reaches the terminal.

    >>> printable("red \x1b[31m")
    'red \\x1b[31m'
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def most(size: int) -> int:
    """4 size + 64 MiB: the bytes that a compressed file of ``size`` bytes may grow to.

    >>> most(0)
    67108864
    """
    return 4 * size + 2**26


def read_bytes(path: StrPath, largest: int = LARGEST) -> bytes:
    """Read a file of at most ``largest`` bytes; if it is gzip, decompress it.

    What a compressed file may grow to is bounded by ``most`` and ``largest``.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > largest:
            raise Unreadable(f"{path} has {size} bytes, more than {largest}")
        content = file.read(size + 1)
    if content[:2] != b"\x1f\x8b":
        return content
    bound = min(most(len(content)), largest)
    try:
        with gzip.open(io.BytesIO(content)) as packed:
            grown = packed.read(bound + 1)
    except (EOFError, OSError, zlib.error) as error:
        raise Unreadable(f"{path} is not a whole gzip file: {error}") from error
    if len(grown) > bound:
        raise Unreadable(f"{path} grows to more than {bound} bytes")
    return grown


def read_text(path: StrPath) -> str:
    """Read a file of text in UTF-8."""
    try:
        return read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise Unreadable(f"{path} is no text: {error}") from error


def read_json(path: StrPath, largest: int = LARGEST_JSON) -> Any:
    """Read a file of JSON in UTF-8."""
    return parse_json(read_bytes(path, largest), os.fspath(path))


def parse_json(text: str | bytes, name: str) -> Any:
    """Decode JSON nested at most ``DEEPEST`` deep; ``name`` stands in errors.

    >>> parse_json("[1, {}]", "a.json")
    [1, {}]
    >>> parse_json("[1", "a.json")
    Traceback (most recent call last):
        ...
    refqnn.files.reading.Unreadable: a.json is no JSON: Expecting ',' delimiter: ...
    """
    deep = f"{name} is JSON nested more than {DEEPEST} deep"
    try:
        value = json.loads(text)
    except RecursionError:
        raise Unreadable(deep) from None
    except ValueError as error:
        raise Unreadable(f"{name} is no JSON: {error}") from error
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(DEEPEST):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
    if level:
        raise Unreadable(deep)
    return value


def decode(value: Any, kind: type[T], name: str) -> T:
    """Convert a value of JSON to a declared type: a msgspec.Struct, ``dict[str, int]``.

    >>> decode({"a": 1}, dict[str, int], "a.json")
    {'a': 1}
    >>> decode({"a": True}, dict[str, int], "a.json")
    Traceback (most recent call last):
        ...
    refqnn.files.reading.Unreadable: a.json: Expected `int`, got `bool` - at `$[...]`
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise Unreadable(f"{name}: {error}") from error


def parse_object(text: str | bytes, name: str) -> dict[str, Any]:
    """Decode JSON that is an object.

    >>> parse_object("[]", "line 3")
    Traceback (most recent call last):
        ...
    refqnn.files.reading.Unreadable: line 3 is no JSON object: '[]'
    """
    value = parse_json(text, name)
    if not isinstance(value, dict):
        raise Unreadable(f"{name} is no JSON object: {text[:40]!r}")
    return value


def read_lines(path: StrPath) -> list[dict[str, Any]]:
    """Read a file of one JSON object a line; blank lines are left out."""
    lines = read_bytes(path, LARGEST_JSON).split(b"\n")
    return [
        parse_object(line, f"{os.fspath(path)}, line {number},")
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]
