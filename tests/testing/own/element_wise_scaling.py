"""Element-wise gradient scaling: proved, trained, restored, deployed.

Lee, Kim, Ham. Network Quantization with Element-wise Gradient Scaling. CVPR 2021,
arXiv:2104.00903: dv = dy (1 + delta sign(dy) (v - y)). With delta = 0 it is the exact
gradient of a held function, with delta > 0 of none, and the checker says so.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
from training import name_mistakes, refusal_of, train_beside_lsq

from refqnn import deploy, fast, testing
from refqnn.quantizers.module import GridQuantizer, signed_codes


def grid(v, *, bits=3, frozen=None):
    """clip(round(8 v), -2^(b-1), 2^(b-1) - 1) / 8; frozen: residual and mask held."""
    if frozen is not None:
        inside, off = frozen
        return np.where(inside, v, 0) - off, frozen
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    y = np.clip(np.rint(8 * v), low, high) / 8
    inside = (low < 8 * v) & (8 * v < high)
    return y, (inside, np.where(inside, v, 0) - y)


def grid_backward(dy, cache, *, delta=0.2):
    """dv = dy (1 + delta sign(dy) (v - y)) where v is not clipped."""
    inside, off = cache
    return np.where(inside, dy * (1 + delta * np.sign(dy) * off), 0)


@dataclass(eq=False)
class Scaled(GridQuantizer):
    """A fixed grid of eighths: uniform, so that it is deployed."""

    bits: int = 4
    pair, codes = (grid, grid_backward), staticmethod(signed_codes)

    def codes_and_scale(self, v):
        """Give codes, their scale 1 / 8, and zero-point 0."""
        return 8 * grid(v, bits=self.bits)[0], np.ones((), v.dtype) / 8, 0


straight_through = partial(grid_backward, delta=0.0)
report = testing.check_quantizer(grid, straight_through)
print(report)
assert (report.laws["IDEM"], report.laws["SE"]) == ("holds", "fails")
v = np.array([-1.3, -0.4, 0.11, 0.3, 0.9])
name_mistakes(grid, straight_through, [v])
assert "not linear in dy" in refusal_of(grid, grid_backward, [v])
network, images = train_beside_lsq("scaled", lambda bits, shape: Scaled(bits), ends=8)
integers = deploy.deploy(network)
assert np.array_equal(integers.forward(images, fast), integers.forward(images))
