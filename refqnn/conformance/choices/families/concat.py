"""concat: codes of two grids side by side on a third.

    q = z + round(s_i / s (x_i - z_i)) of each input i     (1)     concat_rescaling

along the last axis. Forms of refqnn are those of ``integer.concat``.
"""

from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np

from refqnn._types import Array, Float, Int
from refqnn.conformance.choices import axes, draws, kinds
from refqnn.conformance.choices.families.affine import fit
from refqnn.conformance.choices.families.roundings import fused_multiply_add
from refqnn.conformance.choices.family import Choices, Family, Inputs, Outputs
from refqnn.integer.arithmetic import multiply, round_rational
from refqnn.integer.rounding import round_half_away


def evaluate(
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
    """Equation (1), and what becomes of a code that does not fit."""
    form, s = choices["concat_rescaling"], float(scale)
    parts = (x, x_scale, x_zero_point), (y, y_scale, y_zero_point)
    grid = s, int(zero_point)
    codes = [rescale_input(form, v, (float(r), int(z)), grid) for v, r, z in parts]
    q = np.concatenate(codes, -1)
    return {"y": fit(q, choices["overflow"], q_min, q_max)}


def rescale_input(
    form: str, x: Int, own: tuple[float, int], grid: tuple[float, int]
) -> Int:
    """z + round(s_i / s (x_i - z_i)) of one input"""
    (real_scale, x_zero_point), (scale, z) = own, grid
    d = x.astype(np.int64) - x_zero_point
    if form == "exact":
        return z + round_rational([(d, Fraction(real_scale) / Fraction(scale))])
    sx, s = np.float32(real_scale), np.float32(scale)
    if form == "multiplier":
        return z + multiply(d, float(sx / s))
    v, inverse = sx * d.astype(np.float32), np.float32(1) / s
    if form == "torch":
        t = np.rint(fused_multiply_add(v, np.asarray(inverse), np.asarray(z)))
        return t.astype(np.int64)
    if form == "tflite":
        r = sx * inverse
        t = round_half_away(x.astype(np.float32) * r - np.float32(x_zero_point) * r)
    else:
        t = np.rint(v / s if form == "onnxruntime" else v * inverse)
    return z + t.astype(np.int64)


def exact(x: Int, y: Int, *grids: Any, **named: Any) -> Float:
    """Return the real numbers of the result in steps of its grid, float64."""
    sx, zx, sy, zy, s, *_ = map(float, (*grids, *named.values()))
    parts = sx * (np.asarray(x) - zx), sy * (np.asarray(y) - zy)
    return np.asarray(np.concatenate(parts, -1) / s)


def inputs(x: Any, y: Any, *grids: Any) -> Inputs:
    """Return the arguments of one question, int8 in and out."""
    codes = np.array(x, np.int8), np.array(y, np.int8)
    return draws.call(evaluate, *codes, *grids, -128, 127)


@cache
def candidates() -> list[Inputs]:
    """List ties of both signs and what overflows, then few of many beside a tie.

    Each once more as uint8: some kernels rescale codes of that type only.
    """
    rng = np.random.default_rng(20_261_130)
    by_hand = [
        inputs([a], [b], sx, zx, sy, zy, s, z)
        for sx, sy, s in ((1.0, 1.0, 2.0), (0.5, 1.0, 1.0), (0.1, 0.3, 0.2))
        for zx, zy, z in ((0, 0, 0), (1, 0, 0), (-3, 5, -2))
        for a, b in ((1, 0), (3, -5), (-1, 4), (127, -128))
    ]
    aimed = [beside_tie(rng) for _ in range(300)]
    signed = [*by_hand, *FAMILIES[0].few_of(aimed, "concat_rescaling")]
    return [*signed, *map(as_uint8, signed)]


def beside_tie(rng: np.random.Generator) -> Inputs:
    """Draw a code beside a tie, and another one."""
    call = draw(rng, 2)
    d = int(call["x"][0]) - call["x_zero_point"]
    near = np.float32(abs(call["x_scale"] * d) / (int(rng.integers(0, 60)) + 0.5))
    s = np.nextafter(near, near * draws.pick(rng, 0, 1, 2))
    return call | ({"scale": float(s)} if s > 0 else {})


def as_uint8(call: Inputs) -> Inputs:
    """Add 128 to all codes."""
    moved: dict[str, Array] = {k: call[k].astype(np.int64) + 128 for k in "xy"}
    raised = {k: v.astype(np.uint8) for k, v in moved.items()}
    zeros = {k: v + 128 for k, v in call.items() if k.endswith("zero_point")}
    return call | raised | zeros | {"q_min": 0, "q_max": 255}


def draw(rng: np.random.Generator, n: int) -> Inputs:
    """Draw n codes, of int8 or uint8, in two parts; a grid that most results fit."""
    cut = max(n // 3, 1)
    x, y = (rng.integers(-128, 128, k).astype(np.int8) for k in (cut, max(n - cut, 1)))
    zeros = [int(z) for z in rng.integers(-100, 100, 3)]
    call = on_grids(rng, x, y, zeros, (-128, 127))
    return as_uint8(call) if rng.random() < 0.5 else call


def on_grids(
    rng: np.random.Generator, x: Int, y: Int, zeros: list[int], ends: tuple[int, int]
) -> Inputs:
    """Give codes three scales: that of the result is near those of the inputs, or one.

    An input on the grid of the result is copied.
    """
    steps = [np.exp2(draws.pick(rng, -4, rng.uniform(-7, 0))) for _ in "xy"]
    factor = np.exp2(draws.pick(rng, 0, 1, rng.uniform(-1, 1)))
    sx, sy, s = (float(np.float32(v)) for v in (*steps, steps[0] * factor))
    if rng.random() < 0.2 and ends[0] <= zeros[0] <= ends[1]:
        s, zeros = sx, [*zeros[:2], zeros[0]]
    grids = sx, zeros[0], sy, zeros[1], s, zeros[2]
    return draws.call(evaluate, x, y, *grids, *ends)


def wide(rng: np.random.Generator, n: int) -> Inputs:
    """Draw codes of both types, parts of unlike lengths."""
    dtype, ends = draws.pick(rng, "int8", "uint8"), draws.code_range(rng, 8)
    shape = draws.dims(rng, n)
    other = (*shape[:-1], draws.pick(rng, 1, shape[-1], 9))
    x, y = (draws.laid_out(rng, draws.codes(rng, of, dtype)) for of in (shape, other))
    zeros = [draws.offset(rng, dtype), draws.offset(rng, dtype)]
    return on_grids(rng, x, y, [*zeros, draws.zero_point(rng, *ends)], ends)


FAMILIES = (
    Family(
        "concat",
        ("{concat_rescaling}; {overflow}",),
        axes.of("concat_rescaling") | {"overflow": ("saturate", "wrap")},
        evaluate,
        candidates,
        draw,
        exact=exact,
        wide=wide,
        regions=kinds.regions(
            "x y: integers, ends",
            "x: shape, dtypes int8 uint8",
            "x_scale y_scale scale: power_of_two",
            "x_zero_point y_zero_point zero_point: integers",
            "zero_point: ends_of_range",
            "range: code_range 8",
        ),
    ),
)
