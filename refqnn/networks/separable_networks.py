"""A small network of separable convolutions, to study depth-wise filters in seconds.

No paper's network: the smallest one on which the Pareto paper's question (Chin et al.,
arXiv:2008.09916, section 5) can be put to small images, built from the parts of its VGG
variant C: a 1x1 convolution *followed by* a depth-wise one, with its fan-in and kernel.

    layer      stem   1x1   depth-wise   2x2 mean   1x1   depth-wise   mean   linear
    channels   16     32    32                      32    32                  classes

Batch norm and ReLU follow every convolution. The stem is 3x3.
"""

import numpy as np

from refqnn.core import Module
from refqnn.networks.methods import Method, method_of
from refqnn.networks.parts import (
    Choices,
    builder,
    conv,
    depthwise,
    end_bits,
    head,
    scale_channels,
    with_norm,
)
from refqnn.nn import AvgPool2d, ImageInput, Sequential

STEM, CHANNELS = 16, (32, 32)


@builder
def separable(
    *,
    classes: int = 10,
    in_channels: int = 1,
    width: float = 1.0,
    weight_bits: int | None = None,
    depthwise_bits: int | None = None,
    activation_bits: int | None = None,
    depthwise_fan_in: int = 1,
    depthwise_kernel: int = 3,
    ends_width: float | None = None,
    method: str | Method = "pareto",
    image_scale: float = 1 / 64,
    image_zero_point: int = 128,
    dtype: str = "float32",
    rng: np.random.Generator | None,
) -> Sequential:
    """Make the network; the options are those of ``refqnn.networks.vgg``.

    ``ends_width`` scales the stem and what the classifier reads; None is ``width``.

    x: (N, in_channels, H, W), H, W >= 2  ->  logits: (N, classes)

    >>> network = separable(depthwise_fan_in=4, rng=np.random.default_rng(0))
    >>> network.layers["depthwise2"].w.value.shape, network.layers["depthwise2"].groups
    ((32, 4, 3, 3), 8)
    """
    own = method_of(method)
    made = Choices(
        rng, np.dtype(dtype), weight_bits, activation_bits, own, depthwise_bits
    )
    ends = width if ends_width is None else ends_width
    inputs = scale_channels(STEM, ends)
    stem = conv(in_channels, inputs, 3, 1, end_bits(made), made)
    layers: dict[str, Module] = {"image": ImageInput(image_scale, image_zero_point)}
    layers |= with_norm("stem", stem, inputs, made)
    for i, channels in enumerate(CHANNELS, start=1):
        outputs = scale_channels(channels, ends if i == len(CHANNELS) else width)
        pointwise = conv(inputs, outputs, 1, 1, made.weight_bits, made)
        layers |= with_norm(f"pointwise{i}", pointwise, outputs, made)
        layers |= depthwise(
            f"depthwise{i}",
            outputs,
            made,
            fan_in=depthwise_fan_in,
            kernel=depthwise_kernel,
        )
        if i < len(CHANNELS):
            layers[f"pool{i}"] = AvgPool2d(2)
        inputs = outputs
    return Sequential(layers | head(inputs, classes, made))
