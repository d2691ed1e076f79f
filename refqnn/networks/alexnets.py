"""AlexNet with batch norm: five convolutions and three fully connected layers.

Krizhevsky. One weird trick for parallelizing convolutional neural networks.
arXiv:1404.5997: the single-column network that later work calls AlexNet. QIL (Jung et
al., CVPR 2019, arXiv:1808.05779) numbers its layers 1 to 8 and finds the fully
connected ones, 6 and 7, pruned most. Where batch norm goes is a choice: after every
layer but the last, as quantized networks need it.

    layer      1          2         3        4        5        6, 7    8
    imagenet   64 11x11/4 192 5x5   384 3x3  256 3x3  256 3x3  4096    classes
    small      64 3x3     192 3x3   384 3x3  256 3x3  256 3x3  4096    classes
    pooling    3x3/2      3x3/2                       3x3/2

``small`` is for images of 20 to 40 pixels; its pooling is 2x2, stride 2.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from refqnn.core import Module, Param
from refqnn.networks.methods import (
    Method,
    activation_quantizer,
    method_of,
    weight_quantizer,
)
from refqnn.nn import (
    Conv2d,
    Flatten,
    ImageInput,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
    batch_norm2d,
    he_normal,
    uniform_fan_in,
)


class Layer(NamedTuple):
    """One convolution, and the pooling behind it if there is one."""

    channels: int
    kernel: int
    stride: int
    padding: int
    pooled: bool = False


class Variant(NamedTuple):
    """The five convolutions, and the window and stride of every pooling."""

    layers: tuple[Layer, ...]
    pool: tuple[int, int]


TAIL = (Layer(384, 3, 1, 1), Layer(256, 3, 1, 1), Layer(256, 3, 1, 1, pooled=True))
VARIANTS: Mapping[str, Variant] = MappingProxyType(
    {
        "imagenet": Variant(
            (
                Layer(64, 11, 4, 2, pooled=True),
                Layer(192, 5, 1, 2, pooled=True),
                *TAIL,
            ),
            (3, 2),
        ),
        "small": Variant(
            (Layer(64, 3, 1, 1, pooled=True), Layer(192, 3, 1, 1, pooled=True), *TAIL),
            (2, 2),
        ),
    }
)
HIDDEN = 4096


class Choices(NamedTuple):
    """What every layer of a network is made with."""

    rng: np.random.Generator | None
    dtype: Any
    weight_bits: int | None
    activation_bits: int | None
    method: Method


def alexnet(
    *,
    variant: str = "small",
    size: int = 28,
    classes: int = 10,
    in_channels: int = 1,
    width: float = 1.0,
    weight_bits: int | None = None,
    activation_bits: int | None = None,
    method: str = "pareto",
    image_scale: float = 1 / 64,
    image_zero_point: int = 128,
    dtype: str = "float32",
    rng: np.random.Generator | None,
) -> Sequential:
    """Return AlexNet for square images of ``size`` pixels.

    A layer of c channels or features has ``max(1, int(width * c))``. Layers 1 and 8
    keep the method's bits for the ends, or floating point. ``rng=None`` draws no
    weights: a network to count.

    x: (N, in_channels, size, size)  ->  logits: (N, classes)

    >>> network = alexnet(width=1 / 16, rng=np.random.default_rng(0))
    >>> network.layers["layer6"].w.value.shape  # 16 channels of 3x3
    (256, 144)
    """
    config = {
        "network": "alexnet",
        "variant": variant,
        "size": size,
        "classes": classes,
        "in_channels": in_channels,
        "width": width,
        "weight_bits": weight_bits,
        "activation_bits": activation_bits,
        "method": method,
        "image_scale": image_scale,
        "image_zero_point": image_zero_point,
        "dtype": dtype,
    }
    check_alexnet(variant, width, classes, in_channels)
    kind = VARIANTS[variant]
    made = Choices(
        rng, np.dtype(dtype), weight_bits, activation_bits, method_of(method)
    )
    layers: dict[str, Module] = {"image": ImageInput(image_scale, image_zero_point)}
    channels = in_channels
    for i, layer in enumerate(kind.layers, start=1):
        layers |= convolution(i, channels, layer, kind.pool, width, made)
        channels = scaled(layer.channels, width)
    layers["flatten"] = Flatten()
    features = channels * final_size(size, kind) ** 2
    for i in (6, 7):
        layers |= hidden(i, features, scaled(HIDDEN, width), made)
        features = scaled(HIDDEN, width)
    layers["layer8"] = linear(features, classes, end_bits(made), made, bias=True)
    return Sequential(layers, config)


def check_alexnet(variant: str, width: float, classes: int, in_channels: int) -> None:
    """Raise a ValueError that names the setting and its bound."""
    if variant not in VARIANTS:
        raise ValueError(f"variant must be one of {sorted(VARIANTS)}, got {variant!r}")
    if not 0 < width < float("inf"):
        raise ValueError(f"width must be positive and finite, got {width}")
    if classes < 2 or in_channels < 1:
        raise ValueError(
            "classes must be at least 2 and in_channels at least 1, "
            f"got {classes} and {in_channels}"
        )


def scaled(size: int, width: float) -> int:
    """max(1, int(width * size))"""
    return max(1, int(width * size))


def final_size(size: int, kind: Variant) -> int:
    """Return the height of the map that layer 6 reads; ValueError if there is none.

    >>> final_size(224, VARIANTS["imagenet"]), final_size(28, VARIANTS["small"])
    (6, 3)
    """
    left = size
    for layer in kind.layers:
        left = (left + 2 * layer.padding - layer.kernel) // layer.stride + 1
        if layer.pooled:
            left = (left - kind.pool[0]) // kind.pool[1] + 1
        if left < 1:
            raise ValueError(f"size must leave a pixel for layer 6, got {size}")
    return left


def convolution(
    i: int,
    inputs: int,
    layer: Layer,
    pool: tuple[int, int],
    width: float,
    made: Choices,
) -> dict[str, Module]:
    """Return convolution i, batch norm, ReLU, pooling if any, quantizer."""
    outputs = scaled(layer.channels, width)
    shape = (outputs, inputs, layer.kernel, layer.kernel)
    bits = end_bits(made) if i == 1 else made.weight_bits
    layers: dict[str, Module] = {
        f"layer{i}": Conv2d(
            Param(he_normal(shape, rng=made.rng, dtype=made.dtype)),
            stride=layer.stride,
            padding=layer.padding,
            weight_quant=weight_quantizer(made.method, bits, shape),
        ),
        f"norm{i}": batch_norm2d(outputs, dtype=made.dtype),
        f"relu{i}": ReLU(),
    }
    if layer.pooled:
        layers[f"pool{i}"] = MaxPool2d(kernel=pool[0], stride=pool[1])
    return layers | quantizer(i, made)


def hidden(i: int, inputs: int, outputs: int, made: Choices) -> dict[str, Module]:
    """Return fully connected layer i, batch norm, ReLU, quantizer."""
    layers: dict[str, Module] = {
        f"layer{i}": linear(inputs, outputs, made.weight_bits, made, bias=False),
        f"norm{i}": batch_norm2d(outputs, dtype=made.dtype),
        f"relu{i}": ReLU(),
    }
    return layers | quantizer(i, made)


def quantizer(i: int, made: Choices) -> dict[str, Module]:
    """Return the quantizer of what layer i + 1 reads; the last layer reads none."""
    if made.activation_bits is None or (i == 7 and made.method.ends is None):
        return {}
    return {f"quant{i}": activation_quantizer(made.method, made.activation_bits)}


def linear(
    inputs: int, outputs: int, bits: int | None, made: Choices, *, bias: bool
) -> Linear:
    """Return a fully connected layer, its weights uniform at first."""
    w = uniform_fan_in((outputs, inputs), rng=made.rng, dtype=made.dtype)
    b = Param(np.zeros(outputs, made.dtype), group="affine") if bias else None
    return Linear(
        Param(w), b, weight_quant=weight_quantizer(made.method, bits, w.shape)
    )


def end_bits(made: Choices) -> int | None:
    """Return the bits of layers 1 and 8 of a quantized network."""
    return None if made.weight_bits is None else made.method.ends
