"""ONNX nodes that share constants; the package ``onnx`` is loaded when one is made."""

import importlib
import os
from typing import Any, NamedTuple

import numpy as np

from refqnn._types import Array
from refqnn.deploy.steps import Step
from refqnn.files import write_bytes
from refqnn.integer.checks import code_dtype

#: the first with 16-bit QuantizeLinear; onnxruntime reads it since 1.20
OPSET, IR_VERSION = 21, 10


class Graph(NamedTuple):
    """Nodes in the order in which they run, and their constants by name."""

    nodes: list[Any]
    constants: dict[str, Array]
    #: "uint8" or "int8"
    weights: str = "uint8"


def package(name: str) -> Any:
    """Import a module of the extra ``onnx``; say how to install it where absent."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(
            f"{name.partition('.')[0]} is not installed: pip install refqnn[onnx]"
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


def dtype_of(step: Step) -> Any:
    """Return the dtype of the codes of a step."""
    return code_dtype(step.grid.q_min, step.grid.q_max)


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
