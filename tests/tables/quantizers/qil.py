"""QIL: a learned interval for weights, straight and bent, and for activations."""

import numpy as np
from tables.quantizers.row import Row, laws, layer, pair, weights

from refqnn import quantizers as qz

BITS = {qz.QILWeight: range(2, 17), qz.QILActivation: range(1, 17)}
C, D = np.array(0.75), np.array(0.5)


def held_weight(gamma):
    module = qz.QILWeight(bits=4)
    module.set_interval(float(C), float(D), gamma)
    return module


def held_activation():
    module = qz.QILActivation(bits=4)
    module.set_interval(float(C), float(D))
    return module


def qil_row(name, apply, module, levels, verdicts):
    return Row(
        name,
        (
            "QIL",
            "transformer, discretizer",
            "qil_activations.py" if "activation" in name else "qil.py",
        ),
        (levels, 4),
        verdicts,
        groups=layer,
        apply=apply,
        module=module,
        codes=lambda _, x: module().quantize(x)[0].astype(int),
    )


def weight_row(gamma, verdicts):
    p = np.array(gamma)
    return qil_row(
        f"qil_weight, gamma = {gamma}",
        lambda v, k=1: qz.qil_weight(v, C * k, D * k, p, bits=4)[0],
        lambda: held_weight(gamma),
        "2^b - 1",
        verdicts,
    )


ROWS = [
    weight_row(1.0, laws("nynnyynnny", [0.5], [1], [1], [0.5], [0.25], [0.25])),
    weight_row(0.5, laws("nynnyynnny", [1], [1], [1], [0.5], [0.25], [0.25])),
    qil_row(
        "qil_activation",
        lambda v, k=1: qz.qil_activation(v, C * k, D * k, bits=4)[0],
        held_activation,
        "2^b",
        laws("nnnnyynnny", [0.5], [1], [1], [1], [0.5], [0.25], [0.25]),
    ),
]


def away_from_the_ends(v, c, d):
    """Move what sits near an end of the interval: slopes break and bend there."""
    for end in (c - d, c + d):
        close = np.abs(np.abs(v) - end) < 0.3 * d
        v = np.where(close, np.sign(v) * (end + 0.3 * d), v)
    return v


def bent_weights(rng, shape=lambda w: ()):  # noqa: ARG005 - one for the whole tensor
    w = weights(rng)
    c = rng.uniform(0.5, 1.5, shape(w))
    d = c * rng.uniform(0.5, 1, shape(w))
    gamma = rng.uniform(0.5, 2.5, shape(w))
    options = {"bits": int(rng.integers(2, 9))}
    return (away_from_the_ends(w, c, d), c, d, gamma), options


def per_filter(w):
    return (w.shape[0], *(1,) * (w.ndim - 1))


def activations(rng):
    (x, c, d, _), options = bent_weights(rng)
    return (x, c, d), options


V, ONE, HALF = np.ones((1, 2)), np.ones(()), np.array(0.5)
PAIRS = [
    pair(
        "qil_weight",
        bent_weights,
        learned=4,
        wrong=(
            ("d must be positive", (V, ONE, -HALF, ONE), {"bits": 4}),
            ("gamma must be positive", (V, ONE, HALF, 0 * ONE), {"bits": 4}),
            ("c must be finite", (V, np.nan * ONE, HALF, ONE), {"bits": 4}),
            ("gamma must broadcast to w", (V, ONE, HALF, np.ones(3)), {"bits": 4}),
            ("bits must be an int in [2, 16]", (V, ONE, HALF, ONE), {"bits": 1}),
        ),
    ),
    pair(
        "qil_weight, an interval a filter",
        lambda rng: bent_weights(rng, per_filter),
        learned=4,
    ),
    pair(
        "qil_activation",
        activations,
        learned=3,
        wrong=(
            ("d must be positive", (V, ONE, 0 * ONE), {"bits": 4}),
            ("c must be finite", (V, np.inf * ONE, HALF), {"bits": 4}),
            ("bits must be an int in [1, 16]", (V, ONE, HALF), {"bits": 17}),
        ),
    ),
]
