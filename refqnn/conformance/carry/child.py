"""Foreign code in a process of its own, with a time limit for every call.

A crash, a hang or garbage becomes ``Broken``, one line, never a traceback. What the
code prints goes to a temporary file; its last line is told where it ends the process.
In this process (``in_process=True``) nothing protects from a crash, an endless loop, an
exit, or memory that is written outside its bounds.

The process is forked: it inherits the function. Threads are not inherited, so a library
that has started some before (autograd of PyTorch, OpenMP) may refuse or wait for them:
use it first in the child, or pass ``in_process=True``.
"""

import faulthandler
import json
import math
import multiprocessing
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, final

import numpy as np

from refqnn._types import Array
from refqnn.conformance.judge.calls import Broken, outputs_in_order

Function = Callable[..., Any]
#: characters of a foreign message that are told
MOST = 300
#: bytes of an answer
LARGEST = 2**31


def as_arrays(outputs: Any) -> tuple[Array, ...] | dict[str, Array]:
    """Return outputs as NumPy arrays; torch and jax arrays come through DLPack.

    >>> as_arrays([1, 2]), as_arrays({"y": 1})
    ((array([1, 2]),), {'y': array(1)})
    """
    if isinstance(outputs, Mapping):
        return {str(name): as_array(each) for name, each in outputs.items()}
    return tuple(as_array(each) for each in outputs_in_order(outputs))


def as_array(x: Any) -> Array:
    """Return one array of numbers; raise Broken for what is none."""
    detached = x.detach() if hasattr(x, "detach") else x
    if hasattr(detached, "__dlpack__") and not isinstance(x, np.ndarray | np.generic):
        return np.array(np.from_dlpack(detached))
    array = np.asarray(detached)
    if array.dtype.kind not in "biuf":
        raise Broken(
            f"returned {type(x).__name__} of {array.dtype}: no array of numbers"
        )
    return array


@final
@dataclass
class Child:
    """A function in a process of its own, started again after every accident.

    >>> with Child(lambda x: x + 1) as child:
    ...     child(np.array([1]))
    (array([2]),)
    """

    function: Function
    #: for one call
    seconds: float = 10.0
    #: the process that made it; in a child of that one it is a plain function
    owner: int = field(default_factory=os.getpid, init=False)
    process: Any = field(default=None, init=False)
    pipe: Connection | None = field(default=None, init=False)
    #: descriptor of a file without a name that holds what the process prints
    printed: int = field(default=-1, init=False)

    def __call__(self, *inputs: Any) -> Any:
        """Return the outputs; raise Broken, saying how the call ended."""
        if os.getpid() != self.owner:
            return self.function(*inputs)
        if self.process is None or not self.process.is_alive():
            self.start()
        kind, value = self.answer(inputs)
        if kind == "broken":
            raise Broken(value)
        if kind == "raised":
            raise RuntimeError(value)
        return value

    def answer(self, inputs: tuple[Any, ...]) -> tuple[str, Any]:
        """Return what the process sends back."""
        pipe = self.pipe
        if pipe is None:
            raise Broken("no process")
        try:
            pipe.send(inputs)
            answered = pipe.poll(self.seconds)
            told = decoded(pipe.recv_bytes(LARGEST)) if answered else ("late", None)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise Broken(self.ended()) from None
        except Exception as error:  # noqa: BLE001 - foreign code may write anywhere
            self.close()
            raise Broken(f"garbled answer: {one_line(error)}") from None
        if not answered:
            self.close()
            raise Broken(f"no answer after {self.seconds:g} s")
        return told

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start the process; it inherits the function."""
        self.close()
        context = multiprocessing.get_context("fork")
        self.pipe, theirs = context.Pipe()
        with tempfile.TemporaryFile() as file:
            self.printed = os.dup(file.fileno())
        self.process = context.Process(
            target=serve,
            args=(self.function, theirs, self.printed),
            daemon=True,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # threads and fork
            self.process.start()
        theirs.close()

    def ended(self) -> str:
        """Say how the process ended, and its last words."""
        self.process.join(1)
        code, words = self.process.exitcode, last_line(self.printed)
        self.close()
        how = f"crashed: signal {-code}" if code and code < 0 else f"left with {code}"
        return f"{how}: {words}" if words else how

    def close(self) -> None:
        """End the process."""
        if os.getpid() != self.owner:
            return
        if self.process is not None:
            self.process.kill()
            self.process.join()
        if self.pipe is not None:
            self.pipe.close()
        if self.printed >= 0:
            os.close(self.printed)
        self.process, self.pipe, self.printed = None, None, -1

    def __del__(self) -> None:
        with suppress(Exception):
            self.close()


def encoded(kind: str, value: Any) -> bytes:
    """Return an answer as bytes: a line of JSON, then the bytes of the arrays.

    No pickle: what foreign code sends is read as numbers or not at all.
    """
    if kind != "done":
        return json.dumps({"kind": kind, "told": value}).encode() + b"\n"
    names = list(value) if isinstance(value, dict) else None
    arrays = list(value.values()) if isinstance(value, dict) else value
    told = {
        "kind": kind,
        "names": names,
        "arrays": [[a.dtype.str, list(a.shape)] for a in arrays],
    }
    return b"".join(
        [json.dumps(told).encode(), b"\n", *(np.asarray(a).tobytes() for a in arrays)]
    )


def decoded(content: bytes) -> tuple[str, Any]:
    """Undo ``encoded``; raises for anything else.

    >>> decoded(encoded("done", (np.array([1.5]),)))
    ('done', (array([1.5]),))
    """
    line, _, rest = content.partition(b"\n")
    told = json.loads(line)
    if told["kind"] != "done":
        return str(told["kind"]), str(told["told"])
    arrays, at = [], 0
    for name, shape in told["arrays"]:
        dtype = np.dtype(name)
        size = dtype.itemsize * math.prod(shape)
        array = np.frombuffer(rest[at : at + size], dtype).reshape(shape).copy()
        arrays.append(array)
        at += size
    names = told["names"]
    return "done", tuple(arrays) if names is None else dict(
        zip(names, arrays, strict=True)
    )


def last_line(descriptor: int) -> str:
    """Return the last line of a file, shortened."""
    size = os.fstat(descriptor).st_size
    content = os.pread(descriptor, 4096, max(size - 4096, 0))
    lines = content.decode("utf-8", "replace").strip().splitlines()
    return lines[-1][:MOST] if lines else ""


def one_line(error: BaseException) -> str:
    """Return the kind and the message of an error, on one line, shortened.

    >>> one_line(ValueError("a  b"))
    'ValueError: a b'
    """
    try:
        told = " ".join(str(error).split())
    except Exception:  # noqa: BLE001 - foreign exceptions may not even print
        told = "of no message"
    return f"{type(error).__name__}: {told[:MOST]}"


def serve(function: Function, pipe: Connection, printed: int) -> None:
    """Answer calls until the other end closes."""
    faulthandler.disable()  # a crash is told in one line
    for standard in (1, 2):
        os.dup2(printed, standard)
    sys.stdout = sys.stderr = os.fdopen(os.dup(printed), "w", buffering=1)
    with suppress(EOFError, OSError):
        while True:
            inputs = pipe.recv()
            try:
                told = encoded("done", as_arrays(function(*inputs)))
            except Broken as error:
                told = encoded("broken", str(error))
            except Exception as error:  # noqa: BLE001 - the foreign function may raise anything
                told = encoded("raised", one_line(error))
            pipe.send_bytes(told)


@contextmanager
def isolated(
    function: Function, seconds: float = 10.0, *, in_process: bool = False
) -> Iterator[Function]:
    """Yield the function, in a child process unless asked otherwise, or in one already.

    A ``Child`` keeps its own time limit.
    """
    if in_process or isinstance(function, Child):
        yield function
    else:
        with Child(function, seconds) as child:
            yield child
