"""PACT: a learned clipping level, straight through all or through the rounding."""

import numpy as np
from tables.quantizers.row import Row, laws, layer, pair, weights

from refqnn import quantizers as qz

BITS = {qz.PACT: range(1, 17)}
ALPHA = 1.7


ROWS = [
    Row(
        "pact",
        ("PACT", "clip, quantize", "parameterized_clipping.py"),
        ("2^b", 4),
        laws("ynnynynyyy", [1], [1], [1], [1]),
        groups=layer,
        apply=lambda v, k=1: qz.pact(v, np.array(ALPHA * k), bits=4)[0],
        module=lambda: qz.PACT(bits=4, start=ALPHA),
        codes=lambda _, x: qz.PACT(bits=4, start=ALPHA).quantize(x)[0].astype(int),
    )
]


def activations(rng, scope, shape):
    x = weights(rng)
    alpha = rng.uniform(0.3, 2, shape(x))
    x.flat[0] = np.ravel(alpha)[0]  # on the end of the range
    return (x, alpha), {"bits": int(rng.integers(1, 9)), "scope": scope}


SHAPES = {
    "": lambda x: (),  # noqa: ARG005 - one for the whole tensor
    ", a level a filter": lambda x: (x.shape[0], *(1,) * (x.ndim - 1)),
}
V = np.ones((1, 2))
PAIRS = [
    pair(
        f"pact, {scope}{name}",
        lambda rng, scope=scope, shape=shape: activations(rng, scope, shape),
        learned=2,
        wrong=(
            ("alpha must be positive", (V, np.array(0.0)), {"bits": 4}),
            ("alpha must be positive", (V, np.array(-1.0)), {"bits": 4}),
            ("alpha must be finite", (V, np.array(np.nan)), {"bits": 4}),
            ("alpha must broadcast to x", (V, np.ones(3)), {"bits": 4}),
            ("bits must be an int in [1, 16]", (V, np.ones(())), {"bits": 0}),
            ("scope must be", (V, np.ones(())), {"bits": 4, "scope": "all"}),
        ),
    )
    for scope in ("whole", "rounding")
    for name, shape in SHAPES.items()
]
