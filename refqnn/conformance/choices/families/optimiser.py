"""sgd: the value after each of several steps.

g = grad + decay value                   (1)     decay_order
v = momentum v + (1 - dampening) g       (2)     velocity, dampening
value = value - lr direction             (3)     nesterov
"""

import numpy as np

from refqnn import nn
from refqnn._types import Float
from refqnn.conformance.choices import draws, kinds
from refqnn.conformance.choices.families.float_layers import CLOSE
from refqnn.conformance.choices.family import Choices, Family, Inputs, Outputs, values


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
    return {
        "value": value,
        "grads": grads,
        "lrs": np.array([0.5, 0.25, 0.125]),
        "momentum": 0.5,
        "weight_decay": 0.25,
        "dampening": 0.0 if nesterov else 0.5,
        "nesterov": nesterov,
    }


def sgd_candidates() -> list[Inputs]:
    """List calls of one number and three steps: Nesterov's flag, dampening."""
    grads = np.array([[1.0], [0.0], [2.0]])
    each = [sgd_inputs(np.ones(1), grads, nesterov=flag) for flag in (True, False)]
    return [*each, each[1] | {"momentum": 0.0}]


def draw_sgd(rng: np.random.Generator, n: int) -> Inputs:
    """Return about n values in three steps."""
    size = max(n // 3, 1)
    return sgd_inputs(
        rng.normal(size=size),
        rng.normal(size=(3, size)),
        nesterov=bool(rng.random() < 0.5),
    )


def wide_sgd(rng: np.random.Generator, n: int) -> Inputs:
    """Draw one to four steps with any settings that do not contradict each other."""
    steps = int(draws.pick(rng, 1, 2, 3, 4))
    nesterov = bool(rng.random() < 0.4)
    momentum = float(
        draws.pick(rng, 0.5, 0.9) if nesterov else draws.pick(rng, 0, 0.5, 0.75)
    )
    free = momentum > 0 and not nesterov  # without momentum nothing is dampened
    return {
        "value": draws.normal(rng, (n,)),
        "grads": draws.gradient(rng, (steps, n)),
        "lrs": rng.permutation(np.array([0.5, 0.25, 0.125, 0.375]))[:steps],
        "momentum": momentum,
        "weight_decay": float(draws.pick(rng, 0.0, 0.25, 0.5)),
        "dampening": float(draws.pick(rng, 0.0, 0.5, 0.25)) if free else 0.0,
        "nesterov": nesterov,
    }


FAMILIES = (
    Family(
        "sgd",
        ("{decay_order}", "{dampening}", "{velocity}", "{nesterov}"),
        values("decay_order", "velocity", "dampening", "nesterov"),
        sgd,
        sgd_candidates,
        draw_sgd,
        close=CLOSE,
        canonical=sgd_canonical,
        wide=wide_sgd,
        regions=kinds.all_reals("value", "grads")
        | kinds.tails("value")
        | {f"value: {k} elements": kinds.has_columns("value", k) for k in kinds.LENGTHS}
        | kinds.rows("lrs", 1, 2, 3, 4)
        | kinds.number("momentum", 0)
        | kinds.number("weight_decay", 0)
        | kinds.number("dampening", 0)
        | kinds.flag("nesterov"),
    ),
)
