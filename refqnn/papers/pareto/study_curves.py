"""Run figures 1 to 3, smaller: accuracy against size for every precision.

Chin, Chuang, Chandra, Marculescu. arXiv:2008.09916, section 4. For each family of
networks the 4-bit ones set the sizes; those of 2 and 1 bits are made as wide as fits
into the same size. One precision dominates another (definition 4.1) where its lead is
above two standard errors at every common size.

First and last layers have 8 bits, activations 4, which cost nothing in the paper; here
they cost Inv-ResNet26 and MobileNetV2 5 to 8 points, and ``activation_bits=8`` asks
without them. Beside every size stands which share of it the 8-bit ends and the
depth-wise layers are: 28 to 43 % of Inv-ResNet26 here, 2 to 9 % at the paper's widths,
so that fewer bits there buy more. Images have 14 pixels a side, 32 for VGG11; all of
Fashion-MNIST are judged by its 10 000 test images. One seed has no standard error: no
verdict.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice, permutations
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, final

import numpy as np

from refqnn import plots
from refqnn.cost import c_size_bits
from refqnn.networks import build
from refqnn.papers.pareto.alignment import Curve, domination, width_grid
from refqnn.papers.pareto.dual_precision import aligned_network
from refqnn.papers.pareto.single_training import (
    EPOCHS,
    made_for,
    named_images,
    pareto_run,
)
from refqnn.papers.pareto.sizes import size_shares
from refqnn.papers.printed_tables import read_table
from refqnn.studies.study import Stage, Study, check_settings, table
from refqnn.studies.sweep import Outcomes, Row, Rows

BITS = (4, 2, 1)
#: widths that are tried for fewer bits, as shares of the 4-bit network's
GRID = width_grid(0.5, 3.0)
#: in place of all 60 000: 312 steps
TRAIN = {"fashion_mnist": 20_000}
Network = Mapping[str, Any]


def run_of(network: Network, seed: int, s: Any, images: Network) -> Row:
    """Give the arguments of one training; ``s`` has activation bits and lengths."""
    own = dict(images) | ({} if s.train is None else {"train": s.train})
    return {
        "network": {**network, "activation_bits": s.activation_bits},
        "images": own,
        "epochs": s.epochs or EPOCHS[images["of"]],
        "seed": seed,
    }


def size_curve(name: str, rows: Sequence[Network], cost: str) -> plots.SizeCurve:
    """Return a curve of rows with a cost and ``accuracies``, one a seed."""
    return plots.SizeCurve(
        name, [row[cost] for row in rows], [row["accuracies"] for row in rows]
    )


class Family(NamedTuple):
    """Networks of one kind; the members' 4-bit versions set the sizes."""

    figure: int
    title: str
    members: Sequence[Network]
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
RESNET26 = {"network": "resnet", "depth": 26}
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
        "mobilenetv2_dw4": Family(
            2,
            "MobileNetV2, depth-wise at 4 bits",
            [{**MOBILE, "depthwise_bits": 4}],
            INVERTED,
        ),
        "resnet26_wide": Family(1, "10 x ResNet-26", [RESNET26], (10.0,), 32),
        "inv_resnet26_dw4": Family(
            2,
            "Inv-ResNet26, depth-wise at 4 bits",
            [{"network": "inv_resnet26", "depthwise_bits": 4}],
            INVERTED,
        ),
    }
)
#: families of the paper's figures: those that are asked for in experiments come last
DRAWN = tuple(FAMILIES)[:-3]


@final
@dataclass(frozen=True)
class CurvesSettings:
    """Families of networks, and of each the first ``sizes``; None stands for all.

    ``train`` None is all images, or ``TRAIN`` of them, ``epochs`` None is ``EPOCHS``.
    """

    images: str = "embedded"
    families: tuple[str, ...] = DRAWN
    seeds: tuple[int, ...] = (0, 1, 2)
    sizes: int | None = None
    epochs: int | None = None
    train: int | None = None
    activation_bits: int = 4
    #: of the 4-bit networks, if not those of the family
    widths: tuple[float, ...] = ()
    #: depths and widths: "ours", or the "paper"'s (appendix C), for images of 32 x 32
    scale: str = "ours"

    def __post_init__(self) -> None:
        check_settings(self, families=FAMILIES, seeds=0, sizes=1, epochs=1, train=1)
        check_settings(self, activation_bits=1, scale=("ours", "paper"))
        for name in self.families:
            self.family(name)

    def family(self, name: str) -> Family:
        """Give a family with the widths that were asked for."""
        own = FAMILIES[name] if self.scale == "ours" else paper_family(name)
        return own._replace(widths=self.widths) if self.widths else own


def paper_family(name: str) -> Family:
    """Give a family of figure 1 with the depths and widths of appendix C.

    >>> paper_family("mobilenetv2").widths
    (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
    """
    every = {(r["family"], r["bits"]): r for r in read_table("pareto_widths.csv")}
    row = every.get((name, str(BITS[0])))
    if row is None:
        raise ValueError(f"families of figure 1 have printed widths, {name!r} has none")
    own = FAMILIES[name]._replace(size=32, widths=(*map(float, row["widths"].split()),))
    depths = [int(depth) for depth in row["depths"].split()]
    if len(depths) > 1:
        own = own._replace(title=f"ResNet-{depths[0]} to -{depths[-1]}")
    members = [{"network": "resnet", "depth": depth} for depth in depths]
    return own._replace(members=members or own.members)


def networks_of(
    family: Family, activation_bits: int, of: str = "embedded"
) -> Iterator[Row]:
    """Yield the networks of every member and size, of 4, 2 and 1 bits, for images."""
    for config in family.members:
        for width in family.widths:
            own = {**config, "activation_bits": activation_bits, "width": width}
            own |= made_for(of)
            yield own | {"weight_bits": BITS[0]}
            target = c_size_bits(build(own | {"weight_bits": BITS[0]}))
            for bits in BITS[1:]:
                narrow = own | {"weight_bits": bits}
                yield aligned_network(narrow, target, widths=GRID)[0]


def how_many(s: CurvesSettings, family: Family) -> int:
    """Count the networks of a family that the settings ask for."""
    sizes = len(family.members) * len(family.widths)
    return len(BITS) * (sizes if s.sizes is None else min(s.sizes, sizes))


def curves_stages(s: CurvesSettings, _: Path) -> Iterator[Stage]:
    """Yield a run for every network and seed."""
    runs, folder = [], None
    for family in map(s.family, s.families):
        images, folder = named_images(s.images, size=family.size)
        of = images["of"]
        images["train"] = TRAIN.get(of, images["train"])
        networks = networks_of(family, s.activation_bits, of)
        chosen = islice(networks, how_many(s, family))
        runs += [run_of(n, seed, s, images) for n in chosen for seed in s.seeds]
    yield Stage(partial(pareto_run, folder=folder), runs, "curves")


def curves_rows(s: CurvesSettings, outcomes: Outcomes) -> dict[str, list[Row]]:
    """Return the networks of every family with size, and accuracies, one a seed."""
    scores = iter(scores_of(outcomes, len(s.seeds)))
    rows: dict[str, list[Row]] = {}
    for name in s.families:
        family = s.family(name)
        rows[name] = [
            {
                "member": i // (len(BITS) * len(family.widths)),
                "bits": network["weight_bits"],
                "network": network,
                "c_size_bits": score["c_size_bits"],
                "accuracies": score["accuracies"],
            }
            | size_shares(build(network))
            for i, (network, score) in enumerate(islice(scores, how_many(s, family)))
        ]
    return rows


def scores_of(outcomes: Outcomes, seeds: int) -> list[tuple[Row, Row]]:
    """Return networks trained with every seed, their costs, accuracies one a seed."""
    return [
        (
            outcomes[i].run["network"],
            outcomes[i].result
            | {"accuracies": [o.result["accuracy"] for o in outcomes[i : i + seeds]]},
        )
        for i in range(0, len(outcomes), seeds)
    ]


def by_curve(rows: Rows) -> dict[tuple[int, int], list[Any]]:
    """Return the points of every curve, by (member, bits)."""
    table: dict[tuple[int, int], list[Row]] = {}
    for point in rows:
        table.setdefault((point["member"], point["bits"]), []).append(point)
    return table


def standard_error(values: Sequence[float]) -> float:
    """Compute the standard error of the mean; NaN for one value."""
    if len(values) < 2:
        return float("nan")
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))


def verdicts(rows: Rows) -> Iterator[str]:
    """Yield who dominates whom, member by member, or that nobody does."""
    if any(len(p["accuracies"]) < 2 for p in rows):
        yield "undecided, one seed has no standard error"
        return
    curves = {
        key: Curve(
            [p["c_size_bits"] for p in chosen],
            [float(np.mean(p["accuracies"])) for p in chosen],
            [standard_error(p["accuracies"]) for p in chosen],
        )
        for key, chosen in by_curve(rows).items()
    }
    for member in sorted({member for member, _ in curves}):
        won = [
            f"{a} bit over {b}"
            for a, b in permutations(BITS, 2)
            if domination(curves[member, a], curves[member, b]).verdict == "first"
        ]
        yield ", ".join(won) or "not comparable"


def curves_lines(s: CurvesSettings, rows: Mapping[str, list[Row]]) -> Iterator[str]:
    """Yield widths and accuracies by size and bits, with standard errors; verdicts."""
    for name, networks in rows.items():
        yield f"{s.family(name).title}: width and accuracy, %, of {BITS} bits"
        yield from table(
            {"C_size, kbit": f"{networks[i]['c_size_bits'] / 1e3:.1f}"}
            | {
                f"{what}, %": [100 * p[what] for p in networks[i : i + len(BITS)]]
                for what in ("ends", "depth-wise")
            }
            | {f"{p['bits']} bits": point_text(p) for p in networks[i : i + len(BITS)]}
            for i in range(0, len(networks), len(BITS))
        )
        for verdict in verdicts(networks):
            yield f"dominates (definition 4.1): {verdict}"


def point_text(point: Mapping[str, Any]) -> str:
    """Write the width of a network, its accuracy and its standard error."""
    mean, error = np.mean(point["accuracies"]), standard_error(point["accuracies"])
    spread = "" if np.isnan(error) else f" ± {error:.2f}"
    return f"{point['network']['width']:.4g} {mean:.2f}{spread}"


def curves_figures(s: CurvesSettings, outcomes: Outcomes) -> Row:
    """Draw figures 1, 2 and 3, those that the families belong to."""
    rows = curves_rows(s, outcomes)
    panels: dict[int, list[plots.SizePanel]] = {}
    for name, network_points in rows.items():
        family = s.family(name)
        curves = [
            size_curve(f"{bits}W{s.activation_bits}A", chosen, "c_size_bits")
            for (_, bits), chosen in by_curve(network_points).items()
        ]
        note = "markers: depths" if len(family.members) > 1 else ""
        panel = plots.SizePanel(family.title, note, "C_size", curves)
        panels.setdefault(family.figure, []).append(panel)
    return {
        f"_figure{number}": plots.size_curves(shown, columns=2 if number == 3 else 3)
        for number, shown in sorted(panels.items())
    }


STUDIES = (
    Study(
        "pareto_curves",
        "Which precision is best at a given size? Figures 1, 2 and 3",
        takes=("90 min", "60 s"),
        settings=CurvesSettings,
        quick={
            "families": ("resnet", "inv_resnet26", "vgg11c"),  # one of each figure
            "sizes": 3,
            "seeds": (0,),
            "epochs": 3,
            "train": 1000,
        },
        stages=curves_stages,
        rows=curves_rows,
        lines=curves_lines,
        figures=curves_figures,
        folder="pareto",
    ),
)
