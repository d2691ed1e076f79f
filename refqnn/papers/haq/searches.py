r"""The search of HAQ, and two others that may ask as often what a policy is worth.

    paper                                       code              where
    an episode: a bit width a layer, one reward  episode           search
    600 episodes                                episodes          search

``random_search`` draws every action uniformly; its first policies are those of the
warm-up of ``search`` with the same seed. ``greedy`` measures what each layer loses when
it alone has fewer bits, adds these losses up as if they were independent, and always
takes the next bit from the layer that loses least accuracy for each bit of size saved.

All three are resumed from their checkpoint to the same bits.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from refqnn._types import Float, Int
from refqnn.files import Unreadable, decode, lock
from refqnn.nn.checkpoint import restore_generator
from refqnn.nn.training import bar
from refqnn.papers.haq.ddpg import Agent, Settings, new_agent
from refqnn.papers.haq.environment import Problem, bits_of, states
from refqnn.papers.haq.finetune import Evaluate
from refqnn.papers.haq.record import Trace, fingerprint, load, save

RELEASED = Settings()
State = dict[str, Any]


def search(
    problem: Problem,
    evaluate: Evaluate,
    *,
    episodes: int = 600,
    seed: int = 0,
    order: str = "paper",
    settings: Settings = RELEASED,
    checkpoint: str | Path | None = None,
    progress: bool | None = None,
) -> Trace:
    """Let the agent choose bits, layer after layer, for ``episodes`` episodes.

    After every episode of the agent's own, ``settings.updates`` steps are taken for
    each of its transitions, as they are added. ``checkpoint`` is written after every
    episode; a search that finds it there goes on from it, to the same bits as one that
    was not interrupted. Raises ValueError for a checkpoint of another search.
    """
    fixed = states(problem.layers, order=order)
    draws, learning = streams(seed)
    agent = new_agent(fixed.shape[1], len(fixed), settings, rng=learning)
    place = f"{checkpoint}, its generators"
    trace = Trace(problem)
    header = fingerprint(problem, "ddpg", seed, order=order, settings=settings)
    with lock(checkpoint), threadpool_limits(1, user_api="blas"):
        if checkpoint is not None and Path(checkpoint).exists():
            arrays, content = load(checkpoint, header, trace)
            try:
                agent.restore(arrays)
            except ValueError as error:
                raise Unreadable(f"{checkpoint}: {error}") from error
            states_of = decode(content.get("generators"), tuple[State, State], place)
            for generator, state in zip((draws, learning), states_of, strict=True):
                restore_generator(generator, state, place)
        for number in bar(len(trace.policies), episodes, progress, unit="policy"):
            episode(trace, agent, fixed, evaluate, number, draws, learning)
            if checkpoint is not None:
                generators = [g.bit_generator.state for g in (draws, learning)]
                entry = header | {"generators": generators}
                save(checkpoint, trace, entry, agent.arrays())
    return trace


def episode(
    trace: Trace,
    agent: Agent,
    fixed: Float,
    evaluate: Evaluate,
    number: int,
    draws: np.random.Generator,
    learning: np.random.Generator,
) -> None:
    """Choose bits for every layer, evaluate them once, learn from every choice.

    fixed: (L, S), the states without last actions
    """
    problem = trace.problem
    rows, actions = fixed.copy(), np.zeros(len(fixed))
    bits: list[int] = []
    for k, row in enumerate(rows):
        if k:
            row[-1] = bits[-1] / problem.b_max
        actions[k] = agent.act(row, draws.random(), number)
        chosen = bits_of(actions[k], b_min=problem.b_min, b_max=problem.b_max)
        bits.append(int(chosen))
    proposed = np.array(bits)
    policy = problem.policy(proposed)
    trace.add(proposed, policy, evaluate(policy))
    reward = problem.reward(trace.accuracies[-1])
    last = len(rows) - 1
    for k, row in enumerate(rows):
        after = rows[min(k + 1, last)]  # of the last one it does not count
        agent.replay.add(row, actions[k], reward, after, done=k == last)
        if number >= agent.settings.warm_up:
            for _ in range(agent.settings.updates):
                agent.learn(agent.replay.sample(agent.settings.batch, learning))


def random_search(
    problem: Problem,
    evaluate: Evaluate,
    *,
    evaluations: int,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    progress: bool | None = None,
) -> Trace:
    """Evaluate policies of uniform actions, lowered until they fit, as HAQ's are."""
    draws, _ = streams(seed)
    actions = draws.random((evaluations, len(problem.layers)))
    proposed = bits_of(actions, b_min=problem.b_min, b_max=problem.b_max)
    pairs = [(bits, problem.policy(bits)) for bits in proposed]
    trace = Trace(problem)
    header = fingerprint(problem, "random", seed)
    return evaluate_all(trace, pairs, evaluate, header, checkpoint, progress)


def greedy(
    problem: Problem,
    evaluate: Evaluate,
    *,
    evaluations: int,
    checkpoint: str | Path | None = None,
    progress: bool | None = None,
) -> Trace:
    """Take each bit from the layer whose measured loss per bit of size is smallest.

    1. Evaluate b_max everywhere. 2. For every layer, evaluate b_max everywhere but
    there, at m numbers of bits from b_min upwards, evenly spaced, where m is as large
    as ``evaluations`` allows, at most b_max - b_min. 3. Losses between these numbers
    are interpolated. From b_max everywhere, the layer with the smallest (loss after -
    loss before) / weights loses a bit (of equals the last layer), until the size fits.
    4. Evaluate that policy: the last of the trace, and usually the only one that fits.

    At most ``evaluations`` in all. Raises ValueError if they are fewer than L + 2.
    """
    layers, (lo, hi) = len(problem.layers), (problem.b_min, problem.b_max)
    per_layer = min((evaluations - 2) // layers, hi - lo)
    if evaluations < layers + 2:
        raise ValueError(
            f"evaluations must be at least L + 2 = {layers + 2}, got {evaluations}"
        )
    tried = lo + np.arange(per_layer) * (hi - lo) // max(per_layer, 1)
    top = np.full(layers, hi)
    probes = [top] + [
        with_bits(top, k, b) for k in range(layers) for b in tried.tolist()
    ]
    trace = Trace(problem)
    header = fingerprint(problem, "greedy", evaluations)
    pairs = [(bits, bits) for bits in probes]
    evaluate_all(trace, pairs, evaluate, header, checkpoint, progress)
    measured = np.array(trace.accuracies[: len(probes)])
    losses = measured[0] - measured[1:].reshape(layers, per_layer)
    best = cheapest(problem, tried, losses)
    pairs.append((best, best))
    return evaluate_all(trace, pairs, evaluate, header, checkpoint, progress)


def with_bits(policy: Int, layer: int, bits: int) -> Int:
    """Return a policy with other bits in one layer.

    >>> with_bits(np.array([8, 8]), 1, 3)
    array([8, 3])
    """
    changed = policy.copy()
    changed[layer] = bits
    return changed


def cheapest(problem: Problem, tried: Int, losses: Float) -> Int:
    """Return the policy that step 3 of ``greedy`` ends at.

    tried: (m,) ascending bits below b_max, losses: (L, m)  ->  (L,)
    """
    known = np.append(tried, problem.b_max)
    every = np.arange(problem.b_min, problem.b_max + 1)
    table = np.array([np.interp(every, known, [*row, 0.0]) for row in losses])
    weights, bits = problem.weights, np.full(len(losses), problem.b_max)
    while not problem.fits(bits):
        at = bits - problem.b_min  # column of the loss before
        rows = np.arange(len(bits))
        price = (table[rows, np.maximum(at - 1, 0)] - table[rows, at]) / weights
        price[at == 0] = np.inf
        bits[len(bits) - 1 - int(np.argmin(price[::-1]))] -= 1
    return bits


def evaluate_all(
    trace: Trace,
    pairs: list[tuple[Int, Int]],
    evaluate: Evaluate,
    header: Mapping[str, Any],
    checkpoint: str | Path | None,
    progress: bool | None,
) -> Trace:
    """Evaluate the policies that the trace and the checkpoint do not hold yet."""
    with lock(checkpoint):
        if checkpoint is not None and Path(checkpoint).exists() and not trace.policies:
            load(checkpoint, header, trace)
        for number in bar(len(trace.policies), len(pairs), progress, unit="policy"):
            proposed, policy = pairs[number]
            trace.add(proposed, policy, evaluate(policy))
            if checkpoint is not None:
                save(checkpoint, trace, header, {})
    return trace


def streams(seed: int) -> tuple[np.random.Generator, np.random.Generator]:
    """Return the generator of actions, and that of initial values and batches."""
    return np.random.default_rng([seed, 0]), np.random.default_rng([seed, 1])
