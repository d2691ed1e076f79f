"""Shared by all quantizers: checks of bits and values, mean|w|, codebooks and noise.

Values must be finite and at most the square root of the largest number of their dtype
(1.8e19 in float32): within that bound no sum of squares here overflows.
"""

import math
import warnings
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from refqnn._types import Array, Float, Int
from refqnn.core import Run
from refqnn.ops.checks import FLOATS, check_float, check_gradient
from refqnn.prompt import one_line

MOST_BITS = 16
NONE: Mapping[str, Any] = MappingProxyType({})
#: the square root of the largest finite number of a dtype
LARGEST = {np.dtype(f): math.sqrt(np.finfo(f).max) for f in (np.float32, np.float64)}


@one_line
class ResidualCache(NamedTuple):
    """What freezes the rounding where the backward is the identity."""

    residual: Float  # y - v


def check_bits(
    bits: int, *, least: int, most: int = MOST_BITS, name: str = "bits"
) -> None:
    """Raise unless ``least <= bits <= most``, or another whole number; no bool.

    >>> check_bits(4, least=2)
    """
    known = isinstance(bits, int | np.integer) and not isinstance(bits, bool)
    if not known or not least <= bits <= most:
        raise ValueError(f"{name} must be an int in [{least}, {most}], got {bits!r}")


def check_choice(value: Any, *known: str, name: str) -> None:
    """Raise unless an option is one of the words it may be.

    >>> check_choice("layer", "filter", "layer", name="group")
    """
    if value not in known:
        *words, last = map(repr, known)
        wanted = f"{', '.join(words)} or {last}"
        raise ValueError(f"{name} must be {wanted}, got {value!r}")


def check_values(
    v: Array,
    *,
    name: str,
    bits: int | None = None,
    least: int = 1,
    most: int = MOST_BITS,
    dtype: Any = None,
    positive: Mapping[str, Any] = NONE,
    not_negative: Mapping[str, Any] = NONE,
    **others: Any,
) -> list[Float]:
    """Check values, bits and parameters of a quantizer: one line before its equations.

    v: (...), parameters: broadcast to v  ->  the parameters in the dtype of v (or in
    ``dtype``): those of ``positive``, of ``not_negative``, the others

    Raises ValueError unless ``v`` is a float32 or float64 array of finite, bounded
    values, ``bits`` lie in [least, most], every parameter is finite, bounded and
    broadcasts to v, and the positive ones are normal numbers. The last word of a key is
    the parameter's name.

    >>> check_values(np.array([1.0, -2.0], np.float32), name="w", bits=4, a=3)
    [array(3., dtype=float32)]
    """
    if getattr(v, "dtype", None) not in FLOATS:
        check_float(**{name: v})
    bound = LARGEST[v.dtype]
    fine = np.abs(v) <= bound  # False for NaN, too
    if not fine.all():
        raise ValueError(
            f"{name} must be finite with magnitudes up to {bound:.3g}, "
            f"got {v[~fine].flat[0]}"
        )
    if bits is not None and (type(bits) is not int or not least <= bits <= most):
        check_bits(bits, least=least, most=most)
    checked: list[Float] = []
    for key, given in (*positive.items(), *not_negative.items(), *others.items()):
        p = np.asarray(given).astype(np.float64)
        lead, narrow, own = v.ndim - p.ndim, np.not_equal(p.shape, 1), key.split()[-1]
        if lead < 0 or np.any(narrow & np.not_equal(p.shape, v.shape[lead:])):
            raise ValueError(
                f"{own} must broadcast to {name}: {own}{p.shape}, {name}{v.shape}"
            )
        if not np.all(np.abs(p) <= bound):
            raise ValueError(f"{own} must be finite and at most {bound:.3g}: {p}")
        p = p.astype(dtype or v.dtype)
        if key in positive and not np.all(p >= np.finfo(v.dtype).tiny):
            raise ValueError(f"{key} must be positive and normal, got {p}")
        if key in not_negative and np.any(p < 0):
            raise ValueError(f"{key} must not be negative, got {p.min()}")
        checked.append(p)
    return checked


def __getattr__(name: str) -> Any:
    """Answer under the former name of ``check_values``."""
    if name != "check_finite":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    text = f"{__name__}.check_finite is now {__name__}.check_values"
    warnings.warn(text, DeprecationWarning, stacklevel=2)
    return check_values


def mean_abs(w: Float, *, group: str = "filter") -> Float:
    """m_i = mean of |w_ij| over j, in float64; 0 below the smallest normal number.

    w: (O, ...)  ->  m: (O, 1, ...), or (1, 1, ...) with ``group="layer"``

    >>> mean_abs(np.array([[1.0, -3.0], [0.0, 0.0]]))
    array([[2.],
           [0.]])
    """
    axes = tuple(range(1 if group == "filter" else 0, w.ndim))
    if not w.ndim or group not in {"filter", "layer"}:
        axes = group_axes(w, group)
    total = np.abs(w).sum(axes, np.float64, keepdims=True)
    count = w.size // max(total.size, 1)
    m: Float = (total / max(count, 1)).astype(w.dtype)
    return m * (m >= np.finfo(m.dtype).tiny)


def mean_kept(magnitude: Float, keep: Array, *, group: str = "filter") -> Float:
    """Return the mean over the kept entries of every group; 0 where none is kept.

    magnitude: (O, ...), keep: (O, ...)  ->  (O, 1, ...) or (1, 1, ...)

    >>> mean_kept(np.array([[1.0, 3.0, 5.0]]), np.array([[False, True, True]]))
    array([[4.]])
    """
    axes = group_axes(magnitude, group)
    total = np.where(keep, magnitude, 0).sum(axes, np.float64, keepdims=True)
    count = keep.sum(axes, keepdims=True)
    m: Float = (total / np.maximum(count, 1)).astype(magnitude.dtype)
    return m * (m >= np.finfo(m.dtype).tiny)


def flush(scale: Float) -> Float:
    """Return ``scale`` with everything below the smallest normal number set to 0.

    >>> flush(np.array([1e-310, 0.5]))
    array([0. , 0.5])
    """
    smallest = np.finfo(scale.dtype).tiny
    return np.where(scale < smallest, np.zeros_like(scale), scale)


def group_axes(w: Array, group: str) -> tuple[int, ...]:
    """Return the axes a statistic runs over: all but the first, or all.

    >>> group_axes(np.zeros((8, 3, 3, 3)), "filter")
    (1, 2, 3)
    """
    if group not in {"filter", "layer"}:
        check_choice(group, "filter", "layer", name="group")
    if w.ndim == 0:
        raise ValueError("w must have an axis of filters, got shape ()")
    return tuple(range(1 if group == "filter" else 0, w.ndim))


def codebook(q: Int, scale: Float, zero_point: Int, grid: Int) -> tuple[Int, Float]:
    """Return ``(codes, levels)`` with ``levels[codes] == scale * (q - zero_point)``.

    q: (...), scale: broadcasts to q, grid: (L,)  ->  codes: (...), levels: (groups *
    L,)

    The codebooks of the groups stand one after another: group g starts at ``g * L``.

    >>> codebook(np.array([[-1, 1], [0, 1]]), np.array([[0.5], [2.0]]), np.array(0),
    ...          np.array([-1, 0, 1]))
    (array([[0, 2],
           [4, 5]]), array([-0.5,  0. ,  0.5, -2. ,  0. ,  2. ]))
    """
    steps = (grid - zero_point.reshape(-1, 1)).astype(scale.dtype)
    levels = scale.reshape(-1, 1) * steps
    start = np.arange(scale.size).reshape(scale.shape) * grid.size
    return np.searchsorted(grid, q) + start, levels.ravel()


def boundaries(scale: Float, zero_point: Int, grid: Int) -> Float:
    """Return the midpoints between neighbouring levels of every group.

    scale: (groups, 1, ...)  ->  (groups, L - 1)

    >>> boundaries(np.array([[0.5], [2.0]]), np.array(0), np.array([-1, 0, 1]))
    array([[-0.25,  0.25],
           [-1.  ,  1.  ]])
    """
    middle = (grid[:-1] + grid[1:]) / 2 - zero_point.reshape(-1, 1)
    return scale.reshape(-1, 1) * middle.astype(scale.dtype)


def check_noise(noise: Float, dy: Float) -> None:
    """Raise unless ``noise`` has the shape of ``dy`` and lies in [-1/2, 1/2).

    >>> check_noise(np.array([-0.5, 0.4]), np.zeros(2))
    """
    if np.shape(noise) != dy.shape:
        raise ValueError(
            f"noise must have the shape of dy: noise{np.shape(noise)}, dy{dy.shape}"
        )
    inside = (noise >= -0.5) & (noise < 0.5)  # False for NaN
    if not inside.all():
        worst = noise[~inside].flat[0]
        raise ValueError(f"noise must lie in [-1/2, 1/2), got {worst}")


def draw_noise(shape: tuple[int, ...], run: Run) -> Float | None:
    """Return noise uniform in [-1/2, 1/2) in a training pass, else None.

    Raises ValueError for a training pass without a generator.
    """
    if not run.training or run.replay is not None:
        return None
    if run.rng is None:
        raise ValueError("a stochastic gradient needs noise: pass Run(rng=...)")
    return run.rng.random(shape) - 0.5


class Propagated(NamedTuple):
    """The cache of a quantizer and where its input was NaN."""

    cache: Any
    nan: Array  # shape of x


def propagating(op: Any, op_backward: Any) -> tuple[Any, Any]:
    """Return the pair of an activation quantizer with NaN let through.

    Quantizers raise on values that are not finite. Of this pair, the output is NaN
    where x is, whose gradient is 0 and adds nothing to those of parameters; an infinite
    value is the largest magnitude that the quantizer takes, which is beyond any clip.

    x: (...)  ->  y: (...)

    >>> from refqnn.quantizers import pact, pact_backward
    >>> forward, backward = propagating(pact, pact_backward)
    >>> x = np.array([np.nan, np.inf, -np.inf, 0.9])
    >>> y, cache = forward(x, np.array(3.0), bits=2)
    >>> y, backward(np.ones(4), cache)
    (array([nan,  3.,  0.,  1.]), (array([0., 0., 0., 1.]), array(1.)))
    """

    def forward(
        x: Float, *args: Any, frozen: Propagated | None = None, **options: Any
    ) -> tuple[Float, Propagated]:
        check_float(x=x)
        nan = np.isnan(x)
        bound = np.nextafter(LARGEST[x.dtype], x.dtype.type(0))  # it may be rounded up
        x_finite = np.clip(np.where(nan, 0, x), -bound, bound)
        recorded = None if frozen is None else frozen.cache
        y, cache = op(x_finite, *args, frozen=recorded, **options)
        return np.where(nan, x, y), Propagated(cache, nan)

    def backward(dy: Float, cache: Propagated) -> Any:
        check_gradient(dy, cache.nan.shape)
        grads = op_backward(np.where(cache.nan, 0, dy), cache.cache)
        if not isinstance(grads, tuple):
            return np.where(cache.nan, 0, grads)
        dx = np.where(cache.nan, 0, grads[0])
        rest = grads[1:]
        return type(grads)(dx, *rest) if hasattr(grads, "_fields") else (dx, *rest)

    return forward, backward
