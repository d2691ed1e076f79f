"""Kinds, sizes and ranges of the fields of steps, checked before a file is used.

A file with a right digest may still come from a program that is wrong: each field has
the kind that its class declares, arrays have the dtype and the size that the arithmetic
needs, every source is an earlier step, and no accumulator leaves int32. Raises
ValueError with the name of the step and of the field.
"""

import dataclasses
import math
from collections.abc import Mapping
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np

import refqnn
from refqnn._types import Array, Int
from refqnn.cost import signed_bits
from refqnn.deploy.build import output_shape
from refqnn.deploy.fold import Grid, accumulator_range, check_sums
from refqnn.deploy.gated import OPS, FloatStep
from refqnn.deploy.operations import (
    OPERATIONS,
    OperationStep,
    RealStep,
)
from refqnn.deploy.real import REAL
from refqnn.deploy.steps import (
    REAL_ROUNDING,
    Computing,
    Gated,
    ImageStep,
    LayerStep,
    PoolStep,
    ResidualStep,
    Shape,
    Shortcut,
    Step,
    Sum,
    with_branches,
)
from refqnn.geometry import window
from refqnn.integer.checks import (
    INT32_MAX,
    INT32_MIN,
    MAX_SHIFT,
    as_integers,
)
from refqnn.integer.rescale import REQUANTIZATIONS

STEPS = get_args(Step)
#: elements of the codes of one image, beyond which a file is refused
MOST_CODES = 2**26
#: zeros around the planes of a network with gates
MOST_PADDING = 2**4
#: codes beside a plane, and pixels of a side after a resizing
MOST_EDGE = 2**12
#: dtypes of the arrays of a step, by field; weights of 9 bits are int16
DTYPES = {
    "bias": np.int32,
    "fraction_bits": np.int32,
    "scale": np.float64,
    "multiplier": np.int32,
    "skip_multiplier": np.int32,
    "shift": np.int32,
}


def check_steps(steps: tuple[Any, ...]) -> None:
    """Raise where a field has another kind, size or range, or a source is no step."""
    earlier: dict[str, Step] = {}
    blank: dict[str, Array] = {}
    for i, step in enumerate(steps):
        if not isinstance(step, STEPS):
            raise ValueError(f"step {i} is {type(step).__name__}, no step")  # noqa: TRY004 - bad values are ValueErrors in this house
        check_kinds(step, f"step {i}", arrays=not isinstance(step, Gated))
        if step.name in earlier:
            raise ValueError(f"two steps have the name {step.name!r}")
        check_grid(step.name, step.grid)
        if isinstance(step, ImageStep):
            if len(step.shape) not in {1, 3} or min(step.shape) < 1:
                raise ValueError(f"{step.name}.shape is no (C, H, W): {step.shape}")
            blank[step.name] = np.zeros((1, *step.shape), np.uint8)
        elif isinstance(step, Gated):
            blank |= check_gated(step, blank)
        elif isinstance(step, OperationStep | RealStep):
            check_operation(step, earlier)
        else:
            check_computing(step, earlier)
        earlier[step.name] = step


def check_kinds(value: Any, place: str, *, arrays: bool = True) -> None:
    """Raise where a field of a dataclass or a tuple has another kind than declared.

    Dtypes of ``arrays`` are those of integer layers.
    """
    for name, hint in get_type_hints(type(value)).items():
        field, there = getattr(value, name), f"{place}.{name}"
        if not fits(field, hint):
            raise ValueError(f"{there} must be {hint}, got {field!r:.60}")
        if dataclasses.is_dataclass(field) or isinstance(field, Grid):
            check_kinds(field, there)
        elif arrays and name == "w" and field.dtype in (np.int8, np.int16):
            continue
        elif isinstance(field, np.ndarray) and arrays:
            want = np.dtype(DTYPES.get(name, np.int8))
            if field.dtype != want:
                raise ValueError(f"{there} must be {want}, got {field.dtype}")


def fits(value: Any, hint: Any) -> bool:
    """Say whether a value is of a declared kind; a float is finite, a bool no int.

    >>> fits((1, 2), tuple[int, int]), fits(True, int), fits(float("nan"), float)
    (True, False, False)
    """
    origin, kinds = get_origin(hint), get_args(hint)
    if hint is float:
        return type(value) in {int, float} and bool(np.isfinite(value))
    if origin is tuple and isinstance(value, tuple):
        each = kinds[:1] * len(value) if kinds[-1] is Ellipsis else kinds
        return len(each) == len(value) and all(map(fits, value, each))
    if origin is Mapping:
        return type(value) is dict
    if origin in {Union, UnionType}:
        return any(fits(value, kind) for kind in kinds)
    return type(value) is (origin or hint)


def check_grid(name: str, grid: Grid) -> None:
    """Raise unless the scale is positive and the zero-point among the codes' values."""
    if not grid.scale > 0:
        raise ValueError(f"{name}.grid.scale must be positive, got {grid.scale}")
    info = np.iinfo(grid.dtype)
    as_integers(f"{name}.grid.zero_point", grid.zero_point, low=info.min, high=info.max)


def check_computing(step: Computing, earlier: Mapping[str, Step]) -> None:
    """Raise where the numbers of a step do not fit those of its sources."""
    source = source_of(step.name, step.source, earlier)
    if isinstance(step, PoolStep):
        channels, shape = 1, pool_shape(step, source)
    else:
        shape = sum_shape(step.sum, source)
        channels = shape[0]
    check_multipliers(step, channels)
    if isinstance(step, ResidualStep):
        skip = source_of(step.name, step.skip_source, earlier)
        beside = skip_shape(step.skip, skip)
        if beside != shape:
            raise ValueError(f"{step.name} and its skip disagree: {shape}, {beside}")
    if step.shape != shape:
        raise ValueError(f"{step.name}.shape is {step.shape}, computes {shape}")


def check_operation(
    step: OperationStep | RealStep, earlier: Mapping[str, Step]
) -> None:
    """Raise unless the operation is known and gives its shape for an image of zeros."""
    sources = [source_of(step.name, name, earlier) for name in step.sources]
    chosen: list[Mapping[str, Any]]
    if isinstance(step, RealStep):
        chosen = [attributes for *_, attributes in step.program]
        known = all(op in REAL for op, *_ in step.program)
        if step.grids != tuple(source.grid for source in sources):
            raise ValueError(f"{step.name}.grids are not those of its sources")
    else:
        chosen, known = [step.options], step.operation in OPERATIONS
    if not known or not step.sources:
        raise ValueError(f"{step.name} has no operation of this version")
    shapes = [*(source.shape for source in sources), step.shape]
    if max(math.prod(shape) for shape in shapes) > MOST_CODES:
        raise ValueError(f"{step.name} has more than {MOST_CODES} codes for an image")
    values = {
        source.name: np.zeros((1, *source.shape), source.grid.dtype)
        for source in sources
    }
    try:
        for options in chosen:
            check_extent(options)
        codes = step.forward(values, refqnn.integer)[step.name]
    except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise ValueError(f"{step.name} cannot be computed: {error}") from error
    if codes.shape != (1, *step.shape):
        raise ValueError(f"{step.name}.shape is {step.shape}, computes {codes.shape}")


def check_gated(step: Gated, blank: Mapping[str, Array]) -> dict[str, Array]:
    """Raise unless a step and its branches give their shapes for a blank image.

    Returns the values of the step, which later ones read.
    """
    for part in with_branches([step]):
        check_kinds(part, part.name, arrays=False)
        if isinstance(part, FloatStep) and part.op not in OPS:
            raise ValueError(f"{part.name} has no operation of this version")
        options = vars(part) | dict(part.options if isinstance(part, FloatStep) else {})
        padding = options.get("padding", 0)
        if type(padding) is not int or not 0 <= padding <= MOST_PADDING:
            raise ValueError(f"{part.name}: padding goes up to {MOST_PADDING}")
        if math.prod(part.shape) > MOST_CODES:
            raise ValueError(f"{part.name} has more than {MOST_CODES} values")
    try:
        with np.errstate(all="ignore"):
            values = step.forward(blank, refqnn.integer)
    except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise ValueError(f"{step.name} cannot be computed: {error}") from error
    for part in with_branches([step]):
        shape = values[part.name].shape[1:]
        if part.shape != shape:
            raise ValueError(f"{part.name}.shape is {part.shape}, computes {shape}")
    return values


def check_extent(options: Mapping[str, Any]) -> None:
    """Raise for padding, edges and sizes that nothing but a file bounds."""
    kernel, padding = options.get("kernel"), options.get("padding")
    dilation: tuple[int, ...] = (1, 1)
    if "at" in options:
        kernel, _, padding, dilation = options["at"]
    if kernel is not None:
        for k, d, sides in zip(kernel, dilation, padding or (), strict=True):
            if not 0 <= min(sides) <= max(sides) <= d * (k - 1) + 1:
                raise ValueError(f"padding {padding} is wider than its window")
    widths = [side for pair in options.get("widths", ()) for side in pair]
    if max([*widths, *options.get("size", ())], default=0) > MOST_EDGE:
        raise ValueError(f"edges and sizes go up to {MOST_EDGE}")


def source_of(name: str, source: str, earlier: Mapping[str, Step]) -> Step:
    """Return the earlier step of this name; raise where no step before has it."""
    if source not in earlier:
        raise ValueError(f"{name} reads {source!r}, which no step before it is")
    return earlier[source]


def check_multipliers(step: Computing, channels: int) -> None:
    """Raise unless there is one multiplier and shift a channel, within their ranges."""
    real = isinstance(step, LayerStep) and step.rounding == REAL_ROUNDING
    if step.rounding not in REQUANTIZATIONS and not real:
        raise ValueError(
            f"{step.name}.rounding must be one of {sorted(REQUANTIZATIONS)}, "
            f"got {step.rounding!r:.60}"
        )
    bounds = {"multiplier": (0, INT32_MAX), "shift": (-MAX_SHIFT, MAX_SHIFT)}
    if isinstance(step, ResidualStep):
        bounds["skip_multiplier"] = (0, INT32_MAX)
    for field, (low, high) in bounds.items():
        check_size(f"{step.name}.{field}", getattr(step, field), channels)
        as_integers(f"{step.name}.{field}", getattr(step, field), low=low, high=high)


def check_size(place: str, array: Int, channels: int) -> None:
    """Raise unless an array has one entry a channel."""
    if array.shape != (channels,):
        raise ValueError(f"{place} must be ({channels},), is {array.shape}")


def check_zero_point(name: str, zero_point: int, source: Step) -> None:
    """Raise unless a layer subtracts the zero-point of the codes that it reads."""
    if zero_point != source.grid.zero_point:
        raise ValueError(
            f"{name}.x_zero_point is {zero_point}, {source.name} has "
            f"{source.grid.zero_point}"
        )


def sum_shape(total: Sum, source: Step) -> Shape:
    """Return the shape of accumulators; raise where they could leave int32.

    Padding wider than the window is refused: nothing bounds it but the file.
    """
    name, w = total.name, total.w
    if w.ndim not in {2, 4} or not w.size:
        raise ValueError(f"{name}.w must be (O, I) or (O, C, Kh, Kw), is {w.shape}")
    for field in ("bias", "fraction_bits", "scale"):
        check_size(f"{name}.{field}", getattr(total, field), len(w))
    as_integers(f"{name}.fraction_bits", total.fraction_bits, low=0, high=MAX_SHIFT)
    if not np.all(np.isfinite(total.scale) & (total.scale > 0)):
        raise ValueError(f"{name}.scale must be positive and finite")
    check_zero_point(name, total.x_zero_point, source)
    at = window(
        w.shape[2:] or 1,
        stride=total.stride,
        padding=total.padding,
        dilation=total.dilation,
    )
    for kernel, dilation, padding in zip(
        at.kernel, at.dilation, at.padding, strict=True
    ):
        reach = dilation * (kernel - 1) + 1
        if max(padding) > reach:
            raise ValueError(f"{name}.padding {padding} is wider than {reach}")
    if total.groups < 1:
        raise ValueError(f"{name}.groups must be at least 1, got {total.groups}")
    check_sums(name, w, total.x_zero_point)
    bias, f = total.bias.astype(np.int64), total.fraction_bits.astype(np.int64)
    low, high = accumulator_range(w, source.grid)
    ends = np.array([(low << f) + bias, (high << f) + bias])
    if ends.min() < INT32_MIN or ends.max() > INT32_MAX:
        raise ValueError(f"{name}: sums and bias leave int32")
    check_accumulator(name, total, int(np.abs(ends).max()))
    most = 8 if w.dtype == np.int8 else 9  # uint8 codes less any zero-point
    if not 1 <= total.weight_bits <= most:
        raise ValueError(
            f"{name}.weight_bits must lie in [1, {most}], got {total.weight_bits}"
        )
    return output_shape(name, w, at, total.groups, source.shape)


def pool_shape(step: PoolStep, source: Step) -> Shape:
    """Return the shape of pooled sums; raise where they could leave int32."""
    if len(source.shape) != 3:
        raise ValueError(f"{step.name} reads planes, is given {source.shape}")
    check_zero_point(step.name, step.x_zero_point, source)
    channels, h, w = source.shape
    check_accumulator(step.name, step, h * w * source.grid.magnitude())
    return (channels,)


def check_accumulator(name: str, total: Sum | PoolStep, largest: int) -> None:
    """Raise unless the bits that are stated hold the largest accumulator."""
    least, bits = signed_bits(largest), total.accumulator_bits
    if not least <= bits <= 32:
        raise ValueError(
            f"{name}.accumulator_bits must lie in [{least}, 32], got {bits}"
        )


def skip_shape(skip: Sum | Shortcut, source: Step) -> Shape:
    """Return the shape that passes a block by."""
    if isinstance(skip, Sum):
        return sum_shape(skip, source)
    check_zero_point(skip.name, skip.x_zero_point, source)
    if len(source.shape) != 3 or skip.channels < source.shape[0] or skip.stride < 1:
        raise ValueError(
            f"{skip.name} makes {skip.channels} channels, stride {skip.stride}, of "
            f"{source.shape}"
        )
    _, h, w = source.shape
    return skip.channels, -(-h // skip.stride), -(-w // skip.stride)
