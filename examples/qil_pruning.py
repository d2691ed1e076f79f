"""What QIL prunes, layer by layer: do fully connected layers prune more?

Figure 1 of the supplement of QIL (Jung et al., CVPR 2019, arXiv:1808.05779) shows the
share of zeros among weights and activations of AlexNet and says that layers 6 and 7,
which are fully connected, are pruned more than the convolutions. Here a small AlexNet
and a ResNet-8 are trained on the embedded Fashion-MNIST subset, fine-tuned with learned
intervals from 5 bits down to --bits, and asked the same.

    python examples/qil_pruning.py [--bits 3] [--seeds 0 1 2] [--figure pruning.png]

Every stage is checkpointed under --runs; a run that was cut off resumes there.
"""

import argparse
import functools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from refqnn import data, fast, plots
from refqnn.cli import count, one_line, whole_number
from refqnn.networks import alexnet, resnet
from refqnn.nn import Preset, Training, fit_stages, steps_per_epoch
from refqnn.papers.qil import PROGRESSIVE_BITS, Pruned, progressive, pruning_ratios

FLOAT = Preset(
    lr=0.05,
    warmup_epochs=1,
    epochs=8,
    batch=64,
    momentum=0.9,
    nesterov=True,
    weight_decay=5e-4,
)
#: the rate of fine-tuning, and the share of it at which intervals move
FINE_RATE, INTERVAL_RATE = 0.02, 0.01
NETWORKS = {
    "AlexNet, small": functools.partial(alexnet, width=1 / 8),
    "ResNet-8": functools.partial(resnet, 8),
}


def begin(
    network: Any, rng: np.random.Generator, epochs: int, *, images: int, lr: float
) -> Training:
    """Return the training of one stage."""
    preset = Preset(**vars(FLOAT) | {"lr": lr})
    optimiser = preset.optimiser(network)
    optimiser.lr_factors = {"quantizer": INTERVAL_RATE}
    schedule = preset.schedule(steps_per_epoch(images, preset.batch), epochs=epochs)
    return Training(network, optimiser, schedule, rng, preset.batch, backend=fast)


def trained(name: str, seed: int, options: argparse.Namespace) -> Any:
    """Return a network with learned intervals at the bits asked for."""
    dataset = data.embedded()
    train = tuple(part[: options.images] for part in dataset[:2])
    folder = options.runs / f"{name.split(',', maxsplit=1)[0].lower()}_{seed}"
    common = {"seed": seed, "test": dataset[2:]}
    start = functools.partial(begin, images=options.images)
    make = NETWORKS[name]
    full = fit_stages(
        [("float", lambda rng: make(rng=rng))],
        functools.partial(start, lr=FLOAT.lr),
        train,
        epochs=options.epochs or FLOAT.epochs,
        folder=folder / "float",
        **common,
    )
    bits = [b for b in PROGRESSIVE_BITS if b >= options.bits]
    stages = progressive(
        lambda b, rng: make(method="qil", weight_bits=b, activation_bits=b, rng=rng),
        functools.partial(start, lr=FINE_RATE),
        train,
        bits=bits,
        epochs=options.epochs or 2,
        source=full[-1].network,
        folder=folder / "qil",
        **common,
    )
    for stage in (*full, *stages):
        accuracy = 100 * stage.records[-1]["test_accuracy"]
        if not options.json:
            print(f"{name}, seed {seed}, {stage.name}: {accuracy:.1f} %")
    return stages[-1].network


def bars(name: str, layers: Sequence[Pruned], what: str) -> plots.LayerBars:
    """Return one panel of the figure; stage1_block1.conv2 is called 1.1.2."""
    weights = what == "weights"
    return plots.LayerBars(
        f"{name}: {what}",
        [".".join(re.findall(r"\d+", layer.name)) for layer in layers],
        [layer.kind == "linear" for layer in layers],
        [layer.weights if weights else layer.activations for layer in layers],
        [layer.weight_ratio if weights else layer.activation_ratio for layer in layers],
    )


def answer(layers: Sequence[Pruned]) -> dict[str, float]:
    """Return mean shares of zeros, of fully connected layers and of convolutions."""
    found = {}
    for kind in ("linear", "conv"):
        chosen = [layer for layer in layers if layer.kind == kind]
        if chosen:
            found[f"{kind}_weights"] = float(np.mean([c.weight_ratio for c in chosen]))
            found[f"{kind}_activations"] = float(
                np.mean([c.activation_ratio for c in chosen])
            )
    return found


def measured(options: argparse.Namespace) -> dict[str, list[list[Pruned]]]:
    """Return the layers of every network, for every seed."""
    images = data.embedded().test_images[:250]
    return {
        name: [
            pruning_ratios(trained(name, seed, options), images, backend=fast)
            for seed in options.seeds
        ]
        for name in NETWORKS
    }


def options_of(argv: Sequence[str] | None) -> tuple[argparse.ArgumentParser, Any]:
    """Return the parser, for its errors, and the parsed options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--bits", type=int, choices=PROGRESSIVE_BITS, default=3)
    add("--seeds", type=whole_number, nargs="+", default=[0])
    add("--images", type=count, default=4000, help="to train on")
    add("--epochs", type=count, help="of every stage")
    add("--quick", action="store_true", help="256 images, 1 epoch")
    add("--runs", type=Path, default=Path("runs/qil_pruning"))
    add("--figure", type=Path, default=Path("qil_pruning.png"))
    add("--json", action="store_true")
    options = parser.parse_args(argv)
    if options.quick:
        options.images, options.epochs = 256, 1
        options.runs /= "quick"
    return parser, options


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Train, count zeros, draw the figure, answer the question."""
    parser, options = options_of(argv)
    try:
        options.figure.parent.mkdir(parents=True, exist_ok=True)
        seen = measured(options)
        panels = [
            tuple(bars(name, layers[0], what) for what in ("weights", "activations"))
            for name, layers in seen.items()
        ]
        plots.save(plots.pruning(panels), options.figure)
    except (ValueError, OSError) as refused:
        parser.error(one_line(refused))
    found = {
        name: {
            "layers": [[layer._asdict() for layer in layers] for layers in of_seeds],
            "answers": [answer(layers) for layers in of_seeds],
        }
        for name, of_seeds in seen.items()
    }
    print(json.dumps(found) if options.json else "\n".join(lines(found, options)))
    return found


def lines(found: dict[str, Any], options: argparse.Namespace) -> list[str]:
    """Return the answers, a line a network and seed."""
    return [
        f"{name}, seed {seed}: zeros of "
        + ", ".join(f"{kind} {100 * share:.0f} %" for kind, share in shares.items())
        for name, result in found.items()
        for seed, shares in zip(options.seeds, result["answers"], strict=True)
    ]


if __name__ == "__main__":
    main()
