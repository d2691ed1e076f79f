"""An ONNX quantized model as an integer network: what onnxruntime computes.

    operator-oriented   QLinearConv, QLinearMatMul, QGemm, QLinearGlobalAveragePool
    QDQ                 Conv, Gemm, MatMul, GlobalAveragePool, Relu between
                        DequantizeLinear and QuantizeLinear
    both                Clip of codes, Flatten and Reshape of pooled codes, Identity;
                        QuantizeLinear of the input, DequantizeLinear of the output

Layers follow one another. Requantization is float32_half_even with the ratio
x_scale * w_scale / y_scale in float32: onnxruntime's own, in both forms as long as it
fuses the second to the first. The images of the network are the codes that the first
QuantizeLinear makes, or the uint8 input itself; codes of int8 images are given + 128.

QLinearAdd, and Add between quantizers, are refused: onnxruntime rounds them differently
from processor to processor, so no integer network equals it on every machine.
"""

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from refqnn.deploy.build import layer_step, pool_step
from refqnn.deploy.fold import Grid
from refqnn.deploy.formats.onnx_layer import ROUNDING, Weights, weighted_sum
from refqnn.deploy.formats.onnx_read import (
    Codes,
    Fixed,
    Node,
    Reader,
    Real,
    Sums,
    constant_of,
    fixed,
    grid_of,
    image,
    read_model,
    read_node,
    renamed,
    source_of,
    start,
    store,
    unsupported,
)
from refqnn.deploy.network import IntegerNetwork
from refqnn.deploy.steps import PoolStep

ROUNDED_BY_MACHINE = "its rounding differs from processor to processor"
#: operators that are refused for a reason of their own
REFUSED = {"QLinearAdd": ROUNDED_BY_MACHINE, "Add": ROUNDED_BY_MACHINE}


def from_onnx(made: Any) -> IntegerNetwork:
    """Return the integer network that an ONNX quantized model amounts to.

    ``made`` is a ModelProto or the path of a file. Tensors of codes keep their names: a
    step is called after the last tensor that holds its codes, Clip and Flatten
    included.

    Raises ValueError naming operator and node for what is not supported, and for
    parameters that have no integer form.
    """
    if isinstance(made, str | os.PathLike):
        made = read_model(made)
    reader = start(made.graph)
    for proto in made.graph.node:
        node = read_node(proto)
        if node.op == "Constant":
            reader.constants[node.output] = constant_of(node)
            continue
        handler = HANDLERS.get((proto.domain, node.op))
        if handler is None:
            known = ", ".join(sorted(op for _, op in HANDLERS))
            why = REFUSED.get(node.op, "no integer step computes it")
            raise unsupported(node, f"{why}; supported are {known}")
        handler(reader, node)
    return IntegerNetwork(tuple(reader.steps.values()))


def qlinear_conv(reader: Reader, node: Node) -> None:
    """x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, [bias]"""
    source = source_of(reader, node, 0, grid_of(reader, node, 1, 2))
    w, scale, zero = (fixed(reader, node, at) for at in (3, 4, 5))
    bias = fixed(reader, node, 8, np.zeros(len(w), np.int32))
    weights = Weights(w, scale, zero, bias, node.attributes)
    y = grid_of(reader, node, 6, 7)
    store_layer(reader, node, source, weights, y)


def qlinear_matmul(reader: Reader, node: Node) -> None:
    """a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero"""
    source = source_of(reader, node, 0, grid_of(reader, node, 1, 2))
    b, scale, zero = (fixed(reader, node, at) for at in (3, 4, 5))
    bias = np.zeros(b.shape[-1], np.int32)
    y = grid_of(reader, node, 6, 7)
    weights = Weights(b.T, scale, zero, bias, {})
    store_layer(reader, node, source, weights, y)


def qgemm(reader: Reader, node: Node) -> None:
    """a, a_scale, a_zero, b, b_scale, b_zero, [bias], y_scale, y_zero"""
    check_gemm(node)
    if len(node.inputs) < 8 or not node.inputs[7]:
        raise unsupported(node, "its output must be quantized")
    source = source_of(reader, node, 0, grid_of(reader, node, 1, 2))
    b, scale, zero = (fixed(reader, node, at) for at in (3, 4, 5))
    w = b if node.attributes.get("transB") else b.T
    bias = fixed(reader, node, 6, np.zeros(len(w), np.int32)).reshape(-1)
    weights = Weights(w, scale, zero, bias, {})
    y = grid_of(reader, node, 7, 8)
    store_layer(reader, node, source, weights, y)


def store_layer(
    reader: Reader, node: Node, source: str, weights: Weights, y: Grid
) -> None:
    """Add the step of a convolution or a product."""
    x = reader.steps[source]
    total, shape = weighted_sum(str(node), node.output, x, weights)
    store(reader, layer_step(str(node), x, total, shape, y, ROUNDING))


def store_pool(reader: Reader, node: Node, source: str, y: Grid) -> None:
    """Add the step of a global mean."""
    x = reader.steps[source]
    store(reader, pool_step(str(node), node.output, x, y, ROUNDING))


def check_gemm(node: Node) -> None:
    """Raise unless a product has factors 1 and reads its input as it is."""
    factors = [node.attributes.get(k, 1.0) for k in ("alpha", "beta")]
    if factors != [1.0, 1.0] or node.attributes.get("transA"):
        raise unsupported(node, "alpha and beta must be 1 and transA 0")


def qlinear_pool(reader: Reader, node: Node) -> None:
    """x, x_scale, x_zero, y_scale, y_zero"""
    if node.attributes.get("channels_last"):
        raise unsupported(node, "channels_last must be 0")
    source = source_of(reader, node, 0, grid_of(reader, node, 1, 2))
    y = grid_of(reader, node, 3, 4)
    store_pool(reader, node, source, y)


def dequantize(reader: Reader, node: Node) -> None:
    """Codes of a step or constant codes as real numbers."""
    if node.inputs[0] in reader.constants:
        q, scale = (fixed(reader, node, at) for at in (0, 1))
        zero = fixed(reader, node, 2, np.zeros((), q.dtype))
        axis = int(node.attributes.get("axis", 1))
        reader.values[node.output] = Fixed(q, scale, zero, axis)
        return
    source = source_of(reader, node, 0, grid_of(reader, node, 1, 2))
    reader.values[node.output] = Real(source)


def quantize(reader: Reader, node: Node) -> None:
    """The input, or what a float layer gives, as codes."""
    y = grid_of(reader, node, 1, 2)
    if node.inputs[0] == reader.input.name:
        image(reader, node.output, y)
        return
    sums = reader.values.get(node.inputs[0])
    if isinstance(sums, Real) and y[:2] == reader.steps[sums.step].grid[:2]:
        reader.values[node.output] = Codes(sums.step)
        return
    if not isinstance(sums, Sums):
        raise unsupported(node, f"{node.inputs[0]!r} is not the output of a layer")
    y = y._replace(q_min=max(y.q_min, y.zero_point)) if sums.relu else y
    if sums.weights is None:
        store_pool(reader, node, sums.source, y)
    else:
        store_layer(reader, node, sums.source, sums.weights, y)


def real_source(reader: Reader, node: Node) -> str:
    """Return the step whose dequantized codes a float layer reads."""
    value = reader.values.get(node.inputs[0])
    if not isinstance(value, Real):
        raise unsupported(node, f"{node.inputs[0]!r} must be dequantized codes")
    return value.step


def real_layer(reader: Reader, node: Node) -> None:
    """Conv, Gemm or MatMul of dequantized codes, weights and bias."""
    source, attributes = real_source(reader, node), dict(node.attributes)
    w = reader.values.get(node.inputs[1])
    if not isinstance(w, Fixed):
        raise unsupported(node, "weights must be dequantized constants")
    q = w.q
    if node.op != "Conv":
        check_gemm(node)
        q = q if attributes.pop("transB", 0) else q.T
        attributes = {}
    bias = np.zeros(len(q), np.int32)
    if len(node.inputs) > 2:
        given = reader.values.get(node.inputs[2])
        if not isinstance(given, Fixed) or given.q.dtype != np.int32:
            raise unsupported(node, "the bias must be dequantized int32")
        check_bias(node, given, reader.steps[source].grid, w)
        bias = given.q
    weights = Weights(q, w.scale, w.zero_point, bias, attributes)
    reader.values[node.output] = Sums(source, weights)


def check_bias(node: Node, bias: Fixed, x: Grid, w: Fixed) -> None:
    """Raise unless one step of the bias is one step of the sums."""
    want = np.float32(x.scale) * w.scale
    if np.any(bias.zero_point) or not np.allclose(bias.scale, want, rtol=1e-5, atol=0):
        raise unsupported(node, "the scale of the bias must be x_scale * w_scale")


def real_pool(reader: Reader, node: Node) -> None:
    """GlobalAveragePool of dequantized codes."""
    reader.values[node.output] = Sums(real_source(reader, node), None)


def relu(reader: Reader, node: Node) -> None:
    """Relu of what a float layer gives."""
    sums = reader.values.get(node.inputs[0])
    if not isinstance(sums, Sums):
        raise unsupported(node, f"{node.inputs[0]!r} is not the output of a layer")
    reader.values[node.output] = sums._replace(relu=True)


def clip(reader: Reader, node: Node) -> None:
    """Clip of codes: a smaller grid."""
    grid = reader.steps[source_of(reader, node, 0)].grid
    low = int(fixed(reader, node, 1, grid.q_min).item())
    high = int(fixed(reader, node, 2, grid.q_max).item())
    low, high = max(low, grid.q_min), min(high, grid.q_max)
    if not low <= grid.zero_point <= high:
        raise unsupported(node, f"[{low}, {high}] leaves the zero-point out")
    renamed(reader, node, grid=grid._replace(q_min=low, q_max=high))


def flatten(reader: Reader, node: Node) -> None:
    """Flatten, Reshape or Squeeze of pooled features; of a float layer nothing else."""
    value = reader.values.get(node.inputs[0])
    if isinstance(value, Sums) and value.weights is None:
        reader.values[node.output] = value
        return
    step = reader.steps[value.step] if isinstance(value, Codes | Real) else None
    if not isinstance(step, PoolStep):
        raise unsupported(node, "only pooled features are flattened")
    if isinstance(value, Real):
        reader.values[node.output] = value
    else:
        renamed(reader, node)


def identity(reader: Reader, node: Node) -> None:
    """Another name."""
    if isinstance(reader.values.get(node.inputs[0]), Codes):
        renamed(reader, node)
    else:
        reader.values[node.output] = reader.values.get(node.inputs[0])


CONTRIB = "com.microsoft"
HANDLERS: Mapping[tuple[str, str], Callable[[Reader, Node], None]] = {
    ("", "QLinearConv"): qlinear_conv,
    ("", "QLinearMatMul"): qlinear_matmul,
    (CONTRIB, "QGemm"): qgemm,
    (CONTRIB, "QLinearGlobalAveragePool"): qlinear_pool,
    ("", "DequantizeLinear"): dequantize,
    ("", "QuantizeLinear"): quantize,
    ("", "Conv"): real_layer,
    ("", "Gemm"): real_layer,
    ("", "MatMul"): real_layer,
    ("", "GlobalAveragePool"): real_pool,
    ("", "Relu"): relu,
    ("", "Clip"): clip,
    ("", "Flatten"): flatten,
    ("", "Reshape"): flatten,
    ("", "Squeeze"): flatten,
    ("", "Identity"): identity,
}
