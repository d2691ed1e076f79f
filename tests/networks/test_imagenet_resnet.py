"""ResNets for ImageNet: published counts, ends that stay, gradients, refusals."""

import numpy as np
import pytest
from checkers import check_direction
from tables.networks import pixels

from refqnn.core import Run, named_modules
from refqnn.cost import count
from refqnn.networks import imagenet_resnet
from refqnn.nn import Conv2d, Linear, Residual
from refqnn.testing.networks import calibrate


def weights(network):
    return {
        name.removeprefix("layers."): m
        for name, m in named_modules(network)
        if isinstance(m, Conv2d | Linear)
    }


@pytest.mark.parametrize(
    ("depth", "parameters", "macs"),
    [  # without batch norm and biases: torchvision's counts less those
        (18, 11_678_912, 1_814_073_344),
        (34, 21_779_648, 3_663_761_408),
        (50, 25_502_912, 4_089_184_256),
    ],
)
def test_usual_networks(depth, parameters, macs):
    found = count(imagenet_resnet(depth, rng=None), (3, 224, 224))
    assert sum(layer.weights for layer in found.layers) == parameters
    assert found.macs == macs


@pytest.mark.parametrize(("depth", "layers"), [(18, 18 + 3), (34, 34 + 3), (50, 54)])
def test_depth_counts_the_layers_with_weights_and_no_shortcuts(depth, layers):
    assert len(weights(imagenet_resnet(depth, rng=None))) == layers


def test_the_stride_of_a_bottleneck_is_at_its_3x3():
    layers = weights(imagenet_resnet(50, rng=None))
    strided = [
        name for name, layer in layers.items() if getattr(layer, "stride", 1) == 2
    ]
    assert strided == ["stem"] + [
        f"stage{i}_block1.{layer}"
        for i in (2, 3, 4)
        for layer in ("body.layers.conv2", "shortcut.layers.conv")
    ]


def test_fixed_ends_do_not_scale():
    layers = weights(
        imagenet_resnet(50, width=0.25, stem="deep", fixed_ends=True, rng=None)
    )
    shapes = {name: layer.w.value.shape for name, layer in layers.items()}
    assert [shapes[f"stem{i}"] for i in (1, 2, 3)] == [
        (32, 3, 3, 3),
        (32, 32, 3, 3),
        (64, 32, 3, 3),
    ]
    last = "stage4_block3.body.layers.conv"
    assert [shapes[f"{last}{i}"] for i in (1, 2, 3)] == [
        (512, 512, 1, 1),
        (512, 512, 3, 3),
        (2048, 512, 1, 1),
    ]
    assert shapes["stage4_block3.shortcut.layers.conv"] == (2048, 512, 1, 1)
    assert shapes["classifier"] == (1000, 2048)
    # at a quarter stage 1 gives 4 * 16 channels, those of the stem: no projection
    assert "stage1_block1.shortcut.layers.conv" not in shapes


@pytest.mark.parametrize("width", [0.99, 1.0])
def test_the_last_block_projects_where_its_input_is_another(width):
    network = imagenet_resnet(50, width=width, fixed_ends=True, rng=None)
    assert (network.layers["stage4_block3"].shortcut is None) == (width == 1)


def test_only_the_first_convolution_of_a_deep_stem_is_an_end():
    layers = weights(
        imagenet_resnet(50, stem="deep", weight_bits=1, activation_bits=8, rng=None)
    )
    eight = [name for name, layer in layers.items() if layer.weight_quant.bits == 8]
    assert eight == ["stem1", "classifier"]
    assert {layer.weight_quant.bits for layer in layers.values()} == {1, 8}


@pytest.mark.parametrize(("depth", "bits"), [(18, None), (50, 2)])
def test_gradient_check_at_frozen_residuals(depth, bits, rng, monkeypatch):
    options = {"classes": 3, "in_channels": 1, "dtype": "float64", "weight_bits": bits}
    network = imagenet_resnet(depth, width=1 / 32, rng=rng, **options)
    x = pixels(rng, n=4, size=33, dtype=np.float64)
    calibrate(network, x)
    check_direction(network, x, Run(training=True), rng, step=1e-8, bound=3e-6)
    kind = type(network.layers["stage3_block1"])
    right = kind.backward
    monkeypatch.setattr(kind, "backward", lambda s, dy, c: 1.001 * right(s, dy, c))
    with pytest.raises(AssertionError, match="all"):
        check_direction(network, x, Run(training=True), rng, step=1e-8, bound=3e-6)


def test_4_bit_activations_train(rng):
    network = imagenet_resnet(
        50, width=1 / 32, classes=3, stem="deep", activation_bits=4, rng=rng
    )
    assert isinstance(network.layers["stage1_block1"], Residual)
    x = pixels(rng, n=2, channels=3, size=33)
    y, cache = network.forward(x, Run(training=True))
    assert np.isfinite(network.backward(np.ones_like(y), cache)).all()
