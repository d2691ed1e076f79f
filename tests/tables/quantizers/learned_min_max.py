"""A learned minimum and maximum."""

import numpy as np
from tables.quantizers.row import Row, laws, layer, pair, weights

from refqnn import quantizers as qz

BITS = {qz.LearnedMinMax: range(1, 17)}
LO, HI = -1.0, 3.25


def module():
    quantizer = qz.LearnedMinMax(bits=4)
    quantizer.set_range(LO, HI)
    return quantizer


ROWS = [
    Row(
        "learned_min_max",
        ("learned range", "min/max", "learned_range.py"),
        ("2^b", 4),
        laws("ynnynynyyy", [-2.5], [5], [5], [0.375]),
        groups=layer,
        apply=lambda v, k=1: qz.learned_min_max(v, LO * k, HI * k, bits=4)[0],
        module=module,
        codes=lambda _, x: module().quantize(x)[0].astype(int),
    )
]


def activations(rng, shape):
    x = weights(rng)
    lo, hi = -rng.uniform(0, 1, shape(x)), rng.uniform(0.2, 1, shape(x))
    first = (np.ravel(lo)[0], np.ravel(hi)[0])
    x.flat[:2] = first[: x.size]  # on both ends of the range
    return (x, lo, hi), {"bits": int(rng.integers(1, 9))}


V, ONE, NONE = np.ones((1, 2)), np.array(1.0), np.array(0.0)
PAIRS = [
    pair(
        f"learned_min_max{name}",
        lambda rng, shape=shape: activations(rng, shape),
        learned=3,
        wrong=(
            ("the range must hold 0", (V, ONE, 2 * ONE), {"bits": 4}),
            ("the range must hold 0", (V, -2 * ONE, -ONE), {"bits": 4}),
            ("hi - lo must have a normal step", (V, NONE, NONE), {"bits": 4}),
            ("lo must be finite", (V, np.array(np.nan), ONE), {"bits": 4}),
            ("hi must broadcast to x", (V, NONE, np.ones(3)), {"bits": 4}),
            ("bits must be an int in [1, 16]", (V, NONE, ONE), {"bits": 17}),
        ),
    )
    for name, shape in {
        "": lambda _: (),
        ", a range a filter": lambda x: (x.shape[0], *(1,) * (x.ndim - 1)),
    }.items()
]
