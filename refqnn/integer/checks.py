"""Checks of operands that every integer operation makes before it computes."""

from typing import Any

import numpy as np
import numpy.typing as npt

from refqnn._types import Array, Float, Int

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1
#: of a requantization, to either side
MAX_SHIFT = 31


def code_dtype(q_min: int, q_max: int) -> np.dtype[Any]:
    """Return the smallest integer dtype that holds [q_min, q_max], unsigned if it can.

    Raises ValueError unless the range is int32's or uint32's or lies within one.

    >>> code_dtype(0, 15), code_dtype(-8, 7), code_dtype(-129, 0)
    (dtype('uint8'), dtype('int8'), dtype('int16'))
    """
    for name, bound in (("q_min", q_min), ("q_max", q_max)):
        if isinstance(bound, bool | np.bool_) or not isinstance(
            bound, int | np.integer
        ):
            raise ValueError(f"{name} must be an int, got {bound!r}")  # noqa: TRY004 - bad values are ValueErrors in this house
    if q_min > q_max:
        raise ValueError(f"q_min = {q_min} must not exceed q_max = {q_max}")
    kind = "ui"[q_min < 0]
    for size in (1, 2, 4):
        dtype = np.dtype(f"{kind}{size}")
        if np.iinfo(dtype).min <= q_min and q_max <= np.iinfo(dtype).max:
            return dtype
    raise ValueError(f"[q_min, q_max] = [{q_min}, {q_max}] needs more than 32 bits")


def as_codes(name: str, array: npt.ArrayLike) -> Int:
    """Return ``array`` if its dtype is an integer of at most 32 bits; raise otherwise.

    >>> as_codes("x", np.array([1, 2], np.int8))
    array([1, 2], dtype=int8)
    """
    codes = np.asarray(array)
    if codes.dtype.kind not in "iu" or codes.dtype.itemsize > 4:
        raise ValueError(
            f"{name} must have an integer dtype of at most 32 bits, got {codes.dtype}"
        )
    return codes


def as_int32_values(name: str, array: npt.ArrayLike) -> Int:
    """Return ``array`` as it is; raise unless integers, every one an int32 value.

    >>> as_int32_values("acc", np.array([2**31 - 1]))
    array([2147483647])
    """
    values = np.asarray(array)
    if values.dtype != np.int32 and not fits_int32(values):
        as_integers(name, values, low=INT32_MIN, high=INT32_MAX)
    return values


def fits_int32(values: Array) -> bool:
    """Return whether all are integers and int32 values; the dtype may be wider."""
    if values.dtype.kind not in "iu" or np.can_cast(values.dtype, np.int32):
        return values.dtype.kind in "iu"
    low, high = values.min(initial=0), values.max(initial=0)
    return bool(low >= INT32_MIN and high <= INT32_MAX)


def as_integers(name: str, array: npt.ArrayLike, *, low: int, high: int) -> Int:
    """Return ``array`` in int64; raise unless integers within [low, high].

    >>> as_integers("zero_point", 3, low=0, high=255)
    array(3)
    """
    values = np.asarray(array)
    if values.dtype.kind not in "iu":
        raise ValueError(f"{name} must be integer, got dtype {values.dtype}")
    if values.size and (values.min() < low or values.max() > high):
        raise ValueError(
            f"{name} must lie in [{low}, {high}], got {values.min()} .. {values.max()}"
        )
    return values.astype(np.int64)


def zero_point_of(name: str, zero_point: npt.ArrayLike, codes: Int) -> Int:
    """Return the zero-point in int64; raise unless the dtype of the codes holds it."""
    info = np.iinfo(codes.dtype)
    return as_integers(name, zero_point, low=info.min, high=info.max)


def check_float(name: str, x: Array) -> None:
    """Raise unless ``x`` is a float32 or float64 array."""
    if x.dtype not in (np.float32, np.float64):
        raise ValueError(f"{name} must be float32 or float64, got {x.dtype}")


def check_scale(scale: Float) -> None:
    """Raise unless every scale is a positive finite number."""
    if not np.all(np.isfinite(scale) & (scale > 0)):
        raise ValueError(f"scale must be positive and finite, got {scale}")


def check_broadcasts(x: Array, *, to: str = "x", **others: Array) -> None:
    """Raise unless every other array broadcasts to the shape of ``x``.

    >>> check_broadcasts(np.zeros((2, 3)), scale=np.ones(3))
    """
    for name, other in others.items():
        lead = x.ndim - other.ndim
        narrow = np.not_equal(other.shape, 1)
        if lead < 0 or np.any(narrow & np.not_equal(other.shape, x.shape[lead:])):
            raise ValueError(
                f"{name} must broadcast to {to}: {name}{other.shape}, {to}{x.shape}"
            )


def as_conv2d_operands(
    x: Int,
    w: Int,
    b: Int | None,
    x_zero_point: npt.ArrayLike,
    w_zero_point: npt.ArrayLike,
    *,
    groups: int,
    padding_value: str,
) -> tuple[Int, Int, Int | None, int, Int]:
    """Return codes, bias and zero-points (w's as (O,)); raise if they do not fit."""
    x, w = as_codes("x", x), as_codes("w", w)
    if x.ndim != 4 or w.ndim != 4:
        raise ValueError(
            f"x must be (N, C, H, W) and w (O, C // G, Kh, Kw): x{x.shape}, w{w.shape}"
        )
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
    if padding_value not in ("zero_point", "raw_zero"):
        raise ValueError(
            f"padding_value must be 'zero_point' or 'raw_zero', got {padding_value!r}"
        )
    b = None if b is None else as_bias(b, w)
    return x, w, b, *as_zero_points(x, w, x_zero_point, w_zero_point)


def as_bias(b: Int, w: Int) -> Int:
    """Return the bias in int64; raise unless it is (O,) integers."""
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
    codes, weights = np.iinfo(x.dtype), np.iinfo(w.dtype)
    xz = as_integers("x_zero_point", x_zero_point, low=codes.min, high=codes.max)
    wz = as_integers("w_zero_point", w_zero_point, low=weights.min, high=weights.max)
    if xz.ndim != 0:
        raise ValueError(f"x_zero_point must be one integer, got shape {xz.shape}")
    if wz.shape not in ((), w.shape[:1]):
        raise ValueError(
            f"w_zero_point must be one integer or (O,): "
            f"w_zero_point{wz.shape}, w{w.shape}"
        )
    return int(xz), np.broadcast_to(wz, w.shape[:1])


def as_linear_operands(
    x: Int,
    w: Int,
    b: Int | None,
    x_zero_point: npt.ArrayLike,
    w_zero_point: npt.ArrayLike,
) -> tuple[Int, Int, Int | None, int, Int]:
    """Return codes, bias and zero-points (w's as (O,)); raise if they do not fit."""
    x, w = as_codes("x", x), as_codes("w", w)
    if x.ndim != 2 or w.ndim != 2 or x.shape[1] != w.shape[1]:
        raise ValueError(f"x (N, I) and w (O, I) disagree on I: x{x.shape}, w{w.shape}")
    b = None if b is None else as_bias(b, w)
    return x, w, b, *as_zero_points(x, w, x_zero_point, w_zero_point)


def as_requantize_operands(
    acc: Int,
    multiplier: npt.ArrayLike,
    shift: npt.ArrayLike,
    zero_point: npt.ArrayLike,
    q_min: int,
    q_max: int,
    *,
    wide: bool = False,
) -> tuple[np.dtype[Any], Int, Int, Int, Int]:
    """Return the dtype of [q_min, q_max], acc, and the rest in int64; raise if unfit.

    Accumulators are int32 values in any dtype, or int64 with ``wide``.
    """
    dtype = code_dtype(q_min, q_max)
    acc = np.asarray(acc)
    if not wide or acc.dtype != np.int64:
        acc = as_int32_values("acc", acc)
    m = as_integers("multiplier", multiplier, low=0, high=INT32_MAX)
    e = as_integers("shift", shift, low=-MAX_SHIFT, high=MAX_SHIFT)
    z = as_integers("zero_point", zero_point, low=q_min, high=q_max)
    check_broadcasts(acc, to="acc", multiplier=m, shift=e, zero_point=z)
    return dtype, acc, m, e, z


def as_skip_operands(
    acc: Int, skip: Int, skip_multiplier: npt.ArrayLike
) -> tuple[Int, Int]:
    """Return skip, and its multiplier in int64; raise if they do not fit acc."""
    skip = as_int32_values("skip", skip)
    m = as_integers("skip_multiplier", skip_multiplier, low=0, high=INT32_MAX)
    if skip.shape != acc.shape:
        raise ValueError(f"acc and skip must agree: acc{acc.shape}, skip{skip.shape}")
    check_broadcasts(acc, to="acc", skip_multiplier=m)
    return skip, m
