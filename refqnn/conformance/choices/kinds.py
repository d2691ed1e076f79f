"""Kinds of arguments, and the regions of each: where a computation may go another way.

A region is a predicate over the arguments of a call, named "ARGUMENT: WHAT". Each
function here returns the regions of one argument of one kind, so that a family declares
its regions in a line an argument. An array is in a region if any element is.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from refqnn._types import Array

Inputs = Mapping[str, Any]
Region = Callable[[Inputs], bool]
Regions = dict[str, Region]

#: lengths around what vector registers and tails hold
LENGTHS = (1, 7, 64, 65)
#: ends of the code ranges that files and kernels use
RANGES = {
    "int8": (-128, 127),
    "uint8": (0, 255),
    "4 bits": (-8, 7),
    "16 bits": (-32768, 32767),
    "narrow": (-127, 127),
}


def where(name: str, tests: Mapping[str, Callable[[Array], Any]]) -> Regions:
    """Return regions of one argument: arrays of which any element passes a test.

    >>> where("x", {"negative": lambda x: x < 0})["x: negative"]({"x": [1, -1]})
    True
    """

    def region(test: Callable[[Array], Any]) -> Region:
        return lambda call: bool(np.any(test(np.asarray(call[name]))))

    return {f"{name}: {what}": region(test) for what, test in tests.items()}


def reals(name: str) -> Regions:
    """Signs and zeros of finite numbers, of which several are unequal."""
    return where(
        name,
        {
            "negative": lambda x: x < 0,
            "positive": lambda x: x > 0,
            "zero": lambda x: x == 0,
            "unequal": lambda x: x.size > 1 and np.ptp(x[np.isfinite(x)]) > 0,
        },
    )


def special(name: str) -> Regions:
    """Numbers that no grid holds, and arrays without them."""
    return where(
        name,
        {
            "NaN": np.isnan,
            "+infinity": np.isposinf,
            "-infinity": np.isneginf,
            "denormal": lambda x: (x != 0) & (np.abs(x) < np.finfo(x.dtype).tiny),
            "finite": lambda x: np.all(np.isfinite(x)),
        },
    )


def shape(name: str) -> Regions:
    """Lengths, axes and the layout in memory."""
    lengths = {f"{n} elements": equals_size(n) for n in LENGTHS}
    return where(
        name,
        lengths
        | {
            "several axes": lambda x: x.ndim > 1,
            "not contiguous": lambda x: not x.flags.c_contiguous,
        },
    )


def equals_size(n: int) -> Callable[[Array], Any]:
    """Return the test whether an array has n elements."""
    return lambda x: x.size == n


def code_range() -> Regions:
    """The ranges of codes that are in use, and one that is a power of two nowhere."""

    def region(ends: tuple[int, int]) -> Region:
        return lambda call: (call["q_min"], call["q_max"]) == ends

    named = {f"range: {what}": region(ends) for what, ends in RANGES.items()}
    return named | {"range: odd": lambda call: odd_range(call["q_min"], call["q_max"])}


def odd_range(q_min: int, q_max: int) -> bool:
    """Say whether a range holds neither 2^b nor 2^b - 1 codes.

    >>> odd_range(-5, 100), odd_range(-128, 127), odd_range(-127, 127)
    (True, False, False)
    """
    n = int(q_max) - int(q_min) + 1
    return bool(n & (n - 1) and n & (n + 1))


def integers(name: str) -> Regions:
    """Signs and parities of integers."""
    return where(
        name,
        {
            "0": lambda z: z == 0,
            "odd": lambda z: z % 2 == 1,
            "even, not 0": lambda z: (z % 2 == 0) & (z != 0),
            "negative": lambda z: z < 0,
            "positive": lambda z: z > 0,
        },
    )


def ends_of_range(name: str) -> Regions:
    """A code at either end of the range of the call."""
    return {
        f"{name}: q_min": lambda call: bool(np.any(call[name] == call["q_min"])),
        f"{name}: q_max": lambda call: bool(np.any(call[name] == call["q_max"])),
    }


def power_of_two(name: str) -> Regions:
    """Numbers that shift, and those that round."""
    return where(
        name,
        {
            "power of two": lambda s: np.frexp(s)[0] == 0.5,
            "no power of two": lambda s: np.frexp(s)[0] != 0.5,
        },
    )


def along(name: str, of: str) -> Regions:
    """One number for all, or unequal ones along an axis of another argument."""

    def on(axis: int) -> Region:
        return lambda call: axis_of(call[name], call[of]) == axis

    return {
        f"{name}: one for all": lambda call: np.size(call[name]) == 1,
        f"{name}: along the first axis": on(0),
        f"{name}: along a middle axis": on(1),
        f"{name}: along the last axis": on(2),
    }


def axis_of(parameter: Any, array: Any) -> int | None:
    """Return 0, 1 or 2: first, middle or last axis along which a parameter varies.

    >>> x = np.zeros((2, 3, 4))
    >>> axis_of([[[1]], [[2]]], x), axis_of(np.arange(3)[:, None], x), axis_of(5, x)
    (0, 1, None)
    """
    p, n = np.asarray(parameter), np.ndim(array)
    if p.size < 2 or np.all(p == p.flat[0]):
        return None
    axis = n - p.ndim + int(np.argmax(p.shape))
    return 2 if axis == n - 1 else min(axis, 1)


def dtypes(name: str, *of: str) -> Regions:
    """Element types that an implementation may demand, and both ends of each."""

    def typed(dtype: str) -> Region:
        return lambda call: np.asarray(call[name]).dtype == dtype

    ends = {
        "lowest of its type": lambda x: x == np.iinfo(x.dtype).min,
        "highest of its type": lambda x: x == np.iinfo(x.dtype).max,
    }
    return {f"{name}: {dtype}": typed(dtype) for dtype in of} | where(name, ends)


def pairs(name: str, least: int = 1) -> Regions:
    """One number for h and w, its least value or more, or two that differ."""

    def both(call: Inputs) -> tuple[int, int]:
        h, w = np.broadcast_to(call[name], 2).tolist()
        return h, w

    return {
        f"{name}: {least}": lambda call: both(call) == (least, least),
        f"{name}: above {least}": lambda call: min(both(call)) > least,
        f"{name}: h unlike w": lambda call: both(call)[0] != both(call)[1],
    }


def counts(name: str, *of: int) -> Regions:
    """Whole numbers at which code takes another path, each and any other.

    >>> sorted(counts("groups", 1, 2))
    ['groups: 1', 'groups: 2', 'groups: above 2']
    """
    most = max(of)
    return {f"{name}: {n}": partial(equals, name, n) for n in of} | {
        f"{name}: above {most}": lambda call: int(call[name]) > most
    }


def equals(name: str, value: Any, call: Inputs) -> bool:
    """Say whether an argument of a call is a value."""
    return bool(call[name] == value)


def on_grid(name: str = "x") -> Regions:
    """Where real numbers lie between the ends of a grid, and between two codes."""

    def region(test: Callable[[Array, Array, Array], Any]) -> Region:
        return lambda call: bool(np.any(test(*units(call, name))))

    return {
        f"{name}: {what}": region(test)
        for what, test in {
            "below the range": lambda u, lo, _: u < lo,
            "at the lower end": lambda u, lo, _: u == lo,
            "inside": lambda u, lo, hi: (lo < u) & (u < hi),
            "at the upper end": lambda u, _, hi: u == hi,
            "above the range": lambda u, _, hi: u > hi,
            "just below the range": lambda u, lo, _: (u < lo) & (u >= lo - 0.5),
            "just above the range": lambda u, _, hi: (u > hi) & (u <= hi + 0.5),
            "tie": lambda u, *_: halves(u),
            "beside a tie": lambda u, *_: beside(u),
            "whole": lambda u, *_: (u == np.floor(u)) & (u != 0),
        }.items()
    }


def units(call: Inputs, name: str) -> tuple[Array, Array, Array]:
    """Return x / scale in float64 and the ends of the grid in the same units."""
    z = np.asarray(call["zero_point"], np.float64)
    x, scale = (np.asarray(call[key], np.float64) for key in (name, "scale"))
    return x / scale, call["q_min"] - z, call["q_max"] - z


def halves(u: Array) -> Array:
    """Return where a number lies midway between two integers."""
    return np.asarray((u - np.floor(u)) == 0.5)


def beside(u: Array) -> Array:
    """Return where a number is within 2^-16 of a half, and is none."""
    gap = np.abs(u - np.floor(u) - 0.5)
    return np.asarray((gap > 0) & (gap < np.maximum(np.abs(u), 1) * 2.0**-16))
