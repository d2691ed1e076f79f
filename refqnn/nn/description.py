"""A network in words: a row for every layer with parameters, and what follows it."""

import re
from dataclasses import is_dataclass
from typing import Any

from refqnn.core import Buffer, Param, named_modules, named_params
from refqnn.prompt import html_table, text_table

#: parts of dotted names that say nothing
SILENT = r"(^|\.)(layers|body|after)(?=\.)"
#: what a quantizer counts, in the order asked
COUNTED = (
    ("bits", "bit", "bits"),
    ("bases", "basis", "bases"),
    ("levels", "level", "levels"),
)


def describe(module: Any) -> str:
    """Write a network, a block or a layer as a table of its layers."""
    return f"{title(module)}\n{text_table(layer_rows(module))}"


def describe_html(module: Any) -> str:
    """Write the same as an HTML table, for notebooks."""
    return html_table(title(module), layer_rows(module))


def title(module: Any) -> str:
    """Write the kind of a network and the number of its parameters.

    >>> from refqnn.nn import ReLU, Sequential
    >>> title(Sequential({"relu": ReLU()}))
    'Sequential: 0 parameters'
    """
    config = getattr(module, "config", {})
    words = [str(config[k]) for k in ("network", "depth", "method") if k in config]
    count = sum(p.value.size for p in named_params(module).values())
    return f"{' '.join(words) or type(module).__name__}: {count:,} parameters"


def layer_rows(module: Any) -> list[dict[str, Any]]:
    """List layers with weights, each with what follows it in the same block.

    ->  rows of name, layer, weights (shape), bits, parameters, then
    """
    every = [(n, m) for n, m in named_modules(module) if is_layer(m)]
    weighted = {n for n, m in every if hasattr(m, "w")}  # their quantizers are theirs
    leaves = [(n, m) for n, m in every if n.rpartition(".")[0] not in weighted]
    if not leaves and is_layer(module):
        leaves = [("", module)]
    rows: list[dict[str, Any]] = []
    last: dict[str, dict[str, Any]] = {}
    for name, part in leaves:
        count = sum(p.value.size for p in named_params(part).values())
        block = name.rpartition(".")[0].removesuffix(".after.layers")
        block = block.removesuffix(".body.layers")
        follows = last.get(block)
        if starts_row(part) or follows is None:
            last[block] = new_row(name, part, count)
            rows.append(last[block])
        else:
            follows["parameters"] += count
            follows["then"] = ", ".join(filter(None, (follows["then"], words(part))))
    return rows


def is_layer(part: Any) -> bool:
    """Say whether a part computes and holds no layer but quantizers of its own."""
    inner = [v for v in vars(part).values() if not isinstance(v, Param | Buffer)]
    holds = hasattr(part, "layers") or any(is_dataclass(v) for v in inner)
    return hasattr(part, "forward") and (hasattr(part, "w") or not holds)


def starts_row(part: Any) -> bool:
    """Say whether a layer has weights, or is no norm, activation or quantizer."""
    kinds = "Pool|Image|Shortcut|Flatten"
    return hasattr(part, "w") or re.search(kinds, type(part).__name__) is not None


def new_row(name: str, part: Any, count: int) -> dict[str, Any]:
    """Begin the row of a layer."""
    shape = part.w.value.shape if hasattr(part, "w") else ""
    quantizer = getattr(part, "weight_quant", None)
    return {
        "name": re.sub(SILENT, "", f"{name}").lstrip(".") or type(part).__name__,
        "layer": words(part) if not hasattr(part, "w") else kind(part),
        "weights": str(shape),
        "bits": words(quantizer) if quantizer is not None else "",
        "parameters": count,
        "then": "",
    }


def kind(part: Any) -> str:
    """Name a layer with weights and the settings that are not usual.

    >>> from refqnn.core import Param
    >>> from refqnn.nn import Conv2d
    >>> import numpy as np
    >>> kind(Conv2d(Param(np.ones((1, 1, 3, 3))), stride=2, padding=1))
    'Conv2d stride 2 padding 1'
    """
    usual = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
    own = [(k, getattr(part, k)) for k in usual if hasattr(part, k)]
    settings = [f"{k} {v}" for k, v in own if v != usual[k]]
    return " ".join([type(part).__name__, *settings])


def words(part: Any) -> str:
    """Name a part, a quantizer with its bits.

    >>> from refqnn.quantizers import LSQ
    >>> words(LSQ(bits=4))
    'LSQ 4 bits'
    """
    for name, one, many in COUNTED:
        count = getattr(part, name, None)
        if isinstance(count, int):
            return f"{type(part).__name__} {count} {one if count == 1 else many}"
    return type(part).__name__
