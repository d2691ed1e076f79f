"""Real numbers to integer codes and back.

    q = clip(round(x / scale) + zero_point, q_min, q_max)                           (1)
    q = clip(round(x / scale + zero_point), q_min, q_max)                           (2)
    x = scale * (q - zero_point)                                                    (3)

(1) is ONNX QuantizeLinear; (2) is TensorFlow's fake quantization with round = half_up.
They differ where round is not symmetric under a shift by zero_point: half_even for an
odd one, half_away across 0. Whether x is divided by the scale or multiplied by its
rounded reciprocal moves inputs next to a tie.

A zero-point in [q_min, q_max] makes real 0 a code; outside it raises.
"""

from typing import Literal

import numpy as np
import numpy.typing as npt

from refqnn._types import Float, Int
from refqnn.integer.checks import (
    as_codes,
    as_integers,
    check_broadcasts,
    check_float,
    check_scale,
    code_dtype,
    zero_point_of,
)
from refqnn.integer.rounding import ROUND, check_rounding

SCALINGS = ("divide", "reciprocal")
ZERO_POINT_WHEN = ("after_rounding", "before_rounding")
OVERFLOWS = ("saturate", "wrap")
NANS = ("raise", "q_min", "q_max", "zero")

Scaling = Literal["divide", "reciprocal"]
ZeroPointWhen = Literal["after_rounding", "before_rounding"]
Overflow = Literal["saturate", "wrap"]
Nan = Literal["raise", "q_min", "q_max", "zero"]


def quantize(
    x: Float,
    scale: npt.ArrayLike,
    zero_point: npt.ArrayLike,
    *,
    q_min: int,
    q_max: int,
    rounding: str = "half_even",
    scaling: Scaling = "divide",
    zero_point_when: ZeroPointWhen = "after_rounding",
    overflow: Overflow = "saturate",
    nan: Nan = "raise",
) -> Int:
    """q = clip(round(x / scale) + zero_point, q_min, q_max)

    x: (...), scale, zero_point: broadcast to x  ->  (...), the smallest signed or
    unsigned dtype that holds [q_min, q_max]

    The scaled value, and the sum in (2), are rounded to the dtype of x (float32 or
    float64), to which scale is rounded too; everything after the rounding is exact.
    Infinities saturate. ``overflow="wrap"`` keeps the low bits: the range must hold 2^b
    codes, and x / scale must be finite. ``nan`` is an error or the code that stands for
    NaN; "zero" is the code of real 0, the zero-point.

    Raises ValueError for x that is not float, scales that are not positive and finite,
    zero-points outside [q_min, q_max] and ranges beyond 32 bits.

    >>> quantize(np.array([-9.0, 0.5, 0.75, 9.0]), 0.5, 1, q_min=0, q_max=15)
    array([ 0,  2,  3, 15], dtype=uint8)
    """
    dtype = code_dtype(q_min, q_max)
    check_quantize(rounding, scaling, zero_point_when, overflow, nan)
    x, s, z = as_operands(x, scale, zero_point, q_min, q_max, scaling=scaling)
    with np.errstate(over="ignore"):
        u = x / s if scaling == "divide" else x * (1 / s)
        u = u + z.astype(x.dtype) if zero_point_when == "before_rounding" else u  # (2)
    t = ROUND[rounding](np.where(np.isnan(x), 0, u)).astype(np.float64)
    late = z if zero_point_when == "after_rounding" else np.zeros_like(z)
    fit = saturate if overflow == "saturate" else wrap
    q = fit(t, late, q_min, q_max)  # (1)
    stand_in = nan_code(x, z, q_min, q_max, nan)
    return np.asarray(np.where(np.isnan(x), stand_in, q).astype(dtype))


def dequantize(q: Int, scale: npt.ArrayLike, zero_point: npt.ArrayLike) -> Float:
    """x = scale * (q - zero_point)

    q: (...), scale, zero_point: broadcast to q  ->  (...), dtype of scale

    The difference is exact; it is rounded to the dtype of scale (a Python float counts
    as float64), then multiplied.

    >>> dequantize(np.array([0, 2, 15], np.uint8), 0.5, 1)
    array([-0.5,  0.5,  7. ])
    """
    q = as_codes("q", q)
    s = np.asarray(scale)
    check_float("scale", s)
    check_scale(s)
    z = zero_point_of("zero_point", zero_point, q)
    check_broadcasts(q, to="q", scale=s, zero_point=z)
    return np.asarray(s * (q.astype(np.int64) - z).astype(s.dtype))  # (3)


def saturate(t: Float, z: Int, q_min: int, q_max: int) -> Int:
    """clip(t + z, q_min, q_max), exact for float64 integers t of any size"""
    return np.clip(t, q_min - z, q_max - z).astype(np.int64) + z


def wrap(t: Float, z: Int, q_min: int, q_max: int) -> Int:
    """Return the value in [q_min, q_max] that equals t + z modulo 2^b."""
    codes = q_max - q_min + 1
    if codes & (codes - 1):
        raise ValueError(
            f'overflow="wrap" needs 2^b codes, [{q_min}, {q_max}] holds {codes}'
        )
    if not np.all(np.isfinite(t)):
        raise ValueError('overflow="wrap" needs finite x / scale')
    low_bits = np.fmod(t, codes).astype(np.int64)
    return (low_bits + z - q_min) % codes + q_min


def nan_code(x: Float, z: Int, q_min: int, q_max: int, nan: Nan) -> Int:
    """Return the code of NaN, or raise where ``nan`` says so and x holds one."""
    if nan == "raise" and np.any(np.isnan(x)):
        raise ValueError(f'x holds {np.isnan(x).sum()} NaN and nan="raise"')
    stand_in = {"raise": z, "q_min": q_min, "q_max": q_max, "zero": z}[nan]
    return np.asarray(stand_in, np.int64)


def as_operands(
    x: Float,
    scale: npt.ArrayLike,
    zero_point: npt.ArrayLike,
    q_min: int,
    q_max: int,
    *,
    scaling: Scaling,
) -> tuple[Float, Float, Int]:
    """Return x, scale in the dtype of x, zero-point in int64; raise if unfit."""
    x = np.asarray(x)
    check_float("x", x)
    given = np.asarray(scale)
    if given.dtype.kind not in "fiu":
        raise ValueError(f"scale must be real numbers, got dtype {given.dtype}")
    with np.errstate(over="ignore", under="ignore"):
        s = given.astype(x.dtype)
        check_scale(s)
        if scaling == "reciprocal" and not np.all(np.isfinite(1 / s)):
            raise ValueError(f"scale {s} has no finite reciprocal in {x.dtype}")
    z = as_integers("zero_point", zero_point, low=q_min, high=q_max)
    check_broadcasts(x, scale=s, zero_point=z)
    return x, s, z


def check_quantize(
    rounding: str, scaling: str, zero_point_when: str, overflow: str, nan: str
) -> None:
    """Raise for an option that is not documented."""
    check_rounding(rounding)
    for name, value, known in (
        ("scaling", scaling, SCALINGS),
        ("zero_point_when", zero_point_when, ZERO_POINT_WHEN),
        ("overflow", overflow, OVERFLOWS),
        ("nan", nan, NANS),
    ):
        if value not in known:
            raise ValueError(f"{name} must be one of {list(known)}, got {value!r}")
