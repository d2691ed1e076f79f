r"""How far the steps s of subnets are from those of least square error, s*.

QuantNAS (Gao et al., CVPR 2024 NAS workshop), figures 12 and 13. The supplement does
not say which scale is "optimal"; here it is s*, equation (5) of ``scales``.

    max s* / min s* over subnets, of one layer    figure 12    largest_over_smallest
    mean |log s - log s*|                                      calibration_error
    correlation of log s and log s* over subnets               correlation
    mean and deviations of both, over layers                   step_spread
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from refqnn._types import Float
from refqnn.papers.quantnas.deployment import folded_weights
from refqnn.papers.quantnas.judge import Judge
from refqnn.papers.quantnas.scales import mse_step
from refqnn.papers.quantnas.space import Genotype, layers_of, random_subnet
from refqnn.quantizers.learned_step_size import lsq_levels


def weight_steps(
    judge: Judge, genotype: Genotype, names: Sequence[str]
) -> dict[str, Any]:
    """Return fan-in, best step s* and learned step s of the folded weights of layers.

    JSON holds it: {"genotype": ..., name: {"fan_in": ..., "best": ..., "learned": ...}}
    """
    calibrated = judge.calibrate(genotype)
    layers = {layer.name: layer for layer in layers_of(genotype, judge.net.space)}
    rows: dict[str, Any] = {"genotype": genotype}
    for name in names:
        layer = layers[name]
        w_f, _ = folded_weights(judge.net, layer, calibrated)
        q_n, q_p = lsq_levels(layer.weight_bits, signed=True)
        rows[name] = {
            "fan_in": layer.fan_in,
            "best": mse_step(w_f, q_n=q_n, q_p=q_p),
            "learned": calibrated.steps[name],
        }
    return rows


def largest_over_smallest(values: Any) -> float:
    """max / min

    >>> largest_over_smallest([1.0, 3.0, 2.0])
    3.0
    """
    return float(np.max(values) / np.min(values))


def compare_steps(judge: Judge, seed: int, subnets: int) -> dict[str, Any]:
    """Compare the steps s of random subnets with those of least square error, s*.

    calibration_error: mean |log s - log s*| over layers and subnets. correlation: that
    of log s and log s* over subnets, the mean over layers; None for shared steps, which
    have none. Of weights and of activations: mean log s - log s*, and the standard
    deviations of log s and of log s* over subnets, means over the layers that all have.
    """
    best = judge.by_oracle()
    pairs: list[tuple[dict[str, float], dict[str, float]]] = []
    for i in range(subnets):
        genotype = random_subnet(judge.net.space, seed, i)
        own = judge.calibrate(genotype).steps
        pairs.append((own, own if judge.oracle else best.calibrate(genotype).steps))
    names = sorted(set.intersection(*(set(own) for own, _ in pairs)))
    logs = {n: np.log([[own[n], other[n]] for own, other in pairs]).T for n in names}
    each = [c for c in map(correlation, logs.values()) if c is not None]
    quants = {name for name in names if "quant" in name}
    return {
        "calibration_error": float(np.mean([calibration_error(*p) for p in pairs])),
        "correlation": float(np.mean(each)) if each else None,
        "weights": step_spread([logs[n] for n in names if n not in quants]),
        "activations": step_spread([logs[n] for n in names if n in quants]),
    }


def calibration_error(steps: Mapping[str, float], best: Mapping[str, float]) -> float:
    """Return the mean over layers of |log s - log s*|: how far steps are from the best.

    >>> calibration_error({"a": 1.0, "b": 2.0}, {"a": 1.0, "b": 2.0})
    0.0
    """
    if steps.keys() != best.keys():
        raise ValueError(f"layers differ: {sorted(steps.keys() ^ best.keys())}")
    return float(np.mean([abs(math.log(steps[n] / best[n])) for n in steps]))


def step_spread(logs: list[Float]) -> dict[str, float]:
    """Return mean difference and mean deviations of pairs of rows (log s, log s*).

    >>> step_spread([np.array([[1.0, 3.0], [0.0, 0.0]])])
    {'above': 2.0, 'deviation': 1.0, 'best_deviation': 0.0}
    """
    deviation, best_deviation = np.mean([pair.std(axis=1) for pair in logs], axis=0)
    return {
        "above": float(np.mean([own - best for own, best in logs])),
        "deviation": float(deviation),
        "best_deviation": float(best_deviation),
    }


def correlation(pair: Float) -> float | None:
    """Return the correlation of two rows, None where one is constant.

    >>> round(correlation(np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]])), 9)
    1.0
    """
    if np.any(np.ptp(pair, axis=1) < 1e-9):
        return None
    x, y = pair - pair.mean(axis=1, keepdims=True)
    return float(x @ y / np.sqrt((x @ x) * (y @ y)))
