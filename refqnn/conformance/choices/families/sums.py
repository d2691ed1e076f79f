"""add, sub and mul of codes on different grids.

    q = z + round((s_x (x - z_x) +- s_y (y - z_y)) / s)      (1)     sum_rescaling
    q = z + round(s_x s_y / s (x - z_x) (y - z_y))           (2)     product_rescaling

The forms of refqnn are those of ``integer.add`` and ``integer.mul``; the others stand
here. Real numbers are float32 where nothing else is said.
"""

from collections.abc import Callable
from fractions import Fraction
from functools import cache, partial
from typing import Any

import numpy as np

from refqnn._types import Float, Int
from refqnn.conformance.choices import axes, draws, kinds
from refqnn.conformance.choices.families.affine import fit
from refqnn.conformance.choices.family import Choices, Family, Inputs, Outputs
from refqnn.integer.arithmetic import (
    SEMANTICS,
    Operands,
    fused_multiply_add,
    multiply,
    product_codes,
    round_rational,
    saturated_rint,
    sum_codes,
    xnnpack_sum,
)
from refqnn.integer.rounding import round_half_away

ONE = np.float32(1)
#: less than any distance of a sum of codes from a tie, with scales of float32
LEAST = Fraction(1, 2**300)


def dequantized_sum(given: Operands, sign: int, *, torch: bool) -> Int:
    """z + round((s_x (x - z_x) +- s_y (y - z_y)) / s), operation by operation

    ``torch``: fma(s_x, x, -s_x z_x), and times 1 / s instead of divided by s.
    """
    s, (zx, zy, z) = np.array(given.scales, np.float32), given.zeros
    if torch:
        a = fused_multiply_add(given.x, s[0], -s[0] * np.float32(zx))
        b = fused_multiply_add(given.y, s[1], -s[1] * np.float32(zy))
        return z + saturated_rint((a + sign * b) * (ONE / s[2]))
    a = s[0] * (given.x - zx).astype(np.float32)
    b = s[1] * (given.y - zy).astype(np.float32)
    return z + saturated_rint((a + sign * b) / s[2])


def separate_sum(given: Operands, sign: int) -> Int:
    """z + M(s_x / s, x - z_x) +- M(s_y / s, y - z_y), M with two roundings"""
    (sx, sy, s), (zx, zy, z) = given.scales, given.zeros
    return z + multiply(given.x - zx, sx / s) + sign * multiply(given.y - zy, sy / s)


def half_away_sum(given: Operands, sign: int) -> Int:
    """z + round((s_x (x - z_x) +- s_y (y - z_y)) / s), exactly, ties away from 0"""
    (sx, sy, s), (zx, zy, z) = map(Fraction, given.scales), given.zeros
    terms = [(given.x - zx, sx / s), (given.y - zy, sign * sy / s)]
    away = np.sign(sum(n * float(r) for n, r in terms)).astype(np.int64)
    return z + round_rational([*terms, (away, LEAST)])


def float_product(given: Operands, form: str) -> Int:
    """z + round(r (x - z_x) (y - z_y)) for a ratio r of float32, or operation by it"""
    s, (zx, zy, z) = np.array(given.scales, np.float32), given.zeros
    x, y = ((v - w).astype(np.float32) for v, w in ((given.x, zx), (given.y, zy)))
    if form == "dequantized":
        return z + saturated_rint((s[0] * x) * (s[1] * y) / s[2])
    ratio = s[0] * s[1] * (ONE / s[2]) if form == "reciprocal" else s[0] * s[1] / s[2]
    t = x * y * ratio
    return z + saturated_rint(round_half_away(t) if form == "half_away" else t)


#: answers that refqnn does not offer
SUMS: dict[str, Callable[[Operands, int], Int]] = {
    "dequantized": partial(dequantized_sum, torch=False),
    "torch": partial(dequantized_sum, torch=True),
    "xnnpack": xnnpack_sum,
    "separate": separate_sum,
    "half_away": half_away_sum,
}


def evaluate(
    kind: str,
    choices: Choices,
    x: Int,
    y: Int,
    x_scale: float,
    x_zero_point: int,
    y_scale: float,
    y_zero_point: int,
    scale: float,
    zero_point: int,
    q_min: int,
    q_max: int,
) -> Outputs:
    """Equation (1) or (2), and what becomes of a code that does not fit."""
    # not ``as_operands``: a wrong zero-point outside its type is computed, not refused
    given = Operands(
        np.asarray(x, np.int64),
        np.asarray(y, np.int64),
        (float(x_scale), float(y_scale), float(scale)),
        (int(x_zero_point), int(y_zero_point), int(zero_point)),
        8 * np.asarray(x).dtype.itemsize,
    )
    sign = -1 if kind == "sub" else 1
    form: Any = choices["product_rescaling" if kind == "mul" else "sum_rescaling"]
    form = "tflite-micro" if form == "tflite_float64" else form
    of_refqnn = form in {*SEMANTICS, "tflite-micro"}
    if kind == "mul":
        q = product_codes(given, form) if of_refqnn else float_product(given, form)
    else:
        q = sum_codes(given, sign, form) if of_refqnn else SUMS[form](given, sign)
    return {"y": fit(q, choices["overflow"], q_min, q_max)}


def exact(kind: str, x: Int, y: Int, *grids: Any, **named: Any) -> Float:
    """Return the real number of the result in steps of its grid, float64."""
    sx, zx, sy, zy, s, *_ = map(float, (*grids, *named.values()))
    a, b = np.asarray(x) - zx, np.asarray(y) - zy
    if kind == "mul":
        return np.asarray(sx * sy / s * a * b)
    return np.asarray((sx * a + (-sy if kind == "sub" else sy) * b) / s)


def inputs(kind: str, x: int, y: int, *grids: Any) -> Inputs:
    """Return the arguments of one scalar question, int8 in and out."""
    codes = np.array(x, np.int8), np.array(y, np.int8)
    return draws.call(partial(evaluate, kind), *codes, *grids, -128, 127)


@cache
def candidates(kind: str) -> list[Inputs]:
    """List ties and their neighbours, what overflows, and what divides the answers."""
    rng = np.random.default_rng(20_261_130)
    steps = [(1.0, 1.0, 2.0), (0.5, 1.0, 1.0), (0.25, 0.5, 0.5), (0.1, 0.3, 0.2)]
    small = [(1, 0), (0, 1), (1, 1), (3, 1), (-1, 0), (-3, 0), (5, 2), (-7, 4)]
    asked = [
        inputs(kind, a, b, sx, zx, sy, zy, s, z)
        for sx, sy, s in steps
        for zx, zy, z in ((0, 0, 0), (1, 0, 0), (0, 2, 1), (-3, 5, -2))
        for a, b in (*small, (127, 127), (-128, -128), (100, -90))
    ]
    ratios = [inputs("mul", v, -v, 0.3, 0, 1.0, 0, 0.2, 0) for v in (1, -3)]
    return [*asked, *beside_ties(kind, rng), *(ratios if kind == "mul" else [])]


def beside_ties(kind: str, rng: np.random.Generator) -> list[Inputs]:
    """List calls beside a tie: two of each way in which they divide the answers.

    The scale of the result brings a drawn pair of codes to a half; float forms differ
    there in the last bit of a scale.
    """
    axis = "product_rescaling" if kind == "mul" else "sum_rescaling"
    ways: dict[tuple[int, ...], list[Inputs]] = {}
    for _ in range(400):
        call = draw(kind, rng, 1)
        call |= {name: call[name].reshape(()) for name in "xy"}
        half = int(rng.integers(0, 60)) + 0.5
        moved = np.abs(exact(kind, **call)) / half
        if 0.5 < moved < 2:
            call["scale"] = float(np.float32(call["scale"] * moved))
            answers = [
                int(evaluate(kind, {axis: form, "overflow": "saturate"}, **call)["y"])
                for form in axes.of(axis)[axis]
            ]
            ways.setdefault(tuple(answers.index(q) for q in answers), []).append(call)
    return [call for calls in ways.values() for call in calls[:2]]


def draw(kind: str, rng: np.random.Generator, n: int) -> Inputs:
    """Draw int8 codes of two grids, and a grid that most results fit."""
    x, y = (rng.integers(-128, 128, n).astype(np.int8) for _ in "xy")
    zeros = [int(z) for z in rng.integers(-20, 21, 3)]
    return on_grids(kind, rng, x, y, zeros, (-128, 127))


def on_grids(
    kind: str,
    rng: np.random.Generator,
    x: Int,
    y: Int,
    zeros: list[int],
    ends: tuple[int, int],
) -> Inputs:
    """Give codes three scales: that of the result is near those of the operands."""
    sx, sy = (np.float32(np.exp2(rng.uniform(-7, 0))) for _ in "xy")
    if rng.random() < 0.3:
        sx, sy = (np.float32(np.exp2(rng.integers(-6, 1))) for _ in "xy")
    widest = sx * sy if kind == "mul" else max(sx, sy)
    wide = 8 * x.dtype.itemsize > 8
    step = rng.integers(-1, 4) if rng.random() < 0.4 else rng.uniform(-1, 3)
    grow = (14 if wide else 5) if kind == "mul" else 0
    s = np.float32(widest * np.exp2(step + grow))
    steps = [float(v) for v in (sx, sy, s)]
    grids = [v for pair in zip(steps, zeros, strict=True) for v in pair]
    return draws.call(partial(evaluate, kind), x, y, *grids, *ends)


def wide(kind: str, rng: np.random.Generator, n: int) -> Inputs:
    """Draw codes of every type with their ends, one operand for all or for each."""
    dtype, shape = draws.pick(rng, "int8", "uint8", "int16"), draws.dims(rng, n)
    x = draws.laid_out(rng, draws.codes(rng, shape, dtype))
    one = draws.several(rng, shape, lambda: int(draws.codes(rng, (), dtype)))
    y_shape = draws.pick(rng, shape, np.shape(one))
    y = draws.laid_out(rng, draws.codes(rng, y_shape, dtype))
    info = np.iinfo(dtype)
    if dtype == "int16":  # without zero-points, as in the runtimes
        return on_grids(kind, rng, x, y, [0, 0, 0], (info.min, info.max))
    ends = draws.code_range(rng, 8)
    zeros = [draws.offset(rng, dtype), draws.offset(rng, dtype)]
    return on_grids(kind, rng, x, y, [*zeros, draws.zero_point(rng, *ends)], ends)


def family(kind: str, axis: str) -> Family:
    """Make the family of one operation; ``axis`` asks how it is rescaled."""
    sign = {"add": "+", "sub": "-", "mul": "*"}[kind]
    return Family(
        kind,
        (f"x {sign} y: {{{axis}}}", "{overflow}"),
        axes.of(axis) | {"overflow": ("saturate", "wrap")},
        partial(evaluate, kind),
        partial(candidates, kind),
        partial(draw, kind),
        elementwise="x",
        exact=partial(exact, kind),
        call=f"refqnn.integer.{kind}(np.array([{{x}}]), np.array([{{y}}]), "
        "x_scale={x_scale}, x_zero_point={x_zero_point}, y_scale={y_scale}, "
        "y_zero_point={y_zero_point}, scale={scale}, zero_point={zero_point}, "
        "q_min={q_min}, q_max={q_max})",
        wide=partial(wide, kind),
        scaled=("x_scale", "y_scale", "scale"),
        regions=kinds.regions(
            "x y: integers, ends, shape",
            "x: dtypes int8 uint8 int16",
            "y: along x",
            "x_scale y_scale scale: power_of_two, magnitudes",
            "x_zero_point y_zero_point zero_point: integers",
            "zero_point: ends_of_range",
            "range: code_range 8",
        ),
    )


FAMILIES = (
    family("add", "sum_rescaling"),
    family("sub", "sum_rescaling"),
    family("mul", "product_rescaling"),
)
