"""The study of 8-bit training: range batch norm and bifurcated 8-bit gradients.

Banner, Hubara, Hoffer, Soudry. arXiv:1805.11046, section 5: 8-bit weights, activations
and gradients train without loss. ResNet-8, the settings of QIL's float network.

Rule, written before any run: it holds where float less "scalable" lies below one point
with its paired 95 % interval, over five seeds and 10 000 test images, and does not
where the interval lies above one; "batch norm" tells what the bits alone cost.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from refqnn import data
from refqnn.papers.qil_study import FLOAT, QUICK, accuracy_after, small
from refqnn.papers.scalable import scalable_resnet
from refqnn.studies.study import Stage, Study, check_settings, paired_interval, table
from refqnn.studies.sweep import Outcomes, Row

ARMS = ("float", "batch norm", "scalable")


@dataclass(frozen=True)
class Scalable:
    """Bits of weights, activations and gradients; ``data`` may be a folder."""

    bits: int = 8
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    images: int = 4000
    epochs: int = FLOAT.epochs
    data: str = "embedded"

    def __post_init__(self) -> None:
        data.source(self.data)
        check_settings(self, bits=2, seeds=0, images=FLOAT.batch, epochs=1)


def scalable_stages(s: Scalable, folder: Path) -> Iterator[Stage]:
    """Yield a training for every arm and seed."""
    of, files = data.source(s.data)
    common: Row = {"bits": s.bits, "images": s.images, "epochs": s.epochs, "of": of}
    runs = [{"arm": arm, "seed": seed} | common for seed in s.seeds for arm in ARMS]
    yield Stage(
        partial(scalable_run, folder=str(folder), files=files), runs, "scalable"
    )


def scalable_run(
    *, arm: str, seed: int, bits: int, of: str, folder: str, **length: Any
) -> float:
    """Train one arm and return its test accuracy."""
    if arm == "scalable":
        rng = np.random.default_rng(seed)
        network = scalable_resnet(8, bits=bits, gradient_bits=bits, rng=rng)
    else:
        b = None if arm == "float" else bits
        network = small(seed, method="min_max", weight_bits=b, activation_bits=b)
    own = [arm, bits, seed, length["images"], length["epochs"], of]
    path = Path(folder) / ("_".join(map(str, own)) + ".npz")
    return accuracy_after(network, FLOAT, path, seed=seed, **length)


def scalable_rows(_: Scalable, outcomes: Outcomes) -> dict[str, list[float]]:
    """Return the test accuracies of every arm in per cent, one a seed."""
    return {a: [100 * o.result for o in outcomes if o.run["arm"] == a] for a in ARMS}


def scalable_lines(_: Scalable, rows: dict[str, list[float]]) -> Iterator[str]:
    """Yield the accuracies, and what each arm loses, paired over the seeds."""
    yield from table({"arm": arm, "accuracy": own} for arm, own in rows.items())
    for arm in ARMS[1:]:
        lost = np.subtract(rows["float"], rows[arm]).tolist()
        mean, low, high = paired_interval(lost)
        yield f"float less {arm}: {mean:.2f} points, {low:.2f} to {high:.2f}"


STUDIES = (
    Study(
        name="scalable_training",
        shows="do 8-bit weights, activations and gradients train without loss? (Banner "
        "et al.)",
        takes=("30 min", "20 s"),
        settings=Scalable,
        quick=QUICK | {"seeds": (0,)},
        stages=scalable_stages,
        rows=scalable_rows,
        lines=scalable_lines,
    ),
)
