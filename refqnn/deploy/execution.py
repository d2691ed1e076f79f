"""An integer network as programs of ``refqnn.fast``: planned once, few calls a run.

    sums, pools               steps of the machine
    functions of one code     the table of its 256 values, which the step computes once
    functions of two codes    the table of all 65 536 pairs
    codes moved               the map of places, from the step on indices

Steps that the machine lacks run by themselves between two programs. Values are those
that the steps compute, bit for bit; accumulators are not kept.
"""

from typing import Any, NamedTuple

import numpy as np

from refqnn import fast, integer
from refqnn._types import Array, Int
from refqnn.deploy.fold import Grid
from refqnn.deploy.operations import OperationStep, parts_of, table_of
from refqnn.deploy.steps import (
    REAL_ROUNDING,
    LayerStep,
    PoolStep,
    ResidualStep,
    Shortcut,
    Step,
    Sum,
    sources_of,
)
from refqnn.geometry import Window

#: operations on one code or two, whatever their place
OF_CODES = ("add", "sub", "mul", "lookup", "clip")
#: operations whose results are codes of the source
PLACED = ("reshape", "transpose", "pad", "take", "resize")


class Part(NamedTuple):
    """A program, the values that it reads and those that later steps read of it."""

    program: Any
    sources: tuple[str, ...]
    results: tuple[str, ...]


def plan_of(steps: tuple[Step, ...]) -> tuple[Part | Step, ...]:
    """Translate as many steps as the machine has, in runs as long as possible."""
    by_name = {step.name: step for step in steps}
    parts: list[Part | Step] = []
    current = Translation(by_name)
    for i, step in enumerate(steps[1:], 1):
        try:
            current.add(step)
        except fast.program.UnsupportedError:
            parts += [*current.part(steps[i:]), step]
            current = Translation(by_name)
    return (*parts, *current.part(()))


def run(
    plan: tuple[Part | Step, ...], steps: tuple[Step, ...], images: Array, integer: Any
) -> Array:
    """images: (N, C, H, W)  ->  the codes of the last step; ``integer`` as for steps"""
    values = {steps[0].name: images}
    shapes = {step.name: step.shape for step in steps}
    for part in plan:
        if not isinstance(part, Part):
            values |= part.forward(values, integer)
            continue
        results = part.program.run(*(values[name] for name in part.sources))
        for name, y in zip(part.results, results, strict=True):
            values[name] = y.reshape(len(images), *shapes[name])
    return values[steps[-1].name]


class Translation:
    """A program that grows, and the tensor of every step by its name."""

    def __init__(self, by_name: dict[str, Step]) -> None:
        self.by_name, self.twin = by_name, fast.program
        self.program = self.twin.Program()
        self.tensors: dict[str, int] = {}
        self.loaded: list[str] = []

    def part(self, later: tuple[Step, ...]) -> list[Part]:
        """Hand out what later steps read, or the last of all; [] where nothing is."""
        names = {name for step in later for name in sources_of(step)}
        names.add(list(self.by_name)[-1])
        results = [n for n in self.tensors if n in names and n not in self.loaded]
        for name in results:
            self.program.store(self.tensors[name])
        return [Part(self.program, tuple(self.loaded), tuple(results))][: len(results)]

    def tensor(self, name: str) -> int:
        """Return the tensor of a step, loaded where an earlier part computed it."""
        if name not in self.tensors:
            step = self.by_name[name]
            self.tensors[name] = self.program.load(step.shape, self.codes(step.grid))
            self.loaded.append(name)
        return self.tensors[name]

    def add(self, step: Step) -> None:
        """Translate one step."""
        match step:
            case LayerStep():
                y = self.sum(step.source, step.sum, self.scaling(step))
            case ResidualStep():
                skip = self.skip(step.skip_source, step.skip)
                scaling = self.scaling(step)._replace(
                    skip_multiplier=step.skip_multiplier
                )
                y = self.sum(step.source, step.sum, scaling, skip)
            case PoolStep():
                self.check_zero_point(step.source, step)
                y = self.program.pool(self.tensor(step.source), self.scaling(step))
            case OperationStep(operation="concat"):
                y = self.concat(step)
            case OperationStep(operation=operation) if operation in OF_CODES:
                y = self.table(step, step.sources)
            case OperationStep(operation=operation) if operation in PLACED:
                y = self.move(step)
            case _:
                raise self.twin.UnsupportedError(f"{step.name}: {type(step).__name__}")
        self.tensors[step.name] = y

    def check_zero_point(self, source: str, reader: Sum | Shortcut | PoolStep) -> None:
        """Raise where a reader counts its codes from another zero-point than theirs."""
        if self.by_name[source].grid.zero_point != reader.x_zero_point:
            raise self.twin.UnsupportedError(f"{reader.name}: another zero-point")

    def codes(self, grid: Grid) -> Any:
        """Return the range of a grid."""
        return self.twin.Codes(grid.q_min, grid.q_max, grid.zero_point)

    def scaling(self, step: LayerStep | ResidualStep | PoolStep) -> Any:
        """Return the requantization of a step."""
        if step.rounding == REAL_ROUNDING:
            raise self.twin.UnsupportedError(f"{step.name}: its ratio is no integer")
        return self.twin.Scaling(
            step.multiplier, step.shift, self.codes(step.grid), step.rounding
        )

    def sum(
        self, source: str, total: Sum, scaling: Any = None, skip: int | None = None
    ) -> int:
        """Add a layer of sums; a product of (N, I) is a convolution of one pixel."""
        x = self.tensor(source)
        self.check_zero_point(source, total)
        if total.w.ndim == 2 and len(self.by_name[source].shape) > 1:
            raise self.twin.UnsupportedError(f"{total.name} multiplies matrices")
        w = total.w if total.w.ndim == 4 else total.w[:, :, None, None]
        pair = total.stride, total.padding, total.dilation
        at = Window(w.shape[2:], *pair) if total.w.ndim == 4 else self.twin.POINT
        return self.program.sum(
            x,
            w,
            total.bias.astype(np.int64),
            at,
            scaling,
            fraction_bits=total.fraction_bits,
            groups=total.groups if total.w.ndim == 4 else 1,
            skip=skip,
        )

    def skip(self, source: str, skip: Sum | Shortcut) -> int:
        """Add what a residual adds: codes where they lie, moved ones, or sums."""
        if isinstance(skip, Sum):
            return self.sum(source, skip)
        x = self.tensor(source)
        self.check_zero_point(source, skip)
        shape = self.program.tensors[x].shape
        if skip.stride == 1 and skip.channels == shape[0]:
            return x
        places = np.arange(np.prod(shape)).reshape(shape)
        return self.program.move(
            [x],
            option_a(places, skip),
            self.program.tensors[x].codes,
        )

    def table(self, step: OperationStep, sources: tuple[str, ...]) -> int:
        """Add a function of one code or of two as the table that the step computes."""
        grids = tuple(self.by_name[name].grid for name in sources)
        table = table_of(step, grids)
        if table is None:
            raise self.twin.UnsupportedError(f"{step.name}: no table of its codes")
        xs = [self.spread(name, step) for name in sources]
        codes = self.codes(step.grid)
        return self.program.look_up(
            xs[0],
            xs[1] if len(xs) > 1 else None,
            table.astype(np.int64) + codes.sign,
            codes,
        )

    def spread(self, name: str, step: OperationStep) -> int:
        """Return the codes of a source, repeated to the shape of the step."""
        x, shape = self.tensor(name), self.by_name[name].shape
        if step.operation == "concat" or shape == step.shape:
            return x
        if len(shape) != len(step.shape):
            raise self.twin.UnsupportedError(f"{step.name}: axes differ")
        places = np.arange(np.prod(shape)).reshape(shape)
        wide = np.broadcast_to(places, step.shape)
        return self.program.move([x], wide, self.codes(self.by_name[name].grid))

    def move(self, step: OperationStep) -> int:
        """Add a step that moves codes as the map that it makes of their indices."""
        x, options = self.tensor(step.sources[0]), dict(step.options)
        grid = self.by_name[step.sources[0]].grid
        if step.operation == "pad":
            if options["value"] != grid.zero_point:
                raise self.twin.UnsupportedError(f"{step.name}: not padded with real 0")
            options["value"] = -1
        if options.get("mode", "nearest") != "nearest" or "shift" in options:
            raise self.twin.UnsupportedError(f"{step.name}: codes are blended")
        shape = self.by_name[step.sources[0]].shape
        places = np.arange(np.prod(shape), dtype=np.int32).reshape(1, *shape)
        placed = getattr(integer, step.operation)(places, **options)[0]
        return self.program.move([x], placed, self.codes(step.grid))

    def concat(self, step: OperationStep) -> int:
        """Add a table for every source, then put their codes side by side."""
        xs, places, begin = [], [], 0
        for name, one in zip(step.sources, parts_of(step), strict=True):
            xs.append(self.table(one, (name,)))
            shape = self.by_name[name].shape
            count = int(np.prod(shape))
            places.append(np.arange(begin, begin + count).reshape(1, *shape))
            begin += count
        together = np.concatenate(places, axis=step.options["axis"])[0]
        return self.program.move(xs, together, self.codes(step.grid))


def option_a(places: Int, skip: Shortcut) -> Array:
    """Keep every stride-th place, and -1 for new channels around."""
    kept = places[:, :: skip.stride, :: skip.stride]
    new = skip.channels - len(kept)
    around = ((new // 2, new - new // 2), (0, 0), (0, 0))
    return np.pad(kept, around, constant_values=-1)
