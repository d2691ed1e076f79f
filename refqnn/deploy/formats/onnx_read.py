"""The graph of an ONNX quantized model: nodes, constants, what tensors hold."""

import importlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from refqnn._types import Array
from refqnn.deploy.fold import Grid
from refqnn.deploy.formats.onnx_graph import package
from refqnn.deploy.formats.onnx_layer import Weights
from refqnn.deploy.steps import ImageStep, Step

GRIDS = {"uint8": (0, 255), "int8": (-128, 127), "int16": (-(2**15), 2**15 - 1)}


class Codes(NamedTuple):
    """Codes that a step stores."""

    step: str


class Real(NamedTuple):
    """Codes that a step stores, dequantized."""

    step: str


class Fixed(NamedTuple):
    """Constant codes, dequantized."""

    q: Array
    scale: Array
    zero_point: Array
    axis: int


class Sums(NamedTuple):
    """What a float layer between quantizers gives."""

    source: str
    weights: Weights | None  # None: the mean of every plane
    relu: bool = False


class Reader(NamedTuple):
    """What is known so far, by the names of tensors."""

    constants: dict[str, Array]
    values: dict[str, Any]
    steps: dict[str, Step]
    uses: dict[str, int]
    input: Any


class Node(NamedTuple):
    """A node with its attributes as values."""

    op: str
    name: str
    inputs: list[str]
    output: str
    attributes: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.op} (node {self.name!r}, output {self.output!r})"


def read_model(path: str | os.PathLike[str]) -> Any:
    """Read a file; raise ValueError where it is no ONNX model."""
    content = Path(path).read_bytes()
    made = package("onnx").ModelProto()
    try:
        made.ParseFromString(content)
    except importlib.import_module("google.protobuf.message").DecodeError as error:
        raise ValueError(f"{path} is not an ONNX model: {error}") from error
    if not made.graph.node:
        raise ValueError(f"{path} is not an ONNX model: it has no nodes")
    return made


def start(graph: Any) -> Reader:
    """Return the constants, and the one input that is none."""
    to_array = package("onnx.numpy_helper").to_array
    constants = {t.name: to_array(t) for t in graph.initializer}
    free = [v for v in graph.input if v.name not in constants]
    if len(free) != 1:
        names = [v.name for v in free]
        raise ValueError(f"the model must have one input, has {names}")
    uses: dict[str, int] = {v.name: 1 for v in graph.output}
    for proto in graph.node:
        for name in proto.input:
            uses[name] = uses.get(name, 0) + 1
    return Reader(constants, {}, {}, uses, free[0])


def read_node(proto: Any) -> Node:
    """Return a node of one output."""
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
    if "value" not in node.attributes:
        raise ValueError(f"{node}: only the attribute value is supported")
    return np.asarray(package("onnx.numpy_helper").to_array(node.attributes["value"]))


def unsupported(node: Node, why: str) -> ValueError:
    """Return the error that names operator and node, and says why."""
    return ValueError(f"{node} is not supported: {why}")


def fixed(reader: Reader, node: Node, at: int, default: Any = None) -> Array:
    """Return a constant input of a node."""
    name = node.inputs[at] if at < len(node.inputs) else ""
    if not name:
        return np.asarray(default)
    if name not in reader.constants:
        raise ValueError(f"{node}: input {name!r} must be a constant")
    return reader.constants[name]


def grid_of(reader: Reader, node: Node, scale_at: int, zero_at: int) -> Grid:
    """Return the grid of a scale and a zero-point, both of one element."""
    scale = fixed(reader, node, scale_at).astype(np.float32)
    zero = fixed(reader, node, zero_at, np.uint8(0))
    if scale.size != 1 or zero.size != 1 or zero.dtype.name not in GRIDS:
        raise ValueError(
            f"{node}: codes need one scale and one zero-point of {list(GRIDS)}, "
            f"got {scale.shape} and {zero.shape} {zero.dtype}"
        )
    return Grid(float(scale.item()), int(zero.item()), *GRIDS[zero.dtype.name])


def source_of(reader: Reader, node: Node, at: int, grid: Grid | None = None) -> str:
    """Return the step whose codes a node reads; the image becomes a step here."""
    name = node.inputs[at]
    if name == reader.input.name and grid is not None:
        image(reader, name, grid)
    value = reader.values.get(name)
    if not isinstance(value, Codes):
        raise unsupported(node, f"{name!r} holds no codes of a layer before it")
    step = reader.steps[value.step]
    known = step.grid
    if grid is not None and isinstance(step, ImageStep):
        grid = unsigned(grid)
    if grid is not None and grid[:2] != known[:2]:
        raise ValueError(
            f"{node}: reads scale {grid.scale} and zero-point {grid.zero_point}, "
            f"{value.step!r} stores {known.scale} and {known.zero_point}"
        )
    return value.step


def image(reader: Reader, name: str, grid: Grid) -> None:
    """Make the codes of the input the first step; int8 codes become codes + 128."""
    kind = reader.input.type.tensor_type
    sizes = tuple(d.dim_value for d in kind.shape.dim)
    if len(sizes) != 4 or not all(sizes[1:]):
        raise ValueError(f"the input must be (N, C, H, W), C, H and W known: {sizes}")
    if unsigned(grid)[2:] != GRIDS["uint8"]:
        raise ValueError("the codes of the input must be uint8 or int8")
    if name not in reader.values:
        reader.steps[name] = ImageStep(name, sizes[1:], unsigned(grid))
        reader.values[name] = Codes(name)


def unsigned(grid: Grid) -> Grid:
    """Return the grid of codes + 128 for int8, others as they are.

    >>> unsigned(Grid(0.5, -1, -128, 127))
    Grid(scale=0.5, zero_point=127, q_min=0, q_max=255)
    """
    shift = 128 if grid[2:] == GRIDS["int8"] else 0
    scale, zero_point, low, high = grid
    return Grid(scale, zero_point + shift, low + shift, high + shift)


def store(reader: Reader, step: Step) -> None:
    """Add a step and the codes it stores."""
    reader.steps[step.name] = step
    reader.values[step.name] = Codes(step.name)


def renamed(reader: Reader, node: Node, **changes: Any) -> None:
    """Call the last step after the output of a node, with other fields where given."""
    name = source_of(reader, node, 0)
    if reader.uses[node.inputs[0]] != 1:
        raise unsupported(node, "its input is read by others, too")
    step = reader.steps.pop(name)
    if isinstance(step, ImageStep):
        raise unsupported(node, "it changes the image")
    store(reader, replace(step, name=node.output, **changes))
