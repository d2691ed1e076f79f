"""Figures with a bar for each layer: what is pruned, how many bits there are."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, PercentFormatter

from refqnn.plots.style import (
    ABOVE,
    BLUE,
    GREY,
    LIGHT,
    ORANGE,
    SERIES,
    set_titles,
    styled,
    subplots,
)

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


@styled
def pruning(rows: Sequence[tuple[LayerBars, LayerBars]]) -> Figure:
    """Draw figure 1 of QIL's supplement: a network a row, weights and activations."""
    figure = Figure((10, 3.2 * len(rows)), layout="constrained")
    panels = figure.subplots(len(rows), 2, squeeze=False)
    for pair, both in zip(panels, rows, strict=True):
        for axes, bars in zip(pair, both, strict=True):
            draw_pruning(axes, bars)
    figure.supxlabel(PRUNING_KEY, fontsize=8.5, color=GREY)
    return figure


@styled
def allocation(
    panels: Sequence[LayerBits], rewards: Mapping[str, Sequence[Sequence[float]]]
) -> Figure:
    """Draw bits layer by layer, a panel each, and the rewards of searches below.

    rewards: name -> for each seed the reward of every policy, NaN where it did not fit
    """
    figure = Figure((11, 3 * len(panels) + 3.6), layout="constrained")
    *above, below = figure.subplots(len(panels) + 1)
    for axes, panel in zip(above, panels, strict=True):
        draw_bits(axes, panel)
    draw_rewards(below, rewards)
    return figure


@styled
def bit_allocations(panels: Sequence[LayerBits]) -> Figure:
    """Draw bits layer by layer, two panels a row.

    panels: ours and theirs in turn
    """
    figure, every = subplots(len(panels), 2, (13, 2.9))
    most = max(max(bits) for panel in panels for bits in panel.bits.values())
    for axes, panel in zip(every, panels, strict=True):
        draw_bits(axes, panel)
        axes.tick_params(axis="x", labelsize=7.5)
        axes.set_ylim(0, most + 1)
    return figure


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


def draw_bits(axes: Axes, panel: LayerBits) -> None:
    """A group of bars for every layer, from 0, a colour for each way of choosing."""
    set_titles(axes, panel.title, panel.note)
    at = np.arange(len(panel.names))
    width = 0.8 / len(panel.bits)
    for i, (name, bits) in enumerate(panel.bits.items()):
        middle = at + (i - (len(panel.bits) - 1) / 2) * width
        bars = axes.bar(middle, bits, 0.9 * width, color=SERIES[i], label=name)
        for k in panel.hidden:
            bars[k].set(facecolor="white", edgecolor=SERIES[i], linestyle="--")
    if len(panel.bits) > 1:
        axes.legend(**ABOVE)
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
    axes.legend(**ABOVE)
    axes.set_xlim(0, most + 1)
    axes.set_xlabel("policies evaluated")
    axes.set_ylabel("reward: points / 10")
