"""Ternary Weight Networks, a scale a layer or a filter."""

import numpy as np
from tables.quantizers.row import Row, filters, laws, layer, pair, weights

from refqnn import quantizers as qz
from refqnn.quantizers.ternary_weights import ternary_codes, ternary_statistics

BITS = {qz.TWN: range(2, 3)}


def twn_row(group, groups):
    def codes(v, x):
        return ternary_codes(x, ternary_statistics(v, "twn", group=group)[0], "twn")

    return Row(
        f"twn, {group}",
        ("TWN", "scale and threshold", "ternary_weight_networks.py"),
        ("3", 2),
        laws("yyy--yynny", [1, 1, 1, 0.609375], [1, 1, 1, 0.609375]),
        groups=groups,
        apply=lambda v, k=1: qz.twn(v, group=group)[0],  # noqa: ARG005 - nothing is held
        module=lambda: qz.TWN(group=group),
        codes=codes,
    )


ROWS = [twn_row("layer", layer), twn_row("filter", filters)]
PAIRS = [
    pair(
        f"twn, {group}",
        lambda rng, group=group: ((weights(rng),), {"group": group}),
        wrong=(
            ("group must be 'filter' or 'layer'", (np.ones((1, 1)),), {"group": "row"}),
        ),
    )
    for group in ("layer", "filter")
]
