"""sgd and adam: the value after each of several steps.

g = grad + decay value                                        (1)     decay_order
v = momentum v + (1 - dampening) g                            (2)     velocity,
                                                                      dampening
value = value - lr direction                                  (3)     nesterov

g = grad + decay value                                        (4)     adam_decay
m = beta1 m + (1 - beta1) g,   v = beta2 v + (1 - beta2) g^2  (5)
m_hat = m / (1 - beta1^t),     v_hat = v / (1 - beta2^t)      (6)     bias_correction
value = value - lr m_hat / (sqrt(v_hat) + eps)                (7)     adam_epsilon
"""

from functools import partial

import numpy as np

from refqnn import nn
from refqnn._types import Float
from refqnn.conformance.choices import axes, draws, kinds
from refqnn.conformance.choices.coverage import few
from refqnn.conformance.choices.families.float_layers import CLOSE
from refqnn.conformance.choices.family import Choices, Family, Inputs, Outputs

SEED = 20_261_131


def sgd(
    choices: Choices,
    value: Float,
    grads: Float,
    lrs: Float,
    momentum: float,
    weight_decay: float,
    dampening: float,
    nesterov: bool,
) -> Outputs:
    """Return the value after each step, one row a step.

    value: (...), grads: (T, ...), lrs: (T,)  ->  y: (T, ...)
    """
    at_once = choices["dampening"] == "always"
    velocity = np.zeros_like(value) if at_once else None
    if choices["dampening"] == "with_momentum" and not momentum:
        dampening = 0.0
    steps = []
    for grad, lr in zip(grads, lrs, strict=True):
        value, velocity = step(
            choices,
            value,
            grad,
            velocity,
            lr=float(lr),
            momentum=momentum,
            weight_decay=weight_decay,
            dampening=dampening,
            nesterov=nesterov,
        )
        steps.append(value)
    return {"y": np.stack(steps)}


def step(
    choices: Choices,
    value: Float,
    grad: Float,
    velocity: Float | None,
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
    dampening: float = 0.0,
    nesterov: bool = False,
) -> tuple[Float, Float]:
    """Return the value and the velocity after one step."""
    coupled = weight_decay if choices["decay_order"] == "gradient" else 0.0
    g = grad + coupled * value
    rate = lr if choices["velocity"] == "with_lr" else 1.0
    _, velocity = nn.sgd_step(
        value, rate * g, velocity, lr=0.0, momentum=momentum, dampening=dampening
    )
    way = direction(choices["nesterov"], rate * g, velocity, momentum, nesterov)
    decay = 0.0 if coupled else weight_decay * value
    inner = decay if choices["decay_order"] == "after_momentum" else 0.0
    outer = decay if choices["decay_order"] == "decoupled" else 0.0
    return value - (lr / rate) * (way + rate * inner) - lr * outer, velocity


def direction(form: str, g: Float, v: Float, momentum: float, nesterov: bool) -> Float:
    """Return the direction of a step; without Nesterov's flag, the velocity."""
    if not nesterov or form == "velocity":
        return v
    ahead = g + momentum * v
    return ahead if form == "gradient_plus_velocity" else g + momentum * ahead


def sgd_canonical(choices: Choices) -> dict[str, str]:
    """lr (v + decay value) = lr v + lr decay value: both leave the velocity alone."""
    if choices["decay_order"] == "decoupled":
        return {**choices, "decay_order": "after_momentum"}
    return dict(choices)


def sgd_inputs(value: Float, grads: Float, *, nesterov: bool) -> Inputs:
    """Make three steps with falling learning rates."""
    lrs, dampening = np.array([0.5, 0.25, 0.125]), 0.0 if nesterov else 0.5
    return draws.call(sgd, value, grads, lrs, 0.5, 0.25, dampening, nesterov)


def sgd_candidates() -> list[Inputs]:
    """List calls of one number and three steps: Nesterov's flag, dampening."""
    grads = np.array([[1.0], [0.0], [2.0]])
    each = [sgd_inputs(np.ones(1), grads, nesterov=flag) for flag in (True, False)]
    return [*each, each[1] | {"momentum": 0.0}]


def draw_sgd(rng: np.random.Generator, n: int) -> Inputs:
    """Return about n values in three steps."""
    size = max(n // 3, 1)
    value, grads = rng.normal(size=size), rng.normal(size=(3, size))
    return sgd_inputs(value, grads, nesterov=bool(rng.random() < 0.5))


def wide_sgd(rng: np.random.Generator, n: int) -> Inputs:
    """Draw one to four steps with any settings that do not contradict each other."""
    steps = int(draws.pick(rng, 1, 2, 3, 4, 12))
    nesterov = bool(rng.random() < 0.4)
    momentum = float(
        draws.pick(rng, 0.5, 0.9) if nesterov else draws.pick(rng, 0, 0.5, 0.75, 0.99)
    )
    free = momentum > 0 and not nesterov  # without momentum nothing is dampened
    descent = draw_steps(rng, n, steps)
    decay = float(draws.pick(rng, 0.0, 0.25, 0.3, 5e-4))
    dampening = float(draws.pick(rng, 0.0, 0.5, 0.3)) if free else 0.0
    return draws.call(sgd, *descent, momentum, decay, dampening, nesterov)


def draw_steps(
    rng: np.random.Generator, n: int, steps: int
) -> tuple[Float, Float, Float]:
    """Draw n values, the gradients of each step, and its rate, each another."""
    rates = np.array([0.5, 0.1, 0.125, 0.375])
    value, grads = draws.normal(rng, (n,)), draws.gradient(rng, (steps, n))
    return value, grads, np.resize(rng.permutation(rates), steps)


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
        way = adam_direction(choices, moments, (beta1, beta2, eps), t)
        value = value - lr * decay * value - lr * way
        steps.append(value)
    return {"y": np.stack(steps)}


def adam_direction(
    choices: Choices, moments: Float, settings: tuple[float, float, float], t: int
) -> Float:
    """Equations (6) and (7): what is multiplied by the rate."""
    (m, v), (beta1, beta2, eps) = moments, settings
    first = 1 - beta1**t if choices["bias_correction"] != "none" else 1.0
    second = 1 - beta2**t if choices["bias_correction"] == "both" else 1.0
    if choices["adam_epsilon"] == "uncorrected":
        return np.sqrt(second) / first * m / (np.sqrt(v) + eps)
    root = np.sqrt(v / second)
    if choices["adam_epsilon"] == "under_root":
        return m / first / np.sqrt(v / second + eps)
    return m / first / (root + eps)


def adam_canonical(choices: Choices) -> dict[str, str]:
    """Replace the place of epsilon where moments are not corrected: all are one."""
    plain = choices["bias_correction"] != "both"
    if plain and choices["adam_epsilon"] == "uncorrected":
        return {**choices, "adam_epsilon": "to_root"}
    return dict(choices)


def draw_adam(rng: np.random.Generator, n: int) -> Inputs:
    """Draw one to four steps; epsilons so large that their place shows."""
    steps = int(draws.pick(rng, 1, 2, 3, 4))
    descent = draw_steps(rng, n, steps)
    settings = (0.0, 0.5, 0.9), (0.5, 0.75, 0.9), (0.25, 0.3), (0.0, 0.3)
    return draws.call(adam, *descent, *(float(draws.pick(rng, *s)) for s in settings))


def wide_adam(rng: np.random.Generator, n: int) -> Inputs:
    """Draw as before, or many steps with the settings that are most in use."""
    if rng.random() < 0.6:
        return draw_adam(rng, n)
    decay = float(draws.pick(rng, 0.0, 0.01))
    return draws.call(adam, *draw_steps(rng, n, 12), 0.9, 0.999, 1e-8, decay)


#: what both descend with
STEPS = kinds.regions(
    "value grads: reals",
    "value: tails, columns elements 1 7 64 65",
    "lrs: rows 1 2 3 4 12",
)
SGD = STEPS | kinds.regions(
    "momentum weight_decay dampening: number 0", "nesterov: flag"
)
ADAM = STEPS | kinds.regions(
    "beta1: number 0 0.5",
    "beta2: number 0.5 0.75 0.999",
    "eps: number 0.25 1e-8",
    "weight_decay: number 0",
)

FAMILIES = (
    Family(
        "sgd",
        ("{decay_order}", "{dampening}", "{velocity}", "{nesterov}"),
        axes.of("decay_order velocity dampening nesterov"),
        sgd,
        sgd_candidates,
        draw_sgd,
        close=CLOSE,
        canonical=sgd_canonical,
        wide=wide_sgd,
        regions=SGD,
    ),
    Family(
        "adam",
        ("{adam_decay}", "{bias_correction}", "{adam_epsilon}"),
        axes.of("adam_decay bias_correction adam_epsilon"),
        adam,
        partial(few, ADAM, draw_adam, (1, 7, 24), SEED),
        draw_adam,
        close=CLOSE,
        canonical=adam_canonical,
        wide=wide_adam,
        regions=ADAM,
    ),
)
