r"""The two perceptrons of HAQ's agent, their gradients by hand, and their steps.

Lillicrap et al. Continuous control with deep reinforcement learning. ICLR 2016,
arXiv:1509.02971; sizes and activations as in the released code of HAQ
(arXiv:1811.08886).

    symbol                                         code               where
    mu(s), a = sigmoid of a perceptron             Actor              actor
    Q(s, a)                                        Critic             critic
    L_mu = -mean Q(s, mu(s))                       da                 policy_gradient
    theta' <- (1 - tau) theta' + tau theta                            soft_update

The forward of both, u the hidden units, and the backward from bottom to top, with
R_i = 1 where u_i > 0:

    u1 = relu(s Ws + a Wa + b1), u2 = relu(u1 W2 + b2), y = u2 W3 + b3              (1)
    dW3 = u2^T dy, d2 = (dy W3^T) R2, dW2 = u1^T d2, d1 = (d2 W2^T) R1              (2)
    dWs = s^T d1, dWa = a^T d1, da = d1 Wa^T                                        (3)

The actor is the same without a, and its y goes through a sigmoid:

    mu = sigmoid(y),  dy = da mu (1 - mu)                                           (4)

Chosen here: one bias in the first layer of the critic; released code has two, that are
only ever added.
"""

from typing import NamedTuple, TypeVar

import numpy as np
from scipy.special import expit

from refqnn._types import Float
from refqnn.nn import adam_step
from refqnn.prompt import one_line


class Actor(NamedTuple):
    """Parameters of mu: S -> H1 -> H2 -> 1."""

    w1: Float
    b1: Float
    w2: Float
    b2: Float
    w3: Float
    b3: Float


class Critic(NamedTuple):
    """Parameters of Q: (S, 1) -> H1 -> H2 -> 1."""

    ws: Float
    wa: Float
    b1: Float
    w2: Float
    b2: Float
    w3: Float
    b3: Float


Network = TypeVar("Network", Actor, Critic)


def new_actor(
    states: int, hidden: tuple[int, int], *, rng: np.random.Generator
) -> Actor:
    """Return an actor of uniform values in +-1 / sqrt(inputs), as PyTorch begins."""
    h1, h2 = hidden
    sizes = ((states, h1), (h1, h2), (h2, 1))
    (w1, b1), (w2, b2), (w3, b3) = (uniform(*size, rng) for size in sizes)
    return Actor(w1, b1, w2, b2, w3, b3)


def new_critic(
    states: int, hidden: tuple[int, int], *, rng: np.random.Generator
) -> Critic:
    """Return a critic whose layers begin as those of ``new_actor``, Wa in +-1."""
    h1, h2 = hidden
    sizes = ((states, h1), (1, h1), (h1, h2), (h2, 1))
    (ws, b1), (wa, _), (w2, b2), (w3, b3) = (uniform(*size, rng) for size in sizes)
    return Critic(ws, wa, b1, w2, b2, w3, b3)


def uniform(inputs: int, outputs: int, rng: np.random.Generator) -> tuple[Float, Float]:
    """Return the weights (inputs, outputs) and biases (outputs,) of one layer."""
    most = 1 / np.sqrt(inputs)
    return rng.uniform(-most, most, (inputs, outputs)), rng.uniform(
        -most, most, outputs
    )


@one_line
class ActorCache(NamedTuple):
    """What ``actor_backward`` needs."""

    s: Float
    u1: Float
    u2: Float
    a: Float


def actor(p: Actor, s: Float) -> tuple[Float, ActorCache]:
    """a = sigmoid(relu(relu(s W1 + b1) W2 + b2) W3 + b3)

    s: (B, S)  ->  a: (B, 1)
    """
    u1 = np.maximum(s @ p.w1 + p.b1, 0)  # (1)
    u2 = np.maximum(u1 @ p.w2 + p.b2, 0)
    a = expit(u2 @ p.w3 + p.b3)  # (4)
    return a, ActorCache(s, u1, u2, a)


def actor_backward(p: Actor, da: Float, cache: ActorCache) -> Actor:
    """Return the gradients of the parameters.

    da: (B, 1)  ->  shapes of p
    """
    s, u1, u2, a = cache
    dy = da * a * (1 - a)  # (4)
    d2 = (dy @ p.w3.T) * (u2 > 0)  # (2)
    d1 = (d2 @ p.w2.T) * (u1 > 0)
    return Actor(s.T @ d1, d1.sum(0), u1.T @ d2, d2.sum(0), u2.T @ dy, dy.sum(0))


@one_line
class CriticCache(NamedTuple):
    """What ``critic_backward`` needs."""

    s: Float
    a: Float
    u1: Float
    u2: Float


def critic(p: Critic, s: Float, a: Float) -> tuple[Float, CriticCache]:
    """q = relu(relu(s Ws + a Wa + b1) W2 + b2) W3 + b3

    s: (B, S), a: (B, 1)  ->  q: (B, 1)
    """
    u1 = np.maximum(s @ p.ws + a @ p.wa + p.b1, 0)  # (1)
    u2 = np.maximum(u1 @ p.w2 + p.b2, 0)
    return u2 @ p.w3 + p.b3, CriticCache(s, a, u1, u2)


def critic_backward(p: Critic, dq: Float, cache: CriticCache) -> tuple[Critic, Float]:
    """Return the gradients of the parameters, and da.

    dq: (B, 1)  ->  shapes of p, da: (B, 1)
    """
    s, a, u1, u2 = cache
    d2 = (dq @ p.w3.T) * (u2 > 0)  # (2)
    d1 = (d2 @ p.w2.T) * (u1 > 0)
    grads = Critic(
        s.T @ d1, a.T @ d1, d1.sum(0), u1.T @ d2, d2.sum(0), u2.T @ dq, dq.sum(0)
    )
    return grads, d1 @ p.wa.T  # (3)


class Moments(NamedTuple):
    """Adam's means of gradients and of their squares, and the number of steps taken."""

    mv: tuple[Float, ...]  # (2, ...) for every array
    t: int


def no_moments(network: tuple[Float, ...]) -> Moments:
    """Make what Adam remembers before its first step: zeros."""
    return Moments(tuple(np.zeros((2, *value.shape)) for value in network), 0)


def adam_steps(
    network: Network, grads: tuple[Float, ...], moments: Moments, *, lr: float
) -> tuple[Network, Moments]:
    """Step every array of a network by ``nn.adam_step``; nothing changes in place."""
    t = moments.t + 1
    pairs = [
        adam_step(value, g, mv, lr=lr, t=t, scaled_rate=True)
        for value, g, mv in zip(network, grads, moments.mv, strict=True)
    ]
    values, mv = zip(*pairs, strict=True)
    return type(network)(*values), Moments(mv, t)


def soft_update(target: Network, source: Network, *, tau: float) -> Network:
    """theta' <- (1 - tau) theta' + tau theta, for every array"""
    pairs = zip(target, source, strict=True)
    return type(target)(*((1 - tau) * there + tau * here for there, here in pairs))


def policy_gradient(p: Actor, value: Critic, s: Float) -> tuple[float, Actor]:
    """Return L_mu = -mean Q(s, mu(s)) and its gradients by the actor's parameters.

    s: (B, S)  ->  (), shapes of p
    """
    a, actor_cache = actor(p, s)
    q, critic_cache = critic(value, s, a)
    dq = np.full_like(q, -1 / len(q))
    _, da = critic_backward(value, dq, critic_cache)  # (3)
    return float(-q.mean()), actor_backward(p, da, actor_cache)
