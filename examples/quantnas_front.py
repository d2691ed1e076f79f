"""Is the front with predicted scales above that with shared ones (QuantNAS, figure 13)?

Trains three supernets for each seed: with shared scales, with the scale predictor (Gao
et al., CVPR 2024 NAS workshop, supplement), and with steps relative to the root mean
square of what they quantize, which is ours; all with the same first weights and draws,
on Fashion-MNIST halved to 14 x 14, the embedded subset or all of it. Then evaluates
every subnet of a small space (or evolves in a large one), calibrated, and prints the
hypervolume of the front, that of its subnets on test images, the mean accuracy of all
subnets, how far scales are from those of least square error, how they correlate with
them, and for weights and activations how far above them they are and how much both
differ from subnet to subnet, as logarithms. The oracle is the shared supernet with
these best scales.

    python examples/quantnas_front.py [--images embedded|FOLDER] [--seeds 0 1 2]

Costs are bit operations, size, or the latency of our integer kernels, measured once
into --runs with its provenance. Every run and every evaluated subnet is recorded under
--runs, and supernets keep checkpoints there; what was cut off is continued. --deploy
makes the most accurate subnet with predicted scales a network of integers, compares the
two on every test image, and saves it for ``refqnn evaluate``.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from refqnn import data, plots
from refqnn.cli import beside, count, one_line, whole_number
from refqnn.papers.quantnas import check_genotype, load_table, measure
from refqnn.papers.quantnas.runs import (
    SPACES,
    deployed,
    front_run,
    judge_of,
    pictures,
    table_path,
)
from refqnn.studies.sweep import Sweep

#: images to train on, if not said
TRAIN = {"embedded": 3000, "fashion_mnist": 58_000}
COSTS = {"bit_operations": "bit operations", "c_size": "bits", "latency": "seconds"}


def described(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the runs: every kind of scales, every seed."""
    common = {
        "steps": options.steps,
        "images": options.train,
        "of": options.images[0],
        "space": options.space,
        "cost": options.cost,
        "subnets": options.subnets,
    }
    return [
        {"scales": scales, "seed": seed} | common
        for seed in options.seeds
        for scales in ("shared", "predicted", "relative")
    ]


def measured_once(options: argparse.Namespace) -> None:
    """Measure the latency table of the space; one that the folder has must do."""
    path = table_path(options.runs, options.space)
    if options.cost != "latency":
        return
    if path.exists():
        load_table(path)
        return
    options.runs.mkdir(parents=True, exist_ok=True)
    measure(SPACES[options.space], rng=np.random.default_rng(0)).save(path)


def collected(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row for each seed and kind of scales."""
    measured_once(options)
    places = {"runs": str(options.runs), "folder": options.images[1]}
    function = partial(front_run, **places)
    sweep = Sweep(function, described(options), options.runs / "fronts.jsonl")
    outcomes = sweep.completed(workers=options.jobs)
    return [
        {"scales": scales, "seed": outcome.run["seed"]} | found
        for outcome in outcomes
        for scales, found in outcome.result.items()
    ]


def integers(options: argparse.Namespace, rows: Sequence[dict[str, Any]]) -> str:
    """Deploy the predictor's most accurate subnet, first seed; say how it went."""
    run = next(run for run in described(options) if run["scales"] == "predicted")
    row = next(row for row in rows if row["scales"] == "predicted")
    settings = {k: v for k, v in run.items() if k not in ("cost", "subnets")}
    places = {"runs": str(options.runs), "folder": options.images[1]}
    judge = judge_of(**settings, **places)
    best = max(row["front"], key=lambda point: point["accuracy"])
    integer, report = deployed(judge, check_genotype(best["genotype"], judge.net.space))
    integer.save(options.deploy)
    return (
        f"integers in {options.deploy}: {report['images']} test images, "
        f"{100 * report['accuracy']:.1f} % right "
        f"(subnet: {100 * best['test_accuracy']:.1f}), "
        f"{report['layers_beyond_the_bound']} layers beyond their bound, "
        f"{report['different_from_float64']} integers differ"
    )


def spread(kind: dict[str, float]) -> str:
    """Return three columns: above the best step, its deviation, that of the best."""
    above, own, best = (kind[name] for name in ("above", "deviation", "best_deviation"))
    return f"   {above:+.2f} {own:.2f} {best:.2f}"


def lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return the table, and how often a hypervolume is that of shared or larger."""
    head = "scales    seed  hypervolume  test     best   mean  |log s/s*|  correlation"
    text = [f"{head}   weights           activations"]
    for row in rows:
        best = max(point["accuracy"] for point in row["front"])
        together = row["correlation"]
        shown = "-" if together is None else f"{together:.2f}"
        text.append(
            f"{row['scales']:10s}{row['seed']:4d}{row['hypervolume']:13.4f}"
            f"{row['test_hypervolume']:7.4f}{100 * best:7.1f}{100 * row['mean']:7.1f}"
            f"{row['calibration_error']:12.3f}{shown:>13s}"
            f"{spread(row['weights'])}{spread(row['activations'])}"
        )
    volumes = {(row["scales"], row["seed"]): row["hypervolume"] for row in rows}
    seeds = sorted({row["seed"] for row in rows})
    for kind in ("predicted", "relative"):
        won = sum(volumes[kind, s] >= volumes["shared", s] for s in seeds)
        text.append(f"{kind} at least as large as shared: {won} of {len(seeds)}")
    return text


def options_of(argv: Sequence[str] | None) -> tuple[argparse.ArgumentParser, Any]:
    """Return the parser, for its errors, and the parsed options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--seeds", type=whole_number, nargs="+", default=[0, 1, 2])
    add("--space", choices=[*SPACES], default="small")
    add("--cost", choices=[*COSTS], default="bit_operations")
    add("--subnets", type=count, help="random ones in place of a search")
    add("--jobs", type=count, default=2, help="processes, a thread each")
    add("--images", default="embedded", help="or a folder")
    add("--train", type=count, help="images, 3 000 of the embedded ones")
    add("--steps", type=count, default=1500, help="of the sandwich")
    add("--quick", action="store_true", help="6 steps, 256 images, 4 subnets")
    add("--runs", type=Path, default=Path("runs/quantnas"))
    add("--figure", type=Path, default=Path("quantnas_front.png"))
    add("--deploy", type=beside, help="file for the integer network")
    add("--json", action="store_true")
    options = parser.parse_args(argv)
    if options.quick:
        options.steps, options.train, options.subnets = 6, 256, 4
    return parser, options


def main(argv: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Train, search, print the table, draw the fronts."""
    parser, options = options_of(argv)
    try:
        options.images = of, folder = data.source(options.images)
        options.train = options.train or TRAIN[of]
        pictures(of, options.train, folder)
        options.figure.parent.mkdir(parents=True, exist_ok=True)
        rows = collected(options)
        fronts: dict[str, list[list[tuple[float, float]]]] = {}
        for row in rows:
            points = [(point["cost"], point["accuracy"]) for point in row["front"]]
            fronts.setdefault(row["scales"], []).append(points)
        plots.save(plots.search_fronts(fronts, COSTS[options.cost]), options.figure)
        written = json.dumps(rows, indent=1) + "\n"
        options.figure.with_suffix(".json").write_text(written, encoding="utf-8")
    except (RuntimeError, ValueError, OSError) as refused:
        parser.error(one_line(refused))
    print(json.dumps(rows) if options.json else "\n".join(lines(rows)))
    if options.deploy is not None:
        told = sys.stderr if options.json else sys.stdout
        print(integers(options, rows), file=told)
    return rows


if __name__ == "__main__":
    main()
