"""Figures of trained networks: courses of training, codes of weights, decisions."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from refqnn._types import Array, Float, Int
from refqnn.plots.style import (
    BLUE,
    GREY,
    INK,
    LIGHT,
    PALE,
    SERIES,
    VERMILLION,
    spread,
    styled,
)


class Decisions(NamedTuple):
    """Two networks' logits for the same images."""

    float_logits: Float  # (N, K)
    integer_logits: Array  # (N, K)
    labels: Int  # (N,)


class LayerCodes(NamedTuple):
    """The integer weights of one layer, and the largest code of its grid."""

    name: str
    codes: Int
    largest: int


@styled
def demo(
    records: Mapping[str, Sequence[Mapping[str, float]]],
    layers: Sequence[LayerCodes],
    decisions: Decisions,
    images: Array,
    *,
    classes: Sequence[str],
    title: str,
    summary: str,
) -> Figure:
    """Draw a network's way from training to integers on one page.

    images: (N, 1, H, W), those of ``decisions``
    """
    figure = Figure((12, 9), dpi=110)
    figure.text(0.065, 0.965, title, fontsize=16, weight="bold", va="top")
    figure.text(0.065, 0.925, summary, fontsize=10.5, color=GREY, va="top")
    grid = figure.add_gridspec(
        2, 2, left=0.065, right=0.975, bottom=0.06, top=0.845, wspace=0.38, hspace=0.36
    )
    draw_training(figure.add_subplot(grid[0, 0]), records)
    draw_codes(figure.add_subplot(grid[0, 1]), layers)
    draw_margins(figure.add_subplot(grid[1, 0]), decisions)
    draw_disagreements(figure, grid[1, 1], decisions, images, classes)
    return figure


def draw_training(
    axes: Axes, records: Mapping[str, Sequence[Mapping[str, float]]]
) -> None:
    """Test accuracy as a line with its last value, training accuracy thin behind it."""
    axes.set_title("Training")
    ends = []
    for (name, epochs), colour in zip(records.items(), SERIES, strict=False):
        x = [record["epoch"] for record in epochs]
        test = [record["test_accuracy"] for record in epochs]
        train = [record["train_accuracy"] for record in epochs]
        axes.plot(x, train, color=colour, linewidth=0.9, alpha=0.5)
        axes.plot(x, test, color=colour, linewidth=2.2, marker="o", markersize=4)
        ends.append((x[-1], test[-1], name, colour))
    for x_end, y_end, name, colour in spread(ends, axes.get_ylim()):
        axes.annotate(
            name,
            (x_end, y_end),
            (9, 0),
            textcoords="offset points",
            color=colour,
            weight="bold",
            va="center",
            annotation_clip=False,
        )
    last = max(end[0] for end in ends)
    axes.set_xlim(min(1, last - 0.5), last + 0.18 * max(last - 1, 1))
    axes.set_xticks([t for t in axes.get_xticks() if 1 <= t <= last and t == int(t)])
    axes.spines.bottom.set_bounds(1, last)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.grid(axis="y", color=PALE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel("epoch")
    axes.set_ylabel("accuracy: test (thick), training (thin)")


def draw_codes(axes: Axes, layers: Sequence[LayerCodes]) -> None:
    """Draw one row of bars a layer, a bar for each code, the first layer on top."""
    axes.set_title("Weights: how often each layer uses each code")
    for row, layer in enumerate(reversed(layers)):
        codes = np.arange(-layer.largest, layer.largest + 1)
        from_zero = layer.codes.ravel().astype(np.int64) + layer.largest
        counts = np.bincount(from_zero, minlength=codes.size)
        heights = 0.86 * counts / counts.max()
        if layer.largest > 15:
            edges = (np.arange(codes.size + 1) - codes.size / 2) / layer.largest
            axes.stairs(row + heights, edges, baseline=row, fill=True, color=GREY)
        else:
            width = 0.86 / layer.largest
            axes.bar(codes / layer.largest, heights, width, bottom=row, color=BLUE)
        axes.axhline(row, color=PALE, linewidth=0.6, zorder=0)
    axes.set_yticks(
        np.arange(len(layers)) + 0.3, [layer.name for layer in reversed(layers)]
    )
    axes.tick_params(axis="y", length=0)
    axes.spines.left.set_visible(False)
    axes.set_xlim(-1.12, 1.12)
    axes.set_ylim(0, len(layers))
    axes.set_xticks([-1, -0.5, 0, 0.5, 1])
    axes.set_xlabel("code / largest code of the layer (grey: 8 bits)")


def margins(logits: Array, choice: Int) -> Float:
    """Return how far the logit of ``choice`` is above the best other one.

    logits: (N, K), choice: (N,)  ->  (N,), negative where another class is chosen

    >>> margins(np.array([[3.0, 1.0], [3.0, 1.0]]), np.array([0, 1]))
    array([ 2., -2.])
    """
    rows = np.arange(len(logits))
    others = logits.astype(np.float64)
    chosen = others[rows, choice]
    others[rows, choice] = -np.inf
    return chosen - others.max(axis=1)


def draw_margins(axes: Axes, decisions: Decisions) -> None:
    """A point for each image; below zero the integer network decides otherwise."""
    axes.set_title("Decisions: where float and integer part")
    choice = decisions.float_logits.argmax(axis=1)
    x = margins(decisions.float_logits, choice)
    y = margins(decisions.integer_logits, choice)
    other = decisions.integer_logits.argmax(axis=1)
    part = other != choice
    right = (choice == decisions.labels) | (other == decisions.labels)
    axes.axhspan(min(y.min(), 0) * 1.1 - 0.5, 0, color="#F4F4F4", zorder=0)
    axes.axhline(0, color=GREY, linewidth=0.8)
    kinds = (
        (~part, LIGHT, "same class"),
        (part & (choice == decisions.labels), BLUE, "float right"),
        (part & (other == decisions.labels), VERMILLION, "integer right"),
        (part & ~right, INK, "both wrong"),
    )
    for which, colour, name in kinds:
        size = 9 if colour == LIGHT else 24
        label = f"{name} ({which.sum()})"
        axes.scatter(x[which], y[which], size, colour, linewidth=0, label=label)
    axes.legend(loc="upper left", frameon=True, edgecolor="none", handletextpad=0.1)
    axes.set_ylim(min(y.min(), 0) * 1.1 - 0.5, None)
    axes.set_xlim(0, None)
    axes.set_xlabel("float network: margin of its choice (logits)")
    axes.set_ylabel("integer network: margin of the same class")


def draw_disagreements(
    figure: Figure,
    place: Any,
    decisions: Decisions,
    images: Array,
    classes: Sequence[str],
) -> None:
    """Show the images on which the decisions part most clearly."""
    rows, columns = 2, 4
    frame = figure.add_subplot(place)
    frame.set_title("The clearest disagreements (bold: right)")
    frame.set_axis_off()
    grid = place.subgridspec(rows, columns, hspace=0.5, wspace=0.12)
    for cell, i in enumerate(clearest_disagreements(decisions, rows * columns)):
        axes = figure.add_subplot(grid[cell // columns, cell % columns])
        axes.imshow(images[i, 0], cmap="gray_r", vmin=0, vmax=255)
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_visible(False)
        truth = decisions.labels[i]
        lines = (
            ("float", decisions.float_logits[i].argmax(), BLUE),
            ("integer", decisions.integer_logits[i].argmax(), VERMILLION),
        )
        for line, (who, k, colour) in enumerate(lines):
            axes.text(
                0.5,
                -0.04 - 0.13 * line,
                f"{who}: {classes[k]}",
                transform=axes.transAxes,
                ha="center",
                va="top",
                fontsize=8,
                color=colour,
                weight="bold" if k == truth else "normal",
            )


def clearest_disagreements(decisions: Decisions, count: int) -> Int:
    """Return the images the networks disagree on, the clearest disagreement first.

    How clearly: the smaller of both networks' margins for its own choice.

    ->  (at most count,)
    """
    ours = decisions.float_logits.argmax(axis=1)
    theirs = decisions.integer_logits.argmax(axis=1)
    scale = np.std(decisions.float_logits) / (np.std(decisions.integer_logits) or 1)
    clear = np.minimum(
        margins(decisions.float_logits, ours),
        scale * margins(decisions.integer_logits, theirs),
    )
    disagreeing = np.flatnonzero(ours != theirs)
    return disagreeing[np.argsort(-clear[disagreeing], kind="stable")][:count]
