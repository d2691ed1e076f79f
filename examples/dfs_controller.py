"""Does the dynamic sign of DFS steer the computation percentage to its target?

Trains ResNet-14 at a quarter of its width on the embedded Fashion-MNIST subset, halved
to 14 x 14, with the two steps of DFS (arXiv:2001.00705): towards five targets; with the
sign held at +1, which never sees a target (table 1); and with steps eight times as
large (table 2), also towards targets that cannot be met without skips. Prints the cp
of the last 250 iterations, how much it moved before, and the share of every option, and
draws the cp over the iterations. With --tables it also trains what tables 1 and 2 of
the paper have, and prints both with the paper's numbers beside ours.

    python examples/dfs_controller.py [--targets 0.05 0.2] [--seeds 0] [--tables]

Every run is recorded under --runs when it ends; what was cut off is run again, and runs
that dfs_tradeoff.py has done are not done twice.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from refqnn import plots
from refqnn.papers.dfs import OPTIONS, check_target, least_skip_share
from refqnn.papers.dfs.printed import printed_table
from refqnn.papers.tradeoff import check_runs, outcomes
from refqnn.studies.sweep import Outcome

TARGETS = (0.05, 0.1, 0.2, 0.4, 0.6)
#: alpha of the scale-free loss; it is 1 where nothing is said
LARGE = 8.0
#: cp of a network of 8 bits; below it blocks must be skipped
EIGHT_BITS = 1 / 16
#: what tables 1 and 2 compare: both signs, and steps at two targets. The paper's 1e-6
#: to 1e-3 of a sum over samples and blocks are 0.0045 to 4.5 of the mean
TABLE_TARGETS, TABLE_ALPHAS = (0.4, 0.5), (0.5, 1.0, 2.0, 8.0)


def described(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the runs of every seed: targets, constant sign, large steps."""
    kinds: list[dict[str, Any]] = [{"target": t} for t in options.targets]
    middle = options.targets[len(options.targets) // 2]
    kinds += [{"target": middle, "sign": "constant"}]
    kinds += [{"target": middle, "alpha": LARGE}]
    kinds += [{"target": t, "alpha": LARGE} for t in options.targets if t < EIGHT_BITS]
    return of_every_seed(kinds, options)


def of_every_seed(
    kinds: Sequence[dict[str, Any]], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Return the runs of some kinds for every seed."""
    common = {"images": options.images, "steps": options.steps}
    return [
        {"system": "dfs", "seed": seed} | kind | common
        for seed in options.seeds
        for kind in kinds
    ]


def with_alpha(alpha: float) -> dict[str, float]:
    """Return how a run names its alpha; 1 is what runs have without one."""
    return {} if alpha == 1 else {"alpha": alpha}


def described_tables(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the runs of tables 1 and 2 for every seed."""
    kinds: list[dict[str, Any]] = [{"target": 0.4, "sign": "constant"}]
    kinds += [
        {"target": t} | with_alpha(a) for a in TABLE_ALPHAS for t in TABLE_TARGETS
    ]
    return of_every_seed(kinds, options)


def table_rows(found: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Return a row for every kind of run, means over the seeds, in per cent."""
    groups: dict[tuple[str, float, float], list[Any]] = {}
    for run, result, _ in found:
        key = run.get("sign", "dynamic"), run.get("alpha", 1.0), run["target"]
        groups.setdefault(key, []).append(result)
    return [
        {
            "sign": sign,
            "alpha": alpha,
            "target_percent": 100 * target,
            "cp_percent": 100 * float(np.mean([r["cp"] for r in own])),
            "accuracy_percent": 100 * float(np.mean([r["accuracy"] for r in own])),
        }
        for (sign, alpha, target), own in groups.items()
    ]


def table_lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return tables 1 and 2, ours above the paper's."""
    first = [r for r in rows if r["alpha"] == 1 and r["target_percent"] == 40]
    second = [r for r in rows if r["sign"] == "dynamic"]
    text = []
    for number, ours in ((1, first), (2, second)):
        text += [
            "",
            f"table {number}       sign         alpha  target      cp  accuracy",
        ]
        text += [
            f"{whose:12s}  {row['sign']:9s} {row['alpha']:8g} "
            f"{row['target_percent']:5g} % {row['cp_percent']:6.2f} "
            f"{row['accuracy_percent']:9.2f}"
            for whose, every in (("ours", ours), ("the paper's", printed_table(number)))
            for row in every
        ]
    note = "the paper's alpha is of a sum: times 128 images and 35 blocks it is ours"
    return [*text, "", note]


def label(run: dict[str, Any]) -> str:
    """Return how a run is called.

    >>> label({"target": 0.2, "alpha": 8.0})
    'target 20 %, steps x 8'
    """
    if run.get("sign") == "constant":
        return "constant sign"
    steps = f", steps x {run['alpha']:g}" if "alpha" in run else ""
    return f"target {100 * run['target']:g} %{steps}"


def summary(run: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """Return the cp of the last iterations, its deviation before, and the options.

    The deviation is that of the cp from its mean in the second quarter, after the first
    descent and before the learning rate falls.
    """
    history = np.array(found["history"])
    quarter = max(len(history) // 4, 1)
    return {
        "run": label(run),
        "seed": run["seed"],
        "target": run["target"],
        "cp_end": float(history[-min(250, len(history)) :].mean()),
        "cp_test": found["cp"],
        "deviation": float(history[quarter : 2 * quarter].std()),
        "shares": found["train_shares"],
        "least_skips": least_skip_share(run["target"], found["options"]),
        "accuracy": found["accuracy"],
    }


def lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return the table: one line a run."""
    head = f"{'run':26s} seed   cp at the end   moved  on test  accuracy"
    text = [f"{head}     skip  8 bits 16 bits    keep"]
    for row in rows:
        shares = "".join(f"{100 * s:8.1f}" for s in row["shares"])
        text.append(
            f"{row['run']:26s} {row['seed']:4d} {100 * row['cp_end']:12.2f} %"
            f"{100 * row['deviation']:8.2f} {100 * row['cp_test']:8.2f}"
            f"{100 * row['accuracy']:10.1f} {shares}"
        )
    return text


def check(options: argparse.Namespace) -> None:
    """Raise unless the runs can begin and end."""
    check_runs(
        options.seeds, images=options.images, steps=options.steps, jobs=options.jobs
    )
    for target in options.targets:
        check_target(target, OPTIONS)


def done(runs: list[dict[str, Any]], options: argparse.Namespace) -> list[Outcome]:
    """Return what runs gave, run where not recorded yet."""
    return outcomes(runs, folder=options.runs, name="tradeoff", jobs=options.jobs)


def main(argv: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Train, print the table, draw the curves."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--targets", type=float, nargs="+", default=[*TARGETS])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--jobs", type=int, default=2, help="processes, a thread each")
    parser.add_argument("--images", type=int, default=4000, help="to train on")
    parser.add_argument("--steps", type=int, help="of every training")
    parser.add_argument("--quick", action="store_true", help="512 images, 120 steps")
    parser.add_argument("--tables", action="store_true", help="tables 1 and 2, too")
    parser.add_argument("--runs", type=Path, default=Path("runs/dfs"))
    parser.add_argument("--figure", type=Path, default=Path("dfs_controller.png"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    if options.quick:
        options.images, options.steps = 512, 120
    try:
        check(options)
        found, tabled = done(described(options), options), []
        if options.tables:
            tabled = done(described_tables(options), options)
    except (RuntimeError, ValueError) as error:
        parser.error(str(error))
    rows = [summary(run, result) for run, result, _ in found]
    first = [o for o in found if o.run["seed"] == options.seeds[0]]
    plots.save(
        plots.controller(
            [(label(o.run), o.run["target"], o.result["history"]) for o in first]
        ),
        options.figure,
    )
    shown = lines(rows) + (table_lines(table_rows(tabled)) if tabled else [])
    written = json.dumps(rows + table_rows(tabled))
    options.figure.with_suffix(".json").write_text(written + "\n", encoding="utf-8")
    print(written if options.json else "\n".join(shown))
    return rows + table_rows(tabled)


if __name__ == "__main__":
    main()
