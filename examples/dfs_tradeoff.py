"""Accuracy against computation percentage: DFS, SkipNet, static networks and HAQ.

Figures 3 to 7 and 11 of DFS (arXiv:2001.00705) at a small scale: ResNet-14 at a quarter
of its width on the embedded Fashion-MNIST subset, halved to 14 x 14, three seeds. All
systems of a seed start from one backbone and stand on one axis: the cp of DFS, which
counts gated blocks, bits of weights times bits of inputs. HAQ leaves inputs at 32 bits,
so b bits cost b / 32 there and (b / 32)^2 in DFS. Rings are the percentages that HAQ
(size of all weights) and SkipNet (the first block counted) give themselves.

    python examples/dfs_tradeoff.py [--seeds 0 1 2] [--jobs 2] [--json]

Every run is recorded under --runs when it ends; what was cut off is run again.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from refqnn import plots
from refqnn.papers.tradeoff import check_runs, outcomes
from refqnn.studies.sweep import Outcome

TARGETS = (0.0625, 0.1, 0.2, 0.4, 0.6, 0.8)
#: targets that need skips, with usual steps and with eight times as large ones
SKIPPING, LARGE = (0.04, 0.05), 8.0
#: targets that are also trained from random gates, in one step
ONE_STEP = (0.0625, 0.2)
STATIC_BITS = (8, 16, 22)
#: rewards of SkipNet's hybrid training
REWARDS = (0.0, 2.0, 3.0, 3.5, 4.0, 8.0)
#: sizes of HAQ's weights, as shares of 32 bits
RATIOS = (0.1, 0.2, 0.3, 0.5)
NAMES = {
    "dfs": "DFS",
    "skipnet": "SkipNet",
    "static": "static (scalable)",
    "haq": "HAQ (weights only)",
}
#: percentages by the definition of SkipNet and of HAQ
OWN = ("cp_skipnet", "ratio")


def described(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return every run but the backbones."""
    kinds: list[dict[str, Any]] = [{"system": "static", "bits": 32}]
    kinds += [{"system": "dfs", "target": t} for t in (*SKIPPING, *TARGETS)]
    kinds += [{"system": "dfs", "target": t, "alpha": LARGE} for t in SKIPPING]
    kinds += [{"system": "dfs", "target": t, "two_step": False} for t in ONE_STEP]
    kinds += [{"system": "static", "bits": b} for b in STATIC_BITS]
    kinds += [{"system": "skipnet", "alpha": a} for a in (None, *REWARDS)]
    kinds += [{"system": "haq", "ratio": r} for r in RATIOS]
    return [
        kind | {"seed": seed} | common(options)
        for seed in options.seeds
        for kind in kinds
    ]


def common(options: argparse.Namespace) -> dict[str, Any]:
    """Return what every run is told."""
    return {"images": options.images, "steps": options.steps}


def label(run: dict[str, Any]) -> str:
    """Return how a run is called, without its seed.

    >>> label({"system": "dfs", "target": 0.2, "two_step": False})
    'DFS, target 20 %, one step'
    >>> label({"system": "dfs", "target": 0.05, "alpha": 8.0})
    'DFS, target 5 %, steps x 8'
    """
    name = NAMES[run["system"]]
    if run["system"] == "static":
        return "base, 32 bits" if run["bits"] == 32 else f"{name}, {run['bits']} bits"
    if run["system"] == "skipnet":
        how = "supervised" if run["alpha"] is None else f"alpha {run['alpha']:g}"
        return f"{name}, {how}"
    if run["system"] == "haq":
        return f"{name}, {100 * run['ratio']:g} % of the size"
    steps = "" if run.get("two_step", True) else ", one step"
    steps += f", steps x {run['alpha']:g}" if "alpha" in run else ""
    return f"{name}, target {100 * run['target']:g} %{steps}"


def gathered(found: Sequence[Outcome]) -> dict[str, list[dict[str, Any]]]:
    """Return the results of every seed under the label of their run."""
    table: dict[str, list[dict[str, Any]]] = {}
    for run, result, _ in found:
        table.setdefault(label(run), []).append(result | {"seed": run["seed"]})
    return table


def lines(table: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Return the table: mean, lowest and highest accuracy of the seeds."""
    text = [f"{'run':34s} {'cp':>7s}   accuracy, lowest, highest   own percentage"]
    for name, results in table.items():
        a = 100 * np.array([r["accuracy"] for r in results])
        cp = 100 * np.mean([r["cp"] for r in results])
        own = [100 * r[key] for r in results for key in OWN if key in r]
        theirs = f"{np.mean(own):10.1f} %" if own else ""
        text.append(
            f"{name:34s} {cp:6.2f} % {a.mean():8.2f} {a.min():9.2f} {a.max():9.2f}"
            f"  {theirs}"
        )
    return text


def curves(
    found: Sequence[Outcome], key: str = "cp"
) -> dict[str, list[tuple[float, float]]]:
    """Return the points (cp, accuracy) of every system, one-step runs left out.

    ``key`` names the percentage; runs that have none of that name are left out.
    """
    points: dict[str, list[tuple[float, float]]] = {}
    for run, result, _ in found:
        if run.get("two_step", True) and run.get("bits") != 32 and key in result:
            name = NAMES[run["system"]]
            points.setdefault(name, []).append((result[key], result["accuracy"]))
    return points


def main(argv: Sequence[str] | None = None) -> dict[str, list[dict[str, Any]]]:
    """Train, print the table, draw the curves."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=2, help="processes, a thread each")
    parser.add_argument("--images", type=int, default=4000, help="to train on")
    parser.add_argument("--steps", type=int, help="of every training")
    parser.add_argument("--quick", action="store_true", help="512 images, 120 steps")
    parser.add_argument("--runs", type=Path, default=Path("runs/dfs"))
    parser.add_argument("--figure", type=Path, default=Path("dfs_tradeoff.png"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    if options.quick:
        options.images, options.steps, options.seeds = 512, 120, [0]
    jobs, folder = options.jobs, options.runs
    try:
        check_runs(options.seeds, images=options.images, steps=options.steps, jobs=jobs)
        found = outcomes(described(options), folder=folder, name="tradeoff", jobs=jobs)
    except (RuntimeError, ValueError) as error:
        parser.error(str(error))
    table = gathered(found)
    base = [o.result["accuracy"] for o in found if o.run.get("bits") == 32]
    own = curves(found, "ratio") | curves(found, "cp_skipnet")
    figure = plots.tradeoff(curves(found), float(np.mean(base)), own=own)
    plots.save(figure, options.figure)
    written = json.dumps(table)
    options.figure.with_suffix(".json").write_text(written + "\n", encoding="utf-8")
    print(written if options.json else "\n".join(lines(table)))
    return table


if __name__ == "__main__":
    main()
