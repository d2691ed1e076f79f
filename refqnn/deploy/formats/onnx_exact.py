"""The layers of an integer network in ONNX operators that have one result only.

    acc = 2^f sum w (x - z) + bias                 int32                            (1)
    t = acc m [+ skip m_2] + 2^(k - 1)             int64, k = 31 - shift            (2)
    codes = clip(z + (t - t mod 2^k) / 2^k)        rounded down, so ties go up      (3)

Mod has the sign of its divisor and Div truncates, which is exact for a multiple.
BitShift would not do: it is defined for unsigned integers only. With half_even an odd
quotient of a tie, where t mod 2^k = 0, is one too many. With float32_half_even

    codes = clip(z + Round(float(acc) r [+ float(skip) r_2])),  r = m 2^(-k)        (4)

each operation rounded to float32 by IEEE 754, Round with ties to even.
"""

from collections.abc import Sequence

import numpy as np

from refqnn._types import Array, Int
from refqnn.deploy.formats.onnx_graph import (
    Graph,
    as_uint8,
    constant,
    node,
    onnx_type,
    pad_channels,
    per_channel,
    skip_pixels,
    weight_constants,
    window_of,
)
from refqnn.deploy.steps import (
    Computing,
    PoolStep,
    ResidualStep,
    Shortcut,
    Step,
    Sum,
)

#: roundings that are composed
COMPOSED = ("half_up", "half_even", "floor", "float32_half_even")
#: what (2) must stay below, so that nothing on the way leaves int64
MOST = 2**62
Terms = list[tuple[str, Int]]


def exact_step(
    graph: Graph, step: Computing, steps: dict[str, Step], *, in_floats: bool = False
) -> None:
    """Add the accumulators of a step, and their rounding to codes.

    ``in_floats``: by (4) whatever the rounding of the step.
    """
    if step.rounding not in COMPOSED:
        raise ValueError(
            f"{step.name}: rounding must be one of {list(COMPOSED)} in this form, "
            f"got {step.rounding!r}"
        )
    terms = exact_terms(graph, step, steps)
    check_reach(step)
    if step.rounding == "float32_half_even" or in_floats:
        codes = float32_codes(graph, step, terms)
    else:
        codes = integer_codes(graph, step, terms)
    node(graph, "Cast", [codes], step.name, to=onnx_type(step.grid.dtype))


def exact_terms(graph: Graph, step: Computing, steps: dict[str, Step]) -> Terms:
    """Return the accumulators of every branch with their multipliers."""
    if isinstance(step, PoolStep):
        return [(plane_sums(graph, step), step.multiplier)]
    terms = [(exact_sum(graph, step.sum, steps[step.source]), step.multiplier)]
    if isinstance(step, ResidualStep):
        skip = exact_skip(graph, step, steps[step.skip_source])
        terms.append((skip, step.skip_multiplier))
    return terms


def exact_sum(graph: Graph, total: Sum, source: Step) -> str:
    """(1), int32"""
    codes, added = as_uint8(graph, source)
    inputs = [codes, *weight_constants(graph, total, total.x_zero_point + added)]
    ndim, name = total.w.ndim, total.name
    if ndim == 2:
        raw = node(graph, "MatMulInteger", inputs, f"{name}.products")
    else:
        at = window_of(total)
        raw = node(graph, "ConvInteger", inputs, f"{name}.products", **at)
    if total.fraction_bits.any():
        factor = np.left_shift(np.int32(1), total.fraction_bits)
        by = constant(graph, f"{name}.factor", per_channel(factor, ndim), np.int32)
        raw = node(graph, "Mul", [raw, by], f"{name}.finer")
    bias = constant(graph, f"{name}.bias", per_channel(total.bias, ndim), np.int32)
    return node(graph, "Add", [raw, bias], f"{name}.accumulator")


def exact_skip(graph: Graph, step: ResidualStep, source: Step) -> str:
    """Add the skip: accumulators of a 1x1 convolution, or codes - z, int32."""
    skip, name = step.skip, f"{step.skip.name}.accumulator"
    if isinstance(skip, Sum):
        return exact_sum(graph, skip, source)
    kept = skip_pixels(graph, skip, step.skip_source)
    centred = centre(graph, skip.name, kept, skip.x_zero_point)
    return pad_channels(graph, skip, centred, source.shape[0], name)


def plane_sums(graph: Graph, step: PoolStep) -> str:
    """Return the sum of x - z over every plane: (N, C) int32."""
    centred = centre(graph, step.name, step.source, step.x_zero_point)
    axes = constant(graph, f"{step.name}.axes", [2, 3], np.int64)
    name = f"{step.name}.accumulator"
    return node(graph, "ReduceSum", [centred, axes], name, keepdims=0)


def centre(graph: Graph, name: str, x: str, zero_point: int) -> str:
    """x - zero_point, int32"""
    wide = node(graph, "Cast", [x], f"{name}.wide", to=onnx_type(np.int32))
    zero = constant(graph, f"{name}.zero_point", zero_point, np.int32)
    return node(graph, "Sub", [wide, zero], f"{name}.centred")


def integer_codes(graph: Graph, step: Computing, terms: Terms) -> str:
    """(2) and (3), int64"""
    name, k = step.name, 31 - step.shift.astype(np.int64)
    ndim = len(step.shape) + 1
    t = sum_products(graph, step, [(acc, m, np.int64) for acc, m in terms])
    divisor = np.left_shift(np.int64(1), k)
    if step.rounding != "floor":
        half = constant(
            graph, f"{name}.half", per_channel(divisor // 2, ndim), np.int64
        )
        t = node(graph, "Add", [t, half], f"{name}.raised")
    by = constant(graph, f"{name}.divisor", per_channel(divisor, ndim), np.int64)
    rest = node(graph, "Mod", [t, by], f"{name}.rest")
    whole = node(graph, "Sub", [t, rest], f"{name}.multiple")
    rounded = node(graph, "Div", [whole, by], f"{name}.rounded")
    if step.rounding == "half_even":
        rounded = even_ties(graph, name, rounded, rest)
    return clip_wide(graph, step, rounded, np.int64)


def even_ties(graph: Graph, name: str, q: str, rest: str) -> str:
    """q - (q mod 2) where nothing is left of a division whose ties went up, int64"""
    zero, two = (constant(graph, f"{name}.{v}", v, np.int64) for v in (0, 2))
    tie = node(graph, "Equal", [rest, zero], f"{name}.is_tie")
    one = node(graph, "Cast", [tie], f"{name}.tie", to=onnx_type(np.int64))
    odd = node(graph, "Mod", [q, two], f"{name}.odd")
    lost = node(graph, "Mul", [one, odd], f"{name}.too_many")
    return node(graph, "Sub", [q, lost], f"{name}.even")


def float32_codes(graph: Graph, step: Computing, terms: Terms) -> str:
    """(4), float32: integers below 2^24, so adding z is exact"""
    shift = step.shift - 31
    reals = [(a, np.ldexp(m.astype(np.float64), shift), np.float32) for a, m in terms]
    scaled = sum_products(graph, step, reals)
    rounded = node(graph, "Round", [scaled], f"{step.name}.rounded")
    return clip_wide(graph, step, rounded, np.float32)


def sum_products(
    graph: Graph, step: Computing, terms: Sequence[tuple[str, Array, type]]
) -> str:
    """acc m [+ skip m_2] in the dtype of the terms"""
    products = []
    for acc, factor, dtype in terms:
        wide = node(graph, "Cast", [acc], f"{acc}.wide", to=onnx_type(dtype))
        v = per_channel(factor, len(step.shape) + 1)
        by = constant(graph, f"{acc}.multiplier", v, dtype)
        products.append(node(graph, "Mul", [wide, by], f"{acc}.scaled"))
    if len(products) == 1:
        return products[0]
    return node(graph, "Add", products, f"{step.name}.total")


def clip_wide(graph: Graph, step: Computing, rounded: str, dtype: type) -> str:
    """clip(rounded, q_min - z, q_max - z) + z"""
    z = step.grid.zero_point
    limits = [
        constant(graph, f"{step.name}.{k}", getattr(step.grid, k) - z, dtype)
        for k in ("q_min", "q_max")
    ]
    kept = node(graph, "Clip", [rounded, *limits], f"{step.name}.kept")
    zero = constant(graph, f"{step.name}.output_zero_point", z, dtype)
    return node(graph, "Add", [kept, zero], f"{step.name}.wide_codes")


def check_reach(step: Computing) -> None:
    """Raise where (2) could reach 2^62, which no deployed network comes near."""
    reach = largest(step) * int(step.multiplier.max())
    if isinstance(step, ResidualStep):
        sums = step.skip
        peak = 255 if isinstance(sums, Shortcut) else 1 << (sums.accumulator_bits - 1)
        reach += peak * int(step.skip_multiplier.max())
    if reach + (1 << int(30 - step.shift.min(initial=0))) >= MOST:
        raise ValueError(f"{step.name}: products may reach {reach}, int64 has no room")


def largest(step: Computing) -> int:
    """Return 2^(b - 1), the bound of the accumulators of b signed bits."""
    total = step if isinstance(step, PoolStep) else step.sum
    return 1 << (total.accumulator_bits - 1)
