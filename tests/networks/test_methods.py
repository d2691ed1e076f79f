"""Networks of every method: gradients, levels, ends, and what is refused."""

import numpy as np
import pytest
from tables.networks import pixels, tiny

from refqnn import quantizers as q
from refqnn.core import Run, named_modules
from refqnn.networks import METHODS, Method, build, resnet
from refqnn.testing import check_network
from refqnn.testing.networks import calibrate

#: the bits a method's weights are defined for, where not all are
WEIGHT_BITS = {"tsq": 2, "syq": 2, "twn": 2, "ttq": 2, "xnor": 1}
every_method = pytest.mark.parametrize("method", METHODS)


def network_of(method, rng, **options):
    bits = WEIGHT_BITS.get(method, 3)
    network = tiny(rng, method=method, weight_bits=bits, activation_bits=3, **options)
    for _, module in named_modules(network):
        if isinstance(module, q.PACT):
            module.set_alpha(0.8)  # some activations are clipped
    return network


@every_method
def test_networks_of_every_method_keep_the_laws(method, rng):
    network = network_of(method, rng)
    assert check_network(network, pixels(rng), np.array([0, 1, 2])).gradients > 20


@every_method
def test_weights_and_activations_are_on_few_levels(method, rng):
    network = network_of(method, rng, dtype="float32")
    calibrate(network, pixels(rng))
    seen = {}
    run = Run(observe=lambda module, _, y: seen.setdefault(id(module), (module, y)))
    network.forward(pixels(rng), run)
    quantizers = [m for _, m in named_modules(network) if hasattr(m, "encode")]
    assert len(quantizers) > 10
    for module in quantizers:
        y = seen[id(module)][1]
        per_filter = isinstance(module, q.FixedPoint | q.Ternary | q.TSQWeight)
        per_filter |= isinstance(module, q.LQWeight | q.XnorWeight | q.SYQ)
        per_filter |= getattr(module, "channels", None) is not None
        if not per_filter:
            most = 256 if getattr(module, "bits", 0) == 8 else 8
            assert np.unique(y).size <= most


@every_method
def test_both_ends_keep_the_bits_of_the_method(method, rng):
    network = network_of(method, rng)
    for name in ("stem", "classifier"):
        quant = network.layers[name].weight_quant
        if METHODS[method].ends is None:
            assert quant is None
        else:
            assert quant.bits == METHODS[method].ends
    assert ("pool_quant" in network.layers) == (METHODS[method].ends is not None)


@every_method
def test_the_configuration_builds_it_again(method, rng):
    network = network_of(method, rng)
    again = build(network.config)
    assert [type(m) for _, m in named_modules(again)] == [
        type(m) for _, m in named_modules(network)
    ]


@pytest.mark.parametrize("method", WEIGHT_BITS)
def test_other_bits_of_a_ternary_or_binary_method_raise(method, rng):
    with pytest.raises(ValueError, match=f"weight_bits of {method} must be"):
        resnet(8, method=method, weight_bits=4, rng=rng)
    with pytest.raises(ValueError, match=f"weight_bits of {method} must be"):
        resnet(8, method=method, weight_bits=True, rng=rng)


def test_an_unknown_method_raises(rng):
    with pytest.raises(ValueError, match=r"method must be one of \['abc', .*got 'x'"):
        resnet(8, method="x", rng=rng)


@every_method
def test_codes_of_another_scale_stay_off_the_shortcut(method, rng):
    block = network_of(method, rng).layers["stage2_block1"]
    both = METHODS[method].quantized_shortcut
    assert (block.quant2 is not None, block.quant0 is None) == (both, both)


def test_the_grid_of_min_max_weights_is_their_own_whole_range():
    w = np.array([[1.0, -2.0], [0.5, 8.0]])  # the mean range of the filters is narrower
    quantizer = METHODS["min_max"].weights(8, w.shape)
    for run in (Run(training=True), Run()):
        y = quantizer.forward(w, run)[0]
        np.testing.assert_allclose(y, w, rtol=0, atol=10 / 255 / 2)


def test_where_learned_clips_start():
    haq = METHODS["haq"].activations(4)
    assert (haq.alpha.value, haq.decay, haq.percentile) == (6, 0, None)
    for name in ("pact", "sawb"):
        clip = METHODS[name].activations(4)
        assert (clip.percentile, clip.decay) == (99.9, 2e-4)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (lambda bits: q.FixedPoint(bits=bits), "a name or Method.*, two factories"),
        (q.FixedPoint, "a name or Method.*, two factories, got <class"),
        ((METHODS["lsq"].weights,) * 2, "a name or Method.*, two factories"),
        (
            Method(lambda bits: bits, METHODS["lsq"].activations),
            r"weights\(2, .* raises",
        ),
        (
            Method(lambda *_: np.sign, METHODS["lsq"].activations),
            r"made <ufunc 'sign'>",
        ),
        (Method(METHODS["lsq"].weights, lambda bits: bits), r"activations\(4,\) must"),
    ],
)
def test_what_makes_no_quantizer_is_named(method, message, rng):
    with pytest.raises(ValueError, match=message):
        resnet(8, method=method, weight_bits=2, activation_bits=4, rng=rng)


def test_a_factory_may_leave_weights_in_floating_point(rng):
    method = Method(lambda *_: None, METHODS["lsq"].activations)
    network = resnet(8, method=method, weight_bits=2, activation_bits=4, rng=rng)
    assert network.layers["stage1_block1"].conv1.weight_quant is None
