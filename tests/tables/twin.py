"""A row of a table of twins, and a checker for each law of twins."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np


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
    bound: Callable[..., Any] | None = None
    #: the first array may be empty whatever the other arguments are
    empty: bool = True

    def __str__(self) -> str:
        return self.name


def is_cache(value: Any) -> bool:
    return isinstance(value, tuple) and type(value).__name__.endswith("Cache")


def leaves(result: Any, *, caches: bool) -> Iterator[np.ndarray]:
    """Yield the arrays of a result, in order, those of caches only if asked."""
    if isinstance(result, tuple) and (caches or not is_cache(result)):
        for part in result:
            yield from leaves(part, caches=caches)
    elif isinstance(result, np.ndarray | np.generic):
        yield np.asarray(result)


def mapped(value: Any, f: Callable[[np.ndarray], np.ndarray]) -> Any:
    """Apply f to every array of nested tuples and NamedTuples."""
    if isinstance(value, np.ndarray):
        return f(value)
    if not isinstance(value, tuple):
        return value
    parts = [mapped(part, f) for part in value]
    return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)


def widened(value: Any) -> Any:
    """Return the same with every float32 array in float64."""
    return mapped(value, lambda a: a.astype(np.float64) if a.dtype == np.float32 else a)


def scattered(value: Any) -> Any:
    """Return the same values in arrays none of whose neighbours are neighbours."""
    return mapped(value, lambda a: np.repeat(a[..., None], 2, axis=-1)[..., 0])


def outcome(f: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Return what f returns, or the ValueError it raises."""
    with np.errstate(all="ignore"):
        try:
            return f(*args, **kwargs)
        except ValueError as error:
            return error


def check_same(got: Any, want: Any) -> None:
    """Same bits, dtypes and shapes; -0.0 is 0.0 and NaN is NaN."""
    if isinstance(want, ValueError):
        assert isinstance(got, ValueError), f"the definition raises {want!r}"
        assert str(got) == str(want)
        return
    assert not isinstance(got, ValueError), f"only the twin raises {got!r}"
    got, want = list(leaves(got, caches=True)), list(leaves(want, caches=True))
    assert len(got) == len(want)
    for ours, theirs in zip(got, want, strict=True):
        np.testing.assert_array_equal(ours, theirs, strict=True)


def check_near(row: Twin, args: Any, kwargs: Any) -> None:
    """Within the bound of the definition in float64, in the dtype of the definition."""
    got, plain = (outcome(f, args, kwargs) for f in (row.twin, row.definition))
    if isinstance(got, ValueError) or isinstance(plain, ValueError):
        check_same(got, plain)
        return
    want = row.definition(*widened(args), **widened(kwargs))
    wanted = tuple(leaves(want, caches=False))
    bounds = row.bound(args, kwargs, wanted if len(wanted) > 1 else wanted[0])
    bounds = bounds if isinstance(bounds, tuple) else (bounds,)
    typed = leaves(plain, caches=False)
    rows = zip(leaves(got, caches=False), typed, wanted, bounds, strict=True)
    for ours, like, exact, allowed in rows:
        assert ours.dtype == like.dtype, (ours.dtype, like.dtype)
        assert ours.shape == exact.shape, (ours.shape, exact.shape)
        excess = np.abs(ours.astype(np.float64) - exact) - allowed
        np.testing.assert_array_less(excess, np.nextafter(0, 1))


def check_twin(row: Twin, args: Any, kwargs: Any) -> None:
    """Equal to the definition, or within the stated bound of it."""
    if row.bound is not None:
        check_near(row, args, kwargs)
        return
    got, want = (outcome(f, args, kwargs) for f in (row.twin, row.definition))
    check_same(got, want)


def check_scattered(row: Twin, args: Any, kwargs: Any) -> None:
    """How the arguments lie in memory does not change a bit."""
    got = outcome(row.twin, scattered(args), scattered(kwargs))
    want = outcome(row.twin, args, kwargs)
    check_same(without_caches(got), without_caches(want))


def without_caches(result: Any) -> Any:
    if isinstance(result, ValueError):
        return result
    return tuple(leaves(result, caches=False))


def check_threads(row: Twin, args: Any, kwargs: Any) -> None:
    """One thread and two give the same bits."""
    before = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        one = outcome(row.twin, args, kwargs)
        numba.set_num_threads(2)
        check_same(outcome(row.twin, args, kwargs), one)
    finally:
        numba.set_num_threads(before)


def check_pure(row: Twin, args: Any, kwargs: Any) -> None:
    """No argument is written to, no output shares memory with one."""
    before = [a.copy() for a in leaves(args, caches=True)]
    result = outcome(row.twin, args, kwargs)
    for old, new in zip(before, leaves(args, caches=True), strict=True):
        np.testing.assert_array_equal(old, new)
    if isinstance(result, ValueError):
        return
    for output in leaves(result, caches=False):
        for arg in leaves(args, caches=True):
            assert not np.shares_memory(output, arg)


def extreme(rng: np.random.Generator, a: np.ndarray, *, special: bool) -> np.ndarray:
    """Fill the shape of ``a`` with the ends of its dtype.

    Floats stay within 1e18, products of two within float32; ``special`` adds infinity
    and NaN.
    """
    if a.dtype.kind in "iu":
        info = np.iinfo(a.dtype)
        ends = [info.min, info.max, 0, 1, info.max - 1]
    elif a.dtype.kind == "f":
        info = np.finfo(a.dtype)
        ends = [0.0, -0.0, info.smallest_subnormal, -info.tiny, 1.0, 1e18, -1e18]
        ends += [np.inf, -np.inf, np.nan] if special else []
    else:
        return a
    return np.array(ends, a.dtype)[rng.integers(0, len(ends), a.shape)]


def with_first(args: Any, f: Callable[[np.ndarray], np.ndarray]) -> Any:
    """Return the arguments with the first array replaced by f of it."""
    args = list(args)
    for k, arg in enumerate(args):
        if isinstance(arg, np.ndarray):
            args[k] = f(arg)
            break
    return tuple(args)
