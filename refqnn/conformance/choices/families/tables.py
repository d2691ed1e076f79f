"""sigmoid, tanh, hard_swish and leaky_relu of codes: functions that tables hold.

    v = s_x (x - z_x)                        (1)
    y = f(v)                                 (2)     activation
    q = z + round(y / s)                     (3)     scaling, rounding, zero_point_when

The default is a table of refqnn, ``integer.activation_table``. Kernels that compute
products of integers instead of a table have no equation (3) of their own.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from refqnn._types import Array, Float, Int
from refqnn.conformance.choices import axes, draws, kinds
from refqnn.conformance.choices.coverage import separating_twice
from refqnn.conformance.choices.families.affine import fit, quantize
from refqnn.conformance.choices.families.roundings import fused_multiply_add
from refqnn.conformance.choices.family import Choices, Family, Inputs, Outputs
from refqnn.integer.arithmetic import multiply
from refqnn.integer.tables import ACTIVATIONS, fixed_hard_swish, float32_sigmoid

ONE = np.float32(1)
#: coefficients of odd powers 9 to 1 and of even powers 10 to 0 (Eigen, plogistic)
ODD = (
    4.37031012579801e-11,
    1.15627324459942e-07,
    6.08574864600143e-05,
    8.51377133304701e-03,
    2.48287947061529e-01,
)
EVEN = (
    6.10247389755681e-13,
    5.76102136993427e-09,
    6.29106785017040e-06,
    1.70198817374094e-03,
    1.16817656904453e-01,
    9.93151921023180e-01,
)


def rational_sigmoid(v: Float) -> Float:
    """p(v) / q(v) + 1/2, v within +-18, every product fused: float32 -> float32"""
    v = np.clip(v, np.float32(-18), np.float32(18))
    p, q = (horner(v * v, terms) for terms in (ODD, EVEN))
    return np.maximum(v * p / q + np.float32(0.5), np.float32(0))


def horner(x: Float, terms: tuple[float, ...]) -> Float:
    """((t_0 x + t_1) x + ...) + t_n in float32, every product fused"""
    total: Float = np.zeros_like(x)
    for term in np.array(terms, np.float32):
        total = fused_multiply_add(total, x, term)
    return total


def exponential(v: Float) -> Float:
    """exp(v) rounded to float32"""
    return np.exp(v.astype(np.float64)).astype(np.float32)


#: y of float32 numbers, operation by operation: family -> answer -> function
COMPUTED: dict[str, dict[str, Callable[[Float], Float]]] = {
    "sigmoid": {"float32": float32_sigmoid, "rational": rational_sigmoid},
    "tanh": {"float32": lambda v: ONE - 2 / (ONE + exponential(2 * v))},
    "hard_swish": {"float32": lambda v: v * np.clip(v + 3, 0, 6) / 6},
    "leaky_relu": {},
}


class Grids:
    """Codes in int64, the scales of input and result in float32, their zero-points."""

    def __init__(self, x: Int, *grids: npt.ArrayLike) -> None:
        sx, zx, s, z = map(np.asarray, grids)
        self.difference = np.asarray(x, np.int64) - zx
        self.sx, self.s = sx.astype(np.float32), s.astype(np.float32)
        self.z = z.astype(np.int64)


def rescaled_leaky_relu(
    given: Grids, alpha: Float, *, bits: int, real: type[Any] = np.float32
) -> Int:
    """z + M(s_x / s, x - z_x), M(alpha s_x / s, x - z_x) below 0, ratios of ``real``

    M has two roundings, or with ``bits`` 8 is floor((m (x - z_x) + 2^7) / 2^8).
    """
    sx, s, d = real(given.sx), real(given.s), given.difference
    r, alpha = sx / s, real(alpha)
    if bits == 8:
        m = [np.rint(256 * v).astype(np.int64) for v in (r, r * alpha)]
        return given.z + (d * np.where(d < 0, m[1], m[0]) + 128 >> 8)
    below = sx * alpha / s
    q = [multiply(d, v.astype(np.float64)) for v in (r, below)]
    return given.z + np.where(d < 0, q[1], q[0])


#: answers that equation (3) does not follow
WHOLE: dict[str, Callable[[Grids, Float], Int]] = {
    "fixed_point": lambda g, _: g.z + fixed_hard_swish(g.difference, g.sx, g.s),
    "multipliers": partial(rescaled_leaky_relu, bits=31),
    "multipliers_float64": partial(rescaled_leaky_relu, bits=31, real=np.float64),
    "multipliers_8_bits": partial(rescaled_leaky_relu, bits=8),
}
ANSWERS = {
    "sigmoid": ("rounded", "float32", "rational"),
    "tanh": ("rounded", "float32"),
    "hard_swish": ("rounded", "float32", "fixed_point"),
    "leaky_relu": ("rounded", *(form for form in WHOLE if form != "fixed_point")),
}
#: answers of quantize to what is no question here
AS_QUANTIZE = {"half": "exact", "precision": "input", "code_range": "as_given"}
AS_QUANTIZE |= {"zero_point_use": "added", "nan": "zero"}


def evaluate(
    function: str,
    choices: Choices,
    x: Int,
    x_scale: npt.ArrayLike,
    x_zero_point: npt.ArrayLike,
    scale: npt.ArrayLike,
    zero_point: npt.ArrayLike,
    q_min: int,
    q_max: int,
    alpha: npt.ArrayLike = 0,
) -> Outputs:
    """Equations (1) to (3), and what becomes of a code that does not fit."""
    given = Grids(x, x_scale, x_zero_point, scale, zero_point)
    slope, how = np.asarray(alpha, np.float32), choices["activation"]
    with np.errstate(over="ignore"):
        if how in WHOLE:
            q = WHOLE[how](given, slope)
        else:
            y = real(function, how, given, slope)
            answers = {**choices, **AS_QUANTIZE}
            return quantize(answers, y, given.s, given.z, q_min, q_max)
    return {"y": fit(q, choices["overflow"], q_min, q_max)}


def real(function: str, how: str, given: Grids, alpha: Float) -> Float:
    """y = f(s_x (x - z_x)) in float32, (1) and (2)"""
    v = given.sx * given.difference.astype(np.float32)
    if how != "rounded":
        return COMPUTED[function][how](v)
    options = {"alpha": alpha} if function == "leaky_relu" else {}
    y = ACTIVATIONS[function](v.astype(np.float64), **options)
    return y.astype(np.float32)


def canonical(function: str, choices: Choices) -> dict[str, str]:
    """Products of integers have no equation (3); a sigmoid is never negative."""
    if choices["activation"] in WHOLE:
        plain = {"rounding": "half_even", "scaling": "divide"}
        return {**choices, **plain, "zero_point_when": "after_rounding"}
    above = {"half_away": "half_up", "trunc": "floor"}
    when = choices["zero_point_when"]
    if function == "sigmoid" and when == "after_rounding":
        rounding = choices["rounding"]
        return {**choices, "rounding": above.get(rounding, rounding)}
    return dict(choices)


def exact(function: str, **call: Any) -> Float:
    """Return f(v) / s in float64, what is rounded."""
    wide = {k: np.asarray(v, np.float64) for k, v in call.items()}
    v = wide["x_scale"] * (wide["x"] - wide["x_zero_point"])
    options = {"alpha": call["alpha"]} if "alpha" in call else {}
    return np.asarray(ACTIVATIONS[function](v, **options) / wide["scale"])


def arguments(function: str, x: Int, alpha: Any, *grids: Any) -> Inputs:
    """Return the arguments of a call by name."""
    names = ("x_scale", "x_zero_point", "scale", "zero_point", "q_min", "q_max")
    own = {"alpha": alpha} if function == "leaky_relu" else {}
    return {"x": x, **own, **dict(zip(names, grids, strict=True))}


def draw(function: str, rng: np.random.Generator, n: int) -> Inputs:
    """Draw at most 256 int8 codes: so many tell all of two grids."""
    x = rng.integers(-128, 128, min(n, 256)).astype(np.int8)
    zeros = [int(z) for z in rng.integers(-128, 128, 2)]
    return on_grids(function, rng, x, zeros, (-128, 127))


#: the grid that kernels demand, and that of which the zero-point is free
USUAL = {"sigmoid": (2.0**-8, -128), "tanh": (2.0**-7, 0)}


def on_grids(
    function: str,
    rng: np.random.Generator,
    x: Int,
    zeros: list[int],
    ends: tuple[int, int],
) -> Inputs:
    """Give codes two scales; that of a result in [-1, 1] is often the usual one."""
    sx = np.float32(np.exp2(rng.uniform(-7, 0)))
    if rng.random() < 0.3:
        sx = np.float32(np.exp2(rng.integers(-6, 1)))
    if function in USUAL:
        s, z = USUAL[function]
        if rng.random() < 0.5:
            s = float(np.float32(np.exp2(rng.uniform(-9, -4))))
        zeros[1] = z if ends == (-128, 127) and rng.random() < 0.5 else zeros[1]
    else:
        step = draws.pick(rng, rng.integers(-1, 2), rng.uniform(-1, 1))
        s = float(np.float32(sx * np.exp2(step)))
    slope = draws.pick(rng, 0.01, 0.1, 0.2, rng.uniform(0.01, 1))
    alpha = float(np.float32(slope))
    return arguments(function, x, alpha, float(sx), zeros[0], s, zeros[1], *ends)


def wide(function: str, rng: np.random.Generator, n: int) -> Inputs:
    """Draw codes of both types on any grids, slopes of 0 and above 1."""
    dtype, ends = draws.pick(rng, "int8", "uint8"), draws.code_range(rng, 8)
    x = draws.laid_out(rng, draws.codes(rng, draws.dims(rng, n), dtype))
    zeros = [draws.offset(rng, dtype), draws.zero_point(rng, *ends)]
    call = on_grids(function, rng, x, zeros, ends)
    if "alpha" in call and rng.random() < 0.5:
        call["alpha"] = draws.pick(rng, 0.0, 1.0, float(rng.integers(2, 5)))
    if rng.random() < 0.8:  # a scale that brings some code to a tie
        call["x_scale"] *= draws.pick(rng, 1.0, 0.125)
        y = abs(float(rng.choice(exact(function, **call | {"scale": 1.0}).ravel())))
        s = float(np.float32(y / (int(rng.integers(1, 100)) + 0.5)))
        call |= {"scale": s} if s > call["x_scale"] / 100 and s > 1e-4 else {}
    return call


@cache
def candidates(function: str) -> list[Inputs]:
    """List small codes and what overflows, then codes beside ties, few of many."""
    rng = np.random.default_rng(20_261_130)
    steps = [(1.0, 2.0), (0.5, 1.0), (2.0**-6, 2.0**-7), (0.1, 0.2)]
    by_hand = [
        arguments(function, np.array(x, np.int8), 0.25, sx, zx, s, z, -128, 127)
        for sx, s in steps
        for zx, z in ((0, 0), (1, 0), (-3, 5), (0, -128), (0, 127))
        for x in (0, 1, -1, 3, -5, 127, -128)
    ]
    aimed = [by_scale(function, rng)]
    aimed += [by_input_scale(rng)] if function == "sigmoid" else []
    return [*by_hand, *(call for calls in aimed for call in few(function, calls))]


def by_scale(function: str, rng: np.random.Generator, n: int = 6000) -> Inputs:
    """Draw codes whose result the scale brings to a half or a whole, or beside it.

    A third of the input's scales is tiny: there every function is almost linear.
    """
    exponents = rng.uniform(-7, 0, n) - 14 * (rng.random(n) < 0.3)
    x = rng.integers(-128, 128, n)
    zx, z = rng.integers(-128, 128, (2, n))
    alpha = rng.choice([0.01, 0.1, 0.2, 0.25], n).astype(np.float32)
    sx = np.exp2(exponents).astype(np.float32)
    y = real(function, "rounded", Grids(x, sx, zx, sx, z), alpha)
    k = rng.integers(1, 100, n) - 0.5 * (rng.random(n) < 0.75)
    s = beside(rng, np.abs(y) / k)
    fit = (s > sx / 100) & (s > np.finfo(np.float32).tiny) & (s < 1e3)
    call = arguments(function, x, alpha, sx, zx, s, z, -128, 127)
    return {k: v[fit] if np.ndim(v) else v for k, v in call.items()}


def by_input_scale(rng: np.random.Generator, n: int = 6000) -> Inputs:
    """Draw codes whose sigmoid is beside a tie of the usual grid."""
    x, zx = rng.integers(-128, 128, (2, n))
    p = (rng.integers(1, 255, n) + 0.5) / 256
    logit = np.log(p / (1 - p))
    x, zx, logit = (v[(x - zx) * logit > 0] for v in (x, zx, logit))
    sx = beside(rng, logit / (x - zx))
    s, z = USUAL["sigmoid"]
    return arguments("sigmoid", x, 0, sx, zx, s + 0 * sx, z + 0 * x, -128, 127)


def beside(rng: np.random.Generator, s: Array) -> Float:
    """Round to float32, or to a neighbour of the nearest."""
    near = s.astype(np.float32)
    ends = np.choose(rng.integers(0, 3, s.size), [near, 0 * near, 2 * near])
    return np.nextafter(near, ends)


def few(function: str, calls: Inputs) -> list[Inputs]:
    """List scalar calls that tell variants apart, then others that do it again."""
    family = FAMILY[function]
    variants = family.functions(family.variants())
    axes_of = list(family.axes)
    rows = [
        family.evaluate(dict(zip(axes_of, key, strict=True)), **calls)["y"]
        for key in variants
    ]
    labels = np.stack(rows).astype(np.int64)
    return [scalar_call(calls, at) for at in separating_twice(labels - labels.min())]


def scalar_call(calls: Inputs, at: int) -> Inputs:
    """Return one of many calls."""
    one = {k: v[at].item() if np.ndim(v) else v for k, v in calls.items()}
    return one | {"x": np.array(one["x"], np.int8)}


def family(function: str) -> Family:
    """Make the family of one function."""
    names = arguments(function, np.zeros(1, np.int8), *range(7))
    given = ", ".join(f"{k}={{{k}}}" for k in list(names)[1:])
    return Family(
        function,
        ("y = {activation}", "{scaling}", "{rounding}; {zero_point_when}; {overflow}"),
        {"activation": ANSWERS[function]}
        | {"rounding": ("half_even", "half_away", "half_up", "floor", "trunc")}
        | {"scaling": ("divide", "reciprocal")}
        | axes.of("zero_point_when")
        | {"overflow": ("saturate", "wrap")},
        partial(evaluate, function),
        partial(candidates, function),
        partial(draw, function),
        elementwise="x",
        stacks=True,
        canonical=partial(canonical, function),
        exact=partial(exact, function),
        call=f'refqnn.conformance.want("{function}", '
        f"dict(x=np.array([{{x}}]), {given}))",
        wide=partial(wide, function),
        regions=kinds.regions(
            "x: integers, ends, shape",
            "x: dtypes int8 uint8",
            "x_scale scale: power_of_two",
            "x_zero_point zero_point: integers",
            "zero_point: ends_of_range",
            "range: code_range 8",
        ),
    )


FAMILY = {function: family(function) for function in ANSWERS}
FAMILIES = tuple(FAMILY.values())
