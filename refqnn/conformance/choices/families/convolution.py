"""conv2d and linear: what is multiplied with what, and in what it is summed.

x_p = x surrounded by padding                         (1)   padding_value, _side
c = (x_p - x_zero_point) (w - w_zero_point)           (2)   x_zero_point_use, w_...,
                                                            code_difference
y = bias + sum of c over the window and the group     (3)   kernel, weight_layout,
                                                            group_assignment,
                                                            accumulator, bias
"""

import numpy as np
import numpy.typing as npt

from refqnn import integer
from refqnn._types import Int
from refqnn.conformance.choices.families.convolution_calls import (
    CONV2D,
    LINEAR,
    Padding,
    conv2d_candidates,
    draw_conv2d,
    draw_linear,
    linear_candidates,
    wide_conv2d,
    wide_linear,
)
from refqnn.conformance.choices.families.operands import (
    centre,
    interleave,
    narrow,
    paired_conv2d,
    read_layout,
    sides,
    sum_pairs,
    sum_products,
    used_zero_point,
)
from refqnn.conformance.choices.family import Choices, Family, Outputs, values
from refqnn.geometry import Pair, pad_planes, window
from refqnn.integer.checks import as_zero_points


def conv2d(
    choices: Choices,
    x: Int,
    w: Int,
    b: Int,
    x_zero_point: int,
    w_zero_point: npt.ArrayLike,
    stride: int | Pair,
    padding: Padding,
    dilation: int | Pair,
    groups: int,
) -> Outputs:
    """Equations (1) to (3): the inputs rearranged, then ``integer.conv2d``."""
    as_zero_points(x, w, x_zero_point, w_zero_point)  # raises if unfit
    raw = choices["padding_value"] == "raw_zero"
    at = window((1, 1), stride=1, padding=sides(padding, choices["padding_side"]))
    x = pad_planes(x, at, 0 if raw else x_zero_point)
    w = read_layout(w, choices["weight_layout"], choices["kernel"])
    wz = np.broadcast_to(np.asarray(w_zero_point, np.int64), w.shape[:1])
    if choices["group_assignment"] == "interleaved":
        x = interleave(x, groups, 1)
        w, b, wz = (interleave(a, groups, 0) for a in (w, b, wz))
    z = used_zero_point(x_zero_point, choices["x_zero_point_use"])
    rows = w - used_zero_point(wz, choices["w_zero_point_use"])[:, None, None, None]
    b = b if choices["bias"] == "added" else np.zeros_like(b)
    if choices["accumulator"] == "int16_saturating_pairs" and x.dtype == np.uint8:
        y = paired_conv2d(x, rows, b, z, stride, dilation, groups)
    else:
        codes = centre(x, z, choices["code_difference"])
        y = sum_products(codes, rows, stride, dilation, groups) + b[:, None, None]
    if choices["group_assignment"] == "interleaved":
        y = interleave(y, y.shape[1] // groups, 1)
    return {"y": narrow(y, choices["accumulator"])}


def linear(
    choices: Choices,
    x: Int,
    w: Int,
    b: Int,
    x_zero_point: int,
    w_zero_point: npt.ArrayLike,
) -> Outputs:
    """Equations (2) and (3) without windows."""
    as_zero_points(x, w, x_zero_point, w_zero_point)  # raises if unfit
    if choices["weight_order"] == "IO":
        w = w.reshape(w.shape[::-1]).T
    z = used_zero_point(x_zero_point, choices["x_zero_point_use"])
    wz = used_zero_point(
        np.asarray(w_zero_point, np.int64), choices["w_zero_point_use"]
    )
    rows = w.astype(np.int64) - np.reshape(wz, (-1, 1))
    if choices["accumulator"] == "int16_saturating_pairs" and x.dtype == np.uint8:
        y = sum_pairs(x.astype(np.int64)[:, None] * rows) - z * rows.sum(axis=-1)
    else:
        codes = centre(x, z, choices["code_difference"])
        y = integer.linear(
            codes.astype(np.int32), rows.astype(np.int32), accumulator="int64"
        )
    y = y + b if choices["bias"] == "added" else y
    return {"y": narrow(y, choices["accumulator"])}


def canonical(choices: Choices) -> dict[str, str]:
    """Replace answers by others that provably give the same sums.

    A code from which nothing is subtracted fits its type: that does not wrap.
    Products of 8 and 9 bits overflow 32 bits only where 2^16 and more are summed.
    """
    changed = dict(choices)
    fits = changed["code_difference"] == "wraps_in_type"
    if fits and choices["x_zero_point_use"] == "ignored":
        changed |= {"code_difference": "exact"}
    if choices["code_difference"] == "wraps" and choices["accumulator"] == "int32_wrap":
        changed |= {"accumulator": "int32"}
    return changed


FAMILIES = (
    Family(
        "conv2d",
        (
            "surround: {padding_value}; {padding_side}",
            "{weight_layout}; {kernel}; {group_assignment}",
            "{x_zero_point_use}: {code_difference}; {w_zero_point_use}",
            "{accumulator}; {bias}",
        ),
        values(
            "padding_value",
            "padding_side",
            "kernel",
            "weight_layout",
            "group_assignment",
            "accumulator",
            "x_zero_point_use",
            "w_zero_point_use",
            "code_difference",
            "bias",
        ),
        conv2d,
        conv2d_candidates,
        draw_conv2d,
        canonical=canonical,
        wide=wide_conv2d,
        regions=CONV2D,
    ),
    Family(
        "linear",
        (
            "{weight_order}",
            "{x_zero_point_use}: {code_difference}; {w_zero_point_use}",
            "{accumulator}; {bias}",
        ),
        values(
            "weight_order",
            "accumulator",
            "x_zero_point_use",
            "w_zero_point_use",
            "code_difference",
            "bias",
        ),
        linear,
        linear_candidates,
        draw_linear,
        canonical=canonical,
        wide=wide_linear,
        regions=LINEAR,
    ),
)
