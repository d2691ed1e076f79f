"""What every integer operation checks before it computes."""

from typing import Any

import numpy as np
import numpy.typing as npt

from refqnn._types import Array, Float, Int

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1


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
    if not np.can_cast(values.dtype, np.int32) or values.dtype == bool:
        as_integers(name, values, low=INT32_MIN, high=INT32_MAX)
    return values


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
