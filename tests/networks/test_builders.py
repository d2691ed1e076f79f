"""What every builder keeps: its configuration builds it again, bad options raise."""

import numpy as np
import pytest

from refqnn import networks
from refqnn.networks import build

AGAIN = (
    ("alexnet", {"size": 12, "width": 1 / 64, "classes": 3}),
    ("vgg", {"variant": "b", "width": 1 / 32, "depthwise_fan_in": 2,
             "depthwise_bits": 3, "weight_bits": 2}),
    ("imagenet_resnet", {"depth": 50, "width": 1 / 64, "stem": "deep",
                         "fixed_ends": False}),
    ("mobilenetv2", {"images": "cifar", "width": 0.1, "rounding": "int",
                     "weight_bits": 3, "depthwise_bits": 2}),
    ("inv_resnet26", {"width": 0.1, "weight_bits": 3, "depthwise_bits": 2}),
)  # fmt: skip


@pytest.mark.parametrize(("name", "options"), AGAIN)
def test_the_configuration_builds_it_again(name, options, rng):
    network = getattr(networks, name)(rng=rng, **options)
    again = build(network.config)
    assert again.config == network.config
    assert list(again.layers) == list(network.layers)


SEPARABLE = {
    "classes": 3,
    "in_channels": 2,
    "width": 0.5,
    "weight_bits": 2,
    "depthwise_bits": 4,
    "activation_bits": 3,
    "depthwise_fan_in": 4,
    "depthwise_kernel": 5,
    "ends_width": 0.75,
    "method": "lsq",
    "image_scale": 0.5,
    "image_zero_point": 7,
    "dtype": "float64",
}


def test_every_option_is_in_the_configuration():
    network = networks.separable(rng=None, **SEPARABLE)
    assert network.config == {"network": "separable"} | SEPARABLE
    assert build(network.config).config == network.config
    image = network.layers["image"]
    assert (image.scale, image.zero_point) == (0.5, 7)


WIDTH = "width must be positive and finite, got"
FEW = "classes must be at least 2"
CHANNELS = "in_channels at least 1, got 10 and 0"
BITS = r"bits must be an int in \[1, 16\], got"
RESNET, WIDE = {"depth": 8, "width": 0.1}, {"width": 0.02}
REFUSED = (
    ("alexnet", WIDE | {"variant": "large"}, "variant must be one of"),
    ("alexnet", {"width": 0}, WIDTH),
    ("alexnet", WIDE | {"classes": 1}, FEW),
    ("alexnet", WIDE | {"in_channels": 0}, CHANNELS),
    ("alexnet", WIDE | {"size": 7}, "size must leave a pixel"),
    ("alexnet", WIDE | {"variant": "imagenet", "size": 28}, "size must leave a pixel"),
    ("vgg", WIDE | {"variant": "d"}, "variant must be one of"),
    ("vgg", {"variant": "c", "width": 0}, WIDTH),
    ("vgg", WIDE | {"variant": "c", "classes": 1}, FEW),
    ("vgg", {"variant": "c", "width": 1 / 32, "depthwise_fan_in": 3},
     "depthwise_fan_in must divide the 4 channels"),
    ("vgg", {"variant": "c", "depthwise_fan_in": 0}, "depthwise_fan_in must divide"),
    ("vgg", {"variant": "c", "depthwise_kernel": 0},
     "depthwise_kernel must be at least 1"),
    ("vgg", {"variant": "c", "weight_bits": 0}, BITS),
    ("vgg", {"variant": "c", "weight_bits": 2, "depthwise_bits": 17}, BITS),
    ("separable", {"width": 0}, WIDTH),
    ("separable", {"classes": 0}, "classes must be at least 2 .* got 0 and 1"),
    ("separable", {"in_channels": 0}, CHANNELS),
    ("separable", {"depthwise_fan_in": 3},
     "depthwise_fan_in must divide the 32 channels"),
    ("separable", {"depthwise_kernel": 0},
     "depthwise_kernel must be at least 1, got 0"),
    ("imagenet_resnet", {"depth": 20},
     r"depth must be one of \[18, 34, 50\], got 20"),
    ("imagenet_resnet", {"depth": 50, "stem": "none"}, "stem must be one of"),
    ("imagenet_resnet", {"depth": 50, "width": -1}, WIDTH),
    ("imagenet_resnet", {"depth": 50, "in_channels": 0}, "in_channels at least 1"),
    ("mobilenetv2", {"images": "svhn"}, "images must be one of"),
    ("mobilenetv2", {"rounding": "up"}, "rounding must be one of"),
    ("mobilenetv2", {"last": "gone"}, "last must be one of"),
    ("mobilenetv2", {"width": 0}, WIDTH),
    ("mobilenetv2", {"classes": 1}, FEW),
    *(("resnet", {"depth": depth}, rf"depth must be 6n \+ 2 .*, got {depth}")
      for depth in (-4, 0, 2, 7, 9, 18, 49)),
    *(("resnet", {"depth": 8, "width": width}, WIDTH)
      for width in (0, float("nan"), float("inf"))),
    ("resnet", RESNET | {"classes": 1}, FEW),
    ("resnet", RESNET | {"in_channels": 0}, CHANNELS),
    ("resnet", RESNET | {"shortcut": "C"}, "shortcut must be one of .*, got 'C'"),
    *(("resnet", RESNET | {f"{of}_bits": bits}, "bits")
      for of in ("weight", "activation") for bits in (0, 17, True)),
)  # fmt: skip


@pytest.mark.parametrize(("name", "options", "message"), REFUSED)
def test_options_out_of_range_raise(name, options, message):
    with pytest.raises(ValueError, match=message):
        getattr(networks, name)(**options, rng=np.random.default_rng(0))
