"""Equation 2: what each step of the training minimises.

DFS, arXiv:2001.00705, section 3.

    loss = CE + alpha sigma E                                                       (2)

    step 0   the backbone alone, every block kept                 Forced
    step 1   the gates alone, towards a cp of 100 %               GateStart
    step 2   everything, towards the target cp                    Joint

Step 1 keeps every block whatever the gates say, so that only the resource loss reaches
them: read in the release (``models_initial.py``), the paper only freezes the backbone.
It must end in time: a softmax that is sure has no gradient left, p (1 - p), and step 2
then stays at 100 %. It ends as soon as every decision is "keep" and the mean
probability of keeping is at least ``ENOUGH``; beyond ``TOO_SURE`` it has failed
(choices; paper and release train to the last iteration, ``ends_early=False``). "Keep"
is the last option, and so is the backbone's.

sigma follows the cp of the decisions that inference executes, the largest p of every
sample, in both modes of the gate: the expected cp of soft masks is another number, and
steered by it targets of 20 and 40 % both execute 25 %.

The gradient of (2), from the loss to the gates: CE and E share one backward pass.
alpha sigma c_k joins dm_k in (a) of mixture.py, the softmax is (b) there, and
``RecurrentGate.backward`` ends it.

``scale="sum"`` is the released loss: E sums over samples and blocks. ``"mean"``, the
default, divides by both, so that alpha does not depend on batch and depth:
alpha_mean = alpha B L, for instance 0.0224 for the paper's 5e-6 with B = 128, L = 35.
"""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple, final

import numpy as np

from refqnn._types import Array, Float, Int
from refqnn.core import Run
from refqnn.nn import cross_entropy, loss_and_gradient
from refqnn.papers.dfs.cost import (
    check_target,
    computation_percentage,
    dynamic_sign,
    one_hot,
    resource,
)
from refqnn.papers.dfs.network import RoutedResNet, always

#: where step 1 ends: every decision is "keep", and its mean probability is this
ENOUGH, TOO_SURE = 0.9, 0.97
Scale = Literal["mean", "sum"]
Sign = Literal["dynamic", "constant"]


class Moment(NamedTuple):
    """The means of one iteration's executed decisions, by which the sign is chosen."""

    cp: float
    shares: list[float]  # of the options, over samples and blocks
    p_last: float  # mean probability of the last option
    all_last: bool  # every decision is the last option


def moment(network: RoutedResNet, m: Float, p: Float) -> Moment:
    """m, p: (B, L, n)  ->  their cp, shares and probability to keep"""
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
        choose = always(self.decision % n)
        return cross_entropy(network, images, labels, run, choose=choose)


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
        keep = always(len(network.options) - 1)
        logits, cache = network.forward(images, run, choose=keep)
        loss, _ = loss_and_gradient(logits, labels, run)
        p = cache.p
        price = -self.alpha / elements(p, self.scale)
        network.backward(np.zeros_like(logits), cache, price=price)
        self.history.append(moment(network, one_hot(p.argmax(-1), p.shape[-1]), p))
        return loss + price * resource(p, network.options), logits

    def is_done(self) -> bool:
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
        logits, cache = network.forward(images, run)
        loss, dlogits = loss_and_gradient(logits, labels, run)
        executed = one_hot(cache.p.argmax(-1), cache.p.shape[-1])
        now = moment(network, executed, cache.p)
        sigma = 1 if self.sign == "constant" else dynamic_sign(now.cp, self.target)
        price = self.alpha * sigma / elements(cache.m, self.scale)
        if dlogits is not None:
            network.backward(dlogits, cache, price=price)
        self.history.append(now)
        return loss + price * resource(cache.m, network.options), logits  # (2)


def check_price(alpha: float, sign: str) -> None:
    """Raise unless alpha is finite and not negative, and the sign one of two.

    >>> check_price(1.0, "dynamic")
    """
    if not 0 <= alpha < float("inf"):
        raise ValueError(f"alpha must be finite and at least 0, got {alpha}")
    if sign not in {"dynamic", "constant"}:
        raise ValueError(f"sign must be 'dynamic' or 'constant', got {sign!r}")


def elements(m: Float, scale: Scale) -> int:
    """B L for the mean, 1 for the sum: the divisor of E.

    >>> elements(np.zeros((2, 5, 4)), "mean"), elements(np.zeros((2, 5, 4)), "sum")
    (10, 1)
    """
    if scale not in {"mean", "sum"}:
        raise ValueError(f"scale must be 'mean' or 'sum', got {scale!r}")
    return m.shape[0] * m.shape[1] if scale == "mean" else 1
