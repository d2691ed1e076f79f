"""Replace a file whole or not at all; append a line of JSON."""

import errno
import json
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from refqnn.files.locking import host, remove_dead_lock
from refqnn.files.reading import StrPath

#: seconds after which a temporary file is left over, wherever it was written
OLD = 86_400.0


def write_whole(path: StrPath, write: Callable[[BinaryIO], object]) -> None:
    """Call ``write`` with a temporary file, which then replaces ``path``.

    A link stays one: the file it points to is replaced. What is no regular file, such
    as /dev/null, is written to. Raises OSError, naming the path, where the file cannot
    be written; an earlier file is intact then.
    """
    target = Path(os.path.realpath(path))
    if target.is_symlink():  # it leads to itself
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.fspath(path))
    if target.exists() and not target.is_file():
        with target.open("wb") as file:
            write(file)
        return
    remove_leftovers(target.parent)
    temporary = temporary_beside(target)
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


def temporary_beside(target: Path) -> Path:
    """Name a temporary file of this process beside ``target``."""
    return target.with_name(
        f".{target.name}.{host()}-{os.getpid()}-{secrets.token_hex(4)}.part"
    )


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that nobody will finish, of whatever target.

    Their process, on this machine, has died; or they are a day old. Locks of dead
    owners go, too.
    """
    name = re.compile(
        rf"\..+\.(?:{re.escape(host())}-(\d+)|\w+-\d+)-[0-9a-f]{{8}}\.part"
    )
    if not folder.is_dir():  # the write that follows says so
        return
    for entry in folder.iterdir():
        if entry.suffix == ".lock" and entry.name.startswith("."):
            remove_dead_lock(entry)
        if match := name.fullmatch(entry.name):
            dead = match[1] is not None and not alive(int(match[1]))
            with suppress(OSError):  # another process is removing it, or it may not go
                if dead or time.time() - entry.stat().st_mtime > OLD:
                    entry.unlink()


def check_writable(*paths: StrPath | None, keep: Iterable[StrPath | None] = ()) -> None:
    """Raise ValueError, before work starts, where a file cannot be written.

    A temporary file is made beside each and removed. Nor may two of ``paths`` be the
    same file, nor one of them a file of ``keep``, which is read.
    """
    taken = {os.path.realpath(path) for path in keep if path is not None}
    for path in paths:
        if path is None:
            continue
        target = Path(os.path.realpath(path))
        if target.exists() and not (target.is_file() or target.is_dir()):
            continue  # /dev/null
        if os.fspath(target) in taken:
            raise ValueError(f"cannot write {path}: it is another file of this command")
        taken.add(os.fspath(target))
        if target.is_dir():
            raise ValueError(f"cannot write {path}: it is a folder")
        if target.is_symlink():
            raise ValueError(f"cannot write {path}: {os.strerror(errno.ELOOP)}")
        check_takes_files(target, path)


def check_takes_files(target: Path, path: StrPath) -> None:
    """Raise ValueError, naming ``path``, unless files can be made beside ``target``."""
    temporary = temporary_beside(target)
    try:
        temporary.touch(exist_ok=False)
        temporary.unlink()
    except OSError as error:
        why = error.strerror or error
        raise ValueError(f"cannot write {path}, in {target.parent}: {why}") from error


def check_folder(path: StrPath | None) -> None:
    """Raise ValueError, before work starts, where a folder takes no files.

    One that is missing is not made; the nearest folder above it is asked.
    """
    if path is None:
        return
    target = Path(os.path.realpath(path))
    while not target.exists() and target != target.parent:
        target = target.parent
    check_takes_files(target / "file", path)


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
