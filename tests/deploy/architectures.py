"""Small float networks of every kind that quantizers of runtimes are given."""

import logging

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="needs the optional package onnx")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime")
TensorProto, helper = onnx.TensorProto, onnx.helper
PLANES = (3, 12, 12)


class Network:
    """Nodes and random constants of one float model that reads x: (1, *shape)."""

    def __init__(self, rng, shape=PLANES):
        self.rng, self.shape = rng, shape
        self.nodes, self.held, self.count = [], [], 0

    def put(self, value, dtype=np.float32):
        self.count += 1
        name = f"k{self.count}"
        self.held.append(onnx.numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def node(self, op, *inputs, **attributes):
        self.count += 1
        name = f"{op}{self.count}"
        self.nodes.append(
            helper.make_node(op, list(inputs), [name + "_y"], name=name, **attributes)
        )
        return name + "_y"

    def weights(self, *shape):
        spread = 1 / np.sqrt(np.prod(shape[1:]))
        return self.put(self.rng.normal(0, spread, shape))

    def conv(self, x, c, o, k=3, **attributes):
        if not {"pads", "auto_pad"} & {*attributes}:
            attributes["pads"] = [k // 2] * 4
        w = self.weights(o, c // attributes.get("group", 1), k, k)
        bias = self.put(self.rng.normal(0, 0.3, o))
        return self.node("Conv", x, w, bias, kernel_shape=[k, k], **attributes)

    def relu(self, x):
        return self.node("Relu", x)

    def relu6(self, x):
        return self.node("Clip", x, self.put(0.0), self.put(6.0))

    def gemm(self, x, i, o):
        bias = self.put(self.rng.normal(0, 0.3, o))
        return self.node("Gemm", x, self.weights(o, i), bias, transB=1)

    def head(self, x, c):
        x = self.node("Flatten", self.node("GlobalAveragePool", x))
        return self.gemm(x, c, 10)

    def norm(self, x, c):
        values = [self.rng.uniform(0.5, 1.5, c), *self.rng.normal(0, 0.3, (2, c)),
                  self.rng.uniform(0.5, 2, c)]  # fmt: skip
        return self.node("BatchNormalization", x, *(self.put(v) for v in values))

    def model(self, output):
        info = helper.make_tensor_value_info
        graph = helper.make_graph(
            self.nodes,
            "g",
            [info("x", TensorProto.FLOAT, [1, *self.shape])],
            [info(output, TensorProto.FLOAT, None)],
            self.held,
        )
        opset = [helper.make_opsetid("", 17)]
        made = helper.make_model(graph, opset_imports=opset, ir_version=8)
        return onnx.shape_inference.infer_shapes(made)


def sequential(n):
    x = n.relu(n.conv("x", 3, 8))
    return n.head(n.relu(n.conv(x, 8, 8, strides=[2, 2], pads=[0, 0, 1, 1])), 8)


def depthwise(n):
    x = n.relu6(n.conv("x", 3, 8))
    return n.head(n.conv(n.relu6(n.conv(x, 8, 8, group=8)), 8, 8, 1), 8)


def inverted_residual(n):
    x = n.conv("x", 3, 8)
    y = n.relu6(n.conv(n.relu6(n.conv(x, 8, 16, 1)), 16, 16, group=16))
    return n.head(n.node("Add", n.conv(y, 16, 8, 1), x), 8)


def residual(n):
    x = n.relu(n.conv("x", 3, 8))
    x = n.relu(n.node("Add", n.conv(n.relu(n.conv(x, 8, 8)), 8, 8), x))
    y, z = n.conv(x, 8, 16, strides=[2, 2]), n.conv(x, 8, 16, 1, strides=[2, 2])
    return n.head(n.relu(n.node("Add", y, z)), 16)


def inception(n):
    x = n.relu(n.conv("x", 3, 8))
    window = {"kernel_shape": [3, 3], "strides": [1, 1], "pads": [1] * 4}
    parts = [
        n.relu(n.conv(x, 8, 4, 1)),
        n.relu(n.conv(x, 8, 6)),
        n.relu(n.conv(n.node("AveragePool", x, **window), 8, 5, 1)),
        n.relu(n.conv(n.node("MaxPool", x, **window), 8, 5, 1)),
    ]
    return n.head(n.node("Concat", *parts, axis=1), 20)


def average_pools(n):
    window = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0, 0, 1, 1]}
    x = n.node("AveragePool", n.relu(n.conv("x", 3, 8)), count_include_pad=1, **window)
    window = {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}
    return n.head(n.node("AveragePool", n.relu(n.conv(x, 8, 8)), **window), 8)


def same_padding(n):
    x = n.relu(n.conv("x", 3, 8, auto_pad="SAME_UPPER", strides=[2, 2]))
    return n.head(n.relu(n.conv(x, 8, 8, auto_pad="SAME_LOWER", strides=[2, 2])), 8)


def dilation(n):
    x = n.relu(n.conv("x", 3, 8, dilations=[2, 2], pads=[2] * 4))
    return n.head(n.relu(n.conv(x, 8, 8, dilations=[1, 2], pads=[0] * 4)), 8)


def batch_norms(n):
    x = n.relu(n.norm(n.conv("x", 3, 8), 8))
    return n.head(n.relu(n.norm(n.conv(x, 8, 8), 8)), 8)


def reshaped(n):
    x = n.relu(n.conv("x", 3, 8, strides=[2, 2]))
    return n.gemm(n.node("Reshape", x, n.put([1, -1], np.int64)), 288, 10)


def hard_swish(n):
    x = n.node("HardSwish", n.conv("x", 3, 8))
    return n.head(n.node("HardSwish", n.conv(x, 8, 8)), 8)


def silu_and_leaky(n):
    x = n.conv("x", 3, 8)
    x = n.node("Mul", n.node("Sigmoid", x), x)
    return n.head(n.node("LeakyRelu", n.conv(x, 8, 8), alpha=0.1), 8)


def squeeze_excite(n):
    x = n.relu(n.conv("x", 3, 8))
    s = n.relu(n.conv(n.node("GlobalAveragePool", x), 8, 4, 1))
    s = n.node("HardSigmoid", n.conv(s, 4, 8, 1), alpha=1 / 6, beta=0.5)
    return n.head(n.node("Mul", x, s), 8)


def fully_convolutional(n):
    return n.conv(n.relu(n.conv("x", 3, 8)), 8, 4, 1)


def perceptron(n):
    x = n.node("Tanh", n.gemm(n.relu(n.gemm("x", 20, 16)), 16, 16))
    return n.node("MatMul", x, n.weights(16, 10))


def transposed(n):
    w, bias = n.weights(8, 6, 3, 3), n.put(n.rng.normal(0, 0.3, 6))
    options = {"strides": [2, 2], "pads": [1, 1, 0, 0], "output_padding": [1, 0]}
    x = n.relu(n.conv("x", 3, 8))
    x = n.node("ConvTranspose", x, w, bias, kernel_shape=[3, 3], **options)
    return n.conv(n.relu(x), 6, 4)


def resized(n):
    """To the nearest pixel, in two ways of counting."""
    scales = n.put([1, 1, 2, 1.5])
    x = n.node("Resize", n.relu(n.conv("x", 3, 8)), "", scales, mode="nearest")
    place = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    x = n.node("Resize", n.conv(x, 8, 8), "", scales, mode="nearest", **place)
    return n.conv(x, 8, 4)


def moved(n):
    """Differences, edges, transposed planes, slices and their maximum."""
    x = n.node("Sub", n.conv("x", 3, 8), n.conv("x", 3, 8, 1))
    x = n.node("Pad", x, n.put([0, 0, 1, 2, 0, 0, 0, 1], np.int64))
    x = n.conv(n.node("Transpose", x, perm=[0, 1, 3, 2]), 8, 8)
    ends = [n.put([v], np.int64) for v in (0, 4, 8, 1)]
    first = n.node("Slice", x, ends[0], ends[1], ends[3])
    second = n.node("Slice", x, ends[1], ends[2], ends[3])
    x = n.node("Concat", second, n.node("Mul", first, first), axis=1)
    return n.gemm(n.node("Flatten", n.node("GlobalMaxPool", x)), 8, 10)


def constants(n):
    """Sums with and products by constants; slopes a channel; means by ReduceMean."""
    x = n.node("Add", n.conv("x", 3, 8), n.put(n.rng.normal(0, 1, (8, 1, 1))))
    x = n.node("Mul", n.conv(x, 8, 8), n.put(0.7))
    x = n.node("PRelu", x, n.put(n.rng.uniform(0, 0.5, (8, 1, 1))))
    x = n.node("Elu", n.conv(x, 8, 8), alpha=0.7)
    x = n.node(
        "MatMul", n.node("ReduceMean", x, axes=[2, 3], keepdims=0), n.weights(8, 5)
    )
    return n.node("Add", x, n.put(n.rng.normal(0, 1, 5)))


def probabilities(n):
    return n.node("Softmax", n.head(n.relu(n.conv("x", 3, 8)), 8), axis=-1)


ARCHITECTURES = {
    build.__name__: build
    for build in (
        sequential, depthwise, inverted_residual, residual, inception, average_pools,
        same_padding, dilation, batch_norms, reshaped, hard_swish, silu_and_leaky,
        squeeze_excite, fully_convolutional, perceptron, transposed, probabilities,
        resized, moved, constants,
    )
}  # fmt: skip


def quantized(rng, folder, name, **kind):
    """Quantize an architecture with ``quantize_static`` of onnxruntime."""
    shape = (20,) if name == "perceptron" else PLANES
    network = Network(rng, shape)
    model = network.model(ARCHITECTURES[name](network))
    return statically_quantized(rng, folder, model, **kind), shape


def statically_quantized(
    rng, folder, model, *, form, activations, weights, per_channel
):
    """Quantize a float model with ``quantize_static`` of onnxruntime."""
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    sizes = model.graph.input[0].type.tensor_type.shape.dim
    shape = tuple(size.dim_value for size in sizes)
    onnx.save(model, folder / "float.onnx")

    class Reader(CalibrationDataReader):
        left = 6

        def get_next(self):
            self.left -= 1
            x = rng.normal(0, 1, shape).astype(np.float32)
            return {"x": x} if self.left >= 0 else None

    logging.disable(logging.CRITICAL)  # it recommends a step that is not needed here
    try:
        quantize_static(
            str(folder / "float.onnx"),
            str(folder / "quantized.onnx"),
            Reader(),
            quant_format=QuantFormat[form],
            per_channel=per_channel,
            activation_type=QuantType[activations],
            weight_type=QuantType[weights],
        )
    finally:
        logging.disable(logging.NOTSET)
    return onnx.load(folder / "quantized.onnx")
