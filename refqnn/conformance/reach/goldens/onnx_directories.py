"""ONNX test directories: ``model.onnx`` of one node beside ``test_data_set_*``.

QuantizeLinear, DequantizeLinear    quantize, dequantize
QLinearConv, QLinearMatMul          requantize: the sums before it are exact
ConvInteger, MatMulInteger          conv2d, linear
onnx_layers.py                      MaxPool, BatchNormalization, LSTM, Momentum ...
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from refqnn import integer
from refqnn._types import Array, Float, Int
from refqnn.conformance.reach.goldens import onnx_layers
from refqnn.conformance.reach.goldens.golden import (
    Golden,
    Unread,
    of_codes,
    requantization,
)
from refqnn.conformance.reach.goldens.onnx_node import RANGES, Call, Tensor, window_of


def read_directory(folder: Path) -> Golden:
    """Read the first data set of a directory; raise Unread for what is not judged."""
    try:
        import onnx  # noqa: PLC0415
    except ImportError as error:
        raise Unread("needs pip install refqnn[onnx]") from error
    graph = onnx.load(folder / "model.onnx").graph
    if len(graph.node) != 1:
        raise Unread(f"{len(graph.node)} nodes, only models of one are read")
    node = graph.node[0]
    if node.op_type not in HANDLERS:
        raise Unread(f"{node.op_type} is none of {', '.join(HANDLERS)}")
    data = folder / "test_data_set_0"
    files = [data / f"input_{i}.pb" for i in range(len(graph.input))]
    tensors = {t.name: tensor(t) for t in graph.initializer}
    tensors |= {
        value.name: tensor(onnx.load_tensor(file))
        for value, file in zip(graph.input, files, strict=True)
    }
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    given = [tensors[name] if name else None for name in node.input]
    made = {
        value.name: tensor(onnx.load_tensor(data / f"output_{i}.pb"))
        for i, value in enumerate(graph.output)
    }
    outputs = [made.get(name) for name in node.output]
    return HANDLERS[node.op_type](Call(attributes, given, outputs))


def tensor(proto: Any) -> Tensor:
    """Return a tensor; integers of few bits in a dtype that holds them."""
    import onnx  # noqa: PLC0415

    kind = onnx.TensorProto.DataType.Name(proto.data_type)
    array = onnx.numpy_helper.to_array(proto)
    if kind in RANGES and array.dtype.kind not in "iu":
        array = array.astype(np.int8)
    return Tensor(np.asarray(array), kind)


def quantize_linear(call: Call) -> Golden:
    """x, scale, [zero_point]"""
    ends, x = call.ends(), call.array(0)
    scale, zero = (
        broadcastable(call.array(place, default), x, call.attributes)
        for place, default in ((1, None), (2, np.zeros_like(call.array(1), np.int64)))
    )
    if x.dtype.kind != "f" or scale.dtype.kind != "f":
        raise Unread(f"x is {x.dtype} and its scale {scale.dtype}, no floats")
    z = zero.astype(np.int64)
    return of_codes("quantize", call.output.array, x, scale, z, *ends)


def dequantize_linear(call: Call) -> Golden:
    """q, scale, [zero_point]"""
    q = call.array(0)
    scale, zero = (
        broadcastable(call.array(place, default), q, call.attributes)
        for place, default in ((1, None), (2, np.zeros_like(call.array(1), np.int64)))
    )
    if q.dtype.kind not in "iu":
        raise Unread(f"codes are {q.dtype}, no integers")
    inputs = {"q": q, "scale": scale, "zero_point": zero.astype(np.int64)}
    return Golden("", "dequantize", inputs, {"y": call.output.array})


def broadcastable(v: Array, x: Array, attributes: Mapping[str, Any]) -> Array:
    """Repeat or reshape parameters, per tensor, axis or block, to broadcast with x."""
    block, axis = attributes.get("block_size", 0), attributes.get("axis", 1)
    if block:
        repeated = np.repeat(v, block, axis)
        return repeated.take(np.arange(x.shape[axis]), axis)
    if v.size == 1:
        return v.reshape(())
    shape = [1] * x.ndim
    shape[axis] = -1
    return v.reshape(shape)


def qlinear_conv(call: Call) -> Golden:
    """x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, [bias]"""
    x, w = call.array(0), call.array(3)
    out = len(w)
    acc = integer.conv2d(
        x,
        w,
        call.array(8, np.zeros(out, np.int32)),
        x_zero_point=call.array(2).item(),
        w_zero_point=np.broadcast_to(call.array(5).ravel().astype(np.int64), out),
        **window_of(call.attributes),
        accumulator="int64",
    )
    real = np.broadcast_to(ratio(call).ravel(), out)[:, None, None]
    return requantization_by(call, acc, real)


def qlinear_matmul(call: Call) -> Golden:
    """a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero"""
    a, b = (
        call.array(place).astype(np.int64) - call.array(place + 2).astype(np.int64)
        for place in (0, 3)
    )
    return requantization_by(call, a @ b, ratio(call))


def ratio(call: Call) -> Float:
    """x_scale w_scale / y_scale, rounded to float32 after each operation"""
    x, w, y = (call.array(place).astype(np.float32) for place in (1, 4, 6))
    return np.asarray(x * w / y)


def requantization_by(call: Call, acc: Int, real: Float) -> Golden:
    """Make the golden of requantize: sums ``acc`` by one real number a channel."""
    multiplier, shift = integer.quantize_multiplier(real.astype(np.float64))
    z, y = call.array(7).item(), call.output.array
    return requantization(acc, multiplier, shift, z, call.ends(), y)


def conv_integer(call: Call) -> Golden:
    """x, w, [x_zero], [w_zero]"""
    x, w = call.array(0), call.array(1)
    options = window_of(call.attributes)
    zeros = int(call.array(2, 0).item()), call.array(3, 0).astype(np.int64)
    given = x, w, np.zeros(len(w), np.int32), *zeros, *options.values()
    return of_codes("conv2d", call.output.array, *given)


def matmul_integer(call: Call) -> Golden:
    """a, b, [a_zero], [b_zero], matrices"""
    a, b = call.array(0), call.array(1)
    if a.ndim != 2 or b.ndim != 2:
        raise Unread(f"a{a.shape} and b{b.shape} are no matrices")
    w, bias = np.ascontiguousarray(b.T), np.zeros(b.shape[1], np.int32)
    zeros = (int(call.array(place, 0).item()) for place in (2, 3))
    return of_codes("linear", call.output.array, a, w, bias, *zeros)


HANDLERS: Mapping[str, Callable[[Call], Golden]] = {
    "QuantizeLinear": quantize_linear,
    "DequantizeLinear": dequantize_linear,
    "QLinearConv": qlinear_conv,
    "QLinearMatMul": qlinear_matmul,
    "ConvInteger": conv_integer,
    "MatMulInteger": matmul_integer,
    **onnx_layers.HANDLERS,
}
