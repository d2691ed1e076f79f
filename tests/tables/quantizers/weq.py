"""WEQ: clusters of weights, searched and held, and the log quantizer."""

import numpy as np
from tables.quantizers.row import (
    OfInput,
    Row,
    laws,
    layer,
    nowhere_zero,
    only,
    pair,
    weights,
)

from refqnn import quantizers as qz
from refqnn.core import Run
from refqnn.quantizers.weq import weq_codes
from refqnn.quantizers.weq_logarithm import log_codes, log_grid

BITS = {}
BOUNDARIES = np.array([0.25, 0.75, 1.5])
OFFSET, STEP = -32, 12  # eight powers from 1/4 on, 3/4 of an octave apart


def searched(levels):
    return OfInput(
        lambda: qz.WEQWeight(levels=levels),
        lambda module, v: module.forward(v, Run(training=True)),
    )


def searched_row(levels, fewest, verdicts):
    def codes(v, x):
        b = qz.weq_boundaries(v, levels=levels)
        return weq_codes(x, b, levels)

    return Row(
        f"weq_weight, {levels} levels searched",
        ("WEQ", "weights", "weq.py"),
        ("N", levels),
        verdicts,
        groups=layer,
        uniform=False,
        fewest=fewest,
        apply=lambda v, k=1: qz.weq_weight(v, levels=levels)[0],  # noqa: ARG005 - nothing is held
        module=lambda: searched(levels),
        codes=codes,
    )


def held_module():
    module = qz.WEQWeight(levels=8)
    module.set_boundaries(BOUNDARIES)
    return module


def held_grid():
    module = qz.WEQActivation(levels=9)
    module.set_grid(OFFSET, STEP)
    return module


def log_quantizer(x, k=1):
    """Scaling the levels by k is adding 16 log2 k to the offset."""
    return qz.weq_activation(x, OFFSET + 16 * int(np.log2(k)), STEP, levels=9)[0]


ROWS = [
    searched_row(3, 2, laws("yyy--ynnny", [1, 4, 5], [2, 3], [2, 3])),
    searched_row(
        4,
        2,
        laws(
            "ycy--ynnny",
            only(nowhere_zero, [0, 1, 3]),
            [1, 2, 3],
            [1, 2, 3, 6, 66, 83],
            [1, 4, 5],
        ),
    ),
    Row(
        "weq_weight, boundaries held",
        ("WEQ", "weights", "weq.py"),
        ("N", 8),
        laws(
            "ycnynynnny",
            only(nowhere_zero, [0, 0.125]),
            [0.5, 1],
            [1],
            [1, 1.25],
            [1.5, 3],
            [0.75, 1.4375],
        ),
        groups=layer,
        uniform=False,
        apply=lambda v, k=1: qz.weq_weight(v, levels=8, boundaries=k * BOUNDARIES)[0],
        module=held_module,
        codes=lambda _, x: weq_codes(x, BOUNDARIES.astype(x.dtype), 8),
    ),
    Row(
        "weq_activation",
        ("WEQ", "activations", "weq_logarithm.py"),
        ("N", 9),
        laws("ynnynynnny", [1], [1], [1], [1.125], [7.4], [0.326]),
        groups=layer,
        uniform=False,
        apply=log_quantizer,
        module=held_grid,
        codes=lambda _, x: log_codes(x, log_grid(OFFSET, STEP, 9, x.dtype)[0]),
    ),
]


def some_levels(rng):
    w = weights(rng)
    return (w,), {"levels": int(rng.integers(2, 2 + min(w.size, 6)))}


def some_boundaries(rng):
    return (weights(rng),), {"levels": 5, "boundaries": np.array([0.3, 1.0])}


def some_activations(rng):
    x = np.exp2(3 * weights(rng)) * rng.choice([-1, 1, 1])
    return (x, int(rng.integers(-40, 20)), 2 * int(rng.integers(1, 17))), {"levels": 6}


V = np.ones((1, 2))
PAIRS = [
    pair(
        "weq_weight",
        some_levels,
        wrong=(
            ("levels must be an int in [2, 65536], got 1", (V,), {"levels": 1}),
            ("levels must be an int in [2, 65536]", (V,), {"levels": 65537}),
            ("levels must be an int in [2, 65536], got True", (V,), {"levels": True}),
            ("w must have at least 3 values for levels=6", (V,), {"levels": 6}),
        ),
    ),
    pair(
        "weq_weight, boundaries held",
        some_boundaries,
        wrong=tuple(
            (message, (V,), {"levels": 6, "boundaries": np.array(boundaries)})
            for message, boundaries in (
                ("boundaries must have the shape (2,), got (1,)", [1.0]),
                ("boundaries must be finite, >= 0 and ascend", [1.0, 0.5]),
                ("boundaries must be finite, >= 0 and ascend", [-1.0, 0.5]),
                ("boundaries must be finite, >= 0 and ascend", [0.5, np.nan]),
                ("boundaries must be finite, >= 0 and ascend", [0.5, np.inf]),
            )
        ),
    ),
    pair(
        "weq_activation",
        some_activations,
        wrong=(
            ("levels must be an int in [2, 256], got 1", (V, 0, 2), {"levels": 1}),
            ("levels must be an int in [2, 256], got 257", (V, 0, 2), {"levels": 257}),
            ("offset must be an int, got 0.5", (V, 0.5, 2), {"levels": 4}),
            ("step must be an int, got 2.0", (V, 0, 2.0), {"levels": 4}),
            ("step must be even and in [2, 32], got 3", (V, 0, 3), {"levels": 4}),
            ("step must be even and in [2, 32], got 0", (V, 0, 0), {"levels": 4}),
            ("step must be even and in [2, 32], got 34", (V, 0, 34), {"levels": 4}),
            ("keep the powers in float64", (V, 16 * 1024, 2), {"levels": 4}),
            ("keep the powers in float64", (V, -16 * 1024, 2), {"levels": 4}),
        ),
    ),
]
