"""Transposed convolution of integer codes: every code spreads its kernel.

    y[n, o, p s + i d - top, q s' + j d' - left]  gets, summed over c, p, q, i and j,
           (x[n, g(o) C/G + c, p, q] - x_zero_point) (w[c, o, i, j] - w_zero_point[o])

    Ho = (H - 1) s - top - bottom + d (Kh - 1) + 1 + output_padding                 (1)

The accumulator bound is equation (2) of ``refqnn.integer.conv``, over all taps.
"""

import numpy as np
import numpy.typing as npt

from refqnn._types import Array, Int
from refqnn.geometry import Padding, Pair, Window, pair, window
from refqnn.integer.checks import as_conv2d_operands
from refqnn.integer.conv import Accumulator, carrier, check_accumulator


def conv_transpose2d(
    x: Int,
    w: Int,
    b: Int | None = None,
    *,
    x_zero_point: npt.ArrayLike = 0,
    w_zero_point: npt.ArrayLike = 0,
    stride: int | Pair = 1,
    padding: Padding = 0,
    output_padding: int | Pair = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
    accumulator: Accumulator = "int32",
) -> Int:
    """Sum what every code spreads over its window, and the bias.

    x: (N, C, H, W), w: (C, O // G, Kh, Kw), b: (O,)  ->  y: (N, O, Ho, Wo), the dtype
    of the accumulator

    Codes of at most 32 bits; x_zero_point is one integer, w_zero_point one or (O,).
    ``padding`` is cut off the result, ``output_padding`` added below and to the right.
    Raises ValueError where shapes, dtypes or zero-points do not fit, where nothing is
    left, and where a sum could exceed the accumulator.

    >>> x = np.array([[[[1, 2]]]], np.int8)
    >>> conv_transpose2d(x, np.array([[[[1, 10]]]], np.int8), stride=(1, 2))
    array([[[[ 1, 10,  2, 20]]]], dtype=int32)
    """
    as_rows = by_output(np.asarray(w), groups)  # (O, C // G, Kh, Kw)
    x, as_rows, b, xz, wz = as_conv2d_operands(
        x,
        as_rows,
        b,
        x_zero_point,
        w_zero_point,
        groups=groups,
        padding_value="zero_point",
    )
    kernel = as_rows.shape[2:]
    at = window(kernel, stride=stride, padding=padding, dilation=dilation)
    extra = pair(output_padding, name="output_padding", least=0)
    centred = as_rows.astype(np.int64) - wz[:, None, None, None]
    bound = check_accumulator(x.dtype, xz, centred, b, accumulator)
    exact = carrier(bound)
    planes = (x.astype(np.int64) - xz).astype(exact)
    y = spread(planes, centred.astype(exact), at, extra, groups)
    (top, bottom), (left, right) = at.padding
    y = y[:, :, top : y.shape[2] - bottom, left : y.shape[3] - right]
    if not y.shape[2] or not y.shape[3]:
        raise ValueError(f"padding {at.padding} leaves nothing")
    if b is not None:
        y = y + b[:, None, None]
    return y.astype(accumulator)


def spread(x: Array, w: Array, at: Window, extra: Pair, groups: int) -> Int:
    """Add the kernel of every value at its place, before padding is cut off.

    x: (N, C, H, W), w: (O, C // G, Kh, Kw)  ->  (N, O, ...) int64, sizes of (1)
    """
    n, c, *size = x.shape
    o, _, *kernel = w.shape
    reach = []
    for k in (0, 1):
        spread_by = at.dilation[k] * (kernel[k] - 1) + 1
        reach.append((size[k] - 1) * at.stride[k] + spread_by + extra[k])  # (1)
    y = np.zeros((n, o, *reach), np.int64)
    planes = x.reshape(n, groups, c // groups, size[0] * size[1])
    taps = w.reshape(groups, o // groups, c // groups, *kernel)
    (sh, sw), (dh, dw) = at.stride, at.dilation
    for i, j in np.ndindex(*kernel):
        # (G, O/G, C/G) . (N, G, C/G, H W) -> (N, G, O/G, H W), for every tap
        part = (taps[..., i, j] @ planes).reshape(n, o, *size).astype(np.int64)
        rows = slice(i * dh, i * dh + (size[0] - 1) * sh + 1, sh)
        cols = slice(j * dw, j * dw + (size[1] - 1) * sw + 1, sw)
        y[:, :, rows, cols] += part
    return y


def by_output(w: Int, groups: int) -> Int:
    """w: (C, O // G, Kh, Kw)  ->  (O, C // G, Kh, Kw)"""
    if w.ndim != 4 or groups < 1 or len(w) % groups:
        raise ValueError(
            f"w must be (C, O // G, Kh, Kw), C a multiple of G = {groups}: w{w.shape}"
        )
    c, o, kh, kw = w.shape
    grouped = w.reshape(groups, c // groups, o, kh, kw).swapaxes(1, 2)
    return grouped.reshape(groups * o, c // groups, kh, kw)
