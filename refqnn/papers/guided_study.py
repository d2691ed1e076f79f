"""The study of guided training, arXiv:1711.00205: four ways to a network of few bits.

Small ResNets on the embedded Fashion-MNIST subset. With each seed a float network is
trained first; all ways start from its values, and the stages of each take the same
number of epochs in all:

    plain        weights and activations quantized at once
    two-stage    weights first, then both
    progressive  8, 4, ... bits down to those asked for
    guided       both at once, trained together with the float network; ``lam`` weighs
                 the mean square by which their features differ
"""

import itertools
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from refqnn import data, fast
from refqnn.networks import resnet
from refqnn.nn import PARETO_CIFAR, Training, carry_over, fit_stages
from refqnn.papers.guided import (
    guided_objective,
    guided_pair,
    progressive,
    stages,
    two_stage,
)
from refqnn.quantizers.checks import check_bits
from refqnn.studies.study import Stage, Study, check_settings, checkpoint_folder, table
from refqnn.studies.sweep import Outcomes, Row

PRESET = replace(PARETO_CIFAR, warmup_epochs=0.5, epochs=6, batch=40)
WAYS = ("float", "plain", "two-stage", "progressive", "guided")
#: half of the images mirrored; none shifted, because all are centred already
mirror = partial(data.crop_and_flip, padding=0)


@dataclass(frozen=True)
class Guiding:
    """Bits of weights and activations, the network, and the epochs of each way."""

    bits: int = 2
    epochs: int = 6
    lam: float = 0.5
    depth: int = 8
    width: float = 0.5
    images: int = 4000
    test_images: int = 1000
    #: "embedded", or the folder of Fashion-MNIST, CIFAR-10 or CIFAR-100
    data: str = "embedded"
    seeds: tuple[int, ...] = (0, 1, 2)

    def __post_init__(self) -> None:
        check_settings(self, seeds=0, epochs=1, images=PRESET.batch, test_images=1)
        data.source(self.data, cifar=True)
        check_bits(self.bits, least=1)
        resnet(self.depth, width=self.width, rng=None)  # no arrays: a check
        guided_objective(self.lam)


def guided_stages(s: Guiding, folder: Path) -> Iterator[Stage]:
    """Yield the float network of every seed, then the ways that start from it."""
    of, files = data.source(s.data, cifar=True)
    common = {k: v for k, v in asdict(s).items() if k not in {"seeds", "data"}}
    common |= {"of": of} if files else {}
    seeds = [{"seed": seed} | common for seed in s.seeds]
    function = partial(way_run, folder=str(folder), files=files)
    yield Stage(function, [{"way": "float"} | seed for seed in seeds], "starts")
    runs = [{"way": way} | seed for way in WAYS[1:] for seed in seeds]
    yield Stage(function, runs, "ways")


def way_run(*, way: str, folder: str, **settings: Any) -> float:
    """Return the test accuracy after all stages of a way."""
    source = None
    if way != "float":
        source = trained_stages("float", folder, None, **settings)[-1].network
    records = trained_stages(way, folder, source, **settings)[-1].records
    return float(records[-1]["test_accuracy"])


def trained_stages(
    way: str,
    folder: str,
    source: Any,
    *,
    seed: int,
    bits: int,
    epochs: int,
    lam: float,
    images: int,
    test_images: int,
    of: str = "embedded",
    files: str | None = None,
    **network: Any,
) -> Any:
    """Train a way from the values of ``source``, or go on; return its stages."""
    pictures = data.read_images(of, files).first(images, test_images)
    network |= data.IMAGE_OPTIONS.get(of, {})
    config, pair = {"network": "resnet"} | network, (bits, bits)
    both: Row = {"weight_bits": bits, "activation_bits": bits}
    length = {"epochs": epochs, "images": images, "lam": lam, "bits": bits, **network}
    length |= {"of": of} if files else {}
    how: Row = {
        "seed": seed,
        "test": pictures[2:],
        "folder": checkpoint_folder(folder, way, seed, **length),
        "checkpoint_every": 50,
        "source": source,
        "progress": False,
    }
    options: Row = {"augment": mirror, "backend": fast}
    if way == "guided":
        options["objective"] = guided_objective(lam, mean_over="elements")

    def begin(network: Any, rng: np.random.Generator, length: int) -> Training:
        return PRESET.training(network, images, rng=rng, epochs=length, **options)

    train = pictures[:2]
    if way == "two-stage":
        return two_stage(config, begin, train, epochs=shares(epochs, 2), **both, **how)
    if way == "progressive":
        widths = [*(more for more in (8, 4) if more > bits), bits]
        parts = shares(epochs, len(widths))
        return progressive(config, begin, train, bits=widths, epochs=parts, **how)
    if way == "guided":
        named = stages(config, [pair], make=guided_pair)
        how["source"] = guided_pair(config | both)
        carry_over(source, how["source"].full)
        carry_over(source, how["source"].low)
    else:
        named = stages(config, [(None, None) if way == "float" else pair])
    return fit_stages(named, begin, train, epochs=epochs, **how)


def shares(epochs: int, parts: int) -> list[int]:
    """Return ``epochs`` in parts, the later ones longer where it does not come out.

    >>> shares(8, 3)
    [2, 3, 3]
    """
    ends = [epochs * i // parts for i in range(parts + 1)]
    return [after - before for before, after in itertools.pairwise(ends)]


def guided_rows(_: Guiding, starts: Outcomes, ways: Outcomes) -> dict[str, list[float]]:
    """Return the test accuracies of every way, one a seed."""
    every = [*starts, *ways]
    return {way: [o.result for o in every if o.run["way"] == way] for way in WAYS}


def guided_lines(s: Guiding, rows: dict[str, list[float]]) -> list[str]:
    """Return mean, lowest and highest accuracy of every way, in per cent."""
    return table(
        {
            "way": way,
            "bits": 32 if way == "float" else s.bits,
            "mean": 100 * float(np.mean(scores)),
            "lowest": 100 * min(scores),
            "highest": 100 * max(scores),
        }
        for way, scores in rows.items()
    )


STUDIES = (
    Study(
        name="guided_training",
        shows="plain, two-stage, progressive and guided training to few bits (Zhuang "
        "et al.)",
        takes=("15 min", "15 s"),
        settings=Guiding,
        quick={"width": 0.1, "epochs": 3, "images": 80, "test_images": 50},
        stages=guided_stages,
        rows=guided_rows,
        lines=guided_lines,
    ),
)
