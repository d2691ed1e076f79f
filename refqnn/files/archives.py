"""Arrays in npz and npy files: read without pickles, written as NumPy writes them."""

import hashlib
import io
import json
import math
import os
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import numpy as np

from refqnn._types import Array
from refqnn.files.reading import (
    StrPath,
    Unreadable,
    most,
    open_file,
    parse_object,
    read_bytes,
)
from refqnn.files.writing import write_whole

#: kinds of dtypes that are read: truth values, integers, floats, text
KINDS = "biufU"
#: bytes that are read at once: a stream that grows is stopped after so many
CHUNK = 2**20
#: of a member: encrypted
ENCRYPTED = 1


def write_npz(
    path: StrPath,
    entries: Mapping[str, Array],
    header: Mapping[str, Any] | None = None,
) -> None:
    """Replace a file by arrays, uncompressed, with the bytes of ``np.savez``.

    A header is the last entry: a text of JSON called ``json``. Raises ValueError for
    arrays of objects, which only a pickle could hold.
    """
    every = dict(entries) if header is None else {**entries, **header_entry(header)}

    def write(file: BinaryIO) -> None:
        with zipfile.ZipFile(file, "w") as archive:
            for name, array in every.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(
                        member, np.asanyarray(array), allow_pickle=False
                    )

    write_whole(path, write)


def header_entry(header: Mapping[str, Any]) -> dict[str, Array]:
    """Make the entry "json" of an npz file, which holds its header as text.

    >>> header_entry({"format": "a 1"})
    {'json': array('{"format": "a 1"}', dtype='<U17')}
    """
    return {"json": np.array(json.dumps(header))}


def read_npz(path: StrPath) -> dict[str, Array]:
    """Read the arrays of an npz file; no pickles, nothing larger than ``most``."""
    with open_file(path) as file:
        return arrays_of(file, os.fspath(path))


def parse_npz(content: bytes, name: str) -> dict[str, Array]:
    """Read the arrays of the bytes of an npz file; ``name`` stands in errors.

    >>> parse_npz(b"", "a.npz")
    Traceback (most recent call last):
        ...
    refqnn.files.reading.Unreadable: a.npz is not an npz file but empty; pickles ...
    """
    return arrays_of(io.BytesIO(content), name)


def read_headed(
    path: StrPath, form: str | None
) -> tuple[dict[str, Any], dict[str, Array]]:
    """Read the header of an npz file, which must say the format ``form``, and the rest.

    A ``form`` of None accepts any header, and none: {}.
    """
    arrays = read_npz(path)
    name = os.fspath(path)
    kind = "a file with a header" if form is None else f"a {form!r}"
    if "json" not in arrays:
        if form is None:
            return {}, arrays
        raise Unreadable(f"{name} is not {kind}: no header")
    text = arrays.pop("json")
    if text.shape or text.dtype.kind != "U":
        raise Unreadable(f"{name} is not {kind}: no header, but {text.dtype}")
    header = parse_object(str(text), f"{name} is not {kind}: its header")
    if form is not None and header.get("format") != form:
        raise Unreadable(f"{name} is not {kind}, but {header.get('format')!r:.60}")
    return header, arrays


def arrays_of(file: BinaryIO, name: str) -> dict[str, Array]:
    """Read every member of an archive as an array."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    start = file.read(2)
    if start != b"PK":
        kind = "a pickle" if start[:1] == b"\x80" else "another kind of file"
        kind = kind if start else "empty"
        raise Unreadable(
            f"{name} is not an npz file but {kind}; pickles are never read"
        )
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            check_members(members, most(size), name)
            return {
                member.filename.removesuffix(".npy"): array_of(
                    content_of(archive, member, name), f"{name}, {member.filename},"
                )
                for member in members
            }
    except Unreadable:
        raise
    except Exception as error:  # zipfile, zlib and struct each raise their own kinds
        raise Unreadable(
            f"{name} is not a whole npz file of plain arrays: {error}"
        ) from error


def check_members(members: list[zipfile.ZipInfo], bound: int, name: str) -> None:
    """Raise before anything is decompressed: sizes, names and kinds of compression."""
    if (total := sum(member.file_size for member in members)) > bound:
        raise Unreadable(f"{name} grows to {total} bytes, more than {bound}")
    seen = set[str]()
    for member in members:
        if member.filename in seen:
            raise Unreadable(f"{name} holds {member.filename!r} twice")
        seen.add(member.filename)
        kinds = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
        if member.compress_type not in kinds or member.flag_bits & ENCRYPTED:
            raise Unreadable(
                f"{name}, {member.filename}, is neither stored nor deflated"
            )


def content_of(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> bytes:
    """Read a member, chunk by chunk, so that none grows beyond its declared size."""
    chunks = []
    left = member.file_size
    with archive.open(member) as file:
        while left and (chunk := file.read(min(left, CHUNK))):
            chunks.append(chunk)
            left -= len(chunk)
        file.read(1)  # at its end the checksum is compared
    if left:
        raise Unreadable(f"{name}, {member.filename}, ends {left} bytes early")
    return b"".join(chunks)


def array_of(content: bytes, name: str) -> Array:
    """Read the bytes of an .npy file, which must be as many as its header announces."""
    if not content.startswith(np.lib.format.MAGIC_PREFIX):
        raise Unreadable(f"{name} is no array: it begins with {content[:8]!r}")
    file = io.BytesIO(content)
    try:
        shape, dtype = read_array_header(file)
    except Exception as error:  # a header is a Python literal: anything may be in it
        raise Unreadable(f"{name} is no whole array: {error}") from error
    if dtype.hasobject:
        raise Unreadable(f"{name} holds objects, a pickle; pickles are never read")
    if dtype.kind not in KINDS:
        raise Unreadable(
            f"{name} holds {dtype}, neither truth values, integers, floats nor text"
        )
    size, held = math.prod(shape) * dtype.itemsize, len(content) - file.tell()
    if size != held or min(shape, default=0) < 0:
        raise Unreadable(f"{name} announces {shape} of {dtype}, holds {held} bytes")
    file.seek(0)
    try:
        return np.asarray(np.lib.format.read_array(file, allow_pickle=False))
    except (ValueError, OverflowError) as error:  # sizes beyond an address
        raise Unreadable(f"{name} is no whole array: {error}") from error


def read_array_header(file: BinaryIO) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Read the header of an .npy file: shape and dtype."""
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    version = np.lib.format.read_magic(file)
    if version not in readers:
        raise ValueError(f"its version is {version}, neither (1, 0) nor (2, 0)")
    shape, _, dtype = readers[version](file)
    return shape, dtype


def read_npy(path: StrPath) -> Array:
    """Read the array of an .npy file; no pickles."""
    return array_of(read_bytes(path), os.fspath(path))


def check_like(arrays: Mapping[str, Array], want: Mapping[str, Array]) -> None:
    """Raise ValueError unless every array of ``want`` is there in shape and kind.

    >>> check_like({"x": np.ones(2)}, {"x": np.ones(3)})
    Traceback (most recent call last):
        ...
    ValueError: 'x' must be (3,) of kind 'f', is (2,) of kind 'f'
    """
    for name, array in want.items():
        if name not in arrays:
            raise ValueError(f"{name!r} is missing")
        shape, kind = arrays[name].shape, arrays[name].dtype.kind
        if (shape, kind) != (array.shape, array.dtype.kind):
            raise ValueError(
                f"{name!r} must be {array.shape} of kind {array.dtype.kind!r}, "
                f"is {shape} of kind {kind!r}"
            )


def head_of(name: str, array: Array) -> str:
    """Join name, dtype and shape of an array by spaces."""
    return f"{name} {array.dtype.str} {array.shape}"


def digest(
    text: str,
    arrays: Mapping[str, Array] | None = None,
    head: Callable[[str, Array], str] = head_of,
) -> str:
    """SHA-256 of a text, then of every array: its head and its bytes, sorted by name.

    >>> digest("")[:8]
    'e3b0c442'
    """
    total = hashlib.sha256(text.encode())
    for name, array in sorted((arrays or {}).items()):
        total.update(head(name, array).encode())
        total.update(array.tobytes())
    return total.hexdigest()
