"""The figures of the order of reading, each from the functions that it is about.

The first line of a function says what its figure shows, to whoever cannot see it.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from refqnn import integer, nn, ops, quantizers
from refqnn.integer import rounding
from refqnn.papers.pareto.variance import mean_abs_variance
from refqnn.plots.style import BLUE, COURSES, GREY, INK, PALE, VERMILLION
from refqnn.quantizers.fixed_point_weights import GAUSSIAN_CLIP, gaussian_mse

WIDE = (8.4, 3.4)
SAMPLE = np.random.default_rng(0).standard_normal(20_000)


def ties() -> Figure:
    """Where four roundings put the numbers half way between two integers"""
    figure = Figure(WIDE)
    axes = figure.subplots()
    halves = np.arange(-5, 6, 2)  # of 2: -2.5, -1.5, ... 2.5
    names = ("half_even", "half_away", "half_up", "floor")
    for at, (name, colour) in enumerate(zip(names, COURSES, strict=False)):
        y = rounding.divide(halves, 2, rounding=name)
        axes.plot(halves / 2 + 0.08 * (at - 1.5), y, "o", color=colour, label=name)
    axes.plot([-3, 3], [-3, 3], color=GREY, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.set_xticks(halves / 2)
    axes.set_yticks(np.arange(-3, 4))
    axes.grid(axis="y", color=PALE, linewidth=0.8)
    axes.set_xlabel("t")
    axes.set_ylabel("rounded")
    axes.legend(frameon=False, ncols=4, loc="upper left")
    figure.tight_layout()
    return figure


def clip_errors() -> Figure:
    """Error of a standard normal value over the clip, two to six bits"""
    figure = Figure(WIDE)
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


def two_errors() -> Figure:
    """Error from clipping falls with the clip, error from rounding rises: three bits"""
    figure = Figure(WIDE)
    axes = figure.subplots()
    clips = np.linspace(0.4, 4, 120)
    beyond, within = [], []
    for a in clips:
        y, _ = quantizers.fixed_point(SAMPLE, np.array(a), bits=3)
        square = (y - SAMPLE) ** 2
        outside = np.abs(SAMPLE) > a
        beyond.append(square[outside].sum() / SAMPLE.size)
        within.append(square[~outside].sum() / SAMPLE.size)
    both = np.add(beyond, within)
    axes.plot(clips, beyond, color=VERMILLION, label="of what is clipped")
    axes.plot(clips, within, color=BLUE, label="of what is rounded")
    axes.plot(clips, both, color=INK, label="both")
    axes.plot(
        GAUSSIAN_CLIP[3], np.interp(GAUSSIAN_CLIP[3], clips, both), "o", color=INK
    )
    axes.set_ylim(0, 0.25)
    axes.set_xlabel("clip a / standard deviation")
    axes.set_ylabel("mean squared error")
    axes.legend(frameon=False)
    figure.tight_layout()
    return figure


def held_line() -> Figure:
    """A staircase, and the straight line that holds its residual at one point"""
    figure = Figure(WIDE)
    axes = figure.subplots()
    x = np.linspace(-1.6, 2.6, 2000)
    at = np.array([0.8])
    y, cache = ops.straight_through_round(at)
    axes.plot(x, ops.straight_through_round(x)[0], ".", markersize=1.5, color=BLUE)
    near = np.linspace(-0.6, 2.2, 50)
    line = [ops.straight_through_round(np.array([v]), frozen=cache)[0][0] for v in near]
    axes.plot(near, line, color=VERMILLION)
    axes.plot([at[0], at[0]], [at[0], y[0]], color=GREY, linewidth=1)
    axes.plot(x, x, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.plot(at, y, "o", color=INK)
    texts = {
        "recorded point": ((0.1, 1.3), INK),
        "held: slope 1": ((1.0, 2.3), VERMILLION),
        "rounded: slope 0": ((1.7, 1.62), BLUE),
        "residual": ((0.86, 0.62), GREY),
    }
    for text, (place, colour) in texts.items():
        axes.text(*place, text, color=colour)
    axes.set_xlabel("x")
    axes.set_ylabel("y")
    figure.tight_layout()
    return figure


def numbers(axes: Axes, array: np.ndarray, title: str) -> None:
    """Draw a small matrix with its numbers."""
    most = np.abs(array).max() or 1
    axes.imshow(array, cmap="RdBu_r", vmin=-2.2 * most, vmax=2.2 * most)
    for (row, column), value in np.ndenumerate(array):
        axes.text(column, row, f"{value:g}", ha="center", va="center", color="#111111")
    axes.set_title(title, fontsize=10)
    axes.set_axis_off()


def convolution() -> Figure:
    """A convolution of 4 x 4 pixels by 2 x 2 weights, and its two gradients"""
    x = np.array([[1, 0, 2, 1], [0, 3, 1, 0], [2, 1, 0, 1], [1, 0, 1, 2.0]])
    w = np.array([[1, -1], [2, 0.0]])
    dy = np.zeros((3, 3))
    dy[0, 1], dy[2, 2] = 1, -1
    y, cache = ops.conv2d(x[None, None], w[None, None])
    dx, dw, _ = ops.conv2d_backward(dy[None, None], cache)
    figure = Figure((8.4, 4.6))
    panels = figure.subplots(2, 3)
    parts = (x, w, y[0, 0], dx[0, 0], dw[0, 0], dy)
    titles = ("x", "w", "y = conv2d(x, w)", "dx", "dw", "dy")
    for axes, part, title in zip(panels.flat, parts, titles, strict=True):
        numbers(axes, part, title)
    figure.tight_layout()
    return figure


def normalization() -> Figure:
    """What batch norm takes out of a gradient: its mean, and its part along x hat"""
    rng = np.random.default_rng(3)
    x, dy = rng.normal(1, 2, 16), rng.normal(0.6, 1, 16)
    y, cache = ops.batch_norm(x.reshape(-1, 1, 1, 1), np.ones(1), np.zeros(1))
    dx = ops.batch_norm_backward(dy.reshape(-1, 1, 1, 1), cache)[0].ravel()
    figure = Figure(WIDE)
    left, right = figure.subplots(1, 2)
    left.plot(x, y.ravel(), "o", color=BLUE)
    left.set_xlabel("x")
    left.set_ylabel("y: mean 0, deviation 1")
    order = np.argsort(x)
    right.plot(y.ravel()[order], dy[order], "o", color=GREY, label="dy")
    right.plot(y.ravel()[order], dx[order], "o", color=VERMILLION, label="dx")
    right.axhline(0, color=GREY, linewidth=0.8)
    right.set_xlabel("y")
    right.legend(frameon=False)
    figure.tight_layout(w_pad=3)
    return figure


def learned_steps() -> Figure:
    """LSQ's step from three starts under gradient descent, to one place"""
    figure = Figure(WIDE)
    left, right = figure.subplots(1, 2)
    v = SAMPLE[:2000]
    for start, colour in zip((0.1, 0.5, 1.2), COURSES, strict=False):
        s, velocity, course = np.array(start), np.zeros(()), []
        for _ in range(150):
            v_hat, cache = quantizers.lsq(v, s, q_n=4, q_p=3)
            dv_hat = 2 * (v_hat - v) / v.size
            _, ds = quantizers.lsq_backward(dv_hat, cache)
            course.append((float(s), float(np.mean((v_hat - v) ** 2))))
            s, velocity = nn.sgd_step(s, ds, velocity, lr=0.05, momentum=0.9)
        steps, losses = np.array(course).T
        left.plot(steps, color=colour, label=f"from {start:g}")
        right.semilogy(losses, color=colour)
    left.set_ylabel("step s")
    right.set_ylabel("mean squared error")
    left.set_xlabel("iteration")
    right.set_xlabel("iteration")
    left.legend(frameon=False)
    figure.tight_layout(w_pad=3)
    return figure


def two_roundings() -> Figure:
    """Codes of one and of two roundings, and the accumulators at which they differ"""
    acc = np.arange(-40, 41, dtype=np.int32)
    m, shift = integer.quantize_multiplier(0.23)
    asked = {"q_min": -128, "q_max": 127}
    one = integer.requantize(acc, m, shift, 0, rounding="half_up", **asked)
    two = integer.requantize(acc, m, shift, 0, rounding="two_stage_half_away", **asked)
    figure = Figure(WIDE)
    axes = figure.subplots()
    axes.plot(acc, 0.23 * acc, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.step(acc, one, where="mid", color=BLUE, label="half_up: one rounding")
    other = one != two
    axes.plot(
        acc[other], two[other], "o", color=VERMILLION, label="two_stage_half_away"
    )
    axes.set_xlabel("accumulator")
    axes.set_ylabel("code")
    axes.legend(frameon=False)
    figure.tight_layout()
    return figure


def allocations() -> Figure:
    """Size and error of every way to give four layers two to six bits, and the front"""
    rng = np.random.default_rng(5)
    sizes, spreads = np.array([400, 1600, 1600, 640]), (1.0, 0.6, 0.3, 1.4)
    layers = [rng.normal(0, spread, 400) for spread in spreads]
    error = np.array([[lost(w, bits) for bits in range(2, 7)] for w in layers])
    choice = np.indices((5,) * 4).reshape(4, -1)
    size = (sizes[:, None] * (choice + 2)).sum(0) / 1e3
    loss = np.array([error[i, choice[i]] for i in range(4)]).sum(0)
    order = np.argsort(size, kind="stable")
    best = order[loss[order] <= np.minimum.accumulate(loss[order])]
    figure = Figure(WIDE)
    axes = figure.subplots()
    axes.semilogy(size, loss, ".", color=PALE, markersize=4, label="625 allocations")
    axes.semilogy(size[best], loss[best], ".-", color=BLUE, label="the front")
    same = [np.flatnonzero((choice == k).all(0))[0] for k in range(5)]
    axes.semilogy(size[same], loss[same], "o", color=VERMILLION, label="one bit-width")
    axes.set_xlabel("weights, kbit")
    axes.set_ylabel("error")
    axes.legend(frameon=False)
    figure.tight_layout()
    return figure


def lost(w: np.ndarray, bits: int) -> float:
    """mean (Q(w) - w)^2"""
    w = w[None]
    a = quantizers.gaussian_clip(w, bits=bits)
    return float(np.mean((quantizers.fixed_point(w, a, bits=bits)[0] - w) ** 2))


def magnitude_variances() -> Figure:
    """Variance of the mean magnitude of a filter over its size, by correlation"""
    figure = Figure(WIDE)
    axes = figure.subplots()
    sizes = (1, 2, 4, 9, 18, 36, 72, 144, 288)
    for r, colour in zip((0.0, 0.1, 0.3, 0.6), COURSES, strict=False):
        same = [np.where(np.eye(d), 1.0, r) for d in sizes]
        exact = [mean_abs_variance(each) for each in same]
        axes.loglog(sizes, exact, ".-", color=colour, label=f"r = {r:g}")
    axes.set_xlabel("weights in a filter, d")
    axes.set_ylabel("variance / sigma²")
    axes.legend(frameon=False)
    figure.tight_layout()
    return figure


def differences() -> Figure:
    """Where a kernel that rounds half away differs from one that rounds half up"""
    acc = np.arange(-64, 65, dtype=np.int32)
    figure = Figure((8.4, 2.8))
    axes = figure.subplots()
    m, shift = integer.quantize_multiplier(0.125)
    asked = {"q_min": -128, "q_max": 127}
    want = integer.requantize(acc, m, shift, 0, rounding="half_up", **asked)
    names = ("half_away", "half_even", "floor")
    for row, (name, colour) in enumerate(zip(names, COURSES, strict=False)):
        own = integer.requantize(acc, m, shift, 0, rounding=name, **asked)
        apart = acc[own != want]
        axes.plot(apart, np.full(apart.shape, row), "|", color=colour, markersize=14)
    axes.set_yticks(range(3), names)
    axes.invert_yaxis()
    axes.set_xticks(np.arange(-64, 65, 16))
    axes.set_xlabel("accumulators, times 1/8, whose code is not that of half_up")
    axes.set_ylim(2.6, -0.6)
    figure.tight_layout()
    return figure
