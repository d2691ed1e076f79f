"""Figures of DFS and SkipNet: computation percentages and decisions."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from refqnn._types import Float
from refqnn.plots.style import COURSES, DEPTHS, GREY, PALE, set_titles, spread, styled


@styled
def controller(curves: Sequence[tuple[str, float, Sequence[float]]]) -> Figure:
    """Draw the cp of every run over its iterations, and its target.

    curves: (label, target, cp of every iteration), shares
    """
    figure = Figure((9, 5), layout="constrained")
    axes = figure.subplots()
    set_titles(axes, "Computation percentage while DFS trains", "dashed: targets")
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


@styled
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
    figure = Figure((9, 5), layout="constrained")
    axes = figure.subplots()
    note = "a dot: one seed; DFS's cp for every system: gated blocks, b_w b_x / 32^2"
    note += "; a ring: the percentage that a system gives itself" if own else ""
    set_titles(axes, "Accuracy against computation percentage", note)
    draw_base(axes, base, base_name)
    for k, (name, pairs) in enumerate(points.items()):
        colour = draw_dots(axes, k, name, pairs)
        if own and name in own:
            cp, accuracy = 100 * np.array(own[name], float).T
            axes.plot(cp, accuracy, "o", color=colour, mfc="none")
    axes.set_xscale("symlog", linthresh=10)
    axes.set_xlim(-0.5, 110)
    axes.set_xticks([0, 5, 10, 20, 40, 60, 100])
    name_axes(axes)
    axes.xaxis.set_major_formatter(PercentFormatter(100, decimals=0))
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


@styled
def tradeoff_panels(
    panels: Sequence[tuple[str, str, Mapping[str, Sequence[tuple[float, float]]]]],
    base: float,
) -> Figure:
    """Draw accuracy against computation percentage, a panel a question.

    panels: (title, note, {name: (cp, accuracy) of every run}); means over the runs of a
    percentage are joined. A system has one colour in every panel.
    """
    figure = Figure((4.2 * len(panels), 4.4), layout="constrained")
    names = dict.fromkeys(name for *_, points in panels for name in points)
    places = {name: k for k, name in enumerate(names)}
    for axes, (title, note, points) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
    ):
        set_titles(axes, title, note)
        draw_base(axes, base, "32 bits")
        for name, pairs in points.items():
            colour = draw_dots(axes, places[name], name, pairs)
            groups: dict[float, list[float]] = {}
            for cp, accuracy in pairs:
                groups.setdefault(round(100 * cp, 1), []).append(100 * accuracy)
            cps = sorted(groups)
            axes.plot(cps, [np.mean(groups[cp]) for cp in cps], "-", color=colour)
        name_axes(axes)
        axes.legend(frameon=False, loc="lower right")
    return figure


def draw_base(axes: Axes, base: float, name: str) -> None:
    """Draw the accuracy to compare with."""
    axes.axhline(100 * base, color=GREY, linestyle="--", linewidth=1)
    at_the_left = axes.get_yaxis_transform()
    axes.annotate(name, (0, 100 * base), None, at_the_left, va="bottom", color=GREY)


def draw_dots(
    axes: Axes, k: int, name: str, pairs: Sequence[tuple[float, float]]
) -> str:
    """Draw system k, its runs (cp, accuracy) as dots; return its colour."""
    colour = COURSES[k % len(COURSES)]
    size = max(9 - 1.5 * k, 4)  # where dots coincide, all are seen
    cp, accuracy = 100 * np.array(pairs, float).T
    axes.plot(cp, accuracy, "o", color=colour, alpha=0.7, label=name, ms=size)
    return colour


def name_axes(axes: Axes) -> None:
    """Name the axes of accuracy against computation percentage."""
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(100))  # steps may be of 2.5
    axes.set_xlabel("computation percentage on the test images")
    axes.set_ylabel("accuracy")


@styled
def decisions(panels: Sequence[tuple[str, Float]], options: Sequence[str]) -> Figure:
    """Draw the share of each option in every gated block, a panel each.

    panels: (title, shares (L, n)), at most eight; options: n names
    """
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
    per_group, odd = divmod(len(shares) + 1, 3)  # the first block has no gate
    for k in (1, 2) if not odd else ():
        axes.axvline(k * per_group + 1 / 2, color="black", linewidth=1.2)
    axes.set_title(title)
    axes.set_xlabel("block; lines: groups" if not odd else "block")
    axes.set_ylim(0, 1)
    axes.set_xlim(1.4, blocks[-1] + 0.6)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
