"""What a runtime keeps in floats between two quantizers, as a table or as floats.

store_table   a function of one code of 8 bits: its 256 codes
store_real    any other expression that ``refqnn.deploy.real`` has: RealStep
"""

from typing import Any

import numpy as np

from refqnn.deploy.fold import Grid
from refqnn.deploy.formats.onnx_read import (
    Fixed,
    Reader,
    Real,
    Term,
    store,
    stored_as,
    unsupported_error,
)
from refqnn.deploy.operations import (
    Instruction,
    OperationStep,
    RealStep,
    dequantize32,
    evaluate,
    quantize32,
)
from refqnn.deploy.real import ELEMENTWISE
from refqnn.integer.tables import every_code


def store_table(reader: Reader, name: str, term: Term, y: Grid) -> bool:
    """Store a function of one code of 8 bits as its table."""
    program, constants, sources = program_of(reader, term)
    if len(sources) != 1 or any(v.size > 1 for v in constants.values()):
        return False
    source = reader.steps[sources[0]]
    dtype = source.grid.dtype
    if dtype.itemsize > 1 or not all(i.op in ELEMENTWISE for i in program):
        return False
    v = dequantize32(every_code(dtype), source.grid)
    with np.errstate(all="ignore"):
        table = quantize32(evaluate(program, {**constants, source.name: v}), y)
    made = ((source.name,), ("x",), term.shape, "lookup", {"table": table}, y)
    store(reader, OperationStep(name, *made))
    return True


def store_real(reader: Reader, name: str, term: Term, y: Grid) -> None:
    """Store an expression that a runtime computes in floats."""
    program, constants, sources = program_of(reader, term)
    if not sources:
        raise unsupported_error(term.node, "it reads no codes of a layer before it")
    grids = tuple(reader.steps[source].grid for source in sources)
    store(reader, RealStep(name, sources, grids, term.shape, program, constants, y))


def program_of(
    reader: Reader, term: Term
) -> tuple[tuple[Instruction, ...], dict[str, Any], tuple[str, ...]]:
    """Return the operators of an expression in order, its constants and its steps."""
    program: list[Instruction] = []
    constants: dict[str, Any] = {}
    sources: dict[str, None] = {}
    names: dict[int, str] = {}

    def name_of(value: Any, fallback: str) -> str:
        if value is None:
            return ""
        if isinstance(value, Real):
            step = stored_as(reader, value).name
            sources[step] = None
            return step
        if isinstance(value, Term):
            if id(value) not in names:
                given = tuple(
                    name_of(v, f"{value.node.output}.{i}")
                    for i, v in enumerate(value.inputs)
                )
                names[id(value)] = f"{value.node.output}.real"
                program.append(
                    Instruction(
                        value.op, given, names[id(value)], dict(value.attributes)
                    )
                )
            return names[id(value)]
        constants[fallback] = value.real() if isinstance(value, Fixed) else value
        return fallback

    name_of(term, "")
    return tuple(program), constants, tuple(sources)
