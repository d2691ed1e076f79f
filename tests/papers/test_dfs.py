"""DFS: equation 1 and its backward, costs, the controller, what inference executes."""

import numpy as np
import pytest
from checkers import check_module
from hypothesis import given
from hypothesis import strategies as st
from refusals import refuses
from tables.networks import lively, pixels

import refqnn
from refqnn import data, fast, integer, ops
from refqnn.core import Run, named_buffers, named_params, zero_grads
from refqnn.networks import resnet
from refqnn.nn import norms
from refqnn.papers import dfs
from refqnn.papers.dfs import systems
from refqnn.papers.dfs.block import Executed
from refqnn.papers.dfs.mixture import BlockPass, gate_gradient, mixture
from refqnn.papers.dfs.objectives import ENOUGH
from refqnn.papers.dfs.two_steps import falling_rate
from refqnn.papers.printed_tables import read_table
from refqnn.papers.scalable import static_resnet
from refqnn.testing.networks import slopes

MODES = ("soft", "straight_through")
both_backends = pytest.mark.parametrize(
    "backend", [refqnn, fast], ids=["numpy", "fast"]
)


def tiny(rng, *, depth=8, dtype="float64", **options):
    """Return a network of 2, 4 and 8 channels with norms away from the identity."""
    own = {"width": 0.13, "classes": 3, "dtype": dtype}
    return lively(dfs.routed_resnet(depth, rng=rng, **own, **options), rng)


def calibrated(network, x):
    """Let every option see a batch, so that evaluation knows its ranges."""
    network.forward(x, Run(training=True, rng=np.random.default_rng(0)))
    return network


def drawn(rng, network, n):
    """Return decisions (n, L) and the choice that takes them."""
    table = rng.integers(0, len(network.options), (n, network.gated))
    return table, lambda i, _p: table[:, i]


# Equation 1 and its backward


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("depth", [8, 14])
def test_gradients_of_the_whole_network(mode, depth, rng):
    network = tiny(rng, depth=depth, gate_mode=mode)
    x = pixels(rng, dtype=np.float64)
    check_module(network, x, Run(training=True), rng, bound=1e-6)


def test_the_price_of_the_options_reaches_the_gates(rng):
    network = tiny(rng, depth=14, gate_mode="soft")
    x, price = pixels(rng, dtype=np.float64), 0.3
    recording = Run(training=True).recording()
    logits, cache = network.forward(x, recording)
    zero_grads(network)
    network.backward(np.zeros_like(logits), cache, price=price)

    def cost():
        replayed = Run(training=True).replaying(recording.tape)
        return price * dfs.resource(network.forward(x, replayed)[1].m, network.options)

    names = [n for n in named_params(network) if n.startswith("gates")]
    names += ["stem.w", "blocks.1.conv2.w", "blocks.2.norm2.gamma"]
    for name in names:
        slope, claimed = slopes(named_params(network)[name], cost, rng, 1e-6)
        np.testing.assert_allclose(claimed, slope, rtol=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_masks(mode):
    p = np.array([[0.2, 0.5, 0.3], [0.4, 0.4, 0.2]])
    m, cache = dfs.gate_mask(p, gate_mode=mode)
    expected = p if mode == "soft" else [[0, 1, 0], [1, 0, 0]]
    np.testing.assert_array_equal(m, expected)
    moved, _ = dfs.gate_mask(p + 0.125, gate_mode=mode, frozen=cache)
    np.testing.assert_allclose(moved, m + 0.125)


def test_equation_1_by_a_loop_over_samples(rng):
    network = tiny(rng)
    block, x = network.blocks[1], rng.standard_normal((3, 2, 4, 4))
    m = rng.dirichlet(np.ones(4), size=3)
    run = Run(training=True)
    y, *_ = mixture(block, x, m, network.options, np.ones(4, bool), run)
    skipped = block.skip(x, run)[0]
    others = [block.forward(x, run, b)[0] for b in (8, 16, 32)]
    for b in range(3):
        one = m[b, 0] * skipped[b]
        one = one + sum(m[b, k + 1] * others[k][b] for k in range(3))
        np.testing.assert_allclose(y[b], one, rtol=1e-12)


def test_a_skipped_identity_block_is_the_identity_and_a_transition_has_no_relu(rng):
    network = tiny(rng, depth=14)
    x = rng.standard_normal((2, 2, 4, 4))
    run, m = Run(training=True), dfs.one_hot(np.zeros(2, int), 4)
    y, *_ = mixture(network.blocks[1], x, m, network.options, m.any(0), run)
    np.testing.assert_array_equal(y, x)
    transition = network.blocks[2]
    y, *_ = mixture(transition, x, m, network.options, m.any(0), run)
    linear, _ = transition.conv3.forward(x, run, dfs.KEEP)
    expected, _ = transition.norm3.forward(linear, run)
    np.testing.assert_array_equal(y, expected)
    assert y.min() < 0


def test_a_gate_that_is_sure_gets_no_gradient_from_the_price(rng):
    network = tiny(rng)
    network.gates.projection.b.value = np.array([0.0, 0.0, 0.0, 800.0])
    logits, cache = network.forward(pixels(rng, dtype=float), Run(training=True))
    zero_grads(network)
    network.backward(np.zeros_like(logits), cache, price=1.0)
    grads = [p.grad for n, p in named_params(network).items() if n[:5] == "gates"]
    assert all(not g.any() for g in grads)


def test_price_pushes_down_exactly_what_costs_more_than_the_mean():
    p = np.array([[0.1, 0.2, 0.3, 0.4]])
    c = dfs.costs(dfs.OPTIONS)
    block = BlockPass([], [], p, p, None, chosen=True)
    dz = gate_gradient(np.zeros((1, 1, 1, 1)), block, c)
    np.testing.assert_allclose(dz[0], p[0] * (c - p[0] @ c), rtol=1e-14)
    np.testing.assert_allclose(-dz, gate_gradient(np.zeros((1, 1, 1, 1)), block, -c))


def test_probabilities_do_not_depend_on_the_batch_before(rng):
    network = tiny(rng)
    x = pixels(rng, dtype=float)
    calibrated(network, x)
    first = network.forward(x, Run())[1].p
    network.forward(pixels(rng, dtype=float), Run())
    np.testing.assert_array_equal(network.forward(x, Run())[1].p, first)


def test_permuted_samples_get_permuted_masks(rng):
    network = tiny(rng, gate_mode="soft")
    x = pixels(rng, n=5, dtype=float)
    calibrated(network, x)
    order = rng.permutation(5)
    m, again = (network.forward(v, Run())[1].m for v in (x, x[order]))
    np.testing.assert_allclose(again, m[order], rtol=1e-9)


def test_shared_statistics_move_once_for_every_candidate(rng):
    network = tiny(rng)
    block = network.blocks[1]  # a transition
    moves, update = {"norm1": 0, "norm3": 0}, norms.update

    def counted(norm, **batch):
        for name in moves:
            moves[name] += norm is getattr(block, name)
        update(norm, **batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(norms, "update", counted)
        network.forward(pixels(rng, dtype=float), Run(training=True))
    assert moves == {"norm1": 3, "norm3": 4}


# Forced decisions


def test_own_statistics_move_once_each_and_start_as_the_shared_ones(rng):
    network = calibrated(tiny(rng), pixels(rng, dtype=float))
    shared = {n: b.value for n, b in named_buffers(network).items()}
    x = pixels(rng, dtype=float)
    before = network.forward(x, Run())[0]
    params = [*named_params(network)]
    network.split_statistics()
    assert [*named_params(network)] == params  # gamma and beta stay shared
    np.testing.assert_array_equal(network.forward(x, Run())[0], before)
    network.forward(x, Run(training=True))
    moved = named_buffers(network)
    for name in ("norm1", "norm3"):
        old = shared[f"blocks.1.{name}.mean"]
        new = [moved[f"blocks.1.{name}.mean.{b}"].value for b in dfs.OPTIONS]
        for b, mean in zip(dfs.OPTIONS, new, strict=True):
            skipped = (b, name) == (0, "norm1")
            assert np.array_equal(mean, old) == skipped, (b, name)
        assert not np.array_equal(
            new[1], new[3]
        )  # 8 bits and 32: features of their own
        if name == "norm3":  # a skip takes the shortcut at 32 bits, moved by itself
            np.testing.assert_array_equal(new[0], new[3])


@pytest.mark.parametrize("mode", MODES)
def test_gradients_with_statistics_of_every_option(mode, rng):
    network = tiny(rng, gate_mode=mode)
    network.split_statistics()
    x = pixels(rng, dtype=np.float64)
    check_module(network, x, Run(training=True), rng, bound=1e-6)
    before = network.forward(x, Run())[0]
    ran = dfs.execute(network, x, integers=False)  # groups find their statistics
    np.testing.assert_allclose(ran.logits, before, rtol=1e-9)


def plain_twin(network, rng):
    """Return the ResNet of option B with the values of a routed one."""
    twin = resnet(14, width=0.13, classes=3, shortcut="B", dtype="float64", rng=rng)
    ours = named_params(network) | named_buffers(network)
    names = [n for n in twin.layers if "_block" in n]
    for name, leaf in (named_params(twin) | named_buffers(twin)).items():
        own = name.removeprefix("layers.")
        layer, _, rest = own.partition(".")
        if layer in names:
            rest = rest.replace("shortcut.layers.conv", "conv3")
            rest = rest.replace("shortcut.layers.norm", "norm3")
            own = f"blocks.{names.index(layer)}.{rest}"
        leaf.value = ours[own].value.copy()
    return twin


@both_backends
@pytest.mark.parametrize("training", [False, True])
def test_keeping_every_block_is_the_plain_resnet_bit_for_bit(training, backend, rng):
    network = calibrated(tiny(rng, depth=14), pixels(rng, dtype=float))
    twin = plain_twin(network, rng)
    x, run = pixels(rng, n=4, dtype=float), Run(training=training, backend=backend)
    logits, cache = network.forward(x, run, choose=dfs.always(3))
    expected, twin_cache = twin.forward(x, run)
    np.testing.assert_array_equal(logits, expected)
    dy = rng.standard_normal(logits.shape)
    zero_grads(network)
    zero_grads(twin)
    dx, twin_dx = network.backward(dy, cache), twin.backward(dy, twin_cache)
    np.testing.assert_array_equal(dx, twin_dx)
    np.testing.assert_array_equal(network.stem.w.grad, twin.layers["stem"].w.grad)
    assert not network.gates.w_x.grad.any()  # CE does not reach gates that are unasked
    if not training:
        done = dfs.execute(network, x, choose=dfs.always(3), backend=backend)
        np.testing.assert_array_equal(done.logits, expected)


def test_gates_that_keep_everything_are_the_plain_resnet_bit_for_bit(rng):
    network = tiny(rng, depth=14)
    network.gates.projection.b.value = np.array([0.0, 0.0, 0.0, 50.0])
    x, run = pixels(rng, n=4, dtype=float), Run(training=True)
    twin = plain_twin(network, rng)
    np.testing.assert_array_equal(network.forward(x, run)[0], twin.forward(x, run)[0])


def test_24_bits_of_one_image_in_float64_lose_nothing_to_speak_of(rng):
    network = tiny(rng, options=(0, 24, 32))  # of many, the mean range would clip some
    x, run = pixels(rng, n=1, dtype=float), Run(training=True)
    fine, full = (network.forward(x, run, choose=dfs.always(k))[0] for k in (1, 2))
    np.testing.assert_allclose(fine, full, atol=1e-5)
    assert np.any(fine != full)


# Costs


@given(st.integers(0, 2**32 - 1))
def test_cp_is_linear_and_inside_its_bounds(seed):
    rng = np.random.default_rng(seed)
    one, two = rng.dirichlet(np.ones(4), size=(2, 3, 5))
    cp = [
        dfs.computation_percentage(m, dfs.OPTIONS)
        for m in (one, two, 0.25 * one + 0.75 * two)
    ]
    np.testing.assert_allclose(cp[2], 0.25 * cp[0] + 0.75 * cp[1], rtol=1e-12)
    assert 0 <= min(cp) <= max(cp) <= 1


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16, 18, 20, 22])
def test_one_option_costs_its_square_exactly(bits, rng):
    network = tiny(rng, options=(bits,))
    _, cache = network.forward(pixels(rng, dtype=float), Run(training=True))
    assert dfs.computation_percentage(cache.m, (bits,)) == bits**2 / 1024


def test_weights_of_blocks():
    m = dfs.one_hot(np.array([[3, 0]]), 4)
    assert dfs.computation_percentage(m, dfs.OPTIONS) == 0.5
    assert dfs.computation_percentage(m, dfs.OPTIONS, weights=[3, 1]) == 0.75


def test_dynamic_sign_counts_equality_as_below():
    assert [dfs.dynamic_sign(cp, 0.4) for cp in (0.39, 0.4, 0.41)] == [-1, -1, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "at least one number of bits, got none"),
        ((0, 8, 8), r"must increase in options, got \(0, 8, 8\)"),
        ((8, 0), "must increase"),
        ((0, 25), "1 to 24 or 32 .keep., got 25"),
        ((-1, 8), "got -1"),
        ((True,), "got True"),
        ((0, 8.0), "got 8.0"),
    ],
)
def test_bad_options(options, message, rng):
    refuses(message, dfs.routed_resnet, 8, options=options, rng=rng)


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        (0, dfs.OPTIONS, r"target must lie in \(0, 1\], got 0"),
        (1.01, dfs.OPTIONS, "got 1.01"),
        (float("nan"), dfs.OPTIONS, "got nan"),
        (0.05, (8, 16), r"cost from 0.0625 \(floor\) to 0.25"),
        (0.5, (8, 16), "out of reach"),
    ],
)
def test_bad_targets(target, options, message, rng):
    network = tiny(rng, options=options)
    refuses(message, dfs.joint, network, images(rng), target=target, rng=rng)


def test_bad_networks(rng):
    for depth in (6, 9, 2):
        with pytest.raises(ValueError, match=r"6n \+ 2 with n of at least 1, at most"):
            dfs.routed_resnet(depth, rng=rng)
    refuses("gate_mode must be", dfs.routed_resnet, 8, gate_mode="hard", rng=rng)
    network = calibrated(tiny(rng), pixels(rng, dtype=float))
    logits, cache = network.forward(pixels(rng, dtype=float), Run())
    refuses("needs a training pass", network.backward, np.ones_like(logits), cache)
    with pytest.raises(ValueError, match=r"m must be \(B, L, n = 4\)"):
        dfs.computation_percentage(np.zeros((0, 2, 4)), dfs.OPTIONS)
    for weights in ([1, -1], [0, 0], [1, 1, 1]):
        with pytest.raises(ValueError, match="weights must be"):
            dfs.computation_percentage(
                np.ones((1, 2, 4)), (0, 8, 16, 32), weights=weights
            )
    with pytest.raises(ValueError, match="scale must be"):
        dfs.Joint(0.5, scale="median")(
            tiny(rng), pixels(rng), np.zeros(3, int), Run(training=True)
        )


# What the paper's networks cost


def test_multiply_adds_of_the_papers_backbones():
    totals = {}
    for depth in (38, 74):
        network = dfs.routed_resnet(depth, in_channels=3, rng=np.random.default_rng(0))
        macs = dfs.block_macs(network, (3, 32, 32))
        blocks = int(macs.sum()) + 4_718_592  # with the first block
        assert sorted(set(macs.tolist())) == [3_538_944, 4_718_592]
        assert (macs == 3_538_944).sum() == 2
        totals[depth] = blocks + 442_368 + 262_144 + 640
    assert totals == {38: 83_280_512, 74: 168_215_168}


def test_the_gates_cost_less_than_the_paper_prints():
    network = dfs.routed_resnet(74, in_channels=3, rng=np.random.default_rng(0))
    share = dfs.gate_share(network, (3, 32, 32))
    gates = 35 * (2 * 40 * 10 + 3 * 10 + 10 * 4) + 10 * (12 * 16 + 12 * 32 + 11 * 64)
    assert share * (168_215_168 - 4_718_592 - 442_368 - 262_144 - 640) == gates
    assert round(100 * share, 3) == 0.027  # 0.04 % is printed


# Inference


def test_inference_executes_what_the_ledger_counts(rng):
    network = calibrated(tiny(rng, depth=14), pixels(rng, dtype=float))
    x = pixels(rng, n=9)
    table, choose = drawn(rng, network, len(x))
    done = dfs.execute(network, x, choose=choose)
    np.testing.assert_array_equal(done.decisions, table)
    macs = dfs.block_macs(network, x.shape[1:])
    m = dfs.one_hot(table, 4)
    analytic = dfs.computation_percentage(m, network.options, weights=macs)
    assert done.ledger.cp(network, macs, len(x)) == pytest.approx(analytic, rel=1e-14)
    first = network.blocks[0].convolutions()  # stride 1: every weight on every pixel
    pixels_of = x[:, 0].size
    assert done.ledger.of(first) == {
        dfs.KEEP: pixels_of * sum(conv.w.value.size for conv in first)
    }
    for i, block in enumerate(network.blocks[1:]):
        executed = done.ledger.of(block.convolutions())
        takers = {
            b: int((table[:, i] == k).sum()) for k, b in enumerate((0, 8, 16, 32))
        }
        per_image = int(macs[i])
        assert executed == {
            b: n * per_image for b, n in takers.items() if n and b != dfs.SKIP
        }


@both_backends
def test_grouped_integers_are_masked_integers_bit_for_bit(backend, rng):
    network = calibrated(tiny(rng, depth=14, dtype="float32"), pixels(rng))
    run, (x, _) = Run(backend=backend), network.front(pixels(rng, n=8), Run())
    x, _ = network.blocks[0].forward(x, run, dfs.KEEP)
    for block in network.blocks[1:]:
        k = np.array([1, 2, 1, 1, 2, 2, 1, 2])
        options = network.options
        grouped = dfs.inference.run_groups(block, x, k, options, run, integers=True)
        whole = {
            b: dfs.inference.one_option(block, x, b, run, integers=True)
            for b in (8, 16)
        }
        eight = (k == 1)[:, None, None, None]
        np.testing.assert_array_equal(grouped, np.where(eight, whole[8], whole[16]))
        x = grouped


def test_integers_and_fake_quantization_are_the_same_function(rng):
    network = calibrated(tiny(rng, depth=14), pixels(rng, dtype=float))
    x = pixels(rng, n=6, dtype=float)
    _, choose = drawn(rng, network, len(x))
    ints, floats = (
        dfs.execute(network, x, choose=choose, integers=way) for way in (True, False)
    )
    mixture_of, _ = network.forward(x, Run(), choose=choose)
    np.testing.assert_allclose(ints.logits, floats.logits, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(floats.logits, mixture_of, rtol=1e-9, atol=1e-9)


def test_gates_decide_the_same_in_groups_and_in_the_mixture(rng):
    network = calibrated(tiny(rng, depth=14), pixels(rng, dtype=float))
    x = pixels(rng, n=6, dtype=float)
    done = dfs.execute(network, x, integers=False, batch=4)
    _, cache = network.forward(x, Run())
    np.testing.assert_array_equal(done.decisions, cache.m.argmax(-1))


def test_integers_need_a_true_zero(rng):
    network = dfs.released_network(8, width=0.13, rng=rng)
    x = pixels(rng)
    calibrated(network, x)
    with pytest.raises(ValueError, match="integers need true_zero=True"):
        dfs.execute(network, x, choose=dfs.always(1))
    assert network.options == (0, 8, 10, 12, 14, 16, 32)
    assert network.gates.projection.w.value.shape == (7, 10)


def test_the_released_network_is_noisy_in_evaluation(rng):
    network = calibrated(dfs.released_network(8, width=0.13, rng=rng), pixels(rng))
    x, noise = pixels(rng), np.random.default_rng(0)
    one, two = (
        network.forward(x, Run(rng=noise), choose=dfs.always(1))[0] for _ in "12"
    )
    assert np.any(one != two)


def test_the_observer_sees_bits(rng):
    network = calibrated(tiny(rng), pixels(rng, dtype=float))
    seen = []
    run = Run(observe=lambda module, _x, _y: seen.append(module))
    network.forward(pixels(rng), run, choose=dfs.always(1))
    bits = [m.bits for m in seen if isinstance(m, Executed)]
    assert bits == [32, 32] + [8, 8, 8] * 2  # block 1 whole, two transitions at 8


# Training


def images(rng, n=256):
    return data.textures(n, 32, rng=rng, classes=3, size=8, plane=8, noise=0.3)


def small(rng, **options):
    return dfs.routed_resnet(
        8,
        width=0.13,
        classes=3,
        image_scale=1.0,
        image_zero_point=0,
        rng=rng,
        **options,
    )


def test_step_1_moves_the_gates_alone_and_ends_in_time(rng):
    network, dataset = small(rng), images(rng)
    before = {n: p.value.copy() for n, p in named_params(network).items()}
    means = network.stem_norm.mean.value.copy()
    start = dfs.gate_start(network, dataset, rng=rng)
    for name, param in named_params(network).items():
        moved = bool(np.any(param.value != before[name]))
        assert moved == name.startswith("gates"), name
    assert np.any(network.stem_norm.mean.value != means)  # as in the release
    assert start.history[-1].all_last
    assert 0.9 <= start.history[-1].p_last <= 0.97
    assert not start.history[-2].all_last or start.history[-2].p_last < 0.9


def test_step_1_that_does_not_end_says_so(rng):
    settings = dfs.SMALL._replace(gate_steps=2)
    with pytest.raises(ValueError, match="after 2 steps the gates keep with"):
        dfs.gate_start(small(rng), images(rng), settings, rng=rng)


def test_the_loss_is_equation_2(rng):
    network = tiny(rng)
    x, labels, run = pixels(rng), np.array([0, 1, 2]), Run(training=True)
    _, cache = network.forward(x, run)
    e = dfs.resource(cache.m, network.options)
    logits = network.forward(x, run)[0]
    ce = -np.log(np.exp(logits)[[0, 1, 2], labels] / np.exp(logits).sum(1)).mean()
    cp = dfs.computation_percentage(cache.m, network.options)
    below, above = max(cp / 2, 1e-3), min(2 * cp + 1e-3, 1.0)
    for scale, share in (("sum", 1), ("mean", cache.m[..., 0].size)):
        for target, sign, sigma in (
            (below, "dynamic", 1),
            (above, "dynamic", -1),
            (above, "constant", 1),
        ):
            joint = dfs.Joint(target, 0.25, scale=scale, sign=sign)
            loss, _ = joint(network, x, labels, run)
            np.testing.assert_allclose(loss, ce + 0.25 * sigma * e / share, rtol=1e-10)
            assert joint.history[-1].cp == pytest.approx(cp)


@pytest.mark.parametrize("scale", ["mean", "sum"])
def test_the_loss_of_step_1_and_what_it_records(scale, rng):
    network = tiny(rng, depth=14)
    network.gates.projection.w.value *= 20  # to decide this and that
    network.gates.projection.b.value *= 0
    x, labels, run = pixels(rng), np.array([0, 1, 2]), Run(training=True)
    logits, cache = network.forward(x, run, choose=dfs.always(3))
    ce = -np.log(np.exp(logits)[[0, 1, 2], labels] / np.exp(logits).sum(1)).mean()
    start = dfs.GateStart(0.25, scale)
    loss, _ = start(network, x, labels, run)
    share = cache.p[..., 0].size if scale == "mean" else 1
    e = dfs.resource(cache.p, network.options)
    np.testing.assert_allclose(loss, ce - 0.25 * e / share, rtol=1e-10)
    decided = dfs.one_hot(cache.p.argmax(-1), 4)  # not what was executed: keep
    assert np.count_nonzero(decided.any((0, 1))) > 1
    seen = start.history[-1]
    assert seen.cp == dfs.computation_percentage(decided, network.options)
    np.testing.assert_allclose(seen.shares, decided.mean((0, 1)))
    np.testing.assert_allclose(seen.p_last, cache.p[..., -1].mean())
    assert not seen.all_last


def test_papers_settings_are_the_printed_ones():
    gate, both = (
        {key: float(value) for key, value in step.items()}
        for step in read_table("dfs_settings.csv")
    )
    paper = dfs.PAPER
    for row, lr, steps in (
        (gate, paper.gate_lr, paper.gate_steps),
        (both, paper.joint_lr, paper.joint_steps),
    ):
        assert (lr, steps, paper.batch) == (row["lr"], row["iterations"], row["batch"])
        assert (paper.momentum, paper.weight_decay) == (0.9, row["weight_decay"])
        assert (paper.alpha, paper.scale) == (row["alpha"], "sum")
        rate = falling_rate(lr, steps)
        for share, fall in ((1, row["falls"]), (0.1, row["falls_again"])):
            assert rate(int(fall) - 1) == pytest.approx(share * lr)
            assert rate(int(fall)) == pytest.approx(share * lr / 10)
    assert round(paper.alpha * paper.batch * 35, 4) == 0.0224  # on the mean, ResNet-74
    assert not paper.ends_early
    assert dfs.RELEASE[3:5] == (2000, 0.01)
    assert dfs.RELEASE.alpha == 1e-5


def test_steps_take_their_price_from_the_settings_and_step_1_its_length(rng):
    network, dataset = small(rng), images(rng)
    how = dfs.Settings(joint_steps=1, alpha=0.25, scale="sum", ends_early=False)
    with pytest.warns(UserWarning, match="more than 0.97, and would not move again"):
        start = dfs.gate_start(network, dataset, how._replace(gate_steps=60), rng=rng)
    assert (start.alpha, start.scale, len(start.history)) == (0.25, "sum", 60)
    joint = dfs.joint(network, dataset, how, target=0.5, rng=rng)
    assert (joint.alpha, joint.scale) == (0.25, "sum")
    joint = dfs.joint(network, dataset, how, target=0.5, alpha=2, scale="mean", rng=rng)
    assert (joint.alpha, joint.scale) == (2, "mean")


def test_soft_gates_are_steered_by_what_inference_executes(rng):
    network = tiny(rng, gate_mode="soft")
    network.gates.projection.w.value *= 0
    network.gates.projection.b.value = np.log([0.4, 0.0001, 0.2999, 0.3])
    joint = dfs.Joint(0.2)  # expected cp 0.37, executed 0: every block is skipped
    x, labels, run = pixels(rng), np.array([0, 1, 2]), Run(training=True)
    loss, _ = joint(network, x, labels, run)
    assert joint.history[-1].cp == 0
    _, cache = network.forward(x, run)
    assert dfs.computation_percentage(cache.m, network.options) > 0.3
    without, _ = dfs.Joint(0.2, alpha=0)(network, x, labels, run)
    assert loss < without  # sigma = -1


@pytest.mark.slow
@pytest.mark.compiled
@pytest.mark.parametrize("target", [0.2, 0.4])
@pytest.mark.parametrize("mode", MODES)
def test_training_executes_its_target(mode, target, tmp_path):
    """Slow: 800 iterations. Steered by the expected cp, soft ones end at 25 %."""
    common = {"seed": 0, "images": 4000, "steps": None, "folder": str(tmp_path)}
    systems.backbone_run(**common)
    run = systems.dfs_run(target=target, gate_mode=mode, **common)
    assert abs(np.mean(run["history"][-250:]) - target) <= 0.01


def test_one_seed_one_result_and_a_score_that_counts(rng):
    settings = dfs.SMALL._replace(backbone_steps=4, joint_steps=6, batch=16)
    found = []
    for _ in "12":
        rng = np.random.default_rng(5)
        network, dataset = small(rng), images(rng)
        dfs.backbone(network, dataset, settings, rng=rng)
        dfs.gate_start(network, dataset, settings, rng=rng)
        dfs.joint(network, dataset, settings, target=0.2, rng=rng)
        found.append(
            dfs.evaluate(network, dataset.test_images, dataset.test_labels, batch=10)
        )
    assert found[0].accuracy == found[1].accuracy
    np.testing.assert_array_equal(found[0].shares, found[1].shares)
    np.testing.assert_allclose(found[0].shares.sum(1), 1)
    cp = (found[0].shares @ dfs.costs(dfs.OPTIONS)).mean()
    assert found[0].cp == pytest.approx(cp)


def test_what_is_meant_where_nothing_is_said(rng):
    assert dfs.Joint(0.5).alpha == dfs.GateStart().alpha == 1
    steps = (600, 0.1, 400, 0.05, 1500, 0.05)
    assert (64, *steps, 0.9, 1e-4, 1.0, "mean", True) == dfs.SMALL
    assert (dfs.PAPER.backbone_steps, dfs.PAPER.backbone_lr) == (64_000, 0.1)
    assert ENOUGH == 0.9
    network = dfs.routed_resnet(8, width=0.13, rng=rng)
    assert network.classifier.w.value.shape == (10, 8)
    assert network.stem.w.value.shape == (2, 1, 3, 3)
    assert network.gate_mode == "straight_through"
    assert network.first_bits == 32
    conv = network.blocks[1].conv1
    for quantizer in (conv.of_x, conv.of_w):
        assert quantizer.true_zero
        assert not quantizer.stochastic
    image = np.array([[[[0, 128, 192]]]], np.uint8)
    np.testing.assert_array_equal(network.image.forward(image, Run())[0][0, 0, 0],
                                  [-2, 0, 1])  # fmt: skip


def test_the_released_quantizer_is_noisy_on_inputs_alone(rng):
    network = dfs.released_network(8, width=0.13, rng=rng)
    for block in network.blocks:
        for conv in (*block.convolutions(), block.conv3):
            if conv is not None:
                assert conv.of_x.stochastic
                assert not conv.of_w.stochastic
                assert not conv.of_x.true_zero
                assert not conv.of_w.true_zero
                assert (conv.of_x.of, conv.of_w.of) == ("activation", "weight")
                assert conv.of_x.keep == 0.1


def test_gates_start_as_the_release_starts_them():
    gate = dfs.recurrent_gate([3000, 3000], 3000, rng=np.random.default_rng(0))
    for embedding in gate.embeddings:
        assert embedding.w.value.std() == pytest.approx(np.sqrt(2 / 10), rel=0.02)
        assert not embedding.b.value.any()
    projection = gate.projection
    assert projection.w.value.std() == pytest.approx(np.sqrt(2 / 30_000), rel=0.02)
    assert not projection.b.value.any()
    for part in (gate.w_x, gate.w_h, gate.b):
        most = np.abs(part.value).max()
        assert 0.9 / np.sqrt(10) < most <= np.float32(1 / np.sqrt(10))
    groups = [p.group for p in (gate.w_x, gate.b, projection.w, projection.b)]
    assert groups == ["weight", "affine"] * 2  # what decays, and what does not


# The gate's LSTM, more exactly than the laws of pairs ask


def test_three_steps_of_the_lstm_to_1e_8(rng):
    args = [rng.standard_normal(s) for s in ((3, 2), (3, 4), (3, 4), (16, 2), (16, 4))]
    args += [rng.standard_normal(16)]
    dh, dc = rng.standard_normal((2, 3, 4))

    def unrolled(x, h, c, w_x, w_h, b):
        caches = []
        for _ in range(3):
            (h, c), cache = ops.lstm_cell(x, h, c, w_x, w_h, b)
            caches.append(cache)
        return np.sum(dh * h) + np.sum(dc * c), caches

    _, caches = unrolled(*args)
    grads, state = [0.0] * 6, (dh, dc)
    for cache in reversed(caches):
        step = ops.lstm_cell_backward(state, cache)
        for k in (0, 3, 4, 5):
            grads[k] = grads[k] + step[k]
        state = step.dh, step.dc
    grads[1:3] = state
    for k, grad in enumerate(grads):
        along = rng.standard_normal(args[k].shape)

        def value(t, k=k, along=along):
            moved = [*args[:k], args[k] + t * along, *args[k + 1 :]]
            return unrolled(*moved)[0]

        h = 1e-3  # five points: an error of h^4
        slope = 8 * (value(h) - value(-h)) - (value(2 * h) - value(-2 * h))
        np.testing.assert_allclose(np.sum(grad * along), slope / (12 * h), rtol=1e-8)


# Wrong input


@pytest.mark.parametrize("wrong", [-1, 4, 0.5])
def test_decisions_out_of_range_raise_everywhere(wrong, rng):
    network = calibrated(tiny(rng), pixels(rng, dtype=float))
    x = pixels(rng)
    message = r"decisions must be integers in \[0, 4\)"
    for call in (
        lambda: dfs.one_hot(np.array([wrong]), 4),
        lambda: network.forward(x, Run(), choose=dfs.always(wrong)),
        lambda: dfs.execute(network, x, choose=dfs.always(wrong)),
    ):
        refuses(message, call)


def test_nan_does_not_become_a_code(rng):
    network = calibrated(tiny(rng), pixels(rng, dtype=float))
    x = pixels(rng, dtype=float)
    x[0, 0, 0, 0] = np.nan
    refuses("x must be finite", dfs.execute, network, x, choose=dfs.always(1))


def test_soft_masks_are_for_training_only(rng):
    network = calibrated(tiny(rng, gate_mode="soft"), pixels(rng, dtype=float))
    x = pixels(rng, dtype=float)
    m = network.forward(x, Run())[1].m
    assert set(np.unique(m)) <= {0.0, 1.0}
    decisions = dfs.execute(network, x, integers=False).decisions
    np.testing.assert_array_equal(decisions, m.argmax(-1))


def test_a_static_network_runs_every_block_at_its_bits(rng):
    network = static_resnet(8, bits=8, width=0.13, classes=3, rng=rng)
    seen = []
    run = Run(training=True, observe=lambda module, _x, _y: seen.append(module))
    network.forward(pixels(rng), run)
    assert {m.bits for m in seen if isinstance(m, Executed)} == {8}


def test_eight_bits_are_summed_in_int32_and_sixteen_in_int64(rng, monkeypatch):
    network = calibrated(tiny(rng), pixels(rng, dtype=float))
    asked, conv2d = [], integer.conv2d

    def spy(*args, accumulator, **options):
        asked.append((args[0].dtype.name, accumulator))
        return conv2d(*args, accumulator=accumulator, **options)

    monkeypatch.setattr(integer, "conv2d", spy)
    dfs.execute(network, pixels(rng), choose=dfs.always(1))
    dfs.execute(network, pixels(rng), choose=dfs.always(2))
    assert set(asked) == {("uint8", "int32"), ("uint16", "int64")}


def test_joint_passes_its_price_to_the_gates(rng):
    network = tiny(rng)
    x, labels, run = pixels(rng), np.array([0, 1, 2]), Run(training=True)
    grads = []
    for alpha in (0.0, 1.0):
        zero_grads(network)
        dfs.Joint(0.5, alpha, sign="constant")(network, x, labels, run)
        grads.append(network.gates.projection.w.grad.copy())
    zero_grads(network)
    logits, cache = network.forward(x, run)
    network.backward(np.zeros_like(logits), cache, price=1 / cache.m[..., 0].size)
    priced = network.gates.projection.w.grad
    np.testing.assert_allclose(grads[1] - grads[0], priced, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sign": "const"}, "sign must be 'dynamic' or 'constant', got 'const'"),
        ({"alpha": -1.0}, "alpha must be finite and at least 0, got -1.0"),
        ({"alpha": float("nan")}, "got nan"),
    ],
)
def test_bad_prices(options, message, rng):
    joint = dfs.Joint(0.5, **options)
    with pytest.raises(ValueError, match=message):
        joint(tiny(rng), pixels(rng), np.zeros(3, int), Run(training=True))


def test_gates_that_are_too_sure_raise(rng):
    settings = dfs.SMALL._replace(gate_lr=2.0)
    with pytest.raises(ValueError, match="would not move again: lower gate_lr"):
        dfs.gate_start(small(rng), images(rng), settings, alpha=30.0, rng=rng)


def test_training_and_evaluation_refuse_what_they_cannot_use(rng):
    network, dataset = small(rng), images(rng)
    train = {"steps": 2, "lr": 0.1, "rng": rng}
    once = dfs.train(network, dataset, dfs.Forced(), **(train | {"steps": 1}))
    assert once == 1
    for options, message in (
        ({"only": "gatez"}, "'gatez' must name parameters"),
        ({"steps": 0}, "steps be at least 1, got 0"),
        ({"settings": dfs.SMALL._replace(batch=1000)}, "batch must be in"),
    ):
        refuses(message, dfs.train, network, dataset, dfs.Forced(), **train | options)
    x, y = dataset.test_images, dataset.test_labels
    for a, b, batch, message in (
        (x, y[:-1], 4, "disagree on N"),
        (x[:0], y[:0], 4, "at least one image"),
        (x, y, 0, "batch must be at least 1, got 0"),
    ):
        refuses(message, dfs.evaluate, network, a, b, batch=batch)
    with pytest.raises(ValueError, match=r"decision must lie in \[-4, 4\), got 7"):
        dfs.Forced(7)(network, x, y, Run(training=True))


def test_accuracy_counts_right_answers(rng):
    network, dataset = small(rng), images(rng)
    x = dataset.test_images
    keep = dfs.always(3)
    right = network.forward(x, Run(), choose=keep)[0].argmax(1)
    labels = np.where(np.arange(len(x)) % 4 == 0, (right + 1) % 3, right)
    assert dfs.evaluate(network, x, labels, choose=keep, batch=7).accuracy == 0.75
