"""The scalable method: range batch norm, bifurcation, and static networks of DFS."""

import numpy as np
import pytest
from checkers import check_module
from tables.networks import lively, pixels

from refqnn import data
from refqnn.core import Param, Run, named_modules, zero_grads
from refqnn.nn import Conv2d, RangeBatchNorm2d, even_chunks
from refqnn.papers import dfs
from refqnn.papers.scalable import BITS, scalable_resnet, static_resnet
from refqnn.quantizers import MinMaxGradient


def tiny(rng, **options):
    settings = {"width": 0.13, "classes": 3, "dtype": "float64"} | options
    return scalable_resnet(8, rng=rng, **settings)


def test_gradients_of_the_whole_network_without_noise(rng):
    network = lively(tiny(rng, gradient_bits=None, bits=12), rng)  # fewer give ties
    x = pixels(rng, dtype=float)
    check_module(network, x, Run(training=True), rng, step=1e-7, bound=2e-6)


@pytest.mark.parametrize(("shortcut", "extra"), [("A", 0), ("B", 2)])
def test_every_norm_and_convolution_of_the_blocks_is_replaced(shortcut, extra, rng):
    network = tiny(rng, shortcut=shortcut)
    kinds = [type(m).__name__ for _, m in named_modules(network)]
    assert "BatchNorm2d" not in kinds
    assert kinds.count("RangeBatchNorm2d") == 7 + extra
    convs = [m for _, m in named_modules(network) if isinstance(m, Conv2d)]
    assert sum(m.bifurcate for m in convs) == 6 + extra


def test_weight_gradients_do_not_depend_on_the_bits_of_the_gradient():
    """dW sees the exact gradient of its own layer."""
    rng = np.random.default_rng(0)
    w = rng.standard_normal((3, 2, 3, 3))
    x, dy = rng.standard_normal((2, 2, 5, 5)), rng.standard_normal((2, 3, 5, 5))
    grads, inputs = [], []
    for bits in (2, 4, 8):
        conv = Conv2d(
            Param(w), padding=1, grad_quant=MinMaxGradient(bits=bits), bifurcate=True
        )
        _, cache = conv.forward(x, Run(training=True, rng=np.random.default_rng(1)))
        inputs.append(conv.backward(dy, cache))
        grads.append(conv.w.grad)
    for grad in grads[1:]:
        np.testing.assert_array_equal(grad, grads[0])
    assert np.any(inputs[0] != inputs[1])


@pytest.mark.parametrize("n", [64, 1024, 16384])
def test_the_released_constant_drops_in_for_batch_norm(n, rng):
    x = rng.standard_normal((n, 8, 1, 1))
    spread = {}
    for constant in ("released", "paper"):
        norm = norm_of(8, constant=constant, chunks=1)
        spread[constant] = norm.forward(x, Run(training=True))[0].std(0).mean()
    assert 0.85 < spread["released"] < 1.2
    assert spread["paper"] < 0.65  # printed as it is, it divides by 1.6 to 1.8 sigma


def norm_of(channels, **options):
    network = scalable_resnet(
        8, width=channels / 16, rng=np.random.default_rng(0), **options
    )
    return network.layers["stem_norm"]


def test_running_scale_serves_evaluation(rng):
    norm = norm_of(4, chunks=4)
    norm.momentum = 1.0
    x = rng.standard_normal((8, 4, 2, 2)).astype(np.float32)
    trained, _ = norm.forward(x, Run(training=True))
    served, cache = norm.forward(x, Run())
    np.testing.assert_allclose(served, trained, rtol=1e-5, atol=1e-6)
    dy = rng.standard_normal(x.shape).astype(np.float32)
    zero_grads(norm)
    dx = norm.backward(dy, cache)
    slope = norm.gamma.value / norm.scale.value
    np.testing.assert_allclose(dx, dy * slope[:, None, None], rtol=1e-5)


def test_constant_channels_stay_finite():
    norm = norm_of(4)
    y, _ = norm.forward(np.ones((4, 4, 2, 2), np.float32), Run(training=True))
    assert np.all(y == 0)


@pytest.mark.parametrize(("count", "most", "chunks"), [(64, 16, 16), (63, 16, 9)])
def test_chunks_come_out_even(count, most, chunks):
    assert even_chunks(count, most) == chunks
    assert isinstance(norm_of(4), RangeBatchNorm2d)


def test_static_networks_cost_the_square_of_their_bits(rng):
    assert [round(100 * float(dfs.costs((b,))[0]), 2) for b in BITS] == [
        6.25,
        9.77,
        14.06,
        19.14,
        25.0,
        31.64,
        39.06,
        47.27,
    ]
    network = static_resnet(8, bits=22, width=0.13, classes=3, rng=rng)
    dataset = data.textures(64, 16, rng=rng, classes=3, size=8, plane=8)
    dfs.train(
        network,
        dataset,
        dfs.Forced(),
        steps=4,
        lr=0.01,
        settings=dfs.SMALL._replace(batch=16),
        rng=rng,
    )
    score = dfs.evaluate(network, dataset.test_images, dataset.test_labels)
    assert score.cp == (22 / 32) ** 2


def test_noise_needs_a_generator(rng):
    with pytest.raises(ValueError, match="needs noise"):
        tiny(rng).forward(pixels(rng), Run(training=True))
