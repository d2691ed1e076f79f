"""One layer of an ONNX quantized model as a step of integers.

    codes = clip(y_zero + rint(float32(acc) * r))
    r = x_scale * w_scale / y_scale, rounded to float32 after each operation        (1)

A float32 number has 24 bits, so the 31-bit multiplier holds r exactly.
"""

from typing import Any, NamedTuple

import numpy as np

from refqnn._types import Array, Int
from refqnn.cost import signed_bits
from refqnn.deploy.build import output_shape
from refqnn.deploy.fold import INT32_MAX, accumulator_range, check_sums
from refqnn.deploy.steps import Step, Sum
from refqnn.geometry import window

ROUNDING = "float32_half_even"


class Weights(NamedTuple):
    """What a layer multiplies with: codes (O, ...), their scales, and the bias."""

    q: Array
    scale: Array
    zero_point: Array
    bias: Array
    attributes: dict[str, Any]


def weighted_sum(
    what: str, name: str, source: Step, weights: Weights
) -> tuple[Sum, tuple[int, ...]]:
    """Return the accumulators of a layer and their shape; errors call it ``what``."""
    check_scales(what, weights)
    w = signed_weights(what, weights)
    attributes, x = weights.attributes, source.grid
    if attributes.get("auto_pad", "NOTSET") != "NOTSET":
        raise ValueError(f"{what}: auto_pad must be NOTSET, pads written out")
    groups = int(attributes.get("group", 1))
    pads = attributes.get("pads", [0, 0, 0, 0])
    at = window(
        w.shape[2:] or 1,
        stride=tuple(attributes.get("strides", (1, 1))),
        padding=((pads[0], pads[2]), (pads[1], pads[3])),
        dilation=tuple(attributes.get("dilations", (1, 1))),
    )
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
        signed_bits(int(np.abs(w.astype(np.int64)).max(initial=1))),
        signed_bits(peak),
        np.broadcast_to(step.reshape(-1), len(w)),
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


def check_scales(what: str, weights: Weights) -> None:
    """Raise unless scale, zero-point and bias have one element a channel, or one."""
    channels = len(weights.q)
    for name, sizes in (("scale", {1, channels}), ("zero_point", {1, channels}),
                        ("bias", {channels})):  # fmt: skip
        size = getattr(weights, name).size
        if size not in sizes:
            raise ValueError(f"{what}: {size} elements of {name}, {channels} channels")
