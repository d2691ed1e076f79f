"""The studies of DFS: accuracy against cp, and what steers the cp.

DFS, arXiv:2001.00705, figures 3 to 7 and 11, tables 1 and 2.
ResNet-14 at a quarter of its width on the embedded Fashion-MNIST subset, halved to
14 x 14. All systems of a seed start from one backbone and stand on one axis: the cp of
DFS, which counts gated blocks, bits of weights times bits of inputs. HAQ leaves inputs
at 32 bits, so b bits cost b / 32 there and (b / 32)^2 in DFS.

What the finer options gain is DFS less its own machinery with SkipNet's two ("skip or
keep", options 0 and 32), at one target and seed: SkipNet is also trained otherwise.
Rule: it holds where the paired 95 % interval over at least five seeds lies above 0.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from refqnn import plots
from refqnn.papers.dfs import least_skip_share
from refqnn.papers.dfs.printed import printed_table
from refqnn.papers.dfs.systems import Machinery, stages
from refqnn.papers.scalable import BITS
from refqnn.studies.study import Stage, Study, check_settings, table
from refqnn.studies.sweep import Outcomes, Row

QUICK = {"images": 512, "steps": 120}
#: alpha of the scale-free loss where steps are large; it is 1 where nothing is said
LARGE = 8.0
CONTROL = [0, 32]
#: (cp, accuracy) of every run of a system
Points = dict[str, list[tuple[float, float]]]
REWARDS = (0.0, 2.0, 3.0, 3.5, 4.0, 8.0)


# Accuracy against cp


@dataclass(frozen=True)
class Tradeoff(Machinery):
    """Targets, bits, rewards and sizes of the systems that are compared."""

    targets: tuple[float, ...] = (0.0625, 0.1, 0.2, 0.4, 0.6, 0.8)
    #: targets that need skips, with usual steps and with eight times as large ones
    skipping: tuple[float, ...] = (0.04, 0.05)
    #: targets that are also trained from random gates, in one step
    one_step: tuple[float, ...] = (0.0625, 0.2)
    #: targets of the same machinery with the options (0, 32): what SkipNet chooses from
    control: tuple[float, ...] = (0.2, 0.4, 0.6)
    static_bits: tuple[int, ...] = BITS
    #: of SkipNet's hybrid training
    rewards: tuple[float, ...] = REWARDS
    #: its iterations; none: ``HYBRID_STEPS``, few beside the release's 10 000
    hybrid_steps: int | None = None
    #: sizes of HAQ's weights, as shares of 32 bits
    ratios: tuple[float, ...] = (0.1, 0.2, 0.3, 0.5)
    seeds: tuple[int, ...] = (0, 1, 2)


def tradeoff_stages(s: Tradeoff, folder: Path) -> Iterator[Stage]:
    """Yield the runs of every system."""
    kinds: list[Row] = [{"system": "static", "bits": 32}]
    routed: list[Row] = [{"target": t} for t in (*s.skipping, *s.targets)]
    routed += [{"target": t, "alpha": LARGE} for t in s.skipping]
    routed += [{"target": t, "two_step": False} for t in s.one_step]
    kinds += [{"system": "dfs"} | kind | s.changes() for kind in routed]
    control = {"system": "dfs", "options": CONTROL}
    kinds += [control | {"target": t} for t in s.control]
    kinds += [{"system": "static", "bits": b} for b in s.static_bits]
    kinds += skipnet_kinds(s)
    kinds += [{"system": "haq", "ratio": r} for r in s.ratios]
    return stages(s, kinds, folder)


def skipnet_kinds(s: Any, **gate: str) -> list[Row]:
    """List SkipNet's runs: supervised, then hybrid with every reward."""
    own = {} if s.hybrid_steps is None else {"hybrid_steps": s.hybrid_steps}
    kinds: list[Row] = [{"system": "skipnet", "alpha": None} | gate]
    return kinds + [{"system": "skipnet", "alpha": a} | gate | own for a in s.rewards]


NAMES = {
    "dfs": "DFS",
    "skipnet": "SkipNet",
    "static": "static (scalable)",
    "haq": "HAQ (weights only)",
}


def label(run: Row) -> str:
    """Return the name of a run, without its seed.

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
    name += machinery(run)
    steps = "" if run.get("two_step", True) else ", one step"
    steps += f", steps x {run['alpha']:g}" if "alpha" in run else ""
    return f"{name}, target {100 * run['target']:g} %{steps}"


def machinery(run: Row) -> str:
    """Write what a run of DFS does otherwise than the paper's.

    >>> machinery({"options": [0, 32]}), machinery({"options": [0, 2, 32]})
    (', skip or keep', ', options 0 2 32')
    >>> machinery({"statistics": "own", "gate_mode": "soft"})
    ', own statistics, soft'
    """
    options = " ".join(map(str, run.get("options", ())))
    released = ", released" if run.get("released") else ""
    if run.get("options") == CONTROL:
        text = ", skip or keep"
    else:
        text = f", options {options}" if options else ""
    text += f", {run['statistics']} statistics" if "statistics" in run else ""
    return text + (f", {run['gate_mode']}" if "gate_mode" in run else "") + released


def tradeoff_rows(_: Tradeoff, __: Outcomes, runs: Outcomes) -> dict[str, list[Row]]:
    """Return the results of every seed under the name of their run."""
    table: dict[str, list[Row]] = {}
    for run, result, _error in runs:
        table.setdefault(label(run), []).append(result | {"seed": run["seed"]})
    return table


def tradeoff_lines(_: Tradeoff, rows: dict[str, list[Row]]) -> list[str]:
    """Return the table of means over the seeds, in per cent.

    ``own`` is the percentage of SkipNet (the first block counted) or of HAQ (size of
    all weights).
    """

    def percent(runs: list[Row], *keys: str) -> Any:
        return 100 * np.array([run[k] for run in runs for k in keys if k in run])

    means = [
        {
            "run": name,
            "cp": float(percent(runs, "cp").mean()),
            "accuracy": float(percent(runs, "accuracy").mean()),
            "lowest": float(percent(runs, "accuracy").min()),
            "highest": float(percent(runs, "accuracy").max()),
            "own": percent(runs, "cp_skipnet", "ratio").tolist(),
        }
        for name, runs in rows.items()
    ]
    return table(means)


def curves(runs: Outcomes, key: str) -> Points:
    """Return the points (percentage, accuracy) of every system, one-step runs left out.

    ``key`` names the percentage; runs that have none of that name are left out.
    """
    points: Points = {}
    for run, result, _ in runs:
        if run.get("two_step", True) and run.get("bits") != 32 and key in result:
            name = NAMES[run["system"]]
            name += machinery(run)
            points.setdefault(name, []).append((result[key], result["accuracy"]))
    return points


def tradeoff_figure(_: Tradeoff, __: Outcomes, runs: Outcomes) -> Row:
    """Draw accuracy against cp; rings are the systems' own percentages."""
    base = [o.result["accuracy"] for o in runs if o.run.get("bits") == 32]
    own = curves(runs, "ratio") | curves(runs, "cp_skipnet")
    points, accuracy = curves(runs, "cp"), float(np.mean(base))
    figures = {"": plots.tradeoff(points, accuracy, own=own)}
    panels = [(title, note, choose(points)) for title, note, choose in PANELS]
    if shown := [panel for panel in panels if panel[2]]:
        figures["_panels"] = plots.tradeoff_panels(shown, accuracy)
    return figures


def systems(*names: str) -> Callable[[Points], Points]:
    """Return a function that keeps the systems of these names, if there are all."""

    def keep(points: Points) -> Points:
        every = set(names) <= {*points}
        return {name: points[name] for name in names} if every else {}

    return keep


def few(points: Points) -> Points:
    """Keep the runs of DFS at a low cp, as figure 11 does."""
    low = [pair for pair in points.get(NAMES["dfs"], ()) if pair[0] <= LOW]
    return {NAMES["dfs"]: low} if low else {}


#: the largest cp of figure 11: all blocks at 8 bits have 6.25 %
LOW = 0.065
#: title, note and systems of the panels that stand for the paper's figures
PANELS: tuple[tuple[str, str, Callable[[Points], Points]], ...] = (
    ("Figures 3 to 6", "DFS against SkipNet", systems(NAMES["dfs"], NAMES["skipnet"])),
    (
        "Figure 7",
        "DFS, one number of bits, bits by layer",
        systems(NAMES["dfs"], NAMES["static"], NAMES["haq"]),
    ),
    ("Figure 11", "DFS where blocks must be skipped", few),
)


# What steers the cp of DFS


@dataclass(frozen=True)
class Controller(Machinery):
    """Targets of the dynamic sign; those below 1/16 cannot be met without skips."""

    targets: tuple[float, ...] = (0.05, 0.1, 0.2, 0.4, 0.6)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_settings(self, targets=0)


def controller_stages(s: Controller, folder: Path) -> Iterator[Stage]:
    """Yield runs to every target, one of constant sign, and those of large steps."""
    middle = s.targets[len(s.targets) // 2]
    kinds: list[Row] = [{"target": t} for t in s.targets]
    kinds += [{"target": middle, "sign": "constant"}]
    large = (middle, *(t for t in s.targets if t < 1 / 16))
    kinds += [{"target": t, "alpha": LARGE} for t in large]
    own = {"system": "dfs"} | s.changes()
    return stages(s, [own | kind for kind in kinds], folder)


def control_label(run: Row) -> str:
    """Return the name of a run among those of DFS.

    >>> control_label({"system": "dfs", "target": 0.2, "alpha": 8.0})
    'target 20 %, steps x 8'
    """
    if run.get("sign") == "constant":
        return "constant sign"
    return label(run).removeprefix("DFS, ")


def controller_rows(_: Controller, __: Outcomes, runs: Outcomes) -> list[Row]:
    """Return the cp of the last iterations, its deviation before, and the options.

    The deviation is that of the cp from its mean in the second quarter, after the first
    descent and before the learning rate falls.
    """
    rows = []
    for run, result, _error in runs:
        history = np.array(result["history"])
        quarter = max(len(history) // 4, 1)
        row = {
            "run": control_label(run),
            "seed": run["seed"],
            "target": run["target"],
            "cp_end": float(history[-min(250, len(history)) :].mean()),
            "cp_test": result["cp"],
            "deviation": float(history[quarter : 2 * quarter].std()),
            "shares": result["train_shares"],
            "least_skips": least_skip_share(run["target"], result["options"]),
            "accuracy": result["accuracy"],
        }
        rows.append(row)
    return rows


def controller_figure(s: Controller, __: Outcomes, runs: Outcomes) -> Row:
    """Draw the cp over the iterations of the first seed's runs."""
    lines = [
        (control_label(run), run["target"], result["history"])
        for run, result, _ in runs
        if run["seed"] == s.seeds[0]
    ]
    return {"": plots.controller(lines)}


# Tables 1 and 2


@dataclass(frozen=True)
class Tables(Machinery):
    """Steps and targets of both signs.

    The alphas of table 2 are the paper's, 1e-6 to 1e-3 on a sum over samples and
    blocks, as 0.0045 to 4.5 on the mean; table 1 has 1, which moves in 800 iterations.
    """

    targets: tuple[float, ...] = (0.4, 0.5)
    alphas: tuple[float, ...] = (0.0045, 0.045, 0.45, 4.5)


def tables_stages(s: Tables, folder: Path) -> Iterator[Stage]:
    """Yield a run of constant sign, then every alpha towards every target."""
    pairs = dict.fromkeys([(1, 0.4), *((a, t) for a in s.alphas for t in s.targets)])
    kinds: list[Row] = [{"target": 0.4, "sign": "constant"}]
    kinds += [{"target": t} | ({} if a == 1 else {"alpha": a}) for a, t in pairs]
    own = {"system": "dfs"} | s.changes()
    return stages(s, [own | kind for kind in kinds], folder)


def tables_rows(_: Tables, __: Outcomes, runs: Outcomes) -> list[Row]:
    """Return a row for every kind of run, means over the seeds, in per cent."""
    groups: dict[tuple[str, float, float], list[Any]] = {}
    for run, result, _error in runs:
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


def tables_lines(s: Tables, rows: list[Row]) -> Iterator[str]:
    """Yield tables 1 and 2, ours above the paper's."""
    first = [r for r in rows if r["alpha"] == 1 and r["target_percent"] == 40]
    second = [r for r in rows if r["sign"] == "dynamic" and r["alpha"] in s.alphas]
    for number, ours in ((1, first), (2, second)):
        yield f"table {number}; the paper's alpha, of a sum, times 128 * 35 is ours"
        both = {"ours": ours, "the paper's": printed_table(number)}
        keys = ("sign", "alpha", "target_percent", "cp_percent", "accuracy_percent")
        yield from table(
            {"whose": whose} | {key: row[key] for key in keys}
            for whose, every in both.items()
            for row in every
        )


STUDIES = (
    Study(
        name="dfs_tradeoff",
        shows="accuracy against cp: DFS, SkipNet, static networks and HAQ on one axis "
        "(DFS, figures 3 to 7 and 11)",
        takes=("2 h", "2 min"),
        settings=Tradeoff,
        quick=QUICK | {"seeds": (0,), "static_bits": (8, 16), "control": (0.2,)},
        stages=tradeoff_stages,
        rows=tradeoff_rows,
        lines=tradeoff_lines,
        figures=tradeoff_figure,
        folder="dfs",
    ),
    Study(
        name="dfs_controller",
        shows="does the dynamic sign steer the cp to its target? (DFS, section 3)",
        takes=("12 min", "1 min"),
        settings=Controller,
        quick=QUICK,
        stages=controller_stages,
        rows=controller_rows,
        figures=controller_figure,
        folder="dfs",
    ),
    Study(
        name="dfs_tables",
        shows="constant and dynamic sign, steps of all sizes (DFS, tables 1 and 2)",
        takes=("12 min", "1 min"),
        settings=Tables,
        quick=QUICK,
        stages=tables_stages,
        rows=tables_rows,
        lines=tables_lines,
        folder="dfs",
    ),
)
