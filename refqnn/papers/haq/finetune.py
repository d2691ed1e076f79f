r"""The reward of a policy: weights shared by k-means, fine-tuned, then judged.

    paper                                       code              where
    k-means, 2^b centroids a layer              codes             share_weights
    fine-tune for an epoch, then acc_quant      evaluate          proxy

After every SGD step the weights of a cluster are replaced by their mean. With labels
held that is SGD on the centroids, by the *mean* of the gradients of a cluster: step,
momentum and decay are linear, so the mean of the stepped weights is the stepped mean.

Released code: k-means++, lr 1e-3, momentum 0.9, weight decay 4e-5, one epoch of 20 000
images of ImageNet, judged on 10 000 others; and layers of more than 2^6 centroids are
no longer held to them while fine-tuned, so that they are judged unquantized
(``free_high_bit``, here off). Here k-means++ runs to its end, 20 times, and the least
squared error wins; quantiles and three Lloyd iterations leave Gaussian weights 1.9, 3.0
and 5.7 times that error at 4, 5 and 6 bits.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import refqnn
from refqnn._types import Array, Float, Int
from refqnn.core import named_modules, named_params
from refqnn.nn import SGD, Training, evaluate, take_steps
from refqnn.papers.haq.environment import Layer
from refqnn.quantizers.haq_kmeans import cluster_means, kmeans, nearest

#: bits of a policy -> accuracy in per cent
Evaluate = Callable[[Int], float]
#: name of a layer, its weights (...), bits -> at most 2^bits values
Codebook = Callable[[str, Float, int], Float]
#: released code lets layers with more centroids go
MOST_CENTROIDS = 2**6


def share_weights(
    network: Any,
    layers: Sequence[Layer],
    bits: Int,
    *,
    free_high_bit: bool = False,
    codebook: Codebook | None = None,
) -> None:
    """Replace the weights of every layer by at most 2^b values, kept by ``project``.

    From then on an optimiser step moves the values and not the clusters. With
    ``free_high_bit`` layers of more than 2^6 values are quantized now, and free to
    change after. ``codebook`` finds the values, ``best_of_twenty`` unless given. Raises
    ValueError for bits that are not one of at least 1 a layer.
    """
    bits = np.asarray(bits)
    if bits.shape != (len(layers),) or bits.dtype.kind not in "iu" or bits.min() < 1:
        raise ValueError(f"bits must be {len(layers)} ints of at least 1, got {bits}")
    modules = dict(named_modules(network))
    for layer, b in zip(layers, bits.tolist(), strict=True):
        w = modules[layer.name].w
        centroids = (codebook or best_of_twenty)(layer.name, w.value, b)
        codes = nearest(w.value, centroids)
        w.value = centroids[codes]
        if not (free_high_bit and centroids.size > MOST_CENTROIDS):
            w.project = to_cluster_means(codes, centroids)


def best_of_twenty(_name: str, w: Float, bits: int) -> Float:
    """Find the codebook of least squared error in 20 runs of k-means++, fixed draws.

    w: (...)  ->  (at most 2^bits,)

    >>> best_of_twenty("fc", np.array([0.0, 1.0, 5.0]), 1)
    array([0.5, 5. ])
    """
    k = min(2**bits, w.size)
    return kmeans(w, k, init="k-means++", restarts=20, rng=np.random.default_rng(0))


def codebooks() -> Codebook:
    """Make a ``best_of_twenty`` that remembers, for policies of one set of weights."""
    known: dict[tuple[str, int], Float] = {}

    def codebook(name: str, w: Float, bits: int) -> Float:
        if (name, bits) not in known:
            known[name, bits] = best_of_twenty(name, w, bits)
        return known[name, bits]

    return codebook


def to_cluster_means(codes: Int, centroids: Float) -> Callable[[Float], Float]:
    """Return the map of weights to the means of their clusters.

    >>> project = to_cluster_means(np.array([0, 0, 1]), np.array([0.0, 9.0]))
    >>> project(np.array([1.0, 3.0, 8.0]))
    array([2., 2., 8.])
    """
    return lambda w: cluster_means(w, codes, centroids)[codes]


def proxy(
    trained: Any,
    layers: Sequence[Layer],
    train: tuple[Array, Int],
    held_out: tuple[Array, Int],
    *,
    steps: int = 30,
    lr: float = 1e-3,
    momentum: float = 0.9,
    weight_decay: float = 4e-5,
    batch: int = 64,
    seed: int = 0,
    free_high_bit: bool = False,
    backend: Any = refqnn,
) -> Evaluate:
    """Make the function that shares, fine-tunes and judges a copy of ``trained``.

    Every policy sees the same batches, so equal policies have equal accuracies.

    train, held_out: (images (N, C, H, W), labels (N,))
    """
    codebook = codebooks()  # every policy shares the same weights

    def accuracy(bits: Int) -> float:
        network = copy.deepcopy(trained)
        share_weights(
            network, layers, bits, free_high_bit=free_high_bit, codebook=codebook
        )
        training = Training(
            network,
            SGD(named_params(network), momentum, weight_decay=weight_decay),
            lambda _: lr,
            np.random.default_rng(seed),
            batch=batch,
            backend=backend,
        )
        take_steps(training, train, until=steps, progress=False)
        return 100 * evaluate(network, *held_out, backend=backend).accuracy

    return accuracy
