"""Other people's code as a function of arrays, run where it can do no harm.

Every adapter is a callable that takes the inputs of a family by position and returns
its outputs. ``Child`` runs any of them in another process with a time limit: a crash, a
hang or garbage becomes ``Broken``, one line, never a traceback. In this process nothing
protects from a crash, an endless loop, or memory that is written outside its bounds.
"""

import ctypes
import multiprocessing
import os
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, final

import numpy as np

from refqnn._types import Array
from refqnn.conformance.calls import Broken
from refqnn.data import read_npz
from refqnn.nn.checkpoint import write_npz

Function = Callable[..., Any]


def as_arrays(outputs: Any) -> tuple[Array, ...]:
    """Return outputs as NumPy arrays; torch and jax arrays come through DLPack.

    >>> as_arrays([1, 2])
    (array(1), array(2))
    """
    several = outputs if isinstance(outputs, tuple | list) else (outputs,)
    return tuple(as_array(each) for each in several)


def as_array(x: Any) -> Array:
    """Return one array; raise Broken for what is none."""
    if isinstance(x, np.ndarray):
        return x
    detached = x.detach() if hasattr(x, "detach") else x
    if hasattr(detached, "__dlpack__") and not np.isscalar(detached):
        return np.from_dlpack(detached)
    array = np.asarray(detached)
    if array.dtype.kind not in "biuf":
        raise Broken(f"returned {type(x).__name__}, which is no array of numbers")
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
    process: Any = field(default=None, init=False)
    pipe: Connection | None = field(default=None, init=False)

    def __call__(self, *inputs: Any) -> tuple[Array, ...]:
        """Return the outputs; raise Broken, saying how the call ended."""
        if self.process is None or not self.process.is_alive():
            self.start()
        pipe = self.pipe
        if pipe is None:
            raise Broken("no process")
        try:
            pipe.send(inputs)
            if not pipe.poll(self.seconds):
                self.close()
                raise Broken(f"no answer after {self.seconds:g} s")
            kind, value = pipe.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise Broken(self.ended()) from None
        if kind == "broken":
            raise Broken(value)
        if kind == "raised":
            raise RuntimeError(value)
        return tuple(value)

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start the process; it inherits the function."""
        context = multiprocessing.get_context("fork")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(
            target=serve, args=(self.function, theirs), daemon=True
        )
        self.process.start()
        theirs.close()

    def ended(self) -> str:
        """Say how the process ended."""
        self.process.join(1)
        code = self.process.exitcode
        self.process = None
        return f"crashed: signal {-code}" if code and code < 0 else f"left with {code}"

    def close(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.join()
        self.process = None


def serve(function: Function, pipe: Connection) -> None:
    """Answer calls until the other end closes."""
    with suppress(EOFError, OSError):
        while True:
            inputs = pipe.recv()
            try:
                pipe.send(("done", as_arrays(function(*inputs))))
            except Broken as error:
                pipe.send(("broken", str(error)))
            except Exception as error:  # noqa: BLE001 - the foreign function may raise anything
                pipe.send(("raised", f"{type(error).__name__}: {error}"))


def from_ctypes(
    library: str | os.PathLike[str], symbol: str, *, arguments: Sequence[str], out: str
) -> Function:
    """Return ``void symbol(arguments..., out, int64_t n)`` of a shared library.

    ``arguments`` are C types in the order of the family's inputs: ``"int32*"`` takes an
    array, ``"int32"`` or ``"float32"`` a number. ``out`` is the type of the array that
    is filled, with one element for each of the first argument.
    """
    entry = ctypes.CDLL(os.fspath(Path(library).resolve()))[symbol]
    entry.restype = None

    def call(*inputs: Any) -> Array:
        given = [
            as_c(kind, value) for kind, value in zip(arguments, inputs, strict=True)
        ]
        y = np.zeros(np.shape(inputs[0]), out.rstrip("*"))
        pointers = [
            v.ctypes.data_as(ctypes.c_void_p) if isinstance(v, np.ndarray) else v
            for v in (*given, y)
        ]
        entry(*pointers, ctypes.c_int64(y.size))
        return y

    return call


C_TYPES = {
    "int8": ctypes.c_int8,
    "int16": ctypes.c_int16,
    "int32": ctypes.c_int32,
    "int64": ctypes.c_int64,
    "float32": ctypes.c_float,
    "float64": ctypes.c_double,
}


def as_c(kind: str, value: Any) -> Any:
    """Return an array of the dtype, or a C number."""
    name = kind.rstrip("*")
    if name not in C_TYPES:
        raise ValueError(
            f"type must be one of {list(C_TYPES)}, with * or not: {kind!r}"
        )
    if kind.endswith("*"):
        return np.ascontiguousarray(value, name)
    return C_TYPES[name](np.asarray(value).item())


def from_onnx(path: str | os.PathLike[str], names: Sequence[str]) -> Function:
    """Return an ONNX model as a function; inputs are fed by these names, "" is none."""
    import onnxruntime  # noqa: PLC0415

    session = onnxruntime.InferenceSession(
        os.fspath(path), providers=["CPUExecutionProvider"]
    )

    def call(*inputs: Any) -> tuple[Array, ...]:
        pairs = zip(names, inputs, strict=True)
        feeds = {name: np.asarray(value) for name, value in pairs if name}
        return tuple(session.run(None, feeds))

    return call


def from_command(
    command: Sequence[str],
    *,
    inputs: Sequence[str],
    outputs: Sequence[str] = ("y",),
    seconds: float = 60.0,
) -> Function:
    """Return a command as a function: ``command inputs.npz outputs.npz``.

    The arrays have the names given. Raises Broken for another exit code than 0, for a
    run that takes too long, and for a file that is missing, damaged or incomplete.
    """

    def call(*values: Any) -> tuple[Array, ...]:
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder, "inputs.npz"), Path(folder, "outputs.npz")
            given = zip(inputs, values, strict=True)
            write_npz(source, {name: np.asarray(value) for name, value in given})
            run([*command, str(source), str(target)], seconds)
            return read_outputs(target, outputs)

    return call


def run(command: Sequence[str], seconds: float) -> None:
    """Run a command; raise Broken with its last words."""
    try:
        done = subprocess.run(  # noqa: S603 - the command of the user
            command, capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        raise Broken(f"no answer after {seconds:g} s") from None
    except OSError as error:
        raise Broken(f"cannot run {command[0]}: {error.strerror}") from None
    if done.returncode:
        words = (done.stderr.strip().splitlines() or [""])[-1]
        raise Broken(f"{command[0]} left with {done.returncode}: {words}")


def read_outputs(path: Path, names: Sequence[str]) -> tuple[Array, ...]:
    """Return the named arrays of a file; raise Broken where that fails."""
    try:
        arrays = read_npz(path)
    except (OSError, ValueError) as error:
        raise Broken(f"no outputs: {error}") from None
    missing = [name for name in names if name not in arrays]
    if missing:
        raise Broken(f"outputs lack {missing}, hold {sorted(arrays)[:8]}")
    return tuple(arrays[name] for name in names)


def from_directory(
    folder: str | os.PathLike[str], outputs: Sequence[str] = ("y",)
) -> Function:
    """Return the files of a folder, in the order of their names, one for each call."""
    files = iter(sorted(Path(folder).glob("*.npz")))

    def call(*_: Any) -> tuple[Array, ...]:
        path = next(files, None)
        if path is None:
            raise Broken(f"{folder} holds no further file")
        return read_outputs(path, outputs)

    return call
