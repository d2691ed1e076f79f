"""TSQ: activations with a dead zone, and the optimal ternary weights."""

import numpy as np
from tables.quantizers.row import Row, laws, layer, pair, weights

from refqnn import quantizers as qz
from refqnn.quantizers.tsq import check_interval, tsq_codes
from refqnn.quantizers.tsq_weights import best_ternary, kept_from

BITS = {qz.TSQActivation: range(1, 9), qz.TSQWeight: range(2, 3)}


def activation_row(name, bits, eps, delta, verdicts):
    eps, delta = np.array(eps), np.array(delta)

    def codes(_, x):
        return tsq_codes(x, *check_interval(x, eps, delta, bits), bits)

    return Row(
        f"tsq_activation, {name}",
        ("TSQ", "sparse quantizer", "tsq.py"),
        ("2^b", bits),
        verdicts,
        groups=layer,
        apply=lambda v, k=1: qz.tsq_activation(v, k * eps, k * delta, bits=bits)[0],
        module=lambda: qz.TSQActivation(bits, float(eps), float(delta)),
        codes=codes,
    )


def optimal_ternary_codes(v, x):
    threshold = kept_from(v)
    alpha, _ = best_ternary(v, threshold)
    return np.where((np.abs(x) >= threshold) & (alpha > 0), np.sign(x), 0)


ROWS = [
    activation_row(
        "published",
        2,
        0.32,
        0.6487,
        laws("ynnynynnny", [1], [1], [1], [1], [0.321], [0.321]),
    ),
    activation_row(
        "eps = delta / 2", 4, 0.15, 0.3, laws("ynnynynyyy", [1], [1], [1], [1])
    ),
    Row(
        "optimal_ternary",
        ("TSQ", "start of step 2", "tsq_weights.py"),
        ("3", 2),
        laws("yyy--yyyyy"),
        apply=lambda v, k=1: qz.optimal_ternary(v)[0],  # noqa: ARG005 - nothing is held
        module=qz.TSQWeight,
        codes=optimal_ternary_codes,
    ),
]


def some_activations(rng):
    x = weights(rng)
    delta = rng.uniform(0.2, 1)
    eps = rng.choice([0, 0.3, 0.9]) * delta
    return (x, np.array(eps), np.array(delta)), {"bits": int(rng.integers(1, 5))}


V = np.ones((1, 2))
PAIRS = [
    pair(
        "tsq_activation",
        some_activations,
        wrong=tuple(
            (message, (V, np.array(eps), np.array(delta)), {"bits": bits})
            for message, eps, delta, bits in (
                ("eps must lie in [0, delta), got -0.1", -0.1, 1.0, 2),
                ("eps must lie in [0, delta), got 1.0", 1.0, 1.0, 2),
                ("eps must be finite", np.nan, 1.0, 2),
                ("delta must be positive and normal, got 0.0", 0.0, 0.0, 2),
                ("delta must be finite", 0.0, np.inf, 2),
                ("delta must broadcast to x", 0.0, [1.0, 1.0, 1.0], 2),
                ("bits must be an int in [1, 16], got 0", 0.0, 1.0, 0),
            )
        ),
    ),
    pair(
        "optimal_ternary",
        lambda rng: ((weights(rng),), {}),
    ),
]
