"""Does the best scale of a layer differ from subnet to subnet (QuantNAS, figure 12)?

Draws 30 subnets (Gao et al., CVPR 2024 NAS workshop, supplement), trains each from
scratch on Fashion-MNIST halved to 14 x 14, calibrates it, and finds the 4-bit step of
least square error of the folded weights of an early and a late layer.
The same 30 are also cut from one supernet. Prints the ratio of the largest to the
smallest step, raw and times the root of the fan-in, and LSQ's learned step beside it.

    python examples/quantnas_scales.py [--images embedded|FOLDER] [--subnets 30]

Every run is recorded under --runs when it ends; what was cut off is run again.
"""

import argparse
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from refqnn import data, plots
from refqnn.cli import count, one_line, whole_number
from refqnn.papers.quantnas.runs import EARLY, LATE, pictures, ratio, scales_run
from refqnn.studies.sweep import Sweep

#: the supernet trains this many times as long as a subnet
LONGER = 5


def described(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return one run for each subnet from scratch, and one for the supernet."""
    common = {
        "seed": options.seed,
        "images": options.train,
        "of": options.images[0],
        "subnets": options.subnets,
    }
    alone = [
        {"source": "scratch", "index": i, "steps": options.steps} | common
        for i in range(options.subnets)
    ]
    together = {"source": "supernet", "index": 0, "steps": LONGER * options.steps}
    return [*alone, together | common]


def collected(options: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """Return the scales of every subnet, by where its weights are from."""
    function = partial(scales_run, folder=options.images[1])
    sweep = Sweep(function, described(options), options.runs / "scales.jsonl")
    outcomes = sweep.completed(workers=options.jobs)
    found: dict[str, list[dict[str, Any]]] = {"scratch": [], "supernet": []}
    for outcome in outcomes:
        found[outcome.run["source"]] += outcome.result
    return found


def summary(
    found: dict[str, list[dict[str, Any]]], *, subnets: int
) -> list[dict[str, Any]]:
    """Return the ratios of every source and layer."""
    rows = []
    for source, chosen in found.items():
        for name in (EARLY, LATE):
            layers = [subnet[name] for subnet in chosen]
            fan_ins = np.array([layer["fan_in"] for layer in layers])
            best = np.array([layer["best"] for layer in layers])
            learned = np.array([layer["learned"] for layer in layers])
            rows.append(
                {
                    "source": source,
                    "layer": name,
                    "subnets": subnets,
                    "ratio": ratio(best),
                    "ratio_by_fan_in": ratio(best * np.sqrt(fan_ins)),
                    "ratio_learned": ratio(learned),
                    "fan_in": [int(fan_ins.min()), int(fan_ins.max())],
                    "best": best.tolist(),
                    "normalised": (best * np.sqrt(fan_ins)).tolist(),
                }
            )
    return rows


def lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return the table: one line for each source and layer."""
    head = "largest / smallest step   subnets   best   best x sqrt(fan-in)  learned"
    text = [f"{head}  fan-in"]
    for row in rows:
        low, high = row["fan_in"]
        text.append(
            f"{row['source']:9s}{row['layer']:19s}{row['subnets']:5d}"
            f"{row['ratio']:8.2f}{row['ratio_by_fan_in']:17.2f}"
            f"{row['ratio_learned']:13.2f}  {low} to {high}"
        )
    return text


def options_of(argv: Sequence[str] | None) -> tuple[argparse.ArgumentParser, Any]:
    """Return the parser, for its errors, and the parsed options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--subnets", type=count, default=30)
    add("--seed", type=whole_number, default=0)
    add("--jobs", type=count, default=2, help="processes, a thread each")
    add("--images", default="embedded", help="or a folder")
    add("--train", type=count, default=3000, help="on so many of them")
    add("--steps", type=count, default=200, help="from scratch")
    add("--quick", action="store_true", help="4 subnets, 10 steps, 256 images")
    add("--runs", type=Path, default=Path("runs/quantnas"))
    add("--figure", type=Path, default=Path("quantnas_scales.png"))
    add("--json", action="store_true")
    options = parser.parse_args(argv)
    if options.quick:
        options.subnets, options.steps, options.train = 4, 10, 256
    return parser, options


def main(argv: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Train, print the ratios, draw the scales."""
    parser, options = options_of(argv)
    try:
        options.images = of, folder = data.source(options.images)
        pictures(of, options.train, folder)
        options.figure.parent.mkdir(parents=True, exist_ok=True)
        rows = summary(collected(options), subnets=options.subnets)
        panels = [
            (f"{row['layer']}, {row['source']}", row["best"], row["normalised"])
            for row in rows
        ]
        plots.save(plots.subnet_scales(panels), options.figure)
        written = json.dumps(rows, indent=1) + "\n"
        options.figure.with_suffix(".json").write_text(written, encoding="utf-8")
    except (RuntimeError, ValueError, OSError) as refused:
        parser.error(one_line(refused))
    print(json.dumps(rows) if options.json else "\n".join(lines(rows)))
    return rows


if __name__ == "__main__":
    main()
