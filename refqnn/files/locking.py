"""Hold a file alone: of several processes that would do the same work, one does it."""

import errno
import os
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from refqnn.files.reading import StrPath

try:
    import fcntl
except ImportError:  # not POSIX: nobody waits
    fcntl = None  # type: ignore[assignment]


@contextmanager
def lock(path: StrPath | None) -> Iterator[bool]:
    """Hold ``path`` alone; others wait here until this one ends. Yield: it has waited.

    The lock is the system's, on a file .NAME.lock beside, so it ends with its owner,
    however that dies. Who waits says for whom on standard error. In a folder that takes
    no files, and where the system has no locks, nobody waits: the write that follows
    says what is wrong. A thread must not hold a path twice. None holds nothing.
    """
    place = None if path is None else lock_beside(path)
    descriptor, waited = (None, False) if place is None else acquire(place, path)
    try:
        yield waited
    finally:
        if place is not None and descriptor is not None:
            place.unlink(missing_ok=True)  # held still: whoever waits makes a new one
            os.close(descriptor)


def host() -> str:
    """Name this machine with letters, digits and underscores only."""
    return re.sub(r"\W", "_", socket.gethostname(), flags=re.ASCII)


def lock_beside(path: StrPath) -> Path:
    """Name the file whose lock is that of ``path``."""
    target = Path(os.path.realpath(path))
    return target.with_name(f".{target.name}.lock")


def acquire(place: Path, path: StrPath | None) -> tuple[int | None, bool]:
    """Open a lock file as its only owner, None without locks; say whether it waited."""
    waited = False
    while fcntl is not None:
        try:
            descriptor = os.open(place, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError:
            return None, waited
        try:
            waited |= wait_for(descriptor, path)
            if is_file(descriptor, place):
                owner = f"process {os.getpid()} on {host()}"
                with suppress(OSError):  # of a full disk: who waits learns less
                    os.pwrite(descriptor, f"{owner:<80}".encode(), 0)
                return descriptor, waited
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # the owner that was waited for has removed it
    return None, waited


def wait_for(descriptor: int, path: StrPath | None) -> bool:
    """Lock an open file; where it is held, say by whom, and wait: True."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(descriptor, 80, 0).decode(errors="replace").strip()
        waiting = f"refqnn: waiting for {owner or 'a process'}, which works on {path}"
        print(waiting, file=sys.stderr, flush=True)  # noqa: T201 - or it seems to hang
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return True
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP):
            raise
    return False


def is_file(descriptor: int, path: Path) -> bool:
    """Say whether an open file is still the one of this name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def remove_dead_lock(place: Path) -> None:
    """Remove a lock file of this module that nobody holds."""
    if fcntl is None:
        return
    with suppress(OSError):  # it is held, or has gone
        descriptor = os.open(place, os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            ours = os.pread(descriptor, 8, 0) == b"process "
            if ours and is_file(descriptor, place):
                place.unlink()
        finally:
            os.close(descriptor)
