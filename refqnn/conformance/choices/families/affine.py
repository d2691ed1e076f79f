"""quantize and dequantize.

u = x / scale                        (1)  scaling, precision
q = round(u) + zero_point            (2)  rounding, zero_point_when, zero_point_use, nan
q = clip(q, q_min, q_max)            (3)  overflow
y = scale (q - zero_point)           (4)  dequantize_order, code_difference, ..._sign
"""

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from refqnn import integer
from refqnn._types import Float, Int
from refqnn.conformance.choices import draws, kinds
from refqnn.conformance.choices.families.family import (
    REFUSED,
    Choices,
    Family,
    Inputs,
    Outputs,
    values,
)

#: scales at which division and reciprocal multiplication part, small ones first
ODD_SCALES = (1.0, 0.5, 41.0, 49.0, 0.1, 0.3, 0.7, 107.0)
HUGE, TINY = float(2**33), 2.0**-60


def quantize(
    choices: Choices,
    x: Float,
    scale: npt.ArrayLike,
    zero_point: npt.ArrayLike,
    q_min: int,
    q_max: int,
) -> Outputs:
    """Equations (1) to (3): ``integer.quantize``, and casts before the clip."""
    x, s = np.asarray(x), np.asarray(scale)
    s = s.astype(x.dtype)
    if choices["precision"] == "float64":
        x, s = x.astype(np.float64), s.astype(np.float64)
    z = np.asarray(zero_point)
    z = z if choices["zero_point_use"] == "added" else np.zeros_like(z)
    with np.errstate(over="ignore", invalid="ignore"):
        u = x / s
    unknown = np.isnan(x)
    wraps = choices["overflow"] == "wrap"
    unfit = ~np.isfinite(u) & ~unknown if wraps else np.zeros(x.shape, bool)
    given, step, offset = np.where(unfit, 0, x), s, z
    ends = enclosing(q_min, q_max) if wraps else (q_min, q_max)
    if quantize_canonical(choices)["scaling"] == "reciprocal_fma":
        given, step, offset = fused(given, s, z), np.ones_like(s), np.zeros_like(z)
    q = integer.quantize(
        given,
        step,
        offset,
        q_min=ends[0],
        q_max=ends[1],
        rounding=choices["rounding"],
        scaling="divide" if choices["scaling"] == "divide" else "reciprocal",
        zero_point_when=choices["zero_point_when"],  # type: ignore[arg-type]
        overflow="wrap" if wraps else "saturate",
        nan="zero",
    ).astype(np.int64)
    if choices["overflow"] == "cast_then_clip":
        q = np.where(u >= 2.0**31, q_min, q)
    q = np.where(unfit, REFUSED, q)
    if not unknown.any():
        return {"y": q}
    stand_in: dict[str, Any] = {
        "raise": REFUSED,
        "q_min": q_min,
        "q_max": q_max,
        "kept": np.nan,
        "zero": z,
    }
    return {"y": np.where(unknown, stand_in[choices["nan"]], q)}


def enclosing(q_min: int, q_max: int) -> tuple[int, int]:
    """Return the ends of the narrowest b bits, signed if q_min < 0, that hold a range.

    >>> enclosing(-127, 127), enclosing(0, 15)
    ((-128, 127), (0, 15))
    """
    if q_min >= 0:
        return 0, (1 << int(q_max).bit_length()) - 1
    half = 1 << max(int(q_max).bit_length(), int(-q_min - 1).bit_length())
    return -half, half - 1


def fused(x: Float, s: Float, z: Int) -> Float:
    """Return fma(x, 1 / s, z) of float32 values.

    The product is exact in float64. The sum is rounded to 53 bits before 24, which
    differs from one rounding only where 29 bits in a row happen to be those of a tie.
    """
    product = x.astype(np.float64) * (np.float32(1) / s).astype(np.float64)
    with np.errstate(over="ignore"):
        return (product + z).astype(x.dtype)


def scaled(x: Float, scale: npt.ArrayLike, **_: object) -> Float:
    """Return x / scale in float64: what is rounded."""
    with np.errstate(over="ignore"):
        return np.asarray(x, np.float64) / np.asarray(scale, np.float64)


@cache
def beside_ties() -> tuple[tuple[float, float], ...]:
    """Return (x, scale) beside halves and wholes that arithmetics decide differently.

    Smallest first; with scale 1, where all agree, every x.
    """
    found = []
    for scale in np.asarray(ODD_SCALES, np.float32):
        for k in range(1, 24):
            x = np.float32(k / 2) * scale
            around = x, np.nextafter(x, np.float32(0)), np.nextafter(x, 2 * x)
            found += [
                (float(v), float(scale))
                for v in around
                if scale == 1 or len(decisions(v, scale)) > 1
            ]
    return tuple(found)


def decisions(x: np.float32, scale: np.float32) -> set[tuple[bool, float]]:
    """Return where in which half unit x / scale lies, in every arithmetic."""
    wide_x, wide_scale = np.float64(x), np.float64(scale)
    quotients = (
        x / scale,
        x * (np.float32(1) / scale),
        wide_x / wide_scale,
        wide_x * (1 / wide_scale),
    )
    halves = [2 * float(u) for u in quotients]
    return {(h == np.floor(h), float(np.floor(h))) for h in halves}


def quantize_candidates() -> list[Inputs]:
    """Ties of both signs, wholes and halves at odd scales, what overflows, NaN."""
    plain = [(x, 1.0) for x in (0.25, 0.5, 0.75, 1.5, 2.5, TINY)]
    far = [(x, 1.0) for x in (128.0, 200.0, 1000.0, HUGE)]
    pairs = [*plain, *far, *beside_ties()]
    signed = [(sign * x, s) for x, s in pairs for sign in (1, -1)]
    signed.insert(20, (float("nan"), 1.0))
    return [
        affine_inputs(x, s, z)
        for z in (0, 1, -2)
        for x, s in signed
        if z == 0 or s < 50
    ]


def affine_inputs(x: float, scale: float, zero_point: int) -> Inputs:
    """Return the arguments of one scalar question, for int8."""
    return {
        "x": np.float32(x),
        "scale": np.float32(scale),
        "zero_point": zero_point,
        "q_min": -128,
        "q_max": 127,
    }


def draw_quantize(rng: np.random.Generator, n: int) -> Inputs:
    """Values within and beyond the range, a third of them ties, for one scale."""
    scale = np.float32(rng.choice([1.0, 0.5, 0.1, 49.0, 0.3]))
    codes = rng.integers(-300, 300, n) + rng.choice([0.0, 0.5, rng.uniform()], n)
    return {
        "x": (codes * float(scale)).astype(np.float32),
        "scale": scale,
        "zero_point": int(rng.integers(-20, 20)),
        "q_min": -128,
        "q_max": 127,
    }


def wide_quantize(rng: np.random.Generator, n: int) -> Inputs:
    """Values within and beyond a range, on ties and beside them; NaN is not drawn."""
    shape, ends = draws.dims(rng, n), draws.code_range(rng)
    scale = draws.several(rng, shape, lambda: draws.scale(rng))
    z = draws.several(rng, shape, lambda: draws.zero_point(rng, *ends))
    x = draws.on_grid(rng, shape, scale, z, ends)
    return {
        "x": draws.laid_out(rng, draws.with_specials(rng, x)),
        "scale": scale,
        "zero_point": z,
        "q_min": ends[0],
        "q_max": ends[1],
    }


def quantize_canonical(choices: Choices) -> dict[str, str]:
    """With float32 operands, x / s in float64 rounds to the nearest after z as before.

    Without a sum in float32, fma is a product.

    2 x - (2k + 1) s is 0 or a multiple of the smaller unit in the last place, so a
    quotient beside a tie is at least 2^-26 away from it, and adding an 8-bit zero-point
    moves it by less than 2^-44. ``floor`` and ``ceil`` see the smallest numbers.
    """
    if choices["zero_point_use"] == "ignored":
        choices = {**choices, "zero_point_when": "after_rounding"}
    alone = choices["precision"] == "float64" or (
        choices["zero_point_when"] == "after_rounding"
    )
    if choices["scaling"] == "reciprocal_fma" and alone:
        return quantize_canonical({**choices, "scaling": "reciprocal"})
    if (
        choices["precision"] == "float64"
        and choices["scaling"] == "divide"
        and choices["rounding"] in {"half_up", "half_down"}
    ):
        return {**choices, "zero_point_when": "after_rounding"}
    return dict(choices)


def dequantize(
    choices: Choices, q: Int, scale: npt.ArrayLike, zero_point: npt.ArrayLike
) -> Outputs:
    """Equation (4), in the dtype of the scale."""
    s, z = np.asarray(scale), np.asarray(zero_point, np.int64)
    q = np.asarray(q).astype(np.int64)
    z = -z if choices["zero_point_sign"] == "add" else z
    wraps = choices["code_difference"] == "wraps"
    if choices["dequantize_order"] == "multiply_first":
        low = wrapped(q - z) - (q - z) if wraps else np.zeros_like(q)
        y = s * q.astype(s.dtype) - s * z.astype(s.dtype) + s * low.astype(s.dtype)
    else:
        difference = wrapped(q - z) if wraps else q - z
        y = s * difference.astype(s.dtype)
    return {"y": np.asarray(y)}


def wrapped(q: Int) -> Int:
    """Return q modulo 2^8, as int8."""
    return np.asarray((q + 128) % 256 - 128)


def dequantize_inputs(q: int, scale: float, zero_point: int) -> Inputs:
    """Return the arguments of one question."""
    return {"q": np.int8(q), "scale": np.float32(scale), "zero_point": zero_point}


def dequantize_candidates() -> list[Inputs]:
    """Small codes, differences beyond int8, scales with many bits."""
    return [
        dequantize_inputs(q, s, z)
        for s in (1.0, 0.1, 0.3, 0.7)
        for q in (1, 3, 5, 11, 100, -100)
        for z in (0, 1, 3, 7, 100, -100)
    ]


def draw_dequantize(rng: np.random.Generator, n: int) -> Inputs:
    """Return codes of any size and one scale."""
    return {
        "q": rng.integers(-128, 128, n).astype(np.int8),
        "scale": np.float32(rng.uniform(0.01, 1)),
        "zero_point": int(rng.integers(-128, 128)),
    }


def wide_dequantize(rng: np.random.Generator, n: int) -> Inputs:
    """Return codes that fill a type, their ends among them."""
    shape = draws.dims(rng, n)
    dtype = ("int8", "uint8", "int16")[int(rng.integers(3))]
    info = np.iinfo(dtype)
    scale = draws.several(rng, shape, lambda: draws.scale(rng))
    return {
        "q": draws.laid_out(rng, draws.codes(rng, shape, dtype)),
        "scale": scale,
        "zero_point": draws.several(
            rng, shape, lambda: draws.zero_point(rng, info.min, info.max)
        ),
    }


FAMILIES = (
    Family(
        "quantize",
        (
            "{scaling}; {precision}",
            "{rounding}",
            "{zero_point_when}; {zero_point_use}",
            "{overflow}",
            "of NaN: {nan}",
        ),
        values("rounding", "scaling", "precision", "zero_point_when")
        | {"zero_point_use": ("added", "ignored")}
        | values("overflow", "nan"),
        quantize,
        quantize_candidates,
        draw_quantize,
        elementwise="x",
        stacks=True,
        canonical=quantize_canonical,
        exact=scaled,
        call="refqnn.integer.quantize(np.float32([{x!r}]), {scale}, {zero_point}, "
        "q_min={q_min}, q_max={q_max})",
        wide=wide_quantize,
        regions=kinds.reals("x")
        | kinds.special("x")
        | kinds.on_grid("x")
        | kinds.shape("x")
        | kinds.power_of_two("scale")
        | kinds.along("scale", "x")
        | kinds.integers("zero_point")
        | kinds.ends_of_range("zero_point")
        | kinds.along("zero_point", "x")
        | kinds.code_range(),
    ),
    Family(
        "dequantize",
        ("{zero_point_sign}", "{code_difference}", "{dequantize_order}"),
        values("dequantize_order", "code_difference", "zero_point_sign"),
        dequantize,
        dequantize_candidates,
        draw_dequantize,
        elementwise="q",
        stacks=True,
        call="refqnn.integer.dequantize(np.int8([{q}]), np.float32({scale}), "
        "{zero_point})",
        wide=wide_dequantize,
        regions=kinds.integers("q")
        | kinds.dtypes("q", "int8", "uint8", "int16")
        | kinds.shape("q")
        | kinds.power_of_two("scale")
        | kinds.along("scale", "q")
        | kinds.integers("zero_point")
        | kinds.along("zero_point", "q"),
    ),
)
