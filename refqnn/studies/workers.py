"""Processes of runs: they hear no Ctrl-C and end with their parent.

This module is the first of the package that a new process imports, so it is a light
one: a parent that is killed meanwhile is missed soon.
"""

import ctypes
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing.context import SpawnContext, SpawnProcess

#: prctl: a signal to this process when its parent ends
PR_SET_PDEATHSIG = 1


class Worker(SpawnProcess):
    """A process that ends silently when its queues break, as when its parent ends."""

    def start(self) -> None:
        """Start it, in the parent, whose blocked interrupts it inherits."""
        with interrupts_blocked():
            super().start()

    def run(self) -> None:
        """Work; errors of runs go to the parent, so one here is of the queues."""
        be_killed_with_parent()
        try:
            super().run()
        except BaseException:  # noqa: BLE001 - whatever breaks first
            os._exit(1)


def be_killed_with_parent() -> None:
    """Ask the system for SIGKILL when the parent ends: Linux alone can."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Workers(SpawnContext):
    """Starts workers."""

    Process = Worker


@contextmanager
def own_processes(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool of processes, started afresh, which end with their parent.

    Ctrl-C, which a terminal sends to all of them, is blocked from their first moment
    on. Where the block raises, they are killed.
    """
    pool = ProcessPoolExecutor(
        workers,
        mp_context=Workers(),
        initializer=end_with_parent,
        initargs=(os.getpid(),),
    )
    with pool:
        try:
            yield pool
        except BaseException:
            for process in [*(pool._processes or {}).values()]:  # noqa: SLF001 - Python 3.14 has kill_workers
                process.kill()
            raise


@contextmanager
def interrupts_blocked() -> Iterator[None]:
    """Block SIGINT, in this thread and in processes that it starts, where that is."""
    if os.name != "posix":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with_parent(parent: int) -> None:
    """Watch, from a thread of its own, whether the parent is still there.

    Bars take a lock of threads: one of processes would be left by a worker that ends
    at once, and be warned of.
    """
    threading.Thread(target=end_with, args=(parent,), daemon=True).start()
    from tqdm.auto import tqdm  # noqa: PLC0415 - after the watch has begun

    tqdm.set_lock(threading.RLock())


def end_with(parent: int) -> None:
    """Leave as soon as this process has another parent."""
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)
