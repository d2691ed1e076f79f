"""The study of SkipNet's gates and rewards, arXiv:1711.09485, with the systems of DFS.

Both percentages stand beside each other: SkipNet's own, which counts the first block,
and that of DFS, which does not.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scipy.stats import spearmanr

from refqnn import plots
from refqnn.papers.dfs import check_price
from refqnn.papers.dfs.study import QUICK, REWARDS, skipnet_kinds
from refqnn.papers.dfs.systems import Lengths, stages
from refqnn.papers.skipnet import GATES
from refqnn.studies.study import Stage, Study, check_settings, table
from refqnn.studies.sweep import Outcomes, Row


@dataclass(frozen=True)
class Gates(Lengths):
    """Gates of SkipNet and rewards of its hybrid training."""

    gates: tuple[str, ...] = ("RNNGate",)
    rewards: tuple[float, ...] = REWARDS
    hybrid_steps: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_settings(self, hybrid_steps=1)
        for gate in self.gates:
            if gate not in GATES:
                raise ValueError(f"gates must be of {', '.join(GATES)}, got {gate!r}")
        for reward in self.rewards:
            check_price(reward, "constant")


def skipnet_stages(s: Gates, folder: Path) -> Iterator[Stage]:
    """Yield every gate, supervised and with every reward; RNNGate has no name."""
    gates = [{} if g == "RNNGate" else {"gate": g} for g in s.gates]
    kinds = [kind for gate in gates for kind in skipnet_kinds(s, **gate)]
    return stages(s, kinds, folder)


def skipnet_rows(s: Gates, __: Outcomes, runs: Outcomes) -> list[Row]:
    """Return gate, reward, seed, accuracy and both percentages of every run."""
    rows = [
        {"gate": run.get("gate", "RNNGate"), "alpha": run["alpha"], "seed": run["seed"]}
        | {key: result[key] for key in ("accuracy", "cp", "cp_skipnet")}
        for run, result, _ in runs
    ]
    order = [(gate, alpha) for gate in s.gates for alpha in (None, *s.rewards)]
    return sorted(rows, key=lambda row: order.index((row["gate"], row["alpha"])))


def correlation(rows: list[Row], gate: str) -> float:
    """Return the rank correlation of alpha and cp over the hybrid runs of a gate."""
    pairs = [
        (row["alpha"], row["cp"])
        for row in rows
        if row["gate"] == gate and row["alpha"] is not None
    ]
    alphas, cps = ({pair[i] for pair in pairs} for i in (0, 1))
    if min(len(alphas), len(cps)) < 2:
        return float("nan")  # nothing moved
    return float(spearmanr(*zip(*pairs, strict=True)).statistic)


def skipnet_lines(s: Gates, rows: list[Row]) -> Iterator[str]:
    """Yield the table of the runs, and the rank correlations."""
    yield from table(rows)
    for gate in s.gates:
        yield f"{gate}: rank correlation of alpha and cp {correlation(rows, gate):.2f}"


def skipnet_figure(s: Gates, starts: Outcomes, runs: Outcomes) -> Row:
    """Draw accuracy against the cp of DFS; rings are SkipNet's own percentage."""
    rows = skipnet_rows(s, starts, runs)
    of_dfs, own = (
        {g: [(r[key], r["accuracy"]) for r in rows if r["gate"] == g] for g in s.gates}
        for key in ("cp", "cp_skipnet")
    )
    best = max(row["accuracy"] for row in rows)
    name = "the most accurate"
    return {"": plots.tradeoff(of_dfs, best, base_name=name, own=own)}


STUDIES = (
    Study(
        name="skipnet",
        shows="does the reward of hybrid training control how much is computed? "
        "(SkipNet)",
        takes=("10 min", "1 min"),
        settings=Gates,
        quick=QUICK,
        stages=skipnet_stages,
        rows=skipnet_rows,
        lines=skipnet_lines,
        figures=skipnet_figure,
        folder="dfs",
    ),
)
