"""One module over a (forward, backward) pair: parameters, buffers, bits, codes.

A file of this room states a pair; its module adds what the pair cannot hold: learned
parameters, running statistics, their first values. A quantizer of one's own:

>>> from dataclasses import dataclass
>>> def lattice(x, *, bits, frozen=None):
...     residual = np.rint(x * 2**bits) / 2**bits - x if frozen is None else frozen
...     return x + residual, residual
>>> @dataclass(eq=False)
... class Lattice(Quantizer):
...     bits: int = 4
...     pair = (lattice, lambda dy, cache: dy)
>>> y, cache = Lattice(bits=1).forward(np.array([0.3, 0.9]), Run())
>>> y
array([0.5, 1. ])

The methods below are small and each has one purpose, so that a module overrides only
what is its own; ``forward`` and ``backward`` are everywhere the same.
"""

from collections.abc import Callable
from functools import partial
from operator import attrgetter
from typing import Any, ClassVar

import numpy as np

import refqnn
from refqnn._types import Float, Int
from refqnn.core import Buffer, Param, Run
from refqnn.integer.checks import code_dtype
from refqnn.quantizers.checks import (
    MOST_BITS,
    boundaries,
    check_bits,
    check_choice,
    check_values,
    codebook,
    draw_noise,
)


class Quantizer:
    """Values forward, gradients backward, through ``pair``."""

    #: ``op(v, *arguments, **options, frozen=) -> (y, cache)`` and its backward
    pair: ClassVar[tuple[Callable[..., Any], Callable[..., Any]]]
    #: the Params and Buffers that the pair takes after the values; Params get gradients
    parameters: ClassVar[tuple[str, ...]] = ()
    #: the fields, Buffers among them, that are keyword arguments of the pair; "bits"
    #: are those of the call
    options: ClassVar[tuple[str, ...]] = ("bits",)
    fewest_bits: int = 1
    most_bits: int = MOST_BITS
    #: the error of an evaluation before the first values are there; "" needs none
    unknown: ClassVar[str] = ""
    #: the Buffer that is not 0 once they are
    known_by: ClassVar[str] = "known"
    #: what a module adds, where it adds anything: called with the values, the run and
    #: the bits of the call. ``begin`` sets first values or running statistics from a
    #: training pass; ``arguments`` gives what the pair takes after the values (None:
    #: the values of ``parameters``), ``keywords`` its options (None: ``options``)
    begin: ClassVar[Callable[..., None] | None] = None
    arguments: ClassVar[Callable[..., tuple[Any, ...]] | None] = None
    keywords: ClassVar[Callable[..., dict[str, Any]] | None] = None
    #: whether only a training pass without first values begins, or every one
    begins_once: ClassVar[bool] = False
    #: ``after(v, run)`` moves what the next pass is to use; None: nothing moves
    after: ClassVar[Callable[..., None] | None] = None
    #: ``param_gradient(name, grad)`` gives what is added to a parameter's gradient;
    #: None: ``grad`` in the parameter's shape
    param_gradient: ClassVar[Callable[..., Float] | None] = None
    bits: int

    def __post_init__(self) -> None:
        self.bits_of(None)

    def forward(
        self, v: Float, run: Run, *, bits: int | None = None
    ) -> tuple[Float, Any]:
        """Quantize ``v``; ``bits`` replaces the module's for this call.

        v: (...)  ->  y: (...), dtype of v

        A training pass sets first values and joins running statistics. Raises
        ValueError for bits the method does not have, and in evaluation before the
        first values are known.
        """
        own = getattr(self, "bits", None) if bits is None else None
        if type(own) is not int or not self.fewest_bits <= own <= self.most_bits:
            own = self.bits_of(bits)
        known = getattr(self, self.known_by, None) if self.unknown else None
        fresh = run.training and run.replay is None and v.size > 0
        again = not self.begins_once or not getattr(self, self.known_by).value
        if fresh and again and self.begin:
            self.begin(v, run, own)
        if self.arguments:
            arguments = self.arguments(v, run, own)
        else:
            if known and not known.value:
                self.check_known(v)
            leaves = map(partial(getattr, self), self.parameters)
            arguments = tuple(map(attrgetter("value"), leaves))
        options = self.keywords(v, run, own) if self.keywords else {}
        for name in () if self.keywords else self.options:
            option = own if name == "bits" else getattr(self, name)
            options[name] = option.value if isinstance(option, Buffer) else option
        op, op_backward = self.pair
        if run.backend is not refqnn:
            op, op_backward = (twin_of(half, run.backend) for half in self.pair)
        if run.tape is None and run.replay is None:
            y, cache = op(v, *arguments, **options)
        else:
            y, cache = run.straight_through(op, v, *arguments, **options)
        if self.after:
            self.after(v, run)
        if run.observe is not None:
            run.observe(self, v, y)
        return y, (op_backward, cache)

    def backward(self, dy: Float, cache: Any) -> Float:
        """dy: (...)  ->  dv: (...); the gradients of parameters are added to theirs."""
        op_backward, recorded = cache
        grads = op_backward(dy, recorded)
        dv, *others = grads if isinstance(grads, tuple) else (grads,)
        for name, grad in zip(self.parameters, others, strict=False):
            leaf = getattr(self, name)
            if isinstance(leaf, Param):
                own = self.param_gradient
                shaped = grad.reshape(leaf.value.shape)
                leaf.grad += own(name, shaped) if own else shaped
        return dv

    def bits_of(self, bits: int | None) -> int:
        """Choose the bits of a call, or the module's; raise outside the method's."""
        bits = self.bits if bits is None else bits
        check_bits(bits, least=self.fewest_bits, most=self.most_bits)
        return bits

    def is_known(self) -> bool:
        """Say whether the first values are there, where the method has any."""
        return not self.unknown or bool(getattr(self, self.known_by).value)

    def check_known(self, v: Float) -> None:
        """Raise where there is something to quantize and no first value yet."""
        if v.size and not self.is_known():
            raise ValueError(self.unknown)

    def hold(self, **values: Any) -> None:
        """Set the values of parameters and buffers, which are then known."""
        for name, value in values.items():
            getattr(self, name).value = np.asarray(value)
        if hasattr(self, self.known_by):
            getattr(self, self.known_by).value = np.asarray(1)


class GridQuantizer(Quantizer):
    """A quantizer with ``y == scale * (q - zero_point)`` for integer codes q."""

    #: the integer codes of b bits: ``unsigned_codes``, ``signed_codes``, ``odd_codes``
    codes: ClassVar["staticmethod[[int], Int]"]

    def grid(self) -> Int:
        """List the integer codes, ascending: (L,)."""
        return self.codes(self.bits)

    def codes_and_scale(self, v: Float) -> tuple[Float, Float, Float | int]:
        """Give codes as floats, their scale and zero-point, for finite ``v: (...)``."""
        raise NotImplementedError

    def quantize(self, v: Float) -> tuple[Int, Float, Int]:
        """Give codes, scale and zero-point: levels are ``scale * (q - zero_point)``.

        v: (...)  ->  q: (...), scale, zero_point: one a group, broadcast to v
        """
        q, scale, zero_point, _ = self.quantize_on_grid(v)
        return q, scale, zero_point

    def quantize_on_grid(self, v: Float) -> tuple[Int, Float, Int, Int]:
        """Give codes, scale and zero-point as ``quantize``, and the codes there are."""
        self.check_known(v)
        check_values(v, name="v")
        q, scale, zero_point, grid = self.codes_on_grid(v)
        zero = np.broadcast_to(np.asarray(zero_point, np.int32), scale.shape).copy()
        dtype = code_dtype(int(grid[0]), int(grid[-1]))
        return q.astype(dtype), scale, zero, grid

    def codes_on_grid(self, v: Float) -> tuple[Float, Float, Float | int, Int]:
        """Give ``codes_and_scale`` and ``grid``; one look at what both depend on."""
        return (*self.codes_and_scale(v), self.grid())

    def encode(self, v: Float) -> tuple[Int, Float]:
        """Give ``(codes, levels)``, one codebook a group, ``levels[codes] == y``.

        v: (...)  ->  codes: (...), levels: (groups * L,)
        """
        return codebook(*self.quantize(v), self.grid())

    def decision_boundaries(self, v: Float) -> Float:
        """Give the values where the code changes: (groups, L - 1), ascending."""
        _, scale, zero_point = self.quantize(v)
        return boundaries(scale, zero_point, self.grid())


class GradientQuantizer:
    """Values pass unchanged; what flows back goes through ``transform``.

    A training pass draws the noise from ``run.rng``; behind any other pass the gradient
    flows back as it is.
    """

    #: ``transform(dy, noise, bits=) -> dy``
    transform: ClassVar["staticmethod[..., Float]"]
    most_bits: ClassVar[int] = MOST_BITS
    bits: int

    def __post_init__(self) -> None:
        check_bits(self.bits, least=1, most=self.most_bits)

    def forward(
        self, y: Float, run: Run, *, bits: int | None = None
    ) -> tuple[Float, Any]:
        """y: (N, ...)  ->  y itself"""
        bits = self.bits if bits is None else bits
        check_bits(bits, least=1, most=self.most_bits)
        transform = twin_of(self.transform, run.backend)
        return y, (transform, draw_noise(y.shape, run), bits)

    def backward(self, dy: Float, cache: Any) -> Float:
        """dy: (N, ...)  ->  the quantized dy"""
        transform, noise, bits = cache
        return dy if noise is None else transform(dy, noise, bits=bits)


def twin_of(function: Callable[..., Any], backend: Any) -> Callable[..., Any]:
    """Choose what computes a pass: the backend's function, or one of a user's own.

    >>> from refqnn.quantizers import lsq
    >>> twin_of(lsq, refqnn) is lsq, twin_of(len, refqnn) is len
    (True, True)
    """
    name = function.__name__
    own = getattr(refqnn.quantizers, name, None) is function
    chosen: Callable[..., Any] = getattr(backend.quantizers, name) if own else function
    return chosen


def check_of(of: str) -> None:
    """Raise unless a quantizer is of weights or of activations."""
    check_choice(of, "weight", "activation", name="of")


def per_channel(p: Float, v: Float, of: str) -> Float:
    """Shape one number a channel so that it broadcasts to v; () stays.

    Channels are the filters of weights, v: (O, ...), and axis 1 of activations, v: (N,
    C, ...).  p: (O,) or (C,)  ->  (O, 1, ...) or (C, 1, ...)

    >>> per_channel(np.ones(3), np.zeros((2, 3, 4, 4)), "activation").shape
    (3, 1, 1)
    """
    if not p.ndim:
        return p
    axis = int(of == "activation")
    if v.ndim <= axis or v.shape[axis] != p.size:
        raise ValueError(
            f"v must have {p.size} channels on axis {axis}, one a number: v{v.shape}"
        )
    return p.reshape(-1, *[1] * (v.ndim - axis - 1))


def check_channels(channels: int | None) -> tuple[int, ...]:
    """Give the shape of one number a channel: () for one in all.

    >>> check_channels(None), check_channels(8)
    ((), (8,))
    """
    if channels is None:
        return ()
    if isinstance(channels, bool) or not isinstance(channels, int | np.integer):
        raise ValueError(f"channels must be an int or None, got {channels!r}")  # noqa: TRY004 - bad values are ValueErrors in this house
    if channels < 1:
        raise ValueError(f"channels must be at least 1, got {channels}")
    return (int(channels),)


def zero() -> Buffer:
    """Make a number that training sets."""
    return Buffer(np.zeros(()))


def unset() -> Buffer:
    """Make a count or a flag: 0 until first values are known."""
    return Buffer(np.zeros((), np.int64))


def positive(p: Float) -> Float:
    """max(p, the smallest normal number of float32)

    >>> positive(np.array(-0.5)) > 0
    np.True_
    """
    return np.maximum(p, np.finfo(np.float32).tiny)


def positive_one() -> Param:
    """Make a learned number that starts at 1 and is kept positive."""
    return Param(np.ones(()), group="quantizer", project=positive)


def unsigned_codes(bits: int) -> Int:
    """List 0 .. 2^b - 1.

    >>> unsigned_codes(2)
    array([0, 1, 2, 3])
    """
    return np.arange(2**bits)


def signed_codes(bits: int) -> Int:
    """List -n .. n, n = 2^(b-1) - 1.

    >>> signed_codes(2)
    array([-1,  0,  1])
    """
    n = 2 ** (bits - 1) - 1
    return np.arange(-n, n + 1)


def odd_codes(bits: int) -> Int:
    """List the odd numbers -n .. n, n = 2^b - 1: none is 0.

    >>> odd_codes(1), odd_codes(2)
    (array([-1,  1]), array([-3, -1,  1,  3]))
    """
    n = 2**bits - 1
    return np.arange(-n, n + 1, 2)
