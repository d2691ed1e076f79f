"""avg_pool2d and max_pool2d of codes.

s = sum over the window of (x - zero_point)     (1)     pool_centre
y = zero_point + round(s / n)                   (2)     pool_rounding, _count,
                                                        _division
y = max over the window of x                    (3)     max_pool_padding
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from refqnn import integer
from refqnn._types import Array, Int
from refqnn.conformance.choices import axes, draws, kinds, rows
from refqnn.conformance.choices.families.roundings import ROUND, quotient
from refqnn.conformance.choices.family import Choices, Family, Inputs, Outputs
from refqnn.geometry import Padding, Pair, pad_planes, window, windows
from refqnn.integer.pool import counts

SEED = 20_240_612


def avg_pool2d(
    choices: Choices,
    x: Int,
    kernel: int | Pair,
    stride: int | Pair,
    padding: Padding,
    zero_point: int,
) -> Outputs:
    """Equations (1) and (2); padding is real 0, the code zero_point."""
    include = choices["pool_count"] == "include_pad"
    rounding = choices["pool_rounding"]
    at = window(kernel, stride=stride, padding=padding)
    z = zero_point if choices["pool_centre"] == "real" else 0
    centred = pad_planes(x.astype(np.int64), at, zero_point if include else z) - z
    sums = windows(centred, at).sum(axis=(-2, -1))
    n = counts(x, at, count_include_pad=include)
    if choices["pool_division"] == "exact":
        mean = quotient(sums, n, rounding)
    else:
        reciprocal = np.float32(1) / n.astype(np.float32)
        mean = ROUND[rounding](sums.astype(np.float32) * reciprocal).astype(np.int64)
    return {"y": z + mean}


def canonical(choices: Choices) -> dict[str, str]:
    """z + round(sum (x - z) / n) = round(sum x / n) unless parity or sign matters."""
    shifts = {"half_up", "half_down", "floor", "ceil"}
    if choices["pool_division"] == "exact" and choices["pool_rounding"] in shifts:
        return {**choices, "pool_centre": "real"}
    return dict(choices)


def exact(
    x: Int,
    kernel: int | Pair,
    stride: int | Pair,
    padding: Padding,
    zero_point: int,
) -> Array:
    """Return the mean of the codes, what is rounded."""
    at = window(kernel, stride=stride, padding=padding)
    sums = windows(x.astype(np.int64), at, zero_point).sum(axis=(-2, -1))
    return np.asarray(sums / np.prod(at.kernel))


def max_pool2d(
    choices: Choices,
    x: Int,
    kernel: int | Pair,
    stride: int | Pair,
    padding: Padding,
) -> Outputs:
    """Equation (3)."""
    if choices["max_pool_padding"] == "raw_zero":
        x = pad_planes(x, window(1, stride=1, padding=padding), 0)
        padding = 0
    y = integer.max_pool2d(x, kernel=kernel, stride=stride, padding=padding)
    return {"y": y.astype(np.int64)}


def inputs(
    rng: np.random.Generator,
    shape: tuple[int, ...],
    kernel: int,
    padding: int,
    zero_point: int,
) -> Inputs:
    """Draw int8 codes; windows do not overlap."""
    x = rng.integers(-128, 128, shape).astype(np.int8)
    return draws.call(avg_pool2d, x, kernel, kernel, padding, zero_point)


def small(codes: tuple[int, ...], zero_point: int) -> Inputs:
    """Make one window of four codes."""
    x = np.array(codes, np.int8).reshape(1, 1, 2, 2)
    return draws.call(avg_pool2d, x, 2, 2, 0, zero_point)


def with_sums(kernel: int, sums: range, zero_point: int) -> Inputs:
    """Return windows side by side whose codes have given sums, as even as they can."""
    n = kernel**2
    low = [[s // n + (i < s % n) for i in range(n)] for s in sums]
    rows = np.array(low).reshape(len(sums), kernel, kernel).transpose(1, 0, 2)
    x = rows.reshape(1, 1, kernel, -1).astype(np.int8)
    return draws.call(avg_pool2d, x, kernel, kernel, 0, zero_point)


#: 484 = 4 * 121 has halves, and its float32 reciprocal misses them
TIES = (22, range(-242 * 20, 242 * 21, 242))


def candidates() -> list[Inputs]:
    """List windows by hand, then wholes and ties, then planes with padding."""
    rng = np.random.default_rng(SEED)
    by_hand = ((0, 0, 1, 1), (0, 0, -1, -1), (1, 1, 2, 2), (0, 0, 0, 1), (0, 0, 0, -1))
    drawn = [inputs(rng, (4, 3, 8 * k, 8 * k), k, 1, z) for k, z in ((2, 3), (3, -5))]
    tied = [with_sums(*TIES, z) for z in (0, 3, -5)]
    return [*(small(codes, z) for z in (0, 1) for codes in by_hand), *tied, *drawn]


def draw(rng: np.random.Generator, n: int) -> Inputs:
    """Draw planes with padding, about n windows."""
    k = int(rng.choice([2, 4, 6]))
    shape = (max(n // 48, 1), 3, 4 * k - 2, 4 * k - 2)
    zero_point = int(rng.choice([3, -5, 7]))
    return inputs(rng, shape, k, 1, zero_point)


def max_candidates() -> list[Inputs]:
    """List a plane of negative codes, and a drawn one."""
    rng = np.random.default_rng(SEED)
    drawn = inputs(rng, (1, 2, 6, 6), 2, 1, 0)["x"]
    planes = -np.ones((1, 1, 1, 1), np.int8), drawn
    return [draws.call(max_pool2d, x, 2, 2, 1) for x in planes]


def draw_max(rng: np.random.Generator, n: int) -> Inputs:
    """Draw planes of codes that are mostly negative."""
    x = rng.integers(-128, 20, (max(n // 16, 1), 1, 6, 6)).astype(np.int8)
    return draws.call(max_pool2d, x, 2, 2, 1)


def wide_planes(rng: np.random.Generator, n: int) -> Inputs:
    """Draw windows of any geometry, some whose sum 16 bits do not hold."""
    many = n > draws.MOST
    full = rng.random() < 0.15 and not many
    sizes: tuple[int, ...] = (1, 2, 3, 4, 6)
    strides: tuple[int, ...] = (1, 2, 3)
    most, room = 2, 8
    if full:  # windows of more than a thousand codes
        sizes, room = (33, 40), 3
    if many:  # examples and channels, wide paddings
        sizes, strides, most, room = (5, 7), (2, 4), 6, 20
    kernel = draws.pair(rng, *sizes)
    (kh, kw) = np.broadcast_to(kernel, 2).tolist()
    padding = draws.padding(rng, min(kh - 1, kw - 1, most))
    even = len({side for sides in padding for side in sides}) == 1
    stride = draws.pick(rng, kernel, draws.pair(rng, *strides))
    h, w = (k + int(rng.integers(0, room)) for k in (kh, kw))
    if not full and rng.random() < 0.2:  # rows above what a kernel computes at once
        h, w, stride = kh, w + int(rng.integers(8, 13)), 1
    examples, channels = (3, 18) if many else (2, max(min(n // 8, 3), 1))
    dtype = draws.pick(rng, "int8", "uint8")
    x = draws.codes(rng, (draws.pick(rng, 1, examples), channels, h, w), dtype)
    x = draws.high(x, 16) if full else x
    if not full and rng.random() < 0.3:  # means near an end of the type
        x = draws.high(x, 24) if rng.random() < 0.5 else ~draws.high(x, 24)
    x = draws.laid_out(rng, x)
    return draws.call(max_pool2d, x, kernel, stride, padding[0][0] if even else padding)


def wide(rng: np.random.Generator, n: int) -> Inputs:
    """Draw windows of any geometry, codes of both types with their zero-points."""
    call = wide_planes(rng, n)
    return call | {"zero_point": draws.offset(rng, call["x"].dtype.name)}


def sums_of(call: Mapping[str, Any]) -> Array:
    """Return the sum over every window of x - zero_point."""
    at = window(call["kernel"], stride=call["stride"], padding=call["padding"])
    centred = call["x"].astype(np.int64) - call["zero_point"]
    return np.asarray(windows(centred, at, 0).sum(axis=(-2, -1)))


def ties_among(call: Mapping[str, Any]) -> bool:
    """Say whether a mean of a window, padding counted, is a tie."""
    n = int(np.prod(np.broadcast_to(call["kernel"], 2)))
    return bool(np.any(2 * sums_of(call) % (2 * n) == n))


#: what windows over planes have in common
PLANES = kinds.regions(
    "x: dtypes int8 uint8, integers, layout, examples, tails",
    "kernel: pairs",
    "stride: pairs",
    "padding: padding",
) | {
    "padding: above 2, large": lambda call: bool(np.max(call["padding"]) > 2),
    "kernel: unlike the stride": lambda call: bool(
        np.any(np.subtract(call["kernel"], call["stride"]))
    ),
    "padding: of windows that overlap": lambda call: bool(
        np.any(call["padding"]) and np.max(call["stride"]) < np.min(call["kernel"])
    ),
    "padding: a number": lambda call: np.ndim(call["padding"]) == 0,
    **rows.LARGE_BATCHES,
    **rows.long_rows(rows.windows_in_a_row),
}

FAMILIES = (
    Family(
        "avg_pool2d",
        ("{pool_centre}", "{pool_count}; {pool_division}", "{pool_rounding}"),
        axes.of("pool_rounding pool_count pool_centre pool_division"),
        avg_pool2d,
        candidates,
        draw,
        canonical=canonical,
        exact=exact,
        wide=wide,
        regions=PLANES
        | kinds.regions("zero_point: integers, bytes")
        | kinds.wide_sums(sums_of, 16)
        | {"sum: a tie": ties_among},
    ),
    Family(
        "max_pool2d",
        ("{max_pool_padding}",),
        axes.of("max_pool_padding"),
        max_pool2d,
        max_candidates,
        draw_max,
        wide=wide_planes,
        regions=PLANES,
    ),
)
