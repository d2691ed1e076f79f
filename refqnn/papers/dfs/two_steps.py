"""Training in two steps: first gates that keep everything, then both together.

DFS, arXiv:2001.00705, section 3, "two-step training", and its release. What each step
minimises, and when the first ends, is in objectives.py.

    step 0   the backbone alone, every block kept                 backbone
    step 1   the gates alone, towards a cp of 100 %               gate_start
    step 2   everything, towards the target cp                    joint

Weights decay, biases and batch norms do not (a choice; the release decays everything).
"""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import refqnn
from refqnn._types import Array, Float, Int
from refqnn.core import Run, named_params
from refqnn.data import Dataset
from refqnn.nn import SGD, Training, accuracy, in_batches, multistep, take_steps
from refqnn.nn.schedules import Schedule
from refqnn.nn.training import Augment, Objective, check_images
from refqnn.papers.dfs.cost import check_target, computation_percentage
from refqnn.papers.dfs.network import Choose, RoutedResNet
from refqnn.papers.dfs.objectives import (
    ENOUGH,
    TOO_SURE,
    Forced,
    GateStart,
    Joint,
    Scale,
    Sign,
    check_price,
)


class Settings(NamedTuple):
    """Iterations, rates and price of the three steps; rates fall tenfold twice."""

    batch: int = 64
    backbone_steps: int = 600
    backbone_lr: float = 0.1
    gate_steps: int = 400
    gate_lr: float = 0.05
    joint_steps: int = 1500
    joint_lr: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 1e-4
    #: |alpha| of equation 2, of both steps
    alpha: float = 1.0
    scale: Scale = "mean"
    #: whether step 1 ends once the gates keep everything
    ends_early: bool = True


#: section 4, "Training Details" (printed/dfs_settings.csv); step 0 is the release's,
#: the paper begins with a trained network. Table 1 takes 1e-5 for alpha
PAPER = Settings(
    *(128, 64_000, 0.1, 64_000, 0.1, 64_000, 0.01),
    alpha=5e-6,
    scale="sum",
    ends_early=False,
)
#: readme.md and the defaults of the scripts: ``--iters``, ``--lr`` and ``--beta``
RELEASE = PAPER._replace(gate_steps=2000, gate_lr=0.01, alpha=1e-5)
#: chosen here: minutes on two cores
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
    """Take optimiser steps until ``stop()``; return the number taken.

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
    training = Training(
        network,
        SGD(chosen, momentum=settings.momentum, weight_decay=settings.weight_decay),
        falling_rate(lr, steps),
        rng,
        batch=settings.batch,
        objective=objective,
        augment=augment,
        backend=backend,
    )
    pairs = dataset[:2]
    return take_steps(training, pairs, until=steps, stop=stop, progress=progress)


def falling_rate(lr: float, steps: int) -> Schedule:
    """lr, a tenth of it from steps / 2 on, a hundredth from 3 steps / 4 on

    >>> rate = falling_rate(0.1, 64_000)
    >>> [round(rate(t), 4) for t in (31_999, 32_000, 48_000)]
    [0.1, 0.01, 0.001]
    """
    return multistep(lr, milestones=sorted({steps // 2, 3 * steps // 4}))


def backbone(
    network: RoutedResNet, dataset: Dataset, settings: Settings = SMALL, **how: Any
) -> int:
    """Step 0: train everything but the gates, every block at 32 bits."""
    steps, lr = settings.backbone_steps, settings.backbone_lr
    return train(
        network, dataset, Forced(), steps=steps, lr=lr, settings=settings, **how
    )


def gate_start(
    network: RoutedResNet,
    dataset: Dataset,
    settings: Settings = SMALL,
    *,
    alpha: float | None = None,
    scale: Scale | None = None,
    **how: Any,
) -> GateStart:
    """Step 1: train the gates until they keep everything, and not longer.

    ``alpha`` and ``scale`` are those of the settings unless given. Raises ValueError
    where the gates do not keep everything within ``settings.gate_steps``, and where
    they are too sure of it; with ``ends_early=False`` the latter is a warning.
    """
    objective = GateStart(*price_of(settings, alpha, scale))
    own: dict[str, Any] = {"steps": settings.gate_steps, "lr": settings.gate_lr}
    own |= {"stop": objective.is_done} if settings.ends_early else {}
    train(network, dataset, objective, settings=settings, only="gates", **own, **how)
    p_last = objective.history[-1].p_last
    if not objective.is_done():
        raise ValueError(
            f"after {settings.gate_steps} steps the gates keep with probability "
            f"{p_last:.3f}, not {ENOUGH}: raise gate_lr, alpha or gate_steps"
        )
    if p_last > TOO_SURE:
        sure = (
            f"the gates keep with probability {p_last:.3f}, more than {TOO_SURE}, and "
            "would not move again: lower gate_lr or alpha"
        )
        if settings.ends_early:
            raise ValueError(sure)
        warnings.warn(sure, stacklevel=2)
    return objective


def price_of(
    settings: Settings, alpha: float | None, scale: Scale | None
) -> tuple[float, Scale]:
    """Choose alpha and scale: those given, else those of the settings.

    >>> price_of(PAPER, None, None), price_of(PAPER, 1.0, "mean")
    ((5e-06, 'sum'), (1.0, 'mean'))
    """
    chosen = settings.alpha if alpha is None else alpha
    check_price(chosen, "constant")
    return chosen, settings.scale if scale is None else scale


def joint(
    network: RoutedResNet,
    dataset: Dataset,
    settings: Settings = SMALL,
    *,
    target: float,
    alpha: float | None = None,
    sign: Sign = "dynamic",
    scale: Scale | None = None,
    **how: Any,
) -> Joint:
    """Step 2: train everything towards the target cp.

    ``alpha`` and ``scale`` are those of the settings unless given. Raises ValueError
    for a target outside (0, 1] or below the cheapest option.
    """
    check_target(target, network.options)
    objective = Joint(target, *price_of(settings, alpha, scale), sign)
    steps, lr = settings.joint_steps, settings.joint_lr
    train(network, dataset, objective, steps=steps, lr=lr, settings=settings, **how)
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
    """Measure accuracy, cp and shares in eval mode, exact means over samples.

    images: (N, C, H, W), labels: (N,)
    """
    check_images(images, labels)
    run = Run(backend=backend)

    def forward(x: Array) -> tuple[Float, Float]:
        logits, cache = network.forward(x, run, choose=choose)
        return logits, cache.m

    parts = in_batches(forward, images, batch=batch)
    logits, m = (np.concatenate(both) for both in zip(*parts, strict=True))
    cp = computation_percentage(m, network.options)
    return RoutedScore(accuracy(logits, labels), cp, m.mean(0, dtype=np.float64))
