"""Which mistake turns the numerical gradient into the one that a backward claims?

Every entry is differenced, and the backward is asked for one output at a time: both
give the matrix of derivatives d y[j] / d a[e], in which a wrong mask is a row and a
wrong scale a factor, for a learned parameter as for the values.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from refqnn._types import Array, Bool, Float
from refqnn.testing.trials import BOUND, STEPS, Trial, as_tuple, derivative, inner

#: entries that are differenced one by one, and outputs that are asked for one by one
MOST = 512
CLOSE = 1e-5
UNKNOWN = "no simple mistake fits"
NOTHING = "it is zero, the mask is closed everywhere or nothing was set"


def diagnosis(trial: Trial, k: int, dy: Any) -> str:
    """Say where gradient k is wrong, both numbers, and the mistake that fits."""
    name, at = trial.names[k], trial.wrt[k]
    grad = np.asarray(trial.gradients(dy)[k])
    entries = np.arange(grad.size)
    if grad.size > MOST:
        entries = np.linspace(0, grad.size - 1, MOST).astype(int)
    columns = [column(trial, at, int(e), STEPS[0]) for e in entries]
    slopes = np.array([inner(dy, parts) for parts in columns])
    claimed = grad.ravel()[entries]
    worst = int(np.abs(claimed - slopes).argmax())
    place = ", ".join(map(str, np.unravel_index(entries[worst], grad.shape)))
    where = f"d{name}[{place}]" if grad.ndim else f"d{name}"
    both = claimed[worst] + 0.0, slopes[worst] + 0.0  # -0.0 is 0.0
    numbers = f"{where} is {both[0]:.6g}, the slope is {both[1]:.6g}"
    kink = kink_at(trial, at, int(entries[worst]))
    if kink:
        return f"{numbers}: {kink}"
    if not trial.frozen and np.any(claimed) and not np.any(slopes):
        constant = "the forward is constant; difference its smooth form, frozen=True"
        return f"{numbers}: {constant}"
    if not np.any(grad):
        return f"{numbers}: {NOTHING}"
    fits = dy_mistake(trial, k, dy, grad) or exchange_of(trial, k, dy, entries, slopes)
    if not fits:
        case = matrices(trial, k, entries, columns, claimed, slopes)
        fits = matrix_mistake(case)
    if fits.startswith(UNKNOWN) and all(map(in_single, as_tuple(trial.y))):
        fits += "; the outputs have the bits of float32: is it computed in float32?"
    return f"{numbers}: {fits}"


def in_single(y: Any) -> bool:
    """Whether no value has more bits than a float32.

    >>> [in_single(np.array(y)) for y in (0.5, 0.1, 1e300)]
    [True, False, False]
    """
    with np.errstate(over="ignore"):
        return bool(np.all(np.asarray(y).astype(np.float32) == y))


def column(trial: Trial, at: int, entry: int, step: float) -> tuple[Float, ...]:
    """Difference every output by one entry of argument ``at``."""
    u = np.zeros(np.shape(trial.args[at]))
    u.reshape(-1)[entry] = 1
    return derivative(trial, at, u, step)[0]


def kink_at(trial: Trial, at: int, entry: int) -> str:
    """Say so where the slopes to the left and to the right are not the same."""
    value = np.asarray(trial.args[at])
    h = STEPS[0] * (float(np.abs(value).mean()) or 1.0)
    u = np.zeros(value.shape)
    u.reshape(-1)[entry] = h
    below, here, above = (trial.outputs(at, value + way * u) for way in (-1, 0, 1))
    for low, mid, high in zip(below, here, above, strict=True):
        left, right = (mid - low) / h, (high - mid) / h
        room = 1e-2 * (np.abs(left) + np.abs(right)).max(initial=0) + 1e-6
        if not trial.frozen and np.any(np.abs(left - right) > room):
            return (
                "the forward jumps or bends there; draw other arguments, or difference "
                "its smooth form with frozen=True"
            )
    return ""


def dy_mistake(trial: Trial, k: int, dy: Any, grad: Float) -> str:
    """Name a wrong use of dy: the backward is linear in it, and none other is."""

    def answer(change: Any) -> Float:
        parts = tuple(change(d) for d in as_tuple(dy))
        given = parts if isinstance(dy, tuple) else parts[0]
        return np.asarray(trial.gradients(given)[k])

    double, magnitude = answer(lambda d: 2 * d), answer(np.abs)
    if same(double, grad):
        if same(answer(lambda d: d * 0 + 1), grad):
            return "dy is not used"
        return "only the sign of dy is used"
    if not same(double, 2 * grad):
        return "the backward is not linear in dy"
    turned = answer(np.negative)
    if same(magnitude, grad) and same(turned, grad):
        return "computed with |dy| instead of dy"
    return "" if same(turned, -grad) else "the backward is not linear in dy"


def exchange_of(trial: Trial, k: int, dy: Any, entries: Array, slopes: Float) -> str:
    """Name another gradient, or a transposed one, that stands in this place."""
    every = [np.asarray(g) for g in trial.gradients(dy)]
    for j, other in enumerate(every):
        alike = j != k and other.shape == every[k].shape and np.any(slopes)
        if alike and same(other.ravel()[entries], slopes):
            return f"it is exchanged with d{trial.names[j]}"
    mine = every[k]
    whole = mine.ndim == 2 and mine.shape == mine.T.shape and mine.size == slopes.size
    return "it is transposed" if whole and same(mine.T.ravel(), slopes) else ""


@dataclass(frozen=True)
class Matrices:
    """d y[j] / d a[e], claimed and numerical: (J, E); values beside the outputs."""

    claimed: Float
    slopes: Float
    #: the first argument at every output, if it has the shape of the output
    values: Float | None
    size: int


def matrices(
    trial: Trial,
    k: int,
    entries: Array,
    columns: list[tuple[Float, ...]],
    claimed: Float,
    slopes: Float,
) -> Matrices:
    """Ask the backward for one output at a time; for the sums if there are too many."""
    y = as_tuple(trial.y)
    size = sum(np.size(part) for part in y)
    if len(y) > 1 or size > MOST:
        return Matrices(claimed[None], slopes[None], None, size)
    shape = np.shape(y[0])
    rows = []
    for j in range(size):
        one = np.zeros(size)
        one[j] = 1
        dy = one.reshape(shape) if shape else 1.0
        rows.append(np.asarray(trial.gradients(dy)[k]).ravel()[entries])
    first = np.asarray(trial.args[0])
    values = first.ravel() if first.shape == shape and first.dtype.kind == "f" else None
    numerical = np.array([parts[0].ravel() for parts in columns]).T
    return Matrices(np.array(rows), numerical, values, size)


def matrix_mistake(case: Matrices) -> str:
    """Name what turns the numerical matrix into the claimed one."""
    claimed, slopes = case.claimed, case.slopes
    if not np.any(claimed):
        return NOTHING
    factor = factor_of(claimed, slopes)
    if factor is not None:
        return factor_text(factor, case.size)
    return moved_mistake(case) or mask_mistake(case) or partial_mistake(case)


def moved_mistake(case: Matrices) -> str:
    """Say so where every wrong entry has the derivatives of another one: rolled."""
    claimed, slopes = case.claimed.T, case.slopes.T
    wrong = np.flatnonzero(~close(claimed, slopes).all(axis=1))
    alive = [e for e in wrong if np.any(claimed[e])]
    others = [close(claimed[e][None], slopes).all(axis=1) for e in alive]
    if len(alive) > 1 and len(slopes[0]) > 1 and all(each.any() for each in others):
        return "the right gradients stand at other entries: rolled or out of order"
    return ""


def mask_mistake(case: Matrices) -> str:
    """Name a mask: 0 against not 0 at some places, agreement at all others."""
    claimed, slopes = case.claimed, case.slopes
    small = CLOSE * np.abs(slopes).max(initial=0)
    differs = ~close(claimed, slopes)
    masks = {
        "opened": differs & (np.abs(slopes) <= small),
        "closed": differs & (np.abs(claimed) <= small),
    }
    for which, places in masks.items():
        if np.array_equal(differs, places):
            return f"the mask is {which} {side(differs, case)}"
    if np.array_equal(differs, masks["opened"] | masks["closed"]):
        opened, closed = (side(places, case) for places in masks.values())
        return f"the mask is opened {opened} and closed {closed}"
    return ""


def partial_mistake(case: Matrices) -> str:
    """Name what is added everywhere, or a factor at some of the outputs."""
    claimed, slopes = case.claimed, case.slopes
    differs = ~close(claimed, slopes)
    offset = (claimed - slopes)[differs]
    if differs.all() and np.ptp(offset) <= CLOSE * np.abs(offset).max():
        return f"{offset[0]:.6g} is added everywhere"
    part = factor_of(claimed[differs], slopes[differs])
    if part is not None:
        return f"{factor_text(part, case.size)} {side(differs, case)}"
    return f"{UNKNOWN}; it differs {side(differs, case)}"


def factor_of(claimed: Float, slopes: Float) -> float | None:
    """k other than 0 with claimed = k slopes, or None."""
    whole = float(np.sum(slopes * slopes))
    if not whole:
        return None
    k = float(np.sum(claimed * slopes)) / whole
    return k if k and same(claimed, k * slopes) else None


def factor_text(k: float, size: int) -> str:
    """Name a factor; 1/n and n of n outputs are a mean and a sum exchanged.

    >>> factor_text(0.5, 7), factor_text(1 / 7, 7)
    ('a factor of 0.5', 'the mean over 7 outputs where the sum belongs')
    """
    if abs(k + 1) < CLOSE:
        return "the sign is turned"
    if size > 2 and abs(k * size - 1) < CLOSE:
        return f"the mean over {size} outputs where the sum belongs"
    if size > 2 and abs(k / size - 1) < CLOSE:
        return f"the sum over {size} outputs where the mean belongs"
    return f"a factor of {k:.6g}"


def side(wrong: Bool, case: Matrices) -> str:
    """Say on which side of the values the wrong outputs lie.

    A side is seen against the places that agree; where those lie on both sides, against
    those of them that let a gradient through.
    """
    rows = wrong.any(axis=1)
    if rows.all():
        return "everywhere"
    if case.values is None:
        return f"at {rows.sum()} of {rows.size} outputs"
    bad = case.values[rows]
    span = f"(values {bad.min():.6g} to {bad.max():.6g})"
    for good in (~rows, ~rows & (np.abs(case.slopes).max(axis=1) > 0)):
        where = side_of(bad, case.values[good])
        if where:
            return f"{where} {span}"
    return f"at {rows.sum()} of {rows.size} outputs {span}"


def side_of(bad: Float, good: Float) -> str:
    """Say where bad values lie beside good ones; "" where they are mixed.

    >>> side_of(np.array([1.0, 2.0]), np.array([0.0])), side_of(np.ones(1), np.zeros(0))
    ('on the upper side', '')
    """
    if not good.size:
        return ""
    if bad.min() >= good.max():
        return "on the upper side"
    if bad.max() <= good.min():
        return "on the lower side"
    if not np.any((bad >= good.min()) & (bad <= good.max())):
        return "on both outer sides"
    return "" if np.any((good >= bad.min()) & (good <= bad.max())) else "in the middle"


def close(claimed: Float, slopes: Float) -> Bool:
    """Say where two gradients agree, by the size of the larger and of the largest."""
    largest = np.abs(slopes).max(initial=0)
    room = CLOSE * np.maximum(np.abs(claimed), np.abs(slopes)) + BOUND * largest
    return np.abs(claimed - slopes) <= room


def same(claimed: Float, slopes: Float) -> bool:
    """Whether two gradients agree everywhere."""
    return bool(close(np.asarray(claimed), np.asarray(slopes)).all())
