"""The study of DFS's decisions, layer by layer, as the computation percentage grows.

DFS, arXiv:2001.00705, figures 8 to 10 and 12 to 15: the share of the images for which
each gated block is skipped, run at 8 or 16 bits, or kept, in our runs (those of the
trade-off) and in the bars that the supplement prints for ResNet-74 on CIFAR-10.
Figures 16 to 18: the bits that HAQ chose on the same backbone beside those printed for
ResNet-38. Targets below 1/16, which need skips, have steps eight times as large.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from refqnn import plots
from refqnn._types import Float
from refqnn.networks.resnets import blocks_of
from refqnn.papers.dfs import OPTIONS, computation_percentage
from refqnn.papers.dfs.printed import option_name, printed_decisions
from refqnn.papers.dfs.study import LARGE, QUICK
from refqnn.papers.dfs.systems import Lengths, stages
from refqnn.papers.haq import printed_bits
from refqnn.studies.study import Stage, Study, check_settings, table
from refqnn.studies.sweep import Outcomes, Row

#: targets of the figure, where they were run, and the paper's beside them: the first
#: two are pairs
DRAWN, PRINTED = (0.2, 0.4, 0.0625, 0.04), (20, 40, 30, 50)
#: an option of a smaller share counts as not used
USED = 0.02


@dataclass(frozen=True)
class Decisions(Lengths):
    """Targets of DFS; sizes of HAQ's weights as shares of 32 bits; one seed."""

    targets: tuple[float, ...] = (0.04, 0.05, 0.0625, 0.1, 0.2, 0.4, 0.6, 0.8)
    ratios: tuple[float, ...] = (0.2, 0.3, 0.5)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_settings(self, targets=0)
        if len(self.seeds) != 1:
            raise ValueError(f"seeds must be one, got {self.seeds}")
        percents = [figure.percent for figure in printed_bits()]
        for ratio in self.ratios:
            if round(100 * ratio) not in percents:
                raise ValueError(f"ratios must be of {percents} per cent, got {ratio}")


def decisions_stages(s: Decisions, folder: Path) -> Iterator[Stage]:
    """Yield DFS's runs to every target and HAQ's of every ratio."""
    kinds: list[Row] = [
        {"system": "dfs", "target": t} | ({"alpha": LARGE} if t < 1 / 16 else {})
        for t in s.targets
    ]
    kinds += [{"system": "haq", "ratio": r} for r in s.ratios]
    return stages(s, kinds, folder)


def shares_of(runs: Outcomes) -> dict[float, Float]:
    """Return {target: shares (L, n)} of DFS's runs."""
    ours = [o for o in runs if o.run["system"] == "dfs"]
    return {o.run["target"]: np.array(o.result["shares"]) for o in ours}


def neighbours(shares: Float) -> float:
    """Return the share of the blocks whose used options lie side by side.

    shares: (L, n)

    >>> neighbours(np.array([[0.5, 0.5, 0.0, 0.0], [0.5, 0.0, 0.0, 0.5]]))
    0.5
    """
    used = [np.flatnonzero(row > USED) for row in shares]
    return float(np.mean([np.ptp(u) == len(u) - 1 for u in used]))


def grows(keep: Float) -> float:
    """Return the share of the blocks whose keep share falls from no target to the next.

    keep: (targets in order, L)

    >>> grows(np.array([[0.0, 0.5], [0.4, 0.2], [0.4, 0.6]]))
    0.5
    """
    return float(np.mean((np.diff(keep, axis=0) > -USED).all(axis=0)))


def decisions_rows(s: Decisions, __: Outcomes, runs: Outcomes) -> Row:
    """Return the paper's claims about decisions as numbers, most of them by target."""
    ours = shares_of(runs)
    targets = sorted(ours)
    keep = np.array([ours[t][:, -1] for t in targets])
    paired = [np.repeat(targets, keep.shape[1]), keep.ravel()]
    moved = len(targets) > 1 and np.ptp(keep) > 0
    per_group = blocks_of(s.depth)
    first = [per_group - 1, 2 * per_group - 1]  # blocks that open groups 2 and 3
    return {
        "targets": targets,
        "neighbours": {t: neighbours(ours[t]) for t in targets},
        "skips": {t: float(ours[t][:, 0].mean()) for t in targets},
        "skips_first_of_groups_2_and_3": {
            t: ours[t][first, 0].round(3).tolist() for t in targets
        },
        "cp": {t: computation_percentage(ours[t][None], OPTIONS) for t in targets},
        "rank_correlation_keep_and_target": (
            float(spearmanr(*paired).statistic) if moved else float("nan")
        ),
        "keep_grows": grows(keep),
    }


def decisions_lines(_: Decisions, rows: Row) -> list[str]:
    """Return a line for each target, and the claims about all of them."""
    by_target = {key: v for key, v in rows.items() if isinstance(v, dict)}
    whole = {key: v for key, v in rows.items() if isinstance(v, float)}
    each = [
        {"target": t} | {key: values[t] for key, values in by_target.items()}
        for t in rows["targets"]
    ]
    return table(each) + table([whole])


def short_name(name: str) -> str:
    """Return the name of a layer as the figure shows it, blocks from 1.

    >>> short_name("blocks.2.conv1"), short_name("classifier")
    ('3.1', 'fc')
    """
    if not name.startswith("blocks"):
        return {"classifier": "fc"}.get(name, name)
    _, block, conv = name.split(".")
    return f"{int(block) + 1}.{conv.removeprefix('conv')}"


def haq_panels(runs: Outcomes) -> list[plots.LayerBits]:
    """Return figures 16 to 18: ours, and the paper's bars, in turn."""
    panels = []
    figures = {figure.percent: figure for figure in printed_bits()}
    for run, result, _ in (o for o in runs if o.run["system"] == "haq"):
        printed = figures[round(100 * run["ratio"])]
        panels += [
            plots.LayerBits(
                f"Ours: HAQ on ResNet-14, {100 * run['ratio']:g} % of the size",
                f"{100 * result['ratio']:.1f} % of 32 bits; "
                f"cp of DFS {100 * result['cp']:.1f} %",
                [short_name(name) for name in result["layers"]],
                {"HAQ": result["bits"]},
            ),
            plots.LayerBits(
                f"The paper's figure {printed.figure}: ResNet-38, {printed.percent} %",
                f"digitised, {100 * printed.ratio():.1f} % of 32 bits; dashed: a bar "
                "that the axis hides, at most so high",
                [str(n) if n % 2 == 0 else "" for n in printed.layers.tolist()],
                {"HAQ": printed.bits.tolist()},
                np.flatnonzero(printed.hidden).tolist(),
            ),
        ]
    return panels


def decisions_figures(s: Decisions, _: Outcomes, runs: Outcomes) -> Row:
    """Draw our decisions above the printed ones, and the bits of HAQ."""
    ours = shares_of(runs)
    targets = [t for t in DRAWN if t in s.targets] or s.targets[:4]
    panels = [
        (f"ours, ResNet-{s.depth}, target {100 * t:g} %", ours[t]) for t in targets
    ]
    panels += [
        (f"paper, ResNet-74, {percent} % (digitised)", printed_decisions(percent))
        for percent in PRINTED
    ]
    names = [option_name(bits) for bits in OPTIONS]
    figures = {"": plots.decisions(panels, names)}
    if s.ratios:
        figures["_haq_bits"] = plots.bit_allocations(haq_panels(runs))
    return figures


STUDIES = (
    Study(
        name="dfs_decisions",
        shows="which blocks are skipped, run in few bits or kept, beside the printed "
        "bars (DFS, figures 8 to 10 and 12 to 18)",
        takes=("25 min", "1 min"),
        settings=Decisions,
        quick=QUICK,
        stages=decisions_stages,
        rows=decisions_rows,
        lines=decisions_lines,
        figures=decisions_figures,
        folder="dfs",
    ),
)
