"""VGG11 for images of 32 pixels, and its variants with depth-wise convolutions.

Simonyan, Zisserman. Very Deep Convolutional Networks for Large-Scale Image Recognition.
ICLR 2015, arXiv:1409.1556: configuration A. The Pareto paper (Chin et al.,
arXiv:2008.09916, table 6) replaces convolutions 2 to 8 one after the other by a 1x1
convolution *followed by* a depth-wise 3x3, and studies the depth-wise one's fan-in and
kernel (table 2).

    convolution   1    2      3    4      5    6      7    8      classifier
    channels      64   128    256  256    512  512    512  512    classes
    max pooling   2x2  2x2         2x2         2x2         2x2
    replaced      11   none;  a    2;     b    2..5;  c    2..8

Chosen here: batch norm and ReLU after every convolution; one fully connected layer, as
the table has room for one; a fan-in of f channels is a grouped convolution of C / f
groups with f filters each; even kernels are padded one more behind than before.
"""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from refqnn.core import Module
from refqnn.networks.methods import Method, method_of
from refqnn.networks.parts import (
    Choices,
    builder,
    check_named,
    conv,
    depthwise,
    end_bits,
    head,
    scale_channels,
    with_norm,
)
from refqnn.nn import ImageInput, MaxPool2d, Sequential

CHANNELS = (64, 128, 256, 256, 512, 512, 512, 512)
POOLED = (1, 2, 4, 6, 8)
#: variant -> the convolutions that are replaced
VARIANTS: Mapping[str, range] = MappingProxyType(
    {"11": range(0), "a": range(2, 3), "b": range(2, 6), "c": range(2, 9)}
)


@builder
def vgg(
    variant: str = "11",
    *,
    classes: int = 10,
    in_channels: int = 1,
    width: float = 1.0,
    weight_bits: int | None = None,
    depthwise_bits: int | None = None,
    activation_bits: int | None = None,
    depthwise_fan_in: int = 1,
    depthwise_kernel: int = 3,
    method: str | Method = "pareto",
    image_scale: float = 1 / 64,
    image_zero_point: int = 128,
    dtype: str = "float32",
    rng: np.random.Generator | None,
) -> Sequential:
    """Make VGG11 or its variant "a", "b" or "c", for images of 32 pixels or more.

    A layer of c channels has ``max(1, int(width * c))``. ``depthwise_bits=None`` gives
    depth-wise convolutions ``weight_bits``; each of their filters reads
    ``depthwise_fan_in`` channels through a square of ``depthwise_kernel`` pixels.
    ``rng=None`` draws no weights: a network to count.

    x: (N, in_channels, H, W), H, W >= 32  ->  logits: (N, classes)

    >>> network = vgg("c", width=1 / 16, rng=np.random.default_rng(0))
    >>> network.layers["conv3"].w.value.shape, network.layers["depthwise3"].groups
    ((16, 8, 1, 1), 16)
    """
    check_named("variant", variant, VARIANTS)
    own = method_of(method)
    made = Choices(
        rng, np.dtype(dtype), weight_bits, activation_bits, own, depthwise_bits
    )
    layers: dict[str, Module] = {"image": ImageInput(image_scale, image_zero_point)}
    inputs = in_channels
    for i, channels in enumerate(CHANNELS, start=1):
        outputs = scale_channels(channels, width)
        replaced = i in VARIANTS[variant]
        bits = end_bits(made) if i == 1 else made.weight_bits
        first = conv(inputs, outputs, 1 if replaced else 3, 1, bits, made)
        layers |= with_norm(f"conv{i}", first, outputs, made)
        if replaced:
            layers |= depthwise(
                f"depthwise{i}",
                outputs,
                made,
                fan_in=depthwise_fan_in,
                kernel=depthwise_kernel,
            )
        if i in POOLED:
            layers[f"pool{i}"] = MaxPool2d(2)
        inputs = outputs
    return Sequential(layers | head(inputs, classes, made))
