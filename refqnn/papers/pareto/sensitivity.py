"""Accuracy lost by quantizing and gained by growing: tables 1 and 2.

Chin, Chuang, Chandra, Marculescu. arXiv:2008.09916, sections 5.2 and 5.3.

    paper                                        code              where
    Delta Acc_Q = Acc_low - Acc_high, (Q)        low, high         Changes.quantized
    Delta Acc_G = Acc_low,grown - Acc_low, (G)   grown_low, low    Changes.grown
    Delta Acc = Delta Acc_Q + Delta Acc_G, (A)   grown_low, high   Changes.total
    "grown": twice the width                     GROWN             three_runs
    1 bit against 4 bits, activations at 4       LOW, HIGH         three_runs
    table 1: depth-wise weights kept at 4 bits   DEPTHWISE         table1_runs
    table 2: C_in x K_w x K_h, depth-wise        KINDS             table2_runs

(Q), (G) and (A) are names of this file. ``Runs`` has a run of ``pareto_run`` for every
(row, role, seed): three for each row and seed, of which rows may share some. Low
precision is better where Delta Acc > 0.

*Errata*: "expected smaller Delta Acc_Q" means more negative; sums of the tables differ
from their parts by 0.01 where means of three runs were rounded.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from refqnn._types import Float

LOW, HIGH, ACTIVATIONS, GROWN = 1, 4, 4, 2
#: rows of table 1 -> bits of depth-wise weights in the network of low precision
DEPTHWISE: Mapping[str, int] = MappingProxyType({"4 bit DWConv": HIGH, "all": LOW})
#: widths of the 4-bit networks, the columns of table 1
WIDTHS = (1.0, 1.25, 1.5, 1.75, 2.0)
#: (fan-in, kernel) of depth-wise filters, the columns of table 2
KINDS = ((1, 3), (1, 6), (4, 3), (1, 12), (16, 3))

Key = tuple[str, str, int]
Runs = Mapping[Key, dict[str, Any]]


class Changes(NamedTuple):
    """Accuracies in per cent of one row, an entry a seed, and what they differ by."""

    high: Float  # (S,)
    low: Float  # (S,)
    grown_low: Float  # (S,)

    @property
    def quantized(self) -> Float:
        """Delta Acc_Q, in points: (S,)."""
        return self.low - self.high  # (Q)

    @property
    def quantized_log_odds(self) -> Float:
        """Delta Acc_Q in log-odds: (S,); a point near 100 % weighs more than at 60 %.

        What table 2 compares are networks of 73 to 93 %, where a loss in points shrinks
        for want of room alone.
        """
        return log_odds(self.low) - log_odds(self.high)

    @property
    def grown(self) -> Float:
        """Delta Acc_G, in points: (S,)."""
        return self.grown_low - self.low  # (G)

    @property
    def total(self) -> Float:
        """Delta Acc, in points: (S,)."""
        return self.grown_low - self.high  # (A)


def three_runs(
    row: str, network: Mapping[str, Any], low: Mapping[str, Any], seed: int
) -> dict[Key, dict[str, Any]]:
    """Return the runs of one row and seed; ``low`` is what lower precision changes."""
    width = network.get("width", 1.0)
    high = {"weight_bits": HIGH, "depthwise_bits": HIGH}
    common = {"width": width, "activation_bits": ACTIVATIONS}
    roles = {
        "high": {**network, **common, **high},
        "low": {**network, **common, **low},
        "grown": {**network, **common, **low, "width": GROWN * width},
    }
    return {
        (row, role, seed): {"network": config, "seed": seed}
        for role, config in roles.items()
    }


def table1_runs(
    network: Mapping[str, Any],
    *,
    widths: Sequence[float] = WIDTHS,
    seeds: Iterable[int],
) -> Runs:
    """Return the runs of table 1: widths times those of a network's, both rows.

    >>> runs = table1_runs({"network": "separable"}, widths=(1.0, 2.0), seeds=(0,))
    >>> runs["all, 1x", "grown", 0]["network"] == runs["all, 2x", "low", 0]["network"]
    True
    """
    unit = network.get("width", 1.0)
    runs: dict[Key, dict[str, Any]] = {}
    for seed in seeds:
        for name, depthwise in DEPTHWISE.items():
            low = {"weight_bits": LOW, "depthwise_bits": depthwise}
            for width in widths:
                scaled = {**network, "width": unit * width}
                runs |= three_runs(f"{name}, {width:g}x", scaled, low, seed)
    return runs


def table2_runs(
    network: Mapping[str, Any],
    *,
    kinds: Sequence[tuple[int, int]] = KINDS,
    seeds: Iterable[int],
) -> Runs:
    """Return the runs of table 2, those of high precision followed for figure 4.

    >>> runs = table2_runs({"network": "separable"}, kinds=((4, 3),), seeds=(0,))
    >>> runs["4 x 3 x 3", "high", 0]["network"]["depthwise_fan_in"]
    4
    """
    runs: dict[Key, dict[str, Any]] = {}
    low = {"weight_bits": LOW, "depthwise_bits": LOW}
    for seed in seeds:
        for fan_in, kernel in kinds:
            kind = {"depthwise_fan_in": fan_in, "depthwise_kernel": kernel}
            row = kind_name(fan_in, kernel)
            three = three_runs(row, {**network, **kind}, low, seed)
            for key, run in three.items():
                runs[key] = run | {"follow": key[1] == "high"}
    return runs


def kind_name(fan_in: int, kernel: int) -> str:
    """Return C_in x K_w x K_h as the paper's table writes it.

    >>> kind_name(4, 3)
    '4 x 3 x 3'
    """
    return f"{fan_in} x {kernel} x {kernel}"


def changes(accuracy: Callable[[Key], float], runs: Runs) -> dict[str, Changes]:
    """Return the changes of every row; ``accuracy`` of a run is by its key.

    >>> runs = table2_runs({"network": "separable"}, kinds=((1, 3),), seeds=(0, 1))
    >>> accuracy = {"high": 90.0, "low": 80.0, "grown": 88.0}
    >>> row = changes(lambda key: accuracy[key[1]] - key[2], runs)["1 x 3 x 3"]
    >>> row.quantized, row.grown, row.total
    (array([-10., -10.]), array([8., 8.]), array([-2., -2.]))
    """
    rows = dict.fromkeys(row for row, _, _ in runs)
    seeds = dict.fromkeys(seed for _, _, seed in runs)
    return {
        row: Changes(
            *(
                np.array([accuracy((row, role, seed)) for seed in seeds])
                for role in ("high", "low", "grown")
            )
        )
        for row in rows
    }


def log_odds(percent: Float) -> Float:
    """log(a / (1 - a)) of an accuracy in per cent, half a test image of 2 000 from 0, 1

    >>> log_odds(np.array([50.0, 100.0])).round(2)
    array([0.  , 8.29])
    """
    a = np.clip(percent / 100, 1 / 4000, 1 - 1 / 4000)
    return np.log(a / (1 - a))


def mean_and_spread(values: Float) -> tuple[float, float]:
    """Return the mean and the sample standard deviation, NaN for one value.

    values: (S,)  ->  (), ()

    >>> mean_and_spread(np.array([1.0, 3.0]))
    (2.0, 1.4142135623730951)
    """
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
    return float(np.mean(values)), spread


def mean_text(values: Sequence[float]) -> str:
    """Write mean and spread.

    >>> mean_text([80.0, 81.0]), mean_text([80.0])
    ('80.50 ± 0.71', '80.00')
    """
    mean, spread = mean_and_spread(np.asarray(values))
    return f"{mean:.2f}" + ("" if np.isnan(spread) else f" ± {spread:.2f}")
