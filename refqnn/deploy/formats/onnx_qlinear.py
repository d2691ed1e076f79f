"""The quantized operators of ONNX and onnxruntime: their inputs, as arguments of steps.

A docstring of a function names the inputs of its operator in their order.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from refqnn.deploy.build import layer_step, pool_step
from refqnn.deploy.fold import Grid
from refqnn.deploy.formats.onnx_between import float_operator, store_quantized
from refqnn.deploy.formats.onnx_read import (
    Codes,
    Fixed,
    Node,
    Reader,
    Real,
    codes_of,
    constant_input,
    grid_of,
    store,
    stored_as,
    unsupported_error,
)
from refqnn.deploy.formats.onnx_weights import ROUNDING, Weights, weighted_sum

CONTRIB = "com.microsoft"
Handler = Callable[[Reader, Node], None]


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


QLINEAR: Mapping[tuple[str, str], Handler] = {
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
}
