"""An integer network as a program of ``refqnn.fast``: planned once, run as one kernel.

Steps that the machine has are translated one by one. Values are equal bit for bit to
those that the steps compute themselves; accumulators are not kept.
"""

from typing import Any

import numpy as np

from refqnn import fast
from refqnn._types import Array, Int
from refqnn.deploy.fold import Grid
from refqnn.deploy.steps import (
    ImageStep,
    LayerStep,
    PoolStep,
    ResidualStep,
    Shortcut,
    Step,
    Sum,
)
from refqnn.geometry import Window


def program_of(steps: tuple[Step, ...]) -> Any:
    """Translate a network for the twins: a ``refqnn.fast.program.Program``.

    None where the machine lacks one of the steps.
    """
    translation = Translation(fast.program)
    try:
        for step in steps:
            translation.add(step)
    except fast.program.UnsupportedError:
        return None
    translation.program.store(translation.tensors[steps[-1].name])
    return translation.program


class Translation:
    """A program that grows, and the tensor of every step by its name."""

    def __init__(self, twin: Any) -> None:
        self.twin, self.program = twin, twin.Program()
        self.tensors: dict[str, int] = {}

    def add(self, step: Step) -> None:
        """Translate one step."""
        match step:
            case ImageStep():
                y = self.program.load(step.shape, self.codes(step.grid))
            case LayerStep():
                y = self.sum(step.source, step.sum, self.scaling(step))
            case ResidualStep():
                skip = self.skip(step.skip_source, step.skip)
                scaling = self.scaling(step)._replace(
                    skip_multiplier=step.skip_multiplier
                )
                y = self.sum(step.source, step.sum, scaling, skip)
            case PoolStep():
                y = self.program.pool(self.tensors[step.source], self.scaling(step))
            case _:
                raise self.twin.UnsupportedError(f"{step.name}: {type(step).__name__}")
        self.tensors[step.name] = y

    def codes(self, grid: Grid) -> Any:
        """Return the range of a grid."""
        return self.twin.Codes(grid.q_min, grid.q_max, grid.zero_point)

    def scaling(self, step: LayerStep | ResidualStep | PoolStep) -> Any:
        """Return the requantization of a step."""
        return self.twin.Scaling(
            step.multiplier, step.shift, self.codes(step.grid), step.rounding
        )

    def sum(
        self, source: str, total: Sum, scaling: Any = None, skip: int | None = None
    ) -> int:
        """Add a layer of sums; a product of (N, I) is a convolution of one pixel."""
        w = total.w if total.w.ndim == 4 else total.w[:, :, None, None]
        pair = total.stride, total.padding, total.dilation
        at = Window(w.shape[2:], *pair) if total.w.ndim == 4 else self.twin.POINT
        return self.program.sum(
            self.tensors[source],
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
        x = self.tensors[source]
        shape = self.program.tensors[x].shape
        if skip.stride == 1 and skip.channels == shape[0]:
            return x
        places = np.arange(np.prod(shape)).reshape(shape)
        return self.program.move(
            [x],
            option_a(places, skip),
            self.program.tensors[x].codes,
        )


def option_a(places: Int, skip: Shortcut) -> Array:
    """Keep every stride-th place, and -1 for new channels around."""
    kept = places[:, :: skip.stride, :: skip.stride]
    new = skip.channels - len(kept)
    around = ((new // 2, new - new // 2), (0, 0), (0, 0))
    return np.pad(kept, around, constant_values=-1)
