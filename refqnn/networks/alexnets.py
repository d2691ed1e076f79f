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
from typing import NamedTuple

import numpy as np

from refqnn.core import Module
from refqnn.networks.methods import Method, activation_quantizer, method_of
from refqnn.networks.parts import (
    Choices,
    builder,
    check_named,
    conv,
    end_bits,
    linear,
    norm,
    scale_channels,
)
from refqnn.nn import Conv2d, Flatten, ImageInput, Linear, MaxPool2d, ReLU, Sequential


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


@builder
def alexnet(
    *,
    variant: str = "small",
    size: int = 28,
    classes: int = 10,
    in_channels: int = 1,
    width: float = 1.0,
    weight_bits: int | None = None,
    activation_bits: int | None = None,
    method: str | Method = "pareto",
    image_scale: float = 1 / 64,
    image_zero_point: int = 128,
    dtype: str = "float32",
    rng: np.random.Generator | None,
) -> Sequential:
    """Make AlexNet for square images of ``size`` pixels.

    A layer of c channels or features has ``max(1, int(width * c))``. Layers 1 and 8
    keep the method's bits for the ends, or floating point. ``rng=None`` draws no
    weights: a network to count.

    x: (N, in_channels, size, size)  ->  logits: (N, classes)

    >>> network = alexnet(width=1 / 16, rng=np.random.default_rng(0))
    >>> network.layers["layer6"].w.value.shape  # 16 channels of 3x3
    (256, 144)
    """
    check_named("variant", variant, VARIANTS)
    kind, own = VARIANTS[variant], method_of(method)
    made = Choices(rng, np.dtype(dtype), weight_bits, activation_bits, own)
    layers: dict[str, Module] = {"image": ImageInput(image_scale, image_zero_point)}
    channels = in_channels
    for i, layer in enumerate(kind.layers, start=1):
        outputs = scale_channels(layer.channels, width)
        bits = end_bits(made) if i == 1 else weight_bits
        inner = conv(
            channels,
            outputs,
            layer.kernel,
            layer.stride,
            bits,
            made,
            padding=layer.padding,
        )
        pool = MaxPool2d(*kind.pool) if layer.pooled else None
        layers |= layer_and_norm(i, inner, outputs, made, pool=pool)
        channels = outputs
    layers["flatten"] = Flatten()
    features = channels * final_size(size, kind) ** 2
    for i in (6, 7):
        hidden = scale_channels(HIDDEN, width)
        full = linear(features, hidden, weight_bits, made, bias=False)
        layers |= layer_and_norm(i, full, hidden, made)
        features = hidden
    layers["layer8"] = linear(features, classes, end_bits(made), made)
    return Sequential(layers)


def final_size(size: int, kind: Variant) -> int:
    """Compute the height, in pixels, of the map that layer 6 reads; raise below 1.

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


def layer_and_norm(
    i: int,
    layer: Conv2d | Linear,
    outputs: int,
    made: Choices,
    *,
    pool: MaxPool2d | None = None,
) -> dict[str, Module]:
    """Name layer i, batch norm, ReLU, pooling if any, and what layer i + 1 reads.

    The last layer reads no quantizer where the method keeps it in floating point.
    """
    layers: dict[str, Module] = {
        f"layer{i}": layer,
        f"norm{i}": norm(outputs, made),
        f"relu{i}": ReLU(),
    }
    if pool is not None:
        layers[f"pool{i}"] = pool
    if made.activation_bits is not None and (i < 7 or made.method.ends is not None):
        quant = activation_quantizer(made.method, made.activation_bits)
        layers[f"quant{i}"] = quant
    return layers
