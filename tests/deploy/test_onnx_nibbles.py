"""4-bit weights of ONNX models: a scale an output or a block, with zero-points."""

import numpy as np
import pytest

from refqnn.deploy import import_onnx
from refqnn.deploy.operations import RealStep
from refqnn.deploy.steps import LayerStep

onnx = pytest.importorskip("onnx", reason="needs the optional package onnx")
helper, make = onnx.helper, onnx.helper.make_node

#: operator, shape of its weights and of its input, the axis of the scales
LAYERS = {
    "Conv": ((4, 2, 3, 3), (2, 5, 5), 0, {"pads": [1, 0, 1, 2]}),
    "Gemm": ((6, 8), (8,), 0, {"transB": 1}),
    "MatMul": ((8, 6), (8,), 1, {}),
}


def layer(rng, op, kind, zero, block=0):
    """Return x -> codes -> op with 4-bit weights -> codes, and the weights' reals."""
    shape, source, axis, attributes = LAYERS[op]
    axis = {"Gemm": 1, "MatMul": 0}[op] if block else axis
    low = 0 if kind == "UINT4" else -8
    q = rng.integers(low, low + 16, shape)
    sizes = list(shape) if block else [shape[axis]]
    if block:
        sizes[axis] = -(-shape[axis] // block)
    scales = rng.uniform(0.02, 0.1, sizes).astype(np.float32)
    number = getattr(onnx.TensorProto, kind)
    zeros = np.full(sizes, zero)
    held = [
        helper.make_tensor("w", number, shape, q.ravel().tolist()),
        helper.make_tensor("wz", number, sizes, zeros.ravel().tolist()),
    ]
    values = {"xs": np.float32(0.02), "xz": np.uint8(3), "ws": scales,
              "ys": np.float32(0.11), "yz": np.uint8(131)}  # fmt: skip
    held += [onnx.numpy_helper.from_array(np.asarray(v), k) for k, v in values.items()]
    options = {"axis": axis} | ({"block_size": block} if block else {})
    nodes = [
        make("QuantizeLinear", ["x", "xs", "xz"], ["codes"]),
        make("DequantizeLinear", ["codes", "xs", "xz"], ["real"]),
        make("DequantizeLinear", ["w", "ws", "wz"], ["weights"], **options),
        make(op, ["real", "weights"], ["sums"], **attributes),
        make("QuantizeLinear", ["sums", "ys", "yz"], ["y"]),
    ]
    info = helper.make_tensor_value_info
    x = info("x", onnx.TensorProto.FLOAT, [1, *source])
    y = info("y", onnx.TensorProto.UINT8, None)
    graph = helper.make_graph(nodes, "g", [x], [y], held)
    opset = [helper.make_opsetid("", 21)]
    return helper.make_model(graph, opset_imports=opset, ir_version=10), source


@pytest.mark.parametrize(("kind", "zero"), [("INT4", 0), ("INT4", -2), ("UINT4", 3)])
@pytest.mark.parametrize(
    ("op", "block"),
    [("Conv", 0), ("Gemm", 0), ("MatMul", 0), ("Gemm", 4), ("MatMul", 4)],
)
def test_the_reference_of_onnx_gives_the_same(rng, op, block, kind, zero):
    made, source = layer(rng, op, kind, zero, block)
    network = import_onnx(made)
    codes = rng.integers(0, 256, (1, *source), dtype=np.uint8)
    x = np.float32(0.02) * (codes.astype(np.float32) - 3)
    reference = pytest.importorskip("onnx.reference").ReferenceEvaluator(made)
    want = reference.run(None, {"x": x})[0]
    np.testing.assert_array_equal(network.forward(codes), want)
    assert isinstance(network.steps[-1], RealStep if block else LayerStep)
