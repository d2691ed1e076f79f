"""Every quantizer, what holds for it, and how it fails where it does not.

A new method joins with its file and its rows here; refqnn/quantizers/README.md shows
the marks, and tests/test_laws_quantizers.py holds both to what runs.
"""

# ruff: noqa: ARG002, ARG005 - every row answers one signature, used or not

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tables.ops import backward_draw, forward_draw
from tables.twin import Twin

from refqnn import quantizers as qz
from refqnn.fast import quantizers as fast
from refqnn.quantizers.binary import binary_codes
from refqnn.quantizers.checks import boundaries, check_finite, codebook, mean_abs
from refqnn.quantizers.fixed_point import clip_and_step, fixed_point_codes
from refqnn.quantizers.ternary import ternary_codes, ternary_statistics

LEVELS = {"2": lambda b: 2, "3": lambda b: 3, "2^b": lambda b: 2**b}
LEVELS["2^b - 1"] = lambda b: 2**b - 1


@dataclass(frozen=True)
class Verdict:
    """y holds, n fails, c holds on inputs where ``when`` does, - not asked."""

    mark: str
    counterexample: Any = None
    when: Callable[[Any], bool] = lambda v: True


HOLDS = Verdict("y")
NOT_ASKED = Verdict("-")


def fails(*counterexample):
    return Verdict("n", np.array(counterexample, np.float32))


def only(when, *counterexample):
    return Verdict("c", np.array(counterexample, np.float32), when)


@dataclass(frozen=True)
class Row:
    """One quantizer with its options; held parameters do not depend on the input."""

    name: str
    file: str
    levels: str
    bits: int
    #: (v, k=1) -> y; k multiplies the held parameters
    apply: Callable[..., Any]
    #: a module that is ready to evaluate and does what ``apply`` does
    module: Callable[[], Any]
    #: (v, x) -> integer codes of x with the statistics of v
    codes: Callable[[Any, Any], Any]
    laws: dict[str, Verdict]
    #: where levels, order and projection are judged: each row of v, or all of it
    group: str = "filter"

    @property
    def most_levels(self):
        return LEVELS[self.levels](self.bits)


def laws(IDEM, ODD, SE, JSE, MONO, ORTH, BND):
    return {
        "IDEM": IDEM,
        "ODD": ODD,
        "SE": SE,
        "JSE": JSE,
        "MONO": MONO,
        "ORTH": ORTH,
        "BND": BND,
    }


def ranged_affine():
    module = qz.Affine(bits=4)
    module.set_range(-0.9, 1.6)
    return module


def stepped_lsq(of):
    module = qz.LSQ(bits=4, of=of)
    module.set_step(0.3)
    return module


def nowhere_zero(v):
    return bool(np.all(v != 0))


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


@dataclass
class HeldClip:
    """Fixed point with a clip that does not depend on the input: 0.9."""

    module: qz.FixedPoint = field(default_factory=lambda: qz.FixedPoint(bits=4))

    def forward(self, v, run, *, bits=None):
        return qz.fixed_point(v, 0.9, bits=bits or 4)

    def grid(self):
        return self.module.grid()

    def quantize(self, v):
        check_finite(v, name="v")
        a, s = clip_and_step(v, 0.9, 4)
        q = fixed_point_codes(v, a, s).astype(np.int8)
        return q, s, np.zeros(s.shape, np.int32)

    def encode(self, v):
        return codebook(*self.quantize(v), self.grid())

    def decision_boundaries(self, v):
        _, s, z = self.quantize(v)
        return boundaries(s, z, self.grid())


def fixed_point_row(bits):
    def codes(v, x):
        a, s = clip_and_step(v, qz.gaussian_clip(v, bits=bits), bits)
        return fixed_point_codes(x, a, s)

    return Row(
        name=f"fixed_point, {bits} bits",
        file="fixed_point.py",
        levels="2^b - 1",
        bits=bits,
        apply=lambda v, k=1: qz.fixed_point(
            v, qz.gaussian_clip(v, bits=bits), bits=bits
        )[0],
        module=lambda: qz.FixedPoint(bits=bits),
        codes=codes,
        laws=laws(
            IDEM=fails([1]),
            ODD=HOLDS,
            SE=HOLDS,
            JSE=NOT_ASKED,
            MONO=HOLDS,
            ORTH=fails([1]),
            BND=HOLDS,
        ),
    )


def ternary_row(variant, **marks):
    return Row(
        name=f"ternary, {variant}",
        file="ternary.py",
        levels="2" if variant == "printed" else "3",
        bits=2,
        apply=lambda v, k=1: qz.ternary(v, variant=variant)[0],
        module=lambda: qz.Ternary(variant=variant),
        codes=lambda v, x: ternary_codes(x, ternary_statistics(v, variant)[0], variant),
        laws=laws(**{"SE": HOLDS, "JSE": NOT_ASKED, "MONO": HOLDS} | marks),
    )


def binary_row(group):
    return Row(
        name=f"binary, {group}",
        file="binary.py",
        levels="2",
        bits=1,
        group=group,
        apply=lambda v, k=1: qz.binary(v, group=group)[0],
        module=lambda: qz.Binary(group=group),
        codes=lambda v, x: binary_codes(x, mean_abs(v, group=group)),
        laws=laws(
            IDEM=HOLDS,
            ODD=only(nowhere_zero, [0, 1]),
            SE=HOLDS,
            JSE=NOT_ASKED,
            MONO=HOLDS,
            ORTH=HOLDS,
            BND=HOLDS,
        ),
    )


def lsq_row(of, q_n, q_p):
    return Row(
        name=f"lsq, {of}",
        file="lsq.py",
        levels="2^b",
        bits=4,
        group="layer",
        apply=lambda v, k=1: qz.lsq(v, np.array(0.3) * k, q_n=q_n, q_p=q_p)[0],
        module=lambda: stepped_lsq(of),
        codes=lambda v, x: qz.lsq(x, np.array(0.3), q_n=q_n, q_p=q_p)[1].q,
        laws=laws(
            IDEM=HOLDS,
            ODD=fails([-2.5]),
            SE=fails([5]),
            JSE=HOLDS,
            MONO=HOLDS,
            ORTH=fails([0.375]),
            BND=HOLDS,
        ),
    )


ROWS = [
    *(fixed_point_row(bits) for bits in (2, 4, 8)),
    Row(
        name="fixed_point, a held",
        file="fixed_point.py",
        levels="2^b - 1",
        bits=4,
        group="layer",
        apply=lambda v, k=1: qz.fixed_point(v, 0.9 * k, bits=4)[0],
        module=HeldClip,
        codes=lambda v, x: fixed_point_codes(x, *clip_and_step(x, 0.9, 4)),
        laws=laws(
            IDEM=HOLDS,
            ODD=HOLDS,
            SE=fails([1]),
            JSE=HOLDS,
            MONO=HOLDS,
            ORTH=fails([0.5]),
            BND=HOLDS,
        ),
    ),
    ternary_row(
        "resolved",
        IDEM=fails([1, 0]),
        ODD=HOLDS,
        ORTH=fails([1, 0]),
        BND=fails([1.375, 0.625]),
    ),
    ternary_row(
        "printed",
        IDEM=fails([1, 0]),
        ODD=fails([1]),
        ORTH=fails([1, 0]),
        BND=fails([1.375, 0.625]),
    ),
    ternary_row(
        "twn",
        IDEM=HOLDS,
        ODD=HOLDS,
        ORTH=HOLDS,
        BND=fails([1, 1, 1, 0.609375]),
    ),
    binary_row("filter"),
    binary_row("layer"),
    Row(
        name="affine, range held",
        file="affine.py",
        levels="2^b",
        bits=4,
        group="layer",
        apply=lambda v, k=1: qz.affine(v, -0.9 * k, 1.6 * k, bits=4)[0],
        module=ranged_affine,
        codes=lambda v, x: ranged_affine().quantize(x)[0].astype(int),
        laws=laws(
            IDEM=HOLDS,
            ODD=fails([1.5]),
            SE=fails([1]),
            JSE=HOLDS,
            MONO=HOLDS,
            ORTH=fails([0.25]),
            BND=HOLDS,
        ),
    ),
    Row(
        name="affine, range of v",
        file="affine.py",
        levels="2^b",
        bits=4,
        group="layer",
        apply=lambda v, k=1: qz.affine(v, *qz.batch_range(v), bits=4)[0],
        module=RangeOfInput,
        codes=lambda v, x: RangeOfInput().of(v).quantize(x)[0].astype(int),
        laws=laws(
            IDEM=fails([-1, 0.75]),
            ODD=fails([-1.75, 1.75]),
            SE=HOLDS,
            JSE=NOT_ASKED,
            MONO=HOLDS,
            ORTH=fails([1, 0.25]),
            BND=HOLDS,
        ),
    ),
    lsq_row("weight", 8, 7),
    lsq_row("activation", 0, 15),
]


@dataclass(frozen=True)
class Pair:
    """A quantizer with its backward; the first ``learned`` arguments get gradients."""

    name: str
    op: Callable[..., Any]
    backward: Callable[..., Any]
    draw: Callable[[np.random.Generator], tuple[tuple, dict]]
    learned: int = 1


def weights(rng):
    """Filters of some shape, with ties and zeros at times."""
    shapes = [(3, 5), (2, 2, 3, 3), (1, 1), (2, 40), (4,)]
    w = rng.normal(size=shapes[rng.integers(len(shapes))])
    return w if rng.random() < 0.7 else np.round(w * 4) / 4


def clipped_weights(rng, *, clip_grad):
    w = weights(rng)
    a = rng.uniform(0.3, 2, (w.shape[0], *(1,) * (w.ndim - 1)))
    a = [a, np.array(0.6), np.full((1,) * w.ndim, 0.6)][rng.integers(3)]
    return (w, a), {"bits": int(rng.integers(2, 9)), "clip_grad": clip_grad}


def ranged(rng):
    ends = [(-0.5, 1.0), (0.0, 2.0), (-1.0, 0.0), (0.0, 0.0), (-0.9, 1.6)]
    lo, hi = ends[rng.integers(len(ends))]
    options = {"bits": int(rng.integers(2, 9)), "narrow_range": rng.random() < 0.5}
    options["rounding"] = ["half_even", "half_up", "half_away"][rng.integers(3)]
    return (weights(rng), np.array(lo), np.array(hi)), options


def lsq_weights(rng):
    v = weights(rng)
    v.flat[:3] = (0.6, -0.8, 2.0)[: v.size]  # on and beyond both ends of the grid
    return (v, np.array(0.2)), {"q_n": 4, "q_p": 3, "grad_scale": 0.5}


def per_filter_step(rng):
    v = weights(rng)
    s = rng.uniform(0.1, 0.5, (v.shape[0], *(1,) * (v.ndim - 1)))
    return (v, s), {"q_n": 4, "q_p": 3}


PAIRS = [
    Pair(
        "fixed_point",
        qz.fixed_point,
        qz.fixed_point_backward,
        lambda rng: clipped_weights(rng, clip_grad=False),
    ),
    Pair(
        "fixed_point, clip_grad",
        qz.fixed_point,
        qz.fixed_point_backward,
        lambda rng: clipped_weights(rng, clip_grad=True),
    ),
    *(
        Pair(
            f"ternary, {variant}",
            qz.ternary,
            qz.ternary_backward,
            lambda rng, variant=variant: ((weights(rng),), {"variant": variant}),
        )
        for variant in ("resolved", "printed", "twn")
    ),
    *(
        Pair(
            f"binary, {group}",
            qz.binary,
            qz.binary_backward,
            lambda rng, group=group: ((weights(rng),), {"group": group}),
        )
        for group in ("filter", "layer")
    ),
    Pair("affine", qz.affine, qz.affine_backward, ranged),
    Pair("lsq", qz.lsq, qz.lsq_backward, lsq_weights, learned=2),
    Pair("lsq, a step a filter", qz.lsq, qz.lsq_backward, per_filter_step, learned=2),
]


def ds_bound(args, _, want):
    """Roundings of q - u, of its product with dv_hat, of the sum and of its scaling."""
    dv_hat, cache = args
    dv, _ = want
    terms = np.abs(dv_hat * cache.residual(), dtype=np.float64)
    thin = np.finfo(dv_hat.dtype)
    share = cache.grad_scale * (4 * float(thin.eps) + 2 * terms.size * 2.0**-53)
    return np.zeros_like(dv), share * terms.sum() + terms.size * float(thin.tiny)


def twins_of(pair):
    """The forward, and the backward on what a forward of the definition recorded."""
    name = pair.op.__name__
    forward = Twin(name, pair.op, getattr(fast, name), forward_draw(pair.draw))
    back, bound = f"{name}_backward", ds_bound if name == "lsq" else None
    draw = backward_draw(pair.op, pair.draw)
    return [forward, Twin(back, pair.backward, getattr(fast, back), draw, bound)]


TWINS = [
    *(
        twin
        for pair in PAIRS
        for twin in twins_of(pair)
        if twin.definition is not twin.twin
    ),
    Twin(
        "batch_range",
        qz.batch_range,
        fast.batch_range,
        forward_draw(lambda rng: ((weights(rng),), {})),
    ),
]
