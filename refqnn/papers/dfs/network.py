"""The ResNet whose blocks are skipped, quantized or kept, sample by sample.

DFS, arXiv:2001.00705, section 3.

    paper                                   code              where
    F_i, equation 1                         x                 mixture.py, from ``take``
    G_i = softmax(z_i), (p)                 p                 RoutedResNet.walk

(p) is the last line of gate.py, whose letters these are.

Block 1 always runs, at 32 bits unless ``first_bits`` says otherwise. Every candidate
sees the whole batch in training, also the samples that do not take it: batch norms and
ranges are shared, and move once for every candidate, unless ``split_statistics`` has
given every option batch-norm statistics of its own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, final

import numpy as np

from refqnn._types import Array, Float, Int
from refqnn.core import Param, Run
from refqnn.deploy.steps import Step
from refqnn.geometry import Pair
from refqnn.networks.parts import check_sizes, scale_channels
from refqnn.networks.resnets import blocks_of
from refqnn.nn import (
    BatchNorm2d,
    Conv2d,
    GlobalAvgPool2d,
    ImageInput,
    Linear,
    ReLU,
    batch_norm2d,
    he_normal,
    uniform_fan_in,
)
from refqnn.papers.dfs.block import BlockOptions, FractionalBlock, fractional_block
from refqnn.papers.dfs.cost import KEEP, OPTIONS, check_options, costs, one_hot
from refqnn.papers.dfs.deployment import steps_of
from refqnn.papers.dfs.gate import recurrent_gate
from refqnn.papers.dfs.mixture import (
    BlockPass,
    GateMode,
    gate_gradient,
    gate_mask,
    mixture,
    mixture_backward,
)

#: (gated block from 0, p: (B, n)) -> decisions: (B,) or one for all samples
Choose = Callable[[int, Float], Int]
#: (block from 0, x, p, cache of its gate) -> x behind the block, what to keep of it;
#: p is None for block 0, which has no gate
Take = Callable[[int, Float, Float | None, Any], tuple[Float, Any]]


class Pass(NamedTuple):
    """The caches of one forward pass, from which masks and probabilities are read."""

    front: list[Any]
    first: Any
    blocks: list[Any]  # what ``take`` kept of every gated block
    head: list[Any]

    @property
    def m(self) -> Float:
        """The masks of the gated blocks: (B, L, n)."""
        return np.stack([block.m for block in self.blocks], axis=1)

    @property
    def p(self) -> Float:
        """The probabilities of the gated blocks: (B, L, n)."""
        return np.stack([block.p for block in self.blocks], axis=1)


@final
@dataclass(eq=False)
class RoutedResNet:
    """A ResNet of 6n + 2 layers with a gate before every block but the first."""

    image: ImageInput
    stem: Conv2d
    stem_norm: BatchNorm2d
    blocks: list[FractionalBlock]
    gates: Any
    classifier: Linear
    options: tuple[int, ...]
    gate_mode: GateMode = "straight_through"
    #: bits of block 1, which has no gate
    first_bits: int = KEEP
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def gated(self) -> int:
        """The number of gated blocks, L = 3n - 1."""
        return len(self.blocks) - 1

    def forward(
        self, x: Array, run: Run, *, choose: Choose | None = None
    ) -> tuple[Float, Pass]:
        """x: (B, C, H, W)  ->  logits: (B, K)

        ``choose`` replaces the gates' decisions; the gates still run.
        """

        def take(i: int, x: Float, p: Float | None, gate: Any) -> tuple[Float, Any]:
            if p is None:
                return self.blocks[i].forward(x, run, self.first_bits)
            m = self.mask(i - 1, p, run, choose)
            every = run.training and choose is None
            needed = np.logical_or(m.any(0), every)
            y, candidates, caches = mixture(
                self.blocks[i], x, m, self.options, needed, run
            )
            return y, BlockPass(candidates, caches, m, p, gate, choose is not None)

        return self.walk(x, run, take)

    def walk(self, x: Array, run: Run, take: Take) -> tuple[Float, Pass]:
        """Run the front, every block by ``take`` once its gate is read, and the head.

        x: (B, C, H, W)  ->  logits: (B, K)
        """
        x, front = self.front(x, run)
        x, first = take(0, x, None, None)
        state, passes = self.gates.start(len(x)), []
        for i in range(self.gated):
            z, state, gate = self.gates.forward(i, x, state, run)
            p, _ = run.backend.ops.softmax(z)  # (p)
            x, block = take(i + 1, x, p, gate)
            passes.append(block)
        logits, head = self.head(x, run)
        return logits, Pass(front, first, passes, head)

    def mask(self, i: int, p: Float, run: Run, choose: Choose | None) -> Float:
        """p: (B, n)  ->  m: (B, n); in evaluation one-hot in every mode, as printed"""
        if choose is not None:
            decisions = np.broadcast_to(choose(i, p), len(p))
            return one_hot(decisions, p.shape[1]).astype(p.dtype)
        mode = self.gate_mode if run.training else "straight_through"
        m: Float = run.straight_through(gate_mask, p, gate_mode=mode)[0]
        return m

    def backward(
        self,
        dlogits: Float,
        cache: Pass,
        *,
        price: float = 0.0,
        dz: Float | None = None,
    ) -> Float:
        """Undo the pass.

        dlogits: (B, K), price: alpha sigma, dz: (B, L, n) to add to the logits of the
        gates  ->  dx: (B, C, H, W)
        """
        g = self.head_backward(dlogits, cache.head)
        dstate = self.gates.start(len(g))
        for i in reversed(range(self.gated)):
            block = cache.blocks[i]
            d = gate_gradient(g, block, price * costs(self.options))
            d = d if dz is None else d + dz[:, i]
            g = mixture_backward(self.blocks[i + 1], g, block, self.options)
            dx, dstate = self.gates.backward(i, d, dstate, block.gate)
            g = g + dx
        g = self.blocks[0].backward(g, cache.first)
        return self.front_backward(g, cache.front)

    def split_statistics(self) -> None:
        """Give every option of every gated block running statistics of its own.

        They begin as those of the backbone, which is trained before.
        """
        for block in self.blocks[1:]:
            block.split_statistics(self.options)

    def integer_steps(self, image_size: Pair) -> tuple[Step, ...]:
        """Return the steps of the deployed network, for images of (H, W)."""
        return steps_of(self, image_size)

    def front(self, x: Array, run: Run) -> tuple[Float, list[Any]]:
        """Run image input, stem, batch norm and ReLU, at 32 bits."""
        x, c1 = self.image.forward(x, run)
        x, c2 = self.stem.forward(x, run)
        x, c3 = self.stem_norm.forward(x, run)
        x, c4 = ReLU().forward(x, run)
        return x, [c1, c2, c3, c4]

    def front_backward(self, g: Float, caches: list[Any]) -> Float:
        """Undo ``front``."""
        c1, c2, c3, c4 = caches
        g = self.stem_norm.backward(ReLU().backward(g, c4), c3)
        return self.image.backward(self.stem.backward(g, c2), c1)

    def head(self, x: Float, run: Run) -> tuple[Float, list[Any]]:
        """Run global pooling and the classifier, at 32 bits."""
        x, c1 = GlobalAvgPool2d().forward(x, run)
        logits, c2 = self.classifier.forward(x, run)
        return logits, [c1, c2]

    def head_backward(self, dlogits: Float, caches: list[Any]) -> Float:
        """Undo ``head``."""
        g = self.classifier.backward(dlogits, caches[1])
        return GlobalAvgPool2d().backward(g, caches[0])


def always(decision: int) -> Choose:
    """Choose one option for every block and sample.

    >>> int(always(2)(0, np.ones((5, 4)) / 4))
    2
    """
    return lambda _i, _p: np.asarray(decision)


def routed_resnet(
    depth: int,
    *,
    options: Sequence[int] = OPTIONS,
    gates: Callable[..., Any] = recurrent_gate,
    gate_mode: GateMode = "straight_through",
    first_bits: int = KEEP,
    classes: int = 10,
    in_channels: int = 1,
    width: float = 1.0,
    true_zero: bool = True,
    stochastic: bool = False,
    image_scale: float = 1 / 64,
    image_zero_point: int = 128,
    dtype: str = "float32",
    rng: np.random.Generator,
) -> RoutedResNet:
    """Make a gated ResNet of ``depth`` = 6n + 2 layers (38 and 74 in the paper).

    Widths 16, 32, 64 times ``width``; shortcuts of option B. ``gates(channels, n,
    dtype=..., rng=...)`` makes the gates. ``true_zero=False, stochastic=True`` is the
    released quantizer.

    Weights start as those of ``refqnn.networks.resnet`` (by fan-in; the release takes
    fan-out, and a normal classifier).

    x: (B, in_channels, H, W)  ->  logits: (B, classes)

    >>> network = routed_resnet(38, width=0.125, rng=np.random.default_rng(0))
    >>> len(network.blocks), network.gated, network.options
    (18, 17, (0, 8, 16, 32))
    """
    check_sizes(width, classes, in_channels)
    n = blocks_of(depth)
    if gate_mode not in {"straight_through", "soft"}:
        raise ValueError(f"gate_mode must be straight_through or soft: {gate_mode!r}")
    options = check_options(options)
    made = BlockOptions(rng, np.dtype(dtype), true_zero, stochastic)
    widths = [scale_channels(c, width) for c in (16, 32, 64)]
    sizes = [c for c in widths for _ in range(n)]
    strides = [1] * n + ([2] + [1] * (n - 1)) * 2
    inputs = [widths[0], *sizes[:-1]]
    w_stem = he_normal((widths[0], in_channels, 3, 3), rng=rng, dtype=dtype)
    return RoutedResNet(
        image=ImageInput(image_scale, image_zero_point),
        stem=Conv2d(Param(w_stem), padding=1),
        stem_norm=batch_norm2d(widths[0], dtype=made.dtype),
        blocks=[
            fractional_block(*one, made)
            for one in zip(inputs, sizes, strides, strict=True)
        ],
        gates=gates(sizes[:-1], len(options), dtype=made.dtype, rng=rng),
        classifier=Linear(
            Param(uniform_fan_in((classes, widths[-1]), rng=rng, dtype=dtype)),
            Param(np.zeros(classes, dtype), group="affine"),
        ),
        options=options,
        gate_mode=gate_mode,
        first_bits=first_bits,
    )
