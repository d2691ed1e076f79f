"""QONNX: the trained network, in a small evaluator and, where it is, in qonnx."""

import numpy as np
import pytest

from refqnn.core import Run
from refqnn.deploy.formats.qonnx_export import DOMAIN, signed_grid, to_qonnx
from refqnn.deploy.plan import plan
from refqnn.networks import resnet
from refqnn.quantizers import Affine

onnx = pytest.importorskip("onnx", reason="needs the optional package onnx")
from onnx.reference import ReferenceEvaluator  # noqa: E402 - after the skip
from onnx.reference.op_run import OpRun  # noqa: E402 - after the skip

SIZE = (8, 8)


class Quant(OpRun):
    op_domain = DOMAIN

    def _run(
        self, x, s, z, bits, narrow=None, rounding_mode=None, signed=None
    ):  # the formula of arXiv:2206.07527, section IV
        assert rounding_mode == "ROUND"
        low = -(2 ** (bits - 1)) + narrow if signed else 0
        high = 2 ** (bits - 1) - 1 if signed else 2**bits - 1 - narrow
        q = np.rint(np.clip(x / s + z, low, high))
        return (((q - z) * s).astype(np.float32),)


class BipolarQuant(OpRun):
    op_domain = DOMAIN

    def _run(self, x, s):
        return (np.where(x >= 0, s, -s).astype(np.float32),)


def evaluated(made, images):
    """Return every tensor of the model by name."""
    shown = onnx.ModelProto()
    shown.CopyFrom(made)
    names = [o for n in shown.graph.node for o in n.output]
    del shown.graph.output[:]
    shown.graph.output.extend(
        onnx.helper.make_empty_tensor_value_info(n) for n in names
    )
    run = ReferenceEvaluator(shown, new_ops=[Quant, BipolarQuant])
    source = shown.graph.input[0].name
    return dict(zip(names, run.run(None, {source: images}), strict=True))


def handed_on(network, images):
    """Return what every stage of the trained network hands on."""
    seen = {}
    network.forward(images, Run(observe=lambda m, _x, y: seen.update({id(m): y})))
    stages = plan(network).stages
    return {
        s.name: seen[id(s.quant if s.quant is not None else s.weighted.layer)]
        for s in stages
    }


def same_codes(got, want, scale):
    """Equal, but for rounding of float sums: codes next to a tie may part by one."""
    difference = np.abs(got - want)
    np.testing.assert_array_less(difference, 1.01 * scale)
    assert np.mean(difference > 1e-3 * scale) < 0.01


@pytest.mark.parametrize("shortcut", "AB")
@pytest.mark.parametrize(("weights", "activations"), [(1, 2), (2, 3), (4, 4), (8, 8)])
def test_every_stage_hands_on_what_the_network_does(
    make, images, weights, activations, shortcut
):
    network = make(
        weight_bits=weights, activation_bits=activations, shortcut=shortcut,
        signs=(-1.0, 1.0), image_zero_point=100,
    )  # fmt: skip
    made = to_qonnx(network, image_size=SIZE)
    got, want = evaluated(made, images), handed_on(network, images)
    for stage in plan(network).stages:
        if stage.quant is not None:
            scale = float(stage.quant.quantize(np.zeros(1, np.float32))[1])
            same_codes(got[stage.name], want[stage.name], scale)
    logits, _ = network.forward(images, Run())
    assert got["layers.classifier"].shape == logits.shape
    kinds = [node.op_type for node in made.graph.node]
    assert ("BipolarQuant" in kinds) is (weights == 1)


@pytest.mark.parametrize("bits", [1, 2, 3, 8])
def test_weights_are_those_of_the_network_exactly(make, images, bits):
    network = make(weight_bits=bits)
    got = evaluated(to_qonnx(network, image_size=SIZE), images)
    for stage in plan(network).stages:
        if stage.weighted is not None:
            layer = stage.weighted.layer
            w, _ = layer.weight_quant.forward(layer.w.value, Run())
            np.testing.assert_array_equal(got[f"{stage.name}.w_quantized"], w)


def test_bits_are_stated(make):
    made = to_qonnx(make(weight_bits=3, activation_bits=5), image_size=SIZE)
    held = {t.name: onnx.numpy_helper.to_array(t) for t in made.graph.initializer}
    bits = {
        n.output[0]: held[n.input[3]] for n in made.graph.node if n.op_type == "Quant"
    }
    assert bits["layers.stage1_block1.conv1.w_quantized"] == 3
    assert bits["layers.stage1_block1.conv1"] == 5
    assert bits["layers.stem.w_quantized"] == bits["layers.pool"] == 8


def test_grids_without_their_smallest_code(make, images):
    network = make()
    network.layers["stem_quant"].narrow_range = True
    got = evaluated(to_qonnx(network, image_size=SIZE), images)
    want = handed_on(network, images)
    scale = float(network.layers["stem_quant"].quantize(np.zeros(1, np.float32))[1])
    same_codes(got["layers.stem"], want["layers.stem"], scale)
    assert len(np.unique(want["layers.stem"])) == 15


def test_signed_grids():
    assert signed_grid(np.arange(-3, 4)) == (3, 1)
    assert signed_grid(np.arange(-4, 4)) == (3, 0)
    assert signed_grid(np.array([-3, -1, 1, 3])) == (3, 1)


def test_what_has_no_quant_node_is_refused(make, rng):
    network = make()
    network.layers["stem_quant"].rounding = "half_up"
    with pytest.raises(ValueError, match=r"after layers\.stem must round half_even"):
        to_qonnx(network, image_size=SIZE)
    fresh = resnet(8, weight_bits=4, activation_bits=4, width=0.1, rng=rng)
    with pytest.raises(ValueError, match=r"after layers\.stem: the range is unknown"):
        to_qonnx(fresh, image_size=SIZE)
    network.layers["stem_quant"] = Affine(bits=4)
    network.layers["stem_quant"].set_range(0.0, 0.0)
    with pytest.raises(ValueError, match=r"codes 0 \.\. 0, which no Quant has"):
        to_qonnx(network, image_size=SIZE)


def test_the_package_qonnx_agrees(make, images):
    """Its executor runs the model and gives the same stages."""
    pytest.importorskip("qonnx", reason="needs the package qonnx")
    if onnx.IR_VERSION > 13:
        pytest.skip("the executor of qonnx writes models that onnxruntime cannot read")
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.transformation.infer_shapes import InferShapes

    network = make(weight_bits=2, shortcut="B")
    made = ModelWrapper(to_qonnx(network, image_size=SIZE, batch=len(images)))
    got = execute_onnx(
        made.transform(InferShapes()),
        {"layers.image": images},
        return_full_exec_context=True,
    )
    want = handed_on(network, images)
    for stage in plan(network).stages[:-1]:
        scale = float(stage.quant.quantize(np.zeros(1, np.float32))[1])
        same_codes(got[stage.name], want[stage.name], scale)
