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
from refqnn.conformance.choices.changes import (
    Change,
    constant_changes,
    fewer_bits_read,
    kept_kind_changes,
    spoils,
)
from refqnn.conformance.choices.equivalents import why_equivalent
from refqnn.conformance.choices.families import family_of
from refqnn.conformance.choices.family import REFUSED, Family, Inputs, Outputs

#: what the reference raises for arguments that do not fit
MISFITS = (ValueError, TypeError, IndexError, ArithmeticError, AttributeError)
Function = Callable[..., Any]


def same_call(call: Inputs) -> Inputs:
    """Return the arguments as they are."""
    return call


def same_outputs(_call: Inputs, outputs: Outputs) -> Outputs:
    """Return the outputs as they are."""
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
    call = family.call_of(*inputs)
    right = reference(family, call)
    if any(np.any(np.asarray(y) == REFUSED) for y in right.values()):
        raise ValueError(f"{family.name} refuses this input")
    outputs = tuple(answers(family, mutant, call, right).values())
    return outputs[0] if len(outputs) == 1 else outputs


def reference(family: Family, call: Inputs) -> Outputs:
    """Evaluate refqnn's own answers for a call, warnings silenced."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return family.evaluate(family.default, **call)


def answers(family: Family, mutant: Mutant, call: Inputs, right: Outputs) -> Outputs:
    """Compute the outputs of a mutant; ``right`` where its arguments do not fit."""
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
        left = [m for m in left if known.same(answers(known, m, call, right), right)]
    return [m.name for m in left]


def unseen_mistakes(family: str, calls: Iterable[Inputs]) -> list[str]:
    """Return the unseen mutants that are not the reference itself."""
    names = unseen_mutants(family, calls)
    return [name for name in names if not why_equivalent(family, name)]


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
    """Yield mutants with one argument ignored, negated, scaled, reordered, narrowed."""
    first = family.candidates()[0]
    main = next(iter(first))
    for name in first:
        values = [call[name] for call in examples]
        changes = {
            **constant_changes(first[name]),
            **kept_kind_changes(values, main=name == main),
        }
        # the last bits of noise seldom decide
        if name == "noise":
            changes.pop("kept as float16", None)
        if name in NO_CODES:
            changes.pop("negated", None)
        else:
            changes |= fewer_bits_read(name, values)
        for what, change in changes.items():
            given = partial(change_argument, name, change)
            yield Mutant(f"{name}: {what}", given)
            if name == "dy" and what in {"absolute", "negated", "ones"}:
                for output in family.outputs[1:]:
                    yield Mutant(f"{name}: {what}, for {output}", given, only=output)


def change_argument(name: str, change: Change, call: Inputs) -> Inputs:
    """Replace the argument ``name`` by its ``change``."""
    return call | {name: change(call[name])}


#: arguments that are no codes: ranges, geometry, classes
NO_CODES = (
    "q_min", "q_max", "shift", "multiplier", "bits", "labels",
    "stride", "kernel", "padding", "dilation", "groups", "offset", "step",
)  # fmt: skip


#: arguments that are like no other
ALONE = {"q_min", "q_max", "groups", "lrs"}
#: arguments that say how large a result is, and the largest that is computed
GEOMETRY, LARGEST = {"kernel", "stride", "dilation", "output_padding"}, 300


def arguments_exchanged(example: Inputs) -> Iterator[Mutant]:
    """Yield mutants with two arguments of one kind and shape exchanged.

    >>> example = {"x": 1.0, "scale": 2.0, "zero_point": 3, "q_min": -8}
    >>> [mutant.name for mutant in arguments_exchanged(example)]
    ['x and scale exchanged']
    """

    def exchange(a: str, b: str, call: Inputs) -> Inputs:
        for place, value in ((a, call[b]), (b, call[a])):
            if place in GEOMETRY and np.max(np.abs(value)) > LARGEST:
                raise ValueError(f"{place} must be at most {LARGEST}, got {value}")
        return call | {a: call[b], b: call[a]}

    for a, b in combinations(example, 2):
        kinds = [np.asarray(example[k]).dtype.kind for k in (a, b)]
        if kinds[0] == kinds[1] and not {a, b} & ALONE:
            yield Mutant(f"{a} and {b} exchanged", partial(exchange, a, b))


# --- outputs


def outputs_spoiled(family: Family, example: Inputs) -> Iterator[Mutant]:
    """Yield mutants with one output narrowed, negated, rescaled, moved or masked."""
    right = reference(family, example)
    elementwise = next(iter(example))
    for name in family.outputs:
        y = np.asarray(right[name])
        n = len(example[elementwise]) if np.ndim(example[elementwise]) else 1
        changes = spoils(y, fewer_bits(family, y), n)
        for what, change in changes.items():
            spoil = partial(spoil_output, name, change)
            yield Mutant(f"{name} {what}", spoiled=spoil)
        if name.startswith("dx") and np.shape(y) == np.shape(example["x"]):
            for what, where in MASKS.items():
                for to in ("0", "dy"):
                    spoil = partial(mask_gradient, where, to)
                    yield Mutant(f"{name} {to} where {what}", spoiled=spoil)


def fewer_bits(family: Family, y: Array) -> tuple[int, ...]:
    """Return widths below those that an output needs."""
    if y.dtype.kind == "f":
        return ()
    if "q_max" in family.arguments:
        return (8, 15)
    return (16, 24, 31, 32) if "w" in family.arguments else (7, 8)


def spoil_output(name: str, change: Change, _: Inputs, outputs: Outputs) -> Outputs:
    """Replace the output ``name`` by its ``change``."""
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


def mask_gradient(where: Change, to: str, call: Inputs, outputs: Outputs) -> Outputs:
    """Replace dx by dy or by 0 where the condition ``where`` holds for x."""
    other = call["dy"] if to == "dy" else np.zeros_like(call["dy"])
    return outputs | {"dx": np.where(where(call["x"]), other, outputs["dx"])}


# --- somewhere


def only_somewhere(family: Family) -> Iterator[Mutant]:
    """Yield mutants wrong in one element only: in a region, in vectors, in a tail."""
    places: dict[str, Callable[[Inputs], bool]] = dict(family.regions)
    places["vectors"] = lambda call: longest(call) > 1
    places["tails of eight"] = lambda call: longest(call) > 8 and longest(call) % 8 > 0
    for name, inside in places.items():
        spoil = partial(spoil_last_element, inside)
        yield Mutant(f"wrong only in {name}", spoiled=spoil)


def longest(call: Inputs) -> int:
    """Return the number of elements of the first argument."""
    return int(np.size(next(iter(call.values()))))


def spoil_last_element(
    inside: Callable[[Inputs], bool], call: Inputs, outputs: Outputs
) -> Outputs:
    """Add 1 to the last element of the first output where the call is ``inside``."""
    with np.errstate(all="ignore"):
        if not inside(call):
            return outputs
    name = next(iter(outputs))
    y = np.array(outputs[name])
    y.flat[-1] = y.flat[-1] + 1
    return outputs | {name: y}
