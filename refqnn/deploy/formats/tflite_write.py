"""Write a model as the bytes of a .tflite file: each table before what it refers to.

Offsets of a flatbuffer point forward, so that a table is written with zeros in the
place of its offsets, which are filled in when what they refer to has its place. Numbers
are aligned to their size, data of tensors to 16 bytes.
"""

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from refqnn._types import Array
from refqnn.deploy.formats.tflite_schema import (
    CODES,
    FIELDS,
    IDENTIFIER,
    OPTIONS,
    TYPES,
    Field,
    Model,
    Operator,
    Tensor,
    dtype_of,
)
from refqnn.integer.bits import pack_nibbles

NUMBERS = {dtype: number for number, dtype in TYPES.items()}
#: bytes to which data of tensors are aligned
DATA_ALIGNMENT = 16


def write_model(model: Model) -> bytes:
    """Return the bytes of a file with one graph; names of tensors stand in it."""
    kinds = sorted({(op.op, op.version) for op in model.operators})
    buffers: list[dict[str, Any]] = [{}]
    tensors = [tensor_fields(t, buffers) for t in model.tensors]
    operators = [
        operator_fields(op, kinds.index((op.op, op.version))) for op in model.operators
    ]
    graph = {
        "tensors": tensors,
        "inputs": model.inputs,
        "outputs": model.outputs,
        "operators": operators,
    }
    codes = [
        {
            "deprecated_builtin_code": min(CODES[op], 127),
            "version": version,
            "builtin_code": CODES[op],
        }
        for op, version in kinds
    ]
    fields = {
        "version": 3,
        "operator_codes": codes,
        "subgraphs": [graph],
        "description": "refqnn",
        "buffers": buffers,
    }
    out = bytearray(4) + IDENTIFIER
    struct.pack_into("<I", out, 0, put_table(out, "Model", fields))
    return bytes(out)


def tensor_fields(t: Tensor, buffers: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the fields of a tensor; its data become another buffer."""
    place = 0
    if t.data is not None:
        raw = pack_nibbles(t.data.ravel()) if t.dtype == "int4" else t.data
        place = len(buffers)
        buffers.append({"data": np.frombuffer(raw.tobytes(), np.uint8)})
    scale = np.ravel(np.asarray(t.scale, np.float32))
    zero = np.broadcast_to(np.asarray(t.zero_point, np.int64), scale.shape)
    grid = {"scale": scale, "zero_point": zero, "quantized_dimension": t.axis}
    return {
        "shape": t.shape,
        "type": NUMBERS[t.dtype],
        "buffer": place,
        "name": t.name,
        "quantization": grid if scale.size else None,
    }


def operator_fields(op: Operator, code: int) -> dict[str, Any]:
    """Return the fields of an operator, its table of options among them."""
    kind, union = OPTIONS.get(op.op, ("", 0))
    return {
        "opcode_index": code,
        "inputs": op.inputs,
        "outputs": op.outputs,
        "builtin_options_type": union,
        "builtin_options": (kind, op.options) if kind else None,
    }


def put_table(out: bytearray, kind: str, values: Mapping[str, Any]) -> int:
    """Append a table, its vtable before it and what it refers to behind; its place."""
    fields = FIELDS[kind]
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise ValueError(f"{kind} has fields {list(fields)}, not {unknown}")
    present = {
        name: field
        for name, field in fields.items()
        if values.get(name) is not None and not is_default(values[name], field)
    }
    size, places = 4, {}
    for name, field in sorted(present.items(), key=lambda pair: -width(pair[1].kind)):
        size += -size % width(field.kind)
        places[name] = size
        size += width(field.kind)
    slots = [places.get(name, 0) for name in fields]
    vtable = struct.pack(f"<{2 + len(slots)}H", 4 + 2 * len(slots), size, *slots)
    align(out, 4, after=len(vtable))
    at = len(out) + len(vtable)
    out += vtable + struct.pack("<i", len(vtable)) + bytes(size - 4)
    for name, field in present.items():
        put_value(out, at + places[name], field.kind, values[name])
    return at


def is_default(value: Any, field: Field) -> bool:
    """Return whether a field need not be written: it is read without it."""
    if field.kind[0] in "iufb":
        return bool(value == field.default)
    return field.kind == "-" or (field.kind[0] == "[" and not len(value))


def put_value(out: bytearray, at: int, kind: str, value: Any) -> None:
    """Fill the place of a field in; what it refers to goes to the end."""
    if kind[0] in "iufb":
        number = np.asarray(value, dtype_of(kind)).tobytes()
        out[at : at + len(number)] = number
        return
    if kind == "str":
        target = put_numbers(out, np.frombuffer(value.encode(), np.uint8))
        out += b"\0"
    elif kind == "*":
        target = put_table(out, *value)
    elif kind[0] == "[" and kind[1].isupper():
        target = put_numbers(out, np.zeros(len(value), np.uint32))
        for i, row in enumerate(value):
            place = target + 4 + 4 * i
            struct.pack_into("<I", out, place, put_table(out, kind[1:-1], row) - place)
    elif kind[0] == "[":
        target = put_numbers(out, np.asarray(value, dtype_of(kind[1:-1])))
    else:
        target = put_table(out, kind, value)
    struct.pack_into("<I", out, at, target - at)


def put_numbers(out: bytearray, array: Array) -> int:
    """Append a vector of numbers; its place, which is that of its length."""
    alignment = DATA_ALIGNMENT if array.dtype.itemsize == 1 else array.dtype.itemsize
    align(out, max(alignment, 4), after=4)
    at = len(out)
    out += struct.pack("<I", array.size) + array.tobytes()
    return at


def align(out: bytearray, to: int, *, after: int) -> None:
    """Append zeros until what stands ``after`` bytes behind the end is aligned."""
    out += bytes(-(len(out) + after) % to)


def width(kind: str) -> int:
    """Return the bytes of a field in its table: a number's, or those of an offset."""
    return dtype_of(kind).itemsize if kind[0] in "iufb" else 4
