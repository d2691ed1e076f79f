"""Mechanical mistakes of a reference, made without looking at its variants.

A judge earns its word by refuting what is wrong in ways that nobody listed. A mutant is
the reference with one argument read wrongly, one output spoiled, or a result changed
only in a region, in vectors or in a tail. Where a changed argument does not fit, the
mutant answers as the reference does: it is wrong only where it can be.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from refqnn._types import Array
from refqnn.conformance.choices.families import (
    REFUSED,
    Family,
    Inputs,
    Outputs,
    family_of,
)

#: what the reference raises for arguments that do not fit
MISFITS = (ValueError, TypeError, IndexError, ArithmeticError, AttributeError)
Function = Callable[..., Any]
Change = Callable[[Any], Any]


def same_call(call: Inputs) -> Inputs:
    """Return the arguments."""
    return call


def same_outputs(_call: Inputs, outputs: Outputs) -> Outputs:
    """Return the outputs."""
    return outputs


class Mutant(NamedTuple):
    """A mistake: what becomes of the arguments, and of the outputs."""

    name: str
    given: Callable[[Inputs], Inputs] = same_call
    spoiled: Callable[[Inputs, Outputs], Outputs] = same_outputs
    #: only this output is computed from the changed arguments; "" for all
    only: str = ""


def mutants_of(family: str) -> list[tuple[str, Function]]:
    """Return every mutant of a family: its name, a function of the family's inputs.

    >>> dict(mutants_of("dequantize"))["zero_point: 0"](np.int8([3]), np.float32(1), 2)
    array([3.], dtype=float32)
    """
    known = family_of(family)
    return [(m.name, partial(as_function, known, m)) for m in mistakes(family)]


def as_function(family: Family, mutant: Mutant, *inputs: Any) -> Any:
    """Return the outputs of a mutant; raise where the reference does."""
    call = dict(zip(family.candidates()[0], inputs, strict=True))
    right = reference(family, call)
    if any(np.any(np.asarray(y) == REFUSED) for y in right.values()):
        raise ValueError(f"{family.name} refuses this input")
    outputs = tuple(answers(family, mutant, call, right).values())
    return outputs[0] if len(outputs) == 1 else outputs


def reference(family: Family, call: Inputs) -> Outputs:
    """Return what refqnn answers; what it warns of is no answer."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return family.evaluate(family.default, **call)


def answers(family: Family, mutant: Mutant, call: Inputs, right: Outputs) -> Outputs:
    """Return what a mutant answers to a call that is rightly answered by ``right``."""
    outputs = right
    if mutant.given is not same_call:
        try:
            outputs = reference(family, mutant.given(dict(call)))
        except MISFITS:
            return right
    if mutant.only:
        outputs = right | {mutant.only: outputs[mutant.only]}
    return mutant.spoiled(call, dict(outputs))


def unseen_mutants(family: str, calls: Iterable[Inputs]) -> list[str]:
    """Return the names of the mutants that answer every call as the reference does.

    >>> call = dict(q=np.int8([1]), scale=np.float32(1), zero_point=0)
    >>> "zero_point: 0" in unseen_mutants("dequantize", [call])
    True
    """
    known, left = family_of(family), list(mistakes(family))
    for call in calls:
        right = reference(known, call)
        left = [m for m in left if agrees(known, answers(known, m, call, right), right)]
    return [m.name for m in left]


def agrees(family: Family, got: Outputs, want: Outputs) -> bool:
    """Say whether outputs count as equal under the policy of the family."""
    return all(
        np.shape(got[name]) == np.shape(want[name])
        and bool(np.all(family.agree(got[name], want[name])))
        for name in want
    )


@cache
def mistakes(family: str) -> tuple[Mutant, ...]:
    """Return every mutant of a family, those of arguments first.

    A change that fits none of many calls is no mistake, and left out.
    """
    known = family_of(family)
    draw = known.wide or known.draw
    examples = [draw(np.random.default_rng(seed), 24) for seed in range(EXAMPLES)]
    every = [
        *arguments_misread(known, examples),
        *arguments_exchanged(examples[0]),
        *outputs_spoiled(known, examples[0]),
        *only_somewhere(known),
    ]
    fitting = {m.name: m for m in every if any(fits(known, m, c) for c in examples)}
    return tuple(fitting.values())


def fits(family: Family, mutant: Mutant, call: Inputs) -> bool:
    """Say whether the reference computes something for the changed arguments."""
    if mutant.given is same_call:
        return True
    try:
        reference(family, mutant.given(dict(call)))
    except MISFITS:
        return False
    return True


#: calls on which a changed argument is tried
EXAMPLES = 8


# --- arguments


def arguments_misread(family: Family, examples: Sequence[Inputs]) -> Iterator[Mutant]:
    """Each argument ignored, of other sign or size, in other order, of fewer bits."""
    first = family.candidates()[0]
    main = next(iter(first))
    for name in first:
        values = [call[name] for call in examples]
        changes = {**ignored(first[name]), **misread(values, main=name == main)}
        if name in NO_CODES:
            changes.pop("negated", None)
        else:
            changes |= fewer_bits_read(name, values)
        for what, change in changes.items():
            given = partial(changed, name, change)
            yield Mutant(f"{name}: {what}", given)
            if name == "dy" and what in {"absolute", "negated", "ones"}:
                for output in family.outputs[1:]:
                    yield Mutant(f"{name}: {what}, for {output}", given, only=output)


def changed(name: str, change: Change, call: Inputs) -> Inputs:
    """Return the arguments, one of them changed."""
    return call | {name: change(call[name])}


def ignored(example: Any) -> dict[str, Change]:
    """Return changes to constants: that of the first candidate, zeros, ones."""
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


def misread(values: Sequence[Any], *, main: bool) -> dict[str, Change]:
    """Return changes that keep the kind of an argument: see ``arguments_misread``."""
    first = values[0]
    if isinstance(first, tuple) or any(isinstance(v, tuple) for v in values):
        nested = any(np.ndim(v) == 2 for v in values)
        sides: dict[str, Change] = {"sides exchanged": sides_exchanged}
        return {"h and w exchanged": reversed_pair} | (sides if nested else {})
    changes: dict[str, Change] = {}
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
    if any(np.size(v) > 1 for v in values):
        changes["first element for all"] = first_for_all
        changes["reversed"] = flipped
    if any(is_square(v) for v in values):
        changes["transposed"] = lambda v: np.swapaxes(v, -1, -2)
    if a.ndim > 1:
        changes["first row for all"] = lambda v: np.broadcast_to(v[:1], v.shape)
    return changes


def is_square(value: Any) -> bool:
    """Say whether the last two axes are alike and longer than 1."""
    return np.ndim(value) > 1 and np.shape(value)[-1] == np.shape(value)[-2] > 1


#: arguments that are no codes: ranges, geometry, classes
NO_CODES = (
    "q_min", "q_max", "shift", "multiplier", "bits", "labels",
    "stride", "kernel", "padding", "dilation", "groups", "offset", "step",
)  # fmt: skip
NARROW = {"int8": np.int8, "uint8": np.uint8, "int16": np.int16}


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


def reversed_pair(pair: Any) -> Any:
    """Exchange h and w of a pair, or of padding."""
    return pair[::-1] if isinstance(pair, tuple) else pair


def sides_exchanged(pair: Any) -> Any:
    """Exchange top with bottom and left with right."""
    if not isinstance(pair, tuple) or not isinstance(pair[0], tuple):
        return pair
    return tuple(sides[::-1] for sides in pair)


def first_for_all(value: Any) -> Any:
    """Return the first element everywhere."""
    return np.full_like(value, np.ravel(value)[0]) if np.ndim(value) else value


def flipped(value: Any) -> Any:
    """Reverse an array along its longest axis."""
    return np.flip(value, int(np.argmax(np.shape(value)))) if np.ndim(value) else value


def read_as(dtype: Any, value: Any) -> Any:
    """Keep the low bits of integers, in 32 bits.

    >>> read_as(np.uint8, np.int8([-1, 1]))
    array([255,   1], dtype=int32)
    """
    wrapped = np.asarray(value).astype(dtype).astype(np.int32)
    return int(wrapped) if isinstance(value, int) else wrapped


def arguments_exchanged(example: Inputs) -> Iterator[Mutant]:
    """Two arguments of one kind and shape exchanged."""

    def exchange(a: str, b: str, call: Inputs) -> Inputs:
        return call | {a: call[b], b: call[a]}

    for a, b in combinations(example, 2):
        kinds = [np.asarray(example[k]).dtype.kind for k in (a, b)]
        if kinds[0] == kinds[1] and not {a, b} & {"q_min", "q_max", "groups"}:
            yield Mutant(f"{a} and {b} exchanged", partial(exchange, a, b))


# --- outputs


def outputs_spoiled(family: Family, example: Inputs) -> Iterator[Mutant]:
    """Each output of fewer bits, of other sign or size, moved, masked otherwise."""
    right = reference(family, example)
    elementwise = next(iter(example))
    for name in family.outputs:
        y = np.asarray(right[name])
        n = len(example[elementwise]) if np.ndim(example[elementwise]) else 1
        changes = spoils(y, fewer_bits(family, y), n)
        for what, change in changes.items():
            yield Mutant(f"{name} {what}", spoiled=partial(respelled, name, change))
        if name.startswith("dx") and np.shape(y) == np.shape(example["x"]):
            for what, where in MASKS.items():
                for to in ("0", "dy"):
                    spoil = partial(masked, where, to)
                    yield Mutant(f"{name} {to} where {what}", spoiled=spoil)


def fewer_bits(family: Family, y: Array) -> tuple[int, ...]:
    """Return widths below those that an output needs."""
    if y.dtype.kind == "f":
        return ()
    if "q_max" in family.candidates()[0]:
        return (8, 15)
    return (16, 24, 31, 32) if "w" in family.candidates()[0] else (7, 8)


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
        changes["reversed"] = flipped
    return changes


def wrap(half: int, y: Array) -> Array:
    """Return y modulo 2 half, signed."""
    return (y + half) % (2 * half) - half


def clip(half: int, y: Array) -> Array:
    """Return y saturated to [-half, half - 1]."""
    return np.clip(y, -half, half - 1)


def respelled(name: str, change: Change, _call: Inputs, outputs: Outputs) -> Outputs:
    """Return the outputs, one of them changed."""
    return outputs | {name: np.asarray(change(np.asarray(outputs[name])))}


#: where a mask may be opened or closed by mistake
MASKS: dict[str, Change] = {
    "x > 1": lambda x: x > 1,
    "x < -1": lambda x: x < -1,
    "x > 0": lambda x: x > 0,
    "x < 0": lambda x: x < 0,
    "x = 0": lambda x: x == 0,
    "x is largest": lambda x: x == np.max(x),
}


def masked(where: Change, to: str, call: Inputs, outputs: Outputs) -> Outputs:
    """Return dx replaced by dy or by 0 where x is somewhere."""
    other = call["dy"] if to == "dy" else np.zeros_like(call["dy"])
    return outputs | {"dx": np.where(where(call["x"]), other, outputs["dx"])}


# --- somewhere


def only_somewhere(family: Family) -> Iterator[Mutant]:
    """The last element wrong only in one region, in vectors, in a tail."""
    places: dict[str, Callable[[Inputs], bool]] = dict(family.regions)
    places["vectors"] = lambda call: longest(call) > 1
    places["tails of eight"] = lambda call: longest(call) > 8 and longest(call) % 8 > 0
    for name, inside in places.items():
        spoil = partial(last_changed, inside)
        yield Mutant(f"wrong only in {name}", spoiled=spoil)


def longest(call: Inputs) -> int:
    """Return the number of elements of the first argument."""
    return int(np.size(next(iter(call.values()))))


def last_changed(
    inside: Callable[[Inputs], bool], call: Inputs, outputs: Outputs
) -> Outputs:
    """Return the outputs, the last element of the first off by one in a region."""
    with np.errstate(all="ignore"):
        if not inside(call):
            return outputs
    name = next(iter(outputs))
    y = np.array(outputs[name])
    y.flat[-1] = y.flat[-1] + 1
    return outputs | {name: y}
