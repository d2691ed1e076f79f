"""The laws of codes: levels[codes] = scale * (q - zero_point) = y, exactly.

Every checker takes a quantizer that is ready to evaluate, and raises AssertionError.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from refqnn._types import Array, Float
from refqnn.core import Run
from refqnn.testing.laws import Subject
from refqnn.testing.trials import answer


def check_levels(q: Subject, v: Float, most: int) -> None:
    """Check that every group has at most ``most`` distinct outputs."""
    for group in q.groups(q.apply(v)):
        np.testing.assert_array_less(np.unique(group).size, most + 1)


def codes_and_levels(module: Any, v: Float) -> tuple[Array, Array]:
    """Encode v; AssertionError unless that gives a pair, codes and levels."""
    pair = answer("encode", module.encode, v)
    if not isinstance(pair, tuple) or len(pair) != 2:
        kind = type(pair).__name__
        raise AssertionError(f"encode must give (codes, levels), gives {kind}")
    return pair


def check_codes(module: Any, v: Float) -> None:
    """levels[codes] = y"""
    y = module.forward(v, Run())[0]
    codes, levels = codes_and_levels(module, v)
    check_integers(codes, "codes")
    if codes.size and not 0 <= codes.min() <= codes.max() < levels.size:
        raise AssertionError(
            f"codes must be in 0..{levels.size - 1}, are {codes.min()}..{codes.max()}"
        )
    np.testing.assert_array_equal(levels[codes], y, err_msg="levels[codes]")
    if levels.dtype != v.dtype:
        raise AssertionError(f"levels are {levels.dtype} for {v.dtype}")


def check_scale(module: Any, v: Float) -> None:
    """scale * (q - zero_point) = y"""
    y = module.forward(v, Run())[0]
    q, scale, zero_point = module.quantize(v)
    check_integers(q, "q")
    check_integers(zero_point, "zero_point")
    steps = (q.astype(np.int64) - zero_point).astype(v.dtype)
    np.testing.assert_array_equal(scale * steps, y, err_msg="scale * (q - zero_point)")
    if scale.dtype != v.dtype:
        raise AssertionError(f"scale is {scale.dtype} for {v.dtype}")


def check_integers(array: Array, name: str) -> None:
    """Raise unless an array holds integers."""
    if not np.issubdtype(array.dtype, np.integer):
        raise AssertionError(f"{name} must be integers, are {array.dtype}")


def check_boundaries(codes: Callable[[Float], Array], boundaries: Float) -> None:
    """Check that codes step up across boundaries and are constant between them.

    codes: x (G, n) -> (G, n), boundaries: (G, n)
    """
    guard = 4 * np.spacing(np.abs(boundaries))
    below = codes(boundaries - guard).astype(int)
    above = codes(boundaries + guard).astype(int)
    np.testing.assert_array_less(below, above)
    np.testing.assert_array_equal(below[:, 1:], above[:, :-1])
