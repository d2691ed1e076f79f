"""Networks of one size in different precisions, and which of them are better.

Chin, Chuang, Chandra, Marculescu. arXiv:2008.09916, section 4.

    paper                              code               where
    N(b, s)                            Aligned            align
    Acc(N(A, s)) > Acc(N(B, s)), 4.1   Domination         domination
    "2x wider aligns 1 with 4 bit"     b I w^2 + 8 E w    quadratic_width

Definition 4.1 asks "for all s", which no experiment answers. Chosen here: a curve of
finitely many networks is interpolated in log C_size; two curves are compared where both
have sizes, and one dominates where its lead is above two pooled standard errors all
along. Otherwise they are not comparable, so domination is not transitive: A may
dominate B and B dominate C on other sizes while A and C share none.

C_size need not rise with the width: ResNet50 as the paper counts it needs a projection
at 0.99 that it does not need at 1. So the grid of widths is scanned to its end.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from refqnn._types import Float
from refqnn.cost import c_size_bits
from refqnn.nn import Sequential

#: bits of the weights of first and last layer
END_BITS = 8


class Aligned(NamedTuple):
    """The widest network of a grid that is not larger than asked for."""

    width: float
    c_size_bits: int
    residual_bits: float  # what is left of the size asked for


class Curve(NamedTuple):
    """Networks of one family and precision by size, with accuracies over some runs."""

    c_size_bits: Sequence[float]
    accuracy: Sequence[float]
    standard_error: Sequence[float]


class Domination(NamedTuple):
    """Which of two curves dominates: "first", "second", "not comparable"."""

    verdict: str
    #: sizes in bits that both have; None if there are none
    interval: tuple[float, float] | None
    #: the smallest lead at the sizes of both within the interval, of the first and of
    #: the second, in pooled standard errors; NaN without an interval
    leads: tuple[float, float]


def width_grid(first: float = 0.01, last: float = 4.0) -> tuple[float, ...]:
    """Return every hundredth from ``first`` to ``last``.

    >>> width_grid(0.98, 1.01)
    (0.98, 0.99, 1.0, 1.01)
    """
    if not 0 < first <= last < math.inf:
        raise ValueError(f"widths must ascend from above 0, got {first} to {last}")
    ends = round(100 * first), round(100 * last)
    return tuple(k / 100 for k in range(max(ends[0], 1), ends[1] + 1))


def sizes_on(
    widths: Sequence[float],
    make: Callable[..., Sequential],
    measure: Callable[[Sequential], int] = c_size_bits,
) -> list[int]:
    """Return C_size in bits of the networks ``make(width=w)``; they need no weights.

    ``measure`` may be another cost of a network.

    >>> from functools import partial
    >>> from refqnn.networks import named
    >>> make = partial(named, "resnet50", weight_bits=8, rng=None)
    >>> sizes_on((0.99, 1.0), make)
    [233593864, 204176128]
    """
    return [measure(make(width=width)) for width in widths]


def align(widths: Sequence[float], sizes: Sequence[int], target: float) -> Aligned:
    """N(b, s): the largest width whose C_size is at most ``target`` bits.

    ``sizes`` are those of ``sizes_on(widths, ...)``, which serve for many targets.
    Raises ValueError for a size below the smallest network of the grid, and for one
    that leaves room beside the widest: a wider one, not on the grid, might fit.

    >>> align((0.5, 1.0, 1.5), (10, 40, 90), 50)
    Aligned(width=1.0, c_size_bits=40, residual_bits=10)
    """
    if len(widths) != len(sizes) or not widths:
        raise ValueError(
            f"widths and sizes must be as many, and not none: {len(widths)} widths, "
            f"{len(sizes)} sizes"
        )
    least, widest = min(sizes), max(range(len(widths)), key=lambda i: widths[i])
    bounds = (
        f"must be in [{least}, {sizes[widest]}] bits, from the smallest network of the "
        f"grid to that of width {widths[widest]}, got {target}"
    )
    if not least <= target <= sizes[widest]:
        raise ValueError(f"target {bounds}")
    fitting = [
        (width, size)
        for width, size in zip(widths, sizes, strict=True)
        if size <= target
    ]
    width, size = max(fitting)
    return Aligned(width, size, target - size)


def quadratic_width(target: float, *, inner: int, ends: int, bits: int) -> float:
    """w with b I w^2 + 8 E w = s: the width if channels need not be whole numbers.

    ``inner`` weights have channels on both sides, ``ends`` on one, at width 1. Raises
    ValueError for a negative size, and for no weights or bits.

    >>> quadratic_width(4 * 100, inner=100, ends=0, bits=1)  # 4 bits become 1
    2.0
    >>> round(quadratic_width(4 * 100 + 8 * 5, inner=100, ends=5, bits=1), 2)
    1.91
    """
    if not 0 <= target < math.inf or inner < 1 or ends < 0 or bits < 1:
        raise ValueError(
            "target must be in [0, inf), inner and bits at least 1, ends at least 0, "
            f"got {target}, {inner}, {bits} and {ends}"
        )
    linear = END_BITS * ends
    root = math.sqrt(linear**2 + 4 * bits * inner * target)
    return (root - linear) / (2 * bits * inner)


def domination(first: Curve, second: Curve) -> Domination:
    """Say who leads by two standard errors everywhere: definition 4.1, finite curves.

    Between sizes accuracies and standard errors are linear in log C_size. The lead
    minus twice the pooled error is then concave between neighbouring sizes, so that it
    is least at one of them: only those of the two curves are looked at.

    >>> low = Curve((1e6, 4e6), (60.0, 70.0), (0.2, 0.2))
    >>> high = Curve((1e6, 4e6), (59.0, 69.0), (0.2, 0.2))
    >>> domination(low, high).verdict, domination(low, low).verdict
    ('first', 'not comparable')
    """
    check_curve(first, name="first")
    check_curve(second, name="second")
    low = max(min(curve.c_size_bits) for curve in (first, second))
    high = min(max(curve.c_size_bits) for curve in (first, second))
    if low > high:
        return Domination("not comparable", None, (math.nan, math.nan))
    sizes = np.array([*first.c_size_bits, *second.c_size_bits], float)
    sizes = sizes[(low <= sizes) & (sizes <= high)]
    (a, error_a), (b, error_b) = along(first, sizes), along(second, sizes)
    pooled = np.hypot(error_a, error_b)
    verdict = "not comparable"
    if np.all(a - b > 2 * pooled):
        verdict = "first"
    elif np.all(b - a > 2 * pooled):
        verdict = "second"
    return Domination(
        verdict, (low, high), (least_lead(a - b, pooled), least_lead(b - a, pooled))
    )


def along(curve: Curve, sizes: Float) -> tuple[Float, Float]:
    """Return accuracy and standard error at sizes within the curve."""
    order = np.argsort(curve.c_size_bits)
    log_size = np.log(np.asarray(curve.c_size_bits, float)[order])
    return (
        np.interp(np.log(sizes), log_size, np.asarray(curve.accuracy, float)[order]),
        np.interp(
            np.log(sizes), log_size, np.asarray(curve.standard_error, float)[order]
        ),
    )


def least_lead(lead: Float, pooled: Float) -> float:
    """Return the smallest lead in standard errors; infinite where there is no error."""
    safe = np.where(pooled > 0, pooled, 1)
    infinite = np.where(lead == 0, 0.0, np.copysign(np.inf, lead))
    return float(np.min(np.where(pooled > 0, lead / safe, infinite)))


def check_curve(curve: Curve, *, name: str) -> None:
    """Raise unless a curve has sizes above 0, each once, and errors that are finite."""
    parts = [np.asarray(part, float) for part in curve]
    if len({part.shape for part in parts}) != 1 or parts[0].ndim != 1:
        raise ValueError(f"{name}: sizes, accuracies and errors must be as many")
    sizes, accuracy, errors = parts
    if not sizes.size or not np.all(sizes > 0) or len(set(sizes)) != sizes.size:
        raise ValueError(f"{name}: sizes must be above 0, each once, got {sizes}")
    if not np.isfinite([*sizes, *accuracy, *errors]).all() or np.any(errors < 0):
        raise ValueError(f"{name}: all must be finite, standard errors not negative")
