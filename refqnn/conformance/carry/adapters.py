"""Other people's code as a function of arrays.

Every adapter is a callable that takes the inputs of a family by position and returns
its outputs. Libraries and models run in a child process (``child.py``), commands are
processes of their own, of a folder only files are read.
"""

import ctypes
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from refqnn._types import Array
from refqnn.conformance.carry.child import Child
from refqnn.conformance.carry.messages import LARGEST
from refqnn.conformance.carry.words import last_line
from refqnn.conformance.judge.calls import Broken
from refqnn.files import read_npz, write_npz

Function = Callable[..., Any]


def from_ctypes(
    library: str | os.PathLike[str],
    symbol: str,
    *,
    arguments: Sequence[str],
    out: str,
    shape: Callable[..., tuple[int, ...]] | None = None,
    in_process: bool = False,
    seconds: float = 10.0,
) -> Function:
    """Return ``void symbol(arguments..., out, int64_t n)`` of a shared library.

    ``arguments`` are C types in the order of the family's inputs: ``"int32*"`` takes an
    array, row-major, ``"int32"`` or ``"float32"`` a number, ``""`` leaves one out.
    ``out`` is the type of the array that is filled, n elements of ``shape(*inputs)``;
    without it those of the first argument. The library is loaded in a child process,
    unless ``in_process``.
    """
    path = resolve(library)
    for kind in (*arguments, out):
        check_c_type(kind)

    def call(*inputs: Any) -> Array:
        entry = load_library(path)[symbol]
        entry.restype = None
        given = [
            as_c(kind, value)
            for kind, value in zip(arguments, inputs, strict=True)
            if kind
        ]
        sizes = shape(*inputs) if shape else np.shape(inputs[0])
        y = np.zeros(sizes, out.rstrip("*"))
        pointers = [
            v.ctypes.data_as(ctypes.c_void_p) if isinstance(v, np.ndarray) else v
            for v in (*given, y)
        ]
        entry(*pointers, ctypes.c_int64(y.size))
        return y

    return call if in_process else Child(call, seconds)


def resolve(path: str | os.PathLike[str]) -> str:
    """Return the absolute path of a file; raise ValueError where it does not exist."""
    whole = Path(path).resolve()
    if not whole.is_file():
        raise ValueError(f"there is no file {os.fspath(path)}")
    return os.fspath(whole)


@cache
def load_library(path: str) -> ctypes.CDLL:
    """Return a shared library, loaded once in a process."""
    return ctypes.CDLL(path)


C_TYPES = {
    "int8": ctypes.c_int8,
    "int16": ctypes.c_int16,
    "int32": ctypes.c_int32,
    "int64": ctypes.c_int64,
    "uint8": ctypes.c_uint8,
    "uint16": ctypes.c_uint16,
    "uint32": ctypes.c_uint32,
    "float32": ctypes.c_float,
    "float64": ctypes.c_double,
}


def check_c_type(kind: str) -> None:
    """Raise for a type that is not known, listing those that are."""
    if kind and kind.rstrip("*") not in C_TYPES:
        raise ValueError(
            f"type must be one of {list(C_TYPES)}, with * or not: {kind!r}"
        )


def as_c(kind: str, value: Any) -> Any:
    """Return an array of the dtype, or a C number; raise Broken where it does not fit.

    >>> as_c("int8", 7), as_c("int8*", [1, 2])
    (c_byte(7), array([1, 2], dtype=int8))
    """
    name, given = kind.rstrip("*"), np.asarray(value)
    with np.errstate(invalid="ignore"):
        array = np.asarray(given, name, order="C")
    if array.dtype.kind in "iu" and not np.array_equal(array, given):
        wrong = given[array != given] if given.ndim else given
        raise Broken(f"{name} cannot hold {wrong.ravel()[0]}")
    return array if kind.endswith("*") else C_TYPES[name](array.item())


def from_onnx(
    path: str | os.PathLike[str],
    names: Sequence[str],
    *,
    in_process: bool = False,
    seconds: float = 10.0,
) -> Function:
    """Return an ONNX model as a function of its inputs in the order of ``names``.

    An argument whose name is "" is not fed to the model.

    The session is made in a child process, unless ``in_process``.
    """
    model = resolve(path)

    def call(*inputs: Any) -> tuple[Array, ...]:
        pairs = zip(names, inputs, strict=True)
        feeds = {name: np.asarray(value) for name, value in pairs if name}
        return tuple(session(model).run(None, feeds))

    return call if in_process else Child(call, seconds)


@cache
def session(path: str) -> Any:
    """Return a session of onnxruntime, made once in a process."""
    import onnxruntime  # noqa: PLC0415

    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


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
    """Run a command; raise Broken, quoting its last line of output, where it fails.

    What it prints goes to a file that is thrown away, of which the last line is read.
    When the time is over its whole process group ends.
    """
    with tempfile.TemporaryFile() as printed:
        try:
            process = subprocess.Popen(  # noqa: S603 - the command of the user
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=printed,
                start_new_session=True,
            )
        except OSError as error:
            raise Broken(f"cannot run {command[0]}: {error.strerror}") from None
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Broken(f"no answer after {seconds:g} s") from None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if code:
            words = last_line(printed.fileno())
            raise Broken(f"{command[0]} left with {code}: {words}")


def read_outputs(path: Path, names: Sequence[str]) -> tuple[Array, ...]:
    """Return the named arrays of a file; raise Broken where that fails."""
    if not path.is_file():
        raise Broken(f"no outputs: there is no file {path.name}")
    if (size := path.stat().st_size) > LARGEST:
        raise Broken(f"no outputs: {path.name} has {size} bytes, more than {LARGEST}")
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
    """Return the files of a folder, in the order of their names, one for each call.

    For the cases of a pack in their order: ``pack_verify.answers(pack, function)``.
    """
    files = iter(sorted(Path(folder).glob("*.npz")))

    def call(*_: Any) -> tuple[Array, ...]:
        path = next(files, None)
        if path is None:
            raise Broken(f"{folder} holds no further file")
        return read_outputs(path, outputs)

    return call
