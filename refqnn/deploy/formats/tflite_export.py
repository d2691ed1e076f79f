"""A deployed network as a TFLite model that the runtime's own integer kernels compute.

    step                       operators
    image, uint8               QUANTIZE to int8: codes - 128
    convolution                CONV_2D or DEPTHWISE_CONV_2D, RELU where codes end at 0
    residual                   the convolution to a grid of its own, then ADD
    shortcut of option A       STRIDED_SLICE and PAD
    mean of planes             MEAN
    classifier                 QUANTIZE to int16, FULLY_CONNECTED 16x8

Codes q_min .. q_max become those that end at 127, so that int8 saturates where the
network clamps. TFLite has no form for a residual of one rounding, for biases below one
step and for multipliers that are no ratio of float32 scales: ``inexact_in_tflite`` says
which layers may differ. What ``import_tflite`` makes of the file is what it computes.
"""

from typing import Any

import numpy as np

from refqnn._types import Array
from refqnn.deploy.build import float32_weight_scale
from refqnn.deploy.fold import Grid
from refqnn.deploy.formats.tflite_schema import Model, Operator, Tensor
from refqnn.deploy.formats.tflite_write import write_model
from refqnn.deploy.network import IntegerNetwork
from refqnn.deploy.steps import (
    ImageStep,
    LayerStep,
    PoolStep,
    ResidualStep,
    Shape,
    Shortcut,
    Sum,
)
from refqnn.geometry import same_padding, window

INT8, INT16 = (-128, 127), (-(2**15), 2**15 - 1)
SAME, VALID = 0, 1
NONE, RELU = 0, 1


class Writer:
    """Tensors and operators of a model, and the tensor of every step by its name."""

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self.operators: list[Operator] = []
        self.places: dict[str, int] = {}
        self.grids: dict[str, Grid] = {}

    def codes(self, name: str, shape: Shape, grid: Grid, dtype: str = "int8") -> int:
        """Add a tensor of codes: (C, H, W) becomes (1, H, W, C)."""
        pixels = (*shape[1:], shape[0]) if len(shape) == 3 else shape
        made = Tensor((1, *pixels), dtype, grid.scale, grid.zero_point, name=name)
        self.tensors.append(made)
        self.places[name], self.grids[name] = len(self.tensors) - 1, grid
        return self.places[name]

    def constant(self, name: str, array: Array, scale: Any = (), axis: int = 0) -> int:
        """Add a constant without a zero-point."""
        held = np.ascontiguousarray(array)
        made = Tensor(held.shape, held.dtype.name, scale, 0, held, name, axis)
        self.tensors.append(made)
        return len(self.tensors) - 1

    def operator(
        self, op: str, inputs: list[int], output: int, version: int, **options: Any
    ) -> None:
        """Add an operator of one output."""
        self.operators.append(Operator(op, tuple(inputs), (output,), options, version))


def to_tflite(network: IntegerNetwork) -> bytes:
    """Return the bytes of a TFLite model that computes what the network does, nearly.

    Raises ValueError naming a step that has no operator: imported operations, residual
    branches with weights, grids of fewer codes that do not end at the zero-point.
    """
    writer = Writer()
    for step in network.steps:
        match step:
            case ImageStep():
                put_image(writer, step)
            case LayerStep() if step.sum.w.ndim == 4:
                put_layer(writer, step.name, step.source, step.sum, step)
            case LayerStep():
                put_classifier(writer, step)
            case ResidualStep(skip=Shortcut() as shortcut):
                put_residual(writer, step, shortcut)
            case PoolStep():
                put_pool(writer, step)
            case _:
                raise ValueError(
                    f"{step.name}: {type(step).__name__} has no operator of TFLite here"
                )
    last = writer.places[network.steps[-1].name]
    made = Model(tuple(writer.tensors), tuple(writer.operators), (0,), (last,))
    return write_model(made)


def inexact_in_tflite(network: IntegerNetwork) -> list[str]:
    """Return a line for every step whose codes may differ in TFLite, and why."""
    lines = []
    for step in network.steps:
        why = []
        if isinstance(step, LayerStep | ResidualStep) and np.any(
            step.sum.fraction_bits
        ):
            why.append("biases are rounded to whole steps (finer_bias=False)")
        if isinstance(step, ResidualStep):
            why.append("the addition rounds both branches before their sum")
        elif isinstance(step, LayerStep | PoolStep):
            why.append(f"rounds {step.rounding} here, float32 scales and twice there")
        lines += [f"{step.name}: {reason}" for reason in why]
    return lines


def int8_grid(name: str, grid: Grid) -> Grid:
    """Return the grid whose codes end at 127; raise for more than 256 of them."""
    shift = 127 - grid.q_max
    if grid.q_min + shift < -128:
        raise ValueError(f"{name}: int8 does not hold {grid.q_min} .. {grid.q_max}")
    return Grid(grid.scale, grid.zero_point + shift, grid.q_min + shift, 127)


def activation(name: str, grid: Grid) -> int:
    """Return the clamp of codes that begin at their zero-point, or at -128."""
    if grid.q_min == -128:
        return NONE
    if grid.q_min == grid.zero_point:
        return RELU
    raise ValueError(
        f"{name}: codes from {grid.q_min} with zero-point {grid.zero_point} need a "
        "clamp that TFLite does not have; those of 8 bits, or from the zero-point, none"
    )


def put_image(writer: Writer, step: ImageStep) -> None:
    """Add the pixels, and their codes less 128."""
    scale, zero, low, high = step.grid
    dtype = "uint8" if low >= 0 else "int8"
    if (low, high) not in {(0, 255), INT8}:
        raise ValueError(f"{step.name}: pixels must have 8 bits, have {low} .. {high}")
    source = writer.codes(step.name, step.shape, step.grid, dtype)
    if dtype == "uint8":
        grid = Grid(scale, zero - 128, *INT8)
        y = writer.codes(f"{step.name}.int8", step.shape, grid)
        writer.operator("QUANTIZE", [source], y, 2)
        writer.places[step.name], writer.grids[step.name] = y, grid


def put_layer(
    writer: Writer, name: str, source: str, total: Sum, step: Any, y: Grid | None = None
) -> None:
    """Add a convolution to the codes of a step, or to those of another grid."""
    shape = step.shape
    grid = int8_grid(name, step.grid) if y is None else y
    clamp = activation(name, grid)
    x, x_grid = writer.places[source], writer.grids[source]
    w, depthwise = total.w, total.groups > 1
    c = writer.tensors[x].shape[3]
    if w.dtype != np.int8 or (depthwise and (total.groups, w.shape[1]) != (c, 1)):
        raise ValueError(f"{name}: weights must be int8, of one group or one channel")
    x, padding = pad_as_needed(writer, name, x, source, total)
    axes = (1, 2, 3, 0) if depthwise else (0, 2, 3, 1)
    scale = float32_weight_scale(total, x_grid)
    held = writer.constant(f"{name}.w", w.transpose(axes), scale, 3 * depthwise)
    bias = put_bias(writer, name, x_grid, total, np.int32)
    output = writer.codes(name, shape, grid)
    options = {
        "padding": padding,
        "stride_h": total.stride[0],
        "stride_w": total.stride[1],
        "dilation_h_factor": total.dilation[0],
        "dilation_w_factor": total.dilation[1],
        "fused_activation_function": clamp,
    }
    op = "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D"
    if depthwise:
        options["depth_multiplier"] = len(w) // c
    writer.operator(op, [x, held, bias], output, 3, **options)


def put_bias(writer: Writer, name: str, x: Grid, total: Sum, dtype: Any) -> int:
    """Add a bias in whole steps of the accumulator."""
    whole = np.rint(np.ldexp(total.bias.astype(np.float64), -total.fraction_bits))
    step = np.float32(x.scale) * float32_weight_scale(total, x)
    return writer.constant(f"{name}.b", whole.astype(dtype), step)


def pad_as_needed(
    writer: Writer, name: str, x: int, source: str, total: Sum
) -> tuple[int, int]:
    """Return the input of a convolution and the padding that has its borders.

    SAME where it makes these borders, else VALID behind a PAD by real 0.
    """
    _, h, w, c = writer.tensors[x].shape
    at = window(total.w.shape[2:], stride=total.stride, dilation=total.dilation)
    if same_padding((h, w), at) == total.padding:
        return x, SAME
    if not np.any(total.padding):
        return x, VALID
    (top, bottom), (left, right) = total.padding
    widths = np.array([[0, 0], [top, bottom], [left, right], [0, 0]], np.int32)
    size = (c, h + top + bottom, w + left + right)
    padded = writer.codes(f"{name}.padded", size, writer.grids[source])
    writer.operator("PAD", [x, writer.constant(f"{name}.widths", widths)], padded, 2)
    return padded, VALID


def put_residual(writer: Writer, step: ResidualStep, shortcut: Shortcut) -> None:
    """Add a convolution on a grid that reaches every sum that is not clamped, and ADD.

    Codes y = clamp(a + b) of real values with b within its codes: only a within
    [least y - most b, most y - least b] matters.
    """
    y = int8_grid(step.name, step.grid)
    skip = put_shortcut(writer, step, shortcut)
    b = writer.grids[f"{step.name}.skip"]
    low = y.scale * (y.q_min - y.zero_point) - b.scale * (b.q_max - b.zero_point)
    high = y.scale * (y.q_max - y.zero_point) - b.scale * (b.q_min - b.zero_point)
    scale = float(np.float32((high - low) / 255))
    branch = Grid(scale, int(np.rint(-128 - low / scale)), *INT8)
    inner = f"{step.name}.branch"
    put_layer(writer, inner, step.source, step.sum, step, branch)
    clamp = activation(step.name, y)
    output = writer.codes(step.name, step.shape, y)
    pair = [writer.places[inner], skip]
    writer.operator("ADD", pair, output, 2, fused_activation_function=clamp)


def put_shortcut(writer: Writer, step: ResidualStep, skip: Shortcut) -> int:
    """Add every stride-th pixel and channels of zeros around; return the tensor."""
    name, source = step.name, step.skip_source
    x, grid = writer.places[source], writer.grids[source]
    writer.grids[f"{name}.skip"] = grid
    _, h, w, c = writer.tensors[x].shape
    if skip.stride > 1:
        s = skip.stride
        h, w = -(-h // s), -(-w // s)
        kept = writer.codes(f"{name}.kept", (c, h, w), grid)
        limits = [
            writer.constant(f"{name}.{key}", np.array(values, np.int32))
            for key, values in (
                ("begin", (0, 0, 0, 0)),
                ("end", (0, 0, 0, 0)),
                ("strides", (1, s, s, 1)),
            )
        ]
        writer.operator("STRIDED_SLICE", [x, *limits], kept, 2, end_mask=15)
        x = kept
    if skip.channels > c:
        new = skip.channels - c
        widths = np.zeros((4, 2), np.int32)
        widths[3] = new // 2, new - new // 2
        wide = writer.codes(f"{name}.wide", (skip.channels, h, w), grid)
        held = writer.constant(f"{name}.channels", widths)
        writer.operator("PAD", [x, held], wide, 2)
        x = wide
    return x


def put_pool(writer: Writer, step: PoolStep) -> None:
    """Add the mean of every plane."""
    grid = int8_grid(step.name, step.grid)
    activation(step.name, grid)
    axes = writer.constant(f"{step.name}.axes", np.array([1, 2], np.int32))
    output = writer.codes(step.name, step.shape, grid)
    writer.operator("MEAN", [writer.places[step.source], axes], output, 2)


def put_classifier(writer: Writer, step: LayerStep) -> None:
    """Add the codes less their zero-point in 16 bits, and the products of these."""
    total, x = step.sum, writer.grids[step.source]
    if step.grid.zero_point or total.w.dtype != np.int8:
        raise ValueError(f"{step.name}: its weights and codes need zero-point 0")
    wide = Grid(x.scale, 0, *INT16)
    shape = tuple(writer.tensors[writer.places[step.source]].shape[1:])
    if len(shape) > 1:
        raise ValueError(f"{step.name}: it must read (I,), reads {shape}")
    source = writer.codes(f"{step.name}.int16", shape, wide, "int16")
    writer.operator("QUANTIZE", [writer.places[step.source]], source, 2)
    w = writer.constant(f"{step.name}.w", total.w, float32_weight_scale(total, x))
    b = put_bias(writer, step.name, x, total, np.int64)
    y = Grid(step.grid.scale, 0, *INT16)
    output = writer.codes(step.name, step.shape, y, "int16")
    writer.operator("FULLY_CONNECTED", [source, w, b], output, 11)
