"""Write ONNX nodes and constants: what the exact, QDQ and QONNX forms are made of.

The package ``onnx`` is loaded when a node is made.
"""

import importlib
import os
from typing import Any, NamedTuple

import numpy as np

from refqnn._types import Array
from refqnn.deploy.fold import Grid
from refqnn.deploy.steps import Shortcut, Step, Sum
from refqnn.files import write_bytes
from refqnn.geometry import Pair

#: the first with 16-bit QuantizeLinear; onnxruntime reads it since 1.20
OPSET, IR_VERSION = 21, 10
#: uint8 weights are codes + 128, zero-point 128
WEIGHT_OFFSET = 128
#: an end of Slice that no plane reaches
FAR = 2**31 - 1


class Graph(NamedTuple):
    """Nodes in the order in which they run, and their constants by name."""

    nodes: list[Any]
    constants: dict[str, Array]
    #: "uint8" or "int8"
    weights: str = "uint8"


def package(name: str, extra: str = "onnx") -> Any:
    """Import a module of an extra; say how to install it where absent."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(
            f"{name.partition('.')[0]} is not installed: pip install refqnn[{extra}]"
        ) from error


def node(
    graph: Graph, op: str, inputs: list[str], output: str, **attributes: Any
) -> str:
    """Add a node; return the name of its output, which is also its own."""
    make = package("onnx.helper").make_node
    graph.nodes.append(make(op, inputs, [output], name=output, **attributes))
    return output


def constant(graph: Graph, name: str, values: Any, dtype: Any) -> str:
    """Add a constant array; return its name."""
    graph.constants[name] = np.asarray(values, dtype)
    return name


def onnx_type(dtype: Any) -> int:
    """Return the number by which ONNX knows a dtype."""
    return int(package("onnx.helper").np_dtype_to_tensor_dtype(np.dtype(dtype)))


def grid_constants(graph: Graph, name: str, grid: Grid) -> list[str]:
    """Add scale and zero-point of a grid; return their names."""
    return [
        constant(graph, f"{name}.scale", grid.scale, np.float32),
        constant(graph, f"{name}.zero_point", grid.zero_point, grid.dtype),
    ]


def rearrange(graph: Graph, x: str, name: str, options: Any, dtype: Any) -> str:
    """Add Reshape, Transpose, Pad or Gather: whichever the options are those of.

    dtype: that of a padded value
    """
    if "shape" in options:
        shape = constant(graph, f"{name}.shape", [0, *options["shape"]], np.int64)
        return node(graph, "Reshape", [x, shape], name)
    if "axes" in options:
        return node(graph, "Transpose", [x], name, perm=list(options["axes"]))
    if "widths" in options:
        before, after = zip((0, 0), *options["widths"], strict=True)
        pads = constant(graph, f"{name}.pads", [*before, *after], np.int64)
        value = constant(graph, f"{name}.value", options["value"], dtype)
        return node(graph, "Pad", [x, pads, value], name)
    for i, (axis, indices) in enumerate(options["picks"]):
        at = constant(graph, f"{name}.{i}.indices", indices, np.int64)
        x = node(graph, "Gather", [x, at], f"{name}.{i}", axis=axis)
    return x


def shift_codes(graph: Graph, codes: str, by: int, dtype: Any) -> str:
    """Return codes + by in another dtype."""
    wide = node(graph, "Cast", [codes], f"{codes}.wide{by}", to=onnx_type(np.int32))
    added = constant(graph, f"{codes}.by{by}", by, np.int32)
    total = node(graph, "Add", [wide, added], f"{codes}.total{by}")
    return node(graph, "Cast", [total], f"{codes}.shifted{by}", to=onnx_type(dtype))


def as_uint8(graph: Graph, source: Step) -> tuple[str, int]:
    """Return codes as uint8, and what was added to them: 128 to those of int8.

    Operators of sums read one type alone.
    """
    name = f"{source.name}.shifted{WEIGHT_OFFSET}"
    if source.grid.dtype == np.uint8:
        return source.name, 0
    if all(name != made.name for made in graph.nodes):  # several readers share it
        shift_codes(graph, source.name, WEIGHT_OFFSET, np.uint8)
    return name, WEIGHT_OFFSET


def weight_constants(graph: Graph, total: Sum, x_zero: int) -> tuple[str, str, str]:
    """Return the names of weights, zero-point of the input, zero-point of the weights.

    Weights of a product are (I, O).
    """
    signed = graph.weights == "int8"
    offset, dtype = (0, np.int8) if signed else (WEIGHT_OFFSET, np.uint8)
    w = total.w.astype(np.int64)
    if (not signed and w.min(initial=0) < -WEIGHT_OFFSET) or w.max(initial=0) > 127:
        offset = -int(w.min(initial=0))  # of 9 bits: uint8 with another zero-point
    w, info = w + offset, np.iinfo(dtype)
    if w.min(initial=0) < info.min or w.max(initial=0) > info.max or offset > 255:
        raise ValueError(f"{total.name}: weights of 9 bits fit no {graph.weights}")
    return (
        constant(graph, f"{total.name}.w", w.T if w.ndim == 2 else w, dtype),
        constant(graph, f"{total.name}.x_zero_point", x_zero, np.uint8),
        constant(graph, f"{total.name}.w_zero_point", offset, dtype),
    )


def window_of(total: Sum) -> dict[str, Any]:
    """Return the attributes of a convolution."""
    return {
        **window_attributes(total.w.shape[2:], total.stride, total.padding),
        "dilations": list(total.dilation),
        "group": total.groups,
    }


def window_attributes(
    kernel: tuple[int, ...], stride: Pair, padding: tuple[Pair, Pair]
) -> dict[str, Any]:
    """Return kernel, strides and pads of a window as ONNX writes them."""
    (top, bottom), (left, right) = padding
    return {
        "kernel_shape": list(kernel),
        "strides": list(stride),
        "pads": [top, left, bottom, right],
    }


def skip_pixels(graph: Graph, skip: Shortcut, source: str) -> str:
    """Keep every ``stride``-th pixel."""
    if skip.stride == 1:
        return source
    parts = {
        "starts": [0, 0],
        "ends": [FAR, FAR],
        "axes": [2, 3],
        "steps": [skip.stride, skip.stride],
    }
    names = [constant(graph, f"{skip.name}.{k}", v, np.int64) for k, v in parts.items()]
    return node(graph, "Slice", [source, *names], f"{skip.name}.strided")


def pad_channels(
    graph: Graph, skip: Shortcut, x: str, channels: int, output: str
) -> str:
    """Add channels of zeros around the ``channels`` there are."""
    new = skip.channels - channels
    if not new:
        return node(graph, "Identity", [x], output)
    pads = [0, new // 2, 0, 0, 0, new - new // 2, 0, 0]
    at = constant(graph, f"{skip.name}.pads", pads, np.int64)
    return node(graph, "Pad", [x, at], output)


def clip_codes(graph: Graph, codes: str, step: Step) -> None:
    """Restrict codes to those of the grid, under the name of the step."""
    dtype = step.grid.dtype
    info = np.iinfo(dtype)
    if (info.min, info.max) == (step.grid.q_min, step.grid.q_max):
        node(graph, "Identity", [codes], step.name)
        return
    low = constant(graph, f"{step.name}.q_min", step.grid.q_min, dtype)
    high = constant(graph, f"{step.name}.q_max", step.grid.q_max, dtype)
    node(graph, "Clip", [codes, low, high], step.name)


def per_channel(v: Array, ndim: int) -> Array:
    """View (O,) so that it broadcasts: (O, 1, 1) against four axes.

    >>> per_channel(np.ones(3), 4).shape, per_channel(np.ones(3), 2).shape
    ((3, 1, 1), (3,))
    """
    return v.reshape(-1, *(1,) * (ndim - 2))


def model(
    graph: Graph, name: str, source: tuple[str, Any, tuple[Any, ...]], output: Any,
    domains: dict[str, int] | None = None,
) -> Any:  # fmt: skip
    """Return the model with one input and one output; onnx checks it.

    source, output: (name, dtype, shape), letters for sizes that are free
    """
    helper, arrays = package("onnx.helper"), package("onnx.numpy_helper")
    ends = [
        helper.make_tensor_value_info(at, onnx_type(dtype), shape)
        for at, dtype, shape in (source, output)
    ]
    constants = [arrays.from_array(a, n) for n, a in graph.constants.items()]
    made = helper.make_model(
        helper.make_graph(graph.nodes, name, ends[:1], ends[1:], constants),
        opset_imports=[
            helper.make_opsetid(domain, version)
            for domain, version in ({"": OPSET} | (domains or {})).items()
        ],
        ir_version=IR_VERSION,
        producer_name="refqnn",
    )
    package("onnx.checker").check_model(made)
    return made


def save_model(path: str | os.PathLike[str], made: Any) -> None:
    """Write a model whole or not at all."""
    write_bytes(path, made.SerializeToString())
