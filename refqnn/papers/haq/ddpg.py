r"""HAQ's agent: deep deterministic policy gradients.

Lillicrap et al. Continuous control with deep reinforcement learning. ICLR 2016,
arXiv:1509.02971, with the settings of HAQ (arXiv:1811.08886) and its released code.

    symbol                                         code               where
    y = (R - b) + gamma (1 - done) Q'(s', mu')     y                  Agent.learn
    b <- b + (mean R - b) / 2                      baseline           Agent.learn
    L_Q = mean (q - y)^2                           dq                 Agent.learn
    L_mu = -mean Q(s, mu(s))                                          policy_gradient
    a ~ N(mu, delta^2) on [0, 1], delta decays     delta              truncated_normal

Every transition of an episode carries the reward of its end, as released: with gamma =
1 the critic learns (remaining steps) * (R - b). The baseline starts at the mean of the
first batch. Chosen here: explicit transitions (s, a, R, s', done) (released: a ring of
states to which every episode adds a dummy that is no end), and a warm-up of exactly so
many episodes (released: one more).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, final

import numpy as np
from scipy.special import ndtr, ndtri

from refqnn._types import Array, Float
from refqnn.files import check_like
from refqnn.papers.haq.actor_critic import (
    Actor,
    Critic,
    Moments,
    actor,
    adam_steps,
    critic,
    critic_backward,
    new_actor,
    new_critic,
    no_moments,
    policy_gradient,
    soft_update,
)


class Settings(NamedTuple):
    """How the agent learns; the defaults are those of released code."""

    hidden: tuple[int, int] = (300, 300)
    lr_actor: float = 1e-4
    lr_critic: float = 1e-3
    batch: int = 64
    tau: float = 0.01
    gamma: float = 1.0
    warm_up: int = 20  # episodes of uniform actions, in which nothing is learned
    delta: float = 0.5  # standard deviation of the first episode after them
    delta_decay: float = 0.99  # an episode
    replay: int = 128  # transitions kept, for each layer
    updates: int = 1  # a transition


class Batch(NamedTuple):
    """Transitions: s, s2: (B, S), a, r, done: (B, 1)."""

    s: Float
    a: Float
    r: Float
    s2: Float
    done: Float


def truncated_normal(mean: Float | float, std: float, u: Float | float) -> Float:
    """Phi^-1(Phi(l) + u (Phi(h) - Phi(l))) std + mean,  l, h = (0, 1 - mean) / std

    mean, u: (...) in [0, 1]  ->  (...) in [0, 1]

    The normal distribution cut to [0, 1], by its inverse CDF at a uniform number u.
    Raises ValueError for a mean outside [0, 1] (far outside, tails round to nothing)
    and a std that is not positive.

    >>> float(truncated_normal(0.5, 0.2, 0.5))
    0.5
    """
    if not std > 0:
        raise ValueError(f"std must be positive, got {std}")
    mean = np.asarray(mean, np.float64)
    if not np.all((mean >= 0) & (mean <= 1)):
        raise ValueError(f"mean must be in [0, 1], got {mean}")
    low, high = ndtr(-mean / std), ndtr((1 - mean) / std)
    return np.clip(mean + std * ndtri(low + u * (high - low)), 0, 1)


@final
@dataclass(eq=False)
class Replay:
    """The last transitions, as many as there are rows."""

    rows: Batch
    #: transitions ever added
    count: int = 0

    def add(self, s: Float, a: float, r: float, s2: Float, *, done: bool) -> None:
        """Keep one transition in place of the oldest; s, s2: (S,)."""
        at = self.count % len(self.rows.s)
        values = map(np.asarray, (s, a, r, s2, float(done)))
        for column, value in zip(self.rows, values, strict=True):
            column[at] = value
        self.count += 1

    def sample(self, size: int, rng: np.random.Generator) -> Batch:
        """Return ``size`` transitions, different ones if there are as many."""
        stored = min(self.count, len(self.rows.s))
        if not stored:
            raise ValueError("a replay without transitions cannot be sampled")
        chosen = rng.choice(stored, size, replace=stored < size)
        return Batch(*(column[chosen] for column in self.rows))


def new_replay(capacity: int, states: int) -> Replay:
    """Return an empty replay."""
    wide, narrow = (capacity, states), (capacity, 1)
    shapes = (wide, narrow, narrow, wide, narrow)
    return Replay(Batch(*(np.zeros(shape) for shape in shapes)))


@final
@dataclass(eq=False)
class Agent:
    """Actor, critic, the slow copies of both, and what they learn from."""

    settings: Settings
    actor: Actor
    critic: Critic
    replay: Replay
    actor_target: Actor = field(init=False)
    critic_target: Critic = field(init=False)
    actor_moments: Moments = field(init=False)
    critic_moments: Moments = field(init=False)
    #: None before the first batch
    baseline: float | None = None

    def __post_init__(self) -> None:
        self.actor_target, self.critic_target = self.actor, self.critic
        self.actor_moments = no_moments(self.actor)
        self.critic_moments = no_moments(self.critic)

    def act(self, s: Float, u: float, episode: int) -> float:
        """Return an action: u itself in the warm-up, then one around mu(s).

        s: (S,), u uniform in [0, 1)  ->  a in [0, 1]
        """
        after = episode - self.settings.warm_up
        if after < 0:
            return u
        mean, _ = actor(self.actor, s[None])
        delta = self.settings.delta * self.settings.delta_decay**after
        return float(truncated_normal(mean[0, 0], delta, u))

    def learn(self, batch: Batch) -> tuple[float, float]:
        """Take one step of the critic, then of the actor, then of the slow copies.

        Returns both losses, L_Q and L_mu, of before their steps.
        """
        c, (s, a, r, s2, done) = self.settings, batch
        before = float(r.mean()) if self.baseline is None else self.baseline
        self.baseline = before + (float(r.mean()) - before) / 2
        next_q, _ = critic(self.critic_target, s2, actor(self.actor_target, s2)[0])
        y = (r - self.baseline) + c.gamma * (1 - done) * next_q
        q, critic_cache = critic(self.critic, s, a)
        dq = 2 * (q - y) / len(q)
        grads, _ = critic_backward(self.critic, dq, critic_cache)
        self.critic, self.critic_moments = adam_steps(
            self.critic, grads, self.critic_moments, lr=c.lr_critic
        )
        value, actor_grads = policy_gradient(self.actor, self.critic, s)
        self.actor, self.actor_moments = adam_steps(
            self.actor, actor_grads, self.actor_moments, lr=c.lr_actor
        )
        self.actor_target = soft_update(self.actor_target, self.actor, tau=c.tau)
        self.critic_target = soft_update(self.critic_target, self.critic, tau=c.tau)
        return float(np.mean((q - y) ** 2)), value

    def arrays(self) -> dict[str, Array]:
        """Return everything that changes, by name, for a file; not copied."""
        parts = {
            "actor": self.actor,
            "critic": self.critic,
            "actor_target": self.actor_target,
            "critic_target": self.critic_target,
            "replay": self.replay.rows,
            "actor_m": tuple(m for m, _ in self.actor_moments.mv),
            "actor_v": tuple(v for _, v in self.actor_moments.mv),
            "critic_m": tuple(m for m, _ in self.critic_moments.mv),
            "critic_v": tuple(v for _, v in self.critic_moments.mv),
        }
        named = {
            f"{part}/{i}": x for part, xs in parts.items() for i, x in enumerate(xs)
        }
        baseline = np.nan if self.baseline is None else self.baseline
        counts = (self.actor_moments.t, self.critic_moments.t, self.replay.count)
        return named | {"counts": np.array(counts), "baseline": np.array(baseline)}

    def restore(self, arrays: Mapping[str, Array]) -> None:
        """Put back what ``arrays`` returned; ValueError for other shapes and names."""
        check_like(arrays, self.arrays())
        if np.any(arrays["counts"] < 0):
            raise ValueError(f"counts must be at least 0, got {arrays['counts']}")

        def part(name: str, like: tuple[Array, ...]) -> list[Array]:
            return [np.array(arrays[f"{name}/{i}"]) for i in range(len(like))]

        def moments(name: str, like: tuple[Array, ...], t: int) -> Moments:
            pairs = zip(part(f"{name}_m", like), part(f"{name}_v", like), strict=True)
            return Moments(tuple(np.stack(pair) for pair in pairs), t)

        self.actor = Actor(*part("actor", self.actor))
        self.critic = Critic(*part("critic", self.critic))
        self.actor_target = Actor(*part("actor_target", self.actor))
        self.critic_target = Critic(*part("critic_target", self.critic))
        actor_t, critic_t, count = (int(n) for n in arrays["counts"])
        self.replay = Replay(Batch(*part("replay", self.replay.rows)), count)
        self.actor_moments = moments("actor", self.actor, actor_t)
        self.critic_moments = moments("critic", self.critic, critic_t)
        baseline = float(arrays["baseline"])
        self.baseline = None if np.isnan(baseline) else baseline


def new_agent(
    states: int, layers: int, settings: Settings, *, rng: np.random.Generator
) -> Agent:
    """Return an agent that has learned nothing, for states of S numbers and L layers.

    Raises ValueError for settings out of their range.
    """
    check_settings(settings)
    return Agent(
        settings,
        new_actor(states, settings.hidden, rng=rng),
        new_critic(states, settings.hidden, rng=rng),
        new_replay(settings.replay * layers, states),
    )


def check_settings(settings: Settings) -> None:
    """Raise a ValueError that names the setting and its bound."""
    least = {"batch": 1, "warm_up": 0, "replay": 1, "updates": 0}
    for name, bound in least.items():
        if getattr(settings, name) < bound:
            value = getattr(settings, name)
            raise ValueError(f"{name} must be at least {bound}, got {value}")
    for name in ("lr_actor", "lr_critic", "delta"):
        if not 0 < getattr(settings, name) < np.inf:
            raise ValueError(f"{name} must be positive, got {getattr(settings, name)}")
    for name in ("tau", "gamma", "delta_decay"):
        if not 0 < getattr(settings, name) <= 1:
            raise ValueError(f"{name} must be in (0, 1], got {getattr(settings, name)}")
    if min(settings.hidden) < 1:
        raise ValueError(f"hidden must be at least 1, got {settings.hidden}")
