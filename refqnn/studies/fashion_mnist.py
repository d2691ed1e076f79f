"""The study of all of Fashion-MNIST: a ResNet of few bits against one in float.

Both networks are trained the same way, for a few epochs, with each seed. The images are
the embedded subset, or all 60 000 from a folder of the four IDX files (Debian's package
dataset-fashion-mnist installs them).
"""

import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from refqnn import data, fast
from refqnn.networks import resnet
from refqnn.nn import PARETO_CIFAR, fit
from refqnn.quantizers.checks import check_bits
from refqnn.studies.study import Stage, Study, check_settings, checkpoint_folder, table
from refqnn.studies.sweep import Outcome

#: settings for few epochs: a higher rate than the papers' long schedules
SHORT = replace(PARETO_CIFAR, lr=0.1, warmup_epochs=0.5, epochs=5)
augment = partial(data.crop_and_flip, padding=2)


@dataclass(frozen=True)
class Classifying:
    """``images`` is "embedded" or a folder; ``first`` are trained on, none is all."""

    images: str = "embedded"
    first: int | None = None
    bits: int = 4
    depth: int = 20
    epochs: int = 5
    seeds: tuple[int, ...] = (0, 1)

    def __post_init__(self) -> None:
        """Raise ValueError unless the runs can begin."""
        check_settings(self, seeds=0, epochs=1, first=SHORT.batch)
        resnet(self.depth, rng=None)  # no arrays: a check
        check_bits(self.bits, least=2)
        data.source(self.images)


def stages(s: Classifying, folder: Path) -> Iterator[Stage]:
    """Yield the runs in floating point and in few bits, of every seed.

    Warns of images that are not those of Fashion-MNIST as published.
    """
    of, images = data.source(s.images)
    for name in data.names_of_other_files(images) if images else ():
        warnings.warn(f"{name} is not that of Fashion-MNIST", stacklevel=2)
    common = {
        k: v for k, v in asdict(s).items() if k not in {"images", "bits", "seeds"}
    }
    runs = [
        {"of": of, "bits": bits, "seed": seed} | common
        for bits in (None, s.bits)
        for seed in s.seeds
    ]
    function = partial(classify, images=images, folder=str(folder))
    yield Stage(function, runs, "fashion_mnist")


def classify(
    *,
    of: str,
    images: str | None,
    folder: str,
    seed: int,
    bits: int | None,
    depth: int,
    epochs: int,
    first: int | None,
) -> float:
    """Train one network to its end, going on where it was, and return its accuracy."""
    pictures, rng = (
        data.read_images(of, images).first(first),
        np.random.default_rng(seed),
    )
    network = resnet(depth, weight_bits=bits, activation_bits=bits, rng=rng)
    path = checkpoint_folder(
        folder, f"resnet{depth}_{bits or 'float'}", seed, of=of, epochs=epochs, n=first
    )
    records = fit(
        SHORT.training(
            network,
            len(pictures.train_images),
            rng=rng,
            epochs=epochs,
            augment=augment,
            backend=fast,
        ),
        pictures[:2],
        epochs=epochs,
        test=pictures[2:],
        checkpoint=path.with_suffix(".npz"),
        checkpoint_every=100,
        metrics=path.with_suffix(".jsonl"),
    )
    return float(records[-1]["test_accuracy"])


def rows(s: Classifying, runs: list[Outcome]) -> dict[str, list[float]]:
    """Return the test accuracies of both networks, one a seed."""
    names = {None: "float", s.bits: f"{s.bits}-bit"}
    return {
        name: [o.result for o in runs if o.run["bits"] == bits]
        for bits, name in names.items()
    }


def lines(s: Classifying, rows: dict[str, list[float]]) -> Iterator[str]:
    """Yield mean and seeds of both networks, in per cent, and what the bits cost."""
    means = {name: 100 * float(np.mean(scores)) for name, scores in rows.items()}
    yield from table(
        {"network": name, "mean": means[name], "seeds": [100 * a for a in scores]}
        for name, scores in rows.items()
    )
    lost = means["float"] - means[f"{s.bits}-bit"]
    yield f"{s.bits} bits lose {lost:.2f} points"


STUDIES = (
    Study(
        name="fashion_mnist",
        shows="all of Fashion-MNIST: ResNet-20 of 4 bits against float (--set "
        "images=FOLDER)",
        takes=("80 min", "20 s"),
        settings=Classifying,
        quick={"depth": 8, "epochs": 1, "first": 256},
        stages=stages,
        rows=rows,
        lines=lines,
    ),
)
