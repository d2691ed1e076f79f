"""Fixed point of Pareto, equation 1."""

from dataclasses import dataclass, field

import numpy as np
from tables.quantizers.row import Row, laws, layer, pair, weights

from refqnn import quantizers as qz
from refqnn.quantizers.checks import boundaries, check_values, codebook
from refqnn.quantizers.fixed_point_weights import fixed_point_codes

BITS = {qz.FixedPoint: range(2, 17)}


@dataclass
class HeldClip:
    """Fixed point with a clip that does not depend on the input: 0.9."""

    module: qz.FixedPoint = field(default_factory=lambda: qz.FixedPoint(bits=4))

    def forward(self, v, run, *, bits=None):  # noqa: ARG002 - the signature of a module
        return qz.fixed_point(v, 0.9, bits=bits or 4)

    def grid(self):
        return self.module.grid()

    def quantize(self, v):
        (a,) = check_values(v, name="v", a=0.9)
        q, s = fixed_point_codes(v, a, 4)
        return q.astype(np.int8), np.asarray(s), np.zeros(s.shape, np.int32)

    def encode(self, v):
        return codebook(*self.quantize(v), self.grid())

    def decision_boundaries(self, v):
        _, s, z = self.quantize(v)
        return boundaries(s, z, self.grid())


def clipped_by_its_statistics(bits):
    def apply(v, k=1):  # noqa: ARG001 - nothing is held
        return qz.fixed_point(v, qz.gaussian_clip(v, bits=bits), bits=bits)[0]

    def codes(v, x):
        return fixed_point_codes(x, qz.gaussian_clip(v, bits=bits), bits)[0]

    return Row(
        f"fixed_point, {bits} bits",
        ("Pareto", "1, appendix B", "fixed_point_weights.py"),
        ("2^b - 1", bits),
        laws("nyy--ynyyy", [1], [1]),
        apply=apply,
        module=lambda: qz.FixedPoint(bits=bits),
        codes=codes,
    )


ROWS = [
    *(clipped_by_its_statistics(bits) for bits in (2, 4, 8)),
    Row(
        "fixed_point, a held",
        ("Pareto", "1", "fixed_point_weights.py"),
        ("2^b - 1", 4),
        laws("yynynynyyy", [1], [1], [0.5]),
        groups=layer,
        apply=lambda v, k=1: qz.fixed_point(v, 0.9 * k, bits=4)[0],
        module=HeldClip,
        codes=lambda _, x: fixed_point_codes(x, x.dtype.type(0.9), 4)[0],
    ),
]


def clipped_weights(rng, *, clip_grad):
    w = weights(rng)
    a = rng.uniform(0.3, 2, (w.shape[0], *(1,) * (w.ndim - 1)))
    a = [a, np.array(0.6), np.full((1,) * w.ndim, 0.6)][rng.integers(3)]
    return (w, a), {"bits": int(rng.integers(2, 9)), "clip_grad": clip_grad}


PAIRS = [
    pair(
        "fixed_point",
        lambda rng: clipped_weights(rng, clip_grad=False),
    ),
    pair(
        "fixed_point, clip_grad",
        lambda rng: clipped_weights(rng, clip_grad=True),
    ),
]
