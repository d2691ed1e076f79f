"""One builder of each kind of step, for trained networks and for files of others.

layer_step      sums of products, one requantization
pool_step       the mean of every plane, one requantization
multipliers     real ratios -> integer multipliers and shifts
output_shape    the shape that weights make of the shape they read
weight_bits     the bits of the widest weight
"""

import math

import numpy as np

from refqnn._types import Array, Float, Int
from refqnn.cost import signed_bits
from refqnn.deploy.fold import INT32_MAX, Grid
from refqnn.deploy.steps import LayerStep, PoolStep, Shape, Shortcut, Step, Sum
from refqnn.geometry import Window, output_size
from refqnn.integer import quantize_multiplier

#: the rounding whose ratios are made in float32, in the order of onnxruntime
FLOAT32 = "float32_half_even"
#: ratios that a shift in [-31, 31] reaches; below, no int32 moves by half a code
LEAST_RATIO, MOST_RATIO = 2.0**-32, 2.0**31


def layer_step(
    name: str, source: Step, total: Sum, shape: Shape, y: Grid, rounding: str
) -> LayerStep:
    """Requantize the sums of a layer that reads the codes of ``source`` to grid ``y``.

    Raises ValueError, naming layer and channel, for a ratio that no shift reaches.
    """
    ratio = sum_ratio(total, source.grid, y, rounding)
    scaling = multipliers(name, ratio)
    return LayerStep(total.name, source.name, shape, total, *scaling, y, rounding)


def pool_step(what: str, name: str, source: Step, y: Grid, rounding: str) -> PoolStep:
    """Fold 1 / (H W) into the multiplier of the pooled codes; errors call it ``what``.

    Raises ValueError where the source has no planes or int32 does not hold the sums.
    """
    if len(source.shape) != 3:
        raise ValueError(f"{what} reads planes, is given shape {source.shape}")
    channels, *plane = source.shape
    pixels, x = math.prod(plane), source.grid
    z, scale = x.zero_point, x.scale / pixels
    if pixels * max(255 - z, z) > INT32_MAX:
        raise ValueError(f"{what}: sums of {pixels} pixels do not fit int32")
    ratio = np.array([scale / y.scale])
    if rounding == FLOAT32:
        divisor = np.float32(y.scale) * np.float32(pixels)
        ratio = np.array([np.float32(x.scale) / divisor], np.float64)
    bits = signed_bits(pixels * x.magnitude())
    scaling = multipliers(what, ratio)
    return PoolStep(
        name, source.name, (channels,), z, bits, scale, *scaling, y, rounding
    )


def output_shape(name: str, w: Array, at: Window, groups: int, x: Shape) -> Shape:
    """w: (O, C / G, Kh, Kw) or (O, I), x: (C, H, W) or (I,)  ->  (O, Ho, Wo) or (O,)

    Raises ValueError, naming the layer, where the weights read another shape.
    """
    channels = w.shape[1] * groups
    if len(x) != w.ndim - 1 or x[0] != channels or len(w) % groups:
        raise ValueError(
            f"{name} reads {channels} channels of {w.ndim - 1} axes, is given shape {x}"
        )
    return (len(w), *output_size((x[1], x[2]), at)) if w.ndim == 4 else (len(w),)


def weight_bits(w: Int) -> int:
    """Return the bits of the signed number that the widest weight needs, 2 at least.

    >>> weight_bits(np.array([-128, 127])), weight_bits(np.array([-129]))
    (8, 9)
    """
    return signed_bits(max(int(w.max(initial=1)), -int(w.min(initial=0)) - 1))


def sum_ratio(total: Sum | Shortcut, x: Grid, y: Grid, rounding: str) -> Float:
    """Return how many codes of ``y`` one step of the accumulators is worth: (O,)

    In the order and the precision of onnxruntime where the rounding is float32's.
    """
    if rounding != FLOAT32:
        return np.asarray(total.scale / y.scale)
    if isinstance(total, Shortcut):
        return np.asarray(np.float32(x.scale) / np.float32(y.scale), np.float64)
    w_scale = float32_weight_scale(total, x)
    with np.errstate(over="ignore", under="ignore", divide="ignore"):
        ratio = np.float32(x.scale) * w_scale / np.float32(y.scale)
    return np.ldexp(ratio.astype(np.float64), -total.fraction_bits)


def float32_weight_scale(total: Sum, x: Grid) -> Float:
    """s_w = A / s_x of every output channel in float32: (O,)"""
    step = np.ldexp(total.scale, total.fraction_bits)
    return (step / np.float64(np.float32(x.scale))).astype(np.float32)


def multipliers(name: str, ratio: Float) -> tuple[Int, Int]:
    """Return multiplier and shift of every ratio: (O,) -> (O,) int32, (O,) int32."""
    check_ratios(name, ratio)
    return quantize_multiplier(ratio)


def check_ratios(name: str, ratio: Float) -> None:
    """Raise, naming layer and channel, for a ratio that no shift reaches.

    ratio: output codes per step of the accumulator, (O,)
    """
    wrong = (ratio < LEAST_RATIO) | (ratio >= MOST_RATIO)
    if wrong.any():
        c = int(np.argmax(wrong))
        raise ValueError(
            f"{name} channel {c}: the folded scale is {ratio[c]:.3g} output codes per "
            "step of the accumulator, outside [2^-32, 2^31)"
        )
