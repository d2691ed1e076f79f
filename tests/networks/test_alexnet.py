"""AlexNet: its layers, its sizes, gradients, and what is refused."""

import numpy as np
import pytest
from checkers import check_module
from tables.networks import pixels

from refqnn.core import Run, named_params
from refqnn.networks import alexnet
from refqnn.networks.alexnets import VARIANTS, final_size
from refqnn.testing.networks import calibrate


def tiny(rng, **options):
    return alexnet(
        size=12, width=1 / 64, classes=3, dtype="float64", rng=rng, **options
    )


def test_weights_of_the_imagenet_variant(rng):
    network = alexnet(
        variant="imagenet", size=224, in_channels=3, classes=1000, width=0.125, rng=rng
    )
    shapes = {name: p.value.shape for name, p in named_params(network).items()}
    assert shapes["layers.layer1.w"] == (8, 3, 11, 11)
    assert shapes["layers.layer2.w"] == (24, 8, 5, 5)
    assert shapes["layers.layer6.w"] == (512, 32 * 6 * 6)
    assert shapes["layers.layer8.w"] == (1000, 512)


@pytest.mark.parametrize(
    ("variant", "size", "left"),
    [("imagenet", 224, 6), ("imagenet", 63, 1), ("small", 28, 3), ("small", 32, 4)],
)
def test_the_map_that_layer_6_reads(variant, size, left):
    assert final_size(size, VARIANTS[variant]) == left


# with both on grids, two pixels of a pooling window can be equal: no derivative there
@pytest.mark.parametrize(
    "bits", [{}, {"weight_bits": 4}, {"activation_bits": 6}], ids=str
)
def test_gradient_check_at_frozen_residuals(bits, rng):
    network = tiny(rng, method="qil", **bits)
    x = pixels(rng, n=8, size=12, dtype=np.float64)
    calibrate(network, x)
    run = Run(training=True)
    check_module(network, x, run, rng, step=1e-7, bound=3e-6)


def test_layers_2_to_7_are_quantized_and_so_is_what_they_read(rng):
    network = tiny(rng, method="qil", weight_bits=2, activation_bits=2)
    quantized = [i for i in range(1, 9) if network.layers[f"layer{i}"].weight_quant]
    assert quantized == [2, 3, 4, 5, 6, 7]
    read = [i for i in range(1, 9) if f"quant{i}" in network.layers]
    assert read == [1, 2, 3, 4, 5, 6]
    ends = tiny(rng, weight_bits=4, activation_bits=4)
    assert [ends.layers[f"layer{i}"].weight_quant.bits for i in (1, 8)] == [8, 8]
    assert "quant7" in ends.layers
