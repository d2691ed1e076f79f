"""Diagrams of blocks, drawn like the figures: boxes, arrows, the names of the code."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from refqnn import deploy, networks
from refqnn.core import Run
from refqnn.deploy.steps import ResidualStep
from refqnn.plots.style import BLUE, GREY, INK, VERMILLION

Point = tuple[float, float]


def canvas(width: float, height: float, *, inches: float = 8.4) -> tuple[Figure, Axes]:
    """Open a drawing whose unit is the height of a line."""
    figure = Figure((inches, inches * height / width))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_axis_off()
    return figure, axes


def box(
    axes: Axes, at: Point, text: str, *, size: Point = (6, 2), edge: str = GREY
) -> Point:
    """Draw a box around a text; ``at`` is its middle."""
    (x, y), (w, h) = at, size
    axes.add_patch(
        FancyBboxPatch(
            (x - w / 2, y - h / 2),
            w,
            h,
            boxstyle="round,pad=0,rounding_size=0.4",
            facecolor="none",
            edgecolor=edge,
        )
    )
    axes.text(x, y, text, ha="center", va="center", color=INK, fontsize=9.5)
    return at


def arrow(axes: Axes, points: Sequence[Point], *, colour: str = GREY) -> None:
    """Draw a line through points, an arrow at its last."""
    *before, last = points
    if len(before) > 1:
        axes.plot(*np.transpose(before), color=colour, linewidth=1)
    axes.add_patch(
        FancyArrowPatch(
            before[-1], last, arrowstyle="-|>", mutation_scale=9, color=colour, lw=1
        )
    )


def note(
    axes: Axes, at: Point, text: str, *, colour: str = GREY, ha: str = "center"
) -> None:
    """Write a small text."""
    axes.text(*at, text, ha=ha, va="center", color=colour, fontsize=8.5)


def residual_block() -> Figure:
    """The basic residual block: two convolutions, a shortcut, a quantizer a ReLU"""
    figure, axes = canvas(51, 13)
    names = ("conv1", "norm1", "relu1", "quant1", "conv2", "norm2")
    xs = [6 + 5.2 * i for i in range(len(names))]
    for x, name in zip(xs, names, strict=True):
        edge = VERMILLION if "quant" in name else BLUE if "conv" in name else GREY
        box(axes, (x, 7), name, size=(4.2, 2.4), edge=edge)
    for left, right in pairwise(xs):
        arrow(axes, [(left + 2.1, 7), (right - 2.1, 7)])
    add = xs[-1] + 3.9
    axes.text(add, 7, "+", fontsize=15, ha="center", va="center", color=INK)
    arrow(axes, [(xs[-1] + 2.1, 7), (add - 0.7, 7)])
    for x, name in ((add + 3.6, "relu2"), (add + 8.4, "quant2")):
        edge = VERMILLION if "quant" in name else GREY
        box(axes, (x, 7), name, size=(4.0, 2.4), edge=edge)
    arrow(axes, [(add + 0.7, 7), (add + 1.6, 7)])
    arrow(axes, [(add + 5.6, 7), (add + 6.4, 7)])
    arrow(axes, [(0.4, 7), (xs[0] - 2.1, 7)])
    arrow(axes, [(2, 7), (2, 2), (add, 2), (add, 6.1)])
    note(
        axes,
        ((2 + add) / 2, 1.2),
        "shortcut: x, or every second pixel and new zero channels",
    )
    note(axes, (0.6, 8.2), "codes", ha="left")
    note(axes, (add + 8.4, 9.3), "codes for both\nbranches of the next")
    return figure


def fold_to_requantize() -> Figure:
    """From convolution, batch norm and quantizer to codes, bias, multiplier, shift"""
    figure, axes = canvas(44, 19)
    note(axes, (1, 1.2), "trained, floating point", ha="left", colour=INK)
    top = [(6, 4), (17, 4), (28, 4), (39, 4)]
    texts = (
        "x = s_x (q − z_x)",
        "conv: w = s_w c",
        "norm: g, β, mean",
        "ReLU and clip\nat step s_y",
    )
    for at, text in zip(top, texts, strict=True):
        box(axes, at, text, size=(9, 2.8))
    note(axes, (1, 8.4), "folded once", ha="left", colour=INK)
    box(axes, (17, 10.4), "A = |s_x s_w g|, sign into c", size=(12, 2.2), edge=BLUE)
    box(axes, (31.5, 10.4), "h = β − g mean,  M = A / s_y", size=(13, 2.2), edge=BLUE)
    for (x, y), to in zip(
        top, ((13, 9.3), (17, 9.3), (28, 9.3), (36, 9.3)), strict=True
    ):
        arrow(axes, [(x, y + 1.4), to], colour=BLUE)
    note(axes, (1, 13.6), "deployed, integers", ha="left", colour=INK)
    bottom = [(6, 16), (17, 16), (28, 16), (39, 16)]
    texts = (
        "q: uint8",
        "acc = Σ c (q − z_x)\nint32",
        "acc + B",
        "z_y + round(acc\nm 2^(shift − 31))",
    )
    for at, text in zip(bottom, texts, strict=True):
        box(axes, at, text, size=(9, 2.8), edge=VERMILLION)
    for left, right in pairwise(bottom):
        arrow(axes, [(left[0] + 4.5, 16), (right[0] - 4.5, 16)])
    for left, right in pairwise(top):
        arrow(axes, [(left[0] + 4.5, 4), (right[0] - 4.5, 4)])
    for at in ((15, 11.5), (29, 11.5), (36, 11.5)):
        arrow(axes, [at, (at[0] + 1, 14.5)], colour=BLUE)
    return figure


def dfs_block() -> Figure:
    """DFS: the gate after a block chooses what the next one executes"""
    figure, axes = canvas(44, 17)
    box(axes, (5, 12), "block i", size=(7, 3), edge=BLUE)
    for y, text in ((8.6, "skip"), (11, "8 bits"), (13.4, "16 bits"), (15.8, "keep")):
        box(axes, (35, y), text, size=(6, 1.8), edge=VERMILLION)
        arrow(axes, [(22, 12), (31.8, y)])
        arrow(axes, [(38, y), (41, 12)])
    note(axes, (43.8, 10.8), "x", ha="right")
    arrow(axes, [(8.5, 12), (22, 12)])
    note(axes, (15, 13), "x")
    note(axes, (35, 7), "block i + 1, one set of weights")
    parts = ("pool", "embed (e)", "LSTM (h)", "project (z)", "softmax (p)")
    xs = [5, 12.5, 20, 27.5, 35]
    for x, text in zip(xs, parts, strict=True):
        box(axes, (x, 3), text, size=(6, 2.2))
    for left, right in pairwise(xs):
        arrow(axes, [(left + 3, 3), (right - 3, 3)])
    arrow(axes, [(12, 12), (12, 6.4), (5, 6.4), (5, 4.2)])
    arrow(axes, [(38, 3), (42, 3), (42, 6), (35, 6), (35, 6.3)], colour=VERMILLION)
    note(axes, (20, 0.9), "state of the last gate")
    arrow(axes, [(20, 1.3), (20, 1.9)])
    return figure


def small_integers() -> deploy.IntegerNetwork:
    """Deploy an untrained ResNet-8 whose ranges one batch has set."""
    rng = np.random.default_rng(0)
    bits = {"weight_bits": 4, "activation_bits": 4}
    network = networks.resnet(8, width=0.25, rng=rng, **bits)
    images = rng.integers(0, 256, (4, 1, 28, 28), dtype=np.uint8)
    network.forward(images, Run(training=True))
    return deploy.deploy(network)


def integer_graph() -> Figure:
    """Every step of an integer ResNet-8: shapes and codes, from pixels to logits"""
    steps = small_integers().steps
    row = 2.6
    figure, axes = canvas(40, row * len(steps) + 1)
    at = {}
    for i, step in enumerate(steps):
        y = row * (i + 0.7)
        at[step.name] = y
        name = step.name.removeprefix("layers.")
        residual = isinstance(step, ResidualStep)
        box(axes, (12, y), name, size=(14, 1.7), edge=VERMILLION if residual else BLUE)
        shape = " × ".join(map(str, step.shape))
        grid = step.grid
        note(axes, (20, y), f"{shape}    codes {grid.q_min} .. {grid.q_max}", ha="left")
        source = getattr(step, "source", None)
        if source is not None:
            arrow(axes, [(12, at[source] + 0.85), (12, y - 0.85)])
        if residual:
            skip = at[step.skip_source]
            arrow(axes, [(5, skip), (2, skip), (2, y), (5, y)], colour=VERMILLION)
    return figure
