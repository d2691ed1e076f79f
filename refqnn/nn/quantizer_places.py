"""Where learned steps and clips of other frameworks belong in a network of ours.

A tensor of a quantizer stands in a state dict under the layer that it belongs to:

    under a convolution    quan_w_fn.s, weight_fake_quant.scale, wq.s,  its weights
                           weight_quant.tensor_quant.scaling_impl.value
                           quan_a_fn.s, input_quant.*, act_alpha, aq.s  what it reads
                           activation_post_process.*, output_quant.*    what it gives
    under a norm, a ReLU   activation_post_process.*, act_quant.*       what it gives
    under a block          act1.s, quant2.s                             by number
                           add_relu.*, out.*                            the last one

Our activation quantizers are layers, once for both branches that read them; a tensor
of each reader is one of ours if all agree.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from refqnn._types import Array
from refqnn.nn.layers import Conv2d, Linear, ReLU, ReLU6, Sequential
from refqnn.nn.norms import BatchNorm2d
from refqnn.nn.residual import BasicBlock, Residual
from refqnn.quantizers.module import Quantizer

#: the last part of a name -> which number of a quantizer it is
KINDS = (
    ("zero", r"zero_point|zp|offset|beta"),
    ("low", r"min_val|min|lo|lower"),
    ("high", r"max_val|max|hi|upper"),
    ("clip", r"clip|clip_val|clip_value|alpha|threshold"),
    ("step", r"s|step|step_size|scale|scales|delta|interval|s[wax]"),
    ("value", r"value"),
)
#: settings and counters: they hold no value of a layer
SETTINGS = (
    r"num_batches_tracked|fake_quant_enabled|observer_enabled|static_enabled|"
    r"learning_enabled|eps|init_state|init_done|initialized|inited|known|signed|"
    r"ch_axis|qmin|qmax|bits|n_bits|bit|bit_width|counter"
)
READS = r"(?i)(?:^|_)(?:[qs]?[ax]|[ax]q|act|acts|activation|inp?|input)(?:_|\d|$)"
SIDE = r"(?:a|act|activation|in|input|x|w|weight)"
GIVES = r"activation_post_process|output_quant"
ACTS = r"act|relu|quan|q\d*$|lsq|pact|nonlin|stem|pool|add|skip|out|after"
LAST = r"add|skip|out|after"


@dataclass
class Places:
    """The quantizers of a network by the layer whose values they quantize."""

    weights: dict[str, str] = field(default_factory=dict)
    reads: dict[str, str] = field(default_factory=dict)
    gives: dict[str, str] = field(default_factory=dict)
    #: of a block's activations, in order; those outside of blocks under ""
    blocks: dict[str, list[str]] = field(default_factory=dict)
    #: layers since the last quantizer
    since: list[str] = field(default_factory=list)


def places(network: Any) -> Places:
    """Follow the signal through a network and note the quantizers it passes."""
    every = Places()
    follow(network, "", "", "", every)
    return every


def follow(module: Any, name: str, source: str, block: str, every: Places) -> str:
    """Note the quantizers of a module; return the last one that the signal passed."""
    if isinstance(module, Sequential):
        for key, layer in module.layers.items():
            inner = f"{name}.layers.{key}".lstrip(".")
            holds = isinstance(layer, BasicBlock | Residual | Sequential)
            source = follow(layer, inner, source, block or inner * holds, every)
    elif isinstance(module, BasicBlock):
        source = follow_basic_block(module, name, source, block, every)
    elif isinstance(module, Residual):
        follow(module.body, f"{name}.body", source, block, every)
        every.since.clear()
        follow(module.shortcut, f"{name}.shortcut", source, block, every)
        every.since.clear()
        source = follow(module.after, f"{name}.after", "", block, every)
    elif isinstance(module, Quantizer):
        every.gives |= dict.fromkeys(every.since, name)
        every.since.clear()
        every.blocks.setdefault(block, []).append(name)
        return name
    elif module is not None:
        if not isinstance(module, BatchNorm2d | ReLU | ReLU6):
            every.since.clear()  # what came before is not what a quantizer here reads
        every.since.append(name)
        if isinstance(module, Conv2d | Linear):
            every.reads[name] = source
            if module.weight_quant is not None:
                every.weights[name] = f"{name}.weight_quant"
    return source


def follow_basic_block(
    module: BasicBlock, name: str, source: str, block: str, every: Places
) -> str:
    """Note the quantizers of a basic block in the order of its forward pass."""
    first = last = follow(module.quant0, f"{name}.quant0", source, block, every)
    for part in ("conv1", "norm1", "relu1", "quant1", "conv2", "norm2"):
        last = follow(getattr(module, part), f"{name}.{part}", last, block, every)
    every.since.clear()  # what follows is the sum
    follow(module.shortcut, f"{name}.shortcut", first, block, every)
    every.since[:] = [f"{name}.relu2"]
    return follow(module.quant2, f"{name}.quant2", "", block, every)


def place(name: str, known: Mapping[str, str], every: Places) -> str:
    """Find the quantizer that a tensor of a file belongs to; "" for none.

    name: as ``canonical`` spells it; known: spelling of a layer or block -> our name
    """
    parts = name.split(".")
    if re.match(r"quant\w*\.activation_post_process", name):
        return ""  # a QuantStub: the grid of the images, which ImageInput fixes
    ends = [i for i in range(len(parts) - 1, 0, -1) if ".".join(parts[:i]) in known]
    ours = known[".".join(parts[: ends[0]])] if ends else ""
    first, *_ = parts[ends[0] if ends else 0 :]
    if ours.endswith(".weight_quant"):
        return ours
    if ours in every.reads:
        if re.match(GIVES, first):
            return every.gives.get(ours, "")
        side = every.reads if re.search(READS, first) else every.weights
        return side.get(ours, "")
    if ours in every.gives:
        return every.gives[ours]
    return of_block(first, every.blocks.get(ours, []))


def of_block(part: str, quantizers: list[str]) -> str:
    """Choose among the activation quantizers of a block: by number, last, or only.

    >>> of_block("act2", ["a", "b"]), of_block("add_relu", ["a", "b"])
    ('b', 'b')
    >>> of_block("act", ["a"]), of_block("act", ["a", "b"])
    ('a', '')
    """
    if not re.match(ACTS, part):
        return ""
    number = re.search(r"(\d+)$", part)
    if number and 1 <= int(number[1]) <= len(quantizers):
        return quantizers[int(number[1]) - 1]
    if number or not quantizers:
        return ""
    if re.match(LAST, part):
        return quantizers[-1]
    return quantizers[0] if len(quantizers) == 1 else ""


def is_setting(name: str) -> bool:
    """Say whether a tensor is a counter or a switch that no layer computes with.

    >>> is_setting("conv1.weight_fake_quant.observer_enabled"), is_setting("conv1.s")
    (True, False)
    """
    return re.fullmatch(SETTINGS, name.rpartition(".")[2]) is not None


def kind_of(name: str) -> str:
    """Read off a name's end which number of a quantizer it is; "" if none.

    >>> kind_of("conv1.w_step_size"), kind_of("act.min_val"), kind_of("conv1.weight")
    ('step', 'low', '')
    """
    last = name.rpartition(".")[2]
    for kind, pattern in KINDS:
        if re.search(f"(?:^|_)(?:{pattern})(?:_{SIDE})?$", last):
            return kind
    return ""


def values_of(quantizer: Any, given: Mapping[str, Array]) -> dict[str, Array]:
    """Translate the numbers of a file, by kind, to the fields of our quantizer.

    LSQ: s = step, or value / Q (the threshold of Brevitas). PACT: alpha = clip, or step
    (2^b - 1). Ranges: lo, hi = low, high, or -zero step, (2^b - 1 - zero) step. Raises
    ValueError for numbers that the quantizer does not have.
    """
    fields = vars(quantizer)
    own = {k: v for k, v in given.items() if k in fields}
    if own and len(own) == len(given):
        return own
    if "s" in fields:
        return learned_step(quantizer, given)
    n = 2**quantizer.bits - 1
    one = {k: given[k] for k in ("clip", "value", "high") if k in given}
    if "alpha" in fields and (one or "step" in given):
        return {"alpha": next(iter(one.values())) if one else given["step"] * n}
    if "lo" in fields and {"low", "high"} <= given.keys():
        return {"lo": given["low"], "hi": given["high"]}
    if "lo" in fields and "step" in given:
        zero = given.get("zero", np.zeros(())).astype(np.float64)
        return {"lo": -zero * given["step"], "hi": (n - zero) * given["step"]}
    raise ValueError(f"{type(quantizer).__name__} has no {' and no '.join(given)}")


def learned_step(quantizer: Any, given: Mapping[str, Array]) -> dict[str, Array]:
    """Give s from a step, or from a threshold: value / Q_N, or / Q_P if Q_N is 0."""
    q_n, q_p = quantizer.ends()
    step = next((given[k] for k in ("s", "step", "clip") if k in given), None)
    if step is None and "value" in given:
        step = given["value"] / (q_n or q_p)
    values = {} if step is None else {"s": step}
    if "beta" in vars(quantizer) and "zero" in given:
        values["beta"] = given["zero"]
    elif np.any(given.get("zero", 0)):
        raise ValueError(f"{type(quantizer).__name__} has no zero-point: it must be 0")
    if not values:
        raise ValueError(f"{type(quantizer).__name__} has no {' and no '.join(given)}")
    return values
