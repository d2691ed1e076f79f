"""Kinds of arguments, and the regions of each: where a computation may go another way.

A region is a predicate over the arguments of a call, named "ARGUMENT: WHAT". A family
declares its regions in a line an argument: ``regions("x: reals, shape", ...)``. An
array is in a region if any element passes the test.
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
Test = Callable[[Array], Any]

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
#: kind -> regions of an argument, each with the test of its array
ALONE: dict[str, dict[str, Test]] = {
    "reals": {
        "negative": lambda x: x < 0,
        "positive": lambda x: x > 0,
        "zero": lambda x: x == 0,
        "unequal": lambda x: x.size > 1 and np.ptp(x[np.isfinite(x)]) > 0,
    },
    # numbers that no grid holds, and arrays without them
    "special": {
        "NaN": np.isnan,
        "+infinity": np.isposinf,
        "-infinity": np.isneginf,
        "denormal": lambda x: (x != 0) & (np.abs(x) < np.finfo(x.dtype).tiny),
        "finite": lambda x: np.all(np.isfinite(x)),
    },
    "beyond_1": {"above 1": lambda x: x > 1, "below -1": lambda x: x < -1},
    "on_1": {"on 1": lambda x: x == 1, "on -1": lambda x: x == -1},
    "integers": {
        "0": lambda z: z == 0,
        "odd": lambda z: z % 2 == 1,
        "even, not 0": lambda z: (z % 2 == 0) & (z != 0),
        "negative": lambda z: z < 0,
        "positive": lambda z: z > 0,
    },
    "power_of_two": {
        "power of two": lambda s: np.frexp(s)[0] == 0.5,
        "no power of two": lambda s: np.frexp(s)[0] != 0.5,
    },
    "multipliers": {"0": lambda m: m == 0, "2^31 - 1": lambda m: m == 2**31 - 1},
    "magnitudes": {
        "far below 1": lambda x: 0 < np.abs(x).max() < 2.0**-10,
        "far above 1": lambda x: np.abs(x).max() > 2.0**9,
    },
    "shifts": {
        "right": lambda e: e < 0,
        "none": lambda e: e == 0,
        "left": lambda e: e > 0,
        "right by more than 16": lambda e: e < -16,
        "right by 31": lambda e: e == -31,
        "left by more than 8": lambda e: e > 8,
    },
    "accumulators": {
        "near the ends of int32": lambda a: np.abs(a.astype(np.int64)) > 2**30,
        "beyond 24 bits": lambda a: np.abs(a.astype(np.int64)) > 2**23,
        "small": lambda a: np.abs(a.astype(np.int64)) < 2**8,
    },
    "biases": {"large": lambda b: b > 2**23, "far below 0": lambda b: b < -(2**23)},
    "ends": {
        "lowest of its type": lambda x: x == np.iinfo(x.dtype).min,
        "highest of its type": lambda x: x == np.iinfo(x.dtype).max,
    },
    "layout": {"not contiguous": lambda x: not x.flags.c_contiguous},
    "tails": {"a tail of eight": lambda x: x.size > 8 and x.size % 8 > 0},
    "examples": {
        "one example": lambda x: len(x) == 1,
        "several examples": lambda x: len(x) > 1,
    },
    "flag": {"True": lambda is_set: is_set, "False": lambda is_set: not is_set},
    "pairs": {
        "1": lambda size: np.all(size == 1),
        "above 1": lambda size: np.all(size > 1),
        "h unlike w": lambda size: size.ndim and size[0] != size[1],
    },
    "kernels": {
        "1 x 1": lambda w: w.shape[2:] == (1, 1),
        "square": lambda w: w.shape[2] == w.shape[3] > 1,
        "h unlike w": lambda w: w.shape[2] != w.shape[3],
        "above 4 x 4": lambda w: min(w.shape[2:]) > 4,
    },
    # a batch of channels, or of planes of them
    "planes": {
        "without planes": lambda x: x.ndim == 2,
        "with planes": lambda x: x.ndim == 4,
        "one channel": lambda x: x.shape[1] == 1,
        "several channels": lambda x: x.shape[1] > 1,
    },
    "exponents": {
        "exponentials overflow": lambda x: x.max() > np.log(np.finfo(np.float64).max),
    },
    "infinite": {"infinite": np.isinf},
    "outliers": {
        "one column": lambda x: x.shape[-1] == 1,
        "none beyond 1": lambda x: np.abs(x).max() < 1,
        "an outlier": lambda x: np.abs(x).max() > 4 * np.abs(x).mean(),
    },
    "square_planes": {"square planes": lambda x: x.shape[-2:] == (2, 2)},
    "one_sign": {"of one sign": lambda dy: np.all(dy > 0) | np.all(dy < 0)},
    "matrix": {"square": lambda x: len({*x.shape}) == 1 and len(x) > 1},
    "bytes": {"above 127": lambda z: z > 127},
    "examples_each": {"one for each example": lambda p: p.size > 1 and p.ndim > 1},
    "an_output_each": {
        "one for all": lambda z: z.size == 1,
        "one for each output": lambda z: z.ndim == 1 and np.ptp(z) > 0,
    },
}
#: kind -> regions of an argument, each with the test of its array and of the call
BESIDE_OTHERS: dict[str, dict[str, Callable[[Array, Inputs], Any]]] = {
    "ends_of_range": {
        "q_min": lambda z, call: z == call["q_min"],
        "q_max": lambda z, call: z == call["q_max"],
    },
    "classes": {
        "the first class": lambda y, _: y == 0,
        "the last class": lambda y, call: y == call["logits"].shape[1] - 1,
    },
    "groups": {
        "1": lambda g, _: g == 1,
        "2": lambda g, _: g == 2,
        "3": lambda g, _: g == 3,
        "one channel each": lambda g, call: g == call["x"].shape[1] > 1,
        "one channel each, several outputs": lambda g, call: (
            len(call["w"]) > g == call["x"].shape[1] > 1
        ),
    },
}
#: tests of reals in units of the grid, and of the ends of the grid
ON_GRID: dict[str, Callable[[Array, Array, Array], Any]] = {
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
}
#: tests of the real product of an accumulator, and of the ends of the range of codes
PRODUCTS: dict[str, Callable[[Array, Array, Array], Any]] = {
    "product a tie": lambda t, *_: halves(t),
    "product beside a tie": lambda t, *_: beside_half(t),
    "product below the range": lambda t, lo, _: t < lo,
    "product inside": lambda t, lo, hi: (lo < t) & (t < hi),
    "product above the range": lambda t, _, hi: t > hi,
    "product beyond 16 bits": lambda t, *_: np.abs(t) > 2.0**16,
    "product beyond 30 bits": lambda t, *_: t > 2.0**30,
    "negative product beyond 30 bits": lambda t, *_: t < -(2.0**30),
}


def regions(*lines: str) -> Regions:
    """Return the regions that lines "ARGUMENT ...: KIND, KIND OPTION ..." declare.

    >>> list(regions("x w: tails", "lrs: rows 2"))
    ['x: a tail of eight', 'w: a tail of eight', 'lrs: 2 rows']
    """
    made: Regions = {}
    for line in lines:
        names, _, phrases = line.partition(": ")
        for name in names.split():
            for kind, *options in map(str.split, phrases.split(", ")):
                made |= of_kind(name, kind, *options)
    return made


def of_kind(name: str, kind: str, *options: str) -> Regions:
    """Return the regions of one argument of one kind."""
    if kind in ALONE:
        return where(name, ALONE[kind])
    if kind in BESIDE_OTHERS:
        return regions_named(
            name, BESIDE_OTHERS[kind], lambda call: (np.asarray(call[name]), call)
        )
    return OF_OPTIONS[kind](name, *options)


def regions_named(
    name: str,
    tests: Mapping[str, Callable[..., Any]],
    read: Callable[[Inputs], tuple[Any, ...]],
) -> Regions:
    """Return regions of an argument: calls of which what is read passes a test."""
    once = read_once(read)
    return {f"{name}: {what}": passing(test, once) for what, test in tests.items()}


def read_once(
    read: Callable[[Inputs], tuple[Any, ...]],
) -> Callable[[Inputs], tuple[Any, ...]]:
    """Keep what was read of the last call: all regions of a call are asked in turn."""
    last: list[Any] = [None, ()]

    def once(call: Inputs) -> tuple[Any, ...]:
        if last[0] is not call:
            last[:] = call, read(call)
        return last[1]

    return once


def passing(
    test: Callable[..., Any], read: Callable[[Inputs], tuple[Any, ...]]
) -> Region:
    """Return the region of calls of which what is read passes a test anywhere."""
    return lambda call: bool(np.any(test(*read(call))))


def where(name: str, tests: Mapping[str, Test]) -> Regions:
    """Return regions of one argument: arrays of which any element passes a test.

    >>> where("x", {"negative": lambda x: x < 0})["x: negative"]({"x": [1, -1]})
    True
    """
    return regions_named(name, tests, lambda call: (np.asarray(call[name]),))


def ranges(most: int) -> dict[str, tuple[int, int]]:
    """Name the usual ranges (q_min, q_max) of at most ``most`` bits."""
    return {n: r for n, r in RANGES.items() if r[1] - r[0] < 2**most}


def code_range(name: str, most: str = "16") -> Regions:
    """Return the regions: ranges of codes in use, and one without a power of two."""
    tests = {what: ends.__eq__ for what, ends in ranges(int(most)).items()}
    return regions_named(
        name, tests | {"odd": lambda ends: odd_range(*ends)}, read_range
    )


def read_range(call: Inputs) -> tuple[tuple[int, int]]:
    """Return (q_min, q_max) of a call."""
    return ((call["q_min"], call["q_max"]),)


def odd_range(q_min: int, q_max: int) -> bool:
    """Say whether a range holds neither 2^b nor 2^b - 1 codes.

    >>> odd_range(-5, 100), odd_range(-128, 127), odd_range(-127, 127)
    (True, False, False)
    """
    n = int(q_max) - int(q_min) + 1
    return bool(n & (n - 1) and n & (n + 1))


def along(name: str, of: str) -> Regions:
    """Return the regions: one number for all, unequal ones along an axis of ``of``."""
    tests: dict[str, Callable[[Any, Any], bool]] = {
        "one for all": lambda p, _: np.size(p) == 1,
        "along the first axis": lambda p, x: axis_of(p, x) == 0,
        "along a middle axis": lambda p, x: axis_of(p, x) == 1,
        "along the last axis": lambda p, x: axis_of(p, x) == 2,
    }
    return regions_named(name, tests, lambda call: (call[name], call[of]))


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


def shape(name: str) -> Regions:
    """Return the regions: lengths, axes and the layout in memory."""
    return (
        sizes(name, *LENGTHS)
        | where(name, {"several axes": lambda x: x.ndim > 1})
        | regions(f"{name}: layout, tails")
    )


def sizes(name: str, *of: int) -> Regions:
    """Return the regions: arrays of n elements."""
    tests = {f"{n} elements": n.__eq__ for n in of}
    return regions_named(name, tests, lambda call: (np.size(call[name]),))


def dtypes(name: str, *of: str) -> Regions:
    """Return the regions: element types, and both ends of each."""
    typed = {dtype: np.dtype(dtype).__eq__ for dtype in of}
    types = regions_named(name, typed, lambda call: (np.asarray(call[name]).dtype,))
    return types | where(name, ALONE["ends"])


def on_grid(name: str) -> Regions:
    """Return the regions: reals between the ends of a grid, between two codes."""
    return regions_named(name, ON_GRID, lambda call: units(call, name))


def units(call: Inputs, name: str) -> tuple[Array, Array, Array]:
    """Return x / scale in float64 and the ends of the grid in the same units."""
    z = np.asarray(call.get("zero_point", 0), np.float64)
    x, scale = (np.asarray(call[key], np.float64) for key in (name, "scale"))
    return x / scale, call["q_min"] - z, call["q_max"] - z


def products(name: str) -> Regions:
    """Return the regions: products of accumulators between codes, ties, wide ones."""

    def exact(call: Inputs) -> tuple[Array, Array, Array]:
        m, e = (np.asarray(call[key], np.float64) for key in ("multiplier", "shift"))
        z = np.asarray(call["zero_point"], np.float64)
        t = np.asarray(call[name], np.float64) * np.ldexp(m, e.astype(int) - 31)
        return t, call["q_min"] - z, call["q_max"] - z

    return regions_named(name, PRODUCTS, exact)


def halves(u: Array) -> Array:
    """Return where a number lies midway between two integers."""
    return np.asarray((u - np.floor(u)) == 0.5)


def beside_half(u: Array) -> Array:
    """0 < |u - floor(u) - 1/2| < 2^-16 max(|u|, 1): beside a tie, but not on it"""
    gap = np.abs(u - np.floor(u) - 0.5)
    return np.asarray((gap > 0) & (gap < np.maximum(np.abs(u), 1) * 2.0**-16))


def wide_sums(outputs: Callable[[Inputs], Array], *widths: int) -> Regions:
    """Return the regions: sums that need more bits than an accumulator may have."""
    tests = {f"beyond {b} bits": partial(np.less_equal, 2 ** (b - 1)) for b in widths}
    return regions_named("sum", tests, lambda call: (np.abs(outputs(call)),))


def padding(name: str) -> Regions:
    """Return the regions: no padding, even, uneven, unlike in h and w."""
    tests: dict[str, Test] = {
        "none": lambda p: not p.any(),
        "bottom only": lambda p: p[0, 0] == 0 < p[0, 1],
        "top above bottom": lambda p: p[0, 0] > p[0, 1],
        "right only": lambda p: p[1, 0] == 0 < p[1, 1],
        "left above right": lambda p: p[1, 0] > p[1, 1],
        "h unlike w": lambda p: p[0] != p[1],
        "even": lambda p: p.any() and np.ptp(p) == 0,
    }
    return regions_named(name, tests, lambda call: (np.array(pad_widths(call[name])),))


def columns(name: str, what: str, *of: str) -> Regions:
    """Return the regions: matrices of n columns, which ``what`` calls them."""
    tests = {f"{n} {what}": int(n).__eq__ for n in of}
    return regions_named(name, tests, lambda call: (call[name].shape[-1],))


def rows(name: str, *of: str) -> Regions:
    """Return the regions: numbers of examples."""
    tests = {f"{n} rows": int(n).__eq__ for n in of}
    return regions_named(name, tests, lambda call: (len(call[name]),))


def number(name: str, *of: str) -> Regions:
    """Return the regions: one number of a call: each of some values, and others."""
    known = [*map(float, of)]
    tests = {n: partial(np.equal, value) for n, value in zip(of, known, strict=True)}
    return where(name, tests | {"another": lambda value: value not in known})


OF_OPTIONS: dict[str, Callable[..., Regions]] = {
    "along": along,
    "code_range": code_range,
    "columns": columns,
    "dtypes": dtypes,
    "number": number,
    "on_grid": on_grid,
    "padding": padding,
    "products": products,
    "rows": rows,
    "shape": shape,
}
