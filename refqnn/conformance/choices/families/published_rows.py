"""Published quantizers as rows: parameters, options and the answers that differ.

The first of the answers about ties, masks and sums is the published one.
"""

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


def grid_points(
    lo: Any, hi: Any, step: Any, low: int, high: int, zero: Any = 0.0
) -> dict[str, Any]:
    """Return the ends and the ties between low and high levels of a grid."""
    return {"lower end": lo, "upper end": hi, "tie": zero + halves(step, low, high)}


def lsq_points(_x: Float, s: Float, q_n: int, q_p: int) -> dict[str, Any]:
    """Return the ends and ties of the grid of the first step."""
    step = np.ravel(s)[0]
    return grid_points(-q_n * step, q_p * step, step, -q_n, q_p)


def threshold(t: float, x: Float) -> dict[str, Any]:
    """Return the ties of ternary weights: t max|x|, of both signs."""
    return {"tie": t * np.abs(x).max() * np.array([1.0, -1.0])}


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
SUMMED = {"parameter_gradient": SUMS}
ZERO = {"sign_of_zero": ("+1", "-1", "0")}
FOUR = {"bits": 4}
#: backward passes that differ from one that lets everything through
MASKS = ("none", "hard_tanh")
LEARNED = {"parameter_mask": ("published", "closed"), "parameter_gradient": SUMS}
DIRECTED = {"rounding": (*HALVES, "floor", "trunc")}
FACTORS = ("1/sqrt(N*q_p)", "1/sqrt(F*q_p)", "1/sqrt(N)")

ROWS = (
    Row(
        "abc_activation",
        ("v", "beta"),
        one_of(
            ((-0.375, 0.0, 0.3125), (0.5, 0.25, 0.125)),
            ((-0.25, 1.625), (1.0, 0.75)),
            ((-1.75, 0.125), (-0.5, 0.25)),
        ),
        asks={"ste_slope": "ste_slope"},
        answers={"ties": ("published", "down"), "mask_ends": CLOSED} | SUMMED,
        points=lambda _x, v, **_: {"tie": 0.5 - v, "lower end": -v, "upper end": 1 - v},
    ),
    Row(
        "abc_weight",
        options={"bases": 3},
        asks={"clip_grad": "clip_grad"},
        answers={"mask_ends": CLOSED},
        points=signs,
    ),
    Row(
        "affine",
        parameters=one_of((-1.0, 0.875), (-2.0, 1.75), (-1.75, 1.75), (-1.5, 2.0)),
        options=FOUR,
        asks={"narrow_range": "narrow_range"},
        answers=DIRECTED | {"mask_ends": CLOSED},
        points=affine_points,
    ),
    Row(
        "balanced",
        options=FOUR,
        asks={"balanced_split": "split", "balanced_scale": "scale"},
        backward=MASKS,
    ),
    Row("binary", asks={"filter_group": "group"}, answers=ZERO, backward=MASKS),
    Row(
        "dorefa_activation",
        options=FOUR,
        answers={"rounding": ("half_even", "half_down", "floor"), "mask_ends": CLOSED},
        points=lambda _x, **_: {"lower end": 0.0, "upper end": 1.0, "tie": 0.5},
    ),
    Row("dorefa_weight", options=FOUR, asks={"max_grad": "max_grad"}),
    Row(
        "fixed_point",
        parameters=one_of((0.875,), (1.75,), (1.5,)),
        options=FOUR,
        asks={"clip_grad": "clip_grad"},
        answers=DIRECTED | {"mask_ends": CLOSED},
        points=lambda _x, a, **_: grid_points(-a, a, a / 7, -7, 7),
        backward=MASKS,
    ),
    Row(
        "haq_linear",
        options={"bits": 4, "clip": 1.0},
        answers={"rounding": ("half_even", "floor", "trunc")},
        points=signs,
        backward=MASKS,
    ),
    Row(
        "kmeans_weight",
        ("centroids",),
        one_of(((-1.0, -0.25, 0.5, 1.5),), ((-2.0, 0.0, 0.25, 1.0),)),
        asks={"centroid_reduction": "reduction"},
        answers={"ties": NO_DOWN, "parameter_gradient": ("sum", "negated", "none")},
        points=lambda _x, centroids, **_: {"tie": (centroids[1:] + centroids[:-1]) / 2},
        backward=MASKS,
    ),
    Row(
        "lq",
        ("v",),
        one_of(((0.5, 1.0),), ((0.25, 0.75),)),
        {"signed": True},
        answers={"ties": NO_DOWN} | SUMMED,
        points=lambda _x, v, **_: {"tie": np.array([-v[1], 0, v[1]])},
        backward=MASKS,
    ),
    Row(
        "lsq",
        ("s",),
        one_of((0.25,), (0.5,), (1.0,), (0.3,)),
        {"q_n": 4, "q_p": 3},
        answers={"rounding": HALVES, "mask_ends": OPEN}
        | LEARNED
        | {"parameter_gradient": (*KEPT, *FACTORS)},
        points=lsq_points,
        spread=True,
    ),
    Row(
        "lsq_plus",
        ("s", "beta"),
        one_of((0.25, 0.125), (0.5, -1.5), (1.0, 0.0), (0.3, 0.2)),
        {"q_n": 4, "q_p": 3},
        answers={"rounding": HALVES, "mask_ends": OPEN} | SUMMED,
        points=lambda _x, s, beta, q_n, q_p: grid_points(
            beta - q_n * s, beta + q_p * s, s, -q_n, q_p, beta
        ),
    ),
    Row(
        "learned_min_max",
        ("lo", "hi"),
        one_of((-1.0, 0.875), (-2.0, 1.75), (-1.5, 2.25)),
        FOUR,
        answers={"rounding": HALVES} | SUMMED,
        points=affine_points,
    ),
    Row(
        "min_max",
        parameters=one_of((-1.0, 0.875), (-2.0, 1.75), (-1.0, 2.0), (-1.0625, 0.8125)),
        options=FOUR,
        asks={"true_zero": "true_zero"},
        answers=DIRECTED,
        points=affine_points,
        backward=MASKS,
    ),
    Row("optimal_ternary", backward=MASKS, axes=2),
    Row(
        "pact",
        ("alpha",),
        one_of((1.875,), (3.75,), (0.9375,), (1.5,)),
        FOUR,
        {"pact_scope": "scope"},
        {"rounding": ("half_even", "half_up", "half_down"), "mask_ends": HALF_OPEN}
        | LEARNED
        | {"parameter_gradient": KEPT},
        lambda _x, alpha, **_: grid_points(0.0, alpha, alpha / 15, 0, 15),
        spread=True,
    ),
    Row(
        "qil_activation",
        ("c", "d"),
        one_of((1.0, 0.75), (1.5, 0.5)),
        FOUR,
        answers={"rounding": ("half_even", "half_down"), "mask_ends": OPEN} | LEARNED,
        points=lambda _x, c, d, **_: {"lower end": c - d, "upper end": c + d, "tie": c},
    ),
    Row(
        "qil_weight",
        ("c", "d", "gamma"),
        one_of((1.0, 0.75, 0.8), (1.5, 0.5, 1.0), (1.0, 0.5, 1.25)),
        FOUR,
        answers={"mask_ends": OPEN} | LEARNED,
        points=lambda _x, c, d, **_: {
            "lower end": [c - d, d - c],
            "upper end": [c + d, -c - d],
            "tie": [c, -c],
        },
    ),
    Row(
        "sawb",
        options=FOUR,
        asks={"sawb_grid": "grid", "sawb_gradient": "gradient"},
        backward=MASKS,
    ),
    Row(
        "syq",
        ("alpha",),
        one_of((0.5,), (0.75,)),
        {"eta": 0.3, "levels": 3, "group": "layer"},
        answers={"ties": ("published", "up", "down", "away")} | SUMMED,
        points=lambda x, eta, **_: threshold(eta, x),
    ),
    Row("ternary", asks={"ternary_variant": "variant"}, backward=MASKS),
    Row(
        "tsq_activation",
        parameters=one_of((0.2, 0.5), (0.0625, 1.0)),
        options=FOUR,
        answers={"ties": ("published", "up"), "mask_ends": OPEN},
        points=lambda _x, eps, delta, **_: (
            grid_points(0.0, 15 * delta, delta, 1, 15) | {"at eps": eps}
        ),
    ),
    Row(
        "ttq",
        ("wp", "wn"),
        one_of((0.75, 0.5), (1.5, 1.25)),
        {"t": 0.3},
        answers={
            "ties": ("published", "up", "down", "away"),
            "parameter_gradient": KEPT,
            "negative_level": ("minus_sum", "sum"),
        },
        points=lambda x, t, **_: threshold(t, x),
        spread=True,
    ),
    Row("twn", asks={"filter_group": "group"}, backward=MASKS),
    Row(
        "weq_activation",
        parameters=lambda rng: (draws.pick(rng, 0, -8), draws.pick(rng, 8, 4)),
        options={"levels": 6},
        answers={"mask_ends": ("published", "closed")},
        points=lambda _x, **_: {"lower end": 0.0},
    ),
    Row("weq_weight", options={"levels": 4}, answers=ZERO, backward=MASKS, least=2),
    Row(
        "xnor_activation",
        answers=ZERO | {"mask_ends": OPEN},
        points=signs,
        backward=("identity", "none"),
    ),
    Row(
        "xnor_weight",
        asks={"xnor_gradient": "gradient"},
        answers=ZERO | {"mask_ends": OPEN},
        points=signs,
    ),
)
