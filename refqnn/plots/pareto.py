"""Figures of the Pareto paper: accuracy against size, variances, clips."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from refqnn.plots.style import COURSES, GREY, PALE, set_titles, styled, subplots

MARKERS = "os^Dv"


class SizeCurve(NamedTuple):
    """Networks of one family and precision: costs, and accuracies of every seed, %."""

    name: str
    cost: Sequence[float]  # (P,)
    accuracies: Sequence[Sequence[float]]  # (P, S)


class SizePanel(NamedTuple):
    """A family of networks; ``cost`` says what the curves count."""

    title: str
    note: str
    cost: str
    curves: Sequence[SizeCurve]


@styled
def size_curves(panels: Sequence[SizePanel], *, columns: int = 3) -> Figure:
    """Draw accuracy against cost, a panel for each family: figures 1, 2, 3, 6 and 7.

    A colour is a precision or a method, the same in every panel; curves of one name
    differ by their markers. Bars go from the worst seed to the best.
    """
    columns = min(columns, len(panels))
    names = dict.fromkeys(curve.name for panel in panels for curve in panel.curves)
    colours = dict(zip(names, COURSES, strict=False))
    size = 4.4 * columns + 0.6, 3.7
    figure, every = subplots(len(panels), columns, size, more=0.5)
    for axes, panel in zip(every, panels, strict=True):
        draw_size_panel(axes, panel, colours)
    handles = [
        mpl.lines.Line2D([], [], color=colours[name], marker="o", label=name)
        for name in names
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=6, frameon=False)
    return figure


def draw_size_panel(axes: Axes, panel: SizePanel, colours: Mapping[str, str]) -> None:
    """Draw the curves of one family."""
    set_titles(axes, panel.title, panel.note)
    seen: dict[str, int] = {}
    for curve in panel.curves:
        marker = MARKERS[seen.get(curve.name, 0) % len(MARKERS)]
        seen[curve.name] = seen.get(curve.name, 0) + 1
        accuracies = np.array(curve.accuracies, float)
        mean = accuracies.mean(1)
        axes.errorbar(
            curve.cost,
            mean,
            np.stack([mean - accuracies.min(1), accuracies.max(1) - mean]),
            color=colours[curve.name],
            marker=marker,
            markersize=4.5,
            linewidth=1.4,
            elinewidth=0.9,
            capsize=2,
        )
    costs = np.concatenate([[*curve.cost] for curve in panel.curves])
    wide = costs.max() > 8 * costs.min()
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(
        LogLocator(subs=(1, 3)) if wide else MaxNLocator(4, steps=[1, 2, 5, 10])
    )
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: in_bits(x)))
    axes.set_xlabel(panel.cost)
    axes.set_ylabel("accuracy, %")
    axes.grid(axis="y", color=PALE, linewidth=0.6)
    axes.set_axisbelow(True)


def in_bits(value: float) -> str:
    """Return a number of bits in words of at most four digits.

    >>> in_bits(20_000), in_bits(1_500_000), in_bits(800)
    ('20 kbit', '1.5 Mbit', '800 bit')
    """
    for unit, name in ((1e6, "Mbit"), (1e3, "kbit")):
        if value >= unit:
            return f"{value / unit:.4g} {name}"
    return f"{value:.4g} bit"


@styled
def layer_variances(
    kinds: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]],
) -> Figure:
    """Draw figure 4: Var_t(mean|w|) of depth-wise layers, raw and free of scale.

    kinds: kind of filter -> layer -> "raw" and "relative", a variance a seed
    """
    figure = Figure((10, 4.3), layout="constrained")
    left, right = figure.subplots(1, 2)
    set_titles(left, "Var over the steps of mean|w|", "averaged over a layer's filters")
    set_titles(right, "The same, relative", "divided by the square of the mean")
    for axes, name in ((left, "raw"), (right, "relative")):
        means = {
            kind: {layer: float(np.mean(row[name])) for layer, row in rows.items()}
            for kind, rows in kinds.items()
        }
        draw_variances(axes, means)
    right.legend(
        frameon=False, title="C x K x K", loc="upper left", bbox_to_anchor=(1, 1)
    )
    return figure


def draw_variances(axes: Axes, kinds: Mapping[str, Mapping[str, float]]) -> None:
    """Draw one group of bars for each layer, a bar for each kind of filter."""
    layers, thick = [*next(iter(kinds.values()))], 0.8 / len(kinds)
    for i, (kind, values) in enumerate(kinds.items()):
        at = np.arange(len(layers)) + (i - (len(kinds) - 1) / 2) * thick
        axes.bar(at, [*values.values()], 0.9 * thick, color=COURSES[i], label=kind)
    axes.set_yscale("log")
    axes.set_xticks(range(len(layers)), layers)
    axes.tick_params(axis="x", length=0)
    axes.grid(axis="y", color=PALE, linewidth=0.6)
    axes.set_axisbelow(True)


@styled
def clip_lines(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw figure 5: the best clip of simulated weights against their mean|w|.

    rows: "bits", "mean_abs" and "clip" of P simulations, and "c_used", the constant
    """
    figure = Figure((6.4, 4.6), layout="constrained")
    axes = figure.subplots()
    set_titles(
        axes,
        "The best clip is mean|w| / c",
        "dots: simulated Gaussian weights, tails drawn more often; lines: closed form",
    )
    for row, colour in zip(rows, COURSES, strict=False):
        x, clips = np.array(sorted(zip(row["mean_abs"], row["clip"], strict=True))).T
        ends = x / row["c_used"]
        axes.plot(x, ends, color=colour, linewidth=1.2)
        axes.plot(x, clips, "o", color=colour, markersize=4)
        axes.annotate(
            f"{row['bits']} bit, c = {row['c_used']:.4f}",
            (x[-1], ends[-1]),
            (6, 0),
            textcoords="offset points",
            color=colour,
            va="center",
            annotation_clip=False,
        )
    axes.set_xlabel("mean|w|")
    axes.set_ylabel("a*, the clip of the least square error")
    axes.set_xlim(0, 1.35 * max(max(row["mean_abs"]) for row in rows))
    axes.set_ylim(0, None)
    axes.axhline(0, color=GREY, linewidth=0.6)
    return figure
