"""HAQ: the linear quantizer, and k-means with a codebook that is held or found."""

import numpy as np
from tables.quantizers.row import OfInput, Row, laws, layer, pair, weights

from refqnn import quantizers as qz
from refqnn.quantizers.haq_kmeans import nearest

BITS = {qz.HAQLinear: range(2, 17), qz.KMeansWeight: range(1, 17)}
CENTROIDS = np.array([0.75, -1.5, 0.25, -0.25])


def held_clip():
    module = qz.HAQLinear(bits=4)
    module.set_clip(0.9)
    return module


def held_codebook():
    module = qz.KMeansWeight(bits=2)
    module.set_centroids(CENTROIDS)
    return module


def codebook_of_input():
    def hold(module, v):
        module.set_centroids(qz.kmeans(v, 4) if v.size else CENTROIDS)

    return OfInput(lambda: qz.KMeansWeight(bits=2), hold)


def of_input(v, k=1):  # noqa: ARG001 - nothing is held
    return qz.kmeans_weight(v, qz.kmeans(v, 4) if v.size else np.zeros(1))[0]


ROWS = [
    Row(
        "haq_linear, a held",
        ("HAQ", "linear", "haq.py"),
        ("2^b - 1", 4),
        laws("yynynynyyy", [1], [1], [0.5]),
        groups=layer,
        apply=lambda v, k=1: qz.haq_linear(v, bits=4, clip=0.9 * k)[0],
        module=held_clip,
        codes=lambda _, x: held_clip().quantize(x)[0].astype(int),
    ),
    Row(
        "kmeans_weight, centroids held",
        ("HAQ", "k-means", "haq_kmeans.py"),
        ("2^b", 2),
        laws("ynnynynyyn", [1], [1], [1], [1], [0]),
        groups=layer,
        apply=lambda v, k=1: qz.kmeans_weight(v, CENTROIDS * k)[0],
        module=held_codebook,
        codes=lambda _, x: nearest(x, np.sort(CENTROIDS)),
        uniform=False,
    ),
    Row(
        "kmeans_weight, centroids of v",
        ("HAQ", "k-means", "haq_kmeans.py"),
        ("2^b", 2),
        laws("yny--yyyyy", [0, 1, 2, 3, 4]),
        groups=layer,
        apply=of_input,
        module=codebook_of_input,
        codes=lambda v, x: nearest(x, qz.kmeans(v, 4)),
        uniform=False,
    ),
]


def clipped_weights(rng):
    clip = [None, 0.6, np.array(1.2), 0.0][rng.integers(4)]
    return (weights(rng),), {"bits": int(rng.integers(2, 9)), "clip": clip}


def clustered(rng, reduction):
    return (weights(rng), rng.normal(size=rng.integers(1, 6))), {"reduction": reduction}


V = np.ones((1, 2))
PAIRS = [
    pair(
        "haq_linear",
        clipped_weights,
        wrong=(
            ("must not be negative", (V,), {"bits": 4, "clip": -1.0}),
            ("a must be finite", (V,), {"bits": 4, "clip": np.nan}),
            ("bits must be an int in [2, 16]", (V,), {"bits": 1}),
        ),
    ),
    *(
        pair(
            f"kmeans_weight, {reduction}",
            lambda rng, reduction=reduction: clustered(rng, reduction),
            learned=2,
            wrong=(
                ("centroids must be (K,)", (V, V), {}),
                ("centroids must be (K,)", (V, np.zeros(0)), {}),
                ("centroids must be finite", (V, np.array([0, np.nan])), {}),
                ("reduction must be", (V, np.zeros(1)), {"reduction": "max"}),
            ),
        )
        for reduction in ("sum", "mean")
    ),
]
