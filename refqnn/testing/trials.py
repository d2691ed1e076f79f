"""One pass of a forward, recorded so that it can be differenced and undone."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
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
        y, _ = self.forward(*moved, **self.options, **held)
        return tuple(map(np.asarray, as_tuple(y)))

    def gradients(self, dy: Any) -> tuple[Any, ...]:
        """Run the backward; AssertionError unless it gives one gradient an argument."""
        grads = as_tuple(self.backward(dy, self.cache))
        if len(grads) != len(self.wrt):
            raise AssertionError(
                f"backward gives {len(grads)} gradients for {len(self.wrt)} arguments "
                f"({', '.join(self.names)})"
            )
        return grads


def record(
    forward: Op,
    backward: Op,
    args: Sequence[Any],
    wrt: int | str | Sequence[int | str],
    *,
    frozen: bool,
    options: Mapping[str, Any],
) -> Trial:
    """Run the forward in float64 and check that it can be replayed."""
    wide = tuple(in_double(arg) for arg in args)
    positions, names = arguments(forward, wide, wrt)
    y, cache = output_and_cache(forward(*wide, **options))
    for part in map(np.asarray, as_tuple(y)):
        if part.dtype != np.float64:
            raise AssertionError(
                f"forward gives {part.dtype} for float64 arguments: the dtype is kept"
            )
        if not np.isfinite(part).all():
            raise AssertionError(f"forward gives values that are not finite: {part}")
    trial = Trial(forward, backward, wide, positions, names, options, frozen, y, cache)
    if frozen and positions:
        at = positions[0]
        for part, again in pairs(y, trial.outputs(at, wide[at])):
            if not np.allclose(again, part, rtol=1e-11, atol=1e-13):
                raise AssertionError(
                    "forward with frozen=cache does not repeat its own output: "
                    f"{again}, recorded {part}"
                )
    return trial


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
    for each in (wrt,) if isinstance(wrt, int | str) else wrt:
        at = known.index(each) if each in known else each
        if not isinstance(at, int | np.integer) or not 0 <= at < len(args):
            raise ValueError(f"wrt must be positions or names of {known}, got {each!r}")
        if args[at] is not None and np.asarray(args[at]).dtype.kind != "f":
            raise ValueError(f"wrt names {known[at]}, which holds no floats")
        positions.append(int(at))
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
    """Raise unless a gradient is finite and has the shape of its argument."""
    if np.shape(grad) != np.shape(arg):
        raise AssertionError(
            f"d{name} has the shape {np.shape(grad)}, {name} has {np.shape(arg)}"
        )
    if grad is None or not np.isfinite(grad).all():
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
