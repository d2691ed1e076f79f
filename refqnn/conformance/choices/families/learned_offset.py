"""learned_offset: a step and an offset, both learned.

Bhalgat, Lee, Nagel, Blankevoort, Kwak. LSQ+: Improving low-bit quantization through
learnable offsets and better initialization. CVPRW 2020, arXiv:2004.09576, section 3.

    u = (x - offset) / scale                                 (1)
    y = scale clip(round(u), q_min, q_max) + offset          (2)     rounding
    dx = dy m                                                (3)     straight_through
    dscale = g sum dy (q - u m)                              (4)     scale_gradient
    doffset = sum dy (1 - m)                                 (5)     offset_gradient
"""

from functools import partial

import numpy as np

from refqnn._types import Array, Float
from refqnn.conformance.choices import axes, draws, kinds
from refqnn.conformance.choices.coverage import few
from refqnn.conformance.choices.families.fake_quantize import mask, scale_factor
from refqnn.conformance.choices.family import Choices, Family, Inputs, Outputs
from refqnn.integer.rounding import ROUND, ROUNDINGS

SEED = 20_261_130


def learned_offset(
    choices: Choices,
    x: Float,
    scale: Float,
    offset: Float,
    q_min: int,
    q_max: int,
    dy: Float,
) -> Outputs:
    """Equations (1) to (5).

    x, dy: (B, F), scale, offset: ()  ->  y, dx: (B, F), dscale, doffset: ()
    """
    s, u = np.asarray(scale), (x - offset) / scale  # (1)
    rounded = ROUND[choices["rounding"]](u)
    q = np.clip(rounded, q_min, q_max)
    centred, zero = x - offset, np.zeros((), np.int64)
    how = choices["straight_through"]
    passes = mask(how, centred, s, zero, rounded, q_min, q_max)
    g = scale_factor(choices["scale_gradient"], x.shape, q_max)
    clipped = (dy * ~passes).sum()
    forms: dict[str, Array] = {
        "clipped": clipped,
        "everywhere": dy.sum(),
        "negated": -clipped,
        "none": np.zeros(()),
        "1/sqrt(N*q_p)": clipped * (x.size * q_max) ** -0.5,
    }
    return {
        "y": s * q + offset,  # (2)
        "dx": np.where(passes, dy, 0),  # (3)
        "dscale": np.asarray(g * (dy * np.where(passes, q - u, q)).sum()),  # (4)
        "doffset": np.asarray(forms[choices["offset_gradient"]]),  # (5)
    }


def canonical(choices: Choices) -> dict[str, str]:
    """Replace the offset's gradient by none where the mask passes everything."""
    if choices["straight_through"] == "none":
        asked = choices["offset_gradient"]
        form = asked if asked == "everywhere" else "none"
        return {**choices, "offset_gradient": form}
    return dict(choices)


def draw(rng: np.random.Generator, n: int) -> Inputs:
    """Draw values within and beyond grids that powers of two and offsets keep exact."""
    f = next(size for size in (4, 5, 3, 1) if n % size == 0)
    shape, (q_min, q_max) = (n // f, f), draws.pick(rng, (-8, 7), (0, 15), (-4, 3))
    scale, offset = draws.pick(rng, 0.25, 0.5, 0.3), draws.pick(rng, 0.0, 0.125, -1.5)
    exact = scale != 0.3
    offset *= 1.0 if exact else 1.1
    units = rng.integers(2 * q_min - 6, 2 * q_max + 7, shape) / 2
    units = np.where(rng.random(shape) < 0.4, rng.choice([q_min, q_max], shape), units)
    off = rng.choice([0.0, 0.0, 0.3, -0.2], shape) if exact else rng.uniform(0.1, 0.2)
    x = scale * (units + off) + offset
    x = draws.laid_out(rng, np.where(rng.random(shape) < 0.1, 0, x))
    dy = draws.laid_out(rng, draws.gradient(rng, shape))
    grid = np.float64(scale), np.float64(offset), q_min, q_max
    return draws.call(learned_offset, x, *grid, dy)


def at_end(name: str) -> kinds.Region:
    """Return the region of inputs on an end of the grid."""
    return lambda call: bool(
        np.any(call["x"] == call["scale"] * call[name] + call["offset"])
    )


REGIONS = (
    kinds.regions("x dy: reals", "x: shape")
    | {"x: at the lower end": at_end("q_min"), "x: at the upper end": at_end("q_max")}
    | kinds.regions("scale: magnitudes, number 0.25 0.5", "offset: number 0 0.125")
    | kinds.where("q_min", {"0": lambda q: q == 0, "negative": lambda q: q < 0})
)

FAMILIES = (
    Family(
        "learned_offset",
        (
            "q: {rounding}",
            "y = scale clip(q, q_min, q_max) + offset",
            "{straight_through}",
            "{scale_gradient}",
            "of the offset: {offset_gradient}",
        ),
        {
            "rounding": tuple(ROUNDINGS),
            "straight_through": ("input_inclusive", "input_open", "none"),
        }
        | axes.of("scale_gradient offset_gradient"),
        learned_offset,
        partial(few, REGIONS, draw, (24, 65, 8), SEED),
        draw,
        close=1e-6,
        canonical=canonical,
        outputs=("y", "dx", "dscale", "doffset"),
        scaled=("x", "scale", "offset"),
        regions=REGIONS,
    ),
)
