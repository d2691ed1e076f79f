"""Read a .tflite file: every offset and every length is checked before it is followed.

    root (u4 offset), identifier, tables
    table     i4 back to its vtable, then the fields
    vtable    u2 its bytes, u2 the table's bytes, u2 a slot: where the field is, or 0
    vector    u4 count, then its elements; of tables, u4 offsets forward

Tables are read one at a time, by the chain Model, SubGraph, Operator and Tensor, which
the schema makes finite: offsets that run in a circle cannot be followed forever.
"""

import math
import os
from typing import Any

import numpy as np

from refqnn._types import Array
from refqnn.deploy.formats.tflite_schema import (
    FIELDS,
    IDENTIFIER,
    NAMES,
    OPTIONS,
    TYPES,
    Model,
    Operator,
    Tensor,
    dtype_of,
)
from refqnn.files import Unreadable, read_bytes
from refqnn.integer.bits import unpack_nibbles

#: tables of one kind, bytes of a name and axes of a tensor, beyond which it is refused
MOST_TABLES, LONGEST_NAME, MOST_AXES = 2**14, 2**10, 8


def read_tflite(path: str | os.PathLike[str]) -> Model:
    """Read the graph of a file.

    Raises ``Unreadable``, naming the place, where the file is damaged or another one.
    """
    content = read_bytes(path)
    try:
        return parse_model(content)
    except Unreadable as error:
        raise Unreadable(f"{path}: {error}") from error


def parse_model(data: bytes) -> Model:
    """Read the graph of a model; ``Unreadable`` says where its bytes are wrong."""
    try:
        return read_graph(data)
    except ValueError as error:
        raise Unreadable(f"no TFLite model: {error}") from error


def read_graph(data: bytes) -> Model:
    """Read the one graph of a file from its root."""
    if data[4:8] != IDENTIFIER:
        raise ValueError(f"bytes 4 to 8 must be {IDENTIFIER!r}, are {data[4:8]!r}")
    model = table(data, int(number(data, 0, "u4")), "Model")
    graphs = tables(data, model, "subgraphs", "SubGraph")
    if len(graphs) != 1:
        raise ValueError(f"the model must have one subgraph, has {len(graphs)}")
    buffers = tables(data, model, "buffers", "Buffer")
    codes = tables(data, model, "operator_codes", "OperatorCode")
    graph = graphs[0]
    return Model(
        tuple(
            read_tensor(data, i, fields, buffers)
            for i, fields in enumerate(tables(data, graph, "tensors", "Tensor"))
        ),
        tuple(
            read_operator(data, i, fields, codes)
            for i, fields in enumerate(tables(data, graph, "operators", "Operator"))
        ),
        tuple(map(int, graph["inputs"])),
        tuple(map(int, graph["outputs"])),
    )


def number(data: bytes, at: int, kind: str) -> Any:
    """Read one number; raise where it does not lie in the file."""
    return numbers(data, at, kind, 1)[0]


def numbers(data: bytes, at: int, kind: str, count: int) -> Array:
    """View ``count`` numbers of the file; raise where they do not lie in it."""
    dtype = dtype_of(kind)
    if not 0 <= at <= len(data) - count * dtype.itemsize:
        raise ValueError(
            f"{count * dtype.itemsize} bytes at {at} are not among the file's "
            f"{len(data)}"
        )
    return np.frombuffer(data, dtype, count, at)


def table(data: bytes, at: int, kind: str) -> dict[str, Any]:
    """Read the fields of a table: numbers, text, views; of tables, their places."""
    vtable = at - int(number(data, at, "i4"))
    size = int(number(data, vtable, "u2"))
    read: dict[str, Any] = {}
    for name, field in FIELDS[kind].items():
        slot = 4 + 2 * field.slot
        offset = int(number(data, vtable + slot, "u2")) if slot + 2 <= size else 0
        read[name] = value(data, at + offset if offset else 0, field)
    return read


def value(data: bytes, at: int, field: Any) -> Any:
    """Read a field at its place, or give what stands for one that is left out."""
    kind = field.kind
    if kind[0] in "iufb":
        return number(data, at, kind).item() if at else field.default
    if kind == "-":
        return bool(at)
    target = at + int(number(data, at, "u4")) if at else 0
    if kind == "str" or kind[0] == "[":
        item = "u1" if kind == "str" else "u4" if kind[1].isupper() else kind[1:-1]
        count = int(number(data, target, "u4")) if at else 0
        held = numbers(data, target + 4, item, count)
        if kind == "str":
            return bytes(held[:LONGEST_NAME]).decode("utf-8", "replace")
        return place_of(held, target + 4) if item == "u4" else held
    return target


def place_of(offsets: Array, at: int) -> Array:
    """Return where tables stand, from the offsets of a vector that begins at ``at``."""
    if len(offsets) > MOST_TABLES:
        raise ValueError(f"{len(offsets)} tables at {at} are more than {MOST_TABLES}")
    return at + 4 * np.arange(len(offsets)) + offsets.astype(np.int64)


def tables(
    data: bytes, fields: dict[str, Any], name: str, kind: str
) -> list[dict[str, Any]]:
    """Read the tables of a vector."""
    return [table(data, int(at), kind) for at in fields[name]]


def read_operator(
    data: bytes, place: int, fields: dict[str, Any], codes: list[dict[str, Any]]
) -> Operator:
    """Read an operator; one that is not in the schema here is called by its code."""
    if fields["opcode_index"] >= len(codes):
        raise ValueError(
            f"operator {place} has code {fields['opcode_index']} of {len(codes)}"
        )
    code = codes[fields["opcode_index"]]
    builtin = max(code["builtin_code"], code["deprecated_builtin_code"])
    op = NAMES.get(builtin, f"builtin operator {builtin}")
    if builtin == 32 or code["custom_code"]:
        op = f"custom operator {code['custom_code']!r:.40}"
    options: dict[str, Any] = {}
    if fields["builtin_options"] and op in OPTIONS:
        kind, union = OPTIONS[op]
        if fields["builtin_options_type"] != union:
            raise ValueError(f"operator {place}, {op}, has options of another one")
        options = table(data, fields["builtin_options"], kind)
    inputs, outputs = (tuple(map(int, fields[key])) for key in ("inputs", "outputs"))
    return Operator(op, inputs, outputs, options, code["version"])


def read_tensor(
    data: bytes, place: int, fields: dict[str, Any], buffers: list[dict[str, Any]]
) -> Tensor:
    """Read a tensor, its grid, and its data where it is constant."""
    what = f"tensor {place} {fields['name']!r:.60}"
    shape = tuple(map(int, fields["shape"][: MOST_AXES + 1]))
    if len(shape) > MOST_AXES or min(shape, default=1) < 0:
        raise ValueError(f"{what} has the shape {shape}")
    dtype = TYPES.get(fields["type"], f"type {fields['type']}")
    scale, zero, axis = np.zeros(0, np.float32), np.zeros(0, np.int64), 0
    if fields["quantization"]:
        grid = table(data, fields["quantization"], "QuantizationParameters")
        scale, zero, axis = (
            grid["scale"],
            grid["zero_point"],
            grid["quantized_dimension"],
        )
    if fields["buffer"] >= len(buffers):
        raise ValueError(f"{what} has buffer {fields['buffer']} of {len(buffers)}")
    if fields["sparsity"] or fields["is_variable"]:
        raise ValueError(f"{what} must be dense and not variable")
    held = buffers[fields["buffer"]]
    raw = held["data"]
    if held["offset"] > 1:  # data behind the flatbuffer, of files beyond 2 GiB
        raw = numbers(data, held["offset"], "u1", held["size"])
    constant = read_data(what, raw, shape, dtype) if len(raw) else None
    return Tensor(shape, dtype, scale, zero, constant, fields["name"], axis)


def read_data(what: str, raw: Array, shape: tuple[int, ...], dtype: str) -> Array:
    """View the bytes of a constant in its shape; codes of 4 bits become int8."""
    if dtype not in TYPES.values():
        raise ValueError(f"{what} is constant and has {dtype}, no numbers")
    count = math.prod(shape)
    itemsize = 1 if dtype == "int4" else np.dtype(dtype).itemsize
    want = (count + 1) // 2 if dtype == "int4" else count * itemsize
    if len(raw) != want:
        raise ValueError(f"{what}, {dtype} {shape}, has {len(raw)} bytes, not {want}")
    if dtype == "int4":
        return unpack_nibbles(raw, count=count, signed=True).reshape(shape)
    return raw.view(np.dtype(dtype).newbyteorder("<")).reshape(shape)
