"""Does the reward of SkipNet's hybrid training control how much is computed?

SkipNet (arXiv:1711.09485) with any of its gates: ResNet-14 at a quarter of its width on
the embedded Fashion-MNIST subset, halved to 14 x 14, trained supervised and then with
REINFORCE at several rewards alpha. Prints accuracy and both percentages: SkipNet's own,
which counts the first block, and that of DFS, which does not.

    python examples/skipnet.py [--gates RNNGate FFGate-I FFGate-II] [--seeds 0] [--json]

Every run is recorded under --runs when it ends; what was cut off is run again, and runs
that dfs_tradeoff.py has done are not done twice.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from refqnn import plots
from refqnn.papers.dfs import check_price
from refqnn.papers.skipnet import GATES
from refqnn.papers.tradeoff import check_runs, outcomes
from refqnn.studies.sweep import Outcome

REWARDS = (0.0, 2.0, 3.0, 3.5, 4.0, 8.0)


def described(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the runs: every gate, supervised and with every reward, every seed."""
    common = {"images": options.images, "steps": options.steps}
    return [
        {"system": "skipnet", "alpha": alpha, "seed": seed} | gated(gate) | common
        for gate in options.gates
        for alpha in (None, *options.rewards)
        for seed in options.seeds
    ]


def gated(gate: str) -> dict[str, str]:
    """Return how a run names its gate; RNNGate is what runs have without a name."""
    return {} if gate == "RNNGate" else {"gate": gate}


def rows(found: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Return what each run gave."""
    kept = ("accuracy", "cp", "cp_skipnet")
    return [
        {"gate": run.get("gate", "RNNGate"), "alpha": run["alpha"], "seed": run["seed"]}
        | {key: result[key] for key in kept}
        for run, result, _ in found
    ]


def points(
    table: Sequence[dict[str, Any]], key: str
) -> dict[str, list[tuple[float, float]]]:
    """Return (percentage, accuracy) of every run, by gate."""
    found: dict[str, list[tuple[float, float]]] = {}
    for row in table:
        found.setdefault(row["gate"], []).append((row[key], row["accuracy"]))
    return found


def correlation(table: Sequence[dict[str, Any]], gate: str) -> float:
    """Return the rank correlation of alpha and cp over the hybrid runs of a gate."""
    pairs = [
        (row["alpha"], row["cp"])
        for row in table
        if row["gate"] == gate and row["alpha"] is not None
    ]
    if len({cp for _, cp in pairs}) < 2:
        return float("nan")  # nothing moved
    return float(spearmanr(*zip(*pairs, strict=True)).statistic)


def lines(table: Sequence[dict[str, Any]]) -> list[str]:
    """Return the table, one line a run, and the rank correlations."""
    text = ["gate        alpha        seed  accuracy   cp (SkipNet)   cp (DFS's)"]
    for row in table:
        alpha = "supervised" if row["alpha"] is None else f"{row['alpha']:g}"
        text.append(
            f"{row['gate']:10s}  {alpha:10s} {row['seed']:5d} "
            f"{100 * row['accuracy']:8.1f} % {100 * row['cp_skipnet']:10.1f} %"
            f"{100 * row['cp']:11.1f} %"
        )
    for gate in dict.fromkeys(row["gate"] for row in table):
        rank = correlation(table, gate)
        text.append(f"{gate}: rank correlation of alpha and cp {rank:.2f}")
    return text


def main(argv: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Train, print the table, draw the points."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--gates", nargs="+", choices=sorted(GATES), default=["RNNGate"]
    )
    parser.add_argument("--rewards", type=float, nargs="+", default=[*REWARDS])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--jobs", type=int, default=2, help="processes, a thread each")
    parser.add_argument("--images", type=int, default=4000, help="to train on")
    parser.add_argument("--steps", type=int, help="of every training")
    parser.add_argument("--quick", action="store_true", help="512 images, 120 steps")
    parser.add_argument("--runs", type=Path, default=Path("runs/dfs"))
    parser.add_argument("--figure", type=Path, default=Path("skipnet.png"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    if options.quick:
        options.images, options.steps = 512, 120
    jobs, folder = options.jobs, options.runs
    try:
        for reward in options.rewards:
            check_price(reward, "constant")
        check_runs(options.seeds, images=options.images, steps=options.steps, jobs=jobs)
        found = outcomes(described(options), folder=folder, name="tradeoff", jobs=jobs)
    except (RuntimeError, ValueError) as error:
        parser.error(str(error))
    table = rows(found)
    best = float(np.max([row["accuracy"] for row in table]))
    figure = plots.tradeoff(
        points(table, "cp"),
        best,
        base_name="the most accurate",
        own=points(table, "cp_skipnet"),
    )
    plots.save(figure, options.figure)
    written = json.dumps(table)
    options.figure.with_suffix(".json").write_text(written + "\n", encoding="utf-8")
    print(written if options.json else "\n".join(lines(table)))
    return table


if __name__ == "__main__":
    main()
