"""QIL: the comparison table, progressive fine-tuning, and what the intervals prune.

Jung, Son, Lee, Son, Han, Kwak, Hwang, Choi. Learning to Quantize Deep Networks by
Optimizing Quantization Intervals with Task Loss. CVPR 2019, arXiv:1808.05779, with its
supplementary material.

    paper                                  code                where
    transformer and discretizer            qil_weight, ...     quantizers/qil.py
    progressive fine-tuning, 5/5 to 2/2    PROGRESSIVE_BITS    progressive
    supplement, tables 1 and 2             Printed             printed_accuracy
    supplement, figure 1                   Pruned              pruning_ratios

Figure 1 says that the fully connected layers 6 and 7 of AlexNet are pruned more than
its convolutions, and the bars of the figure are not printed as numbers.
``pruning_ratios`` asks the same of any network.

The rows of the tables are not the same experiment: full-precision baselines, first and
last layers, granularity and the number of levels at "2 bits" (three for QIL, TSQ and
SYQ, four for the others, six for ABC-Net at five bases) differ; see ``levels``.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from refqnn._types import Array, Int
from refqnn.core import Run, named_modules
from refqnn.nn import Conv2d, Linear, Stage, fit_stages
from refqnn.papers.printed_tables import read_table
from refqnn.quantizers import QILWeight
from refqnn.quantizers.qil import FLOOR

#: A/W bits of the stages, each started from the weights and intervals of the last
PROGRESSIVE_BITS = (5, 4, 3, 2)
TERNARY = ("tsq", "syq", "twn", "ttq")


class Printed(NamedTuple):
    """A cell of tables 1 and 2 of the supplement: per cent on ImageNet."""

    method: str  # a name of refqnn.networks.METHODS, or "full precision"
    network: str
    bits: int  # of weights and activations
    top1: float
    top5: float


def printed_accuracy() -> list[Printed]:
    """Return every cell of tables 1 and 2 that holds numbers, baselines first.

    >>> printed_accuracy()[0]
    Printed(method='full precision', network='ResNet-18', bits=32, top1=70.2, top5=89.6)
    """
    return [
        Printed(
            row["method"],
            row["network"],
            int(row["bits"]),
            float(row["top1"]),
            float(row["top5"]),
        )
        for row in read_table("qil_imagenet.csv")
    ]


def printed_drop(method: str, network: str, bits: int) -> tuple[float, float] | None:
    """Return the points lost against full precision, top-1 and top-5; None if blank.

    >>> [round(drop, 1) for drop in printed_drop("qil", "ResNet-18", 2)]
    [4.5, 2.8]
    >>> printed_drop("tsq", "ResNet-18", 2)
    """
    cells = {(row.method, row.network, row.bits): row for row in printed_accuracy()}
    full, cell = (
        cells.get(key)
        for key in (("full precision", network, 32), (method, network, bits))
    )
    if full is None or cell is None:
        return None
    return full.top1 - cell.top1, full.top5 - cell.top5


def weight_levels(method: str, bits: int) -> int:
    """Return how many values a weight of a group can take at a bit label.

    >>> [weight_levels(method, 2) for method in ("qil", "pact", "tsq", "abc")]
    [3, 4, 3, 3]
    """
    if method in {"qil", "pareto", "haq"}:
        return 2 if bits == 1 else int(2**bits - 1)
    if method in TERNARY:
        return 3
    return bits + 1 if method == "abc" else int(2**bits)


def progressive(
    build: Callable[[int, np.random.Generator], Any],
    begin: Any,
    train: tuple[Array, Int],
    *,
    bits: Sequence[int] = PROGRESSIVE_BITS,
    **settings: Any,
) -> list[Stage]:
    """Fine-tune at 5, 4, 3, 2 bits, each stage from the weights and intervals before.

    ``build(bits, rng)`` is the network of a stage; ``begin`` and ``settings`` are those
    of ``nn.fit_stages`` (``source=`` the full-precision network, ``epochs=``,
    ``folder=``). Raises ValueError for bits that do not fall.
    """
    if any(later >= earlier for earlier, later in pairwise(bits)):
        raise ValueError(f"bits must fall from stage to stage, got {tuple(bits)}")
    stages = [(f"{b}bit", lambda rng, b=b: build(b, rng)) for b in bits]
    return fit_stages(stages, begin, train, **settings)


class Pruned(NamedTuple):
    """Shares of exact zeros among the weights and the inputs of one layer."""

    name: str
    kind: str  # "conv" or "linear"
    weights: int  # how many
    weight_ratio: float  # the share of them that is 0
    activations: int  # read for one image
    activation_ratio: float
    held: bool = False  # whether QIL's interval is at its floor: it prunes nothing more


def pruning_ratios(network: Any, images: Array, *, backend: Any = None) -> list[Pruned]:
    """Return the share of zeros among the weights and the inputs of every layer.

    images: (N, C, H, W)  ->  one entry a convolution or fully connected layer

    Layers whose weights are in floating point are left out. The share of activations is
    that over all the images.
    """
    seen: dict[int, Array] = {}
    options = {} if backend is None else {"backend": backend}
    run = Run(observe=lambda module, x, _: seen.__setitem__(id(module), x), **options)
    network.forward(images, run)
    return [
        Pruned(
            name=name,
            kind="conv" if isinstance(layer, Conv2d) else "linear",
            weights=layer.w.value.size,
            weight_ratio=zeros(layer.weight_quant.forward(layer.w.value, Run())[0]),
            activations=seen[id(layer)][0].size,
            activation_ratio=zeros(seen[id(layer)]),
            held=is_held(layer),
        )
        for name, layer in quantized_layers(network)
    ]


def is_held(layer: Conv2d | Linear) -> bool:
    """Say whether the centre of QIL weights is below twice its floor, FLOOR of max|w|.

    max|w| moves with every step and c follows: at the floor to the digit it seldom is.
    """
    quant, w = layer.weight_quant, layer.w.value
    floor = FLOOR * float(np.abs(w).max())
    return isinstance(quant, QILWeight) and float(quant.c.value) < 2 * floor


def quantized_layers(network: Any) -> Iterator[tuple[str, Conv2d | Linear]]:
    """Yield ``(dotted name, layer)`` for every layer with quantized weights."""
    for name, module in named_modules(network):
        if isinstance(module, Conv2d | Linear) and module.weight_quant is not None:
            yield name.removeprefix("layers."), module


def zeros(v: Array) -> float:
    """Return the share of exact zeros.

    >>> zeros(np.array([0.0, 2.0, -0.0, 1.0]))
    0.5
    """
    return float(np.count_nonzero(v == 0) / v.size)
