"""HAQ on the backbone of DFS, and what its policies cost by the rule of DFS.

Figure 7 of DFS (arXiv:2001.00705) puts two percentages on one axis: its own cp, and the
size of HAQ's weights as a share of 32 bits. What both could mean:

    percentage     b bits cost              over                      where
    HAQ's own      b / 32                   all weights               size_ratio
    cp of DFS      (b_w / 32) (b_x / 32)    gated blocks, all alike   routed_cp

HAQ quantizes weights alone, so its inputs have b_x = 32 bits and a convolution costs
b / 32 by the rule of DFS, too: linear, where a block of DFS, whose inputs have b bits
as well, costs (b / 32)^2. Both percentages of a policy then differ only in what they
average over, and may stand on one axis if it says so. What may not is 8 bits of HAQ
(25 %) beside 8 bits of DFS (6.25 %) as if they were the same network.
"""

import re
from typing import Any

import numpy as np

from refqnn._types import Array, Int
from refqnn.core import Run, named_modules
from refqnn.nn import Conv2d, Linear
from refqnn.papers.dfs import KEEP, RoutedResNet
from refqnn.papers.dfs.block import Executed
from refqnn.papers.haq.environment import Layer, layer_of

#: the convolutions that a decision of DFS is about, and the number of their block
OF_A_BLOCK = re.compile(r"blocks\.(\d+)\.conv[12]")


def routed_table(
    network: RoutedResNet, image_shape: tuple[int, int, int]
) -> tuple[Layer, ...]:
    """Return stem, convolutions of the blocks and classifier, in the order they run.

    image_shape: (C, H, W). Every block is kept; the gates are no layers of HAQ.
    """
    names = {id(module): name for name, module in named_modules(network)}
    table: dict[str, Layer] = {}

    def observe(module: Any, x: Array, _: Array) -> None:
        of = module.conv if isinstance(module, Executed) else module
        weighted = isinstance(module, Executed | Conv2d | Linear)
        if weighted and not names[id(of)].startswith("gates"):
            table[names[id(of)]] = layer_of(names[id(of)], of, x.shape[1:])

    run = Run(observe=observe)
    x, _ = network.front(np.zeros((1, *image_shape), np.uint8), run)
    for block in network.blocks:
        x, _ = block.forward(x, run, KEEP)
    network.head(x, run)
    return tuple(table.values())


def routed_cp(bits: Int, layers: tuple[Layer, ...]) -> float:
    """cp = mean over gated blocks of the mean b of its two 3x3 convolutions, over 32

    bits: (L,)  ->  cp in (0, 1]

    Weights of b bits times inputs of 32 cost (b / 32) (32 / 32). As in the cp of DFS
    all blocks count alike, and stem, block 1, 1x1 shortcuts and classifier nothing.

    >>> layers = [
    ...     Layer(f"blocks.{i}.conv{j}", 1, 1, 3, 1, 4, 9, False)
    ...     for i in (0, 1, 2)
    ...     for j in (1, 2)
    ... ]
    >>> routed_cp(np.array([32, 32, 8, 8, 8, 16]), tuple(layers))  # (8 + 12) / 2 / 32
    0.3125
    """
    if np.shape(bits) != (len(layers),):
        raise ValueError(f"bits must be ({len(layers)},), got bits{np.shape(bits)}")
    blocks: dict[int, list[int]] = {}
    for layer, b in zip(layers, np.asarray(bits).tolist(), strict=True):
        match = OF_A_BLOCK.fullmatch(layer.name)
        if match and int(match[1]) > 0:
            blocks.setdefault(int(match[1]), []).append(b)
    if not blocks:
        raise ValueError("layers must hold convolutions of gated blocks, got none")
    return float(np.mean([np.mean(own) for own in blocks.values()]) / KEEP)
