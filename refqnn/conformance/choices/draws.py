"""Random arguments of each kind: every region of the kind is met often."""

import inspect
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from refqnn._types import Array, Float, Int
from refqnn.conformance.choices.kinds import RANGES, ranges

Generator = np.random.Generator
#: elements of a call above which layers are large in every direction
MOST = 99
#: scales that are powers of two, and scales that are not
SCALES = (1.0, 0.5, 2.0, 0.1, 0.3, 0.7, 41.0, 49.0)


@cache
def argument_names(evaluate: Callable[..., Any]) -> tuple[str, ...]:
    """Return the names of the arguments after the choices."""
    return tuple(inspect.signature(evaluate).parameters)[1:]


def call(evaluate: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
    """Return the arguments by name, in the order of ``evaluate(choices, ...)``.

    >>> call(lambda choices, q, scale: {}, 3, 0.5)
    {'q': 3, 'scale': 0.5}
    """
    return dict(zip(argument_names(evaluate), arguments, strict=True))


def dims(rng: Generator, n: int) -> tuple[int, ...]:
    """Return a shape of n elements: one axis, or three.

    >>> dims(np.random.default_rng(1), 64)
    (2, 4, 8)
    """
    if rng.random() < 0.4:
        return (n,)
    first = next((d for d in (2, 3, 5, 7) if n % d == 0), n)
    rest = n // first
    middle = next((d for d in (4, 3, 2, 13) if rest % d == 0), 1)
    return first, middle, rest // middle


def laid_out(rng: Generator, x: Array) -> Array:
    """Return the array as it is, or with gaps between its elements in memory."""
    if rng.random() < 0.75:
        return x
    spaced = np.empty((*x.shape, 2), x.dtype)
    spaced[..., 0] = x
    return np.asarray(spaced[..., 0])


def code_range(rng: Generator, most: int = 16) -> tuple[int, int]:
    """Return q_min and q_max: those in use up to ``most`` bits, or an odd range."""
    known = [*ranges(most).values(), RANGES["int8"], None]
    ends = known[int(rng.integers(len(known)))]
    if ends is None:
        return -int(rng.integers(3, 120)), int(rng.integers(5, 120))
    return ends


def zero_point(rng: Generator, q_min: int, q_max: int) -> int:
    """Return 0, a small integer, or an end of the range, within the range."""
    near = int(rng.integers(-20, 21))
    chosen = (0, near, near | 1, q_min, q_max)[int(rng.integers(5))]
    return min(max(chosen, q_min), q_max)


def several(
    rng: Generator, shape: Sequence[int], one: Callable[[], Any], *, values: int = 1
) -> Any:
    """Return ``one()``, or one for each entry along an axis that has some.

    An array broadcasts to ``shape``, with an axis more for ``values`` numbers.
    """
    long = [axis for axis, size in enumerate(shape) if size > 1]
    if not long or rng.random() < 0.5:
        return one()
    axis = int(rng.choice(long))
    column = [one() for _ in range(shape[axis])]
    last = (values,) if values > 1 else ()
    return np.array(column).reshape(-1, *[1] * (len(shape) - axis - 1), *last)


def scale(rng: Generator) -> np.float32:
    """Return one scale: a power of two, one with many bits, or any."""
    known = (*SCALES, float(np.exp(rng.uniform(-5, 3))))
    return np.float32(known[int(rng.integers(len(known)))])


def on_grid(
    rng: Generator, shape: Sequence[int], step: Any, zero: Any, ends: tuple[int, int]
) -> Float:
    """Return float32 within and beyond a grid: codes, ties, their neighbours, any.

    step, zero: broadcast to shape  ->  shape
    """
    q_min, q_max = ends
    span = q_max - q_min
    codes = rng.integers(q_min - span // 4 - 2, q_max + span // 4 + 3, shape)
    near = np.where(rng.random(shape) < 0.5, q_min, q_max) + rng.integers(-1, 2, shape)
    small = rng.integers(-6, 7, shape) + zero
    u = np.choose(rng.integers(0, 3, shape), (codes, near, small)) - zero
    u = u + rng.choice([0.0, 0.5, 0.25, rng.uniform()], shape, p=[0.3, 0.4, 0.1, 0.2])
    x = (u * np.asarray(step, np.float64)).astype(np.float32)
    beside = np.nextafter(x, np.where(rng.random(shape) < 0.5, np.float32(np.inf), 0))
    return np.where(rng.random(shape) < 0.2, beside, x).astype(np.float32)


def with_specials(rng: Generator, x: Float) -> Float:
    """Return the array, sometimes with infinities, denormals and zeros in it."""
    x = x.copy()
    if rng.random() < 0.5:
        tiny = np.finfo(x.dtype).tiny / 8
        kinds = np.array([np.inf, -np.inf, tiny, -tiny, 0.0, -0.0, 2.0**40], x.dtype)
        count = int(rng.integers(1, max(x.size // 8, 1) + 1))
        x.flat[rng.integers(0, x.size, count)] = rng.choice(kinds, count)
    return x


def codes(rng: Generator, shape: Sequence[int], dtype: str) -> Int:
    """Return codes that fill a dtype, its ends among them more often than by chance."""
    info = np.iinfo(dtype)
    x = rng.integers(info.min, info.max + 1, shape)
    ends = np.where(rng.random(shape) < 0.5, info.min, info.max)
    return np.where(rng.random(shape) < 0.1, ends, x).astype(dtype)


def high(x: Int, span: int) -> Int:
    """Return codes less than ``span`` below the highest of their type: sums grow.

    >>> high(np.int8([-128, 3, 17]), 16)
    array([127, 124, 126], dtype=int8)
    """
    highest = np.iinfo(x.dtype).max
    return np.asarray(highest - np.abs(x.astype(np.int64)) % span).astype(x.dtype)


def gradient(rng: Generator, shape: Sequence[int], dtype: Any = np.float64) -> Float:
    """Draw dy: of both signs, of unequal sizes, a few zeros; often of many bits.

    >>> gradient(np.random.default_rng(0), (4,))
    array([ 0. , -0.5,  0. , -1. ])
    """
    values = rng.integers(-8, 9, shape) / 4
    sign = rng.random()
    if sign < 0.3:  # all of one sign
        values = np.copysign(values, sign - 0.15)
    elif sign > 0.6:
        values = 1.1 * values
    return np.asarray(np.where(rng.random(shape) < 0.1, 0, values) + 0.0, dtype)


def pick(rng: Generator, *choices: Any) -> Any:
    """Return one of the choices, each as likely."""
    return choices[int(rng.integers(len(choices)))]


def pair(rng: Generator, *sizes: int) -> Any:
    """Return one number for h and w, or two."""
    h, w = pick(rng, *sizes), pick(rng, *sizes)
    return h if rng.random() < 0.5 else (h, w)


def padding(rng: Generator, most: int = 2) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return ((top, bottom), (left, right)): none, even, behind only, four unlike."""
    t, b, l, r = rng.integers(0, most + 1, 4).tolist()
    return pick(
        rng,
        ((0, 0), (0, 0)),
        ((t, t), (t, t)),
        ((t, t), (l, l)),
        ((0, b), (0, r)),
        ((t, b), (l, r)),
    )


def product(rng: Generator, n: int) -> tuple[int, int, int, bool]:
    """Draw I, K and J of (I, K) x (K, J), and whether int32 cannot hold the sums."""
    deep = bool(rng.random() < 0.25)
    k = 600 if deep else int(pick(rng, 1, 2, 3, 7, 8, 64, 65))
    j = int(pick(rng, 1, 3, 8, int(rng.integers(9, 20))))
    if n > MOST:
        return 30, k, j + 70, deep
    square = rng.random() < 0.1 and not deep
    return k if square else max(min(n, 65) // j, 1), k, j, deep


def offset(rng: Generator, dtype: str) -> int:
    """Return a zero-point of a dtype: 0, odd, any, or an end."""
    info = np.iinfo(dtype)
    low, high = max(info.min, -300), min(info.max, 300)
    any_ = int(rng.integers(low, high + 1))
    return int(pick(rng, 0, 0, any_ | 1, any_, info.min, info.max))


def offsets(rng: Generator, dtype: str, channels: int) -> Any:
    """Return one zero-point of weights, or one for each output channel."""
    if channels == 1 or rng.random() < 0.6:
        return offset(rng, dtype)
    return np.array([offset(rng, dtype) for _ in range(channels)])


def biases(rng: Generator, n: int) -> Int:
    """Draw int32 biases of both signs, of any size, or zeros."""
    size = 2.0 ** rng.integers(1, 31)
    return np.asarray(rng.uniform(-size, size, n) * (rng.random() < 0.85), np.int32)


def normal(rng: Generator, shape: Sequence[int]) -> Float:
    """Draw normal numbers, one in ten 0."""
    return np.where(rng.random(shape) < 0.1, 0, rng.normal(size=shape))
