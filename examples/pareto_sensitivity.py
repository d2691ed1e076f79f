"""What one bit costs and twice the width brings: tables 1 and 2, figure 4.

Chin, Chuang, Chandra, Marculescu, arXiv:2008.09916, at a small scale. A network of
separable convolutions is trained with 4-bit weights, with 1-bit weights, and with 1-bit
weights at twice the width. Table 2 and figure 4 ask what the fan-in and the kernel of
its depth-wise filters have to do with it, table 1 what keeping them at 4 bits changes.

    python examples/pareto_sensitivity.py [--images textures|embedded|FOLDER] [--json]

The images are synthetic textures, the embedded subset of Fashion-MNIST, or all of it,
from a folder with its files. Every run is recorded under --runs when it ends; what was
cut off is run again. The paper's own tables, of CIFAR-100, stand beside.
"""

import argparse
import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from refqnn import plots
from refqnn.cli import beside, count, one_line, whole_number
from refqnn.papers.pareto import (
    KINDS,
    Changes,
    changes,
    pareto_run,
    table1_study,
    table2_study,
)
from refqnn.papers.pareto.sensitivity import Study, kind_name, mean_and_spread
from refqnn.papers.pareto.training import images_named
from refqnn.studies.sweep import Sweep, digest

NETWORK: Mapping[str, Any] = {"network": "separable", "width": 1.0}
#: widths of the 4-bit networks of table 1
WIDTHS = (1.0, 1.5, 2.0)
#: epochs of each kind of images: 700, 496 and 937 steps
EPOCHS = {"textures": 1, "embedded": 8, "fashion_mnist": 1}


def studies(options: argparse.Namespace) -> dict[str, Study]:
    """Return the runs of both tables, by key."""
    wide = table1_study(NETWORK, widths=options.widths, seeds=options.seeds)
    kinds = table2_study(NETWORK, kinds=options.kinds, seeds=options.seeds)
    common = {"images": options.images[0], "epochs": options.epochs}
    return {
        name: {key: run | common for key, run in study.items()}
        for name, study in {"table1": wide, "table2": kinds}.items()
        if name in options.tables
    }


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Run what is not recorded; return the changes of every row, and the variances."""
    planned = studies(options)
    every = [run for study in planned.values() for run in study.values()]
    function = partial(pareto_run, folder=options.images[1])
    sweep = Sweep(function, every, options.runs / "sensitivity.jsonl")
    results = {digest(o.run): o.result for o in sweep.completed(workers=options.jobs)}
    found: dict[str, Any] = {"images": options.images[0], "seeds": options.seeds}
    for name, study in planned.items():
        by_key = {key: results[digest(run)] for key, run in study.items()}
        rows = changes(lambda key, of=by_key: of[key]["accuracy"], study)
        found[name] = {row: as_json(change) for row, change in rows.items()}
        if name == "table2":
            found["figure4"] = variations(by_key)
    return found


def as_json(row: Changes) -> dict[str, list[float]]:
    """Return what a row measured, an entry a seed, in per cent and points."""
    return {
        "high": row.high.tolist(),
        "quantized": row.quantized.tolist(),
        "grown": row.grown.tolist(),
        "total": row.total.tolist(),
    }


def variations(by_key: Mapping[Any, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return, for every kind and layer of figure 4, raw and relative of each seed."""
    table: dict[str, dict[str, Any]] = {}
    for (row, role, _), result in by_key.items():
        if role != "high":
            continue
        for layer, seen in result["variations"].items():
            kept = table.setdefault(row, {}).setdefault(layer, {"d": seen["d"]})
            for kind in ("raw", "relative"):
                kept.setdefault(kind, []).append(seen[kind])
    return table


def figure4(found: Mapping[str, dict[str, Any]]) -> list[plots.LayerVariances]:
    """Return the bars of figure 4: means over the seeds."""
    return [
        plots.LayerVariances(
            row,
            list(layers),
            *(
                np.array([np.mean(seen[kind]) for seen in layers.values()])
                for kind in ("raw", "relative")
            ),
        )
        for row, layers in found.items()
    ]


def lines(found: dict[str, Any]) -> Iterator[str]:
    """Yield the tables: mean and spread over the seeds, the paper's numbers behind."""
    for name, title in (
        ("table1", "Table 1: depth-wise weights kept at 4 bits, or at 1 as all others"),
        ("table2", "Table 2: C_in x K_w x K_h of the depth-wise filters"),
    ):
        if name not in found:
            continue
        yield f"{title}; points, mean ± spread over seeds {found['seeds']}"
        yield f"{'':22s} {'4 bits':>12s} {'Acc_Q':>12s} {'Acc_G':>12s} {'sum':>12s}"
        for row, values in found[name].items():
            cells = [
                "{:6.2f} ± {:.2f}".format(*mean_and_spread(np.array(values[key])))
                for key in ("high", "quantized", "grown", "total")
            ]
            yield f"{row:22s} " + " ".join(f"{c:>12s}" for c in cells)
    if "figure4" in found:
        yield "Figure 4: Var_t(mean|w|) of the 4-bit networks, raw, and relative"
        for row, layers in found["figure4"].items():
            for layer, seen in layers.items():
                yield (
                    f"{row:12s} {layer:12s} d {seen['d']:4d} "
                    f"{np.mean(seen['raw']):.3g}  {np.mean(seen['relative']):.3g}"
                )
    yield "The paper's table 2 (CIFAR-100, VGG variant C): Acc_Q, Acc_G, sum"
    for cell in printed("pareto_table2.csv"):
        row = kind_name(int(cell["fan_in"]), int(cell["kernel"]))
        yield f"{row:12s} {cell['delta_q']} {cell['delta_g']} {cell['delta']}"


def printed(name: str) -> list[dict[str, str]]:
    """Return the lines of a table as the paper prints it."""
    file = resources.files("refqnn.papers") / "printed" / name
    return list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))


def options_of(argv: Sequence[str] | None) -> tuple[argparse.ArgumentParser, Any]:
    """Return the parser, for its errors, and what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", default="embedded", help="see above")
    parser.add_argument("--tables", nargs="+", choices=["table1", "table2"])
    parser.add_argument("--seeds", type=whole_number, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=count, default=2, help="one-thread processes")
    parser.add_argument("--quick", action="store_true", help="two kinds, 640 images")
    parser.add_argument("--runs", type=Path, default=Path("runs/pareto"))
    parser.add_argument("--figure", type=beside, default="pareto_figure4.png")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    options.tables = options.tables or ["table1", "table2"]
    options.widths, options.kinds = WIDTHS, KINDS
    try:
        options.images = images_named(options.images)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    options.epochs = EPOCHS[options.images[0]["of"]]
    if options.quick:
        options.widths, options.kinds = WIDTHS[:1], KINDS[:2]
        options.seeds, options.epochs = options.seeds[:1], 1
        options.images[0]["train"] = 640
    return parser, options


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Train, print the tables, draw figure 4."""
    parser, options = options_of(argv)
    try:
        found = measured(options)
        if "figure4" in found:
            plots.save(plots.layer_variances(figure4(found["figure4"])), options.figure)
    except (RuntimeError, ValueError, OSError) as error:
        parser.error(one_line(error))
    print(json.dumps(found) if options.json else "\n".join(lines(found)))
    return found


if __name__ == "__main__":
    main()
