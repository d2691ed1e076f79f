"""Balanced Quantization, cut at medians and at means."""

import numpy as np
from tables.quantizers.row import Row, laws, layer, only, pair, weights

from refqnn import quantizers as qz
from refqnn.quantizers.balanced_quantization import balanced_codes, balanced_thresholds

BITS = {qz.Balanced: range(1, 9)}


def even_leaves(bits):
    """All values differ, and every leaf gets equally many."""
    return lambda v: np.unique(v).size == v.size and v.size % 2**bits == 0


def balanced_row(bits, split, verdicts):
    return Row(
        f"balanced, {split}, {bits} bits",
        ("BalancedQ", "weights", "balanced_quantization.py"),
        ("2^b", bits),
        verdicts,
        groups=layer,
        apply=lambda v, k=1: qz.balanced(v, bits=bits, split=split)[0],  # noqa: ARG005 - nothing is held
        module=lambda: qz.Balanced(bits=bits, split=split),
        codes=lambda v, x: balanced_codes(
            x, balanced_thresholds(v, bits, split), split
        ),
    )


ROWS = [
    balanced_row(
        2,
        "median",
        laws(
            "ycy--ynnny", only(even_leaves(2), [0, 1]), [0, 1, 3], [0, 1, 3], [0, 1, 3]
        ),
    ),
    balanced_row(
        4,
        "median",
        laws(
            "ycy--ynnny", only(even_leaves(4), [0, 1]), [0, 1, 3], [0, 1, 3], [0, 1, 3]
        ),
    ),
    balanced_row(
        2,
        "mean",
        laws(
            "nny--ynnny",
            [1.0625, -3.625, 3.1875, 2.9375],
            [0, 1],
            [0, 1, 3],
            [0, 1, 3],
            [0, 1, 3],
        ),
    ),
]


def options(rng):
    return {
        "bits": int(rng.integers(1, 6)),
        "split": ["median", "mean"][rng.integers(2)],
        "scale": ["max", "2E"][rng.integers(2)],
    }


W = np.ones((1, 2))
PAIRS = [
    pair(
        "balanced",
        lambda rng: ((weights(rng),), options(rng)),
        wrong=(
            ("bits must be an int in [1, 8], got 9", (W,), {"bits": 9}),
            ("split must be", (W,), {"bits": 2, "split": "mode"}),
            ("scale must be", (W,), {"bits": 2, "scale": "min"}),
        ),
    )
]
