"""QONNX in: an exported network comes back with the integers that ``deploy`` makes."""

import numpy as np
import pytest
from deploy.test_qonnx_export import SIZE, evaluated
from refusals import refuses

from refqnn.deploy import IntegerNetwork, deploy, import_onnx, onnx_trace, to_onnx
from refqnn.deploy.formats.onnx_import import read_operator
from refqnn.deploy.formats.onnx_read import start
from refqnn.deploy.formats.qonnx_export import DOMAIN, to_qonnx
from refqnn.deploy.operations import RealStep

onnx = pytest.importorskip("onnx", reason="needs the optional package onnx")
TensorProto, helper = onnx.TensorProto, onnx.helper


@pytest.mark.parametrize("shortcut", "AB")
@pytest.mark.parametrize(("weights", "activations"), [(1, 2), (2, 3), (4, 4), (8, 8)])
def test_what_was_exported_comes_back(make, rng, weights, activations, shortcut):
    """Codes and accumulators are equal to the bit, those of moved skips apart."""
    network = make(
        weight_bits=weights, activation_bits=activations, shortcut=shortcut,
        signs=(-1.0, 1.0), image_zero_point=100,
    )  # fmt: skip
    want = deploy(network, image_size=SIZE, requantize="half_even")
    got = import_onnx(to_qonnx(network, image_size=SIZE))
    images = rng.integers(0, 256, (6, *want.image_shape), dtype=np.uint8)
    ours, theirs = got.trace(images), want.trace(images)
    assert not any(isinstance(step, RealStep) for step in got.steps)
    for step in want.steps:
        np.testing.assert_array_equal(ours[step.name], theirs[step.name], step.name)
    assert got.logit_scale == pytest.approx(want.logit_scale, rel=1e-6)
    (last,) = onnx_trace(to_onnx(got), images, [got.steps[-1].name]).values()
    np.testing.assert_array_equal(last, theirs[want.steps[-1].name])


class Quants:
    """Nodes of a QONNX model that reads x: (1, 3, 8, 8) float32."""

    def __init__(self):
        self.nodes, self.held = [], []

    def put(self, value, dtype=np.float32):
        name = f"k{len(self.held)}"
        self.held.append(onnx.numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def node(self, op, *inputs, domain="", **attributes):
        name = f"{op}{len(self.nodes)}"
        made = helper.make_node(op, inputs, [name], name, domain=domain, **attributes)
        self.nodes.append(made)
        return name

    def quant(self, x, scale, zero=0.0, bits=4.0, **attributes):
        options = {"signed": 1, "narrow": 0, "rounding_mode": "ROUND"} | attributes
        inputs = (x, self.put(scale), self.put(zero), self.put(bits))
        return self.node("Quant", *inputs, domain=DOMAIN, **options)

    def model(self, output):
        info = helper.make_tensor_value_info
        graph = helper.make_graph(
            self.nodes, "g", [info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
            [info(output, TensorProto.FLOAT, None)], self.held,
        )  # fmt: skip
        sets = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)]
        return helper.make_model(graph, opset_imports=sets, ir_version=8)


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("narrow", [0, 1])
@pytest.mark.parametrize("signed", [0, 1])
def test_constant_codes_are_those_of_the_package(rng, bits, narrow, signed):
    """Ties included: its own function of the node is the oracle."""
    module = pytest.importorskip("qonnx.custom_op.general.quant", reason="needs qonnx")
    if bits == 1 and (narrow or signed):
        pytest.skip("a grid of one code, or that of BipolarQuant")
    v = np.concatenate([rng.normal(0, 8, 90), np.arange(-20, 20) / 4]).astype("f4")
    q = Quants()
    out = q.quant(q.put(v), 0.5, 3.0, float(bits), signed=signed, narrow=narrow)
    reader = start(q.model(out))
    read_operator(reader, q.nodes[0])
    arguments = (np.float32(0.5), np.float32(3), np.float32(bits), signed, narrow)
    want = module.quant(v, *arguments, "ROUND")
    np.testing.assert_array_equal(reader.values[out].real(), want)


def several(rng):
    """Signed codes without a ReLU, a maximum, sums of layers and of codes, a mean."""
    q = Quants()
    x = q.quant("x", 0.125, bits=6.0)
    w = q.quant(q.put(rng.normal(0, 0.5, (8, 3, 3, 3))), np.full((8, 1, 1, 1), 0.125))
    b = q.put(rng.integers(-32, 32, 8) / 64)
    y = q.node("Conv", x, w, b, kernel_shape=[3, 3], pads=[1] * 4)
    y = q.quant(y, 0.25, bits=5.0, narrow=1)
    y = q.node("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2])
    w = q.put(rng.normal(0, 1, (8, 8, 1, 1)))
    signs = q.node("BipolarQuant", w, q.put(0.25), domain=DOMAIN)
    z = q.node("Conv", y, signs, kernel_shape=[1, 1])
    norm = [rng.normal(0, 1, 8), rng.normal(0, 0.3, 8), rng.normal(0, 0.3, 8),
            rng.uniform(0.5, 2, 8)]  # fmt: skip
    z = q.node("BatchNormalization", z, *(q.put(v) for v in norm))
    y = q.quant(q.node("Relu", q.node("Add", z, y)), 0.25, signed=0)
    y = q.node("Flatten", q.node("GlobalAveragePool", y))
    w = q.quant(q.put(rng.normal(0, 0.5, (8, 10))), np.full((1, 10), 0.125))
    y = q.node("MatMul", q.quant(y, 0.125, signed=0, bits=6.0), w)
    return q.model(q.quant(y, 0.25, bits=8.0))


def test_nodes_of_every_kind(rng):
    """Scales are powers of two, so that ties are met: all codes are equal."""
    made = several(rng)
    network = import_onnx(made)
    kinds = [type(step).__name__ for step in network.steps]
    assert kinds.count("ResidualStep") == 1
    assert "RealStep" not in kinds
    for _ in range(8):
        x = rng.normal(0, 3, (1, 3, 8, 8)).astype(np.float32)
        want = evaluated(made, x)
        first = network.steps[0]
        codes = np.rint(want[first.name] / first.grid.scale) + 128
        got = network.trace(codes.astype(np.uint8))
        for step in network.steps[1:]:
            if step.name not in want:
                continue
            real = step.grid.scale * (got[step.name] - float(step.grid.zero_point))
            apart = np.abs(real.ravel() - want[step.name].ravel())
            norm = type(step).__name__ == "ResidualStep"  # its gain is no power of two
            assert apart.max() <= (1.01 * step.grid.scale if norm else 0), step.name
            assert np.mean(apart > 0) < 0.01
            if apart.any():
                break  # later codes follow from another one


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"zero": 3.0}, "ties agree for even ones"),
        ({"rounding_mode": "FLOOR"}, "rounding_mode must be ROUND, is 'FLOOR'"),
        ({"bits": 9.0}, r"bits must be one integer in \[1, 8\], got \[9"),
        ({"bits": 2.5}, "bits must be one integer"),
        ({"bits": 1.0}, "1 bit with a sign: BipolarQuant has -1 and 1"),
        ({"scale": -0.5}, "scales must be positive"),
        ({"scale": np.full((1, 8, 1, 1), 0.5)}, "one scale and zero-point"),
    ],
)
def test_what_no_step_computes_is_named(rng, change, message):
    q = Quants()
    x = q.quant("x", 0.125, bits=6.0)
    w = q.quant(q.put(rng.normal(0, 0.5, (8, 3, 1, 1))), 0.125)
    y = q.node("Conv", x, w, kernel_shape=[1, 1])
    out = q.quant(y, **({"scale": 0.25} | change))
    refuses(rf"Quant \(node '{out}'.*{message}", import_onnx, q.model(out))


def test_signs_of_activations_are_refused():
    q = Quants()
    out = q.node("BipolarQuant", q.quant("x", 0.5), q.put(1.0), domain=DOMAIN)
    refuses("its input must be constant weights", import_onnx, q.model(out))


def test_weights_of_minus_128_have_eight_bits(tmp_path):
    q = Quants()
    codes = np.resize(np.array([-128.0, 127.0, 1.0]), (8, 3, 1, 1))
    w = q.quant(q.put(codes), 1.0, bits=8.0)
    y = q.node("Conv", q.quant("x", 0.125), w, kernel_shape=[1, 1])
    network = import_onnx(q.model(q.quant(y, 16.0, bits=8.0)))
    assert network.steps[1].sum.w.min() == -128
    assert network.steps[1].sum.weight_bits == 8
    network.save(tmp_path / "integers.npz")
    IntegerNetwork.load(tmp_path / "integers.npz")
