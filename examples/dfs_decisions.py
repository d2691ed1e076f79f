"""What DFS decides, layer by layer, as the computation percentage grows.

Figures 8 to 10 and 12 to 15 of DFS (arXiv:2001.00705): the share of the images for
which each gated block is skipped, run at 8 or 16 bits, or kept. First our runs, those
of dfs_tradeoff.py, then the bars that the paper's supplement prints for ResNet-74 on
CIFAR-10, digitised. A second figure shows the bits that HAQ chose on the same backbone
beside those that the supplement prints for ResNet-38, figures 16 to 18. Prints which
blocks use options that are not neighbours, the rank correlation of a block's keep share
with the target, and what the first blocks of the groups do. Targets below 1/16, which
need skips, have steps eight times as large.

    python examples/dfs_decisions.py [--targets 0.04 0.0625 0.2 0.4] [--seed 0] [--json]
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from refqnn import plots
from refqnn.papers.dfs import OPTIONS, check_target, computation_percentage
from refqnn.papers.dfs.printed import option_name, printed_decisions
from refqnn.papers.haq import printed_bits
from refqnn.papers.tradeoff import check_runs, outcomes
from refqnn.studies.sweep import Outcome

TARGETS = (0.04, 0.05, 0.0625, 0.1, 0.2, 0.4, 0.6, 0.8)
DRAWN = (0.04, 0.0625, 0.2, 0.4)
#: sizes of HAQ's weights in figures 16 to 18, as shares of 32 bits
RATIOS = (0.2, 0.3, 0.5)
PRINTED = (20, 30, 40, 50)
#: a share below this is no use of an option
USED = 0.02


def recorded(
    kinds: Sequence[dict[str, Any]], options: argparse.Namespace
) -> list[Outcome]:
    """Return what runs of the seed gave, run where not recorded yet."""
    common = {
        "seed": options.seed,
        "images": options.images,
        "steps": options.steps,
    }
    runs = [kind | common for kind in kinds]
    return outcomes(runs, folder=options.runs, name="tradeoff", jobs=options.jobs)


def decisions(options: argparse.Namespace) -> dict[float, Any]:
    """Return {target: shares (L, n)}."""
    kinds = [
        {"system": "dfs", "target": t} | ({"alpha": 8.0} if t < 1 / 16 else {})
        for t in options.targets
    ]
    found = recorded(kinds, options)
    return {o.run["target"]: np.array(o.result["shares"]) for o in found}


def bits_of_haq(found: Sequence[Outcome]) -> list[plots.LayerBits]:
    """Return figures 16 to 18: ours, and the paper's bars, in turn."""
    panels = []
    figures = {figure.percent: figure for figure in printed_bits()}
    for run, result, _ in found:
        printed = figures[round(100 * run["ratio"])]
        names = [short_name(name) for name in result["layers"]]
        panels += [
            plots.LayerBits(
                f"Ours: HAQ on ResNet-14, {100 * run['ratio']:g} % of the size",
                f"{100 * result['ratio']:.1f} % of 32 bits; "
                f"cp of DFS {100 * result['cp']:.1f} %",
                names,
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


def short_name(name: str) -> str:
    """Return the name of a layer as the figure shows it, blocks from 1.

    >>> short_name("blocks.2.conv1"), short_name("classifier")
    ('3.1', 'fc')
    """
    if not name.startswith("blocks"):
        return {"classifier": "fc"}.get(name, name)
    _, block, conv = name.split(".")
    return f"{int(block) + 1}.{conv.removeprefix('conv')}"


def neighbours(shares: Any) -> float:
    """Return the share of the blocks whose used options lie side by side.

    >>> neighbours(np.array([[0.5, 0.5, 0.0, 0.0], [0.5, 0.0, 0.0, 0.5]]))
    0.5
    """
    used = [np.flatnonzero(row > USED) for row in shares]
    return float(np.mean([np.ptp(u) == len(u) - 1 for u in used]))


def grows(keep: Any) -> float:
    """Return the share of the blocks whose keep share falls from no target to the next.

    keep: (targets in order, L)

    >>> grows(np.array([[0.0, 0.5], [0.4, 0.2], [0.4, 0.6]]))
    0.5
    """
    return float(np.mean((np.diff(keep, axis=0) > -USED).all(axis=0)))


def findings(ours: dict[float, Any], depth: int = 14) -> dict[str, Any]:
    """Return what the paper claims about decisions, as numbers."""
    targets = sorted(ours)
    keep = np.array([ours[t][:, -1] for t in targets])
    paired = [np.repeat(targets, keep.shape[1]), keep.ravel()]
    moved = len(targets) > 1 and np.ptp(keep) > 0
    rank = float(spearmanr(*paired).statistic) if moved else float("nan")
    per_group = (depth - 2) // 6
    first = [per_group - 1, 2 * per_group - 1]  # blocks that open groups 2 and 3
    return {
        "targets": targets,
        "neighbours": {t: neighbours(ours[t]) for t in targets},
        "skips": {t: float(ours[t][:, 0].mean()) for t in targets},
        "skips_first_of_groups_2_and_3": {
            t: ours[t][first, 0].round(3).tolist() for t in targets
        },
        "cp": {t: computation_percentage(ours[t][None], OPTIONS) for t in targets},
        "rank_correlation_keep_and_target": rank,
        "keep_grows": grows(keep),
    }


def lines(found: dict[str, Any]) -> list[str]:
    """Return the findings, a line for each target."""
    text = ["target    cp on test   skipped   neighbours   first blocks skipped"]
    for t in found["targets"]:
        first = ", ".join(f"{s:.2f}" for s in found["skips_first_of_groups_2_and_3"][t])
        text.append(
            f"{100 * t:5.2f} % {100 * found['cp'][t]:9.2f} %"
            f"{100 * found['skips'][t]:9.1f} %{100 * found['neighbours'][t]:10.0f} %"
            f"      {first}"
        )
    rank = found["rank_correlation_keep_and_target"]
    share = 100 * found["keep_grows"]
    text += [f"rank correlation of keep share and target: {rank:.2f}"]
    return [*text, f"blocks whose keep share never falls: {share:.0f} %"]


def check(options: argparse.Namespace) -> None:
    """Raise unless the runs can begin and end."""
    check_runs(
        [options.seed], images=options.images, steps=options.steps, jobs=options.jobs
    )
    for target in options.targets:
        check_target(target, OPTIONS)


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Draw our decisions and the printed ones, print what they show."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--targets", type=float, nargs="+", default=[*TARGETS])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="processes, a thread each")
    parser.add_argument("--images", type=int, default=4000, help="to train on")
    parser.add_argument("--steps", type=int, help="of every training")
    parser.add_argument("--quick", action="store_true", help="512 images, 120 steps")
    parser.add_argument("--runs", type=Path, default=Path("runs/dfs"))
    parser.add_argument("--figure", type=Path, default=Path("dfs_decisions.png"))
    parser.add_argument("--bits", type=Path, default=Path("dfs_haq_bits.png"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    if options.quick:
        options.images, options.steps = 512, 120
    try:
        check(options)
        ours = decisions(options)
        policies = recorded([{"system": "haq", "ratio": r} for r in RATIOS], options)
    except (RuntimeError, ValueError) as error:
        parser.error(str(error))
    found = findings(ours)
    drawn = [t for t in options.targets if t in DRAWN] or options.targets[:4]
    panels = [(f"ours, ResNet-14, target {100 * t:g} %", ours[t]) for t in drawn]
    panels += [
        (f"paper, ResNet-74, {percent} % (digitised)", printed_decisions(percent))
        for percent in PRINTED
    ]
    names = [option_name(bits) for bits in OPTIONS]
    plots.save(plots.decisions(panels, names), options.figure)
    plots.save(plots.bit_allocations(bits_of_haq(policies)), options.bits)
    written = json.dumps(found)
    options.figure.with_suffix(".json").write_text(written + "\n", encoding="utf-8")
    print(written if options.json else "\n".join(lines(found)))
    return found


if __name__ == "__main__":
    main()
