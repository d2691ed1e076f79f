"""Changes of one argument or of one output, by name: what mutants are made of."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from refqnn._types import Array

Change = Callable[[Any], Any]
NARROW = {"int8": np.int8, "uint8": np.uint8, "int16": np.int16}


def constant_changes(example: Any) -> dict[str, Change]:
    """Return changes to constants: the scalar ``example``; zeros and ones of arrays."""
    if np.ndim(example) and not isinstance(example, tuple):
        return {
            "zeros": np.zeros_like,
            "ones": np.ones_like,
        }
    shown = str(example)
    return {shown: lambda a: like(a, example)}


def like(value: Any, constant: Any) -> Any:
    """Return a constant in the dtype and shape of a value.

    >>> like(np.float32([2, 3]), 1)
    array([1., 1.], dtype=float32)
    """
    if isinstance(value, np.ndarray | np.generic) and not isinstance(constant, tuple):
        return np.full_like(value, constant)
    return constant


def kept_kind_changes(values: Sequence[Any], *, main: bool) -> dict[str, Change]:
    """Return changes of sign, size and order that keep dtype and shape, by name."""
    changes: dict[str, Change] = {}
    first = values[0]
    if isinstance(first, tuple) or any(isinstance(v, tuple) for v in values):
        nested = any(np.ndim(v) == 2 for v in values)
        changes = {
            "h and w exchanged": lambda p: p[::-1] if isinstance(p, tuple) else p
        }
        return changes | ({"sides exchanged": sides_exchanged} if nested else {})
    a = np.asarray(first)
    if a.dtype.kind == "b":
        return {"the other": lambda flag: not flag}
    changes["absolute"] = np.abs
    if a.dtype.kind in "if":
        changes["negated"] = lambda v: -v
    if a.dtype.kind in "iu":
        changes["one more"] = lambda v: v + 1
        changes["one less"] = lambda v: v - 1
    elif main:
        changes["halved"] = lambda v: v * type_of(v)(0.5)
    else:
        changes["times 0.9"] = lambda v: v * type_of(v)(0.9)
        changes["kept as float16"] = as_float16
    if any(np.size(v) > 1 for v in values):
        changes["first element for all"] = first_for_all
        changes["reversed"] = reverse
    if any(is_square(v) for v in values):
        changes["transposed"] = lambda v: np.swapaxes(v, -1, -2)
    if a.ndim > 1:
        changes["first row for all"] = lambda v: np.broadcast_to(v[:1], v.shape)
    return changes


def as_float16(value: Any) -> Any:
    """Round a real parameter to float16, in its own type.

    >>> as_float16(0.1)
    0.0999755859375
    """
    with np.errstate(over="ignore"):
        kept = np.asarray(value).astype(np.float16).astype(type_of(value))
    return kept if isinstance(value, np.ndarray | np.generic) else kept.item()


def is_square(value: Any) -> bool:
    """Say whether the last two axes are alike and longer than 1."""
    return np.ndim(value) > 1 and np.shape(value)[-1] == np.shape(value)[-2] > 1


def fewer_bits_read(name: str, values: Sequence[Any]) -> dict[str, Change]:
    """Return changes of integers to types that may not hold them."""
    dtypes = [np.asarray(v).dtype for v in values]
    if dtypes[0].kind not in "iu":
        return {}
    wide = max(dtype.itemsize for dtype in dtypes) > 2 and "zero_point" not in name
    names = ("int8", "uint8", "int16") if wide else ("int8", "uint8")
    return {f"read as {each}": partial(read_as, NARROW[each]) for each in names}


def type_of(value: Any) -> Any:
    """Return the scalar type of a number or an array."""
    return np.asarray(value).dtype.type


def sides_exchanged(pair: Any) -> Any:
    """Exchange top with bottom and left with right."""
    if not isinstance(pair, tuple) or not isinstance(pair[0], tuple):
        return pair
    return tuple(sides[::-1] for sides in pair)


def first_for_all(value: Any) -> Any:
    """Return the first element everywhere."""
    return np.full_like(value, np.ravel(value)[0]) if np.ndim(value) else value


def reverse(value: Any) -> Any:
    """Reverse an array along its longest axis."""
    return np.flip(value, int(np.argmax(np.shape(value)))) if np.ndim(value) else value


def read_as(dtype: Any, value: Any) -> Any:
    """Keep the low bits of integers, in 32 bits.

    >>> read_as(np.uint8, np.int8([-1, 1]))
    array([255,   1], dtype=int32)
    """
    wrapped = np.asarray(value).astype(dtype).astype(np.int32)
    return int(wrapped) if isinstance(value, int) else wrapped


def spoils(y: Array, widths: Sequence[int], n: int) -> dict[str, Change]:
    """Return changes of one output."""
    changes: dict[str, Change] = {"negated": lambda v: -v, "absolute": np.abs}
    for bits in widths:
        half = 1 << (bits - 1)
        changes[f"wrapped at {bits} bits"] = partial(wrap, half)
        changes[f"clipped at {bits} bits"] = partial(clip, half)
    if y.dtype.kind == "f":
        changes["times 0.9"] = lambda v: v * 0.9
    if n > 1 and y.dtype.kind == "f":
        changes["a sum for a mean"] = lambda v: v * n
        changes["a mean for a sum"] = lambda v: v / n
    if y.ndim:
        changes["moved by one"] = lambda v: np.roll(v, 1, axis=-1) if v.ndim else v
        changes["reversed"] = reverse
    return changes


def wrap(half: int, y: Array) -> Array:
    """Return y modulo 2 half, signed."""
    return (y + half) % (2 * half) - half


def clip(half: int, y: Array) -> Array:
    """Return y saturated to [-half, half - 1]."""
    return np.clip(y, -half, half - 1)
