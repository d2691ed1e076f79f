"""The networks of the Pareto paper by name, with one size of images each.

Chin, Chuang, Chandra, Marculescu. One Weight Bitwidth to Rule Them All. ECCV Workshops
2020, arXiv:2008.09916 ("Pareto"). CIFAR-100 images are 3x32x32, those of ImageNet
3x224x224.

Two ways of counting decide what a width multiplier does to the networks for ImageNet:

    counting   ResNets                         MobileNetV2
    paper      deep stem, fixed ends           max(8, int(w c)), the last 1280 fixed,
                                               depth-wise weights at 4 bits
    common     7x7 stem, every layer scaled    multiples of 8, the last 1280 grows,
                                               depth-wise weights as the others

"paper" is not stated by the paper but recovered from its table 3, all twelve sizes of
which it gives. The 4 bits are those of a count that names no bits for depth-wise
convolutions; they hold in the table's "8 bit" rows too. For CIFAR the multiplier
applies to every layer, stem and last convolution included, as the paper fixes ends
for ImageNet only (its MobileNetV2's channels are rounded as above).
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from refqnn.networks.from_config import BUILDERS
from refqnn.nn import Sequential
from refqnn.quantizers.checks import check_bits

Options = Mapping[str, Any]
CIFAR: Options = MappingProxyType({"classes": 100, "in_channels": 3})
LARGE: Options = MappingProxyType({"classes": 1000, "in_channels": 3})
#: depths of ResNets for CIFAR; that of 50 layers shares its name with ImageNet's
DEPTHS = (20, 26, 32, 38, 44, 56)
#: name -> the configuration it stands for, without widths and bits
NETWORKS: Mapping[str, Options] = MappingProxyType(
    {f"resnet{n}": {"network": "resnet", "depth": n, **CIFAR} for n in DEPTHS}
    | {"resnet50_cifar": {"network": "resnet", "depth": 50, **CIFAR}}
    | {"inv_resnet26": {"network": "inv_resnet26", **CIFAR}}
    | {
        f"vgg11{variant}": {"network": "vgg", "variant": variant or "11", **CIFAR}
        for variant in ("", "a", "b", "c")
    }
    | {
        "mobilenetv2_cifar": {
            "network": "mobilenetv2",
            "images": "cifar",
            "last": "scaled",
            **CIFAR,
        }
    }
    | {
        f"resnet{n}": {"network": "imagenet_resnet", "depth": n, **LARGE}
        for n in (18, 34, 50)
    }
    | {
        "mobilenetv2": {"network": "mobilenetv2", **LARGE},
        "alexnet": {"network": "alexnet", "variant": "imagenet", "size": 224, **LARGE},
    }
)
#: counting -> what it changes in the networks of a builder
COUNTINGS: Mapping[str, Mapping[str, Options]] = MappingProxyType(
    {
        "paper": {
            "imagenet_resnet": {"stem": "deep", "fixed_ends": True},
            "mobilenetv2": {"rounding": "at_least_8", "last": "fixed"},
        },
        "common": {},
    }
)
SEPARABLE = ("inv_resnet26", "mobilenetv2", "vgg")


def named(
    name: str,
    *,
    width: float = 1.0,
    weight_bits: int | None = None,
    depthwise_bits: int | None = None,
    activation_bits: int | None = None,
    counting: str = "paper",
    rng: np.random.Generator | None,
) -> Sequential:
    """Make a network of the Pareto paper; first and last layer have 8-bit weights.

    ``depthwise_bits`` has no effect on a network without depth-wise convolutions; None
    is ``weight_bits``, but for "mobilenetv2" in the paper's counting (above).
    ``rng=None`` draws no weights: a network to count. Raises ValueError for a name or a
    counting that is unknown.

    >>> network = named("vgg11c", width=0.5, weight_bits=4, depthwise_bits=8, rng=None)
    >>> [network.layers[name].weight_quant.bits for name in ("conv2", "depthwise2")]
    [4, 8]
    """
    check_name(name)
    if counting not in COUNTINGS:
        raise ValueError(f"counting must be one of {list(COUNTINGS)}, got {counting!r}")
    options = dict(NETWORKS[name])
    builder = options.pop("network")
    options = {**COUNTINGS[counting].get(builder, {}), **options}
    if depthwise_bits is not None:
        check_bits(depthwise_bits, least=1)
    if builder in SEPARABLE:
        if depthwise_bits is None and (name, counting) == ("mobilenetv2", "paper"):
            depthwise_bits = None if weight_bits is None else 4
        options["depthwise_bits"] = depthwise_bits
    return BUILDERS[builder](
        width=width,
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        rng=rng,
        **options,
    )


def image_shape(name: str) -> tuple[int, int, int]:
    """Give (C, H, W) of the images that a network of ``named`` is counted for.

    >>> image_shape("resnet20"), image_shape("resnet50")
    ((3, 32, 32), (3, 224, 224))
    """
    check_name(name)
    large = NETWORKS[name]["classes"] == LARGE["classes"]
    return (3, 224, 224) if large else (3, 32, 32)


def check_name(name: str) -> None:
    """Raise a ValueError for a network that has no name here."""
    if name not in NETWORKS:
        raise ValueError(f"network must be one of {', '.join(NETWORKS)}, got {name!r}")
