"""How every figure looks, and how it is written.

Colours are from the palette of Okabe and Ito (2008), distinct under every colour
blindness.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from refqnn.files import write_whole

BLUE, VERMILLION, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"
SKY, PURPLE = "#56B4E9", "#CC79A7"
INK, GREY, LIGHT, PALE = "#222222", "#767676", "#BDBDBD", "#DDDDDD"
SERIES = (BLUE, VERMILLION, GREEN, ORANGE)
#: colours of many courses, and options from cheap to dear
COURSES = (BLUE, VERMILLION, GREEN, ORANGE, SKY, PURPLE, "#222222", "#767676")
DEPTHS = ("#DDDDDD", SKY, BLUE, "#003B5C")
#: Any, because the type of the keys differs from one matplotlib to the next
STYLE: Any = {
    "font.size": 9.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "figure.facecolor": "white",
}
#: draws a figure in this style, whatever the style around it is
styled = mpl.rc_context(STYLE)
#: a legend without a frame, above the upper right corner
ABOVE: Any = {"frameon": False, "ncols": 4, "loc": "lower right", "borderpad": 0} | {
    "bbox_to_anchor": (1, 1)
}


def subplots(
    count: int, columns: int, size: tuple[float, float], *, more: float = 0.0
) -> tuple[Figure, Any]:
    """Make a figure of so many panels, row by row; places left over stay empty.

    size: width of the figure, height of a row; ``more`` height in all
    """
    rows = -(-count // columns)
    figure = Figure((size[0], size[1] * rows + more), layout="constrained")
    every = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in every[count:]:
        axes.set_axis_off()
    return figure, every[:count]


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


def save(figure: Figure, path: str | os.PathLike[str], *, dpi: int = 110) -> None:
    """Write a figure whole or not at all; the same figure gives the same bytes."""
    kind = Path(path).suffix[1:] or "png"
    write_whole(
        path,
        lambda file: figure.savefig(
            file, dpi=dpi, format=kind, metadata={"Software": None}
        ),
    )


def set_titles(axes: Axes, title: str, note: str) -> None:
    """Set a title and, small below it, a note."""
    axes.set_title(title, pad=20)
    axes.annotate(
        note,
        (0, 1),
        (0, 7),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=8.5,
        color=GREY,
    )
