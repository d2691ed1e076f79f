"""The study of whether it is the input that decides, as the title of DFS says.

DFS, arXiv:2001.00705, "input-adaptive inference". A trained network runs its test
images three times: by the decisions of each image, by those of another image, and by
the path that most training images take. All three cost the same cp, or nearly so.

Rule, written before any run: at a target the network adapts to its input where, over at
least five seeds, an image's own decisions are more accurate than *both* others, each by
a paired 95 % interval above 0. With fewer seeds, or an interval that holds 0, it is
undecided; below 0 it does not.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from refqnn import fast, plots
from refqnn._types import Array, Float, Int
from refqnn.core import Run
from refqnn.nn import accuracy, in_batches
from refqnn.papers.dfs.cost import computation_percentage, one_hot
from refqnn.papers.dfs.network import RoutedResNet
from refqnn.papers.dfs.study import LARGE, QUICK
from refqnn.papers.dfs.systems import Machinery, stages, trained_dfs
from refqnn.studies.study import Stage, Study, paired_interval, table
from refqnn.studies.sweep import Outcomes, Row

#: whose decisions an image takes
WAYS = ("its own", "another image's", "the most common path")
#: permutations that the accuracy of another image's decisions is a mean over
PERMUTATIONS = 5
BATCH = 250


@dataclass(frozen=True)
class Adaptivity(Machinery):
    """Targets of DFS; below 1/16 steps are eight times as large."""

    targets: tuple[float, ...] = (0.04, 0.2)
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)


def adaptivity_stages(s: Adaptivity, folder: Path) -> Iterator[Stage]:
    """Yield the backbones, then a training for every target and seed."""
    large = {"alpha": LARGE}
    kinds = [
        {"target": t} | (large if t < 1 / 16 else {}) | s.changes() for t in s.targets
    ]
    backbones, runs = stages(s, kinds, folder)
    yield backbones
    function = partial(adaptivity_run, folder=str(folder), files=s.files())
    yield Stage(function, runs.runs, "adaptivity")


def adaptivity_run(**arguments: Any) -> Row:
    """Train DFS; score the three ``WAYS`` on the test images."""
    network, _, pictures = trained_dfs(**arguments)
    images, labels = pictures[2:]
    own = decisions_of(network, images)
    common = most_common_path(decisions_of(network, pictures.train_images))
    rng = np.random.default_rng([arguments["seed"], 5])
    others = [rng.permutation(own) for _ in range(PERMUTATIONS)]
    tables = ([own], others, [np.broadcast_to(common, own.shape)])
    return {
        "accuracy": [
            float(np.mean([accuracy_by(network, images, labels, t) for t in every]))
            for every in tables
        ],
        "cp": [
            computation_percentage(
                one_hot(every[0], len(network.options)), network.options
            )
            for every in tables
        ],
        "paths": len(np.unique(own, axis=0)),
    }


def decisions_of(network: RoutedResNet, images: Array) -> Int:
    """images: (N, C, H, W)  ->  the decisions of the gates: (N, L)"""
    run = Run(backend=fast)
    parts = in_batches(lambda x: network.forward(x, run)[1].p, images, batch=BATCH)
    return np.concatenate([p.argmax(-1) for p in parts])


def most_common_path(decisions: Int) -> Int:
    """Find the decisions that most images take in all blocks: (N, L)  ->  (L,)

    >>> most_common_path(np.array([[1, 2], [0, 2], [1, 2]]))
    array([1, 2])
    """
    paths, counts = np.unique(decisions, axis=0, return_counts=True)
    path: Int = paths[counts.argmax()]
    return path


def accuracy_by(
    network: RoutedResNet, images: Array, labels: Int, decisions: Int
) -> float:
    """Measure the accuracy where image n takes row n of ``decisions``: (N, L)."""
    run, logits = Run(backend=fast), []
    for first in range(0, len(images), BATCH):
        rows = slice(first, first + BATCH)
        taken = decisions[rows]

        def choose(i: int, _p: Float, taken: Int = taken) -> Int:
            return np.asarray(taken[:, i])

        logits.append(network.forward(images[rows], run, choose=choose)[0])
    return accuracy(np.concatenate(logits), labels)


def adaptivity_rows(s: Adaptivity, _: Outcomes, runs: Outcomes) -> list[Row]:
    """Give accuracies, cp and paths of every target, and what the rule says."""
    rows = []
    for target in s.targets:
        own = [o.result for o in runs if o.run["target"] == target]
        scores = 100 * np.array([result["accuracy"] for result in own])
        gains = [paired_interval(scores[:, 0] - scores[:, k]) for k in (1, 2)]
        rows.append(
            {
                "target_percent": 100 * target,
                "n": len(own),
                "accuracies": scores.tolist(),
                "cp_percent": [100 * result["cp"][0] for result in own],
                "paths": [result["paths"] for result in own],
                "gain_over_another": gains[0],
                "gain_over_common": gains[1],
                "verdict": rule(len(own), gains),
            }
        )
    return rows


def rule(n: int, gains: list[tuple[float, float, float]]) -> str:
    """Decide by the rule at the head of this file; gains: (mean, low, high).

    >>> rule(5, [(1.0, 0.5, 1.5), (0.8, 0.1, 1.5)]), rule(5, [(1.0, 0.5, 1.5)] * 2)[:5]
    ('holds', 'holds')
    >>> rule(3, [(1.0, 0.5, 1.5)] * 2), rule(5, [(1, 0.5, 1.5), (-1, -1.5, -0.5)])
    ('undecided', 'does not hold in this regime')
    """
    if n < 5:
        return "undecided"
    if all(low > 0 for _, low, _ in gains):
        return "holds"
    below = any(high < 0 for _, _, high in gains)
    return "does not hold in this regime" if below else "undecided"


def adaptivity_lines(_: Adaptivity, rows: list[Row]) -> Iterator[str]:
    """Yield a line a target: means over the seeds, gains with 95 % intervals."""
    yield from table(
        {
            "target, %": row["target_percent"],
            "n": row["n"],
            "cp": float(np.mean(row["cp_percent"])),
            "paths": float(np.mean(row["paths"])),
        }
        | dict(zip(WAYS, np.mean(row["accuracies"], axis=0).tolist(), strict=True))
        | {
            "gain over another's": list(row["gain_over_another"]),
            "over the path": list(row["gain_over_common"]),
            "input-adaptive": row["verdict"],
        }
        for row in rows
    )


def adaptivity_figure(_: Adaptivity, starts: Outcomes, runs: Outcomes) -> Row:
    """Draw accuracy against cp, by whose decisions."""
    points = {
        way: [(o.result["cp"][k], o.result["accuracy"][k]) for o in runs]
        for k, way in enumerate(WAYS)
    }
    base = float(np.mean([o.result["accuracy"] for o in starts]))
    return {"": plots.tradeoff(points, base, base_name="backbone, 32 bits")}


STUDIES = (
    Study(
        name="dfs_adaptivity",
        shows="is it the input that decides? Decisions permuted between images, and "
        "the most common path for all (DFS, its title)",
        takes=("20 min", "1 min"),
        settings=Adaptivity,
        quick=QUICK | {"seeds": (0,)},
        stages=adaptivity_stages,
        rows=adaptivity_rows,
        lines=adaptivity_lines,
        figures=adaptivity_figure,
        folder="dfs",
    ),
)
