"""binary_step: whole training steps of a layer of binary weights.

wq = scale sgn(w)                                            (1)     binary_scale,
                                                                     sign_of_zero
logits = x wq^T + b;  loss, dlogits                          (2)     reduction
dwq = dlogits^T x;  db = sum of dlogits                      (3)
dw = dwq m                                                   (4)     binary_mask
w, b: one step of SGD with momentum; w clipped               (5)     updated,
                                                                     latent_clip
"""

from functools import partial
from typing import Any

import numpy as np

from refqnn._types import Float, Int
from refqnn.conformance.choices import draws, kinds
from refqnn.conformance.choices.axes import AXES
from refqnn.conformance.choices.coverage import few
from refqnn.conformance.choices.families import float_layers, optimiser
from refqnn.conformance.choices.family import Choices, Family, Inputs, Outputs, values

SEED = 20_261_132
#: answers of the parts that are no question here
PARTS = ("smoothing", "logarithm", "decay_order", "velocity", "dampening", "nesterov")
FIXED = {axis: AXES[axis].default for axis in PARTS}


def binary_step(
    choices: Choices,
    x: Float,
    labels: Int,
    w: Float,
    b: Float,
    lrs: Float,
    momentum: float,
    weight_decay: float,
) -> Outputs:
    """Return loss, weights and bias after each of T steps on one batch.

    x: (N, I), labels: (N,), w: (O, I), b: (O,), lrs: (T,)
    ->  loss: (T,), w: (T, O, I), b: (T, O)
    """
    answers = FIXED | dict(choices)
    losses, seen_w, seen_b = [], [], []
    w_velocity, b_velocity = np.zeros_like(w), np.zeros_like(b)
    for lr in lrs:
        wq = binary_weights(choices, w)  # (1)
        loss, dlogits = float_layers.softmax_cross_entropy(
            answers, x @ wq.T + b, labels, 0.0
        ).values()  # (2)
        dw, db = dlogits.T @ x, dlogits.sum(axis=0)  # (3)
        if choices["binary_mask"] == "within_1":
            dw = np.where(np.abs(w) <= 1, dw, 0)  # (4)
        start = w if choices["updated"] == "latent" else wq
        rates: dict[str, Any] = {"lr": float(lr), "momentum": momentum}
        w, w_velocity = optimiser.step(
            answers, start, dw, w_velocity, **rates, weight_decay=weight_decay
        )  # (5)
        w = np.clip(w, -1, 1) if choices["latent_clip"] == "to_1" else w
        b, b_velocity = optimiser.step(
            answers, b, db, b_velocity, **rates, weight_decay=weight_decay
        )
        losses.append(loss)
        seen_w.append(w)
        seen_b.append(b)
    return {"loss": np.stack(losses), "w": np.stack(seen_w), "b": np.stack(seen_b)}


def binary_weights(choices: Choices, w: Float) -> Float:
    """Equation (1), the mean over a row of w: (O, I)  ->  (O, I)"""
    sign = np.where(w > 0, 1.0, np.where(w < 0, -1.0, float(choices["sign_of_zero"])))
    if choices["binary_scale"] == "none":
        return sign
    return np.asarray(np.abs(w).mean(axis=1, keepdims=True) * sign)


def draw(rng: np.random.Generator, n: int) -> Inputs:
    """Draw layers of any sizes; weights of both signs, zeros, beyond 1 and on it."""
    i, o = int(draws.pick(rng, 1, 4, 7)), int(draws.pick(rng, 2, 3, 5))
    x = draws.normal(rng, (min(max(n // 4, 1), 16), i))
    steps = int(draws.pick(rng, 1, 2, 3))
    w = np.where(rng.random((o, i)) < 0.2, rng.choice([1.0, -1.0]), rng.normal(size=1))
    w = np.where(rng.random((o, i)) < 0.6, 1.2 * draws.normal(rng, (o, i)), w)
    return {
        "x": x,
        "labels": rng.integers(0, o, len(x)),
        "w": w,
        "b": draws.normal(rng, (o,)),
        "lrs": rng.permutation(np.array([0.5, 0.25, 0.125]))[:steps],
        "momentum": float(draws.pick(rng, 0.0, 0.5, 0.75)),
        "weight_decay": float(draws.pick(rng, 0.0, 0.25)),
    }


REGIONS = (
    kinds.all_reals("x", "w", "b")
    | kinds.where(
        "w",
        {
            "on 1": lambda w: w == 1,
            "on -1": lambda w: w == -1,
            "above 1": lambda w: w > 1,
            "below -1": lambda w: w < -1,
        },
    )
    | kinds.examples("x")
    | kinds.tails("x")
    | {f"x: {n} features": kinds.has_columns("x", n) for n in (1, 4, 7)}
    | kinds.rows("lrs", 1, 2, 3)
    | kinds.number("momentum", 0)
    | kinds.number("weight_decay", 0)
)

FAMILIES = (
    Family(
        "binary_step",
        (
            "wq = {binary_scale}; {sign_of_zero}",
            "logits = x wq^T + b; loss: {reduction}",
            "dwq = dlogits^T x; {binary_mask}",
            "{updated}; {latent_clip}",
        ),
        values(
            "binary_scale",
            "sign_of_zero",
            "reduction",
            "binary_mask",
            "updated",
            "latent_clip",
        ),
        binary_step,
        partial(few, REGIONS, draw, (24, 64), SEED),
        draw,
        close=1e-5,
        outputs=("loss", "w", "b"),
        regions=REGIONS,
    ),
)
