"""Training in two steps: first gates that keep everything, then both together.

DFS, arXiv:2001.00705, section 3, "two-step training", and its release.

    loss = CE + alpha sigma E                                               equation 2

    step 0   the backbone alone, every block kept                 backbone
    step 1   the gates alone, towards a cp of 100 %               gate_start
    step 2   everything, towards the target cp                    joint

Step 1 keeps every block whatever the gates say, so that only the resource loss reaches
them. It must end in time: a softmax that is sure has no gradient left, p (1 - p), and
step 2 then stays at 100 %. Here it ends as soon as every decision is "keep" and the
mean probability of keeping is at least ``ENOUGH``; beyond ``TOO_SURE`` it has failed
(choices; the paper trains 64 000 iterations at a small alpha and a rate of 0.1, the
release 2 000 at 0.01). Weights decay, biases and batch norms do not (a choice; the
release decays everything). "Keep" is the last option, and so is the backbone's.

``scale="sum"`` is the released loss: E sums over samples and blocks. ``"mean"``, the
default, divides by both, so that alpha does not depend on batch and depth:
alpha_mean = alpha B L, for instance 0.0448 for the paper's 1e-5 with B = 128, L = 35.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, final

import numpy as np
import tqdm
from threadpoolctl import threadpool_limits

import refqnn
from refqnn._types import Array, Float, Int
from refqnn.core import Run, named_params
from refqnn.data import Dataset
from refqnn.nn import SGD, Training, multistep, steps_per_epoch
from refqnn.nn.training import Augment, Objective, check_images
from refqnn.papers.dfs.cost import (
    check_target,
    computation_percentage,
    dynamic_sign,
    one_hot,
    resource,
)
from refqnn.papers.dfs.inference import check_some
from refqnn.papers.dfs.network import Choose, RoutedResNet, always

#: where step 1 ends: every decision is "keep", and its mean probability is this
ENOUGH, TOO_SURE = 0.9, 0.97
Scale = Literal["mean", "sum"]
Sign = Literal["dynamic", "constant"]


class Moment(NamedTuple):
    """What one iteration decided."""

    cp: float
    shares: list[float]  # of the options, over samples and blocks
    p_last: float  # mean probability of the last option
    all_last: bool  # every decision is the last option


def moment(network: RoutedResNet, m: Float, p: Float) -> Moment:
    """m, p: (B, L, n)  ->  what they say on average"""
    return Moment(
        computation_percentage(m, network.options),
        m.mean((0, 1), dtype=np.float64).tolist(),
        float(p[..., -1].mean(dtype=np.float64)),
        bool(np.all(p.argmax(-1) == len(network.options) - 1)),
    )


@final
@dataclass(eq=False)
class Forced:
    """CE of the network that always takes one option: step 0, and static networks."""

    decision: int = -1

    def __call__(
        self, network: RoutedResNet, images: Array, labels: Int, run: Run
    ) -> tuple[float, Float]:
        """images: (B, C, H, W), labels: (B,)  ->  loss: (), logits: (B, K)"""
        n = len(network.options)
        if not -n <= self.decision < n:
            raise ValueError(f"decision must lie in [-{n}, {n}), got {self.decision}")
        ops, choose = run.backend.ops, always(self.decision % n)
        logits, cache = network.forward(images, run, choose=choose)
        loss, ce = ops.softmax_cross_entropy(logits, labels)
        if np.isfinite(loss):
            network.backward(ops.softmax_cross_entropy_backward(1.0, ce), cache)
        return float(loss), logits


@final
@dataclass(eq=False)
class GateStart:
    """alpha sigma E with every block kept and sigma = -1: the gates learn to keep."""

    alpha: float = 1.0
    scale: Scale = "mean"
    history: list[Moment] = field(default_factory=list)

    def __call__(
        self, network: RoutedResNet, images: Array, labels: Int, run: Run
    ) -> tuple[float, Float]:
        """images: (B, C, H, W), labels: (B,)  ->  loss: (), logits: (B, K)"""
        ops, keep = run.backend.ops, always(len(network.options) - 1)
        logits, cache = network.forward(images, run, choose=keep)
        loss, _ = ops.softmax_cross_entropy(logits, labels)
        p = cache.p
        price = -self.alpha / elements(p, self.scale)
        network.backward(np.zeros_like(logits), cache, price=price)
        self.history.append(moment(network, one_hot(p.argmax(-1), p.shape[-1]), p))
        return float(loss) + price * resource(p, network.options), logits

    def done(self) -> bool:
        """Say whether the gates keep everything, sure enough."""
        last = self.history[-1]
        return last.all_last and last.p_last >= ENOUGH


@final
@dataclass(eq=False)
class Joint:
    """CE + alpha sigma E  (equation 2), sigma by the cp of the batch, or always +1."""

    target: float
    alpha: float = 1.0
    scale: Scale = "mean"
    sign: Sign = "dynamic"
    history: list[Moment] = field(default_factory=list)

    def __call__(
        self, network: RoutedResNet, images: Array, labels: Int, run: Run
    ) -> tuple[float, Float]:
        """images: (B, C, H, W), labels: (B,)  ->  loss: (), logits: (B, K)"""
        check_target(self.target, network.options)
        check_price(self.alpha, self.sign)
        ops = run.backend.ops
        logits, cache = network.forward(images, run)
        loss, ce = ops.softmax_cross_entropy(logits, labels)
        now = moment(network, cache.m, cache.p)
        sigma = 1 if self.sign == "constant" else dynamic_sign(now.cp, self.target)
        price = self.alpha * sigma / elements(cache.m, self.scale)
        if np.isfinite(loss):
            dlogits = ops.softmax_cross_entropy_backward(1.0, ce)
            network.backward(dlogits, cache, price=price)
        self.history.append(now)
        return float(loss) + price * resource(cache.m, network.options), logits  # (2)


def check_price(alpha: float, sign: str) -> None:
    """Raise unless alpha is finite and not negative, and the sign one of two.

    >>> check_price(1.0, "dynamic")
    """
    if not 0 <= alpha < float("inf"):
        raise ValueError(f"alpha must be finite and at least 0, got {alpha}")
    if sign not in {"dynamic", "constant"}:
        raise ValueError(f"sign must be 'dynamic' or 'constant', got {sign!r}")


def elements(m: Float, scale: Scale) -> int:
    """Return what E is divided by: B L, or 1 for the sum.

    >>> elements(np.zeros((2, 5, 4)), "mean"), elements(np.zeros((2, 5, 4)), "sum")
    (10, 1)
    """
    if scale not in {"mean", "sum"}:
        raise ValueError(f"scale must be 'mean' or 'sum', got {scale!r}")
    return m.shape[0] * m.shape[1] if scale == "mean" else 1


class Settings(NamedTuple):
    """Iterations and rates of the three steps; both rates fall tenfold twice."""

    batch: int = 64
    backbone_steps: int = 600
    backbone_lr: float = 0.1
    gate_steps: int = 400
    gate_lr: float = 0.05
    joint_steps: int = 1500
    joint_lr: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 1e-4


#: the paper's; |alpha| = 5e-6 in step 1 and 1e-5 in step 2, summed
PAPER = Settings(128, 64_000, 0.1, 64_000, 0.1, 64_000, 0.01)
#: section 1.9 of our protocol: minutes on two cores
SMALL = Settings()


def train(
    network: RoutedResNet,
    dataset: Dataset,
    objective: Objective,
    *,
    steps: int,
    lr: float,
    settings: Settings = SMALL,
    only: str = "",
    stop: Callable[[], bool] = lambda: False,
    rng: np.random.Generator,
    backend: Any = refqnn,
    augment: Augment | None = None,
    progress: bool = False,
) -> int:
    """Take optimiser steps until ``stop()``; return how many were taken.

    The rate falls tenfold at 1/2 and 3/4 of ``steps``. ``only`` is the first part of
    the names of the parameters that move: ``"gates"`` freezes the backbone, whose
    running statistics still move.
    """
    params = named_params(network)
    chosen = {name: p for name, p in params.items() if name.startswith(only)}
    if not chosen or steps < 1:
        raise ValueError(
            f"only = {only!r} must name parameters, steps be at least 1, got {steps}"
        )
    check_images(dataset.train_images, dataset.train_labels)
    steps_per_epoch(len(dataset.train_images), settings.batch)
    training = Training(
        network,
        SGD(chosen, momentum=settings.momentum, weight_decay=settings.weight_decay),
        multistep(lr, milestones=sorted({steps // 2, 3 * steps // 4})),
        rng,
        batch=settings.batch,
        objective=objective,
        augment=augment,
        backend=backend,
    )
    bar: Iterable[int] = tqdm.tqdm(range(steps), unit="step", disable=not progress)
    with threadpool_limits(1, user_api="blas"):
        for step in bar:
            training.next_batch(dataset.train_images, dataset.train_labels)
            if stop():
                return step + 1
    return steps


def backbone(
    network: RoutedResNet, dataset: Dataset, settings: Settings = SMALL, **how: Any
) -> int:
    """Step 0: train everything but the gates, every block at 32 bits."""
    return train(
        network,
        dataset,
        Forced(),
        steps=settings.backbone_steps,
        lr=settings.backbone_lr,
        settings=settings,
        **how,
    )


def gate_start(
    network: RoutedResNet,
    dataset: Dataset,
    settings: Settings = SMALL,
    *,
    alpha: float = 1.0,
    scale: Scale = "mean",
    **how: Any,
) -> GateStart:
    """Step 1: train the gates until they keep everything, and not longer.

    Raises ValueError where they do not within ``settings.gate_steps``, and where they
    are too sure of it.
    """
    check_price(alpha, "constant")
    objective = GateStart(alpha, scale)
    train(
        network,
        dataset,
        objective,
        steps=settings.gate_steps,
        lr=settings.gate_lr,
        settings=settings,
        only="gates",
        stop=objective.done,
        **how,
    )
    if not objective.done():
        last = objective.history[-1]
        raise ValueError(
            f"after {settings.gate_steps} steps the gates keep with probability "
            f"{last.p_last:.3f}, not {ENOUGH}: raise gate_lr, alpha or gate_steps"
        )
    if objective.history[-1].p_last > TOO_SURE:
        raise ValueError(
            f"the gates keep with probability {objective.history[-1].p_last:.3f}, more "
            f"than {TOO_SURE}, and would not move again: lower gate_lr or alpha"
        )
    return objective


def joint(
    network: RoutedResNet,
    dataset: Dataset,
    settings: Settings = SMALL,
    *,
    target: float,
    alpha: float = 1.0,
    sign: Sign = "dynamic",
    scale: Scale = "mean",
    **how: Any,
) -> Joint:
    """Step 2: train everything towards the target cp.

    Raises ValueError for a target outside (0, 1] or below the cheapest option.
    """
    check_target(target, network.options)
    objective = Joint(target, alpha, scale, sign)
    train(
        network,
        dataset,
        objective,
        steps=settings.joint_steps,
        lr=settings.joint_lr,
        settings=settings,
        **how,
    )
    return objective


class RoutedScore(NamedTuple):
    """Accuracy, cp, and the share of every option in every gated block: (L, n)."""

    accuracy: float
    cp: float
    shares: Float


def evaluate(
    network: RoutedResNet,
    images: Array,
    labels: Int,
    *,
    choose: Choose | None = None,
    batch: int = 250,
    backend: Any = refqnn,
) -> RoutedScore:
    """Return what the network scores and what it decides, in eval mode.

    images: (N, C, H, W), labels: (N,)  ->  the exact means over samples
    """
    check_images(images, labels)
    check_some(images, batch)
    run, right, masks = Run(backend=backend), 0, []
    with threadpool_limits(1, user_api="blas"):
        for i in range(0, len(images), batch):
            logits, cache = network.forward(images[i : i + batch], run, choose=choose)
            right += int(np.sum(logits.argmax(1) == labels[i : i + batch]))
            masks.append(cache.m)
    m = np.concatenate(masks)
    cp = computation_percentage(m, network.options)
    return RoutedScore(right / len(labels), cp, m.mean(0, dtype=np.float64))
