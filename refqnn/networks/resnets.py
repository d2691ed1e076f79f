"""ResNets for small images: 6n + 2 layers, three stages.

He, Zhang, Ren, Sun. Deep Residual Learning for Image Recognition. CVPR 2016,
arXiv:1512.03385, section 4.2: a 3x3 stem of 16 channels, n blocks each of 16, 32 and 64
channels, stride 2 in the first block of stages 2 and 3, global pooling, a classifier.

Quantized by default as in the Pareto paper (arXiv:2008.09916): the stem and the
classifier keep 8-bit weights. Activation quantizers follow every ReLU; the pooled
features, which the classifier reads, have 8 bits. Other methods keep both ends and the
pooled features in floating point, as their papers do.
"""

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
from refqnn.nn import BasicBlock, ImageInput, PadShortcut, ReLU, Sequential

#: layers of the deepest network of the paper
DEEPEST = 1202


@builder
def resnet(
    depth: int,
    *,
    classes: int = 10,
    in_channels: int = 1,
    width: float = 1.0,
    weight_bits: int | None = None,
    activation_bits: int | None = None,
    shortcut: str = "A",
    ends_width: float | None = None,
    method: str | Method = "pareto",
    image_scale: float = 1 / 64,
    image_zero_point: int = 128,
    dtype: str = "float32",
    rng: np.random.Generator | None,
) -> Sequential:
    """Make a ResNet of ``depth`` = 6n + 2 layers for images of any size.

    A stage of c channels has ``max(1, int(width * c))``. ``shortcut`` is "A" (no
    parameters) or "B" (1x1 convolution and batch norm where shapes change);
    ``ends_width`` scales stem and features instead of ``width`` (with "B"). ``None``
    bits leave weights or activations in floating point; ``method`` is a name of
    ``refqnn.networks.methods``, or a ``Method``. ``rng=None`` draws no weights: a
    network to count.

    x: (N, in_channels, H, W)  ->  logits: (N, classes)

    >>> network = resnet(8, width=0.25, rng=np.random.default_rng(0))
    >>> list(network.layers)[:4], list(network.layers)[-2:]
    (['image', 'stem', 'stem_norm', 'stem_relu'], ['pool', 'classifier'])
    """
    blocks = blocks_of(depth)
    check_named("shortcut", shortcut, ("A", "B") if ends_width is None else ("B",))
    own = method_of(method)
    made = Choices(rng, np.dtype(dtype), weight_bits, activation_bits, own)
    c1, c2, c3 = (scale_channels(c, width) for c in (16, 32, 64))
    ends = width if ends_width is None else ends_width
    first, features = (scale_channels(c, ends) for c in (16, 64))
    layers: dict[str, Module] = {"image": ImageInput(image_scale, image_zero_point)}
    stem = conv(in_channels, first, 3, 1, end_bits(made), made)
    both = made.method.quantized_shortcut
    layers |= with_norm("stem", stem, first, made, quantized=both)
    inputs = first
    for i, (inner, outputs) in enumerate(((c1, c1), (c2, c2), (c3, features)), start=1):
        for j in range(1, blocks + 1):
            stride = 2 if i > 1 and j == 1 else 1
            layers[f"stage{i}_block{j}"] = block(
                inputs, outputs, stride, made, shortcut=shortcut, inner=inner
            )
            inputs = outputs
    return Sequential(layers | head(features, classes, made))


def blocks_of(depth: int) -> int:
    """n of depth = 6n + 2: the blocks of a stage.

    >>> blocks_of(20)
    3
    """
    if not 8 <= depth <= DEEPEST or (depth - 2) % 6:
        raise ValueError(
            f"depth must be 6n + 2 with n of at least 1, at most {DEEPEST}, got {depth}"
        )
    return (depth - 2) // 6


def block(
    inputs: int,
    outputs: int,
    stride: int,
    made: Choices,
    *,
    shortcut: str = "B",
    inner: int | None = None,
) -> BasicBlock:
    """Make a residual block of two 3x3 convolutions, ``inner`` channels between."""
    both, inner = made.method.quantized_shortcut, inner or outputs
    conv1 = conv(inputs, inner, 3, stride, made.weight_bits, made)
    quant1, last = (
        activation_quantizer(made.method, made.activation_bits) for _ in range(2)
    )
    return BasicBlock(
        conv1=conv1,
        norm1=norm(inner, made),
        relu1=ReLU(),
        quant1=quant1,
        conv2=conv(inner, outputs, 3, 1, made.weight_bits, made),
        norm2=norm(outputs, made),
        shortcut=shortcut_layer(inputs, outputs, stride, made, shortcut),
        relu2=ReLU(),
        quant2=last if both else None,
        quant0=None if both else last,
    )


def shortcut_layer(
    inputs: int, outputs: int, stride: int, made: Choices, shortcut: str = "B"
) -> Any:
    """Make option A or B where shapes change; None, the identity, where they agree."""
    if inputs == outputs and stride == 1:
        return None
    if shortcut == "A":
        return PadShortcut(channels=outputs, stride=stride)
    return Sequential(
        {
            "conv": conv(inputs, outputs, 1, stride, made.weight_bits, made),
            "norm": norm(outputs, made),
        }
    )
