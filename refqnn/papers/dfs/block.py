"""A residual block that runs with the bits a gate chooses: C_i^(b_k) of equation 1.

DFS, arXiv:2001.00705, section 3. In the released code "layer"
is a residual block with its shortcut and its last ReLU; all bit-widths share weights,
batch norms and running ranges, and 32 bits quantize nothing.

The grid is Banner's (arXiv:1805.11046): weights over their own minimum and maximum,
inputs over the mean of the samples' minima and maxima, straight through everywhere. It
has a true zero here, so that a zero stays a zero and the padding is a code.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple, final

import numpy as np

from refqnn._types import Float
from refqnn.core import Param, Run
from refqnn.nn import BatchNorm2d, ReLU, batch_norm2d, he_normal
from refqnn.papers.dfs.cost import KEEP
from refqnn.quantizers import MinMax


class Executed(NamedTuple):
    """A convolution that ran, and its bits, as an observer sees it."""

    conv: "FractionalConv"
    bits: int


@final
@dataclass(eq=False)
class FractionalConv:
    """y = conv(Q_b(x), Q_b(w)); 32 bits: y = conv(x, w). No bias."""

    w: Param
    stride: int
    padding: int
    of_x: MinMax = field(default_factory=MinMax)
    of_w: MinMax = field(default_factory=lambda: MinMax(of="weight"))

    def forward(self, x: Float, run: Run, bits: int) -> tuple[Float, Any]:
        """x: (N, C, H, W)  ->  y: (N, O, Ho, Wo)"""
        w, c_x, c_w = self.w.value, None, None
        if bits != KEEP:
            x, c_x = self.of_x.forward(x, run, bits=bits)
            w, c_w = self.of_w.forward(w, run, bits=bits)
        y, cache = run.backend.ops.conv2d(
            x, w, stride=self.stride, padding=self.padding
        )
        if run.observe is not None:
            run.observe(Executed(self, bits), x, y)
        return y, (run.backend, cache, c_x, c_w)

    def backward(self, dy: Float, cache: Any) -> Float:
        """dy: (N, O, Ho, Wo)  ->  dx: (N, C, H, W)"""
        backend, conv_cache, c_x, c_w = cache
        dx, dw, _ = backend.ops.conv2d_backward(dy, conv_cache)
        self.w.grad += dw if c_w is None else self.of_w.backward(dw, c_w)
        return dx if c_x is None else self.of_x.backward(dx, c_x)


@final
@dataclass(eq=False)
class FractionalBlock:
    """C^b(x) = relu(norm2(conv2(relu(norm1(conv1(x))))) + S(x)), b bits in each conv

    S(x) = x, or norm3(conv3(x)) where channels or size change. A skipped block is
    ``prev(x)``: x, or norm3(conv3(x)) at 32 bits, without a ReLU (released code).
    """

    conv1: FractionalConv
    norm1: BatchNorm2d
    conv2: FractionalConv
    norm2: BatchNorm2d
    conv3: FractionalConv | None = None
    norm3: BatchNorm2d | None = None

    def forward(self, x: Float, run: Run, bits: int) -> tuple[Float, Any]:
        """x: (N, C, H, W)  ->  y: (N, O, Ho, Wo)"""
        h, c1 = self.conv1.forward(x, run, bits)
        h, c2 = self.norm1.forward(h, run)
        h, c3 = ReLU().forward(h, run)
        h, c4 = self.conv2.forward(h, run, bits)
        h, c5 = self.norm2.forward(h, run)
        s, c6 = self.prev(x, run, bits)
        y, c7 = ReLU().forward(h + s, run)
        return y, (c1, c2, c3, c4, c5, c6, c7)

    def backward(self, dy: Float, cache: Any) -> Float:
        """dy: (N, O, Ho, Wo)  ->  dx: (N, C, H, W)"""
        c1, c2, c3, c4, c5, c6, c7 = cache
        dsum = ReLU().backward(dy, c7)
        dx = self.prev_backward(dsum, c6)
        dh = self.norm2.backward(dsum, c5)
        dh = self.conv2.backward(dh, c4)
        dh = ReLU().backward(dh, c3)
        dh = self.norm1.backward(dh, c2)
        return self.conv1.backward(dh, c1) + dx

    def prev(self, x: Float, run: Run, bits: int = KEEP) -> tuple[Float, Any]:
        """x: (N, C, H, W)  ->  S(x): (N, O, Ho, Wo)"""
        if self.conv3 is None or self.norm3 is None:
            return x, None
        s, c1 = self.conv3.forward(x, run, bits)
        s, c2 = self.norm3.forward(s, run)
        return s, (c1, c2)

    def prev_backward(self, ds: Float, cache: Any) -> Float:
        """ds: (N, O, Ho, Wo)  ->  dx: (N, C, H, W)"""
        if self.conv3 is None or self.norm3 is None:
            return ds
        return self.conv3.backward(self.norm3.backward(ds, cache[1]), cache[0])

    def convolutions(self) -> list[FractionalConv]:
        """List the two 3x3 convolutions: their bits are decided."""
        return [self.conv1, self.conv2]


class BlockOptions(NamedTuple):
    """The generator, dtype and grid that all blocks of a network are made with."""

    rng: np.random.Generator
    dtype: Any
    true_zero: bool = True
    stochastic: bool = False


def fractional_block(
    inputs: int, outputs: int, stride: int, made: BlockOptions
) -> FractionalBlock:
    """Make a block; conv3 where channels or size change."""

    def conv(inputs: int, kernel: int, stride: int) -> FractionalConv:
        w = he_normal((outputs, inputs, kernel, kernel), rng=made.rng, dtype=made.dtype)
        return FractionalConv(
            Param(w),
            stride=stride,
            padding=kernel // 2,
            of_x=MinMax(true_zero=made.true_zero, stochastic=made.stochastic),
            of_w=MinMax(of="weight", true_zero=made.true_zero),
        )

    def norm() -> BatchNorm2d:
        return batch_norm2d(outputs, dtype=made.dtype)

    changes = inputs != outputs or stride != 1
    return FractionalBlock(
        conv1=conv(inputs, 3, stride),
        norm1=norm(),
        conv2=conv(outputs, 3, 1),
        norm2=norm(),
        conv3=conv(inputs, 1, stride) if changes else None,
        norm3=norm() if changes else None,
    )
