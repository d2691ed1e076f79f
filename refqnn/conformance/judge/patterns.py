"""Patterns of a difference that no documented choice explains.

Each test reads two arrays and answers with a line, or with "": a pattern, and after an
arrow the mistake that leaves it.
"""

from collections.abc import Callable
from itertools import permutations

import numpy as np

from refqnn._types import Array
from refqnn.conformance.choices.families import equal

#: distance to a half integer that counts as a tie
NEAR = 2.0**-9


def structural(got: Array, want: Array) -> list[str]:
    """Return a line for every test that recognises the difference.

    >>> structural(np.array([4, 5, 6]), np.array([1, 2, 3]))
    ['got = want + 3 everywhere -> zero-point or bias']
    """
    if got.shape != want.shape:
        return [line for line in (test(got, want) for test in OF_SHAPES) if line]
    if got.size < 2 or equal(got, want).all():  # of one number anything is a ratio
        return []
    return [line for line in (test(got, want) for test in OF_VALUES) if line]


def moves(got: Array, want: Array) -> list[str]:
    """List how the same numbers are moved to other places, or shifted by one number.

    >>> moves(np.array([1, 2, 3]), np.array([3, 2, 1]))
    ['got is want flipped along axis 0 -> order of memory']
    """
    if got.shape != want.shape or got.size < 2 or equal(got, want).all():
        return []
    return [line for line in (test(got, want) for test in MOVES) if line]


def constant_offset(got: Array, want: Array) -> str:
    """Say so if got - want is one number, for everything or for each channel."""
    away = got.astype(np.float64) - want
    if is_constant(away):
        return f"got = want + {away.flat[0]:g} everywhere -> zero-point or bias"
    if away.ndim > 1 and away.shape[0] * away[0, 0].size > 1:
        rows = np.moveaxis(away, 1, 0).reshape(away.shape[1], -1)
        if all(is_constant(row) for row in rows):
            return "one offset for each channel of axis 1 -> bias"
    return ""


def constant_ratio(got: Array, want: Array) -> str:
    """Say so if got / want is one number."""
    some = want != 0
    if some.sum() < 2 or np.any(got[~some] != 0):
        return ""
    ratio = got[some].astype(np.float64) / want[some]
    middle = np.median(ratio)
    if middle == 1 or not np.allclose(ratio, middle, rtol=1e-5):
        return ""
    return f"got = {middle:.6g} want -> scale"


def reversed_axis(got: Array, want: Array) -> str:
    """Say so if got is want with one axis read backwards."""
    for axis in range(got.ndim):
        if got.shape[axis] > 1 and equal(got, np.flip(want, axis)).all():
            return f"got is want flipped along axis {axis} -> order of memory"
    return ""


def exchanged_axes(got: Array, want: Array) -> str:
    """Say so if axes are exchanged, in the shape or only in memory."""
    for order in permutations(range(want.ndim)):
        moved = want.transpose(order)
        same = list(order) == sorted(order)
        fits = not same and moved.size == got.size and moved.size > 1
        if fits and equal(got, moved.reshape(got.shape)).all():
            return f"got is want transposed to axes {order} -> layout"
    return ""


def permuted_axis(got: Array, want: Array) -> str:
    """Say so if channels, or gates, come in another order."""
    for axis in range(1, got.ndim):
        rows, others = (
            np.moveaxis(a, axis, 0).reshape(a.shape[axis], -1) for a in (got, want)
        )
        places = [
            next((j for j, o in enumerate(others) if equal(row, o).all()), -1)
            for row in rows[:256]
        ]
        if sorted(places) == list(range(len(others))):
            return f"axis {axis} is permuted: {places[:8]} -> channel or gate order"
    return ""


def wraps(got: Array, want: Array) -> str:
    """Say so if all differences are multiples of 2^n, n at least 8."""
    away = (got.astype(np.float64) - want)[~equal(got, want)]
    if not np.all(np.isfinite(away)) or np.any(away != np.rint(away)):
        return ""
    for n in (32, 24, 16, 8):
        if got.min() >= 0 and equal(got, np.mod(want, 2.0**n)).all():
            return f"got is want modulo 2^{n} -> read or stored as unsigned"
        if np.all(np.fmod(away, 2.0**n) == 0):
            return f"differences are multiples of 2^{n} -> accumulator of {n} bits"
    return ""


def saturates(got: Array, want: Array) -> str:
    """Say so if got is want, clipped at the ends of got."""
    wrong = ~equal(got, want)
    clipped = np.clip(want, got.min(), got.max())
    if wrong.sum() < 2 or not equal(got, clipped).all():
        return ""
    ends = np.unique(got[wrong])
    return f"every wrong value is {' or '.join(f'{e:g}' for e in ends)} -> saturation"


def not_a_number(got: Array, want: Array) -> str:
    """NaN where there should be numbers."""
    if got.dtype.kind != "f":
        return ""
    count = int((np.isnan(got) & ~np.isnan(want.astype(np.float64))).sum())
    return f"{count} NaN -> uninitialised memory, or 0 times infinity" if count else ""


def nibbles(got: Array, want: Array) -> str:
    """Say so if neighbours are exchanged: the two halves of a packed byte."""
    if got.shape[-1:] == () or got.shape[-1] % 2 or got.dtype.kind not in "iu":
        return ""
    if not np.all(np.isfinite(want)):
        return ""
    pairs = want.reshape(-1, 2)[:, ::-1].reshape(want.shape)
    if equal(got, pairs).all():
        return "neighbours are exchanged -> nibble order"
    wide = want.astype(np.int64) & 255
    swapped = ((wide & 15) << 4) | (wide >> 4)
    if equal(got.astype(np.int64) & 255, swapped).all():
        return "the halves of every byte are exchanged -> nibble order"
    return ""


def constant(got: Array, want: Array) -> str:
    """Say so if every element of got is the same number."""
    if got.size < 2 or not is_constant(got) or is_constant(want):
        return ""
    return f"got is {got.flat[0]} everywhere -> nothing was computed"


def one_size_off(got: Array, want: Array) -> str:
    """Say so if got has one row or column more or less."""
    if got.ndim != want.ndim:
        return f"{got.ndim} axes, want {want.ndim}"
    gaps = [abs(a - b) for a, b in zip(got.shape, want.shape, strict=True)]
    if max(gaps) == 1:
        return f"shape {got.shape}, want {want.shape} -> stride, padding or ceil"
    return ""


def is_constant(a: Array) -> bool:
    """Return whether all elements are the same."""
    return bool(np.all(a == a.flat[0]))


def near_ties(exact: Array, got: Array, want: Array) -> str:
    """Say so if every mismatch is where the real number lies beside a tie."""
    if exact.shape != got.shape or got.shape != want.shape:
        return ""
    wrong = ~equal(got, want)
    if not wrong.any():
        return ""
    with np.errstate(invalid="ignore"):  # the remainder of infinity
        gap = np.abs(np.abs(exact[wrong] % 1) - 0.5)
    if not np.all(gap <= NEAR):
        return ""
    return (
        "every mismatch lies within 2^-9 of a half integer -> rounding, not data or "
        "layout"
    )


Test = Callable[[Array, Array], str]
OF_VALUES: tuple[Test, ...] = (
    not_a_number,
    constant,
    constant_offset,
    constant_ratio,
    reversed_axis,
    exchanged_axes,
    permuted_axis,
    nibbles,
    wraps,
    saturates,
)
MOVES: tuple[Test, ...] = (
    constant_offset,
    reversed_axis,
    exchanged_axes,
    permuted_axis,
    nibbles,
)
OF_SHAPES: tuple[Test, ...] = (exchanged_axes, one_size_off)
