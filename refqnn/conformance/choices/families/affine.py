"""quantize: real numbers become codes.

u = x / scale                        (1)  scaling, precision
q = round(u) + zero_point            (2)  rounding, half, zero_point_when, _use, nan
q = clip(q, q_min, q_max)            (3)  overflow, code_range
"""

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from refqnn._types import Float, Int
from refqnn.conformance.choices import axes, draws, kinds
from refqnn.conformance.choices.families.roundings import (
    ADDED,
    fused_multiply_add,
    round_as,
)
from refqnn.conformance.choices.family import REFUSED, Choices, Family, Inputs, Outputs
from refqnn.integer.affine import saturate, wrap

#: scales at which division and reciprocal multiplication part, small ones first
ODD_SCALES = (1.0, 0.5, 41.0, 49.0, 0.1, 0.3, 0.7, 91.0, 105.0, 107.0)
HUGE, TINY = float(2**33), 2.0**-60


def quantize(
    choices: Choices,
    x: Float,
    scale: npt.ArrayLike,
    zero_point: npt.ArrayLike,
    q_min: int,
    q_max: int,
) -> Outputs:
    """Equations (1) to (3); refqnn's answers are those of ``integer.quantize``."""
    if choices["scaling"].startswith("range"):
        choices = {**choices, **OF_RANGE}
    x = np.asarray(x)
    s = np.asarray(scale).astype(x.dtype)
    z = np.asarray(zero_point, np.int64)
    z = z if choices["zero_point_use"] == "added" else np.zeros_like(z)
    whole = (q_min, q_max)
    if choices["code_range"] == "symmetric":
        q_min = max(q_min, -q_max)
    with np.errstate(over="ignore", invalid="ignore"):
        u, late = units(choices, x, s, z, (q_min, q_max))
        t = round_as(np.where(np.isnan(x), 0, u), choices["rounding"], choices["half"])
    wraps = choices["overflow"] == "wrap"
    fit = low_bits if wraps else saturate
    q = fit(t.astype(np.float64), late, *(whole if wraps else (q_min, q_max)))
    added = z if choices["zero_point_when"] == "after_rounding" else np.zeros_like(z)
    cast = np.clip(added % 2**32 - 2**31, q_min, q_max)  # int32(-2^31 + z)
    if choices["overflow"] == "cast_then_clip":
        beyond = np.abs(np.asarray(t, np.float64)) >= 2.0**31
        q = np.where(beyond, cast, q)
    unknown = np.isnan(x)
    if not unknown.any():
        return {"y": q}
    stand_in: dict[str, Any] = {
        "raise": REFUSED,
        "q_min": q_min,
        "q_max": q_max,
        "kept": np.nan,
        "zero": np.clip(z, q_min, q_max),
        "raw_zero": 0,
        "cast": cast,
    }
    return {"y": np.where(unknown, stand_in[choices["nan"]], q)}


def units(
    choices: Choices, x: Float, s: Float, z: Int, ends: tuple[int, int]
) -> tuple[Float, Int]:
    """Return the real numbers to round, and the integers to add after rounding.

    Equation (1), and the zero-point where it is added before.
    """
    before = choices["zero_point_when"] == "before_rounding"
    if choices["scaling"].startswith("range"):
        return of_range(x, s, z, ends, fma=choices["scaling"] == "range_fma")
    if choices["precision"] == "float64":
        x, s = x.astype(np.float64), s.astype(np.float64)
    elif choices["scaling"] == "reciprocal_fma" and before:
        return fused_multiply_add(x, np.float32(1) / s, z), np.zeros_like(z)
    u = x / s if choices["scaling"] == "divide" else x * (1 / s)
    return (u + z.astype(u.dtype), np.zeros_like(z)) if before else (u, z)


def of_range(
    x: Float, s: Float, z: Int, ends: tuple[int, int], *, fma: bool
) -> tuple[Float, Int]:
    """x a + b, a = (q_max - q_min) / (hi - lo), b = -lo a; q_min is added later."""
    lo, hi = (s * (end - z).astype(x.dtype) for end in ends)
    a = x.dtype.type(ends[1] - ends[0]) / (hi - lo)
    b = -lo * a
    return fused_multiply_add(x, a, b) if fma else x * a + b, np.full_like(z, ends[0])


def low_bits(t: Float, late: Int, q_min: int, q_max: int) -> Int:
    """Return as many low bits of t + late as a range needs; infinity is REFUSED."""
    fits = np.isfinite(t)
    q = wrap(np.where(fits, t, 0), late, *enclosing(q_min, q_max))
    return np.where(fits, q, REFUSED)


def enclosing(q_min: int, q_max: int) -> tuple[int, int]:
    """Return the ends of the narrowest b bits, signed if q_min < 0, that hold a range.

    >>> enclosing(-127, 127), enclosing(0, 15)
    ((-128, 127), (0, 15))
    """
    if q_min >= 0:
        return 0, (1 << int(q_max).bit_length()) - 1
    half = 1 << max(int(q_max).bit_length(), int(-q_min - 1).bit_length())
    return -half, half - 1


def fit(q: Int, overflow: str, q_min: int, q_max: int) -> Int:
    """Return integers in a range: saturated, or their low bits with "wrap".

    >>> fit(np.array([130]), "wrap", -128, 127)
    array([-126])
    """
    if overflow != "wrap":
        return np.clip(q, q_min, q_max)
    low, high = enclosing(q_min, q_max)
    return (q - low) % (high - low + 1) + low


def quotient(x: Float, scale: npt.ArrayLike, **_: object) -> Float:
    """Return x / scale in float64: what is rounded."""
    with np.errstate(over="ignore"):
        return np.asarray(x, np.float64) / np.asarray(scale, np.float64)


@cache
def beside_ties() -> tuple[tuple[float, float], ...]:
    """Return (x, scale) beside halves and wholes that arithmetics decide differently.

    Smallest first; with scale 1, where all agree, every x.

    >>> sum(scale == 1 for _, scale in beside_ties())
    69
    """
    pairs = []
    for scale in np.asarray(ODD_SCALES, np.float32):
        for k in range(1, 24):
            x = np.float32(k / 2) * scale
            around = x, np.nextafter(x, np.float32(0)), np.nextafter(x, 2 * x)
            pairs += [
                (float(v), float(scale))
                for v in around
                if scale == 1 or len(decisions(v, scale)) > 1
            ]
    return tuple(pairs)


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


def fused_apart(scale: float = 0.03, most: int = 6) -> list[tuple[float, float]]:
    """Return (x, scale) whose x a + b, fused, lies on the other side of a half."""
    s = np.float32(scale)
    x = (np.arange(1, 120) / 2).astype(np.float32) * s
    x = np.concatenate([x, np.nextafter(x, np.float32(np.inf))])
    z, ends = np.asarray(0), (-128, 127)
    once, twice = (
        2 * of_range(x, np.asarray(s), z, ends, fma=f)[0] for f in (True, False)
    )
    apart = (np.floor(once) != np.floor(twice)) | (np.ceil(once) != np.ceil(twice))
    return [(float(v), float(s)) for v in x[apart][:most]]


def quantize_candidates() -> list[Inputs]:
    """List ties of both signs, wholes and halves at odd scales, what overflows, NaN."""
    plain = [(x, 1.0) for x in (0.25, 0.5, 0.75, 1.5, 2.5, TINY)]
    far = [(x, 1.0) for x in (128.0, 200.0, 1000.0, HUGE)]
    pairs = [*plain, *far, *beside_ties(), *fused_apart()]
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
    return draws.call(quantize, np.float32(x), np.float32(scale), zero_point, -128, 127)


def draw_quantize(rng: np.random.Generator, n: int) -> Inputs:
    """Draw values within and beyond the range, a third of them ties, for one scale."""
    scale = np.float32(rng.choice([1.0, 0.5, 0.1, 49.0, 0.3]))
    codes = rng.integers(-300, 300, n) + rng.choice([0.0, 0.5, rng.uniform()], n)
    x = (codes * float(scale)).astype(np.float32)
    return draws.call(quantize, x, scale, int(rng.integers(-20, 20)), -128, 127)


def wide_quantize(rng: np.random.Generator, n: int) -> Inputs:
    """Draw values within and beyond a range, on ties and beside them, no NaN."""
    shape, ends = draws.dims(rng, n), draws.code_range(rng)
    scale = draws.several(rng, shape, lambda: draws.scale(rng))
    z = draws.several(rng, shape, lambda: draws.zero_point(rng, *ends))
    x = draws.with_specials(rng, draws.on_grid(rng, shape, scale, z, ends))
    return draws.call(quantize, draws.laid_out(rng, x), scale, z, *ends)


def quantize_canonical(choices: Choices) -> dict[str, str]:
    """Replace answers by others that provably give the same codes.

    Without a sum in float32, fma is a product. With float32 operands, x / s in float64
    rounds to the nearest after z as before.

    2 x - (2k + 1) s is 0 or a multiple of the smaller unit in the last place, so a
    quotient beside a tie is at least 2^-26 away from it, and adding an 8-bit zero-point
    moves it by less than 2^-44. ``floor`` and ``ceil`` see the smallest numbers.
    """
    changed = dict(choices)
    inside = choices["zero_point_when"] == "before_rounding" and not of_ends(choices)
    if choices["nan"] == "cast" and (inside or choices["zero_point_use"] == "ignored"):
        changed |= {"nan": "q_min"}
    wraps = choices["overflow"] == "wrap"
    if of_ends(choices):  # what is below 0 becomes q_min
        above = ABOVE_0.get(choices["rounding"], choices["rounding"])
        changed |= {"rounding": above} | OF_RANGE
    elif wraps and changed["nan"] not in {"q_min", "cast"}:
        changed |= {"code_range": "as_given"}
    if choices["zero_point_use"] == "ignored":
        changed |= {"zero_point_when": "after_rounding"}
        changed |= {"nan": "zero"} if choices["nan"] == "raw_zero" else {}
    double = changed["precision"] == "float64"
    if changed["scaling"] == "reciprocal_fma" and (
        double or changed["zero_point_when"] == "after_rounding"
    ):
        changed |= {"scaling": "reciprocal"}
    divided = double and changed["scaling"] == "divide"
    if choices["rounding"] not in ADDED or divided:
        changed |= {"half": "exact"}
    if divided and choices["rounding"] in {"half_up", "half_down"}:
        changed |= {"zero_point_when": "after_rounding"}
    return changed


def of_ends(choices: Choices) -> bool:
    """Say whether x becomes a code by the ends of the grid: x a + b."""
    return choices["scaling"].startswith("range")


#: answers to what is no question where x a + b is clipped before it is rounded
OF_RANGE = {
    "precision": "input",
    "zero_point_when": "after_rounding",
    "half": "exact",
    "overflow": "saturate",
}
#: roundings that are one function of numbers that are not negative
ABOVE_0 = {
    "trunc": "floor",
    "half_to_zero": "half_down",
    "away": "ceil",
    "half_away": "half_up",
}


def in_width(q: Int, difference: str, dtype: np.dtype[Any]) -> Int:
    """Return a difference of codes as it is, modulo 2^8, or modulo that of a type.

    >>> in_width(np.array([200]), "wraps_in_type", np.dtype(np.uint8))
    array([200])
    """
    if difference == "exact":
        return q
    return in_type(q, np.dtype(np.int8) if difference == "wraps" else dtype)


def in_type(q: Int, dtype: np.dtype[Any]) -> Int:
    """Return q modulo 2^b as a value of a type of b bits, in int64.

    >>> in_type(np.array([130, -1]), np.dtype(np.int8))
    array([-126,   -1])
    """
    return q.astype(dtype).astype(np.int64)


FAMILIES = (
    Family(
        "quantize",
        (
            "{scaling}; {precision}",
            "{rounding}; {half}",
            "{zero_point_when}; {zero_point_use}",
            "{code_range}; {overflow}",
            "of NaN: {nan}",
        ),
        axes.of("rounding scaling precision zero_point_when")
        | {"zero_point_use": ("added", "ignored")}
        | {"overflow": ("saturate", "wrap", "cast_then_clip")}
        | axes.of("nan half code_range"),
        quantize,
        quantize_candidates,
        draw_quantize,
        elementwise="x",
        stacks=True,
        canonical=quantize_canonical,
        exact=quotient,
        call="refqnn.integer.quantize(np.float32([{x!r}]), {scale}, {zero_point}, "
        "q_min={q_min}, q_max={q_max})",
        wide=wide_quantize,
        scaled=("x", "scale"),
        regions=kinds.regions(
            "x: reals, special, on_grid, shape",
            "scale: power_of_two, magnitudes, along x",
            "zero_point: integers, ends_of_range, along x",
            "range: code_range",
        ),
    ),
)
