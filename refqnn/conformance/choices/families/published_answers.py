"""How the answers to questions change a published quantizer, by perturbation.

A tie is an x on whose two sides the output differs; an end of a mask is any other x on
whose two sides dx differs. Whoever decides such an x otherwise computes what the
published formula gives a little beside it. So every answer is the published forward and
backward pass at x moved by 2^-40 of itself or of a parameter, at those places only (1).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from refqnn import quantizers
from refqnn._types import Array, Bool, Float
from refqnn.conformance.choices.family import Choices, Outputs

#: differences below it, relative, are those of (1) itself
SAME = 1e-8
#: answers of xnor_gradient that are multiples of another: the power of ten, or None
XNOR = {"exact_released": 1.0, "exact_released_adam": 1e9}


#: passes of this process by their key, at most so many
KNOWN: dict[tuple[Any, ...], tuple[Float, ...]] = {}
MOST_KNOWN = 4096


@dataclass(frozen=True)
class Pass:
    """One quantizer with its options and parameters, and dy."""

    name: str
    options: Mapping[str, Any]
    parameters: tuple[Any, ...]
    dy: Float

    def __call__(self, x: Float) -> tuple[Float, ...]:
        """Return y, dx and the gradients of the parameters."""
        key = self.key(x)
        if key not in KNOWN:
            if len(KNOWN) >= MOST_KNOWN:
                KNOWN.clear()
            y, cache = self.forward(x)
            grads = getattr(quantizers, f"{self.name}_backward")(self.dy, cache)
            KNOWN[key] = (y, *(grads if isinstance(grads, tuple) else (grads,)))
        return KNOWN[key]

    def key(self, x: Float) -> tuple[Any, ...]:
        """Return quantizer, options and bytes of all arrays: equal for equal passes."""
        arrays = (x, self.dy, *map(np.asarray, self.parameters))
        return (
            self.name,
            tuple(self.options.items()),
            *((a.shape, a.tobytes()) for a in arrays),
        )

    def forward(self, x: Float) -> tuple[Float, Any]:
        """Return y and what the backward pass needs."""
        result: tuple[Float, Any] = getattr(quantizers, self.name)(
            x, *self.parameters, **self.options
        )
        return result

    def beside(self, x: Float, side: Any) -> Float:
        """Return x moved up where side is 1, down where it is -1 (1).

        By 2^-40 of x or of the largest parameter, from which x may be subtracted.

        >>> q = Pass("pact", {"bits": 4}, (np.array(1.0),), np.ones(2))
        >>> q.beside(np.array([1.0, 0.0]), 1) > np.array([1.0, 0.0])
        array([ True,  True])
        """
        unit = max((float(np.abs(p).max()) for p in self.parameters), default=0)
        step = np.maximum(np.abs(x), unit) * 2.0**-40 + 2.0**-60
        return np.asarray(x + side * step, x.dtype)

    def slope(self, x: Float) -> Float:
        """Return dx for dy = 1."""
        return Pass(self.name, self.options, self.parameters, np.ones_like(x))(x)[1]


def differs(a: Float, b: Float) -> Bool:
    """Return where two arrays differ by more than (1) explains."""
    size = max(float(np.abs(a).max(initial=0)), float(np.abs(b).max(initial=0)))
    return np.asarray(np.abs(a - b) > SAME * size)


def ties(q: Pass, x: Float) -> Bool:
    """Return where the output jumps."""
    up, down = (q(q.beside(x, side))[0] for side in (1, -1))
    return differs(up, down)


#: to which side an answer about ties or rounding moves x at ties
SIDES: dict[str, Callable[[Float], Any]] = {
    "up": lambda _: 1,
    "down": lambda _: -1,
    "away": np.sign,
    "to_zero": lambda x: -np.sign(x),
    "half_up": lambda _: 1,
    "half_down": lambda _: -1,
    "half_away": np.sign,
}


def move_ends(q: Pass, x: Float, how: str) -> Float:
    """Move x at ends of masks to the side that the answer ``how`` names."""
    if how == "published":
        return x
    up, down = (q.slope(q.beside(x, side)) for side in (1, -1))
    ends = differs(up, down) & ~ties(q, x)
    rising = np.where(np.abs(up) > np.abs(down), 1, -1)
    side = {"closed": rising, "open": -rising, "half_open": 1, "half_open_below": -1}
    return np.where(ends, q.beside(x, side[how]), x)


def outputs_under(
    q: Pass, learned: tuple[str, ...], choices: Choices, x: Float, spread: bool
) -> Outputs:
    """Return y, dx and the gradients of the learned parameters under the answers.

    ``spread``: parameters broadcast to x, so their gradients have terms to count.
    """
    if choices.get("sign_of_zero", "+1") != "+1":
        return with_zero(q, learned, choices, x, spread)
    given, how = x, choices.get("ties", choices.get("rounding", "published"))
    if how in SIDES:
        x = np.where(ties(q, x), q.beside(x, SIDES[how](x)), x)
    y, dx, *_ = q(move_ends(q, x, choices.get("mask_ends", "published")))
    _, _, *grads = q(move_ends(q, x, choices.get("parameter_mask", "published")))
    factor = xnor_factor(choices, x)
    replaced: dict[str, Callable[[], Float]] = {
        "published": lambda: factor * dx,
        "identity": lambda: q.dy,
        "none": lambda: np.zeros_like(q.dy),
        "hard_tanh": lambda: np.where(np.abs(given) <= 1, q.dy, 0),
    }
    counts = spread and choices.get("parameter_gradient") == "mean_of_kept"
    terms = count_terms(q, x) if counts else []
    names = [f"d{name}" for name in learned]
    kept = [
        parameter_gradient(choices, g, x, q.options, terms[i] if terms else x.size)
        for i, g in enumerate(grads[: len(names)])
    ]
    if choices.get("negative_level") == "sum":
        kept[1] = -kept[1]
    return {
        "y": directed_outputs(q, given, choices, y),
        "dx": replaced[choices["backward"]](),
    } | {name: np.asarray(g) for name, g in zip(names, kept, strict=True)}


def with_zero(
    q: Pass, learned: tuple[str, ...], choices: Choices, x: Float, spread: bool
) -> Outputs:
    """Return the outputs for another sign of 0; the factor d|x| / dx at 0 stays 0.

    What is linear in the sign is for 0 the mean of both sides.
    """
    plain = {**choices, "sign_of_zero": "+1"}
    zero = (x == 0) & ties(q, x)
    sides = {"-1": (-1,), "0": (1, -1)}[choices["sign_of_zero"]]
    moved = [np.where(zero, q.beside(x, side), x) for side in sides]
    every = [outputs_under(q, learned, plain, m, spread) for m in moved]
    mean = {k: np.asarray(sum(e[k] for e in every) / len(every)) for k in every[0]}
    at_zero = outputs_under(q, learned, plain, x, spread)["dx"]
    return mean | {"dx": np.where(zero, at_zero, mean["dx"])}


def directed_outputs(q: Pass, x: Float, choices: Choices, y: Float) -> Float:
    """Return ``y``; for floor, ceil and trunc the y of x moved by half a step."""
    how = choices.get("rounding")
    if how not in {"floor", "ceil", "trunc"}:
        return y
    half = step_of(q) / 2
    down, up = q(q.beside(x - half, 1))[0], q(q.beside(x + half, -1))[0]
    return {"floor": down, "ceil": up, "trunc": np.where(x < 0, up, down)}[str(how)]


def step_of(q: Pass) -> Float:
    """Return the distance of two levels of a uniform grid."""
    bits, p = int(q.options["bits"]), q.parameters
    steps: dict[str, Callable[[], Any]] = {
        "dorefa_activation": lambda: 1 / (2**bits - 1),
        "fixed_point": lambda: p[0] / (2 ** (bits - 1) - 1),
        "haq_linear": lambda: q.options["clip"] / (2 ** (bits - 1) - 1),
        "min_max": lambda: (p[1] - p[0]) / (2**bits - 1),
        "affine": lambda: (
            (p[1] - p[0]) / (2**bits - 1 - bool(q.options.get("narrow_range")))
        ),
    }
    return np.asarray(steps[q.name]())


def count_terms(q: Pass, x: Float) -> list[Array]:
    """Count the values of x whose term of a gradient is not 0, a count a parameter."""
    full = tuple(np.broadcast_to(p, x.shape).copy() for p in q.parameters)
    _, _, *terms = Pass(q.name, q.options, full, np.ones_like(x))(x)
    return [
        summed_to(np.abs(term) > SAME, np.shape(p))
        for term, p in zip(terms, q.parameters, strict=False)
    ]


def summed_to(kept: Bool, shape: tuple[int, ...]) -> Array:
    """Count over the axes along which a parameter was spread; at least 1."""
    lead = tuple(range(kept.ndim - len(shape)))
    total = kept.sum(axis=lead)
    axes = tuple(i for i, n in enumerate(shape) if n == 1)
    return np.maximum(total.sum(axis=axes, keepdims=True), 1)


def parameter_gradient(
    choices: Choices, g: Array, x: Float, options: Mapping[str, Any], terms: Any
) -> Array:
    """Multiply the sum ``g``, a parameter's gradient, by the factor of the answer."""
    n = x.size / max(np.size(g), 1)
    q_p = options.get("q_p", 1)
    factors: dict[str, Callable[[], Any]] = {
        "sum": lambda: 1,
        "mean": lambda: 1 / n,
        "mean_of_kept": lambda: 1 / terms,
        "negated": lambda: -1,
        "none": lambda: 0,
        "1/sqrt(N)": lambda: n**-0.5,
        "1/sqrt(N*q_p)": lambda: (n * q_p) ** -0.5,
        "1/sqrt(F*q_p)": lambda: (x[0].size * q_p) ** -0.5,
    }
    return np.asarray(factors[choices.get("parameter_gradient", "sum")]() * g)


def xnor_factor(choices: Choices, x: Float) -> float:
    """Return (1 - 1 / C) n, times 10^9 under Adam, where the released code has it."""
    power = XNOR.get(choices.get("xnor_gradient", ""))
    return 1.0 if power is None else power * (1 - 1 / x.shape[1]) * x[0].size
