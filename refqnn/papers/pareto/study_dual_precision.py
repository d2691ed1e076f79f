"""Run DualPrecision, smaller: tables 3 and 7, figures 6 and 7.

Chin, Chuang, Chandra, Marculescu. arXiv:2008.09916, section 6. Two networks: one of
separable convolutions, whose depth-wise weights have a precision of their own, and a
ResNet. At the size of the smallest 8-bit network every pair of precisions is trained;
the best pair, the 8-bit networks and a mixed-precision policy that HAQ found
("Flexible") are then trained at three sizes. Beside them stands what the paper prints
of ImageNet: sizes and memory computed here, accuracies the paper's.

Activations have 8 bits, as in table 3. The pair is picked by a quarter of the training
images, which the grid is not trained on (``choose_on``), and trained anew on all. The
channels of the 8-bit ends are fixed, as in section 6: those of the smallest 8-bit
network (``ends=scaled`` lets them grow). The column ``ends`` is their share of a size.

Rules, written before they were run, over at least eight seeds at one small size
(``families=separable widths=0.5 seeds=0..7``): DualPrecision beats Flexible, or 8 bits,
where the paired 95 % interval of its gain lies above 0, and does not where it lies
below; the last lines of a family. Memory (figure 6): the same of ``align_by=memory``.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, final

import numpy as np

from refqnn import plots
from refqnn.cost import c_size_bits, count
from refqnn.networks import build, image_shape, named
from refqnn.nn import Sequential
from refqnn.papers.pareto.dual_precision import PRECISIONS, aligned_network, best, grid
from refqnn.papers.pareto.flexible import policy_run
from refqnn.papers.pareto.sensitivity import mean_text
from refqnn.papers.pareto.single_training import made_for, named_images, pareto_run
from refqnn.papers.pareto.sizes import size_shares, table3
from refqnn.papers.pareto.study_curves import run_of, scores_of, size_curve
from refqnn.studies.study import Stage, Study, check_settings, paired_interval, table
from refqnn.studies.sweep import Outcomes, Row, Rows, Sweep

METHODS = ("8 bit", "Flexible", "DualPrecision")
Network = Mapping[str, Any]
Policy = dict[str, int] | None
Scores = list[tuple[Row, Row]]


class Family(NamedTuple):
    """A network, the widths of its 8-bit versions, smallest first."""

    config: Network
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


@final
@dataclass(frozen=True)
class DualSettings:
    """Families, and widths of their 8-bit networks, if not the family's own.

    ``episodes`` are HAQ's; None is all images, and ``EPOCHS`` of them.
    """

    images: str = "embedded"
    families: tuple[str, ...] = tuple(FAMILIES)
    seeds: tuple[int, ...] = (0, 1, 2)
    precisions: tuple[int, ...] = PRECISIONS
    widths: tuple[float, ...] = ()
    episodes: int = 60
    epochs: int | None = None
    train: int | None = None
    activation_bits: int = 8
    #: images that pick the pair: "held_out" of the training images, or "test"
    choose_on: str = "held_out"
    #: channels of the 8-bit ends: "fixed" to those of the smallest size, or "scaled"
    ends: str = "fixed"
    #: what the methods have in common: C_size, "size", or "memory" with maps of 8 bits
    align_by: str = "size"

    def __post_init__(self) -> None:
        check_settings(self, families=FAMILIES, seeds=0, precisions=1, episodes=1)
        check_settings(self, epochs=1, train=1, activation_bits=1)
        check_settings(self, choose_on=("held_out", "test"), ends=("fixed", "scaled"))
        check_settings(self, align_by=("size", "memory"))

    def config(self, family: Family) -> dict[str, Any]:
        """Give the network of a family; shortcuts are convolutions at fixed ends."""
        own = {**family.config, **made_for(named_images(self.images)[0]["of"])}
        if self.ends == "scaled":
            return own
        fixed: Row = {"ends_width": (self.widths or family.widths)[0]}
        return own | fixed | ({} if family.separable else {"shortcut": "B"})

    def measure(self, network: Sequential) -> int:
        """Compute in bits what the methods have in common."""
        if self.align_by == "size":
            return c_size_bits(network)
        images, _ = named_images(self.images)
        channels, side = made_for(images["of"]).get("in_channels", 1), images["size"]
        return count(network, (channels, side, side)).footprint_bits_separate_maxima()


def runs_of(
    s: DualSettings, networks: Sequence[tuple[Network, Policy]], **judged: Any
) -> list[Row]:
    """Give a run for every network, with its policy, and seed."""
    images, _ = named_images(s.images)
    images |= judged
    return [
        run_of(network, seed, s, images)
        | ({} if policy is None else {"policy": policy})
        for network, policy in networks
        for seed in s.seeds
    ]


def eight_bits(s: DualSettings, family: Family) -> list[tuple[Network, int]]:
    """Return the 8-bit networks, smallest first, and their sizes in bits."""
    networks = [
        {**s.config(family), "weight_bits": 8, "width": width}
        for width in s.widths or family.widths
    ]
    return [(network, s.measure(build(network))) for network in networks]


def searched_networks(s: DualSettings, family: Family) -> list[Network]:
    """Return the grid of table 7, then networks of width 1 of 32, 8 and 4 bits."""
    config = s.config(family)
    cells = grid(
        config,
        c_size_bits(build(eight_bits(s, family)[0][0])),
        separable=family.separable,
        precisions=s.precisions,
    )
    iso = [{**config, "weight_bits": bits} for bits in (None, 8, 4)]
    return [*(cell.network for cell in cells), *iso]


def aligned_networks(
    s: DualSettings, family: Family, pair: Network, policy: Policy
) -> Iterator[tuple[Network, Policy]]:
    """Yield the networks of the three ``METHODS`` at every size, in their order."""
    for eight, target in eight_bits(s, family):
        yield eight, None
        flexible = {**s.config(family), "weight_bits": 8}
        by: Any = {"measure": s.measure}
        yield aligned_network(flexible, target, policy=policy, **by)[0], policy
        yield aligned_network({**s.config(family), **pair}, target, **by)[0], None


def dual_stages(s: DualSettings, folder: Path) -> Iterator[Stage]:
    """Yield the grids, HAQ's searches, and then the methods that both have chosen."""
    families = [FAMILIES[name] for name in s.families]
    images, files = named_images(s.images)
    train, search = partial(pareto_run, folder=files), partial(policy_run, folder=files)
    networks = [n for family in families for n in searched_networks(s, family)]
    judged = {"held_out": True} if s.choose_on == "held_out" else {}
    cells = runs_of(s, [(n, None) for n in networks], **judged)
    grids = Stage(train, cells, "dual_precision")
    yield grids
    policies = [
        run_of(s.config(family), 0, s, images)
        | {"episodes": s.episodes, "network": s.config(family)}
        for family in families
    ]
    yield Stage(search, policies, "policies")
    ended = Sweep(train, grids.runs, folder / "dual_precision.jsonl").completed()
    chosen = Sweep(search, policies, folder / "policies.jsonl").completed()
    aligned = [
        network
        for name, outcome in zip(s.families, chosen, strict=True)
        for network in aligned_networks(
            s,
            FAMILIES[name],
            best_pair(grids_of(s, ended)[name]),
            outcome.result["policy"],
        )
    ]
    yield Stage(train, runs_of(s, aligned), "dual_precision")


def grids_of(s: DualSettings, outcomes: Outcomes) -> dict[str, Scores]:
    """Return the networks and scores of the grid of every family, and of width 1."""
    scores, bits = iter(scores_of(outcomes, len(s.seeds))), len(s.precisions)
    return {
        name: [*islice(scores, (bits**2 if FAMILIES[name].separable else bits) + 3)]
        for name in s.families
    }


def best_pair(grid_scores: Scores) -> dict[str, int]:
    """Return the bits of the most accurate cell of a grid."""
    cells = grid_scores[:-3]
    means = [float(np.mean(score["accuracies"])) for _, score in cells]
    network, _ = cells[best(means)]
    names = ("weight_bits", "depthwise_bits")
    return {name: network[name] for name in names if name in network}


def dual_rows(
    s: DualSettings, grids: Outcomes, policies: Outcomes, aligned: Outcomes
) -> Row:
    """Return grid, winner, policy, the methods at every size, and what 8 bits lose."""
    rows: Row = {}
    scores = iter(scores_of(aligned, len(s.seeds)))
    for (name, grid_scores), policy in zip(
        grids_of(s, grids).items(), policies, strict=True
    ):
        sizes = len(s.widths or FAMILIES[name].widths)
        rows[name] = {
            "grid": [
                {
                    "bits": network["weight_bits"],
                    "depthwise_bits": network.get("depthwise_bits"),
                    "width": network["width"],
                }
                | score
                for network, score in grid_scores[:-3]
            ],
            "pair": best_pair(grid_scores),
            "flexible": policy.result,
            "rows": [
                {"method": method, "width": network["width"]}
                | score
                | size_shares(build(network))
                for method, (network, score) in zip(
                    METHODS * sizes, islice(scores, len(METHODS) * sizes), strict=True
                )
            ],
            "iso": {
                bits: score["accuracies"]
                for bits, (_, score) in zip(
                    ("32", "8", "4"), grid_scores[-3:], strict=True
                )
            },
        }
    return rows


def dual_lines(_: DualSettings, rows: Mapping[str, Any]) -> Iterator[str]:
    """Yield the tables of every network."""
    for name, result in rows.items():
        iso = ", ".join(f"{b} bits {mean_text(a)}" for b, a in result["iso"].items())
        yield f"{name}: weights of width 1: {iso}"
        yield "table 7: accuracy, %, of every pair at one size"
        names = ("bits", "depthwise_bits", "width", "c_size_bits", "accuracy")
        yield from table(with_mean(result["grid"]), *names)
        yield f"best: {result['pair']}; HAQ's policy: {result['flexible']['policy']}"
        yield "table 3: the methods at every size"
        shares = ("ends", "depth-wise")
        yield from table(with_mean(result["rows"]), "method", *names[2:], *shares)
        yield from gains(result["rows"])


def gains(rows: Rows) -> Iterator[str]:
    """Yield what DualPrecision gains at every size, with paired 95 % intervals."""
    for eight, flexible, dual in zip(rows[::3], rows[1::3], rows[2::3], strict=True):
        for other in (eight, flexible):
            d = np.subtract(dual["accuracies"], other["accuracies"])
            mean, low, high = paired_interval(d.tolist())
            what = f"DualPrecision less {other['method']}, {eight['c_size_bits']} bits"
            yield f"{what}: {mean:.2f} points, {low:.2f} to {high:.2f}"


def with_mean(rows: Rows) -> Iterator[Row]:
    """Yield the rows, mean and spread of their accuracies written as text."""
    for row in rows:
        yield row | {"accuracy": mean_text(row["accuracies"])}


def printed_rows(network: str) -> list[Row]:
    """Return table 3 of the paper: computed sizes and memory, printed accuracies."""
    rows = []
    for row in (row for row in table3() if row.network == network):
        own: Row = {"method": row.method, "accuracies": [row.top1]}
        own["c_size_bits"] = row.printed * 1e6
        if row.width is not None:
            bits: Any = {"weight_bits": row.bits, "depthwise_bits": row.depthwise_bits}
            network_of_row = named(network, width=row.width, **bits, rng=None)
            memory = count(network_of_row, image_shape(network))
            own["footprint_bits_separate_maxima"] = (
                memory.footprint_bits_separate_maxima()
            )
        rows.append(own)
    return rows


def dual_figures(s: DualSettings, *outcomes: Outcomes) -> Row:
    """Draw our panels and the paper's, by memory (figure 6) and size (figure 7)."""
    of = named_images(s.images)[0]["of"]
    panels = [
        (name, f"measured, images: {of}", result["rows"])
        for name, result in dual_rows(s, *outcomes).items()
    ]
    panels += [
        (title, "accuracies as printed, sizes computed", printed_rows(network))
        for network, title in (
            ("resnet50", "ResNet50, ImageNet"),
            ("mobilenetv2", "MobileNetV2, ImageNet"),
        )
    ]
    return {
        end: plots.size_curves(
            [
                plots.SizePanel(title, note, axis, method_curves(rows, cost))
                for title, note, rows in panels
            ],
            columns=2,
        )
        for end, cost, axis in (
            ("_figure6", "footprint_bits_separate_maxima", "memory, maps of 8 bits"),
            ("_figure7", "c_size_bits", "C_size"),
        )
    }


def method_curves(rows: Rows, cost: str) -> list[plots.SizeCurve]:
    """Return a curve for every method that has rows with this cost."""
    known = [row for row in rows if cost in row]
    return [
        size_curve(method, [row for row in known if row["method"] == method], cost)
        for method in METHODS
        if any(row["method"] == method for row in known)
    ]


STUDIES = (
    Study(
        "pareto_dual_precision",
        "Is one pair of precisions best at every size? Tables 3, 7, figures 6, 7",
        takes=("76 min", "20 s"),
        settings=DualSettings,
        quick={
            "precisions": (1, 8),
            "widths": (0.5,),
            "seeds": (0,),
            "epochs": 1,
            "episodes": 4,
            "train": 256,
        },
        stages=dual_stages,
        rows=dual_rows,
        lines=dual_lines,
        figures=dual_figures,
        folder="pareto",
    ),
)
