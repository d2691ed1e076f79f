"""Every tensor of an integer network in execution order, by name.

    trace        network, images -> Trace: tensors by name, in the order computed
    Trace.save   one npz file without pickles; Trace.load reads it
    bisect       reference, other -> Bisection (refqnn.conformance.traces.bisection)

entry           holds
tensor/NAME     a tensor
constant/NAME   an integer array the layers compute with: weights, biases, multipliers
json            one string: format, and what ``Trace.manifest`` says of every tensor

A file of another implementation needs only arrays under the names of the tensors.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, final

import msgspec
import numpy as np

import refqnn
from refqnn._types import Array
from refqnn.deploy import IntegerNetwork
from refqnn.deploy.gated import CodedStep, FloatStep, GatedStep
from refqnn.deploy.operations import OperationStep, RealStep
from refqnn.deploy.steps import (
    Gated,
    ImageStep,
    PoolStep,
    ResidualStep,
    Step,
    Sum,
    with_branches,
)
from refqnn.files import Unreadable, decode, read_headed, write_npz

FORMAT = "refqnn trace 1"
Record = dict[str, Any]
Rows = list[tuple[str, Record]]
#: the former name of ``refqnn.files.Unreadable``
UnreadableError = Unreadable


class Known(msgspec.Struct):
    """The fields of a record that something reads, with their types."""

    layer: str = ""
    kind: str = ""
    inputs: list[str] = []
    constants: list[str] = []
    multiplier: list[int] = []
    skip_multiplier: list[int] = []
    shift: list[int] = []
    zero_point: int = 0
    q_min: int = 0
    q_max: int = 0
    rounding: str = ""


def is_record(record: Record, path: str | os.PathLike[str]) -> bool:
    """Raise Unreadable where a field of a record is of another kind; else True."""
    decode(record, Known, f"{path}, its manifest")
    return True


@final
@dataclass(frozen=True, eq=False)
class Trace:
    """Tensors in execution order, the constants of their layers, and what they mean."""

    tensors: Mapping[str, Array]
    constants: Mapping[str, Array] = field(default_factory=dict)
    #: by the name of a tensor; empty for the trace of another implementation
    manifest: Mapping[str, Record] = field(default_factory=dict)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one npz file, whole or not at all."""
        header = {"format": FORMAT, "manifest": list(self.manifest.items())}
        entries = {f"tensor/{name}": a for name, a in self.tensors.items()}
        entries |= {f"constant/{name}": a for name, a in self.constants.items()}
        write_npz(path, entries, header)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> "Trace":
        """Read what ``save`` wrote, or any npz file of arrays under the same names.

        Raises ``Unreadable`` for another kind of file, a damaged one and none at all.
        """
        header, entries = read_headed(path, None)
        rows = decode(header.get("manifest", []), Rows, f"{path}, its manifest")
        manifest = {name: record for name, record in rows if is_record(record, path)}
        loaded = Trace({}, {}, manifest)
        for entry, array in entries.items():
            kind, _, name = entry.partition("/")
            if kind == "constant":
                loaded.constants[name] = array  # type: ignore[index] # a dict until it is returned
            else:
                loaded.tensors[name if kind == "tensor" else entry] = array  # type: ignore[index] # a dict until it is returned
        return loaded


def trace(network: IntegerNetwork, x: Array, backend: Any = refqnn) -> Trace:
    """Return every tensor on the way from 8-bit pixels to logit codes.

    x: (N, C, H, W) uint8  ->  tensors: codes under the name of their layer, what was
    rounded to them under ``NAME.accumulator``

    Raises ValueError for images the network was not deployed for.

    >>> from refqnn.core import Run
    >>> from refqnn.deploy import deploy
    >>> from refqnn.networks import resnet
    >>> rng = np.random.default_rng(0)
    >>> network = resnet(8, weight_bits=4, activation_bits=4, width=0.1, rng=rng)
    >>> x = rng.integers(0, 256, (2, 1, 8, 8), dtype=np.uint8)
    >>> _ = network.forward(x, Run(training=True))
    >>> list(trace(deploy(network, image_size=(8, 8)), x).tensors)[:3]
    ['layers.image', 'layers.stem.accumulator', 'layers.stem']
    """
    tensors = network.trace(x, backend)
    manifest: dict[str, Record] = {}
    constants: dict[str, Array] = {}
    for step in with_branches(network.steps):
        manifest |= describe_tensors(step)
        constants |= constants_of(step)
    for name, array in tensors.items():
        manifest[name] |= {"shape": list(array.shape), "dtype": array.dtype.name}
    return Trace(tensors, constants, {name: manifest[name] for name in tensors})


def describe_tensors(step: Step) -> dict[str, Record]:
    """Describe the tensors of a step by name: layer, kind, inputs, grid, rescaling."""
    grid = step.grid
    codes: Record = {
        "layer": step.name,
        "kind": "codes",
        "inputs": [],
        "scale": grid.scale,
        "zero_point": grid.zero_point,
        "q_min": grid.q_min,
        "q_max": grid.q_max,
    }
    if isinstance(step, ImageStep):
        return {step.name: codes | {"kind": "pixels"}}
    if isinstance(step, Gated):
        return gated_records(step)
    if isinstance(step, OperationStep | RealStep):
        return {step.name: codes | operation_record(step)}
    total = step if isinstance(step, PoolStep) else step.sum
    sums = {f"{step.name}.accumulator": sum_record(step, step.source, total)}
    codes |= {"multiplier": step.multiplier.tolist(), "shift": step.shift.tolist()}
    codes["rounding"] = step.rounding
    if isinstance(step, ResidualStep):
        name = f"{step.skip.name}.accumulator"
        sums[name] = sum_record(step, step.skip_source, step.skip)
        codes["skip_multiplier"] = step.skip_multiplier.tolist()
    return sums | {step.name: codes | {"inputs": list(sums)}}


def gated_records(step: Gated) -> dict[str, Record]:
    """Describe the tensors of a step with real numbers: its inputs and operation.

    A branch has a row for each image whose decision, the second input of the step
    behind it, chose it.
    """
    name = step.name
    record: Record = {"layer": name, "kind": "real"}
    if isinstance(step, FloatStep):
        record |= {"inputs": list(step.sources), "operation": f"float {step.op}"}
        made = (name, f"{name}.cell") if step.op == "lstm" else (name,)
        return dict.fromkeys(made, record)
    if isinstance(step, CodedStep):
        stages = [step.source, f"{name}.codes", f"{name}.accumulator", name]
        kinds = ("codes", "accumulator", "real")
        return {
            made: record | {"kind": kind, "inputs": [source]}
            for (source, made), kind in zip(pairwise(stages), kinds, strict=True)
        }
    ends = [
        b[-1].name if b else f"{name}.{k}"
        for k, b in zip(step.options, step.branches, strict=True)
    ]
    entries = {
        f"{name}.{k}": record | {"inputs": list(step.sources)} for k in step.options
    }
    return entries | {name: record | {"inputs": [*step.sources, *ends]}}


def operation_record(step: OperationStep | RealStep) -> Record:
    """Describe a step without sums: its inputs, operation and scalar options."""
    record: Record = {"inputs": list(step.sources)}
    if isinstance(step, RealStep):
        return record | {"operation": [instruction[0] for instruction in step.program]}
    chosen = {k: v for k, v in step.options.items() if isinstance(v, str | int | float)}
    return record | {"operation": step.operation, "options": chosen}


def sum_record(step: Step, source: str, total: Any) -> Record:
    """Describe accumulators: scale, zero-point, constants and window of the sum."""
    record = {
        "layer": step.name,
        "kind": "accumulator",
        "inputs": [source],
        "scale": np.asarray(total.scale).tolist(),
        "zero_point": 0,
        "input_zero_point": total.x_zero_point,
    }
    if not isinstance(total, Sum):
        return record
    return record | {
        "constants": [f"{total.name}.{k}" for k in ("w", "bias", "fraction_bits")],
        "stride": list(total.stride),
        "padding": [list(widths) for widths in total.padding],
        "dilation": list(total.dilation),
        "groups": total.groups,
    }


def constants_of(step: Step) -> dict[str, Array]:
    """Return the constants of a step by name: weights, biases, multipliers, shifts."""
    if isinstance(step, ImageStep | GatedStep):
        return {}
    if isinstance(step, FloatStep):
        return {f"{step.name}.{i}": v for i, v in enumerate(step.constants)}
    if isinstance(step, CodedStep):
        return {f"{step.name}.w": step.w}
    if isinstance(step, OperationStep | RealStep):
        values = step.constants if isinstance(step, RealStep) else step.options
        arrays = {k: v for k, v in values.items() if isinstance(v, np.ndarray)}
        return {f"{step.name}.{k}": v for k, v in arrays.items()}
    constants = {f"{step.name}.{k}": getattr(step, k) for k in ("multiplier", "shift")}
    if isinstance(step, ResidualStep):
        constants[f"{step.name}.skip_multiplier"] = step.skip_multiplier
    for total in (getattr(step, "sum", None), getattr(step, "skip", None)):
        if isinstance(total, Sum):
            for k in ("w", "bias", "fraction_bits"):
                constants[f"{total.name}.{k}"] = getattr(total, k)
    return constants
