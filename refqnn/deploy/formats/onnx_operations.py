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
    grid_constants,
    node,
    onnx_type,
    rearrange,
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
    if step.operation == "clip":
        return x
    if step.operation == "resize":
        raise ValueError(f"{step.name}: resize has no operator of ONNX")
    if step.operation == "max_pool2d":
        return node(graph, "MaxPool", [x], name, **pool_attributes(options))
    return rearrange(graph, x, name, options, step.grid.dtype)


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
        least += 256**i * int(np.iinfo(source.grid.dtype).min)
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
    table = constant(graph, f"{name}.table", codes, step.grid.dtype)
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
    y = grid_constants(graph, f"{step.name}.y", step.grid)
    named = dict(zip(step.arguments, step.sources, strict=False))
    attributes: dict[str, Any] = {}
    if step.operation == "concat":
        inputs = [*y]
        for i, source in enumerate(step.sources):
            grid = steps[source].grid
            inputs += [source, *grid_constants(graph, f"{name}.{i}", grid)]
        attributes = {"axis": options["axis"]}
    elif step.operation in {"add", "mul"}:
        inputs = []
        for key in "xy":
            place = f"{name}.{key}"
            if key in named:
                x, grid = named[key], steps[named[key]].grid
            else:
                held, info = options[key], np.iinfo(options[key].dtype)
                x = constant(graph, place, held, held.dtype)
                s, z = options[f"{key}_scale"], options[f"{key}_zero_point"]
                grid = Grid(s, z, int(info.min), int(info.max))
            inputs += [x, *grid_constants(graph, place, grid)]
        inputs += y
    else:
        source = step.sources[0]
        x_grid = grid_constants(graph, f"{name}.x", steps[source].grid)
        inputs = [source, *x_grid, *y]
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
