"""resize_nearest and resize_bilinear: planes of codes in another size, on one grid.

u_i = the place among n codes of code i of m         (1)   resize_place, resize_ratio
y_i = x at round(u_i)                                (2)   nearest_rounding
y_i = round((1 - t) x_j + t x_(j+1)), j + t = u_i    (3)   resize_blend

Places beyond the edges are those of the edges. ``integer.resize`` has the default of
both, ``integer.resize_bilinear`` the blends of TensorFlow Lite and XNNPACK.
"""

from functools import cache, partial
from typing import Any

import numpy as np

from refqnn import integer
from refqnn._types import Array, Float, Int
from refqnn.conformance.choices import axes, draws, kinds
from refqnn.conformance.choices.coverage import few
from refqnn.conformance.choices.families.roundings import ROUND, quotient
from refqnn.conformance.choices.family import Choices, Family, Inputs, Outputs
from refqnn.geometry import Pair, pair
from refqnn.integer.pool import as_planes

SEED = 20_261_202


def resize_nearest(choices: Choices, x: Int, size: Pair) -> Outputs:
    """Equations (1) and (2)."""
    x, sizes = as_planes(x), pair(size, name="size", least=1)
    how = choices["nearest_rounding"]
    rows, cols = (
        np.clip(whole(*places(choices, n, m), how), 0, n - 1)
        for n, m in zip(x.shape[2:], sizes, strict=True)
    )
    return {"y": x[:, :, rows[:, None], cols].astype(np.int64)}


def resize_bilinear(choices: Choices, x: Int, size: Pair) -> Outputs:
    """Equations (1) and (3)."""
    x, sizes = as_planes(x), pair(size, name="size", least=1)
    place, blend = choices["resize_place"], choices["resize_blend"]
    if blend in {"tflite", "xnnpack"}:
        y = integer.resize_bilinear(
            x,
            size=sizes,
            align_corners=place == "align_corners",
            half_pixel_centers=place == "half_pixel",
            semantics="tflite" if blend == "tflite" else "xnnpack",
        )
        return {"y": y.astype(np.int64)}
    if blend.startswith("float32"):
        return {"y": float32_blend(choices, x, sizes, blend.removeprefix("float32_"))}
    sums, denominator = exact_blend(choices, x, sizes)
    return {"y": quotient(sums, np.full((), denominator), blend)}


def exact_blend(choices: Choices, x: Int, sizes: Pair) -> tuple[Int, int]:
    """(3) before it is rounded: the numerators of all blends and their denominator."""
    sums, denominator = x.astype(np.int64), 1
    for axis, (n, m) in enumerate(zip(x.shape[2:], sizes, strict=True), start=2):
        at, parts = places({**choices, "resize_ratio": "exact"}, n, m)
        low, share = np.divmod(np.clip(at, 0, (n - 1) * parts), parts)
        high = np.minimum(low + 1, n - 1)
        share = share.reshape(-1, *(1,) * (3 - axis))
        below, above = np.take(sums, low, axis), np.take(sums, high, axis)
        sums = below * (parts - share) + above * share
        denominator *= parts
    return sums, denominator


def places(choices: Choices, n: int, m: int) -> tuple[Array, int]:
    """(1): numerators of every place and their denominator; float32 places over 1

    half_pixel (i + 1/2) n / m - 1/2, asymmetric i n / m, align_corners
    i (n - 1) / (m - 1), 0 where m is 1.
    """
    place, i = choices["resize_place"], np.arange(m)
    corners = int(place == "align_corners")
    up, down = n - corners, max(m - corners, 1)
    if choices["resize_ratio"] == "exact":
        if place == "half_pixel":
            return (2 * i + 1) * n - m, 2 * m
        return i * up, down
    half = np.float32(0.5 if place == "half_pixel" else 0)
    at = i.astype(np.float32) + half
    if choices["resize_ratio"] == "multiplied":
        return at * (np.float32(up) / np.float32(down)) - half, 1
    return at / (np.float32(down) / np.float32(max(up, 1))) - half, 1


def whole(at: Array, parts: int, rounding: str) -> Int:
    """Round places to whole ones: quotients of integers, or float32."""
    if at.dtype.kind == "f":
        return ROUND[rounding](at).astype(np.int64)
    return quotient(at, np.full((), parts), rounding)


def float32_blend(choices: Choices, x: Int, sizes: Pair, rounding: str) -> Int:
    """(3) in float32: the sum of four products, each of two shares and a code.

    At an edge both codes are one, and each has half a share, as in onnxruntime.
    """
    f, v, sides = np.float32, x.astype(np.float32), []
    for axis, (n, m) in enumerate(zip(x.shape[2:], sizes, strict=True), start=2):
        at, parts = places(choices, n, m)
        u = np.clip((at / parts).astype(f), f(0), f(n - 1))
        low = u.astype(np.int64)
        high = np.minimum(low + 1, n - 1)
        shape = (-1, *(1,) * (3 - axis))
        far = np.where(low == high, f(0.5), u - low.astype(f))
        sides.append([(low, (f(1) - far).reshape(shape)), (high, far.reshape(shape))])
    y = np.zeros((), f)
    for row, a in sides[0]:
        for col, b in sides[1]:
            y = y + b * a * v[:, :, row[:, None], col]
    return ROUND[rounding](y).astype(np.int64)


def canonical(choices: Choices) -> dict[str, str]:
    """Take the exact ratio where a blend of integers has its own places."""
    changed = dict(choices)
    if not changed.get("resize_blend", "float32").startswith("float32"):
        changed["resize_ratio"] = "exact"
    return changed


def exact(x: Int, size: Pair) -> Float:
    """Return the blend of the default before it is rounded, float64."""
    sums, denominator = exact_blend({"resize_place": "half_pixel"}, x, size)
    return sums / denominator


#: (n, m) at which float32 places of codes leave the exact ones, to every rounding
NEAREST = (
    (13, 7), (11, 13), (20, 6), (23, 14), (4, 41), (30, 19), (12, 40), (15, 53),
    (26, 44), (27, 45), (28, 64), (54, 63),
)  # fmt: skip
#: and so that blends are rounded differently
BILINEAR = ((8, 7), (10, 30), (39, 13), (42, 53), (45, 54))


def row(codes: Any, m: int) -> Inputs:
    """Return a row of int8 codes, to be made m wide."""
    return {"x": np.array(codes, np.int8).reshape(1, 1, 1, -1), "size": (1, m)}


@cache
def candidates(pairs: tuple[Pair, ...]) -> list[Inputs]:
    """List rows by hand, then those of ``pairs``, the shortest first, then planes."""
    by_hand = [row([-1, 0], 3), row([-1, 0], 4), row([0, 3], 4), row([0, 3, 9], 2)]
    rows = [row((97 * np.arange(n) + 128) % 256 - 128, m) for n, m in pairs]
    return [*by_hand, *rows, *few(REGIONS, wide, (24, 65), SEED)]


def draw(rng: np.random.Generator, n: int) -> Inputs:
    """Draw planes of 9 x 11 to be made 13 x 8, as many as give about n outputs."""
    dtype = draws.pick(rng, "int8", "uint8")
    x = draws.codes(rng, (max(n // 312, 1), 3, 9, 11), dtype)
    return {"x": x, "size": (13, 8)}


def wide(rng: np.random.Generator, n: int) -> Inputs:
    """Draw planes of codes and a size: larger, smaller or the same, of each side."""
    large = n > draws.MOST
    least, most = (30, 70) if large else (1, max(min(n // 4, 14), 3))
    h, w = (int(v) for v in rng.integers(least, most, 2))
    dtype = draws.pick(rng, "int8", "uint8")
    shape = draws.pick(rng, 1, 2), draws.pick(rng, 1, 3), h, w
    x = draws.laid_out(rng, draws.codes(rng, shape, dtype))
    beyond = 100 if large else 20
    size = tuple(
        int(draws.pick(rng, 1, n, 2 * n, (n + 1) // 2, rng.integers(1, beyond)))
        for n in (h, w)
    )
    return {"x": x, "size": size}


def sides(call: Inputs) -> tuple[Array, Array]:
    """Return the height and width of the planes and of the result."""
    return np.array(call["x"].shape[2:]), np.broadcast_to(call["size"], 2)


REGIONS = kinds.regions(
    "x: dtypes int8 uint8, integers, layout, examples, tails", "size: pairs"
) | kinds.regions_named(
    "size",
    {
        "larger": lambda n, m: m > n,
        "smaller": lambda n, m: m < n,
        "the same": lambda n, m: np.all(m == n),
        "of one code": lambda n, _: n == 1,
        "of 30 codes and more, large": lambda n, _: n.min() >= 30,
    },
    sides,
)

FAMILIES = (
    Family(
        "resize_nearest",
        ("{resize_place}; {resize_ratio}", "{nearest_rounding}"),
        axes.of("resize_place nearest_rounding resize_ratio"),
        resize_nearest,
        partial(candidates, NEAREST),
        draw,
        wide=wide,
        regions=REGIONS,
    ),
    Family(
        "resize_bilinear",
        ("{resize_place}; {resize_ratio}", "{resize_blend}"),
        axes.of("resize_place resize_blend resize_ratio"),
        resize_bilinear,
        partial(candidates, BILINEAR),
        draw,
        canonical=canonical,
        exact=exact,
        wide=wide,
        regions=REGIONS,
    ),
)
