"""Messages between the judge and foreign code: sizes first, one deadline, no pickle.

A message is its length in 8 bytes and its content. ``send`` and ``receive`` never wait
beyond a deadline, whatever part of a message the other side has written or read. An
answer is a line of JSON and the bytes of its arrays: what foreign code sends is read as
numbers or not at all.
"""

import json
import math
import select
import socket
import struct
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from refqnn._types import Array
from refqnn.conformance.judge.calls import Broken, outputs_in_order

#: bytes of an answer, at most
LARGEST = 2**28
LENGTH = struct.Struct("<Q")
#: bytes of one call of send or recv
CHUNK = 2**20


class Late(Exception):  # noqa: N818 - says what the other side is
    """The deadline has passed."""


def send(link: socket.socket, content: bytes, deadline: float = math.inf) -> None:
    """Send a message; raise Late where it is not taken before the deadline."""
    for part in (LENGTH.pack(len(content)), content):
        view = memoryview(part)
        while view:
            wait(link, deadline, writing=True)
            with suppress(BlockingIOError):
                view = view[link.send(view[:CHUNK]) :]


def receive(
    link: socket.socket, deadline: float = math.inf, *, largest: int = LARGEST
) -> bytes:
    """Receive a message; its length is checked before its content is read.

    Raises Late at the deadline, EOFError where the other side is gone, ValueError for a
    message of more than ``largest`` bytes.
    """
    (length,) = LENGTH.unpack(exactly(link, LENGTH.size, deadline))
    if length > largest:
        raise ValueError(f"an answer of {length} bytes, more than {largest}")
    return exactly(link, length, deadline)


def exactly(link: socket.socket, length: int, deadline: float) -> bytes:
    """Receive ``length`` bytes; raise Late at the deadline, EOFError at the end."""
    parts = bytearray()
    while len(parts) < length:
        wait(link, deadline)
        part = link.recv(min(CHUNK, length - len(parts)))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)


def wait(link: socket.socket, deadline: float, *, writing: bool = False) -> None:
    """Wait until a socket can be read (or written); raise Late at the deadline."""
    poll = select.poll()
    poll.register(link, select.POLLOUT if writing else select.POLLIN)
    left = deadline - time.monotonic()
    if not poll.poll(None if left == math.inf else max(0.0, 1000 * left)):
        raise Late


def as_arrays(outputs: Any) -> tuple[Array, ...] | dict[str, Array]:
    """Return outputs as NumPy arrays; torch and jax arrays come through DLPack.

    >>> as_arrays([1, 2]), as_arrays({"y": 1})
    ((array([1, 2]),), {'y': array(1)})
    """
    if isinstance(outputs, Mapping):
        return {str(name): as_array(each) for name, each in outputs.items()}
    return tuple(as_array(each) for each in outputs_in_order(outputs))


def as_array(x: Any) -> Array:
    """Return one array of numbers; raise Broken for anything else."""
    detached = x.detach() if hasattr(x, "detach") else x
    if hasattr(detached, "__dlpack__") and not isinstance(x, np.ndarray | np.generic):
        return np.array(np.from_dlpack(detached))
    array = np.asarray(detached)
    check_numbers(array.dtype, type(x).__name__)
    return array


def check_numbers(dtype: np.dtype[Any], kind: str) -> None:
    """Raise Broken for a dtype that is not of integers, floats or truth values."""
    if dtype.kind not in "biuf":
        raise Broken(f"returned {kind} of {dtype}: no array of numbers")


def encode(kind: str, value: Any) -> bytes:
    """Return an answer as bytes: "done" with arrays, else a kind of end and a text."""
    if kind != "done":
        return json.dumps({"kind": kind, "text": value}).encode() + b"\n"
    names = list(value) if isinstance(value, dict) else None
    arrays = list(value.values()) if isinstance(value, dict) else value
    head = {
        "kind": kind,
        "names": names,
        "arrays": [[a.dtype.str, list(a.shape)] for a in arrays],
    }
    return b"".join(
        [json.dumps(head).encode(), b"\n", *(np.asarray(a).tobytes() for a in arrays)]
    )


def decode(content: bytes) -> tuple[str, Any]:
    """Undo ``encode``; raises for anything else, and for bytes that are left over.

    >>> decode(encode("done", (np.array([1.5]),)))
    ('done', (array([1.5]),))
    """
    line, _, rest = content.partition(b"\n")
    head = json.loads(line)
    if head["kind"] != "done":
        return str(head["kind"]), str(head["text"])
    arrays, at = [], 0
    for name, shape in head["arrays"]:
        dtype = np.dtype(str(name))
        check_numbers(dtype, "an array")
        size = dtype.itemsize * math.prod(shape)
        if min(shape, default=0) < 0 or at + size > len(rest):
            raise ValueError(f"{shape} of {dtype} does not fit {len(rest) - at} bytes")
        arrays.append(np.frombuffer(rest[at : at + size], dtype).reshape(shape).copy())
        at += size
    if at != len(rest):
        raise ValueError(f"{len(rest) - at} bytes more than its arrays")
    names = head["names"]
    if names is None:
        return "done", tuple(arrays)
    return "done", dict(zip(map(str, names), arrays, strict=True))
