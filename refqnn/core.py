"""What every layer is made of: parameters, buffers, the settings of a pass, modules.

A module is a final dataclass with ``forward(x, run) -> (y, cache)`` and
``backward(dy, cache) -> dx``. Backward *adds* into ``Param.grad``. Whatever a backward
needs is in the returned cache, so a module may run many times before it is undone.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, Protocol

import numpy as np

import refqnn
from refqnn._types import Array, Float


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

    def __post_init__(self) -> None:
        # not zeros_like, which would write to every page of a network never trained
        self.grad = np.zeros(self.value.shape, self.value.dtype)


@dataclass(eq=False)
class Buffer:
    """An array that training changes but no gradient reaches: running statistics."""

    value: Array


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
        """Return the same settings with an empty tape to record on."""
        return replace(self, tape=[], replay=None)

    def replaying(self, tape: list[Any]) -> "Run":
        """Return the same settings with the residuals of ``tape`` held."""
        return replace(self, tape=None, replay=iter(tape))

    def straight_through(
        self, op: Callable[..., tuple[Any, Any]], *args: Any, **options: Any
    ) -> tuple[Any, Any]:
        """Return ``op(*args, **options)``, its rounding recorded or replayed."""
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


def walk(module: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield ``(dotted name, leaf)`` for every Param and Buffer, in field order.

    Fields of dataclasses, entries of lists and tuples and values of dicts are followed.
    """
    if isinstance(module, Param | Buffer):
        yield prefix, module
        return
    for name, child in children(module):
        yield from walk(child, f"{prefix}.{name}" if prefix else name)


def children(module: Any) -> Iterator[tuple[str, Any]]:
    """Yield ``(name, child)`` one level down."""
    if is_dataclass(module) and not isinstance(module, type):
        yield from ((f.name, getattr(module, f.name)) for f in fields(module))
    elif isinstance(module, list | tuple):
        yield from ((str(i), child) for i, child in enumerate(module))
    elif isinstance(module, dict):
        yield from module.items()


def named_modules(module: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield ``(dotted name, dataclass)`` for the module and everything inside it."""
    if isinstance(module, Param | Buffer):
        return
    if is_dataclass(module):
        yield prefix, module
    for name, child in children(module):
        yield from named_modules(child, f"{prefix}.{name}" if prefix else name)


def named_params(module: Any) -> dict[str, Param]:
    """Return every parameter under its dotted name; a shared one under its first."""
    seen: set[int] = set()
    found = {}
    for name, leaf in walk(module):
        if isinstance(leaf, Param) and id(leaf) not in seen:
            seen.add(id(leaf))
            found[name] = leaf
    return found


def named_buffers(module: Any) -> dict[str, Buffer]:
    """Return every buffer under its dotted name."""
    return {name: leaf for name, leaf in walk(module) if isinstance(leaf, Buffer)}


def zero_grads(module: Any) -> None:
    """Set every gradient to zero."""
    for param in named_params(module).values():
        param.grad[...] = 0
