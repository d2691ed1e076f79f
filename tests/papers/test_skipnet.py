"""SkipNet: its gates, its two trainings, its cp, and what it shares with DFS."""

import itertools

import numpy as np
import pytest
from checkers import check_module
from refusals import refuses
from tables.networks import lively, pixels

from refqnn import data
from refqnn.core import Run, named_params, zero_grads
from refqnn.papers import dfs, skipnet
from refqnn.papers.skipnet import Hybrid, Supervised, skipnet_cp
from refqnn.testing.networks import slopes

every_gate = pytest.mark.parametrize("gate", skipnet.GATES)


def tiny(rng, *, depth=8, **options):
    own = {"width": 0.13, "classes": 3, "dtype": "float64"}
    return lively(skipnet.skipnet(depth, rng=rng, **own, **options), rng)


def keeping(network):
    """Make every gate keep its block, not too surely."""
    for name, param in named_params(network.gates).items():
        if name.endswith(("linear.b", "projection.b")):
            param.value = np.array([0.0, 1.5])[-param.value.size :]


@every_gate
@pytest.mark.parametrize("mode", ["soft", "straight_through"])
def test_gradients_of_the_whole_network(gate, mode, rng):
    network = tiny(rng, gate=gate, gate_mode=mode)
    if mode == "straight_through":
        keeping(network)  # a block that all samples skip gets no gradient
    x = pixels(rng, dtype=np.float64)
    check_module(network, x, Run(training=True), rng, step=1e-7, bound=1e-6)


def test_two_option_dfs_with_a_zero_logit_is_skipnet_in_every_gradient(rng):
    ours = tiny(np.random.default_rng(4), depth=14)
    theirs = dfs.routed_resnet(
        14,
        options=(0, 32),
        width=0.13,
        classes=3,
        dtype="float64",
        rng=np.random.default_rng(4),
    )
    params, copies = named_params(ours), named_params(theirs)
    for name, param in copies.items():
        value = params[name].value
        if name.startswith("gates.projection"):
            value = np.concatenate([np.zeros_like(value), value])
        param.value = value.copy()
    x, labels, run = pixels(rng, n=4, dtype=float), np.array([0, 1, 2, 0]), True
    logits = []
    for network in (ours, theirs):
        zero_grads(network)
        loss, z = Supervised()(network, x, labels, Run(training=run))
        logits.append(z)
    np.testing.assert_array_equal(*logits)
    for name, param in copies.items():
        grad = params[name].grad
        if name.startswith("gates.projection"):
            np.testing.assert_allclose(param.grad[:1], -grad, rtol=1e-9)
            np.testing.assert_allclose(param.grad[1:], grad, rtol=1e-9)
        else:
            np.testing.assert_allclose(param.grad, grad, rtol=1e-9, atol=1e-14)
    # alpha = 0 of DFS's loss is the same training
    joint = dfs.Joint(target=0.5, alpha=0.0)
    zero_grads(theirs)
    again, _ = joint(theirs, x, labels, Run(training=True))
    assert again == pytest.approx(loss, rel=1e-14)
    grads = [p.grad.copy() for p in copies.values()]
    zero_grads(theirs)
    Supervised()(theirs, x, labels, Run(training=True))
    for one, p in zip(grads, copies.values(), strict=True):
        np.testing.assert_array_equal(one, p.grad)


def test_the_mask_of_a_half_is_skip(rng):
    network = tiny(rng)
    network.gates.projection.w.value[:] = 0
    network.gates.projection.b.value[:] = 0
    _, cache = network.forward(pixels(rng, dtype=float), Run(training=True))
    assert np.all(cache.p == 0.5)
    assert np.all(cache.m.argmax(-1) == 0)


# REINFORCE


def returns(decisions, losses, alpha):
    """The whole reward of a path: what R_1 is."""
    g = decisions.shape[1]
    return alpha / g * (1 - decisions).sum(1) - losses


def paths(network, x, labels, alpha):
    """Yield for every path its probability, return and pass, one image, in eval."""
    for actions in itertools.product((0, 1), repeat=network.gated):
        logits, cache = network.forward(
            x, Run(), choose=lambda i, _p, a=actions: np.array(a[i])
        )
        p = cache.p[0][np.arange(network.gated), actions]
        losses = skipnet.sample_losses(logits, labels)
        total = returns(np.array([actions]), losses, alpha)[0]
        yield p.prod(), total, logits, cache


def expected(network, x, labels, alpha, weigh):
    """Return the expectation over all paths of a gradient of every parameter."""
    total = dict.fromkeys(named_params(network), 0.0)
    for chance, reward, logits, cache in paths(network, x, labels, alpha):
        zero_grads(network)
        p = np.exp(logits - logits.max())
        dlogits = p / p.sum() - np.eye(3)[labels]
        dz = weigh(cache, reward, logits)
        network.backward(dlogits, cache, dz=dz)
        for name, param in named_params(network).items():
            total[name] = total[name] + chance * param.grad
    return total


def test_score_function_gradient_is_the_exact_gradient_in_expectation(rng):
    network = tiny(rng)
    x, labels, alpha = pixels(rng, n=1, dtype=float), np.array([1]), 0.7
    network.forward(pixels(rng, n=6, dtype=float), Run(training=True))
    score = expected(
        network,
        x,
        labels,
        alpha,
        lambda cache, _r, z: skipnet.policy_gradient(cache, z, labels, alpha=alpha),
    )
    whole = expected(
        network, x, labels, alpha, lambda cache, r, _z: -r * (cache.m - cache.p)
    )

    def objective():
        found = paths(network, x, labels, alpha)
        return -sum(chance * reward for chance, reward, *_ in found)

    for name, param in named_params(network).items():
        np.testing.assert_allclose(
            score[name], whole[name], rtol=1e-9, atol=1e-12, err_msg=name
        )
        numerical, claimed = slopes(param, objective, rng, 1e-7, score[name])
        np.testing.assert_allclose(
            claimed, numerical, rtol=1e-6, atol=1e-8, err_msg=name
        )


def test_without_weight_the_gates_of_a_sampled_path_learn_nothing(rng):
    network = tiny(rng)
    x, labels = pixels(rng, dtype=float), np.array([0, 1, 2])
    zero_grads(network)
    Hybrid(w=0.0)(network, x, labels, Run(training=True, rng=rng))
    for name, param in named_params(network).items():
        if name.startswith("gates"):
            assert not param.grad.any(), name
    assert network.stem.w.grad.any()


def test_the_policy_term_has_its_weight(rng):
    network = tiny(rng)
    x, labels, grads = pixels(rng, dtype=float), np.array([0, 1, 2]), []
    for w in (0.0, 0.25):
        zero_grads(network)
        drawn = np.random.default_rng(3)
        Hybrid(alpha=2.0, w=w)(network, x, labels, Run(training=True, rng=drawn))
        grads.append(network.gates.w_x.grad.copy())
    zero_grads(network)
    choose = skipnet.sample_actions(np.random.default_rng(3))
    logits, cache = network.forward(x, Run(training=True), choose=choose)
    dz = 0.25 * skipnet.policy_gradient(cache, logits, labels, alpha=2.0)
    network.backward(np.zeros_like(logits), cache, dz=dz)
    np.testing.assert_allclose(grads[1] - grads[0], network.gates.w_x.grad, rtol=1e-9)
    four = dfs.routed_resnet(8, width=0.13, classes=3, rng=rng)
    with pytest.raises(ValueError, match=r"options must be \(0, 32\), got"):
        Hybrid()(four, x, labels, Run(training=True, rng=rng))


def test_actions_are_bernoulli(rng):
    p = np.tile([[0.7, 0.3]], (20_000, 1))
    a = skipnet.sample_actions(rng)(0, p)
    assert abs(a.mean() - 0.3) < 4 * np.sqrt(0.21 / a.size)


def test_hybrid_needs_a_generator(rng):
    with pytest.raises(ValueError, match="actions are drawn"):
        Hybrid()(tiny(rng), pixels(rng), np.zeros(3, int), Run(training=True))


# cp


def test_both_definitions_of_cp(rng):
    a = rng.integers(0, 2, (50, 17))
    ours = dfs.computation_percentage(dfs.one_hot(a, 2), (0, 32))
    assert skipnet_cp(a) == pytest.approx(ours + (1 - ours) / 18)
    assert skipnet_cp(np.zeros((3, 4), int)) == 0.2
    assert skipnet_cp(np.ones((3, 4), int)) == 1.0


@pytest.mark.parametrize("wrong", [np.zeros((0, 3), int), np.zeros(3, int), [[2]]])
def test_decisions_that_are_none(wrong):
    refuses("decisions must be", skipnet_cp, wrong)


def test_unknown_gates_raise(rng):
    refuses("gate must be one of", skipnet.skipnet, 8, gate="CNNGate", rng=rng)
    refuses("kind must be", skipnet.feed_forward_gate, [2], 2, kind="III", rng=rng)


@every_gate
def test_training_runs_and_records_cp(gate, rng):
    network = tiny(rng, gate=gate, image_scale=1.0, image_zero_point=0)
    dataset = data.textures(64, 8, rng=rng, classes=3, size=8, plane=8)
    for objective in (Supervised(), Hybrid()):
        dfs.train(
            network,
            dataset,
            objective,
            steps=4,
            lr=0.01,
            rng=rng,
            settings=dfs.SMALL._replace(batch=16),
        )
        assert len(objective.history) == 4
        assert all(1 / 3 <= cp <= 1 for cp in objective.history)
