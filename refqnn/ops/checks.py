"""Checks of every pair: floating dtypes, and gradients of the shape of the output."""

from typing import Any

import numpy as np

from refqnn._types import Array

#: ops compare dtypes with these themselves and come here for the sentence of an error:
#: a right call stays in the file of its equation
FLOATS = frozenset({np.dtype(np.float32), np.dtype(np.float64)})


def check_float(**arrays: Array | None) -> None:
    """Raise unless every array is float32 or float64; None is an absent bias.

    >>> check_float(x=np.zeros(3), b=None)
    """
    for name, array in arrays.items():
        dtype = getattr(array, "dtype", type(array).__name__)
        if array is not None and dtype not in (np.float32, np.float64):
            raise ValueError(f"{name} must be a float32 or float64 array, got {dtype}")


def check_gradient(dy: Array, shape: tuple[int, ...], *, name: str = "dy") -> None:
    """Raise unless ``dy`` is a float array of the shape of the output it belongs to.

    >>> check_gradient(np.zeros((2, 3)), (2, 3))
    """
    if getattr(dy, "dtype", None) not in FLOATS:
        check_float(**{name: dy})
    if dy.shape != shape:
        raise ValueError(
            f"{name} must have the shape {shape} of {name[1:]}: {dy.shape}"
        )


def check_real(value: Any, *, name: str, low: float, high: float = np.inf) -> None:
    """Raise unless ``low <= value <= high``; NaN is never inside.

    >>> check_real(1e-5, name="eps", low=0)
    """
    if not low <= value <= high:
        raise ValueError(f"{name} must lie in [{low}, {high}], got {value}")
