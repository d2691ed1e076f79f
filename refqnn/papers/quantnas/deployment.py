r"""A calibrated subnet as a network of its own: to evaluate, to count, to deploy.

QuantNAS (Gao et al., CVPR 2024 NAS workshop) folds; the form is ours. The weights of a
convolution are the folded ones, its LSQ step is that of the subnet, and the batch norm
behind it is the identity but for beta = b_f: mean 0, variance 1, eps 0. So the blocks
are those of ``refqnn.networks.resnet``, and ``refqnn.deploy`` takes the network as it
is. Evaluating a subnet costs what evaluating this network costs, and its calibration.
"""

from typing import Any

import numpy as np

import refqnn
from refqnn._types import Array, Float, Int
from refqnn.core import Buffer, Module, Param
from refqnn.nn import (
    BasicBlock,
    BatchNorm2d,
    Conv2d,
    GlobalAvgPool2d,
    ImageInput,
    Linear,
    ReLU,
    Sequential,
    evaluate,
)
from refqnn.papers.quantnas.elastic_network import Supernet, calibrate
from refqnn.papers.quantnas.fold import fold
from refqnn.papers.quantnas.shared_layers import Calibrated, shortcut_of
from refqnn.papers.quantnas.space import Genotype, LayerShape, block_name, layers_of
from refqnn.quantizers import LSQ


def plain(net: Supernet, calibrated: Calibrated) -> Sequential:
    """Return the network that a calibrated subnet is; nothing is shared with ``net``.

    x: (N, C, H, W) uint8  ->  logits: (N, K)
    """
    space, genotype = net.space, calibrated.genotype
    layers = {layer.name: layer for layer in layers_of(genotype, space)}
    conv, norm = folded_layer(net, layers["stem"], calibrated)
    made: dict[str, Module] = {
        "image": ImageInput(net.image.scale, net.image.zero_point),
        "stem": conv,
        "stem_norm": norm,
        "stem_relu": ReLU(),
        "stem_quant": activation("stem_quant", space.activation_bits, calibrated),
    }
    inputs = space.channels[0]
    for s, stage in enumerate(genotype):
        for j in range(len(stage)):
            name = block_name(s, j)
            made[name] = plain_block(net, name, inputs, layers, calibrated)
            inputs = space.channels[s]
    quant = LSQ(bits=space.end_bits)
    quant.set_step(calibrated.steps["classifier"])
    made["pool"] = GlobalAvgPool2d()
    made["pool_quant"] = activation("pool_quant", space.end_bits, calibrated)
    b = Param(net.classifier_b.value.copy(), group="affine")
    made["classifier"] = Linear(Param(net.classifier_w.value.copy()), b, quant)
    return Sequential(made)


def plain_block(
    net: Supernet,
    name: str,
    inputs: int,
    layers: dict[str, LayerShape],
    calibrated: Calibrated,
) -> BasicBlock:
    """Return one block of a calibrated subnet."""
    first, second = layers[f"{name}.conv1"], layers[f"{name}.conv2"]
    conv1, norm1 = folded_layer(net, first, calibrated)
    conv2, norm2 = folded_layer(net, second, calibrated)
    bits = net.space.activation_bits
    return BasicBlock(
        conv1=conv1,
        norm1=norm1,
        relu1=ReLU(),
        quant1=activation(f"{name}.quant1", bits, calibrated),
        conv2=conv2,
        norm2=norm2,
        shortcut=shortcut_of(inputs, first, second),
        relu2=ReLU(),
        quant2=activation(f"{name}.quant2", bits, calibrated),
    )


def folded_weights(
    net: Supernet, layer: LayerShape, calibrated: Calibrated
) -> tuple[Float, Float]:
    """Return W_f and b_f of a layer of a calibrated subnet."""
    conv = net.convs[layer.name]
    outputs, cut = conv.cut(layer)
    gamma, beta = conv.gamma.value[outputs], conv.beta.value[outputs]
    return fold(conv.w.value[cut], gamma, beta, calibrated.statistics[layer.name])


def folded_layer(
    net: Supernet, layer: LayerShape, calibrated: Calibrated
) -> tuple[Conv2d, BatchNorm2d]:
    """Return the folded convolution and the batch norm that adds b_f."""
    w_f, b_f = folded_weights(net, layer, calibrated)
    quant = LSQ(bits=layer.weight_bits)
    quant.set_step(calibrated.steps[layer.name])
    conv = Conv2d(
        Param(w_f), stride=layer.stride, padding=layer.kernel // 2, weight_quant=quant
    )
    one, zero = np.ones_like(b_f), np.zeros_like(b_f)
    norm = BatchNorm2d(
        gamma=Param(one, group="affine"),
        beta=Param(b_f, group="affine"),
        mean=Buffer(zero),
        var=Buffer(one.copy()),
        eps=0.0,
    )
    return conv, norm


def activation(name: str, bits: int, calibrated: Calibrated) -> Any:
    """Return the activation quantizer with the step of a calibrated subnet."""
    quant = LSQ(bits=bits, of="activation")
    quant.set_step(calibrated.steps[name])
    return quant


def accuracy(
    net: Supernet,
    genotype: Genotype,
    calibration: Array,
    images: Array,
    labels: Int,
    *,
    batch: int = 64,
    scales: Any = None,
    backend: Any = refqnn,
) -> float:
    """Return the accuracy of a subnet, calibrated on other images.

    calibration: (M, C, H, W), images: (N, C, H, W), labels: (N,)
    """
    calibrated = calibrate(
        net, genotype, calibration, batch=batch, scales=scales, backend=backend
    )
    return evaluate(plain(net, calibrated), images, labels, backend=backend).accuracy
