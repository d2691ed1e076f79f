"""The figure of the Pareto paper's proposition 5.1."""

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from refqnn._types import Float, Int
from refqnn.plots.style import GREY, PALE, SERIES, STYLE


class VarianceLine(NamedTuple):
    """A variance by the number of weights of a filter: exact and by experiment."""

    name: str
    d: Int  # (P,)
    exact: Float  # (P,)
    simulated: Float  # (P,)
    errors: Float  # (P,) standard errors
    printed: Float | None  # (P,) of a formula to compare with


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
