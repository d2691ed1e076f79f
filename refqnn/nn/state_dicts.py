"""Weights from PyTorch: a state dict of a residual network under our names.

    PyTorch                                  refqnn
    conv1.weight, bn1.*                      layers.stem.w, layers.stem_norm.*
    layerS.B.convK.weight, layerS.B.bnK.*    layers.stageS_block(B+1).convK.w, .normK.*
    layerS.B.downsample.0.weight, .1.*       ... .shortcut.layers.conv.w, .norm.*
    fc.weight, fc.bias                       layers.classifier.w, .b
    weight, bias of a batch norm             gamma, beta
    running_mean, running_var                mean, var

``shortcut`` for ``downsample``, ``linear`` for ``fc`` and a prefix ``module.`` are
read, too; ``num_batches_tracked`` is left out. Files are safetensors or npz.
Checkpoints of torch.save are pickles, which run code when they are read, and are
refused: write them with safetensors.torch.save_file(model.state_dict(), path) where
they come from.
"""

import os
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from refqnn._types import Array
from refqnn.core import Buffer, Param, named_buffers, named_modules, named_params
from refqnn.files import Unreadable, parse_npz, parse_object, read_bytes
from refqnn.nn.layers import Conv2d, Linear
from refqnn.nn.norms import BatchNorm2d

LAYERS = (
    (r"layers\.stem", "conv1"),
    (r"layers\.stem_norm", "bn1"),
    (r"layers\.classifier", "fc"),
    (r"layers\.stage(\d+)_block(\d+)\.conv(\d)", "layer{0}.{1}.conv{2}"),
    (r"layers\.stage(\d+)_block(\d+)\.norm(\d)", "layer{0}.{1}.bn{2}"),
    (
        r"layers\.stage(\d+)_block(\d+)\.shortcut\.layers\.conv",
        "layer{0}.{1}.downsample.0",
    ),
    (
        r"layers\.stage(\d+)_block(\d+)\.shortcut\.layers\.norm",
        "layer{0}.{1}.downsample.1",
    ),
)
FIELDS = {
    "w": "weight",
    "b": "bias",
    "gamma": "weight",
    "beta": "bias",
    "mean": "running_mean",
    "var": "running_var",
}
ALIASES = (
    (r"^module\.", ""),
    (r"\.shortcut\.", ".downsample."),
    (r"^linear\.", "fc."),
)
#: dtypes of safetensors; BF16 is widened
DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "BF16": "<u2"}


def torch_name(name: str) -> str:
    """Return the name that PyTorch's residual networks give to one of ours.

    Raises ValueError for a name that has none.

    >>> torch_name("layers.stage2_block1.norm1.gamma")
    'layer2.0.bn1.weight'
    """
    layer, _, leaf = name.rpartition(".")
    for pattern, form in LAYERS:
        match = re.fullmatch(pattern, layer)
        if match and leaf in FIELDS:
            stage, block, *place = match.groups() or ("", "1")
            return f"{form.format(stage, int(block) - 1, *place)}.{FIELDS[leaf]}"
    raise ValueError(f"{name} has no name in a residual network of PyTorch")


def canonical(name: str) -> str:
    """Return a name of a file in the one form of ``torch_name``.

    >>> canonical("module.layer1.0.shortcut.0.weight")
    'layer1.0.downsample.0.weight'
    """
    for pattern, form in ALIASES:
        name = re.sub(pattern, form, name)
    return name


def weights_of(network: Any) -> dict[str, Param | Buffer]:
    """Return parameters and statistics of convolutions, batch norms, linear layers."""
    kinds = (Conv2d, Linear, BatchNorm2d)
    layers = [n for n, m in named_modules(network) if isinstance(m, kinds)]
    held = {f"{layer}.{field}" for layer in layers for field in FIELDS}
    every: dict[str, Any] = named_params(network) | named_buffers(network)
    return {name: leaf for name, leaf in every.items() if name in held}


def load_state_dict(network: Any, tensors: Mapping[str, Array]) -> list[str]:
    """Put the tensors of a state dict into a network, all or none of them.

    Returns the names of the network that a state dict does not have: those of its
    quantizers. Raises ValueError with a line for every tensor that is missing, extra,
    misshaped, or holds no finite numbers.
    """
    leaves = weights_of(network)
    names = {torch_name(name): name for name in leaves}
    given = {canonical(n): a for n, a in tensors.items() if "num_batches" not in n}
    lines = [f"missing {there}, for {here}" for there, here in names.items()
             if there not in given]  # fmt: skip
    lines += [f"extra {there} {a.shape}" for there, a in given.items()
              if there not in names]  # fmt: skip
    for there in sorted(names.keys() & given.keys()):
        lines += misfit(there, given[there], leaves[names[there]].value)
    if lines:
        raise ValueError("the state dict does not fit: " + "; ".join(lines))
    for there, here in names.items():
        value = leaves[here].value
        leaves[here].value = given[there].astype(value.dtype)
    return sorted((named_params(network) | named_buffers(network)).keys() - leaves)


def misfit(name: str, array: Array, value: Array) -> list[str]:
    """Say what is wrong with a tensor for a value of the network."""
    if array.shape != value.shape:
        return [f"misshaped {name} {array.shape}, want {value.shape}"]
    if array.dtype.kind != "f" or not np.all(np.isfinite(array)):
        return [f"{name} must hold finite floats, is {array.dtype}"]
    return []


def state_dict(network: Any) -> dict[str, Array]:
    """Copy weights and statistics under the names of PyTorch."""
    return {torch_name(n): leaf.value.copy() for n, leaf in weights_of(network).items()}


def read_tensors(path: str | os.PathLike[str]) -> dict[str, Array]:
    """Read the arrays of a safetensors or npz file; nothing is unpickled.

    Raises ValueError for anything else, checkpoints of torch.save by name.
    """
    content = read_bytes(path)
    if content[:2] != b"PK":
        return safetensors(content, os.fspath(path))
    if b"/data.pkl" in content:
        raise Unreadable(
            f"{path} is a checkpoint of torch.save, a pickle: pickles are never read; "
            "write it with safetensors.torch.save_file"
        )
    return parse_npz(content, os.fspath(path))


def safetensors(content: bytes, name: str) -> dict[str, Array]:
    """Read the arrays: 8 bytes length of the header, JSON header, bytes of arrays."""
    what = f"{name} is neither an npz nor a whole safetensors file"
    size = int.from_bytes(content[:8], "little")
    if not 2 <= size <= len(content) - 8:
        raise Unreadable(f"{what}: a header of {size} bytes in {len(content)}")
    header = parse_object(content[8 : 8 + size], f"{what}: the header")
    header.pop("__metadata__", None)
    body = memoryview(content)[8 + size :]
    try:
        return {name: tensor(record, body) for name, record in header.items()}
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise Unreadable(f"{what}: {error!r}") from error


def tensor(record: Mapping[str, Any], body: memoryview) -> Array:
    """Read one array of a safetensors file."""
    begin, end = record["data_offsets"]
    if not 0 <= begin <= end <= len(body):
        raise ValueError(f"bytes {begin} to {end} of {len(body)}")
    flat = np.frombuffer(body[begin:end], DTYPES[record["dtype"]])
    if record["dtype"] == "BF16":  # the upper half of a float32
        flat = (flat.astype(np.uint32) << 16).view(np.float32)
    return flat.reshape(record["shape"]).copy()
