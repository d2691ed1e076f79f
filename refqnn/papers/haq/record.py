"""The trace of a search, and the file that continues it.

HAQ, arXiv:1811.08886. A file holds every policy that was evaluated, what the searcher
remembers, and a header of what it must agree on to be continued.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import numpy as np

from refqnn._types import Array, Float, Int
from refqnn.files import Unreadable, read_headed, write_npz
from refqnn.papers.haq.environment import Problem, size_ratio

FORMAT = "refqnn HAQ search 1"


@final
@dataclass(eq=False)
class Trace:
    """Every policy that was evaluated, in order."""

    problem: Problem
    #: bits before and after they were lowered to fit
    proposed: list[Int] = field(default_factory=list)
    policies: list[Int] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)

    def add(self, proposed: Int, policy: Int, accuracy: float) -> None:
        """Append one evaluation; raise unless the accuracy is in [0, 100]."""
        if not 0 <= accuracy <= 100:
            raise ValueError(f"accuracy must be in [0, 100] per cent, got {accuracy}")
        self.proposed.append(np.asarray(proposed))
        self.policies.append(np.asarray(policy))
        self.accuracies.append(float(accuracy))

    @property
    def rewards(self) -> Float:
        """Return R of every evaluation: (E,)."""
        return np.array([self.problem.reward(a) for a in self.accuracies])

    @property
    def ratios(self) -> Float:
        """Return the size of every policy, as a share of 32 bits: (E,)."""
        weights = self.problem.weights
        return np.array([size_ratio(policy, weights) for policy in self.policies])

    @property
    def best(self) -> int:
        """Return the index of the first policy of the largest reward that fits.

        Raises ValueError if none does.
        """
        fits = np.array([self.problem.fits(policy) for policy in self.policies], bool)
        if not fits.any():
            raise ValueError("no evaluated policy fits the ratio")
        return int(np.argmax(np.where(fits, self.rewards, -np.inf)))


def fingerprint(problem: Problem, kind: str, seed: int, **more: Any) -> dict[str, Any]:
    """List the settings that a continued search must share, as JSON gives them."""
    content = {
        "format": FORMAT,
        "kind": kind,
        "seed": seed,
        "layers": problem.layers,
        "ratio": problem.ratio,
        "float_accuracy": problem.float_accuracy,
        "bits": (problem.b_min, problem.b_max),
    }
    return json.loads(json.dumps(content | more))


def save(
    path: str | Path, trace: Trace, header: Mapping[str, Any], arrays: Mapping[str, Any]
) -> None:
    """Write the trace, and what else continues it, whole or not at all."""
    own = {
        "trace/proposed": np.array(trace.proposed),
        "trace/policies": np.array(trace.policies),
        "trace/accuracies": np.array(trace.accuracies),
    }
    write_npz(path, {**own, **arrays}, header)


def load(
    path: str | Path, expected: Mapping[str, Any], trace: Trace
) -> tuple[dict[str, Array], dict[str, Any]]:
    """Fill the trace from a checkpoint; return its other arrays and its header.

    Raises ValueError, naming what differs, for a checkpoint of another search.
    """
    header, arrays = read_headed(path, FORMAT)
    for name, value in expected.items():
        if header.get(name) != value:
            raise ValueError(
                f"{path} is of another search: {name} {header.get(name)} and {value}"
            )
    layers = len(trace.problem.layers)
    shapes = {"proposed": (layers,), "policies": (layers,), "accuracies": ()}
    parts = [
        evaluations(path, arrays.get(f"trace/{name}"), shape)
        for name, shape in shapes.items()
    ]
    if len({len(part) for part in parts}) != 1:
        raise Unreadable(f"{path}: policies and accuracies differ in number")
    for proposed, policy, accuracy in zip(*parts, strict=True):
        trace.add(proposed, policy, accuracy)
    return arrays, header


def evaluations(path: str | Path, array: Array | None, shape: tuple[int, ...]) -> Array:
    """Return one entry an evaluation; raise Unreadable for another shape, and text."""
    if array is None or array.shape[1:] != shape or array.dtype.kind not in "if":
        given = "nothing" if array is None else f"{array.dtype} {array.shape}"
        raise Unreadable(f"{path}: evaluations must be (E, {shape}), has {given}")
    if not array.ndim:
        raise Unreadable(f"{path}: evaluations must be (E, {shape}), has one number")
    return array
