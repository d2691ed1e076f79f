"""QuantNAS: the space, shared weights, their gradients, calibration."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from checkers import check_module
from hypothesis import given
from hypothesis import strategies as st
from refusals import refuses
from tables.networks import pixels

from refqnn.core import Run, named_params, zero_grads
from refqnn.ops import conv2d
from refqnn.papers.quantnas.elastic_network import (
    calibrate,
    initialise,
    quantize_activations,
    supernet,
)
from refqnn.papers.quantnas.scales import Oracle, Starting
from refqnn.papers.quantnas.space import (
    Gene,
    LayerShape,
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

TINY = Space(
    channels=(2, 3), depths=(1, 2), widths=(0.5, 1.0), kernels=(1, 3), classes=3, size=6
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


class Recorder:
    """Scales that note what they are asked for."""

    def __init__(self):
        self.seen, self.undone = [], 0

    def step(self, where, *_):
        self.seen.append(where)
        return np.asarray(0.1), None

    def backward(self, *_):
        self.undone += 1


@dataclass(eq=False)
class Subnet:
    """A supernet that runs as one of its subnets."""

    net: Any
    genotype: Any

    def forward(self, x, run):
        return self.net.forward(x, run, self.genotype)

    def backward(self, dy, cache):
        return self.net.backward(dy, cache)


KINDS = ["shared", "predicted", "relative", "oracle"]
CASES = list(zip(KINDS, [None, MIXED, MIXED, MIXED], strict=True))


@pytest.mark.parametrize(("scales", "genotype"), CASES, ids=KINDS)
def test_gradients_of_a_whole_subnet(scales, genotype, rng):
    net = tiny(rng, scales=scales)
    if scales == "predicted":
        for param in (net.scales.b1, net.scales.w2, net.scales.b2):
            param.value = rng.normal(0, 0.1, param.value.shape)

    x = pixels(rng, n=3, size=6, dtype=np.float64)
    check_module(Subnet(net, genotype), x, Run(training=True), rng)


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


def test_subnets_have_the_first_channels_and_the_centre(rng):
    net = tiny(rng, space=TINY._replace(kernels=(1, 3, 5)))
    conv = net.convs["stage2_block1.conv1"]
    w, gamma = conv.w.value, conv.gamma.value
    layer = LayerShape("", 1, 2, 3, 1, 6, 4, 4)
    outputs, cut = conv.cut(layer)
    np.testing.assert_array_equal(w[cut], w[:2, :1, 1:4, 1:4])
    np.testing.assert_array_equal(gamma[outputs], gamma[:2])
    _, cut = conv.cut(layer._replace(kernel=1))
    np.testing.assert_array_equal(w[cut], w[:2, :1, 2:3, 2:3])


def test_what_steps_are_asked_for(rng):
    net, x = tiny(rng), pixels(rng, n=3, size=6)
    scales = Recorder()
    y, cache = net.run_layers(x, net.start_pass(Run(training=True), MIXED, scales))
    net.backward(np.ones_like(y), cache)
    want = {layer.name: layer for layer in layers_of(MIXED, TINY)}
    weights = {where.name: where for where in scales.seen if where.signed}
    assert [*weights] == [*want]
    for name, (_, bits, _, fan_in) in weights.items():
        assert (bits, fan_in) == (want[name].weight_bits, want[name].fan_in)
    channels = {w.name: (w.bits, w.fan_in) for w in scales.seen if not w.signed}
    assert channels == {
        "stem_quant": (4, 2),
        "stage1_block1.quant1": (4, 1),
        "stage1_block1.quant2": (4, 2),
        "stage1_block2.quant1": (4, 2),
        "stage1_block2.quant2": (4, 2),
        "stage2_block1.quant1": (4, 1),
        "stage2_block1.quant2": (4, 3),
        "pool_quant": (8, 3),
    }
    assert scales.undone == len(scales.seen)


def test_gradients_of_steps_are_balanced_as_in_lsq(rng):
    net, x = tiny(rng), rng.standard_normal((5, 2, 6, 6))
    at = net.start_pass(Run(training=True), smallest(TINY), net.scales)
    name = "stage1_block1.conv1"
    _, (_, folded, *_) = net.convs[name].forward(name, x, at)
    n = at.layers[name].weights
    assert n < net.convs[name].w.value.size
    assert folded.quant.grad_scale == pytest.approx(1 / np.sqrt(n * 7))
    _, (_, (_, quant), *_) = quantize_activations("stem_quant", x, 4, at)
    assert quant.grad_scale == pytest.approx(1 / np.sqrt(2 * 6 * 6 * 15))


def test_first_values(rng):
    net = supernet(Space(), rng=rng)
    for conv in net.convs.values():
        np.testing.assert_array_equal(conv.gamma.value, 1)
        np.testing.assert_array_equal(conv.beta.value, 0)
    np.testing.assert_array_equal(net.classifier_b.value, 0)
    w = net.convs["stage3_block2.conv2"].w.value
    assert np.var(w) == pytest.approx(2 / (32 * 25), rel=0.05)
    affine = [name for name, p in named_params(net).items() if p.group == "affine"]
    assert len(affine) == 2 * len(net.convs) + 1
    shown = np.array([0, 128, 192], np.uint8).astype(np.float32)
    np.testing.assert_array_equal(net.image.forward(shown, Run())[0], [-2, 0, 1])


def test_the_first_steps_are_of_the_whole_first_batch(rng):
    net, images = supernet(TINY, rng=rng), pixels(rng, n=4, size=6)
    first = Starting()
    net.run_layers(images, net.start_pass(Run(training=True), None, first))
    initialise(net, images)
    for name, s in first.steps.items():
        assert np.exp(net.scales.log_s[name].value) == pytest.approx(s)


def test_gradients_of_subnets_add_up_in_any_order(rng):
    net = tiny(rng)
    x, found = pixels(rng, size=6), []
    one, other = MIXED, smallest(TINY)
    for order in ((one,), (other,), (one, other), (other, one)):
        zero_grads(net)
        for genotype in order:
            y, cache = net.forward(x, Run(training=True), genotype)
            net.backward(np.ones_like(y) * np.arange(3), cache)
        found.append({n: p.grad.copy() for n, p in named_params(net).items()})
    for name, grad in found[0].items():
        both = grad + found[1][name]
        for together in found[2:]:
            np.testing.assert_allclose(together[name], both, rtol=1e-12, atol=1e-12)


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


def test_encodings_end_in_log_fan_ins():
    logs = encode(MIXED, TINY)[-8:]
    want = [2 * 9, 1 * 9, 2, 2, 2, 1, 1, 1]  # conv1, conv2; no second block: log 1
    np.testing.assert_allclose(logs, np.log(want))


def test_layers_by_hand():
    space = TINY._replace(channels=(2, 3, 4), size=7)
    genotype = (*MIXED, (Gene(1.0, 3), Gene(0.5, 1)))
    found = [tuple(layer)[1:] for layer in layers_of(genotype, space)]
    assert found == [
        (1, 2, 3, 1, 7, 8, 8),
        (2, 1, 3, 1, 7, 4, 4),
        (1, 2, 3, 1, 7, 4, 4),
        (2, 2, 1, 1, 7, 4, 4),
        (2, 2, 1, 1, 7, 4, 4),
        (2, 1, 1, 2, 4, 4, 4),
        (1, 3, 1, 1, 4, 4, 4),
        (3, 4, 3, 2, 2, 4, 4),
        (4, 4, 3, 1, 2, 4, 4),
        (4, 2, 1, 1, 2, 4, 4),
        (2, 4, 1, 1, 2, 4, 4),
        (4, 3, 1, 1, 1, 8, 8),
    ]


def test_drawn_subnets_have_every_choice(rng):
    found = [draw(Space(), rng) for _ in range(200)]
    stages = [stage for genotype in found for stage in genotype]
    assert {len(stage) for stage in stages} == {1, 2}
    genes = {gene for stage in stages for gene in stage}
    assert genes == {Gene(w, k) for w in Space().widths for k in Space().kernels}


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
    refuses(message, check_genotype, genotype, TINY)
    for reads in (layers_of, encode):
        refuses(message, reads, genotype, TINY)
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
    refuses(f"^{next(iter(wrong))}", check_space, space)
    refuses(f"^{next(iter(wrong))}", supernet, space, rng=np.random.default_rng(0))


# calibration


def test_calibration_of_one_batch_is_the_batch(rng):
    net, x = tiny(rng), pixels(rng, n=4, size=6)
    found = calibrate(net, MIXED, x, batch=4)
    assert found.genotype == MIXED
    assert list(found.statistics) == [
        layer.name for layer in layers_of(MIXED, TINY)[:-1]
    ]
    at = net.start_pass(Run(), MIXED, net.scales, 4)
    logits, _ = net.run_layers(x, at)
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
    again = calibrate(net, MIXED, x[:4], batch=2, scales=Oracle())
    assert best.steps == again.steps


def test_calibration_takes_the_mean_of_its_batches(rng):
    net, x = tiny(rng), pixels(rng, n=4, size=6)
    shown, _ = net.image.forward(x.astype(float), Run())
    z, _ = conv2d(shown, net.convs["stem"].w.value, padding=1)
    found = calibrate(net, MIXED, x, batch=2).statistics["stem"]
    both = np.mean([z[:2].var((0, 2, 3)), z[2:].var((0, 2, 3))], axis=0)
    np.testing.assert_allclose(found.mean, z.mean((0, 2, 3)))
    np.testing.assert_allclose(found.var, both)


def test_calibration_without_data_says_so(rng):
    net, x = tiny(rng), pixels(rng, size=6)
    refuses("calibration needs images, got none", calibrate, net, MIXED, x[:0])
    refuses(r"batch must be in \[1, N = 3\], got 4", calibrate, net, MIXED, x, batch=4)
    refuses("evaluated by plain", net.forward, x, Run())
    for wrong in (x[:, :, 1:], x[:0]):
        with pytest.raises(ValueError, match=r"images must be \(N, 1, 6, 6\)"):
            net.forward(wrong, Run(training=True))
    refuses("scales must be one of", supernet, TINY, scales="own", rng=rng)
    fresh = supernet(TINY, rng=rng)
    refuses("the step of stem is unknown", fresh.forward, x, Run(training=True))
