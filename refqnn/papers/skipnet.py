r"""SkipNet: a gate before every block keeps it or skips it.

Wang, Yu, Dou, Darrell, Gonzalez. SkipNet: Learning Dynamic Routing in Convolutional
Networks. ECCV 2018, arXiv:1711.09485; the release's folder ``cifar``. The network is
``refqnn.papers.dfs.RoutedResNet`` with the two options (skip, keep).

    paper                                     code                  where
    G, the gate; FFGate-I, FFGate-II          nets                  feed_forward_gate
    RNNGate, shared LSTM                      implicit_zero         rnn_gate
    supervised, "SP": straight through        Supervised            Supervised
    hybrid, "HRL": R_i = sum r_j - CE, (R)    R                     rewards_to_go
    its gradient -R_i grad log pi, (G)        dz                    policy_gradient
    cp, the first block counted, (P)          cp                    skipnet_cp

(R), (G) and (P) are names of this file.

Relation to DFS, exact and tested. The sigmoid of a logit z is the softmax of (0, z), so
a recurrent gate with an implicit zero makes SkipNet's mask 1[p > 1/2] the largest of
two probabilities (the first, skip, at p = 1/2), and with dm_0, dm_1 the gradients of
the two masks, (b) of DFS's network gives p_0 p_1 (dm_1 - dm_0): SkipNet's gradient of z
through m = sg(1[p > 1/2] - p) + p. A two-option DFS with alpha = 0 and SkipNet's
supervised training are the same numbers. Two free logits give the keep row the gradient
p_0 p_1 (dm_1 - dm_0) and the skip row its negative.

Read in the release: the reward r_i = (alpha / G) (1 - a_i), every block costing the
same, no baseline, actions that are no straight-through path for CE, a mean over the
batch in CE and a sum in the policy term. The paper's text has R_i = (1 - S_i) C_i and
min E[L - (alpha / N) sum R_i] (not confirmed).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np

from refqnn._types import Array, Float, Int
from refqnn.core import Param, Run
from refqnn.nn import (
    Conv2d,
    GlobalAvgPool2d,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
    batch_norm2d,
    he_normal,
    loss_and_gradient,
    uniform_fan_in,
)
from refqnn.papers.dfs import (
    KEEP,
    SKIP,
    RecurrentGate,
    RoutedResNet,
    recurrent_gate,
    routed_resnet,
)
from refqnn.papers.dfs.network import Pass

OPTIONS = (SKIP, KEEP)


# Gates


@final
@dataclass(eq=False)
class FeedForwardGate:
    """One small network for every block, which looks at the block's input alone."""

    nets: list[Sequential]

    def start(self, _batch: int) -> tuple[()]:
        """Return (), the empty state of a gate without memory."""
        return ()

    def forward(
        self, i: int, x: Float, state: tuple[()], run: Run
    ) -> tuple[Float, tuple[()], Any]:
        """i from 0, x: (B, C, H, W)  ->  z: (B, 2)"""
        z, cache = self.nets[i].forward(x, run)
        return z, state, cache

    def backward(
        self, i: int, dz: Float, dstate: tuple[()], cache: Any
    ) -> tuple[Float, tuple[()]]:
        """dz: (B, 2)  ->  dx: (B, C, H, W)"""
        return self.nets[i].backward(dz, cache), dstate


def feed_forward_gate(
    channels: list[int],
    outputs: int,
    *,
    kind: str = "FFGate-I",
    dtype: Any = np.float32,
    rng: np.random.Generator,
) -> FeedForwardGate:
    """Return gates without memory.

    FFGate-I: maxpool2, conv3x3, conv3x3 of stride 2, mean, linear. FFGate-II: conv3x3
    of stride 2, mean, linear. A batch norm and a ReLU follow each convolution.
    """
    if kind not in {"FFGate-I", "FFGate-II"}:
        raise ValueError(f"kind must be 'FFGate-I' or 'FFGate-II', got {kind!r}")

    def conv(c: int, name: str, stride: int) -> dict[str, Any]:
        w = he_normal((c, c, 3, 3), rng=rng, dtype=dtype)
        return {
            name: Conv2d(Param(w), stride=stride, padding=1),
            f"{name}_norm": batch_norm2d(c, dtype=dtype),
            f"{name}_relu": ReLU(),
        }

    def net(c: int) -> Sequential:
        first = {"pool": MaxPool2d(2)} | conv(c, "conv1", 1)
        layers = (first if kind == "FFGate-I" else {}) | conv(c, "conv2", 2)
        w = uniform_fan_in((outputs, c), rng=rng, dtype=dtype)
        bias = Param(np.zeros(outputs, dtype), group="affine")
        return Sequential(
            layers | {"mean": GlobalAvgPool2d(), "linear": Linear(Param(w), bias)}
        )

    return FeedForwardGate([net(c) for c in channels])


def rnn_gate(channels: list[int], _outputs: int, **made: Any) -> RecurrentGate:
    """Return the shared LSTM gate with one logit; sigmoid(z) = softmax(0, z)_1."""
    return recurrent_gate(channels, 1, implicit_zero=True, **made)


GATES: dict[str, Callable[..., Any]] = {
    "RNNGate": rnn_gate,
    "FFGate-I": feed_forward_gate,
    "FFGate-II": lambda channels, outputs, **made: feed_forward_gate(
        channels, outputs, kind="FFGate-II", **made
    ),
}


def skipnet(depth: int, *, gate: str = "RNNGate", **options: Any) -> RoutedResNet:
    """Return a SkipNet of ``depth`` = 6n + 2 layers; options as of ``routed_resnet``.

    x: (B, in_channels, H, W)  ->  logits: (B, classes)

    >>> network = skipnet(38, width=0.125, rng=np.random.default_rng(0))
    >>> network.options, network.gated
    ((0, 32), 17)
    """
    if gate not in GATES:
        raise ValueError(f"gate must be one of {sorted(GATES)}, got {gate!r}")
    return routed_resnet(depth, options=OPTIONS, gates=GATES[gate], **options)


def skipnet_cp(decisions: Int) -> float:
    """cp = mean (1 + sum_i a_i) / (G + 1): the first block counts as executed

    decisions: (N, G), 1 keeps  ->  cp in [1 / (G + 1), 1]

    DFS counts the G gated blocks only: mean a. The two differ by (1 - cp_DFS) / (G + 1)

    >>> skipnet_cp(np.array([[0, 0, 1], [0, 0, 0]]))
    0.375
    """
    a = np.asarray(decisions)
    if a.ndim != 2 or not a.size or not np.isin(a, (0, 1)).all():
        seen = f"{a.shape}, {a.flat[:4]} ..."
        raise ValueError(f"decisions must be (N, G) of 0 and 1, got {seen}")
    return float((1 + a.sum(1)).mean() / (a.shape[1] + 1))  # (P)


# Training


@final
@dataclass(eq=False)
class Supervised:
    """CE through the straight-through masks; nothing asks for skips."""

    history: list[float] = field(default_factory=list)

    def __call__(
        self, network: RoutedResNet, images: Array, labels: Int, run: Run
    ) -> tuple[float, Float]:
        """images: (B, C, H, W), labels: (B,)  ->  loss: (), logits: (B, K)"""
        logits, cache = network.forward(images, run)
        loss, dlogits = loss_and_gradient(logits, labels, run)
        if dlogits is not None:
            network.backward(dlogits, cache)
        self.history.append(skipnet_cp(cache.m.argmax(-1)))
        return loss, logits


@final
@dataclass(eq=False)
class Hybrid:
    """CE through sampled actions, and REINFORCE for the gates.

    grad = grad CE_mean - w sum_b sum_i R_i grad log pi(a_i)
    """

    alpha: float = 0.1
    w: float = 0.01
    history: list[float] = field(default_factory=list)

    def __call__(
        self, network: RoutedResNet, images: Array, labels: Int, run: Run
    ) -> tuple[float, Float]:
        """images: (B, C, H, W), labels: (B,)  ->  loss: (), logits: (B, K)"""
        if run.rng is None:
            raise ValueError("actions are drawn: pass Run(rng=...)")
        if network.options != OPTIONS:
            raise ValueError(f"options must be {OPTIONS}, got {network.options}")
        logits, cache = network.forward(images, run, choose=sample_actions(run.rng))
        loss, dlogits = loss_and_gradient(logits, labels, run)
        if dlogits is not None:
            dz = self.w * policy_gradient(cache, logits, labels, alpha=self.alpha)
            network.backward(dlogits, cache, dz=dz.astype(logits.dtype))
        self.history.append(skipnet_cp(cache.m.argmax(-1)))
        return loss, logits


def sample_actions(rng: np.random.Generator) -> Any:
    """Return the choice a ~ Bernoulli(p_1) for every sample and block."""
    return lambda _i, p: (rng.random(len(p)) < p[:, 1]).astype(np.int64)


def policy_gradient(cache: Pass, logits: Float, labels: Int, *, alpha: float) -> Float:
    """dz_i = -R_i (onehot(a_i) - p_i): descent on -sum_i R_i log pi(a_i)

    logits: (B, K), labels: (B,)  ->  dz: (B, G, 2), float64
    """
    p = cache.p.astype(np.float64)
    decisions = cache.m.argmax(-1)
    R = rewards_to_go(decisions, sample_losses(logits, labels), alpha=alpha)
    return -R[..., None] * (cache.m - p)  # (G)


def rewards_to_go(decisions: Int, losses: Float, *, alpha: float) -> Float:
    """R_i = sum_(j >= i) (alpha / G) (1 - a_j) - CE

    decisions: (B, G), losses: (B,)  ->  R: (B, G)

    >>> rewards_to_go(np.array([[0, 1]]), np.array([2.0]), alpha=1.0)
    array([[-1.5, -2. ]])
    """
    r = alpha / decisions.shape[1] * (1.0 - decisions)
    onward: Float = np.cumsum(r[:, ::-1], axis=1)[:, ::-1]
    return onward - losses[:, None]  # (R)


def sample_losses(logits: Float, labels: Int) -> Float:
    """-log softmax(logits)_label

    logits: (B, K), labels: (B,)  ->  (B,), float64

    >>> sample_losses(np.zeros((1, 4)), np.array([2])).round(4)  # ln 4
    array([1.3863])
    """
    z = logits.astype(np.float64)
    z = z - z.max(1, keepdims=True)
    picked: Float = z[np.arange(len(z)), labels]
    return np.log(np.exp(z).sum(1)) - picked
