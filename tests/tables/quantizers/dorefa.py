"""DoReFa: weights through tanh, and activations in [0, 1]."""

import numpy as np
from tables.quantizers.row import Row, laws, layer, nowhere_zero, only, pair, weights

from refqnn import quantizers as qz
from refqnn.quantizers.dorefa import (
    dorefa_activation_codes,
    dorefa_weight_codes,
    tanh_scale,
)

BITS = {qz.DoReFaWeight: range(1, 17), qz.DoReFaActivation: range(1, 17)}


def weight_codes(v, x, bits):
    """Codes of x by the maximum of v."""
    return dorefa_weight_codes(x, tanh_scale(v, bits)[1], bits)


def weight_row(bits, equation, verdicts):
    return Row(
        f"dorefa_weight, b = {bits}",
        ("DoReFa", equation, "dorefa.py"),
        ("2^b", bits),
        verdicts,
        groups=layer,
        apply=lambda v, k=1: qz.dorefa_weight(v, bits=bits)[0],  # noqa: ARG005 - nothing is held
        module=lambda: qz.DoReFaWeight(bits=bits),
        codes=lambda v, x: weight_codes(v, x, bits),
    )


ROWS = [
    weight_row(1, "section 2.3", laws("ycy--yyyyy", only(nowhere_zero, [0, 1]))),
    weight_row(
        2,
        "f_w^k",
        laws("ycn--ynnny", only(nowhere_zero, [0, 1]), [1], [0.5], [0.5], [0.5]),
    ),
    weight_row(
        3,
        "f_w^k",
        laws("ycn--ynnny", only(nowhere_zero, [0, 1]), [1], [0.5], [0.5], [0.5]),
    ),
    weight_row(
        4,
        "f_w^k",
        laws(
            "ncn--ynnny", [1, 0.5], only(nowhere_zero, [0, 1]), [1], [0.5], [0.5], [0.5]
        ),
    ),
    Row(
        "dorefa_activation",
        ("DoReFa", "f_alpha^k", "dorefa.py"),
        ("2^b", 4),
        laws("ynn--ynyyy", [1], [1], [0.5]),
        groups=layer,
        apply=lambda v, k=1: qz.dorefa_activation(v, bits=4)[0],  # noqa: ARG005 - nothing is held
        module=lambda: qz.DoReFaActivation(bits=4),
        codes=lambda _, x: dorefa_activation_codes(x, 4),
    ),
]


def any_bits(rng, **options):
    return (weights(rng),), {"bits": int(rng.integers(1, 9)), **options}


def around_the_ends(rng):
    x = weights(rng)
    x.flat[:3] = (0.0, 1.0, 0.4)[: x.size]
    return (x,), {"bits": int(rng.integers(1, 9))}


V = np.ones((1, 2))
PAIRS = [
    pair(
        f"dorefa_weight, max_grad={held}",
        lambda rng, held=held: any_bits(rng, max_grad=held),
        wrong=(("bits must be an int in [1, 16]", (V,), {"bits": 0}),),
    )
    for held in (True, False)
] + [
    pair(
        "dorefa_activation",
        around_the_ends,
        wrong=(("bits must be an int in [1, 16]", (V,), {"bits": 17}),),
    )
]
