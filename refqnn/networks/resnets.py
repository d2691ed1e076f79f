"""ResNets for small images: 6n + 2 layers, three stages.

He, Zhang, Ren, Sun. Deep Residual Learning for Image Recognition. CVPR 2016,
arXiv:1512.03385, section 4.2: a 3x3 stem of 16 channels, n blocks each of 16, 32 and 64
channels, stride 2 in the first block of stages 2 and 3, global pooling, a classifier.

Quantized by default as in the Pareto paper (arXiv:2008.09916): the stem and the
classifier keep 8-bit weights. Activation quantizers follow every ReLU; the pooled
features, which the classifier reads, have 8 bits. Other methods keep both ends and the
pooled features in floating point, as their papers do.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from refqnn.core import Module, Param
from refqnn.geometry import Padding
from refqnn.networks.methods import (
    Method,
    activation_quantizer,
    method_of,
    weight_quantizer,
)
from refqnn.nn import (
    BasicBlock,
    BatchNorm2d,
    Conv2d,
    GlobalAvgPool2d,
    ImageInput,
    Linear,
    PadShortcut,
    ReLU,
    Sequential,
    batch_norm2d,
    he_normal,
    uniform_fan_in,
)


class Choices(NamedTuple):
    """What every layer of a network is made with."""

    rng: np.random.Generator | None
    dtype: Any
    weight_bits: int | None
    activation_bits: int | None
    shortcut: str
    method: Method
    #: of depth-wise convolutions; ``weight_bits`` where a network has none
    depthwise_bits: int | None = None


def resnet(
    depth: int,
    *,
    classes: int = 10,
    in_channels: int = 1,
    width: float = 1.0,
    weight_bits: int | None = None,
    activation_bits: int | None = None,
    shortcut: str = "A",
    method: str = "pareto",
    image_scale: float = 1 / 64,
    image_zero_point: int = 128,
    dtype: str = "float32",
    rng: np.random.Generator | None,
) -> Sequential:
    """Return a ResNet of ``depth`` = 6n + 2 layers for images of any size.

    A stage of c channels has ``max(1, int(width * c))``. ``shortcut`` is "A" (no
    parameters) or "B" (1x1 convolution and batch norm where shapes change). ``None``
    bits leave weights or activations in floating point; ``method`` is a name of
    ``refqnn.networks.methods``. ``rng=None`` draws no weights: a network to count.

    x: (N, in_channels, H, W)  ->  logits: (N, classes)

    >>> network = resnet(8, width=0.25, rng=np.random.default_rng(0))
    >>> list(network.layers)[:4], list(network.layers)[-2:]
    (['image', 'stem', 'stem_norm', 'stem_relu'], ['pool', 'classifier'])
    """
    config = {
        "network": "resnet",
        "depth": depth,
        "classes": classes,
        "in_channels": in_channels,
        "width": width,
        "weight_bits": weight_bits,
        "activation_bits": activation_bits,
        "shortcut": shortcut,
        "method": method,
        "image_scale": image_scale,
        "image_zero_point": image_zero_point,
        "dtype": dtype,
    }
    check_resnet(depth, width, classes, in_channels, shortcut)
    made = Choices(
        rng,
        np.dtype(dtype),
        weight_bits,
        activation_bits,
        shortcut,
        method_of(method),
    )
    c1, c2, c3 = (scaled(c, width) for c in (16, 32, 64))
    layers: dict[str, Module] = {"image": ImageInput(image_scale, image_zero_point)}
    stem = conv(in_channels, c1, 3, 1, end_bits(made), made)
    both = made.method.quantized_shortcut
    layers |= followed("stem", stem, c1, made, quantized=both)
    layers |= stage("stage1", c1, c1, (depth - 2) // 6, 1, made)
    layers |= stage("stage2", c1, c2, (depth - 2) // 6, 2, made)
    layers |= stage("stage3", c2, c3, (depth - 2) // 6, 2, made)
    layers |= head(c3, classes, made)
    return Sequential(layers, config)


def check_resnet(
    depth: int, width: float, classes: int, in_channels: int, shortcut: str
) -> None:
    """Raise a ValueError that names the setting and its bound."""
    if depth < 8 or (depth - 2) % 6:
        raise ValueError(f"depth must be 6n + 2 with n of at least 1, got {depth}")
    if shortcut not in {"A", "B"}:
        raise ValueError(f"shortcut must be 'A' or 'B', got {shortcut!r}")
    check_sizes(width, classes, in_channels)


def check_sizes(width: float, classes: int, in_channels: int) -> None:
    """Raise a ValueError that names the setting and its bound."""
    if not 0 < width < float("inf"):
        raise ValueError(f"width must be positive and finite, got {width}")
    if classes < 2 or in_channels < 1:
        raise ValueError(
            "classes must be at least 2 and in_channels at least 1, "
            f"got {classes} and {in_channels}"
        )


def scaled(channels: int, width: float) -> int:
    """max(1, int(width * channels))

    >>> scaled(16, 0.5), scaled(16, 0.99), scaled(16, 0.01)
    (8, 15, 1)
    """
    return max(1, int(width * channels))


def followed(
    name: str,
    layer: Module,
    channels: int,
    made: Choices,
    *,
    nonlinearity: Callable[[], Module] = ReLU,
    quantized: bool = True,
) -> dict[str, Module]:
    """Return a layer, batch norm, ReLU, and the quantizer if activations have bits."""
    layers = {
        name: layer,
        f"{name}_norm": norm(channels, made),
        f"{name}_relu": nonlinearity(),
    }
    if made.activation_bits is not None and quantized:
        quant = activation_quantizer(made.method, made.activation_bits)
        layers[f"{name}_quant"] = quant
    return layers


def stage(
    name: str, inputs: int, outputs: int, blocks: int, stride: int, made: Choices
) -> dict[str, Module]:
    """Return ``blocks`` residual blocks; the first one changes channels and size."""
    first: dict[str, Module] = {f"{name}_block1": block(inputs, outputs, stride, made)}
    rest = {
        f"{name}_block{i}": block(outputs, outputs, 1, made)
        for i in range(2, blocks + 1)
    }
    return first | rest


def block(inputs: int, outputs: int, stride: int, made: Choices) -> BasicBlock:
    """Return one residual block."""
    bits, a, both = (
        made.weight_bits,
        made.activation_bits,
        made.method.quantized_shortcut,
    )
    return BasicBlock(
        conv1=conv(inputs, outputs, 3, stride, bits, made),
        norm1=norm(outputs, made),
        relu1=ReLU(),
        quant1=activation_quantizer(made.method, a),
        conv2=conv(outputs, outputs, 3, 1, bits, made),
        norm2=norm(outputs, made),
        shortcut=shortcut_layer(inputs, outputs, stride, made),
        relu2=ReLU(),
        quant2=activation_quantizer(
            made.method, made.activation_bits if both else None
        ),
        quant0=activation_quantizer(
            made.method, None if both else made.activation_bits
        ),
    )


def shortcut_layer(inputs: int, outputs: int, stride: int, made: Choices) -> Any:
    """Return None where the identity fits, else option A or B."""
    if inputs == outputs and stride == 1:
        return None
    if made.shortcut == "A":
        return PadShortcut(channels=outputs, stride=stride)
    return Sequential(
        {
            "conv": conv(inputs, outputs, 1, stride, made.weight_bits, made),
            "norm": norm(outputs, made),
        }
    )


def head(channels: int, classes: int, made: Choices) -> dict[str, Module]:
    """Return global pooling and the classifier, whose weights start uniform."""
    layers: dict[str, Module] = {"pool": GlobalAvgPool2d()}
    if made.activation_bits is not None and made.method.ends is not None:
        layers["pool_quant"] = activation_quantizer(made.method, made.method.ends)
    w = uniform_fan_in((classes, channels), rng=made.rng, dtype=made.dtype)
    layers["classifier"] = Linear(
        Param(w),
        Param(np.zeros(classes, made.dtype), group="affine"),
        weight_quant=weight_quantizer(made.method, end_bits(made), w.shape),
    )
    return layers


def conv(
    inputs: int,
    outputs: int,
    kernel: int,
    stride: int,
    bits: int | None,
    made: Choices,
    *,
    groups: int = 1,
) -> Conv2d:
    """Return a convolution that keeps the size, but for the stride; no bias."""
    shape = (outputs, inputs // groups, kernel, kernel)
    return Conv2d(
        Param(he_normal(shape, rng=made.rng, dtype=made.dtype)),
        stride=stride,
        padding=same_padding(kernel),
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
    """Return a batch norm of the network's dtype."""
    return batch_norm2d(channels, dtype=made.dtype)


def end_bits(made: Choices) -> int | None:
    """Return the bits of the first and last layer of a quantized network."""
    return None if made.weight_bits is None else made.method.ends
