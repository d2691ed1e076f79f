"""Build a network from the configuration that a checkpoint carries."""

from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

import msgspec
import numpy as np

from refqnn.networks.alexnets import alexnet
from refqnn.networks.imagenet_resnets import imagenet_resnet
from refqnn.networks.mobilenets import inv_resnet26, mobilenetv2
from refqnn.networks.resnets import resnet
from refqnn.networks.separable_networks import separable
from refqnn.networks.vggs import vgg
from refqnn.nn import Sequential

BUILDERS: Mapping[str, Callable[..., Sequential]] = {
    "alexnet": alexnet,
    "imagenet_resnet": imagenet_resnet,
    "inv_resnet26": inv_resnet26,
    "mobilenetv2": mobilenetv2,
    "resnet": resnet,
    "separable": separable,
    "vgg": vgg,
}


def build(
    config: Mapping[str, Any], *, rng: np.random.Generator | None = None
) -> Sequential:
    """Make the network whose ``config`` this is; initial values are from ``rng``.

    ``rng=None`` draws no weights: a network to count, or to load a checkpoint into.

    >>> build({"network": "resnet", "depth": 8, "width": 0.1}).config["classes"]
    10
    """
    options = dict(config)
    name = options.pop("network", None)
    if not isinstance(name, str) or name not in BUILDERS:
        raise ValueError(f"network must be one of {sorted(BUILDERS)}, got {name!r}")
    declared = get_type_hints(BUILDERS[name])
    del declared["rng"], declared["return"]
    for option, value in options.items():
        try:
            msgspec.convert(value, declared[option])
        except (KeyError, msgspec.ValidationError) as error:
            raise ValueError(
                f"the configuration of {name} does not fit: {option} {value!r:.60}: "
                f"{error}"
            ) from error
    try:
        return BUILDERS[name](**options, rng=rng)
    except TypeError as error:
        raise ValueError(
            f"the configuration of {name} does not fit: {error}"
        ) from error
