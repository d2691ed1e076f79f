"""Two-dimensional convolution of integer codes.

    y[n, o, p, q] = b[o] + sum_{c, i, j} (w[o, c, i, j] - w_zero_point[o])
           * (x_padded[n, g(o) C/G + c, p s + i d, q s + j d] - x_zero_point)       (1)

    bound[o] = max |x - x_zero_point| * sum |w[o] - w_zero_point[o]| + |b[o]|       (2)

(2) takes the maximum over every code the dtype of x can hold. While it is at most the
largest value of the accumulator no partial sum, in any order, leaves it: the result is
the same on every machine. Otherwise (1) is not computed but refused.
"""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from refqnn._types import Int
from refqnn.geometry import (
    Padding,
    Pair,
    Window,
    output_size,
    pad_planes,
    window,
    windows,
)
from refqnn.integer.checks import as_conv2d_operands

Accumulator = Literal["int32", "int64"]
PaddingValue = Literal["zero_point", "raw_zero"]


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
    """y[n, o, p, q] = b[o] + sum of (w - w_zero_point) * (x_padded - x_zero_point)

    x: (N, C, H, W), w: (O, C // G, Kh, Kw), b: (O,)  ->  y: (N, O, Ho, Wo), the dtype
    of the accumulator

    Codes of at most 32 bits; x_zero_point is one integer, w_zero_point one or (O,).
    Planes are surrounded by ``x_zero_point``, which is real 0, or by the code 0.
    Raises ValueError where shapes, dtypes or zero-points do not fit, and where the
    bound (2) exceeds the accumulator.

    >>> x = np.arange(9, dtype=np.int8).reshape(1, 1, 3, 3)
    >>> conv2d(x, np.ones((1, 1, 2, 2), np.int8), x_zero_point=1)
    array([[[[ 4,  8],
             [16, 20]]]], dtype=int32)
    """
    x, w, b, xz, wz = as_conv2d_operands(
        x,
        w,
        b,
        x_zero_point,
        w_zero_point,
        groups=groups,
        padding_value=padding_value,
    )
    at = window(w.shape[2:], stride=stride, padding=padding, dilation=dilation)
    output_size(x.shape[2:], at)  # raises where no window fits
    fill = xz if padding_value == "zero_point" else 0
    centred_x = pad_planes(x.astype(np.int64), at, fill) - xz
    centred_w = w.astype(np.int64) - wz[:, None, None, None]
    bound = check_accumulator(x.dtype, xz, centred_w, b, accumulator)
    y = correlate(centred_x, centred_w, at, groups, carrier(bound))  # (1)
    if b is not None:
        y += b[:, None, None]
    return y.astype(accumulator)


def correlate(
    x_padded: Int, w: Int, at: Window, groups: int, dtype: np.dtype[Any]
) -> Int:
    """Equation (1) for centred, padded codes and without the bias, in int64.

    x_padded: (N, C, Hp, Wp), w: (O, C // G, Kh, Kw)  ->  (N, O, Ho, Wo)
    """
    n = x_padded.shape[0]
    o, cg, kh, kw = w.shape
    seen = windows(x_padded.astype(dtype), at)
    ho, wo = seen.shape[2:4]
    k = cg * kh * kw
    columns = seen.reshape(n, groups, cg, ho, wo, kh, kw).transpose(0, 1, 2, 5, 6, 3, 4)
    rows = w.reshape(groups, o // groups, k).astype(dtype)
    # (G, O/G, K) . (N, G, K, Ho Wo) -> (N, G, O/G, Ho Wo)
    y = rows @ columns.reshape(n, groups, k, ho * wo)
    return y.reshape(n, o, ho, wo).astype(np.int64)


def carrier(bound: int) -> np.dtype[Any]:
    """Return a dtype whose sums are exact up to ``bound``.

    float64 counts exactly up to 2^53, and its matrix products are fast.

    >>> carrier(2**53), carrier(2**53 + 1)
    (dtype('float64'), dtype('int64'))
    """
    return np.dtype(np.float64 if bound <= 1 << 53 else np.int64)


def accumulator_bound(
    x_dtype: np.dtype[Any], x_zero_point: int, w: Int, b: Int | None
) -> list[int]:
    """Return bound (2) of every output channel, for weights less their zero-point.

    w: (O, ...), b: (O,)  ->  one int for each o

    >>> accumulator_bound(np.dtype(np.uint8), 128, np.array([[1, -2]]), np.array([5]))
    [389]
    """
    info = np.iinfo(x_dtype)
    reach = max(info.max - x_zero_point, x_zero_point - info.min)
    rows = w.reshape(w.shape[0], -1)  # |-128| is no int8
    sums = np.maximum(rows, 0).sum(axis=1, dtype=np.int64).astype(object)
    sums -= np.minimum(rows, 0).sum(axis=1, dtype=np.int64)
    bound = reach * sums + (0 if b is None else np.abs(b.astype(object)))  # (2)
    return list(bound)


def check_accumulator(
    x_dtype: np.dtype[Any], x_zero_point: int, w: Int, b: Int | None, accumulator: str
) -> int:
    """Return the largest bound (2); raise where it exceeds the accumulator."""
    if accumulator not in ("int32", "int64"):
        raise ValueError(f"accumulator must be 'int32' or 'int64', got {accumulator!r}")
    limit = np.iinfo(accumulator).max
    bounds = accumulator_bound(x_dtype, x_zero_point, w, b)
    worst = max(bounds, default=0)
    if worst > limit:
        raise ValueError(
            f"output channel {bounds.index(worst)} could reach "
            f"max|x - x_zero_point| * sum|w - w_zero_point| + |b| = {worst}, "
            f"{accumulator} holds {limit}"
        )
    return worst
