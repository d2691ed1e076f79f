"""HAQ's agent: gradients against finite differences, Adam, exploration, replay."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refuses
from scipy.stats import kstest, truncnorm

from refqnn.nn import adam_step
from refqnn.papers.haq import Settings, new_agent, truncated_normal
from refqnn.papers.haq.actor_critic import (
    Actor,
    actor,
    actor_backward,
    adam_steps,
    critic,
    critic_backward,
    new_actor,
    new_critic,
    no_moments,
    policy_gradient,
    soft_update,
)
from refqnn.papers.haq.ddpg import Batch, new_replay
from refqnn.testing import check_gradients

STATES, HIDDEN = 4, (7, 6)
SMALL = Settings(hidden=HIDDEN, batch=5)


def rng_of(seed):
    return np.random.default_rng(seed)


def agree(found, expected):
    for one, two in zip(found, expected, strict=True):
        assert one.shape == two.shape
        np.testing.assert_allclose(one, two, rtol=1e-6, atol=1e-9)


def case(seed):
    rng = rng_of(seed)
    s, a = rng.standard_normal((5, STATES)), rng.random((5, 1))
    dy = rng.standard_normal((5, 1))
    p = new_actor(STATES, HIDDEN, rng=rng)
    q = new_critic(STATES, HIDDEN, rng=rng)
    return s, a, dy, p, q


@pytest.mark.parametrize("seed", range(3))
def test_every_gradient_of_the_actor(seed):
    s, _, _, p, _ = case(seed)

    def forward(*arrays):
        return actor(Actor(*arrays), s)

    def backward(da, cache):
        return tuple(actor_backward(p, da, cache))

    check_gradients(forward, backward, p, wrt=range(len(p)))


@pytest.mark.parametrize("seed", range(3))
def test_every_gradient_of_the_critic(seed):
    s, a, _, _, q = case(seed)

    def forward(a, *arrays):
        return critic(type(q)(*arrays), s, a)

    def backward(dq, cache):
        grads, da = critic_backward(q, dq, cache)
        return da, *grads

    check_gradients(forward, backward, [a, *q], wrt=range(1 + len(q)))


@pytest.mark.parametrize("seed", range(3))
def test_the_policy_gradient_goes_through_the_critic(seed):
    s, _, _, p, q = case(seed)
    value, found = policy_gradient(p, q, s)

    def forward(*arrays):
        a, _ = actor(Actor(*arrays), s)
        return -critic(q, s, a)[0].mean(), None

    assert value == forward(*p)[0]

    def backward(dy, _):
        return tuple(dy * grad for grad in found)

    check_gradients(forward, backward, p, wrt=range(len(p)))


def test_perceptrons_against_torch():
    torch = pytest.importorskip("torch")
    s, a, _, p, q = case(0)

    def dense(x, w, b):
        return x @ torch.tensor(w) + torch.tensor(b)

    x = torch.tensor(s)
    h = torch.relu(dense(torch.relu(dense(x, p.w1, p.b1)), p.w2, p.b2))
    expected = torch.sigmoid(dense(h, p.w3, p.b3)).numpy()
    np.testing.assert_allclose(actor(p, s)[0], expected, rtol=1e-13)
    h = torch.relu(dense(x, q.ws, q.b1) + torch.tensor(a) @ torch.tensor(q.wa))
    expected = dense(torch.relu(dense(h, q.w2, q.b2)), q.w3, q.b3).numpy()
    np.testing.assert_allclose(critic(q, s, a)[0], expected, rtol=1e-13)


def test_perceptrons_begin_within_the_fan_in():
    p, q = new_actor(9, (50, 40), rng=rng_of(0)), new_critic(9, (50, 40), rng=rng_of(0))
    for w, b, inputs in ((p.w1, p.b1, 9), (q.w2, q.b2, 50), (q.w3, q.b3, 40)):
        most = 1 / np.sqrt(inputs)
        assert 0.8 * most < np.abs(w).max() <= most
        assert np.abs(b).max() <= most
    assert 0.8 < np.abs(q.wa).max() <= 1


def tiny(*values):
    return Actor(*(np.array([value], float) for value in values))


def test_every_array_takes_its_own_step_of_adam():
    p, grads = tiny(1, 2, 3, 4, 5, 6), tiny(1, -2, 0, 1e-9, 5, 100)
    moments, mv, want = no_moments(p), np.zeros((2, 6)), np.arange(1.0, 7)
    for t in (1, 2):
        p, moments = adam_steps(p, grads, moments, lr=0.01)
        want, mv = adam_step(
            want, np.concatenate(grads), mv, lr=0.01, t=t, scaled_rate=True
        )
        np.testing.assert_array_equal(np.concatenate(p), want)
    assert moments.t == 2


def test_a_step_changes_nothing_in_place():
    _, _, _, p, _ = case(2)
    before, moments = [value.copy() for value in p], no_moments(p)
    adam_steps(p, p, moments, lr=0.1)
    soft_update(p, tiny(*[1] * 6), tau=0.5)
    for value, old in zip(p, before, strict=True):
        np.testing.assert_array_equal(value, old)
    assert not any(np.any(mv) for mv in moments.mv)


def test_a_soft_update_moves_by_tau():
    found = soft_update(tiny(*[0] * 6), tiny(*[8] * 6), tau=0.25)
    np.testing.assert_array_equal(np.concatenate(found), 2)
    same = soft_update(tiny(*[3] * 6), tiny(*[8] * 6), tau=1)
    np.testing.assert_array_equal(np.concatenate(same), 8)


@given(st.floats(0, 1), st.floats(0.01, 3), st.floats(0, 1, exclude_max=True))
def test_the_truncated_normal_is_that_of_scipy(mean, std, u):
    expected = truncnorm.ppf(u, -mean / std, (1 - mean) / std, loc=mean, scale=std)
    found = truncated_normal(mean, std, u)
    assert 0 <= found <= 1
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9)


def test_a_wide_normal_is_uniform_and_a_narrow_one_its_mean():
    u = rng_of(0).random(2000)
    assert kstest(truncated_normal(0.3, 50.0, u), "uniform").pvalue > 0.01
    np.testing.assert_allclose(truncated_normal(0.3, 1e-9, u), 0.3, atol=1e-7)
    assert np.all(truncated_normal(0.0, 0.1, u) > 0)


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        (0.5, 0.0, "std must be positive, got 0"),
        (0.5, np.nan, "std must be positive, got nan"),
        (1.1, 0.5, r"mean must be in \[0, 1\], got 1.1"),
        (np.nan, 0.5, r"mean must be in \[0, 1\], got nan"),
    ],
)
def test_normals_that_are_none_raise(mean, std, message):
    refuses(message, truncated_normal, mean, std, 0.5)


def test_a_replay_keeps_the_last_transitions():
    replay = new_replay(3, 2)
    refuses("without transitions", replay.sample, 1, rng_of(0))
    for i in range(5):
        s = np.array([i, -i])
        replay.add(s, i / 10, float(i), s + 1, done=i == 4)
        found = replay.sample(64, rng_of(i))
        assert set(found.r[:, 0]) <= set(range(max(i - 2, 0), i + 1))
    every = replay.sample(3, rng_of(0))
    assert sorted(every.r[:, 0]) == [2, 3, 4]
    np.testing.assert_array_equal(every.s[:, 0], every.r[:, 0])
    np.testing.assert_array_equal(every.s2[:, 1], 1 - every.r[:, 0])
    np.testing.assert_allclose(every.a, every.r / 10)
    np.testing.assert_array_equal(every.done, every.r == 4)


def batch_of(r, done, seed=0):
    rng = rng_of(seed)
    n = len(r)
    s, a, s2 = rng.random((n, STATES)), rng.random((n, 1)), rng.random((n, STATES))
    return Batch(s, a, np.array(r, float)[:, None], s2, np.array(done, float)[:, None])


def test_the_baseline_starts_at_the_first_mean_and_halves_the_distance():
    agent = new_agent(STATES, 2, SMALL, rng=rng_of(0))
    assert agent.baseline is None
    agent.learn(batch_of([1, 3], [0, 1]))
    assert agent.baseline == 2
    agent.learn(batch_of([6, 10], [0, 1]))
    assert agent.baseline == 5


@pytest.mark.parametrize("gamma", [1.0, 0.5])
def test_the_target_of_the_critic(gamma):
    agent = new_agent(STATES, 2, SMALL._replace(gamma=gamma), rng=rng_of(0))
    agent.actor_target = new_actor(STATES, HIDDEN, rng=rng_of(1))
    agent.critic_target = new_critic(STATES, HIDDEN, rng=rng_of(2))
    batch = batch_of([1, 2, 6], [0, 0, 1])
    ahead = actor(agent.actor_target, batch.s2)[0]
    later = critic(agent.critic_target, batch.s2, ahead)[0]
    y = batch.r - 3 + gamma * later * [[1], [1], [0]]
    q, cache = critic(agent.critic, batch.s, batch.a)
    old, old_targets = agent.critic, (agent.actor_target, agent.critic_target)
    loss, policy_loss = agent.learn(batch)
    np.testing.assert_allclose(loss, np.mean((q - y) ** 2), rtol=1e-12)
    grads = critic_backward(old, 2 * (q - y) / 3, cache)[0]
    expected, _ = adam_steps(old, grads, no_moments(old), lr=1e-3)
    agree(agent.critic, expected)
    # the actor has followed the critic of after its step
    fresh = new_agent(STATES, 2, SMALL, rng=rng_of(0)).actor
    before, actor_grads = policy_gradient(fresh, agent.critic, batch.s)
    assert policy_loss == before
    moved, _ = adam_steps(fresh, actor_grads, no_moments(fresh), lr=1e-4)
    agree(agent.actor, moved)
    agree(agent.actor_target, soft_update(old_targets[0], moved, tau=0.01))
    agree(agent.critic_target, soft_update(old_targets[1], expected, tau=0.01))


def test_with_gamma_1_the_critic_counts_the_remaining_steps():
    """Two states, the second the last: Q is 2 (R - b) and 1 (R - b)."""
    settings = Settings(hidden=(24, 24), lr_critic=5e-3, lr_actor=1e-9, tau=0.1)
    agent = new_agent(2, 1, settings, rng=rng_of(0))
    first, second = np.eye(2)
    rewards = np.repeat([1.0, -1.0], 2)
    s = np.array([first, second] * 2)
    s2 = np.array([second, second] * 2)
    a = np.array([[0.9], [0.9], [0.1], [0.1]])
    done = np.array([[0.0], [1.0]] * 2)
    for _ in range(1500):
        agent.learn(Batch(s, a, rewards[:, None], s2, done))
    q, _ = critic(agent.critic, s, a)
    target_actor = actor(agent.actor_target, s)[0]
    later = critic(agent.critic_target, second[None], target_actor[1:2])[0][0, 0]
    np.testing.assert_allclose(q[[1, 3], 0], [1, -1], atol=0.05)
    np.testing.assert_allclose(q[[0, 2], 0], np.array([1, -1]) + later, atol=0.05)


def test_the_agent_explores_around_its_actor_and_less_and_less():
    agent = new_agent(STATES, 2, SMALL._replace(warm_up=3), rng=rng_of(0))
    s = rng_of(1).random(STATES)
    assert [agent.act(s, 0.123, episode) for episode in (0, 2)] == [0.123] * 2
    mean = actor(agent.actor, s[None])[0][0, 0]
    for episode in (3, 4, 50):
        delta = 0.5 * 0.99 ** (episode - 3)
        expected = truncated_normal(mean, delta, 0.123)
        np.testing.assert_allclose(agent.act(s, 0.123, episode), expected, rtol=1e-15)
    np.testing.assert_allclose(agent.act(s, 0.3, 2000), mean, atol=1e-8)


def test_an_agent_restored_learns_to_the_same_bits():
    one = new_agent(STATES, 2, SMALL, rng=rng_of(0))
    batches = [batch_of([i, 2 * i, 3], [0, 0, 1], seed=i) for i in range(6)]
    for i, batch in enumerate(batches[:3]):
        one.learn(batch)
        one.replay.add(batch.s[0], 0.5, i, batch.s2[0], done=False)
    two = new_agent(STATES, 2, SMALL, rng=rng_of(9))
    two.restore(one.arrays())
    for batch in batches[3:]:
        assert one.learn(batch) == two.learn(batch)
    for name, array in one.arrays().items():
        np.testing.assert_array_equal(array, two.arrays()[name])
    one.replay.add(batch.s[0], 0.5, 7.0, batch.s2[0], done=False)
    assert (one.replay.count, two.replay.count) == (4, 3)
    assert not np.any(two.replay.rows.r == 7)


def test_a_new_agent_is_restored_without_a_baseline():
    one, two = (new_agent(STATES, 2, SMALL, rng=rng_of(i)) for i in (0, 1))
    two.learn(batch_of([1, 2], [0, 1]))
    two.restore(one.arrays())
    assert two.baseline is None


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("batch", 0, "batch must be at least 1, got 0"),
        ("warm_up", -1, "warm_up must be at least 0"),
        ("replay", 0, "replay must be at least 1"),
        ("updates", -1, "updates must be at least 0"),
        ("lr_actor", 0.0, "lr_actor must be positive"),
        ("lr_critic", np.inf, "lr_critic must be positive"),
        ("delta", -0.5, "delta must be positive"),
        ("tau", 1.5, r"tau must be in \(0, 1\]"),
        ("gamma", 0.0, r"gamma must be in \(0, 1\]"),
        ("delta_decay", np.nan, r"delta_decay must be in \(0, 1\]"),
        ("hidden", (0, 3), "hidden must be at least 1"),
    ],
)
def test_settings_out_of_range_raise(name, value, message):
    refuses(message, new_agent, 3, 2, Settings(**{name: value}), rng=rng_of(0))


def test_settings_at_their_bounds_are_allowed():
    smallest = SMALL._replace(batch=1, warm_up=0, replay=1, updates=0, hidden=(1, 1))
    agent = new_agent(3, 2, smallest._replace(tau=1, gamma=1), rng=rng_of(0))
    assert [w.shape for w in agent.actor[::2]] == [(3, 1), (1, 1), (1, 1)]


def test_the_settings_of_released_code():
    assert Settings() == (
        (300, 300), 1e-4, 1e-3, 64, 0.01, 1.0, 20, 0.5, 0.99, 128, 1
    )  # fmt: skip
