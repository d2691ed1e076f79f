"""Ternary weights of Pareto, equation 3, as printed, as resolved, and TWN."""

from tables.quantizers.row import HOLDS, NOT_ASKED, Row, fails, laws, pair, weights

from refqnn import quantizers as qz
from refqnn.quantizers.ternary_weights import ternary_codes, ternary_statistics

BITS = {qz.Ternary: range(2, 3)}


def ternary_row(variant, paper, equation, **marks):
    def codes(v, x):
        return ternary_codes(x, ternary_statistics(v, variant)[0], variant)

    return Row(
        name=f"ternary, {variant}",
        paper=paper,
        equation=equation,
        file="ternary_weights.py",
        levels="2" if variant == "printed" else "3",
        bits=2,
        apply=lambda v, k=1: qz.ternary(v, variant=variant)[0],  # noqa: ARG005 - nothing is held
        module=lambda: qz.Ternary(variant=variant),
        codes=codes,
        laws=laws(
            SE=HOLDS, JSE=NOT_ASKED, INV=NOT_ASKED, MONO=HOLDS, ZERO=HOLDS, **marks
        ),
    )


ROWS = [
    ternary_row(
        "resolved",
        "Pareto",
        "2, 3",
        IDEM=fails([1, 0]),
        ODD=HOLDS,
        ORTH=fails([1, 0]),
        BND=fails([1.375, 0.625]),
        NEAR=fails([1.375, 0.625]),
    ),
    ternary_row(
        "printed",
        "Pareto",
        "2, 3 as printed",
        IDEM=fails([1, 0]),
        ODD=fails([1]),
        ORTH=fails([1, 0]),
        BND=fails([1.375, 0.625]),
        NEAR=fails([1.375, 0.625]),
    ),
    ternary_row(
        "twn",
        "TWN",
        "scale and threshold",
        IDEM=HOLDS,
        ODD=HOLDS,
        ORTH=HOLDS,
        BND=fails([1, 1, 1, 0.609375]),
        NEAR=fails([1, 1, 1, 0.609375]),
    ),
]
PAIRS = [
    pair(
        f"ternary, {variant}",
        qz.ternary,
        qz.ternary_backward,
        lambda rng, variant=variant: ((weights(rng),), {"variant": variant}),
    )
    for variant in ("resolved", "printed", "twn")
]
