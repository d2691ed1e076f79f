"""Whole training steps: a layer of few bits, its loss, its gradients, SGD.

    training_step    wq = scale clip(round(w / scale), q_min, q_max)   (1)  rounding
    conv_step        the same of a convolution, its outputs averaged over positions
    binary_step      wq = scale sgn(w)              (1)  binary_scale, sign_of_zero
    ternary_step     wq = alpha sgn(w) 1{|w| > 0.7 mean|w|}    (1)  ternary_scale,
                                                                   filter_group

logits = x wq^T + b;  loss, dlogits                          (2)   reduction
dwq = dlogits^T x;  db = sum of dlogits                      (3)
dw = dwq m                                                   (4)   straight_through,
                                                                   binary_mask
w, b: one step of SGD with momentum and weight decay         (5)   decay_order, decayed,
                                                                   velocity, updated,
                                                                   latent_clip
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from refqnn._types import Float, Int
from refqnn.conformance.choices import axes, draws, kinds
from refqnn.conformance.choices.axes import AXES
from refqnn.conformance.choices.coverage import few
from refqnn.conformance.choices.families import float_layers, optimiser
from refqnn.conformance.choices.families.fake_quantize import fake_quantize
from refqnn.conformance.choices.family import Choices, Family, Inputs, Outputs
from refqnn.geometry import window, windows

SEED, BINARY_SEED = 20_240_618, 20_261_132
CONV_SEED, TERNARY_SEED = 20_261_134, 20_261_135
#: answers of the parts that are no question here
FIXED = {
    axis: AXES[axis].default
    for axis in (
        "scaling", "smoothing", "zero_point_when", "backward_rounding",
        "scale_gradient", "scale_mask", "zero_point_use", "code_range", "logarithm",
        "dampening", "nesterov", "decay_order", "velocity",
    )
}  # fmt: skip


def descend(
    choices: Choices,
    quantize: Callable[[Float], Float],
    gradient: Callable[[Float, Float], Float],
    batch: tuple[Float, Int, float],
    w: Float,
    b: Float,
    lrs: Float,
    momentum: float,
    weight_decay: float,
) -> Outputs:
    """Return loss, weights and bias after each of T steps on one batch.

    quantize: w -> wq, gradient: w, dwq -> dw, batch: x (N, I), labels (N,), smoothing,
    w: (O, I), b: (O,), lrs: (T,)  ->  loss: (T,), w: (T, O, I), b: (T, O)
    """
    answers = FIXED | dict(choices)
    x, labels, smoothing = batch
    bias_decay = weight_decay if answers.get("decayed", "all") == "all" else 0.0
    losses, seen_w, seen_b = [], [], []
    w_velocity, b_velocity = np.zeros_like(w), np.zeros_like(b)
    for lr in lrs:
        wq = quantize(w)  # (1)
        loss, dlogits = float_layers.softmax_cross_entropy(
            answers, x @ wq.T + b, labels, smoothing
        ).values()  # (2)
        dw, db = gradient(w, dlogits.T @ x), dlogits.sum(axis=0)  # (3), (4)
        start = w if answers["updated"] == "latent" else wq
        step = partial(optimiser.step, answers, lr=float(lr), momentum=momentum)
        w, w_velocity = step(start, dw, w_velocity, weight_decay=weight_decay)  # (5)
        w = np.clip(w, -1, 1) if answers.get("latent_clip") == "to_1" else w
        b, b_velocity = step(b, db, b_velocity, weight_decay=bias_decay)
        losses.append(loss)
        seen_w.append(w)
        seen_b.append(b)
    return {"loss": np.stack(losses), "w": np.stack(seen_w), "b": np.stack(seen_b)}


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
    """Equations (1) to (5) on a uniform grid, its zero-point 0."""

    def on_grid(output: str, w: Float, dy: Float) -> Float:
        answers = FIXED | dict(choices)
        outputs = fake_quantize(answers, w, scale, 0, q_min, q_max, dy)
        return np.asarray(outputs[output])

    return descend(
        choices,
        lambda w: on_grid("y", w, np.zeros_like(w)),
        partial(on_grid, "dx"),
        (x, labels, label_smoothing),
        *(w, b, lrs, momentum, weight_decay),
    )


def conv_step(
    choices: Choices,
    x: Float,
    labels: Int,
    w: Float,
    b: Float,
    scale: float,
    q_min: int,
    q_max: int,
    stride: Any,
    padding: Any,
    lrs: Float,
    momentum: float,
    weight_decay: float,
    label_smoothing: float,
) -> Outputs:
    """Equations (1) to (5), logits = the mean of conv(x, wq) over positions + b.

    The mean commutes with the product: it is that of the windows of x.
    """
    kernel = w.shape[2], w.shape[3]
    seen = windows(x, window(kernel, stride=stride, padding=padding), 0.0)
    rows = seen.mean(axis=(2, 3)).reshape(len(x), -1)
    layer = rows, labels, w.reshape(len(w), -1), b, scale, q_min, q_max
    settings = lrs, momentum, weight_decay, label_smoothing
    got = training_step(choices, *layer, *settings)
    return got | {"w": got["w"].reshape(-1, *w.shape)}


def ternary_weights(choices: Choices, w: Float) -> Float:
    """Equation (1), means over a row or over all of w: (O, I)  ->  (O, I)"""
    size = np.abs(w)
    over = (1,) if choices["filter_group"] == "filter" else (0, 1)
    kept = size > 0.7 * size.mean(axis=over, keepdims=True)
    if choices["ternary_scale"] == "none":
        return np.asarray(np.sign(w) * kept)
    count = np.maximum(kept.sum(axis=over, keepdims=True), 1)
    return np.asarray(
        (size * kept).sum(axis=over, keepdims=True) / count * np.sign(w) * kept
    )


def binary_weights(choices: Choices, w: Float) -> Float:
    """Equation (1), the mean over a row of w: (O, I)  ->  (O, I)"""
    sign = np.where(w > 0, 1.0, np.where(w < 0, -1.0, float(choices["sign_of_zero"])))
    if choices["binary_scale"] == "none":
        return sign
    return np.asarray(np.abs(w).mean(axis=1, keepdims=True) * sign)


def latent_step(
    quantize: Callable[[Choices, Float], Float],
    choices: Choices,
    x: Float,
    labels: Int,
    w: Float,
    b: Float,
    lrs: Float,
    momentum: float,
    weight_decay: float,
) -> Outputs:
    """Equations (1) to (5), dw = dwq, or only where |w| <= 1."""

    def gradient(w: Float, dwq: Float) -> Float:
        masked = choices["binary_mask"] == "within_1"
        return np.where(np.abs(w) <= 1, dwq, 0) if masked else dwq

    settings = w, b, lrs, momentum, weight_decay
    batch = x, labels, 0.0
    return descend(choices, partial(quantize, choices), gradient, batch, *settings)


BINARY_STEP = partial(latent_step, binary_weights)
TERNARY_STEP = partial(latent_step, ternary_weights)


#: settings that let every choice show: scale, q_min, q_max, lrs, momentum, decay, ...
SETTINGS = 0.5, -4, 3, np.array([0.5, 0.25, 0.125]), 0.5, 0.25, 0.3
#: weights on ties, on both ends of the grid, beyond them and within a rounding of them
KINKS = (0.25, -0.25, 0.75, -0.6, 0.1, -2.0, 1.5, 1.625, -2.125, 1.8, -2.4, 0.0)


def draw(rng: np.random.Generator, n: int) -> Inputs:
    """Return a batch of about n numbers, four inputs and three classes."""
    batch = max(n // 4, 3)
    w = np.array(KINKS) + rng.choice([0.0, 0.0, 0.25, -0.125], 12)
    x, labels = rng.normal(size=(batch, 4)), rng.integers(0, 3, batch)
    w = rng.permutation(w).reshape(3, 4)
    return draws.call(training_step, x, labels, w, rng.normal(size=3), *SETTINGS)


def candidates() -> list[Inputs]:
    """List calls with kinks in order, then drawn ones."""
    rng = np.random.default_rng(SEED)
    x, w = rng.normal(size=(3, 4)), np.array(KINKS).reshape(3, 4)
    b = np.array([0.5, -0.5, 0.25])
    first = draws.call(training_step, x, np.array([0, 1, 2]), w, b, *SETTINGS)
    return [first, *(draw(rng, 16) for _ in range(3))]


def wide(rng: np.random.Generator, n: int) -> Inputs:
    """Draw layers of any sizes and settings; weights on, within and beyond the grid."""
    i, o = int(draws.pick(rng, 1, 4, 7)), int(draws.pick(rng, 2, 3, 5))
    scale, ends = draws.pick(rng, 0.5, 0.25, 0.3), draws.pick(rng, *GRIDS)
    units = rng.integers(2 * ends[0] - 2, 2 * ends[1] + 3, (o, i)) / 2
    units = units + rng.choice([0.0, 0.0, 0.25, -0.125, 0.2], (o, i))
    x = draws.normal(rng, (min(max(n // 4, 1), 16), i))
    labels, b = rng.integers(0, o, len(x)), draws.normal(rng, (o,))
    lrs = draw_rates(rng, int(draws.pick(rng, 1, 2, 3)))
    settings = *draw_settings(rng), float(draws.pick(rng, 0.0, 0.3))
    given = x, labels, scale * units, b, scale, *ends, lrs, *settings
    return draws.call(training_step, *given)


def draw_conv(rng: np.random.Generator, n: int) -> Inputs:
    """Draw convolutions of any geometry, grids and settings as ``wide`` does."""
    flat = wide(rng, n)
    c, o = int(draws.pick(rng, 1, 2, 3)), len(flat["b"])
    kernel = draws.pick(rng, (1, 1), (2, 2), (3, 3), (2, 3))
    side = (int(rng.integers(k, k + 3)) for k in kernel)
    low, high = 2 * flat["q_min"] - 2, 2 * flat["q_max"] + 3
    units = rng.integers(low, high, (o, c, *kernel)) / 2 + rng.choice([0.0, 0.2])
    planes = draws.laid_out(rng, draws.normal(rng, (len(flat["x"]), c, *side)))
    at = {"stride": draws.pair(rng, 1, 2), "padding": draws.padding(rng, 1)}
    given = flat | at | {"x": planes, "w": flat["scale"] * units}
    return {name: given[name] for name in draws.argument_names(conv_step)}


def draw_binary(rng: np.random.Generator, n: int) -> Inputs:
    """Draw layers of any sizes; weights of both signs, zeros, beyond 1 and on it."""
    i, o = int(draws.pick(rng, 1, 4, 7)), int(draws.pick(rng, 2, 3, 5))
    x = draws.normal(rng, (min(max(n // 4, 1), 16), i))
    steps = int(draws.pick(rng, 1, 2, 3))
    w = np.where(rng.random((o, i)) < 0.2, rng.choice([1.0, -1.0]), rng.normal(size=1))
    w = np.where(rng.random((o, i)) < 0.6, 1.2 * draws.normal(rng, (o, i)), w)
    labels, b = rng.integers(0, o, len(x)), draws.normal(rng, (o,))
    settings = draw_rates(rng, steps), *draw_settings(rng)
    return draws.call(BINARY_STEP, x, labels, w, b, *settings)


def draw_ternary(rng: np.random.Generator, n: int) -> Inputs:
    """Draw as for binary weights, half of them far below the others."""
    call = draw_binary(rng, n)
    small = np.where(rng.random(call["w"].shape) < 0.5, 0.2, 1.0)
    return call | {"w": small * call["w"]}


def draw_rates(rng: np.random.Generator, steps: int) -> Float:
    """Draw the learning rates of steps, each another."""
    return rng.permutation(np.array([0.5, 0.1, 0.125]))[:steps]


def draw_settings(rng: np.random.Generator) -> tuple[float, float]:
    """Draw a momentum and a weight decay."""
    momentum = float(draws.pick(rng, 0.0, 0.5, 0.7))
    return momentum, float(draws.pick(rng, 0.0, 0.3))


#: ranges of codes of weights
GRIDS = ((-4, 3), (-8, 7), (-1, 1), (-3, 3))
LAYER = "x: examples, tails, columns features 1 4 7"
STEPS = "lrs: rows 1 2 3", "momentum weight_decay: number 0"
BINARY = kinds.regions("x w b: reals", "w: on_1, beyond_1", LAYER, *STEPS)

#: grids of training_step and of conv_step
GRID = (
    kinds.regions("x w b: reals", "w: on_grid", "scale: number 0.5 0.25")
    | kinds.regions_named(
        "range", {f"[{a}, {b}]": (a, b).__eq__ for a, b in GRIDS}, kinds.read_range
    )
    | kinds.regions(*STEPS, "label_smoothing: number 0")
)
CONV = GRID | kinds.regions(
    "x: examples, tails, layout", "stride: pairs", "padding: padding"
)
LATENT = "reduction binary_mask updated latent_clip"
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
        {"rounding": ("half_even", "half_away", "half_up", "floor")}
        | axes.of("straight_through reduction decay_order velocity decayed updated"),
        training_step,
        candidates,
        draw,
        close=1e-5,
        canonical=optimiser.sgd_canonical,
        outputs=("loss", "w", "b"),
        wide=wide,
        regions=GRID | kinds.regions(LAYER),
    ),
    Family(
        "conv_step",
        (
            "wq = scale clip(q, q_min, q_max): {rounding}",
            "logits = mean of conv(x, wq) + b; loss: {reduction}",
            "{straight_through}",
            "{updated}; decay of {decayed}",
        ),
        {"rounding": ("half_even", "half_away")}
        | axes.of("straight_through reduction decayed updated"),
        conv_step,
        partial(few, CONV, draw_conv, (24, 64), CONV_SEED),
        draw_conv,
        close=1e-5,
        outputs=("loss", "w", "b"),
        regions=CONV,
    ),
    Family(
        "binary_step",
        (
            "wq = {binary_scale}; {sign_of_zero}",
            "logits = x wq^T + b; loss: {reduction}",
            "dwq = dlogits^T x; {binary_mask}",
            "{updated}; {latent_clip}",
        ),
        axes.of(f"binary_scale sign_of_zero {LATENT}"),
        BINARY_STEP,
        partial(few, BINARY, draw_binary, (24, 64), BINARY_SEED),
        draw_binary,
        close=1e-5,
        outputs=("loss", "w", "b"),
        regions=BINARY,
    ),
    Family(
        "ternary_step",
        (
            "wq: {ternary_scale}; over a {filter_group}",
            "logits = x wq^T + b; loss: {reduction}",
            "dwq = dlogits^T x; {binary_mask}",
            "{updated}; {latent_clip}",
        ),
        axes.of(f"ternary_scale filter_group {LATENT}"),
        TERNARY_STEP,
        partial(few, BINARY, draw_ternary, (24, 64), TERNARY_SEED),
        draw_ternary,
        close=1e-5,
        outputs=("loss", "w", "b"),
        regions=BINARY,
    ),
)
