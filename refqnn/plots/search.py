"""Figures of QuantNAS: scales of subnets, fronts of a search."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from refqnn.plots.style import BLUE, ORANGE, SERIES, set_titles, styled, subplots

#: styles of line, one a seed
SEEDS = ("-", "--", ":", "-.")


@styled
def subnet_scales(
    panels: Sequence[tuple[str, Sequence[float], Sequence[float]]],
) -> Figure:
    """Draw figure 12 of QuantNAS: the best step of every subnet, a panel a layer.

    panels: (title, steps, steps times the root of the fan-in); both over their smallest
    """
    figure, every = subplots(len(panels), 2, (10, 3.2))
    for axes, (title, raw, normalised) in zip(every, panels, strict=True):
        axes.set_title(title)
        named = ((raw, BLUE, "step"), (normalised, ORANGE, "step x sqrt(fan-in)"))
        for values, colour, name in named:
            scaled = np.sort(np.array(values)) / min(values)
            label = f"{name}: {scaled[-1]:.2f}"
            axes.plot(scaled, "o", color=colour, markersize=4, label=label)
        axes.set_xlabel("subnets, from the smallest step to the largest")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylabel("over the smallest")
        axes.legend(frameon=False, loc="upper left")
    return figure


@styled
def search_fronts(
    fronts: Mapping[str, Sequence[Sequence[tuple[float, float]]]], unit: str
) -> Figure:
    """Draw figure 13 of QuantNAS: the fronts of searches, a line a seed.

    fronts: name -> for each seed (cost, accuracy) by cost
    """
    figure = Figure((9, 5), layout="constrained")
    axes = figure.subplots()
    note = "a style of line: one seed; accuracy on the images the search saw"
    set_titles(axes, "The best subnets of a supernet", note)
    for i, (name, seeds) in enumerate(fronts.items()):
        for j, points in enumerate(seeds):
            cost, accuracy = np.array(points, float).T
            label = name if j == 0 else None
            axes.step(
                cost,
                100 * accuracy,
                marker="o",
                linestyle=SEEDS[j % len(SEEDS)],
                where="post",
                color=SERIES[i],
                alpha=0.75,
                markersize=3,
                label=label,
            )
    axes.set_xscale("log")
    axes.set_xlabel(f"cost of one image, {unit}")
    axes.set_ylabel("accuracy")
    axes.yaxis.set_major_formatter(PercentFormatter(100))
    figure.legend(frameon=False, loc="outside lower center", ncols=len(fronts))
    return figure
