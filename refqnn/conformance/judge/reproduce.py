"""The smallest mismatch, and a line of Python that computes what is wanted there.

An elementwise family shows the one element with the smallest input. Of the other
families the smallest call is shown, where it is small; ``shrink`` makes it so where the
function under judgement can be asked again.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from refqnn._types import Array, Bool
from refqnn.conformance.choices.family import Choices, Family, Inputs
from refqnn.conformance.judge.calls import Trial

#: numbers that a line of Python holds
MOST = 250
#: numbers of a call that a report shows, and of an array of a longer call
MOST_SHOWN, SHORT = 40, 8
#: calls that shrinking may cost
BUDGET = 300
Fails = Callable[[Inputs], bool]


class Smallest(NamedTuple):
    """The mismatch with the smallest input, as a message and as a call in Python."""

    message: str
    call: str


def smallest(family: Family, declared: Choices, tried: Sequence[Trial]) -> Smallest:
    """Return the smallest mismatch of several calls; two empty strings if none fits."""
    if family.call:
        return smallest_element(family, declared, tried)
    wrong = [call for call, got, want in tried if not family.same(got, want)]
    if not wrong:
        return Smallest("", "")
    return Smallest("", whole_call(family, declared, min(wrong, key=numbers)))


def smallest_element(
    family: Family, declared: Choices, tried: Sequence[Trial]
) -> Smallest:
    """Return the mismatch whose input is nearest to 0."""
    name, output = family.elementwise, family.outputs[0]
    mismatches: list[tuple[float, int, int]] = []
    for i, (call, got, want) in enumerate(tried):
        wrong = np.flatnonzero(~family.agree(got[output], want[output]))
        if wrong.size:
            at = nearest_zero(call[name], wrong)
            mismatches.append((abs(float(np.ravel(call[name])[at])), i, at))
    if not mismatches:
        return Smallest("", "")
    _, i, at = min(mismatches, key=lambda row: row[0] if row[0] == row[0] else np.inf)
    call, got, want = tried[i]
    picked = element(family, call, at)
    shown = {k: v for k, v in picked.items() if not k.startswith("q_m")}
    message = ", ".join(f"{k} = {v}" for k, v in shown.items())
    if family.exact is not None:
        message += f"; exact = {np.ravel(family.exact(**call))[at]:.12g}"
    values = (np.ravel(side[output])[at] for side in (want, got))
    message += "   want {}   got {}".format(*values)
    if declared == family.default:
        return Smallest(message, family.call.format(**picked))
    at_one = call | {name: np.ravel(call[name])[at]}
    one = {k: v if np.size(v) == 1 else picked[k] for k, v in at_one.items()}
    return Smallest(message, whole_call(family, declared, one))


def nearest_zero(data: Array, wrong: Array) -> int:
    """Return the mismatch with the smallest input.

    >>> nearest_zero(np.array([9, -2, 1]), np.array([0, 1]))
    1
    """
    size = np.abs(np.ravel(data)[wrong].astype(np.float64))
    return int(wrong[np.argmin(np.where(np.isnan(size), np.inf, size))])


def element(family: Family, call: Inputs, at: int) -> dict[str, Any]:
    """Return the arguments of one element."""
    data = np.asarray(call[family.elementwise])
    return {
        name: np.broadcast_to(value, data.shape).ravel()[at].item()
        for name, value in call.items()
    }


def numbers(call: Inputs) -> int:
    """Return how many numbers a call has."""
    return sum(np.size(value) for value in call.values())


def whole_call(family: Family, declared: Choices, call: Inputs) -> str:
    """Return a call as Python, "" where it is long.

    >>> from refqnn.conformance.choices.families import family_of
    >>> of = family_of("max_pool2d")
    >>> print(whole_call(of, of.default, {"x": np.zeros(1), "kernel": 1}))
    refqnn.conformance.want("max_pool2d", dict(x=np.array([0.0], "float64"), kernel=1))
    """
    if numbers(call) > MOST:
        return ""
    changed = {a: v for a, v in declared.items() if v != family.default[a]}
    answers = ", ".join(f'{axis}="{value}"' for axis, value in changed.items())
    under = f", refqnn.conformance.Semantics({answers})" if answers else ""
    arguments = f'"{family.name}", dict({literals(call)}){under}'
    return f"refqnn.conformance.want({arguments})"


def literals(call: Inputs) -> str:
    """Return the arguments of a call as Python."""
    return ", ".join(f"{name}={literal(value)}" for name, value in call.items())


def call_text(call: Inputs) -> str:
    """Return the arguments of a call as Python; of long arrays dtype and shape.

    >>> call_text({"x": np.zeros((9, 9), np.int8), "kernel": 3})
    'x int8 (9, 9), kernel=3'
    """
    if numbers(call) <= MOST_SHOWN:
        return literals(call)
    return ", ".join(
        f"{name} {np.asarray(value).dtype} {np.shape(value)}"
        if np.size(value) > SHORT
        else literals({name: value})
        for name, value in call.items()
    )


def wrong_values(family: Family, name: str, got: Array, want: Array) -> str:
    """Return two outputs as text: all of a few values, the first wrong one of many."""
    got, want = np.asarray(got), np.asarray(want)
    if got.shape != want.shape:
        return f"{name}: want shape {want.shape}   got shape {got.shape}"
    if want.size <= SHORT:
        return f"{name}: want {flat(want)}   got {flat(got)}"
    place = np.unravel_index(int(np.argmin(family.agree(got, want))), want.shape)
    at = ", ".join(map(str, place))
    return f"{name}[{at}]: want {flat(want[place])}   got {flat(got[place])}"


def flat(array: Array) -> str:
    """Return a few values as text."""
    return ", ".join(f"{v:.9g}" for v in np.ravel(array).tolist())


def literal(value: Any) -> str:
    """Return a number, a tuple or an array as Python.

    >>> literal(np.float32([0.5])), literal(((0, 1), (0, 1))), literal(True)
    ('np.array([0.5], "float32")', '((0, 1), (0, 1))', 'True')
    """
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        listed = repr(array.tolist()).replace("nan", "np.nan").replace("inf", "np.inf")
        return f'np.array({listed}, "{array.dtype.name}")'
    return repr(value)


def shrink(family: Family, call: Inputs, fails: Fails) -> Inputs:
    """Return a smaller call that fails, too: a candidate, then fewer other numbers.

    Every array is filled with zeros as far as the failure allows. ``fails`` is asked at
    most ``BUDGET`` times.
    """
    asked = iter(range(BUDGET))

    def still(other: Inputs) -> bool:
        return next(asked, None) is not None and fails(other)

    small = sorted(family.candidates(), key=numbers)[: BUDGET // 4]
    small_call = next(
        (c for c in small if numbers(c) < numbers(call) and still(c)), dict(call)
    )
    for name, value in small_call.items():
        if isinstance(value, np.ndarray) and value.ndim:
            small_call = {**small_call, name: empty(small_call, name, still)}
    return small_call


def empty(call: Inputs, name: str, fails: Fails) -> Array:
    """Return an array with as many zeros as the failure allows, halves first."""
    array: Array = call[name].copy()
    blocks: list[Bool] = [np.ones(array.shape, bool)]
    while blocks:
        block = blocks.pop(0)
        if not np.any(array[block]):
            continue
        tried = np.where(block, np.zeros_like(array), array)
        if fails({**call, name: tried}):
            array = tried
            continue
        places = np.flatnonzero(block)
        if len(places) > 1:
            blocks += [among(half, array) for half in np.array_split(places, 2)]
    return array


def among(places: Array, array: Array) -> Bool:
    """Return the mask of flat places."""
    mask = np.zeros(array.size, bool)
    mask[places] = True
    return mask.reshape(array.shape)
