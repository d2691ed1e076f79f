"""The comparison table of QIL at a small scale: how much accuracy each method loses.

Every method starts from one float ResNet-8, is fine-tuned on the embedded Fashion-MNIST
subset with the same budget and settings, and is judged by the accuracy it loses against
the float network fine-tuned with that budget, too. The paper's drops on ImageNet stand
beside it. Every cell is recorded when it ends; a run that was cut off goes on. Each
number of images and epochs has a folder of its own under --runs.

    python examples/qil_table.py [--methods qil lq ...] [--seeds 0] [--jobs 2] [--json]

What cannot be compared: the images, the network and the length of training are not the
paper's; its rows differ in their baselines and in what they leave in floating point,
and "2 bits" are three levels in some rows and four in others (the column of levels).
Methods with weights of one or two bits only also run with 4-bit activations (w/4).
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from refqnn import data, fast
from refqnn.cli import count, one_line, whole_number
from refqnn.networks import METHODS, resnet
from refqnn.nn import Preset, Training, carry_over, checkpoint, fit, steps_per_epoch
from refqnn.nn.training import Objective, cross_entropy
from refqnn.papers.guided import guided, guided_objective
from refqnn.papers.qil import printed_drop, weight_levels
from refqnn.studies.sweep import Outcome, Sweep

TABLE = (
    "qil",
    "lq",
    "pact",
    "dorefa",
    "abc",
    "balanced",
    "tsq",
    "syq",
    "zhuang",
    "weq",
)
#: bits of weights that are defined for one number only
ONE_NUMBER = {"tsq": 2, "syq": 2, "twn": 2, "ttq": 2, "xnor": 1}
BITS = (5, 4, 3, 2)
FLOAT = Preset(
    lr=0.1,
    warmup_epochs=1,
    epochs=12,
    batch=64,
    momentum=0.9,
    nesterov=True,
    weight_decay=5e-4,
)
FINE = Preset(
    lr=0.05,
    warmup_epochs=0.2,
    epochs=4,
    batch=64,
    momentum=0.9,
    nesterov=True,
    weight_decay=5e-4,
)
#: learned intervals, steps and bases move at this share of the learning rate ...
QUANTIZER_RATE = 0.01
#: ... but clips at the rate of the weights, with a decay of their own, as in PACT
CLIP_RATE = {"pact": 1.0, "sawb": 1.0, "haq": 1.0}
#: of the paper's tables
NETWORKS = ("ResNet-18", "ResNet-34", "AlexNet")
#: weight of Zhuang's guidance, averaged over the elements of each stage's output
LAM = 0.1


def columns(method: str) -> list[tuple[int, int]]:
    """Return the (weight, activation) bits that a method is trained at."""
    if method in ONE_NUMBER:
        weights = ONE_NUMBER[method]
        return [(weights, 4), (2, 2)] if weights == 2 else [(weights, 4)]
    return [(b, b) for b in BITS]


def mirror(images: Any, rng: np.random.Generator) -> Any:
    """Flip every second image."""
    return data.crop_and_flip(images, rng, padding=0)


def train(
    network: Any,
    preset: Preset,
    *,
    seed: int,
    images: int,
    epochs: int | None,
    path: Path,
    rate: float = QUANTIZER_RATE,
    objective: Objective = cross_entropy,
) -> float:
    """Train to the end, resuming, and return the test accuracy."""
    dataset, length = data.embedded(), epochs or preset.epochs
    rng = np.random.default_rng([seed, 1])
    train_images = dataset.train_images[:images]
    steps = steps_per_epoch(len(train_images), preset.batch)
    optimiser = preset.optimiser(network)
    optimiser.lr_factors = {"quantizer": rate}
    training = Training(
        network,
        optimiser,
        preset.schedule(steps, epochs=length),
        rng,
        batch=preset.batch,
        augment=mirror,
        objective=objective,
        backend=fast,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    records = fit(
        training,
        (train_images, dataset.train_labels[:images]),
        epochs=length,
        test=(dataset.test_images, dataset.test_labels),
        checkpoint=path,
        metrics=path.with_suffix(".jsonl"),
        progress=False,
    )
    return float(records[-1]["test_accuracy"])


def small(seed: int, **options: Any) -> Any:
    """Return the network of the table."""
    return resnet(8, rng=np.random.default_rng(seed), **options)


def float_cell(*, seed: int, images: int, epochs: int | None, folder: str) -> float:
    """Train the float network that all cells of a seed start from."""
    path = Path(folder) / f"start_{seed}.npz"
    network = small(seed)
    return train(network, FLOAT, seed=seed, images=images, epochs=epochs, path=path)


def cell(
    *,
    method: str | None,
    weights: int | None,
    activations: int | None,
    rate: float,
    seed: int,
    images: int,
    epochs: int | None,
    folder: str,
) -> float:
    """Fine-tune one cell from the float network; without a method, the float one."""
    source = small(seed)
    checkpoint.restore(source, checkpoint.load(Path(folder) / f"start_{seed}.npz"))
    options = {"weight_bits": weights, "activation_bits": activations}
    parts = (method or "float", weights, activations, f"{rate:g}", seed)
    path = Path(folder) / ("_".join(map(str, parts)) + ".npz")
    settings: dict[str, Any] = {"images": images, "epochs": epochs, "rate": rate}
    settings |= {"seed": seed, "path": path}
    if method == "zhuang":
        pair = guided(small(seed, method="dorefa", **options).config)
        carry_over(source, pair.full)
        carry_over(source, pair.low)
        objective = guided_objective(LAM, mean_over="elements")
        return train(pair, FINE, objective=objective, **settings)
    network = small(seed, method=method or "pareto", **options)
    carry_over(source, network)
    return train(network, FINE, **settings)


def described(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the runs: the float network and every cell, for every seed."""
    cells = [(None, None, None)] + [
        (method, *bits) for method in options.methods for bits in columns(method)
    ]
    return [
        {"method": m, "weights": w, "activations": a, "seed": seed}
        | {"rate": CLIP_RATE.get(m or "", QUANTIZER_RATE)}
        | common(options)
        for seed in options.seeds
        for m, w, a in cells
    ]


def common(options: argparse.Namespace) -> dict[str, Any]:
    """Return what all runs share; only runs that share it share a folder."""
    return {
        "images": options.images,
        "epochs": options.epochs,
        "folder": str(folder_of(options)),
    }


def folder_of(options: argparse.Namespace) -> Path:
    """Return where runs of these lengths are kept."""
    epochs = "own" if options.epochs is None else options.epochs
    name = f"{options.images}_images_{epochs}_epochs"
    return Path(options.runs) / name


def outcomes(options: argparse.Namespace) -> list[Outcome]:
    """Run everything that is not recorded yet."""
    starts = [{"seed": seed} | common(options) for seed in options.seeds]
    found = []
    for function, runs, name in (
        (float_cell, starts, "starts"),
        (cell, described(options), "cells"),
    ):
        sweep = Sweep(function, runs, folder_of(options) / f"{name}.jsonl")
        try:
            found = sweep.completed(workers=options.jobs)
        except RuntimeError as error:
            raise SystemExit(str(error)) from error
    return found


def drops(found: Sequence[Outcome]) -> dict[str, dict[str, list[float]]]:
    """Return ``{method: {W/A: points lost, one a seed}}``."""
    base = {o.run["seed"]: o.result for o in found if o.run["method"] is None}
    table: dict[str, dict[str, list[float]]] = {}
    for run, accuracy, _ in found:
        if run["method"] is not None:
            label = f"{run['weights']}/{run['activations']}"
            lost = 100 * (base[run["seed"]] - accuracy)
            table.setdefault(run["method"], {}).setdefault(label, []).append(lost)
    return table


def printed(method: str, bits: int) -> str:
    """Return the paper's drops on NETWORKS, top-1/top-5, or dashes."""
    found = [printed_drop(method, net, bits) for net in NETWORKS]
    cells = ["-" if d is None else f"{d[0]:.1f}/{d[1]:.1f}" for d in found]
    return "  ".join(f"{cell:>9s}" for cell in cells)


def lines(found: Sequence[Outcome]) -> list[str]:
    """Return the table, one line a cell: mean, spread over the seeds, the paper's."""
    base = [100 * o.result for o in found if o.run["method"] is None]
    head = f"{'method':10s} {'W/A':>4s} {'levels W':>8s} {'points lost':>14s}"
    text = [
        f"float, fine-tuned with the same budget: {np.mean(base):.1f} %",
        f"{head}   {'  '.join(NETWORKS)}, top-1/top-5 lost in the paper",
    ]
    for method, cells in drops(found).items():
        for label, lost in cells.items():
            bits = int(label.split("/")[0])
            spread = f" ±{np.std(lost, ddof=1):.1f}" if len(lost) > 1 else ""
            same = label == f"{bits}/{bits}"
            paper = printed(method, bits) if same else printed("", bits)
            text.append(
                f"{method:10s} {label:>4s} {weight_levels(method, bits):8d} "
                f"{np.mean(lost):9.1f}{spread:5s}   {paper}"
            )
    return text


def options_of(argv: Sequence[str] | None) -> tuple[argparse.ArgumentParser, Any]:
    """Return the parser, for its errors, and the parsed options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    names = sorted({*METHODS, *TABLE})
    add(
        "--methods",
        nargs="+",
        choices=names,
        default=[*TABLE],
        metavar="METHOD",
        help=", ".join(names),
    )
    add("--seeds", type=whole_number, nargs="+", default=[0])
    add("--jobs", type=count, default=2, help="processes, a thread each")
    add("--images", type=count, default=4000, help="to train on")
    add("--epochs", type=count, help="of every training")
    add("--quick", action="store_true", help="256 images, 1 epoch")
    add("--runs", type=Path, default=Path("runs/qil_table"))
    add("--json", action="store_true")
    options = parser.parse_args(argv)
    if options.quick:
        options.images, options.epochs = 256, 1
    return parser, options


def main(argv: Sequence[str] | None = None) -> dict[str, dict[str, list[float]]]:
    """Train every cell and print the table."""
    parser, options = options_of(argv)
    try:
        steps_per_epoch(options.images, FINE.batch)
        found = outcomes(options)
    except (ValueError, OSError) as refused:
        parser.error(one_line(refused))
    table = drops(found)
    print(json.dumps(table) if options.json else "\n".join(lines(found)))
    return table


if __name__ == "__main__":
    main()
