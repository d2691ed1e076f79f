"""The affine quantizer of Jacob, its range held or set from the input."""

import numpy as np
from tables.ops import forward_draw
from tables.quantizers.row import OfInput, Row, laws, layer, pair, weights

from refqnn import quantizers as qz
from refqnn.fast import quantizers as fast
from refqnn.testing.twins import Twin

BITS = {qz.Affine: range(1, 17)}


def ranged_affine():
    module = qz.Affine(bits=4)
    module.set_range(-0.9, 1.6)
    return module


def range_of_input():
    return OfInput(
        lambda: qz.Affine(bits=4),
        lambda module, v: module.set_range(*qz.batch_range(v)),
    )


ROWS = [
    Row(
        "affine, range held",
        ("Jacob", "1, 12", "affine_grid.py"),
        ("2^b", 4),
        laws("ynnynynyyy", [1.5], [1], [1], [0.25]),
        groups=layer,
        apply=lambda v, k=1: qz.affine(v, -0.9 * k, 1.6 * k, bits=4)[0],
        module=ranged_affine,
        codes=lambda _, x: ranged_affine().quantize(x)[0].astype(int),
    ),
    Row(
        "affine, range of v",
        ("Jacob", "1, 12", "affine_grid.py"),
        ("2^b", 4),
        laws("nny--ynyyy", [-1, 0.75], [-1.75, 1.75], [1, 0.25]),
        groups=layer,
        apply=lambda v, k=1: qz.affine(v, *qz.batch_range(v), bits=4)[0],  # noqa: ARG005 - nothing is held
        module=range_of_input,
        codes=lambda v, x: range_of_input().of(v).quantize(x)[0].astype(int),
    ),
]


def ranged(rng):
    ends = [(-0.5, 1.0), (0.0, 2.0), (-1.0, 0.0), (0.0, 0.0), (-0.9, 1.6)]
    lo, hi = ends[rng.integers(len(ends))]
    options = {"bits": int(rng.integers(2, 9)), "narrow_range": rng.random() < 0.5}
    options["rounding"] = ["half_even", "half_up", "half_away"][rng.integers(3)]
    return (weights(rng), np.array(lo), np.array(hi)), options


PAIRS = [pair("affine", ranged)]
TWINS = [
    Twin(
        "batch_range",
        qz.batch_range,
        fast.batch_range,
        forward_draw(lambda rng: ((weights(rng),), {})),
    )
]
