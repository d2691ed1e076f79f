"""LQ-Nets: weights with a basis a filter, activations with a basis a layer."""

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
from refqnn.quantizers.lq_nets import (
    check_basis,
    first_activation_basis,
    first_weight_basis,
    lq_codes,
    lq_levels,
)

BITS = {qz.LQWeight: range(1, 9), qz.LQActivation: range(1, 9)}


def lq_row(of, verdicts, *, basis, module, groups, bits):
    """The basis before training: it depends on the shape of v, not on its values."""
    signed = of == "weight"

    def codes(v, x):
        held = check_basis(basis(v), v)
        return lq_codes(x, lq_levels(x, held, signed=signed)[0])

    return Row(
        f"lq, {of}",
        ("LQ-Nets", "basis held", "lq_nets.py"),
        ("2^b", bits),
        verdicts,
        groups=groups,
        uniform=False,
        apply=lambda v, k=1: qz.lq(v, basis(v) * k, signed=signed)[0],
        module=module,
        codes=codes,
    )


ROWS = [
    lq_row(
        "weight",
        laws("ycnynynyyn", only(nowhere_zero, [0]), [1], [1], [1], [0]),
        basis=lambda v: first_weight_basis(v.shape, bits=3),
        module=lambda: qz.LQWeight(bits=3),
        groups=filters,
        bits=3,
    ),
    lq_row(
        "activation",
        laws("ynnynynyyy", [1], [1], [1], [1]),
        basis=lambda _: first_activation_basis(bits=2),
        module=lambda: qz.LQActivation(bits=2),
        groups=layer,
        bits=2,
    ),
]


def with_basis(rng, *, signed, by_filter):
    """Bits of either sign in any order; on the largest level, too."""
    x = weights(rng)
    bits = int(rng.integers(1, 4))
    v = rng.normal(size=(x.shape[0], bits) if by_filter else bits)
    return (x, v), {"signed": signed}


X, V = np.ones((2, 3)), np.ones(2)
PAIRS = [
    pair(
        "lq, {-1, 1}, a basis a filter",
        lambda rng: with_basis(rng, signed=True, by_filter=True),
        learned=2,
        wrong=(
            ("v must be (K,) or (O, K)", (X, np.ones((3, 2))), {"signed": True}),
            ("v must be (K,) or (O, K)", (X, np.ones((2, 9))), {"signed": True}),
            ("v must be (K,) or (O, K)", (X, np.ones(0)), {"signed": True}),
            ("v must be (K,) or (O, K)", (X, np.ones((1, 2, 2))), {"signed": True}),
            ("v must be finite", (X, V * np.nan), {"signed": True}),
            ("v must be finite", (X, V * np.inf), {"signed": False}),
        ),
    ),
    pair(
        "lq, {0, 1}, a basis a layer",
        lambda rng: with_basis(rng, signed=False, by_filter=False),
        learned=2,
    ),
    pair(
        "lq, {0, 1}, a basis a filter",
        lambda rng: with_basis(rng, signed=False, by_filter=True),
        learned=2,
    ),
]
