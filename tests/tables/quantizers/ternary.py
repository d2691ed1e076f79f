"""Ternary weights of Pareto, equation 3, as printed, as resolved, and TWN."""

import numpy as np
from tables.quantizers.row import Row, laws, pair, weights

from refqnn import quantizers as qz
from refqnn.quantizers.ternary_weights import ternary_codes, ternary_statistics

BITS = {qz.Ternary: range(2, 3)}


def ternary_row(variant, paper, equation, verdicts):
    def codes(v, x):
        return ternary_codes(x, ternary_statistics(v, variant)[0], variant)

    return Row(
        f"ternary, {variant}",
        (paper, equation, "ternary_weights.py"),
        ("2" if variant == "printed" else "3", 2),
        verdicts,
        apply=lambda v, k=1: qz.ternary(v, variant=variant)[0],  # noqa: ARG005 - nothing is held
        module=lambda: qz.Ternary(variant=variant),
        codes=codes,
    )


ROWS = [
    ternary_row(
        "resolved",
        "Pareto",
        "2, 3",
        laws("nyy--ynnny", [1, 0], [1, 0], [1.375, 0.625], [1.375, 0.625]),
    ),
    ternary_row(
        "printed",
        "Pareto",
        "2, 3 as printed",
        laws("nny--ynnny", [1, 0], [1], [1, 0], [1.375, 0.625], [1.375, 0.625]),
    ),
    ternary_row(
        "twn",
        "TWN",
        "scale and threshold",
        laws("yyy--yynny", [1, 1, 1, 0.609375], [1, 1, 1, 0.609375]),
    ),
]
PAIRS = [
    pair(
        f"ternary, {variant}",
        lambda rng, variant=variant: ((weights(rng),), {"variant": variant}),
        wrong=(
            (
                "variant must be resolved, printed or twn",
                (np.ones((1, 1)),),
                {"variant": "ttq"},
            ),
        ),
    )
    for variant in ("resolved", "printed", "twn")
]
