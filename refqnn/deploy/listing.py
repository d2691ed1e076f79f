"""An integer network as text: one line per sum of products, and what it means."""

from collections.abc import Iterable, Iterator

from refqnn._types import Array
from refqnn.deploy.gated import CodedStep, FloatStep, GatedStep
from refqnn.deploy.operations import OperationStep, RealStep
from refqnn.deploy.steps import (
    ImageStep,
    PoolStep,
    ResidualStep,
    Shortcut,
    Step,
    Sum,
    with_branches,
)

HEAD = (
    "layer",
    "operation",
    "weights",
    "bits",
    "output",
    "frac",
    "acc",
    "multiplier",
    "shift",
    "codes",
    "zero",
    "scale",
)
MEANING = """real = scale (code - zero), acc = 2^frac sum + bias
code = zero + round(multiplier 2^(shift - 31) acc), clipped to codes"""
LEFT = ("layer", "operation", "weights", "output")


def listing(steps: Iterable[Step]) -> str:
    """Return the table of all steps, ranges over channels as ``least..most``.

    bits: of a weight; frac: f, the bits of a bias below one step of the sum of
    products; acc: signed bits that hold every accumulator; zero: the code of 0; scale:
    what one code is worth. A line that begins with + is added before the rounding.
    """
    rows = [HEAD, *(row for step in with_branches(steps) for row in rows_of(step))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if name in LEFT else cell.rjust(width)
            for name, cell, width in zip(HEAD, row, widths, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join([*lines, "", MEANING])


def rows_of(step: Step) -> Iterator[tuple[str, ...]]:
    """Yield the lines of one step: its sum, and the skip that joins it."""
    stored = (
        f"{step.grid.q_min}..{step.grid.q_max}",
        str(step.grid.zero_point),
        f"{step.grid.scale:.6g}",
    )
    out = "x".join(map(str, step.shape))
    if isinstance(step, ImageStep):
        yield (step.name, "pixels", "", "", out, "", "", "", "", *stored)
        return
    if isinstance(step, FloatStep | CodedStep | GatedStep):
        yield float_row(step, out)
        return
    if isinstance(step, OperationStep | RealStep):
        text = operation_text(step)
        yield (step.name, text, "", "", out, "", "", "", "", *stored)
        return
    scaling = (span(step.multiplier), span(step.shift))
    if isinstance(step, PoolStep):
        acc = str(step.accumulator_bits)
        yield (step.name, "sum of planes", "", "", out, "", acc, *scaling, *stored)
        return
    yield (step.name, *sum_cells(step.sum, out), *scaling, *stored)
    if isinstance(step, ResidualStep):
        yield skip_row(step, out)


def skip_row(step: ResidualStep, out: str) -> tuple[str, ...]:
    """Return the line of the branch that is added before the rounding."""
    scaling = (span(step.skip_multiplier), span(step.shift), "", "", "")
    if isinstance(step.skip, Sum):
        return (f"+ {step.skip.name}", *sum_cells(step.skip, out), *scaling)
    return (
        f"+ {step.skip.name}",
        shortcut_text(step.skip),
        "",
        "",
        out,
        "",
        "",
        *scaling,
    )


def float_row(step: FloatStep | CodedStep | GatedStep, out: str) -> tuple[str, ...]:
    """Return the line of a step whose result is a real number or a decision."""
    weights, bits = "", ""
    if isinstance(step, CodedStep):
        weights, bits = "x".join(map(str, step.w.shape)), str(step.bits)
        text = f"codes, conv ({step.source})"
    elif isinstance(step, FloatStep):
        text = f"float {step.op} ({', '.join(step.sources)})"
    else:
        text = f"one of {step.options} bits ({', '.join(step.sources)})"
    return (step.name, text, weights, bits, out, "", "", "", "", "real", "", "")


def sum_cells(total: Sum, out: str) -> tuple[str, ...]:
    """Return operation, weights, bits, output and accumulator width of a layer."""
    shape = "x".join(map(str, total.w.shape))
    return (
        operation(total),
        shape,
        str(total.weight_bits),
        out,
        span(total.fraction_bits),
        str(total.accumulator_bits),
    )


def operation(total: Sum) -> str:
    """Name the operation of a layer with its window, such as ``conv 3x3 /2x2``."""
    if total.w.ndim == 2:
        return "linear"
    h, w = total.w.shape[2:]
    stride = "" if total.stride == (1, 1) else " /" + "x".join(map(str, total.stride))
    return f"conv {h}x{w}{stride}"


def operation_text(step: OperationStep | RealStep) -> str:
    """Name an operation, its form and the codes that it reads."""
    sources = ", ".join(step.sources)
    if isinstance(step, RealStep):
        ops = " ".join(instruction[0] for instruction in step.program)
        return f"float {ops} ({sources})"
    form = step.options.get("semantics", "")
    return " ".join(word for word in (step.operation, form, f"({sources})") if word)


def shortcut_text(skip: Shortcut) -> str:
    """Name the operation of a shortcut: ``codes``, or ``codes /2, padded``."""
    return "codes" if skip.stride == 1 else f"codes /{skip.stride}, padded"


def span(values: Array) -> str:
    """Return ``least..most``, or the one value.

    >>> import numpy as np
    >>> span(np.array([3, 1, 2])), span(np.array([7, 7]))
    ('1..3', '7')
    """
    least, most = values.min(), values.max()
    return f"{least}" if least == most else f"{least}..{most}"
