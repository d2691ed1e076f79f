"""avg_pool2d and max_pool2d of codes.

s = sum over the window of (x - zero_point)     (1)     pool_centre
y = zero_point + round(s / n)                   (2)     pool_rounding, _count,
                                                        _division
y = max over the window of x                    (3)     max_pool_padding
"""

import numpy as np

from refqnn import integer
from refqnn._types import Array, Int
from refqnn.conformance.choices.families.family import (
    Choices,
    Family,
    Inputs,
    Outputs,
    values,
)
from refqnn.geometry import pad_planes, window, windows
from refqnn.integer.pool import counts
from refqnn.integer.rounding import ROUND

SEED = 20_240_612


def avg_pool2d(
    choices: Choices, x: Int, kernel: int, stride: int, padding: int, zero_point: int
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
        mean = integer.rounding.divide(sums, n, rounding=rounding)
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


def exact(x: Int, kernel: int, stride: int, padding: int, zero_point: int) -> Array:
    """Return the mean of the codes, what is rounded."""
    at = window(kernel, stride=stride, padding=padding)
    sums = windows(pad_planes(x.astype(np.int64), at, zero_point), at).sum(
        axis=(-2, -1)
    )
    return np.asarray(sums / kernel**2)


def max_pool2d(
    choices: Choices, x: Int, kernel: int, stride: int, padding: int
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
    return {
        "x": rng.integers(-128, 128, shape).astype(np.int8),
        "kernel": kernel,
        "stride": kernel,
        "padding": padding,
        "zero_point": zero_point,
    }


def small(codes: tuple[int, ...], zero_point: int) -> Inputs:
    """One window of four codes."""
    return {
        "x": np.array(codes, np.int8).reshape(1, 1, 2, 2),
        "kernel": 2,
        "stride": 2,
        "padding": 0,
        "zero_point": zero_point,
    }


def with_sums(kernel: int, sums: range, zero_point: int) -> Inputs:
    """Return windows side by side whose codes have given sums, as even as they can."""
    n = kernel**2
    low = [[s // n + (i < s % n) for i in range(n)] for s in sums]
    rows = np.array(low).reshape(len(sums), kernel, kernel).transpose(1, 0, 2)
    return {
        "x": rows.reshape(1, 1, kernel, -1).astype(np.int8),
        "kernel": kernel,
        "stride": kernel,
        "padding": 0,
        "zero_point": zero_point,
    }


#: 484 = 4 * 121 has halves, and its float32 reciprocal misses them
TIES = (22, range(-242 * 20, 242 * 21, 242))


def candidates() -> list[Inputs]:
    """Windows by hand, then wholes and ties, then planes with padding."""
    rng = np.random.default_rng(SEED)
    by_hand = ((0, 0, 1, 1), (0, 0, -1, -1), (1, 1, 2, 2), (0, 0, 0, 1), (0, 0, 0, -1))
    drawn = [inputs(rng, (4, 3, 8 * k, 8 * k), k, 1, z) for k, z in ((2, 3), (3, -5))]
    tied = [with_sums(*TIES, z) for z in (0, 3, -5)]
    return [*(small(codes, z) for z in (0, 1) for codes in by_hand), *tied, *drawn]


def draw(rng: np.random.Generator, n: int) -> Inputs:
    """Planes with padding, about n windows."""
    k = int(rng.choice([2, 4, 6]))
    shape = (max(n // 48, 1), 3, 4 * k - 2, 4 * k - 2)
    zero_point = int(rng.choice([3, -5, 7]))
    return inputs(rng, shape, k, 1, zero_point)


def max_candidates() -> list[Inputs]:
    """A plane of negative codes, and a drawn one."""
    rng = np.random.default_rng(SEED)
    plane = {"x": -np.ones((1, 1, 1, 1), np.int8)}
    drawn = inputs(rng, (1, 2, 6, 6), 2, 1, 0)
    rest = {"kernel": 2, "stride": 2, "padding": 1}
    return [plane | rest, {"x": drawn["x"]} | rest]


def draw_max(rng: np.random.Generator, n: int) -> Inputs:
    """Planes of codes that are mostly negative."""
    x = rng.integers(-128, 20, (max(n // 16, 1), 1, 6, 6)).astype(np.int8)
    return {"x": x, "kernel": 2, "stride": 2, "padding": 1}


FAMILIES = (
    Family(
        "avg_pool2d",
        ("{pool_centre}", "{pool_count}; {pool_division}", "{pool_rounding}"),
        values("pool_rounding", "pool_count", "pool_centre", "pool_division"),
        avg_pool2d,
        candidates,
        draw,
        canonical=canonical,
        exact=exact,
    ),
    Family(
        "max_pool2d",
        ("{max_pool_padding}",),
        values("max_pool_padding"),
        max_pool2d,
        max_candidates,
        draw_max,
    ),
)
