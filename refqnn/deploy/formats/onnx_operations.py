"""The operations of an imported network as ONNX operators on codes.

    moved codes       Reshape, Transpose, Gather, Pad, Clip, MaxPool
    lookup            Gather from the table, which every runtime computes exactly
    add, sub, mul     the same, from the table of all 65 536 pairs of codes
    concat            the same, a table for every input, then Concat
    ... as in onnxruntime, in the other forms: QLinearAdd, QLinearMul, QLinearConcat;
    in these forms alone: QLinearAveragePool and QLinearSoftmax

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
    onnx_type,
    window_attributes,
)
from refqnn.deploy.operations import MOVED, OperationStep, parts_of, table_of
from refqnn.deploy.steps import Step

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
    own = step.options.get("semantics") == "onnxruntime" and "shift" not in step.options
    if step.operation in MOVED:
        codes = move_codes(graph, step)
    elif not exact and own and step.operation in RUNTIME:
        codes = runtime_operator(graph, step, steps)
    elif step.operation in {"lookup", "add", "sub", "mul"}:
        codes = look_up(graph, step, [steps[name] for name in step.sources], step.name)
    elif step.operation == "concat":
        codes = concat_tables(graph, step, steps)
    else:
        raise ValueError(
            f"{step.name}: {step.operation} as {step.options.get('semantics')!r} has "
            "no form here; qoperator states those of onnxruntime"
        )
    clip_codes(graph, codes, step)


def move_codes(graph: Graph, step: OperationStep) -> str:
    """Add the operators that move codes; return the name of the moved ones."""
    x, name, options = step.sources[0], f"{step.name}.moved", step.options
    if step.operation == "reshape":
        shape = constant(graph, f"{name}.shape", [0, *options["shape"]], np.int64)
        return node(graph, "Reshape", [x, shape], name)
    if step.operation == "transpose":
        return node(graph, "Transpose", [x], name, perm=list(options["axes"]))
    if step.operation == "max_pool2d":
        return node(graph, "MaxPool", [x], name, **pool_attributes(options))
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


def look_up(graph: Graph, step: OperationStep, sources: list[Step], name: str) -> str:
    """Add Gather of the table at the codes less the smallest of their dtype.

    Of two sources x and y at x + 256 y. Raises ValueError where a code has more than 8
    bits or a constant a number for each element.
    """
    codes = table_of(step, tuple(source.grid for source in sources))
    if codes is None:
        raise ValueError(f"{step.name}: its codes fill no table of 256 or 65 536")
    name, at, least = f"{name}.entries", "", 0
    for i, source in enumerate(sources):
        least += 256**i * int(np.iinfo(dtype_of(source)).min)
        wide = node(
            graph, "Cast", [source.name], f"{name}.wide{i}", to=onnx_type(np.int32)
        )
        if i:
            by = constant(graph, f"{name}.256", 256, np.int32)
            wide = node(graph, "Mul", [wide, by], f"{name}.high")
            wide = node(graph, "Add", [at, wide], f"{name}.pair")
        at = wide
    if least:
        low = constant(graph, f"{name}.least", least, np.int32)
        at = node(graph, "Sub", [at, low], f"{name}.at")
    table = constant(graph, f"{name}.table", codes, dtype_of(step))
    return node(graph, "Gather", [table, at], name, axis=0)


def concat_tables(graph: Graph, step: OperationStep, steps: dict[str, Step]) -> str:
    """Add a table for every input, then put their codes side by side."""
    parts = []
    for i, (one, source) in enumerate(zip(parts_of(step), step.sources, strict=True)):
        parts.append(look_up(graph, one, [steps[source]], f"{step.name}.{i}"))
    axis = int(step.options["axis"])
    return node(graph, "Concat", parts, f"{step.name}.beside", axis=axis)


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
            attributes = pool_attributes(options) | {"count_include_pad": counted}
    op = RUNTIME[step.operation]
    return node(graph, op, inputs, name, domain=CONTRIB, **attributes)


def pool_attributes(options: Any) -> dict[str, Any]:
    """Return the window of a pool as ONNX writes it."""
    return window_attributes(*(options[key] for key in ("kernel", "stride", "padding")))


def source_grid(graph: Graph, name: str, step: Step) -> list[str]:
    """Return the names of scale and zero-point of the codes of a step."""
    return grid_inputs(graph, name, step.grid, dtype_of(step))


def grid_inputs(graph: Graph, name: str, grid: Grid, dtype: Any) -> list[str]:
    """Return the names of scale and zero-point of a grid."""
    return [
        constant(graph, f"{name}.scale", grid.scale, np.float32),
        constant(graph, f"{name}.zero_point", grid.zero_point, dtype),
    ]
