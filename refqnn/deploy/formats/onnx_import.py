"""Import an ONNX quantized model: what onnxruntime computes, as an integer network.

    operators of codes   QLinearConv, QLinearMatMul, QGemm, QLinearAdd, QLinearMul,
                         QLinearConcat, QLinearSigmoid, QLinearLeakyRelu,
                         QLinearSoftmax, QLinearAveragePool, QLinearGlobalAveragePool
    between quantizers   float operators between DequantizeLinear and QuantizeLinear:
                         what onnxruntime fuses is the operator of codes, the rest is
                         computed in floats (``refqnn.deploy.formats.onnx_between``)
    codes rearranged     MaxPool, Flatten, Reshape, Squeeze, Unsqueeze, Transpose, Pad,
                         Slice, Clip, nearest Resize, Identity

Requantization is float32_half_even with the ratio x_scale * w_scale / y_scale in
float32: onnxruntime's own. The images of the network are the codes that the first
QuantizeLinear makes, or the uint8 input itself; codes of int8 images are given + 128.
Weights in floats behind a QuantizeLinear are quantized here.
"""

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from refqnn.deploy.build import layer_step, pool_step
from refqnn.deploy.fold import Grid
from refqnn.deploy.formats.onnx_between import float_operator, store_quantized
from refqnn.deploy.formats.onnx_graph import package
from refqnn.deploy.formats.onnx_options import OPTIONS, REFUSED
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
from refqnn.deploy.formats.onnx_weights import ROUNDING, Weights, weighted_sum
from refqnn.deploy.network import IntegerNetwork
from refqnn.deploy.operations import OperationStep
from refqnn.deploy.steps import ImageStep, PoolStep
from refqnn.integer import quantize

CONTRIB = "com.microsoft"
QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")
Handler = Callable[[Reader, Node], None]
#: what a damaged operator raises where it is read
DAMAGED = (IndexError, KeyError, TypeError, AttributeError, OverflowError)


def import_onnx(made: Any, *, until: str | None = None) -> IntegerNetwork:
    """Return the integer network that an ONNX quantized model amounts to.

    ``made`` is a ModelProto or the path of a file. Tensors of codes keep their names: a
    step is called after the tensor that holds its codes. With ``until`` the network
    ends at a node of this name, or one that makes a tensor of this name.

    Raises ValueError naming operator and node for what is not supported, and for
    parameters that have no integer form; ``Unreadable`` for a file that is damaged.
    """
    if isinstance(made, str | os.PathLike):
        made = read_model(made)
    with refuse_malformed("the model"):
        reader = start(made)
    outputs = [output.name for output in made.graph.output]
    for proto in made.graph.node:
        with refuse_malformed(f"{proto.op_type} (node {proto.name!r})"):
            read_operator(reader, proto)
        if until is not None and until in (proto.name, *proto.output):
            outputs = list(proto.output[:1])
            break
    else:
        if until is not None:
            raise ValueError(f"no node and no tensor is called {until!r}")
    if not outputs:
        raise ValueError("the model has no output")
    for name in outputs:
        step = output_step(reader, name)
    reader.steps[step] = reader.steps.pop(step)  # the last one gives the logits
    return IntegerNetwork(tuple(reader.steps.values()))


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
    if (domain, node.op) in HANDLERS:
        return HANDLERS[domain, node.op]
    real = not isinstance(value_of(reader, node, 0), Codes)
    blended = real and node.attributes.get("mode") == "linear"  # Resize of floats
    if not domain and node.op in REARRANGED and not blended:
        return rearrange
    if domain in {"", CONTRIB} and node.op in OPTIONS:
        return float_operator
    if node.op in REFUSED:
        raise unsupported_error(node, REFUSED[node.op])
    known = ", ".join(sorted({op for _, op in HANDLERS} | {*OPTIONS, *REARRANGED}))
    raise unsupported_error(node, f"no integer step computes it; supported are {known}")


def store_constant(reader: Reader, node: Node) -> None:
    """Keep the array of a Constant."""
    reader.constants[node.output] = constant_of(node)


def fold_constants(reader: Reader, proto: Any, node: Node) -> None:
    """Compute an operator whose inputs are all constants, by the reference of ONNX."""
    helper = package("onnx.helper")
    feeds = {name: reader.constants[name] for name in node.inputs if name}
    empty = helper.make_empty_tensor_value_info
    opset = [helper.make_opsetid("", reader.opset)]
    try:
        graph = helper.make_graph(
            [proto], "constant", [empty(name) for name in feeds], [empty(node.output)]
        )
        model = helper.make_model(graph, opset_imports=opset)
        evaluator = package("onnx.reference").ReferenceEvaluator(model)
        folded = np.asarray(evaluator.run(None, feeds)[0])
    except Exception as error:
        raise unsupported_error(
            node, f"its constants cannot be computed: {error}"
        ) from error
    reader.constants[node.output] = folded


def output_step(reader: Reader, name: str) -> str:
    """Return the step of an output of the model: codes, dequantized or not."""
    value = reader.values.get(name)
    if isinstance(value, Term):
        raise unsupported_error(value.node, f"the output {name!r} must be quantized")
    if not isinstance(value, Codes | Real):
        raise ValueError(f"the output {name!r} is computed by no operator before")  # noqa: TRY004 - bad values are ValueErrors in this house
    return stored_as(reader, value).name


def store_layer(
    reader: Reader, node: Node, x: Codes | Real, weights: Weights, y: Grid
) -> None:
    """Add the step of a convolution or a product."""
    source = stored_as(reader, x)
    total, shape = weighted_sum(str(node), node.output, source, weights)
    store(reader, layer_step(str(node), source, total, shape, y, ROUNDING))


def qlinear_conv(reader: Reader, node: Node) -> None:
    """x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, [bias]"""
    x = codes_of(reader, node, 0, grid_of(reader, node, 1, 2))
    w, scale, zero = (constant_input(reader, node, at) for at in (3, 4, 5))
    bias = constant_input(reader, node, 8, np.zeros(len(w), np.int32))
    weights = Weights(w, scale, zero, bias, node.attributes)
    store_layer(reader, node, x, weights, grid_of(reader, node, 6, 7))


def qlinear_matmul(reader: Reader, node: Node) -> None:
    """a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero"""
    x = codes_of(reader, node, 0, grid_of(reader, node, 1, 2))
    b, scale, zero = (constant_input(reader, node, at) for at in (3, 4, 5))
    weights = Weights(b.T, scale, zero, np.zeros(b.shape[-1], np.int32), {})
    store_layer(reader, node, x, weights, grid_of(reader, node, 6, 7))


def qgemm(reader: Reader, node: Node) -> None:
    """a, a_scale, a_zero, b, b_scale, b_zero, [bias], y_scale, y_zero"""
    factors = [node.attributes.get("alpha", 1.0), node.attributes.get("transA", 0)]
    if factors != [1.0, 0]:
        raise unsupported_error(node, "alpha and beta must be 1 and transA 0")
    if len(node.inputs) < 8 or not node.inputs[7]:
        raise unsupported_error(node, "its output must be quantized")
    x = codes_of(reader, node, 0, grid_of(reader, node, 1, 2))
    b, scale, zero = (constant_input(reader, node, at) for at in (3, 4, 5))
    w = b if node.attributes.get("transB") else b.T
    bias = constant_input(reader, node, 6, np.zeros(len(w), np.int32)).reshape(-1)
    weights = Weights(w, scale, zero, bias, {})
    store_layer(reader, node, x, weights, grid_of(reader, node, 7, 8))


def qlinear_global_pool(reader: Reader, node: Node) -> None:
    """x, x_scale, x_zero, y_scale, y_zero"""
    check_channels_first(node)
    x = stored_as(reader, codes_of(reader, node, 0, grid_of(reader, node, 1, 2)))
    y = grid_of(reader, node, 3, 4)
    step = pool_step(str(node), node.output, x, y, ROUNDING)
    store(reader, step, (*step.shape, 1, 1))


def qlinear_pool(reader: Reader, node: Node) -> None:
    """x, x_scale, x_zero, y_scale, y_zero"""
    check_channels_first(node)
    x = codes_of(reader, node, 0, grid_of(reader, node, 1, 2))
    store_operator(reader, node, "AveragePool", (x,), grid_of(reader, node, 3, 4))


def qlinear_binary(reader: Reader, node: Node) -> None:
    """a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero"""
    given = [code_input(reader, node, at) for at in (0, 3)]
    op = node.op.removeprefix("QLinear")
    store_operator(reader, node, op, tuple(given), grid_of(reader, node, 6, 7))


def qlinear_concat(reader: Reader, node: Node) -> None:
    """y_scale, y_zero, then x, x_scale, x_zero of every input"""
    given = [code_input(reader, node, at) for at in range(2, len(node.inputs), 3)]
    store_operator(reader, node, "Concat", tuple(given), grid_of(reader, node, 0, 1))


def qlinear_function(reader: Reader, node: Node) -> None:
    """x, x_scale, x_zero, y_scale, y_zero"""
    x = codes_of(reader, node, 0, grid_of(reader, node, 1, 2))
    op = node.op.removeprefix("QLinear")
    store_operator(reader, node, op, (x,), grid_of(reader, node, 3, 4))


def code_input(reader: Reader, node: Node, at: int) -> Any:
    """Return codes of a step, or constant codes, with scale and zero-point behind."""
    if node.inputs[at] in reader.constants:
        q, scale, zero = (constant_input(reader, node, at + i) for i in range(3))
        return Fixed(q, scale, zero, 0)
    return codes_of(reader, node, at, grid_of(reader, node, at + 1, at + 2))


def store_operator(
    reader: Reader, node: Node, op: str, inputs: tuple[Any, ...], y: Grid
) -> None:
    """Add the step of a float operator between quantizers, written as one of codes."""
    reals = [Real(*v) if isinstance(v, Codes) else v for v in inputs]
    keys = [f"{node.output}.input{i}" for i in range(len(reals))]
    reader.values |= dict(zip(keys, reals, strict=True))
    inner = node._replace(op=op, inputs=keys)
    float_operator(reader, inner)
    store_quantized(reader, node, reader.values[node.output], y)
    for key in keys:
        del reader.values[key]


def check_channels_first(node: Node) -> None:
    """Raise for planes whose channels stand last."""
    if node.attributes.get("channels_last"):
        raise unsupported_error(node, "channels_last must be 0")


def dequantize_linear(reader: Reader, node: Node) -> None:
    """Keep codes of a step, or constant codes, as real numbers: s (q - z)."""
    if node.inputs[0] in reader.constants:
        q, scale = (constant_input(reader, node, at) for at in (0, 1))
        zero = constant_input(reader, node, 2, np.zeros((), q.dtype))
        axis = int(node.attributes.get("axis", 1))
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


def quantize_constant(reader: Reader, node: Node, v: Any) -> Any:
    """Return the codes of constant weights, per tensor or per index of an axis."""
    scale = constant_input(reader, node, 1).astype(np.float32)
    zero = constant_input(reader, node, 2, np.uint8(0))
    axis = int(node.attributes.get("axis", 1)) % max(v.ndim, 1)
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
    ("", "QLinearConv"): qlinear_conv,
    ("", "QLinearMatMul"): qlinear_matmul,
    (CONTRIB, "QGemm"): qgemm,
    (CONTRIB, "QLinearGlobalAveragePool"): qlinear_global_pool,
    (CONTRIB, "QLinearAveragePool"): qlinear_pool,
    (CONTRIB, "QLinearAdd"): qlinear_binary,
    (CONTRIB, "QLinearMul"): qlinear_binary,
    (CONTRIB, "QLinearConcat"): qlinear_concat,
    (CONTRIB, "QLinearSigmoid"): qlinear_function,
    (CONTRIB, "QLinearLeakyRelu"): qlinear_function,
    (CONTRIB, "QLinearSoftmax"): qlinear_function,
    ("", "DequantizeLinear"): dequantize_linear,
    ("", "QuantizeLinear"): quantize_linear,
    (CONTRIB, "DequantizeLinear"): dequantize_linear,
    (CONTRIB, "QuantizeLinear"): quantize_linear,
    ("", "Clip"): relu_or_clip,
    ("", "Identity"): identity,
    ("", "Dropout"): identity,
}
