"""What a row of a published quantizer is, and what rows share."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from refqnn._types import Float
from refqnn.conformance.choices import draws

Generator = np.random.Generator
Parameters = Callable[[Generator], tuple[Any, ...]]
Points = Callable[..., dict[str, Any]]


class Row(NamedTuple):
    """A quantizer: parameters after its first argument, options, questions."""

    name: str
    #: names of the learned parameters
    learned: tuple[str, ...] = ()
    #: the parameters of a call, drawn
    parameters: Parameters = lambda _: ()
    options: Mapping[str, Any] = {}
    #: {axis: the option that answers it}
    asks: Mapping[str, str] = {}
    #: {axis: answers}: ties, masks and gradients, the published answer first
    answers: Mapping[str, tuple[str, ...]] = {}
    #: where x meets a parameter or a tie: {name: values} of x, parameters and options
    points: Points = lambda _x, **_: {}
    #: other answers to the question whether the backward pass is the published one
    backward: tuple[str, ...] = ("identity", "none", "hard_tanh")
    #: axes of x
    axes: int = 4
    #: the fewest values it takes
    least: int = 1
    #: parameters broadcast to x: their gradients are sums of terms
    spread: bool = False


def one_of(*rows: tuple[Any, ...]) -> Parameters:
    """Return a draw of one row of parameters."""
    return lambda rng: tuple(np.asarray(p, np.float64) for p in draws.pick(rng, *rows))


def halves(step: Any, low: int, high: int) -> Float:
    """Return the values midway between low and high levels of a grid, where exact.

    A tie that rounds is none for whoever divides where another multiplies.

    >>> halves(0.25, 0, 2), halves(0.1, 0, 2)
    (array([0.125, 0.375]), array([], dtype=float64))
    """
    exact = float(step) * 2**12 == np.floor(float(step) * 2**12)
    return np.asarray((np.arange(low, high) + 0.5) * step)[: None if exact else 0]


def affine_points(_x: Float, lo: Float, hi: Float, **_: Any) -> dict[str, Any]:
    """Return lo, hi and the ties of grids of 15 and of 14 steps between them."""
    grids = [lo + halves((hi - lo) / n, 0, n) for n in (15, 14)]
    return {"lower end": lo, "upper end": hi, "tie": np.concatenate(grids)}


def lsq_points(_x: Float, s: Float, q_n: int, q_p: int) -> dict[str, Any]:
    """Return the ends and ties of the grid of the first step."""
    step = np.ravel(s)[0]
    return {
        "lower end": -q_n * step,
        "upper end": q_p * step,
        "tie": halves(step, -q_n, q_p),
    }


def signs(_x: Float, **_: Any) -> dict[str, Any]:
    """Return the points where signs and their masks turn."""
    return {"at 1": [1.0], "at -1": [-1.0]}


HALVES = ("half_even", "half_away", "half_up", "half_down")
NO_DOWN = ("published", "up", "away", "to_zero")
CLOSED, OPEN = (
    ("published", "open", "half_open", "half_open_below"),
    ("published", "closed", "half_open", "half_open_below"),
)
HALF_OPEN = ("published", "closed", "open", "half_open_below")
SUMS = ("sum", "mean", "negated", "none")
KEPT = (*SUMS, "mean_of_kept")
ZERO = {"sign_of_zero": ("+1", "-1", "0")}
FOUR = {"bits": 4}
