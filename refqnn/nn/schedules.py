"""Learning rate of each optimiser step. The first step is number 0."""

import math
from collections.abc import Callable, Sequence

from refqnn.nn.optim import check_rates

Schedule = Callable[[int], float]


def cosine(lr: float, *, steps: int, warmup: int = 0, final: float = 0.0) -> Schedule:
    """(lr - final) (1 + cos(pi t)) / 2 + final, t from 0 after the warm-up to 1

    During the first ``warmup`` steps the rate rises linearly and reaches ``lr``.
    Loshchilov, Hutter. SGDR. ICLR 2017, arXiv:1608.03983, equation 5, without restarts.

    >>> rate = cosine(0.4, steps=12, warmup=4)
    >>> [round(rate(step), 3) for step in (0, 3, 4, 8)]
    [0.1, 0.4, 0.4, 0.2]
    """
    if not 0 <= warmup < steps:
        raise ValueError(f"warmup must be in [0, steps = {steps}), got {warmup}")
    check_rates(lr=lr, final=final)

    def rate(step: int) -> float:
        if step < warmup:
            return lr * (step + 1) / warmup
        t = min((step - warmup) / (steps - warmup), 1.0)
        return final + (lr - final) * (1 + math.cos(math.pi * t)) / 2

    return rate


def multistep(lr: float, *, milestones: Sequence[int], factor: float = 0.1) -> Schedule:
    """factor^(number of milestones reached) * lr

    >>> rate = multistep(1.0, milestones=(10, 20), factor=0.5)
    >>> [rate(step) for step in (0, 9, 10, 20)]
    [1.0, 1.0, 0.5, 0.25]
    """
    if list(milestones) != sorted(set(milestones)):
        raise ValueError(f"milestones must ascend, got {tuple(milestones)}")
    check_rates(lr=lr, factor=factor)

    def rate(step: int) -> float:
        reached = sum(step >= milestone for milestone in milestones)
        return lr * factor**reached

    return rate
