"""One pass of a forward, recorded so that it can be differenced and undone."""

import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from refqnn._types import Array, Float

#: relative to the mean magnitude of an argument; the others are tried where one differs
STEPS = (1e-5, 1e-6, 1e-4)
BOUND = 1e-6
#: roundings of a forward, in units of the last place of its output
ROUNDINGS = 64

Op = Callable[..., Any]


def as_tuple(value: Any) -> tuple[Any, ...]:
    """Wrap a value in a tuple unless it is one.

    >>> as_tuple(3), as_tuple((3, 4))
    ((3,), (3, 4))
    """
    return value if isinstance(value, tuple) else (value,)


def draw_dy(rng: np.random.Generator, y: Any) -> Any:
    """Draw a dy for every output: signed, unequal, the first entry negative.

    y: an array, a number, or a tuple of them  ->  the same shapes and dtypes
    """
    parts = []
    for part in map(np.asarray, as_tuple(y)):
        dy = rng.normal(size=part.shape).astype(part.dtype)
        if dy.size:
            dy[(0,) * dy.ndim] = -1 - abs(dy[(0,) * dy.ndim])
        parts.append(float(dy) if part.shape == () else dy)
    return tuple(parts) if isinstance(y, tuple) else parts[0]


@dataclass(frozen=True)
class Trial:
    """One pass of a forward at recorded arguments, and the backward of that pass."""

    forward: Op
    backward: Op
    args: tuple[Any, ...]
    #: positions of the differentiated arguments, and how the forward calls them
    wrt: tuple[int, ...]
    names: tuple[str, ...]
    options: Mapping[str, Any]
    frozen: bool
    y: Any
    cache: Any

    def outputs(self, at: int, value: Float) -> tuple[Float, ...]:
        """Compute the outputs with another value of argument ``at``, residuals held."""
        moved = [*self.args[:at], value, *self.args[at + 1 :]]
        held = {"frozen": self.cache} if self.frozen else {}
        y, _ = answer("forward", self.forward, *moved, **self.options, **held)
        return tuple(map(np.asarray, as_tuple(plain(y))))

    def gradients(self, dy: Any) -> tuple[Any, ...]:
        """Run the backward; AssertionError unless it gives one gradient an argument.

        It must not write into dy.
        """
        before = [np.array(part) for part in as_tuple(dy)]
        grads = answer("backward", self.backward, dy, self.cache)
        for old, new in zip(before, as_tuple(dy), strict=True):
            if not np.array_equal(old, new):
                raise AssertionError("backward writes into dy")
        refuse_list("backward", grads)
        grads = as_tuple(grads)
        if len(grads) != len(self.wrt):
            raise AssertionError(
                f"backward gives {len(grads)} gradients for {len(self.wrt)} arguments "
                f"({', '.join(self.names)})"
            )
        return tuple(np.array(g) if isinstance(g, np.ndarray) else g for g in grads)


def record(
    forward: Op,
    backward: Op,
    args: Sequence[Any],
    wrt: int | str | Sequence[int | str],
    *,
    frozen: bool,
    options: Mapping[str, Any],
) -> Trial:
    """Run the forward in float64 and check that it can be replayed.

    Arguments of torch or jax are handed over as such, and what comes back is read.
    """
    check_question(forward, backward, args, frozen=frozen)
    if framework := framework_of(args):
        forward = handing(forward, framework)
    wide = tuple(in_double(plain(arg)) for arg in args)
    positions, names = arguments(forward, wide, wrt)
    y, cache = call_twice(forward, wide, options)
    y, backward = plain(y), undoing(backward, framework_of(as_tuple(y)))
    for part in as_tuple(y):
        check_output(part)
    trial = Trial(forward, backward, wide, positions, names, options, frozen, y, cache)
    if frozen:
        at = positions[0]
        for part, again in pairs(y, trial.outputs(at, wide[at])):
            if not np.allclose(again, part, rtol=1e-11, atol=1e-13):
                raise AssertionError(
                    "forward with frozen=cache does not repeat its own output: "
                    f"{again}, recorded {part}"
                )
    return trial


def check_question(
    forward: Any, backward: Any, args: Any, *, frozen: bool = False
) -> None:
    """Raise ValueError unless both are callable, args listed and frozen is taken."""
    check_callable(forward=forward, backward=backward)
    if not isinstance(args, list | tuple):
        kind = type(args).__name__
        raise ValueError(f"args must be a list of the arguments, got {kind}")  # noqa: TRY004 - bad values are ValueErrors in this house
    if frozen and not takes_frozen(forward):
        raise ValueError("frozen=True needs a forward that takes frozen=cache")


def check_callable(**functions: Any) -> None:
    """Raise ValueError that names the argument which is not callable."""
    for name, function in functions.items():
        if not callable(function):
            raise ValueError(f"{name} must be callable, got {function!r}")  # noqa: TRY004 - bad values are ValueErrors in this house


def refuse_list(name: str, result: Any) -> None:
    """Raise AssertionError for a list: results are arrays, or tuples of arrays."""
    if isinstance(result, list):
        raise AssertionError(f"{name} gives a list, not an array or a tuple of arrays")  # noqa: TRY004 - a broken law


def takes_frozen(forward: Op, *, unknown: bool = True) -> bool:
    """Whether a forward takes ``frozen``; ``unknown`` where that cannot be read.

    >>> takes_frozen(max), takes_frozen(max, unknown=False)
    (True, False)
    """
    try:
        taken = inspect.signature(forward).parameters.values()
    except (TypeError, ValueError):
        return unknown
    return any(
        p.name == "frozen" or (unknown and p.kind is p.VAR_KEYWORD) for p in taken
    )


def call_twice(forward: Op, args: tuple[Any, ...], options: Mapping[str, Any]) -> Any:
    """Call a forward twice; AssertionError if it writes, or answers otherwise."""
    before = [np.array(a) if isinstance(a, np.ndarray) else a for a in args]
    y, cache = output_and_cache(answer("forward", forward, *args, **options))
    refuse_list("forward", y)
    first = [np.array(part) for part in as_tuple(plain(y))]
    for name, old, new in zip(
        parameter_names(forward, len(args)), before, args, strict=True
    ):
        same_kind = isinstance(old, np.ndarray)
        if same_kind and not np.array_equal(old, new, equal_nan=old.dtype.kind == "f"):
            raise AssertionError(f"forward writes into {name}")
    again = output_and_cache(answer("forward", forward, *args, **options))[0]
    for old, new in zip(first, as_tuple(plain(again)), strict=True):
        numbers = old.dtype.kind in "biufc" and old.shape == np.shape(new)
        if numbers and not np.allclose(old, new, equal_nan=True):
            raise AssertionError(
                "forward gives another answer when it is called again: it depends on "
                "earlier calls or on chance"
            )
    return y, cache


def check_output(part: Any) -> None:
    """Raise AssertionError unless an output is finite and float64."""
    array = np.asarray(part)
    if array.dtype != np.float64:
        kind = type(part).__name__ if array.dtype == object else array.dtype
        raise AssertionError(
            f"forward gives {kind} for float64 arguments: the dtype is kept"
        )
    if not np.isfinite(array).all():
        raise AssertionError(f"forward gives values that are not finite: {array}")


def answer(name: str, function: Op, *args: Any, **options: Any) -> Any:
    """Call a function; any error but ValueError is an AssertionError that names it."""
    try:
        return function(*args, **options)
    except (ValueError, AssertionError):
        raise
    except Exception as error:  # whatever a user's function raises is its fault
        kind = type(error).__name__
        raise AssertionError(f"{name} raises {kind}: {error}") from error


def framework_of(values: Sequence[Any]) -> Any:
    """Find torch or jax by an array of theirs; None where all are of NumPy."""
    for value in values:
        root = type(value).__module__.split(".")[0].removesuffix("lib")
        if root in {"torch", "jax"} and hasattr(value, "__dlpack__"):
            return sys.modules[root]
    return None


def plain(value: Any) -> Any:
    """Read arrays of torch or jax, also in a tuple, as NumPy arrays."""
    if isinstance(value, tuple):
        return tuple(map(plain, value))
    if framework_of([value]) is None:
        return value
    held = value.detach().cpu() if hasattr(value, "detach") else value
    return np.from_dlpack(held).copy()


def handing(function: Op, framework: Any) -> Op:
    """Hand NumPy arrays over as those of a framework, through DLPack."""
    take = getattr(framework, "from_dlpack", None) or framework.dlpack.from_dlpack

    def given(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(given, value))
        if not isinstance(value, np.ndarray | np.generic | float):
            return value
        array = np.asarray(value)
        shared = array.flags.writeable and min(array.strides, default=0) >= 0
        return take(array if shared else array.copy())

    @functools.wraps(function)
    def called(*args: Any, **options: Any) -> Any:
        return function(*map(given, args), **options)

    return called


def undoing(backward: Op, framework: Any) -> Op:
    """Hand a backward dy as an array of a framework, if any; its cache as it is."""
    give: Op = handing(as_it_is, framework) if framework else as_it_is
    return lambda dy, cache: plain(backward(give(dy), cache))


def as_it_is(value: Any) -> Any:
    """value"""
    return value


def output_and_cache(result: Any) -> tuple[Any, Any]:
    """Split the result of a forward; AssertionError unless it is (y, cache)."""
    if not isinstance(result, tuple) or len(result) != 2:
        raise AssertionError(
            f"forward must give (y, cache), gives {type(result).__name__}"
        )
    return result


def arguments(
    forward: Op, args: tuple[Any, ...], wrt: int | str | Sequence[int | str]
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Find positions and names of the differentiated arguments.

    >>> arguments(lambda x, w: x @ w, (np.ones(2), np.ones(2)), ("w", 0))
    ((1, 0), ('w', 'x'))
    """
    known = parameter_names(forward, len(args))
    positions = []
    every = wrt if isinstance(wrt, Iterable) and not isinstance(wrt, str) else (wrt,)
    for each in every:
        at = known.index(each) if each in known else each
        if not isinstance(at, int | np.integer) or not 0 <= at < len(args):
            raise ValueError(f"wrt must be positions or names of {known}, got {each!r}")
        if args[at] is not None and (
            isinstance(args[at], tuple) or np.asarray(args[at]).dtype.kind != "f"
        ):
            kind = getattr(args[at], "dtype", type(args[at]).__name__)
            raise ValueError(f"wrt names {known[at]}, which is {kind}, no float array")
        positions.append(int(at))
    if not positions:
        raise ValueError(f"wrt must name an argument of {known}, got {wrt!r}")
    return tuple(positions), tuple(known[at] for at in positions)


def parameter_names(forward: Op, count: int) -> list[str]:
    """List the names of the first arguments; argument0 ... where none can be read."""
    try:
        names = [
            name
            for name, p in inspect.signature(forward).parameters.items()
            if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
    except (TypeError, ValueError):
        names = []
    return [*names[:count], *(f"argument{i}" for i in range(len(names), count))]


def in_double(value: Any) -> Any:
    """Copy floats into float64; integers and everything else stay as they are."""
    if isinstance(value, float | np.floating):
        return np.float64(value)
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        return value.astype(np.float64)
    return value


def check_form(grad: Any, arg: Any, name: str) -> None:
    """Raise unless a gradient is finite, of its argument's shape, and floats."""
    if grad is None:
        raise AssertionError(f"d{name} is None, {name} is an array")
    if np.shape(grad) != np.shape(arg):
        raise AssertionError(
            f"d{name} has the shape {np.shape(grad)}, {name} has {np.shape(arg)}"
        )
    kinds = np.asarray(grad).dtype, np.asarray(arg).dtype
    if kinds[0] != kinds[1]:
        raise AssertionError(f"d{name} is {kinds[0]}, {name} is {kinds[1]}")
    if not np.isfinite(grad).all():
        raise AssertionError(f"d{name} is not finite: {grad}")


def derivative(
    trial: Trial, at: int, u: Float, step: float
) -> tuple[tuple[Float, ...], tuple[Float, ...]]:
    """(f(a + hu) - f(a - hu)) / 2h of every output, and the rounding error of each."""
    value = np.asarray(trial.args[at])
    size = float(np.abs(value).mean()) if value.size else 0.0
    h = step * (size or 1.0)
    up, down = (trial.outputs(at, value + way * h * u) for way in (1, -1))
    eps = np.finfo(np.float64).eps
    moved = tuple((a - b) / (2 * h) for a, b in zip(up, down, strict=True))
    # an output that cancels carries the roundings of larger terms: those of its array
    noise = tuple(
        np.full(a.shape, ROUNDINGS * eps * np.abs(a).max(initial=0) / h) for a in up
    )
    return moved, noise


def pairs(dy: Any, y: Any) -> Iterator[tuple[Any, Any]]:
    """Zip two outputs, each an array or a tuple of arrays."""
    return zip(as_tuple(dy), as_tuple(y), strict=True)


def inner(dy: Any, moved: Sequence[Array]) -> float:
    """<dy, moved> over all outputs."""
    parts = dy if isinstance(dy, list) else as_tuple(dy)
    return float(sum(np.sum(d * m) for d, m in zip(parts, moved, strict=True)))
