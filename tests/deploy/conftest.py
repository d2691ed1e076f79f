"""Tiny networks that have seen a few batches, with batch norms of every sign."""

import numpy as np
import pytest

from refqnn.core import Run, named_modules
from refqnn.networks import resnet
from refqnn.nn import BatchNorm2d

SIZE = (8, 8)


def pixels(rng, count=4, channels=1):
    return rng.integers(0, 256, (count, channels, *SIZE), dtype=np.uint8)


@pytest.fixture
def images(rng):
    return pixels(rng)


@pytest.fixture
def make(rng):
    """Return a builder of networks with running statistics and known ranges."""

    def build(*, signs=(1.0,), depth=8, passes=2, **options):
        options = {"weight_bits": 4, "activation_bits": 4, "width": 0.25} | options
        network = resnet(depth, rng=rng, **options)
        for _, module in named_modules(network):
            if isinstance(module, BatchNorm2d):
                shape = module.gamma.value.shape
                gamma = rng.choice(signs, shape) * rng.uniform(0.5, 1.5, shape)
                module.gamma.value[...] = gamma
                module.beta.value[...] = rng.normal(0.3, 0.5, shape)
        for _ in range(passes):
            channels = options.get("in_channels", 1)
            network.forward(pixels(rng, 8, channels), Run(training=True))
        return network

    return build
