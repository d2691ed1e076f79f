"""One page a method: what its quantizers do to the weights and inputs of a layer.

    python examples/quantizer_gallery.py [METHOD ...] [--bits B] [--output DIR]
                                         [--weights CHECKPOINT] [--json]

Draws, for weights and for activations, the transfer function over the histogram of the
values, the surrogate gradient, and how often each level is used. Without names: every
method that has the bits; without bits: 4, or what the method is defined for.

The values are the weights of the largest convolution of a trained network, and what
enters it for 64 test images. Without a checkpoint, a small float ResNet is trained on
the embedded images; it is kept in the folder, so later runs begin at once.
"""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from refqnn import data, fast, plots
from refqnn._types import Array, Float
from refqnn.core import Run, named_modules, named_params, zero_grads
from refqnn.networks import build, resnet
from refqnn.networks.methods import METHODS, method_of
from refqnn.nn import Conv2d, Preset, Sequential, Training, fit, steps_per_epoch
from refqnn.nn import checkpoint as checkpoints

SETTINGS = Preset(
    lr=0.1,
    warmup_epochs=0.5,
    epochs=5,
    batch=40,
    momentum=0.9,
    nesterov=True,
    weight_decay=1e-3,
)
IMAGES = 64
#: passes that set the parameters of a quantizer, as the first steps of a training would
PASSES = 2
#: values at which the backward is asked
POINTS = 200
#: of weights, where only the bits are in question
ANY_SHAPE = (1, 1, 3, 3)


class Layer(NamedTuple):
    """The weights of a trained layer, and what enters it."""

    name: str
    weights: Float  # (O, C, Kh, Kw)
    inputs: Float  # (N, C, H, W)


def train(path: Path, *, epochs: int, images: int | None, width: float) -> Sequential:
    """Return a float ResNet-8 from ``path``, trained on if it had fewer epochs."""
    dataset = data.embedded()
    rng = np.random.default_rng(0)
    network = resnet(8, width=width, rng=rng)
    chosen = dataset.train_images[:images], dataset.train_labels[:images]
    steps = steps_per_epoch(len(chosen[0]), SETTINGS.batch)
    training = Training(
        network,
        SETTINGS.optimiser(network),
        SETTINGS.schedule(steps, epochs=epochs),
        rng,
        batch=SETTINGS.batch,
        backend=fast,
    )
    fit(training, chosen, epochs=epochs, checkpoint=path)
    return network


def load(path: Path) -> Sequential:
    """Return the network of a checkpoint."""
    content = checkpoints.load(path)
    network = build(content.config)
    checkpoints.restore(network, content)
    return network


def largest_convolution(network: Sequential, images: Array) -> Layer:
    """Return the convolution of the most weights, and what enters it for the images.

    images: (N, C, H, W)
    """
    layers = [(n, m) for n, m in named_modules(network) if isinstance(m, Conv2d)]
    name, layer = max(layers, key=lambda found: found[1].w.value.size)
    entered = []

    def observe(module: Any, x: Array, _: Array) -> None:
        if module is layer:
            entered.append(x)

    network.forward(images, Run(backend=fast, observe=observe))
    return Layer(name.removeprefix("layers."), layer.w.value, entered[0])


def default_bits(name: str) -> int:
    """Return 4, or the first number of bits that the method is defined for."""
    return next((bits for bits in (4, 1, 2, 3) if is_defined(name, bits)), 4)


def is_defined(name: str, bits: int) -> bool:
    """Return whether both quantizers of a method exist with these bits."""
    try:
        quantizers(name, bits, ANY_SHAPE)
    except ValueError:
        return False
    return True


def quantizers(name: str, bits: int, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """Return the quantizers of weights of a shape and of activations.

    Raises ValueError for an unknown method, and for bits that it does not define.
    """
    method = method_of(name)
    try:
        return method.weights(bits, shape), method.activations(bits)
    except ValueError as refused:
        raise ValueError(f"{name} is not for {bits} bits: {refused}") from refused


def page(name: str, bits: int, layer: Layer, summary: str) -> plots.GalleryPage:
    """Measure both quantizers of a method on a layer."""
    of_weights, of_inputs = quantizers(name, bits, layer.weights.shape)
    rows = (
        measure("Weights", of_weights, layer.weights),
        measure("Activations", of_inputs, layer.inputs),
    )
    title = f"{name}: weights and activations of {counted(name, bits)}"
    return plots.GalleryPage(title, summary, rows)


def counted(name: str, bits: int) -> str:
    """Return the number with what a method counts; ABC-Net does not count bits.

    >>> counted("qil", 1), counted("abc", 4)
    ('1 bit', '4 bases')
    """
    one, many = ("basis", "bases") if name == "abc" else ("bit", "bits")
    return f"{bits} {one if bits == 1 else many}"


def measure(kind: str, quantizer: Any, v: Float) -> plots.Transfer:
    """Return what a quantizer does to ``v: (...)``, seen in one typical group of it.

    Raises ValueError where all values are equal: no error has a share of no variance.
    """
    if not np.ptp(v):
        raise ValueError(f"{kind.lower()} must differ, all are {v.flat[0]}")
    for _ in range(PASSES):
        quantizer.forward(v, Run(training=True))
    y, cache = quantizer.forward(v, Run())
    codes, every_level = quantizer.encode(v)
    every_boundary = quantizer.decision_boundaries(v)
    levels = every_level.reshape(len(every_boundary), -1)
    group_of = codes // levels.shape[1]
    group = typical(v, group_of, len(levels))
    members = np.flatnonzero(group_of == group)
    ranks = codes.flat[members] % levels.shape[1]
    at = spread_out(v, members)
    slopes, coupled = diagonal(quantizer, cache, v, at)
    zeros = np.mean(v.flat[members] == 0)
    note = f"{members.size:,} values" + (f", {zeros:.0%} of them 0" if zeros else "")
    if len(levels) > 1:
        what = "filter" if len(levels) == len(v) else "group"
        note = f"{what} {group + 1} of {len(levels)}: {note}"
    return plots.Transfer(
        kind=kind,
        source=described(quantizer),
        note=note,
        values=v.flat[members],
        boundaries=every_boundary[group],
        levels=levels[group],
        shares=np.bincount(ranks, minlength=levels.shape[1]) / ranks.size,
        points=v.flat[at],
        slopes=slopes,
        coupled=coupled,
        learned=learned(quantizer, cache, v),
        error=error(v, y),
        scaled_error=error(v, best_scale(v, y) * y),
    )


def typical(v: Float, group_of: Array, groups: int) -> int:
    """Return the group of the middle standard deviation."""
    spreads = [np.std(v[group_of == group]) for group in range(groups)]
    return int(np.argsort(spreads)[groups // 2])


def spread_out(v: Float, members: Array) -> Array:
    """Return indices into ``v.flat``, among ``members``, evenly spread by value."""
    ascending = members[np.argsort(v.flat[members], kind="stable")]
    values = v.flat[ascending]
    wanted = np.linspace(values[0], values[-1], POINTS)
    return ascending[np.unique(np.searchsorted(values, wanted))]


def diagonal(quantizer: Any, cache: Any, v: Float, at: Array) -> tuple[Float, bool]:
    """Return dy_i / dv_i for every i in ``at``, and whether other entries are not 0."""
    slopes, coupled = np.zeros(len(at)), False
    for k, i in enumerate(at):
        dy = np.zeros_like(v)
        dy.flat[i] = 1
        dv = quantizer.backward(dy, cache)
        slopes[k], dv.flat[i] = dv.flat[i], 0
        coupled |= bool(dv.any())
    return slopes, coupled


def learned(quantizer: Any, cache: Any, v: Float) -> str:
    """Say the gradient of the mean of y for every learned parameter."""
    params = named_params(quantizer)
    if not params:
        return "no learned parameters"
    grads = []
    for dy in (np.full_like(v, 1 / v.size), np.zeros_like(v)):
        zero_grads(quantizer)
        quantizer.backward(dy, cache)
        grads.append([p.grad.copy() for p in params.values()])
    # less that of dy = 0: a decay is no gradient of y
    of_y = [with_y - without for with_y, without in zip(*grads, strict=True)]
    parts = [
        f"{name} {grad.item():.2g}"
        if grad.size == 1
        else f"{name} {np.linalg.norm(grad):.2g} (norm of {grad.size})"
        for name, grad in zip(params, of_y, strict=True)
    ]
    return "gradients of mean y: " + ", ".join(parts)


def error(v: Float, y: Float) -> float:
    """mean (y - v)^2 / var v

    >>> error(np.array([-1.0, 1.0]), np.array([-1.5, 1.5]))
    0.25
    """
    return float(np.mean((y.astype(np.float64) - v) ** 2) / np.var(v, dtype=np.float64))


def best_scale(v: Float, y: Float) -> float:
    """k = <v, y> / <y, y>: no multiple of y is nearer to v; 0 where all of y is.

    >>> best_scale(np.array([-1.0, 1.0]), np.array([-2.0, 2.0]))
    0.5
    """
    energy = np.sum(y * y, dtype=np.float64)
    return float(np.sum(v * y, dtype=np.float64) / energy) if energy else 0.0


def described(quantizer: Any) -> str:
    """Return what the file of a quantizer says it is, and its first citation."""
    text = sys.modules[type(quantizer).__module__].__doc__
    what, source = (" ".join(part.split()) for part in text.split("\n\n")[:2])
    return f"{what.rstrip('.')} ({cited(source)})"


def cited(source: str) -> str:
    """Return the first author, the year and the number of a citation.

    >>> cited("Chin, Chuang. One Weight Bitwidth. ECCV 2020, arXiv:2008.09916.")
    'Chin et al., 2020, arXiv:2008.09916'
    """
    first, *others = source.split(". ", maxsplit=1)[0].split(",")
    found = re.search(r"(20\d\d,\s)?arXiv:[\d.]+\d|20\d\d(?=;)", source)
    where = f", {found.group()}" if found else ""
    return f"{first}{' et al.' if others else ''}{where}"


def options_of(argv: Sequence[str] | None) -> tuple[argparse.ArgumentParser, Any]:
    """Return the parser, for its errors, and the parsed options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("methods", nargs="*", metavar="METHOD", help=", ".join(METHODS))
    parser.add_argument("--bits", type=int, help="none: 4, or what the method has")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("runs/gallery"),
        help="folder (runs/gallery)",
    )
    parser.add_argument("--weights", type=Path, help="checkpoint of a trained network")
    parser.add_argument(
        "--epochs", type=int, default=SETTINGS.epochs, help="of ResNet-8"
    )
    parser.add_argument("--width", type=float, default=0.5, help="of ResNet-8")
    parser.add_argument("--images", type=int, help="train on the first ones only")
    parser.add_argument("--json", action="store_true")
    return parser, parser.parse_args(argv)


def chosen_bits(names: Sequence[str], bits: int | None) -> dict[str, int]:
    """Return the bits of every page; ValueError where a named method lacks them."""
    wanted = {n: default_bits(n) if bits is None else bits for n in names or METHODS}
    if not names:
        wanted = {name: b for name, b in wanted.items() if is_defined(name, b)}
    for name, b in wanted.items():
        quantizers(name, b, ANY_SHAPE)
    if not wanted:
        raise ValueError(f"no method is defined for {bits} bits")
    return wanted


def network_of(options: Any) -> tuple[Sequential, str]:
    """Return the network to look into, and what it is."""
    if options.weights is not None:
        return load(options.weights), str(options.weights)
    path = options.output / "float.npz"
    network = train(
        path, epochs=options.epochs, images=options.images, width=options.width
    )
    return network, "a float ResNet-8 trained on Fashion-MNIST"


def draw(options: Any) -> dict[str, dict[str, Any]]:
    """Draw every page; return what is on it in short, by method."""
    wanted = chosen_bits(options.methods, options.bits)
    left_out = ", ".join(sorted(set(METHODS) - set(wanted)))
    if left_out and not options.methods:
        print(f"not defined for {options.bits} bits: {left_out}", file=sys.stderr)
    options.output.mkdir(parents=True, exist_ok=True)
    network, what = network_of(options)
    layer = largest_convolution(network, data.embedded().test_images[:IMAGES])
    summary = f"{layer.name} of {what}: its weights, and what enters it"
    found = {}
    for name, bits in wanted.items():
        drawn = page(name, bits, layer, summary)
        path = options.output / f"{name}_{bits}bit.png"
        plots.save(plots.gallery_page(drawn), path)
        found[name] = {"bits": bits, "file": str(path)} | {
            row.kind.lower(): in_short(row) for row in drawn.rows
        }
        if not options.json:
            print(path)
    return found


def in_short(row: plots.Transfer) -> dict[str, float]:
    """Return the numbers of a row as plain values."""
    return {
        "levels": row.levels.size,
        "used": int(np.count_nonzero(row.shares)),
        "error": row.error,
        "scaled_error": row.scaled_error,
    }


def main(argv: Sequence[str] | None = None) -> dict[str, dict[str, Any]]:
    """Draw the pages and say where they are."""
    parser, options = options_of(argv)
    try:
        found = draw(options)
    except (ValueError, OSError) as refused:
        parser.error(str(refused))
    if options.json:
        print(json.dumps(found))
    return found


if __name__ == "__main__":
    main()
