"""Rounding, sign and clip whose backward passes straight through the rounding.

    y = R(x),   dx = dy m,   m = 1 where the gradient passes, else 0               (1)

is the exact gradient of the smooth function that holds the residual of a recorded x0:

    y = m0 x + r0,   r0 = R(x0) - m0 x0                                            (2)

``op(x, frozen=cache)`` computes (2) with the m0, r0 of that cache, so finite
differences of it are what the backward must return. Bengio, Leonard, Courville.
Estimating or Propagating Gradients Through Stochastic Neurons. 2013, arXiv:1308.3432.
"""

from typing import NamedTuple

import numpy as np

from refqnn._types import Bool, Float
from refqnn.ops.checks import check_float, check_gradient
from refqnn.prompt import one_line


@one_line
class StraightThroughCache(NamedTuple):
    """Where the gradient passes, and the residual that freezes the rounding."""

    inside: Bool  # m
    residual: Float  # r0


def straight_through_round(
    x: Float, *, frozen: StraightThroughCache | None = None
) -> tuple[Float, StraightThroughCache]:
    """y = round(x), ties to even; gradient 1

    x: (...)  ->  y: (...)

    Raises ValueError for NaN and infinity, which leave no residual.

    >>> straight_through_round(np.array([0.4, 0.5, 1.5]))[0]
    array([0., 0., 2.])
    """
    check_float(x=x)
    if not np.isfinite(x).all():
        raise ValueError("x must be finite: infinity and NaN leave no residual")
    if frozen is not None:
        return frozen_form(x, frozen), frozen
    y = np.rint(x)
    inside = np.ones(x.shape, bool)
    return y, StraightThroughCache(inside, residual(x, y, inside))


def straight_through_round_backward(dy: Float, cache: StraightThroughCache) -> Float:
    """dx = dy

    dy: (...)  ->  dx: (...)

    >>> _, cache = straight_through_round(np.array([0.4]))
    >>> straight_through_round_backward(np.array([3.0]), cache)
    array([3.])
    """
    return masked_backward(dy, cache)


def straight_through_sign(
    x: Float, *, closed: bool = False, frozen: StraightThroughCache | None = None
) -> tuple[Float, StraightThroughCache]:
    """y = 1 if x >= 0 else -1; gradient 1 where abs(x) < 1

    x: (...)  ->  y: (...)

    ``closed`` lets the gradient pass at abs(x) = 1, too. NaN has no sign: ValueError.

    >>> straight_through_sign(np.array([-0.3, 0.0, 2.0]))[0]
    array([-1.,  1.,  1.])
    """
    check_float(x=x)
    if np.isnan(x).any():
        raise ValueError("x must not be NaN: NaN has no sign")
    if frozen is not None:
        return frozen_form(x, frozen), frozen
    y = np.where(x >= 0, x.dtype.type(1), x.dtype.type(-1))
    inside = between(x, -1, 1, closed=closed)
    return y, StraightThroughCache(inside, residual(x, y, inside))


def straight_through_sign_backward(dy: Float, cache: StraightThroughCache) -> Float:
    """dx = dy where abs(x) < 1, else 0

    dy: (...)  ->  dx: (...)

    >>> _, cache = straight_through_sign(np.array([-0.3, 1.0, 2.0]))
    >>> straight_through_sign_backward(np.array([5.0, 5.0, 5.0]), cache)
    array([5., 0., 0.])
    """
    return masked_backward(dy, cache)


def straight_through_clip(
    x: Float,
    lo: float,
    hi: float,
    *,
    closed: bool = False,
    frozen: StraightThroughCache | None = None,
) -> tuple[Float, StraightThroughCache]:
    """y = min(max(x, lo), hi); gradient 1 where lo < x < hi

    x: (...), lo: (), hi: ()  ->  y: (...)

    ``closed`` lets the gradient pass at the bounds, too. Raises ValueError if lo > hi.

    >>> straight_through_clip(np.array([-3.0, 0.5, 3.0]), -1, 2)[0]
    array([-1. ,  0.5,  2. ])
    """
    check_float(x=x)
    if not lo <= hi:
        raise ValueError(f"lo must be at most hi, got lo = {lo}, hi = {hi}")
    if frozen is not None:
        return frozen_form(x, frozen), frozen
    y = np.clip(x, x.dtype.type(lo), x.dtype.type(hi))
    inside = between(x, lo, hi, closed=closed)
    return y, StraightThroughCache(inside, residual(x, y, inside))


def straight_through_clip_backward(dy: Float, cache: StraightThroughCache) -> Float:
    """dx = dy where lo < x < hi, else 0

    dy: (...)  ->  dx: (...)

    >>> _, cache = straight_through_clip(np.array([-3.0, 0.5, 2.0]), -1, 2)
    >>> straight_through_clip_backward(np.array([5.0, 5.0, 5.0]), cache)
    array([0., 5., 0.])
    """
    return masked_backward(dy, cache)


def between(x: Float, lo: float, hi: float, *, closed: bool) -> Bool:
    """Return where lo < x < hi, or lo <= x <= hi with ``closed``."""
    return (lo <= x) & (x <= hi) if closed else (lo < x) & (x < hi)


def residual(x: Float, y: Float, inside: Bool) -> Float:
    """r0 = y - m x, equation (2)

    x: (...), y: (...), inside: (...)  ->  (...)

    >>> residual(np.array([0.75, 9.0]), np.array([1.0, 1.0]), np.array([True, False]))
    array([0.25, 1.  ])
    """
    return y - np.where(inside, x, 0)  # (2), r0


def frozen_form(x: Float, cache: StraightThroughCache) -> Float:
    """y = m0 x + r0, equation (2)

    x: (...)  ->  (...)

    >>> cache = StraightThroughCache(np.array([True]), np.array([0.25]))
    >>> frozen_form(np.array([0.5]), cache)
    array([0.75])
    """
    if x.shape != cache.inside.shape:
        raise ValueError(
            f"x and frozen disagree: x{x.shape}, frozen{cache.inside.shape}"
        )
    return np.where(cache.inside, x, 0) + cache.residual  # (2)


def masked_backward(dy: Float, cache: StraightThroughCache) -> Float:
    """dx = dy m, equation (1)

    dy: (...)  ->  (...)
    """
    check_gradient(dy, cache.inside.shape)
    return np.where(cache.inside, dy, 0)  # (1)
