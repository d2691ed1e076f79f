r"""The scalable method: one number of bits for the whole network, at all times.

Banner, Hubara, Hoffer, Soudry. Scalable Methods for 8-bit Training of Neural Networks.
NeurIPS 2018, arXiv:1805.11046; the release eladhoffer/quantized.pytorch.

    paper                                     code                    where
    min-max grid, b bits                      MinMax                  quantizers/min_max
    range batch norm                          RangeBatchNorm2d        scalable_resnet
    gradient bifurcation                      bifurcate=True          scalable_resnet
    stochastic gradients, b_g bits            MinMaxGradient          scalable_resnet
    static baseline of DFS                    options=(b,)            static_resnet

Two networks. ``static_resnet`` is the baseline of DFS's figures, as its release trains
it (train_base.py): the backbone of DFS with every block at b bits, the first, which cp
leaves out, too; plain batch norm, gradients of 32 bits; cp = (b / 32)^2.
``scalable_resnet`` is the method itself.

Range batch norm: the paper's constant 1 / sqrt(2 ln n) makes Gaussian values 1.6 to 1.8
times too small, for the range of n values is twice their largest magnitude; the
released constant, 0.5402 / sqrt(2 ln n), gives a deviation of 1.03 to 1.13 and is the
default here. The release also quantizes what the norm reads and its parameters; here
they are floats (a choice).
"""

from typing import Any

import numpy as np

from refqnn.core import Buffer, Param
from refqnn.networks import resnet
from refqnn.nn import BatchNorm2d, Conv2d, RangeBatchNorm2d, Sequential
from refqnn.nn.residual import BasicBlock
from refqnn.papers.dfs import RoutedResNet, routed_resnet
from refqnn.quantizers import MinMaxGradient

#: bits of the figures that compare DFS with static networks
BITS = (8, 10, 12, 14, 16, 18, 20, 22)


def static_resnet(depth: int, *, bits: int, **options: Any) -> RoutedResNet:
    """Return the backbone of DFS with one option: ``bits`` in every block.

    Options are those of ``refqnn.papers.dfs.routed_resnet``.

    >>> static_resnet(8, bits=8, width=0.1, rng=np.random.default_rng(0)).options
    (8,)
    """
    return routed_resnet(depth, options=(bits,), first_bits=bits, **options)


def scalable_resnet(
    depth: int,
    *,
    bits: int = 8,
    gradient_bits: int | None = 8,
    chunks: int = 16,
    constant: Any = "released",
    **options: Any,
) -> Sequential:
    """Return a ResNet of b-bit weights and activations, trained with b_g-bit gradients.

    Every convolution of the blocks bifurcates: the gradient of its input is computed
    from the stochastically rounded gradient, that of its weights from the exact one.
    ``gradient_bits=None`` keeps both exact, and stem and classifier do (a choice).
    Options are those of ``refqnn.networks.resnet``.

    x: (N, in_channels, H, W)  ->  logits: (N, classes)
    """
    network = resnet(
        depth, method="min_max", weight_bits=bits, activation_bits=bits, **options
    )
    for name, layer in network.layers.items():
        network.layers[name] = with_ranges(layer, chunks, constant)
        if isinstance(layer, BasicBlock):
            layer.norm1 = with_ranges(layer.norm1, chunks, constant)
            layer.norm2 = with_ranges(layer.norm2, chunks, constant)
            convs: list[Any] = [layer.conv1, layer.conv2]
            if isinstance(layer.shortcut, Sequential):
                parts = layer.shortcut.layers
                parts["norm"] = with_ranges(parts["norm"], chunks, constant)
                convs.append(parts["conv"])
            for conv in convs:
                bifurcate(conv, gradient_bits)
    return network


def with_ranges(layer: Any, chunks: int, constant: Any) -> Any:
    """Return a range batch norm in place of a batch norm, any other layer as it is."""
    if not isinstance(layer, BatchNorm2d):
        return layer
    return RangeBatchNorm2d(
        gamma=Param(layer.gamma.value, group="affine"),
        beta=Param(layer.beta.value, group="affine"),
        mean=Buffer(layer.mean.value),
        scale=Buffer(np.sqrt(layer.var.value)),
        chunks=chunks,
        constant=constant,
        eps=layer.eps,
    )


def bifurcate(conv: Conv2d, bits: int | None) -> None:
    """Let a convolution quantize the gradient on its way to the input only."""
    if bits is not None:
        conv.grad_quant = MinMaxGradient(bits=bits)
        conv.bifurcate = True
