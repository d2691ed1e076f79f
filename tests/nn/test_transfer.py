"""What is carried over from one network to another."""

import numpy as np
import pytest
from tables.networks import pixels

from refqnn.core import Run, named_buffers, named_params
from refqnn.networks import resnet
from refqnn.nn import carry_over


def network(seed, **options):
    rng = np.random.default_rng(seed)
    return resnet(8, width=0.2, rng=rng, dtype="float64", **options)


def test_a_float_network_gives_a_quantized_one_all_but_its_quantizers(rng):
    source, target = network(0), network(1, weight_bits=4, activation_bits=4)
    source.forward(pixels(rng, n=4), Run(training=True))
    left = carry_over(source, target)
    assert left
    assert all("quant" in name for name in left)
    values = named_params(target) | named_buffers(target)
    for name, leaf in (named_params(source) | named_buffers(source)).items():
        np.testing.assert_array_equal(values[name].value, leaf.value)
        assert not np.shares_memory(values[name].value, leaf.value)


def test_other_shapes_raise_and_change_nothing():
    source, target = network(0), network(1, classes=7)
    before = {name: p.value.copy() for name, p in named_params(target).items()}
    with pytest.raises(ValueError, match=r"classifier.w has the shape \(7, 12\)"):
        carry_over(source, target)
    for name, value in before.items():
        np.testing.assert_array_equal(named_params(target)[name].value, value)
