"""Figure 4: how much mean|w| of each filter varies over the steps of a training.

Chin, Chuang, Chandra, Marculescu. arXiv:2008.09916, section 5.3.

    paper                                 code       where
    |w| of a filter, (2)                  means      mean_magnitudes
    its sample variance over the steps    m2         MeanAbsVariance.see
    ... averaged over a layer's filters   raw        variation

*Erratum*: this is a variance over time, proposition 5.1 is about one over draws. And it
is not free of scale: weights are initialised near 1 / sqrt(d), so that the curve falls
with d even if every filter kept wandering by the same share of itself. ``relative``
divides each filter's variance by the square of its mean|w| over the steps. Report both.

The sums are those of Welford (Technometrics 4, 1962): mean <- mean + (x - mean) / n and
m2 <- m2 + (x - old mean)(x - new mean), which lose no digits where a variance is small
beside the square of the mean, as here.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple, final

import numpy as np

from refqnn._types import Float
from refqnn.core import named_modules
from refqnn.nn import Conv2d, Training


class Variation(NamedTuple):
    """Averages over the filters of one layer, for one bar of figure 4."""

    d: int  # C_in K_w K_h
    steps: int
    raw: float  # of Var_t(mean|w|)
    relative: float  # of Var_t(mean|w|) / (mean_t mean|w|)^2


class Running(NamedTuple):
    """Welford's sums of one layer, an entry a filter."""

    steps: int
    mean: Float  # (O,)
    m2: Float  # (O,)
    d: int


@final
@dataclass(eq=False)
class MeanAbsVariance:
    """Follows mean|w| of every filter; ``nn.fit(..., after_step=recorder.after_step)``.

    Of all convolutions, or those whose dotted names are in ``only``. A training that
    resumes from a checkpoint begins a new recording.

    >>> recorder = MeanAbsVariance()
    >>> for w in (1.0, 3.0):
    ...     recorder.see("layer", np.full((2, 1, 2, 2), w))
    >>> recorder.variations()["layer"]  # of 1 and 3: mean 2, sample variance 2
    Variation(d=4, steps=2, raw=2.0, relative=0.5)
    """

    only: tuple[str, ...] | None = None
    layers: dict[str, Running] = field(default_factory=dict)

    def after_step(self, training: Training) -> None:
        """Add the weights as they are after a step of a training."""
        self.record(training.network)

    def record(self, network: Any) -> None:
        """Add the weights of a network as they are."""
        layers = {
            name.removeprefix("layers."): module
            for name, module in named_modules(network)
            if isinstance(module, Conv2d)
        }
        for name in layers if self.only is None else self.only:
            if name not in layers:
                raise ValueError(f"only must be of {list(layers)}, got {name!r}")
            self.see(name, layers[name].w.value)

    def see(self, name: str, w: Float) -> None:
        """Add the weights of one layer.

        w: (O, ...)
        """
        x = mean_magnitudes(w)
        start = Running(0, np.zeros_like(x), np.zeros_like(x), w[0].size)
        before, mean, m2, d = self.layers.get(name, start)
        steps = before + 1
        moved = mean + (x - mean) / steps
        self.layers[name] = Running(steps, moved, m2 + (x - mean) * (x - moved), d)

    def variations(self) -> dict[str, Variation]:
        """Return the figure's numbers, layer by layer; ValueError before two steps."""
        return {name: variation(layer) for name, layer in self.layers.items()}


def variation(layer: Running) -> Variation:
    """Return the averages over the filters; those of zeros are left out of the second.

    >>> variation(Running(3, np.array([2.0]), np.array([4.0]), 9))
    Variation(d=9, steps=3, raw=2.0, relative=0.5)
    """
    if layer.steps < 2:
        raise ValueError(f"a variance needs 2 steps or more, got {layer.steps}")
    variance = layer.m2 / (layer.steps - 1)
    alive = layer.mean > 0
    relative = variance[alive] / layer.mean[alive] ** 2
    return Variation(
        layer.d,
        layer.steps,
        float(variance.mean()),
        float(relative.mean()) if alive.any() else 0.0,
    )


def mean_magnitudes(w: Float) -> Float:
    """mean|w| over everything but axis 0, in float64

    w: (O, ...)  ->  (O,)

    >>> mean_magnitudes(np.array([[1.0, -3.0], [0.0, 0.5]]))
    array([2.  , 0.25])
    """
    return np.abs(w.astype(np.float64)).reshape(len(w), -1).mean(axis=1)  # (2)
