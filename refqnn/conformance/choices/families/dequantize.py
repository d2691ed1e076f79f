"""dequantize: codes become real numbers.

y = scale (q - zero_point)    (1)  dequantize_order, code_difference, zero_point_sign
"""

import numpy as np
import numpy.typing as npt

from refqnn._types import Int
from refqnn.conformance.choices import axes, draws, kinds
from refqnn.conformance.choices.families.affine import in_width
from refqnn.conformance.choices.families.roundings import fused_multiply_add
from refqnn.conformance.choices.family import Choices, Family, Inputs, Outputs


def dequantize(
    choices: Choices, q: Int, scale: npt.ArrayLike, zero_point: npt.ArrayLike
) -> Outputs:
    """Equation (1), in the dtype of the scale."""
    q, s, z = np.asarray(q), np.asarray(scale), np.asarray(zero_point, np.int64)
    bits, wide = q.dtype, q.astype(np.int64)
    z = -z if choices["zero_point_sign"] == "add" else z
    exact = wide - z
    difference = in_width(exact, choices["code_difference"], bits)
    if choices["dequantize_order"] == "subtract_first":
        return {"y": np.asarray(s * difference.astype(s.dtype))}
    folded, codes = s * z.astype(s.dtype), wide.astype(s.dtype)
    y = s * codes - folded
    if choices["dequantize_order"] == "fma":
        y = fused_multiply_add(codes, s, -folded)
    return {"y": np.asarray(y + s * (difference - exact).astype(s.dtype))}


def dequantize_inputs(q: int, scale: float, zero_point: int) -> Inputs:
    """Return the arguments of one question."""
    return draws.call(dequantize, np.int8(q), np.float32(scale), zero_point)


def dequantize_candidates() -> list[Inputs]:
    """List small codes, differences beyond int8, scales with many bits."""
    return [
        dequantize_inputs(q, s, z)
        for s in (1.0, 0.1, 0.3, 0.7)
        for q in (1, 3, 5, 11, 100, -100)
        for z in (0, 1, 3, 7, 100, -100)
    ] + [
        dequantize_inputs(3, 1.0, 7) | {"q": np.uint8(q), "zero_point": z}
        for q, z in ((200, 10), (10, 200), (200, 0))
    ]


def draw_dequantize(rng: np.random.Generator, n: int) -> Inputs:
    """Return codes of any size and one scale."""
    q, scale = rng.integers(-128, 128, n), np.float32(rng.uniform(0.01, 1))
    return draws.call(
        dequantize, q.astype(np.int8), scale, int(rng.integers(-128, 128))
    )


def wide_dequantize(rng: np.random.Generator, n: int) -> Inputs:
    """Return codes that fill a type, their ends among them."""
    shape = draws.dims(rng, n)
    dtype = ("int8", "uint8", "int16")[int(rng.integers(3))]
    info = np.iinfo(dtype)
    scale = draws.several(rng, shape, lambda: draws.scale(rng))
    q = draws.laid_out(rng, draws.codes(rng, shape, dtype))
    ends = info.min, info.max
    z = draws.several(rng, shape, lambda: draws.zero_point(rng, *ends))
    return draws.call(dequantize, q, scale, z)


FAMILIES = (
    Family(
        "dequantize",
        ("{zero_point_sign}", "{code_difference}", "{dequantize_order}"),
        axes.of("dequantize_order code_difference zero_point_sign"),
        dequantize,
        dequantize_candidates,
        draw_dequantize,
        elementwise="q",
        stacks=True,
        call="refqnn.integer.dequantize(np.int8([{q}]), np.float32({scale}), "
        "{zero_point})",
        wide=wide_dequantize,
        scaled=("scale",),
        regions=kinds.regions(
            "q: integers, dtypes int8 uint8 int16, shape",
            "scale: power_of_two, magnitudes, along q",
            "zero_point: integers, along q",
        ),
    ),
)
