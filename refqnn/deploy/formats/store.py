"""Integer networks as flat ``.npz`` files without pickle.

entry               holds
STEP/FIELD          an array of a step
STEP/sum/FIELD      an array of its accumulators; STEP/skip/FIELD those of its skip
json                one string: format, SHA-256 of the arrays, and every other field
"""

import dataclasses
import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from refqnn._types import Array
from refqnn.deploy.fold import Grid
from refqnn.deploy.formats.fields import check_steps
from refqnn.deploy.gated import CodedStep, FloatStep, GatedStep
from refqnn.deploy.operations import Instruction, OperationStep, RealStep
from refqnn.deploy.steps import (
    ImageStep,
    LayerStep,
    PoolStep,
    ResidualStep,
    Shortcut,
    Step,
    Sum,
)
from refqnn.files import Unreadable, digest, parse_json, read_headed, write_npz
from refqnn.geometry import Window

FORMAT = "refqnn integer network 1"
KINDS = {
    kind.__name__: kind
    for kind in (
        ImageStep,
        LayerStep,
        ResidualStep,
        PoolStep,
        OperationStep,
        RealStep,
        FloatStep,
        CodedStep,
        GatedStep,
        Sum,
        Shortcut,
    )
}


def write_steps(path: str | os.PathLike[str], steps: tuple[Step, ...]) -> None:
    """Write the file whole or not at all: an earlier file stays intact on any failure.

    Raises OSError, naming the path, where the file cannot be written.
    """
    arrays: dict[str, Array] = {}
    described = [describe(step, step.name, arrays) for step in steps]
    text = json.dumps(described)
    header = {"format": FORMAT, "sha256": digest(text, arrays), "steps": text}
    write_npz(path, arrays, header)


def read_steps(path: str | os.PathLike[str]) -> tuple[Step, ...]:
    """Read the steps of an integer network, nothing unpickled.

    Raises ``Unreadable`` for a file that is damaged, changed, or something else.
    """
    header, arrays = read_headed(path, FORMAT)
    text = str(header.get("steps"))
    if header.get("sha256") != digest(text, arrays):
        raise Unreadable(
            f"{path} is damaged: its arrays are not those it was saved with"
        )
    steps = parse_json(text, f"{path} holds no steps of a network: its header")
    try:
        restored = tuple(restore(step, arrays) for step in steps)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise Unreadable(f"{path} holds no steps of a network: {error!r}") from error
    try:
        check_steps(restored)
    except ValueError as error:
        raise Unreadable(f"{path}: {error}") from error
    return restored


def describe(value: Any, path: str, arrays: dict[str, Array]) -> Any:  # noqa: PLR0911 - one return a kind
    """Return a step as plain values for JSON; its arrays go to ``arrays`` by path."""
    if isinstance(value, np.ndarray):
        arrays[path] = value
        return {"array": path}
    if isinstance(value, Grid):
        return {"grid": list(value)}
    if isinstance(value, Window):
        return {"window": list(value)}
    if isinstance(value, Instruction):
        return {"instruction": describe(tuple(value), path, arrays)}
    if isinstance(value, Mapping):
        items = {k: describe(v, f"{path}/{k}", arrays) for k, v in value.items()}
        return {"options": items}
    if isinstance(value, tuple):
        return [describe(v, f"{path}/{i}", arrays) for i, v in enumerate(value)]
    if dataclasses.is_dataclass(value):
        fields = [(f.name, getattr(value, f.name)) for f in dataclasses.fields(value)]
        held = {name: describe(v, f"{path}/{name}", arrays) for name, v in fields}
        return {"kind": type(value).__name__, "fields": held}
    return value


def restore(value: Any, arrays: Mapping[str, Array]) -> Any:  # noqa: PLR0911 - one return a kind
    """Undo ``describe``."""
    if isinstance(value, list):
        return tuple(restore(entry, arrays) for entry in value)
    if not isinstance(value, dict):
        return value
    match sorted(value.items()):
        case [("array", path)]:
            return arrays[path]
        case [("grid", held)]:
            return Grid(*held)
        case [("window", held)]:
            return Window(*restore(held, arrays))
        case [("instruction", held)]:
            return Instruction(*restore(held, arrays))
        case [("options", held)]:
            return {name: restore(v, arrays) for name, v in held.items()}
        case [("fields", held), ("kind", kind)]:
            return KINDS[kind](**{name: restore(v, arrays) for name, v in held.items()})
    raise ValueError(f"no value has {sorted(value)}")
