"""softmax of codes along the last axis.

    p_i = exp(s_x (x_i - max x)) / sum of all     (1)     softmax, softmax_axis
    q_i = z + round(p_i / s)                      (2)

Forms of refqnn are those of ``integer.softmax``; the others stand here.
"""

from functools import cache
from typing import Any

import numpy as np

from refqnn import integer
from refqnn._types import Float, Int
from refqnn.conformance.choices import axes, draws, kinds
from refqnn.conformance.choices.families.affine import fit
from refqnn.conformance.choices.family import Choices, Family, Inputs, Outputs
from refqnn.integer.arithmetic import INT32
from refqnn.integer.exponential import fixed_softmax

#: the grid of the fixed-point form
USUAL = (2.0**-8, -128)


def evaluate(
    choices: Choices,
    x: Int,
    x_scale: float,
    scale: float,
    zero_point: int,
    q_min: int,
    q_max: int,
) -> Outputs:
    """Equations (1) and (2) over the last axis, or over all but the first."""
    shape = x.shape
    if choices["softmax_axis"] == "flattened" and x.ndim > 1:
        x = x.reshape(len(x), -1)
    q = codes_of(choices["softmax"], x, float(x_scale), float(scale), int(zero_point))
    if choices["softmax"] == "tflite":
        q = q + q_min
    return {"y": fit(q, choices["overflow"], q_min, q_max).reshape(shape)}


def codes_of(form: str, x: Int, x_scale: float, scale: float, z: int) -> Int:
    """Return codes before they are made to fit; "tflite" has a grid of its own."""
    below = x.astype(np.int64) - x.max(axis=-1, keepdims=True).astype(np.int64)
    if form == "tflite":
        return fixed_softmax(below, float(np.float32(x_scale)))
    if form in {"exact", "onnxruntime", "table"}:
        grid: dict[str, Any] = {"x_scale": x_scale, "scale": scale, "zero_point": z}
        grid |= {**INT32, "semantics": form}
        return integer.softmax(x, **grid).astype(np.int64)
    s = np.float32(scale)
    v = np.float32(x_scale) * below.astype(np.float32)
    e = np.exp(v.astype(np.float64)).astype(np.float32)
    total = np.add.accumulate(e, axis=-1)[..., -1:]  # in order, in float32
    return z + np.rint(e / total / s).astype(np.int64)


def exact(x: Int, x_scale: float, scale: float, *_: Any, **__: Any) -> Float:
    """Return p / s in float64, what is rounded."""
    v = float(x_scale) * (np.asarray(x, np.float64) - np.max(x, -1, keepdims=True))
    return np.exp(v) / np.exp(v).sum(-1, keepdims=True) / float(scale)


@cache
def candidates() -> list[Inputs]:
    """List ties of one half, of thirds and quarters, then rows beside ties, few."""
    rng = np.random.default_rng(20_261_130)
    rows = ([0], [0, 0], [3, 3, 3], [5, 0], [-128, 127], [1, 2, 3, 4])
    grids = (*((s, z) for s in (1.0, 0.3, 0.125) for z in (0, 1, -3)), USUAL)
    by_hand = [
        inputs(row, sx, *grid) for row in rows for sx in (1.0, 0.1) for grid in grids
    ]
    pairs = inputs([[[0, 0], [3, 1]], [[0, 9], [9, 0]]], 0.125, *USUAL)
    aimed = [beside_tie(rng) for _ in range(300)]
    return [*by_hand, pairs, *FAMILIES[0].few_of(aimed, "softmax")]


def inputs(x: Any, x_scale: float, scale: float, zero_point: int) -> Inputs:
    """Return the arguments of one question, int8 in and out."""
    codes = np.array(x, np.int8)
    return draws.call(evaluate, codes, x_scale, scale, zero_point, -128, 127)


def beside_tie(rng: np.random.Generator) -> Inputs:
    """Draw two codes whose distance is the logit of a tie, and small ones after them.

    With more codes the scale of the result makes the tie.
    """
    low = int(rng.integers(-128, 100))
    d, k = int(rng.integers(1, 28)), int(rng.integers(128, 255)) + 0.5
    if rng.random() < 0.7:
        sx = np.float32(np.log(k / (256 - k)) / d)
        return inputs([low + d, low], float(sx), *USUAL)
    x, sx = rng.integers(-128, 128, 5), np.float32(2.0 ** rng.uniform(-6, -3))
    largest = float(exact(x, float(sx), 1.0).max())
    near = np.float32(largest / (int(rng.integers(3, 100)) + 0.5))
    s = np.nextafter(near, near * draws.pick(rng, 0, 1, 2))
    return inputs(x, float(sx), float(s), int(rng.integers(-20, 20)))


def draw(rng: np.random.Generator, n: int) -> Inputs:
    """Draw rows of 16 codes, half of them on the usual grid."""
    x = rng.integers(-128, 128, (max(n // 16, 1), 16)).astype(np.int8)
    return on_grids(rng, x, (-128, 127))


def on_grids(rng: np.random.Generator, x: Int, ends: tuple[int, int]) -> Inputs:
    """Give codes two scales; the highest code of the result is 1, or far from it."""
    sx = float(np.float32(np.exp2(draws.pick(rng, -4, rng.uniform(-8, 0)))))
    s, z = draws.pick(rng, 0.125, rng.uniform(0.002, 0.3)), draws.zero_point(rng, *ends)
    if rng.random() < 0.5:
        s, z = USUAL[0], ends[0]
    return draws.call(evaluate, x, sx, float(np.float32(s)), z, *ends)


def wide(rng: np.random.Generator, n: int) -> Inputs:
    """Draw codes of both types, rows of any length, many of them close together."""
    dtype = draws.pick(rng, "int8", "uint8")
    long = rng.random() < 0.05
    shape = (1, int(rng.integers(500, 1100))) if long else draws.dims(rng, n)
    x = draws.codes(rng, shape, dtype)
    x = draws.high(x, 9) if rng.random() < 0.3 else x
    call = on_grids(rng, draws.laid_out(rng, x), draws.code_range(rng, 8))
    if rng.random() < 0.7:  # a scale that brings some code to a tie
        call["x_scale"] *= draws.pick(rng, 1.0, 0.125)
        p = float(rng.choice(exact(x, call["x_scale"], 1.0).ravel()))
        s = float(np.float32(p / (int(rng.integers(0, 60)) + 0.5)))
        call |= {"scale": s} if s > 1e-3 else {}
    return call


def gives_q_min(call: Inputs) -> bool:
    """Say whether a code of the result is the lowest of its range."""
    lowest = exact(**call).min() < 0.5
    return bool(lowest and call["zero_point"] == call["q_min"])


FAMILIES = (
    Family(
        "softmax",
        ("{softmax_axis}", "{softmax}", "{overflow}"),
        axes.of("softmax softmax_axis") | {"overflow": ("saturate", "wrap")},
        evaluate,
        candidates,
        draw,
        exact=exact,
        wide=wide,
        regions=kinds.regions(
            "x: integers, ends, shape",
            "x: dtypes int8 uint8",
            "x_scale scale: power_of_two",
            "zero_point: integers, ends_of_range",
            "range: code_range 8",
        )
        | {"x: a row above 256": lambda call: np.shape(call["x"])[-1] > 256}
        | {"range: its lowest code is a result": gives_q_min},
    ),
)
