"""The processes of foreign code: that they end with their judge, and their kin too."""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any

from refqnn.studies.workers import be_killed_with_parent

PROCESSES = Path("/proc")


class Inherited(int):
    """A descriptor that a new process takes over, also one that is not forked."""

    def __reduce__(self) -> tuple[Any, ...]:
        return take, (DupFd(int(self)),)


def take(descriptor: Any) -> int:
    """Return the number that a descriptor of the parent has here."""
    number: int = descriptor.detach()
    return number


def end_with_parent() -> None:
    """Lead a group of processes of its own, and be killed when the parent ends."""
    with suppress(OSError):
        os.setsid()
    be_killed_with_parent()


def end_processes(pid: int, printed: int) -> None:
    """Kill a process, its group, its descendants, and whoever prints to its file.

    A grandchild in a session of its own, whose parents have ended, is known by the file
    without a name that its standard output still goes to.
    """
    kin = {pid, *descendants(pid), *printing_to(printed)} - {os.getpid()}
    with suppress(OSError):
        if os.getpgid(pid) == pid:
            os.killpg(pid, signal.SIGKILL)
    for each in kin:
        with suppress(OSError):
            os.kill(each, signal.SIGKILL)


def numbers() -> Iterator[int]:
    """Yield the numbers of all processes; none where there is no /proc."""
    with suppress(OSError):
        yield from (int(p.name) for p in PROCESSES.iterdir() if p.name.isdigit())


def descendants(pid: int) -> set[int]:
    """Return the children of a process, their children, and so on."""
    parents = {each: parent_of(each) for each in numbers()}
    kin, before = {pid}, 0
    while len(kin) > before:
        before = len(kin)
        kin |= {each for each, parent in parents.items() if parent in kin}
    return kin - {pid}


def parent_of(pid: int) -> int:
    """Return the parent of a process, 0 where it has ended."""
    try:
        status = (PROCESSES / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return 0
    return int(status.rpartition(")")[2].split()[1])


def printing_to(descriptor: int) -> set[int]:
    """Return the processes whose standard output or error is this open file."""
    try:
        file = os.fstat(descriptor)
    except OSError:
        return set()
    kin = set()
    for pid in numbers():
        for standard in (1, 2):
            with suppress(OSError):
                theirs = (PROCESSES / str(pid) / "fd" / str(standard)).stat()
                if (theirs.st_dev, theirs.st_ino) == (file.st_dev, file.st_ino):
                    kin.add(pid)
    return kin
