"""QuantNAS: the space, shared weights, their gradients, calibration."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables.networks import pixels

from refqnn.core import Run, named_params, zero_grads
from refqnn.papers.quantnas.scales import Oracle
from refqnn.papers.quantnas.space import (
    Gene,
    Space,
    check_genotype,
    check_space,
    count,
    draw,
    encode,
    every,
    largest,
    layers_of,
    smallest,
    stages_of,
)
from refqnn.papers.quantnas.supernet import calibrate, initialise, supernet

TINY = Space(
    channels=(2, 3),
    depths=(1, 2),
    widths=(0.5, 1.0),
    kernels=(1, 3),
    classes=3,
    size=6,
)
MIXED = ((Gene(0.5, 3), Gene(1.0, 1)), (Gene(0.5, 1),))


def tiny(rng, *, scales="shared", dtype="float64", space=TINY):
    """Return a supernet with known steps and norms away from the identity."""
    net = supernet(space, scales=scales, dtype=dtype, rng=rng)
    for name, param in named_params(net).items():
        if name.endswith(("gamma", "beta", "_b")):
            moved = param.value + rng.normal(0, 0.3, param.value.shape)
            param.value = moved.astype(dtype)
    initialise(net, pixels(rng, n=4, size=space.size))
    return net


KINDS = ["shared", "predicted", "relative", "oracle"]
CASES = list(zip(KINDS, [None, MIXED, MIXED, MIXED], strict=True))


@pytest.mark.parametrize(("scales", "genotype"), CASES, ids=KINDS)
def test_gradients_of_a_whole_subnet(scales, genotype, rng):
    net = tiny(rng, scales=scales)
    if scales == "predicted":
        for param in (net.scales.b1, net.scales.w2, net.scales.b2):
            param.value = rng.normal(0, 0.1, param.value.shape)

    x = pixels(rng, n=3, size=6, dtype=np.float64)
    recording = Run(training=True).recording()
    y, cache = net.forward(x, recording, genotype)
    dy = rng.standard_normal(y.shape)
    zero_grads(net)
    dx = net.backward(dy, cache)

    def loss(value):
        replayed = Run(training=True).replaying(recording.tape)
        return np.sum(dy * net.forward(value, replayed, genotype)[0])

    def check(got, above, below, name):
        slope = (above - below) / 2e-6
        np.testing.assert_allclose(got, slope, rtol=1e-6, atol=1e-7, err_msg=name)

    along = rng.standard_normal(x.shape) * 10
    check(np.sum(dx * along), loss(x + 1e-6 * along), loss(x - 1e-6 * along), "x")
    for name, param in named_params(net).items():
        value, along = param.value, rng.standard_normal(param.value.shape)
        ends = []
        for side in (1e-6, -1e-6):
            param.value = value + side * along
            ends.append(loss(x))
        param.value = value
        check(np.sum(param.grad * along), *ends, name)


def test_every_step_gets_a_gradient(rng):
    net = tiny(rng)
    y, cache = net.forward(pixels(rng, size=6), Run(training=True))
    net.backward(rng.standard_normal(y.shape), cache)
    params = {n: p for n, p in named_params(net).items() if p.group == "quantizer"}
    assert len(params) == len(layers_of(largest(TINY), TINY)) + 2 * 4 + 2
    assert all(np.any(p.grad) for p in params.values())


def test_slicing_the_largest_subnet_is_the_identity(rng):
    net = tiny(rng)
    for layer in layers_of(largest(TINY), TINY)[:-1]:
        conv = net.convs[layer.name]
        outputs, cut = conv.cut(layer)
        np.testing.assert_array_equal(conv.w.value[cut], conv.w.value)
        np.testing.assert_array_equal(conv.gamma.value[outputs], conv.gamma.value)
    x = pixels(rng, size=6)
    named, _ = net.forward(x, Run(training=True), largest(TINY))
    np.testing.assert_array_equal(named, net.forward(x, Run(training=True))[0])


def test_subnets_read_views_and_gradients_stay_in_them(rng):
    net = tiny(rng)
    zero_grads(net)
    y, cache = net.forward(pixels(rng, size=6), Run(training=True), smallest(TINY))
    net.backward(np.ones_like(y) * np.arange(3), cache)
    layers = {layer.name: layer for layer in layers_of(smallest(TINY), TINY)}
    for name, conv in net.convs.items():
        if name not in layers:
            assert not np.any(conv.w.grad), "a block that did not run"
            continue
        outputs, cut = conv.cut(layers[name])
        assert np.shares_memory(conv.w.value[cut], conv.w.value)
        inside = np.zeros(conv.w.grad.shape, bool)
        inside[cut] = True
        assert not np.any(conv.w.grad[~inside])
        assert np.any(conv.w.grad[inside])
        assert not np.any(conv.gamma.grad[outputs.stop :])


def test_gradients_of_subnets_add_up_in_any_order(rng):
    net = tiny(rng)
    x, found = pixels(rng, size=6), []
    for order in ((MIXED, smallest(TINY)), (smallest(TINY), MIXED)):
        zero_grads(net)
        for genotype in order:
            y, cache = net.forward(x, Run(training=True), genotype)
            net.backward(np.ones_like(y) * np.arange(3), cache)
        found.append({n: p.grad.copy() for n, p in named_params(net).items()})
    for name, grad in found[0].items():
        np.testing.assert_allclose(found[1][name], grad, rtol=1e-12, atol=1e-15)


# the space


def test_every_subnet_is_listed_once():
    listed = list(every(TINY))
    assert len(listed) == len(set(listed)) == count(TINY) == 400
    assert all(check_genotype(g, TINY) == g for g in listed)
    assert {largest(TINY), smallest(TINY), MIXED} <= set(listed)
    assert len(list(stages_of(TINY))) == 20


def test_encodings_tell_subnets_apart_and_zero_what_is_inactive():
    codes = {tuple(encode(g, TINY)) for g in every(TINY)}
    assert len(codes) == count(TINY)
    a = encode(smallest(TINY), TINY)
    assert a.size == 2 * 2 + 4 * (2 + 2) + 4 * 2
    np.testing.assert_array_equal(a[:8], [1, 0, 1, 0, 1, 0, 1, 0])
    np.testing.assert_array_equal(a[8:12], 0)


@given(st.integers(0, 2**32))
def test_drawn_subnets_are_valid(seed):
    rng = np.random.default_rng(seed)
    assert check_genotype(draw(Space(), rng), Space())


@pytest.mark.parametrize(
    ("genotype", "message"),
    [
        ("large", "must have 2 stages"),
        ((MIXED[0],), "must have 2 stages"),
        ((MIXED[0], ()), "stage 2 must have a depth in"),
        ((MIXED[0] * 2, MIXED[1]), "stage 1 must have a depth in"),
        ((MIXED[0], ((0.7, 1),)), "stage 2 block 1: width must be in"),
        ((MIXED[0], ((0.5, 5),)), "stage 2 block 1: kernel must be in"),
        ((MIXED[0], (0.5,)), "stage 2 block 1 must be"),
    ],
)
def test_bad_genotypes_say_where(genotype, message, rng):
    with pytest.raises(ValueError, match=message):
        check_genotype(genotype, TINY)
    for reads in (layers_of, encode):
        with pytest.raises(ValueError, match=message):
            reads(genotype, TINY)
    with pytest.raises(ValueError, match=message):
        tiny(rng).forward(pixels(rng, size=6), Run(training=True), genotype)


@pytest.mark.parametrize(
    "wrong",
    [
        {"depths": (0, 1)},
        {"depths": ()},
        {"widths": (1.0, 0.5)},
        {"widths": (0.5, 1.5)},
        {"kernels": (2,)},
        {"widths": (0.0, 1.0)},
        {"widths": (0.5, 0.6)},
        {"kernels": (-1, 1)},
        {"kernels": (3, 3)},
        {"channels": (4, 2)},
        {"channels": (0, 2)},
        {"classes": 0},
        {"in_channels": 0},
        {"size": 0},
        {"weight_bits": 1},
        {"activation_bits": 0},
        {"end_bits": 17},
    ],
    ids=str,
)
def test_bad_spaces_raise(wrong):
    space = TINY._replace(**wrong)
    with pytest.raises(ValueError, match=f"^{next(iter(wrong))}"):
        check_space(space)
    with pytest.raises(ValueError, match=f"^{next(iter(wrong))}"):
        supernet(space, rng=np.random.default_rng(0))


# calibration


def test_calibration_of_one_batch_is_the_batch(rng):
    net, x = tiny(rng), pixels(rng, n=4, size=6)
    found = calibrate(net, MIXED, x, batch=4)
    assert found.genotype == MIXED
    assert list(found.statistics) == [
        layer.name for layer in layers_of(MIXED, TINY)[:-1]
    ]
    at = net.passing(Run(), MIXED, net.scales, 4)
    logits, _ = net.walked(x, at)
    trained, _ = net.forward(x, Run(training=True), MIXED)
    np.testing.assert_allclose(logits, trained, rtol=1e-9, atol=1e-12)


def test_calibration_reads_codes_and_changes_nothing(rng):
    net, x = tiny(rng), pixels(rng, n=5, size=6)
    before = {n: p.value.copy() for n, p in named_params(net).items()}
    found = calibrate(net, MIXED, x, batch=2)
    again = calibrate(net, MIXED, x[:4], batch=2)
    for name, at in found.statistics.items():
        np.testing.assert_array_equal(at.mean, again.statistics[name].mean)
    for name, value in before.items():
        np.testing.assert_array_equal(value, named_params(net)[name].value)
    other = calibrate(net, smallest(TINY), x, batch=2)
    name = "stage1_block1.conv2"
    assert np.any(other.statistics[name].var != found.statistics[name].var)
    best = calibrate(net, MIXED, x, batch=2, scales=Oracle())
    assert best.steps != found.steps


def test_calibration_without_data_says_so(rng):
    net, x = tiny(rng), pixels(rng, size=6)
    with pytest.raises(ValueError, match="calibration needs images, got none"):
        calibrate(net, MIXED, x[:0])
    with pytest.raises(ValueError, match=r"batch must be in \[1, N = 3\], got 4"):
        calibrate(net, MIXED, x, batch=4)
    with pytest.raises(ValueError, match="evaluated by plain"):
        net.forward(x, Run())
    for wrong in (x[:, :, 1:], x[:0]):
        with pytest.raises(ValueError, match=r"images must be \(N, 1, 6, 6\)"):
            net.forward(wrong, Run(training=True))
    with pytest.raises(ValueError, match="scales must be one of"):
        supernet(TINY, scales="own", rng=rng)
    fresh = supernet(TINY, rng=rng)
    with pytest.raises(ValueError, match="the step of stem is unknown"):
        fresh.forward(x, Run(training=True))
