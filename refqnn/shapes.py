"""What a network does to the shape of a map, layer by layer, without computing it.

The wiring of the real network runs on arrays that have a shape and take no memory. A
layer that is not in ``RULES`` and holds no layers of its own keeps the shape.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from refqnn._types import Array
from refqnn.core import Buffer, Param, Run
from refqnn.geometry import output_size, window
from refqnn.nn import (
    AvgPool2d,
    Conv2d,
    Flatten,
    GlobalAvgPool2d,
    Linear,
    MaxPool2d,
    PadShortcut,
    Sequential,
)

Shape = tuple[int, ...]


def blank(shape: Shape) -> Array:
    """Return an array that has a shape and takes no memory."""
    return np.broadcast_to(np.zeros((), np.float32), shape)


class Shaped(NamedTuple):
    """Stands for a layer: gives a map of the right shape and shows it."""

    layer: Any
    rule: Callable[[Any, Shape], Shape]

    def forward(self, x: Array, run: Run) -> tuple[Array, None]:
        """x: any shape the layer takes  ->  y: the shape it gives"""
        y = blank(self.rule(self.layer, x.shape))
        run.see(self.layer, x, y)
        return y, None


def shapes_of(module: Any) -> Any:
    """Return the same wiring with every layer replaced by its effect on shapes."""
    if type(module) in RULES:
        return Shaped(module, RULES[type(module)])
    if isinstance(module, Sequential):
        return Sequential({name: shapes_of(layer) for name, layer in module})
    inner = {f.name: getattr(module, f.name) for f in fields(module)}
    layers = {
        name: shapes_of(value)
        for name, value in inner.items()
        if is_dataclass(value) and not isinstance(value, Param | Buffer)
    }
    return (
        replace(module, **layers) if layers else Shaped(module, lambda _, shape: shape)
    )


def conv_shape(layer: Conv2d, shape: Shape) -> Shape:
    """(N, C, H, W) -> (N, O, Ho, Wo); ValueError where channels do not fit."""
    n, c, h, w = shape
    o, i, kh, kw = layer.w.value.shape
    if c != i * layer.groups:
        raise ValueError(f"C = {c}, but the convolution reads {i * layer.groups}")
    at = window(
        (kh, kw), stride=layer.stride, padding=layer.padding, dilation=layer.dilation
    )
    return (n, o, *output_size((h, w), at))


def linear_shape(layer: Linear, shape: Shape) -> Shape:
    """(N, I) -> (N, O); ValueError where features do not fit."""
    o, i = layer.w.value.shape
    if shape[1:] != (i,):
        raise ValueError(f"features are {shape[1:]}, but the layer reads {i}")
    return shape[0], o


def pool_shape(layer: MaxPool2d | AvgPool2d, shape: Shape) -> Shape:
    """(N, C, H, W) -> (N, C, Ho, Wo)"""
    stride = layer.kernel if layer.stride is None else layer.stride
    at = window(layer.kernel, stride=stride, padding=layer.padding)
    return (*shape[:2], *output_size((shape[2], shape[3]), at))


def shortcut_shape(layer: PadShortcut, shape: Shape) -> Shape:
    """(N, C, H, W) -> (N, O, ceil(H / stride), ceil(W / stride))"""
    n, _, h, w = shape
    return n, layer.channels, -(-h // layer.stride), -(-w // layer.stride)


#: what a layer does to a shape; every other layer keeps it
RULES: Mapping[type, Callable[[Any, Shape], Shape]] = MappingProxyType(
    {
        Conv2d: conv_shape,
        Linear: linear_shape,
        MaxPool2d: pool_shape,
        AvgPool2d: pool_shape,
        PadShortcut: shortcut_shape,
        GlobalAvgPool2d: lambda _, shape: shape[:2],
        Flatten: lambda _, shape: (shape[0], math.prod(shape[1:])),
    }
)
