"""State dicts of PyTorch: weights, statistics, learned steps and clips.

    tensor of the file                       leaf of the network
    LAYER.weight, LAYER.bias                 w, b; gamma, beta of a batch norm
    LAYER.running_mean, LAYER.running_var    mean, var
    integers LAYER.weight, and               w = weight_scale (weight -
      LAYER.weight_scale (.weight_zero_point)    weight_zero_point)
    LAYER.bias where the convolution has     mean <- mean - bias; where the batch norm
      none and a batch norm follows            was folded, the identity
    names of quantizers                      ``quantizer_places``

LAYER is a name of ``layer_names``. ``num_batches_tracked`` and the switches of
observers hold no value of a layer and are left out.
"""

import warnings
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from refqnn._types import Array
from refqnn.core import Buffer, Param, named_buffers, named_modules, named_params
from refqnn.moved import other_half
from refqnn.nn.layer_names import canonical, layer_names, spellings
from refqnn.nn.layers import Conv2d, Linear
from refqnn.nn.norms import BatchNorm2d
from refqnn.nn.quantizer_places import is_setting, kind_of, place, places, values_of

__getattr__ = other_half(__name__, "refqnn.nn.tensor_files")

FIELDS = {
    "w": "weight",
    "b": "bias",
    "gamma": "weight",
    "beta": "bias",
    "mean": "running_mean",
    "var": "running_var",
}
Names = Mapping[str, str] | Callable[[str], str | None]


def weights_of(network: Any) -> dict[str, Param | Buffer]:
    """Return parameters and statistics of convolutions, batch norms, linear layers."""
    kinds = (Conv2d, Linear, BatchNorm2d)
    layers = [n for n, m in named_modules(network) if isinstance(m, kinds)]
    held = {f"{layer}.{field}" for layer in layers for field in FIELDS}
    every: dict[str, Any] = named_params(network) | named_buffers(network)
    return {name: leaf for name, leaf in every.items() if name in held}


def torch_names(network: Any) -> dict[str, str]:
    """Map the names of ``weights_of(network)`` to those of a state dict."""
    layers = layer_names(network)
    split = {name: name.rpartition(".") for name in weights_of(network)}
    return {n: f"{layers[at]}.{FIELDS[leaf]}" for n, (at, _, leaf) in split.items()}


def state_dict(network: Any) -> dict[str, Array]:
    """Copy weights and statistics under the names of PyTorch."""
    leaves = weights_of(network)
    return {there: leaves[n].value.copy() for n, there in torch_names(network).items()}


def load_state_dict(
    network: Any,
    tensors: Mapping[str, Array],
    *,
    names: Names | None = None,
    strict: bool = True,
) -> list[str]:
    """Put the tensors of a state dict into a network, all or none of them.

    ``names`` maps names of the file to those of ``state_dict(network)`` or of the
    network, as a mapping or as a function; what it does not name keeps its name.

    Returns the names of the network that the file does not have, those of quantizers.
    Raises ValueError with a line for every tensor that is missing, has no place, is
    misshaped, or holds no finite numbers. With ``strict=False`` what is missing or has
    no place, such as observers where our networks have no quantizer, is a warning with
    the same lines, and the rest is put in.
    """
    leaves, theirs = weights_of(network), torch_names(network)
    arrays = arrays_of(tensors)
    check_names(names, arrays)
    ours, others, sources = sort_tensors(network, arrays, names)
    lines = dequantize(ours, others, theirs)
    unfold(network, ours, others)
    lines += [
        line
        for name in sorted(ours, key=theirs.__getitem__)
        for line in misfit(
            sources.get(name, theirs[name]), ours[name], leaves[name].value
        )
        if not any(known.startswith(f"{theirs[name]} is ") for known in lines)
    ]
    settings, extra = quantizer_values(network, others, sources)
    missing = [f"missing {theirs[n]}, for {n}" for n in leaves if n not in ours]
    if lines or (strict and missing + extra):
        lines = missing + extra + lines
        raise ValueError("the state dict does not fit: " + "; ".join(lines))
    if missing + extra:
        warnings.warn("not placed: " + "; ".join(missing + extra), stacklevel=2)
    for name, value in ours.items():
        leaves[name].value = value.astype(leaves[name].value.dtype)
    modules, written = dict(named_modules(network)), set(ours)
    for name, values in settings.items():
        modules[name].hold(**values)
        written |= {f"{name}.{field}" for field in (*values, modules[name].known_by)}
    return sorted((named_params(network) | named_buffers(network)).keys() - written)


def arrays_of(tensors: Any) -> dict[str, Array]:
    """Read the tensors of a state dict: of NumPy, PyTorch or lists, bfloat16 widened.

    Raises ValueError for what is no mapping from names to arrays, a checkpoint that
    holds the state dict among other things by the name that it has there.
    """
    if not isinstance(tensors, Mapping):
        raise ValueError(  # noqa: TRY004 - bad values are ValueErrors in this house
            f"tensors must map names to arrays, got {type(tensors).__name__}; "
            "module.state_dict() and read_tensors(path) give such a mapping"
        )
    nested = [name for name, value in tensors.items() if isinstance(value, Mapping)]
    if nested:
        raise ValueError(
            f"tensors must map names to arrays, but {nested} are mappings themselves; "
            f"give one of them, as tensors[{nested[0]!r}]"
        )
    return {name: array_of(value) for name, value in tensors.items()}


def array_of(value: Any) -> Array:
    """Read one tensor; one of PyTorch is cut off its graph, bfloat16 is widened."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if "bfloat16" in str(value.dtype) else value
    return np.asarray(value)


def check_names(names: Any, tensors: Mapping[str, Array]) -> None:
    """Raise ValueError unless ``names`` is a function or maps names of tensors."""
    if names is None or callable(names):
        return
    if not isinstance(names, Mapping):
        raise ValueError(f"names must be a mapping or a function, got {names!r}")  # noqa: TRY004 - bad values are ValueErrors in this house
    if unknown := sorted(names.keys() - tensors.keys()):
        raise ValueError(f"names must be those of tensors, got {unknown}")


def sort_tensors(
    network: Any, tensors: Mapping[str, Array], names: Names | None
) -> tuple[dict[str, Array], dict[str, Array], dict[str, str]]:
    """Split tensors into those of weights, under our names, and the others.

    The third mapping gives the name that each has in the file. Raises ValueError where
    two of them have one place.
    """
    ours_of, weights = leaf_namer(network), weights_of(network).keys()
    ours: dict[str, Array] = {}
    others: dict[str, Array] = {}
    sources: dict[str, str] = {}
    mapped = {name: mapped_name(name, names) for name in tensors}
    start = len(shared_prefix(mapped.values(), spellings(network)))
    for name, array in tensors.items():
        here = ours_of(mapped[name][start:])
        if is_setting(here) and here not in weights:
            continue
        if here in sources:
            raise ValueError(f"{sources[here]} and {name} have one place, {here}")
        sources[here] = name
        (ours if here in weights else others)[here] = array
    return ours, others, sources


def shared_prefix(names: Iterable[str], known: Iterable[str]) -> str:
    """Find the dotted prefix that all names share and no known one has: a wrapper.

    >>> shared_prefix(["net.student.fc.weight", "net.student.fc.bias"], ["fc"])
    'net.student.'
    >>> shared_prefix(["fc.weight", "fc.bias"], ["fc"])
    ''
    """
    prefix, left, starts = "", list(names), {k.partition(".")[0] for k in known}
    while all(left) and len(first := {n.partition(".")[0] for n in left}) == 1:
        if first & starts:
            return prefix
        prefix += f"{first.pop()}."
        left = [n.partition(".")[2] for n in left]
    return prefix if all(left) else ""


def leaf_namer(network: Any) -> Callable[[str], str]:
    """Make the function from a name of a file to ours, or to torchvision's spelling."""
    theirs, known = torch_names(network), spellings(network)
    leaves = {name: name for name in theirs}
    for name, there in theirs.items():
        layer, _, leaf = there.rpartition(".")
        leaves[f"{known[layer]}.{leaf}"] = name

    def ours_of(name: str) -> str:
        there = canonical(name)
        layer, _, leaf = there.rpartition(".")
        return leaves.get(f"{known.get(layer, layer)}.{leaf}", there)

    return ours_of


def mapped_name(name: str, names: Names | None) -> str:
    """Apply the caller's map of names; a name it does not know stays."""
    other = None
    if names is not None:
        other = names(name) if callable(names) else names.get(name)
    return name if other is None else other


def dequantize(
    ours: dict[str, Array], others: dict[str, Array], theirs: Mapping[str, str]
) -> list[str]:
    """w = weight_scale (weight - weight_zero_point), for weights that are integers.

    Scale and zero-point are one number, or one a filter. Returns what is wrong.
    """
    lines = []
    for name, array in ours.items():
        if array.dtype.kind not in "iu" or not name.endswith(".w"):
            continue
        layer = theirs[name].removesuffix(".weight")
        scale = others.pop(f"{layer}.weight_scale", None)
        zero = others.pop(f"{layer}.weight_zero_point", np.zeros(()))
        if scale is None:
            lines += [f"{theirs[name]} is {array.dtype}: it needs {layer}.weight_scale"]
            continue
        shape = (-1, *[1] * (array.ndim - 1))
        centered = array.astype(np.float64) - zero.reshape(shape)
        ours[name] = centered * scale.astype(np.float64).reshape(shape)
    return lines


def unfold(network: Any, ours: dict[str, Array], others: dict[str, Array]) -> None:
    """Place a bias of a convolution that has none in the batch norm behind it.

    Where the file has that batch norm, mean <- mean - bias. Where it was folded, gamma
    = 1, beta = bias, mean = 0, var = 1 - eps: the identity in evaluation, up to a
    rounding of var + eps.
    """
    modules, names = dict(named_modules(network)), layer_names(network)
    layers = list(names)
    for conv, norm in pairwise(layers):
        part, after = modules[conv], modules[norm]
        if not isinstance(part, Conv2d | Linear) or not isinstance(after, BatchNorm2d):
            continue
        bias = next(
            (n for n in (f"{names[conv]}.bias", f"{conv}.b") if n in others), None
        )
        if part.b is not None or bias is None:
            continue
        given = [k for k in ("gamma", "beta", "mean", "var") if f"{norm}.{k}" in ours]
        if "mean" in given:
            ours[f"{norm}.mean"] = ours[f"{norm}.mean"] - others.pop(bias)
        elif not given:
            b = others.pop(bias)
            ours[f"{norm}.gamma"], ours[f"{norm}.beta"] = np.ones_like(b), b
            ours[f"{norm}.mean"] = np.zeros_like(b)
            ours[f"{norm}.var"] = np.full_like(b, 1 - after.eps)


def quantizer_values(
    network: Any, others: Mapping[str, Array], names: Mapping[str, str]
) -> tuple[dict[str, dict[str, Array]], list[str]]:
    """Give every quantizer its numbers of a file, and a line for what has no place."""
    modules = dict(named_modules(network))
    known, every = spellings(network), places(network)
    given: dict[str, dict[str, Array]] = {}
    sources: dict[tuple[str, str], str] = {}
    lines = []
    for name, array in others.items():
        at = place(name, known, every)
        leaf = name.rpartition(".")[2]
        own = at and leaf in vars(modules[at])
        kind = leaf if own else kind_of(name)
        if not at or not kind or array.dtype.kind not in "iuf":
            lines.append(f"extra {names[name]} {array.shape}")
            continue
        first = sources.setdefault((at, kind), names[name])
        value = np.asarray(array, np.float64)
        before = given.setdefault(at, {}).setdefault(kind, value)
        if not np.array_equal(before, value, equal_nan=True):
            lines.append(f"{first} and {names[name]} differ, and {at} is one quantizer")
    values: dict[str, dict[str, Array]] = {}
    for at, numbers in given.items():
        try:
            values[at] = in_field_shapes(modules[at], values_of(modules[at], numbers))
        except ValueError as error:
            of_it = [name for (place, _), name in sources.items() if place == at]
            lines.append(f"{', '.join(of_it)}: {error}")
    return values, lines


def in_field_shapes(quantizer: Any, values: Mapping[str, Array]) -> dict[str, Array]:
    """Give values the shapes of the quantizer's fields; ValueError where sizes differ.

    A step must be positive, every value finite.
    """
    new = {}
    for field, value in values.items():
        shape = getattr(quantizer, field).value.shape
        if value.size != np.prod(shape, dtype=int):
            raise ValueError(f"misshaped {value.shape}, want {shape} for {field}")
        if not np.all(np.isfinite(value)) or (
            field in {"s", "alpha"} and value.min() <= 0
        ):
            raise ValueError(
                f"{field} must be finite, steps and clips positive: {value}"
            )
        new[field] = value.reshape(shape)
    return new


def misfit(name: str, array: Array, value: Array) -> list[str]:
    """Say what is wrong with a tensor for a value of the network."""
    if array.shape != value.shape:
        return [f"misshaped {name} {array.shape}, want {value.shape}"]
    if array.dtype.kind != "f":
        return [f"{name} must hold finite floats, is {array.dtype}"]
    with np.errstate(over="ignore"):
        finite = np.isfinite(array.astype(value.dtype))
    if not np.all(finite):
        worst = array[~finite].flat[0]
        return [f"{name} must hold finite floats of {value.dtype}, holds {worst}"]
    if name.endswith("running_var") and np.any(array < 0):
        return [f"{name} must not be negative, holds {array.min()}"]
    return []
