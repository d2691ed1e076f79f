"""MobileNetV2 and Inv-ResNet26: tables, strides, roundings, gradients, refusals."""

import numpy as np
import pytest
from checkers import check_direction
from tables.networks import pixels

from refqnn.core import Run, named_modules
from refqnn.cost import count
from refqnn.networks import inv_resnet26, mobilenetv2
from refqnn.networks.mobilenets import round_channels
from refqnn.nn import Conv2d, Linear, Residual
from refqnn.testing.networks import calibrate


def weights(network):
    return [m for _, m in named_modules(network) if isinstance(m, Conv2d | Linear)]


def tiny(rng, **options):
    options = {
        "images": "cifar",
        "width": 1 / 16,
        "rounding": "int",
        "last": "scaled",
        "classes": 3,
        "in_channels": 1,
        "dtype": "float64",
    } | options
    return mobilenetv2(rng=rng, **options)


def test_parameters_and_multiply_adds_are_those_that_are_published():
    """3.4 M parameters and 300 M multiply-adds (arXiv:1801.04381, table 4)."""
    network = mobilenetv2(rng=None)
    found = count(network, (3, 224, 224))
    assert round(sum(layer.weights for layer in found.layers) / 1e6, 2) == 3.47
    assert found.macs == 300_774_272
    assert len(found.layers) == 53


def test_channels_of_every_block():
    found = count(mobilenetv2(rng=None), (3, 224, 224)).layers
    ends = [x.output_shape[:2] for x in found if x.name.endswith("project")]
    assert ends == (
        [(16, 112)]
        + 2 * [(24, 56)]
        + 3 * [(32, 28)]
        + 4 * [(64, 14)]
        + 3 * [(96, 14)]
        + 3 * [(160, 7)]
        + [(320, 7)]
    )


def test_cifar_is_down_sampled_twice():
    found = count(mobilenetv2(images="cifar", rng=None), (3, 32, 32)).layers
    sizes = [x.output_shape[1] for x in found if x.name.endswith(("stem", "project"))]
    assert sizes == [16] * 11 + [8] * 7


def test_the_input_is_added_where_shapes_agree():
    network = mobilenetv2(rng=None)
    added = [name for name, layer in network if isinstance(layer, Residual)]
    assert added == [
        *("row2_block2", "row3_block2", "row3_block3"),
        *("row4_block2", "row4_block3", "row4_block4"),
        *("row5_block2", "row5_block3", "row6_block2", "row6_block3"),
    ]


@pytest.mark.parametrize(
    ("channels", "width", "want"),
    [
        (32, 0.25, (8, 8, 8)),
        (32, 0.35, (16, 11, 11)),  # 8 would lose more than 10 % of 11.2
        (24, 0.5, (16, 12, 12)),
        (24, 0.75, (24, 18, 18)),  # 16 would lose more than 10 % of 18
        (16, 0.1, (8, 8, 1)),
        (1, 0.1, (8, 8, 1)),
        (96, 1.4, (136, 134, 134)),
        (160, 1.4, (224, 224, 224)),
    ],
)
def test_roundings(channels, width, want):
    found = [
        round_channels(channels, width, r) for r in ("divisible", "at_least_8", "int")
    ]
    assert tuple(found) == want


def test_the_ends_may_stay_as_they_are():
    def ends(**options):
        layers = weights(mobilenetv2(rounding="int", rng=None, **options))
        return layers[0].w.value.shape[0], layers[-1].w.value.shape[1]

    assert ends(width=0.5) == (16, 1280)
    assert ends(width=0.5, fixed_stem=True, last="scaled") == (32, 640)
    assert ends(width=1.5) == (48, 1920)
    assert ends(width=1.5, last="fixed") == (48, 1280)


def test_inv_resnet26_is_table_5():
    network = inv_resnet26(in_channels=3, classes=100, rng=None)
    found = count(network, (3, 32, 32)).layers
    assert len(found) == 38
    assert sum(layer.weights for layer in found) == 273_712
    blocks = [x.output_shape for x in found if x.name.endswith("project")]
    stages = 4 * [(16, 32, 32)] + 4 * [(32, 16, 16)] + 4 * [(64, 8, 8)]
    assert blocks == stages
    hidden = [x.output_shape[0] for x in found if x.name.endswith("expand")]
    assert hidden == 4 * [96] + 4 * [192] + 4 * [384]
    added = [name for name, layer in network if isinstance(layer, Residual)]
    assert len(added) == 10
    assert not {"stage2_block1", "stage3_block1"} & set(added)


@pytest.mark.parametrize("make", [tiny, lambda g, **o: inv_resnet26(rng=g, **o)])
def test_bits_of_every_layer(make):
    bits = {"weight_bits": 2, "activation_bits": 3, "depthwise_bits": 5}
    layers = weights(make(None, **bits))
    assert [layer.weight_quant.bits for layer in (layers[0], layers[-1])] == [8, 8]
    for layer in layers[1:-1]:
        want = 5 if layer.groups > 1 else 2
        assert layer.weight_quant.bits == want
    alone = weights(make(None, weight_bits=2))
    assert {layer.weight_quant.bits for layer in alone[1:-1]} == {2}


# in eval mode: a batch norm behind a 1x1 convolution takes away what the bias of a
# linear bottleneck adds, so in training no gradient arrives there
@pytest.mark.parametrize("name", ["mobilenetv2", "inv_resnet26"])
def test_gradient_check_at_frozen_residuals(name, rng):
    if name == "mobilenetv2":
        network = tiny(rng, weight_bits=1, depthwise_bits=8)
    else:
        network = inv_resnet26(width=0.1, classes=3, dtype="float64", rng=rng)
    x = pixels(rng, size=9, dtype=np.float64)
    for _ in range(20):
        calibrate(network, x)
    check_direction(network, x, Run(), rng, step=1e-8, bound=3e-6)


def test_4_bit_activations_train(rng):
    network = tiny(rng, weight_bits=4, activation_bits=4)
    x = pixels(rng, n=4, size=9)
    y, cache = network.forward(x, Run(training=True))
    dx = network.backward(np.ones_like(y), cache)
    assert dx.shape == x.shape
    assert np.isfinite(dx).all()
