"""ResNets: wiring, widths, bits, and a configuration that builds them again."""

import json

import numpy as np
import pytest
from tables.networks import TINY, pixels, tiny

from refqnn.core import Run, named_modules, named_params
from refqnn.networks import build, resnet
from refqnn.nn import BasicBlock, Conv2d, Linear, PadShortcut, Sequential
from refqnn.quantizers import Affine, Binary, FixedPoint, Ternary
from refqnn.testing.networks import calibrate, check_same_state, state_of


def of_kind(network, kind):
    return {name: m for name, m in named_modules(network) if isinstance(m, kind)}


def make(depth=8, **options):
    return resnet(depth, rng=np.random.default_rng(0), **options)


@pytest.mark.parametrize("depth", [8, 20, 56])
def test_depth_counts_the_layers_with_weights(depth):
    network = make(depth, width=0.1)
    assert len(of_kind(network, Conv2d)) + len(of_kind(network, Linear)) == depth
    assert len(of_kind(network, BasicBlock)) == (depth - 2) // 2


def test_weights_of_every_layer():
    network = make(20, in_channels=3, classes=100)
    shapes = [m.w.value.shape for m in of_kind(network, Conv2d).values()]
    assert shapes[0] == (16, 3, 3, 3)
    assert shapes[1:7] == [(16, 16, 3, 3)] * 6
    assert shapes[7:13] == [(32, 16, 3, 3)] + [(32, 32, 3, 3)] * 5
    assert shapes[13:] == [(64, 32, 3, 3)] + [(64, 64, 3, 3)] * 5
    classifier = network.layers["classifier"]
    assert classifier.w.value.shape == (100, 64)
    np.testing.assert_array_equal(classifier.b.value, np.zeros(100))
    assert classifier.b.group == "affine"


def test_strides_are_in_the_first_block_of_stages_2_and_3():
    network = make(20, width=0.1)
    strided = [n for n, m in of_kind(network, Conv2d).items() if m.stride != 1]
    assert strided == ["layers.stage2_block1.conv1", "layers.stage3_block1.conv1"]
    shortcuts = of_kind(network, PadShortcut)
    assert list(shortcuts) == [
        "layers.stage2_block1.shortcut",
        "layers.stage3_block1.shortcut",
    ]


def test_option_b_projects():
    network = make(8, shortcut="B")
    projections = of_kind(network, Sequential)
    del projections[""]
    assert [p.layers["conv"].w.value.shape for p in projections.values()] == [
        (32, 16, 1, 1),
        (64, 32, 1, 1),
    ]
    assert {p.layers["conv"].stride for p in projections.values()} == {2}


@pytest.mark.parametrize(
    ("bits", "kind"), [(1, Binary), (2, Ternary), (3, FixedPoint), (8, FixedPoint)]
)
def test_weight_bits_choose_the_method_and_ends_have_8_bits(bits, kind):
    network = make(8, weight_bits=bits, shortcut="B")
    layers = of_kind(network, (Conv2d, Linear))
    ends = [layers.pop("layers.stem"), layers.pop("layers.classifier")]
    assert all(type(m.weight_quant) is kind for m in layers.values())
    assert {m.weight_quant.bits for m in layers.values()} == {bits}
    assert all(type(m.weight_quant) is FixedPoint for m in ends)
    assert {m.weight_quant.bits for m in ends} == {8}
    assert not of_kind(network, Affine)


def test_activation_quantizers_follow_every_relu_and_the_pooling():
    network = make(8, activation_bits=3)
    bits = {name: m.bits for name, m in of_kind(network, Affine).items()}
    assert bits.pop("layers.pool_quant") == 8
    assert set(bits.values()) == {3}
    assert len(bits) == 1 + 2 * 3
    assert all(m.weight_quant is None for m in of_kind(network, Conv2d).values())
    order = list(network.layers)
    assert order[:4] == ["image", "stem", "stem_norm", "stem_relu"]
    assert order[4] == "stem_quant"
    assert order[-3:] == ["pool", "pool_quant", "classifier"]


def test_a_float_network_has_no_quantizers():
    network = make(8)
    assert not of_kind(network, (Affine, FixedPoint, Binary, Ternary))


@pytest.mark.parametrize("size", [(8, 8), (28, 28), (7, 10), (1, 1)])
def test_any_input_size(size):
    network = make(8, width=0.1, in_channels=2)
    y, _ = network.forward(np.zeros((2, 2, *size), np.uint8), Run())
    assert y.shape == (2, 10)
    assert y.dtype == np.float32


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_one_channel_everywhere_still_has_strides(shortcut):
    network = make(8, width=0.01, shortcut=shortcut)
    shapes = []
    run = Run(observe=lambda _, x, y: shapes.append(y.shape))  # noqa: ARG005 - the observer's signature
    network.forward(np.zeros((1, 1, 8, 8), np.uint8), run)
    assert (1, 1, 2, 2) in shapes


def test_two_classes_are_enough():
    assert make(8, width=0.1, classes=2).layers["classifier"].b.value.shape == (2,)


def test_pixels_enter_around_the_zero_point():
    network = make(8, width=0.1, image_scale=0.5, image_zero_point=7)
    image = network.layers["image"]
    y, _ = image.forward(np.array([[[[7, 9]]]], np.uint8), Run())
    np.testing.assert_array_equal(y, [[[[0, 1]]]])
    image = make(8, width=0.1).layers["image"]
    assert (image.scale, image.zero_point) == (1 / 64, 128)


@pytest.mark.parametrize("name", TINY)
def test_configuration_builds_the_same_network(name, rng):
    network = calibrate(tiny(rng, **TINY[name]), input_of(name, rng))
    again = build(json.loads(json.dumps(network.config)))
    assert again.config == network.config
    here, there = state_of(network), state_of(again)
    assert {k: a.shape for k, a in here.items()} == {
        k: a.shape for k, a in there.items()
    }
    assert {k: a.dtype for k, a in here.items()} == {
        k: a.dtype for k, a in there.items()
    }
    assert repr_of_kinds(again) == repr_of_kinds(network)


def input_of(name, rng):
    return pixels(rng, channels=TINY[name].get("in_channels", 1))


def repr_of_kinds(network):
    return [(name, type(m).__name__) for name, m in named_modules(network)]


def test_one_generator_one_network():
    one, same, other = (
        resnet(8, width=0.2, rng=np.random.default_rng(s)) for s in (1, 1, 2)
    )
    check_same_state(state_of(one), state_of(same))
    differ = [
        name
        for name, p in named_params(one).items()
        if not np.array_equal(p.value, named_params(other)[name].value)
    ]
    assert differ == [name for name in named_params(one) if name.endswith(".w")]
