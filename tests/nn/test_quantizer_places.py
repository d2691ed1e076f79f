"""Steps and clips of other frameworks: where they go, and what has no place."""

import numpy as np
import pytest

from refqnn.core import Run, named_modules
from refqnn.networks import mobilenetv2, resnet
from refqnn.nn.quantizer_places import places
from refqnn.nn.state_dicts import load_state_dict, state_dict
from refqnn.quantizers.module import Quantizer

CONVS = ("layer1.0.conv1", "layer1.0.conv2", "layer2.0.conv1", "layer2.0.conv2",
         "layer3.0.conv1", "layer3.0.conv2", "layer2.0.downsample.0",
         "layer3.0.downsample.0")  # fmt: skip
#: a convolution of the file -> the quantizer of ours whose codes it reads
READS = {
    "layer1.0.conv1": "layers.stem_quant",
    "layer1.0.conv2": "layers.stage1_block1.quant1",
    "layer2.0.conv1": "layers.stage1_block1.quant2",
    "layer2.0.downsample.0": "layers.stage1_block1.quant2",
    "layer2.0.conv2": "layers.stage2_block1.quant1",
    "layer3.0.conv1": "layers.stage2_block1.quant2",
    "layer3.0.downsample.0": "layers.stage2_block1.quant2",
    "layer3.0.conv2": "layers.stage3_block1.quant1",
}
#: a quantizer of ours -> the parts of the file whose output it quantizes
GIVES = {
    "layers.stem_quant": ("conv1", "bn1", "relu"),
    "layers.stage1_block1.quant1": ("layer1.0.conv1", "layer1.0.bn1"),
    "layers.stage1_block1.quant2": ("layer1.0.add_relu", "layer1.0.act2"),
    "layers.stage2_block1.quant1": ("layer2.0.conv1", "layer2.0.relu1"),
    "layers.stage2_block1.quant2": ("layer2.0.skip_add", "layer2.0.quant2"),
    "layers.stage3_block1.quant1": ("layer3.0.bn1", "layer3.0.act1"),
    "layers.stage3_block1.quant2": ("layer3.0.out", "layer3.0.relu2"),
}


def network(method="lsq", bits=4, **options):
    return resnet(
        8, width=0.25, shortcut="B", method=method, weight_bits=bits,
        activation_bits=bits, dtype="float64", rng=np.random.default_rng(0), **options
    )  # fmt: skip


def quantizers(net):
    return {n: m for n, m in named_modules(net) if isinstance(m, Quantizer)}


def weight_names():
    """Our weight quantizers by the convolution of the file, written out by hand."""
    names = {}
    for conv in CONVS:
        stage, _, part = conv.removeprefix("layer").split(".", 2)
        part = "shortcut.layers.conv" if part == "downsample.0" else part
        names[conv] = f"layers.stage{stage}_block1.{part}.weight_quant"
    return names


def steps(net, rng):
    return {name: rng.uniform(0.1, 1.0) for name in quantizers(net)}


WEIGHT_FORMS = (
    "{}.quan_w_fn.s",
    "{}.w_step_size",
    "{}.s",
    "{}.weight_quantizer.scale",
    "{}.weight_fake_quant.scale",
    "{}.lsq_w.alpha",
    "{}.wq.s",
    "{}.Qw.step",
    "{}.sw",
)


@pytest.mark.parametrize("form", WEIGHT_FORMS)
def test_steps_of_weights(form, rng):
    net, tensors = network(), state_dict(network())
    want = steps(net, rng)
    ours = weight_names()
    for conv, name in ours.items():
        tensors[form.format(conv)] = np.array([want[name]])
    left = load_state_dict(net, tensors)
    for name in ours.values():
        quantizer = quantizers(net)[name]
        assert float(quantizer.s.value) == want[name]
        assert quantizer.is_known()
    assert len(left) == 2 * len(GIVES)
    assert not any("weight_quant" in name for name in left)


INPUT_FORMS = (
    "{}.quan_a_fn.s",
    "{}.act_step",
    "{}.input_quant.scale",
    "{}.act_quantizer.scale",
    "{}.s_a",
    "{}.aq.s",
    "{}.Qa.step",
    "{}.sa",
)


@pytest.mark.parametrize("form", INPUT_FORMS)
def test_steps_of_what_a_convolution_reads(form, rng):
    net, tensors = network(), state_dict(network())
    want = steps(net, rng)
    for conv, name in READS.items():
        tensors[form.format(conv)] = np.array([want[name]])
    load_state_dict(net, tensors)
    for name in READS.values():
        assert float(quantizers(net)[name].s.value) == want[name]


@pytest.mark.parametrize("which", [0, -1])
def test_steps_of_what_a_layer_gives(which, rng):
    net, tensors = network(), state_dict(network())
    want = steps(net, rng)
    for name, parts in GIVES.items():
        tensors[f"{parts[which]}.activation_post_process.scale"] = want[name]
        tensors[f"{parts[which]}.activation_post_process.zero_point"] = np.zeros(1, int)
        tensors[f"{parts[which]}.activation_post_process.observer_enabled"] = np.ones(1)
    load_state_dict(net, tensors)
    for name in GIVES:
        assert float(quantizers(net)[name].s.value) == want[name]


def test_readers_that_differ_are_named():
    net, tensors = network(), state_dict(network())
    tensors["layer2.0.conv1.quan_a_fn.s"] = np.array(0.5)
    tensors["layer2.0.downsample.0.quan_a_fn.s"] = np.array(0.25)
    with pytest.raises(ValueError, match=r"differ, and layers.stage1_block1.quant2 is"):
        load_state_dict(net, tensors)
    tensors["layer2.0.downsample.0.quan_a_fn.s"] = np.array(0.5)
    load_state_dict(net, tensors)


def test_thresholds_of_brevitas_are_divided():
    net, tensors = network(), state_dict(network())
    leaf = "tensor_quant.scaling_impl.value"
    tensors[f"layer1.0.conv1.weight_quant.{leaf}"] = np.array(2.0)
    tensors[f"layer1.0.relu1.act_quant.fused_activation_quant_proxy.{leaf}"] = np.array(
        30.0
    )
    load_state_dict(net, tensors)
    block = net.layers["stage1_block1"]
    assert float(block.conv1.weight_quant.s.value) == 2.0 / 8
    assert float(block.quant1.s.value) == 30.0 / 15


def test_clips_and_ranges():
    net, tensors = network("pact"), state_dict(network())
    tensors["layer1.0.act1.alpha"] = np.array([3.0])
    tensors["layer1.0.act2.scale"] = np.array(0.5)
    load_state_dict(net, tensors)
    block = net.layers["stage1_block1"]
    assert float(block.quant1.alpha.value) == 3.0
    assert float(block.quant2.alpha.value) == 7.5
    net = network("pareto", bits=8)
    at = "layer1.0.act1.activation_post_process"
    tensors = state_dict(network()) | {
        f"{at}.scale": np.array([0.5]),
        f"{at}.zero_point": np.array([3]),
        "layer1.0.act2.min_val": np.array(-1.0),
        "layer1.0.act2.max_val": np.array(4.0),
    }
    load_state_dict(net, tensors)
    block = net.layers["stage1_block1"]
    assert (block.quant1.lo.value, block.quant1.hi.value) == (-1.5, 126.0)
    assert (block.quant2.lo.value, block.quant2.hi.value) == (-1.0, 4.0)
    y, _ = block.quant1.forward(np.array([-9.0, 0.3, 999.0]), Run())
    np.testing.assert_array_equal(y, [-1.5, 0.5, 126.0])


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("layer1.0.act1.zero_point", np.array(3), "no zero-point"),
        ("layer1.0.act1.s", np.array(-1.0), "s must be finite, steps and clips pos"),
        ("layer1.0.act1.s", np.array(np.nan), "s must be finite"),
        ("layer1.0.conv1.quan_w_fn.s", np.ones(4), r"misshaped \(4,\), want \(\)"),
        ("layer1.0.act1.max_val", np.array(1.0), "LSQ has no high"),
        ("layer1.0.act3.s", np.array(1.0), r"extra layer1.0.act3.s \(\)"),
        ("layer1.0.act.s", np.array(1.0), r"extra layer1.0.act.s \(\)"),
        ("conv1.quan_w_fn.s", np.array(1.0), r"extra conv1.quan_w_fn.s \(\)"),
        ("layer1.0.act1.s", np.array(1j), r"extra layer1.0.act1.s \(\)"),
        ("quant.activation_post_process.scale", np.ones(1), r"extra quant.*scale \(1,"),
        ("layer1.0.act1.memory", np.array(1.0), r"extra layer1.0.act1.memory \(\)"),
    ],
)
def test_what_has_no_place_is_listed(name, value, message):
    net = network()
    tensors = state_dict(net) | {name: value}
    with pytest.raises(ValueError, match=message):
        load_state_dict(net, tensors)
    assert not any(q.is_known() for q in quantizers(net).values())


def test_levels_of_trained_ternary_weights():
    net = network("ttq", bits=2)
    tensors = state_dict(network())
    tensors["layer1.0.conv1.quan_w_fn.wp"] = np.array([0.5])
    tensors["layer1.0.conv1.quan_w_fn.wn"] = np.array([0.25])
    load_state_dict(net, tensors)
    quantizer = net.layers["stage1_block1"].conv1.weight_quant
    assert (quantizer.wp.value, quantizer.wn.value) == (0.5, 0.25)


def test_a_step_a_filter():
    net, tensors = network("lsq_channel"), state_dict(network())
    want = np.linspace(0.1, 0.4, 4)
    name = "layer1.0.conv1.quan_w_fn.s"
    load_state_dict(net, tensors | {name: want.reshape(4, 1, 1, 1)})
    quantizer = net.layers["stage1_block1"].conv1.weight_quant
    np.testing.assert_array_equal(quantizer.s.value, want)
    with pytest.raises(ValueError, match=r"misshaped \(\), want \(4,\) for s"):
        load_state_dict(net, tensors | {name: np.array(0.1)})


def test_step_and_offset_of_lsq_plus():
    net, tensors = network("lsq_plus"), state_dict(network())
    tensors["layer1.0.act1.s"] = np.array(0.5)
    tensors["layer1.0.act1.beta"] = np.array(-0.25)
    load_state_dict(net, tensors)
    quantizer = net.layers["stage1_block1"].quant1
    assert (quantizer.s.value, quantizer.beta.value) == (0.5, -0.25)


def test_every_quantizer_has_its_layers():
    for method in ("lsq", "qil", "pareto"):
        net = network(method)
        every = places(net)
        listed = [name for names in every.blocks.values() for name in names]
        assert sorted([*listed, *every.weights.values()]) == sorted(quantizers(net))
    net = mobilenetv2(
        width=0.25, method="lsq", weight_bits=4, activation_bits=4, rng=None
    )
    every = places(net)
    block = "layers.row2_block2"
    assert (
        every.reads[f"{block}.body.layers.expand"] == "layers.row2_block1.layers.quant"
    )
    relu = f"{block}.body.layers.depthwise_relu"
    assert every.gives[relu] == f"{block}.body.layers.depthwise_quant"
    assert every.blocks[block][-1] == f"{block}.after.layers.quant"
