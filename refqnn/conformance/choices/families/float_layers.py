"""Layers and the loss of training: lstm_cell, batch_norm, softmax_cross_entropy.

Floating point, so outputs are compared within 1e-5; the inputs keep variants apart by
at least a hundred times that.
"""

import numpy as np

from refqnn import ops
from refqnn._types import Float, Int
from refqnn.conformance.choices import axes, draws, kinds
from refqnn.conformance.choices.family import Choices, Family, Inputs, Outputs

SEED = 20_240_613
CLOSE = 1e-5


def lstm_cell(
    choices: Choices,
    x: Float,
    h: Float,
    c: Float,
    w_x: Float,
    w_h: Float,
    b_x: Float,
    b_h: Float,
) -> Outputs:
    """Compute ``ops.lstm_cell`` after bringing rows into its order i f g o."""
    d = h.shape[1]
    blocks = choices["gate_order"].split()
    rows = np.concatenate([blocks.index(gate) * d + np.arange(d) for gate in "ifgo"])
    used = {"sum": (1, 1), "input_only": (1, 0), "recurrent_only": (0, 1)}
    from_x, from_h = used[choices["lstm_bias"]]
    b = (from_x * b_x + from_h * b_h)[rows].astype(x.dtype)
    b[d : 2 * d] += int(choices["forget_bias"])
    (h_new, c_new), _ = ops.lstm_cell(x, h, c, w_x[rows], w_h[rows], b)
    return {"h": h_new, "c": c_new}


def lstm_inputs(rng: np.random.Generator, n: int, i: int, d: int) -> Inputs:
    """Draw values of about 1."""
    states, weights = [(n, i), (n, d), (n, d)], [(4 * d, i), (4 * d, d)]
    shapes = *states, *weights, (4 * d,), (4 * d,)
    return draws.call(lstm_cell, *(rng.normal(size=shape) for shape in shapes))


def one_hot_gate(gate: int, source: str) -> Inputs:
    """Open one gate by one bias: weights 0, state 1."""
    states, weights = np.ones((3, 1, 1)), np.zeros((2, 4, 1))
    biases = np.zeros((2, 4))
    biases[("b_x", "b_h").index(source), gate] = 4.0
    return draws.call(lstm_cell, *states, *weights, *biases)


def lstm_candidates() -> list[Inputs]:
    """List calls with one bias at a time, then one with everything at once."""
    hot = [one_hot_gate(k, source) for source in ("b_x", "b_h") for k in range(4)]
    return [*hot, lstm_inputs(np.random.default_rng(SEED), 2, 3, 2)]


def batch_norm(
    choices: Choices,
    x: Float,
    gamma: Float,
    beta: Float,
    running_mean: Float,
    running_var: Float,
    momentum: float,
    eps: float,
) -> Outputs:
    """Normalize by the batch; return y and the running statistics after it."""
    _, cache = ops.batch_norm(x, gamma, beta, eps=eps)
    m = x.size // x.shape[1]
    unbiased = cache.var * m / (m - 1)
    var = unbiased if choices["batch_variance"] == "unbiased" else cache.var
    if choices["epsilon"] == "outside":
        var = (np.sqrt(var) + eps) ** 2 - eps
    y, _ = ops.batch_norm_inference(x, gamma, beta, cache.mean, var, eps=eps)
    seen = unbiased if choices["running_variance"] == "unbiased" else cache.var
    new = momentum if choices["running_momentum"] == "new" else 1 - momentum
    return {
        "y": y,
        "running_mean": (1 - new) * running_mean + new * cache.mean,
        "running_var": (1 - new) * running_var + new * seen,
    }


def norm_inputs(rng: np.random.Generator, shape: tuple[int, ...]) -> Inputs:
    """Draw a small batch and a large epsilon, so that every choice shows."""
    c = shape[1]
    x, gamma, beta = rng.normal(size=shape), rng.uniform(0.5, 2, c), rng.normal(size=c)
    mean, var = rng.normal(size=c), rng.uniform(1, 2, c)
    return draws.call(batch_norm, x, gamma, beta, mean, var, 0.1, 0.5)


def norm_candidates() -> list[Inputs]:
    """List two values by hand, and drawn ones."""
    one, x = np.ones(1), np.array([[1.0], [5.0]])
    small = draws.call(batch_norm, x, one, 0 * one, 0 * one, one, 0.25, 0.5)
    return [small, norm_inputs(np.random.default_rng(SEED), (2, 2, 2, 1))]


def softmax_cross_entropy(
    choices: Choices, logits: Float, labels: Int, label_smoothing: float
) -> Outputs:
    """Return the loss and dlogits."""
    n, k = logits.shape
    a = label_smoothing
    if choices["smoothing"] == "other_classes":
        a = a * k / (k - 1)  # leaves a / (k - 1) at the others, 1 - a at the label
    loss, cache = ops.softmax_cross_entropy(logits, labels, label_smoothing=a)
    dlogits = ops.softmax_cross_entropy_backward(1.0, cache)
    factor = n if choices["reduction"] == "sum" else 1
    factor /= np.log(2) if choices["logarithm"] == "base_2" else 1
    return {"loss": np.asarray(factor * loss), "dlogits": factor * dlogits}


def loss_inputs(rng: np.random.Generator, n: int, k: int) -> Inputs:
    """Draw logits of about 2."""
    logits, labels = 2 * rng.normal(size=(n, k)), rng.integers(0, k, n)
    return draws.call(softmax_cross_entropy, logits, labels, 0.3)


def loss_candidates() -> list[Inputs]:
    """List two examples by hand, and drawn ones."""
    logits = np.array([[0.0, 0.0, 1.0], [2.0, 0.0, 0.0]])
    small = draws.call(softmax_cross_entropy, logits, np.array([2, 1]), 0.3)
    return [small, loss_inputs(np.random.default_rng(SEED), 3, 4)]


def wide_lstm(rng: np.random.Generator, n: int) -> Inputs:
    """Draw cells of any sizes; weights of both signs, biases sometimes 0."""
    i, d = int(draws.pick(rng, 1, 3, 7)), int(draws.pick(rng, 1, 2, 5, 11))
    call = lstm_inputs(rng, min(max(n // 8, 1), 9), i, d)
    absent = draws.pick(rng, "b_x", "b_h", "h", "c", "w_x")
    given = {name: draws.normal(rng, value.shape) for name, value in call.items()}
    return given | ({absent: 0 * call[absent]} if rng.random() < 0.5 else {})


def wide_norm(rng: np.random.Generator, n: int) -> Inputs:
    """Draw two examples or more, planes or none, gamma of both signs and 0."""
    c = int(draws.pick(rng, 1, 3, 4, 11))
    plane = draws.pick(rng, (), (2, 2), (1, 3), (3, 2))
    call = norm_inputs(rng, (max(n // 8, int(draws.pick(rng, 2, 3, 5))), c, *plane))
    x = draws.normal(rng, call["x"].shape) * draws.pick(rng, 1.0, 0.1, 4.0)
    return call | {
        "x": draws.laid_out(rng, x),
        "beta": draws.normal(rng, (c,)),
        "running_mean": draws.normal(rng, (c,)),
        "gamma": call["gamma"] * rng.choice([1, 1, -1, 0], c),
        "momentum": float(draws.pick(rng, 0.0, 0.1, 0.25, 0.9, 1.0)),
        "eps": float(draws.pick(rng, 0.5, 0.125, 1e-3)),
    }


def wide_loss(rng: np.random.Generator, n: int) -> Inputs:
    """Draw any number of classes, and logits whose exponentials overflow."""
    k = int(draws.pick(rng, 2, 3, 10))
    rows = max(min(n, 65) // k, 1)
    logits = draws.normal(rng, (rows, k)) * draws.pick(rng, 0.5, 2.0, 400.0)
    labels = rng.integers(0, k, rows)
    smoothing = float(draws.pick(rng, 0.0, 0.1, 0.3))
    return draws.call(softmax_cross_entropy, logits, labels, smoothing)


FAMILIES = (
    Family(
        "lstm_cell",
        (
            "{lstm_bias}",
            "{gate_order}",
            "{forget_bias}",
            "c' = sigmoid(f) c + sigmoid(i) tanh(g)",
            "h' = sigmoid(o) tanh(c')",
        ),
        axes.of("gate_order lstm_bias forget_bias"),
        lstm_cell,
        lstm_candidates,
        lambda rng, n: lstm_inputs(rng, max(n // 8, 1), 3, 4),
        close=CLOSE,
        outputs=("h", "c"),
        wide=wide_lstm,
        regions=kinds.regions(
            "x h c w_x w_h b_x b_h: reals",
            "x: examples, tails, columns features 1 3 7",
            "h: columns units 1 2 5 11",
        ),
    ),
    Family(
        "batch_norm",
        (
            "y: {batch_variance}; {epsilon}",
            "remembered: {running_variance}",
            "{running_momentum}",
        ),
        axes.of("running_variance running_momentum batch_variance epsilon"),
        batch_norm,
        norm_candidates,
        lambda rng, n: norm_inputs(rng, (max(n // 16, 2), 4, 2, 2)),
        close=CLOSE,
        outputs=("y", "running_mean", "running_var"),
        wide=wide_norm,
        scaled=("x",),
        regions=kinds.regions(
            "x gamma beta running_mean: reals",
            "x: layout, tails, planes, magnitudes",
            "gamma: columns channels 1 11",
            "momentum: number 0 1",
            "eps: number 0.5 0.125",
        )
        | {
            "eps: small beside a small variance": lambda call: bool(
                call["eps"] < 0.01 and np.std(call["x"]) < 0.2
            )
        },
    ),
    Family(
        "softmax_cross_entropy",
        ("{smoothing}", "{logarithm}", "{reduction}"),
        axes.of("reduction smoothing logarithm"),
        softmax_cross_entropy,
        loss_candidates,
        lambda rng, n: loss_inputs(rng, max(n // 5, 2), 5),
        close=CLOSE,
        outputs=("loss", "dlogits"),
        wide=wide_loss,
        regions=kinds.regions(
            "logits: reals, exponents",
            "labels: classes",
            "logits: examples, tails, columns classes 2 3 10",
            "label_smoothing: number 0",
        ),
    ),
)
