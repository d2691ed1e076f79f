"""ONNX quantized models as integer networks: equal to onnxruntime, tensor by tensor."""

import re

import numpy as np
import pytest

from refqnn.conformance import bisect, trace
from refqnn.core import Param, Run
from refqnn.deploy import IntegerNetwork, deploy
from refqnn.deploy.formats.onnx_export import to_onnx
from refqnn.deploy.formats.onnx_graph import save_model
from refqnn.deploy.formats.onnx_import import from_onnx
from refqnn.deploy.formats.onnx_run import onnx_trace
from refqnn.nn import (
    Conv2d,
    GlobalAvgPool2d,
    ImageInput,
    Linear,
    ReLU,
    Sequential,
    batch_norm2d,
)
from refqnn.quantizers import Affine, FixedPoint

onnx = pytest.importorskip("onnx", reason="needs the optional package onnx")
pytest.importorskip("onnxruntime", reason="needs the optional package onnxruntime")
helper = onnx.helper
CONTRIB = "com.microsoft"


class Builder:
    """Nodes and constants of a model that reads x: (N, 3, 9, 8)."""

    def __init__(self, rng, code):
        self.rng, self.code = rng, np.dtype(code)
        self.nodes, self.constants, self.count = [], {}, 0

    def put(self, array):
        self.count += 1
        self.constants[f"c{self.count}"] = np.asarray(array)
        return f"c{self.count}"

    def node(self, op, inputs, output, domain="", **attributes):
        self.nodes.append(
            helper.make_node(op, inputs, [output], output, domain=domain, **attributes)
        )
        return output

    def grid(self, code=None):
        info = np.iinfo(code or self.code)
        zero = self.rng.integers(info.min + 60, info.max - 60)
        scale = np.float32(self.rng.uniform(0.02, 0.05))
        return self.put(scale), self.put(np.array(zero, code or self.code))

    def weights(self, shape, channels):
        """uint8 with one zero-point, or 7 bits of int8, so that no product saturates.

        A runtime of x86 reads int8 weights beside int8 codes, uint8 beside uint8.
        """
        if self.code == np.int8:
            q = self.rng.integers(-64, 64, shape, dtype=np.int8)
            scale = self.rng.uniform(1e-3, 5e-3, channels).astype(np.float32)
            return q, scale, np.zeros(channels, np.int8)
        q = self.rng.integers(64, 192, shape, dtype=np.uint8)
        scale = self.rng.uniform(1e-3, 5e-3, channels).astype(np.float32)
        return q, scale, np.full(channels, 128, np.uint8)

    def model(self, x_type, outputs, opset=17):
        names = helper.make_empty_tensor_value_info
        x = helper.make_tensor_value_info(
            "x", helper.np_dtype_to_tensor_dtype(np.dtype(x_type)), ["N", 3, 9, 8]
        )
        held = [onnx.numpy_helper.from_array(v, k) for k, v in self.constants.items()]
        graph = helper.make_graph(
            self.nodes, "g", [x], [names(o) for o in outputs], held
        )
        sets = [helper.make_opsetid("", opset), helper.make_opsetid(CONTRIB, 1)]
        return helper.make_model(graph, opset_imports=sets, ir_version=8)


def operators(rng, *, code=np.uint8, last="QGemm", clip=False):
    """QLinearConv three times, a pool, a product; x is uint8, or float32 for int8."""
    b = Builder(rng, code)
    grid, tensor = b.grid(), "x"
    if code == np.int8:
        tensor = b.node("QuantizeLinear", ["x", *grid], "image")
    windows = [
        (3, 8, 1, {"pads": [1, 1, 1, 1], "strides": [2, 1]}),
        (8, 8, 4, {"pads": [0, 1, 1, 0], "dilations": [1, 2], "group": 4}),
        (8, 5, 1, {"kernel_shape": [1, 3]}),
    ]
    for i, (c, o, groups, attributes) in enumerate(windows):
        kernel = attributes.get("kernel_shape", [3, 3])
        w, scale, zero = b.weights((o, c // groups, *kernel), o)
        y = b.grid()
        inputs = [tensor, *grid, b.put(w), b.put(scale), b.put(zero), *y]
        if i != 1:
            inputs.append(b.put(rng.integers(-2000, 2000, o).astype(np.int32)))
        tensor = b.node("QLinearConv", inputs, f"conv{i}", **attributes)
        grid = y
        if clip:
            z = b.constants[y[1]]
            limits = [b.put(z), b.put((z + 30).astype(z.dtype))]
            tensor = b.node("Clip", [tensor, *limits], f"clip{i}")
    y = b.grid()
    inputs = [tensor, *grid, *y]
    b.node("QLinearGlobalAveragePool", inputs, "pooled", CONTRIB, channels_last=0)
    tensor = b.node("Flatten", ["pooled"], "pool", axis=1)
    w, scale, zero = b.weights((5, 7), 7)
    out = b.grid()
    weights = [b.put(w), b.put(scale), b.put(zero)]
    if last == "QGemm":
        weights[0] = b.put(np.ascontiguousarray(w.T))
        bias = b.put(rng.integers(-2000, 2000, 7).astype(np.int32))
        inputs = [tensor, *y, *weights, bias, *out]
        b.node("QGemm", inputs, "logits", CONTRIB, transB=1)
    else:
        inputs = [tensor, *y, b.put(w), b.put(scale[:1]), b.put(zero[:1]), *out]
        b.node("QLinearMatMul", inputs, "logits")
    return b.model(np.uint8 if code == np.uint8 else np.float32, ["logits"])


def compared(made, images):
    """Return the bisection of refqnn, stepping, against onnxruntime."""
    network = from_onnx(made)
    names = [step.name for step in network.steps]
    got = onnx_trace(made, images, names)
    codes = got[names[0]]
    if codes.dtype == np.int8:
        codes = got[names[0]] = (codes.astype(int) + 128).astype(np.uint8)
    found = bisect(trace(network, codes), got)
    assert {c.name for c in found.compared} == set(names)
    return found


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("last", ["QGemm", "QLinearMatMul"])
@pytest.mark.parametrize("code", [np.uint8, np.int8])
def test_operator_models_are_stepped_through_exactly(rng, code, last, clip):
    for _ in range(5):
        made = operators(rng, code=code, last=last, clip=clip)
        images = rng.integers(0, 256, (3, 3, 9, 8), dtype=np.uint8)
        if code == np.int8:
            images = rng.normal(size=images.shape).astype(np.float32)
        found = compared(made, images)
        assert found.first is None, str(found)
        # int8 codes that a Clip keeps from being negative are stored as uint8
        kinds = {line.split()[-1] for line in found.misfits}
        assert kinds <= ({"uint8"} if clip and code == np.int8 else set())


def float_layers(rng, *, relu=True, floats=True):
    """The same between quantizers; x is float32 or uint8."""
    b = Builder(rng, np.uint8)
    grid = b.grid()
    if floats:
        b.node("QuantizeLinear", ["x", *grid], "image")
    tensor = "image" if floats else "x"
    for i, (c, o) in enumerate([(3, 8), (8, 6)]):
        real = b.node("DequantizeLinear", [tensor, *grid], f"x{i}")
        w, scale, _ = b.weights((o, c, 3, 3), o)
        w = (w.astype(int) - 128).astype(np.int8)
        x_scale = b.constants[grid[0]]
        parts = [b.put(v) for v in (w, scale, np.zeros(o, np.int8))]
        b.node("DequantizeLinear", parts, f"w{i}", axis=0)
        bias = rng.integers(-2000, 2000, o).astype(np.int32)
        parts = [b.put(v) for v in (bias, x_scale * scale, np.zeros(o, np.int32))]
        b.node("DequantizeLinear", parts, f"b{i}", axis=0)
        real = b.node("Conv", [real, f"w{i}", f"b{i}"], f"y{i}", pads=[1] * 4)
        if relu:
            real = b.node("Relu", [real], f"r{i}")
        grid = b.grid()
        if relu:
            b.constants[grid[1]] = np.array(0, np.uint8)
        tensor = b.node("QuantizeLinear", [real, *grid], f"conv{i}")
    real = b.node("DequantizeLinear", [tensor, *grid], "x2")
    real = b.node("GlobalAveragePool", [real], "mean")
    grid = b.grid()
    b.node("QuantizeLinear", [real, *grid], "pooled")
    tensor = b.node("Flatten", ["pooled"], "pool")
    real = b.node("DequantizeLinear", [tensor, *grid], "x3")
    w, scale, _ = b.weights((6, 7), 1)
    parts = [b.put((w.astype(int) - 128).astype(np.int8)), b.put(scale[0])]
    parts.append(b.put(np.int8(0)))
    b.node("DequantizeLinear", parts, "w3")
    b.node("MatMul", [real, "w3"], "y3")
    grid = b.grid()
    b.node("QuantizeLinear", ["y3", *grid], "logits")
    b.node("DequantizeLinear", ["logits", *grid], "out")
    return b.model(np.float32 if floats else np.uint8, ["out"])


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("floats", [False, True])
def test_models_between_quantizers_are_stepped_through_exactly(rng, floats, relu):
    for _ in range(5):
        made = float_layers(rng, relu=relu, floats=floats)
        shape = (3, 3, 9, 8)
        images = rng.integers(0, 256, shape, dtype=np.uint8)
        if floats:
            images = rng.normal(size=shape).astype(np.float32)
        found = compared(made, images)
        assert found.first is None, str(found)
        assert found.misfits == []


def chain(rng):
    """A deployed network without residual blocks."""

    def conv(c, o, bits):
        w = Param(rng.normal(size=(o, c, 3, 3)).astype(np.float32))
        around = ((0, 1), (2, 1))
        quant = FixedPoint(bits=bits)
        return Conv2d(w, padding=around, stride=(2, 1), weight_quant=quant)

    w = Param(rng.normal(size=(10, 6)).astype(np.float32))
    network = Sequential(
        {
            "image": ImageInput(1 / 64, 128),
            "conv1": conv(1, 5, 8),
            "norm1": batch_norm2d(5),
            "relu1": ReLU(),
            "quant1": Affine(bits=4),
            "conv2": conv(5, 6, 4),
            "relu2": ReLU(),
            "quant2": Affine(bits=8),
            "pool": GlobalAvgPool2d(),
            "quant3": Affine(bits=8),
            "classifier": Linear(w, weight_quant=FixedPoint(bits=8)),
        },
        {},
    )
    images = rng.integers(0, 256, (16, 1, 8, 8), dtype=np.uint8)
    network.forward(images, Run(training=True))
    return deploy(
        network, image_size=(8, 8), requantize="float32_half_even", finer_bias=False
    )


def test_a_network_comes_back(rng, images, tmp_path):
    """Exported between quantizers, written, read: the same integers."""
    network = chain(rng)
    save_model(tmp_path / "n.onnx", to_onnx(network, form="qdq"))
    again = from_onnx(tmp_path / "n.onnx")
    want, got = network.trace(images), again.trace(images)
    assert list(got) == list(want)
    for name, array in want.items():
        np.testing.assert_array_equal(got[name], array, strict=True)
    for a, b in zip(network.steps, again.steps, strict=True):
        assert (a.name, a.grid.q_min, a.grid.q_max) == (b.name, *b.grid[2:])
    again.save(tmp_path / "n.npz")
    read = IntegerNetwork.load(tmp_path / "n.npz")
    np.testing.assert_array_equal(read.forward(images), network.forward(images))


def refused(made, message):
    with pytest.raises(ValueError, match=message):
        from_onnx(made)


def with_node(made, index, **changes):
    """Return a copy with one node changed."""
    copy = onnx.ModelProto()
    copy.CopyFrom(made)
    for key, value in changes.items():
        setattr(copy.graph.node[index], key, value)
    return copy


def test_what_is_not_supported_is_named(rng):
    made = operators(rng)
    refused(
        with_node(made, 1, op_type="Softmax", name="soft"),
        r"Softmax \(node 'soft', output 'conv1'\) is not supported: 'conv0' must be "
        "dequantized codes",
    )
    refused(
        with_node(made, 1, op_type="TopK"),
        r"TopK \(node 'conv1', .* no integer step computes it; .*supported are Abs",
    )
    refused(
        with_node(made, 1, op_type="DynamicQuantizeLinear"),
        r"DynamicQuantizeLinear \(node 'conv1', .* its scale depends on the image",
    )
    refused(with_node(made, 1, domain="elsewhere"), "QLinearConv .* is not supported")


def test_the_nearest_operator_and_the_part_before_are_offered(rng):
    made = with_node(operators(rng), 1, op_type="GlobalLpPool")
    refused(made, r"nearest: Global\w+Pool, .*; what is before it: --until conv0$")
    assert from_onnx(made, until="conv0").steps[-1].name == "conv0"


def test_attributes_without_an_integer_form_are_refused(rng):
    made = operators(rng)
    auto = with_node(made, 0)
    auto.graph.node[0].attribute.append(helper.make_attribute("auto_pad", "SAME"))
    refused(auto, r"QLinearConv \(node 'conv0', .* auto_pad must be one of ONNX's four")
    gemm = with_node(made, 5)
    gemm.graph.node[5].attribute.append(helper.make_attribute("alpha", 0.5))
    refused(gemm, "QGemm .* alpha and beta must be 1")
    last = with_node(made, 3)
    del last.graph.node[3].attribute[:]
    last.graph.node[3].attribute.append(helper.make_attribute("channels_last", 1))
    refused(last, "channels_last must be 0")


def with_constant(made, name, change):
    copy = onnx.ModelProto()
    copy.CopyFrom(made)
    for held in copy.graph.initializer:
        if held.name == name:
            array = change(onnx.numpy_helper.to_array(held))
            held.CopyFrom(onnx.numpy_helper.from_array(array, name))
    return copy


def test_parameters_that_do_not_fit_are_refused(rng):
    made = operators(rng)
    x_scale, x_zero, w, scale, _, y_scale = made.graph.node[0].input[1:7]
    refused(
        with_constant(made, w, lambda v: v.astype(np.int16)),
        r"conv0.*weights must have 8 bits and two or four axes, got int16",
    )
    refused(
        with_constant(made, scale, lambda s: s[:3]),
        "conv0.* 3 elements of scale, 8 channels",
    )
    refused(with_constant(made, x_scale, lambda s: np.stack([s, s])), "one scale and")
    refused(
        with_constant(made, x_zero, lambda z: z.astype(np.int16)),
        "conv0.* the codes that it reads must have 8 bits",
    )
    refused(
        with_constant(made, w, lambda v: v[:, :2]), r"reads 2 channels .*\(3, 9, 8\)"
    )
    other = with_node(made, 1)
    other.graph.node[1].input[1] = x_scale
    refused(other, r"conv1.* reads scale .* 'conv0' stores")
    refused(with_constant(made, y_scale, lambda s: s * 1e-30), "folded scale")
    gone = with_node(made, 0)
    gone.graph.node[0].input[3] = "nowhere"
    refused(gone, r"conv0.* input 'nowhere' must be a constant")


def test_biases_of_another_scale_are_refused(rng):
    made = float_layers(rng)
    at = next(n for n in made.graph.node if n.output[0] == "b0")
    refused(
        with_constant(made, at.input[1], lambda s: s * 1.01),
        re.escape("the scale of the bias must be x_scale * w_scale"),
    )


def test_inputs_are_images_of_known_size(rng):
    made = operators(rng)
    free = with_node(made, 0)
    free.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "H"
    refused(free, r"input must be \(N, C, H, W\)")
    two = with_node(made, 0)
    two.graph.input.append(helper.make_empty_tensor_value_info("more"))
    refused(two, r"must have one input, has \['x', 'more'\]")


def test_other_files_are_refused(tmp_path):
    for content in (b"", b"\x80\x04N.", b"PK\x03\x04"):
        (tmp_path / "n.onnx").write_bytes(content)
        refused(tmp_path / "n.onnx", r"n\.onnx is not an ONNX model")
