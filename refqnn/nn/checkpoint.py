"""Checkpoints: flat ``.npz`` files without pickle, replaced atomically.

entry             holds
param/NAME        a parameter's value
buffer/NAME       a buffer's value (running statistics)
velocity/NAME     the optimiser's velocity of a parameter
progress/NAME     an array of the training loop
json              one string: format, network configuration, steps, generator state
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from refqnn._types import Array
from refqnn.core import named_buffers, named_modules, named_params
from refqnn.files import Unreadable, decode, read_headed, write_npz

FORMAT = "refqnn checkpoint 1"


class Header(msgspec.Struct):
    """The JSON of a checkpoint."""

    format: str
    config: dict[str, Any]
    state: dict[str, Any]


@dataclass
class Checkpoint:
    """The content of a checkpoint file.

    ``state`` is anything JSON can hold: steps done, generator state, running sums.
    """

    params: dict[str, Array]
    buffers: dict[str, Array]
    velocity: dict[str, Array] = field(default_factory=dict)
    progress: dict[str, Array] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)


def of_network(network: Any) -> Checkpoint:
    """Collect parameters, buffers and configuration of a network, not copied.

    The configuration names the quantizers that other packages define, so that
    ``build`` puts them where they were; an entry ``quantizers`` is there only then.
    """
    config = dict(getattr(network, "config", {}))
    own = own_quantizers(network) if config else {}
    return Checkpoint(
        params={name: p.value for name, p in named_params(network).items()},
        buffers={name: b.value for name, b in named_buffers(network).items()},
        config=config | ({"quantizers": own} if own else {}),
    )


def own_quantizers(network: Any) -> dict[str, Any]:
    """Map dotted names to ``{"kind": class name, "bits": bits or None}``.

    Of the quantizers whose class is defined outside of this package.
    """
    return {
        name: {"kind": type(module).__name__, "bits": getattr(module, "bits", None)}
        for name, module in named_modules(network)
        if (name.endswith("weight_quant") or hasattr(module, "encode"))
        and type(module).__module__.split(".")[0] != "refqnn"
    }


def save(path: str | os.PathLike[str], checkpoint: Checkpoint) -> None:
    """Write the file whole or not at all: an earlier file stays intact on any failure.

    Raises OSError, naming the path, where the file cannot be written.
    """
    kinds = {
        "param": checkpoint.params,
        "buffer": checkpoint.buffers,
        "velocity": checkpoint.velocity,
        "progress": checkpoint.progress,
    }
    entries = {f"{kind}/{name}": a for kind in kinds for name, a in kinds[kind].items()}
    header = {"format": FORMAT, "config": checkpoint.config, "state": checkpoint.state}
    write_npz(path, entries, header)


def load(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a checkpoint, nothing unpickled.

    Raises ``Unreadable`` for a file that is damaged or no checkpoint.
    """
    content, entries = read_headed(path, FORMAT)
    header = decode(content, Header, f"{path}, its header")
    kinds: dict[str, dict[str, Array]] = {
        kind: {} for kind in ("param", "buffer", "velocity", "progress")
    }
    for entry, array in entries.items():
        kind, _, name = entry.partition("/")
        if kind not in kinds:
            raise Unreadable(f"{path} holds an unknown entry {entry!r}")
        kinds[kind][name] = array
    return Checkpoint(
        kinds["param"],
        kinds["buffer"],
        kinds["velocity"],
        kinds["progress"],
        header.config,
        header.state,
    )


def restore(network: Any, checkpoint: Checkpoint) -> None:
    """Put the values of a checkpoint into a network of the same names and shapes.

    Raises ValueError saying which names or shapes differ, the network unchanged.
    """
    params, buffers = named_params(network), named_buffers(network)
    complaints = differences(
        {name: p.value for name, p in params.items()}, checkpoint.params
    ) + differences({name: b.value for name, b in buffers.items()}, checkpoint.buffers)
    if complaints:
        more = f" and {len(complaints) - 3} more" if len(complaints) > 3 else ""
        raise ValueError(
            "the checkpoint is of another network: " + "; ".join(complaints[:3]) + more
        )
    for name, param in params.items():
        param.value = checkpoint.params[name].astype(param.value.dtype)
        param.grad = np.zeros_like(param.value)
    for name, buffer in buffers.items():
        buffer.value = checkpoint.buffers[name].copy()


def restore_generator(rng: np.random.Generator, state: Any, place: str) -> None:
    """Put back the state of a generator; raise Unreadable for any other value.

    >>> restore_generator(np.random.default_rng(0), {"state": 3}, "a.npz")
    Traceback (most recent call last):
        ...
    refqnn.files.reading.Unreadable: a.npz: no state of a generator: ...
    """
    try:
        rng.bit_generator.state = state
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise Unreadable(f"{place}: no state of a generator: {error!r}") from error


def counts(name: str, array: Array) -> bool:
    """Whether integers of a network are counts; the offset of WEQ is an exponent.

    >>> [counts(f"quant.{name}", np.array(0)) for name in ("known", "offset")]
    [True, False]
    """
    return array.dtype.kind == "i" and name.rpartition(".")[2] != "offset"


def differences(want: Mapping[str, Array], have: Mapping[str, Array]) -> list[str]:
    """Say, one line each, what ``have`` lacks, adds, or holds in another shape.

    >>> differences({"w": np.ones(2)}, {"w": np.ones(3), "b": np.ones(1)})
    ['w is (2,) in the network, (3,) in the file', 'b is only in the file']
    """
    lines = []
    for name, array in want.items():
        if name not in have:
            lines.append(f"{name} is only in the network")
        elif array.shape != have[name].shape:
            there = have[name].shape
            lines.append(f"{name} is {array.shape} in the network, {there} in the file")
        elif have[name].dtype.kind != array.dtype.kind:
            kinds = f"{array.dtype} in the network, {have[name].dtype} in the file"
            lines.append(f"{name} is {kinds}")
        elif counts(name, array) and np.any(have[name] < 0):
            lines.append(f"{name} counts, and is below 0 in the file")
    return lines + [f"{name} is only in the file" for name in have if name not in want]
