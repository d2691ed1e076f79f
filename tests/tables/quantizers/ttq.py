"""Trained ternary quantization: two learned levels."""

import numpy as np
from tables.quantizers.row import Row, laws, layer, pair, weights

from refqnn import quantizers as qz
from refqnn.quantizers.trained_ternary import ttq_codes, ttq_threshold

BITS = {qz.TTQ: range(2, 3)}


def levelled_ttq(wp, wn):
    module = qz.TTQ()
    module.wp.value[...], module.wn.value[...] = wp, wn
    return module


def ttq_row(name, wp, wn, verdicts):
    return Row(
        f"ttq, {name}",
        ("TTQ", "6, 9", "trained_ternary.py"),
        ("3", 2),
        verdicts,
        groups=layer,
        uniform=False,
        apply=lambda v, k=1: qz.ttq(v, wp * k, wn * k, t=0.05)[0],
        module=lambda: levelled_ttq(wp, wn),
        codes=lambda v, x: ttq_codes(x, ttq_threshold(v, 0.05)),
    )


ROWS = [
    ttq_row(
        "levels 0.7 and 0.4",
        0.7,
        0.4,
        laws("ynnynynnny", [1], [2], [1], [0.5], [0.125, 1], [0.125, 1]),
    ),
    ttq_row(
        "levels 1 and 1/32",
        1.0,
        1 / 32,
        laws("nnnynynnny", [1, -1], [1], [2], [1], [0.5], [0.125, 1], [0.125, 1]),
    ),
    ttq_row(
        "both levels 0.7",
        0.7,
        0.7,
        laws("yynynynnny", [2], [1], [0.5], [0.125, 1], [0.125, 1]),
    ),
]


def levels_of_a_layer(rng):
    wp, wn = rng.uniform(0.3, 2, 2)
    return (weights(rng), np.array(wp), np.array(wn)), {"t": 0.3}


def levels_of_filters(rng):
    w = weights(rng)
    shape = (w.shape[0], *(1,) * (w.ndim - 1))
    return (w, rng.uniform(0.3, 2, shape), rng.uniform(0.3, 2, shape)), {"t": 0.05}


V, ONE = np.ones((1, 2)), np.ones(())
PAIRS = [
    pair(
        "ttq",
        levels_of_a_layer,
        learned=3,
        wrong=(
            ("level wp must be positive", (V, 0 * ONE, ONE), {"t": 0.05}),
            ("level wn must be positive", (V, ONE, -ONE), {"t": 0.05}),
            ("wn must be finite", (V, ONE, np.nan * ONE), {"t": 0.05}),
            ("wp must broadcast to w", (V, np.ones(3), ONE), {"t": 0.05}),
            ("t must lie in", (V, ONE, ONE), {"t": -0.1}),
            ("t must lie in", (V, ONE, ONE), {"t": np.nan}),
        ),
    ),
    pair(
        "ttq, levels a filter",
        levels_of_filters,
        learned=3,
    ),
]
