"""Arguments of a call: which a function takes, their defaults, kinds and dtypes."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from refqnn.conformance.carry.child import Child
from refqnn.conformance.carry.messages import as_arrays
from refqnn.conformance.choices.families import Family, Inputs

Function = Callable[..., Any]
Kind = tuple[tuple[str, str], ...]
#: what refqnn's own functions take for an argument that is left out
DEFAULTS: dict[str, Callable[[Inputs], Any]] = {
    "b": lambda call: np.zeros(call["w"].shape[0], np.int32),
    **dict.fromkeys(("x_zero_point", "w_zero_point", "zero_point"), lambda _: 0),
    "stride": lambda call: call.get("kernel", 1),
    "padding": lambda call: ((0, 0), (0, 0)) if "w" in call else 0,
    **dict.fromkeys(("dilation", "groups"), lambda _: 1),
    "q_min": lambda _: -128,
    "q_max": lambda _: 127,
    **dict.fromkeys(("momentum", "weight_decay", "dampening"), lambda _: 0.0),
    "nesterov": lambda _: False,
    "label_smoothing": lambda _: 0.0,
    "eps": lambda _: 1e-5,
}
#: values of arguments that are as if they were ignored
PLAIN: dict[str, Any] = {
    **dict.fromkeys(("x_zero_point", "w_zero_point", "zero_point"), 0),
    **dict.fromkeys(("stride", "dilation", "groups"), 1),
    "padding": ((0, 0), (0, 0)),
    **dict.fromkeys(("momentum", "weight_decay", "dampening"), 0.0),
}
#: gradients that a backward pass is given
GRADIENTS = ("dy", "dm")
#: arrays of codes, and the arguments that are their zero-points
CODES = {"x": ("x_zero_point", "zero_point"), "w": ("w_zero_point",)}
CODES["q"] = ("zero_point",)
SHIFTS = {("uint8", "int8"): -128, ("int8", "uint8"): 128}


def joint(
    forward: Function, backward: Function, names: Sequence[str]
) -> Callable[..., Any]:
    """Return one function from a forward pass and its vector-Jacobian product."""
    gradient = next((name for name in names if name in GRADIENTS), "")
    if not gradient:
        raise ValueError(f"backward= needs a family with a gradient, not {[*names]}")
    others = tuple(name for name in names if name != gradient)
    ahead, back = order_of(forward, others), order_of(backward, (gradient, *others))

    def whole(*inputs: Any) -> tuple[Any, ...]:
        call = dict(zip(names, inputs, strict=True))
        (y,) = as_arrays(call_in_order(forward, ahead, call))
        return (y, *as_arrays(call_in_order(backward, back, call)))

    return whole


def call_in_order(
    function: Function,
    order: tuple[tuple[str, ...], tuple[str, ...]],
    call: Mapping[str, Any],
) -> Any:
    """Call a function with arguments by position and by name, as ``order`` says."""
    positional, keywords = order
    named = {name: call[name] for name in keywords}
    return function(*(call[name] for name in positional), **named)


def order_of(
    function: Function, names: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return which arguments a function takes by position, and which by name.

    By name where every parameter has the name of an argument, else by position.

    >>> order_of(lambda x, w: 0, ("x", "w", "b"))
    (('x', 'w'), ())
    >>> order_of(lambda a, *b: 0, ("x", "w", "b"))
    (('x', 'w', 'b'), ())
    """
    target = function.function if isinstance(function, Child) else function
    try:
        parameters = list(inspect.signature(target).parameters.values())
    except (TypeError, ValueError):
        return tuple(names), ()
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return tuple(names), ()
    plain = [
        p for p in parameters if p.kind in {p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD}
    ]
    keywords = tuple(
        p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name in names
    )
    if plain and all(p.name in names for p in plain if p.default is p.empty):
        positional = tuple(p.name for p in plain if p.name in names)
        if len(positional) == len(plain) or len(positional) == len(names):
            return positional, keywords
    needed = [p for p in plain if p.default is p.empty or p.name in names]
    count = len(names) if len(plain) >= len(names) else len(needed)
    return tuple(names[:count]), tuple(k for k in keywords if k not in names[:count])


def complete(family: Family, call: Inputs) -> Inputs:
    """Return a call with every argument of a family, in its order.

    What is left out, or None, has its default; an int or a pair of paddings becomes the
    two pairs that a convolution takes. Raises ValueError for other names.
    """
    names = tuple(family.arguments)
    other = [name for name in call if name not in names]
    missing = [n for n in names if call.get(n) is None and n not in DEFAULTS]
    if other or missing:
        raise ValueError(
            f"{family.name} takes {[*names]}: {other or missing} "
            f"{'is none of them' if other else 'is missing'}"
        )
    given = {k: v for k, v in call.items() if v is not None}
    whole = {n: given[n] if n in given else DEFAULTS[n](given) for n in names}
    if "padding" in whole and "w" in whole:
        whole["padding"] = two_pairs(whole["padding"])
    return whole


def two_pairs(padding: Any) -> Any:
    """Return paddings as ((top, bottom), (left, right)).

    >>> two_pairs(1), two_pairs((0, 2))
    (((1, 1), (1, 1)), ((0, 0), (2, 2)))
    """
    h, w = padding if isinstance(padding, tuple | list) else (padding, padding)
    return tuple(tuple(p) if np.ndim(p) else (p, p) for p in (h, w))


def with_defaults(call: Inputs, given: Sequence[str]) -> Inputs:
    """Return a call whose arguments, but for those given, have their defaults.

    Raises ValueError for an argument without a default.
    """
    changed = {}
    for name in call:
        if name in given:
            continue
        if name not in DEFAULTS:
            raise ValueError(
                f"the function leaves out {name}, which has no default: it takes "
                f"{[*given]} of {[*call]}"
            )
        value = DEFAULTS[name](call)
        if not np.array_equal(np.asarray(call[name]), np.asarray(value)):
            changed[name] = value
    return {**call, **changed} if changed else call


def kind_of(call: Inputs) -> Kind:
    """Return the dtype and the number of axes of every argument.

    >>> kind_of({"x": np.zeros((2, 2), np.int8), "stride": 2})
    (('x', 'int8 of 2 axes'), ('stride', 'number'))
    """
    return tuple((name, type_of(value)) for name, value in call.items())


def type_of(value: Any) -> str:
    """Name the type of one argument."""
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        return f"{array.dtype} of {array.ndim} axes" if array.ndim else "number"
    return "pair" if isinstance(value, tuple) else "number"


def typical(calls: Sequence[Inputs]) -> list[Inputs]:
    """Return the two calls with the widest codes, and two others."""
    ordered = sorted(calls, key=spread)
    return [*ordered[-2:], *ordered[:2]]


def without_special(family: Family, call: Inputs) -> Inputs | None:
    """Replace every NaN and infinity by 1; None for a call that is finite."""
    name = family.elementwise
    if not name or np.all(np.isfinite(call[name])):
        return None
    data = np.asarray(call[name])
    return call | {name: np.where(np.isfinite(data), data, 1).astype(data.dtype)}


def spread(call: Inputs) -> float:
    """Return how much of the range of their dtypes the integer arrays of a call use."""
    arrays = [
        v
        for v in call.values()
        if isinstance(v, np.ndarray) and v.ndim and v.size and v.dtype.kind in "iu"
    ]
    return float(sum(float(a.max()) - min(float(a.min()), 0.0) for a in arrays))


def recasts(call: Inputs) -> list[Inputs]:
    """Return the call with its int8 codes as uint8 and the reverse, same real numbers.

    >>> call = {"q": np.uint8([0, 255]), "scale": 1.0, "zero_point": 128}
    >>> recasts(call)[0]["q"], recasts(call)[0]["zero_point"]
    (array([-128,  127], dtype=int8), 0)
    """
    calls = [call]
    for name, zero_points in CODES.items():
        value = call.get(name)
        if isinstance(value, np.ndarray | np.generic):
            calls += [
                recast(each, name, zero_points, after)
                for each in calls
                for before, after in SHIFTS
                if value.dtype.name == before
            ]
    return calls[1:]


def recast(call: Inputs, name: str, zero_points: Sequence[str], after: str) -> Inputs:
    """Return a call with the codes of one argument in the other dtype of 8 bits."""
    shift = SHIFTS[call[name].dtype.name, after]
    moved = (call[name].astype(np.int16) + shift).astype(after)
    zeros = {zero: call[zero] + shift for zero in zero_points if zero in call}
    return {**call, name: moved, **zeros}
