"""The basic residual block of ResNets, its shortcuts, and residual blocks in general.

He, Zhang, Ren, Sun. Deep Residual Learning for Image Recognition. CVPR 2016,
arXiv:1512.03385, section 3.3 (options A and B) and section 4.2 (CIFAR).
"""

from dataclasses import dataclass
from typing import Any, final

import numpy as np

from refqnn._types import Float
from refqnn.core import Run
from refqnn.nn.description import describe, describe_html
from refqnn.nn.layers import Conv2d, ReLU, Sequential
from refqnn.nn.norms import BatchNorm2d


@final
@dataclass(eq=False)
class PadShortcut:
    """Option A: every ``stride``-th pixel, and zeros for the channels that are new.

    Half of the new channels come first (one fewer if their number is odd). No
    parameters.
    """

    channels: int
    stride: int

    def forward(self, x: Float, run: Run) -> tuple[Float, Any]:
        """x: (N, C, H, W)  ->  y: (N, O, ceil(H / stride), ceil(W / stride))

        >>> x = np.arange(4.0).reshape(1, 1, 2, 2)
        >>> PadShortcut(channels=3, stride=2).forward(x, Run())[0].ravel()
        array([0., 0., 0.])
        >>> PadShortcut(channels=2, stride=1).forward(x + 1, Run())[0][0, :, 0, 0]
        array([1., 0.])
        """
        c = x.shape[1]
        if self.channels < c:
            raise ValueError(f"channels must be at least C = {c}, got {self.channels}")
        before = (self.channels - c) // 2
        kept = x[:, :, :: self.stride, :: self.stride]
        y = np.zeros((x.shape[0], self.channels, *kept.shape[2:]), x.dtype)
        y[:, before : before + c] = kept
        if run.observe is not None:
            run.observe(self, x, y)
        return y, (x.shape, before)

    def backward(self, dy: Float, cache: Any) -> Float:
        """dy: (N, O, Ho, Wo)  ->  dx: (N, C, H, W), zero at the pixels left out"""
        x_shape, before = cache
        dx = np.zeros(x_shape, dy.dtype)
        kept = dy[:, before : before + x_shape[1]]
        dx[:, :, :: self.stride, :: self.stride] = kept
        return dx


@final
@dataclass(eq=False)
class BasicBlock:
    """y = quant2(relu(norm2(conv2(quant1(relu(norm1(conv1(x)))))) + shortcut(x)))

    ``shortcut=None`` is the identity; ``quant1`` and ``quant2`` are activation
    quantizers or None. Both branches read the same, already quantized ``x``. With
    ``quant0`` in place of ``quant2`` conv1 reads ``quant0(x)`` and the shortcut ``x``.
    """

    conv1: Conv2d
    norm1: BatchNorm2d
    relu1: ReLU
    quant1: Any
    conv2: Conv2d
    norm2: BatchNorm2d
    shortcut: Any
    relu2: ReLU
    quant2: Any
    quant0: Any = None

    __repr__ = describe
    _repr_html_ = describe_html

    def forward(self, x: Float, run: Run) -> tuple[Float, Any]:
        """x: (N, C, H, W)  ->  y: (N, O, Ho, Wo)"""
        h, c0 = (x, None) if self.quant0 is None else self.quant0.forward(x, run)
        h, c1 = self.conv1.forward(h, run)
        h, c2 = self.norm1.forward(h, run)
        h, c3 = self.relu1.forward(h, run)
        h, c4 = (h, None) if self.quant1 is None else self.quant1.forward(h, run)
        h, c5 = self.conv2.forward(h, run)
        h, c6 = self.norm2.forward(h, run)
        shortcut = self.shortcut
        skip, c7 = (x, None) if shortcut is None else shortcut.forward(x, run)
        h, c8 = self.relu2.forward(h + skip, run)
        y, c9 = (h, None) if self.quant2 is None else self.quant2.forward(h, run)
        if run.observe is not None:
            run.observe(self, x, y)
        return y, (c0, c1, c2, c3, c4, c5, c6, c7, c8, c9)

    def backward(self, dy: Float, cache: Any) -> Float:
        """dy: (N, O, Ho, Wo)  ->  dx: (N, C, H, W)"""
        c0, c1, c2, c3, c4, c5, c6, c7, c8, c9 = cache
        dh = dy if self.quant2 is None else self.quant2.backward(dy, c9)
        dsum = self.relu2.backward(dh, c8)
        dskip = dsum if self.shortcut is None else self.shortcut.backward(dsum, c7)
        dh = self.norm2.backward(dsum, c6)
        dh = self.conv2.backward(dh, c5)
        dh = dh if self.quant1 is None else self.quant1.backward(dh, c4)
        dh = self.relu1.backward(dh, c3)
        dh = self.norm1.backward(dh, c2)
        dh = self.conv1.backward(dh, c1)
        dh = dh if self.quant0 is None else self.quant0.backward(dh, c0)
        return dh + dskip


@final
@dataclass(eq=False)
class Residual:
    """y = after(body(x) + shortcut(x))

    ``shortcut=None`` is the identity. Both branches read the same ``x``, so a quantizer
    at the end of ``after`` gives the next block one set of codes.
    """

    body: Sequential
    shortcut: Any
    after: Sequential

    __repr__ = describe
    _repr_html_ = describe_html

    def forward(self, x: Float, run: Run) -> tuple[Float, Any]:
        """x: (N, C, H, W)  ->  y: (N, O, Ho, Wo)"""
        h, c1 = self.body.forward(x, run)
        shortcut = self.shortcut
        skip, c2 = (x, None) if shortcut is None else shortcut.forward(x, run)
        y, c3 = self.after.forward(h + skip, run)
        if run.observe is not None:
            run.observe(self, x, y)
        return y, (c1, c2, c3)

    def backward(self, dy: Float, cache: Any) -> Float:
        """dy: (N, O, Ho, Wo)  ->  dx: (N, C, H, W)"""
        c1, c2, c3 = cache
        dsum = self.after.backward(dy, c3)
        dskip = dsum if self.shortcut is None else self.shortcut.backward(dsum, c2)
        return self.body.backward(dsum, c1) + dskip
