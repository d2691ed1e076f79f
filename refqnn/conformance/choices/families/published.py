"""Every quantizer of ``refqnn.quantizers``: forward and backward, as a table.

Rows stand in ``published_rows.py``; what an answer does to a quantizer is computed in
``published_answers.py``. Options that are no question can be set:
``family_of("lsq:q_n=8,q_p=7")``.
"""

import ast
import inspect
from collections.abc import Mapping
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np

from refqnn import quantizers
from refqnn._types import Bool, Float
from refqnn.conformance.choices import axes, draws, kinds
from refqnn.conformance.choices.axes import AXES
from refqnn.conformance.choices.coverage import few
from refqnn.conformance.choices.families.published_answers import (
    XNOR,
    Pass,
    outputs_under,
)
from refqnn.conformance.choices.families.published_rows import ROWS, Generator, Row
from refqnn.conformance.choices.family import Choices, Family, Inputs, Outputs

SEED = 20_240_614


def evaluate(row: Row, choices: Choices, x: Float, dy: Float, **given: Any) -> Outputs:
    """Return y, dx and the gradients of the learned parameters."""
    asked = {option: parse_answer(choices[axis]) for axis, option in row.asks.items()}
    q = Pass(row.name, {**row.options, **asked}, tuple(given.values()), dy)
    return outputs_under(q, row.learned, choices, x, row.spread)


def parse_answer(value: str) -> Any:
    """Convert an answer, which is text, to the option of the quantizer that it names.

    >>> [parse_answer(a) for a in ("True", "2", "whole", "exact_released")]
    [True, 2, 'whole', 'exact']
    """
    if value in XNOR:
        return "exact"
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value


def draw(row: Row, rng: Generator, n: int) -> Inputs:
    """Draw values of both signs, some equal, some on points of the row, zeros.

    One call in four is in a unit that is no power of two, on no point of the row. Of
    the others, parameters that broadcast are sometimes one for each filter or example.
    """
    shape = dims(row, rng, max(n, row.least))
    x = rng.normal(size=shape) * rng.choice([0.5, 1.0, 2.0])
    x = x**3 if rng.random() < 0.2 else x
    x = np.where(rng.random(shape) < 0.25, np.round(4 * x) / 4 + 2.0**-6, x)
    x = np.where(rng.random(shape) < 0.1, 0, x)
    given = dict(zip(names_of(row), row.parameters(rng), strict=True))
    call: Inputs = {
        "x": draws.laid_out(rng, plant_points(row, rng, x, given)),
        "dy": draws.laid_out(rng, draws.gradient(rng, shape)),
        **given,
    }
    if rng.random() < 0.25:
        call["x"][...] = x
        for name in in_unit_of_x(row):
            call[name] *= UNIT
    elif row.spread and len(x) > 1 and rng.random() < 0.2:
        each = rng.permutation(np.resize([1.0, 2.0, 0.5], len(x)))
        for name in given:
            call[name] = call[name] * each.reshape(-1, *[1] * (x.ndim - 1))
    return call


#: what keeps every number from being one of few bits
UNIT = 1.1


def dims(row: Row, rng: Generator, n: int) -> tuple[int, ...]:
    """Return a shape of n elements, filters or examples first."""
    if row.axes == 2:
        o = next(d for d in (4, 5, 1) if n % d == 0)
        return o, n // o
    rest = draws.pick(rng, *(r for r in RESTS if n % int(np.prod(r)) == 0))
    return n // int(np.prod(rest)), *rest


#: channels, rows and columns of a filter or an example
RESTS = ((3, 2, 2), (4, 2, 2), (2, 1, 2), (5, 1, 1), (7, 1, 1), (1, 1, 1))


def plant_points(row: Row, rng: Generator, x: Float, given: Inputs) -> Float:
    """Replace 30 % of x, never its largest value, by ties and ends of masks."""
    points = [np.ravel(p) for p in row.points(x, **given, **row.options).values()]
    if not points:
        return x
    chosen = rng.choice(np.concatenate(points), x.shape)
    free = rng.random(x.shape) < 0.3
    free.flat[np.argmax(np.abs(x))] = False
    largest = np.abs(x).max()
    dependent = row.name in {"ttq", "syq"}
    fits = np.abs(chosen) <= largest if dependent else np.full(x.shape, True)
    return np.where(free & fits, chosen, x)


def regions(row: Row) -> kinds.Regions:
    """Return the regions: signs, values beyond 1, points of the row, sizes, layouts."""

    def x_and_points(call: Inputs) -> tuple[Float, dict[str, Any]]:
        given = {
            name: np.ravel(v)[0] if np.ndim(v) > 1 else v  # the first filter's
            for name, v in call.items()
            if name not in {"x", "dy"}
        }
        return call["x"], row.points(call["x"], **given, **row.options)

    _, points = x_and_points(draw(row, np.random.default_rng(0), 24))
    planes = ", square_planes" if row.axes == 4 else ""
    return (
        kinds.regions("x: reals, beyond_1")
        | kinds.regions_named("x", {k: partial(meets, k) for k in points}, x_and_points)
        | kinds.sizes("x", *(n for n in kinds.LENGTHS if n >= row.least))
        | kinds.regions(
            f"x: tails, magnitudes, outliers{planes}, examples, layout",
            "dy: reals, layout, one_sign",
        )
        | each_value(row)
    )


def meets(name: str, x: Float, points: Mapping[str, Any]) -> Bool:
    """Return where x is one of the points that are called ``name``."""
    return np.isin(x, points[name])


def each_value(row: Row) -> kinds.Regions:
    """Return a region for every value that a parameter is drawn to have."""
    rng = np.random.default_rng(0)
    seen: kinds.Regions = {}
    for _ in range(40):
        for name, value in zip(names_of(row), row.parameters(rng), strict=True):
            shown = str(np.asarray(value).tolist())
            seen |= kinds.where(name, {shown: partial(np.array_equal, value)})
            if row.spread:
                seen |= kinds.regions(f"{name}: examples_each")
    return dict(sorted(seen.items()))


def names_of(row: Row) -> list[str]:
    """Return the names of the parameters after the first argument."""
    count = len(row.parameters(np.random.default_rng(0)))
    names = list(inspect.signature(getattr(quantizers, row.name)).parameters)
    return names[1 : 1 + count]


def candidates(row: Row) -> list[Inputs]:
    """List inputs of few filters, then of more, that together visit every region.

    Those with a parameter for each filter come last.
    """
    calls = few(regions(row), partial(draw, row), (24, 96, 24, 7), SEED)
    return sorted(calls, key=lambda c: any(np.ndim(c[n]) > 1 for n in names_of(row)))


def canonical(choices: Choices) -> dict[str, str]:
    """Replace answers to questions that other answers leave without effect.

    A gradient that is replaced, or of a parameter that has none, asks no more.
    Without ``clip_grad`` there is no mask whose ends could be asked for.
    """
    unasked = set[str]()
    replaced = choices["backward"] != "published"
    detached = choices.get("parameter_gradient", "none") == "none"
    if replaced:
        unasked |= {"max_grad", "clip_grad", "sawb_gradient", "xnor_gradient"}
    if replaced or choices.get("clip_grad") == "False":
        unasked |= {"mask_ends"}
    if detached:
        unasked |= {"parameter_mask", "centroid_reduction", "negative_level"}
        unasked |= {"pact_scope"}
    if replaced and detached:
        unasked |= {"ste_slope"}
    return {a: AXES[a].default if a in unasked else v for a, v in choices.items()}


def family(row: Row) -> Family:
    """Return a row as a family."""
    asked = axes.of(" ".join(row.asks)) | dict(row.answers)
    lines = (*(f"{{{axis}}}" for axis in asked), "{backward}")
    return Family(
        row.name,
        lines,
        asked | {"backward": ("published", *row.backward)},
        partial(evaluate, row),
        partial(candidates, row),
        partial(draw, row),
        close=1e-6,
        canonical=canonical,
        outputs=("y", "dx", *(f"d{name}" for name in row.learned)),
        scaled=in_unit_of_x(row),
        regions=regions(row),
    )


def in_unit_of_x(row: Row) -> tuple[str, ...]:
    """Return x and the parameters that are real numbers in its unit."""
    parameters = row.parameters(np.random.default_rng(0))
    reals = [np.asarray(p).dtype.kind == "f" for p in parameters]
    known = zip(names_of(row), reals, strict=True)
    return ("x", *(name for name, real in known if real and name != "gamma"))


@cache
def with_options(name: str, options: str) -> Family:
    """Return the family of a quantizer with some of its options set.

    Raises ValueError for a quantizer or an option that does not exist.

    >>> with_options("lsq", "q_n=8,q_p=7").name
    'lsq:q_n=8,q_p=7'
    """
    row = next((row for row in ROWS if row.name == name), Row(name))
    pairs = [option.partition("=") for option in options.split(",")]
    given = {option.strip(): parse_answer(value) for option, _, value in pairs}
    if not set(given) <= set(row.options):
        raise ValueError(
            f"options of {name} to be set are {list(row.options)}, got {options!r}"
        )
    changed = row._replace(options={**row.options, **given})
    return replace(family(changed), name=f"{name}:{options}")


FAMILIES = tuple(family(row) for row in ROWS)
