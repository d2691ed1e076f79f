"""Binary weights of Pareto, equation 4, a scale a filter or a layer."""

import numpy as np
from tables.quantizers.row import (
    Row,
    filters,
    laws,
    layer,
    nowhere_zero,
    only,
    pair,
    weights,
)

from refqnn import quantizers as qz
from refqnn.quantizers.binary_weights import binary_codes
from refqnn.quantizers.checks import mean_abs

BITS = {qz.Binary: range(1, 2)}


def binary_row(group, groups, paper, equation):
    return Row(
        f"binary, {group}",
        (paper, equation, "binary_weights.py"),
        ("2", 1),
        laws("ycy--yyyyy", only(nowhere_zero, [0, 1])),
        groups=groups,
        apply=lambda v, k=1: qz.binary(v, group=group)[0],  # noqa: ARG005 - nothing is held
        module=lambda: qz.Binary(group=group),
        codes=lambda v, x: binary_codes(x, mean_abs(v, group=group)),
    )


ROWS = [
    binary_row("filter", filters, "Pareto", "2, 4"),
    binary_row("layer", layer, "DoReFa", "1-bit weights"),
]
PAIRS = [
    pair(
        f"binary, {group}",
        lambda rng, group=group: ((weights(rng),), {"group": group}),
        wrong=(
            ("group must be 'filter' or 'layer'", (np.ones((1, 1)),), {"group": "row"}),
        ),
    )
    for group in ("filter", "layer")
]
