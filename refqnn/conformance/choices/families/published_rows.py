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
ROWS = (
    Row(
        "abc_activation",
        ("v", "beta"),
        one_of(
            ((-0.375, 0.0, 0.3125), (0.5, 0.25, 0.125)),
            ((-0.25, 1.625), (1.0, 0.75)),
            ((-1.75, 0.125), (-0.5, 0.25)),
        ),
        {},
        {"ste_slope": "ste_slope"},
        {
            "ties": ("published", "down"),
            "mask_ends": CLOSED,
            "parameter_gradient": SUMS,
        },
        lambda _x, v, **_: {"tie": 0.5 - v, "lower end": -v, "upper end": 1 - v},
    ),
    Row(
        "abc_weight",
        (),
        one_of(()),
        {"bases": 3},
        {"clip_grad": "clip_grad"},
        {"mask_ends": CLOSED},
        signs,
    ),
    Row(
        "affine",
        (),
        one_of((-1.0, 0.875), (-2.0, 1.75), (-1.75, 1.75), (-1.5, 2.0)),
        FOUR,
        {"narrow_range": "narrow_range"},
        {"rounding": (*HALVES, "floor", "trunc"), "mask_ends": CLOSED},
        affine_points,
    ),
    Row(
        "balanced",
        (),
        one_of(()),
        FOUR,
        {"balanced_split": "split", "balanced_scale": "scale"},
        backward=("none", "hard_tanh"),
    ),
    Row(
        "binary",
        (),
        one_of(()),
        {},
        {"filter_group": "group"},
        ZERO,
        backward=("none", "hard_tanh"),
    ),
    Row(
        "dorefa_activation",
        (),
        one_of(()),
        FOUR,
        {},
        {"rounding": ("half_even", "half_down", "floor"), "mask_ends": CLOSED},
        lambda _x, **_: {"lower end": 0.0, "upper end": 1.0, "tie": 0.5},
    ),
    Row("dorefa_weight", (), one_of(()), FOUR, {"max_grad": "max_grad"}),
    Row(
        "fixed_point",
        (),
        one_of((0.875,), (1.75,), (1.5,)),
        FOUR,
        {"clip_grad": "clip_grad"},
        {"rounding": (*HALVES, "floor", "trunc"), "mask_ends": CLOSED},
        lambda _x, a, **_: {
            "lower end": -a,
            "upper end": a,
            "tie": halves(a / 7, -7, 7),
        },
        backward=("none", "hard_tanh"),
    ),
    Row(
        "haq_linear",
        (),
        one_of(()),
        {"bits": 4, "clip": 1.0},
        {},
        {"rounding": ("half_even", "floor", "trunc")},
        signs,
        backward=("none", "hard_tanh"),
    ),
    Row(
        "kmeans_weight",
        ("centroids",),
        one_of(((-1.0, -0.25, 0.5, 1.5),), ((-2.0, 0.0, 0.25, 1.0),)),
        {},
        {"centroid_reduction": "reduction"},
        {"ties": NO_DOWN, "parameter_gradient": ("sum", "negated", "none")},
        lambda _x, centroids, **_: {"tie": (centroids[1:] + centroids[:-1]) / 2},
        backward=("none", "hard_tanh"),
    ),
    Row(
        "lq",
        ("v",),
        one_of(((0.5, 1.0),), ((0.25, 0.75),)),
        {"signed": True},
        {},
        {"ties": NO_DOWN, "parameter_gradient": SUMS},
        lambda _x, v, **_: {"tie": np.array([-v[1], 0, v[1]])},
        backward=("none", "hard_tanh"),
    ),
    Row(
        "lsq",
        ("s",),
        one_of((0.25,), (0.5,), (1.0,), (0.3,)),
        {"q_n": 4, "q_p": 3},
        {},
        {
            "rounding": HALVES,
            "mask_ends": OPEN,
            "parameter_mask": ("published", "closed"),
            "parameter_gradient": (
                *KEPT,
                "1/sqrt(N*q_p)",
                "1/sqrt(F*q_p)",
                "1/sqrt(N)",
            ),
        },
        lsq_points,
        spread=True,
    ),
    Row(
        "min_max",
        (),
        one_of(
            (-1.0, 0.875),
            (-2.0, 1.75),
            (-1.0, 2.0),
            (-1.0625, 0.8125),
        ),
        FOUR,
        {"true_zero": "true_zero"},
        {"rounding": (*HALVES, "floor", "trunc")},
        affine_points,
        backward=("none", "hard_tanh"),
    ),
    Row(
        "optimal_ternary",
        (),
        one_of(()),
        backward=("none", "hard_tanh"),
        axes=2,
    ),
    Row(
        "pact",
        ("alpha",),
        one_of((1.875,), (3.75,), (0.9375,), (1.5,)),
        FOUR,
        {"pact_scope": "scope"},
        {
            "rounding": ("half_even", "half_up", "half_down"),
            "mask_ends": HALF_OPEN,
            "parameter_mask": ("published", "closed"),
            "parameter_gradient": KEPT,
        },
        lambda _x, alpha, **_: {
            "lower end": 0.0,
            "upper end": alpha,
            "tie": halves(alpha / 15, 0, 15),
        },
        spread=True,
    ),
    Row(
        "qil_activation",
        ("c", "d"),
        one_of((1.0, 0.75), (1.5, 0.5)),
        FOUR,
        {},
        {
            "rounding": ("half_even", "half_down"),
            "mask_ends": OPEN,
            "parameter_mask": ("published", "closed"),
            "parameter_gradient": SUMS,
        },
        lambda _x, c, d, **_: {"lower end": c - d, "upper end": c + d, "tie": c},
    ),
    Row(
        "qil_weight",
        ("c", "d", "gamma"),
        one_of((1.0, 0.75, 0.8), (1.5, 0.5, 1.0), (1.0, 0.5, 1.25)),
        FOUR,
        {},
        {
            "mask_ends": OPEN,
            "parameter_mask": ("published", "closed"),
            "parameter_gradient": SUMS,
        },
        lambda _x, c, d, **_: {
            "lower end": [c - d, d - c],
            "upper end": [c + d, -c - d],
            "tie": [c, -c],
        },
    ),
    Row(
        "sawb",
        (),
        one_of(()),
        FOUR,
        {"sawb_grid": "grid", "sawb_gradient": "gradient"},
        backward=("none", "hard_tanh"),
    ),
    Row(
        "syq",
        ("alpha",),
        one_of((0.5,), (0.75,)),
        {"eta": 0.3, "levels": 3, "group": "layer"},
        {},
        {"ties": ("published", "up", "down", "away"), "parameter_gradient": SUMS},
        lambda x, eta, **_: {"tie": eta * np.abs(x).max() * np.array([1.0, -1.0])},
    ),
    Row(
        "ternary",
        (),
        one_of(()),
        {},
        {"ternary_variant": "variant"},
        backward=("none", "hard_tanh"),
    ),
    Row(
        "tsq_activation",
        (),
        one_of((0.25, 0.5), (0.0625, 1.0)),
        FOUR,
        {},
        {"ties": ("published", "up"), "mask_ends": OPEN},
        lambda _x, eps, delta, **_: {
            "lower end": 0.0,
            "upper end": 15 * delta,
            "tie": halves(delta, 1, 15),
            "at eps": eps,
        },
    ),
    Row(
        "ttq",
        ("wp", "wn"),
        one_of((0.75, 0.5), (1.5, 1.25)),
        {"t": 0.3},
        {},
        {
            "ties": ("published", "up", "down", "away"),
            "parameter_gradient": KEPT,
            "negative_level": ("minus_sum", "sum"),
        },
        lambda x, t, **_: {"tie": t * np.abs(x).max() * np.array([1.0, -1.0])},
        spread=True,
    ),
    Row(
        "twn",
        (),
        one_of(()),
        {},
        {"filter_group": "group"},
        backward=("none", "hard_tanh"),
    ),
    Row(
        "weq_activation",
        (),
        lambda rng: (draws.pick(rng, 0, -8), draws.pick(rng, 8, 4)),
        {"levels": 6},
        {},
        {"mask_ends": ("published", "closed")},
        lambda _x, **_: {"lower end": 0.0},
    ),
    Row(
        "weq_weight",
        (),
        one_of(()),
        {"levels": 4},
        {},
        ZERO,
        backward=("none", "hard_tanh"),
        least=2,
    ),
    Row(
        "xnor_activation",
        answers=ZERO | {"mask_ends": OPEN},
        points=signs,
        backward=("identity", "none"),
    ),
    Row(
        "xnor_weight",
        (),
        one_of(()),
        {},
        {"xnor_gradient": "gradient"},
        ZERO | {"mask_ends": OPEN},
        signs,
    ),
)
