"""Numba twin of ``refqnn.integer.conv``: exact sums of bytes, or of pairs of int16.

Codes and weights that fit 8 bits are one step of the machine, which multiplies four at
once. While both factors fit int16 and the bound of the definition fits int32, two
channels share an int32 and one step multiplies and adds both. Wider codes are carried
by float64, which holds every integer up to 2^53; beyond that the definition computes. A
sum of integers that fit is exact in any order.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from refqnn import fast
from refqnn._types import Int
from refqnn.fast.ops.conv import correlate
from refqnn.fast.planes import forward_axis
from refqnn.geometry import Padding, Pair, Window, output_size, pad_planes, window
from refqnn.integer.checks import as_conv2d_operands
from refqnn.integer.conv import Accumulator, PaddingValue, check_accumulator
from refqnn.integer.conv import correlate as correlate_definition


def conv2d(
    x: Int,
    w: Int,
    b: Int | None = None,
    *,
    x_zero_point: npt.ArrayLike = 0,
    w_zero_point: npt.ArrayLike = 0,
    stride: int | Pair = 1,
    padding: Padding = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
    padding_value: PaddingValue = "zero_point",
    accumulator: Accumulator = "int32",
) -> Int:
    """See ``refqnn.integer.conv2d``."""
    x, w, b, xz, wz = as_conv2d_operands(
        x, w, b, x_zero_point, w_zero_point, groups=groups, padding_value=padding_value
    )
    at = window(w.shape[2:], stride=stride, padding=padding, dilation=dilation)
    ho, wo = output_size(x.shape[2:], at)
    centred = w.astype(np.int64) - wz[:, None, None, None]
    bound = check_accumulator(x.dtype, xz, centred, b, accumulator)
    if padding_value == "raw_zero":
        x, at = pad_planes(x, at), at._replace(padding=((0, 0), (0, 0)))
    bias = np.zeros(len(w), np.int64) if b is None else b
    number = carrier(x.dtype, xz, centred, bound)
    size = (x.shape[0], w.shape[0], ho, wo)
    if number == np.int8 and centred.size and np.prod(size):
        w8 = centred.astype(np.int8)
        return sum_bytes(x, xz, w8, bias, at, groups).astype(accumulator, copy=False)
    wide = pad_planes(x.astype(np.int64), at, xz) - xz
    if number == np.int64:
        y = correlate_definition(wide, centred, at, groups, number)
        return (y + bias[:, None, None]).astype(accumulator)
    number = np.result_type(number, np.int16)
    at = at._replace(padding=((0, 0), (0, 0)))
    y = np.empty(size, np.int32 if number == np.int16 else np.float64)
    rows = forward_axis(wide.shape[2], ho, 0, at)
    cols = forward_axis(wide.shape[3], wo, 1, at)
    x, w, b = wide.astype(number), centred.astype(number), bias.astype(y.dtype)
    correlate(x, w, b, y, rows, cols, groups=groups)
    return y.astype(accumulator, copy=False)


def sum_bytes(
    x: Int, x_zero_point: int, w: Int, bias: Int, at: Window, groups: int
) -> Int:
    """bias + sum of w (x - x_zero_point), modulo 2^32

    x: (N, C, H, W) of 8 bits, w: (O, C // G, Kh, Kw) int8  ->  (N, O, Ho, Wo) int32
    """
    info, steps = np.iinfo(x.dtype), fast.program.Program()
    codes = fast.program.Codes(info.min, info.max, x_zero_point)
    source = steps.load(x.shape[1:], codes)
    steps.store(steps.sum(source, w, bias, at, None, groups=groups))
    return steps.run(x)[0]


def carrier(
    x_dtype: np.dtype[Any], x_zero_point: int, w: Int, bound: int
) -> np.dtype[Any]:
    """Return the dtype of the weights that carries sums up to ``bound`` exactly.

    w: (O, ...), less their zero-point  ->  int8, int16, float64 or int64

    >>> w, x_dtype = np.array([-128, 127]), np.dtype(np.uint8)
    >>> carrier(x_dtype, 0, w, 65_025), carrier(x_dtype, 0, w, 2**40)
    (dtype('int8'), dtype('float64'))
    """
    info, bytes_ = np.iinfo(x_dtype), np.iinfo(np.int8)
    low, high = int(w.min(initial=0)), int(w.max(initial=0))
    if info.bits == 8 and bound < 2**31 and bytes_.min <= low and high <= bytes_.max:
        return np.dtype(np.int8)
    reach = max(info.max - x_zero_point, x_zero_point - info.min)
    factor = max(reach, -low, high)
    if factor < 2**15 and bound < 2**31:
        return np.dtype(np.int16)
    return np.dtype(np.float64 if bound <= 2**53 else np.int64)
