"""The study of QIL's comparison table, arXiv:1808.05779, supplement, tables 1 and 2.

On the embedded Fashion-MNIST subset every method starts from one float ResNet-8, is
fine-tuned with the same budget and settings, and is judged by the accuracy it loses
against the float network fine-tuned with that budget, too; the paper's drops on
ImageNet stand beside it. What cannot be compared: the images, the
network and the length of training are not the paper's; its rows differ in their
baselines and in what they leave in floating point, and "2 bits" are three levels in
some rows and four in others. Methods with weights of one or two bits only also run with
4-bit activations (w/4).

QIL goes down from 5 bits, as its paper does, within the same budget: a cell of b bits
shares its epochs among the stages 5 .. b, the last of them where there are too few
(``procedure=direct`` starts every cell from floating point). TSQ trains float weights
for all of its epochs (step 1), and then learns ternary ones that give the same codes
(step 2, papers/tsq.py); ``direct`` fine-tunes the ternary start instead.

Rule, written before it was run (``methods=qil,lq,pact,dorefa,lsq bits=3,2 seeds=0,..,4
epochs=16``, and all 10 000 test images, which the embedded subset does not have): QIL
is best at a width where it loses less than each other method by a paired 95 % interval
above 0, and is not where one of them lies below; the last lines.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from refqnn import data, fast
from refqnn.moved import other_half
from refqnn.networks import METHODS, resnet
from refqnn.nn import PARETO_CIFAR, Preset, carry_over, checkpoint, evaluate, fit
from refqnn.papers.guided import guided_objective, guided_pair
from refqnn.papers.qil import PROGRESSIVE_BITS, printed_drop, progressive, weight_levels
from refqnn.papers.tsq import learn_second_step
from refqnn.studies.study import Stage, Study, check_settings, paired_interval, table
from refqnn.studies.sweep import Outcomes, Row

QUICK = {"images": 256, "epochs": 1}
FLOAT = replace(PARETO_CIFAR, lr=0.1, warmup_epochs=1, epochs=12, batch=64)
FINE = replace(PARETO_CIFAR, lr=0.05, warmup_epochs=0.2, epochs=4, batch=64)


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
#: what methods do otherwise that have a procedure of their own
OWN_WAY: dict[str | None, Row] = {"qil": {"progressive": True}, "tsq": {"steps": 2}}
#: of the paper's tables
NETWORKS = ("ResNet-18", "ResNet-34", "AlexNet")
#: weight of Zhuang's guidance, averaged over the elements of each stage's output
LAM = 0.1
#: training images whose codes TSQ's step 2 is fitted to
FITTED = 64
#: qil_pruning_study.py was a part of this file
__getattr__ = other_half(__name__, "refqnn.papers.qil_pruning_study")
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
    #: of QIL and TSQ: "paper", in stages or steps, or "direct", as the others
    procedure: str = "paper"
    #: "embedded", or the folder of Fashion-MNIST's files, with 10 000 test images
    data: str = "embedded"

    def __post_init__(self) -> None:
        data.source(self.data)
        check_settings(self, seeds=0, images=FINE.batch, epochs=1)
        check_settings(self, procedure=("paper", "direct"))
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
    of, files = data.source(s.data)
    name += "" if of == "embedded" else f"_{of}"
    where: Row = {"folder": str(folder / name)} | ({"files": files} if files else {})
    common: Row = {"images": s.images, "epochs": s.epochs}
    starts = [{"seed": seed} | common for seed in s.seeds]
    yield Stage(partial(float_run, **where), starts, f"{name}/starts")
    cells: list[tuple[Any, ...]] = [(None, None, None)]
    cells += [(method, *bits) for method in s.methods for bits in s.columns(method)]
    runs = [
        {"method": m, "weights": w, "activations": a, "seed": seed}
        | {"rate": CLIP_RATE.get(m or "", QUANTIZER_RATE)}
        | (OWN_WAY.get(m, {}) if s.procedure == "paper" else {})
        | common
        for seed in s.seeds
        for m, w, a in cells
    ]
    yield Stage(partial(cell_run, **where), runs, f"{name}/cells")


def pictures_of(images: int, files: str | None) -> data.Dataset:
    """Return so many training images, and all test images, of what ``data`` names."""
    whole = data.fashion_mnist(files) if files else data.embedded()
    return whole.first(images)


def small(seed: int, **options: Any) -> Any:
    """Build the network of the table."""
    return resnet(8, rng=np.random.default_rng(seed), **options)


def begin_training(
    network: Any,
    rng: np.random.Generator,
    length: int,
    *,
    preset: Preset,
    images: int,
    rate: float = QUANTIZER_RATE,
    **options: Any,
) -> Any:
    """Make a training of ``length`` epochs; quantizers move at ``rate`` of its rate."""
    training: Any = preset.training(
        network, images, rng=rng, epochs=length, backend=fast, **options
    )
    training.optimiser.lr_factors = {"quantizer": rate}
    return training


def accuracy_after(
    network: Any,
    preset: Preset,
    path: Path,
    *,
    seed: int,
    images: int,
    epochs: int | None,
    files: str | None = None,
    **how: Any,
) -> float:
    """Train to the end, resuming at ``path``, and return the test accuracy."""
    pictures, length = pictures_of(images, files), epochs or preset.epochs
    rng, count = np.random.default_rng([seed, 1]), len(pictures.train_images)
    training = begin_training(
        network, rng, length, preset=preset, images=count, augment=mirror, **how
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    kept: Any = {"checkpoint": path, "metrics": path.with_suffix(".jsonl")}
    parts: Any = {"epochs": length, "test": pictures[2:]}
    records = fit(training, pictures[:2], **parts, **kept, progress=False)
    return float(records[-1]["test_accuracy"])


def progressive_accuracy(
    source: Any,
    bits: int,
    folder: Path,
    *,
    seed: int,
    images: int,
    epochs: int | None,
    rate: float,
    files: str | None = None,
) -> float:
    """Fine-tune QIL from 5 bits down to ``bits`` and return the test accuracy."""
    pictures = pictures_of(images, files)
    lengths = stage_lengths(bits, epochs or FINE.epochs)
    count = len(pictures.train_images)
    stages = progressive(
        lambda b, g: resnet(8, method="qil", weight_bits=b, activation_bits=b, rng=g),
        partial(begin_training, preset=FINE, images=count, rate=rate, augment=mirror),
        pictures[:2],
        bits=[*lengths],
        epochs=[*lengths.values()],
        source=source,
        folder=folder,
        seed=seed,
        test=pictures[2:],
        progress=False,
    )
    return float(stages[-1].records[-1]["test_accuracy"])


def stage_lengths(bits: int, epochs: int) -> dict[int, int]:
    """Share the epochs among the stages from 5 bits down: {bits: epochs}.

    What does not come out even goes to the last stages, which are the only ones where
    there are fewer epochs than stages.

    >>> stage_lengths(2, 16), stage_lengths(3, 4), stage_lengths(2, 2)
    ({5: 4, 4: 4, 3: 4, 2: 4}, {5: 1, 4: 1, 3: 2}, {3: 1, 2: 1})
    """
    stages = [*(b for b in PROGRESSIVE_BITS if b > bits), bits][-epochs:]
    each, more = divmod(epochs, len(stages))
    first = len(stages) - more
    return {b: each + (i >= first) for i, b in enumerate(stages)}


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
    progressive: bool = False,
    steps: int = 1,
    **settings: Any,
) -> float:
    """Fine-tune one cell from the float network."""
    source = small(seed)
    checkpoint.restore(source, checkpoint.load(Path(folder) / f"start_{seed}.npz"))
    bits = {"weight_bits": weights, "activation_bits": activations}
    parts = (method or "float", weights, activations, f"{settings['rate']:g}", seed)
    path = Path(folder) / ("_".join(map(str, parts)) + ".npz")
    if progressive and weights is not None:
        down = path.with_suffix("")
        return progressive_accuracy(source, weights, down, seed=seed, **settings)
    if steps == 2:
        first = small(seed, method=method, activation_bits=activations)
        carry_over(source, first)
        float_path = path.with_stem(f"{path.stem}_step1")
        accuracy_after(first, FINE, float_path, seed=seed, **settings)
        return second_step(first, small(seed, method=method, **bits), seed, settings)
    if method == "zhuang":
        pair = guided_pair(small(seed, method="dorefa", **bits).config)
        carry_over(source, pair.full)
        carry_over(source, pair.low)
        settings["objective"] = guided_objective(LAM, mean_over="elements")
        return accuracy_after(pair, FINE, path, seed=seed, **settings)
    network = small(seed, method=method or "pareto", **bits)
    carry_over(source, network)
    return accuracy_after(network, FINE, path, seed=seed, **settings)


def second_step(first: Any, network: Any, seed: int, settings: Row) -> float:
    """Learn the weights of TSQ's step 2 and return the test accuracy."""
    pictures = pictures_of(settings["images"], settings.get("files"))
    rng = np.random.default_rng([seed, 2])
    positions, images = settings["images"] // 2, pictures.train_images[:FITTED]
    learn_second_step(first, network, images, rng=rng, positions=positions)
    return float(evaluate(network, *pictures[2:], backend=fast).accuracy)


def table_rows(
    _: Table, __: Outcomes, cells: Outcomes
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
    return [*table(lines), *over_others(rows)]


def over_others(rows: dict[str, dict[str, list[float]]]) -> Iterator[str]:
    """Yield how many points QIL is ahead of each method that has its bits, paired."""
    for label, own in rows.get("qil", {}).items():
        for method, cells in rows.items():
            if method != "qil" and label in cells:
                mean, low, high = paired_interval(
                    np.subtract(cells[label], own).tolist()
                )
                yield f"{label}: QIL over {method} {mean:.1f}, {low:.1f} to {high:.1f}"


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
)
