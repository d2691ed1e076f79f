"""Stochastic gradient descent with momentum, in PyTorch's order of operations; Adam.

Sutskever, Martens, Dahl, Hinton. On the importance of initialization and momentum in
deep learning. ICML 2013, for Nesterov's form; the velocity here is not scaled by the
learning rate, so a change of the rate acts at once.
Kingma, Ba. Adam: A Method for Stochastic Optimization. ICLR 2015, arXiv:1412.6980,
algorithm 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, final

import numpy as np

from refqnn._types import Float
from refqnn.core import Param


def sgd_step(
    value: Float,
    grad: Float,
    velocity: Float | None,
    *,
    lr: float,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    dampening: float = 0.0,
) -> tuple[Float, Float]:
    """Return ``value - lr * direction`` and the new velocity.

        g = grad + weight_decay * value                                             (1)
        v = momentum * velocity + (1 - dampening) * g                               (2)
        direction = g + momentum * v if nesterov else v                             (3)

    At the first step ``velocity`` is None, and v = g without dampening.

    value, grad, velocity: (...)  ->  value, velocity: (...)

    >>> w, grad, velocity = np.array([1.0]), np.array([2.0]), np.array([4.0])
    >>> sgd_step(w, grad, velocity, lr=0.1, momentum=0.5)
    (array([0.6]), array([4.]))
    """
    check_sgd(value, grad, velocity, momentum, dampening, nesterov=nesterov)
    check_rates(lr=lr, weight_decay=weight_decay)
    g = grad + weight_decay * value if weight_decay else grad  # (1)
    v = (
        g.copy()
        if velocity is None
        else momentum * velocity + (1 - dampening) * g  # (2)
    )
    direction = g + momentum * v if nesterov else v  # (3)
    return value - lr * direction, v


def check_sgd(
    value: Float,
    grad: Float,
    velocity: Float | None,
    momentum: float,
    dampening: float,
    *,
    nesterov: bool,
) -> None:
    """Raise where shapes differ or the three settings contradict each other."""
    v_shape = value.shape if velocity is None else velocity.shape
    if not value.shape == grad.shape == v_shape:
        raise ValueError(
            f"value, grad and velocity must have one shape: value{value.shape}, "
            f"grad{grad.shape}, velocity{v_shape}"
        )
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must be in [0, 1), got {momentum}")
    if nesterov and (momentum == 0 or dampening != 0):
        raise ValueError(
            "nesterov needs momentum > 0 and dampening = 0, "
            f"got momentum {momentum}, dampening {dampening}"
        )


def check_rates(**rates: float) -> None:
    """Raise, naming it, for a rate that is negative, infinite or NaN.

    >>> check_rates(lr=0.1, weight_decay=-1.0)
    Traceback (most recent call last):
        ...
    ValueError: weight_decay must be finite and at least 0, got -1.0
    """
    for name, rate in rates.items():
        if not 0 <= rate < np.inf:
            raise ValueError(f"{name} must be finite and at least 0, got {rate}")


def adam_step(
    value: Float,
    grad: Float,
    moments: Float,
    *,
    lr: float,
    t: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    scaled_rate: bool = False,
) -> tuple[Float, Float]:
    """value - lr m_hat / (sqrt(v_hat) + eps), and the new moments m and v.

        m <- beta1 m + (1 - beta1) g,   v <- beta2 v + (1 - beta2) g^2              (4)
        m_hat = m / (1 - beta1^t),      v_hat = v / (1 - beta2^t)                   (5)

    value, grad: (...), moments: m and v, (2, ...), zeros at first  ->  value, moments

    ``t`` counts steps from 1. With ``scaled_rate`` the rate is divided by 1 - beta1^t,
    not m, and v takes (1 - beta2) g times g, as PyTorch does: the same numbers, rounded
    in another order. Raises ValueError for shapes that differ and t below 1.

    >>> value, _ = adam_step(np.array(1.0), np.array(4.0), np.zeros(2), lr=0.5, t=1)
    >>> value.round(6)
    np.float64(0.5)
    """
    if value.shape != grad.shape or moments.shape != (2, *value.shape):
        raise ValueError(
            f"value and grad must have one shape and moments hold two of it: "
            f"value{value.shape}, grad{grad.shape}, moments{moments.shape}"
        )
    if not t >= 1:
        raise ValueError(f"t must be at least 1, got {t}")
    check_rates(lr=lr, eps=eps)
    square = (1 - beta2) * grad * grad if scaled_rate else (1 - beta2) * grad**2
    m, v = beta1 * moments[0] + (1 - beta1) * grad, beta2 * moments[1] + square  # (4)
    begun, v_hat = 1 - beta1**t, v / (1 - beta2**t)  # (5)
    step = lr / begun * m if scaled_rate else lr * (m / begun)
    return value - step / (np.sqrt(v_hat) + eps), np.stack([m, v])


class Optimiser(Protocol):
    """One step of all parameters; ``velocity`` is kept in checkpoints."""

    velocity: dict[str, Float]

    def step(self, lr: float) -> None:
        """Take one step of every parameter along its gradient."""


@final
@dataclass(eq=False)
class SGD:
    """``sgd_step`` for every parameter of a network.

    Only parameters of ``decayed`` groups decay. ``lr_factors`` multiplies the learning
    rate of a group, by 1 where it says nothing. ``project`` of a parameter is applied
    after its step.
    """

    params: Mapping[str, Param]
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    dampening: float = 0.0
    decayed: tuple[str, ...] = ("weight",)
    lr_factors: Mapping[str, float] = field(default_factory=dict)
    velocity: dict[str, Float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_rates(weight_decay=self.weight_decay, **self.lr_factors)

    def step(self, lr: float) -> None:
        """Replace every value (the old arrays stay as they are) and every velocity.

        >>> p = Param(np.array([1.0]))
        >>> p.grad[:] = 2.0
        >>> SGD({"p": p}).step(lr=0.25)
        >>> p.value
        array([0.5])
        """
        for name, param in self.params.items():
            decay = self.weight_decay if param.group in self.decayed else 0.0
            value, self.velocity[name] = sgd_step(
                param.value,
                param.grad,
                self.velocity.get(name),
                lr=lr * self.lr_factors.get(param.group, 1.0),
                momentum=self.momentum,
                nesterov=self.nesterov,
                weight_decay=decay,
                dampening=self.dampening,
            )
            value = value if param.project is None else param.project(value)
            param.value = np.asarray(value, param.value.dtype)
