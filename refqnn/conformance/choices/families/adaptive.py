"""adam: the value after each of several steps.

g = grad + decay value                                        (1)     adam_decay
m = beta1 m + (1 - beta1) g,   v = beta2 v + (1 - beta2) g^2  (2)
m_hat = m / (1 - beta1^t),     v_hat = v / (1 - beta2^t)      (3)     bias_correction
value = value - lr m_hat / (sqrt(v_hat) + eps)                (4)     adam_epsilon
"""

from functools import partial

import numpy as np

from refqnn import nn
from refqnn._types import Float
from refqnn.conformance.choices import draws, kinds
from refqnn.conformance.choices.coverage import few
from refqnn.conformance.choices.families.float_layers import CLOSE
from refqnn.conformance.choices.family import Choices, Family, Inputs, Outputs, values

SEED = 20_261_131


def adam(
    choices: Choices,
    value: Float,
    grads: Float,
    lrs: Float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
) -> Outputs:
    """Return the value after each step, one row a step.

    value: (...), grads: (T, ...), lrs: (T,)  ->  y: (T, ...)
    """
    moments, steps = np.zeros((2, *value.shape)), []
    coupled = choices["adam_decay"] == "gradient"
    for t, (grad, lr) in enumerate(zip(grads, lrs, strict=True), 1):
        g = grad + weight_decay * value if coupled else grad
        _, moments = nn.adam_step(
            value, g, moments, lr=float(lr), t=t, beta1=beta1, beta2=beta2, eps=eps
        )
        decay = 0.0 if coupled else weight_decay
        way = direction(choices, moments, (beta1, beta2, eps), t)
        value = value - lr * decay * value - lr * way
        steps.append(value)
    return {"y": np.stack(steps)}


def direction(
    choices: Choices, moments: Float, settings: tuple[float, float, float], t: int
) -> Float:
    """Equations (3) and (4): what is multiplied by the rate."""
    (m, v), (beta1, beta2, eps) = moments, settings
    first = 1 - beta1**t if choices["bias_correction"] != "none" else 1.0
    second = 1 - beta2**t if choices["bias_correction"] == "both" else 1.0
    if choices["adam_epsilon"] == "uncorrected":
        return np.sqrt(second) / first * m / (np.sqrt(v) + eps)
    root = np.sqrt(v / second)
    if choices["adam_epsilon"] == "under_root":
        return m / first / np.sqrt(v / second + eps)
    return m / first / (root + eps)


def canonical(choices: Choices) -> dict[str, str]:
    """Replace the place of epsilon where moments are not corrected: all are one."""
    plain = choices["bias_correction"] != "both"
    if plain and choices["adam_epsilon"] == "uncorrected":
        return {**choices, "adam_epsilon": "to_root"}
    return dict(choices)


def draw(rng: np.random.Generator, n: int) -> Inputs:
    """Draw one to four steps; epsilons so large that their place shows."""
    steps = int(draws.pick(rng, 1, 2, 3, 4))
    return {
        "value": draws.normal(rng, (n,)),
        "grads": draws.gradient(rng, (steps, n)),
        "lrs": rng.permutation(np.array([0.5, 0.25, 0.125, 0.375]))[:steps],
        "beta1": float(draws.pick(rng, 0.0, 0.5, 0.9)),
        "beta2": float(draws.pick(rng, 0.5, 0.75, 0.9)),
        "eps": float(draws.pick(rng, 0.25, 0.5)),
        "weight_decay": float(draws.pick(rng, 0.0, 0.25)),
    }


REGIONS = (
    kinds.all_reals("value", "grads")
    | kinds.tails("value")
    | {f"value: {k} elements": kinds.has_columns("value", k) for k in kinds.LENGTHS}
    | kinds.rows("lrs", 1, 2, 3, 4)
    | kinds.number("beta1", 0, 0.5)
    | kinds.number("beta2", 0.5, 0.75)
    | kinds.number("eps", 0.25)
    | kinds.number("weight_decay", 0)
)

FAMILIES = (
    Family(
        "adam",
        ("{adam_decay}", "{bias_correction}", "{adam_epsilon}"),
        values("adam_decay", "bias_correction", "adam_epsilon"),
        adam,
        partial(few, REGIONS, draw, (1, 7, 24), SEED),
        draw,
        close=CLOSE,
        canonical=canonical,
        regions=REGIONS,
    ),
)
