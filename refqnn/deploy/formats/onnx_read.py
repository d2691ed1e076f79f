"""Read the graph of an ONNX model: its constants, and what each tensor holds.

Codes    integers that a step stores            Real    the same, dequantized
Fixed    constant codes with their scales       Term    a float expression of those
an array of numbers
"""

import importlib
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, final

import numpy as np

from refqnn._types import Array, Float
from refqnn.deploy.fold import Grid
from refqnn.deploy.formats.onnx_graph import package
from refqnn.deploy.operations import OperationStep
from refqnn.deploy.steps import ImageStep, Shape, Step, sources_of
from refqnn.files import Unreadable, open_file, read_bytes

GRIDS = {
    "uint8": (0, 255),
    "int8": (-128, 127),
    "int16": (-(2**15), 2**15 - 1),
    "uint16": (0, 2**16 - 1),
}


class Node(NamedTuple):
    """A node with its attributes as values."""

    op: str
    name: str
    inputs: list[str]
    output: str
    attributes: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.op} (node {self.name!r}, output {self.output!r})"


class Codes(NamedTuple):
    """Codes that a step stores, and their shape in the model without the batch."""

    step: str
    shape: Shape


class Real(NamedTuple):
    """Codes that a step stores, dequantized."""

    step: str
    shape: Shape


class Fixed(NamedTuple):
    """Constant codes with one scale, one for every index of an axis, or for blocks."""

    q: Array
    scale: Array
    zero_point: Array
    axis: int
    block: int = 0

    def real(self) -> Float:
        """float32(s) (q - z), in float64"""
        scale, zero = (self.along(v) for v in (self.scale, self.zero_point))
        steps = (self.q.astype(np.int64) - zero.astype(np.int64)).astype(np.float32)
        return (scale.astype(np.float32) * steps).astype(np.float64)

    def along(self, v: Array) -> Array:
        """View one value per index, or per block, so that it broadcasts against q."""
        if self.block:
            wide = np.repeat(v, self.block, self.axis)
            return np.take(wide, np.arange(self.q.shape[self.axis]), self.axis)
        if v.size == 1 or v.ndim == self.q.ndim:
            return v.reshape(()) if v.size == 1 else v
        return v.reshape(-1, *(1,) * (self.q.ndim - 1 - self.axis % self.q.ndim))


class Term(NamedTuple):
    """An operator of floats whose value no step stores, and its shape."""

    op: str
    inputs: tuple[Any, ...]
    attributes: Mapping[str, Any]
    shape: Shape
    node: Node


@final
@dataclass
class Reader:
    """The tensors known so far by name: constants, codes and expressions of codes."""

    constants: dict[str, Array]
    uses: Mapping[str, int]
    input: Any
    opset: int
    #: what DequantizeLinear makes -> the codes that it reads
    dequantized: Mapping[str, str]
    values: dict[str, Any] = field(default_factory=dict)
    steps: dict[str, Step] = field(default_factory=dict)


@contextmanager
def refuse_malformed(what: str) -> Iterator[None]:
    """Raise ValueError where a model lacks what its operators need.

    Nothing in a model is declared: inputs, attributes and tensors may be left out, or
    be of any type, and the package onnx raises its own kinds of errors for them.
    """
    try:
        yield
    except ValueError:
        raise
    except Exception as error:  # whatever the package onnx raises
        raise ValueError(f"{what} is malformed: {error!r:.200}") from error


def read_model(path: str | os.PathLike[str]) -> Any:
    """Read a file, and the data that it keeps in files beside it.

    Raises ``Unreadable`` where it is no ONNX model, and for data outside its folder or
    beyond the end of a file.
    """
    made = package("onnx").ModelProto()
    try:
        made.ParseFromString(read_bytes(path))
    except importlib.import_module("google.protobuf.message").DecodeError as error:
        raise Unreadable(f"{path} is not an ONNX model: {error}") from error
    if not made.graph.node:
        raise Unreadable(f"{path} is not an ONNX model: it has no nodes")
    for tensor in made.graph.initializer:
        if tensor.data_location == tensor.EXTERNAL:
            try:
                tensor.raw_data = external_data(Path(path).parent, tensor)
            except (OSError, ValueError) as error:
                raise Unreadable(f"{path}: data of {tensor.name!r}: {error}") from error
            tensor.data_location = tensor.DEFAULT
    return made


def external_data(folder: Path, tensor: Any) -> bytes:
    """Return the bytes of a tensor from a file in the folder of its model, or below."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    home = folder.resolve()
    place = (home / entries.get("location", "")).resolve()
    if not place.is_relative_to(home) or not place.is_file():
        raise ValueError(f"{entries.get('location')!r} is no file beside the model")
    with open_file(place) as file:
        size = file.seek(0, os.SEEK_END)
        offset = int(entries.get("offset", 0))
        length = int(entries.get("length", size - offset))
        if min(offset, length) < 0 or offset + length > size:
            raise ValueError(f"{length} bytes at {offset} are not in {place.name}")
        file.seek(offset)
        return file.read(length)


def start(made: Any) -> Reader:
    """Read the constants of a model; raise unless one input is not among them."""
    graph = made.graph
    constants = {t.name: array_of(t) for t in graph.initializer}
    free = [v for v in graph.input if v.name not in constants]
    if len(free) != 1:
        names = [v.name for v in free]
        raise ValueError(f"the model must have one input, has {names}")
    uses: dict[str, int] = {v.name: 1 for v in graph.output}
    for proto in graph.node:
        for name in proto.input:
            uses[name] = uses.get(name, 0) + 1
    opsets = [s.version for s in made.opset_import if s.domain in {"", "ai.onnx"}]
    dequantized = {
        proto.output[0]: proto.input[0]
        for proto in graph.node
        if proto.op_type == "DequantizeLinear" and proto.input and proto.output
    }
    return Reader(constants, uses, free[0], max(opsets, default=1), dequantized)


def readers_of(reader: Reader, codes: str) -> int:
    """Count the operators that read codes once they are dequantized."""
    reals = [real for real, q in reader.dequantized.items() if q == codes]
    return sum(reader.uses.get(real, 0) for real in reals)


def array_of(tensor: Any) -> Array:
    """Return the array of a tensor; codes of 4 bits become int8 or uint8."""
    if tensor.data_location == tensor.EXTERNAL:
        raise ValueError(
            f"the data of {tensor.name!r} stand in another file: pass the path of the "
            "model, or load it with onnx.load"
        )
    try:
        array = np.asarray(package("onnx.numpy_helper").to_array(tensor))
    except (TypeError, ValueError, KeyError) as error:
        raise ValueError(f"constant {tensor.name!r} is damaged: {error}") from error
    if array.dtype.name in {"int4", "uint4", "int2", "uint2"}:
        return array.astype(np.int8 if array.dtype.name[0] == "i" else np.uint8)
    return array


def read_node(proto: Any) -> Node:
    """Return a node of one output; raise where it has none."""
    if not proto.output:
        raise ValueError(f"{proto.op_type} (node {proto.name!r}) has no output")
    value = package("onnx.helper").get_attribute_value
    attributes = {a.name: value(a) for a in proto.attribute}
    return Node(
        proto.op_type,
        proto.name,
        list(proto.input),
        proto.output[0],
        {k: v.decode() if isinstance(v, bytes) else v for k, v in attributes.items()},
    )


def constant_of(node: Node) -> Array:
    """Return the array of a Constant node."""
    for key in ("value_float", "value_floats", "value_int", "value_ints"):
        if key in node.attributes:
            dtype = np.float32 if "float" in key else np.int64
            return np.asarray(node.attributes[key], dtype)
    if "value" not in node.attributes:
        raise ValueError(f"{node}: only the attribute value is supported")
    return array_of(node.attributes["value"])


def unsupported_error(node: Node, why: str) -> ValueError:
    """Return the error that names operator and node, and says why."""
    return ValueError(f"{node} is not supported: {why}")


def constant_input(reader: Reader, node: Node, at: int, default: Any = None) -> Array:
    """Return a constant input of a node, or the default where it is left out."""
    name = node.inputs[at] if at < len(node.inputs) else ""
    if not name:
        return np.asarray(default)
    if name not in reader.constants:
        raise ValueError(f"{node}: input {name!r} must be a constant")
    return reader.constants[name]


def value_of(reader: Reader, node: Node, at: int) -> Any:
    """Return the constant, codes or term that is input ``at``; None if left out."""
    name = node.inputs[at] if at < len(node.inputs) else ""
    if name in reader.constants:
        return reader.constants[name]
    return reader.values.get(name)


def grid_of(reader: Reader, node: Node, scale_at: int, zero_at: int) -> Grid:
    """Return the grid of a scale and a zero-point, both of one element."""
    scale = constant_input(reader, node, scale_at).astype(np.float32)
    zero = constant_input(reader, node, zero_at, np.uint8(0))
    if scale.size != 1 or zero.size != 1 or zero.dtype.name not in GRIDS:
        raise ValueError(
            f"{node}: codes need one scale and one zero-point of {list(GRIDS)}, "
            f"got {scale.shape} and {zero.shape} {zero.dtype}"
        )
    return Grid(float(scale.item()), int(zero.item()), *GRIDS[zero.dtype.name])


def codes_of(reader: Reader, node: Node, at: int, grid: Grid | None = None) -> Codes:
    """Return the codes that a node reads; the image becomes a step here."""
    name = node.inputs[at]
    if name == reader.input.name and grid is not None:
        store_image(reader, name, grid)
    value = reader.values.get(name)
    if not isinstance(value, Codes):
        raise unsupported_error(node, f"{name!r} holds no codes of a layer before it")
    step = reader.steps[value.step]
    known = step.grid
    if grid is not None and isinstance(step, ImageStep):
        grid = unsigned_grid(grid)
    if grid is not None and grid[:2] != known[:2]:
        raise ValueError(
            f"{node}: reads scale {grid.scale} and zero-point {grid.zero_point}, "
            f"{value.step!r} stores {known.scale} and {known.zero_point}"
        )
    return value


def store_image(reader: Reader, name: str, grid: Grid) -> None:
    """Make the codes of the input the first step; int8 codes become codes + 128."""
    kind = reader.input.type.tensor_type
    sizes = tuple(d.dim_value for d in kind.shape.dim)
    if len(sizes) not in {2, 4} or min(sizes[1:]) < 1 or math.prod(sizes[1:]) > 2**28:
        raise ValueError(
            f"the input must be (N, C, H, W) or (N, I), all but N known: {sizes}"
        )
    known = [step for step in reader.steps.values() if isinstance(step, ImageStep)]
    if known and known[0].grid != unsigned_grid(grid):
        raise ValueError(f"the input is quantized twice, {name!r} on another grid")
    step = known[0] if known else ImageStep(name, sizes[1:], unsigned_grid(grid))
    reader.steps[step.name] = step
    reader.values[name] = Codes(step.name, sizes[1:])


def unsigned_grid(grid: Grid) -> Grid:
    """Return the grid of codes + 128 for int8, others as they are.

    >>> unsigned_grid(Grid(0.5, -1, -128, 127))
    Grid(scale=0.5, zero_point=127, q_min=0, q_max=255)
    """
    shift = 128 if grid[2:] == GRIDS["int8"] else 0
    scale, zero_point, low, high = grid
    return Grid(scale, zero_point + shift, low + shift, high + shift)


def store(reader: Reader, step: Step, shape: Shape | None = None) -> Codes:
    """Add a step, and the codes it stores under its name."""
    reader.steps[step.name] = step
    codes = Codes(step.name, step.shape if shape is None else shape)
    reader.values[step.name] = codes
    return codes


def stored_as(reader: Reader, value: Codes | Real) -> Step:
    """Return the step whose codes have the shape of a value; reshape where they differ.

    Pooled codes are stored as (C,) and read as (C, 1, 1), or the other way around.
    """
    step = reader.steps[value.step]
    if step.shape == value.shape:
        return step
    name = f"{value.step}.{'x'.join(map(str, value.shape))}"
    if name not in reader.steps:
        options = {"shape": value.shape}
        reader.steps[name] = OperationStep(
            name, (value.step,), ("x",), value.shape, "reshape", options, step.grid
        )
    return reader.steps[name]


def rename(reader: Reader, node: Node, value: Codes, **changes: Any) -> bool:
    """Call the step of a value after the output of a node, if only the node reads it.

    Fields in ``changes`` are replaced. False where others read the step, too.
    """
    step = reader.steps[value.step]
    if reader.uses[node.inputs[0]] != 1 or value.step != node.inputs[0]:
        return False
    if isinstance(step, ImageStep) or any(
        value.step in sources_of(other) for other in reader.steps.values()
    ):
        return False
    del reader.steps[value.step]
    store(reader, replace(step, name=node.output, **changes), value.shape)
    return True
