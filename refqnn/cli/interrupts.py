"""Ctrl-C, which is not lost: it is raised again until the command has left."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

#: seconds after which an interrupt that was swallowed is raised again
AGAIN = 2


@contextmanager
def raise_again() -> Iterator[None]:
    """Raise KeyboardInterrupt at SIGINT, and every ``AGAIN`` seconds until this ends.

    A library that is being imported may swallow it, and a callback of C always does,
    about which nothing is printed. An error that a library made of one is
    KeyboardInterrupt again. Nothing changes in other threads, on other systems than
    POSIX, and where SIGINT has a handler.
    """
    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    main = threading.current_thread() is threading.main_thread()
    if os.name != "posix" or not (usual and main):
        yield
        return

    interrupts = []

    def interrupt(*_: object) -> None:
        interrupts.append(time.monotonic())
        signal.alarm(AGAIN)
        raise KeyboardInterrupt

    def report(unraisable: "sys.UnraisableHookArgs") -> None:
        if unraisable.exc_type is not KeyboardInterrupt:
            shown(unraisable)

    shown, sys.unraisablehook = sys.unraisablehook, report
    before = signal.signal(signal.SIGALRM, interrupt)
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    except Exception as error:
        if interrupts:
            raise KeyboardInterrupt from error
        raise
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGALRM, before)
        sys.unraisablehook = shown
