"""A PyTorch module beside a network: values, outputs, loss and gradients, by layer.

Both compute one batch in one dtype, on copies. Rows stand in the order of computation:
values of parameters, outputs in forward order, the loss, then gradients from the last
layer to the first. So the first row that differs is where a mistake is: everything
before it agrees.
"""

import copy
import importlib
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from refqnn._types import Array, Float, Int
from refqnn.core import Param, Run, named_modules, walk, zero_grads
from refqnn.nn import ImageInput, loss_and_gradient
from refqnn.nn.layer_names import canonical, layer_names, spellings
from refqnn.nn.quantizer_places import is_setting, kind_of, place, places, values_of
from refqnn.nn.state_dicts import leaf_namer, weights_of
from refqnn.testing.mistakes import Matrices, matrix_mistake

#: below this share of the largest gradient of all, differences are rounding
FLOOR = 1e-6


class Row(NamedTuple):
    """One array of both sides."""

    #: "value", "output", "loss", "gradient of output" or "gradient"
    kind: str
    ours: str
    theirs: str
    #: largest difference over the largest magnitude of ours; infinite for other shapes
    error: float
    #: how theirs differs; "" within the tolerance
    diagnosis: str

    def __str__(self) -> str:
        verdict = self.diagnosis or "agrees"
        return f"{self.kind} of {self.theirs} ({self.ours}): {verdict}"


@dataclass(frozen=True)
class Comparison:
    """All rows of a comparison, and the parameters that were compared with nothing."""

    rows: tuple[Row, ...]
    not_compared: tuple[str, ...]

    @property
    def first(self) -> Row | None:
        """The first row that differs; None where both sides agree."""
        return next((row for row in self.rows if row.diagnosis), None)

    @property
    def agrees(self) -> bool:
        """Whether every row agrees and every parameter was compared."""
        return self.first is None and not self.not_compared

    def __str__(self) -> str:
        lines = []
        for kind in dict.fromkeys(row.kind for row in self.rows):
            errors = [row.error for row in self.rows if row.kind == kind]
            same = sum(not r.diagnosis for r in self.rows if r.kind == kind)
            largest = f"largest error {max(errors):.2g}"
            lines.append(f"{kind}: {same} of {len(errors)} agree, {largest}")
        if self.first is not None:
            lines.append(f"first difference: {self.first}")
        if self.not_compared:
            lines.append(f"not compared: {', '.join(self.not_compared)}")
        return "\n".join(lines)

    __repr__ = __str__


@dataclass
class Side:
    """What one side computed, in the order of computation."""

    values: dict[str, Float]
    outputs: dict[str, Float]
    #: derivatives of the loss by outputs, and by values
    output_grads: dict[str, Float]
    grads: dict[str, Float]
    loss: float = 0.0


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
    module, ours = copy.deepcopy(torch_module), float_copy(network, dtype)
    module.double() if dtype == "float64" else module.float()
    layers, values = layer_pairs(module, ours), value_pairs(module, ours)
    if not layers:
        raise ValueError("no layer of the module has a counterpart: other names")
    pixels = np.asarray(images, dtype)
    first = next((m for _, m in named_modules(ours) if isinstance(m, ImageInput)), None)
    numbers = pixels if first is None else first.forward(pixels, Run())[0]
    run = Run(training=training)
    mine, labels = our_side(ours, pixels, labels, run)
    theirs = torch_side(module.train(training), layers, numbers, labels)
    rows = [
        *value_rows("value", values, mine.values, theirs.values, tolerance),
        *layer_rows("output", layers, mine.outputs, theirs.outputs, tolerance),
        row("loss", ("network", "module"), mine.loss, theirs.loss, tolerance),
        *gradient_rows(layers, values, (mine, theirs), tolerance),
    ]
    learned = {k: v for k, v in values.items() if theirs.grads.keys() >= set(v)}
    seen = {name for names in learned.values() for name in names}
    params = {name for name, leaf in walk(ours) if isinstance(leaf, Param)}
    left = [*sorted(theirs.grads.keys() - seen), *sorted(params - learned.keys())]
    return Comparison(tuple(rows), tuple(left))


def float_copy(network: Any, dtype: str) -> Any:
    """Copy a network, every float of it in float64 or float32."""
    if dtype not in {"float64", "float32"}:
        raise ValueError(f"dtype must be 'float64' or 'float32', got {dtype!r}")
    new = copy.deepcopy(network)
    for _, leaf in walk(new):
        if leaf.value.dtype.kind == "f":
            leaf.value = leaf.value.astype(dtype)
        if isinstance(leaf, Param):
            leaf.grad = np.zeros(leaf.value.shape, dtype)
    return new


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
    for name, part in module.named_modules():
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
    labels = np.asarray(labels)
    side.loss, dlogits = loss_and_gradient(logits, labels, run)
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

    def see(name: str) -> Any:
        def keep(_part: Any, _inputs: Any, y: Any) -> None:
            if isinstance(y, torch.Tensor):
                side.outputs[name] = y.detach().clone().numpy()
                if y.requires_grad:
                    y.register_hook(
                        lambda g: side.output_grads.update({name: g.numpy()})
                    )

        return keep

    watched = {name for names in layers.values() for name in names}
    for name, part in module.named_modules():
        if name in watched:
            part.register_forward_hook(see(name))
    logits = module(torch.from_numpy(np.array(numbers)))
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels))
    loss.backward()
    side.loss = float(loss.detach())
    side.grads |= {
        name: np.zeros(p.shape) if p.grad is None else p.grad.numpy()
        for name, p in module.named_parameters()
    }
    return side


def row(
    kind: str, names: tuple[str, str], ours: Any, theirs: Any, tolerance: float,
    least: float = 0.0,
) -> Row:  # fmt: skip
    """Compare one array of both sides; differences below ``least`` are small."""
    a, b = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if a.size == b.size and a.size == 1:
        b = b.reshape(a.shape)
    if a.shape != b.shape:
        return Row(kind, *names, np.inf, f"its shape is {b.shape}, not {a.shape}")
    scale = max(float(np.abs(a).max(initial=0)), least) or 1.0
    difference = np.abs(a - b)
    error = float(difference.max(initial=0)) / scale
    if error <= tolerance:
        return Row(kind, *names, error, "")
    at = np.unravel_index(int(np.nan_to_num(difference, nan=np.inf).argmax()), a.shape)
    place = f"[{', '.join(map(str, at))}]" if at else ""
    numbers = f"{place} is {b[at]:.6g}, not {a[at]:.6g}".lstrip()
    mistake = matrix_mistake(Matrices(b.reshape(1, -1), a.reshape(1, -1), None, a.size))
    return Row(kind, *names, error, f"{numbers}: {mistake}")


def value_rows(
    kind: str, pairs: dict[str, list[str]], ours: dict[str, Float],
    theirs: dict[str, Float], tolerance: float,
) -> list[Row]:  # fmt: skip
    """Compare the values of both sides."""
    return [
        row(kind, (name, there), ours[name], theirs[there], tolerance)
        for name, names in pairs.items()
        for there in names
    ]


def layer_rows(
    kind: str, pairs: dict[str, list[str]], ours: dict[str, Float],
    theirs: dict[str, Float], tolerance: float,
) -> list[Row]:  # fmt: skip
    """Compare outputs, or gradients of outputs, in the order of ``ours``."""
    return [
        row(kind, (name, there), y, theirs[there], tolerance)
        for name, y in ours.items()
        for there in pairs.get(name, [])
        if there in theirs
    ]


def gradient_rows(
    layers: dict[str, list[str]], values: dict[str, list[str]],
    sides: tuple[Side, Side], tolerance: float,
) -> list[Row]:  # fmt: skip
    """Compare gradients from the last layer to the first."""
    ours, theirs = sides
    least = FLOOR * max(
        (np.abs(g).max(initial=0) for g in ours.grads.values()), default=0
    )
    rows = []
    for layer, dy in ours.output_grads.items():
        rows += layer_rows(
            "gradient of output", layers, {layer: dy}, theirs.output_grads, tolerance
        )
        for name, grad in ours.grads.items():
            names_there = values.get(name, [])
            learned = names_there and theirs.grads.keys() >= set(names_there)
            if name.rpartition(".")[0] == layer and learned:
                total = sum(theirs.grads[there] for there in values[name])
                names = (name, " + ".join(values[name]))
                rows.append(row("gradient", names, grad, total, tolerance, least))
    return rows
