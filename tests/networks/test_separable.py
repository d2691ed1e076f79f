"""The small network of separable convolutions: wiring, bits, gradients."""

import numpy as np
import pytest
from checkers import check_module
from tables.networks import pixels

from refqnn.core import Run
from refqnn.cost import c_size_bits, count
from refqnn.networks import separable
from refqnn.testing.networks import calibrate


def test_shapes_and_size_by_hand():
    network = separable(weight_bits=1, depthwise_bits=4, rng=None)
    rows = count(network, (1, 10, 10)).layers
    assert [
        (r.name.removeprefix("layers."), r.weights, r.weight_bits) for r in rows
    ] == [
        ("stem", 16 * 9, 8),
        ("pointwise1", 16 * 32, 1),
        ("depthwise1", 32 * 9, 4),
        ("pointwise2", 32 * 32, 1),
        ("depthwise2", 32 * 9, 4),
        ("classifier", 32 * 10, 8),
    ]
    assert [r.output_shape[1:] for r in rows[:-1]] == [(10, 10)] * 3 + [(5, 5)] * 2
    assert c_size_bits(network) == 8 * 464 + 1536 + 4 * 576


def followed(name):
    return [name, f"{name}_norm", f"{name}_relu", f"{name}_quant"]


def test_layers_in_their_order():
    network = separable(activation_bits=4, rng=None)
    assert list(network.layers) == [
        *("image", *followed("stem")),
        *(*followed("pointwise1"), *followed("depthwise1"), "pool1"),
        *(*followed("pointwise2"), *followed("depthwise2"), "pool", "pool_quant"),
        "classifier",
    ]


def test_every_channel_is_scaled():
    layers = separable(width=2.5, in_channels=3, rng=None).layers.values()
    shapes = [layer.w.value.shape[:2] for layer in layers if hasattr(layer, "w")]
    assert shapes == [(40, 3), (80, 40), (80, 1), (80, 80), (80, 1), (10, 80)]


def test_depthwise_weights_have_the_bits_of_all_unless_told():
    rows = count(separable(weight_bits=2, rng=None), (1, 10, 10)).layers
    assert [row.weight_bits for row in rows] == [8, 2, 2, 2, 2, 8]


@pytest.mark.parametrize(("fan_in", "kernel"), [(1, 3), (4, 3), (1, 6), (1, 12)])
def test_fan_in_and_kernel(fan_in, kernel, rng):
    network = separable(depthwise_fan_in=fan_in, depthwise_kernel=kernel, rng=rng)
    assert network.layers["depthwise1"].w.value.shape == (32, fan_in, kernel, kernel)
    y, _ = network.forward(pixels(rng, n=2, size=10), Run(training=True))
    assert y.shape == (2, 10)


def test_gradient_check_at_frozen_residuals(rng):
    options = {"width": 1 / 8, "classes": 3, "dtype": "float64"}
    network = separable(weight_bits=4, activation_bits=8, rng=rng, **options)
    x = pixels(rng, size=6, dtype=np.float64)
    calibrate(network, x)
    check_module(network, x, Run(training=True), rng)
