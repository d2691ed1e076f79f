"""Foreign code in a process of its own, with a time limit for every call.

A crash, a hang or garbage becomes ``Broken``, one line, never a traceback. One deadline
holds for sending the inputs and receiving the answer (``messages.py``). What the code
prints goes to a temporary file; its last line is shown where it ends the process. When
a process ends, so does every process that it started, as far as it can be known by its
group, its parents, or the file that it prints to.
In this process (``in_process=True``) nothing protects from a crash, an endless loop, an
exit, or memory that is written outside its bounds.

The process is forked: it inherits the function, closures too. Threads are not
inherited, so a library that has started some before (autograd of PyTorch, OpenMP) may
refuse or wait for them. Then import it first inside the function, or take
``Child(function, start="spawn")``: a new interpreter that imports the module of the
function, which a module must define.
"""

import faulthandler
import multiprocessing
import os
import pickle
import socket
import sys
import tempfile
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, final

from refqnn.conformance.carry.messages import (
    Late,
    as_arrays,
    decode,
    encode,
    receive,
    send,
)
from refqnn.conformance.carry.processes import Inherited, end_processes, end_with_parent
from refqnn.conformance.carry.words import last_line, one_line
from refqnn.conformance.judge.calls import Broken

Function = Callable[..., Any]
STARTS = ("fork", "spawn")
#: seconds that a new interpreter may take to import the function
TO_START = 60.0


@final
@dataclass
class Child:
    """A function in a process of its own, started again after every accident.

    >>> with Child(lambda x: x + 1) as child:
    ...     child(1)
    (array(2),)
    """

    function: Function
    #: for one call
    seconds: float = 10.0
    #: "fork" inherits everything; "spawn" imports the function in a new interpreter
    start: str = "fork"
    #: the process that made it; in a child of that one it is a plain function
    owner: int = field(default_factory=os.getpid, init=False)
    process: Any = field(default=None, init=False)
    link: socket.socket | None = field(default=None, init=False)
    #: descriptor of a file without a name that holds what the process prints
    printed: int = field(default=-1, init=False)
    #: ends the process, also with this object and with the interpreter
    ending: Any = field(default=None, init=False)

    def __post_init__(self) -> None:
        if self.start not in STARTS:
            raise ValueError(f"start must be one of {STARTS}, got {self.start!r}")
        if not self.seconds > 0:
            raise ValueError(f"seconds must be positive, got {self.seconds}")

    def __call__(self, *inputs: Any) -> Any:
        """Return the outputs; raise Broken, saying how the call ended."""
        if os.getpid() != self.owner:
            return self.function(*inputs)
        if self.process is None or not self.process.is_alive():
            self.begin()
        kind, value = self.exchange(pickle.dumps(inputs), self.seconds)
        if kind == "broken":
            raise Broken(value)
        if kind == "raised":
            raise RuntimeError(value)
        return value

    def exchange(self, content: bytes | None, seconds: float) -> tuple[str, Any]:
        """Send inputs, if any, and return the answer; one deadline holds for both."""
        link = self.link
        if link is None:
            raise Broken("no process")
        deadline = time.monotonic() + seconds
        try:
            if content is not None:
                send(link, content, deadline)
            return decode(receive(link, deadline))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise Broken(self.end()) from None
        except Late:
            self.close()
            raise Broken(f"no answer after {seconds:g} s") from None
        except Broken:
            self.close()
            raise
        except Exception as error:  # noqa: BLE001 - foreign code may write anywhere
            self.close()
            raise Broken(f"garbled answer: {one_line(error)}") from None

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def begin(self) -> None:
        """Start the process."""
        self.close()
        context: Any = multiprocessing.get_context(self.start)
        self.link, theirs = socket.socketpair()
        self.link.setblocking(False)
        with tempfile.TemporaryFile() as file:
            self.printed = os.dup(file.fileno())
        self.process = context.Process(
            target=serve,
            args=(self.function, theirs, Inherited(self.printed)),
            daemon=True,
        )
        self.ending = weakref.finalize(
            self, end_child, self.owner, self.process, self.link, self.printed
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # threads and fork
            with theirs:
                self.process.start()
        self.exchange(None, TO_START)  # its first word: the function is there

    def end(self) -> str:
        """Close, and say how the process ended and what it printed last."""
        over = time.monotonic() + 1  # join waits for ever where all files are closed
        while self.process.exitcode is None and time.monotonic() < over:
            time.sleep(0.01)
        code, words = self.process.exitcode, last_line(self.printed)
        self.close()
        how = "hung up" if code is None else f"left with {code}"
        how = f"crashed: signal {-code}" if code and code < 0 else how
        return f"{how}: {words}" if words else how

    def close(self) -> None:
        """End the process, and every process that it has started."""
        if self.ending is not None:
            self.ending()
        self.process, self.link, self.printed = None, None, -1


def end_child(owner: int, process: Any, link: socket.socket, printed: int) -> None:
    """End a process that ``owner`` has started, and every process that it started."""
    if os.getpid() != owner:
        return
    if process.pid is not None:
        end_processes(process.pid, printed)
        process.join()
    link.close()
    os.close(printed)


def serve(function: Function, link: socket.socket, printed: int) -> None:
    """Say "ready", then answer calls until the other end closes."""
    faulthandler.disable()  # a crash is reported in one line
    end_with_parent()
    for standard in (1, 2):
        os.dup2(printed, standard)
    sys.stdout = sys.stderr = os.fdopen(os.dup(printed), "w", buffering=1)
    with suppress(EOFError, OSError):
        send(link, encode("ready", ""))
        while True:
            inputs = pickle.loads(receive(link, largest=2**63))  # noqa: S301 - of the judge
            try:
                answer = encode("done", as_arrays(function(*inputs)))
            except Broken as error:
                answer = encode("broken", str(error))
            except Exception as error:  # noqa: BLE001 - the foreign function may raise anything
                answer = encode("raised", one_line(error))
            send(link, answer)


@contextmanager
def isolate(
    function: Function, seconds: float = 10.0, *, in_process: bool = False
) -> Iterator[Function]:
    """Yield the function in a child process; itself where asked, or if it is a Child.

    A ``Child`` keeps its own time limit.
    """
    if in_process or isinstance(function, Child):
        yield function
    else:
        with Child(function, seconds) as child:
            yield child
