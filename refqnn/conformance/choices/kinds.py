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
from refqnn.geometry import pad_widths

Inputs = dict[str, Any]
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
    """Return the regions: signs, zeros, finite numbers of which several are unequal."""
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
    """Return the regions: numbers that no grid holds, and arrays without them."""
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


def layout(name: str) -> Regions:
    """Return the regions: the layout of an array in memory."""
    return where(name, {"not contiguous": lambda x: not x.flags.c_contiguous})


def shape(name: str) -> Regions:
    """Return the regions: lengths, axes and the layout in memory."""
    lengths = {f"{n} elements": equals_size(n) for n in LENGTHS}
    several = {"several axes": lambda x: x.ndim > 1}
    return where(name, lengths | several) | layout(name) | tails(name)


def tails(name: str) -> Regions:
    """Return the regions: more elements than a register of 8, no multiple of 8."""
    return where(name, {"a tail of eight": lambda x: x.size > 8 and x.size % 8 > 0})


def equals_size(n: int) -> Callable[[Array], Any]:
    """Return the test whether an array has n elements."""
    return lambda x: x.size == n


def ranges(most: int) -> dict[str, tuple[int, int]]:
    """Name the usual ranges (q_min, q_max) of at most ``most`` bits."""
    return {n: r for n, r in RANGES.items() if r[1] - r[0] < 2**most}


def code_range(most: int = 16) -> Regions:
    """Return the regions: ranges of codes in use, and one without a power of two."""

    def region(ends: tuple[int, int]) -> Region:
        return lambda call: (call["q_min"], call["q_max"]) == ends

    named = {f"range: {what}": region(ends) for what, ends in ranges(most).items()}
    return named | {"range: odd": lambda call: odd_range(call["q_min"], call["q_max"])}


def odd_range(q_min: int, q_max: int) -> bool:
    """Say whether a range holds neither 2^b nor 2^b - 1 codes.

    >>> odd_range(-5, 100), odd_range(-128, 127), odd_range(-127, 127)
    (True, False, False)
    """
    n = int(q_max) - int(q_min) + 1
    return bool(n & (n - 1) and n & (n + 1))


def integers(name: str) -> Regions:
    """Return the regions: signs and parities of integers."""
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
    """Return the regions: a code at either end of the range of the call."""
    return {
        f"{name}: q_min": lambda call: bool(np.any(call[name] == call["q_min"])),
        f"{name}: q_max": lambda call: bool(np.any(call[name] == call["q_max"])),
    }


def power_of_two(name: str) -> Regions:
    """Return the regions: numbers that shift, and those that round."""
    return where(
        name,
        {
            "power of two": lambda s: np.frexp(s)[0] == 0.5,
            "no power of two": lambda s: np.frexp(s)[0] != 0.5,
        },
    )


def along(name: str, of: str) -> Regions:
    """Return the regions: one number for all, unequal ones along an axis of ``of``."""

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
    """Return the regions: element types, and both ends of each."""

    def typed(dtype: str) -> Region:
        return lambda call: np.asarray(call[name]).dtype == dtype

    ends = {
        "lowest of its type": lambda x: x == np.iinfo(x.dtype).min,
        "highest of its type": lambda x: x == np.iinfo(x.dtype).max,
    }
    return {f"{name}: {dtype}": typed(dtype) for dtype in of} | where(name, ends)


def pairs(name: str, least: int = 1) -> Regions:
    """Return the regions: one number for h and w, the least, more, two that differ."""

    def both(call: Inputs) -> tuple[int, int]:
        h, w = np.broadcast_to(call[name], 2).tolist()
        return h, w

    return {
        f"{name}: {least}": lambda call: both(call) == (least, least),
        f"{name}: above {least}": lambda call: min(both(call)) > least,
        f"{name}: h unlike w": lambda call: both(call)[0] != both(call)[1],
    }


def equals(name: str, value: Any, call: Inputs) -> bool:
    """Say whether an argument of a call is a value."""
    return bool(call[name] == value)


def on_grid(name: str = "x") -> Regions:
    """Return the regions: reals between the ends of a grid, between two codes."""

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
            "beside a tie": lambda u, *_: beside_half(u),
            "whole": lambda u, *_: (u == np.floor(u)) & (u != 0),
        }.items()
    }


def units(call: Inputs, name: str) -> tuple[Array, Array, Array]:
    """Return x / scale in float64 and the ends of the grid in the same units."""
    z = np.asarray(call.get("zero_point", 0), np.float64)
    x, scale = (np.asarray(call[key], np.float64) for key in (name, "scale"))
    return x / scale, call["q_min"] - z, call["q_max"] - z


def halves(u: Array) -> Array:
    """Return where a number lies midway between two integers."""
    return np.asarray((u - np.floor(u)) == 0.5)


def beside_half(u: Array) -> Array:
    """0 < |u - floor(u) - 1/2| < 2^-16 max(|u|, 1): beside a tie, but not on it"""
    gap = np.abs(u - np.floor(u) - 0.5)
    return np.asarray((gap > 0) & (gap < np.maximum(np.abs(u), 1) * 2.0**-16))


def accumulators(name: str = "acc") -> Regions:
    """Return the regions: products between codes, sums near the ends of int32."""

    def exact(call: Inputs) -> tuple[Array, Array, Array]:
        m, e = (np.asarray(call[key], np.float64) for key in ("multiplier", "shift"))
        z = np.asarray(call["zero_point"], np.float64)
        t = np.asarray(call[name], np.float64) * np.ldexp(m, e.astype(int) - 31)
        return t, call["q_min"] - z, call["q_max"] - z

    tests: dict[str, Callable[[Array, Array, Array], Any]] = {
        "product a tie": lambda t, *_: halves(t),
        "product beside a tie": lambda t, *_: beside_half(t),
        "product below the range": lambda t, lo, _: t < lo,
        "product inside": lambda t, lo, hi: (lo < t) & (t < hi),
        "product above the range": lambda t, _, hi: t > hi,
        "product beyond 16 bits": lambda t, *_: np.abs(t) > 2.0**16,
        "product beyond 30 bits": lambda t, *_: t > 2.0**30,
        "negative product beyond 30 bits": lambda t, *_: t < -(2.0**30),
    }
    products = {
        f"{name}: {what}": lambda call, test=test: bool(np.any(test(*exact(call))))
        for what, test in tests.items()
    }
    return products | where(
        name,
        {
            "near the ends of int32": lambda a: np.abs(a.astype(np.int64)) > 2**30,
            "beyond 24 bits": lambda a: np.abs(a.astype(np.int64)) > 2**23,
            "small": lambda a: np.abs(a.astype(np.int64)) < 2**8,
        },
    )


def shifts(name: str = "shift") -> Regions:
    """Return the regions: shifts to either side, and the longest."""
    return where(
        name,
        {
            "right": lambda e: e < 0,
            "none": lambda e: e == 0,
            "left": lambda e: e > 0,
            "right by more than 16": lambda e: e < -16,
        },
    )


def wide_sums(outputs: Callable[[Inputs], Array], *widths: int) -> Regions:
    """Return the regions: sums that need more bits than an accumulator may have."""

    def beyond(bits: int) -> Region:
        return lambda call: bool(np.any(np.abs(outputs(call)) >= 2 ** (bits - 1)))

    return {f"sum: beyond {bits} bits": beyond(bits) for bits in widths}


def channels() -> Regions:
    """Return the regions: no groups, 2, 3, one channel or several outputs a group."""

    def each(call: Inputs) -> bool:
        return bool(call["groups"] == call["x"].shape[1] > 1)

    return {
        "groups: 1": lambda call: call["groups"] == 1,
        "groups: 2": lambda call: call["groups"] == 2,
        "groups: 3": lambda call: call["groups"] == 3,
        "groups: one channel each": each,
        "groups: one channel each, several outputs": lambda call: (
            each(call) and len(call["w"]) > call["groups"]
        ),
    }


def padding_regions() -> Regions:
    """Return the regions: no padding, even, uneven, unlike in h and w."""

    def of(call: Inputs) -> tuple[tuple[int, int], tuple[int, int]]:
        return pad_widths(call["padding"])

    return {
        "padding: none": lambda call: not np.any(of(call)),
        "padding: top unlike bottom": lambda call: of(call)[0][0] != of(call)[0][1],
        "padding: left unlike right": lambda call: of(call)[1][0] != of(call)[1][1],
        "padding: h unlike w": lambda call: of(call)[0] != of(call)[1],
        "padding: even": lambda call: (
            len({*of(call)[0], *of(call)[1]}) == 1 and bool(np.any(of(call)))
        ),
    }


def kernels(name: str = "w") -> Regions:
    """Return the regions: kernel sizes of weights (O, C // G, Kh, Kw)."""
    return {
        f"{name}: 1 x 1": lambda call: call[name].shape[2:] == (1, 1),
        f"{name}: square": lambda call: call[name].shape[2] == call[name].shape[3] > 1,
        f"{name}: h unlike w": lambda call: call[name].shape[2] != call[name].shape[3],
    }


def zero_points_of_weights() -> Regions:
    """Return the regions: one zero-point of weights, or one an output channel."""
    return {
        "w_zero_point: one for all": lambda call: np.size(call["w_zero_point"]) == 1,
        "w_zero_point: one for each output": lambda call: (
            np.ndim(call["w_zero_point"]) == 1
            and bool(np.ptp(call["w_zero_point"]) > 0)
        ),
    }


def examples(name: str) -> Regions:
    """Return the regions: one example, or several."""
    return {
        f"{name}: one example": lambda call: len(call[name]) == 1,
        f"{name}: several examples": lambda call: len(call[name]) > 1,
    }


def has_columns(name: str, n: int) -> Region:
    """Return the region of matrices with n columns."""
    return lambda call: bool(call[name].shape[-1] == n)


def rows(name: str, *of: int) -> Regions:
    """Return the regions: numbers of examples."""
    return where(name, {f"{n} rows": partial(has_rows, n) for n in of})


def has_rows(n: int, x: Array) -> bool:
    """Say whether an array has n rows."""
    return len(x) == n


def number(name: str, *of: float) -> Regions:
    """Return the regions: one number of a call: each of some values, and others."""
    return {f"{name}: {value:g}": partial(equals, name, value) for value in of} | {
        f"{name}: another": lambda call: float(call[name]) not in of
    }


def flag(name: str) -> Regions:
    """Return the regions: an option that is set, or not."""
    return {f"{name}: {value}": partial(equals, name, value) for value in (True, False)}


def all_reals(*names: str) -> Regions:
    """Return the regions: signs and zeros of several arguments."""
    return {where: test for name in names for where, test in reals(name).items()}
