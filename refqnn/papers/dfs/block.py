"""A residual block that runs with the bits a gate chooses: C_i^(b_k) of equation 1.

DFS, arXiv:2001.00705, section 3. In the released code "layer" is a residual block with
its shortcut and its last ReLU; all bit-widths share weights, batch norms and running
ranges, and 32 bits quantize nothing.

    paper                                     code              where
    C_i^(b_k)(F_(i-1)), b_k bits, (C)         y                 FractionalBlock.forward
    F_(i-1), what a skip hands on, (S)        y                 FractionalBlock.skip

(C) and (S) are names of this file. Where channels or size change F_(i-1) has another
shape than F_i; as released a skip is then the shortcut alone, at 32 bits.

The options may have running statistics of their own (``split_statistics``, a choice):
features of two bits lie elsewhere than those of 32, and one mean serves neither. With
options (0, 2, 4, 32) at a cp of 1 % a network judged by shared running statistics had
73.2 %, by those of its batches 81.3 %; from 8 bits on nothing is lost.

The grid is Banner's (arXiv:1805.11046): weights over their own minimum and maximum,
inputs over the mean of the samples' minima and maxima, straight through everywhere. It
has a true zero here, so that a zero stays a zero and the padding is a code.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, final

import numpy as np

from refqnn._types import Float
from refqnn.core import Buffer, Param, Run
from refqnn.nn import BatchNorm2d, ReLU, batch_norm2d, he_normal
from refqnn.nn.norms import norm_backward
from refqnn.papers.dfs.cost import KEEP, SKIP
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
class OptionNorm:
    """A batch norm with one gamma and beta, and running statistics for each option."""

    gamma: Param
    beta: Param
    #: bits -> a mean and a variance a channel
    mean: dict[str, Buffer]
    var: dict[str, Buffer]

    def of(self, bits: int) -> BatchNorm2d:
        """Give the batch norm of an option; parameters and buffers are shared."""
        key = str(bits)
        return BatchNorm2d(self.gamma, self.beta, self.mean[key], self.var[key])

    backward = norm_backward


Norm = BatchNorm2d | OptionNorm


def normalize(norm: Norm, x: Float, run: Run, option: int) -> tuple[Float, Any]:
    """Normalize by the statistics that all options share, or by those of one.

    x: (N, C, H, W)  ->  y: (N, C, H, W)
    """
    return option_norm(norm, option).forward(x, run)


def option_norm(norm: Any, option: int) -> Any:
    """Give the batch norm of an option, or that which all share."""
    return norm.of(option) if isinstance(norm, OptionNorm) else norm


@final
@dataclass(eq=False)
class FractionalBlock:
    """C^b(x) = relu(norm2(conv2(relu(norm1(conv1(x))))) + S(x)), b bits in each conv

    S(x) = x, or norm3(conv3(x)) where channels or size change.
    """

    conv1: FractionalConv
    norm1: Norm
    conv2: FractionalConv
    norm2: Norm
    conv3: FractionalConv | None = None
    norm3: Norm | None = None

    def forward(self, x: Float, run: Run, bits: int) -> tuple[Float, Any]:
        """x: (N, C, H, W)  ->  y: (N, O, Ho, Wo)"""
        h, c1 = self.conv1.forward(x, run, bits)
        h, c2 = normalize(self.norm1, h, run, bits)
        h, c3 = ReLU().forward(h, run)
        h, c4 = self.conv2.forward(h, run, bits)
        h, c5 = normalize(self.norm2, h, run, bits)
        s, c6 = self.shortcut(x, run, bits, option=bits)
        y, c7 = ReLU().forward(h + s, run)  # (C)
        return y, (c1, c2, c3, c4, c5, c6, c7)

    def backward(self, dy: Float, cache: Any) -> Float:
        """dy: (N, O, Ho, Wo)  ->  dx: (N, C, H, W)"""
        c1, c2, c3, c4, c5, c6, c7 = cache
        dsum = ReLU().backward(dy, c7)
        dx = self.skip_backward(dsum, c6)
        dh = self.norm2.backward(dsum, c5)
        dh = self.conv2.backward(dh, c4)
        dh = ReLU().backward(dh, c3)
        dh = self.norm1.backward(dh, c2)
        return self.conv1.backward(dh, c1) + dx

    def skip(self, x: Float, run: Run) -> tuple[Float, Any]:
        """y = S(x) at 32 bits, without a ReLU: what a skipped block hands on

        x: (N, C, H, W)  ->  y: (N, O, Ho, Wo)
        """
        return self.shortcut(x, run, KEEP, option=SKIP)  # (S)

    def shortcut(
        self, x: Float, run: Run, bits: int, *, option: int
    ) -> tuple[Float, Any]:
        """S(x) = x, or norm3(conv3(x)) at ``bits``, the statistics those of ``option``

        x: (N, C, H, W)  ->  s: (N, O, Ho, Wo)
        """
        if self.conv3 is None or self.norm3 is None:
            return x, None
        s, c1 = self.conv3.forward(x, run, bits)
        s, c2 = normalize(self.norm3, s, run, option)
        return s, (c1, c2)

    def skip_backward(self, ds: Float, cache: Any) -> Float:
        """Undo ``skip`` and ``shortcut``.

        ds: (N, O, Ho, Wo)  ->  dx: (N, C, H, W)
        """
        if self.conv3 is None or self.norm3 is None:
            return ds
        return self.conv3.backward(self.norm3.backward(ds, cache[1]), cache[0])

    def split_statistics(self, options: Sequence[int]) -> None:
        """Give every option running statistics of its own, copies of those shared."""
        for name in ("norm1", "norm2", "norm3"):
            norm = getattr(self, name)
            if isinstance(norm, BatchNorm2d):
                mean, var = (
                    {str(b): Buffer(shared.value.copy()) for b in options}
                    for shared in (norm.mean, norm.var)
                )
                setattr(self, name, OptionNorm(norm.gamma, norm.beta, mean, var))

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
