"""The affine quantizer of Jacob, its range held or set from the input."""

from dataclasses import dataclass, field

import numpy as np
from tables.ops import forward_draw
from tables.quantizers.row import (
    HOLDS,
    NOT_ASKED,
    Row,
    fails,
    laws,
    layer,
    pair,
    weights,
)

from refqnn import quantizers as qz
from refqnn.fast import quantizers as fast
from refqnn.testing.twins import Twin

BITS = {qz.Affine: range(1, 17)}


def ranged_affine():
    module = qz.Affine(bits=4)
    module.set_range(-0.9, 1.6)
    return module


@dataclass
class RangeOfInput:
    """Affine with its range set from the very input it quantizes."""

    module: qz.Affine = field(default_factory=lambda: qz.Affine(bits=4))

    def of(self, v):
        self.module.set_range(*qz.batch_range(v))
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


ROWS = [
    Row(
        name="affine, range held",
        paper="Jacob",
        equation="1, 12",
        file="affine_grid.py",
        levels="2^b",
        bits=4,
        groups=layer,
        apply=lambda v, k=1: qz.affine(v, -0.9 * k, 1.6 * k, bits=4)[0],
        module=ranged_affine,
        codes=lambda _, x: ranged_affine().quantize(x)[0].astype(int),
        laws=laws(
            IDEM=HOLDS,
            ODD=fails([1.5]),
            SE=fails([1]),
            JSE=HOLDS,
            INV=fails([1]),
            MONO=HOLDS,
            ORTH=fails([0.25]),
            BND=HOLDS,
            NEAR=HOLDS,
            ZERO=HOLDS,
        ),
    ),
    Row(
        name="affine, range of v",
        paper="Jacob",
        equation="1, 12",
        file="affine_grid.py",
        levels="2^b",
        bits=4,
        groups=layer,
        apply=lambda v, k=1: qz.affine(v, *qz.batch_range(v), bits=4)[0],  # noqa: ARG005 - nothing is held
        module=RangeOfInput,
        codes=lambda v, x: RangeOfInput().of(v).quantize(x)[0].astype(int),
        laws=laws(
            IDEM=fails([-1, 0.75]),
            ODD=fails([-1.75, 1.75]),
            SE=HOLDS,
            JSE=NOT_ASKED,
            INV=NOT_ASKED,
            MONO=HOLDS,
            ORTH=fails([1, 0.25]),
            BND=HOLDS,
            NEAR=HOLDS,
            ZERO=HOLDS,
        ),
    ),
]


def ranged(rng):
    ends = [(-0.5, 1.0), (0.0, 2.0), (-1.0, 0.0), (0.0, 0.0), (-0.9, 1.6)]
    lo, hi = ends[rng.integers(len(ends))]
    options = {"bits": int(rng.integers(2, 9)), "narrow_range": rng.random() < 0.5}
    options["rounding"] = ["half_even", "half_up", "half_away"][rng.integers(3)]
    return (weights(rng), np.array(lo), np.array(hi)), options


PAIRS = [pair("affine", qz.affine, qz.affine_backward, ranged)]
TWINS = [
    Twin(
        "batch_range",
        qz.batch_range,
        fast.batch_range,
        forward_draw(lambda rng: ((weights(rng),), {})),
    )
]
