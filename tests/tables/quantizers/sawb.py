"""SAWB: both grids, the clip from the moments of the input or held."""

import numpy as np
from tables.quantizers.row import OfInput, Row, laws, layer, only, pair, weights

from refqnn import quantizers as qz
from refqnn.quantizers.statistics_aware import SAWB_COEFFICIENTS

BITS = {qz.SAWB: tuple(SAWB_COEFFICIENTS["mid_rise"])}


def clip_of_input(bits, levels):
    return OfInput(
        lambda: qz.SAWB(bits=bits, levels=levels),
        lambda module, v: module.set_clip(qz.sawb_clip(v, bits, levels)),
    )


def held_clip(levels):
    module = qz.SAWB(bits=4, levels=levels)
    module.set_clip(0.9)
    return module


def off_the_ties(module):
    """Codes of ties round to even, which is odd only in mid-tread grids."""

    def when(v):
        ties = module().decision_boundaries(v).ravel()
        near = np.abs(v.reshape(-1, 1) - ties) <= 1e-5 * np.abs(ties).max()
        return not near.any()

    return when


def sawb_row(levels, bits, module, clip, verdicts):
    label = "a held" if clip else f"{bits} bits"

    def apply(v, k=1):
        return qz.sawb(v, bits=bits, grid=levels, clip=clip and clip * k)[0]

    def codes(v, x):
        this = module()
        this = this.of(v) if isinstance(this, OfInput) else this
        return this.quantize(x)[0].astype(int)

    rise = levels == "mid_rise"
    return Row(
        f"sawb {levels}, {label}",
        ("SAWB", "clip, levels", "statistics_aware.py"),
        ("2^b" if rise else "2^b - 1", bits),
        verdicts,
        groups=layer,
        apply=apply,
        module=module,
        codes=codes,
        spread=lambda: np.linspace(-3, 3, 20001)[None],
    )


def of_input(levels, bits):
    def module():
        return clip_of_input(bits, levels)

    if levels == "mid_rise":
        verdicts = laws(
            "ncy--ynyyy", [0, 1], only(off_the_ties(module), [0, 1]), [0, 1]
        )
    else:
        verdicts = laws("nyy--ynyyy", [0, 1], [0, 1])
    return sawb_row(levels, bits, module, None, verdicts)


def held(levels):
    def module():
        return held_clip(levels)

    if levels == "mid_rise":
        odd = only(off_the_ties(module), [0, 1])
        verdicts = laws("ycnynynyyn", odd, [1], [1], [0.5], [0])
    else:
        verdicts = laws("yynynynyyy", [1], [1], [0.5])
    return sawb_row(levels, 4, module, 0.9, verdicts)


ROWS = [
    of_input("mid_rise", 2),
    of_input("mid_rise", 4),
    of_input("mid_tread", 4),
    held("mid_rise"),
    held("mid_tread"),
]


def clipped_weights(rng, gradient):
    grid = ["mid_rise", "mid_tread"][rng.integers(2)]
    clip = [None, 0.6, np.array(1.2), 0.0][rng.integers(4)]
    bits = [2, 4, 8] if clip is None else range(2, 17)
    options = {"bits": int(rng.choice(bits)), "grid": grid, "clip": clip}
    return (weights(rng),), {**options, "gradient": gradient}


V = np.ones((1, 2))
PAIRS = [
    pair(
        f"sawb, gradient {gradient}",
        lambda rng, gradient=gradient: clipped_weights(rng, gradient),
        wrong=(
            ("bits must be an int in [2, 8]", (V,), {"bits": 9}),
            ("bits of mid_rise must be one of [2, 3, 4, 5, 8]", (V,), {"bits": 6}),
            ("bits must be an int in [2, 16]", (V,), {"bits": 1, "clip": 1.0}),
            ("clip must be one number, not negative", (V,), {"bits": 4, "clip": -1.0}),
            ("clip must be one number", (V,), {"bits": 4, "clip": np.ones(2)}),
            ("clip must be finite", (V,), {"bits": 4, "clip": np.nan}),
            ("grid must be", (V,), {"bits": 4, "grid": "mid"}),
            ("gradient must be", (V,), {"bits": 4, "gradient": "all"}),
        ),
    )
    for gradient in ("sawb", "sawb+")
]
