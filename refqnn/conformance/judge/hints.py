"""Mistakes that are no choice: an argument read wrongly, a factor, a mask on one side.

Where no variant explains outputs, the declared semantics is computed again with one
argument as a mistake would read it: exchanged, reversed, along another axis, its first
element for all, its nibbles swapped. Gradients are looked at on their own.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from refqnn._types import Array, Float
from refqnn.conformance.choices.families import Choices, Family, Inputs, Outputs
from refqnn.conformance.judge.arguments import CODES, GRADIENTS, PLAIN
from refqnn.conformance.judge.calls import Trial
from refqnn.conformance.judge.scales import kept_in_few_bits, rescaling_hint

#: arguments that are read element by element
DATA = ("x", "acc", "q", *GRADIENTS)


def hints(family: Family, declared: Choices, tried: Sequence[Trial]) -> list[str]:
    """Return a line for every mistake that gives exactly, or nearly, these outputs."""
    lines = (
        misread(family, declared, tried)
        or kept_in_few_bits(family, declared, tried)
        or rescaling_hint(family, tried)
    )
    for name in family.outputs:
        if name.startswith("d") and name != "d":
            lines += gradient_hints(name, tried)
    return lines


def misread(family: Family, declared: Choices, tried: Sequence[Trial]) -> list[str]:
    """Name the arguments that, read another way, give what was got in every call."""
    wrong = [call for call, got, want in tried if not family.same(got, want)]
    ways = dict.fromkeys(what for call in wrong[:3] for what, _ in readings(call))
    return [
        f"{what} gives what was got"
        for what in ways
        if all(reread(family, declared, call, what, got) for call, got, _ in tried)
    ]


def reread(
    family: Family, declared: Choices, call: Inputs, what: str, got: Outputs
) -> bool:
    """Return whether a call gives what was got when it is read in one way."""
    other = dict(readings(call)).get(what, call)
    try:
        want = family.outputs_or_none(declared, other)
    except TypeError:
        return False
    return want is not None and family.same(got, want)


def readings(call: Inputs) -> Iterator[tuple[str, Inputs]]:
    """Yield the calls that a mistake in reading an argument leads to, each in words.

    Parameters of one shape are also read wrongly together.

    >>> call = {"x": np.arange(3), "stride": (1, 2)}
    >>> [what for what, _ in readings(call)]
    ['stride with h and w exchanged', 'stride ignored']
    """
    for name, value in call.items():
        for what, other in readings_of(name, value):
            yield f"{name} {what}", {**call, name: other}
    shapes: dict[tuple[int, ...], list[str]] = {}
    for name, value in call.items():
        if isinstance(value, np.ndarray) and value.size > 1 and name not in DATA:
            shapes.setdefault(value.shape, []).append(name)
    axes = max((np.ndim(value) for value in call.values()), default=0)
    for names in shapes.values():
        ways = [dict(other_orders(call[name], axes)) for name in names]
        for what in ways[0]:
            others = {name: way[what] for name, way in zip(names, ways, strict=True)}
            yield f"{' and '.join(names)} {what}", {**call, **others}
            if len(names) > 1:
                for name, other in others.items():
                    yield f"{name} {what}", {**call, name: other}


def readings_of(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the other readings of one argument, but for other orders of an array."""
    if isinstance(value, tuple) and len(value) == 2:
        yield "with h and w exchanged", value[::-1]
    if name in PLAIN:
        yield "ignored", PLAIN[name]
    if name.endswith("zero_point"):
        yield "added instead of subtracted", -np.asarray(value, np.int64)
    if name == "shift":
        yield "of the other sign (scale)", -np.asarray(value)
        yield "one more (scale)", np.asarray(value) + 1
        yield "one less (scale)", np.asarray(value) - 1
    if name in GRADIENTS:
        yield "ignored", np.ones_like(value)
        yield "without its sign", np.abs(value)
        yield "of the other sign", -value
    if name not in CODES or not isinstance(value, np.ndarray) or value.itemsize > 1:
        return
    if value.size % 2 == 0:
        pairs = value.reshape(-1, 2)[:, ::-1]
        yield "with its nibbles exchanged: order of packing", pairs.reshape(value.shape)
    wide = np.ascontiguousarray(value).view(np.uint8)
    codes = value.astype(np.int64)
    yield "without its sign bit: as unsigned bytes", codes % 256
    yield "with the upper bit as a sign: as signed bytes", (codes + 128) % 256 - 128
    yield "as unsigned nibbles", codes % 16
    yield "as signed nibbles", (codes + 8) % 16 - 8
    swapped = (((wide & 15) << 4) | (wide >> 4)).view(value.dtype)
    yield "with the two nibbles of every byte exchanged", swapped


def other_orders(value: Array, axes: int) -> Iterator[tuple[str, Array]]:
    """Yield a parameter with its first element for all, reversed, along other axes."""
    yield "with the first element for all", np.full_like(value, value.flat[0])
    for axis in range(value.ndim):
        if value.shape[axis] > 1:
            yield f"reversed along axis {axis}", np.flip(value, axis)
            yield f"one place further along axis {axis}", np.roll(value, -1, axis)
            yield f"one place earlier along axis {axis}", np.roll(value, 1, axis)
    if sum(n > 1 for n in value.shape) == 1:
        own = axes - value.ndim + int(np.argmax(value.shape))
        for axis in (axis for axis in range(axes) if axis != own):
            shape = [1] * axes
            shape[axis] = value.size
            yield f"along axis {axis} instead of {own}", value.reshape(shape)


def gradient_hints(name: str, tried: Sequence[Trial]) -> list[str]:
    """Say by which factor or mask the gradient ``name`` differs; [] for neither."""
    if any(t.got[name].shape != t.want[name].shape for t in tried):
        return []
    ratios, sizes = [], []
    for call, got, want in tried:
        g, w = (side[name].astype(np.float64).ravel() for side in (got, want))
        if np.any(w):
            ratio = float(g @ w / (w @ w))
            if not np.allclose(g, ratio * w, rtol=1e-4, atol=1e-12):
                return mask_hint(name, tried)
            ratios.append(ratio)
            sizes.append(np.size(call.get("x", g)))
    if sum(np.count_nonzero(t.want[name]) for t in tried) < 2:
        return []
    return factor_of_calls(name, np.array(ratios), np.array(sizes, np.float64))


def factor_of_calls(name: str, ratios: Float, sizes: Float) -> list[str]:
    """Name the factors got / want of calls by powers of N, the elements of x.

    >>> factor_of_calls("ds", np.array([0.25, 0.125]), np.array([4.0, 8.0]))
    ['ds: got = want / N -> a mean instead of a sum']
    """
    if np.allclose(ratios, 1):
        return []
    if np.allclose(ratios, ratios[0], rtol=1e-4):
        what = "sign" if abs(ratios[0] + 1) < 1e-6 else "scale"
        return [f"{name}: got = {ratios[0]:.6g} want -> {what}"]
    known = {
        "want / N -> a mean instead of a sum": 1 / sizes,
        "want N -> a sum instead of a mean": sizes,
        "want / sqrt(N) -> factor": sizes**-0.5,
        "want sqrt(N) -> factor": sizes**0.5,
    }
    return [
        f"{name}: got = {text}"
        for text, factor in known.items()
        if np.allclose(ratios, factor, rtol=1e-4)
    ]


def mask_hint(name: str, tried: Sequence[Trial]) -> list[str]:
    """Say where a gradient passes that should not, or is stopped, and on which side."""
    kinds: set[bool] = set()
    sides: set[str] = set()
    for call, got, want in tried:
        g, w = got[name], want[name]
        dy = next((call[k] for k in GRADIENTS if k in call), None)
        x = call.get("x")
        if dy is None or x is None or np.shape(x) != g.shape or np.shape(dy) != g.shape:
            return []
        wrong = ~np.isclose(g, w, rtol=1e-5, atol=1e-9)
        if not wrong.any():
            continue
        passed = bool(np.all((w[wrong] == 0) & np.isclose(g[wrong], dy[wrong])))
        if not passed and np.any(g[wrong] != 0):
            return []
        kinds.add(passed)
        inside = np.asarray(x)[~wrong & (w != 0)]
        sides.add(side_of(np.asarray(x)[wrong], inside))
    if len(kinds) != 1:
        return []
    effect = "passes where it should be stopped" if kinds.pop() else "is stopped"
    side = sides.pop() if len(sides) == 1 else " on both sides"
    return [f"{name}: {effect}{side} -> mask"]


def side_of(wrong: Array, inside: Array) -> str:
    """Say on which side of others some values lie.

    >>> side_of(np.array([7, 9]), np.array([-2, 6]))
    ' above'
    """
    if not inside.size or wrong.min() >= inside.max():
        return " above"
    return " below" if wrong.max() <= inside.min() else " on both sides"
