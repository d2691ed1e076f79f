"""mean_pool2d: the mean of a window of codes, on a grid of its own.

    S = sum over the window of (x - z_x), n its size     (1)     pool_count
    q = z + round(s_x / (s n) S)                         (2)     mean_rescaling

Forms that refqnn offers are those of ``integer.mean_pool``; the others stand here. A
mean of a whole plane is the window of its size.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np

from refqnn._types import Float, Int
from refqnn.conformance.choices import axes, draws
from refqnn.conformance.choices.families.affine import fit
from refqnn.conformance.choices.families.pooling import PLANES, wide_planes
from refqnn.conformance.choices.family import Choices, Family, Inputs, Outputs
from refqnn.conformance.choices.kinds import regions
from refqnn.geometry import Padding, Pair, pad_planes, window, windows
from refqnn.integer.arithmetic import INT32
from refqnn.integer.mean_pool import (
    Grids,
    exact_means,
    float32_means,
    global_means,
    offset_means,
    xnnpack_means,
)
from refqnn.integer.pool import counts
from refqnn.integer.rescale import quantize_multiplier, requantize


def folded_codes(total: Int, n: Int, grids: Grids) -> Int:
    """z + M(s_x / s, S), M of two roundings with its multiplier divided by n

    The multiplier gains as many bits as n has before it is divided, and rounds down.
    """
    sx, _, s, z = grids
    multiplier, exponent = quantize_multiplier(float(sx / s))
    gained = np.minimum(np.frexp(n)[1].astype(np.int64) - 1, 31 + exponent)
    scaled = (np.int64(multiplier) << gained) // n
    rounding = "two_stage_half_away"
    q = requantize(total, scaled, exponent - gained, 0, **INT32, rounding=rounding)
    return z + q.astype(np.int64)


#: answers that add codes before any float: form -> codes of sums
MEANS: dict[str, Callable[[Int, Int, Grids], Int]] = {
    "float32": global_means,
    "folded": folded_codes,
    "offset": partial(offset_means, rounding="two_stage_half_away"),
    "offset_half_up": partial(offset_means, rounding="two_stage_half_up"),
    "xnnpack": xnnpack_means,
}


def evaluate(
    choices: Choices,
    x: Int,
    kernel: int | Pair,
    stride: int | Pair,
    padding: Padding,
    x_scale: float,
    x_zero_point: int,
    scale: float,
    zero_point: int,
    q_min: int,
    q_max: int,
) -> Outputs:
    """Equations (1) and (2), and what becomes of a code that does not fit."""
    at = window(kernel, stride=stride, padding=padding)
    n = counts(x, at, count_include_pad=choices["pool_count"] == "include_pad")
    planes = pad_planes(x.astype(np.int64) - x_zero_point, at)
    sx, s, form = np.float32(x_scale), np.float32(scale), choices["mean_rescaling"]
    if form == "exact":
        q = zero_point + exact_means(planes, at, n, float(x_scale), float(scale))
    elif form in MEANS:
        total = windows(planes, at).sum(axis=(-2, -1))
        q = MEANS[form](total, n, (sx, int(x_zero_point), s, int(zero_point)))
    else:
        t = float32_means(planes, at, n, sx) / s
        inside = form == "onnxruntime"
        q = np.rint(t + np.float32(zero_point) if inside else t).astype(np.int64)
        q = q if inside else q + zero_point
    return {"y": fit(q, choices["overflow"], q_min, q_max)}


def exact(x: Int, kernel: Any, stride: Any, padding: Any, **grids: Any) -> Float:
    """Return s_x / (s n) S in float64, padding counted: what is rounded."""
    sx, zx, s, *_ = map(float, grids.values())
    at = window(kernel, stride=stride, padding=padding)
    planes = pad_planes(x.astype(np.float64) - zx, at)
    return np.asarray(sx / s * windows(planes, at).mean(axis=(-2, -1)))


def one_window(codes: Any, *grids: Any) -> Inputs:
    """Return the question about one window, the whole of a plane of int8 codes."""
    x = np.array(codes, np.int8)
    x = x.reshape(1, 1, -1, x.shape[-1])
    whole = x.shape[2:]
    return draws.call(evaluate, x, whole, whole, 0, *grids, -128, 127)


@cache
def candidates() -> list[Inputs]:
    """List windows by hand, few of many means beside ties, a plane with padding."""
    rng = np.random.default_rng(20_261_130)
    by_hand = [
        one_window(codes, sx, zx, s, z)
        for codes in ([0, 1], [1, 2], [0, -1], [3, 3, 3], [127, 127], [-128, -128])
        for sx, s in ((1.0, 1.0), (1.0, 0.5), (0.1, 0.3))
        for zx, z in ((0, 0), (1, 0), (-3, 5))
    ]
    aimed = [beside_tie(rng) for _ in range(250)]
    few = FAMILIES[0].few_of(aimed, "mean_rescaling")
    x = rng.integers(-128, 128, (1, 1, 6, 6)).astype(np.int8)
    padded = draws.call(evaluate, x, 4, 4, 1, 0.1, 3, 0.1, 3, -128, 127)
    return [*by_hand, *few, padded]


def beside_tie(rng: np.random.Generator) -> Inputs:
    """Draw a window of up to 49 codes whose mean the scale brings beside a tie."""
    shape = tuple(rng.integers(1, 8, 2))
    x, zx = rng.integers(-128, 128, shape), int(rng.integers(-128, 128))
    sx = np.float32(np.exp2(rng.uniform(-7, 0)))
    k = int(rng.integers(0, 60)) + 0.5
    near = np.float32(abs(float(sx) * float((x - zx).mean())) / k)
    s = np.nextafter(near, near * draws.pick(rng, 0, 1, 2))
    s = s if s > 0 else sx
    return one_window(x, float(sx), zx, float(s), int(rng.integers(-60, 60)))


def draw(rng: np.random.Generator, n: int) -> Inputs:
    """Draw whole planes, or windows that padding reaches; about n means."""
    h, w = rng.integers(1, 9, 2).tolist()
    x = rng.integers(-128, 128, (1, max(n, 1), h, w)).astype(np.int8)
    geometry = (h, w), (h, w), 0
    if rng.random() < 0.5:
        k = int(draws.pick(rng, 2, 3, 4))
        x = rng.integers(-128, 128, (1, max(n // 9, 1), 3 * k, 3 * k)).astype(np.int8)
        geometry = (k, k), (k, k), 1
    zeros = [int(z) for z in rng.integers(-100, 100, 2)]
    return on_grids(rng, (x, *geometry), zeros, (-128, 127))


def on_grids(
    rng: np.random.Generator, planes: Any, zeros: list[int], ends: tuple[int, int]
) -> Inputs:
    """Give planes two scales, near each other or one."""
    sx = np.float32(np.exp2(draws.pick(rng, rng.integers(-6, 1), rng.uniform(-7, 0))))
    step = draws.pick(rng, 0, rng.integers(-2, 2), rng.uniform(-2, 2))
    s = np.float32(sx * np.exp2(step))
    grids = float(sx), zeros[0], float(s), zeros[1]
    return draws.call(evaluate, *planes, *grids, *ends)


def wide(rng: np.random.Generator, n: int) -> Inputs:
    """Draw windows of any geometry or whole planes, codes of both types."""
    planes = wide_planes(rng, n)
    if rng.random() < 0.3:
        whole = planes["x"].shape[2:]
        planes |= {"kernel": whole, "stride": whole, "padding": 0}
    ends = draws.code_range(rng, 8)
    zeros = [draws.offset(rng, planes["x"].dtype.name), draws.zero_point(rng, *ends)]
    return on_grids(rng, planes.values(), zeros, ends)


def is_whole_plane(call: Inputs) -> bool:
    """Say whether the window is the plane."""
    whole = np.array_equal(np.broadcast_to(call["kernel"], 2), call["x"].shape[2:])
    return whole and not np.any(call["padding"])


FAMILIES = (
    Family(
        "mean_pool2d",
        ("{pool_count}", "{mean_rescaling}", "{overflow}"),
        axes.of("mean_rescaling pool_count") | {"overflow": ("saturate", "wrap")},
        evaluate,
        candidates,
        draw,
        exact=exact,
        wide=wide,
        regions=PLANES
        | regions(
            "x_scale scale: power_of_two",
            "x_zero_point zero_point: integers",
            "zero_point: ends_of_range",
            "range: code_range 8",
        )
        | {
            "kernel: the whole plane": is_whole_plane,
            "kernel: a number, as small as the zero-point": lambda call: (
                np.ndim(call["kernel"]) == 0
                and call["kernel"] != call["zero_point"]
                and 0 < call["zero_point"] <= min(call["x"].shape[2:])
            ),
        },
    ),
)
