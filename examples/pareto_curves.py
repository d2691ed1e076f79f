"""Accuracy against size for every precision: figures 1, 2 and 3 of the Pareto paper.

Chin, Chuang, Chandra, Marculescu, arXiv:2008.09916, at a small scale. For each family
of networks the 4-bit ones set the sizes; those of 2 and 1 bits are made as wide as fits
into the same size. First and last layers have 8 bits, activations 4.

    python examples/pareto_curves.py [--images embedded|FOLDER] [--families resnet ...]

The images are the embedded subset of Fashion-MNIST, or 20 000 of all of them, from a
folder with its files, judged by its 10 000 test images; halved to 14 pixels a side, or
padded to 32 for VGG11. Every run is recorded under --runs when it ends; what was cut
off is run again. One precision dominates another (definition 4.1) where its lead is
above two standard errors at every common size.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import permutations
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from refqnn import plots
from refqnn.cli import beside, count, one_line, whole_number
from refqnn.cost import c_size_bits
from refqnn.networks import build
from refqnn.papers.pareto import Curve, aligned_network, domination, pareto_run
from refqnn.papers.pareto.alignment import width_grid
from refqnn.papers.pareto.training import images_named
from refqnn.studies.sweep import Sweep, digest

BITS, ACTIVATIONS = (4, 2, 1), 4
#: widths that are tried for fewer bits, as shares of the 4-bit network's
GRID = width_grid(0.5, 3.0)
#: steps of a training: 496 of the embedded subset, 312 of 20 000 images
EPOCHS, TRAIN = {"embedded": 8, "fashion_mnist": 1}, {"fashion_mnist": 20_000}


class Family(NamedTuple):
    """Networks of one kind; the members' 4-bit versions set the sizes."""

    figure: int
    title: str
    members: Sequence[Mapping[str, Any]]
    widths: Sequence[float]
    size: int = 14


def vgg(variant: str, title: str, figure: int = 3, **options: Any) -> Family:
    """Return VGG11 or a variant, for images of 32 pixels a side."""
    member = {"network": "vgg", "variant": variant, **options}
    return Family(figure, title, [member], (0.0625, 0.125, 0.25), 32)


INVERTED = (0.125, 0.1875, 0.25)
MOBILE = {
    "network": "mobilenetv2",
    "images": "cifar",
    "classes": 10,
    "in_channels": 1,
    "rounding": "int",
    "last": "scaled",
}
RESNETS = [{"network": "resnet", "depth": depth} for depth in (8, 14, 20)]
FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "resnet": Family(1, "ResNet-8, -14, -20", RESNETS, (0.25, 0.5, 0.75)),
        "vgg11": vgg("11", "VGG11", figure=1),
        "mobilenetv2": Family(1, "MobileNetV2", [MOBILE], INVERTED),
        "inv_resnet26": Family(
            2, "Inv-ResNet26", [{"network": "inv_resnet26"}], INVERTED
        ),
        "vgg11a": vgg("a", "VGG11, variant A"),
        "vgg11b": vgg("b", "VGG11, variant B"),
        "vgg11c": vgg("c", "VGG11, variant C"),
        "vgg11c_dw4": vgg("c", "C, depth-wise at 4 bits", depthwise_bits=4),
    }
)


class Point(NamedTuple):
    """A network of a curve: which member of its family, at how many bits."""

    member: int
    bits: int
    network: dict[str, Any]


def points(family: Family) -> Iterator[Point]:
    """Yield the networks of every member and size, of 4, 2 and 1 bits."""
    for member, config in enumerate(family.members):
        for width in family.widths:
            own = {**config, "activation_bits": ACTIVATIONS, "width": width}
            yield Point(member, BITS[0], own | {"weight_bits": BITS[0]})
            target = c_size_bits(build(own | {"weight_bits": BITS[0]}))
            for bits in BITS[1:]:
                narrow = own | {"weight_bits": bits}
                yield Point(
                    member, bits, aligned_network(narrow, target, widths=GRID)[0]
                )


def run_of(point: Point, family: Family, seed: int, options: Any) -> dict[str, Any]:
    """Return the arguments of one training."""
    images = options.images[0] | {"size": family.size}
    return {
        "network": point.network,
        "images": images,
        "epochs": options.epochs,
        "seed": seed,
    }


def measured(options: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """Run what is not recorded; return the points of every family."""
    planned = {name: list(points(FAMILIES[name])) for name in options.families}
    if options.quick:
        planned = {name: found[: len(BITS)] for name, found in planned.items()}
    runs = [
        run_of(point, FAMILIES[name], seed, options)
        for name, found in planned.items()
        for point in found
        for seed in options.seeds
    ]
    function = partial(pareto_run, folder=options.images[1])
    sweep = Sweep(function, runs, options.runs / "curves.jsonl")
    results = {digest(o.run): o.result for o in sweep.completed(workers=options.jobs)}
    return {
        name: [
            point._asdict()
            | score(
                [
                    results[digest(run_of(point, FAMILIES[name], seed, options))]
                    for seed in options.seeds
                ]
            )
            for point in found
        ]
        for name, found in planned.items()
    }


def score(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the size of a network and its accuracies, one a seed, in per cent."""
    return {
        "c_size_bits": results[0]["c_size_bits"],
        "accuracies": [result["accuracy"] for result in results],
    }


def curves(found: Sequence[dict[str, Any]]) -> dict[tuple[int, int], Curve]:
    """Return the curve of every (member, bits), with standard errors of the seeds."""
    table: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for point in found:
        table.setdefault((point["member"], point["bits"]), []).append(point)
    return {
        key: Curve(
            [p["c_size_bits"] for p in chosen],
            [float(np.mean(p["accuracies"])) for p in chosen],
            [standard_error(p["accuracies"]) for p in chosen],
        )
        for key, chosen in table.items()
    }


def standard_error(values: Sequence[float]) -> float:
    """Return that of the mean; 0 for one value."""
    if len(values) < 2:
        return 0.0
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))


def verdicts(found: Sequence[dict[str, Any]]) -> list[str]:
    """Return who dominates whom, member by member, or that nobody does."""
    every = curves(found)
    members = sorted({member for member, _ in every})
    said = []
    for member in members:
        won = [
            f"{a} bit over {b}"
            for a, b in permutations(BITS, 2)
            if domination(every[member, a], every[member, b]).verdict == "first"
        ]
        said.append(", ".join(won) or "not comparable")
    return said


def lines(found: Mapping[str, list[dict[str, Any]]]) -> Iterator[str]:
    """Yield a line for each size, a column for each precision; the verdicts below."""
    for name, network_points in found.items():
        yield f"{FAMILIES[name].title}: width and accuracy, %, of {BITS} bits"
        for i in range(0, len(network_points), len(BITS)):
            row = network_points[i : i + len(BITS)]
            cells = [
                f"{p['network']['width']:7.4g}{np.mean(p['accuracies']):7.2f} ±"
                f"{standard_error(p['accuracies']):5.2f}"
                for p in row
            ]
            yield f"  {row[0]['c_size_bits'] / 1e3:8.1f} kbit " + "  ".join(cells)
        for said in verdicts(network_points):
            yield f"  dominates (definition 4.1): {said}"


def panel(name: str, found: Sequence[dict[str, Any]]) -> plots.SizePanel:
    """Return a panel of a figure."""
    table: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for point in found:
        table.setdefault((point["member"], point["bits"]), []).append(point)
    lines_of = [
        plots.SizeCurve(
            f"{bits}W{ACTIVATIONS}A",
            np.array([p["c_size_bits"] for p in chosen]),
            *(
                np.array([how(p["accuracies"]) for p in chosen])
                for how in (np.min, np.mean, np.max)
            ),
        )
        for (_, bits), chosen in table.items()
    ]
    note = "markers: depths" if len(FAMILIES[name].members) > 1 else ""
    return plots.SizePanel(FAMILIES[name].title, note, "C_size", lines_of)


def options_of(argv: Sequence[str] | None) -> tuple[argparse.ArgumentParser, Any]:
    """Return the parser, for its errors, and what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", default="embedded", help="or a folder")
    parser.add_argument(
        "--families", nargs="+", choices=[*FAMILIES], default=[*FAMILIES]
    )
    parser.add_argument("--seeds", type=whole_number, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=count, default=2, help="one-thread processes")
    parser.add_argument("--quick", action="store_true", help="a size, 128 images")
    parser.add_argument("--runs", type=Path, default=Path("runs/pareto"))
    parser.add_argument(
        "--figures", type=beside, default="pareto_figure", help="how their names start"
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    try:
        options.images = images_named(options.images)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    of = options.images[0]["of"]
    options.epochs = EPOCHS[of]
    options.images[0]["train"] = TRAIN.get(of, options.images[0]["train"])
    if options.quick:
        options.seeds, options.epochs = options.seeds[:1], 1
        options.images[0]["train"] = 128
    return parser, options


def drawn(found: Mapping[str, list[dict[str, Any]]], names: str) -> None:
    """Draw a figure of the paper each."""
    for number in sorted({FAMILIES[name].figure for name in found}):
        panels = [
            panel(name, found[name])
            for name in found
            if FAMILIES[name].figure == number
        ]
        path = Path(f"{names}{number}.png")
        plots.save(plots.size_curves(panels, columns=2 if number == 3 else 3), path)


def main(argv: Sequence[str] | None = None) -> dict[str, list[dict[str, Any]]]:
    """Train, draw, print who dominates."""
    parser, options = options_of(argv)
    try:
        found = measured(options)
        drawn(found, options.figures)
    except (RuntimeError, ValueError, OSError) as error:
        parser.error(one_line(error))
    print(json.dumps(found) if options.json else "\n".join(lines(found)))
    return found


if __name__ == "__main__":
    main()
