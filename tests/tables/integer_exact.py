"""Independent arithmetic: Python integers and fractions, one number at a time."""

import itertools
from fractions import Fraction
from math import ceil, floor, trunc

import numpy as np

HALF = Fraction(1, 2)
NEAREST = {
    "half_even": round,
    "half_away": lambda t: floor(t + HALF) if t > 0 else ceil(t - HALF),
    "half_up": lambda t: floor(t + HALF),
    "half_down": lambda t: ceil(t - HALF),
    "floor": floor,
    "ceil": ceil,
    "trunc": trunc,
}


def fewest_and_smallest(answers, candidates, name):
    """The first smallest set of candidates on which no other name answers like this."""
    others = [other for other in answers if other != name]
    for size in range(1, 5):
        sets = [
            chosen
            for chosen in itertools.combinations(range(len(candidates)), size)
            if all(
                any(answers[name][k] != answers[other][k] for k in chosen)
                for other in others
            )
        ]
        if sets:
            return tuple(candidates[k] for k in min(sets, key=lambda c: c[::-1]))
    return None


def c_division(n, d):
    return abs(n) // d * (1 if n >= 0 else -1)


def high_half(a, b):
    """gemmlowp, SaturatingRoundingDoublingHighMul, statement by statement."""
    product = a * b
    nudge = 1 << 30 if product >= 0 else 1 - (1 << 30)
    return c_division(product + nudge, 1 << 31)


def by_power_of_two(x, exponent):
    """gemmlowp, RoundingDivideByPOT, statement by statement."""
    mask = (1 << exponent) - 1
    threshold = (mask >> 1) + (1 if x < 0 else 0)
    return (x >> exponent) + (1 if (x & mask) > threshold else 0)


def rescaled(acc, multiplier, shift, form):
    """One accumulator through one form, before zero-point and clip."""
    if form.startswith("two_stage"):
        high = high_half(acc << max(shift, 0), multiplier)
        if form == "two_stage_half_away":
            return by_power_of_two(high, max(-shift, 0))
        second = NEAREST[form.removeprefix("two_stage_")]
        return second(Fraction(high, 1 << max(-shift, 0)))
    real = Fraction(multiplier) * Fraction(2) ** (shift - 31)
    if form.startswith("float"):
        kind = np.float32 if form.startswith("float32") else np.float64
        return round(Fraction(float(kind(acc) * kind(float(real)))))
    return NEAREST[form](acc * real)


def clipped(v, low, high):
    return min(max(v, low), high)


def conv2d(x, w, b, xz, wz, at, groups, fill):
    """Seven plain loops over Python integers.

    x: (N, C, H, W), w: (O, C // G, Kh, Kw), wz: (O,)  ->  (N, O, Ho, Wo) object
    """
    (n, _, h, width), (o, cg, kh, kw) = x.shape, w.shape
    (top, bottom), (left, right) = at.padding
    (sh, sw), (dh, dw) = at.stride, at.dilation
    ho = (h + top + bottom - dh * (kh - 1) - 1) // sh + 1
    wo = (width + left + right - dw * (kw - 1) - 1) // sw + 1
    y = np.zeros((n, o, ho, wo), object)
    for image, row, p, q in np.ndindex(y.shape):
        total = 0 if b is None else int(b[row])
        first = row // (o // groups) * cg
        for channel, i, j in np.ndindex(cg, kh, kw):
            r, s = p * sh + i * dh - top, q * sw + j * dw - left
            inside = 0 <= r < h and 0 <= s < width
            code = int(x[image, first + channel, r, s]) if inside else fill
            total += (int(w[row, channel, i, j]) - int(wz[row])) * (code - xz)
        y[image, row, p, q] = total
    return y
