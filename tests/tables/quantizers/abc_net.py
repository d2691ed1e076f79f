"""ABC-Net: weights as bases shifted by fixed shares, activations by learned shifts."""

import numpy as np
from tables.quantizers.row import Row, laws, layer, only, pair, weights

from refqnn import quantizers as qz
from refqnn.quantizers.abc_net import abc_thresholds, nested_codes

BITS = {}


def apart_from_the_mean(v):
    return not np.any(v == v.mean(dtype=np.float64))


def abc_weight_row(bases, verdicts):
    return Row(
        f"abc, {bases} {'basis' if bases == 1 else 'bases'}",
        ("ABC-Net", "weights", "abc_net.py"),
        ("M + 1", bases),
        verdicts,
        groups=layer,
        uniform=False,
        apply=lambda v, k=1: qz.abc_weight(v, bases=bases)[0],  # noqa: ARG005 - nothing is held
        module=lambda: qz.ABCWeight(bases=bases),
        codes=lambda v, x: nested_codes(x, abc_thresholds(v, bases)),
    )


V, BETA = np.array([0.25, -0.375, 0.0]), np.array([1.0, 0.5, 0.75])


def shifted():
    module = qz.ABCActivation(bases=3)
    module.v.value, module.beta.value = V.copy(), BETA.copy()
    return module


ROWS = [
    abc_weight_row(
        1,
        laws(
            "ycy--nynny",
            only(apart_from_the_mean, [0, 1, 2]),
            [1, 0.75, 0.75],
            [1, 3],
            [1, 2],
        ),
    ),
    abc_weight_row(
        3, laws("nny--nynny", [0, 1, 3], [0, 0, 1], [-3, -6, -1], [0, 1, 3], [0, 1, 3])
    ),
    abc_weight_row(
        5, laws("nny--nynny", [0, 1, 3], [0, 0, 1], [0, -7, -5], [0, 1, 3], [0, 1, 3])
    ),
    Row(
        "abc, activation",
        ("ABC-Net", "activations, beta > 0 held", "abc_net.py"),
        ("M + 1", 3),
        laws("nnnnnynnnn", [0.3], [0.25], [1], [0.25], [1], [1], [0], [0], [0]),
        groups=layer,
        uniform=False,
        apply=lambda v, k=1: qz.abc_activation(v, V * k, BETA * k)[0],
        module=shifted,
        codes=lambda _, x: nested_codes(x, np.sort(0.5 - V)),
    ),
]


def with_shifts(rng, *, ste_slope):
    x = weights(rng)
    bases = int(rng.integers(1, 5))
    v, beta = rng.normal(size=(2, bases)) / 2
    return (x, v, beta), {"ste_slope": ste_slope}


X, ONE = np.ones((1, 2)), np.ones(1)
PAIRS = [
    pair(
        "abc_weight",
        lambda rng: ((weights(rng),), {"bases": int(rng.integers(1, 6))}),
        wrong=(
            ("bases must be an int in [1, 16], got 0", (X,), {"bases": 0}),
            ("bases must be an int in [1, 16], got 17", (X,), {"bases": 17}),
            ("bases must be an int in [1, 16], got True", (X,), {"bases": True}),
            ("alpha must be (2,)", (X,), {"bases": 2, "alpha": ONE}),
            ("alpha must be finite", (X,), {"bases": 1, "alpha": ONE * np.nan}),
        ),
    ),
    pair(
        "abc_weight, clip_grad",
        lambda rng: ((weights(rng),), {"bases": 3, "clip_grad": True}),
    ),
    pair(
        "abc_activation",
        lambda rng: with_shifts(rng, ste_slope=1),
        learned=3,
        wrong=(
            ("v must be (N,)", (X, np.array(1.0), ONE), {}),
            ("v must be (N,)", (X, np.ones(17), np.ones(17)), {}),
            ("v must be finite", (X, ONE * np.inf, ONE), {}),
            ("beta must be (1,)", (X, ONE, np.ones(2)), {}),
            ("beta must be finite", (X, ONE, ONE * np.nan), {}),
            ("ste_slope must lie in", (X, ONE, ONE), {"ste_slope": -1}),
        ),
    ),
    pair(
        "abc_activation, slope 2",
        lambda rng: with_shifts(rng, ste_slope=2),
        learned=3,
    ),
]
