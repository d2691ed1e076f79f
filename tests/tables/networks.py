"""Small networks, and images for them."""

import numpy as np

from refqnn.core import named_params
from refqnn.networks import resnet

#: name -> options of a ResNet with 8 layers that a reader could compute by hand
TINY = {
    "float": {},
    "float, option B": {"shortcut": "B"},
    "3 channels": {"in_channels": 3},
    "weights 1 bit": {"weight_bits": 1},
    "weights 2 bit": {"weight_bits": 2},
    "weights 4 bit": {"weight_bits": 4},
    "activations 4 bit": {"activation_bits": 4},
    "4 bit": {"weight_bits": 4, "activation_bits": 4},
    "4 bit, option B": {"weight_bits": 4, "activation_bits": 4, "shortcut": "B"},
    "2 bit": {"weight_bits": 2, "activation_bits": 2},
}


def tiny(rng, *, width=0.13, dtype="float64", classes=3, **options):
    """Return a ResNet-8 with 2, 4 and 8 channels and norms away from the identity."""
    network = resnet(8, width=width, classes=classes, dtype=dtype, rng=rng, **options)
    return lively(network, rng)


def lively(network, rng):
    """Move norms and biases away from the identity: no gradient is 0 by symmetry."""
    for name, param in named_params(network).items():
        if name.endswith(("gamma", "beta", ".b")):
            moved = param.value + rng.normal(0, 0.3, param.value.shape)
            param.value = moved.astype(param.value.dtype)
    return network


def toy(seed=1, n=24):
    """Return small images and their classes, for trainings of a few steps."""
    rng = np.random.default_rng(seed)
    return pixels(rng, n=n, size=6), rng.integers(0, 3, n)


def pixels(rng, *, n=3, channels=1, size=8, dtype=np.uint8):
    """Return random 8-bit images, as floats where a derivative is wanted."""
    return rng.integers(0, 256, (n, channels, size, size)).astype(dtype)
