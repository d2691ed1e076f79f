"""Is a backward the gradient of its forward, and if not, which mistake is it?

``check_gradients`` compares the slope along a random direction with what the backward
claims for it, so the check costs two forwards an argument. Only where they differ is
every entry differenced, and the mistake named (``mistakes.py``).

A straight-through quantizer is constant almost everywhere; what its backward is the
exact gradient of is the forward with its rounding residual held, ``frozen=cache``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from refqnn._types import Float
from refqnn.testing.mistakes import diagnosis
from refqnn.testing.trials import (
    BOUND,
    STEPS,
    Op,
    Trial,
    as_tuple,
    check_form,
    derivative,
    draw_dy,
    inner,
    record,
)


def check_gradients(
    forward: Op,
    backward: Op,
    args: Sequence[Any],
    *,
    wrt: int | str | Sequence[int | str],
    frozen: bool = False,
    options: Mapping[str, Any] | None = None,
    rng: np.random.Generator | None = None,
) -> float:
    """<backward(dy), u> = <dy, f(a + hu) - f(a - hu)> / 2h, the largest relative error.

    ``forward(*args, **options) -> (y, cache)``, ``backward(dy, cache)`` -> gradients in
    the order of ``wrt``, which are positions or names of arguments. With ``frozen`` the
    forward is differenced as ``forward(*args, frozen=cache, **options)``. Everything is
    computed in float64.

    Raises AssertionError that names the gradient, the place, both numbers and the
    mistake that fits; ValueError for a ``wrt`` that names no float argument.

    >>> def square(x): return x * x, x
    >>> check_gradients(square, lambda dy, x: 2 * x * dy, [np.ones(3)], wrt=0) < 1e-6
    True
    >>> check_gradients(square, lambda dy, x: x * dy, [np.ones(3)], wrt=0)
    Traceback (most recent call last):
        ...
    AssertionError: dx[0] is -1.12573, the slope is -2.25146: a factor of 0.5
    """
    rng = np.random.default_rng(0) if rng is None else rng
    trial = record(forward, backward, args, wrt, frozen=frozen, options=options or {})
    dys = [draw_dy(rng, trial.y) for _ in range(2)]
    claims = [trial.gradients(dy) for dy in dys]
    for k, at in enumerate(trial.wrt):
        for grad in (grads[k] for grads in claims):
            if trial.args[at] is not None:
                check_form(grad, trial.args[at], trial.names[k])
            elif grad is not None:
                raise AssertionError(f"d{trial.names[k]} must be None, as the argument")
    for first, again in zip(claims[0], trial.gradients(dys[0]), strict=True):
        if first is not None and not np.allclose(again, first, rtol=1e-9):
            raise AssertionError(
                "backward gives another answer for the same dy when it is called "
                "again: it writes into its cache, or adds to earlier answers"
            )
    worst = 0.0
    for k, at in enumerate(trial.wrt):
        if trial.args[at] is None:
            continue
        error = slope_error(trial, at, dys, [grads[k] for grads in claims], rng)
        if not error <= BOUND:
            raise AssertionError(diagnosis(trial, k, dys[0]))
        worst = max(worst, error)
    return worst


def slope_error(
    trial: Trial,
    at: int,
    dys: Sequence[Any],
    grads: Sequence[Float],
    rng: np.random.Generator,
) -> float:
    """Compare claimed and numerical slopes along one direction, for every dy.

    An error beyond the bound counts only if no step agrees: a wrong gradient agrees
    with none.
    """
    u = rng.normal(size=np.shape(trial.args[at]))
    error = np.inf
    for step in STEPS:
        moved, noise = derivative(trial, at, u, step)
        here = 0.0
        for dy, grad in zip(dys, grads, strict=True):
            slope = inner(dy, moved)
            claimed = float(np.sum(grad * u))
            scale = max(float(np.abs(grad * u).sum()), abs(slope))
            slack = inner([np.abs(d) for d in as_tuple(dy)], noise)
            off = abs(claimed - slope)
            if off > BOUND * scale:  # beyond the bound and beyond the roundings
                off = max(off - slack, 0.0)
            here = max(here, off / scale if off else 0.0)
        error = min(error, here)
        if error <= BOUND:
            break
    return error
