"""ResNets for ImageNet: 18, 34 and 50 layers.

He, Zhang, Ren, Sun. Deep Residual Learning for Image Recognition. CVPR 2016,
arXiv:1512.03385, table 1: a stem with stride 2, max pooling, four stages of 64, 128,
256 and 512 channels, global pooling, a classifier. Basic blocks at 18 and 34 layers,
bottlenecks at 50: 1x1, 3x3, 1x1 to four times the channels. Where shapes change the
shortcut is a 1x1 convolution with batch norm (option B). The stride of a bottleneck is
at its 3x3 convolution, as in every later release; the paper has it at the first 1x1.

Two ways to apply a width multiplier:

    option            usual                        Pareto paper (recovered from table 3)
    stem="conv7"      one 7x7 convolution          three of 3x3: 32, 32, 64 ("deep")
    fixed_ends=False  width of every layer         stem, last block, classifier as they
                                                   are at width 1

With fixed ends the last block reads whatever the scaled ones before it give, through a
1x1 shortcut if that is not its own number of channels. At 18 and 34 layers, which the
Pareto paper does not have, the same rule applies.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from refqnn.core import Module
from refqnn.networks.methods import Method, activation_quantizer, method_of
from refqnn.networks.parts import (
    Choices,
    builder,
    check_named,
    conv,
    end_bits,
    head,
    norm,
    scale_channels,
    with_norm,
)
from refqnn.networks.resnets import block, shortcut_layer
from refqnn.nn import ImageInput, MaxPool2d, ReLU, Residual, Sequential

#: depth -> blocks of each stage, and how many times its channels a block gives
DEPTHS: Mapping[int, tuple[tuple[int, ...], int]] = MappingProxyType(
    {18: ((2, 2, 2, 2), 1), 34: ((3, 4, 6, 3), 1), 50: ((3, 4, 6, 3), 4)}
)
STAGES = (64, 128, 256, 512)
STEMS = ("conv7", "deep")


@builder
def imagenet_resnet(
    depth: int,
    *,
    classes: int = 1000,
    in_channels: int = 3,
    width: float = 1.0,
    stem: str = "conv7",
    fixed_ends: bool = False,
    weight_bits: int | None = None,
    activation_bits: int | None = None,
    method: str | Method = "pareto",
    image_scale: float = 1 / 64,
    image_zero_point: int = 128,
    dtype: str = "float32",
    rng: np.random.Generator | None,
) -> Sequential:
    """Make a ResNet of 18, 34 or 50 layers.

    A stage of c channels has ``max(1, int(width * c))``, a bottleneck gives four times
    that; ``stem`` and ``fixed_ends`` as above. ``rng=None`` draws no weights: a network
    to count.

    x: (N, in_channels, H, W)  ->  logits: (N, classes)

    >>> network = imagenet_resnet(50, width=1 / 8, rng=np.random.default_rng(0))
    >>> network.layers["classifier"].w.value.shape
    (1000, 256)
    """
    check_named("depth", depth, DEPTHS)
    check_named("stem", stem, STEMS)
    own = method_of(method)
    made = Choices(rng, np.dtype(dtype), weight_bits, activation_bits, own)
    layers: dict[str, Module] = {"image": ImageInput(image_scale, image_zero_point)}
    inputs = 64 if fixed_ends else scale_channels(64, width)
    layers |= stem_layers(stem, in_channels, inputs, made)
    layers["stem_pool"] = MaxPool2d(kernel=3, stride=2, padding=1)
    blocks, expansion = DEPTHS[depth]
    for i, channels in enumerate(STAGES, start=1):
        for j in range(1, blocks[i - 1] + 1):
            ends = fixed_ends and (i, j) == (4, blocks[3])
            inner = channels if ends else scale_channels(channels, width)
            stride = 2 if i > 1 and j == 1 else 1
            make = block if expansion == 1 else bottleneck
            layers[f"stage{i}_block{j}"] = make(inputs, inner, stride, made)
            inputs = expansion * inner
    return Sequential(layers | head(inputs, classes, made))


def stem_layers(
    stem: str, in_channels: int, channels: int, made: Choices
) -> dict[str, Module]:
    """Make the layers up to the pooling; of a deep stem only the first is an end."""
    if stem == "conv7":
        only = conv(in_channels, channels, 7, 2, end_bits(made), made)
        return with_norm("stem", only, channels, made)
    half = max(1, channels // 2)
    first = conv(in_channels, half, 3, 2, end_bits(made), made)
    second = conv(half, half, 3, 1, made.weight_bits, made)
    third = conv(half, channels, 3, 1, made.weight_bits, made)
    return (
        with_norm("stem1", first, half, made)
        | with_norm("stem2", second, half, made)
        | with_norm("stem3", third, channels, made)
    )


def bottleneck(inputs: int, inner: int, stride: int, made: Choices) -> Residual:
    """Make 1x1 down, 3x3 with the stride, 1x1 up to four times, and the shortcut."""
    bits, outputs = made.weight_bits, 4 * inner
    body = (
        with_norm("conv1", conv(inputs, inner, 1, 1, bits, made), inner, made)
        | with_norm("conv2", conv(inner, inner, 3, stride, bits, made), inner, made)
        | {
            "conv3": conv(inner, outputs, 1, 1, bits, made),
            "norm3": norm(outputs, made),
        }
    )
    after: dict[str, Any] = {"relu": ReLU()}
    if made.activation_bits is not None:
        after["quant"] = activation_quantizer(made.method, made.activation_bits)
    shortcut = shortcut_layer(inputs, outputs, stride, made)
    return Residual(Sequential(body), shortcut, Sequential(after))
