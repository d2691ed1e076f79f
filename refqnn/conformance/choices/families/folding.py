"""folded_conv2d: a convolution that is trained with its batch normalization folded in.

c = conv(x, w);  mean, var of c over examples and positions          (1)
sigma = sqrt(var + eps), sigma_r of the running variance             (2)  epsilon
wq = s clip(round(gamma w / sigma' / s), q_min, q_max)               (3)
y = conv(x, wq) and an offset               (4)  fold_statistics, zero_gamma
"""

from functools import partial
from typing import Any

import numpy as np

from refqnn import ops
from refqnn._types import Float
from refqnn.conformance.choices import axes, draws, kinds
from refqnn.conformance.choices.coverage import few
from refqnn.conformance.choices.families.float_layers import CLOSE
from refqnn.conformance.choices.family import Choices, Family, Inputs, Outputs

SEED = 20_261_133


def folded_conv2d(
    choices: Choices,
    x: Float,
    w: Float,
    gamma: Float,
    beta: Float,
    running_mean: Float,
    running_var: Float,
    eps: float,
    scale: Any,
    q_min: int,
    q_max: int,
    stride: Any,
    padding: Any,
) -> Outputs:
    """Equations (1) to (4); the running statistics are those before the step.

    x: (N, C, H, W), w: (O, C, Kh, Kw), gamma, ...: (O,), scale: () or (O,)
    """
    kind = choices["fold_statistics"]
    deviation = partial(deviation_of, choices["epsilon"], eps)
    conv = partial(ops.conv2d, x, stride=stride, padding=padding)
    mean, var = statistics(conv(w)[0])  # (1)
    running, batch = deviation(running_var), deviation(var)  # (2)
    factor = gamma / (batch if kind == "batch" else running)
    s: Float = np.reshape(np.asarray(scale, np.float64), (-1, 1, 1, 1))
    codes = np.rint(factor[:, None, None, None] * w / s)
    y, _ = conv(s * np.clip(codes, q_min, q_max))  # (3)
    if kind == "of_quantized":
        return {"y": normalized_again(choices, deviation, y, factor, gamma, beta)}
    if kind == "corrected":
        y = y * (running / batch)[:, None, None]
    m, sigma = (running_mean, running) if kind == "running" else (mean, batch)
    return {"y": y + (beta - gamma * m / sigma)[:, None, None]}  # (4)


def normalized_again(
    choices: Choices, deviation: Any, y: Float, factor: Float, *affine: Float
) -> Float:
    """Undo the factor of the weights; normalize by the statistics of what is left."""
    gamma, beta = (v[:, None, None] for v in affine)
    with np.errstate(invalid="ignore", divide="ignore"):
        plain = y / factor[:, None, None]
    if choices["zero_gamma"] == "beta":
        plain = np.where(gamma == 0, 0, plain)
    mean, var = statistics(plain)
    away = (plain - mean[:, None, None]) / deviation(var)[:, None, None]
    return np.asarray(gamma * away + beta)


def statistics(planes: Float) -> tuple[Float, Float]:
    """Return mean and biased variance over examples and positions: (O,) each."""
    return planes.mean(axis=(0, 2, 3)), planes.var(axis=(0, 2, 3))


def deviation_of(place: str, eps: float, var: Float) -> Float:
    """Equation (2): sqrt(var + eps), or sqrt(var) + eps

    >>> [float(deviation_of(at, 5, np.array(4.0))) for at in ("inside", "outside")]
    [3.0, 7.0]
    """
    return np.sqrt(var) + eps if place == "outside" else np.sqrt(var + eps)


def canonical(choices: Choices) -> dict[str, str]:
    """Replace the answer about a gamma of 0 where nothing is divided by it."""
    asked = choices["fold_statistics"] == "of_quantized"
    return dict(choices) | ({} if asked else {"zero_gamma": "beta"})


def draw(rng: np.random.Generator, n: int) -> Inputs:
    """Draw layers of any geometry; gammas of both signs and 0, weights that clip."""
    c, o = int(draws.pick(rng, 1, 2, 3)), int(draws.pick(rng, 1, 2, 4, 11))
    kernel = draws.pick(rng, (1, 1), (3, 3), (2, 3), (3, 1))
    side = (int(rng.integers(k, k + 3)) for k in kernel)
    x = draws.normal(rng, (max(min(n // 8, 5), 1), c, *side))
    x[..., -1, -1] = rng.normal(size=x.shape[:2])  # no variance is 0
    w, ends = draws.normal(rng, (o, c, *kernel)), draws.code_range(rng, 8)
    norm = rng.uniform(0.5, 2, o) * rng.choice([1, 1, -1, 0], o)
    means = draws.normal(rng, (o,)), draws.normal(rng, (o,))
    step = 4.0 / (ends[1] - ends[0]) * rng.uniform(0.5, 2, o)
    scale = step if rng.random() < 0.5 else float(step[0])
    eps = float(draws.pick(rng, 0.5, 0.125, 0.3))
    at = draws.pair(rng, 1, 2), draws.padding(rng, 1)
    layer = draws.laid_out(rng, x), draws.laid_out(rng, w), norm, *means
    running_var = rng.uniform(0.3, 3, o)
    given = *layer, running_var, eps, scale, *ends, *at
    return draws.call(folded_conv2d, *given)


REGIONS = kinds.regions(
    "x w gamma beta running_mean: reals",
    "x: examples, layout, tails",
    "w: kernels, layout",
    "eps: number 0.5 0.125",
    "scale: an_output_each",
    "gamma: columns channels 1 11",
    "range: code_range 8",
    "stride: pairs",
    "padding: padding",
)
REGIONS.pop("w: above 4 x 4")

FAMILIES = (
    Family(
        "folded_conv2d",
        (
            "c = conv(x, w), its mean and variance; sigma: {epsilon}",
            "wq = s clip(round(gamma w / sigma' / s), q_min, q_max)",
            "{fold_statistics}",
            "where gamma is 0: {zero_gamma}",
        ),
        axes.of("fold_statistics zero_gamma epsilon"),
        folded_conv2d,
        partial(few, REGIONS, draw, (8, 24, 40), SEED),
        draw,
        close=CLOSE,
        canonical=canonical,
        regions=REGIONS,
    ),
)
