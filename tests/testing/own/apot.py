"""Additive powers of two: a quantizer of one's own, proved, trained, restored.

Li, Dong, Wang. Additive Powers-of-Two Quantization. ICLR 2020, arXiv:1909.13144.
Four bits: a sign and {0, 1/2, 1/4, 1/16} + {0, 1/8}, times a learned clip alpha.
"""

from dataclasses import dataclass, field

import numpy as np
from training import name_mistakes, train_beside_lsq

from refqnn import testing
from refqnn.core import Param
from refqnn.quantizers.module import Quantizer, positive_one

SUMS = np.add.outer([0, 1 / 2, 1 / 4, 1 / 16], [0, 1 / 8]).ravel()
LEVELS = np.unique(np.concatenate([-SUMS, SUMS])) / SUMS.max()


def apot(v, alpha, *, frozen=None):
    """alpha times the level nearest to clip(v / alpha, -1, 1); frozen: slopes held."""
    if frozen is not None:
        inside, slope = frozen
        return np.where(inside, v, 0) + alpha * slope, frozen
    u, levels = v / alpha, LEVELS.astype(v.dtype)
    q = levels[np.searchsorted((levels[1:] + levels[:-1]) / 2, np.clip(u, -1, 1))]
    inside = np.abs(u) < 1
    return alpha * q, (inside, np.where(inside, q - u, q))


def apot_backward(dy, cache):
    """Pass dy inside the clip; d y / d alpha is the slope that was held."""
    inside, slope = cache
    return dy * inside, np.asarray((dy * slope).sum(), dy.dtype)


@dataclass(eq=False)
class APoT(Quantizer):
    """A learned clip alpha."""

    bits: int = 4
    alpha: Param = field(init=False, default_factory=positive_one)
    pair, parameters, options = (apot, apot_backward), ("alpha",), ()

    def encode(self, v):
        """Give codes and levels: ``levels[codes] == y``."""
        alpha = self.alpha.value.astype(v.dtype)
        levels = alpha * LEVELS.astype(v.dtype)
        return np.abs(apot(v, alpha)[0][..., None] - levels).argmin(-1), levels


report = testing.check_quantizer(apot, apot_backward, parameters=[np.array(0.8)])
print(report)
assert report.laws["IDEM"] == report.laws["NEAR"] == report.laws["ZERO"] == "holds"
v = np.array([-1.3, -0.4, 0.11, 0.62, 0.95])
name_mistakes(apot, apot_backward, [v, np.array(0.8)])
train_beside_lsq("apot", lambda bits, shape: APoT(bits))
