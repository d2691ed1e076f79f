r"""Judge subnets: train a supernet, evaluate each subnet once, compare its integers.

QuantNAS (Gao et al., CVPR 2024 NAS workshop) does not say on which images a search
judges; ours: Fashion-MNIST, the embedded subset or all of it, halved to 14 x 14.

    part           images
    train          the first of the training images
    calibration    the first 256 of these, without labels
    search         training images that are held out, which a search judges by
    test           test images
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, final

import numpy as np

from refqnn import data, fast
from refqnn._types import Int
from refqnn.deploy import IntegerNetwork, compare_float64, compare_layers, deploy
from refqnn.papers.quantnas.deployment import accuracy, plain
from refqnn.papers.quantnas.elastic_network import Supernet, calibrate, supernet
from refqnn.papers.quantnas.sandwich import Alone, train
from refqnn.papers.quantnas.scales import Oracle
from refqnn.papers.quantnas.shared_layers import Calibrated
from refqnn.papers.quantnas.space import Genotype, Space
from refqnn.studies.sweep import Memo

CALIBRATION, BATCH = 256, 64
#: test images in memory layer by layer
AT_A_TIME = 1000
#: the last training images, which a search judges by
HELD_OUT = {"embedded": 512, "fashion_mnist": 2000, "cifar10": 2000, "cifar100": 2000}


def image_parts(of: str, images: int, folder: str | None = None) -> dict[str, Any]:
    """Return ``images`` to train on, and the other parts, by their names above.

    Images are halved, but for those of CIFAR. ``of`` and ``folder`` as ``data.source``
    returns them. Raises ValueError for no images to train on and for more than are not
    held out.
    """
    whole = data.read_images(of, folder)
    smaller = (lambda x: x) if of in data.IMAGE_OPTIONS else data.halve
    train_images, labels = smaller(whole.train_images), whole.train_labels
    kept = len(labels) - HELD_OUT[of]
    if not 1 <= images <= kept:
        raise ValueError(f"images must be in [1, {kept}] for {of}, got {images}")
    return {
        "train": (train_images[:images], labels[:images]),
        "calibration": train_images[: min(CALIBRATION, images)],
        "search": (train_images[kept:], labels[kept:]),
        "test": (smaller(whole.test_images), whole.test_labels),
    }


def train_supernet(
    space: Space,
    seed: int,
    part: tuple[Any, Int],
    *,
    scales: str,
    steps: int,
    alone: Genotype | None = None,
    checkpoint: Path | None = None,
) -> Supernet:
    """Train a supernet, or one of its subnets ``alone``, for ``steps`` steps.

    part: images (N, C, H, W), labels (N,). First weights and draws depend on the seed
    alone. A checkpoint that exists is continued.
    """
    net = supernet(space, scales=scales, rng=np.random.default_rng([seed, 0]))
    train(
        net,
        *part,
        None if alone is None else Alone(alone),
        steps=steps,
        first=alone,
        batch=min(BATCH, len(part[1])),
        checkpoint=checkpoint,
        rng=np.random.default_rng([seed, 1]),
        backend=fast,
    )
    return net


@final
@dataclass(frozen=True)
class Judge:
    """The accuracy of calibrated subnets of one supernet, each evaluated once.

    With ``oracle`` steps are those of least square error, not the supernet's own.
    """

    net: Supernet
    parts: dict[str, Any]
    memo: Memo = field(default_factory=lambda: Memo(None))
    oracle: bool = False

    def accuracy(self, genotype: Genotype, part: str = "search") -> float:
        """Return the share of right decisions on a part, once known."""
        return float(self.memo(self.evaluate, {"genotype": genotype, "part": part}))

    def evaluate(self, *, genotype: Genotype, part: str) -> float:
        """Calibrate a subnet and return its share of right decisions on a part."""
        images, labels = self.parts[part]
        return accuracy(
            self.net, genotype, self.parts["calibration"], images, labels, **self.how
        )

    def calibrate(self, genotype: Genotype) -> Calibrated:
        """Return statistics and steps of a subnet, in batches as in training."""
        return calibrate(self.net, genotype, self.parts["calibration"], **self.how)

    @property
    def how(self) -> dict[str, Any]:
        """The options of every calibration."""
        return {
            "batch": min(BATCH, len(self.parts["calibration"])),
            "scales": Oracle() if self.oracle else None,
            "backend": fast,
        }

    def by_oracle(self) -> "Judge":
        """Return the judge of the same supernet with the steps of least error."""
        path = self.memo.path
        beside = path and path.with_suffix("").with_suffix(".oracle.jsonl")
        return replace(self, memo=Memo(beside), oracle=True)


def compare_integers(
    judge: Judge, genotype: Genotype
) -> tuple[IntegerNetwork, dict[str, Any]]:
    """Deploy a subnet; count where its integers differ from it on all test images.

    Equalities (a), with the quantized floats of the subnet, layer by layer, and (b),
    with the float64 execution of the integer network: how many integers differ.
    """
    network = plain(judge.net, judge.calibrate(genotype))
    side = judge.net.space.size
    integer = deploy(network, image_size=(side, side))
    images, labels = judge.parts["test"]
    beyond = different = right = 0
    for i in range(0, len(images), AT_A_TIME):
        some, known = images[i : i + AT_A_TIME], labels[i : i + AT_A_TIME]
        beyond += sum(not r.holds for r in compare_layers(network, integer, some))
        different += sum(c.different for c in compare_float64(integer, some))
        right += int(np.sum(integer.predict(some, backend=fast) == known))
    return integer, {
        "genotype": genotype,
        "images": len(images),
        "layers_beyond_the_bound": beyond,
        "different_from_float64": different,
        "accuracy": right / len(images),
    }
