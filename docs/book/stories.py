"""The figures of the order of reading, each from the functions it is about."""

import numpy as np
from matplotlib.figure import Figure

from refqnn.integer import rounding
from refqnn.plots.style import COURSES, GREY
from refqnn.quantizers.fixed_point_weights import GAUSSIAN_CLIP, gaussian_mse


def ties() -> Figure:
    """Where four roundings put the numbers from -2.5 to 2.5, ties among them"""
    figure = Figure((8.4, 3.4))
    axes = figure.subplots()
    t = np.arange(-2.5, 2.75, 0.5)
    names = ("half_even", "half_away", "half_up", "floor")
    for at, (name, colour) in enumerate(zip(names, COURSES, strict=False)):
        y = getattr(rounding, f"round_{name}", np.floor)(t)
        axes.plot(t, y + 0.09 * (at - 1.5), "o", color=colour, label=name, markersize=5)
    axes.plot(t, t, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.set_xticks(t)
    axes.set_yticks(np.arange(-3, 4))
    axes.set_xlabel("t")
    axes.set_ylabel("code")
    axes.legend(frameon=False, ncols=4, loc="upper left")
    figure.tight_layout()
    return figure


def clip_errors() -> Figure:
    """Error of a standard normal value over the clip, two to six bits"""
    figure = Figure((8.4, 3.4))
    axes = figure.subplots()
    clips = np.linspace(0.6, 5, 200)
    for bits, colour in zip(range(2, 7), COURSES, strict=False):
        errors = [gaussian_mse(a, bits=bits) for a in clips]
        axes.semilogy(clips, errors, color=colour, label=f"{bits} bits")
        best = GAUSSIAN_CLIP[bits]
        axes.semilogy(best, gaussian_mse(best, bits=bits), "o", color=colour)
    axes.set_xlabel("clip a / standard deviation")
    axes.set_ylabel("mean squared error")
    axes.legend(frameon=False, ncols=5, loc="upper center")
    axes.set_ylim(5e-4, 2)
    figure.tight_layout()
    return figure
