"""Arrays of safetensors and npz files; nothing is unpickled.

Checkpoints of torch.save are pickles, which run code when they are read, and are
refused: write them with safetensors.torch.save_file(model.state_dict(), path) where
they come from.
"""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from refqnn._types import Array
from refqnn.files import Unreadable, parse_npz, parse_object, read_bytes

#: dtypes of safetensors as NumPy writes them; BF16 is widened to float32
DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "u1",
    "BOOL": "?",
}


def read_tensors(path: str | os.PathLike[str]) -> dict[str, Array]:
    """Read the arrays of a safetensors or npz file; nothing is unpickled.

    Raises ValueError for anything else, checkpoints of torch.save by name.
    """
    content = read_bytes(path)
    if content[:2] != b"PK":
        return safetensors(content, os.fspath(path))
    if b"/data.pkl" in content:
        raise Unreadable(
            f"{path} is a checkpoint of torch.save, a pickle: pickles are never read; "
            "write it with safetensors.torch.save_file"
        )
    return parse_npz(content, os.fspath(path))


def safetensors(content: bytes, name: str) -> dict[str, Array]:
    """Read the arrays: 8 bytes length of the header, JSON header, bytes of arrays."""
    what = f"{name} is neither an npz nor a whole safetensors file"
    size = int.from_bytes(content[:8], "little")
    if not 2 <= size <= len(content) - 8:
        raise Unreadable(f"{what}: a header of {size} bytes in {len(content)}")
    header = parse_object(content[8 : 8 + size], f"{what}: the header")
    header.pop("__metadata__", None)
    body = memoryview(content)[8 + size :]
    try:
        return {name: tensor(record, body) for name, record in header.items()}
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise Unreadable(f"{what}: {error!r}") from error


def tensor(record: Mapping[str, Any], body: memoryview) -> Array:
    """Read one array of a safetensors file; ValueError for a dtype NumPy lacks."""
    begin, end = record["data_offsets"]
    if not 0 <= begin <= end <= len(body):
        raise ValueError(f"bytes {begin} to {end} of {len(body)}")
    if record["dtype"] not in DTYPES:
        raise ValueError(f"dtype must be one of {[*DTYPES]}, got {record['dtype']!r}")
    flat = np.frombuffer(body[begin:end], DTYPES[record["dtype"]])
    if record["dtype"] == "BF16":  # the upper half of a float32
        flat = (flat.astype(np.uint32) << 16).view(np.float32)
    return flat.reshape(record["shape"]).copy()
