"""A network of integers: runs, explains itself, is written to a file and read back."""

import os
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

import numpy as np

import refqnn
from refqnn._types import Array, Float, Int
from refqnn.deploy.execution import plan_of, run
from refqnn.deploy.formats.store import read_steps, write_steps
from refqnn.deploy.listing import listing
from refqnn.deploy.steps import ImageStep, Shape, Step, multiply_adds
from refqnn.files import Unreadable


@final
@dataclass(frozen=True, eq=False)
class IntegerNetwork:
    """Steps in the order in which they run, from 8-bit pixels to logit codes.

    ``backend`` is the package whose ``integer`` functions compute: ``refqnn`` (the
    definition) or ``refqnn.fast`` (its twins). Both give the same bits.
    """

    steps: tuple[Step, ...]

    def __post_init__(self) -> None:
        if len(self.steps) < 2 or not isinstance(self.steps[0], ImageStep):
            raise ValueError("an integer network starts with its image, then layers")

    @property
    def image_shape(self) -> Shape:
        """The (C, H, W) of the images it runs on, or (I,)."""
        return self.steps[0].shape

    @property
    def logit_scale(self) -> float:
        """logits = logit_scale * codes"""
        return self.steps[-1].grid.scale

    def forward(self, images: Array, backend: Any = refqnn) -> Int:
        """images: (N, C, H, W) uint8  ->  logit codes (N, K), of the last step

        The twins run it as programs, planned when it is run first.
        """
        if not hasattr(backend, "program"):
            return self.trace(images, backend)[self.steps[-1].name]
        self.check_images(images)
        return run(self.plan, self.steps, images, backend.integer)

    @cached_property
    def plan(self) -> tuple[Any, ...]:
        """The programs of the twins, and between them the steps that these lack."""
        return plan_of(self.steps)

    def trace(self, images: Array, backend: Any = refqnn) -> dict[str, Array]:
        """Return every array of integers on the way, by name.

        The codes of a step carry its name, accumulators ``.accumulator`` in addition.
        """
        self.check_images(images)
        values = {self.steps[0].name: images}
        for step in self.steps:
            values |= step.forward(values, backend.integer)
        return values

    def predict(self, images: Array, *, batch: int = 250, backend: Any = refqnn) -> Int:
        """Return the class of the largest logit code; the first of equals.

        images: (N, C, H, W) uint8  ->  classes: (N,)
        """
        self.check_images(images)
        parts = [
            self.forward(images[i : i + batch], backend).argmax(axis=1)
            for i in range(0, len(images), batch)
        ]
        return np.concatenate([np.zeros(0, np.int64), *parts])

    def logits(self, images: Array, backend: Any = refqnn) -> Float:
        """images: (N, C, H, W) uint8  ->  real logits: (N, K) float64"""
        return self.logit_scale * self.forward(images, backend).astype(np.float64)

    def check_images(self, images: Array) -> None:
        """Raise unless the images are uint8 and of the size it was deployed for.

        Imported networks of 16-bit activations take 16-bit images.
        """
        grid = self.steps[0].grid
        want = grid.dtype
        if not isinstance(images, np.ndarray) or images.dtype != want:
            got = getattr(images, "dtype", type(images).__name__)
            raise ValueError(f"images must be a {want} array, got {got}")
        if not images.ndim or images.shape[1:] != self.image_shape:
            sizes = ", ".join(map(str, ("N", *self.image_shape)))
            raise ValueError(
                f"images must be ({sizes}), the size that the network was "
                f"deployed for: images{images.shape}"
            )

    def multiply_adds(self, trace: dict[str, Array]) -> dict[str, int]:
        """Count the multiply-adds that a trace executed, by the name of their sum.

        A branch counts on the images whose gate chose it.
        """
        return multiply_adds(self.steps, trace)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a flat ``.npz`` file, whole or not at all."""
        write_steps(path, self.steps)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> "IntegerNetwork":
        """Read what ``save`` wrote; raise ValueError for anything else."""
        steps = read_steps(path)
        try:
            return IntegerNetwork(steps)
        except ValueError as error:
            raise Unreadable(f"{path}: {error}") from error

    def listing(self) -> str:
        """Return a readable table: a line per step, its channels in ranges."""
        return listing(self.steps)

    def __str__(self) -> str:
        return self.listing()

    __repr__ = __str__
