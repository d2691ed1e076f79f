"""Import an ONNX quantized model: what onnxruntime computes, as an integer network.

    operators of codes   QLinearConv, QLinearMatMul, QGemm, QLinearAdd, QLinearMul,
                         QLinearConcat, QLinearSigmoid, QLinearLeakyRelu,
                         QLinearSoftmax, QLinearAveragePool, QLinearGlobalAveragePool
    between quantizers   float operators between DequantizeLinear and QuantizeLinear:
                         what onnxruntime fuses is the operator of codes, the rest is
                         computed in floats (``refqnn.deploy.formats.onnx_between``)
    nodes of QONNX       Quant, BipolarQuant (``refqnn.deploy.formats.qonnx_import``)
    codes rearranged     MaxPool, Flatten, Reshape, Squeeze, Unsqueeze, Transpose, Pad,
                         Slice, Clip, nearest Resize, Identity

Requantization is float32_half_even with the ratio x_scale * w_scale / y_scale in
float32: onnxruntime's own. The images of the network are the codes that the first
QuantizeLinear makes, or the uint8 input itself; codes of int8 images are given + 128.
Weights in floats behind a QuantizeLinear are quantized here.
"""

import difflib
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from refqnn.deploy.formats import qonnx_import
from refqnn.deploy.formats.onnx_between import float_operator, store_quantized
from refqnn.deploy.formats.onnx_graph import package
from refqnn.deploy.formats.onnx_options import OPTIONS, REFUSED
from refqnn.deploy.formats.onnx_qlinear import CONTRIB, QLINEAR, Handler
from refqnn.deploy.formats.onnx_read import (
    Codes,
    Fixed,
    Node,
    Reader,
    Real,
    Term,
    codes_of,
    constant_input,
    constant_of,
    grid_of,
    read_model,
    read_node,
    refuse_malformed,
    rename,
    start,
    store,
    store_image,
    stored_as,
    unsupported_error,
    value_of,
)
from refqnn.deploy.formats.onnx_rearrange import (
    REARRANGED,
    Arrangement,
    rearrange,
    store_rearranged,
)
from refqnn.deploy.network import IntegerNetwork
from refqnn.deploy.operations import OperationStep
from refqnn.deploy.steps import ImageStep, PoolStep
from refqnn.files import Unreadable
from refqnn.integer import quantize

#: elements of a folded constant, where its inputs are not larger
MOST_FOLDED = 2**20
QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")
#: what a damaged operator raises where it is read
DAMAGED = (IndexError, KeyError, TypeError, AttributeError, OverflowError)


def import_onnx(made: Any, *, until: str | None = None) -> IntegerNetwork:
    """Return the integer network that an ONNX quantized model amounts to.

    ``made`` is a ModelProto or the path of a file. Tensors of codes keep their names: a
    step is called after the tensor that holds its codes. With ``until`` the network
    ends at a node of this name, or one that makes a tensor of this name.

    Raises ValueError naming operator and node for what is not supported or damaged, and
    for parameters that have no integer form: ``Unreadable`` where they come of a file.
    """
    path = made if isinstance(made, str | os.PathLike) else None
    made = made if path is None else read_model(path)
    names = {name for n in made.graph.node for name in (n.name, *n.output)}
    if until is not None and until not in names:
        raise ValueError(f"no node and no tensor is called {until!r}")
    try:
        return network_of(made, until)
    except ValueError as error:
        if path is None:
            raise
        raise Unreadable(f"{path}: {error}") from error


def network_of(made: Any, until: str | None) -> IntegerNetwork:
    """Read the operators of a model in their order, up to a name."""
    with refuse_malformed("the model"):
        reader = start(made)
    outputs = [output.name for output in made.graph.output]
    for proto in made.graph.node:
        try:
            with refuse_malformed(f"{proto.op_type} (node {proto.name!r})"):
                read_operator(reader, proto)
        except ValueError as error:
            raise ValueError(f"{error}{partial_import(reader, made)}") from error
        if until is not None and until in (proto.name, *proto.output):
            outputs = list(proto.output[:1])
            break
    if not outputs:
        raise ValueError("the model has no output")
    for name in outputs:
        step = output_step(reader, name)
    reader.steps[step] = reader.steps.pop(step)  # the last one gives the logits
    return IntegerNetwork(tuple(reader.steps.values()))


def partial_import(reader: Reader, made: Any) -> str:
    """Name the last tensor that can be imported, for the end of a message."""
    tensors = {name for proto in made.graph.node for name in proto.output}
    codes = [name for name in list(reader.steps)[1:] if name in tensors]
    return f"; what is before it: --until {codes[-1]}" if codes else ""


#: the name of ``import_onnx`` in refqnn 0.1
from_onnx = import_onnx


def read_operator(reader: Reader, proto: Any) -> None:
    """Add the tensors that one operator computes from those known so far."""
    try:
        node = read_node(proto)
        handler_of(reader, proto, node)(reader, node)
    except DAMAGED as error:
        raise ValueError(
            f"{proto.op_type} (node {proto.name!r}) is not supported: its inputs or "
            f"attributes do not fit: {error!r}"
        ) from error


def handler_of(reader: Reader, proto: Any, node: Node) -> Handler:
    """Return the function that reads an operator; raise for an unsupported one."""
    domain = "" if proto.domain == "ai.onnx" else proto.domain
    constant = node.inputs and all(n in reader.constants for n in node.inputs if n)
    if not domain and node.op == "Constant":
        return store_constant
    if not domain and constant and node.op not in QUANTIZERS:
        return lambda reader, node: fold_constants(reader, proto, node)
    known = HANDLERS.get((domain, node.op)) or qonnx_import.handler(
        reader, domain, node
    )
    if known is not None:
        return known
    real = not isinstance(value_of(reader, node, 0), Codes)
    blended = real and node.attributes.get("mode") == "linear"  # Resize of floats
    if not domain and node.op in REARRANGED and not blended:
        return rearrange
    if domain in {"", CONTRIB} and node.op in OPTIONS:
        return float_operator
    if node.op in REFUSED:
        raise unsupported_error(node, REFUSED[node.op])
    names = sorted({op for _, op in HANDLERS} | {*OPTIONS, *REARRANGED})
    near = difflib.get_close_matches(node.op, names, cutoff=0.5)
    nearest = f"nearest: {', '.join(near)}; " if near else ""
    supported = ", ".join(names)
    why = f"no integer step computes it; {nearest}supported are {supported}"
    raise unsupported_error(node, why)


def store_constant(reader: Reader, node: Node) -> None:
    """Keep the array of a Constant."""
    reader.constants[node.output] = constant_of(node)


def fold_constants(reader: Reader, proto: Any, node: Node) -> None:
    """Compute an operator whose inputs are all constants, by the reference of ONNX.

    Raises ValueError for operators with graphs of their own, which may run forever, and
    for results that are far larger than the file.
    """
    helper = package("onnx.helper")
    feeds = {name: reader.constants[name] for name in node.inputs if name}
    if any(a.HasField("g") or len(a.graphs) for a in proto.attribute):
        raise unsupported_error(node, "it runs a graph of its own on constants")
    empty = helper.make_empty_tensor_value_info
    opset = [helper.make_opsetid("", reader.opset)]
    held = [package("onnx.numpy_helper").from_array(v, k) for k, v in feeds.items()]
    try:
        graph = helper.make_graph([proto], "constant", [], [empty(node.output)], held)
        model = helper.make_model(graph, opset_imports=opset)
        size = inferred_size(model)
        limit = max(MOST_FOLDED, 2 * sum(v.size for v in feeds.values()))
        if size > limit:
            raise ValueError(f"{size} elements of {limit}")  # noqa: TRY301 - named below
        evaluator = package("onnx.reference").ReferenceEvaluator(model)
        folded = np.asarray(evaluator.run(None, {})[0])
    except Exception as error:
        raise unsupported_error(
            node, f"its constants cannot be computed: {error}"
        ) from error
    reader.constants[node.output] = folded


def inferred_size(model: Any) -> int:
    """Return the number of elements of the one output of a model; 0 where unknown."""
    infer = package("onnx.shape_inference").infer_shapes
    kind = infer(model, data_prop=True).graph.output[0].type.tensor_type
    return (
        math.prod(d.dim_value for d in kind.shape.dim) if kind.HasField("shape") else 0
    )


def output_step(reader: Reader, name: str) -> str:
    """Return the step of an output of the model: codes, dequantized or not."""
    value = reader.values.get(name)
    if isinstance(value, Term):
        return qonnx_import.store_logits(reader, name, value)
    if not isinstance(value, Codes | Real):
        raise ValueError(f"the output {name!r} is computed by no operator before")  # noqa: TRY004 - bad values are ValueErrors in this house
    return stored_as(reader, value).name


def dequantize_linear(reader: Reader, node: Node) -> None:
    """Keep codes of a step, or constant codes, as real numbers: s (q - z)."""
    if node.inputs[0] in reader.constants:
        q, scale = (constant_input(reader, node, at) for at in (0, 1))
        zero = constant_input(reader, node, 2, np.zeros((), q.dtype))
        axis = axis_of_scales(node, q, scale)
        block = int(node.attributes.get("block_size", 0))
        if {q.dtype.kind, zero.dtype.kind} - {"i", "u"} or scale.dtype.kind != "f":
            raise unsupported_error(node, f"codes are {q.dtype}, scales {scale.dtype}")
        reader.values[node.output] = Fixed(q, scale, zero, axis, block)
        return
    codes = codes_of(reader, node, 0, grid_of(reader, node, 1, 2))
    reader.values[node.output] = Real(*codes)


def quantize_linear(reader: Reader, node: Node) -> None:
    """Store the input, constant weights or a float expression as codes."""
    value = value_of(reader, node, 0)
    if isinstance(value, np.ndarray):
        reader.constants[node.output] = quantize_constant(reader, node, value)
        return
    y = grid_of(reader, node, 1, 2)
    if node.inputs[0] == reader.input.name:
        store_image(reader, node.output, y)
        return
    if isinstance(value, Real) and y[:2] == reader.steps[value.step].grid[:2]:
        store_same(reader, node, value)
        return
    if isinstance(value, Real):
        float_operator(reader, node._replace(op="Identity", inputs=node.inputs[:1]))
        value = reader.values[node.output]
    if not isinstance(value, Term):
        raise unsupported_error(
            node, f"{node.inputs[0]!r} is not the output of a layer"
        )
    store_quantized(reader, node, value, y)


def store_same(reader: Reader, node: Node, value: Real) -> None:
    """Keep codes that are quantized to their own grid, in the shape they have now."""
    step = reader.steps[value.step]
    pooled = isinstance(step, PoolStep)
    if step.shape == value.shape or pooled or isinstance(step, ImageStep):
        reader.values[node.output] = Codes(*value)
    else:
        options = {"shape": value.shape}
        made = Arrangement("reshape", options, value.shape)
        flat = Real(step.name, step.shape)
        store_rearranged(reader, node.output, flat, made)


def axis_of_scales(node: Node, v: Any, scale: Any) -> int:
    """Read the axis that has a scale for every index, one of the axes of v."""
    axis, rank = node.attributes.get("axis", 1), v.ndim
    if not isinstance(axis, int) or (scale.size > 1 and not -rank <= axis < rank):
        raise unsupported_error(node, f"axis must lie in [{-rank}, {rank}): {axis}")
    return axis


def quantize_constant(reader: Reader, node: Node, v: Any) -> Any:
    """Return the codes of constant weights, per tensor or per index of an axis."""
    scale = constant_input(reader, node, 1).astype(np.float32)
    zero = constant_input(reader, node, 2, np.uint8(0))
    axis = axis_of_scales(node, v, scale) % max(v.ndim, 1)
    shape = (-1, *(1,) * (v.ndim - 1 - axis)) if scale.size > 1 else ()
    info = np.iinfo(zero.dtype)
    return quantize(
        v.astype(np.float32),
        scale.reshape(shape),
        zero.astype(np.int64).reshape(shape if zero.size > 1 else ()),
        q_min=info.min,
        q_max=info.max,
    ).astype(zero.dtype)


def relu_or_clip(reader: Reader, node: Node) -> None:
    """Clip of codes: a smaller grid; of floats, an operator between quantizers."""
    value = value_of(reader, node, 0)
    if not isinstance(value, Codes):
        float_operator(reader, node)
        return
    grid = reader.steps[value.step].grid
    low = int(constant_input(reader, node, 1, grid.q_min).item())
    high = int(constant_input(reader, node, 2, grid.q_max).item())
    low, high = max(low, grid.q_min), min(high, grid.q_max)
    if low > high:
        raise unsupported_error(node, f"no code lies in [{low}, {high}]")
    smaller = grid._replace(q_min=low, q_max=high)
    if low <= grid.zero_point <= high and rename(reader, node, value, grid=smaller):
        return
    options = {"q_min": low, "q_max": high}
    source = stored_as(reader, value)
    store(
        reader,
        OperationStep(
            node.output, (source.name,), ("x",), value.shape, "clip", options, smaller
        ),
    )


def identity(reader: Reader, node: Node) -> None:
    """Give the input another name."""
    value = value_of(reader, node, 0)
    if not isinstance(value, Codes) or not rename(reader, node, value):
        reader.values[node.output] = value


HANDLERS: Mapping[tuple[str, str], Handler] = {
    **QLINEAR,
    ("", "DequantizeLinear"): dequantize_linear,
    ("", "QuantizeLinear"): quantize_linear,
    (CONTRIB, "DequantizeLinear"): dequantize_linear,
    (CONTRIB, "QuantizeLinear"): quantize_linear,
    ("", "Clip"): relu_or_clip,
    ("", "Identity"): identity,
    ("", "Dropout"): identity,
}
