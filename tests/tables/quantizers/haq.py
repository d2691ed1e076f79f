"""HAQ: the linear quantizer, and k-means with a codebook that is held or found."""

from dataclasses import dataclass, field

import numpy as np
from tables.quantizers.row import (
    HOLDS,
    NOT_ASKED,
    Row,
    fails,
    laws,
    layer,
    pair,
    weights,
)

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


@dataclass
class CodebookOfInput:
    """K-means with the codebook of the very input it quantizes."""

    module: qz.KMeansWeight = field(default_factory=lambda: qz.KMeansWeight(bits=2))

    def of(self, v):
        if v.size:
            self.module.set_centroids(qz.kmeans(v, 4))
        return self.module

    def forward(self, v, run, *, bits=None):
        return self.of(v).forward(v, run, bits=bits)

    def encode(self, v):
        return self.of(v).encode(v)

    def decision_boundaries(self, v):
        return self.of(v).decision_boundaries(v)


def of_input(v, k=1):  # noqa: ARG001 - nothing is held
    return qz.kmeans_weight(v, qz.kmeans(v, 4) if v.size else np.zeros(1))[0]


ROWS = [
    Row(
        name="haq_linear, a held",
        paper="HAQ",
        equation="linear",
        file="haq.py",
        levels="2^b - 1",
        bits=4,
        groups=layer,
        apply=lambda v, k=1: qz.haq_linear(v, bits=4, clip=0.9 * k)[0],
        module=held_clip,
        codes=lambda _, x: held_clip().quantize(x)[0].astype(int),
        laws=laws(
            IDEM=HOLDS,
            ODD=HOLDS,
            SE=fails([1]),
            JSE=HOLDS,
            INV=fails([1]),
            MONO=HOLDS,
            ORTH=fails([0.5]),
            BND=HOLDS,
            NEAR=HOLDS,
            ZERO=HOLDS,
        ),
    ),
    Row(
        name="kmeans_weight, centroids held",
        paper="HAQ",
        equation="k-means",
        file="haq_kmeans.py",
        levels="2^b",
        bits=2,
        groups=layer,
        apply=lambda v, k=1: qz.kmeans_weight(v, CENTROIDS * k)[0],
        module=held_codebook,
        codes=lambda _, x: nearest(x, np.sort(CENTROIDS)),
        uniform=False,
        laws=laws(
            IDEM=HOLDS,
            ODD=fails([1]),
            SE=fails([1]),
            JSE=HOLDS,
            INV=fails([1]),
            MONO=HOLDS,
            ORTH=fails([1]),
            BND=HOLDS,
            NEAR=HOLDS,
            ZERO=fails([0]),
        ),
    ),
    Row(
        name="kmeans_weight, centroids of v",
        paper="HAQ",
        equation="k-means",
        file="haq_kmeans.py",
        levels="2^b",
        bits=2,
        groups=layer,
        apply=of_input,
        module=CodebookOfInput,
        codes=lambda v, x: nearest(x, qz.kmeans(v, 4)),
        uniform=False,
        laws=laws(
            IDEM=HOLDS,
            ODD=fails([0, 1, 2, 3, 4]),
            SE=HOLDS,
            JSE=NOT_ASKED,
            INV=NOT_ASKED,
            MONO=HOLDS,
            ORTH=HOLDS,
            BND=HOLDS,
            NEAR=HOLDS,
            ZERO=HOLDS,
        ),
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
        qz.haq_linear,
        qz.haq_linear_backward,
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
            qz.kmeans_weight,
            qz.kmeans_weight_backward,
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
