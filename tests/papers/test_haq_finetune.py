"""Weights shared by k-means, fine-tuned on their centroids, and what they are worth."""

import copy
import warnings

import numpy as np
import pytest
from scipy.cluster.vq import kmeans2
from tables.networks import pixels

from refqnn.core import Run, named_modules, named_params, zero_grads
from refqnn.networks import resnet
from refqnn.nn import SGD, cross_entropy, evaluate, predict, sgd_step
from refqnn.papers.haq import finetune, layer_table, proxy, share_weights
from refqnn.papers.haq.finetune import best_of_twenty
from refqnn.quantizers.haq_kmeans import cluster_means, nearest
from refqnn.testing.networks import calibrate


def rng_of(seed):
    return np.random.default_rng(seed)


def small(dtype="float64"):
    network = resnet(8, width=0.2, classes=3, dtype=dtype, rng=rng_of(0))
    return network, layer_table(network, (1, 8, 8))


def data_of(n, seed=1):
    return pixels(rng_of(seed), n=n, size=8), np.arange(n) % 3


def weights_of(network, layers):
    modules = dict(named_modules(network))
    return [modules[layer.name].w for layer in layers]


BITS = np.array([3, 1, 2, 4, 2, 3, 5, 2])


def test_every_layer_has_at_most_its_number_of_values():
    network, layers = small()
    old = [w.value.copy() for w in weights_of(network, layers)]
    share_weights(network, layers, BITS)
    for w, before, b in zip(weights_of(network, layers), old, BITS, strict=True):
        assert len(np.unique(w.value)) <= 2**b
        centroids = best_of_twenty("", before, b)
        np.testing.assert_array_equal(w.value, centroids[nearest(before, centroids)])


@pytest.mark.parametrize("bits", [4, 5, 6])
@pytest.mark.parametrize("draw", ["standard_normal", "laplace"])
def test_the_codebook_is_near_the_best_of_20_by_another_library(bits, draw):
    w = getattr(rng_of(bits), draw)(size=2304)

    def error(centroids):
        return np.sum((w - centroids[nearest(w, centroids)]) ** 2)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # kmeans2 warns of an empty cluster
        tries = [
            kmeans2(w, 2**bits, iter=100, minit="++", seed=rng_of(seed))[0]
            for seed in range(20)
        ]
    assert error(best_of_twenty("", w, bits)) <= 1.05 * min(map(error, tries))


def test_policies_of_a_proxy_share_their_codebooks(monkeypatch):
    network, layers = small("float32")
    searches = []
    monkeypatch.setattr(
        finetune,
        "best_of_twenty",
        lambda name, w, bits: (
            searches.append((name, bits)) or best_of_twenty(name, w, bits)
        ),
    )
    worth = proxy(network, layers, data_of(24), data_of(30, 2), steps=1, batch=8)
    assert worth(BITS) == worth(BITS)
    assert searches == [(e.name, b) for e, b in zip(layers, BITS, strict=True)]


def test_no_more_values_than_weights():
    network, layers = small()
    old = [w.value.copy() for w in weights_of(network, layers)]
    share_weights(network, layers, np.full(8, 20))
    for w, before in zip(weights_of(network, layers), old, strict=True):
        np.testing.assert_array_equal(w.value, before)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_imposing_means_after_a_step_is_sgd_on_the_centroids(momentum, weight_decay):
    network, layers = small()
    share_weights(network, layers, BITS)
    images, labels = data_of(12)
    params = weights_of(network, layers)
    books = [np.unique(w.value, return_inverse=True) for w in params]
    centroids, codes = [b[0] for b in books], [b[1] for b in books]
    velocities = [None] * len(params)
    optimiser = SGD(named_params(network), momentum, weight_decay=weight_decay)
    for _ in range(4):
        zero_grads(network)
        cross_entropy(network, images, labels, Run(training=True))
        for i, w in enumerate(params):
            size = np.bincount(codes[i].ravel())
            means = np.bincount(codes[i].ravel(), w.grad.ravel()) / size
            assert np.any(means)
            centroids[i], velocities[i] = sgd_step(
                centroids[i], means, velocities[i], lr=0.05, momentum=momentum,
                weight_decay=weight_decay,
            )  # fmt: skip
        optimiser.step(0.05)
        for i, w in enumerate(params):
            expected = centroids[i][codes[i]].reshape(w.value.shape)
            np.testing.assert_allclose(w.value, expected, rtol=1e-9, atol=1e-12)


def test_a_cluster_moves_by_the_mean_and_not_by_the_sum():
    w = np.array([0.0, 0.0, 4.0])
    codes, centroids = np.array([0, 0, 1]), np.array([0.0, 4.0])
    stepped = w - np.array([1.0, 3.0, 5.0])
    np.testing.assert_array_equal(cluster_means(stepped, codes, centroids), [-2, -1])


def fine_tuned(bits, **options):
    network, layers = small()
    share_weights(network, layers, np.array(bits), **options)
    zero_grads(network)
    cross_entropy(network, *data_of(12), Run(training=True))
    SGD(named_params(network)).step(0.1)
    return [len(np.unique(w.value)) for w in weights_of(network, layers)]


def test_high_bits_are_free_only_when_asked():
    _, layers = small()
    sizes = [layer.weights for layer in layers]
    assert sizes[6] > 128
    bits = [2, 2, 2, 2, 2, 6, 7, 2]
    held = fine_tuned(bits)
    assert held == [4, 4, 4, 4, 4, 64, 128, 4]
    freed = fine_tuned(bits, free_high_bit=True)
    assert (freed[:6], freed[7]) == (held[:6], held[7])
    assert freed[6] > 0.99 * sizes[6]  # free weights of one start seldom stay equal


@pytest.mark.parametrize(
    "bits", [np.full(7, 2), np.full(8, 0), np.full(8, 2.0), np.full((8, 1), 2)]
)
def test_bits_that_are_none_raise(bits):
    with pytest.raises(ValueError, match="bits must be 8 ints of at least 1"):
        share_weights(*small(), bits)


def test_the_proxy_leaves_the_trained_network_alone():
    network, layers = small("float32")
    before = copy.deepcopy(network)
    worth = proxy(network, layers, data_of(24), data_of(30, 2), steps=3, batch=8)
    assert worth(BITS) == worth(BITS)
    for name, param in named_params(before).items():
        np.testing.assert_array_equal(param.value, named_params(network)[name].value)
        assert named_params(network)[name].project is None


def test_without_steps_the_proxy_judges_the_shared_weights():
    network, layers = small("float32")
    for _ in range(30):
        calibrate(network, data_of(24)[0])
    images, _ = data_of(30, 2)
    network.layers["classifier"].b.value -= predict(network, images).mean(axis=0)
    held_out = images, predict(network, images).argmax(axis=1)
    assert len(set(held_out[1])) > 1
    worth = proxy(network, layers, data_of(24), held_out, steps=0)
    assert worth(np.full(8, 20)) == 100
    shared = copy.deepcopy(network)
    share_weights(shared, layers, BITS)
    assert worth(BITS) == 100 * evaluate(shared, *held_out).accuracy
    assert worth(np.full(8, 1)) < 100


def test_fine_tuning_helps_on_what_it_is_tuned_on():
    network, layers = small("float32")
    data = data_of(24)
    few = np.full(8, 2)
    options = {"batch": 24, "lr": 0.05}
    worth = [
        proxy(network, layers, data, data, steps=steps, **options)(few)
        for steps in (0, 40)
    ]
    assert worth[1] > worth[0] + 20
