"""The integer operations of a deployed network in float64: a fake-quantized network.

Every array holds integers, so every function gives exactly what its namesake in
``refqnn.integer`` gives while all sums and products stay below 2^53, the largest number
up to which float64 holds every integer. Beyond it they raise a ValueError.

    sum |w| max|x - z| < 2^53,    |acc| m + |skip| m_2 < 2^53                       (1)

With m < 2^31 the second holds for every accumulator below 2^22 (2^21 of a sum of two).
"""

from typing import Any

import numpy as np

from refqnn._types import Array, Float
from refqnn.ops import conv2d as float_conv2d
from refqnn.ops import linear as float_linear

EXACT = 2.0**53


def conv2d(x: Array, w: Array, *, x_zero_point: int = 0, **window: Any) -> Float:
    """x: (N, C, H, W), w: (O, C / groups, Kh, Kw)  ->  (N, O, Ho, Wo) float64"""
    x, w = x.astype(np.float64) - x_zero_point, w.astype(np.float64)
    check_sums(x, w)
    return float_conv2d(x, w, **window)[0]


def linear(x: Array, w: Array, *, x_zero_point: int = 0) -> Float:
    """x: (N, I), w: (O, I)  ->  (N, O) float64

    >>> linear(np.array([[4, 1]]), np.array([[2, -3]]), x_zero_point=1)
    array([[6.]])
    """
    x, w = x.astype(np.float64) - x_zero_point, w.astype(np.float64)
    check_sums(x, w)
    return float_linear(x, w)[0]


def sum_pool2d(x: Array, *, zero_point: int = 0) -> Float:
    """x: (N, C, H, W)  ->  (N, C) float64"""
    return (x.astype(np.float64) - zero_point).sum(axis=(2, 3))


def requantize(
    acc: Float,
    multiplier: Any,
    shift: Any,
    zero_point: int,
    *,
    q_min: int,
    q_max: int,
    rounding: str = "half_up",
) -> Float:
    """clip(zero_point + floor(acc multiplier 2^(shift - 31) + 1/2), q_min, q_max)

    acc: (...)  ->  (...) float64

    >>> requantize(np.array([1.0, -1.0, 99.0]), 2**30, 0, 3, q_min=0, q_max=7)
    array([4., 3., 7.])
    """
    none = np.zeros_like(acc)
    return requantize_add(
        acc,
        multiplier,
        none,
        0,
        shift,
        zero_point,
        q_min=q_min,
        q_max=q_max,
        rounding=rounding,
    )


def requantize_add(
    acc: Float,
    multiplier: Any,
    skip: Float,
    skip_multiplier: Any,
    shift: Any,
    zero_point: int,
    *,
    q_min: int,
    q_max: int,
    rounding: str = "half_up",
) -> Float:
    """clip(zero_point + floor((acc m + skip m_2) 2^(shift - 31) + 1/2), q_min, q_max)

    acc, skip: (...)  ->  (...) float64
    """
    if rounding != "half_up":
        raise ValueError(f'rounding must be "half_up" in float64, got {rounding!r}')
    scaled = unrounded_codes(acc, multiplier, skip, skip_multiplier, shift)
    down = np.floor(scaled)
    nearest = down + (scaled - down >= 0.5)
    return np.clip(zero_point + nearest, q_min, q_max)


def unrounded_codes(
    acc: Float, multiplier: Any, skip: Float, skip_multiplier: Any, shift: Any
) -> Float:
    """(acc m + skip m_2) 2^(shift - 31), exactly, as long as (1) holds"""
    product, skipped = acc * np.asarray(multiplier), skip * np.asarray(skip_multiplier)
    largest = float((np.abs(product) + np.abs(skipped)).max(initial=0))
    if largest >= EXACT:
        raise ValueError(
            f"|acc| * multiplier must be below 2^53 to be exact, reaches {largest:.4g}"
        )
    return np.ldexp(product + skipped, np.asarray(shift) - 31)


def check_sums(x: Float, w: Float) -> None:
    """Raise unless every partial sum of products is an exact float64."""
    weights = np.abs(w.reshape(len(w), -1)).sum(axis=1).max(initial=0)
    largest = float(weights * np.abs(x).max(initial=0))
    if largest >= EXACT:
        raise ValueError(f"sums of products must stay below 2^53, may reach {largest}")
