"""Scales that are not those of the call: kept in few bits, or off by a factor.

Where no variant explains outputs, the call is computed again with every scale as a
number format leaves it; then the factors between the real numbers before the rounding
and the codes are bounded: r f is within the rounding of its code c for every element,

    f in [(c - t) / r, (c + t) / r] for r > 0,   t = 1/2, 3/4 or 1               (1)
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import product

import numpy as np

from refqnn._types import Array, Float, Int
from refqnn.conformance.choices.families import Choices, Family, Inputs
from refqnn.conformance.choices.semantics import deviations_text
from refqnn.conformance.judge.calls import Answered, Trial
from refqnn.conformance.judge.reproduce import numbers
from refqnn.conformance.judge.search import sample_parts

#: arguments that are scales, or ends and levels of a grid
SCALES = (
    "scale", "x_scale", "y_scale", "s", "alpha", "a", "beta", "wp", "wn", "delta", "lo",
    "hi", "gamma", "v", "centroids",
)  # fmt: skip
#: codes that bound a factor, at least
ENOUGH = 4
#: formats that are named, of those that fit
SHOWN = 3
#: numbers of calls on which variants beside the declared one are tried, too
MOST_NUMBERS = 50_000
#: what is added to a code that a rounding gives, and the half width t of (1)
ROUNDINGS = ((0.0, 0.5), (0.0, 0.75), (0.5, 0.5), (-0.5, 0.5), (0.0, 1.0))
#: relative error of real numbers that a kernel computes in float32
FLOAT32 = 2.0**-20


def few_bits(bits: int, toward_zero: bool, real: Float) -> Float:
    """Keep ``bits`` significant bits of real numbers, to the nearest or cut off.

    >>> few_bits(2, False, np.array([1.3, 1.2])), few_bits(2, True, np.array([1.3]))
    (array([1.5, 1. ]), array([1.]))
    """
    fraction, exponent = np.frexp(real)
    scaled = np.ldexp(fraction, bits)
    kept = np.trunc(scaled) if toward_zero else np.rint(scaled)
    return np.asarray(np.ldexp(kept, exponent - bits))


def power_of_two(real: Float) -> Float:
    """2^rint(log2 |r|) with the sign of r; 0 stays 0"""
    with np.errstate(divide="ignore"):
        nearest = np.exp2(np.rint(np.log2(np.abs(real))))
    return np.copysign(nearest, real)


def as_float16(real: Float) -> Float:
    """Round to float16, with its denormals."""
    with np.errstate(over="ignore"):
        return real.astype(np.float16).astype(np.float64)


def inverse(kept: Callable[[Float], Float], real: Float) -> Float:
    """Return 1 / k where k is what a format keeps of 1 / r."""
    with np.errstate(divide="ignore"):
        return np.asarray(1 / kept(1 / real))


FORMATS: dict[str, Callable[[Float], Float]] = {
    "as float16": as_float16,
    "as bfloat16": partial(few_bits, 8, False),
    "as a float16 of its reciprocal": partial(inverse, as_float16),
    "as a bfloat16 of its reciprocal": partial(inverse, partial(few_bits, 8, False)),
    "as bfloat16, cut off": partial(few_bits, 8, True),
    "as a power of two": power_of_two,
    **{
        f"in {bits} bits{how}": partial(few_bits, bits, cut)
        for bits, (how, cut) in product(
            range(24, 1, -1), (("", False), (", cut off", True))
        )
    },
}


def scales_of(call: Inputs) -> dict[str, Float]:
    """Return the scales of a call in float64: multiplier 2^(shift - 31) is one."""
    scales: dict[str, Float] = {
        name: np.asarray(call[name], np.float64)
        for name in SCALES
        if name in call and np.asarray(call[name]).dtype.kind == "f"
    }
    if {"multiplier", "shift"} <= call.keys():
        m, e = np.asarray(call["multiplier"]), np.asarray(call["shift"])
        scales["multiplier"] = np.ldexp(m.astype(np.float64), e - 31)
    return scales


def with_scales(call: Inputs, scales: dict[str, Float]) -> Inputs:
    """Return a call with other scales, in the dtypes of its own.

    >>> with_scales({"multiplier": 1 << 30, "shift": 0}, {"multiplier": np.array(.25)})
    {'multiplier': 1073741824, 'shift': -1}
    """
    changed: Inputs = {}
    for name, value in scales.items():
        if name != "multiplier":
            changed[name] = like(call[name], value)
            continue
        fraction, exponent = np.frexp(value)
        m = np.rint(np.ldexp(fraction, 31)).astype(np.int64)
        changed["multiplier"] = like(call["multiplier"], m)
        changed["shift"] = like(call["shift"], exponent)
    return {**call, **changed}


def like(given: object, value: Array) -> object:
    """Return a value as a number or an array, as it was given."""
    if isinstance(given, np.ndarray | np.generic):
        return np.asarray(value).astype(given.dtype)
    return np.asarray(value).item() if np.ndim(value) == 0 else value


def narrow_scales(
    call: Inputs, kept: Callable[[Float], Float]
) -> Iterator[tuple[str, Inputs]]:
    """Yield a call with each scale as a format leaves it, and with all of them."""
    scales = scales_of(call)
    narrow = {name: kept(value) for name, value in scales.items()}
    for name, value in narrow.items():
        yield name, with_scales(call, {name: value})
    if len(narrow) > 1:
        yield " and ".join(narrow), with_scales(call, narrow)


def kept_in_few_bits(
    family: Family, declared: Choices, tried: Sequence[Trial]
) -> list[str]:
    """Name the format of a scale with which a variant gives exactly what was got.

    The declared semantics is tried, and those with one other answer; [] if none does.
    """
    if not any(scales_of(t.call) for t in tried):
        return []
    answers = [Answered(call, got) for call, got, _ in tried]
    parts = [
        part
        for answer, t in zip(answers, tried, strict=True)
        for part in sample_parts(family, declared, answer, t.want)
    ]
    is_small = sum(numbers(a.call) for a in parts or answers) <= MOST_NUMBERS
    near = family.neighbours(declared, 1 if is_small else 0)
    variants = [group[0] for group in family.functions(near).values()]
    for variant in variants:
        fits = {
            what: names
            for what, kept in FORMATS.items()
            if names_that_give(family, variant, kept, parts or answers)
            and (names := names_that_give(family, variant, kept, answers))
        }
        if fits:
            other = deviations_text(variant, declared)
            beside = "" if variant == dict(declared) else f" with {other}"
            name = next(iter(fits.values()))[0]
            return [f"{name} kept {or_others(fits)}{beside} gives what was got (scale)"]
    return []


def or_others(formats: Iterable[str]) -> str:
    """Name the first formats that fit, and count the others.

    >>> or_others(["as float16", "as bfloat16", "in 9 bits", "in 8 bits", "in 7 bits"])
    'as float16 or as bfloat16 or in 9 bits or 2 others'
    """
    first, others = [*formats][:SHOWN], len([*formats]) - SHOWN
    return " or ".join([*first, *([f"{others} others"] if others > 0 else [])])


def names_that_give(
    family: Family,
    variant: Choices,
    kept: Callable[[Float], Float],
    answers: Sequence[Answered],
) -> list[str]:
    """Return the scales that, kept in a format, give every answer."""
    left: list[str] | None = None
    for call, got in answers:
        fits = []
        for name, other in narrow_scales(call, kept):
            want = family.outputs_or_none(variant, other)
            if want is not None and family.same(got, want):
                fits.append(name)
        left = [name for name in fits if left is None or name in left]
        if not left:
            return []
    return left or []


def rescaling_hint(family: Family, tried: Sequence[Trial]) -> list[str]:
    """Bound by which factor all real numbers were multiplied before the rounding.

    One for every scale. A format that keeps all scales within their bounds is named.
    """
    if family.exact is None or "zero_point" not in tried[0].call:
        return []
    columns = [column for t in tried if (column := codes_inside(family, t)) is not None]
    if len(columns) < len(tried) or family.outputs != ("y",):
        return []
    reals, codes, scales = (np.concatenate(each) for each in zip(*columns, strict=True))
    if len(reals) < ENOUGH or not np.any(reals) or not np.any(codes):
        return []
    return factor_hints(reals, codes, scales)


def codes_inside(family: Family, trial: Trial) -> tuple[Float, Float, Float] | None:
    """Return real numbers, codes less the zero-point, and scales, where none saturates.

    None if the shape is wrong.
    """
    call, got, want = trial
    name = family.outputs[0]
    code = np.asarray(got[name], np.float64)
    if code.shape != want[name].shape or family.exact is None:
        return None
    z = np.asarray(call["zero_point"], np.float64)
    lo, hi = (call.get(k, v) for k, v in (("q_min", -np.inf), ("q_max", np.inf)))
    real = np.broadcast_to(family.exact(**call), code.shape)
    inside = (code > lo) & (code < hi) & np.isfinite(code) & np.isfinite(real)
    known = scales_of(call)
    scale = next(iter(known.values())) if len(known) == 1 else np.array(1.0)
    if np.ndim(scale) > code.ndim:
        return None
    return (
        real[inside],
        (code - z)[inside],
        np.broadcast_to(scale, code.shape)[inside],
    )


def factor_hints(real: Float, code: Float, scale: Float) -> list[str]:
    """Name the factors (1) of real numbers; [] where 1 is one, or none fits all codes.

    >>> factor_hints(np.array([1.0, 10, 20, 31]), np.array([2.0, 20, 40, 62]),
    ...              np.ones(4))
    ['got = 2 want before the rounding -> scale: multiplier, shift or their pairing']
    """
    scales, group = np.unique(scale, return_inverse=True)
    for offset, t in ROUNDINGS:
        low, high = bounds(real, code + offset, t, group, len(scales))
        if np.any(low > high):
            continue
        if np.all((low <= 1) & (high >= 1)):
            return []
        what = "scale: multiplier, shift or their pairing"
        least, most = middle(real, code, low, high, group)
        factor = f"{least:.6g}" if len(scales) == 1 else f"{least:.6g} to {most:.6g}"
        line = f"got = {factor} want before the rounding -> {what}"
        return [line, *formats_within(scales, low, high)]
    return []


def bounds(
    real: Float, code: Float, t: float, group: Int, groups: int
) -> tuple[Float, Float]:
    """Return the least and the largest factor (1) of every scale: (groups,) each."""
    t_each = t + FLOAT32 * (1 + np.abs(code))
    low, high = np.full(groups, -np.inf), np.full(groups, np.inf)
    with np.errstate(divide="ignore", invalid="ignore"):
        ends = np.stack([(code - t_each) / real, (code + t_each) / real])
    some = real != 0
    np.maximum.at(low, group[some], ends.min(axis=0)[some])
    np.minimum.at(high, group[some], ends.max(axis=0)[some])
    if np.any(np.abs(code[~some]) > t_each[~some]):
        high[:] = -np.inf
    return low, high


def middle(
    real: Float, code: Float, low: Float, high: Float, group: Int
) -> tuple[float, float]:
    """Return the least and the largest factor: <r, c> / <r, r>, within its bounds."""
    above = np.bincount(group, real * code, len(low))
    below = np.bincount(group, real * real, len(low))
    some = below > 0
    factors = np.clip(above[some] / below[some], low[some], high[some])
    return float(factors.min()), float(factors.max())


def formats_within(scales: Float, low: Float, high: Float) -> list[str]:
    """Name the formats that move every scale by a factor within its bounds."""
    fits = []
    for what, kept in FORMATS.items():
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = kept(scales) / scales
        if np.all((ratio >= low) & (ratio <= high)):
            fits.append(what)
    return [f"as if the scale was kept {or_others(fits)}"] if fits else []
