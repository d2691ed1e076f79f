"""LSQ+: a learned step and a learned offset."""

import numpy as np
from tables.quantizers.row import Row, laws, layer, pair, weights

from refqnn import quantizers as qz

BITS = {qz.LSQPlus: range(1, 17)}
S, BETA = 0.25, -0.4375  # dyadic: boundaries near 0 are exact


def module():
    quantizer = qz.LSQPlus(bits=4)
    quantizer.set_step(S, BETA)
    return quantizer


ROWS = [
    Row(
        "lsq_plus",
        ("LSQ+", "section 3.1", "learned_offset.py"),
        ("2^b", 4),
        laws("ynnynynyyn", [-2.5], [5], [5], [0.375], [0]),
        groups=layer,
        uniform=False,
        apply=lambda v, k=1: qz.lsq_plus(
            v, np.array(S) * k, np.array(BETA) * k, q_p=15
        )[0],
        module=module,
        codes=lambda _, x: qz.lsq_plus(x, np.array(S), np.array(BETA), q_p=15)[1].q,
    )
]


def activations(rng, shape):
    x = weights(rng)
    s, beta = rng.uniform(0.1, 0.5, shape(x)), rng.uniform(-0.5, 0.5, shape(x))
    first = (np.ravel(beta)[0], np.ravel(beta)[0] + 3 * np.ravel(s)[0])
    x.flat[:2] = first[: x.size]  # on both ends of the grid
    return (x, s, beta), {"q_n": 0, "q_p": 3, "grad_scale": 0.5}


V, ONE, NONE = np.ones((1, 2)), np.array(1.0), np.array(0.0)
PAIRS = [
    pair(
        f"lsq_plus{name}",
        lambda rng, shape=shape: activations(rng, shape),
        learned=3,
        wrong=(
            ("step size s must be positive", (V, NONE, NONE), {"q_p": 3}),
            ("s must be finite", (V, np.array(np.nan), NONE), {"q_p": 3}),
            ("beta must be finite", (V, ONE, np.array(np.inf)), {"q_p": 3}),
            ("beta must broadcast to x", (V, ONE, np.ones(3)), {"q_p": 3}),
            ("q_n must lie", (V, ONE, NONE), {"q_p": 0}),
        ),
    )
    for name, shape in {
        "": lambda _: (),
        ", a grid a filter": lambda x: (x.shape[0], *(1,) * (x.ndim - 1)),
    }.items()
]
