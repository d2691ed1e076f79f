"""fake_quantize with its two gradients.

    u = x / scale                            (1)     scaling
    q = round(u) + zero_point                (2)     rounding, zero_point_when, _use
    y = scale (clip(q, q_min, q_max) - zero_point)   (3)     code_range
    dx = dy m                                (4)     straight_through, backward_rounding
    ds = g sum dy (q - zero_point - u m)     (5)     scale_gradient, scale_mask

(5) is the exact gradient of (3) with the rounding residual held: where the gradient
passes (m = 1) it is the residual, elsewhere the level at the end of the grid.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from refqnn._types import Array, Bool, Float, Int
from refqnn.conformance.choices import axes, draws, kinds
from refqnn.conformance.choices.families.affine import TINY, beside_ties, quotient
from refqnn.conformance.choices.family import Choices, Family, Inputs, Outputs
from refqnn.integer.rounding import ROUND, ROUNDINGS

#: the float32 below one half: with a zero-point added it becomes a tie
BELOW_HALF = 0.49999997
#: the same for sums with 4 and with -6, at the ends of a 4-bit grid
SUMS_UP, SUMS_DOWN = (3.4999998, 3.0000002, 3.9999998), (-2.4999998, -2.0000002)


def fake_quantize(
    choices: Choices,
    x: Float,
    scale: npt.ArrayLike,
    zero_point: npt.ArrayLike,
    q_min: int,
    q_max: int,
    dy: Float,
) -> Outputs:
    """Equations (1) to (5).

    x, dy: (..., B, F), scale, zero_point: (...)  ->  y, dx: (..., B, F), ds: (...)
    """
    s = np.asarray(scale, np.asarray(x).dtype)[..., None, None]
    z = np.asarray(zero_point, np.int64)[..., None, None]
    if choices["code_range"] == "symmetric":
        q_min = max(q_min, -q_max)
    added = z if choices["zero_point_use"] == "added" else np.zeros_like(z)
    u = x / s if choices["scaling"] == "divide" else x * (1 / s)
    round_ = ROUND[choices["rounding"]]
    inside = round_(u + added.astype(u.dtype))
    before = choices["zero_point_when"] == "before_rounding"
    q = inside if before else round_(u) + added
    y = s * (np.clip(q, q_min, q_max) - z).astype(s.dtype)
    q = inside if choices["backward_rounding"] == "zero_point_inside" else q
    passes = mask(choices["straight_through"], x, s, added, q, q_min, q_max)
    own = choices["scale_mask"]
    held = passes if own == "as_input" else mask(own, x, s, added, q, q_min, q_max)
    kept = np.clip(q, q_min, q_max) - z
    residual = np.where(held, kept - u, kept)
    ds = (dy * residual.astype(np.float64)).sum(axis=(-2, -1))
    factor = scale_factor(choices["scale_gradient"], x.shape[-2:], q_max)
    return {"y": y, "dx": np.where(passes, dy, 0), "ds": np.asarray(factor * ds)}


def fake_canonical(choices: Choices) -> dict[str, str]:
    """Set every answer on which no output depends to the same value.

    With the zero-point inside in both it is the same code; a mask of inputs and no
    gradient of the scale do not look at it.
    """
    changed = dict(choices)
    fixed = choices["scale_gradient"] == "none"
    if choices["zero_point_use"] == "ignored":
        changed |= {"zero_point_when": "after_rounding"}
        changed |= {"backward_rounding": "as_forward"}
    if fixed or choices["scale_mask"] == choices["straight_through"]:
        changed |= {"scale_mask": "as_input"}
    unseen = fixed and choices["straight_through"] != "rounded_inclusive"
    if unseen or changed["zero_point_when"] == "before_rounding":
        changed |= {"backward_rounding": "as_forward"}
    return changed


def mask(
    name: str, x: Float, s: Float, z: Int, rounded: Array, q_min: int, q_max: int
) -> Bool:
    """Return m of (4)."""
    lo = s * (q_min - z).astype(s.dtype)
    hi = s * (q_max - z).astype(s.dtype)
    masks: dict[str, Callable[[], Bool]] = {
        "none": lambda: np.ones(x.shape, bool),
        "input_inclusive": lambda: (lo <= x) & (x <= hi),
        "input_open": lambda: (lo < x) & (x < hi),
        "input_half_open": lambda: (lo <= x) & (x < hi),
        "input_half_open_below": lambda: (lo < x) & (x <= hi),
        "rounded_inclusive": lambda: (q_min <= rounded) & (rounded <= q_max),
    }
    return masks[name]()


def scale_factor(name: str, shape: tuple[int, ...], q_max: int) -> float:
    """Return g of (5) for values of shape (B, F)."""
    n, f = shape[0] * shape[1], shape[1]
    return {
        "1": 1.0,
        "none": 0.0,
        "1/N": 1 / n,
        "negated": -1.0,
        "1/sqrt(N)": n**-0.5,
        "1/sqrt(N*q_p)": (n * q_max) ** -0.5,
        "1/sqrt(F*q_p)": (f * q_max) ** -0.5,
    }[name]


def fake_inputs(xs: tuple[float, float], scale: float, z: int) -> Inputs:
    """Make two examples of one value each: N is 2, F is 1."""
    x, dy = np.asarray(xs, np.float32)[:, None], np.ones((2, 1), np.float32)
    return draws.call(fake_quantize, x, np.float32(scale), z, -8, 7, dy)


#: on, within and beyond the end of a range of -7 to 7
SYMMETRIC = (-7.0, -6.75, -7.25, -7.75, -6.25)


def fake_candidates() -> list[Inputs]:
    """List pairs of a tie and an end of the grid, inside, on and outside of it."""
    ties = (0.5, -0.5, 1.5, -1.5, 2.5, 0.25, -0.25, 0.75, -0.75)
    candidates = []
    for z in (0, 1, -2):
        lo, hi = float(-8 - z), float(7 - z)
        ends = (lo, hi, lo - 0.25, hi + 0.25, lo - 0.75, hi + 0.75, 20.0, -20.0)
        candidates += [fake_inputs((t, e), 1.0, z) for t in ties for e in ends]
        candidates += [fake_inputs((e, d), 1.0, z) for e in ends for d in ends]
        candidates += [fake_inputs((t, -t), 1.0, z) for t in (*ties, TINY, BELOW_HALF)]
    # the lower end of a symmetric range
    candidates += [
        fake_inputs((t, e), 1.0, 0) for t in (0.25, 0.75, 7.0) for e in SYMMETRIC
    ]
    # the sum with the zero-point is rounded, across the end of the grid
    candidates += [fake_inputs((x, -x), 1.0, 4) for x in SUMS_UP]
    candidates += [fake_inputs((x, -x), 1.0, -6) for x in SUMS_DOWN]
    return candidates + [
        fake_inputs((sign * x, end * s), s, 0)
        for x, s in reciprocal_pairs()
        for sign in (1, -1)
        for end in (-8, 7.25)
    ]


def reciprocal_pairs() -> list[tuple[float, float]]:
    """Return (x, scale) within the grid whose two scalings differ."""
    within = [(np.float32(x), np.float32(s)) for x, s in beside_ties() if x < 7 * s]
    apart = [(x, s) for x, s in within if x / s != x * (np.float32(1) / s)]
    return [(float(x), float(s)) for x, s in apart]


def draw_fake(rng: np.random.Generator, n: int) -> Inputs:
    """Draw examples within and beyond the grid, some on its ends and on ties."""
    shape = (max(n // 4, 2), 4)
    scale = np.float32(rng.choice([1.0, 0.5, 0.1, 0.3]))
    codes = rng.integers(-12, 12, shape) + rng.choice([0.0, 0.5, 0.25, 0.8], shape)
    x, z = (codes * float(scale)).astype(np.float32), int(rng.integers(-3, 4))
    dy = rng.choice([0.5, 1.0, 2.0], shape).astype(np.float32)
    return draws.call(fake_quantize, x, scale, z, -8, 7, dy)


def wide(rng: np.random.Generator, n: int) -> Inputs:
    """Draw up to four values an example, grids of at most 8 bits, dy of both signs.

    Sixteen bits are left out: sums of 2^16 residuals in float32 lose what is compared.
    """
    f = next(size for size in (4, 5, 3, 1) if n % size == 0)
    shape, ends = (n // f, f), draws.code_range(rng, most=8)
    step, z = draws.scale(rng), draws.zero_point(rng, *ends)
    x = draws.laid_out(rng, draws.on_grid(rng, shape, step, z, ends))
    dy = draws.laid_out(rng, draws.gradient(rng, shape, np.float32))
    return draws.call(fake_quantize, x, step, z, *ends, dy)


FAMILIES = (
    Family(
        "fake_quantize",
        (
            "{scaling}",
            "{rounding}",
            "{zero_point_when}; {zero_point_use}",
            "y = scale (q - zero_point), q clipped to {code_range}",
            "{straight_through}",
            "in the backward pass: {backward_rounding}",
            "{scale_gradient}; r is the residual {scale_mask}",
        ),
        {
            "scaling": ("divide", "reciprocal"),
            "rounding": tuple(ROUNDINGS),
            "zero_point_use": ("added", "ignored"),
        }
        | axes.of("zero_point_when code_range straight_through backward_rounding")
        | axes.of("scale_gradient scale_mask"),
        fake_quantize,
        fake_candidates,
        draw_fake,
        elementwise="x",
        stacks=True,
        close=1e-5,
        canonical=fake_canonical,
        exact=quotient,
        outputs=("y", "dx", "ds"),
        wide=wide,
        scaled=("x", "scale"),
        regions=kinds.regions(
            "x: reals, on_grid, shape",
            "scale: power_of_two, magnitudes",
            "zero_point: integers, ends_of_range",
            "range: code_range 8",
            "dy: reals, layout",
        ),
    ),
)
