"""QuantNAS: a calibrated subnet as a plain network, and as integers."""

import itertools

import numpy as np
import pytest
from tables.networks import pixels

from refqnn.core import Run, named_params
from refqnn.cost import count
from refqnn.deploy import compare_float64, compare_layers, deploy
from refqnn.nn import predict
from refqnn.papers.quantnas.cost import bit_operations, c_size
from refqnn.papers.quantnas.deployment import accuracy, folded_weights, plain
from refqnn.papers.quantnas.elastic_network import calibrate, initialise, supernet
from refqnn.papers.quantnas.scales import Oracle, Starting
from refqnn.papers.quantnas.space import Gene, Space, largest, layers_of, smallest
from refqnn.quantizers import lsq

SPACE = Space(channels=(2, 3), widths=(0.5, 1.0), classes=4, size=8)
MIXED = ((Gene(0.5, 5), Gene(1.0, 3)), (Gene(1.0, 3),))
SUBNETS = {"largest": largest(SPACE), "smallest": smallest(SPACE), "mixed": MIXED}


def made(rng, *, dtype="float32", space=SPACE):
    """Return a supernet with known steps and norms of both signs."""
    net = supernet(space, dtype=dtype, rng=rng)
    for name, param in named_params(net).items():
        if name.endswith("gamma"):
            shape = param.value.shape
            signed = rng.choice([-1, 1], shape) * rng.uniform(0.5, 1.5, shape)
            param.value = signed.astype(dtype)
        elif name.endswith(("beta", "_b")):
            param.value = rng.normal(0.3, 0.5, param.value.shape).astype(dtype)
    initialise(net, pixels(rng, n=8, size=8))
    return net


@pytest.mark.parametrize("name", SUBNETS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_plain_network_is_the_calibrated_subnet(dtype, name, rng):
    net, images = made(rng, dtype=dtype), pixels(rng, n=6, size=8)
    genotype = SUBNETS[name]
    at = net.start_pass(Run(), genotype, net.scales, 3)
    want, _ = net.run_layers(images, at)
    found = calibrate(net, genotype, images, batch=3)
    assert found.steps == at.calibrated.steps
    network = plain(net, found)
    shown = images if dtype == "float32" else images.astype(np.float64)
    bound = 1e-5 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(predict(network, shown), want, rtol=bound, atol=bound)


@pytest.mark.parametrize("name", SUBNETS)
def test_integers_agree(name, rng):
    net, images = made(rng), pixels(rng, n=6, size=8)
    network = plain(net, calibrate(net, SUBNETS[name], images, batch=3))
    integer = deploy(network, image_size=(8, 8))
    records = compare_layers(network, integer, images)  # (a)
    assert len(records) == len(integer.steps) - 1
    assert [r for r in records if not r.holds] == []
    assert all(r.bound < 0.5 for r in records)
    assert [c for c in compare_float64(integer, images) if c.different] == []  # (b)
    assert integer.predict(images).shape == (6,)


@pytest.mark.parametrize("name", SUBNETS)
def test_costs_are_those_of_the_network(name, rng):
    net = made(rng)
    found = calibrate(net, SUBNETS[name], pixels(rng, n=4, size=8), batch=4)
    counted = count(plain(net, found), (1, 8, 8))
    assert counted.bit_operations == bit_operations(SUBNETS[name], SPACE)
    assert counted.c_size_bits == c_size(SUBNETS[name], SPACE)


def test_weights_of_the_plain_network_lie_on_the_grid_of_the_subnet(rng):
    net = made(rng)
    found = calibrate(net, MIXED, pixels(rng, n=4, size=8), batch=4, scales=Oracle())
    layer = layers_of(MIXED, SPACE)[1]
    w_f, b_f = folded_weights(net, layer, found)
    block = plain(net, found).layers["stage1_block1"]
    s = np.array(found.steps[layer.name])
    want, _ = lsq(w_f, s, q_n=8, q_p=7)
    got, _ = block.conv1.weight_quant.forward(block.conv1.w.value, Run())
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(block.norm1.beta.value, b_f)
    assert block.conv1.w.value.shape == (1, 2, 5, 5)


def test_nothing_is_shared_with_the_supernet(rng):
    net = made(rng)
    network = plain(net, calibrate(net, MIXED, pixels(rng, n=4, size=8), batch=4))
    theirs = list(named_params(net).values())
    for param in named_params(network).values():
        assert not any(np.shares_memory(param.value, p.value) for p in theirs)
    norm = network.layers["stem_norm"]
    own = (norm.gamma, norm.beta, norm.mean, norm.var)
    for one, other in itertools.combinations(own, 2):
        assert not np.shares_memory(one.value, other.value)


def test_accuracy_is_a_share_and_needs_data(rng):
    net, images = made(rng), pixels(rng, n=60, size=8)
    labels = rng.integers(0, 4, 60)
    calibration = pixels(rng, n=7, size=8)
    for scales in (None, Oracle()):
        given = {"batch": 3, "scales": scales}
        found = accuracy(net, MIXED, calibration, images, labels, **given)
        network = plain(net, calibrate(net, MIXED, calibration, **given))
        assert found == np.mean(predict(network, images).argmax(1) == labels)
    asked = Starting()
    accuracy(net, MIXED, calibration, images, labels, batch=3, scales=asked)
    assert "stem" in asked.steps
    with pytest.raises(ValueError, match="calibration needs images"):
        accuracy(net, MIXED, images[:0], images, labels)
