"""Every registered method as integers, or refused for the property that it lacks."""

import numpy as np
import pytest
from refusals import refuses

from refqnn.core import Run, named_modules
from refqnn.deploy import IntegerNetwork, compare_float64, compare_layers, deploy
from refqnn.networks import METHODS, resnet
from refqnn.quantizers import FixedPoint, LSQPlus

SIZE = (8, 8)
#: the bits that weights are defined for, where not all are
WEIGHT_BITS = {"tsq": 2, "syq": 2, "twn": 2, "ttq": 2, "xnor": 1}
NO_CODES = "has no quantize"
#: what a method lacks; all others deploy
REFUSED = {
    "lq": "is LQActivation: its levels have no scale",
    "abc": "its shortcut reads floats",
    "qil": "its shortcut reads floats",
    "weq": "is WEQActivation: its levels have no scale",
    "ttq": f"has weights of TTQ, which {NO_CODES}",
    "kmeans": f"has weights of KMeansWeight, which {NO_CODES}",
    "syq": "need one scale an output channel",
}


def network_of(rng, name, **changes):
    """Return a network that has seen two batches; its ends have weights of 8 bits.

    Methods that are defined for few bits leave their ends to fixed point.
    """
    method = METHODS[name]

    def weights(bits, shape):
        own = method.ends is not None or name not in WEIGHT_BITS
        own &= name not in {"lq", "abc", "weq", "kmeans"}
        return method.weights(bits, shape) if own or bits != 8 else FixedPoint(bits=8)

    chosen = method._replace(weights=weights, ends=8, **changes)
    options = {"weight_bits": WEIGHT_BITS.get(name, 3), "activation_bits": 3}
    network = resnet(8, method=chosen, width=0.25, rng=rng, **options)
    for _ in range(2):
        images = rng.integers(0, 256, (8, 1, *SIZE), dtype=np.uint8)
        network.forward(images, Run(training=True))
    return network


def check_deployed(network, rng, folder):
    """Every code within its bound; float64 equal; written and read back."""
    integers = deploy(network, image_size=SIZE)
    images = rng.integers(0, 256, (4, 1, *SIZE), dtype=np.uint8)
    assert all(row.holds for row in compare_layers(network, integers, images))
    assert not any(row.different for row in compare_float64(integers, images))
    integers.save(folder / "n.npz")
    again = IntegerNetwork.load(folder / "n.npz")
    np.testing.assert_array_equal(again.forward(images), integers.forward(images))
    return integers


@pytest.mark.parametrize("name", METHODS)
def test_uniform_methods_deploy_and_others_say_what_they_lack(rng, tmp_path, name):
    network = network_of(rng, name)
    if name in REFUSED:
        refuses(REFUSED[name], deploy, network, image_size=SIZE)
    else:
        check_deployed(network, rng, tmp_path)


def test_intervals_give_other_levels_than_the_nearest(rng):
    """QIL maps [c - d, c + d] to [0, 1]: integers would need a second scale."""
    network = network_of(rng, "qil", quantized_shortcut=True)
    refuses("another level than the nearest", deploy, network, image_size=SIZE)


def test_a_learned_offset_deploys_once_it_is_whole(rng, tmp_path):
    """The move is said in steps, and the codes that it changes are counted."""
    network = network_of(rng, "lsq_plus")
    images = rng.integers(0, 256, (4, 1, *SIZE), dtype=np.uint8)
    modules = [m for _, m in named_modules(network) if isinstance(m, LSQPlus)]
    modules[0].beta.value[...] = 0.3 * modules[0].s.value
    refuses(r"0\.3 steps has no .* round_offset\(\)", deploy, network, image_size=SIZE)
    before, _ = network.forward(images, Run())
    moves = [module.round_offset() for module in modules]
    assert moves[0] == pytest.approx(-0.3, abs=1e-5)
    assert all(abs(move) <= 0.5 for move in moves)
    assert all(module.round_offset() == 0 for module in modules)
    after, _ = network.forward(images, Run())
    assert np.any(before != after)
    check_deployed(network, rng, tmp_path)


@pytest.mark.parametrize("name", ["dorefa", "min_max"])
def test_weights_of_nine_bits(rng, tmp_path, name):
    integers = check_deployed(network_of(rng, name), rng, tmp_path)
    assert integers.steps[1].sum.w.dtype == np.int16
