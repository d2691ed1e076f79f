"""The small network of separable convolutions: wiring, bits, gradients."""

import numpy as np
import pytest
from tables.networks import calibrated, check_gradients, pixels

from refqnn.core import Run
from refqnn.cost import c_size_bits, count
from refqnn.networks import build, separable


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
    calibrated(network, x)
    check_gradients(network, x, Run(training=True), rng)


def test_it_is_built_again_from_its_configuration():
    network = separable(width=0.5, weight_bits=1, depthwise_fan_in=4, rng=None)
    assert build(network.config).config == network.config


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "width must be positive and finite, got 0"),
        ({"depthwise_fan_in": 3}, "depthwise_fan_in must divide the 32 channels"),
        ({"depthwise_kernel": 0}, "depthwise_kernel must be at least 1, got 0"),
    ],
)
def test_bad_settings_raise(options, message):
    with pytest.raises(ValueError, match=message):
        separable(rng=None, **options)
