"""Counting from shapes: equal to running the network, whatever the wiring."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from refqnn.core import Param, Run
from refqnn.cost import cost, count
from refqnn.networks import (
    alexnet,
    imagenet_resnet,
    inv_resnet26,
    mobilenetv2,
    resnet,
    vgg,
)
from refqnn.nn import AvgPool2d, Conv2d, Flatten, Linear, MaxPool2d, Sequential
from refqnn.shapes import RULES, blank, shapes_of

BITS = {"weight_bits": 2, "activation_bits": 3}
SEPARABLE = BITS | {"depthwise_bits": 5}
#: name -> how to build a network from (rng), and the image it is counted for
NETWORKS = {
    "resnet, A": (lambda g: resnet(8, width=0.2, rng=g, **BITS), (1, 9, 8)),
    "resnet, B": (lambda g: resnet(8, width=0.2, shortcut="B", rng=g), (1, 9, 8)),
    "alexnet": (lambda g: alexnet(size=12, width=0.02, rng=g, **BITS), (1, 12, 12)),
    "vgg": (lambda g: vgg("b", width=0.02, rng=g, **SEPARABLE), (1, 32, 33)),
    "vgg, 6x6": (
        lambda g: vgg("c", width=1 / 64, depthwise_kernel=6, rng=g),
        (1, 32, 32),
    ),
    "inv_resnet26": (lambda g: inv_resnet26(width=0.1, rng=g, **SEPARABLE), (1, 8, 9)),
    "mobilenetv2": (
        lambda g: mobilenetv2(
            width=0.05, rounding="int", last="scaled", rng=g, **SEPARABLE
        ),
        (3, 33, 32),
    ),
    "resnet18": (lambda g: imagenet_resnet(18, width=0.05, rng=g), (3, 33, 32)),
    "resnet50": (
        lambda g: imagenet_resnet(50, width=0.05, stem="deep", rng=g, **BITS),
        (3, 32, 34),
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_counted_is_what_a_run_costs(name, rng):
    make, image = NETWORKS[name]
    ran = cost(make(rng), image).layers
    assert len(ran) > 7
    unknown = dict.fromkeys(("accumulator_bits", "scale_bits", "codebook_bits"))
    expected = tuple(layer._replace(**unknown) for layer in ran)
    assert count(make(rng), image).layers == expected
    assert count(make(None), image).layers == expected


@dataclass(eq=False)
class Twice:
    """A layer that is no dataclass of refqnn: it keeps the shape."""

    factor: float = 2.0

    def forward(self, *_: Any) -> Any:
        raise AssertionError("nothing is computed")


def test_an_unknown_layer_keeps_the_shape():
    network = Sequential({"twice": Twice(), "flat": Flatten()})
    assert shapes_of(network).forward(blank((2, 3, 4, 5)), Run())[0].shape == (2, 60)


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (Conv2d(Param(np.ones((2, 3, 1, 1)))), (1, 4, 5, 5), "C = 4, .* reads 3"),
        (Conv2d(Param(np.ones((4, 1, 3, 3))), groups=4), (1, 4, 2, 2), "does not fit"),
        (Linear(Param(np.ones((2, 3)))), (1, 4), r"features are \(4,\), .* reads 3"),
        (Linear(Param(np.ones((2, 3)))), (1, 3, 1, 1), "features are"),
        (MaxPool2d(2), (1, 1, 1, 2), "does not fit"),
        (AvgPool2d(2), (1, 1, 1, 2), "does not fit"),
    ],
)
def test_what_does_not_fit_raises(layer, shape, message):
    with pytest.raises(ValueError, match=message):
        RULES[type(layer)](layer, shape)


def test_pools_without_a_stride_step_by_their_kernel():
    for kind in (MaxPool2d, AvgPool2d):
        assert RULES[kind](kind(3), (1, 2, 9, 10)) == (1, 2, 3, 3)
        assert RULES[kind](kind(3, stride=1, padding=1), (1, 2, 9, 10)) == (1, 2, 9, 10)
