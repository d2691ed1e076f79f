"""SAWB: both grids, the clip from the moments of the input or held."""

from dataclasses import dataclass, field

import numpy as np
from tables.quantizers.row import (
    HOLDS,
    NOT_ASKED,
    Row,
    fails,
    laws,
    layer,
    only,
    pair,
    weights,
)

from refqnn import quantizers as qz
from refqnn.quantizers.statistics_aware import SAWB_COEFFICIENTS

BITS = {qz.SAWB: tuple(SAWB_COEFFICIENTS["mid_rise"])}


@dataclass
class ClipOfInput:
    """SAWB with its clip set from the very input it quantizes."""

    bits: int
    levels: str
    module: qz.SAWB = field(init=False)

    def __post_init__(self):
        self.module = qz.SAWB(bits=self.bits, levels=self.levels)

    def of(self, v):
        self.module.set_clip(qz.sawb_clip(v, self.bits, self.levels))
        return self.module

    def forward(self, v, run, *, bits=None):
        return self.of(v).forward(v, run, bits=bits)

    def quantize(self, v):
        return self.of(v).quantize(v)

    def grid(self):
        return self.module.grid()

    def encode(self, v):
        return self.of(v).encode(v)

    def decision_boundaries(self, v):
        return self.of(v).decision_boundaries(v)


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


def sawb_row(levels, bits, module, clip, **marks):
    label = "a held" if clip else f"{bits} bits"

    def apply(v, k=1):
        return qz.sawb(v, bits=bits, grid=levels, clip=clip and clip * k)[0]

    def codes(v, x):
        this = module()
        this = this.of(v) if isinstance(this, ClipOfInput) else this
        return this.quantize(x)[0].astype(int)

    rise = levels == "mid_rise"
    return Row(
        name=f"sawb {levels}, {label}",
        paper="SAWB",
        equation="clip, levels",
        file="statistics_aware.py",
        levels="2^b" if rise else "2^b - 1",
        bits=bits,
        groups=layer,
        apply=apply,
        module=module,
        codes=codes,
        spread=lambda: np.linspace(-3, 3, 20001)[None],
        laws=laws(
            ODD=only(off_the_ties(module), [0, 1]) if rise else HOLDS,
            MONO=HOLDS,
            BND=HOLDS,
            NEAR=HOLDS,
            **marks,
        ),
    )


def of_input(levels, bits, idem, orth):
    return sawb_row(
        levels,
        bits,
        lambda: ClipOfInput(bits, levels),
        None,
        IDEM=fails(idem),
        SE=HOLDS,
        JSE=NOT_ASKED,
        INV=NOT_ASKED,
        ORTH=fails(orth),
        ZERO=HOLDS,
    )


def held(levels, zero):
    return sawb_row(
        levels,
        4,
        lambda: held_clip(levels),
        0.9,
        IDEM=HOLDS,
        SE=fails([1]),
        JSE=HOLDS,
        INV=fails([1]),
        ORTH=fails([0.5]),
        ZERO=zero,
    )


ROWS = [
    of_input("mid_rise", 2, [0, 1], [0, 1]),
    of_input("mid_rise", 4, [0, 1], [0, 1]),
    of_input("mid_tread", 4, [0, 1], [0, 1]),
    held("mid_rise", fails([0])),
    held("mid_tread", HOLDS),
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
        qz.sawb,
        qz.sawb_backward,
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
