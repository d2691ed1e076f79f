"""Parameters, buffers, the settings of a pass and modules, which layers are made of.

A module is a final dataclass with ``forward(x, run) -> (y, cache)`` and
``backward(dy, cache) -> dx``. Backward *adds* into ``Param.grad``. Whatever a backward
needs is in the returned cache, so a module may run many times before it is undone.
"""

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields, is_dataclass, replace
from itertools import repeat
from typing import Any, Protocol

import numpy as np

import refqnn
from refqnn._types import Array, Float
from refqnn.prompt import short_repr


@dataclass(eq=False)
class Param:
    """A learned array and the gradient that backward passes add up."""

    value: Float
    grad: Float = field(init=False, repr=False)
    #: "weight" is decayed, "affine" (bias, gamma, beta) is not, "quantizer" has its own
    #: learning rate
    group: str = "weight"
    #: puts the value back into its domain after an optimiser step
    project: Callable[[Float], Float] | None = field(default=None, repr=False)

    __repr__ = short_repr

    def __post_init__(self) -> None:
        # not zeros_like, which would write to every page of a network never trained
        self.grad = np.zeros(self.value.shape, self.value.dtype)


@dataclass(eq=False)
class Buffer:
    """An array that training changes but no gradient reaches: running statistics."""

    value: Array

    __repr__ = short_repr


@dataclass(frozen=True)
class Run:
    """The settings of one pass: training or not, randomness, and which side computes.

    ``backend`` is the package whose ``ops``, ``integer`` and ``quantizers`` layers
    call: ``refqnn`` (the definition) or ``refqnn.fast`` (its Numba twins).

    ``tape`` makes a straight-through network checkable by finite differences: a run
    from ``recording()`` stores the cache of each straight-through op in call order, and
    a run from ``replaying(tape)`` computes with those rounding residuals held, which is
    the smooth function whose exact gradient the straight-through backward is.
    """

    training: bool = False
    rng: np.random.Generator | None = None
    backend: Any = refqnn
    tape: list[Any] | None = None
    replay: Iterator[Any] | None = None
    #: called as ``observe(module, x, y)`` by every layer that computes
    observe: Callable[[Any, Array, Array], None] | None = None

    def recording(self) -> "Run":
        """Give the same settings with an empty tape to record on."""
        return replace(self, tape=[], replay=None)

    def replaying(self, tape: list[Any]) -> "Run":
        """Give the same settings with the residuals of ``tape`` held."""
        return replace(self, tape=None, replay=iter(tape))

    def straight_through(
        self, op: Callable[..., tuple[Any, Any]], *args: Any, **options: Any
    ) -> tuple[Any, Any]:
        """Compute ``op(*args, **options)``, its rounding recorded or replayed."""
        frozen = None if self.replay is None else next(self.replay)
        y, cache = op(*args, **options, frozen=frozen)
        if self.tape is not None:
            self.tape.append(cache)
        return y, cache

    def see(self, module: Any, x: Array, y: Array) -> None:
        """Show what ``module`` computed to the observer, if there is one."""
        if self.observe is not None:
            self.observe(module, x, y)


class Module(Protocol):
    """A layer or a network of layers."""

    def forward(self, x: Float, run: Run) -> tuple[Float, Any]:
        """Return the output and what ``backward`` needs."""

    def backward(self, dy: Float, cache: Any) -> Float:
        """Return dx and add the gradients of the parameters."""


@functools.cache
def field_names(kind: type) -> tuple[str, ...] | None:
    """List the fields of a module in their order; None for leaves and other classes."""
    if not is_dataclass(kind) or kind in {Param, Buffer}:
        return None
    return tuple(each.name for each in fields(kind))


def tree(module: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """List ``(dotted name, part)`` for a module and all that is in it, in field order.

    Fields of dataclasses, entries of lists and tuples and values of dicts are followed,
    those of Param and Buffer are not. One loop and no recursion: every training step
    comes here.
    """
    parts, left = [], [("", prefix, module)]
    while left:
        above, name, part = left.pop()
        name = f"{above}.{name}" if above else name
        parts.append((name, part))
        names: Iterable[str]
        values: Iterable[Any]
        kind: Any = type(part)
        if (own := field_names(kind)) is not None:
            names, values = own, map(getattr, repeat(part), own)
        elif isinstance(part, (list, tuple)):
            names, values = map(str, range(len(part))), part
        elif isinstance(part, dict):
            names, values = part.keys(), part.values()
        else:
            continue
        left += reversed([*zip(repeat(name), names, values, strict=False)])
    return parts


def walk(module: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """List ``(dotted name, leaf)`` for every Param and Buffer, in field order."""
    kinds = (Param, Buffer)
    return [pair for pair in tree(module, prefix) if isinstance(pair[1], kinds)]


def named_modules(module: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield ``(dotted name, dataclass)`` for the module and everything inside it."""
    parts = [(name, part, part.__class__) for name, part in tree(module, prefix)]
    return iter([(name, m) for name, m, kind in parts if field_names(kind) is not None])


def named_params(module: Any) -> dict[str, Param]:
    """Map dotted names to parameters; a shared one stands under its first name."""
    seen: set[int] = set()
    params = {}
    for name, leaf in walk(module):
        if isinstance(leaf, Param) and id(leaf) not in seen:
            seen.add(id(leaf))
            params[name] = leaf
    return params


def named_buffers(module: Any) -> dict[str, Buffer]:
    """Map dotted names to buffers."""
    return {name: leaf for name, leaf in walk(module) if isinstance(leaf, Buffer)}


def zero_grads(module: Any) -> None:
    """Set every gradient to zero."""
    for param in named_params(module).values():
        param.grad[...] = 0
