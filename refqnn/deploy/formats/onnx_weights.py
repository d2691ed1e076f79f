"""Constant weights of an ONNX layer as the accumulators of a step.

    acc = bias + sum (w - w_zero) (x - x_zero),    one step of it is x_scale w_scale
    codes = clip(y_zero + rint(float32(acc) * r))
    r = x_scale * w_scale / y_scale, rounded to float32 after each operation        (1)

A float32 number has 24 bits, so the 31-bit multiplier holds r exactly. Weights less
their zero-point have up to 9 bits: uint8 codes with any zero-point fit.
"""

from typing import Any, NamedTuple

import numpy as np

from refqnn._types import Array, Int
from refqnn.cost import signed_bits
from refqnn.deploy.build import output_shape, weight_bits
from refqnn.deploy.fold import INT32_MAX, accumulator_range, check_sums
from refqnn.deploy.formats.onnx_windows import window_of
from refqnn.deploy.steps import Step, Sum
from refqnn.geometry import window

ROUNDING = "float32_half_even"


class Weights(NamedTuple):
    """The weights of a layer: codes (O, ...), their scales, and the bias."""

    q: Array
    scale: Array
    zero_point: Array
    bias: Array
    attributes: dict[str, Any]


def weighted_sum(
    what: str, name: str, source: Step, weights: Weights, *, bits: int = 8
) -> tuple[Sum, tuple[int, ...]]:
    """Return the accumulators of a layer and their shape; errors call it ``what``.

    ``bits`` are the most that a code of the source may have.
    """
    check_sizes(what, weights)
    w = centred_weights(what, weights)
    x, groups = source.grid, int(weights.attributes.get("group", 1))
    if 8 * x.dtype.itemsize > bits:
        raise ValueError(f"{what}: the codes that it reads must have {bits} bits")
    at = window(1)
    if w.ndim == 4:
        kernel = (w.shape[2], w.shape[3])
        at = window_of(weights.attributes, kernel, source.shape, what)
    shape = output_shape(what, w, at, groups, source.shape)
    check_sums(what, w, x.zero_point)
    step = np.float64(np.float32(x.scale)) * weights.scale.astype(np.float64)
    bias = weights.bias.astype(np.int64)
    low, high = accumulator_range(w, x)
    peak = int(np.abs([low + bias, high + bias]).max())
    if peak > INT32_MAX:
        raise ValueError(f"{what}: sums may reach {peak}, int32 holds {INT32_MAX}")
    total = Sum(
        name,
        w,
        bias.astype(np.int32),
        np.zeros(len(w), np.int32),
        x.zero_point,
        at.stride,
        at.padding,
        at.dilation,
        groups,
        weight_bits(w),
        signed_bits(peak),
        np.broadcast_to(step.reshape(-1), len(w)),
    )
    return total, shape


def centred_weights(what: str, weights: Weights) -> Int:
    """Return codes less their zero-point: int8, or int16 where they need 9 bits."""
    q, zero = weights.q, weights.zero_point.astype(np.int16).reshape(-1)
    if q.ndim not in {2, 4} or q.dtype.itemsize > 1:
        raise ValueError(
            f"{what}: weights must have 8 bits and two or four axes, got "
            f"{q.dtype} {q.shape}"
        )
    w = q.astype(np.int16) - zero.reshape(-1, *(1,) * (q.ndim - 1))
    narrow = w.min(initial=0) >= -128 and w.max(initial=0) <= 127
    return w.astype(np.int8 if narrow else np.int16)


def check_sizes(what: str, weights: Weights) -> None:
    """Raise unless scale, zero-point and bias have one element a channel, or one."""
    channels = len(weights.q)
    for name, sizes in (("scale", {1, channels}), ("zero_point", {1, channels}),
                        ("bias", {channels})):  # fmt: skip
        size = getattr(weights, name).size
        if size not in sizes:
            raise ValueError(f"{what}: {size} elements of {name}, {channels} channels")
