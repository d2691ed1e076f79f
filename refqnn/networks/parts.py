"""The parts that builders of networks share: stem, convolution, depth-wise, head.

A builder is a function from options to a network, marked ``@builder``: its arguments
are what a checkpoint says of the network, and what ``build`` needs to make it again.
"""

import functools
import inspect
from collections.abc import Callable, Collection
from typing import Any, NamedTuple, ParamSpec

import numpy as np

from refqnn.core import Module, Param
from refqnn.geometry import Padding
from refqnn.networks.methods import (
    Method,
    activation_quantizer,
    name_of,
    weight_quantizer,
)
from refqnn.nn import (
    BatchNorm2d,
    Conv2d,
    GlobalAvgPool2d,
    Linear,
    ReLU,
    Sequential,
    batch_norm2d,
    he_normal,
    uniform_fan_in,
)

Options = ParamSpec("Options")


class Choices(NamedTuple):
    """Method, bits, dtype and generator by which all layers of a network are made."""

    rng: np.random.Generator | None
    dtype: Any
    weight_bits: int | None
    activation_bits: int | None
    method: Method
    #: of depth-wise convolutions; None is ``weight_bits``
    depthwise_bits: int | None = None


def builder(make: Callable[Options, Sequential]) -> Callable[Options, Sequential]:
    """Record the arguments of every call, defaults too, as the network's ``config``.

    The generator is left out. Raises ValueError for a width that is not positive and
    finite, fewer than two classes and no input channel.
    """
    signature = inspect.signature(make)

    @functools.wraps(make)
    def recorded(*args: Options.args, **options: Options.kwargs) -> Sequential:
        call = signature.bind(*args, **options)
        call.apply_defaults()
        config = {k: v for k, v in call.arguments.items() if k != "rng"}
        check_sizes(config["width"], config["classes"], config["in_channels"])
        config["method"] = name_of(config["method"])
        network = make(*args, **options)
        network.config = {"network": make.__name__, **config}
        return network

    return recorded


def check_sizes(width: float, classes: int, in_channels: int) -> None:
    """Raise a ValueError that names the setting and its bound."""
    if not 0 < width < float("inf"):
        raise ValueError(f"width must be positive and finite, got {width}")
    if classes < 2 or in_channels < 1:
        raise ValueError(
            "classes must be at least 2 and in_channels at least 1, "
            f"got {classes} and {in_channels}"
        )


def check_named(name: str, value: Any, known: Collection[Any]) -> None:
    """Raise a ValueError where an option is not one of those known."""
    if value not in known:
        raise ValueError(f"{name} must be one of {list(known)}, got {value!r}")


def scale_channels(channels: int, width: float) -> int:
    """max(1, int(width * channels))

    >>> scale_channels(16, 0.5), scale_channels(16, 0.99), scale_channels(16, 0.01)
    (8, 15, 1)
    """
    return max(1, int(width * channels))


def end_bits(made: Choices) -> int | None:
    """Return the bits of the first and last quantized layer; None is floating."""
    return None if made.weight_bits is None else made.method.ends


def conv(
    inputs: int,
    outputs: int,
    kernel: int,
    stride: int,
    bits: int | None,
    made: Choices,
    *,
    groups: int = 1,
    padding: Padding | None = None,
) -> Conv2d:
    """Make a convolution without bias, its weights normal by fan-in.

    Without ``padding`` it keeps the size, but for the stride.
    """
    shape = (outputs, inputs // groups, kernel, kernel)
    return Conv2d(
        Param(he_normal(shape, rng=made.rng, dtype=made.dtype)),
        stride=stride,
        padding=same_padding(kernel) if padding is None else padding,
        groups=groups,
        weight_quant=weight_quantizer(made.method, bits, shape),
    )


def same_padding(kernel: int) -> Padding:
    """(k - 1) // 2 before and the rest of k - 1 behind; an int where both are equal.

    For even kernels a choice: TensorFlow's "same".

    >>> same_padding(3), same_padding(6)
    (1, ((2, 3), (2, 3)))
    """
    before, behind = (kernel - 1) // 2, kernel // 2
    return before if before == behind else ((before, behind), (before, behind))


def norm(channels: int, made: Choices) -> BatchNorm2d:
    """Make a batch norm of the network's dtype."""
    return batch_norm2d(channels, dtype=made.dtype)


def with_norm(
    name: str,
    layer: Module,
    channels: int,
    made: Choices,
    *,
    nonlinearity: Callable[[], Module] = ReLU,
    quantized: bool = True,
) -> dict[str, Module]:
    """Name a layer, batch norm, ReLU, and the quantizer if activations have bits."""
    layers = {
        name: layer,
        f"{name}_norm": norm(channels, made),
        f"{name}_relu": nonlinearity(),
    }
    if made.activation_bits is not None and quantized:
        quant = activation_quantizer(made.method, made.activation_bits)
        layers[f"{name}_quant"] = quant
    return layers


def linear(
    inputs: int, outputs: int, bits: int | None, made: Choices, *, bias: bool = True
) -> Linear:
    """Make a fully connected layer, its weights uniform by fan-in, its bias zero."""
    w = uniform_fan_in((outputs, inputs), rng=made.rng, dtype=made.dtype)
    b = Param(np.zeros(outputs, made.dtype), group="affine") if bias else None
    quant = weight_quantizer(made.method, bits, w.shape)
    return Linear(Param(w), b, weight_quant=quant)


def depthwise(
    name: str,
    channels: int,
    made: Choices,
    *,
    fan_in: int = 1,
    kernel: int = 3,
    stride: int = 1,
    nonlinearity: Callable[[], Module] = ReLU,
) -> dict[str, Module]:
    """Make a convolution whose filters read ``fan_in`` channels, and what follows it.

    Raises ValueError for a fan-in that does not divide the channels.
    """
    if fan_in < 1 or channels % fan_in:
        raise ValueError(
            f"depthwise_fan_in must divide the {channels} channels of {name}, "
            f"got {fan_in}"
        )
    if kernel < 1:
        raise ValueError(f"depthwise_kernel must be at least 1, got {kernel}")
    bits = made.weight_bits if made.depthwise_bits is None else made.depthwise_bits
    layer = conv(
        channels, channels, kernel, stride, bits, made, groups=channels // fan_in
    )
    return with_norm(name, layer, channels, made, nonlinearity=nonlinearity)


def head(channels: int, classes: int, made: Choices) -> dict[str, Module]:
    """Make global pooling and the classifier."""
    layers: dict[str, Module] = {"pool": GlobalAvgPool2d()}
    if made.activation_bits is not None and made.method.ends is not None:
        layers["pool_quant"] = activation_quantizer(made.method, made.method.ends)
    return layers | {"classifier": linear(channels, classes, end_bits(made), made)}
