"""The figure of the Pareto paper's proposition 5.1."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from refqnn.plots.style import GREY, PALE, SERIES, styled

Lines = Mapping[str, Sequence[Mapping[str, Any]]]


@styled
def magnitude_variance(equal: Lines, grown: Lines, *, within: float) -> Figure:
    """Draw proposition 5.1 of the Pareto paper: one correlation; two ways to grow.

    name -> points: "d", "exact", "simulated", "standard_error", "printed" or None
    """
    figure = Figure((11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.set_title("One correlation r: exact, simulated, as printed")
    right.set_title(f"Correlation {within:g} within a channel, 0 across")
    for axes, lines in ((left, equal), (right, grown)):
        draw_variance(axes, lines)
    left.axhline(0, color=GREY, linewidth=0.8)
    right.set_ylim(0, None)
    return figure


def draw_variance(axes: Axes, lines: Lines) -> None:
    """Draw curves, points with two standard errors, and the printed formula dashed."""
    dashed, ticks = (0, (4, 3)), set()
    for (name, points), colour in zip(lines.items(), SERIES, strict=False):
        d, exact, simulated, errors, printed = (
            [point[key] for point in points]
            for key in ("d", "exact", "simulated", "standard_error", "printed")
        )
        ticks |= {*d}
        axes.plot(d, exact, color=colour, linewidth=1.6, label=name)
        axes.errorbar(
            d,
            simulated,
            2 * np.array(errors),
            fmt="o",
            color=colour,
            markersize=4,
            capsize=2.5,
            linewidth=1,
        )
        if None not in printed:
            axes.plot(d, printed, color=colour, linewidth=1, linestyle=dashed)
    if any(p["printed"] is not None for points in lines.values() for p in points):
        axes.plot([], [], color=GREY, linestyle=dashed, label="printed, rho = r")
    axes.set_xscale("log")
    axes.set_xticks(sorted(ticks), [str(d) for d in sorted(ticks)], minor=False)
    axes.set_xticks([], minor=True)
    axes.set_xlabel("d: weights of a filter")
    axes.set_ylabel("Var(mean|w|) / sigma^2, points: two standard errors")
    axes.grid(axis="y", color=PALE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(frameon=False)
