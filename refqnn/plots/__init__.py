"""Every figure the project draws, from plain arrays; each function returns a Figure.

Figures are drawn without a window system and shown by nobody: ``save`` them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, PercentFormatter

from refqnn._types import Array, Float, Int
from refqnn.plots.pareto import ClipLine as ClipLine
from refqnn.plots.pareto import LayerVariances as LayerVariances
from refqnn.plots.pareto import SizeCurve as SizeCurve
from refqnn.plots.pareto import SizePanel as SizePanel
from refqnn.plots.pareto import clip_lines as clip_lines
from refqnn.plots.pareto import layer_variances as layer_variances
from refqnn.plots.pareto import size_curves as size_curves
from refqnn.plots.style import (
    BLUE,
    COURSES,
    DEPTHS,
    GREEN,
    GREY,
    INK,
    LIGHT,
    ORANGE,
    PALE,
    PURPLE,
    SERIES,
    SKY,
    STYLE,
    VERMILLION,
    titled,
)
from refqnn.plots.style import save as save

#: more boundaries would hide the steps, more bars are a silhouette; labels would touch
MOST_LINES, MOST_TICKS = 40, 6
GALLERY_KEY = (
    "grey: how often a value occurs (0 left out)    orange: decision boundaries, if no "
    "more than 40    dashed: y = v    dots: where the backward was asked    "
    "MSE: over all groups"
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


class Transfer(NamedTuple):
    """One quantizer on real values: a row of a page of the gallery."""

    #: of what, and how it is published
    kind: str
    source: str
    #: what the values are, and how many are 0
    note: str
    values: Float  # (N,)
    #: where the code changes, ascending; below boundary k lies level k
    boundaries: Float  # (L - 1,)
    levels: Float  # (L,)
    shares: Float  # (L,) of the values on each level
    #: some of the values, ascending, and the surrogate slope at each
    points: Float  # (P,)
    slopes: Float  # (P,)
    #: whether dy_i / dv_j is not 0 for some i != j
    coupled: bool
    #: gradients of learned parameters
    learned: str
    #: mean (y - v)^2 / variance of v; the same for k y with the best number k
    error: float
    scaled_error: float


class GalleryPage(NamedTuple):
    """A method: its quantizer of weights, its quantizer of activations."""

    title: str
    summary: str
    rows: tuple[Transfer, Transfer]


PRUNING_KEY = (
    "orange: fully connected layers    grey: convolutions, of a ResNet: "
    "stage.block.number    bars: left axis    line: right axis"
)


class LayerBars(NamedTuple):
    """A number and a share for each layer of a network: how many values, how many 0."""

    title: str
    names: Sequence[str]
    connected: Sequence[bool]  # fully connected, not a convolution
    counts: Sequence[int]
    shares: Sequence[float]


class LayerBits(NamedTuple):
    """How many bits each layer has, by one way of choosing them or by several."""

    title: str
    note: str
    names: Sequence[str]
    bits: Mapping[str, Sequence[int]]
    #: layers, from 0, of which it is only known that they have at most so many bits
    hidden: Sequence[int] = ()


class VarianceLine(NamedTuple):
    """A variance by the number of weights of a filter: exact and by experiment."""

    name: str
    d: Int  # (P,)
    exact: Float  # (P,)
    simulated: Float  # (P,)
    errors: Float  # (P,) standard errors
    printed: Float | None  # (P,) of a formula to compare with


def training_curves(records: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    """Draw the accuracy of each network over the epochs.

    records: name -> one record of metrics per epoch, as ``refqnn.nn.fit`` returns them
    """
    with mpl.rc_context(STYLE):
        figure = Figure((6, 4), layout="constrained")
        draw_training(figure.subplots(), records)
    return figure


def weight_codes(layers: Sequence[LayerCodes]) -> Figure:
    """Draw how often each layer uses each of its codes."""
    with mpl.rc_context(STYLE):
        figure = Figure((6, 1 + 0.4 * len(layers)), layout="constrained")
        draw_codes(figure.subplots(), layers)
    return figure


def decision_margins(decisions: Decisions) -> Figure:
    """Draw, image by image, how clearly both networks make the float one's choice."""
    with mpl.rc_context(STYLE):
        figure = Figure((6, 4.5), layout="constrained")
        draw_margins(figure.subplots(), decisions)
    return figure


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
    with mpl.rc_context(STYLE):
        figure = Figure((12, 9), dpi=110)
        figure.text(0.065, 0.965, title, fontsize=16, weight="bold", va="top")
        figure.text(0.065, 0.925, summary, fontsize=10.5, color=GREY, va="top")
        grid = figure.add_gridspec(
            2,
            2,
            left=0.065,
            right=0.975,
            bottom=0.06,
            top=0.845,
            wspace=0.38,
            hspace=0.36,
        )
        draw_training(figure.add_subplot(grid[0, 0]), records)
        draw_codes(figure.add_subplot(grid[0, 1]), layers)
        draw_margins(figure.add_subplot(grid[1, 0]), decisions)
        draw_parted(figure, grid[1, 1], decisions, images, classes)
    return figure


def gallery_page(page: GalleryPage) -> Figure:
    """Draw transfer function, surrogate gradient and codebook of both quantizers."""
    with mpl.rc_context(STYLE):
        figure = Figure((12, 8.2), dpi=110)
        figure.text(0.07, 0.975, page.title, fontsize=16, weight="bold", va="top")
        figure.text(0.07, 0.933, page.summary, fontsize=10.5, color=GREY, va="top")
        figure.text(0.07, 0.018, GALLERY_KEY, fontsize=8.5, color=GREY)
        for row, top in zip(page.rows, (0.785, 0.358), strict=True):
            base = top + 0.078
            figure.text(0.07, base, row.kind, fontsize=12.5, weight="bold")
            figure.text(0.172, base, row.source, fontsize=10.5, color=GREY)
            cells = figure.add_gridspec(
                1, 3, left=0.07, right=0.985, bottom=top - 0.255, top=top, wspace=0.26
            )
            draw_row([figure.add_subplot(cells[i]) for i in range(3)], row)
        figure.align_ylabels()
    return figure


def pruning(rows: Sequence[tuple[LayerBars, LayerBars]]) -> Figure:
    """Draw figure 1 of QIL's supplement: a network a row, weights and activations."""
    with mpl.rc_context(STYLE):
        figure = Figure((10, 3.2 * len(rows)), layout="constrained")
        panels = figure.subplots(len(rows), 2, squeeze=False)
        for pair, both in zip(panels, rows, strict=True):
            for axes, bars in zip(pair, both, strict=True):
                draw_pruning(axes, bars)
        figure.supxlabel(PRUNING_KEY, fontsize=8.5, color=GREY)
    return figure


def controller(curves: Sequence[tuple[str, float, Sequence[float]]]) -> Figure:
    """Draw the cp of every run over its iterations, and its target.

    curves: (label, target, cp of every iteration), shares
    """
    with mpl.rc_context(STYLE):
        figure = Figure((9, 5), layout="constrained")
        axes = figure.subplots()
        titled(axes, "Computation percentage while DFS trains", "dashed: targets")
        ends = []
        for i, (label, target, history) in enumerate(curves):
            colour = COURSES[i % len(COURSES)]
            axes.plot(100 * np.array(history), color=colour, linewidth=1)
            axes.axhline(100 * target, color=PALE, linestyle="--", zorder=0)
            ends.append((1.01, 100 * float(np.mean(history[-50:])), label, colour))
        axes.set_xlabel("iteration")
        axes.set_ylabel("cp of the batch")
        axes.set_yscale("symlog", linthresh=1, linscale=0.3)
        axes.set_ylim(0, 110)
        axes.set_yticks([0, 1, 5, 10, 20, 40, 60, 100])
        axes.yaxis.set_major_formatter(PercentFormatter(100, decimals=0))
        heights = [(x, height(axes, y), name, colour) for x, y, name, colour in ends]
        for x, y, name, colour in spread(heights, (0.0, 0.8)):
            axes.text(x, y, name, color=colour, va="center", transform=axes.transAxes)
    return figure


def tradeoff(
    points: Mapping[str, Sequence[tuple[float, float]]],
    base: float,
    *,
    base_name: str = "32 bits",
    own: Mapping[str, Sequence[tuple[float, float]]] | None = None,
) -> Figure:
    """Draw accuracy against computation percentage, a dot a run.

    points: name -> (cp, accuracy) of every run; base: an accuracy to compare with; own:
    the same runs of some names by a percentage of their own, as rings
    """
    with mpl.rc_context(STYLE):
        figure = Figure((9, 5), layout="constrained")
        axes = figure.subplots()
        note = (
            "a dot: one seed; DFS's cp for every system: gated blocks, b_w b_x / 32^2"
        )
        note += "; a ring: the percentage that a system gives itself" if own else ""
        titled(axes, "Accuracy against computation percentage", note)
        axes.axhline(100 * base, color=GREY, linestyle="--", linewidth=1)
        axes.annotate(base_name, (0, 100 * base), va="bottom", color=GREY)
        for (name, pairs), colour in zip(points.items(), COURSES, strict=False):
            cp, accuracy = 100 * np.array(pairs, float).T
            axes.plot(cp, accuracy, "o", color=colour, alpha=0.7, label=name)
            if own and name in own:
                cp, accuracy = 100 * np.array(own[name], float).T
                axes.plot(cp, accuracy, "o", color=colour, mfc="none")
        axes.set_xscale("symlog", linthresh=10)
        axes.set_xlim(-0.5, 110)
        axes.set_xticks([0, 5, 10, 20, 40, 60, 100])
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(100, decimals=0))
        axes.set_xlabel("computation percentage on the test images")
        axes.set_ylabel("accuracy")
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def decisions(panels: Sequence[tuple[str, Float]], options: Sequence[str]) -> Figure:
    """Draw the share of each option in every gated block, a panel each.

    panels: (title, shares (L, n)), at most eight; options: n names
    """
    with mpl.rc_context(STYLE):
        rows = -(-len(panels) // 2)
        figure = Figure((11, 2.3 * rows + 0.6), layout="constrained")
        every = figure.subplots(rows, 2, squeeze=False).T.ravel()
        for axes, (title, shares) in zip(every, panels, strict=False):
            draw_decisions(axes, title, np.asarray(shares))
        for axes in every[len(panels) :]:
            axes.set_axis_off()
        bars = every[0].containers
        figure.legend(bars, options, loc="outside upper right", ncols=4, frameon=False)
    return figure


def allocation(
    panels: Sequence[LayerBits], rewards: Mapping[str, Sequence[Sequence[float]]]
) -> Figure:
    """Draw bits layer by layer, a panel each, and the rewards of searches below.

    rewards: name -> for each seed the reward of every policy, NaN where it did not fit
    """
    with mpl.rc_context(STYLE):
        figure = Figure((11, 3 * len(panels) + 3.6), layout="constrained")
        *above, below = figure.subplots(len(panels) + 1)
        for axes, panel in zip(above, panels, strict=True):
            draw_bits(axes, panel)
        draw_rewards(below, rewards)
    return figure


def bit_allocations(panels: Sequence[LayerBits]) -> Figure:
    """Draw bits layer by layer, two panels a row.

    panels: ours and theirs in turn
    """
    with mpl.rc_context(STYLE):
        rows = -(-len(panels) // 2)
        figure = Figure((13, 2.9 * rows), layout="constrained")
        every = figure.subplots(rows, 2, squeeze=False).ravel()
        for axes, panel in zip(every, panels, strict=False):
            draw_bits(axes, panel)
            axes.tick_params(axis="x", labelsize=7.5)
        for axes in every[len(panels) :]:
            axes.set_axis_off()
        for axes in every:
            axes.set_ylim(0, max(max(b) for p in panels for b in p.bits.values()) + 1)
    return figure


def magnitude_variance(
    equal: Sequence[VarianceLine], grown: Sequence[VarianceLine], *, within: float
) -> Figure:
    """Draw proposition 5.1 of the Pareto paper: one correlation; two ways to grow."""
    with mpl.rc_context(STYLE):
        figure = Figure((11, 4.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        left.set_title("One correlation r: exact, simulated, as printed")
        right.set_title(f"Correlation {within:g} within a channel, 0 across")
        for axes, lines in ((left, equal), (right, grown)):
            draw_variance(axes, lines)
        left.axhline(0, color=GREY, linewidth=0.8)
        right.set_ylim(0, None)
    return figure


def subnet_scales(
    panels: Sequence[tuple[str, Sequence[float], Sequence[float]]],
) -> Figure:
    """Draw figure 12 of QuantNAS: the best step of every subnet, a panel a layer.

    panels: (title, steps, steps times the root of the fan-in); both over their smallest
    """
    with mpl.rc_context(STYLE):
        rows = -(-len(panels) // 2)
        figure = Figure((10, 3.2 * rows), layout="constrained")
        every = figure.subplots(rows, 2, squeeze=False).ravel()
        for axes, (title, raw, normalised) in zip(every, panels, strict=False):
            axes.set_title(title)
            named = ((raw, BLUE, "step"), (normalised, ORANGE, "step x sqrt(fan-in)"))
            for values, colour, name in named:
                scaled = np.sort(np.array(values)) / min(values)
                label = f"{name}: {scaled[-1]:.2f}"
                axes.plot(scaled, "o", color=colour, markersize=4, label=label)
            axes.set_xlabel("subnets, from the smallest step to the largest")
            axes.set_ylabel("over the smallest")
            axes.legend(frameon=False, loc="upper left")
        for axes in every[len(panels) :]:
            axes.set_axis_off()
    return figure


def search_fronts(
    fronts: Mapping[str, Sequence[Sequence[tuple[float, float]]]], unit: str
) -> Figure:
    """Draw figure 13 of QuantNAS: the fronts of searches, a line a seed.

    fronts: name -> for each seed (cost, accuracy) by cost
    """
    with mpl.rc_context(STYLE):
        figure = Figure((9, 5), layout="constrained")
        axes = figure.subplots()
        note = "a line: one seed; accuracy on the images the search saw"
        titled(axes, "The best subnets of a supernet", note)
        for i, (name, seeds) in enumerate(fronts.items()):
            for j, points in enumerate(seeds):
                cost, accuracy = np.array(points, float).T
                label = name if j == 0 else None
                axes.step(
                    cost,
                    100 * accuracy,
                    "o-",
                    where="post",
                    color=SERIES[i],
                    alpha=0.75,
                    markersize=3,
                    label=label,
                )
        axes.set_xscale("log")
        axes.set_xlabel(f"cost of one image, {unit}")
        axes.set_ylabel("accuracy")
        axes.yaxis.set_major_formatter(PercentFormatter(100, decimals=0))
        axes.legend(frameon=False, loc="lower right")
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


def spread(
    ends: Sequence[tuple[float, float, str, str]], limits: tuple[float, float]
) -> list[tuple[float, float, str, str]]:
    """Move the labels of lines that end close together apart, from bottom to top.

    >>> spread([(1, 0.5, "a", ""), (1, 0.5, "b", "")], (0.0, 1.0))
    [(1, 0.5, 'a', ''), (1, 0.56, 'b', '')]
    """
    gap = 0.06 * (limits[1] - limits[0])
    placed: list[tuple[float, float, str, str]] = []
    for x, y, name, colour in sorted(ends, key=lambda end: end[1]):
        lowest = placed[-1][1] + gap if placed else y
        placed.append((x, max(y, lowest), name, colour))
    return placed


def draw_codes(axes: Axes, layers: Sequence[LayerCodes]) -> None:
    """One row of bars a layer, a bar for each code, the first layer on top."""
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


def draw_parted(
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
    for cell, i in enumerate(most_parted(decisions, rows * columns)):
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


def most_parted(decisions: Decisions, count: int) -> Int:
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
    parted = np.flatnonzero(ours != theirs)
    return parted[np.argsort(-clear[parted], kind="stable")][:count]


def draw_row(panels: Sequence[Axes], row: Transfer) -> None:
    """Draw the three panels of one quantizer."""
    transfer, slopes, codebook = panels
    draw_transfer(transfer, row)
    draw_slopes(slopes, row)
    draw_codebook(codebook, row)
    slopes.set_xlim(transfer.get_xlim())


def draw_transfer(axes: Axes, row: Transfer) -> None:
    """The steps y(v) over the histogram of the values that are not 0."""
    titled(axes, "Transfer function", row.note)
    lo, hi = float(row.values.min()), float(row.values.max())
    margin = 0.03 * (hi - lo) or 1.0
    lo, hi = lo - margin, hi + margin
    draw_histogram(axes, row.values[row.values != 0])
    within = row.boundaries[(row.boundaries > lo) & (row.boundaries < hi)]
    if within.size <= MOST_LINES:
        for boundary in within:
            axes.axvline(boundary, color=ORANGE, linewidth=0.6, alpha=0.7, zorder=1)
    edges = np.clip([lo, *row.boundaries, hi], lo, hi)
    wide = edges[:-1] < edges[1:]
    seen, edges = row.levels[wide], np.append(edges[:-1][wide], hi)
    axes.plot([lo, hi], [lo, hi], color=GREY, linewidth=0.9, linestyle=(0, (4, 3)))
    axes.stairs(seen, edges, baseline=None, color=BLUE, linewidth=2)
    height = float(np.ptp(seen)) or 1.0
    axes.set_ylim(seen.min() - 0.08 * height, seen.max() + 0.08 * height)
    axes.set_xlim(lo, hi)
    axes.set_xlabel("v")
    axes.set_ylabel("y(v)")


def draw_histogram(axes: Axes, values: Float) -> None:
    """Fill the background with how often each value occurs, without a scale."""
    behind = axes.twinx()
    behind.hist(values, bins=60, color=PALE)
    behind.set_axis_off()
    axes.set_zorder(behind.get_zorder() + 1)
    axes.patch.set_visible(False)


def draw_slopes(axes: Axes, row: Transfer) -> None:
    """A point for each value the backward was asked at, joined by steps."""
    name = "Surrogate gradient" + (", diagonal" if row.coupled else "")
    titled(axes, name, row.learned)
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.step(row.points, row.slopes, where="mid", color=VERMILLION, linewidth=1)
    axes.plot(row.points, row.slopes, ".", color=VERMILLION, markersize=3)
    least, most = min(row.slopes.min(), 0), max(row.slopes.max(), 0)
    height = float(most - least) or 1.0
    axes.set_ylim(least - 0.08 * height, most + 0.15 * height)
    axes.set_xlabel("v")
    which = "$dy_i / dv_i$" if row.coupled else "$dy / dv$"
    axes.set_ylabel(which)


def draw_codebook(axes: Axes, row: Transfer) -> None:
    """A bar for the share of the values on each level, lowest level left."""
    used = np.count_nonzero(row.shares)
    title = f"Codebook: {row.levels.size} levels, {used} used"
    error = f"MSE / variance {row.error:.3g}"
    titled(axes, title, f"{error}; with the best scale {row.scaled_error:.3g}")
    order = np.argsort(row.levels, kind="stable")
    levels = row.levels[order]
    if levels.size > MOST_LINES:
        edges = np.arange(levels.size + 1) - 0.5
        axes.stairs(row.shares[order], edges, fill=True, color=BLUE)
    else:
        axes.bar(np.arange(levels.size), row.shares[order], 0.86, color=BLUE)
    every = -(-levels.size // MOST_TICKS)
    ticks = np.arange(levels.size)[np.abs(levels).argmin() % every :: every]
    axes.set_xticks(ticks, short(levels)[ticks])
    axes.tick_params(axis="x", length=0, labelsize=8.5)
    axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.3g}%")
    axes.set_xlabel("level")
    axes.set_ylabel("share of the values")


def draw_pruning(axes: Axes, bars: LayerBars) -> None:
    """Draw how many values a layer has, on a log scale, and which share is 0."""
    at = np.arange(len(bars.names))
    colours = [ORANGE if full else LIGHT for full in bars.connected]
    axes.bar(at, bars.counts, color=colours, width=0.7)
    axes.set_yscale("log")
    axes.set_ylim(*decades(bars.counts))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylabel("values (bars)")
    axes.set_xticks(at, bars.names)
    axes.set_title(bars.title)
    shares = axes.twinx()
    shares.plot(at, bars.shares, color=BLUE, marker="o", clip_on=False)
    shares.set_ylim(0, 1)
    shares.set_ylabel("share of zeros (line)", color=BLUE)
    shares.yaxis.set_major_formatter(PercentFormatter(1))
    shares.spines["right"].set_visible(True)


def decades(counts: Sequence[int]) -> tuple[float, float]:
    """Return powers of ten around the counts: below the least, not below the most.

    >>> decades([10, 250, 1000])
    (1.0, 1000.0)
    """
    low, high = np.log10([min(counts), max(counts)])
    return float(10 ** (np.ceil(low) - 1)), float(10 ** np.ceil(high))


def height(axes: Axes, y: float) -> float:
    """Return how high a value of y stands: 0 at the bottom, 1 at the top."""
    shown = axes.transData.transform((1.0, y))
    return float(axes.transAxes.inverted().transform(shown)[1])


def draw_decisions(axes: Axes, title: str, shares: Float) -> None:
    """Stack the shares of the options of every block, cheapest at the bottom."""
    blocks = np.arange(2, 2 + len(shares))
    below = np.zeros(len(shares))
    for k, part in enumerate(shares.T):
        axes.bar(blocks, part, 0.85, bottom=below, color=DEPTHS[k % len(DEPTHS)])
        below = below + part
    axes.set_title(title)
    axes.set_xlabel("block")
    axes.set_ylim(0, 1)
    axes.set_xlim(1.4, blocks[-1] + 0.6)
    axes.yaxis.set_major_formatter(PercentFormatter(1))


def draw_bits(axes: Axes, panel: LayerBits) -> None:
    """A group of bars for every layer, from 0, a colour for each way of choosing."""
    titled(axes, panel.title, panel.note)
    at = np.arange(len(panel.names))
    width = 0.8 / len(panel.bits)
    for i, (name, bits) in enumerate(panel.bits.items()):
        middle = at + (i - (len(panel.bits) - 1) / 2) * width
        bars = axes.bar(middle, bits, 0.9 * width, color=SERIES[i], label=name)
        for k in panel.hidden:
            bars[k].set(facecolor="white", edgecolor=SERIES[i], linestyle="--")
    if len(panel.bits) > 1:
        axes.legend(
            frameon=False,
            ncols=4,
            loc="lower right",
            bbox_to_anchor=(1, 1),
            borderpad=0,
        )
    axes.set_xticks(at, panel.names)
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.6, at[-1] + 0.6)
    axes.set_ylabel("bits")


def draw_rewards(axes: Axes, rewards: Mapping[str, Sequence[Sequence[float]]]) -> None:
    """A dot for every policy that fits, a line for the best so far, of each seed.

    A search of which one policy fits is a dashed line at its reward.
    """
    axes.set_title("Reward of every policy (dots), the best so far (lines)")
    most = max(len(seed) for seeds in rewards.values() for seed in seeds)
    for front, (name, seeds) in enumerate(reversed([*rewards.items()])):
        colour = SERIES[len(rewards) - 1 - front]
        for i, seed in enumerate(seeds):
            label = name if i == 0 else None
            x, y = np.arange(1, len(seed) + 1), np.array(seed, float)
            if np.count_nonzero(~np.isnan(y)) == 1:
                best = float(np.nanmax(y))
                axes.axhline(best, color=colour, linestyle="--", label=label)
                continue
            axes.plot(x, y, ".", color=colour, alpha=0.45, markersize=5)
            best_so_far = np.fmax.accumulate(y)
            axes.step(x, best_so_far, where="post", color=colour, label=label)
    axes.legend(
        frameon=False, ncols=4, loc="lower right", bbox_to_anchor=(1, 1), borderpad=0
    )
    axes.set_xlim(0, most + 1)
    axes.set_xlabel("policies evaluated")
    axes.set_ylabel("reward: points / 10")


def draw_variance(axes: Axes, lines: Sequence[VarianceLine]) -> None:
    """Draw curves, points with two standard errors, and the printed formula dashed."""
    for line, colour in zip(lines, SERIES, strict=False):
        axes.plot(line.d, line.exact, color=colour, linewidth=1.6, label=line.name)
        axes.errorbar(
            line.d,
            line.simulated,
            2 * line.errors,
            fmt="o",
            color=colour,
            markersize=4,
            capsize=2.5,
            linewidth=1,
        )
        if line.printed is not None:
            dashes = (0, (4, 3))
            axes.plot(line.d, line.printed, color=colour, linewidth=1, linestyle=dashes)
    if any(line.printed is not None for line in lines):
        axes.plot([], [], color=GREY, linestyle=(0, (4, 3)), label="printed, rho = r")
    axes.set_xscale("log")
    ticks = sorted({int(d) for line in lines for d in line.d})
    axes.set_xticks(ticks, [str(d) for d in ticks], minor=False)
    axes.set_xticks([], minor=True)
    axes.set_xlabel("d: weights of a filter")
    axes.set_ylabel("Var(mean|w|) / sigma^2, points: two standard errors")
    axes.grid(axis="y", color=PALE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(frameon=False)


def short(levels: Float) -> Array:
    """Return labels of three digits of the largest level.

    >>> short(np.array([-0.00035, 0.0678, 0.5]))
    array(['0', '0.068', '0.5'], dtype='<U5')
    """
    largest = float(np.abs(levels).max()) or 1.0
    rounded = np.round(levels.astype(np.float64), 2 - int(np.floor(np.log10(largest))))
    return np.array([f"{x:g}".replace("-", "\N{MINUS SIGN}") for x in rounded + 0.0])
