"""Tensors of a TFLite model that a device has written to a folder, one file each.

    NAME.npy         an array; what is not a letter, a digit, - or . in a name is _
    tensors.json     {"NAME": {"file": "a.bin", "dtype": "int8", "shape": [1, 8, 4]}},
                     raw little-endian numbers

The numbers stand in the order of the model, channels last, images first.
"""

import math
import os
import re
from collections.abc import Iterable
from pathlib import Path

import msgspec
import numpy as np

from refqnn._types import Array
from refqnn.deploy.formats.tflite_graph import RANGES, planes
from refqnn.deploy.steps import Step
from refqnn.files import Unreadable, decode, read_bytes, read_json, read_npy

TABLE = "tensors.json"


class Raw(msgspec.Struct):
    """A file of raw numbers: its name in the folder, their type and their shape."""

    file: str
    dtype: str
    shape: list[int]


def file_name(name: str) -> str:
    """Return the name of the file of a tensor.

    >>> file_name("model/conv2d:0")
    'model_conv2d_0.npy'
    """
    return re.sub(r"[^A-Za-z0-9.-]", "_", name) + ".npy"


def read_dumps(
    folder: str | os.PathLike[str], steps: Iterable[Step]
) -> dict[str, Array]:
    """Return the dumped codes of steps by name, channels first: (N, *shape of a step)

    Raises ``Unreadable`` where a file is none of the above, has another size than the
    step, and where the folder holds no tensor of a step.
    """
    home = Path(folder)
    table: dict[str, Raw] = {}
    if (home / TABLE).exists():
        place = str(home / TABLE)
        table = decode(read_json(home / TABLE), dict[str, Raw], place)
    dumped = {}
    for step in steps:
        path = home / file_name(step.name)
        if step.name in table:
            array = read_raw(home, table[step.name])
        elif path.exists():
            array = read_npy(path)
        else:
            continue
        dumped[step.name] = as_codes(array, step)
    if not dumped:
        raise Unreadable(f"{folder} holds no tensor of the network, as NAME.npy or "
                         f"in {TABLE}")  # fmt: skip
    return dumped


def read_raw(home: Path, raw: Raw) -> Array:
    """Read a file of raw numbers in the folder itself."""
    if Path(raw.file).name != raw.file or raw.dtype not in RANGES:
        raise Unreadable(
            f"{home / TABLE}: {raw.file!r} must be a file of the folder and hold "
            f"{list(RANGES)}, got {raw.dtype!r}"
        )
    content, dtype = read_bytes(home / raw.file), np.dtype(raw.dtype).newbyteorder("<")
    if min(raw.shape, default=1) < 0 or len(content) != dtype.itemsize * math.prod(
        raw.shape
    ):
        raise Unreadable(
            f"{home / raw.file} has {len(content)} bytes, not those of {raw.dtype} "
            f"{raw.shape}"
        )
    return np.frombuffer(content, dtype).reshape(raw.shape)


def as_codes(array: Array, step: Step) -> Array:
    """Return dumped numbers as the codes of a step: (N, *shape)"""
    if array.dtype.kind not in "iu" or array.size % math.prod(step.shape):
        raise Unreadable(
            f"the dump of {step.name!r} must be integers, a multiple of {step.shape}, "
            f"is {array.dtype} {array.shape}"
        )
    first, *rest = step.shape
    pixels = (*rest, first) if len(rest) == 2 else step.shape
    return np.ascontiguousarray(planes(array.reshape(-1, *pixels)))
