"""Inference that executes only what was chosen.

DFS, arXiv:2001.00705, section 3: an input pays for the options its gates choose. The
samples of a batch are grouped by decision before every block, each group runs its
option, and the results go back in order. Nothing is multiplied by zero.

A block of b bits runs on integers: inputs and weights become codes, the convolution
sums products of codes exactly (int32 up to 8 bits, int64 above), and only the sum is
scaled. Batch norm, ReLU and the addition stay in floating point, so in a group or in
the whole batch a sample gets the same bits. Blocks that are kept run in floating point
as in training.

``Ledger`` counts the multiply-adds of every convolution that ran, from the shapes of
what it was given, not from the decisions: that both agree is a test.
"""

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, final

import numpy as np

import refqnn
from refqnn._types import Array, Float, Int
from refqnn.core import Run
from refqnn.nn import in_batches
from refqnn.papers.dfs.block import Executed, FractionalBlock, FractionalConv
from refqnn.papers.dfs.cost import KEEP, SKIP, check_decisions
from refqnn.papers.dfs.deployment import IntegerConv
from refqnn.papers.dfs.network import Choose, RoutedResNet


class Executions(NamedTuple):
    """Logits (N, K), decisions (N, L) and what was executed for them."""

    logits: Float
    decisions: Int
    ledger: "Ledger"


@final
@dataclass(eq=False)
class Ledger:
    """Multiply-adds that were executed, by convolution and bits: an observer."""

    macs: dict[tuple[int, int], int] = field(default_factory=dict)

    def observe(self, module: Any, _x: Array, y: Array) -> None:
        """Add what a convolution has just computed."""
        if isinstance(module, Executed):
            done = y.size * module.conv.w.value[0].size
            key = (id(module.conv), module.bits)
            self.macs[key] = self.macs.get(key, 0) + done

    def of(self, convolutions: list[FractionalConv]) -> dict[int, int]:
        """Sum the multiply-adds of some convolutions: {bits: sum}."""
        ids = {id(conv) for conv in convolutions}
        sums: dict[int, int] = {}
        for (conv, bits), macs in self.macs.items():
            if conv in ids:
                sums[bits] = sums.get(bits, 0) + macs
        return sums

    def cp(self, network: RoutedResNet, block_macs: Int, images: int) -> float:
        """cp = sum macs (b / 32)^2 / (N sum of the gated blocks' macs), as executed."""
        convs = [c for block in network.blocks[1:] for c in block.convolutions()]
        spent = sum(m * (b / KEEP) ** 2 for b, m in self.of(convs).items())
        return spent / (images * int(block_macs.sum()))


def execute(
    network: RoutedResNet,
    images: Array,
    *,
    choose: Choose | None = None,
    integers: bool = True,
    batch: int = 250,
    backend: Any = refqnn,
) -> Executions:
    """Run every sample through its own options only.

    images: (N, C, H, W)  ->  logits: (N, K), decisions: (N, L), counted multiply-adds

    ``integers=False`` runs the same groups in floating point. Raises ValueError for
    integers without a true zero: the padding of such a grid is no code.
    """
    ledger = Ledger()
    quiet = Run(backend=backend)
    counted = replace(quiet, observe=ledger.observe)

    def take(i: int, x: Float, p: Float | None, _gate: Any) -> tuple[Float, Any]:
        block = network.blocks[i]
        if p is None:
            return block.forward(x, counted, network.first_bits)
        every = p.argmax(1)
        if choose is not None:
            decisions = choose(i - 1, p)
            check_decisions(decisions, len(network.options))
            every = np.broadcast_to(decisions, len(x))
        return run_groups(
            block, x, every, network.options, counted, integers=integers
        ), every

    def route(x: Array) -> tuple[Float, Int]:
        logits, cache = network.walk(x, quiet, take)
        return logits, np.stack(cache.blocks, axis=1)

    parts = in_batches(route, images, batch=batch)
    logits, decisions = map(np.concatenate, zip(*parts, strict=True))
    return Executions(logits, decisions, ledger)


def run_groups(
    block: FractionalBlock,
    x: Float,
    decisions: Int,
    options: tuple[int, ...],
    run: Run,
    *,
    integers: bool,
) -> Float:
    """Run every option of a block on the samples that chose it.

    x: (B, C, H, W), decisions: (B,)  ->  y: (B, O, Ho, Wo)
    """
    taken = np.unique(decisions).tolist()
    if len(taken) == 1:
        return one_option(block, x, options[taken[0]], run, integers=integers)
    order = [np.flatnonzero(decisions == k) for k in taken]
    y = np.concatenate(
        [
            one_option(block, x[members], options[k], run, integers=integers)
            for k, members in zip(taken, order, strict=True)
        ]
    )
    back = np.empty_like(y)
    back[np.concatenate(order)] = y
    return back


def one_option(
    block: FractionalBlock, x: Float, bits: int, run: Run, *, integers: bool
) -> Float:
    """x: (B, C, H, W)  ->  y: (B, O, Ho, Wo) of a block that takes one option"""
    if bits == SKIP:
        return block.skip(x, run)[0]
    if bits == KEEP or not integers:
        return block.forward(x, run, bits)[0]
    return on_integers(block).forward(x, run, bits)[0]


def on_integers(block: FractionalBlock) -> FractionalBlock:
    """Wire the block with convolutions that compute on codes; arrays are shared."""
    convs = {
        name: IntegerConv(getattr(block, name))
        for name in ("conv1", "conv2", "conv3")
        if getattr(block, name) is not None
    }
    return replace(block, **convs)  # type: ignore[arg-type]


def block_macs(network: RoutedResNet, image_shape: tuple[int, int, int]) -> Int:
    """Count the multiply-adds of the 3x3 convolutions of every gated block: (L,).

    image_shape: (C, H, W). The paper's cp weighs all blocks alike; these are the
    weights of the cp that counts multiply-adds.
    """
    ledger = Ledger()
    run = Run(observe=ledger.observe)
    x, _ = network.front(np.zeros((1, *image_shape), np.uint8), run)
    for block in network.blocks:
        x, _ = block.forward(x, run, KEEP)
    return np.array(
        [sum(ledger.of(block.convolutions()).values()) for block in network.blocks[1:]]
    )


def gate_share(network: RoutedResNet, image_shape: tuple[int, int, int]) -> float:
    """Divide the gates' multiply-adds by those of the blocks they rule.

    The paper prints 0.04 %.
    """
    if not hasattr(network.gates, "macs"):
        raise ValueError("gates must be recurrent: others depend on the size of maps")
    gates = sum(network.gates.macs(i) for i in range(network.gated))
    return gates / int(block_macs(network, image_shape).sum())
