"""Does DFS need its first step? Joint training from random gates that skip over half.

DFS, arXiv:2001.00705, section 3: gates that start at random skip much, batch norms see
other statistics, and training does not recover; step 1 makes them keep everything.

Rule, written before any run: two steps are better where they are ahead by more than one
point in five of five gate seeds, at executed cp that differ by less than a point, and
step 1 has ended at p of at most 0.92 (a gate that is surer hardly moves again).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from refqnn import fast
from refqnn.core import Run
from refqnn.papers import dfs
from refqnn.papers.dfs.study import QUICK
from refqnn.papers.dfs.systems import (
    Lengths,
    Start,
    from_backbone,
    result,
    stages,
    start_of,
)
from refqnn.studies.study import Stage, Study, check_settings, paired_interval, table
from refqnn.studies.sweep import Outcomes, Row

#: gates that are drawn until some skip enough of the blocks for these many images
DRAWS, PROBED = 200, 250


@dataclass(frozen=True)
class RandomGates(Lengths):
    """Seeds of gates, and how they are trained, from the backbone of each seed."""

    steps: int | None = 2000
    depth: int = 38
    gate_seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    target: float = 0.0625
    alpha: float = 0.04
    lr: float = 0.01
    #: share of the blocks that gates must skip to begin with
    skips: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_settings(self, gate_seeds=0, alpha=0, lr=0, skips=0)
        dfs.check_target(self.target, dfs.OPTIONS)


def random_gates_stages(s: RandomGates, folder: Path) -> Iterator[Stage]:
    """Yield the backbones, then both ways to train the gates of every gate seed."""
    how = {"target": s.target, "alpha": s.alpha, "lr": s.lr, "skips": s.skips}
    ways = [
        {"gate_seed": g, "two_step": t} for g in s.gate_seeds for t in (True, False)
    ]
    backbones, runs = stages(s, [how | way for way in ways], folder)
    yield backbones
    function = partial(random_gates_run, folder=str(folder), files=s.files())
    yield Stage(function, runs.runs, "random_gates")


def random_gates_run(
    *,
    gate_seed: int,
    two_step: bool,
    target: float,
    alpha: float,
    lr: float,
    skips: float,
    **common: Any,
) -> Row:
    """Draw gates until they skip enough; train in one step or two, score on test."""
    at = start_of(None, **common)
    for draw in range(DRAWS):
        probe, _ = fresh_network(at, gate_seed, draw)  # its statistics move: not kept
        batch = at.pictures.train_images[:PROBED]
        _, cache = probe.forward(batch, Run(training=True, backend=fast))
        begun = float(np.mean(cache.p.argmax(-1) == 0))
        if begun > skips:
            break
    else:
        raise ValueError(f"none of {DRAWS} gates skips more than {skips} of the blocks")
    network, rng = fresh_network(at, gate_seed, draw)
    how = at.how._replace(joint_lr=lr)
    own: Any = {"rng": rng, "backend": fast}
    p = None
    if two_step:
        p = dfs.gate_start(network, at.pictures, how, **own).history[-1].p_last
    dfs.joint(network, at.pictures, how, target=target, alpha=alpha, **own)
    return result(network, at.pictures) | {"skips_at_start": begun, "p": p}


def fresh_network(at: Start, gate_seed: int, draw: int) -> tuple[Any, Any]:
    """Give the backbone other gates; return it and the generator that drew them."""
    rng = np.random.default_rng([gate_seed, 7, draw])
    return from_backbone(dfs.routed_resnet(**at.size, rng=rng), at), rng


def random_gates_rows(_: RandomGates, __: Outcomes, runs: Outcomes) -> list[Row]:
    """Return a row for every run, two steps before one."""
    names = ("accuracy", "cp", "skips_at_start", "p")
    rows = [
        {"steps": 2 if o.run["two_step"] else 1}
        | {name: o.run[name] for name in ("seed", "gate_seed")}
        | {name: o.result[name] for name in names}
        for o in runs
    ]
    return sorted(rows, key=lambda row: -row["steps"])


def random_gates_lines(_: RandomGates, rows: list[Row]) -> Iterator[str]:
    """Yield the runs, and what two steps gain, paired over the gates."""
    yield from table(rows)
    two, one = (
        np.array(
            [[100 * r["accuracy"], 100 * r["cp"]] for r in rows if r["steps"] == n]
        )
        for n in (2, 1)
    )
    gain = two - one
    mean, low, high = paired_interval(gain[:, 0].tolist())
    yield f"two steps less one: {mean:.2f} points, {low:.2f} to {high:.2f}"
    ahead = f"{np.sum(gain[:, 0] > 1)} of {len(gain)}"
    yield f"ahead by over a point: {ahead}; cp apart {np.abs(gain[:, 1]).max():.2f}"


STUDIES = (
    Study(
        name="dfs_two_steps",
        shows="do two steps beat gates that start at random and skip over half? (DFS, "
        "section 3)",
        takes=("1 h", "2 min"),
        settings=RandomGates,
        quick=QUICK | {"depth": 8, "gate_seeds": (0,), "skips": 0.25},
        stages=random_gates_stages,
        rows=random_gates_rows,
        lines=random_gates_lines,
        folder="dfs",
    ),
)
