"""Every quantizer of ``refqnn.quantizers``: forward and backward, as a table.

A row names the quantizer, its arguments, and which of its options are questions. The
backward pass is a question of every row: published, identity, or none.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from refqnn import quantizers
from refqnn._types import Array, Float
from refqnn.conformance.choices.axes import AXES
from refqnn.conformance.choices.families.family import (
    Choices,
    Family,
    Inputs,
    Outputs,
    values,
)

SEED = 20_240_614
Arguments = Callable[[Float], tuple[Any, ...]]


class Row(NamedTuple):
    """A quantizer: parameters after its first argument, options, questions."""

    name: str
    #: names of the learned parameters, and their values for an input
    learned: tuple[str, ...] = ()
    parameters: Arguments = lambda _: ()
    options: Mapping[str, Any] = {}
    #: {axis: the option that answers it}
    asks: Mapping[str, str] = {}
    #: of the drawn input; activations are not negative
    shape: tuple[int, ...] = (4, 3, 2, 2)
    #: the published backward is the identity, so that is no question
    straight: bool = False


def of(*constants: float) -> Arguments:
    """Return parameters that do not depend on the input."""
    return lambda x: tuple(np.asarray(c, x.dtype) for c in constants)


def vectors(*rows: tuple[float, ...]) -> Arguments:
    """Return vectors of parameters."""
    return lambda x: tuple(np.asarray(row, x.dtype) for row in rows)


FOUR = {"bits": 4}
ROWS = (
    Row("abc_activation", ("v", "beta"), vectors((-0.5, 0.0, 0.5), (0.5, 0.25, 0.125))),
    Row("abc_weight", (), of(), {"bases": 3}, {"clip_grad": "clip_grad"}),
    Row("affine", (), of(-1.0, 2.0), FOUR, {"narrow_range": "narrow_range"}),
    Row("balanced", (), of(), FOUR, {"balanced_split": "split"}, straight=True),
    Row("binary", (), of(), {}, {"filter_group": "group"}, straight=True),
    Row("dorefa_activation", (), of(), FOUR),
    Row("dorefa_weight", (), of(), FOUR, {"max_grad": "max_grad"}),
    Row("fixed_point", (), of(1.5), FOUR, {"clip_grad": "clip_grad"}, straight=True),
    Row("haq_linear", (), of(), {"bits": 4, "clip": 1.0}, straight=True),
    Row(
        "kmeans_weight", ("centroids",), vectors((-1.0, -0.25, 0.5, 1.5)), straight=True
    ),
    Row("lq", ("v",), vectors((0.5, 1.0)), {"signed": True}, straight=True),
    Row("lsq", ("s",), of(0.25), {"q_n": 4, "q_p": 3}),
    Row("min_max", (), of(-1.0, 2.0), FOUR, {"true_zero": "true_zero"}, straight=True),
    Row("optimal_ternary", shape=(4, 8), straight=True),
    Row("pact", ("alpha",), of(1.5), FOUR, {"pact_scope": "scope"}),
    Row("qil_activation", ("c", "d"), of(1.0, 0.75), FOUR),
    Row("qil_weight", ("c", "d", "gamma"), of(1.0, 0.75, 0.8), FOUR),
    Row("sawb", (), of(), FOUR, {"sawb_grid": "grid"}, straight=True),
    Row("syq", ("alpha",), of(0.5), {"eta": 0.3, "levels": 3, "group": "layer"}),
    Row("ternary", (), of(), {}, {"ternary_variant": "variant"}, straight=True),
    Row("tsq_activation", (), of(0.1, 0.25), FOUR),
    Row("ttq", ("wp", "wn"), of(0.75, 0.5), {"t": 0.3}),
    Row("twn", (), of(), {}, {"filter_group": "group"}, straight=True),
    Row("weq_activation", (), lambda _: (0, 8), {"levels": 6}),
    Row("weq_weight", (), of(), {"levels": 4}, straight=True),
    Row("xnor_activation"),
    Row("xnor_weight", (), of(), {}, {"xnor_gradient": "gradient"}),
)


def evaluate(row: Row, choices: Choices, x: Float, dy: Float, **given: Any) -> Outputs:
    """Return y, dx and the gradients of the learned parameters."""
    answers = {option: spelled(choices[axis]) for axis, option in row.asks.items()}
    forward = getattr(quantizers, row.name)
    y, cache = forward(x, *given.values(), **row.options, **answers)
    grads = getattr(quantizers, f"{row.name}_backward")(dy, cache)
    dx, *others = grads if isinstance(grads, tuple) else (grads,)
    dx = {"published": dx, "identity": dy, "none": np.zeros_like(dy)}[
        choices["backward"]
    ]
    learned = zip(row.learned, others, strict=False)
    return {"y": y, "dx": dx} | {f"d{name}": np.asarray(d) for name, d in learned}


def spelled(value: str) -> str | bool:
    """Return the Python value that an answer spells.

    >>> spelled("True"), spelled("whole")
    (True, 'whole')
    """
    return {"True": True, "False": False}.get(value, value)


def inputs(row: Row, x: Float, dy: Array) -> Inputs:
    """Return the arguments of a call: x, dy and the parameters by position."""
    given = {f"p{i}": p for i, p in enumerate(row.parameters(x))}
    return {"x": x, "dy": dy.astype(x.dtype)} | given


def draw(row: Row, rng: np.random.Generator, n: int) -> Inputs:
    """Values on and off a grid of quarters, both signs, an exact zero."""
    rest = int(np.prod(row.shape[1:]))
    shape = (max(n // rest, 2), *row.shape[1:])
    x = rng.normal(size=shape) * rng.choice([0.5, 1.0, 2.0])
    x = np.where(rng.random(shape) < 0.3, np.round(4 * x) / 4, x)
    x.flat[:3] = 0.0, 0.1, -2.5
    return inputs(row, x, rng.choice([0.5, 1.0, 2.0], shape))


def candidates(row: Row) -> list[Inputs]:
    """Inputs of few filters, then of more."""
    rng = np.random.default_rng(SEED)
    return [draw(row, rng, n) for n in (24, 96)]


def canonical(choices: Choices) -> dict[str, str]:
    """A backward pass that is replaced does not ask how it would have been."""
    gradients = ("max_grad", "clip_grad", "xnor_gradient")
    if choices["backward"] == "published":
        return dict(choices)

    return {a: AXES[a].default if a in gradients else v for a, v in choices.items()}


def family(row: Row) -> Family:
    """Return a row as a family."""
    lines = (*(f"{{{axis}}}" for axis in row.asks), "{backward}")
    axes = values(*row.asks, "backward")
    if row.straight:
        axes["backward"] = ("published", "none")
    return Family(
        row.name,
        lines,
        axes,
        partial(evaluate, row),
        partial(candidates, row),
        partial(draw, row),
        close=1e-6,
        canonical=canonical,
        outputs=("y", "dx", *(f"d{name}" for name in row.learned)),
    )


FAMILIES = tuple(family(row) for row in ROWS)
