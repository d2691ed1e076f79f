"""Replace a file whole or not at all; append a line of JSON."""

import json
import os
import re
import secrets
import socket
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

from refqnn.files.reading import StrPath


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
    try:
        with Path(path).open("ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                line = line if file.read() == b"\n" else f"\n{line}"
            file.write(line.encode())
            file.flush()
            if sync:
                os.fsync(file.fileno())
    except OSError as error:  # of a full disk: its message names no file
        why = f"cannot append, earlier lines are intact: {error.strerror or error}"
        raise OSError(error.errno, why, os.fspath(path)) from error
