"""Two-stage, progressive and guided training: gradients, identities, stages, errata."""

import copy
import itertools
from functools import partial

import numpy as np
import pytest
from checkers import compare
from hypothesis import given
from hypothesis import strategies as st
from refusals import refuses
from tables.networks import lively, pixels, toy

from refqnn.core import Run, named_params, zero_grads
from refqnn.networks import build, resnet
from refqnn.nn import SGD, Training, carry_over, cosine, cross_entropy, evaluate, fit
from refqnn.nn import checkpoint as checkpoints
from refqnn.papers.guided import (
    Guided,
    check_falling,
    guidance,
    guidance_backward,
    guided_objective,
    guided_pair,
    progression,
    progressive,
    stages,
    two_stage,
    two_stage_bits,
)
from refqnn.quantizers import dorefa_activation
from refqnn.testing import check_op
from refqnn.testing.networks import check_same_state, slopes, state_of

NET = {"network": "resnet", "depth": 8, "width": 0.13, "classes": 3}
LOW = NET | {"weight_bits": 2, "activation_bits": 2}
MEANS = ("images", "elements", None)
drawn = given(seed=st.integers(0, 2**32 - 1))


# Guidance of one layer


def features(rng, *, bits=2):
    """Return features beyond both ends of the clip, none on it or on a tie."""
    shape = (3, 2, 2, 2)
    n = 2**bits - 1
    cell = rng.integers(-2, 2 * n + 4, shape) / 2  # of width 1 / (2 n)
    a_full = (cell + rng.uniform(0.1, 0.4, shape)) / n
    a_low, _ = dorefa_activation(rng.normal(0.5, 0.5, shape), bits=bits)
    return a_full, a_low


def draw(rng):
    bits = int(rng.integers(1, 5))
    options = {"bits": bits, "mean_over": MEANS[rng.integers(3)]}
    return features(rng, bits=bits), options


def loop(a_full, a_low, *, bits, mean_over):
    n, total = 2**bits - 1, 0.0
    for a, b in zip(a_full.flat, a_low.flat, strict=True):
        total += (round(n * min(max(a, 0.0), 1.0)) / n - b) ** 2 / 2
    return total / {"images": len(a_full), "elements": a_full.size, None: 1}[mean_over]


def test_the_gradient_of_a_low_needs_no_freezing(rng):
    a_full, a_low = features(rng)
    _, cache = guidance(a_full, a_low, bits=2)
    along, step = rng.normal(size=a_low.shape), 1e-5
    above, below = (
        guidance(a_full, a_low + t * along, bits=2)[0] for t in (step, -step)
    )
    claimed = np.sum(guidance_backward(1.0, cache)[1] * along)
    np.testing.assert_allclose((above - below) / (2 * step), claimed, rtol=1e-8)


def test_the_laws_of_pairs():
    options = {"wrt": (0, 1), "frozen": True, "loop": loop, "examples": 100}
    check_op(guidance, guidance_backward, draw, **options)


@drawn
def test_it_is_zero_just_where_the_features_agree(seed):
    rng = np.random.default_rng(seed)
    a_full, _ = features(rng)
    a_low, _ = dorefa_activation(a_full, bits=2)
    Rh, cache = guidance(a_full, a_low, bits=2)
    assert Rh == 0
    assert not any(da.any() for da in guidance_backward(1.0, cache))
    other = a_low.copy()
    place = tuple(rng.integers(size) for size in other.shape)
    other[place] = 1 / 3 if other[place] != 1 / 3 else 1.0
    assert guidance(a_full, other, bits=2)[0] > 0


def test_the_ends_of_the_clip_let_the_gradient_through():
    a_full = np.array([[-0.01, 0.0, 1.0, 1.01]])
    _, cache = guidance(a_full, np.full((1, 4), 0.5), bits=2)
    da_full, da_low = guidance_backward(2.0, cache)
    np.testing.assert_array_equal(da_full, [[0, -1, 1, 0]])
    np.testing.assert_array_equal(da_low, [[1, 1, -1, -1]])


def test_the_sum_is_rounded_once_in_float32(rng):
    for _ in range(20):
        a_full = rng.uniform(0, 1, (1, 3000)).astype(np.float32)
        a_low = rng.uniform(0, 1, a_full.shape).astype(np.float32)
        phi, _ = dorefa_activation(a_full, bits=1)
        exact = np.sum((phi - a_low).astype(np.float64) ** 2) / 2
        Rh, _ = guidance(a_full, a_low, bits=1)
        assert Rh == np.float32(exact)
        assert Rh.dtype == np.float32


ONE = np.zeros((2, 3))


@pytest.mark.parametrize(
    ("a_full", "a_low", "bits", "message"),
    [
        (ONE, np.zeros((2, 1)), 2, r"one shape and dtype: \(2, 3\) .*\(2, 1\)"),
        (ONE, ONE.astype(np.float32), 2, "one shape and dtype: .*float64.*float32"),
        (ONE[:0], ONE[:0], 2, r"a_full must hold at least one number: a_full\(0, 3\)"),
        (ONE + np.nan, ONE, 2, "x must be finite"),
        (ONE, ONE + np.inf, 2, "a_low must be finite"),
        (ONE, ONE, 0, r"bits must be an int in \[1, 16\], got 0"),
        (ONE, ONE.astype(int), 2, "a_low must be a float32 or float64 array"),
    ],
)
def test_what_guidance_refuses(a_full, a_low, bits, message):
    refuses(message, guidance, a_full, a_low, bits=bits)


def test_a_mean_over_something_else_is_refused():
    with pytest.raises(ValueError, match=r"mean_over must be .* got 'layers'"):
        guidance(ONE, ONE, bits=2, mean_over="layers")


def test_a_gradient_of_another_shape_is_refused():
    _, cache = guidance(ONE, ONE, bits=2)
    with pytest.raises(ValueError, match=r"dRh must be one number, got shape \(2,\)"):
        guidance_backward(np.ones(2), cache)


# The two networks


def start(network, objective=cross_entropy, seed=3):
    sgd = SGD(named_params(network), momentum=0.9, nesterov=True, weight_decay=1e-3)
    rng = np.random.default_rng(seed)
    schedule = cosine(0.05, steps=100)
    return Training(network, sgd, schedule, rng, batch=8, objective=objective)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("mean_over", MEANS)
def test_every_gradient_at_frozen_residuals(rng, training, mean_over):
    pair = lively(guided_pair(LOW | {"dtype": "float64"}, rng=rng), rng)
    x, labels = pixels(rng, n=3, size=8, dtype=np.float64), np.array([0, 1, 2])
    objective = guided_objective(0.7, mean_over=mean_over, label_smoothing=0.1)
    run = Run(training=training)
    recording = run.recording()
    zero_grads(pair)
    objective(pair, x, labels, recording)
    grads = {name: p.grad.copy() for name, p in named_params(pair).items()}

    def loss():
        return objective(pair, x, labels, run.replaying(recording.tape))[0]

    for name, param in named_params(pair).items():
        numerical, _ = slopes(param, loss, np.random.default_rng(0), 1e-6)
        along = np.random.default_rng(0).standard_normal(param.value.shape)
        compare(name, numerical, np.sum(grads[name] * along), 1e-6)


def test_dx_of_both_networks(rng):
    pair = lively(guided_pair(LOW | {"dtype": "float64"}, rng=rng), rng)
    x = pixels(rng, n=2, size=8, dtype=np.float64)
    recording = Run(training=True).recording()
    (z_full, z_low, _), cache = pair.joint(x, recording)
    dz = rng.normal(size=(2, *z_full.shape))
    assert z_full.shape == z_low.shape
    dx = pair.joint_backward(*dz, 0.4, cache)
    along, step = rng.normal(size=x.shape) * 10, 1e-6

    def value(there):
        run = Run(training=True).replaying(recording.tape)
        (full, low, Rh), _ = pair.joint(there, run)
        return np.sum(dz[0] * full) + np.sum(dz[1] * low) + 0.4 * Rh

    slope = (value(x + step * along) - value(x - step * along)) / (2 * step)
    compare("dx", slope, np.sum(dx * along), 1e-6)


def gradients(pair, objective, x, labels):
    zero_grads(pair)
    loss, logits = objective(pair, x, labels, Run(training=True))
    return loss, logits, {n: p.grad.copy() for n, p in named_params(pair).items()}


def test_each_network_has_its_own_loss_and_guidance_once(rng):
    pair = lively(guided_pair(LOW | {"dtype": "float64"}, rng=rng), rng)
    x, labels = toy(n=4)
    x = x.astype(np.float64)
    zero = gradients(pair, guided_objective(0.0), x, labels)
    one = gradients(pair, guided_objective(1.0), x, labels)
    for which in ("full", "low"):
        network = getattr(pair, which)
        zero_grads(network)
        cross_entropy(network, x, labels, Run(training=True))
        for name, param in named_params(network).items():
            np.testing.assert_array_equal(zero[2][f"{which}.{name}"], param.grad)
    (_, z_low, Rh), cache = pair.joint(x, Run(training=True))
    np.testing.assert_array_equal(one[1], z_low)
    np.testing.assert_allclose(one[0] - zero[0], Rh, rtol=1e-12)
    zero_grads(pair)
    nothing = np.zeros_like(z_low)
    pair.joint_backward(nothing, nothing, 1.0, cache)
    for name, param in named_params(pair).items():
        share = one[2][name] - zero[2][name]
        np.testing.assert_allclose(share, param.grad, rtol=1e-9, atol=1e-12)
        assert param.grad.any() == ("classifier" not in name), name


def test_both_networks_learn_from_guidance_alone(rng):
    pair = lively(guided_pair(LOW, rng=rng), rng)
    x, _ = toy()
    before = state_of(pair)
    values = []
    sgd = SGD(named_params(pair), momentum=0.9)
    for _ in range(40):
        (z, _, Rh), cache = pair.joint(x, Run(training=True))
        values.append(Rh)
        zero_grads(pair)
        pair.joint_backward(np.zeros_like(z), np.zeros_like(z), 1.0, cache)
        sgd.step(1e-3)
    assert values[-1] < 0.6 * values[0]
    for name, value in state_of(pair).items():
        moved = not np.array_equal(value, before[name])
        assert moved == ("classifier" not in name), name


def test_without_guidance_each_network_is_trained_as_if_alone():
    pair = guided_pair(LOW, rng=np.random.default_rng(4))
    alone = {"full": copy.deepcopy(pair.full), "low": copy.deepcopy(pair.low)}
    together = start(pair, guided_objective(0.0))
    records = fit(together, toy(), epochs=3, test=toy(2))
    for which, network in alone.items():
        training = start(network)
        own = fit(training, toy(), epochs=3, test=toy(2))
        for name, value in state_of(network).items():
            kind, _, key = name.partition(" ")
            there = state_of(pair)[f"{kind} {which}.{key}"]
            assert there.tobytes() == value.tobytes(), name
        for name, value in training.optimiser.velocity.items():
            there = together.optimiser.velocity[f"{which}.{name}"]
            assert there.tobytes() == value.tobytes(), name
        if which == "low":
            for key in ("test_loss", "test_accuracy", "train_accuracy"):
                assert [r[key] for r in own] == [r[key] for r in records]


def test_what_it_predicts_is_what_low_does(rng):
    pair = guided_pair(LOW, rng=rng)
    x, labels = toy()
    assert evaluate(pair, x, labels) == evaluate(pair.low, x, labels)
    y, cache = pair.forward(x, Run(training=True))
    zero_grads(pair)
    pair.backward(np.ones_like(y), cache)
    assert not any(p.grad.any() for p in named_params(pair.full).values())
    assert named_params(pair)["low.layers.stem.w"].grad.any()


def test_joint_logits_are_those_of_the_networks(rng):
    pair = lively(guided_pair(LOW, rng=rng), rng)
    x, _ = toy(n=4)
    seen = []
    run = Run(observe=lambda module, *_: seen.append(module))
    (z_full, z_low, Rh), _ = pair.joint(x, run)
    np.testing.assert_array_equal(z_full, pair.full.forward(x, Run())[0])
    np.testing.assert_array_equal(z_low, pair.low.forward(x, Run())[0])
    outputs = {}

    def keep(module, _, y):
        outputs[id(module)] = y

    pair.forward(x, Run(observe=keep))
    pair.full.forward(x, Run(observe=keep))
    want = 0.0
    for name in ("stage1_block1", "stage2_block1", "stage3_block1"):
        a_full, a_low = (outputs[id(net.layers[name])] for net in (pair.full, pair.low))
        want += guidance(a_full, a_low, bits=2)[0]
    np.testing.assert_allclose(Rh, want, rtol=1e-6)
    assert any(module is pair.full for module in seen)
    assert any(module is pair.low for module in seen)


def test_the_networks_begin_with_the_same_values_and_share_none(rng):
    pair = guided_pair(LOW | {"depth": 14}, rng=rng)
    check_same_state(state_of(pair.full), state_of(pair.low))
    params = named_params(pair)
    assert len(params) == 2 * len(named_params(pair.low))
    for name, param in named_params(pair.low).items():
        assert not np.shares_memory(param.value, params[f"full.{name}"].value)
    assert pair.layers == ("stage1_block2", "stage2_block2", "stage3_block2")
    assert (
        pair.full.config["weight_bits"] is pair.full.config["activation_bits"] is None
    )


def test_its_configuration_makes_it_again(rng, tmp_path):
    pair = guided_pair(LOW, layers=["stem_relu", "stage3_block1"], bits=3, rng=rng)
    checkpoints.save(tmp_path / "c.npz", checkpoints.of_network(pair))
    content = checkpoints.load(tmp_path / "c.npz")
    config = content.config
    assert config.pop("network") == "guided"
    again = guided_pair(**config)
    checkpoints.restore(again, content)
    check_same_state(state_of(again), state_of(pair))
    assert (again.layers, again.bits) == (pair.layers, pair.bits)
    assert again.low.config == pair.low.config


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        (
            LOW | {"method": "pact"},
            {},
            "method must be 'dorefa', as phi is, got 'pact'",
        ),
        (LOW | {"activation_bits": None}, {}, r"bits must be an int .* got None"),
        (LOW, {"layers": ["stem_quant"]}, "full has no 'stem_quant'"),
        (LOW, {"layers": ["x"]}, "must be in both networks; full has no 'x'"),
        (
            {"network": "alexnet", "weight_bits": 2, "activation_bits": 2},
            {},
            "layers must be given",
        ),
    ],
)
def test_what_guided_refuses(config, options, message):
    refuses(message, guided_pair, config, **options)


@pytest.mark.parametrize("lam", [-0.1, np.nan, np.inf])
def test_lam_outside_its_domain(lam):
    refuses("lam must be finite and at least 0", guided_objective, lam)


def test_a_guided_training_resumes_to_the_same_bits(tmp_path):
    objective = guided_objective(0.3)
    whole = start(guided_pair(LOW), objective)
    fit(whole, toy(), epochs=2)
    stopped = start(guided_pair(LOW), objective)
    for _ in range(4):
        stopped.next_batch(*toy())
    stopped.save(tmp_path / "c.npz")
    resumed = start(guided_pair(LOW, rng=np.random.default_rng(9)), objective, seed=9)
    fit(resumed, toy(), epochs=2, checkpoint=tmp_path / "c.npz")
    check_same_state(state_of(resumed.network), state_of(whole.network))


def test_erratum_one_optimiser_of_all_parameters_moves_both_networks():
    """The port's optimiser of the full network held the low network's parameters."""
    pair = guided_pair(LOW)
    before = state_of(pair)
    training = start(pair, guided_objective(0.5))
    training.next_batch(*toy())
    assert len({id(p) for p in training.optimiser.params.values()}) == len(
        named_params(pair.full)
    ) + len(named_params(pair.low))
    for which in ("full", "low"):
        key = f"param {which}.layers.stem.w"
        assert not np.array_equal(state_of(pair)[key], before[key])


# The stages


def test_two_stage_bits_quantize_the_weights_first():
    assert two_stage_bits(2, 3) == [(2, None), (2, 3)]


def test_progressions():
    sequence = (32, 16, 8, 4, 2)
    assert progression(sequence) == [(None, None), (16, 16), (8, 8), (4, 4), (2, 2)]
    assert progression((32, 4, 2), weights_first=True) == [
        (None, None),
        (4, None),
        (4, 4),
        (2, 4),
        (2, 2),
    ]
    assert progression((), weights_first=True) == []


@given(st.lists(st.sampled_from([None, 32, *range(1, 17)]), max_size=5))
def test_a_progression_falls_just_where_its_sequence_does(sequence):
    widths = [32 if bits is None else bits for bits in sequence]
    falls = all(a >= b for a, b in itertools.pairwise(widths))
    for weights_first in (False, True):
        pairs = progression(sequence, weights_first=weights_first)
        if falls:
            check_falling(pairs)
        else:
            refuses("bits must not rise", check_falling, pairs)


@pytest.mark.parametrize(
    ("bits", "message"),
    [
        ([(2, 2), (4, 2)], r"weight bits must not rise .* got \[2, 4\]"),
        ([(2, 2), (2, None)], r"activation bits must not rise .* got \[2, 32\]"),
        ([(8, 8), (4, 2), (2, 4)], r"activation bits must .* got \[8, 2, 4\]"),
    ],
)
def test_bits_that_rise(bits, message):
    refuses(message, stages, NET, bits)


def test_stages_differ_only_in_their_bits(rng):
    made = [build_one(rng) for _, build_one in stages(NET, [(32, 4), (2, 4)])]
    configs = [network.config for network in made]
    assert [c.pop("weight_bits") for c in configs] == [None, 2]
    assert [c.pop("activation_bits") for c in configs] == [4, 4]
    assert configs[0] == configs[1]
    assert configs[0]["method"] == "dorefa"
    (_, build_one), *_ = stages(NET | {"method": "lsq"}, [(2, 2)])
    assert build_one(rng).config["method"] == "lsq"


def begin(network, rng, epochs, objective=cross_entropy):
    sgd = SGD(named_params(network), momentum=0.9)
    schedule = cosine(0.05, steps=3 * epochs)
    return Training(network, sgd, schedule, rng, batch=8, objective=objective)


def check_stage_starts(ended, seed, epochs):
    """Train the last stage anew from the values of the one before it."""
    (*_, before, last), i = ended, len(ended) - 1
    rng = np.random.default_rng([seed, i])
    network = build(last.network.config, rng=rng)
    assert carry_over(before.network, network) == []
    fit(begin(network, rng, epochs), toy(), epochs=epochs)
    check_same_state(state_of(network), state_of(last.network))


def test_two_stage_training():
    ended = two_stage(
        NET, begin, toy(), weight_bits=2, activation_bits=4, epochs=1, seed=7
    )
    assert [stage.name for stage in ended] == ["1_w2_a32", "2_w2_a4"]
    check_stage_starts(ended, 7, 1)


def test_progressive_training_resumes(tmp_path):
    options = {"bits": (4, 2), "weights_first": True, "epochs": 1, "seed": 2}
    whole = progressive(NET, begin, toy(), **options)
    names = [stage.name for stage in whole]
    assert names == ["1_w4_a32", "2_w4_a4", "3_w2_a4", "4_w2_a2"]
    check_stage_starts(whole, 2, 1)
    progressive(NET, begin, toy(), **options, folder=tmp_path)
    for name in names[2:]:
        (tmp_path / f"{name}.npz").unlink()
        (tmp_path / f"{name}.jsonl").unlink()
    resumed = progressive(NET, begin, toy(), **options, folder=tmp_path)
    for one, other in zip(whole, resumed, strict=True):
        check_same_state(state_of(one.network), state_of(other.network))


def test_progressive_training_refuses_bits_that_rise():
    with pytest.raises(ValueError, match=r"bits must not rise .* \[4, 2, 3\]"):
        progressive(NET, begin, toy(), bits=(4, 2, 3), epochs=1)


def test_guided_training_in_every_stage():
    both = partial(begin, objective=guided_objective(0.1))
    first, last = progressive(
        NET, both, toy(), bits=(4, 2), make=guided_pair, epochs=1, test=toy(2)
    )
    assert isinstance(last.network, Guided)
    assert (first.network.bits, last.network.bits) == (4, 2)
    assert last.records[-1]["test_loss"] == evaluate(last.network.low, *toy(2)).loss
    for which in ("full", "low"):
        networks = [getattr(stage.network, which) for stage in (first, last)]
        one, other = (
            named_params(network)["layers.stem.w"].value for network in networks
        )
        fresh = guided_pair(LOW, rng=np.random.default_rng([0, 1]))
        start_value = named_params(getattr(fresh, which))["layers.stem.w"].value
        assert np.abs(other - one).max() < np.abs(other - start_value).max()


def test_the_low_network_is_an_ordinary_one(rng):
    pair = guided_pair(LOW, rng=rng)
    other = resnet(
        **{k: v for k, v in pair.low.config.items() if k != "network"}, rng=rng
    )
    checkpoints.restore(other, checkpoints.of_network(pair.low))
    x, _ = toy(n=2)
    np.testing.assert_array_equal(other.forward(x, Run())[0], pair.forward(x, Run())[0])
