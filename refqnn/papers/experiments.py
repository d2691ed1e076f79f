"""The experiments that would decide claims, each by one command and with its rule.

An experiment is a study with settings of its own: ``refqnn study dfs_above_base``. Its
rule, what it ``shows``, was written before it was run. A run is recorded as it ends, so
that an experiment goes on where it was cut off; ``takes`` is its time on two cores,
scaled from shorter runs. What says FOLDER wants ``--data FOLDER``,
the files of Fashion-MNIST: the 1 000 test images that come along decide nothing.

"by t" in a rule: the paired 95 % interval over the seeds lies above 0 (it holds) or
below (it does not, in this regime); else it is undecided.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from refqnn.networks.resnets import blocks_of
from refqnn.papers.dfs.study import tradeoff_rows
from refqnn.studies.study import Study, paired_interval, study_named
from refqnn.studies.sweep import Outcomes, Row

Lines = Callable[[Any, Any], Iterator[str]]
FIVE, TEN = tuple(range(5)), tuple(range(10))
#: of the trade-off, what no experiment asks for unless it says so
ALONE: Row = {"targets": (), "skipping": (), "one_step": (), "control": ()}
ALONE |= {"static_bits": (), "rewards": (), "ratios": ()}
BASE, TRAINED_BASE = "base, before", "base, 32 bits"


def gain(name: str, ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Write a paired difference in points, with its 95 % interval and the seeds.

    >>> gain("a less b", [81.0, 84.0], [80.0, 82.0])
    'a less b: 1.50 points, -4.85 to 7.85, n = 2'
    """
    mean, low, high = paired_interval(np.subtract(ours, theirs).tolist())
    return f"{name}: {mean:.2f} points, {low:.2f} to {high:.2f}, n = {len(ours)}"


def experiment(
    name: str,
    base: str,
    rule: str,
    hours: str,
    *,
    more: Lines | None = None,
    **given: Any,
) -> Study:
    """Make a study of another's runs; ``more`` lines follow those that it has.

    ``quick`` is the other's with one seed, but for lists that the experiment sets.
    """
    study = study_named(base)
    lists = {key for key, value in given.items() if isinstance(value, tuple)}
    quick = {k: v for k, v in study.quick.items() if k not in lists}
    lines: Any = study.lines
    if more is not None:

        def lines(s: Any, rows: Any) -> Iterator[str]:
            yield from study.lines(s, rows)
            yield from more(s, rows)

    return replace(
        study,
        name=name,
        shows=rule,
        takes=(hours, study.takes[1]),
        given=given,
        quick=quick | {"seeds": (0,)},
        lines=lines,
        folder=study.folder or base,
    )


# DFS


def base_rows(s: Any, starts: Outcomes, runs: Outcomes) -> Row:
    """Return the rows of the trade-off, and the bases that all systems start from."""
    bases = [o.result | {"seed": o.run["seed"], "cp": 1.0} for o in starts]
    return {BASE: bases} | tradeoff_rows(s, starts, runs)


def accuracies(rows: Mapping[str, Sequence[Row]], name: str) -> list[float]:
    """Return the accuracies of a run in per cent, one a seed."""
    return [100 * row["accuracy"] for row in rows[name]]


def over_base(s: Any, rows: Any) -> Iterator[str]:
    """Yield what DFS gains over both bases."""
    for target in s.targets:
        name = f"DFS, target {100 * target:g} %"
        for base in (BASE, TRAINED_BASE):
            both = accuracies(rows, name), accuracies(rows, base)
            yield gain(f"{name} less {base}", *both)


def low_cp(_: Any, rows: Any) -> Iterator[str]:
    """Yield what accuracy gains from 4 to 6.25 %."""
    names = ("DFS, target 6.25 %", "DFS, target 4 %, steps x 8")
    yield gain(" less ".join(names), *(accuracies(rows, name) for name in names))


def first_blocks(s: Any, rows: Any) -> Iterator[str]:
    """Yield how often the first blocks of groups 2 and 3 are skipped least of them."""
    n, least = blocks_of(s.depth), []
    for target in s.skipping:
        for row in rows[f"DFS, target {100 * target:g} %, steps x 8"]:
            skips = np.array(row["shares"])[:, 0]  # of the blocks but the very first
            groups = [skips[n - 1 : 2 * n - 1], skips[2 * n - 1 :]]
            least.append(all(group[0] <= group.min() for group in groups))
    yield f"first blocks skipped least of their groups: {sum(least)} of {len(least)}"


def fluctuation(_: Any, rows: Any) -> Iterator[str]:
    """Yield how many points more the cp deviates where steps are eight times as large.

    Deviations are those of ``controller_rows``, in points of cp.
    """
    usual, large = (
        [100 * row["deviation"] for row in rows if row["run"] == name]
        for name in ("target 20 %", "target 20 %, steps x 8")
    )
    yield gain("deviation of cp, steps x 8 less usual steps", large, usual)


# the others


def agent_gains(_: Any, rows: Any) -> Iterator[str]:
    """Yield the points on test images that HAQ's agent gains over both searches."""
    seeds = rows["seeds"].values()
    for other in ("random", "greedy"):
        both = ([seed[k]["test_accuracy"] for seed in seeds] for k in ("DDPG", other))
        yield gain(f"DDPG less {other}", *both)


def curve_gains(_: Any, rows: Any) -> Iterator[str]:
    """Yield at every size what 4 bits gain over 1 bit; a family may stand twice."""
    for name, points in rows.items():
        for high, _low, one in zip(
            points[::3], points[1::3], points[2::3], strict=True
        ):
            own = f"{name}, {high['c_size_bits']} bits, 4 bits less 1"
            yield gain(own, high["accuracies"], one["accuracies"])


def fan_in_odds(_: Any, rows: Any) -> Iterator[str]:
    """Yield what one bit costs in log-odds, channels less kernel, and difficulties."""
    table = rows["table2"]
    for name, row in table.items():
        level = float(np.mean(row["high"]))
        said = "fit" if 55 <= level <= 65 else "too easy or too hard: decides nothing"
        yield f"{name}: 4 bits {level:.1f} %, {said}"
    for more, fewer in (("4 x 3 x 3", "1 x 6 x 6"), ("16 x 3 x 3", "1 x 12 x 12")):
        if {more, fewer} <= {*table}:
            both = (table[k]["quantized_log_odds"] for k in (more, fewer))
            yield gain(f"log-odds, {more} less {fewer}", *both).replace(" points", "")


def predictor_gains(_: Any, rows: Any) -> Iterator[str]:
    """Yield the points of mean accuracy that predicted scales gain over shared ones."""
    means: dict[str, list[float]] = {}
    for row in rows:
        if "mean" in row:
            means.setdefault(row["scales"], []).append(100 * row["mean"])
    yield gain("predicted less shared", means["predicted"], means["shared"])


STUDIES = (
    replace(
        experiment(
            "dfs_above_base",
            "dfs_tradeoff",
            "DFS at 20, 40, 60 % above its base, and above one trained as long: by t, "
            "10 seeds; 0.2 points are out of reach (FOLDER)",
            "1 h",
            more=over_base,
            **ALONE | {"targets": (0.2, 0.4, 0.6), "seeds": TEN},
        ),
        rows=base_rows,
    ),
    experiment(
        "dfs_first_blocks",
        "dfs_tradeoff",
        "the first block is skipped least of its group, ResNet-38, 4 and 5 %, large "
        "steps: in 5 of 6",
        "1 h",
        more=first_blocks,
        **ALONE | {"skipping": (0.04, 0.05), "depth": 38, "seeds": (0, 1, 2)},
    ),
    experiment(
        "dfs_few_bits",
        "dfs_adaptivity",
        "DFS where bits matter, options 0, 2, 4, 32: the rule of dfs_adaptivity; where "
        "statistics=own is ahead by t, batch norm was at fault (FOLDER)",
        "40 min",
        options=(0, 2, 4, 32),
        targets=(0.006, 0.01, 0.015),
        seeds=FIVE,
    ),
    experiment(
        "dfs_few_bits_static",
        "dfs_tradeoff",
        "static networks of 2, 3 and 4 bits beside dfs_few_bits: DFS is at fault where "
        "it is below them, at their cp, by t (FOLDER)",
        "30 min",
        **ALONE | {"static_bits": (2, 3, 4), "seeds": FIVE},
    ),
    experiment(
        "dfs_large_steps",
        "dfs_controller",
        "large steps make cp fluctuate: its deviation at 20 %, steps x 8 less usual "
        "ones, by t, 5 seeds",
        "30 min",
        more=fluctuation,
        targets=(0.2,),
        seeds=FIVE,
    ),
    experiment(
        "dfs_low_cp",
        "dfs_tradeoff",
        "accuracy rises from 4 to 6.25 %: by t, 10 seeds (FOLDER)",
        "1 h",
        more=low_cp,
        **ALONE | {"skipping": (0.04,), "targets": (0.0625,), "seeds": TEN},
    ),
    experiment(
        "haq_learns",
        "haq_allocation",
        "HAQ's agent ahead of random and greedy search on test images, by over a "
        "point, in 5 of 5",
        "3 h",
        more=agent_gains,
        ratio=0.1,
        lowest=2,
        highest=8,
        episodes=300,
        steps=0,
        depth=38,
        images=2000,
        held_out=2000,
        seeds=FIVE,
    ),
    experiment(
        "pareto_inverted",
        "pareto_curves",
        "4 bits, 1 bit, 1 bit with depth-wise 4: 4 bits above 1 bit by t; float less "
        "8-bit activations must be below a point (FOLDER of images=)",
        "4 h",
        more=curve_gains,
        families=("inv_resnet26", "inv_resnet26_dw4", "mobilenetv2", "mobilenetv2_dw4"),
        widths=(0.5,),
        activation_bits=8,
        epochs=1,
        train=60_000,
        seeds=FIVE,
    ),
    experiment(
        "pareto_fan_in",
        "pareto_sensitivity",
        "fan-in and channels against kernel in log-odds: by t, where every kind has 55 "
        "to 65 % at 4 bits (tune shifts=)",
        "1 h",
        more=fan_in_odds,
        images="textures",
        tables=("table2",),
        # tuned on seeds 1000 and 1001: 61.9, 60.0, 63.8, 57.5 and 58.2 % at 4 bits
        shifts=(4, 7, 5, 9, 7),
        seeds=tuple(range(8)),
    ),
    experiment(
        "pareto_dual_fixed",
        "pareto_dual_precision",
        "DualPrecision over Flexible, and over 8 bits, at one small size, ends fixed: "
        "by t, 8 seeds; the paper has 1.1 and 4.3 (FOLDER of images=)",
        "1 h",
        families=("separable",),
        widths=(0.5,),
        seeds=tuple(range(8)),
    ),
    experiment(
        "pareto_memory",
        "pareto_dual_precision",
        "DualPrecision over 8 bits at equal memory (figure 6): by t at every size "
        "(FOLDER of images=)",
        "4 h",
        align_by="memory",
        seeds=FIVE,
    ),
    experiment(
        "pareto_vgg11",
        "pareto_curves",
        "VGG11's largest size, 2 800 steps: the lead of 4 bits over 1 shrinks from "
        "epochs=1 and 3 to 9, in 3 of 3 (FOLDER of images=)",
        "2 h",
        more=curve_gains,
        families=("vgg11",),
        widths=(0.25,),
        epochs=9,
        seeds=(0, 1, 2),
    ),
    experiment(
        "qil_best",
        "qil_table",
        "QIL, from 5 bits down, loses least of five methods in 16 epochs at 2/2 and "
        "3/3: by t over each (FOLDER)",
        "2 h",
        methods=("qil", "lq", "pact", "dorefa", "lsq"),
        bits=(3, 2),
        epochs=16,
        seeds=FIVE,
    ),
    experiment(
        "qil_fully_connected",
        "qil_pruning",
        "fully connected layers prune more than convolutions, He normal, the start "
        "forgotten: one sign in all seeds, over five standard errors",
        "20 min",
        networks=("alexnet",),
        decay=0.02,
        epochs=9,
        seeds=FIVE,
    ),
    experiment(
        "quantnas_predictor",
        "quantnas_front",
        "predicted scales above shared ones in the large space, mean accuracy of 12 "
        "subnets: by t, where log s* deviates by 0.25 or more (FOLDER of images=)",
        "10 h",
        more=predictor_gains,
        space="large",
        subnets=12,
        seeds=TEN,
    ),
)
