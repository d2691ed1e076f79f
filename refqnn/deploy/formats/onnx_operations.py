"""The operations of an imported network as ONNX operators on codes.

    moved codes       Reshape, Transpose, Gather, Pad, Clip, MaxPool
    lookup            Gather from the table, which every runtime computes exactly
    add, mul, ...     QLinearAdd, QLinearMul, QLinearConcat, QLinearAveragePool and
                      QLinearSoftmax of onnxruntime; not in the exact form

Codes that are restricted to fewer than their dtype holds are clipped behind.
"""

from typing import Any

import numpy as np

from refqnn.deploy.fold import Grid
from refqnn.deploy.formats.onnx_graph import (
    Graph,
    clip_codes,
    constant,
    dtype_of,
    node,
)
from refqnn.deploy.operations import MOVED, OperationStep
from refqnn.deploy.steps import Step
from refqnn.integer import code_dtype

CONTRIB = "com.microsoft"
#: operations that onnxruntime has as operators of its own, by their names there
RUNTIME = {
    "add": "QLinearAdd",
    "mul": "QLinearMul",
    "concat": "QLinearConcat",
    "mean_pool2d": "QLinearAveragePool",
    "softmax": "QLinearSoftmax",
}


def operation_step(
    graph: Graph, step: OperationStep, steps: dict[str, Step], *, exact: bool
) -> None:
    """Add the operator of a step.

    Raises ValueError, naming the step, for semantics that no operator has, and in the
    exact form for operators of one runtime alone.
    """
    if step.operation in MOVED:
        clip_codes(graph, move_codes(graph, step), step)
    elif step.operation == "lookup":
        clip_codes(graph, look_up(graph, step, steps[step.sources[0]]), step)
    elif exact or step.options.get("semantics") != "onnxruntime" or (
        "shift" in step.options
    ):  # fmt: skip
        raise ValueError(
            f"{step.name}: {step.operation} as {step.options.get('semantics')!r} has "
            "no form here; qoperator states those of onnxruntime"
        )
    else:
        clip_codes(graph, runtime_operator(graph, step, steps), step)


def move_codes(graph: Graph, step: OperationStep) -> str:
    """Add the operators that move codes; return the name of the moved ones."""
    x, name, options = step.sources[0], f"{step.name}.moved", step.options
    if step.operation == "reshape":
        shape = constant(graph, f"{name}.shape", [0, *options["shape"]], np.int64)
        return node(graph, "Reshape", [x, shape], name)
    if step.operation == "transpose":
        return node(graph, "Transpose", [x], name, perm=list(options["axes"]))
    if step.operation == "max_pool2d":
        return node(graph, "MaxPool", [x], name, **window_attributes(options))
    if step.operation == "pad":
        before, after = zip((0, 0), *options["widths"], strict=True)
        pads = constant(graph, f"{name}.pads", [*before, *after], np.int64)
        value = constant(graph, f"{name}.value", options["value"], dtype_of(step))
        return node(graph, "Pad", [x, pads, value], name)
    for i, (axis, indices) in enumerate(options.get("picks", ())):
        at = constant(graph, f"{name}.{i}.indices", indices, np.int64)
        x = node(graph, "Gather", [x, at], f"{name}.{i}", axis=axis)
    if step.operation not in {"take", "clip"}:
        raise ValueError(f"{step.name}: {step.operation} has no operator of ONNX")
    return x


def look_up(graph: Graph, step: OperationStep, source: Step) -> str:
    """Add Gather of the table at the codes less the smallest of their dtype."""
    name = f"{step.name}.entries"
    wide = node(graph, "Cast", list(step.sources), f"{name}.wide", to=7)  # int64
    low = int(np.iinfo(code_dtype(*source.grid[2:])).min)
    if low:
        least = constant(graph, f"{name}.least", low, np.int64)
        wide = node(graph, "Sub", [wide, least], f"{name}.at")
    table = constant(graph, f"{name}.table", step.options["table"], dtype_of(step))
    return node(graph, "Gather", [table, wide], name, axis=0)


def runtime_operator(graph: Graph, step: OperationStep, steps: dict[str, Step]) -> str:
    """Add an operator of onnxruntime; return the name of its codes."""
    name, options = f"{step.name}.rounded", step.options
    y = grid_inputs(graph, f"{step.name}.y", step.grid, dtype_of(step))
    named = dict(zip(step.arguments, step.sources, strict=False))
    attributes: dict[str, Any] = {}
    if step.operation == "concat":
        inputs = [*y]
        for i, source in enumerate(step.sources):
            inputs += [source, *source_grid(graph, f"{name}.{i}", steps[source])]
        attributes = {"axis": options["axis"]}
    elif step.operation in {"add", "mul"}:
        inputs = []
        for key in "xy":
            if key in named:
                grid = source_grid(graph, f"{name}.{key}", steps[named[key]])
                inputs += [named[key], *grid]
                continue
            held = options[key]
            s, z = options[f"{key}_scale"], options[f"{key}_zero_point"]
            inputs.append(constant(graph, f"{name}.{key}", held, held.dtype))
            fixed = Grid(s, z, 0, 0)
            inputs += grid_inputs(graph, f"{name}.{key}", fixed, held.dtype)
        inputs += y
    else:
        source = step.sources[0]
        inputs = [source, *source_grid(graph, f"{name}.x", steps[source]), *y]
        if step.operation == "softmax":
            attributes = {"axis": options["axis"], "opset": 13}
        else:
            counted = int(options["count_include_pad"])
            attributes = window_attributes(options) | {"count_include_pad": counted}
    op = RUNTIME[step.operation]
    return node(graph, op, inputs, name, domain=CONTRIB, **attributes)


def window_attributes(options: Any) -> dict[str, Any]:
    """Return kernel, strides and pads of a pool as ONNX writes them."""
    (top, bottom), (left, right) = options["padding"]
    return {
        "kernel_shape": list(options["kernel"]),
        "strides": list(options["stride"]),
        "pads": [top, left, bottom, right],
    }


def source_grid(graph: Graph, name: str, step: Step) -> list[str]:
    """Return the names of scale and zero-point of the codes of a step."""
    return grid_inputs(graph, name, step.grid, dtype_of(step))


def grid_inputs(graph: Graph, name: str, grid: Grid, dtype: Any) -> list[str]:
    """Return the names of scale and zero-point of a grid."""
    return [
        constant(graph, f"{name}.scale", grid.scale, np.float32),
        constant(graph, f"{name}.zero_point", grid.zero_point, dtype),
    ]
