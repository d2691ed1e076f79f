"""Files: written whole or not at all, and read without trust; the one place for both.

    write_bytes, write_text, write_json, write_lines, write_npz    replace a file
    append_line                                                    add a line of JSON
    read_bytes, read_json, read_lines, read_npz, read_headed       raise ``Unreadable``
    parse_json, parse_npz                                          the same from memory
    digest                                                         SHA-256 of arrays

Whoever writes makes a temporary file beside the target, flushes it to disk, moves it
into place and flushes the folder: after a kill or a power cut there is the earlier file
or the new one. What a killed process has left is removed by the next write of the file.

Whoever reads unpickles nothing, and allocates nothing that a file only announces: no
more than ``most`` of its size, and no JSON nested deeper than ``DEEPEST``. Whatever is
wrong with the content is one error, ``Unreadable``, which names the file and the place.
"""

import gzip
import hashlib
import io
import json
import math
import os
import re
import secrets
import socket
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:  # NumPy is loaded by whoever hands an array over
    import numpy as np

    from refqnn._types import Array

StrPath = str | os.PathLike[str]

#: levels of lists and objects in a file of JSON
DEEPEST = 64
#: bytes of a file of JSON
LARGEST_JSON = 2**28
#: kinds of dtypes that are read: truth values, integers, floats, text
KINDS = "biufU"
#: bytes that are read at once: a stream that grows is stopped after so many
CHUNK = 2**20
#: of a member: encrypted
ENCRYPTED = 1


class Unreadable(ValueError):  # noqa: N818 - says what the file is
    """A file that is damaged or of another kind; the command line leaves with 4."""

    exit_code = 4


def most(size: int) -> int:
    """4 size + 64 MiB: the bytes that a compressed file of ``size`` bytes may grow to.

    >>> most(0)
    67108864
    """
    return 4 * size + 2**26


# ---------------------------------------------------------------- writing


def write_whole(path: StrPath, write: Callable[[BinaryIO], object]) -> None:
    """Call ``write`` with a temporary file, which then replaces ``path``.

    A link stays one: the file it points to is replaced. What is no regular file, such
    as /dev/null, is written to. Raises OSError, naming the path, where the file cannot
    be written; an earlier file is intact then.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        with target.open("wb") as file:
            write(file)
        return
    remove_leftovers(target)
    temporary = target.with_name(
        f".{target.name}.{host()}-{os.getpid()}-{secrets.token_hex(4)}.part"
    )
    try:
        try:
            with temporary.open("xb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OSError(
            error.errno,
            f"cannot write, an earlier file is intact: {error.strerror or error}",
            os.fspath(path),
        ) from error
    flush_folder(target.parent)


def host() -> str:
    """Name this machine with letters, digits and underscores only."""
    return re.sub(r"\W", "_", socket.gethostname(), flags=re.ASCII)


def remove_leftovers(target: Path) -> None:
    """Remove the temporary files of ``target`` whose process, on this machine, died."""
    name = re.compile(
        rf"\.{re.escape(target.name)}\.{re.escape(host())}-(\d+)-[0-9a-f]{{8}}\.part"
    )
    if not target.parent.is_dir():  # the write that follows says so
        return
    for entry in target.parent.iterdir():
        match = name.fullmatch(entry.name)
        if match and not alive(int(match[1])):
            entry.unlink(missing_ok=True)


def alive(process: int) -> bool:
    """Say whether a process of this number runs; where nobody can say, it does.

    >>> alive(os.getpid())
    True
    """
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def flush_folder(folder: Path) -> None:
    """Make a rename in ``folder`` last through a power cut, where the system can."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_bytes(path: StrPath, content: bytes) -> None:
    """Replace a file by ``content``."""
    write_whole(path, lambda file: file.write(content))


def write_text(path: StrPath, text: str) -> None:
    """Replace a file by ``text`` in UTF-8."""
    write_bytes(path, text.encode())


def write_json(
    path: StrPath, value: object, *, indent: int = 1, sort_keys: bool = False
) -> None:
    """Replace a file by ``value`` in JSON and a line feed."""
    write_text(path, json.dumps(value, indent=indent, sort_keys=sort_keys) + "\n")


def write_lines(path: StrPath, records: Iterable[object]) -> None:
    """Replace a file by one line of JSON for each record."""
    write_text(path, "".join(json.dumps(record) + "\n" for record in records))


def append_line(path: StrPath, record: object, *, sync: bool = True) -> None:
    """Append a line of JSON, to disk if ``sync``; a line that was cut off is ended."""
    line = json.dumps(record) + "\n"
    with Path(path).open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            line = line if file.read() == b"\n" else f"\n{line}"
        file.write(line.encode())
        file.flush()
        if sync:
            os.fsync(file.fileno())


def write_npz(
    path: StrPath,
    entries: Mapping[str, "Array"],
    header: Mapping[str, Any] | None = None,
) -> None:
    """Replace a file by arrays, uncompressed, with the bytes of ``np.savez``.

    A header is the last entry: a text of JSON called ``json``. Raises ValueError for
    arrays of objects, which only a pickle could hold.
    """
    import numpy as np  # noqa: PLC0415 - --help answers without it

    every = dict(entries) if header is None else {**entries, **headed(header)}

    def write(file: BinaryIO) -> None:
        with zipfile.ZipFile(file, "w") as archive:
            for name, array in every.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(
                        member, np.asanyarray(array), allow_pickle=False
                    )

    write_whole(path, write)


def headed(header: Mapping[str, Any]) -> dict[str, "Array"]:
    """Make the entry of a header.

    >>> headed({"format": "a 1"})
    {'json': array('{"format": "a 1"}', dtype='<U17')}
    """
    import numpy as np  # noqa: PLC0415 - --help answers without it

    return {"json": np.array(json.dumps(header))}


# ---------------------------------------------------------------- reading


def read_bytes(path: StrPath, largest: int | None = None) -> bytes:
    """Read a file of at most ``largest`` bytes; if it is gzip, decompress it.

    What a compressed file may grow to is bounded by ``most`` and ``largest``.
    """
    with Path(path).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if largest is not None and size > largest:
            raise Unreadable(f"{path} has {size} bytes, more than {largest}")
        content = file.read(size + 1)
    if content[:2] != b"\x1f\x8b":
        return content
    bound = most(len(content)) if largest is None else min(most(len(content)), largest)
    try:
        with gzip.open(io.BytesIO(content)) as packed:
            grown = packed.read(bound + 1)
    except (EOFError, OSError, zlib.error) as error:
        raise Unreadable(f"{path} is not a whole gzip file: {error}") from error
    if len(grown) > bound:
        raise Unreadable(f"{path} grows to more than {bound} bytes")
    return grown


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
    refqnn.files.Unreadable: a.json is no JSON: Expecting ',' delimiter: line 1 ...
    """
    deep = f"{name} is JSON nested more than {DEEPEST} deep"
    try:
        value = json.loads(text)
    except RecursionError:
        raise Unreadable(deep) from None
    except ValueError as error:
        raise Unreadable(f"{name} is no JSON: {error}") from error
    level = [value]
    for _ in range(DEEPEST + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return value
    raise Unreadable(deep)


def parse_object(text: str | bytes, name: str) -> dict[str, Any]:
    """Decode JSON that is an object.

    >>> parse_object("[]", "line 3")
    Traceback (most recent call last):
        ...
    refqnn.files.Unreadable: line 3 is no JSON object: '[]'
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


def read_npz(path: StrPath) -> dict[str, "Array"]:
    """Read the arrays of an npz file; no pickles, nothing larger than ``most``."""
    with Path(path).open("rb") as file:
        return arrays_of(file, os.fspath(path))


def parse_npz(content: bytes, name: str) -> dict[str, "Array"]:
    """Read the arrays of the bytes of an npz file; ``name`` stands in errors.

    >>> parse_npz(b"", "a.npz")
    Traceback (most recent call last):
        ...
    refqnn.files.Unreadable: a.npz is not an npz file but empty; pickles are never read
    """
    return arrays_of(io.BytesIO(content), name)


def read_headed(
    path: StrPath, form: str | None
) -> tuple[dict[str, Any], dict[str, "Array"]]:
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


def arrays_of(file: BinaryIO, name: str) -> dict[str, "Array"]:
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


def array_of(content: bytes, name: str) -> "Array":
    """Read the bytes of an .npy file, which must be as many as its header announces."""
    import numpy as np  # noqa: PLC0415 - --help answers without it

    if not content.startswith(np.lib.format.MAGIC_PREFIX):
        raise Unreadable(f"{name} is no array: it begins with {content[:8]!r}")
    file = io.BytesIO(content)
    try:
        shape, dtype = announced(file)
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


def announced(file: BinaryIO) -> tuple[tuple[int, ...], "np.dtype[Any]"]:
    """Read the header of an .npy file: shape and dtype."""
    import numpy as np  # noqa: PLC0415 - --help answers without it

    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    version = np.lib.format.read_magic(file)
    if version not in readers:
        raise ValueError(f"its version is {version}, neither (1, 0) nor (2, 0)")
    shape, _, dtype = readers[version](file)
    return shape, dtype


def read_npy(path: StrPath) -> "Array":
    """Read the array of an .npy file; no pickles."""
    return array_of(read_bytes(path), os.fspath(path))


def head_of(name: str, array: "Array") -> str:
    """Join name, dtype and shape of an array by spaces."""
    return f"{name} {array.dtype.str} {array.shape}"


def digest(
    text: str,
    arrays: Mapping[str, "Array"] | None = None,
    head: Callable[[str, "Array"], str] = head_of,
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
