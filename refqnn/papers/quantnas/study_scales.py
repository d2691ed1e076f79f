r"""Run figure 12, smaller: does the best scale differ from subnet to subnet?

QuantNAS (Gao et al., CVPR 2024 NAS workshop), supplement: the optimal scale of an early
and a late layer in 30 random subnets, trained from scratch. The paper gives neither
seeds nor bits, nor says what optimal is; ours: 4 bits, the step of least square error
on folded weights, LSQ's own step beside it, and the same for subnets of one supernet,
which the claim is about.

Also divided by fan-in: s sqrt(fan-in). Folded weights have a standard deviation near
1 / sqrt(fan-in), so that part of the ratios is there before any training.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import final

import numpy as np

from refqnn import data, plots
from refqnn.papers.quantnas.judge import Judge, image_parts, train_supernet
from refqnn.papers.quantnas.space import LARGE, random_subnet
from refqnn.papers.quantnas.step_errors import largest_over_smallest, weight_steps
from refqnn.studies.study import Stage, Study, check_settings, table
from refqnn.studies.sweep import Outcomes, Row, Rows

#: layers that every subnet has
EARLY, LATE = "stage1_block1.conv2", "stage3_block1.conv2"
#: the supernet trains this many times as long as a subnet
LONGER = 5


@final
@dataclass(frozen=True)
class ScalesSettings:
    """Random subnets, each trained for ``steps`` on the first ``train`` images."""

    subnets: int = 30
    seed: int = 0
    images: str = "embedded"
    train: int = 3000
    steps: int = 200

    def __post_init__(self) -> None:
        check_settings(self, subnets=1, seed=0, train=1, steps=1)


def scales_stages(s: ScalesSettings, _: Path) -> Iterator[Stage]:
    """Yield a run for each subnet from scratch, and one for the supernet."""
    of, folder = data.source(s.images)
    image_parts(of, s.train, folder)
    common = {"seed": s.seed, "images": s.train, "of": of, "subnets": s.subnets}
    alone = [
        {"source": "scratch", "index": i, "steps": s.steps} | common
        for i in range(s.subnets)
    ]
    together = {"source": "supernet", "index": 0, "steps": LONGER * s.steps} | common
    function = partial(scales_run, folder=folder)
    yield Stage(function, [*alone, together], "scales")


def scales_run(
    *,
    source: str,
    seed: int,
    index: int,
    subnets: int,
    steps: int,
    images: int,
    of: str = "embedded",
    folder: str | None = None,
) -> list[Row]:
    """Return steps of subnet ``index`` from scratch, or of all in one supernet."""
    parts = image_parts(of, images, folder)
    if source not in {"scratch", "supernet"}:
        raise ValueError(f"source must be 'scratch' or 'supernet', got {source!r}")
    scratch = source == "scratch"
    numbers = [index] if scratch else range(subnets)
    genotypes = [random_subnet(LARGE, seed, i) for i in numbers]
    net = train_supernet(
        LARGE,
        1000 * seed + index if scratch else seed,
        parts["train"],
        scales="shared",
        steps=steps,
        alone=genotypes[0] if scratch else None,
    )
    judge = Judge(net, parts)
    return [weight_steps(judge, genotype, (EARLY, LATE)) for genotype in genotypes]


def scales_rows(_: ScalesSettings, outcomes: Outcomes) -> list[Row]:
    """Return the ratios of the steps of subnets, for every source and layer."""
    subnets: dict[str, list[Row]] = {"scratch": [], "supernet": []}
    for outcome in outcomes:
        subnets[outcome.run["source"]] += outcome.result
    return [
        ratios(source, name, [subnet[name] for subnet in chosen])
        for source, chosen in subnets.items()
        for name in (EARLY, LATE)
    ]


def ratios(source: str, name: str, layers: list[Row]) -> Row:
    """Return the largest step over the smallest of one layer in several subnets."""
    fan_ins, best, learned = (
        np.array([layer[key] for layer in layers])
        for key in ("fan_in", "best", "learned")
    )
    return {
        "source": source,
        "layer": name,
        "subnets": len(layers),
        "ratio": largest_over_smallest(best),
        "ratio_by_fan_in": largest_over_smallest(best * np.sqrt(fan_ins)),
        "ratio_learned": largest_over_smallest(learned),
        "fan_in": [int(fan_ins.min()), int(fan_ins.max())],
        "best": best.tolist(),
        "normalised": (best * np.sqrt(fan_ins)).tolist(),
    }


def scales_lines(_: ScalesSettings, rows: Rows) -> list[str]:
    """Return the largest step over the smallest, by source and layer."""
    ratios = ("ratio", "ratio_by_fan_in", "ratio_learned")
    return table(rows, "source", "layer", "subnets", *ratios, "fan_in")


def scales_figures(s: ScalesSettings, outcomes: Outcomes) -> Row:
    """Draw figure 12."""
    panels = [
        (f"{row['layer']}, {row['source']}", row["best"], row["normalised"])
        for row in scales_rows(s, outcomes)
    ]
    return {"": plots.subnet_scales(panels)}


STUDIES = (
    Study(
        "quantnas_scales",
        "Does the best scale of a layer differ from subnet to subnet? Figure 12",
        takes=("15 min", "30 s"),
        settings=ScalesSettings,
        quick={"subnets": 4, "steps": 10, "train": 256},
        stages=scales_stages,
        rows=scales_rows,
        lines=scales_lines,
        figures=scales_figures,
        folder="quantnas",
    ),
)
