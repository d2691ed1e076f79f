"""The gradient transforms: what becomes of dy on its way back. They have no backward.

dorefa_gradient     2 m (quantize_k(dy / (2 m) + 1/2 + noise / n) - 1/2)
min_max_gradient    s round(clip((dy - lo) / s + noise, 0, n)) + lo
"""

from functools import partial

import numpy as np

from refqnn import quantizers
from refqnn._types import Float
from refqnn.conformance.choices import axes, draws, kinds
from refqnn.conformance.choices.family import Choices, Family, Inputs, Outputs

SEED = 20_240_617


def transform(
    name: str, axis: str, choices: Choices, dy: Float, noise: Float, bits: int
) -> Outputs:
    """Return the gradient that flows on, its range taken of a sample or of all."""
    fn = getattr(quantizers, name)
    noise = noise if choices["noise_use"] == "added" else np.zeros_like(noise)
    if (choices[axis] == "sample") == (name == "dorefa_gradient"):
        return {"y": fn(dy, noise, bits=bits)}
    if name == "dorefa_gradient":
        return {"y": fn(dy[None], noise[None], bits=bits)[0]}
    pairs = zip(dy, noise, strict=True)
    return {"y": np.stack([fn(one, its, bits=bits) for one, its in pairs])}


def small(noise: float) -> Inputs:
    """Make two samples of two values, the noise the same everywhere."""
    dy = np.array([[4.0, 1.0], [1.0, -0.25]])
    return {"dy": dy, "noise": np.full((2, 2), noise), "bits": 2}


def draw(rng: np.random.Generator, n: int) -> Inputs:
    """Return samples of four values, each of its own size."""
    shape = (max(n // 4, 2), 4)
    dy = rng.normal(size=shape) * rng.choice([0.1, 1.0, 10.0], (shape[0], 1))
    return {"dy": dy, "noise": rng.uniform(-0.5, 0.5, shape), "bits": 3}


def wide(rng: np.random.Generator, n: int) -> Inputs:
    """Return samples of one to eight values, each of its own size, for any bits."""
    size = int(draws.pick(rng, 1, 3, 4, 8))
    shape = (max(n // size, 1), size)
    dy = rng.normal(size=shape) * rng.choice([0.1, 1.0, 10.0], (shape[0], 1))
    noise = rng.uniform(-0.5, 0.5, shape) * (rng.random() < 0.8)
    bits = int(draws.pick(rng, 2, 3, 4, 8))
    dy = np.where(rng.random(shape) < 0.1, 0, dy)
    return {"dy": dy, "noise": noise, "bits": bits}


def candidates() -> list[Inputs]:
    """List a call by hand without noise, one with noise, then drawn ones."""
    rng = np.random.default_rng(SEED)
    return [small(0.0), small(0.375), small(-0.375), draw(rng, 16)]


def family(name: str, axis: str) -> Family:
    """Return one transform as a family."""
    return Family(
        name,
        (f"range: {{{axis}}}", "noise: {noise_use}"),
        axes.of(f"{axis} noise_use"),
        partial(transform, name, axis),
        candidates,
        draw,
        close=1e-6,
        wide=wide,
        regions=kinds.regions(
            "dy noise: reals", "dy: examples, tails", "bits: number 2 3 4"
        ),
    )


FAMILIES = (
    family("dorefa_gradient", "gradient_maximum"),
    family("min_max_gradient", "gradient_limits"),
)
