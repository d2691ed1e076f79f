"""XNOR-Net: binary weights with three readings of the gradient, and signs."""

import numpy as np
from tables.quantizers.row import Row, laws, layer, nowhere_zero, only, pair, weights

from refqnn import quantizers as qz
from refqnn.quantizers.binary_weights import binary_codes
from refqnn.quantizers.checks import mean_abs

BITS = {qz.XnorWeight: range(1, 2), qz.XnorActivation: range(1, 2)}
ROWS = [
    Row(
        "xnor_weight",
        ("XNOR-Net", "section 3.1", "xnor.py"),
        ("2", 1),
        laws("ycy--yyyyy", only(nowhere_zero, [0, 1])),
        apply=lambda v, k=1: qz.xnor_weight(v)[0],  # noqa: ARG005 - nothing is held
        module=qz.XnorWeight,
        codes=lambda v, x: binary_codes(x, mean_abs(v)),
    ),
    Row(
        "xnor_activation",
        ("XNOR-Net", "section 3.2", "xnor.py"),
        ("2", 1),
        laws("ycn--ynyyn", only(nowhere_zero, [0]), [1], [2], [0]),
        groups=layer,
        apply=lambda v, k=1: qz.xnor_activation(v)[0],  # noqa: ARG005 - nothing is held
        module=qz.XnorActivation,
        codes=lambda _, x: qz.xnor_activation(x)[0],
    ),
]


def filters_of_channels(rng, gradient):
    w = weights(rng)
    w.flat[:2] = (1.0, -1.0)[: w.size]  # the ends of the mask
    return (w if w.ndim > 1 else w[:, None],), {"gradient": gradient}


V = np.ones((1, 2))
PAIRS = [
    pair(
        f"xnor_weight, {gradient}",
        lambda rng, gradient=gradient: filters_of_channels(rng, gradient),
        wrong=(
            ("gradient must be exact, paper or released", (V,), {"gradient": "x"}),
            ("needs w: (O, C, ...)", (V[0],), {"gradient": "released"}),
        ),
    )
    for gradient in ("exact", "paper", "released")
] + [
    pair(
        "xnor_activation",
        lambda rng: (filters_of_channels(rng, "")[0], {}),
    )
]
