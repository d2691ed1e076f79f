"""The steps of an imported network that are no sum of products.

    OperationStep   codes = an operation of ``refqnn.integer``, or codes rearranged
    RealStep        codes = quantize(f(dequantized codes)): in floats, as in a runtime

Every step carries its semantics: ``options`` holds the grids, windows and the form of
the rounding that the operation is called with.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, final

import numpy as np

from refqnn import integer
from refqnn._types import Array, Float, Int
from refqnn.deploy.fold import Grid
from refqnn.deploy.real import REAL
from refqnn.integer.affine import quantize
from refqnn.integer.checks import code_dtype
from refqnn.integer.tables import every_code

Shape = tuple[int, ...]
Values = Mapping[str, Array]

#: codes moved, whose values no step changes
MOVED = ("reshape", "transpose", "pad", "clip", "take", "resize", "max_pool2d")
#: operations whose sums the option ``requantize`` makes codes of
SUMS = ("conv_transpose2d", "matmul")
#: operations of ``refqnn.integer`` that a step may name
OPERATIONS = (
    *MOVED,
    *SUMS,
    "resize_bilinear",
    "add",
    "sub",
    "mul",
    "concat",
    "lookup",
    "mean_pool2d",
    "softmax",
)


@final
@dataclass(frozen=True, eq=False)
class OperationStep:
    """codes = operation(the codes of its sources, options)

    Sums become codes by ``refqnn.integer.requantize`` with the option ``requantize``.
    """

    name: str
    sources: tuple[str, ...]
    #: the arguments of the operation that the sources are; "" for a list of them
    arguments: tuple[str, ...]
    shape: Shape
    operation: str
    options: Mapping[str, Any]
    grid: Grid

    def forward(self, values: Values, integer: Any) -> dict[str, Array]:
        """sources: (N, ...)  ->  codes: (N, *shape)

        Raises ValueError where the backend does not have the operation.
        """
        codes = [values[source] for source in self.sources]
        shift, options = self.options.get("shift", 0), dict(self.options)
        rescaling = options.pop("requantize", None)
        if shift:  # of int8 codes that a runtime computes with as uint8
            del options["shift"]
            codes = [(c.astype(np.int16) + shift).astype(np.uint8) for c in codes]
        function = getattr(integer, self.operation, None)
        if function is None:
            raise ValueError(f"{self.name}: this backend has no {self.operation!r}")
        if self.arguments == ("",):
            y = function(codes, **options)
        else:
            y = function(**dict(zip(self.arguments, codes, strict=True)), **options)
        if rescaling is not None:
            y = integer.requantize(y, **rescaling)
        if shift:
            y = (y.astype(np.int16) - shift).astype(self.grid.dtype)
        return {self.name: y}


def parts_of(step: OperationStep) -> Iterator[OperationStep]:
    """Yield a concatenation of each source alone: it is brought to the common grid."""
    for i, name in enumerate(step.sources):
        one = {key: step.options[key][i : i + 1] for key in ("scales", "zero_points")}
        yield replace(step, sources=(name,), options={**step.options, **one})


def table_of(step: OperationStep, grids: tuple[Grid, ...]) -> Int | None:
    """Return the codes of a step for all codes of one source, or of a pair of them.

    Entries (256,) or (65 536,): the code of the first source less the smallest of its
    dtype, plus 256 times that of the second. None where codes have more bits, and where
    a constant has a number for each element.
    """
    constants = [v for v in step.options.values() if isinstance(v, np.ndarray)]
    dtypes = [grid.dtype for grid in grids]
    one = step.operation == "lookup" or all(v.size == 1 for v in constants)
    if not one or any(dtype.itemsize > 1 for dtype in dtypes):
        return None
    every = [every_code(dtype) for dtype in dtypes]
    if len(every) > 1:
        every = [np.tile(every[0], 256), np.repeat(every[1], 256)]
    each = (-1, *(1,) * len(step.shape))
    values = dict(zip(step.sources, (q.reshape(each) for q in every), strict=True))
    return np.asarray(step.forward(values, integer)[step.name].reshape(-1))


class Instruction(NamedTuple):
    """One operator of ONNX on real numbers, its inputs and its output by name."""

    op: str
    inputs: tuple[str, ...]
    output: str
    attributes: Mapping[str, Any]


@final
@dataclass(frozen=True, eq=False)
class RealStep:
    """codes = clip(round(f(s (q - z)) / scale) + zero_point), f in real numbers

    What a runtime does not fuse stays in float32 there. Here f is computed in float64
    and rounded to float32 once: codes agree except where the runtime's own roundings
    cross a tie.
    """

    name: str
    sources: tuple[str, ...]
    grids: tuple[Grid, ...]  # of the sources
    shape: Shape
    program: tuple[Instruction, ...]
    constants: Mapping[str, Array]
    grid: Grid

    def forward(self, values: Values, _integer: Any) -> dict[str, Array]:
        """sources: (N, ...)  ->  codes: (N, *shape)"""
        reals = {
            name: dequantize32(values[name], grid)
            for name, grid in zip(self.sources, self.grids, strict=True)
        }
        y = evaluate(self.program, {**self.constants, **reals})
        return {self.name: quantize32(y, self.grid)}


def evaluate(program: tuple[Instruction, ...], values: Mapping[str, Array]) -> Float:
    """Run the instructions in float64 and return the output of the last."""
    known = dict(values)
    for op, inputs, output, attributes in program:
        given = [known[name] if name else None for name in inputs]
        known[output] = REAL[op](*given, **attributes)
    return known[program[-1].output]


def dequantize32(q: Int, grid: Grid) -> Float:
    """float32(s) (q - z), rounded to float32 as a runtime does, in float64"""
    steps = (q.astype(np.int64) - grid.zero_point).astype(np.float32)
    return (np.float32(grid.scale) * steps).astype(np.float64)


def quantize32(y: Float, grid: Grid) -> Int:
    """clip(round(float32(y) / s) + z), the smallest dtype that holds the full codes"""
    z, low, high = grid.zero_point, grid.q_min, grid.q_max
    with np.errstate(over="ignore"):
        q = quantize(
            y.astype(np.float32),
            np.float32(grid.scale),
            z,
            q_min=min(low, z),
            q_max=max(high, z),
        )
    return np.clip(q, low, high).astype(code_dtype(low, high))
