"""MobileNetV2, for ImageNet and CIFAR, and the ResNet26 of inverted residual blocks.

Sandler, Howard, Zhu, Zhmoginov, Chen. MobileNetV2: Inverted Residuals and Linear
Bottlenecks. CVPR 2018, arXiv:1801.04381, table 2:

    rows    stem   t=1    t=6 a hidden channel for every input channel       1x1
    c       32     16     24     32     64     96     160    320            1280
    n              1      2      3      4      3      3      1
    stride  2      1      2      2      2      1      2      1     ImageNet
    stride  2      1      1      1      1      2      1      1     CIFAR

The CIFAR strides are those of the Pareto paper (Chin et al., arXiv:2008.09916, appendix
C), which speaks of two down-samplings: the stem must keep its own. Its Inv-ResNet26
(table 5) is a stem of 16 channels and four blocks each of 16, 32 and 64, whose hidden
channels are six times those of the *stage*; stride 2 in the first block of the last two
stages (the table prints it at all four).

Chosen here: a block adds its input where shapes agree, and quantizes its output, which
is linear and may be negative: methods whose activations start at 0 cut that half off.
Inv-ResNet26 has ReLU6, as the blocks it is made of.
"""

from functools import partial
from typing import NamedTuple

import numpy as np

from refqnn.core import Module
from refqnn.networks.methods import Method, activation_quantizer, method_of
from refqnn.networks.parts import (
    Choices,
    builder,
    check_named,
    conv,
    depthwise,
    end_bits,
    head,
    norm,
    scale_channels,
    with_norm,
)
from refqnn.nn import ImageInput, ReLU6, Residual, Sequential


class Row(NamedTuple):
    """Blocks of one width; the first one has the stride."""

    expansion: int
    channels: int
    blocks: int
    stride: int
    cifar_stride: int


ROWS = (
    Row(1, 16, 1, 1, 1),
    Row(6, 24, 2, 2, 1),
    Row(6, 32, 3, 2, 1),
    Row(6, 64, 4, 2, 1),
    Row(6, 96, 3, 1, 2),
    Row(6, 160, 3, 2, 1),
    Row(6, 320, 1, 1, 1),
)
STEM, HEAD = 32, 1280
#: what a width multiplier does to a number of channels, and to the last 1280
ROUNDINGS = ("divisible", "at_least_8", "int")
HEADS = ("grows", "scaled", "fixed")
with_norm6 = partial(with_norm, nonlinearity=ReLU6)


@builder
def mobilenetv2(
    *,
    images: str = "imagenet",
    classes: int = 1000,
    in_channels: int = 3,
    width: float = 1.0,
    rounding: str = "divisible",
    fixed_stem: bool = False,
    last: str = "grows",
    weight_bits: int | None = None,
    depthwise_bits: int | None = None,
    activation_bits: int | None = None,
    method: str | Method = "pareto",
    image_scale: float = 1 / 64,
    image_zero_point: int = 128,
    dtype: str = "float32",
    rng: np.random.Generator | None,
) -> Sequential:
    """Make MobileNetV2 with the strides for ``images`` "imagenet" or "cifar".

    A row of c channels has ``width * c``, by ``rounding``: "divisible" (the nearest
    multiple of 8, as released), "at_least_8" (``max(8, int(width * c))``, the Pareto
    paper's) or "int". ``fixed_stem`` leaves the stem at 32. The last 1x1 convolution
    has 1280 channels ("fixed"), ``width * 1280`` ("scaled"), or the larger of the two
    ("grows"). ``depthwise_bits=None`` gives depth-wise convolutions ``weight_bits``;
    ``rng=None`` draws no weights: a network to count.

    x: (N, in_channels, H, W)  ->  logits: (N, classes)

    >>> network = mobilenetv2(width=0.25, classes=2, rng=np.random.default_rng(0))
    >>> network.layers["row2_block1"].layers["depthwise"].w.value.shape
    (48, 1, 3, 3)
    """
    check_named("images", images, ("imagenet", "cifar"))
    check_named("rounding", rounding, ROUNDINGS)
    check_named("last", last, HEADS)
    own = method_of(method)
    made = Choices(
        rng, np.dtype(dtype), weight_bits, activation_bits, own, depthwise_bits
    )
    inputs = STEM if fixed_stem else round_channels(STEM, width, rounding)
    first = conv(in_channels, inputs, 3, 2, end_bits(made), made)
    layers: dict[str, Module] = {"image": ImageInput(image_scale, image_zero_point)}
    layers |= with_norm6("stem", first, inputs, made)
    for i, row in enumerate(ROWS, start=1):
        outputs = round_channels(row.channels, width, rounding)
        stride = row.stride if images == "imagenet" else row.cifar_stride
        for j in range(1, row.blocks + 1):
            sizes = (inputs, row.expansion * inputs, outputs)
            strides = stride if j == 1 else 1
            layers[f"row{i}_block{j}"] = inverted_residual(sizes, strides, made)
            inputs = outputs
    features = last_channels(width, rounding, last)
    final = conv(inputs, features, 1, 1, made.weight_bits, made)
    layers |= with_norm6("last", final, features, made)
    return Sequential(layers | head(features, classes, made))


@builder
def inv_resnet26(
    *,
    classes: int = 10,
    in_channels: int = 1,
    width: float = 1.0,
    weight_bits: int | None = None,
    depthwise_bits: int | None = None,
    activation_bits: int | None = None,
    method: str | Method = "pareto",
    image_scale: float = 1 / 64,
    image_zero_point: int = 128,
    dtype: str = "float32",
    rng: np.random.Generator | None,
) -> Sequential:
    """Make Inv-ResNet26 of the Pareto paper: twelve inverted residual blocks.

    A stage of c channels has ``max(1, int(width * c))``. The other options are those of
    ``mobilenetv2``.

    x: (N, in_channels, H, W)  ->  logits: (N, classes)

    >>> network = inv_resnet26(width=0.25, rng=np.random.default_rng(0))
    >>> network.layers["stage2_block1"].layers["expand"].w.value.shape  # 4 -> 6 * 8
    (48, 4, 1, 1)
    """
    own = method_of(method)
    made = Choices(
        rng, np.dtype(dtype), weight_bits, activation_bits, own, depthwise_bits
    )
    inputs = scale_channels(16, width)
    first = conv(in_channels, inputs, 3, 1, end_bits(made), made)
    layers: dict[str, Module] = {"image": ImageInput(image_scale, image_zero_point)}
    layers |= with_norm6("stem", first, inputs, made)
    for i, channels in enumerate((16, 32, 64), start=1):
        outputs = scale_channels(channels, width)
        for j in range(1, 5):
            sizes = (inputs, 6 * outputs, outputs)
            stride = 2 if i > 1 and j == 1 else 1
            layers[f"stage{i}_block{j}"] = inverted_residual(sizes, stride, made)
            inputs = outputs
    return Sequential(layers | head(inputs, classes, made))


def round_channels(channels: int, width: float, rounding: str) -> int:
    """Round ``width * channels`` to channels.

    "divisible" goes one multiple of 8 up where rounding would lose more than 10 %.

    >>> [round_channels(24, 0.35, rounding) for rounding in ROUNDINGS]  # 8.4
    [8, 8, 8]
    >>> [round_channels(16, 0.75, rounding) for rounding in ROUNDINGS]  # 12
    [16, 12, 12]
    >>> [round_channels(16, 0.4, rounding) for rounding in ROUNDINGS]  # 6.4
    [8, 8, 6]
    """
    if rounding == "at_least_8":
        return max(8, int(width * channels))
    if rounding == "int":
        return scale_channels(channels, width)
    near = max(8, int(width * channels + 4) // 8 * 8)
    return near + 8 if near < 0.9 * width * channels else near


def last_channels(width: float, rounding: str, last: str) -> int:
    """Count the channels of the last convolution.

    >>> [last_channels(0.5, "int", last) for last in HEADS]
    [1280, 640, 1280]
    """
    if last == "fixed":
        return HEAD
    own = round_channels(HEAD, width, rounding)
    return own if last == "scaled" else max(HEAD, own)


def inverted_residual(
    sizes: tuple[int, int, int], stride: int, made: Choices
) -> Sequential | Residual:
    """Make a block with ``sizes`` = (inputs, hidden, outputs) channels.

    1x1 up (left out where it would change nothing), depth-wise 3x3, 1x1 down without a
    nonlinearity, and the input where shapes agree.
    """
    inputs, hidden, outputs = sizes
    layers: dict[str, Module] = {}
    if hidden != inputs:
        up = conv(inputs, hidden, 1, 1, made.weight_bits, made)
        layers |= with_norm6("expand", up, hidden, made)
    layers |= depthwise("depthwise", hidden, made, stride=stride, nonlinearity=ReLU6)
    layers["project"] = conv(hidden, outputs, 1, 1, made.weight_bits, made)
    layers["project_norm"] = norm(outputs, made)
    after: dict[str, Module] = {}
    if made.activation_bits is not None:
        after["quant"] = activation_quantizer(made.method, made.activation_bits)
    if inputs != outputs or stride != 1:
        return Sequential(layers | after)
    return Residual(Sequential(layers), None, Sequential(after))
