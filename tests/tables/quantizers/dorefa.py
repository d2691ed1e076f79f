"""DoReFa: weights through tanh, and activations in [0, 1]."""

import numpy as np
from tables.quantizers.row import (
    HOLDS,
    NOT_ASKED,
    Row,
    fails,
    laws,
    layer,
    nowhere_zero,
    only,
    pair,
    weights,
)

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


def weight_row(bits, equation, **marks):
    return Row(
        name=f"dorefa_weight, b = {bits}",
        paper="DoReFa",
        equation=equation,
        file="dorefa.py",
        levels="2^b",
        bits=bits,
        groups=layer,
        apply=lambda v, k=1: qz.dorefa_weight(v, bits=bits)[0],  # noqa: ARG005 - nothing is held
        module=lambda: qz.DoReFaWeight(bits=bits),
        codes=lambda v, x: weight_codes(v, x, bits),
        laws=laws(
            ODD=only(nowhere_zero, [0, 1]),
            JSE=NOT_ASKED,
            INV=NOT_ASKED,
            MONO=HOLDS,
            ZERO=HOLDS,
            **marks,
        ),
    )


BENT = {
    "SE": fails([1]),
    "ORTH": fails([0.5]),
    "BND": fails([0.5]),
    "NEAR": fails([0.5]),
}
ROWS = [
    weight_row(
        1, "section 2.3", IDEM=HOLDS, SE=HOLDS, ORTH=HOLDS, BND=HOLDS, NEAR=HOLDS
    ),
    weight_row(2, "f_w^k", IDEM=HOLDS, **BENT),
    weight_row(3, "f_w^k", IDEM=HOLDS, **BENT),
    weight_row(4, "f_w^k", IDEM=fails([1, 0.5]), **BENT),
    Row(
        name="dorefa_activation",
        paper="DoReFa",
        equation="f_alpha^k",
        file="dorefa.py",
        levels="2^b",
        bits=4,
        groups=layer,
        apply=lambda v, k=1: qz.dorefa_activation(v, bits=4)[0],  # noqa: ARG005 - nothing is held
        module=lambda: qz.DoReFaActivation(bits=4),
        codes=lambda _, x: dorefa_activation_codes(x, 4),
        laws=laws(
            IDEM=HOLDS,
            ODD=fails([1]),
            SE=fails([1]),
            JSE=NOT_ASKED,
            INV=NOT_ASKED,
            MONO=HOLDS,
            ORTH=fails([0.5]),
            BND=HOLDS,
            NEAR=HOLDS,
            ZERO=HOLDS,
        ),
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
        qz.dorefa_weight,
        qz.dorefa_weight_backward,
        lambda rng, held=held: any_bits(rng, max_grad=held),
        wrong=(("bits must be an int in [1, 16]", (V,), {"bits": 0}),),
    )
    for held in (True, False)
] + [
    pair(
        "dorefa_activation",
        qz.dorefa_activation,
        qz.dorefa_activation_backward,
        around_the_ends,
        wrong=(("bits must be an int in [1, 16]", (V,), {"bits": 17}),),
    )
]
