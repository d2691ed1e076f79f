"""DualPrecision: search two precisions once, then scale: tables 3 and 7, figures 6, 7.

Chin, Chuang, Chandra, Marculescu, arXiv:2008.09916, section 6, at a small scale. Two
networks: one of separable convolutions, whose depth-wise weights have a precision of
their own, and a ResNet. At the size of the smallest 8-bit network every pair of
precisions is trained; the best pair, the 8-bit networks and a mixed-precision policy
that HAQ found ("Flexible") are then trained at three sizes.

    python examples/pareto_dual_precision.py [--images embedded|FOLDER] [--json]

Beside them stands what the paper prints of ResNet50 and MobileNetV2 on ImageNet, whose
sizes and memory are computed here and whose accuracies are the paper's. Every run is
recorded under --runs when it ends; what was cut off is run again.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from refqnn import cli, plots
from refqnn.cost import c_size_bits, count
from refqnn.networks import build, image_shape, named
from refqnn.papers.pareto import aligned_network, best, grid, pareto_run, table3
from refqnn.papers.pareto.flexible import policy_run
from refqnn.papers.pareto.training import images_named
from refqnn.studies.sweep import Sweep, digest

#: epochs of each kind of images: 496 and 937 steps
EPOCHS = {"embedded": 8, "fashion_mnist": 1}
ACTIVATIONS = 4
METHODS = ("8 bit", "Flexible", "DualPrecision")


class Family(NamedTuple):
    """A network, the widths of its 8-bit versions, smallest first."""

    config: Mapping[str, Any]
    widths: Sequence[float]
    separable: bool


FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "separable": Family({"network": "separable"}, (0.5, 1.0, 2.0), separable=True),
        "resnet8": Family(
            {"network": "resnet", "depth": 8}, (0.25, 0.5, 1.0), separable=False
        ),
    }
)


class Trainings(NamedTuple):
    """What every run shares; results are kept in files of one folder."""

    options: argparse.Namespace

    def arguments(self, network: Mapping[str, Any], seed: int) -> dict[str, Any]:
        """Return the run of a network and a seed."""
        return {
            "network": {**network, "activation_bits": ACTIVATIONS},
            "images": self.options.images[0],
            "epochs": self.options.epochs,
            "seed": seed,
        }

    def all(self, function: Any, runs: list[dict[str, Any]], name: str) -> list[Any]:
        """Return the result of every run, trained if not recorded."""
        bound = partial(function, folder=self.options.images[1])
        sweep = Sweep(bound, runs, self.options.runs / f"{name}.jsonl")
        found = {
            digest(o.run): o.result for o in sweep.completed(workers=self.options.jobs)
        }
        return [found[digest(run)] for run in runs]

    def scores(
        self, networks: Sequence[tuple[Mapping[str, Any], dict[str, int] | None]]
    ) -> list[dict[str, Any]]:
        """Return cost and accuracies, one a seed, of networks and their policies."""
        seeds = self.options.seeds
        runs = [
            self.arguments(network, seed)
            | ({} if policy is None else {"policy": policy})
            for network, policy in networks
            for seed in seeds
        ]
        results = self.all(pareto_run, runs, "dual_precision")
        rows = [results[i : i + len(seeds)] for i in range(0, len(runs), len(seeds))]
        return [row[0] | {"accuracies": [r["accuracy"] for r in row]} for row in rows]


def searched(family: Family, target: float, train: Trainings) -> list[dict[str, Any]]:
    """Return the cells of table 7: a network of one size for every pair of bits."""
    precisions = train.options.precisions
    cells = grid(
        family.config, target, separable=family.separable, precisions=precisions
    )
    scores = train.scores([(cell.network, None) for cell in cells])
    return [
        {
            "bits": cell.bits,
            "depthwise_bits": cell.depthwise_bits,
            "width": cell.network["width"],
        }
        | score
        for cell, score in zip(cells, scores, strict=True)
    ]


def policy_of(family: Family, train: Trainings) -> dict[str, Any]:
    """Return what HAQ found for the float network of width 1."""
    asked = train.arguments(family.config, 0) | {"episodes": train.options.episodes}
    asked["network"] = dict(family.config)
    return train.all(policy_run, [asked], "policies")[0]


def study(name: str, train: Trainings) -> dict[str, Any]:
    """Return the grid, the winner, and the three methods at three sizes."""
    family = FAMILIES[name]
    eights = [
        {**family.config, "weight_bits": 8, "width": w}
        for w in train.options.widths or family.widths
    ]
    targets = [c_size_bits(build(network)) for network in eights]
    cells = searched(family, targets[0], train)
    winner = cells[best([float(np.mean(c["accuracies"])) for c in cells])]
    pair = {"weight_bits": winner["bits"]}
    if family.separable:
        pair["depthwise_bits"] = winner["depthwise_bits"]
    mixed = policy_of(family, train)
    policy = mixed["policy"]
    flexible = {**family.config, "weight_bits": 8}
    networks: list[tuple[str, dict[str, Any], dict[str, int] | None]] = []
    for eight, target in zip(eights, targets, strict=True):
        dual, _ = aligned_network({**family.config, **pair}, target)
        other, _ = aligned_network(flexible, target, policy=policy)
        networks += [
            ("8 bit", eight, None),
            ("Flexible", other, policy),
            ("DualPrecision", dual, None),
        ]
    scores = train.scores([(network, policy) for _, network, policy in networks])
    rows = [
        {"method": method, "width": network["width"]} | score
        for (method, network, _), score in zip(networks, scores, strict=True)
    ]
    return {
        "grid": cells,
        "pair": pair,
        "flexible": mixed,
        "rows": rows,
        "iso": iso_accurate(family, train),
    }


def iso_accurate(family: Family, train: Trainings) -> dict[str, list[float]]:
    """Return accuracies at width 1 of 32, 8 and 4-bit weights, activations at 4."""
    networks = [(b, {**family.config, "weight_bits": b}) for b in (None, 8, 4)]
    scores = train.scores([(network, None) for _, network in networks])
    return {
        str(bits or 32): score["accuracies"]
        for (bits, _), score in zip(networks, scores, strict=True)
    }


def lines(found: Mapping[str, dict[str, Any]]) -> Iterator[str]:
    """Yield the tables of every network."""
    for name, result in found.items():
        iso = ", ".join(f"{b} bits {told(a)}" for b, a in result["iso"].items())
        yield f"{name}: weights of width 1: {iso}"
        size = result["rows"][0]["c_size_bits"] / 1e3
        yield f"table 7: accuracy, %, of every pair at {size:.1f} kbit"
        for cell in result["grid"]:
            depthwise = cell["depthwise_bits"]
            beside = "" if depthwise is None else f", depth-wise {depthwise}"
            label = f"{cell['bits']} bit{beside}"
            yield f"  {label:22s} width {cell['width']:<7g} {told(cell['accuracies'])}"
        yield f"best: {result['pair']}; HAQ's policy: {result['flexible']['policy']}"
        yield "table 3: method, width, C_size, accuracy"
        for row in result["rows"]:
            yield (
                f"  {row['method']:14s} {row['width']:<8g} "
                f"{row['c_size_bits'] / 1e3:8.1f} kbit  {told(row['accuracies'])}"
            )


def told(accuracies: Sequence[float]) -> str:
    """Return mean and spread.

    >>> told([80.0, 81.0]), told([80.0])
    ('80.50 ± 0.71', '80.00')
    """
    mean = f"{np.mean(accuracies):.2f}"
    if len(accuracies) < 2:
        return mean
    return f"{mean} ± {np.std(accuracies, ddof=1):.2f}"


def curve(method: str, rows: Sequence[dict[str, Any]], cost: str) -> plots.SizeCurve:
    """Return the curve of one method over sizes."""
    own = [row for row in rows if row["method"] == method]
    return plots.SizeCurve(
        method,
        np.array([row[cost] for row in own], float),
        *(
            np.array([how(row["accuracies"]) for row in own])
            for how in (np.min, np.mean, np.max)
        ),
    )


def printed_rows(network: str) -> list[dict[str, Any]]:
    """Return table 3 of the paper: computed sizes and memory, printed accuracies."""
    rows = []
    for row in table3():
        if row.network != network:
            continue
        own = {"method": row.method, "accuracies": [row.top1]}
        own["c_size_bits"] = row.printed * 1e6
        if row.width is not None:
            made = named(
                network,
                width=row.width,
                weight_bits=row.bits,
                depthwise_bits=row.depthwise_bits,
                rng=None,
            )
            counted = count(made, image_shape(network))
            own["footprint_bits_separate_maxima"] = (
                counted.footprint_bits_separate_maxima()
            )
        rows.append(own)
    return rows


def panels(
    found: Mapping[str, dict[str, Any]], cost: str, images: str
) -> list[plots.SizePanel]:
    """Return our panels and the paper's, by size (figure 7) or memory (figure 6)."""
    name = "C_size" if cost == "c_size_bits" else "memory, maps of 8 bits"
    made = [
        (key, f"measured, images: {images}", value["rows"])
        for key, value in found.items()
    ]
    made += [
        (title, "accuracies as printed, sizes computed", printed_rows(network))
        for network, title in (
            ("resnet50", "ResNet50, ImageNet"),
            ("mobilenetv2", "MobileNetV2, ImageNet"),
        )
    ]
    shown = []
    for title, note, rows in made:
        known = [row for row in rows if cost in row]
        methods = [m for m in METHODS if any(row["method"] == m for row in known)]
        drawn = [curve(method, known, cost) for method in methods]
        shown.append(plots.SizePanel(title, note, name, drawn))
    return shown


def options_of(argv: Sequence[str] | None) -> tuple[argparse.ArgumentParser, Any]:
    """Return the parser, for its errors, and what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", default="embedded", help="or a folder")
    parser.add_argument(
        "--families", nargs="+", choices=[*FAMILIES], default=[*FAMILIES]
    )
    parser.add_argument("--seeds", type=cli.whole_number, nargs="+", default=[0, 1, 2])
    parser.add_argument("--episodes", type=cli.count, default=60, help="of HAQ")
    parser.add_argument("--jobs", type=cli.count, default=2, help="processes")
    parser.add_argument("--quick", action="store_true", help="1 and 8 bits, 256 images")
    parser.add_argument("--runs", type=Path, default=Path("runs/pareto"))
    parser.add_argument(
        "--figures",
        type=cli.beside,
        default="pareto_figure",
        help="how their names start",
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    try:
        options.images = images_named(options.images)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    options.epochs = EPOCHS[options.images[0]["of"]]
    options.precisions, options.widths = (1, 2, 4, 8), None
    if options.quick:
        options.precisions, options.widths = (1, 8), (0.5,)
        options.seeds, options.epochs, options.episodes = options.seeds[:1], 1, 4
        options.images[0]["train"] = 256
    return parser, options


def main(argv: Sequence[str] | None = None) -> dict[str, dict[str, Any]]:
    """Search, train, print the tables, draw figures 6 and 7."""
    parser, options = options_of(argv)
    train = Trainings(options)
    try:
        found = {name: study(name, train) for name in options.families}
        for number, cost in ((6, "footprint_bits_separate_maxima"), (7, "c_size_bits")):
            path = Path(f"{options.figures}{number}.png")
            shown = panels(found, cost, options.images[0]["of"])
            plots.save(plots.size_curves(shown, columns=2), path)
    except (RuntimeError, ValueError, OSError) as error:
        parser.error(cli.one_line(error))
    print(json.dumps(found) if options.json else "\n".join(lines(found)))
    return found


if __name__ == "__main__":
    main()
