"""Powers of two with a learned scale: proved, trained, restored.

Miyashita, Lee, Murmann. Convolutional Neural Networks using Logarithmic Data
Representation. 2016, arXiv:1603.01025: exponents of b bits, from 1 - 2^(b-1) to 0.
"""

from dataclasses import dataclass, field

import numpy as np
from training import name_mistakes, train_beside_lsq

from refqnn import testing
from refqnn.core import Param
from refqnn.quantizers.module import Quantizer, positive_one


def power_of_two(v, s, *, bits=3, frozen=None):
    """s sign(v) 2^clip(round(log2|v / s|), 1 - 2^(b-1), 0); frozen: slopes held."""
    if frozen is not None:
        inside, slope = frozen
        return np.where(inside, v, 0) + s * slope, frozen
    u, least = v / s, 2.0 ** (1 - 2 ** (bits - 1))
    k = np.rint(np.log2(np.clip(np.abs(u), least, 1)))
    q = np.where(u < 0, -(2**k), 2**k).astype(v.dtype)
    inside = np.abs(u) < 1
    return s * q, (inside, np.where(inside, q - u, q))


def power_of_two_backward(dy, cache):
    """Pass dy inside the clip; d y / d s is the slope that was held."""
    inside, slope = cache
    return dy * inside, np.asarray((dy * slope).sum(), dy.dtype)


@dataclass(eq=False)
class PowerOfTwo(Quantizer):
    """A learned largest power s."""

    bits: int = 4
    s: Param = field(init=False, default_factory=positive_one)
    pair, parameters = (power_of_two, power_of_two_backward), ("s",)

    def encode(self, v):
        """Give codes and levels: ``levels[codes] == y``."""
        s = self.s.value.astype(v.dtype)
        powers = 2.0 ** np.arange(1 - 2 ** (self.bits - 1), 1)
        levels = s * np.append(-powers[::-1], powers).astype(v.dtype)
        y = power_of_two(v, s, bits=self.bits)[0]
        return np.abs(y[..., None] - levels).argmin(-1), levels


s = np.array(0.8)
report = testing.check_quantizer(power_of_two, power_of_two_backward, parameters=[s])
print(report)
assert (report.laws["MONO"], report.laws["ZERO"]) == ("holds", "fails")
v = np.array([-1.3, -0.4, 0.11, 0.62, 0.95])
name_mistakes(power_of_two, power_of_two_backward, [v, s])
train_beside_lsq("power_of_two", lambda bits, shape: PowerOfTwo(bits))
