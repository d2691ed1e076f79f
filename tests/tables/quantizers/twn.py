"""Ternary Weight Networks, a scale a layer or a filter."""

from tables.quantizers.row import (
    HOLDS,
    NOT_ASKED,
    Row,
    fails,
    filters,
    laws,
    layer,
    pair,
    weights,
)

from refqnn import quantizers as qz
from refqnn.quantizers.ternary_weights import ternary_codes, ternary_statistics

BITS = {qz.TWN: range(2, 3)}


def twn_row(group, groups):
    def codes(v, x):
        return ternary_codes(x, ternary_statistics(v, "twn", group=group)[0], "twn")

    return Row(
        name=f"twn, {group}",
        paper="TWN",
        equation="scale and threshold",
        file="ternary_weight_networks.py",
        levels="3",
        bits=2,
        groups=groups,
        apply=lambda v, k=1: qz.twn(v, group=group)[0],  # noqa: ARG005 - nothing is held
        module=lambda: qz.TWN(group=group),
        codes=codes,
        laws=laws(
            IDEM=HOLDS,
            ODD=HOLDS,
            SE=HOLDS,
            JSE=NOT_ASKED,
            INV=NOT_ASKED,
            MONO=HOLDS,
            ORTH=HOLDS,
            BND=fails([1, 1, 1, 0.609375]),
            NEAR=fails([1, 1, 1, 0.609375]),
            ZERO=HOLDS,
        ),
    )


ROWS = [twn_row("layer", layer), twn_row("filter", filters)]
PAIRS = [
    pair(
        f"twn, {group}",
        qz.twn,
        qz.twn_backward,
        lambda rng, group=group: ((weights(rng),), {"group": group}),
    )
    for group in ("layer", "filter")
]
