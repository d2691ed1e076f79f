"""One layer of an ONNX quantized model as a step of integers.

    codes = clip(y_zero + rint(float32(acc) * r))
    r = x_scale * w_scale / y_scale, rounded to float32 after each operation        (1)

A float32 number has 24 bits, so the 31-bit multiplier holds r exactly.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from refqnn._types import Array, Int
from refqnn.cost import signed_bits
from refqnn.deploy.convert import multipliers
from refqnn.deploy.fold import INT32_MAX, Grid, accumulator_range, check_sums
from refqnn.deploy.steps import LayerStep, PoolStep, Step, Sum, read_only
from refqnn.geometry import output_size, window

ROUNDING = "float32_half_even"


class Weights(NamedTuple):
    """What a layer multiplies with: codes (O, ...), their scales, and the bias."""

    q: Array
    scale: Array
    zero_point: Array
    bias: Array
    attributes: dict[str, Any]


def layer_step(
    what: str, name: str, source: Step, weights: Weights, y: Grid
) -> LayerStep:
    """Return the step of a convolution or a product; ``what`` names it in errors."""
    check_scales(what, weights)
    total, shape = sum_and_shape(what, name, source, weights)
    with np.errstate(over="ignore", under="ignore", divide="ignore"):
        scale = np.float32(source.grid.scale) * per_channel(weights.scale, total)
        ratio = (scale / np.float32(y.scale)).astype(np.float64)  # (1)
    multiplier, shift = multipliers(what, ratio)
    return LayerStep(
        name, source.name, shape, total, multiplier, shift, y, rounding=ROUNDING
    )


def pool_step(what: str, name: str, source: Step, y: Grid) -> PoolStep:
    """Return the step of a global average."""
    if len(source.shape) != 3:
        raise ValueError(f"{what} reads planes, is given shape {source.shape}")
    channels, *plane = source.shape
    pixels, x = math.prod(plane), source.grid
    peak = pixels * x.magnitude()
    if pixels * 255 > INT32_MAX:
        raise ValueError(f"{what}: sums of {pixels} pixels do not fit int32")
    divisor = np.float32(y.scale) * np.float32(pixels)
    ratio = np.array([np.float32(x.scale) / divisor], np.float64)
    multiplier, shift = multipliers(what, ratio)
    return PoolStep(
        name,
        source.name,
        (channels,),
        x.zero_point,
        signed_bits(peak),
        x.scale / pixels,
        multiplier,
        shift,
        y,
        rounding=ROUNDING,
    )


def sum_and_shape(
    what: str, name: str, source: Step, weights: Weights
) -> tuple[Sum, tuple[int, ...]]:
    """Return the accumulators of a layer and the shape of its codes."""
    w = signed_weights(what, weights)
    attributes = weights.attributes
    if attributes.get("auto_pad", "NOTSET") != "NOTSET":
        raise ValueError(f"{what}: auto_pad must be NOTSET, pads written out")
    groups = int(attributes.get("group", 1))
    check_input(what, source, w, groups)
    pads = attributes.get("pads", [0, 0, 0, 0])
    at = window(
        w.shape[2:] or 1,
        stride=tuple(attributes.get("strides", (1, 1))),
        padding=((pads[0], pads[2]), (pads[1], pads[3])),
        dilation=tuple(attributes.get("dilations", (1, 1))),
    )
    shape: tuple[int, ...] = (len(w),)
    if w.ndim == 4:
        _, h, width = source.shape
        shape = (len(w), *output_size((h, width), at))
    step = np.float64(np.float32(source.grid.scale)) * weights.scale.astype(np.float64)
    bias = weights.bias.astype(np.int64)
    low, high = accumulator_range(w, source.grid)
    peak = int(np.abs([low + bias, high + bias]).max())
    if peak > INT32_MAX:
        raise ValueError(f"{what}: sums may reach {peak}, int32 holds {INT32_MAX}")
    total = Sum(
        name,
        read_only(w, np.int8),
        read_only(bias, np.int32),
        read_only(np.zeros(len(w)), np.int32),
        source.grid.zero_point,
        at.stride,
        at.padding,
        at.dilation,
        groups,
        signed_bits(int(np.abs(w.astype(np.int64)).max(initial=1))),
        signed_bits(peak),
        read_only(np.broadcast_to(step.reshape(-1), len(w)), np.float64),
    )
    return total, shape


def signed_weights(what: str, weights: Weights) -> Int:
    """Return codes less their zero-point, int8; raise where they do not fit."""
    zero = weights.zero_point.astype(np.int64).reshape(-1)
    lifted = zero.reshape(-1, *(1,) * (weights.q.ndim - 1))
    w = weights.q.astype(np.int64) - lifted
    if w.ndim not in {2, 4} or w.min(initial=0) < -128 or w.max(initial=0) > 127:
        raise ValueError(
            f"{what}: weights less their zero-point must be int8 of two or four axes, "
            f"got {w.shape}, {w.min(initial=0)} .. {w.max(initial=0)}"
        )
    return w.astype(np.int8)


def check_input(what: str, source: Step, w: Int, groups: int) -> None:
    """Raise unless the source has the shape that the weights read."""
    axes = 3 if w.ndim == 4 else 1
    inputs = w.shape[1] * (groups if w.ndim == 4 else 1)
    if len(source.shape) != axes or source.shape[0] != inputs or len(w) % groups:
        raise ValueError(
            f"{what} reads {inputs} channels of {axes} axes, is given {source.shape}"
        )
    check_sums(what, w, source.grid.zero_point)


def per_channel(scale: Array, total: Sum) -> Array:
    """Return a float32 scale for every output channel."""
    return np.broadcast_to(scale.astype(np.float32).reshape(-1), len(total.w))


def check_scales(what: str, weights: Weights) -> None:
    """Raise unless scale, zero-point and bias have one element a channel, or one."""
    channels = len(weights.q)
    for name, sizes in (("scale", {1, channels}), ("zero_point", {1, channels}),
                        ("bias", {channels})):  # fmt: skip
        size = getattr(weights, name).size
        if size not in sizes:
            raise ValueError(f"{what}: {size} elements of {name}, {channels} channels")
