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

from refqnn._types import Array, Int
from refqnn.geometry import (
    Padding,
    Pair,
    Window,
    output_size,
    pad_planes,
    window,
    windows,
)
from refqnn.integer.checks import as_codes, as_integers, zero_point_of

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
        x, w, b, x_zero_point, w_zero_point, groups=groups
    )
    check_padding_value(padding_value)
    at = window(w.shape[2:], stride=stride, padding=padding, dilation=dilation)
    output_size(x.shape[2:], at)
    centred_w = w.astype(np.int64) - wz[:, None, None, None]
    bound = check_accumulator(x.dtype, xz, centred_w, b, accumulator)
    fill = xz if padding_value == "zero_point" else 0
    centred_x = pad_planes(x.astype(np.int64), at, fill) - xz
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
    sums = np.abs(w).reshape(w.shape[0], -1).sum(axis=1).tolist()
    biases = [0] * w.shape[0] if b is None else b.tolist()
    return [reach * s + abs(bias) for s, bias in zip(sums, biases, strict=True)]


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


def as_conv2d_operands(
    x: Int,
    w: Int,
    b: Int | None,
    x_zero_point: npt.ArrayLike,
    w_zero_point: npt.ArrayLike,
    *,
    groups: int,
) -> tuple[Int, Int, Int | None, int, Int]:
    """Return codes, bias and zero-points (w's as (O,)); raise if they do not fit."""
    x, w = as_codes("x", x), as_codes("w", w)
    if x.ndim != 4 or w.ndim != 4:
        raise ValueError(
            f"x must be (N, C, H, W) and w (O, C // G, Kh, Kw): x{x.shape}, w{w.shape}"
        )
    check_groups(x, w, groups)
    return x, w, as_bias(b, w), *as_zero_points(x, w, x_zero_point, w_zero_point)


def check_groups(x: Array, w: Array, groups: int) -> None:
    """Raise where groups do not divide the channels, or x and w disagree on C // G."""
    if isinstance(groups, bool) or not isinstance(groups, int) or groups < 1:
        raise ValueError(f"groups must be an int of at least 1, got {groups!r}")
    c, o = x.shape[1], w.shape[0]
    if c % groups or o % groups:
        raise ValueError(f"groups = {groups} must divide C = {c} and O = {o}")
    if w.shape[1] != c // groups:
        raise ValueError(
            f"x (N, C, H, W) and w (O, C // G, Kh, Kw) disagree on C // G: "
            f"x{x.shape}, w{w.shape}, G = {groups}"
        )


def as_bias(b: Int | None, w: Int) -> Int | None:
    """Return the bias in int64; raise unless it is None or (O,) integers."""
    if b is None:
        return None
    limit = np.iinfo(np.int64)
    bias = as_integers("b", b, low=limit.min, high=limit.max)
    if bias.shape != w.shape[:1]:
        raise ValueError(
            f"b (O,) and w (O, ...) disagree on O: b{bias.shape}, w{w.shape}"
        )
    return bias


def as_zero_points(
    x: Int, w: Int, x_zero_point: npt.ArrayLike, w_zero_point: npt.ArrayLike
) -> tuple[int, Int]:
    """Return one zero-point for x and (O,) for w; raise if their dtypes lack them."""
    xz = zero_point_of("x_zero_point", x_zero_point, x)
    wz = zero_point_of("w_zero_point", w_zero_point, w)
    if xz.ndim != 0:
        raise ValueError(f"x_zero_point must be one integer, got shape {xz.shape}")
    if wz.shape not in ((), w.shape[:1]):
        raise ValueError(
            f"w_zero_point must be one integer or (O,): "
            f"w_zero_point{wz.shape}, w{w.shape}"
        )
    return int(xz), np.broadcast_to(wz, w.shape[:1])


def check_padding_value(padding_value: str) -> None:
    """Raise unless ``padding_value`` is one of the two names."""
    if padding_value not in ("zero_point", "raw_zero"):
        raise ValueError(
            f"padding_value must be 'zero_point' or 'raw_zero', got {padding_value!r}"
        )
