"""The laws of a fast version beside its definition, one checker a law, and all at once.

A twin equals its definition bit for bit, or keeps a stated bound of the definition in
float64, in the definition's dtype. Every checker takes a ``Twin`` and one draw of
arguments, and raises AssertionError.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np

from refqnn._types import Array
from refqnn.testing.pairs import drawn_call
from refqnn.testing.trials import answer, check_callable

#: allowed absolute error of each output: bound(args, kwargs, want)
Bound = Callable[[Any, Any, Any], Any]


@dataclass(frozen=True)
class Twin:
    """A definition, its Numba twin, and how far apart they may be.

    ``draw(rng) -> (args, kwargs)``. Without ``bound`` the two are equal bit for bit,
    caches included. ``bound(args, kwargs, want)`` is the allowed absolute error of each
    output against the definition in float64, whose outputs ``want`` are: one array, or
    a tuple in the order of the outputs.
    """

    name: str
    definition: Callable[..., Any]
    twin: Callable[..., Any]
    draw: Callable[..., Any]
    bound: Bound | None = None
    #: the first array may be empty whatever the other arguments are
    empty: bool = True

    def __str__(self) -> str:
        return self.name


def check_twin(
    fast: Callable[..., Any],
    definition: Callable[..., Any],
    *,
    bound: Bound | float | None = None,
    draw: Callable[..., Any] | None = None,
    examples: int = 20,
) -> int:
    """Check every law of a fast version on ``examples`` draws; how many were compared.

    ``draw(rng) -> (args, kwargs)``; without it, one float array of either dtype. Equal
    bit for bit, errors included, or within ``bound``: a number, or ``bound(args,
    kwargs, want)`` for each output. Memory order, ends of the dtype and the number of
    threads make no difference, and no argument is written to or given back.

    >>> check_twin(lambda x: x + x, lambda x: 2 * x)
    20
    """
    if examples < 1:
        raise ValueError(f"examples must be at least 1, got {examples}")
    check_callable(fast=fast, definition=definition)
    allowed = bound if bound is None or callable(bound) else lambda *_: bound
    name = getattr(definition, "__name__", "definition")
    row = Twin(name, definition, fast, draw or draw_array, allowed)
    for seed in range(examples):
        rng = np.random.default_rng(seed)
        args, kwargs = drawn_call(row, rng)
        check_pure(row, *map_arrays((tuple(args), kwargs), np.copy))
        compare_twin(row, args, kwargs)
        check_scattered(row, args, kwargs)
        special = row.bound is None
        at_ends = with_first(args, lambda a: extreme(rng, a, special=special))  # noqa: B023 - called at once
        compare_twin(row, at_ends, kwargs)
        if numba.get_num_threads() > 1:
            check_threads(row, args, kwargs)
    return examples


def draw_array(rng: np.random.Generator) -> tuple[Any, dict[str, Any]]:
    """Draw one array of up to three axes, float32 or float64."""
    shape = rng.integers(1, 6, rng.integers(1, 4))
    dtype = (np.float32, np.float64)[rng.integers(2)]
    return (rng.normal(0, 2, shape).astype(dtype),), {}


def is_cache(value: Any) -> bool:
    """Say whether a value is a cache: a NamedTuple of arrays and options."""
    return isinstance(value, tuple) and type(value).__name__.endswith("Cache")


def leaves(result: Any, *, caches: bool) -> Iterator[Array]:
    """Yield the arrays of a result, in order, those of caches only if asked."""
    if isinstance(result, tuple) and (caches or not is_cache(result)):
        for part in result:
            yield from leaves(part, caches=caches)
    elif isinstance(result, np.ndarray | np.generic):
        yield np.asarray(result)


def map_arrays(value: Any, f: Callable[[Array], Array]) -> Any:
    """Apply f to every array of nested tuples and NamedTuples."""
    if isinstance(value, np.ndarray):
        return f(value)
    if not isinstance(value, tuple):
        return value
    parts = [map_arrays(part, f) for part in value]
    return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)


def widen(value: Any) -> Any:
    """Copy nested tuples, their float32 arrays in float64."""
    return map_arrays(
        value, lambda a: a.astype(np.float64) if a.dtype == np.float32 else a
    )


def scatter(value: Any) -> Any:
    """Copy nested tuples, no two entries of an array side by side in memory."""
    return map_arrays(value, lambda a: np.repeat(a[..., None], 2, axis=-1)[..., 0])


def outcome(f: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Call f; give its result, or the ValueError it raises."""
    with np.errstate(all="ignore"):
        try:
            return answer(getattr(f, "__name__", "a side"), f, *args, **kwargs)
        except ValueError as error:
            return error


def check_same(have: Any, want: Any) -> None:
    """Check bits, dtypes and shapes, or the error; -0.0 is 0.0 and NaN is NaN."""
    errors = [str(x) if isinstance(x, ValueError) else None for x in (have, want)]
    if errors[0] != errors[1]:
        raise AssertionError(
            f"the twin raises {errors[0]!r}, the definition {errors[1]!r}"
        )
    if errors[0] is not None:
        return
    ours, theirs = list(leaves(have, caches=True)), list(leaves(want, caches=True))
    if not theirs:
        raise AssertionError("nothing was checked: the definition gives no array")
    if len(ours) != len(theirs):
        raise AssertionError(f"{len(ours)} arrays, the definition gives {len(theirs)}")
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other, strict=True)


def check_near(row: Twin, args: Any, kwargs: Any) -> None:
    """Check a twin against its bound around the float64 definition, and its dtype."""
    if row.bound is None:
        raise ValueError(f"{row.name} has no bound: it is compared bit for bit")
    have, plain = (outcome(f, args, kwargs) for f in (row.twin, row.definition))
    if isinstance(have, ValueError) or isinstance(plain, ValueError):
        check_same(have, plain)
        return
    want = row.definition(*widen(args), **widen(kwargs))
    wanted = tuple(leaves(want, caches=False))
    if not wanted:
        raise AssertionError("nothing was checked: the definition gives no array")
    bounds = row.bound(args, kwargs, wanted if len(wanted) > 1 else wanted[0])
    bounds = bounds if isinstance(bounds, tuple) else (bounds,)
    typed = leaves(plain, caches=False)
    rows = zip(leaves(have, caches=False), typed, wanted, bounds, strict=True)
    for ours, like, exact, allowed in rows:
        kinds = (ours.dtype, ours.shape), (like.dtype, exact.shape)
        if kinds[0] != kinds[1]:
            raise AssertionError(
                f"the twin gives {kinds[0]}, the definition {kinds[1]}"
            )
        excess = np.abs(ours.astype(np.float64) - exact) - allowed
        np.testing.assert_array_less(excess, np.nextafter(0, 1))


def compare_twin(row: Twin, args: Any, kwargs: Any) -> None:
    """Check that a twin equals the definition, or lies within its stated bound."""
    if row.bound is not None:
        check_near(row, args, kwargs)
        return
    have, want = (outcome(f, args, kwargs) for f in (row.twin, row.definition))
    check_same(have, want)


def check_scattered(row: Twin, args: Any, kwargs: Any) -> None:
    """Check that the layout of arguments in memory does not change a bit."""
    have = outcome(row.twin, scatter(args), scatter(kwargs))
    want = outcome(row.twin, args, kwargs)
    check_same(without_caches(have), without_caches(want))


def without_caches(result: Any) -> Any:
    """Keep the arrays of a result that no cache holds; an error as it is."""
    if isinstance(result, ValueError):
        return result
    return tuple(leaves(result, caches=False))


def check_threads(row: Twin, args: Any, kwargs: Any) -> None:
    """Check that one thread and two give the same bits."""
    before = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        one = outcome(row.twin, args, kwargs)
        numba.set_num_threads(2)
        check_same(outcome(row.twin, args, kwargs), one)
    finally:
        numba.set_num_threads(before)


def check_pure(row: Twin, args: Any, kwargs: Any) -> None:
    """Check that no argument is written to and no output shares memory with one."""
    before = [a.copy() for a in leaves(args, caches=True)]
    result = outcome(row.twin, args, kwargs)
    for old, new in zip(before, leaves(args, caches=True), strict=True):
        np.testing.assert_array_equal(old, new, err_msg="an argument is written to")
    if isinstance(result, ValueError):
        return
    for output in leaves(result, caches=False):
        for arg in leaves(args, caches=True):
            if np.shares_memory(output, arg):
                raise AssertionError("an output shares memory with an argument")


def extreme(rng: np.random.Generator, a: Array, *, special: bool) -> Array:
    """Fill the shape of ``a`` with the ends of its dtype.

    Floats stay within 1e18, products of two within float32; ``special`` adds infinity
    and NaN.
    """
    ends: list[float]
    if a.dtype.kind in "iu":
        whole = np.iinfo(a.dtype)
        ends = [whole.min, whole.max, 0, 1, whole.max - 1]
    elif a.dtype.kind == "f":
        real = np.finfo(a.dtype)
        least, normal = float(real.smallest_subnormal), float(real.tiny)
        ends = [0.0, -0.0, least, -normal, 1.0, 1e18, -1e18]
        ends += [np.inf, -np.inf, np.nan] if special else []
    else:
        return a
    return np.array(ends, a.dtype)[rng.integers(0, len(ends), a.shape)]


def with_first(args: Any, f: Callable[[Array], Array]) -> Any:
    """Replace the first array among the arguments by f of it."""
    changed = list(args)
    for k, arg in enumerate(changed):
        if isinstance(arg, np.ndarray):
            changed[k] = f(arg)
            break
    return tuple(changed)
