"""The layers a convolutional network is wired from.

A layer holds parameters and settings; the mathematics is in ``refqnn.ops``. The cache
of every forward begins with the backend that computed it, and backward uses the same.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, final

import numpy as np

from refqnn._types import Array, Float
from refqnn.core import Module, Param, Run
from refqnn.geometry import Padding, Pair
from refqnn.nn.description import describe, describe_html


@final
@dataclass(eq=False)
class ImageInput:
    """y = scale * (x - zero_point): 8-bit pixels become numbers around zero.

    A pixel equal to ``zero_point`` is exactly 0.0, so the zero padding of the first
    convolution is that pixel. Integers become float32, float pixels keep their dtype.
    """

    scale: float
    zero_point: int = 0

    def forward(self, x: Array, run: Run) -> tuple[Float, Any]:
        """x: (N, C, H, W)  ->  y: (N, C, H, W)

        >>> x = np.array([[[[0, 128, 255]]]], np.uint8)
        >>> ImageInput(scale=0.5, zero_point=128).forward(x, Run())[0]
        array([[[[-64. ,   0. ,  63.5]]]], dtype=float32)
        """
        if x.dtype.kind not in "uif":
            raise ValueError(f"images must be numbers, got dtype {x.dtype}")
        dtype = x.dtype if x.dtype.kind == "f" else np.dtype(np.float32)
        scale = dtype.type(self.scale)
        y = scale * (x.astype(dtype) - dtype.type(self.zero_point))
        if run.observe is not None:
            run.observe(self, x, y)
        return y, scale

    def backward(self, dy: Float, cache: Any) -> Float:
        """dy: (N, C, H, W)  ->  dx = scale * dy: (N, C, H, W)"""
        return cache * dy


@final
@dataclass(eq=False)
class Conv2d:
    """A convolution whose weights, and the gradient that reaches it, may be quantized.

    ``weight_quant`` is applied to ``w`` in every forward. ``grad_quant`` leaves the
    output as it is and acts on the incoming gradient: with ``bifurcate`` only on the
    way to the input, while w and b get the gradient that came in (Banner et al.,
    arXiv:1805.11046).
    """

    w: Param
    b: Param | None = None
    stride: int | Pair = 1
    padding: Padding = 0
    dilation: int | Pair = 1
    groups: int = 1
    weight_quant: Any = None
    grad_quant: Any = None
    bifurcate: bool = False

    def forward(self, x: Float, run: Run) -> tuple[Float, Any]:
        """x: (N, C, H, W)  ->  y: (N, O, Ho, Wo)"""
        w, quant_cache = self.w.value, None
        if self.weight_quant is not None:
            w, quant_cache = self.weight_quant.forward(w, run)
        y, cache = run.backend.ops.conv2d(
            x,
            w,
            None if self.b is None else self.b.value,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
        )
        grad_cache = None
        if self.grad_quant is not None:
            y, grad_cache = self.grad_quant.forward(y, run)
        if run.observe is not None:
            run.observe(self, x, y)
        return y, (run.backend, cache, quant_cache, grad_cache)

    def backward(self, dy: Float, cache: Any) -> Float:
        """dy: (N, O, Ho, Wo)  ->  dx: (N, C, H, W)"""
        backend, conv_cache, quant_cache, grad_cache = cache
        quant = self.grad_quant
        g = dy if quant is None else quant.backward(dy, grad_cache)
        toward_w = dy if self.bifurcate else g
        dx, dw, db = backend.ops.conv2d_backward(toward_w, conv_cache, toward_x=g)
        if self.weight_quant is not None:
            dw = self.weight_quant.backward(dw, quant_cache)
        self.w.grad += dw
        if self.b is not None:
            self.b.grad += db
        return dx


@final
@dataclass(eq=False)
class Linear:
    """y = x w^T + b, the weights quantized by ``weight_quant`` if there is one."""

    w: Param
    b: Param | None = None
    weight_quant: Any = None

    def forward(self, x: Float, run: Run) -> tuple[Float, Any]:
        """x: (N, I)  ->  y: (N, O)"""
        w, quant_cache = self.w.value, None
        if self.weight_quant is not None:
            w, quant_cache = self.weight_quant.forward(w, run)
        b = None if self.b is None else self.b.value
        y, cache = run.backend.ops.linear(x, w, b)
        if run.observe is not None:
            run.observe(self, x, y)
        return y, (run.backend, cache, quant_cache)

    def backward(self, dy: Float, cache: Any) -> Float:
        """dy: (N, O)  ->  dx: (N, I)"""
        backend, linear_cache, quant_cache = cache
        dx, dw, db = backend.ops.linear_backward(dy, linear_cache)
        if self.weight_quant is not None:
            dw = self.weight_quant.backward(dw, quant_cache)
        self.w.grad += dw
        if self.b is not None:
            self.b.grad += db
        return dx


def pair_of(op: str, *settings: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Make forward and backward of a layer without parameters from an op of that name.

    ``settings`` are fields of the layer that are options of the op.
    """

    def forward(self: Any, x: Float, run: Run) -> tuple[Float, Any]:
        options = dict(
            zip(settings, map(partial(getattr, self), settings), strict=True)
        )
        y, cache = getattr(run.backend.ops, op)(x, **options)
        if run.observe is not None:
            run.observe(self, x, y)
        return y, (run.backend, cache)

    def backward(_self: Any, dy: Float, cache: Any) -> Float:
        backend, op_cache = cache
        dx: Float = getattr(backend.ops, f"{op}_backward")(dy, op_cache)
        return dx

    return forward, backward


@final
@dataclass(eq=False)
class ReLU:
    """y = max(x, 0)

    x: (...)  ->  y: (...)
    """

    forward, backward = pair_of("relu")


@final
@dataclass(eq=False)
class ReLU6:
    """y = min(max(x, 0), 6)

    x: (...)  ->  y: (...)
    """

    forward, backward = pair_of("relu6")


@final
@dataclass(eq=False)
class GlobalAvgPool2d:
    """The mean of every plane.

    x: (N, C, H, W)  ->  y: (N, C)
    """

    forward, backward = pair_of("global_avg_pool2d")


@final
@dataclass(eq=False)
class MaxPool2d:
    """The largest value under a sliding window; ``stride=None`` is the kernel.

    x: (N, C, H, W)  ->  y: (N, C, Ho, Wo)
    """

    kernel: int | Pair
    stride: int | Pair | None = None
    padding: Padding = 0

    forward, backward = pair_of("max_pool2d", "kernel", "stride", "padding")


@final
@dataclass(eq=False)
class AvgPool2d:
    """The mean under a sliding window; ``stride=None`` is the kernel.

    x: (N, C, H, W)  ->  y: (N, C, Ho, Wo)
    """

    kernel: int | Pair
    stride: int | Pair | None = None
    padding: Padding = 0
    count_include_pad: bool = True

    forward, backward = pair_of(
        "avg_pool2d", "kernel", "stride", "padding", "count_include_pad"
    )


@final
@dataclass(eq=False)
class Flatten:
    """All entries of an image, channel by channel, as features."""

    def forward(self, x: Float, run: Run) -> tuple[Float, Any]:
        """x: (N, C, H, W)  ->  y: (N, C H W)

        >>> Flatten().forward(np.arange(4.0).reshape(1, 2, 1, 2), Run())[0]
        array([[0., 1., 2., 3.]])
        """
        y = x.reshape(x.shape[0], -1).copy()
        if run.observe is not None:
            run.observe(self, x, y)
        return y, x.shape

    def backward(self, dy: Float, cache: Any) -> Float:
        """dy: (N, C H W)  ->  dx: (N, C, H, W)"""
        return dy.reshape(cache).copy()


@final
@dataclass(eq=False)
class Sequential:
    """Layers by name, each fed with the output of the one before.

    ``config`` is what ``refqnn.networks.build`` needs to build the network again; it is
    empty for networks wired by hand.
    """

    layers: dict[str, Module]
    config: dict[str, Any] = field(default_factory=dict)

    __repr__ = describe
    _repr_html_ = describe_html

    def __iter__(self) -> Iterator[tuple[str, Module]]:
        return iter(self.layers.items())

    def forward(self, x: Array, run: Run) -> tuple[Float, Any]:
        """x: input of the first layer  ->  y: output of the last"""
        caches = []
        y = x
        for layer in self.layers.values():
            y, cache = layer.forward(y, run)
            caches.append(cache)
        if run.observe is not None:
            run.observe(self, x, y)
        return y, caches

    def backward(self, dy: Float, cache: Any) -> Float:
        """dy: output of the last layer  ->  dx: input of the first"""
        for layer, layer_cache in zip(
            reversed(self.layers.values()), reversed(cache), strict=True
        ):
            dy = layer.backward(dy, layer_cache)
        return dy
