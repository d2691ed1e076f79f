"""Whole training steps: a quantized linear layer, its loss, its gradients, SGD.

wq = scale clip(round(w / scale), q_min, q_max)              (1)   rounding
logits = x wq^T + b;  loss, dlogits                          (2)   reduction
dwq = dlogits^T x;  db = sum of dlogits                      (3)
dw = dwq m                                                   (4)   straight_through
w, b: one step of SGD with momentum and weight decay         (5)   decay_order, decayed,
                                                                   velocity, updated
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from refqnn._types import Float, Int
from refqnn.conformance.choices import draws, kinds
from refqnn.conformance.choices.axes import AXES
from refqnn.conformance.choices.families import float_layers, optimiser
from refqnn.conformance.choices.families.fake_quantize import fake_quantize as quantized
from refqnn.conformance.choices.family import Choices, Family, Inputs, Outputs, values

SEED = 20_240_618
AXES_OF = (
    "straight_through",
    "reduction",
    "decay_order",
    "velocity",
    "decayed",
    "updated",
)
#: answers of the parts that are no question here
FIXED = {
    axis: AXES[axis].default
    for axis in (
        "scaling",
        "smoothing",
        "zero_point_when",
        "backward_rounding",
        "scale_gradient",
        "scale_mask",
        "zero_point_use",
        "code_range",
        "logarithm",
        "dampening",
        "nesterov",
    )
}


def training_step(
    choices: Choices,
    x: Float,
    labels: Int,
    w: Float,
    b: Float,
    scale: float,
    q_min: int,
    q_max: int,
    lrs: Float,
    momentum: float,
    weight_decay: float,
    label_smoothing: float,
) -> Outputs:
    """Return loss, weights and bias after each of T steps on one batch.

    x: (N, I), labels: (N,), w: (O, I), b: (O,), lrs: (T,)
    ->  loss: (T,), w: (T, O, I), b: (T, O)
    """
    answers = FIXED | dict(choices)
    grid: dict[str, Any] = {
        "scale": scale,
        "zero_point": 0,
        "q_min": q_min,
        "q_max": q_max,
    }
    losses, seen_w, seen_b = [], [], []
    w_velocity, b_velocity = np.zeros_like(w), np.zeros_like(b)
    for lr in lrs:
        wq = quantized(answers, w, **grid, dy=np.zeros_like(w))["y"]  # (1)
        loss, dlogits = float_layers.softmax_cross_entropy(
            answers, x @ wq.T + b, labels, label_smoothing
        ).values()  # (2)
        dwq, db = dlogits.T @ x, dlogits.sum(axis=0)  # (3)
        dw = quantized(answers, w, **grid, dy=dwq)["dx"]  # (4)
        start = w if choices["updated"] == "latent" else wq
        rates: dict[str, Any] = {"lr": float(lr), "momentum": momentum}
        w, w_velocity = optimiser.step(
            answers, start, dw, w_velocity, **rates, weight_decay=weight_decay
        )  # (5)
        decay = weight_decay if choices["decayed"] == "all" else 0.0
        b, b_velocity = optimiser.step(
            answers, b, db, b_velocity, **rates, weight_decay=decay
        )
        losses.append(loss)
        seen_w.append(w)
        seen_b.append(b)
    return {"loss": np.stack(losses), "w": np.stack(seen_w), "b": np.stack(seen_b)}


def inputs(x: Float, labels: Int, w: Float, b: Float) -> Inputs:
    """Return the arguments, settings that let every choice show."""
    return {
        "x": x,
        "labels": labels,
        "w": w,
        "b": b,
        "scale": 0.5,
        "q_min": -4,
        "q_max": 3,
        "lrs": np.array([0.5, 0.25, 0.125]),
        "momentum": 0.5,
        "weight_decay": 0.25,
        "label_smoothing": 0.3,
    }


#: weights on ties, on both ends of the grid, beyond them and within a rounding of them
KINKS = (0.25, -0.25, 0.75, -0.6, 0.1, -2.0, 1.5, 1.625, -2.125, 1.8, -2.4, 0.0)


def draw(rng: np.random.Generator, n: int) -> Inputs:
    """Return a batch of about n numbers, four inputs and three classes."""
    batch = max(n // 4, 3)
    w = np.array(KINKS) + rng.choice([0.0, 0.0, 0.25, -0.125], 12)
    return inputs(
        rng.normal(size=(batch, 4)),
        rng.integers(0, 3, batch),
        rng.permutation(w).reshape(3, 4),
        rng.normal(size=3),
    )


def candidates() -> list[Inputs]:
    """List calls with kinks in order, then drawn ones."""
    rng = np.random.default_rng(SEED)
    first = inputs(
        rng.normal(size=(3, 4)),
        np.array([0, 1, 2]),
        np.array(KINKS).reshape(3, 4),
        np.array([0.5, -0.5, 0.25]),
    )
    return [first, *(draw(rng, 16) for _ in range(3))]


def wide(rng: np.random.Generator, n: int) -> Inputs:
    """Draw layers of any sizes and settings; weights on, within and beyond the grid."""
    i, o = int(draws.pick(rng, 1, 4, 7)), int(draws.pick(rng, 2, 3, 5))
    scale, (q_min, q_max) = draws.pick(rng, 0.5, 0.25, 0.3), draws.pick(rng, *GRIDS)
    units = rng.integers(2 * q_min - 2, 2 * q_max + 3, (o, i)) / 2
    units = units + rng.choice([0.0, 0.0, 0.25, -0.125, 0.2], (o, i))
    x = draws.normal(rng, (min(max(n // 4, 1), 16), i))
    call = inputs(x, rng.integers(0, o, len(x)), scale * units, draws.normal(rng, (o,)))
    steps = int(draws.pick(rng, 1, 2, 3))
    return call | {
        "scale": scale,
        "q_min": q_min,
        "q_max": q_max,
        "lrs": rng.permutation(np.array([0.5, 0.25, 0.125]))[:steps],
        "momentum": float(draws.pick(rng, 0.0, 0.5, 0.75)),
        "weight_decay": float(draws.pick(rng, 0.0, 0.25)),
        "label_smoothing": float(draws.pick(rng, 0.0, 0.3)),
    }


def has_range(q_min: int, q_max: int, call: Mapping[str, Any]) -> bool:
    """Say whether a call has this range of codes."""
    return bool(call["q_min"] == q_min and call["q_max"] == q_max)


#: ranges of codes of weights
GRIDS = ((-4, 3), (-8, 7), (-1, 1), (-3, 3))

FAMILIES = (
    Family(
        "training_step",
        (
            "wq = scale clip(q, q_min, q_max): {rounding}",
            "logits = x wq^T + b; loss: {reduction}",
            "dwq = dlogits^T x; {straight_through}",
            "{updated}; decay of {decayed}",
            "{decay_order}; {velocity}",
        ),
        {"rounding": ("half_even", "half_away", "half_up", "floor")} | values(*AXES_OF),
        training_step,
        candidates,
        draw,
        close=1e-5,
        canonical=optimiser.sgd_canonical,
        outputs=("loss", "w", "b"),
        wide=wide,
        regions=kinds.all_reals("x", "w", "b")
        | kinds.on_grid("w")
        | kinds.examples("x")
        | kinds.tails("x")
        | {f"x: {n} features": kinds.has_columns("x", n) for n in (1, 4, 7)}
        | kinds.number("scale", 0.5, 0.25)
        | {f"range: [{a}, {b}]": partial(has_range, a, b) for a, b in GRIDS}
        | kinds.rows("lrs", 1, 2, 3)
        | kinds.number("momentum", 0)
        | kinds.number("weight_decay", 0)
        | kinds.number("label_smoothing", 0),
    ),
)
