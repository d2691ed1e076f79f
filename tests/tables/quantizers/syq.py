"""SYQ: binary and ternary, by layer, row and pixel. Filters are drawn as kernels."""

from dataclasses import dataclass

import numpy as np
from tables.quantizers.row import (
    Row,
    laws,
    layer,
    nowhere_zero,
    only,
    pair,
    spread,
    weights,
)

from refqnn import quantizers as qz
from refqnn.quantizers.symmetric_quantization import (
    group_shape,
    syq_codes,
    syq_threshold,
)

BITS = {}


def as_kernels(v, group):
    """(R, C) becomes R filters of one channel: a kernel of C pixels, or of C rows."""
    if v.ndim == 4:
        return v
    return v[:, None, None, :] if group == "pixel" else v[:, None, :, None]


def kernel_groups(group):
    def groups(v):
        w = as_kernels(v, group)
        if group == "row":
            return [w[:, :, i].ravel() for i in range(w.shape[2])]
        return [w[:, :, i, j].ravel() for i, j in np.ndindex(w.shape[2:])]

    return groups


def held_scales(shape):
    """1/2, 3/4 and 1 in turn: every group codes what another one decodes."""
    return (0.5 + np.arange(np.prod(shape, dtype=int)) % 3 / 4).reshape(shape)


@dataclass
class Kernels:
    """A module with a held scale for each pixel or row of what it is shown."""

    levels: int
    group: str

    def module(self, v):
        w = as_kernels(v, self.group)
        module = qz.SYQ(w.shape[2:], self.levels, self.group)
        module.set_scale(held_scales(group_shape(w.shape, self.group)))
        return module, w

    def forward(self, v, run, *, bits=None):
        module, w = self.module(v)
        y, cache = module.forward(w, run, bits=bits)
        return y.reshape(v.shape), cache

    def grid(self):
        return qz.SYQ(levels=self.levels).grid()

    def quantize(self, v):
        module, w = self.module(v)
        q, scale, zero_point = module.quantize(w)
        return q.reshape(v.shape), self.beside(scale, v), self.beside(zero_point, v)

    def beside(self, scale, v):
        return scale if v.ndim == 4 else scale.reshape(1, -1)

    def encode(self, v):
        module, w = self.module(v)
        codes, levels = module.encode(w)
        return codes.reshape(v.shape), levels

    def decision_boundaries(self, v):
        module, w = self.module(v)
        return module.decision_boundaries(w)


def kernel_row(group, levels, verdicts):
    eta = 0.05 if levels == 3 else 0

    def apply(v, k=1):
        w = as_kernels(v, group)
        alpha = k * held_scales(group_shape(w.shape, group))
        y, _ = qz.syq(w, alpha, eta=eta, levels=levels, group=group)
        return y.reshape(v.shape)

    def codes(v, x):
        return syq_codes(x, syq_threshold(v, eta, levels), levels)

    return Row(
        f"syq, {group}, {levels} levels",
        ("SYQ", "codes and scales", "symmetric_quantization.py"),
        (str(levels), levels - 1),
        verdicts,
        groups=kernel_groups(group),
        apply=apply,
        module=lambda: Kernels(levels, group),
        codes=codes,
        spread=lambda: spread().T,
    )


def layer_module():
    module = qz.SYQ(group="layer")
    module.set_scale(0.75)
    return module


ROWS = [
    Row(
        "syq, layer, 3 levels",
        ("SYQ", "codes and scales", "symmetric_quantization.py"),
        ("3", 2),
        laws("yynynynnny", [1], [1], [1], [1, 0.125], [1, 0.125]),
        groups=layer,
        apply=lambda v, k=1: qz.syq(v, np.array(0.75 * k), eta=0.05, group="layer")[0],
        module=layer_module,
        codes=lambda v, x: syq_codes(x, syq_threshold(v, 0.05, 3), 3),
    ),
    kernel_row("row", 3, laws("yynynynnny", [1], [1], [1], [0.125], [0.125])),
    kernel_row("pixel", 3, laws("yynynynnny", [1], [1], [1], [0.125], [0.125])),
    kernel_row(
        "pixel", 2, laws("ycnynynyyn", only(nowhere_zero, [0]), [1], [1], [1], [1])
    ),
]


def some_scales(rng, *, levels):
    w = weights(rng)
    group = ("pixel", "row", "layer")[rng.integers(3)]
    shape = group_shape(w.shape, group)
    alpha = rng.uniform(0.3, 2, shape if rng.random() < 0.5 else shape[2:])
    eta = rng.choice([0.0, 0.3]) if levels == 3 else 0.0
    return (w, alpha), {"eta": float(eta), "levels": levels, "group": group}


V, A = np.ones((2, 2, 3, 3)), np.ones((3, 3))
PAIRS = [
    pair(
        f"syq, {levels} levels",
        lambda rng, levels=levels: some_scales(rng, levels=levels),
        learned=2,
        wrong=wrong,
    )
    for levels, wrong in (
        (
            3,
            (
                ("eta must lie in [0, 1), got 1", (V, A), {"eta": 1}),
                ("eta must lie in [0, 1), got -0.1", (V, A), {"eta": -0.1}),
                ("eta must lie in [0, 1), got nan", (V, A), {"eta": np.nan}),
                ("levels must be 2 or 3, got 4", (V, A), {"eta": 0, "levels": 4}),
                ("levels must be 2 or 3, got True", (V, A), {"eta": 0, "levels": True}),
                ("alpha must be finite", (V, A * np.nan), {"eta": 0}),
                ("shape (1, 1, 3, 3) of a pixel", (V, A[:1]), {"eta": 0}),
                ("shape (1, 1, 3, 1) of a row", (V, A), {"eta": 0, "group": "row"}),
                ("group must be 'pixel', 'row'", (V, A), {"eta": 0, "group": "filter"}),
            ),
        ),
        (2, (("eta must be 0 with 2 levels", (V, A), {"eta": 0.05, "levels": 2}),)),
    )
]
