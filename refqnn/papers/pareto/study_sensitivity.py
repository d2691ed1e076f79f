"""Run tables 1 and 2 and figure 4: what one bit costs, what twice the width brings.

Chin, Chuang, Chandra, Marculescu. arXiv:2008.09916, sections 5.2 and 5.3, smaller. A
network of separable convolutions is trained with 4-bit weights, with 1-bit weights, and
with 1-bit weights at twice the width. Table 2 and figure 4 ask what the fan-in and the
kernel of its depth-wise filters have to do with it, table 1 what keeping them at 4 bits
changes. The paper's own table 2, of CIFAR-100, stands beside.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, final

import numpy as np

from refqnn import plots
from refqnn.papers.pareto.sensitivity import (
    KINDS,
    Changes,
    Runs,
    changes,
    kind_name,
    mean_text,
    table1_runs,
    table2_runs,
)
from refqnn.papers.pareto.single_training import EPOCHS, named_images, pareto_run
from refqnn.papers.printed_tables import read_table
from refqnn.studies.study import Stage, Study, check_settings, table
from refqnn.studies.sweep import Outcomes, Row

SEPARABLE: Mapping[str, Any] = MappingProxyType({"network": "separable", "width": 1.0})


@final
@dataclass(frozen=True)
class SensitivitySettings:
    """``widths`` of table 1; the first ``kinds`` of depth-wise filters of table 2.

    ``images`` are "textures", "embedded" or a folder; None is all images, and
    ``EPOCHS`` of them, which make 500 to 940 steps.
    """

    images: str = "embedded"
    tables: tuple[str, ...] = ("table1", "table2")
    seeds: tuple[int, ...] = (0, 1, 2)
    widths: tuple[float, ...] = (1.0, 1.5, 2.0)
    kinds: int = len(KINDS)
    epochs: int | None = None
    train: int | None = None
    #: places a side at which crops of textures begin, one for each of the ``kinds``, by
    #: which their tasks can be made as hard; none: 3
    shifts: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_settings(self, tables=("table1", "table2"), seeds=0, widths=0.01)
        check_settings(self, kinds=1, epochs=1, train=1)
        if self.shifts:
            check_settings(self, shifts=1)
            if self.images != "textures" or len(self.shifts) < self.kinds:
                raise ValueError(
                    f"shifts must be of textures, one for each of the {self.kinds} "
                    f"kinds, got {self.shifts}"
                )


def sensitivity_runs(s: SensitivitySettings) -> tuple[dict[str, Runs], str | None]:
    """Return the runs of both tables, by key, and the folder of their images."""
    images, folder = named_images(s.images)
    epochs = s.epochs or EPOCHS[images["of"]]
    images["train"] = s.train or images["train"]
    common = {"images": images, "epochs": epochs}
    tables: dict[str, Runs] = {
        "table1": table1_runs(SEPARABLE, widths=s.widths, seeds=s.seeds),
        "table2": table2_runs(SEPARABLE, kinds=KINDS[: s.kinds], seeds=s.seeds),
    }
    chosen: dict[str, Runs] = {
        name: {key: run | common for key, run in runs.items()}
        for name, runs in tables.items()
        if name in s.tables
    }
    names = [kind_name(*kind) for kind in KINDS]
    for (row, *_), run in chosen.get("table2", {}).items():
        if s.shifts:
            run["images"] = images | {"shifts": s.shifts[names.index(row)]}
    return chosen, folder


def sensitivity_stages(s: SensitivitySettings, _: Path) -> Iterator[Stage]:
    """Yield the runs of both tables."""
    tables, folder = sensitivity_runs(s)
    runs = [run for table in tables.values() for run in table.values()]
    yield Stage(partial(pareto_run, folder=folder), runs, "sensitivity")


def sensitivity_rows(s: SensitivitySettings, outcomes: Outcomes) -> Row:
    """Return the changes of every row, and the variances of figure 4."""
    tables, _ = sensitivity_runs(s)
    results = iter([outcome.result for outcome in outcomes])
    rows: Row = {"images": outcomes[0].run["images"], "seeds": [*s.seeds]}
    for name, runs in tables.items():
        by_key = {key: next(results) for key in runs}
        accuracy = {key: result["accuracy"] for key, result in by_key.items()}
        row_changes = changes(accuracy.__getitem__, runs)
        rows[name] = {row: as_json(change) for row, change in row_changes.items()}
        if name == "table2":
            rows["figure4"] = variations(by_key)
    return rows


def as_json(row: Changes) -> dict[str, list[float]]:
    """Give accuracies, in per cent, changes, and log-odds of a row, an entry a seed."""
    names = ("high", "quantized", "grown", "total", "quantized_log_odds")
    return {name: getattr(row, name).tolist() for name in names}


def variations(by_key: Mapping[Any, Row]) -> dict[str, Row]:
    """Return, for every kind and layer of figure 4, raw and relative of each seed."""
    table: dict[str, Row] = {}
    for (row, role, _), result in by_key.items():
        if role != "high":
            continue
        for layer, seen in result["variations"].items():
            kept = table.setdefault(row, {}).setdefault(layer, {"d": seen["d"]})
            for kind in ("raw", "relative"):
                kept.setdefault(kind, []).append(seen[kind])
    return table


def sensitivity_lines(_: SensitivitySettings, rows: Mapping[str, Any]) -> Iterator[str]:
    """Yield the tables: mean and spread over the seeds, the paper's numbers behind."""
    for name, title in (
        ("table1", "Table 1: depth-wise weights kept at 4 bits, or at 1 as all others"),
        ("table2", "Table 2: C_in x K_w x K_h of the depth-wise filters"),
    ):
        if name in rows:
            yield f"{title}; points, mean ± spread over seeds {rows['seeds']}"
            yield from table(
                {"": row} | {key: mean_text(each) for key, each in values.items()}
                for row, values in rows[name].items()
            )
    if "figure4" in rows:
        yield "Figure 4: Var_t(mean|w|) of the 4-bit networks, raw, and relative"
        yield from table(
            {"": row, "layer": layer} | {key: np.mean(v) for key, v in seen.items()}
            for row, layers in rows["figure4"].items()
            for layer, seen in layers.items()
        )
    yield "The paper's table 2 (CIFAR-100, VGG variant C)"
    yield from table(read_table("pareto_table2.csv"))


def sensitivity_figures(s: SensitivitySettings, outcomes: Outcomes) -> Row:
    """Draw figure 4: means over the seeds."""
    rows = sensitivity_rows(s, outcomes).get("figure4")
    return {"": plots.layer_variances(rows)} if rows else {}


STUDIES = (
    Study(
        "pareto_sensitivity",
        "What do one bit and twice the width change? Tables 1 and 2, figure 4",
        takes=("40 min", "20 s"),
        settings=SensitivitySettings,
        quick={"widths": (1.0,), "kinds": 2, "seeds": (0,), "epochs": 1, "train": 640},
        stages=sensitivity_stages,
        rows=sensitivity_rows,
        lines=sensitivity_lines,
        figures=sensitivity_figures,
        folder="pareto",
    ),
)
