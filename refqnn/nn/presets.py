"""Each paper's training settings, by name."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, final

import numpy as np

from refqnn.core import named_params
from refqnn.nn.layers import Sequential
from refqnn.nn.optim import SGD, check_rates
from refqnn.nn.schedules import Schedule, cosine
from refqnn.nn.training import Training, cross_entropy, steps_per_epoch

#: rates of training are below 1; one above this is a slip
LARGEST_RATE = 1000


@final
@dataclass(frozen=True)
class Preset:
    """SGD with a cosine schedule; lengths in epochs, ``batch`` in images."""

    lr: float
    warmup_epochs: float
    epochs: int
    batch: int
    momentum: float
    nesterov: bool
    weight_decay: float
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        check_rates(
            lr=self.lr,
            warmup_epochs=self.warmup_epochs,
            weight_decay=self.weight_decay,
            label_smoothing=self.label_smoothing,
        )
        if not 0 < self.lr <= LARGEST_RATE:
            raise ValueError(
                f"lr must be positive, at most {LARGEST_RATE}, got {self.lr}"
            )
        if self.lr * self.weight_decay >= 1:
            raise ValueError(
                "lr times weight_decay must be below 1, or decay turns weights around, "
                f"got {self.lr} and {self.weight_decay}"
            )
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {self.momentum}")

    def schedule(self, steps_per_epoch: int, *, epochs: int | None = None) -> Schedule:
        """Make the learning rate of each step; fewer ``epochs`` shrink the warm-up too.

        Raises ValueError for no epochs and for epochs without steps.

        >>> rate = PARETO_CIFAR.schedule(10)
        >>> round(rate(0), 6), rate(49)
        (0.001, 0.05)
        """
        length = self.epochs if epochs is None else epochs
        for name, value in (("steps_per_epoch", steps_per_epoch), ("epochs", length)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        warmup = round(self.warmup_epochs * length / self.epochs * steps_per_epoch)
        return cosine(self.lr, steps=length * steps_per_epoch, warmup=warmup)

    def optimiser(self, network: Sequential) -> SGD:
        """Make SGD for a network; biases and batch norms do not decay."""
        return SGD(
            named_params(network),
            momentum=self.momentum,
            nesterov=self.nesterov,
            weight_decay=self.weight_decay,
        )

    def training(
        self,
        network: Any,
        images: int,
        *,
        rng: np.random.Generator,
        epochs: int | None = None,
        **options: Any,
    ) -> Training:
        """Make the training of a network on ``images`` images, for ``nn.fit``.

        ``options`` are those of ``Training``: augment, objective, backend. The
        objective is cross-entropy with ``label_smoothing`` unless another is given.
        Raises ValueError for fewer images than a batch.

        >>> from refqnn.networks import resnet
        >>> rng = np.random.default_rng(0)
        >>> training = PARETO_CIFAR.training(resnet(8, rng=rng), 640, rng=rng)
        >>> training.batch, training.schedule(24)  # 5 steps an epoch, 5 of warm-up
        (128, 0.05)
        """
        steps = steps_per_epoch(images, self.batch)
        smoothed = partial(cross_entropy, label_smoothing=self.label_smoothing)
        return Training(
            network,
            self.optimiser(network),
            self.schedule(steps, epochs=epochs),
            rng,
            batch=self.batch,
            **{"objective": smoothed, **options},
        )


#: Pareto paper (Chin, Chuang, Chandra, Marculescu, arXiv:2008.09916), appendix A, CIFAR
PARETO_CIFAR = Preset(
    lr=0.05,
    warmup_epochs=5,
    epochs=300,
    batch=128,
    momentum=0.9,
    nesterov=True,
    weight_decay=5e-4,
)

#: the same, ImageNet: both keep the rate, the warm-up and the momentum of CIFAR
PARETO_IMAGENET_RESNET = replace(
    PARETO_CIFAR, epochs=90, batch=256, weight_decay=4e-5, label_smoothing=0.1
)
PARETO_IMAGENET_MOBILENETV2 = replace(PARETO_IMAGENET_RESNET, epochs=120)
