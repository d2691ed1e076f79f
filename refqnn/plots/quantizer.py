"""A quantizer on values: transfer function, surrogate gradient, codebook."""

import copy
import re
import sys
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from refqnn._types import Array, Float
from refqnn.core import Run, named_params, zero_grads
from refqnn.plots.gallery import GALLERY_KEY, Transfer, draw_row
from refqnn.plots.style import GREY, styled

#: passes that set the parameters of a quantizer, as the first steps of a training would
PASSES = 2
#: values at which the backward is asked
POINTS = 200


@styled
def transfer(quantizer: Any, v: Float) -> Figure:
    """Draw transfer function, surrogate gradient and codebook of a quantizer on v.

    v: (...), not all equal; of several groups one of middle spread. A quantizer whose
    numbers are not known yet is shown as the first two training passes set them; it is
    copied and stays as it is.
    """
    own = copy.deepcopy(quantizer)
    known = own.is_known() if hasattr(own, "is_known") else True
    row = measure(type(own).__name__, own, v, passes=0 if known else PASSES)
    figure = Figure((12, 4.4), dpi=110)
    figure.text(0.07, 0.94, row.kind, fontsize=12.5, weight="bold")
    figure.text(0.985, 0.94, row.source, fontsize=10.5, color=GREY, ha="right")
    figure.text(0.07, 0.03, GALLERY_KEY, fontsize=8.5, color=GREY)
    cells = figure.add_gridspec(
        1, 3, left=0.07, right=0.985, bottom=0.2, top=0.8, wspace=0.26
    )
    draw_row([figure.add_subplot(cells[i]) for i in range(3)], row)
    return figure


def measure(kind: str, quantizer: Any, v: Float, *, passes: int = PASSES) -> Transfer:
    """Measure one typical group of ``v: (...)`` before and after a quantizer.

    Training ``passes`` set the quantizer's numbers first.

    Raises ValueError where all values are equal: no error has a share of no variance.
    """
    if not np.ptp(v):
        raise ValueError(f"{kind.lower()} must differ, all are {v.flat[0]}")
    for _ in range(passes):
        quantizer.forward(v, Run(training=True))
    y, cache = quantizer.forward(v, Run())
    codes, every_level = quantizer.encode(v)
    every_boundary = quantizer.decision_boundaries(v)
    levels = every_level.reshape(len(every_boundary), -1)
    group_of = codes // levels.shape[1]
    group = typical(v, group_of, len(levels))
    members = np.flatnonzero(group_of == group)
    ranks = codes.flat[members] % levels.shape[1]
    at = spread_out(v, members)
    slopes, coupled = diagonal(quantizer, cache, v, at)
    zeros = np.mean(v.flat[members] == 0)
    note = f"{members.size:,} values" + (f", {zeros:.0%} of them 0" if zeros else "")
    if len(levels) > 1:
        what = "filter" if len(levels) == len(v) else "group"
        note = f"{what} {group + 1} of {len(levels)}: {note}"
    return Transfer(
        kind=kind,
        source=title_of(quantizer),
        note=note,
        values=v.flat[members],
        boundaries=every_boundary[group],
        levels=levels[group],
        shares=np.bincount(ranks, minlength=levels.shape[1]) / ranks.size,
        points=v.flat[at],
        slopes=slopes,
        coupled=coupled,
        learned=parameter_gradients(quantizer, cache, v),
        error=error(v, y),
        scaled_error=error(v, best_scale(v, y) * y),
    )


def typical(v: Float, group_of: Array, groups: int) -> int:
    """Return the group of the middle standard deviation."""
    spreads = [np.std(v[group_of == group]) for group in range(groups)]
    return int(np.argsort(spreads)[groups // 2])


def spread_out(v: Float, members: Array) -> Array:
    """Return indices into ``v.flat``, among ``members``, evenly spread by value.

    >>> spread_out(np.array([3.0, 1.0, 2.0]), np.array([0, 1, 2]))
    array([1, 2, 0])
    """
    ascending = members[np.argsort(v.flat[members], kind="stable")]
    values = v.flat[ascending]
    wanted = np.linspace(values[0], values[-1], POINTS)
    return ascending[np.unique(np.searchsorted(values, wanted))]


def diagonal(quantizer: Any, cache: Any, v: Float, at: Array) -> tuple[Float, bool]:
    """Return dy_i / dv_i for every i in ``at``, and whether other entries are not 0."""
    slopes, coupled = np.zeros(len(at)), False
    for k, i in enumerate(at):
        dy = np.zeros_like(v)
        dy.flat[i] = 1
        dv = quantizer.backward(dy, cache)
        slopes[k], dv.flat[i] = dv.flat[i], 0
        coupled |= bool(dv.any())
    return slopes, coupled


def parameter_gradients(quantizer: Any, cache: Any, v: Float) -> str:
    """Write the gradient of the mean of y for every learned parameter."""
    params = named_params(quantizer)
    if not params:
        return "no learned parameters"
    grads = []
    for dy in (np.full_like(v, 1 / v.size), np.zeros_like(v)):
        zero_grads(quantizer)
        quantizer.backward(dy, cache)
        grads.append([p.grad.copy() for p in params.values()])
    # less that of dy = 0: a decay is no gradient of y
    of_y = [with_y - without for with_y, without in zip(*grads, strict=True)]
    parts = [
        f"{name} {grad.item():.2g}"
        if grad.size == 1
        else f"{name} {np.linalg.norm(grad):.2g} (norm of {grad.size})"
        for name, grad in zip(params, of_y, strict=True)
    ]
    return "gradients of mean y: " + ", ".join(parts)


def error(v: Float, y: Float) -> float:
    """mean (y - v)^2 / var v

    >>> error(np.array([-1.0, 1.0]), np.array([-1.5, 1.5]))
    0.25
    """
    return float(np.mean((y.astype(np.float64) - v) ** 2) / np.var(v, dtype=np.float64))


def best_scale(v: Float, y: Float) -> float:
    """k = <v, y> / <y, y>: no multiple of y is nearer to v; 0 where all of y is.

    >>> best_scale(np.array([-1.0, 1.0]), np.array([-2.0, 2.0]))
    0.5
    """
    energy = np.sum(y * y, dtype=np.float64)
    return float(np.sum(v * y, dtype=np.float64) / energy) if energy else 0.0


def title_of(quantizer: Any) -> str:
    """Return the first line of the file of a quantizer, and its first citation."""
    text = sys.modules[type(quantizer).__module__].__doc__ or ""
    what, source = (" ".join(part.split()) for part in text.split("\n\n")[:2])
    return f"{what.rstrip('.')} ({short_citation(source)})"


def short_citation(source: str) -> str:
    """Return the first author, the year and the number of a citation.

    >>> short_citation("Chin, Chuang. One Bitwidth. ECCV 2020, arXiv:2008.09916.")
    'Chin et al., 2020, arXiv:2008.09916'
    """
    first, *others = source.split(". ", maxsplit=1)[0].split(",")
    number = re.search(r"(20\d\d,\s)?arXiv:[\d.]+\d|20\d\d(?=;)", source)
    where = f", {number.group()}" if number else ""
    return f"{first}{' et al.' if others else ''}{where}"
