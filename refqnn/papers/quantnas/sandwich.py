r"""Training a supernet: the sandwich, distillation, two kinds of steps.

QuantNAS (Gao et al., CVPR 2024 NAS workshop) does not say how it samples or what it
minimises; this is ours, after the sandwich rule of slimmable networks
(arXiv:1903.05134):

    largest subnet    cross-entropy with the labels
    smallest, two random subnets    KL(softmax(largest) || softmax(subnet))         (1)

The largest is a constant in (1). All gradients are added up, then one step is taken.

Weights, gamma and beta take SGD's steps. Logarithms of scales and the predictor take
Adam's, at ``FACTOR`` times the rate: d log s = s ds is s^2 times smaller, next to its
value, than what LSQ's balance of gradients was made for, and SGD would hardly move it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, final

import numpy as np

import refqnn
from refqnn._types import Array, Float, Int
from refqnn.core import Param, Run, named_params
from refqnn.files import lock
from refqnn.nn import (
    SGD,
    Training,
    adam_step,
    cosine,
    cross_entropy,
    steps_per_epoch,
    take_steps,
)
from refqnn.nn.training import check_images
from refqnn.ops import log_softmax
from refqnn.papers.quantnas.elastic_network import Supernet, initialise
from refqnn.papers.quantnas.space import Genotype, draw, smallest
from refqnn.prompt import one_line

#: rate of Adam over that of SGD: 1e-3 at 0.05
FACTOR = 0.02
#: groups of parameters that take Adam's steps
BY_ADAM = ("quantizer", "predictor")


@one_line
class DistillationCache(NamedTuple):
    """softmax(logits) - softmax(teacher), (N, K) in float64."""

    surplus: Float
    dtype: Any


def distillation(logits: Float, teacher: Float) -> tuple[float, DistillationCache]:
    """loss = mean over n of sum_k p_k (log p_k - log q_k), p of the teacher, (1)

    logits, teacher: (N, K)  ->  loss: () in nats. The teacher is a constant.

    >>> loss, _ = distillation(np.zeros((1, 2)), np.log([[1.0, 3.0]]))
    >>> round(loss, 4)  # log 2 - (entropy of 1/4, 3/4)
    0.1308
    """
    if logits.shape != teacher.shape or logits.ndim != 2 or not logits.size:
        raise ValueError(
            f"logits and teacher must be (N, K), not empty: "
            f"logits{logits.shape}, teacher{teacher.shape}"
        )
    log_p, log_q = log_softmax(teacher), log_softmax(logits)
    p = np.exp(log_p)
    loss = float((p * (log_p - log_q)).sum() / len(p))  # (1)
    return loss, DistillationCache(np.exp(log_q) - p, logits.dtype)


def distillation_backward(dloss: float, cache: DistillationCache) -> Float:
    """dlogits = dloss (softmax(logits) - softmax(teacher)) / N

    dloss: ()  ->  dlogits: (N, K)
    """
    surplus, dtype = cache
    return (dloss * surplus / len(surplus)).astype(dtype)


@final
@dataclass(frozen=True)
class Sandwich:
    """The objective: the largest by its labels, the others by the largest."""

    drawn: int = 2

    def __call__(
        self, net: Supernet, images: Array, labels: Int, run: Run
    ) -> tuple[float, Float]:
        """images: (B, C, H, W), labels: (B,)  ->  sum of the losses, largest's logits

        Draws from ``run.rng``.
        """
        if run.rng is None:
            raise ValueError("the sandwich draws subnets: run needs an rng")
        total, teacher = Alone()(net, images, labels, run)
        students = [smallest(net.space)]
        students += [draw(net.space, run.rng) for _ in range(self.drawn)]
        for genotype in students:
            logits, cache = net.forward(images, run, genotype)
            loss, kl = distillation(logits, teacher)
            if np.isfinite(loss):
                net.backward(distillation_backward(1.0, kl), cache)
            total += loss
        return total, teacher


@final
@dataclass(frozen=True)
class Alone:
    """The objective of one subnet from scratch: cross-entropy; None is the largest."""

    genotype: Genotype | None = None

    def __call__(
        self, net: Supernet, images: Array, labels: Int, run: Run
    ) -> tuple[float, Float]:
        """images: (B, C, H, W), labels: (B,)  ->  loss: (), logits: (B, K)"""
        return cross_entropy(net, images, labels, run, genotype=self.genotype)


@final
@dataclass(eq=False)
class TwoSteps:
    """SGD for weights, Adam for scales; ``velocity`` holds the moments of both."""

    params: Mapping[str, Param]
    momentum: float = 0.9
    weight_decay: float = 1e-4
    factor: float = FACTOR
    velocity: dict[str, Float] = field(default_factory=dict)

    def step(self, lr: float) -> None:
        """Take one step of every parameter."""
        by_adam = {n: p for n, p in self.params.items() if p.group in BY_ADAM}
        others = {n: p for n, p in self.params.items() if n not in by_adam}
        SGD(
            others,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            velocity=self.velocity,
        ).step(lr)
        t = float(self.velocity.get("adam.steps", np.zeros(()))) + 1
        self.velocity["adam.steps"] = np.array(t)
        for name, param in by_adam.items():
            start = np.zeros((2, *param.value.shape))
            moments = self.velocity.get(f"adam.{name}", start)
            moved, self.velocity[f"adam.{name}"] = adam_step(
                param.value, param.grad, moments, lr=self.factor * lr, t=t
            )
            param.value = np.asarray(moved, param.value.dtype)


def train(
    net: Supernet,
    images: Array,
    labels: Int,
    objective: Any = None,
    *,
    steps: int,
    lr: float = 0.05,
    batch: int = 64,
    first: Genotype | None = None,
    checkpoint: str | Path | None = None,
    save_every: int = 100,
    rng: np.random.Generator,
    backend: Any = refqnn,
    progress: bool = False,
) -> None:
    """Take ``steps`` of the sandwich, or of another objective; the rate is a cosine.

    images: (N, C, H, W), labels: (N,). The first ``batch`` images set the steps of the
    scales, whatever they were, in a pass of the subnet ``first``, the largest if none
    is named. A ``checkpoint`` that exists is continued to the same bits; the end is
    saved too.

    Raises ValueError for fewer images than a batch, a label too few or too many, and
    less than one step.
    """
    check_images(images, labels)
    steps_per_epoch(len(images), batch)
    for name, value in (("steps", steps), ("save_every", save_every)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    initialise(net, images[:batch], first, backend=backend)
    training = Training(
        net,
        TwoSteps(named_params(net)),
        cosine(lr, steps=steps, warmup=min(steps // 20, steps - 1)),
        rng,
        batch=batch,
        objective=objective or Sandwich(),
        backend=backend,
    )
    with lock(checkpoint):
        if checkpoint is not None and Path(checkpoint).exists():
            training.resume(checkpoint, images=len(images))
        take_steps(
            training,
            (images, labels),
            until=steps,
            checkpoint=checkpoint,
            save_every=(save_every,),
            progress=progress,
        )
