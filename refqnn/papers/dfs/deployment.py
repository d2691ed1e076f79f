"""A trained DFS network as steps: what its gates decide, and what every option runs.

DFS, arXiv:2001.00705, section 3.

    paper                                  step                                 where
    C_i^(b_k), 8 or 16 bits                codes, a sum of integers, floats     (C)
    C_i, kept at 32 bits                   floats                               (K)
    skipped: the shortcut alone            none, or floats of a transition      (S)
    the gate's LSTM and its decision       floats, argmax                       (G)

The letters are of this file. ``refqnn.deploy.deploy`` calls it: a network of
``refqnn.deploy.gated`` equals ``execute`` bit for bit.
"""

from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np

from refqnn import integer
from refqnn._types import Array, Float
from refqnn.core import Run
from refqnn.deploy.fold import Grid
from refqnn.deploy.gated import CodedStep, FloatStep, GatedStep
from refqnn.deploy.steps import ImageStep, Step
from refqnn.geometry import Pair, pair
from refqnn.papers.dfs.block import (
    Executed,
    FractionalBlock,
    FractionalConv,
    option_norm,
)
from refqnn.papers.dfs.cost import KEEP, SKIP
from refqnn.papers.dfs.gate import RecurrentGate
from refqnn.quantizers.min_max_grid import min_max_integers


class Chain:
    """Steps, and what they compute of a blank image, from which their shapes come."""

    def __init__(self, name: str, blank: Array) -> None:
        self.steps: list[Any] = []
        self.values = {name: blank}

    def add(self, step: Any) -> str:
        """Append a step with its shape; return its name."""
        made = step.forward(self.values, integer)
        self.values |= made
        self.steps.append(replace(step, shape=made[step.name].shape[1:]))
        return str(step.name)

    def float(
        self, name: str, op: str, sources: Any, *arrays: Any, **options: Any
    ) -> str:
        """Append an operation on real numbers; ``sources`` is one name or several."""
        read = (sources,) if isinstance(sources, str) else tuple(sources)
        return self.add(FloatStep(name, read, op, arrays, options))


def steps_of(network: Any, image_size: Pair) -> tuple[Step, ...]:
    """Return the steps of a ``RoutedResNet`` for images of (H, W).

    Raises ValueError for gates without an LSTM, a dtype that is not float32, grids
    without a true zero, ranges that are unknown and rounding that is stochastic.
    """
    gates, stem, scale = network.gates, network.stem, network.image.scale
    if not isinstance(gates, RecurrentGate):
        kind = type(gates).__name__
        raise ValueError(f"gates of {kind} have no steps: they have no LSTM")  # noqa: TRY004 - bad values are ValueErrors in this house
    if stem.w.value.dtype != np.float32:
        raise ValueError(f"dtype must be float32, got {stem.w.value.dtype}")
    zero_point = network.image.zero_point
    size = pair(image_size, name="image_size", least=1)
    shape = (stem.w.value.shape[1], *size)
    image = ImageStep("image", shape, Grid(scale, zero_point, 0, 255))
    chain = Chain("image", np.zeros((1, *shape), np.uint8))
    x = chain.float("pixels", "pixels", "image", scale=scale, zero_point=zero_point)
    options = {"stride": stem.stride, "padding": stem.padding}
    x = chain.float("stem", "conv2d", x, stem.w.value, **options)
    x = batch_norm(chain, "stem_norm", x, network.stem_norm)
    x = chain.float("stem_relu", "relu", x)
    x = block(chain, "blocks.0", x, network.blocks[0], network.first_bits)
    state: tuple[str, ...] = ()
    for i, each in enumerate(network.blocks[1:], 1):
        decision, state = gate(chain, f"gates.{i}", x, gates, i - 1, state)
        branches = []
        for bits in network.options:
            name = f"blocks.{i}.{bits}"
            inner = Chain(name, chain.values[x])
            block(inner, name, name, each, bits)
            branches.append(tuple(inner.steps))
        routed = (x, decision), tuple(map(int, network.options)), tuple(branches)
        x = chain.add(GatedStep(f"blocks.{i}", *routed))
    x = chain.float("mean", "mean", x)
    last = network.classifier
    chain.float("classifier", "linear", x, last.w.value, last.b.value)
    return (image, *chain.steps)


def gate(
    chain: Chain, name: str, x: str, gates: RecurrentGate, i: int, state: Any
) -> tuple[str, tuple[str, str]]:
    """Append a gate; return the names of its decision and of its state."""
    embedding, projection = gates.embeddings[i], gates.projection
    e = chain.float(f"{name}.mean", "mean", x)
    arrays = [linear.value for linear in (embedding.w, embedding.b) if linear]
    e = chain.float(f"{name}.embedding", "linear", e, *arrays)
    shared = gates.w_x.value, gates.w_h.value, gates.b.value
    h = chain.float(f"{name}.state", "lstm", (e, *state), *shared)
    arrays = [linear.value for linear in (projection.w, projection.b) if linear]
    z = chain.float(f"{name}.logits", "linear", h, *arrays)
    implicit = gates.implicit_zero
    decision = chain.float(name, "decide", z, implicit_zero=implicit)  # (G)
    return decision, (h, f"{h}.cell")


def block(chain: Chain, name: str, x: str, of: FractionalBlock, bits: int) -> str:
    """Append a block at ``bits``, or what a skip leaves of it; return its result."""
    s = x
    if of.conv3 is not None:
        s = conv(chain, f"{name}.conv3", x, of.conv3, bits or KEEP)
        s = batch_norm(chain, f"{name}.norm3", s, option_norm(of.norm3, bits))
    if bits == SKIP:
        return s  # (S)
    h = conv(chain, f"{name}.conv1", x, of.conv1, bits)
    h = batch_norm(chain, f"{name}.norm1", h, option_norm(of.norm1, bits))
    h = chain.float(f"{name}.relu1", "relu", h)
    h = conv(chain, f"{name}.conv2", h, of.conv2, bits)
    h = batch_norm(chain, f"{name}.norm2", h, option_norm(of.norm2, bits))
    h = chain.float(f"{name}.sum", "add", (h, s))
    return chain.float(f"{name}.relu2", "relu", h)


def conv(chain: Chain, name: str, x: str, of: FractionalConv, bits: int) -> str:
    """Append a convolution of codes (C), or of 32 bits (K)."""
    if bits != KEEP:
        return chain.add(coded_step(name, x, of, bits))  # (C)
    options = {"stride": of.stride, "padding": of.padding}
    return chain.float(name, "conv2d", x, of.w.value, **options)  # (K)


def coded_step(name: str, source: str, of: FractionalConv, bits: int) -> CodedStep:
    """Return a convolution that computes on codes, without its shape.

    Raises ValueError where a grid has no true zero or its rounding is stochastic.
    """
    if not (of.of_x.true_zero and of.of_w.true_zero):
        raise ValueError("integers need true_zero=True: 0 must be a code")
    if of.of_x.stochastic:
        raise ValueError(f"{name}: rounding that is stochastic has no steps")
    low, high = map(float, of.of_x.range_of(np.zeros(1)))
    ends = of.of_w.range_of(of.w.value)
    grid = min_max_integers(of.w.value, *ends, bits=bits)
    return CodedStep(name, source, bits, low, high, *grid, of.stride, of.padding)


@final
@dataclass(eq=False)
class IntegerConv:
    """y = s_x s_w conv(q_x - z_x, q_w - z_w), the convolution exact, in evaluation."""

    conv: FractionalConv

    def forward(self, x: Float, run: Run, bits: int) -> tuple[Float, None]:
        """x: (N, C, H, W)  ->  y: (N, O, Ho, Wo), no cache"""
        step = coded_step("y", "x", self.conv, bits)
        y = step.forward({"x": x}, run.backend.integer)["y"]
        if run.observe is not None:
            run.observe(Executed(self.conv, bits), x, y)
        return y, None


def batch_norm(chain: Chain, name: str, x: str, norm: Any) -> str:
    """Append a batch norm by its running statistics."""
    arrays = norm.gamma.value, norm.beta.value, norm.mean.value, norm.var.value
    return chain.float(name, "batch_norm", x, *arrays, eps=norm.eps)
