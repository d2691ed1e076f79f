"""Build a network from the configuration that a checkpoint carries."""

from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

import msgspec
import numpy as np

from refqnn.core import tree
from refqnn.networks.alexnets import alexnet
from refqnn.networks.imagenet_resnets import imagenet_resnet
from refqnn.networks.methods import METHODS, Method
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


#: of the whole numbers of a configuration
LARGEST = 2**31 - 1


def build(
    config: Mapping[str, Any], *, rng: np.random.Generator | None = None
) -> Sequential:
    """Make the network whose ``config`` this is; initial values are from ``rng``.

    ``rng=None`` draws no weights: a network to count, or to load a checkpoint into.

    >>> build({"network": "resnet", "depth": 8, "width": 0.1}).config["classes"]
    10

    ``quantizers`` are those that were exchanged for a user's own: registered methods
    make them. Raises ValueError for a configuration that does not fit, and where a
    method or a quantizer is unknown, with the call that registers it.
    """
    options = dict(config)
    name, own = options.pop("network", None), options.pop("quantizers", {})
    if not isinstance(name, str) or name not in BUILDERS:
        raise ValueError(f"network must be one of {sorted(BUILDERS)}, got {name!r}")
    declared = get_type_hints(BUILDERS[name])
    del declared["rng"], declared["return"]
    declared["method"] = str  # in a file; a program may hand the Method over
    for option, value in options.items():
        if isinstance(value, Method):
            continue
        if isinstance(value, int) and abs(value) > LARGEST:
            raise ValueError(f"{option} must lie within int32, is larger")
        try:
            msgspec.convert(value, declared[option])
        except (KeyError, msgspec.ValidationError) as error:
            raise ValueError(
                f"the configuration of {name} does not fit: {option} {value!r:.60}: "
                f"{error}"
            ) from error
    try:
        network = BUILDERS[name](**options, rng=rng)
    except (TypeError, OverflowError, MemoryError) as error:
        raise ValueError(
            f"the configuration of {name} does not fit: {error}"
        ) from error
    put_quantizers(network, own)
    return network


class Exchanged(msgspec.Struct):
    """A quantizer that stands where the builder had made another."""

    kind: str
    bits: int | None


def put_quantizers(network: Sequential, own: Any) -> None:
    """Put quantizers where a configuration names them, of the class it names.

    Raises ValueError for a place that the network does not have.
    """
    try:
        exchanged = msgspec.convert(own, dict[str, Exchanged])
    except msgspec.ValidationError as error:
        raise ValueError(f"quantizers of the configuration: {error}") from error
    parts = dict(tree(network)) if exchanged else {}
    for name, made in exchanged.items():
        if name not in parts:
            raise ValueError(f"quantizers names {name!r}, which is not in the network")
        above, _, slot = name.rpartition(".")
        if type(parts[name]).__name__ != made.kind:
            parent = parts[above]
            quantizer = quantizer_of(name, made, parent, network.config)
            if isinstance(parent, dict):
                parent[slot] = quantizer
            else:
                setattr(parent, slot, quantizer)


def quantizer_of(
    name: str, made: Exchanged, parent: Any, config: Mapping[str, Any]
) -> Any:
    """Make the quantizer with the factory of the registered method that has its class.

    Raises ValueError, with the call that registers it, where no method makes it.
    """
    of_weights = name.endswith(".weight_quant")
    default = config["weight_bits" if of_weights else "activation_bits"]
    bits = default if made.bits is None else made.bits
    for method in reversed(METHODS.values()):
        try:
            quantizer = (
                method.weights(bits, parent.w.value.shape)
                if of_weights
                else method.activations(bits)
            )
        except ValueError:  # not the bits of this method
            continue
        if type(quantizer).__name__ == made.kind:
            return quantizer
    raise ValueError(
        f"{name} holds a quantizer {made.kind!r}, which no registered method makes; "
        "networks.register_method(NAME, Method(...)) adds one that does"
    )
