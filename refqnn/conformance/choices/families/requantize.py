"""requantize: an int32 accumulator becomes a code.

real = multiplier 2^(shift - 31)                 (1)     multiplier_bits
t = round(acc real)                              (2)     requantize
q = clip(zero_point + t, q_min, q_max)           (3)     zero_point_when, _use,
                                                         float_sum, overflow,
                                                         code_range

int64 accumulators that int32 does not hold are drawn such that |acc multiplier| is at
most 2^62; forms of two roundings are not defined for them, so any answer is right.
"""

from functools import partial

import numpy as np
import numpy.typing as npt

from refqnn import integer
from refqnn._types import Bool, Float, Int
from refqnn.conformance.choices import axes, draws, kinds
from refqnn.conformance.choices.families.affine import enclosing, in_type
from refqnn.conformance.choices.families.roundings import fused_multiply_add
from refqnn.conformance.choices.family import (
    REFUSED,
    Choices,
    Family,
    Inputs,
    Outputs,
)
from refqnn.integer.rescale import (
    BEYOND_FLOAT64,
    FLOATING,
    REQUANTIZATIONS,
    TWO_STAGE,
    nearest_int,
)
from refqnn.integer.rounding import CARRY, divide, round_half_away, shift_right

#: a range that no result of a 32-bit accumulator leaves
WIDE = {"q_min": -(2**31), "q_max": 2**31 - 1}
#: (acc, multiplier, shift) whose product lies one or two beside a tie, found by search:
#: more bits than float64 holds, the same with a multiplier of 24 bits, then more than
#: float32 holds with one of 15 bits
BESIDE_TIES = (
    (14_682_354, 1_562_434_103, -17),
    (13_253_109, 1_709_692_090, -17),
    (1_501_933_569, 1_121_451_904, -23),
    (1_673_679_843, 1_329_273_472, -23),
    (9_863, 1_086_914_560, -8),
    (7_567, 1_634_664_448, -8),
)
#: products whose low bits of the multiplier decide, or whose sum with a zero-point does
KEPT_BITS = (
    (3, 1_431_655_766, -1),
    (2, (3 << 29) - (1 << 14), 0),
    (5, 1_073_741_953, 0),
    (9, 1_431_655_766, -2),
)
#: in which dtype the product is, and to which the real number is rounded before
FLOATS: dict[str, tuple[type, type]] = {
    **{form: (dtype, dtype) for form, dtype in FLOATING.items()},
    "mixed_half_even": (np.float64, np.float32),
    "float32_half_away": (np.float32, np.float32),
    "float64_half_away": (np.float64, np.float64),
}
#: float forms that refqnn does not offer
OWN_FORMS = ("mixed_half_even", "float32_half_away", "float64_half_away")
#: roundings that commute with adding an integer
SHIFTS_WITH_INTEGERS = ("half_up", "half_down", "floor", "ceil")


def requantize(
    choices: Choices,
    acc: Int,
    multiplier: npt.ArrayLike,
    shift: npt.ArrayLike,
    zero_point: npt.ArrayLike,
    q_min: int,
    q_max: int,
) -> Outputs:
    """Equations (1) to (3)."""
    acc = np.asarray(acc, np.int64)
    m, e, z = (np.asarray(a, np.int64) for a in (multiplier, shift, zero_point))
    z = {"added": z, "ignored": np.zeros_like(z), "subtracted": -z}[
        choices["zero_point_use"]
    ]
    if choices["multiplier_bits"] == "24":
        m = m.astype(np.float32).astype(np.int64)
        up = m >> 31  # 1 where it was rounded to 2^31
        m, e = m >> up, e + up
    elif choices["multiplier_bits"] != "31":
        m = of_15_bits(m, rounds=choices["multiplier_bits"] == "15")
    if choices["code_range"] == "symmetric":
        q_min = max(q_min, -q_max)
    form, fuses = choices["requantize"], choices["float_sum"] == "fused"
    zero, undefined = np.zeros_like(z), np.zeros_like(acc, bool)
    if form in TWO_STAGE:
        undefined = beyond_int32(np.ldexp(acc.astype(np.float64), np.maximum(e, 0)))
        acc = np.where(undefined, 0, acc)
    if choices["zero_point_when"] == "before_rounding" and np.any(z):
        q = zero_point_inside(form, acc, m, e, z, fuses=fuses)
    elif form in OWN_FORMS:
        q = z + zero_point_inside(form, acc, m, e, zero, fuses=False)
    else:
        q = z + integer.requantize(acc, m, e, zero, rounding=form, **WIDE)
    if choices["overflow"] == "cast16_then_clip":
        q = in_type(q, np.dtype(np.int16))
    if choices["overflow"] == "wrap":
        low, high = enclosing(q_min, q_max)
        q = (q - low) % (high - low + 1) + low
    else:
        q = np.clip(q, q_min, q_max)
    return {"y": np.where(undefined, REFUSED, q)}


def of_15_bits(
    m: npt.NDArray[np.int64], *, rounds: bool = True
) -> npt.NDArray[np.int64]:
    """Return a multiplier of 31 bits with its upper 15 bits only, rounded or cut.

    >>> of_15_bits(np.array([3 << 15, 2**31 - 1])) >> 16
    array([    2, 32767])
    """
    return np.minimum((m + (rounds << 15)) >> 16, 2**15 - 1) << 16


def beyond_int32(acc: Float) -> Bool:
    """Return where a whole number is no int32 value."""
    return np.asarray((acc < -(2.0**31)) | (acc >= 2.0**31))


def zero_point_inside(
    form: str, acc: Int, m: Int, e: Int, z: Int, *, fuses: bool
) -> Int:
    """Add the zero-point to what is rounded (last): round(t + z) for the product t."""
    if form in FLOATS:
        dtype, real_dtype = FLOATS[form]
        real: Float = np.ldexp(m.astype(np.float64), e - 31).astype(real_dtype)
        a: Float = acc.astype(dtype)
        r: Float = real.astype(dtype)
        t = fused_multiply_add(a, r, z) if fuses else a * r + z.astype(dtype)
        return nearest_int(round_half_away(t) if form.endswith("away") else t)
    if form in TWO_STAGE:
        left, right = np.maximum(e, 0), np.maximum(-e, 0)
        high = shift_right((acc << left) * m, 31, rounding="half_up")
        return shifted_beside(high, right, z, TWO_STAGE[form])
    if np.any(np.abs(acc.astype(np.float64) * m) >= 2.0**63):
        raise ValueError("acc * multiplier must be an int64 value")
    return shifted_beside(acc * m, 31 - e, z, form)


def shifted_beside(n: Int, shift: Int, z: Int, rounding: str) -> Int:
    """round(n / 2^shift + z), exactly: z moves the quotient, not the remainder.

    >>> shifted_beside(np.array([1, 3]), np.array(1), np.array(1), "half_even")
    array([2, 2])
    """
    d = np.int64(1) << shift
    q, r = (n >> shift) + z, n & (d - 1)
    return np.asarray(q + CARRY[rounding](q, 2 * r, d))


def canonical(choices: Choices) -> dict[str, str]:
    """round(t + z) = round(t) + z for integers z, unless parity or sign matters.

    The last rounding of two stages is the one that counts. A product of 31 and 15 bits
    is exact in float64, and so is its sum with a zero-point of 8 bits. Only float32
    rounds such a product before a sum. A range of codes that wrap is that of a type.
    """
    changed = dict(choices)
    if choices["zero_point_use"] == "ignored":
        changed |= {"zero_point_when": "after_rounding"}
    if choices["overflow"] == "wrap":
        changed |= {"code_range": "as_given"}
    form = choices["requantize"]
    if choices["multiplier_bits"] == "24":
        form = "mixed_half_even" if form == "float64_half_even" else form
        rounds = {"requantize": form, "multiplier_bits": "31"}
        changed |= rounds if form in OF_FLOAT32 else {}
    if form in IN_FLOAT64 and choices["multiplier_bits"].startswith("15"):
        form = IN_FLOAT64[form]
        changed |= {"requantize": form}
    if TWO_STAGE.get(form, form) in SHIFTS_WITH_INTEGERS:
        changed |= {"zero_point_when": "after_rounding"}
    inside = changed["zero_point_when"] == "before_rounding"
    if not (inside and form.startswith("float32")):
        changed |= {"float_sum": "rounded"}
    return changed


#: forms that round the real multiplier to float32 themselves
OF_FLOAT32 = ("float32_half_even", "float32_half_away", "mixed_half_even")
#: what a form in float64 is where its products are exact
IN_FLOAT64 = {
    "float64_half_even": "half_even",
    "mixed_half_even": "half_even",
    "float64_half_away": "half_away",
}


def exact(
    acc: Int, multiplier: npt.ArrayLike, shift: npt.ArrayLike, **_: object
) -> Float:
    """Return acc * real in float64: what is rounded."""
    real = np.ldexp(np.asarray(multiplier, np.float64), np.asarray(shift) - 31)
    return np.asarray(acc, np.float64) * real


def inputs(acc: int, multiplier: int, shift: int, zero_point: int = 0) -> Inputs:
    """Return the arguments of one scalar question, for int8."""
    return draws.call(
        requantize, np.int32(acc), multiplier, shift, zero_point, -128, 127
    )


def candidates() -> list[Inputs]:
    """List sums that reveal each form, ties at several shifts, sums that saturate."""
    reveals = {r for row in REQUANTIZATIONS.values() for r in row.reveals}
    near = sorted(reveals - {BEYOND_FLOAT64}, key=lambda r: (abs(r[0]), r))
    half = 1 << 30
    multipliers = (half, half + 1, 3 << 29, (3 << 29) - 1, half + 2**15 + 1)
    grid = [
        (a, m, e)
        for e in (0, -1, -2, -3)
        for a in (1, -1, 2, -2, 3, -3, 4, -4, 5, -5, 6, -6, 8, -8, 10, -10)
        for m in multipliers
    ]
    wide = [(300, half, 0), (-300, half, 0), (1000, half, 1), (255, half, 0)]
    wide += [(sign * 80_000, half, 0) for sign in (1, -1)]
    kept = [(sign * a, m, e) for a, m, e in KEPT_BITS for sign in (1, -1)]
    far = [(sign * a, m, e) for a, m, e in BESIDE_TIES for sign in (1, -1)]
    every = [*near, *grid, *wide, *kept, *far]
    return [inputs(*each, z) for z in (0, 1, -2) for each in every]


def draw(rng: np.random.Generator, n: int) -> Inputs:
    """Draw accumulators for one multiplier and shift, ties among them."""
    half = 1 << 30
    real = int(rng.integers(half, 2 * half))
    multiplier = (half, 3 << 29, real)[int(rng.integers(3))]
    shift = int(rng.integers(-8, 0))
    span = 200 << -shift
    ties = divide(np.full(n, 1 << (31 - shift)), 2 * multiplier, rounding="half_up")
    step = int(ties[0])
    free = rng.integers(-span, span, n)
    acc = np.where(rng.random(n) < 0.5, free // step * step, free).astype(np.int32)
    z = int(rng.integers(-20, 20))
    return draws.call(requantize, acc, multiplier, shift, z, -128, 127)


def wide(rng: np.random.Generator, n: int) -> Inputs:
    """Draw accumulators of every size, multipliers and shifts for all or along an axis.

    acc 2^shift stays an int32 value: two-stage forms refuse others.
    """
    shape, ends = draws.dims(rng, n), draws.code_range(rng)
    largest = int(rng.choice([0, -4, -8, -16, -25, 5, 2, 18]))

    def real() -> tuple[int, int]:
        m = MULTIPLIERS[int(rng.integers(len(MULTIPLIERS)))]
        m = int(rng.integers(1 << 30, 1 << 31)) if m < 0 else m
        return m, max(largest - int(rng.integers(0, 9)), -31)

    pairs = np.asarray(draws.several(rng, shape, real, values=2), np.int64)
    m, e = pairs[..., 0], pairs[..., 1]
    acc = draws.laid_out(rng, accumulators(rng, shape, m, e, ends[1] - ends[0]))
    one = int if m.size == 1 else partial(np.asarray, dtype=np.int32)
    z = draws.several(rng, shape, lambda: draws.zero_point(rng, *ends))
    return draws.call(requantize, acc, one(m), one(e), z, *ends)


def accumulators(
    rng: np.random.Generator, shape: tuple[int, ...], m: Int, e: Int, span: int
) -> Int:
    """Draw what becomes codes, ties and their neighbours, and what int32 just holds."""
    real = np.ldexp(np.where(m == 0, 1 << 30, m).astype(np.float64), e - 31)
    halves = rng.integers(-2 * span, 2 * span + 1, shape) / 2
    small = rng.integers(-9, 10, shape) / 2
    near = np.rint(np.where(rng.random(shape) < 0.5, halves, small) / real)
    free = rng.uniform(-span, span, shape) / real
    large = rng.choice([-1, 1], shape) * np.exp2(rng.uniform(20, 31, shape))
    acc = np.choose(rng.choice(3, shape, p=[0.6, 0.25, 0.15]), (near, free, large))
    acc = acc + rng.choice([0, 0, 1, -1], shape)
    if rng.random() < 0.15:
        acc = np.where(rng.random(shape) < 0.5, acc, np.copysign(2.0**31 - 1, acc))
    limit = (2**31 - 1) >> max(int(e.max()), 0)
    return np.asarray(np.clip(acc, -limit - 1, limit).astype(np.int32))


def beyond(rng: np.random.Generator, n: int) -> Inputs:
    """Draw int64 accumulators of 33 to 61 bits whose products become codes.

    |acc multiplier| <= 2^62: what is added to round keeps it within int64.
    """
    shape, ends = draws.dims(rng, n), draws.code_range(rng)
    width = int(rng.choice([32, 38, 46, 54, 60]))
    m = int(rng.integers(1 << (61 - width), 1 << (62 - width)))
    span = ends[1] - ends[0]
    free = rng.uniform(-1, 1, shape) * 2.0**width
    acc = np.where(rng.random(shape) < 0.3, np.copysign(2.0**31 + 5, free), free)
    acc.flat[-1] = np.copysign(2.0**width - 3, free.flat[-1])
    e = span.bit_length() - 31 - int(rng.integers(0, 2))
    z = draws.several(rng, shape, lambda: draws.zero_point(rng, *ends))
    laid_out = draws.laid_out(rng, acc.astype(np.int64))
    return draws.call(requantize, laid_out, m, e, z, *ends)


#: powers of two, one beside, the largest, -1 for any, and the 0 of a real of 0
MULTIPLIERS = (1 << 30, (1 << 30) + 1, 3 << 29, 2**31 - 1, -1, -1, -1, 0)

FAMILIES = (
    Family(
        "requantize",
        (
            "real = multiplier 2^(shift - 31); {multiplier_bits}",
            "{requantize}",
            "{zero_point_when}; {zero_point_use}; {float_sum}",
            "{code_range}; {overflow}",
        ),
        axes.of("requantize multiplier_bits zero_point_when zero_point_use")
        | {"overflow": ("saturate", "wrap", "cast16_then_clip")}
        | axes.of("float_sum code_range"),
        requantize,
        candidates,
        draw,
        elementwise="acc",
        stacks=True,
        canonical=canonical,
        exact=exact,
        call="refqnn.integer.requantize(np.array([{acc}]), {multiplier}, {shift}, "
        "{zero_point}, q_min={q_min}, q_max={q_max})",
        wide=wide,
        beyond=beyond,
        regions=kinds.regions(
            "acc: integers, products, accumulators, shape",
            "multiplier: power_of_two, multipliers, along acc",
            "shift: shifts, along acc",
            "zero_point: integers, ends_of_range, along acc",
            "range: code_range",
        ),
    ),
)
