"""A PyTorch module beside a network: values, outputs, loss and gradients, by layer.

Both compute one batch in one dtype, on copies. Rows stand in the order of computation:
values of parameters, outputs in forward order, the loss, then gradients from the last
layer to the first. So the first row that differs is where a mistake is: everything
before it agrees.
"""

import copy
import importlib
from typing import Any

import numpy as np

from refqnn._types import Array, Float, Int
from refqnn.core import Param, Run, named_modules, walk, zero_grads
from refqnn.nn import ImageInput, loss_and_gradient
from refqnn.nn.layer_names import canonical, layer_names, spellings
from refqnn.nn.quantizer_places import is_setting, kind_of, place, places, values_of
from refqnn.nn.state_dicts import leaf_namer, weights_of
from refqnn.quantizers.checks import check_choice
from refqnn.testing.comparison import (
    Comparison,
    Side,
    gradient_rows,
    paired_rows,
    row,
)
from refqnn.testing.networks import in_float64


def compare_module(
    torch_module: Any,
    network: Any,
    images: Array,
    *,
    labels: Int | None = None,
    training: bool = True,
    tolerance: float = 1e-8,
    dtype: str = "float64",
) -> Comparison:
    """Compare a PyTorch module with a network on one batch, layer by layer.

    images: (N, C, H, W), labels: (N,), 0, 1, 2, ... by default  ->  rows

    The module reads what the network's ``ImageInput`` makes of the images, and ends in
    logits. Layers, quantizers and their values are paired by name as in
    ``load_state_dict``, which brings the values of a module over. Neither side changes.
    With ``dtype="float32"``, which observers of torch.ao need, give a ``tolerance`` of
    1e-3 or so.
    Raises ValueError where no layer has a counterpart.
    """
    check_asked(torch_module, network, tolerance)
    check_choice(dtype, "float64", "float32", name="dtype")
    module, ours = copy.deepcopy(torch_module), in_float64(network, dtype)
    module.double() if dtype == "float64" else module.float()
    layers, values = layer_pairs(module, ours), value_pairs(module, ours)
    if not layers:
        raise ValueError("no layer of the module has a counterpart: other names")
    pixels = np.asarray(images, dtype)
    if not np.isfinite(pixels).all():
        raise ValueError("images must be finite")
    first = next((m for _, m in named_modules(ours) if isinstance(m, ImageInput)), None)
    numbers = pixels if first is None else first.forward(pixels, Run())[0]
    run = Run(training=training)
    mine, labels = our_side(ours, pixels, labels, run)
    theirs = torch_side(module.train(training), layers, numbers, labels)
    rows = [
        *paired_rows("value", values, mine.values, theirs.values, tolerance),
        *paired_rows("output", layers, mine.outputs, theirs.outputs, tolerance),
        row("logits", ("network", "module"), mine.logits, theirs.logits, tolerance),
        row("loss", ("network", "module"), mine.loss, theirs.loss, tolerance),
        *gradient_rows(layers, values, (mine, theirs), tolerance),
    ]
    learned = {k: v for k, v in values.items() if theirs.grads.keys() >= set(v)}
    seen = {name for names in learned.values() for name in names}
    params = {name for name, leaf in walk(ours) if isinstance(leaf, Param)}
    left = [*sorted(theirs.grads.keys() - seen), *sorted(params - learned.keys())]
    return Comparison(tuple(rows), tuple(left))


def check_asked(module: Any, network: Any, tolerance: float) -> None:
    """Raise ValueError unless given a module of torch, a network and a tolerance."""
    if isinstance(module, type) or not hasattr(module, "named_modules"):
        raise ValueError(f"torch_module must be a torch.nn.Module, got {module!r}")
    if not (hasattr(network, "forward") and hasattr(network, "backward")):
        raise ValueError(f"network must be one of refqnn.networks, got {network!r}")
    if not tolerance >= 0:
        raise ValueError(f"tolerance must not be negative, got {tolerance}")


def value_pairs(module: Any, network: Any) -> dict[str, list[str]]:
    """Map our parameters and statistics to the tensors of a module.

    A quantizer may stand at each of its readers; its one step is theirs together.
    """
    ours_of, weights = leaf_namer(network), weights_of(network)
    parts, known, every = (
        dict(named_modules(network)),
        spellings(network),
        places(network),
    )
    pairs: dict[str, list[str]] = {}
    for name, tensor in module.state_dict().items():
        here = ours_of(name)
        if here not in weights and not is_setting(here):
            quantizer = place(here, known, every)
            part = parts[quantizer] if quantizer else None
            leaf = own_field(part, here, tensor.detach().numpy())
            here = f"{quantizer}.{leaf}" if leaf else ""
        if here in weights or (here and not is_setting(here)):
            pairs.setdefault(here, []).append(name)
    return pairs


def own_field(quantizer: Any, name: str, value: Array) -> str:
    """Find the field of a quantizer that holds a tensor as it is; "" for none."""
    leaf, kind = name.rpartition(".")[2], kind_of(name)
    if quantizer is None or not (kind or leaf in vars(quantizer)):
        return ""
    try:
        new = values_of(quantizer, {leaf if leaf in vars(quantizer) else kind: value})
    except ValueError:
        return ""
    fields = [k for k, v in new.items() if np.array_equal(v, value)]
    return fields[0] if len(new) == len(fields) == 1 else ""


def layer_pairs(module: Any, network: Any) -> dict[str, list[str]]:
    """Map our layers and quantizers to the submodules of a module.

    A convolution of torch.ao that holds its batch norm, and perhaps its ReLU, gives
    what our batch norm, or ReLU, gives.
    """
    known, every = spellings(network), places(network)
    parts, order = dict(named_modules(network)), list(layer_names(network))
    pairs: dict[str, list[str]] = {}
    taken: list[str] = []
    for name, part in module.named_modules(remove_duplicate=False):
        there = canonical(f"{name}.weight").removesuffix(".weight")
        here = known.get(there, "")
        if here in every.reads and hasattr(part, "bn"):
            at = order.index(here) + 1
            at += "ReLU" in type(part).__name__
            here = order[at]
        inside = any(name.startswith(f"{above}.") for above in taken)
        if (
            not here
            and not inside
            and not any(k.startswith(f"{there}.") for k in known)
        ):
            here = place(f"{there}.s", known, every)
            taken += [name] if here else []
        if here and here in parts and type(part).__name__ != "Identity":
            pairs.setdefault(here, []).append(name)
    return pairs


def our_side(
    network: Any, pixels: Float, labels: Int | None, run: Run
) -> tuple[Side, Int]:
    """Compute the loss of a batch and its gradients; give the labels, too."""
    names = {id(part): name for name, part in named_modules(network)}
    values = {name: leaf.value.copy() for name, leaf in walk(network)}
    side = Side(values, {}, {}, {})

    def observe(part: Any, _x: Array, y: Array) -> None:
        side.outputs[names[id(part)]] = np.array(y)

    def recording(name: str, backward: Any) -> Any:
        def record(dy: Float, cache: Any) -> Float:
            side.output_grads[name] = np.array(dy)
            return np.asarray(backward(dy, cache))

        return record

    for name, part in named_modules(network):
        if hasattr(part, "backward"):
            part.backward = recording(name, part.backward)
    zero_grads(network)
    logits, cache = network.forward(pixels, Run(training=run.training, observe=observe))
    if labels is None:
        labels = np.arange(len(pixels)) % logits.shape[1]
    if not np.isfinite(logits).all():
        raise ValueError("the network gives logits that are not finite")
    labels, side.logits = np.asarray(labels), logits
    side.loss, dlogits = loss_and_gradient(logits, labels, run)
    labels = labels.astype(np.int64)
    network.backward(dlogits, cache)
    side.grads |= {n: p.grad for n, p in walk(network) if isinstance(p, Param)}
    return side, labels


def torch_side(
    module: Any, layers: dict[str, list[str]], numbers: Float, labels: Int
) -> Side:
    """Compute the same with a module of PyTorch, under its own names."""
    torch: Any = importlib.import_module("torch")

    values = {n: t.detach().numpy().copy() for n, t in module.state_dict().items()}
    side = Side(values, {}, {}, {})
    x, labels = torch.from_numpy(np.array(numbers)), torch.from_numpy(labels)
    check_chance(torch, module, x)
    watch(torch, module, {name for names in layers.values() for name in names}, side)
    logits = module(x)
    if not isinstance(logits, torch.Tensor) or logits.ndim != 2:
        kind = getattr(logits, "shape", type(logits).__name__)
        raise ValueError(f"the module must give logits (N, K), gives {kind}")
    loss = torch.nn.functional.cross_entropy(logits, labels)
    if not loss.requires_grad:
        raise ValueError("no gradient leads from the loss of the module to anything")
    loss.backward()
    side.loss, side.logits = float(loss.detach()), logits.detach().numpy()
    first: dict[Any, str] = {}
    for name, p in module.named_parameters(remove_duplicate=False):
        if p.requires_grad:
            side.same[name] = first.setdefault(p, name)
            side.grads[name] = np.zeros(p.shape) if p.grad is None else p.grad.numpy()
    return side


def watch(torch: Any, module: Any, watched: set[str], side: Side) -> None:
    """Note the outputs of the parts that are ``watched``, and the gradients by them.

    A part with several names is called by each in turn; otherwise the last call counts.
    """
    names_of: dict[Any, list[str]] = {}
    for name, part in module.named_modules(remove_duplicate=False):
        if name in watched:
            names_of.setdefault(part, []).append(name)

    def keep(part: Any, _inputs: Any, y: Any) -> None:
        names = names_of[part]
        name = next((n for n in names if n not in side.outputs), names[-1])
        if isinstance(y, torch.Tensor):
            side.outputs[name] = y.detach().clone().numpy()
            if y.requires_grad:
                y.register_hook(lambda g: side.output_grads.update({name: g.numpy()}))

    for part in names_of:
        part.register_forward_hook(keep)


def check_chance(torch: Any, module: Any, x: Any) -> None:
    """Raise ValueError for a module that gives another answer to the same images."""
    twice = []
    for _ in range(2):
        try:
            with torch.no_grad():
                twice.append(copy.deepcopy(module)(x))
        except (TypeError, RuntimeError) as error:
            message = f"the module raises: {error}"
            if "double" in str(error).lower():
                message += ", it may need dtype='float32'"
            raise ValueError(message) from error
    if isinstance(twice[0], torch.Tensor) and not torch.equal(
        *map(torch.nan_to_num, twice)
    ):
        named = [
            f"{name} ({type(part).__name__})"
            for name, part in module.named_modules()
            if "Dropout" in type(part).__name__ and part.training and part.p
        ]
        raise ValueError(
            "the module answers by chance: compare with training=False, or set the p "
            f"of dropouts to 0: {', '.join(named) or 'it has no module of that name'}"
        )
