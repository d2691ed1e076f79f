"""The grid of Banner: a range held or set from the input, with and without a zero."""

import numpy as np
from tables.quantizers.row import Row, laws, layer, only, pair, weights

from refqnn import quantizers as qz
from refqnn.quantizers.min_max_grid import min_max_codes

BITS = {qz.MinMax: range(1, 25)}


def ranged(lo, hi, true_zero):
    module = qz.MinMax(bits=4, true_zero=true_zero)
    module.set_range(lo, hi)
    return module


def held_row(name, lo, hi, verdicts, *, true_zero):
    def codes(_, x):
        return min_max_codes(x, ranged(lo, hi, true_zero).grid_of(x), 4)

    return Row(
        f"min_max, {name}",
        ("Banner", "gemmlowp grid", "min_max_grid.py"),
        ("2^b", 4),
        verdicts,
        groups=layer,
        uniform=true_zero,
        apply=lambda v, k=1: qz.min_max(v, lo * k, hi * k, bits=4, true_zero=true_zero)[
            0
        ],
        module=lambda: ranged(lo, hi, true_zero),
        codes=codes,
    )


def above_the_floor(v):
    """Say whether the scale is none, or 1e-8 even after a division by four."""
    wide = np.ptp(np.append(v, 0))
    return wide == 0 or wide > 1e-5


def own_codes(v, x):
    return min_max_codes(x, qz.MinMax(bits=4, of="weight").grid_of(v), 4)


ROWS = [
    held_row(
        "range held",
        -0.9,
        1.6,
        laws("ynnynynyyy", [1.5], [8], [1], [0.25]),
        true_zero=True,
    ),
    held_row(
        "no true zero",
        0.5,
        4.25,
        laws("ynnynynyyn", [1], [8], [1], [0.625], [0]),
        true_zero=False,
    ),
    Row(
        "min_max, range of v",
        ("Banner", "gemmlowp grid", "min_max_grid.py"),
        ("2^b", 4),
        laws(
            "nnc--ynyyy",
            [-1, 0.75],
            [-1.75, 1.75],
            only(above_the_floor, [1e-7]),
            [1, 0.25],
        ),
        groups=layer,
        apply=lambda v, k=1: qz.min_max(v, *qz.whole_range(v), bits=4)[0],  # noqa: ARG005 - nothing is held
        module=lambda: qz.MinMax(bits=4, of="weight"),
        codes=own_codes,
    ),
]


def some_range(rng):
    ends = [(-0.5, 1.0), (0.25, 2.0), (-1.0, 0.0), (0.0, 0.0), (-0.9, 1.6)]
    lo, hi = ends[rng.integers(len(ends))]
    options = {"bits": int(rng.integers(1, 9)), "true_zero": rng.random() < 0.5}
    return (weights(rng), np.array(lo), np.array(hi)), options


V = np.ones((1, 2))
PAIRS = [
    pair(
        "min_max",
        some_range,
        wrong=(
            ("lo must not exceed hi", (V, 1.0, 0.5), {"bits": 4}),
            ("hi must be finite", (V, 0.0, np.inf), {"bits": 4}),
            ("lo must broadcast to x", (V, np.ones(3), 2.0), {"bits": 4}),
            ("bits must be an int in [1, 24]", (V, 0.0, 1.0), {"bits": 25}),
        ),
    )
]
