"""Step 2 of TSQ for a network: the codes of step 1, layer by layer."""

import numpy as np
import pytest
from tables.networks import pixels

from refqnn.core import named_modules, named_params
from refqnn.networks import resnet
from refqnn.nn import BatchNorm2d
from refqnn.papers.tsq import fitted_layers, learn_second_step, values_by_layer
from refqnn.quantizers import optimal_ternary
from refqnn.testing.networks import calibrate

pytestmark = pytest.mark.compiled


@pytest.fixture
def pair(rng):
    """A network of step 1 with batch norms of its own, a ternary one, and images."""
    made = {"width": 0.2, "method": "tsq", "activation_bits": 2, "dtype": "float64"}
    first, network = (resnet(8, weight_bits=b, rng=rng, **made) for b in (None, 2))
    images = pixels(rng, n=6)
    calibrate(first, images)
    for _, norm in named_modules(first):
        if isinstance(norm, BatchNorm2d):
            norm.gamma.value[:] = rng.uniform(-1.5, 1.5, norm.gamma.value.shape)
            norm.beta.value[:] = rng.uniform(-0.5, 1, norm.beta.value.shape)
    dead = first.layers["stage3_block1"].norm2.gamma.value
    dead[0] = 0  # nothing depends on the weights of this channel
    return first, network, images


def test_ternary_weights_give_their_own_codes(pair, rng):
    """Batch norms, of any sign, and shortcuts are exact in the problem of a channel."""
    first, network, images = pair
    for conv, _, _, _ in fitted_layers(first):
        conv.w.value[:] = optimal_ternary(conv.w.value)[0]
    before = {name: p.value.copy() for name, p in named_params(first).items()}
    errors = learn_second_step(first, network, images, rng=rng, positions=300)
    np.testing.assert_allclose(errors, np.zeros((6, 2)), atol=1e-12)
    for name, p in named_params(network).items():
        np.testing.assert_allclose(p.value, before[name], rtol=1e-12)


def test_a_layer_whose_channels_are_all_dead_keeps_its_weights(pair, rng):
    first, network, images = pair
    norm = first.layers["stage2_block1"].norm1
    norm.gamma.value[:] = 0
    errors = learn_second_step(first, network, images, rng=rng, positions=100)
    assert errors[2] == (0, 0)
    kept = (net.layers["stage2_block1"].conv1.w.value for net in (first, network))
    np.testing.assert_array_equal(*kept)


def test_codes_come_nearer_and_the_errors_are_those_of_the_network(pair, rng):
    first, network, images = pair
    errors = learn_second_step(first, network, images, rng=rng, positions=10**4)
    start, learned = np.array(errors).T
    assert np.all(learned <= start)
    assert learned.sum() < 0.8 * start.sum()
    seen, wanted = values_by_layer(network, images), values_by_layer(first, images)
    quantizers = [[layer[-1] for layer in fitted_layers(n)] for n in (network, first)]
    for ours, theirs, error in zip(*quantizers, learned, strict=True):
        d = (seen[id(ours)][1] - wanted[id(theirs)][1]) ** 2
        d = d[:, 1:] if ours is quantizers[0][-1] else d
        assert d.mean() == pytest.approx(error, rel=1e-6)
