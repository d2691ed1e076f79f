"""VGG11 and its variants: table 6, depth-wise bits, gradients, what is refused."""

import itertools

import numpy as np
import pytest
from checkers import check_module
from tables.networks import pixels

from refqnn.core import Run, named_modules
from refqnn.networks import vgg
from refqnn.nn import Conv2d, Linear
from refqnn.testing.networks import calibrate


def weights(network):
    found = {}
    for name, module in named_modules(network):
        if isinstance(module, Conv2d | Linear):
            found[name.removeprefix("layers.")] = module
    return found


def tiny(rng, variant="c", **options):
    options = {"width": 1 / 32, "classes": 3, "dtype": "float64"} | options
    return vgg(variant, rng=rng, **options)


def test_convolutions_of_configuration_a():
    layers = weights(vgg(in_channels=3, classes=100, rng=None))
    shapes = [layer.w.value.shape for layer in layers.values()]
    channels = [3, 64, 128, 256, 256, 512, 512, 512, 512]
    want = [(o, i, 3, 3) for i, o in itertools.pairwise(channels)]
    assert shapes == [*want, (100, 512)]


@pytest.mark.parametrize(
    ("variant", "replaced"), [("11", []), ("a", [2]), ("b", [2, 3, 4, 5])]
)
def test_which_convolutions_are_replaced(variant, replaced):
    layers = weights(vgg(variant, rng=None))
    assert [n for n in layers if n.startswith("dep")] == [
        f"depthwise{i}" for i in replaced
    ]
    for i in range(1, 9):
        kernel = layers[f"conv{i}"].w.value.shape[2]
        assert kernel == (1 if i in replaced else 3)


def test_a_pointwise_convolution_comes_before_its_depthwise_one():
    names = list(weights(vgg("c", rng=None)))
    assert names[:5] == ["conv1", "conv2", "depthwise2", "conv3", "depthwise3"]
    assert len(names) == 16


@pytest.mark.parametrize(
    ("fan_in", "kernel"), [(1, 3), (4, 3), (16, 3), (1, 6), (1, 12)]
)
def test_table_2_studies_fan_in_and_kernel(fan_in, kernel, rng):
    network = tiny(rng, width=1 / 4, depthwise_fan_in=fan_in, depthwise_kernel=kernel)
    layer = network.layers["depthwise8"]
    assert layer.w.value.shape == (128, fan_in, kernel, kernel)
    assert layer.groups == 128 // fan_in
    small = tiny(rng, width=1 / 8, depthwise_fan_in=fan_in, depthwise_kernel=kernel)
    y, _ = small.forward(pixels(rng, n=2, size=32), Run(training=True))
    assert y.shape == (2, 3)


def test_an_even_kernel_is_padded_more_behind():
    assert tiny(None, depthwise_kernel=6).layers["depthwise2"].padding == ((2, 3),) * 2
    assert tiny(None, depthwise_kernel=12).layers["depthwise2"].padding == ((5, 6),) * 2
    assert tiny(None).layers["depthwise2"].padding == 1


@pytest.mark.parametrize(("own", "seen"), [(None, 1), (4, 4)])
def test_depthwise_weights_have_bits_of_their_own(own, seen, rng):
    network = tiny(rng, weight_bits=1, activation_bits=4, depthwise_bits=own)
    for name, layer in weights(network).items():
        ends = name in {"conv1", "classifier"}
        want = 8 if ends else seen if name.startswith("depthwise") else 1
        assert layer.weight_quant.bits == want, name
    assert {network.layers[f"depthwise{i}_quant"].bits for i in range(2, 9)} == {4}


# few bits give equal sums under a pooling window: no derivative there
@pytest.mark.parametrize(
    "options",
    [{"weight_bits": 1, "depthwise_bits": 8}, {"depthwise_kernel": 4}],
    ids=str,
)
def test_gradient_check_at_frozen_residuals(options, rng):
    network = tiny(rng, **options)
    x = pixels(rng, n=4, size=32, dtype=np.float64)
    calibrate(network, x)
    check_module(network, x, Run(training=True), rng, step=1e-7, bound=3e-6)
