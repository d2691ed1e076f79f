"""A page a quantizer: transfer function, surrogate gradient, codebook."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from refqnn._types import Array, Float
from refqnn.plots.style import BLUE, GREY, ORANGE, PALE, VERMILLION, set_titles, styled

#: more boundaries would hide the steps, more bars are a silhouette; labels would touch
MOST_LINES, MOST_TICKS = 40, 6
GALLERY_KEY = (
    "grey: how often a value occurs (0 left out)    orange: decision boundaries, if no "
    "more than 40    dashed: y = v    dots: where the backward was asked    "
    "MSE: over all groups"
)


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


@styled
def gallery_page(page: GalleryPage) -> Figure:
    """Draw transfer function, surrogate gradient and codebook of both quantizers."""
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


def draw_row(panels: Sequence[Axes], row: Transfer) -> None:
    """Draw the three panels of one quantizer."""
    transfer, slopes, codebook = panels
    draw_transfer(transfer, row)
    draw_slopes(slopes, row)
    draw_codebook(codebook, row)
    slopes.set_xlim(transfer.get_xlim())


def draw_transfer(axes: Axes, row: Transfer) -> None:
    """Draw the steps y(v) over the histogram of the values that are not 0."""
    set_titles(axes, "Transfer function", row.note)
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
    set_titles(axes, name, row.learned)
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
    set_titles(axes, title, f"{error}; with the best scale {row.scaled_error:.3g}")
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


def short(levels: Float) -> Array:
    """Return labels of three digits of the largest level.

    >>> short(np.array([-0.00035, 0.0678, 0.5]))
    array(['0', '0.068', '0.5'], dtype='<U5')
    """
    largest = float(np.abs(levels).max()) or 1.0
    rounded = np.round(levels.astype(np.float64), 2 - int(np.floor(np.log10(largest))))
    return np.array([f"{x:g}".replace("-", "\N{MINUS SIGN}") for x in rounded + 0.0])
