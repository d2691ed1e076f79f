"""Four ways to a network of few bits: plain, two-stage, progressive, guided.

    python examples/guided_training.py [--bits 2] [--seeds 0 1 2] [--epochs 6] [--json]

Trains small ResNets on the embedded Fashion-MNIST subset. With each seed a float
network is trained first; all four ways start from its values, and the stages of each
take the same number of epochs in all (Zhuang et al., CVPR 2018, arXiv:1711.00205):

    plain        weights and activations quantized at once
    two-stage    weights first, then both
    progressive  8, 4, ... bits down to those asked for
    guided       both at once, trained together with the float network; --lam weighs
                 the mean square by which their features differ

Every stage is checkpointed under --runs; a run that was cut off resumes there. --quick
is for a look at the program: its numbers mean nothing.
"""

import argparse
import functools
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from refqnn import data, fast
from refqnn.cli import count, one_line, whole_number
from refqnn.nn import Preset, Stage, Training, carry_over, fit_stages, steps_per_epoch
from refqnn.nn.staged import Begin
from refqnn.nn.training import Objective, cross_entropy
from refqnn.papers.guided import (
    guided,
    guided_objective,
    progressive,
    stages,
    two_stage,
)

PRESET = Preset(
    lr=0.05,
    warmup_epochs=0.5,
    epochs=6,
    batch=40,
    momentum=0.9,
    nesterov=True,
    weight_decay=5e-4,
)
WAYS = ("float", "plain", "two-stage", "progressive", "guided")
#: half of the images mirrored; none shifted, because all are centred already
mirror = functools.partial(data.crop_and_flip, padding=0)


class Plan(NamedTuple):
    """What one seed's networks are trained with."""

    dataset: data.Dataset
    config: dict[str, Any]  # of a network, without bits
    bits: int
    epochs: int
    lam: float
    seed: int
    runs: Path


def begin(plan: Plan, objective: Objective = cross_entropy) -> Begin:
    """Return how a stage is trained: each with a schedule of its own."""
    steps = steps_per_epoch(len(plan.dataset.train_images), PRESET.batch)

    def training(network: Any, rng: np.random.Generator, epochs: int) -> Training:
        return Training(
            network,
            PRESET.optimiser(network),
            PRESET.schedule(steps, epochs=epochs),
            rng,
            batch=PRESET.batch,
            augment=mirror,
            objective=objective,
            backend=fast,
        )

    return training


def shares(epochs: int, parts: int) -> list[int]:
    """Return ``epochs`` in parts, the later ones longer where it does not come out.

    >>> shares(8, 3)
    [2, 3, 3]
    """
    ends = [epochs * i // parts for i in range(parts + 1)]
    return [after - before for before, after in itertools.pairwise(ends)]


def falling(bits: int) -> list[int]:
    """Return 8, 4 and the bits asked for, as far as they fall.

    >>> falling(2), falling(4)
    ([8, 4, 2], [8, 4])
    """
    return [*(more for more in (8, 4) if more > bits), bits]


def train(plan: Plan, way: str, source: Any) -> list[Stage]:
    """Return the stages of one way, trained from the values of ``source``."""
    folder = f"{way}_{plan.lam}" if way == "guided" else way
    settings = {
        "seed": plan.seed,
        "test": (plan.dataset.test_images, plan.dataset.test_labels),
        "folder": plan.runs / f"seed{plan.seed}" / folder,
        "checkpoint_every": 50,
        "source": source,
    }
    images = plan.dataset.train_images, plan.dataset.train_labels
    pair, start = (plan.bits, plan.bits), begin(plan)
    if way == "two-stage":
        bits = {"weight_bits": plan.bits, "activation_bits": plan.bits}
        epochs = shares(plan.epochs, 2)
        return two_stage(plan.config, start, images, **bits, epochs=epochs, **settings)
    if way == "progressive":
        widths = falling(plan.bits)
        epochs = shares(plan.epochs, len(widths))
        return progressive(
            plan.config, start, images, bits=widths, epochs=epochs, **settings
        )
    if way == "guided":
        named = stages(plan.config, [pair], make=guided)
        objective = guided_objective(plan.lam, mean_over="elements")
        start = begin(plan, objective)
        settings["source"] = both(plan, source)
    else:
        named = stages(plan.config, [(None, None) if way == "float" else pair])
    return fit_stages(named, start, images, epochs=plan.epochs, **settings)


def both(plan: Plan, source: Any) -> Any:
    """Return a pair of networks that both have the values of ``source``."""
    bits = {"weight_bits": plan.bits, "activation_bits": plan.bits}
    pair = guided(plan.config | bits)
    carry_over(source, pair.full)
    carry_over(source, pair.low)
    return pair


def compare(plan: Plan) -> dict[str, float]:
    """Return the test accuracy of the last network of every way."""
    found = {}
    source = None
    for way in WAYS:
        last = train(plan, way, source)[-1]
        source = last.network if way == "float" else source
        found[way] = last.records[-1]["test_accuracy"]
    return found


def table(found: dict[str, list[float]], bits: int) -> str:
    """Return mean and spread of every way, in percent."""
    lines = [f"{'':12s} {'bits':>4s} {'mean':>6s} {'lowest':>7s} {'highest':>7s}"]
    for way, scores in found.items():
        low, mean, high = (100 * f(scores) for f in (np.min, np.mean, np.max))
        width = 32 if way == "float" else bits
        lines.append(f"{way:12s} {width:4d} {mean:6.2f} {low:7.2f} {high:7.2f}")
    return "\n".join(lines)


def options_of(argv: Sequence[str] | None) -> tuple[argparse.ArgumentParser, Any]:
    """Return the parser, for its errors, and the parsed options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--bits", type=count, default=2)
    add("--seeds", type=whole_number, nargs="+", default=[0, 1, 2])
    add("--epochs", type=count, default=6)
    add("--lam", type=float, default=0.5)
    add("--depth", type=count, default=8)
    add("--width", type=float, default=0.5)
    add("--images", type=count, default=4000)
    add("--test-images", type=count, default=1000)
    add("--runs", type=Path, default=Path("runs/guided"))
    add("--quick", action="store_true", help="few images, a tiny net")
    add("--json", action="store_true")
    options = parser.parse_args(argv)
    if options.quick:
        options.width, options.epochs = 0.1, 3
        options.images, options.test_images = 80, 50
    return parser, options


def plan_of(options: argparse.Namespace) -> Plan:
    """Return what the options ask for, without a seed."""
    every = data.embedded()
    dataset = every._replace(
        train_images=every.train_images[: options.images],
        train_labels=every.train_labels[: options.images],
        test_images=every.test_images[: options.test_images],
        test_labels=every.test_labels[: options.test_images],
    )
    net = {"network": "resnet", "depth": options.depth, "width": options.width}
    return Plan(
        dataset, net, options.bits, options.epochs, options.lam, 0, options.runs
    )


def main(argv: Sequence[str] | None = None) -> dict[str, list[float]]:
    """Train every way with every seed and print the accuracies."""
    parser, options = options_of(argv)
    plan = plan_of(options)
    try:
        of_seed = [compare(plan._replace(seed=seed)) for seed in options.seeds]
    except (ValueError, OSError) as refused:
        parser.error(one_line(refused))
    found = {way: [scores[way] for scores in of_seed] for way in WAYS}
    print(json.dumps(found) if options.json else table(found, options.bits))
    return found


if __name__ == "__main__":
    main()
