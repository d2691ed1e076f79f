"""Operators of a TFLite model that are no sums of constant weights.

    ADD, SUB, MUL, CONCATENATION, SOFTMAX    ``refqnn.integer`` with semantics "tflite",
                       sums and products of XNNPACK with "xnnpack"
    AVERAGE_POOL_2D    round(sum q / n), ties away from 0, padding not counted
    BATCH_MATMUL       sums, requantized by (s_x s_y in float32) / s
    functions of one code    tables (``tflite_tables``)

Means stand in ``tflite_means``.
"""

import math
from dataclasses import replace
from typing import Any

import numpy as np

from refqnn import integer
from refqnn.deploy.build import FLOAT32
from refqnn.deploy.formats.tflite_graph import (
    Node,
    add_step,
    axis_of,
    clamp,
    grid_of,
    move_codes,
    planes,
    shape_of,
    store,
)
from refqnn.deploy.formats.tflite_layers import plane_shape, window_of
from refqnn.deploy.formats.tflite_tables import code_table
from refqnn.deploy.operations import OperationStep
from refqnn.deploy.steps import ImageStep
from refqnn.geometry import output_size
from refqnn.integer import quantize_multiplier

#: bytes of all tables, beyond which a model is refused
MOST_TABLES = 2**28
#: what functions of one code clamp to, in real numbers
CLAMPS = {
    "RELU": (0.0, np.inf),
    "RELU6": (0.0, 6.0),
    "RELU_N1_TO_1": (-1.0, 1.0),
}


def binary(node: Node) -> None:
    """x, y: codes of two steps, or of one and a constant"""
    op, y_grid = node.operator.op.lower(), node.clamped_grid()
    options: dict[str, Any] = {}
    sources, arguments, shapes = [], [], []
    rank = len(node.output.shape)
    for at, key in enumerate("xy"):
        t = node.tensor(at)
        if t.data is None:
            source = node.source(at)
            grid = source.grid
            sources.append(source.name)
            arguments.append(key)
            if len(t.shape) != rank:
                raise node.refusal(f"inputs must have {rank} axes, one has {t.shape}")
            shapes.append((1, *source.shape))
        else:
            grid = grid_of(t, str(node))
            wide = t.data.reshape(*(1,) * (rank - t.data.ndim), *t.data.shape)
            options[key] = np.ascontiguousarray(planes(wide))
            shapes.append(options[key].shape)
        options |= {f"{key}_scale": grid.scale, f"{key}_zero_point": grid.zero_point}
    if not sources:
        raise node.refusal("one input must be computed")
    check_powers_of_two(node, [options["x_scale"], options["y_scale"], y_grid.scale])
    semantics = sum_semantics(node, shapes)
    options |= y_grid._asdict() | {"semantics": semantics}
    try:
        shape = np.broadcast_shapes(*shapes)
    except ValueError:
        raise node.refusal(f"{shapes} do not broadcast") from None
    names, keys = tuple(sources), tuple(arguments)
    step = OperationStep(node.name, names, keys, shape[1:], op, options, y_grid)
    grids = [node.reader.steps[name].grid for name in names]
    ones = [np.zeros((1,) * rank, grid.dtype) for grid in grids]
    constants = {
        key: options[key][(slice(1),) * rank] for key in "xy" if key in options
    }
    trial = replace(step, options=options | constants)
    try:  # scales may be out of the reach of a shift: one code tells
        trial.forward(dict(zip(names, ones, strict=True)), integer)
    except ValueError as error:
        raise node.refusal(str(error)) from error
    store(node, step)


def left_semantics(node: Node) -> str:
    """Return the semantics of what no delegate takes."""
    semantics = node.reader.kernels.semantics
    return "tflite" if semantics == "xnnpack" else semantics


def sum_semantics(node: Node, shapes: list[Any]) -> str:
    """Return the semantics of a sum or product of codes."""
    kernels, count = node.reader.kernels, math.prod(shapes[0])
    if node.output.dtype != "int16":
        return kernels.semantics
    by_element = shapes[0] == shapes[1] and node.operator.op != "MUL"
    if not (kernels.vectors and by_element) or count < 16:
        return left_semantics(node)
    if count % 16:
        raise node.refusal("these kernels round what vectors of 16 leave otherwise")
    return "tflite-avx2"


def check_powers_of_two(node: Node, scales: list[float]) -> None:
    """Raise for sums of 16-bit codes on scales 2^k, which are shifted, not multiplied.

    Those of other scales, or with the option pot_scale_int16 off, are multiplied.
    """
    if node.output.dtype != "int16" or node.operator.op == "MUL":
        return
    powers = all(math.frexp(s)[0] == 0.5 for s in scales)
    if powers and node.operator.options.get("pot_scale_int16", 1):
        raise node.refusal(
            "codes of 16 bits on scales 2^k need pot_scale_int16 = false"
        )


def concatenation(node: Node) -> None:
    """Codes of steps side by side; those of uint8 may lie on other grids."""
    sources = [node.source(at) for at in range(len(node.operator.inputs))]
    y, rank = node.clamped_grid(), len(node.output.shape)
    axis = axis_of(node, int(node.option("axis")), rank)
    grids = {source.grid[:2] for source in sources}
    if axis == 0 or (node.output.dtype != "uint8" and grids != {y[:2]}):
        raise node.refusal(
            "images must stay apart, and codes other than uint8 lie on one grid"
        )
    shapes = [list(source.shape) for source in sources]
    total = sum(shape[axis - 1] for shape in shapes if len(shape) >= axis)
    for shape in shapes:
        shape[axis - 1 : axis] = [total]
    if any(shape != shapes[0] for shape in shapes):
        raise node.refusal(f"shapes differ beside axis {axis}")
    options = {
        "scales": tuple(source.grid.scale for source in sources),
        "zero_points": tuple(source.grid.zero_point for source in sources),
        "axis": axis,
        "semantics": "tflite",
        **y._asdict(),
    }
    names = tuple(source.name for source in sources)
    whole = tuple(shapes[0])
    store(node, OperationStep(node.name, names, ("",), whole, "concat", options, y))


def pool_2d(node: Node) -> None:
    """x: (1, H, W, C)  ->  the mean or the maximum of every window"""
    source, y = node.source(), node.clamped_grid()
    c, h, w = plane_shape(node, source)
    kernel = int(node.option("filter_height")), int(node.option("filter_width"))
    at = window_of(node, kernel, (h, w))
    shape = (c, *output_size((h, w), at))
    options: dict[str, Any] = {
        "kernel": at.kernel,
        "stride": at.stride,
        "padding": at.padding,
    }
    if source.grid[:2] != y[:2]:
        raise node.refusal("codes must come in and go out on one grid")
    if node.operator.op == "AVERAGE_POOL_2D":
        options |= {"x_scale": y.scale, "x_zero_point": y.zero_point}
        options |= y._asdict() | {"semantics": "tflite"}
        name = (source.name,)
        step = OperationStep(node.name, name, ("x",), shape, "mean_pool2d", options, y)
    else:
        step = move_codes(node, source, "max_pool2d", shape, options)
        if (y.q_min, y.q_max) != node.grid()[2:]:
            step = replace(step, name=f"{node.name}.unclamped")
            node.reader.steps[step.name] = step
            low, high = max(y.q_min, step.grid.q_min), min(y.q_max, step.grid.q_max)
            ends = {"q_min": low, "q_max": high}
            # the dtype stays that of the source
            grid = step.grid
            step = OperationStep(
                node.name, (step.name,), ("x",), shape, "clip", ends, grid
            )
    store(node, step)


def softmax(node: Node) -> None:
    """x: (1, ..., C)  ->  probabilities of the last axis"""
    source, y, rank = node.source(), node.grid(), len(node.tensor(0).shape)
    if float(node.option("beta")) != 1.0:
        raise node.refusal("beta must be 1")
    options = {
        "axis": axis_of(node, rank - 1, rank),
        "x_scale": source.grid.scale,
        "x_zero_point": source.grid.zero_point,
        "semantics": left_semantics(node),
        **y._asdict(),
    }
    name, shape = (source.name,), source.shape
    wide = node.output.dtype == "int16"
    if node.reader.kernels.vectors and not wide:
        options["semantics"] = "table"
    if (y.scale, y.zero_point) != ((2.0**-15, 0) if wide else (1 / 256, y.q_min)):
        raise node.refusal(
            "its output must have scale 1/256 and the least zero-point, of int16 "
            "scale 1/32768 and zero-point 0"
        )
    if node.tensor(0).dtype != node.output.dtype:
        raise node.refusal("it keeps the type of its codes")
    store(node, OperationStep(node.name, name, ("x",), shape, "softmax", options, y))


def function(node: Node) -> None:
    """x: (...)  ->  the code of a function of every code, by a table"""
    source = node.source()
    wide = node.tensor(0).dtype == "int16"
    if node.tensor(0).dtype != node.output.dtype and node.operator.op != "QUANTIZE":
        raise node.refusal("it keeps the type of its codes")
    check_fixed_grid(node, wide=wide)
    ends = CLAMPS.get(node.operator.op, (-np.inf, np.inf))
    y = made_on = clamp(node.grid(), *ends)
    if node.operator.op == "RELU6" and node.reader.kernels.micro:
        y, made_on = node.grid(), clamp(source.grid, *ends)
    try:
        micro = node.reader.kernels.micro
        real = np.float64 if micro else np.float32
        options = {"rounding": table_rounding(node), "real": real, "wide": wide}
        options |= {"vectors": node.reader.kernels.vectors, **node.operator.options}
        table = code_table(node.operator.op, source.grid, made_on, options)
        table = table.astype(y.dtype)  # of ``made_on`` it may be unsigned
    except (ValueError, KeyError) as error:
        raise node.refusal(str(error)) from error
    node.reader.tables += table.nbytes
    if node.reader.tables > MOST_TABLES:
        raise node.refusal(f"tables of functions take more than {MOST_TABLES} bytes")
    name, shape = (source.name,), source.shape
    made = (node.name, name, ("x",), shape, "lookup", {"table": table}, y)
    store(node, OperationStep(*made))


def check_fixed_grid(node: Node, *, wide: bool) -> None:
    """Raise for a grid that kernels do not read, Micro's or those of 16-bit codes."""
    x, y = node.source().grid, node.grid()
    grids = {"LOGISTIC": (2.0**-8, -128), "TANH": (2.0**-7, 0)}
    if wide:
        grids = dict.fromkeys(grids, (2.0**-15, 0))
        if x.zero_point or (y.zero_point and node.output.dtype == "int16"):
            raise node.refusal("zero-points of 16-bit codes must be 0")
    fixed = grids.get(node.operator.op)
    fixes = wide or node.reader.kernels.micro
    if fixes and fixed and (y.scale, y.zero_point) != fixed:
        raise node.refusal(
            f"these kernels give scale {fixed[0]} and zero-point {fixed[1]} alone"
        )


def table_rounding(node: Node) -> str:
    """Return the rounding of QUANTIZE; no delegate takes one between two types."""
    kernels = node.reader.kernels
    if node.tensor(0).dtype == "int16":
        return kernels.plain
    same = node.tensor(0).dtype == node.output.dtype
    return kernels.quantize if same else kernels.left


def quantize(node: Node) -> None:
    """Real numbers or codes  ->  codes; of the model's input, its image"""
    reader, number = node.reader, node.number(0)
    if number in reader.model.inputs and node.tensor(0).dtype == "float32":
        add_image(node, node.operator.outputs[0])
    elif node.tensor(0).dtype != "float32":
        if (node.tensor(0).dtype, node.output.dtype) == ("int16", "uint8"):
            raise node.refusal("codes of 16 bits become those of int8 or int16")
        rest = math.prod(node.output.shape) % 16
        if rest and "half_up" in table_rounding(node):
            raise node.refusal("these kernels round what vectors of 16 leave otherwise")
        function(node)
    elif number in reader.values:
        source = reader.steps[reader.values[number]]
        options = {"shape": source.shape}
        store(node, move_codes(node, source, "reshape", source.shape, options))
    else:
        raise node.refusal("it must read the input, codes or dequantized codes")


def add_image(node: Node, number: int) -> None:
    """Make the codes of the model's input, or of its quantizer, the first step."""
    reader, t = node.reader, node.reader.model.tensors[number]
    shape, name = shape_of(t, str(node)), reader.names[number]
    if len(shape) not in {1, 3}:
        raise node.refusal(f"the input must be (1, H, W, C) or (1, I), is {t.shape}")
    if any(isinstance(step, ImageStep) for step in reader.steps.values()):
        raise node.refusal("the input is quantized twice")
    reader.steps[name] = ImageStep(name, shape, grid_of(t, str(node)))
    reader.values[number] = name


def dequantize(node: Node) -> None:
    """Codes  ->  real numbers, whose codes stand for them"""
    node.reader.values[node.operator.outputs[0]] = node.source().name


def batch_matmul(node: Node) -> None:
    """x: (1, I, K), y: (1, K, J)  ->  (1, I, J)"""
    grids, sources, shapes = [], [], []
    for at, key in enumerate(("adj_x", "adj_y")):
        t, name = node.tensor(at), f"{node.name}.{'xy'[at]}"
        if len(t.shape) != 3 or t.dtype != "int8" or t.data is not None:
            raise node.refusal(
                "inputs must be computed int8 codes (1, I, K), (1, K, J)"
            )
        source = node.source(at)
        if node.option(key):
            turned = (source.shape[1], source.shape[0])
            axes = {"axes": (0, 2, 1)}
            source = add_step(node, name, source, "transpose", turned, axes)
        grids.append(source.grid)
        sources.append(source.name)
        shapes.append(source.shape)
    if shapes[0][1] != shapes[1][0]:
        raise node.refusal(f"{shapes[0]} and {shapes[1]} do not multiply")
    y = node.grid()
    product = np.float32(grids[0].scale) * np.float32(grids[1].scale)
    kernels = node.reader.kernels
    # XNNPACK takes the second for weights, which have no zero-point
    taken = kernels.semantics == "xnnpack" and grids[1].zero_point == 0
    ratio = float(product) / y.scale
    if taken:
        ratio = float(product / np.float32(y.scale))
    multiplier, shift = quantize_multiplier(ratio)
    rescaling = {k: v for k, v in y._asdict().items() if k != "scale"}
    rescaling |= {"multiplier": multiplier, "shift": shift}
    rescaling["rounding"] = FLOAT32 if taken else kernels.plain
    options = {
        "a_zero_point": grids[0].zero_point,
        "b_zero_point": grids[1].zero_point,
        "requantize": rescaling,
    }
    shape = (shapes[0][0], shapes[1][1])
    made = (node.name, tuple(sources), ("a", "b"), shape, "matmul", options, y)
    store(node, OperationStep(*made))
