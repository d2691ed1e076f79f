"""The studies of QIL, arXiv:1808.05779: its comparison table, and what it prunes.

Both train on the embedded Fashion-MNIST subset. In the table every method starts from
one float ResNet-8, is fine-tuned with the same budget and settings, and is judged by
the accuracy it loses against the float network fine-tuned with that budget, too; the
paper's drops on ImageNet stand beside it. What cannot be compared: the images, the
network and the length of training are not the paper's; its rows differ in their
baselines and in what they leave in floating point, and "2 bits" are three levels in
some rows and four in others. Methods with weights of one or two bits only also run with
4-bit activations (w/4).
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from refqnn import data, fast, plots
from refqnn.networks import METHODS, alexnet, resnet
from refqnn.nn import PARETO_CIFAR, Preset, carry_over, checkpoint, fit, fit_stages
from refqnn.papers.guided import guided_objective, guided_pair
from refqnn.papers.qil import (
    PROGRESSIVE_BITS,
    Pruned,
    printed_drop,
    progressive,
    pruning_ratios,
    weight_levels,
)
from refqnn.studies.study import Stage, Study, check_settings, checkpoint_folder, table
from refqnn.studies.sweep import Outcome

Row = dict[str, Any]
QUICK = {"images": 256, "epochs": 1}
FLOAT = replace(PARETO_CIFAR, lr=0.1, warmup_epochs=1, epochs=12, batch=64)
FINE = replace(PARETO_CIFAR, lr=0.05, warmup_epochs=0.2, epochs=4, batch=64)


# The comparison table


TABLE_METHODS = (
    *("qil", "lq", "pact", "dorefa", "abc"),
    *("balanced", "tsq", "syq", "zhuang", "weq"),
)
#: bits of weights that are defined for one number only
ONE_NUMBER = {"tsq": 2, "syq": 2, "twn": 2, "ttq": 2, "xnor": 1}
#: learned intervals, steps and bases move at this share of the learning rate ...
QUANTIZER_RATE = 0.01
#: ... but clips at the rate of the weights, with a decay of their own, as in PACT
CLIP_RATE = {"pact": 1.0, "sawb": 1.0, "haq": 1.0}
#: of the paper's tables
NETWORKS = ("ResNet-18", "ResNet-34", "AlexNet")
#: weight of Zhuang's guidance, averaged over the elements of each stage's output
LAM = 0.1
mirror = partial(data.crop_and_flip, padding=0)


@dataclass(frozen=True)
class Table:
    """Methods, and bits of those that are defined for many."""

    methods: tuple[str, ...] = TABLE_METHODS
    bits: tuple[int, ...] = (5, 4, 3, 2)
    seeds: tuple[int, ...] = (0,)
    images: int = 4000
    #: of every training; none: 12 in floating point, 4 of fine-tuning
    epochs: int | None = None

    def __post_init__(self) -> None:
        """Raise ValueError unless the runs can begin."""
        check_settings(self, seeds=0, images=FINE.batch, epochs=1)
        names = sorted({*METHODS, "zhuang"})
        for method in self.methods:
            if method not in names:
                raise ValueError(f"methods must be of {', '.join(names)}, got {method}")

    def columns(self, method: str) -> list[tuple[int, int]]:
        """Return the (weight, activation) bits that a method is trained at."""
        if method not in ONE_NUMBER:
            return [(b, b) for b in self.bits]
        weights = ONE_NUMBER[method]
        return [(weights, 4), (2, 2)] if weights == 2 else [(weights, 4)]


def table_stages(s: Table, folder: Path) -> Iterator[Stage]:
    """Yield the float network of every seed, then every cell; without a method, float.

    Only runs of one number of images and epochs share a folder.
    """
    name = f"{s.images}_images_{s.epochs or 'own'}_epochs"
    inside = str(folder / name)
    common: Row = {"images": s.images, "epochs": s.epochs}
    starts = [{"seed": seed} | common for seed in s.seeds]
    yield Stage(partial(float_run, folder=inside), starts, f"{name}/starts")
    cells: list[tuple[Any, ...]] = [(None, None, None)]
    cells += [(method, *bits) for method in s.methods for bits in s.columns(method)]
    runs = [
        {"method": m, "weights": w, "activations": a, "seed": seed}
        | {"rate": CLIP_RATE.get(m or "", QUANTIZER_RATE)}
        | common
        for seed in s.seeds
        for m, w, a in cells
    ]
    yield Stage(partial(cell_run, folder=inside), runs, f"{name}/cells")


def small(seed: int, **options: Any) -> Any:
    """Build the network of the table."""
    return resnet(8, rng=np.random.default_rng(seed), **options)


def accuracy_after(
    network: Any,
    preset: Preset,
    path: Path,
    *,
    seed: int,
    images: int,
    epochs: int | None,
    rate: float = QUANTIZER_RATE,
    **options: Any,
) -> float:
    """Train to the end, resuming at ``path``, and return the test accuracy."""
    pictures, length = data.embedded().first(images), epochs or preset.epochs
    training: Any = preset.training(
        network,
        len(pictures.train_images),
        rng=np.random.default_rng([seed, 1]),
        epochs=length,
        augment=mirror,
        backend=fast,
        **options,
    )
    training.optimiser.lr_factors = {"quantizer": rate}
    path.parent.mkdir(parents=True, exist_ok=True)
    records = fit(
        training,
        pictures[:2],
        epochs=length,
        test=pictures[2:],
        checkpoint=path,
        metrics=path.with_suffix(".jsonl"),
        progress=False,
    )
    return float(records[-1]["test_accuracy"])


def float_run(*, seed: int, folder: str, **length: Any) -> float:
    """Train the float network that all cells of a seed start from."""
    path = Path(folder) / f"start_{seed}.npz"
    return accuracy_after(small(seed), FLOAT, path, seed=seed, **length)


def cell_run(
    *,
    method: str | None,
    weights: int | None,
    activations: int | None,
    seed: int,
    folder: str,
    **settings: Any,
) -> float:
    """Fine-tune one cell from the float network."""
    source = small(seed)
    checkpoint.restore(source, checkpoint.load(Path(folder) / f"start_{seed}.npz"))
    bits = {"weight_bits": weights, "activation_bits": activations}
    parts = (method or "float", weights, activations, f"{settings['rate']:g}", seed)
    path = Path(folder) / ("_".join(map(str, parts)) + ".npz")
    if method == "zhuang":
        pair = guided_pair(small(seed, method="dorefa", **bits).config)
        carry_over(source, pair.full)
        carry_over(source, pair.low)
        settings["objective"] = guided_objective(LAM, mean_over="elements")
        return accuracy_after(pair, FINE, path, seed=seed, **settings)
    network = small(seed, method=method or "pareto", **bits)
    carry_over(source, network)
    return accuracy_after(network, FINE, path, seed=seed, **settings)


def table_rows(
    _: Table, __: list[Outcome], cells: list[Outcome]
) -> dict[str, dict[str, list[float]]]:
    """Return {method: {W/A: points lost, one a seed}}."""
    base = {o.run["seed"]: o.result for o in cells if o.run["method"] is None}
    rows: dict[str, dict[str, list[float]]] = {}
    for run, accuracy, _error in cells:
        if run["method"] is not None:
            label = f"{run['weights']}/{run['activations']}"
            lost = 100 * (base[run["seed"]] - accuracy)
            rows.setdefault(run["method"], {}).setdefault(label, []).append(lost)
    return rows


def table_lines(_: Table, rows: dict[str, dict[str, list[float]]]) -> list[str]:
    """Return a line for each cell: mean and deviation, the paper's top-1/top-5."""
    lines = []
    for method, cells in rows.items():
        for label, lost in cells.items():
            bits, activations = map(int, label.split("/"))
            line = {
                "method": method,
                "W/A": label,
                "levels of W": weight_levels(method, bits),
                "points lost": float(np.mean(lost)),
                "deviation": float(np.std(lost, ddof=1)) if len(lost) > 1 else None,
            }
            for net in NETWORKS:
                drop = printed_drop(method, net, bits) if bits == activations else None
                line[f"{net}, paper"] = drop and "{:.1f}/{:.1f}".format(*drop)
            lines.append(line)
    return table(lines)


# What the intervals prune


FLOAT_PRUNED = replace(FLOAT, lr=0.05, epochs=8)
#: the rate of fine-tuning, and the share of it at which intervals move
FINE_RATE, INTERVAL_RATE = 0.02, 0.01
PRUNED = {
    "AlexNet, small": partial(alexnet, width=1 / 8),
    "ResNet-8": partial(resnet, 8),
}


@dataclass(frozen=True)
class Pruning:
    """The bits that fine-tuning goes down to, from 5."""

    bits: int = 3
    seeds: tuple[int, ...] = (0,)
    images: int = 4000
    #: of every stage; none: 8 in floating point, 2 of fine-tuning
    epochs: int | None = None

    def __post_init__(self) -> None:
        """Raise ValueError unless the runs can begin."""
        check_settings(self, seeds=0, images=FLOAT.batch, epochs=1)
        if self.bits not in PROGRESSIVE_BITS:
            raise ValueError(f"bits must be of {PROGRESSIVE_BITS}, got {self.bits}")


def pruning_stages(s: Pruning, folder: Path) -> Iterator[Stage]:
    """Yield the runs of both networks."""
    length = {"bits": s.bits, "images": s.images, "epochs": s.epochs}
    runs = [{"name": n, "seed": seed} | length for n in PRUNED for seed in s.seeds]
    yield Stage(partial(pruning_run, folder=str(folder)), runs, "pruning")


def pruning_run(
    *, name: str, seed: int, bits: int, images: int, epochs: int | None, folder: str
) -> list[Row]:
    """Train in floating point, fine-tune from 5 bits down, and count zeros by layer."""
    pictures, make = data.embedded().first(images), PRUNED[name]
    place = checkpoint_folder(
        folder, name.partition(",")[0].lower(), seed, images=images, of=epochs
    )
    common: Row = {"seed": seed, "test": pictures[2:], "progress": False}

    def begin(network: Any, rng: np.random.Generator, length: int, lr: float) -> Any:
        preset = replace(FLOAT_PRUNED, lr=lr)
        made: Any = preset.training(
            network, images, rng=rng, epochs=length, backend=fast
        )
        made.optimiser.lr_factors = {"quantizer": INTERVAL_RATE}
        return made

    full = fit_stages(
        [("float", lambda rng: make(rng=rng))],
        partial(begin, lr=FLOAT_PRUNED.lr),
        pictures[:2],
        epochs=epochs or FLOAT_PRUNED.epochs,
        folder=place / "float",
        **common,
    )
    stages = progressive(
        lambda b, rng: make(method="qil", weight_bits=b, activation_bits=b, rng=rng),
        partial(begin, lr=FINE_RATE),
        pictures[:2],
        bits=[b for b in PROGRESSIVE_BITS if b >= bits],
        epochs=epochs or 2,
        source=full[-1].network,
        folder=place / "qil",
        **common,
    )
    layers = pruning_ratios(
        stages[-1].network, pictures.test_images[:250], backend=fast
    )
    return [layer._asdict() for layer in layers]


def pruning_rows(_: Pruning, runs: list[Outcome]) -> dict[str, Any]:
    """Return the layers of every network and seed, and the mean shares of zeros."""
    layers = {n: [o.result for o in runs if o.run["name"] == n] for n in PRUNED}
    return {
        name: {"layers": seeds, "answers": [mean_shares(layers) for layers in seeds]}
        for name, seeds in layers.items()
    }


def mean_shares(layers: Sequence[Row]) -> dict[str, float]:
    """Return the mean shares of zeros of fully connected layers and of convolutions."""
    shares = {}
    for kind in ("linear", "conv"):
        own = [layer for layer in layers if layer["kind"] == kind]
        if own:
            for what in ("weight", "activation"):
                mean = np.mean([layer[f"{what}_ratio"] for layer in own])
                shares[f"{kind}_{what}s"] = float(mean)
    return shares


def pruning_lines(s: Pruning, rows: dict[str, Any]) -> Iterator[str]:
    """Yield the shares of zeros of every network."""
    for name, row in rows.items():
        yield f"{name}: shares of zeros"
        each = zip(s.seeds, row["answers"], strict=True)
        yield from table({"seed": seed} | answers for seed, answers in each)


def pruning_figure(s: Pruning, runs: list[Outcome]) -> dict[str, Any]:
    """Draw the layers of the first seed; stage1_block1.conv2 is called 1.1.2."""
    first = {o.run["name"]: o.result for o in runs if o.run["seed"] == s.seeds[0]}
    panels = []
    for name, rows in first.items():
        layers = [Pruned(**row) for row in rows]
        names = [".".join(re.findall(r"\d+", layer.name)) for layer in layers]
        linear = [layer.kind == "linear" for layer in layers]
        weights = plots.LayerBars(
            f"{name}: weights",
            names,
            linear,
            [layer.weights for layer in layers],
            [layer.weight_ratio for layer in layers],
        )
        inputs = weights._replace(
            title=f"{name}: activations",
            counts=[layer.activations for layer in layers],
            shares=[layer.activation_ratio for layer in layers],
        )
        panels.append((weights, inputs))
    return {"": plots.pruning(panels)}


STUDIES = (
    Study(
        name="qil_table",
        shows="accuracy that each method of QIL's table loses, beside the paper's "
        "(supplement, tables 1 and 2)",
        takes=("25 min", "2 min"),
        settings=Table,
        quick=QUICK,
        stages=table_stages,
        rows=table_rows,
        lines=table_lines,
    ),
    Study(
        name="qil_pruning",
        shows="do fully connected layers prune more than convolutions? (QIL, "
        "supplement, figure 1)",
        takes=("5 min", "15 s"),
        settings=Pruning,
        quick=QUICK,
        stages=pruning_stages,
        rows=pruning_rows,
        lines=pruning_lines,
        figures=pruning_figure,
    ),
)
