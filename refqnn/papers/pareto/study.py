"""Run what needs no training: sizes of table 3, figure 5, proposition 5.1.

Chin, Chuang, Chandra, Marculescu. arXiv:2008.09916.

    paper                                      study, for ``refqnn study``
    C_size of table 3, counted                 pareto_sizes
    appendix B and figure 5: where to clip     pareto_clip
    proposition 5.1, by experiment             pareto_variance

Tables 1 and 2 and figure 4 are in ``study_sensitivity``, figures 1 to 3, 6 and 7 in
``study_sizes``.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, final

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.stats import norm

from refqnn import plots
from refqnn.networks import named
from refqnn.papers.pareto.alignment import align, sizes_on, width_grid
from refqnn.papers.pareto.sizes import near_misses, table3
from refqnn.papers.pareto.variance import (
    channel_correlation,
    equal_correlation,
    mean_abs_variance,
    mean_abs_variance_printed,
    rho,
    simulate,
)
from refqnn.quantizers import fixed_point, gaussian_clip
from refqnn.studies.study import Stage, Study, check_settings, table
from refqnn.studies.sweep import Outcomes, Row, Rows

# table 3

#: network -> bits of depth-wise convolutions (None: as the others)
ALIGNED: Mapping[str, int | None] = MappingProxyType(
    {
        "resnet20": None,
        "resnet56": None,
        "vgg11": None,
        "vgg11c": None,
        "vgg11c_dw4": 4,
        "mobilenetv2_cifar": None,
    }
)


@final
@dataclass(frozen=True)
class SizesSettings:
    """Networks that are aligned with their 4-bit versions, and widths of these."""

    networks: tuple[str, ...] = tuple(ALIGNED)
    widths: tuple[float, ...] = (0.5, 1.0, 1.5, 2.0)

    def __post_init__(self) -> None:
        check_settings(self, networks=ALIGNED, widths=0.02)


def sizes_stages(s: SizesSettings, _: Path) -> Iterator[Stage]:
    """Yield the counts of table 3, and the alignments of every network."""
    tables = [{"table": name} for name in ("table3", "near_misses")]
    yield Stage(count_run, tables, "counts")
    runs = [{"network": name, "widths": list(s.widths)} for name in s.networks]
    yield Stage(alignment_run, runs, "alignments")


def count_run(*, table: str) -> list[Row]:
    """Count the sizes of table 3, or of its 8-bit rows in every other way."""
    if table == "near_misses":
        return [miss._asdict() for miss in near_misses()]
    return [
        row._asdict() | {"residual": row.residual, "agrees": row.agrees}
        for row in table3()
    ]


def alignment_run(*, network: str, widths: Sequence[float]) -> list[Row]:
    """Align 2 and 1 bits with the 4-bit versions of a network."""
    grid = width_grid(0.5 * widths[0], 2.1 * widths[-1])
    name, depthwise = network.removesuffix("_dw4"), ALIGNED[network]
    make = partial(named, name, depthwise_bits=depthwise, rng=None)
    targets = sizes_on(widths, partial(make, weight_bits=4))
    rows = []
    for bits in (2, 1):
        sizes = sizes_on(grid, partial(make, weight_bits=bits))
        for width, target in zip(widths, targets, strict=True):
            row = {"network": name, "depthwise_bits": depthwise or bits, "bits": bits}
            row |= {"width_at_4_bits": width, "target_bits": target}
            rows.append(row | align(grid, sizes, target)._asdict())
    return rows


def sizes_rows(_: SizesSettings, counts: Outcomes, alignments: Outcomes) -> Row:
    """Return the three tables."""
    tables = {outcome.run["table"]: outcome.result for outcome in counts}
    rows = [row for outcome in alignments for row in outcome.result]
    return tables | {"alignment": rows}


def sizes_lines(_: SizesSettings, rows: Mapping[str, Any]) -> Iterator[str]:
    """Yield the three tables as text, sizes in 10^6 bits and in bits."""
    yield "Table 3, 10^6 bits"
    names = ("network", "method", "width", "computed", "printed", "residual", "agrees")
    yield from table(rows["table3"], *names)
    yield "\nThe 8-bit rows in other ways of counting"
    yield from table(rows["near_misses"])
    yield "\nWidths with the size of the 4-bit network"
    yield from table(rows["alignment"])


# figure 5, appendix B

SIGMAS = (0.25, 0.5, 1.0, 1.5, 2.0)


@final
@dataclass(frozen=True)
class ClipSettings:
    """Gaussian weights drawn for each variance and number of bits.

    At 8 bits a clip lies near 4 deviations, where plain draws have nothing to say:
    these are of twice the deviation, one in each of ``draws`` strata, and count by the
    ratio of the densities.
    """

    draws: int = 100_000
    bits: tuple[int, ...] = (3, 4, 5, 6, 7, 8)
    seed: int = 0

    def __post_init__(self) -> None:
        check_settings(self, draws=2, bits=2, seed=0)


def clip_run(*, draws: int, bits: Sequence[int], seed: int) -> list[Row]:
    """Search the clip a* for each number of bits; return mean|w|, a*, c = mean|w| / a*.

    ``c_used`` is the constant of ``gaussian_clip``, in closed form.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for b in bits:
        mean_abs, clips = [], []
        for sigma in SIGMAS:
            x = 2 * norm.ppf((np.arange(draws) + rng.uniform(size=draws)) / draws)
            density = np.exp(-3 / 8 * x**2)  # N(0, 1) over N(0, 4)
            mean_abs.append(float(sigma * np.average(np.abs(x), weights=density)))
            clips.append(best_clip(sigma * x[None], b, sigma=sigma, density=density))
        used = float(gaussian_clip(np.ones((1, 1)), bits=b)[0, 0])
        c = [m / a for m, a in zip(mean_abs, clips, strict=True)]
        row = {"bits": b, "mean_abs": mean_abs, "clip": clips}
        rows.append(row | {"c": c, "c_used": 1 / used})
    return rows


def best_clip(w: Any, bits: int, *, sigma: float, density: Any) -> float:
    """argmin_a sum density (w - fixed_point(w, a))^2

    w: (1, N), density: (N,)  ->  a*: (), between 1 and 6 ``sigma``
    """

    def error(a: float) -> float:
        y, _ = fixed_point(w, np.array([[a]]), bits=bits)
        return float(np.average((y - w)[0] ** 2, weights=density))

    bounds = (sigma, 6 * sigma)
    return float(minimize_scalar(error, bounds=bounds, method="bounded").x)


def clip_lines(_: ClipSettings, rows: Rows) -> list[str]:
    """Return mean and deviation of c over the variances, and c in closed form."""
    return table(
        {"bits": row["bits"], "c": np.mean(row["c"]), "deviation": np.std(row["c"])}
        | {"closed form": row["c_used"]}
        for row in rows
    )


def clip_figures(_: ClipSettings, outcomes: Outcomes) -> Row:
    """Draw figure 5."""
    return {"": plots.clip_lines(outcomes[0].result)}


# proposition 5.1

EQUAL_SIZES, CORRELATIONS = (1, 2, 4, 9, 16, 36, 72, 144), (0.0, 0.3, 0.6)
#: correlation within a channel's slice; across slices 0
WITHIN = 0.3
#: (channels, side of the kernel) of filters that grow by either
GROWN = {
    "kernels": ((1, 3), (1, 6), (1, 9), (1, 12)),
    "channels": ((1, 3), (4, 3), (9, 3), (16, 3)),
}


@final
@dataclass(frozen=True)
class VarianceSettings:
    """Filters drawn for each point; the seed of point i is ``seed`` + i."""

    draws: int = 100_000
    seed: int = 0

    def __post_init__(self) -> None:
        check_settings(self, draws=2, seed=0)


def variance_stages(s: VarianceSettings, _: Path) -> Iterator[Stage]:
    """Yield a run for each point of both panels."""
    points = [("equal", r, 1, d) for r in CORRELATIONS for d in EQUAL_SIZES]
    points += [
        (family, WITHIN, channels, side * side)
        for family, filters in GROWN.items()
        for channels, side in filters
    ]
    names = ("family", "r", "channels", "pixels")
    runs = [
        dict(zip(names, point, strict=True)) | {"draws": s.draws, "seed": s.seed + i}
        for i, point in enumerate(points)
    ]
    yield Stage(variance_run, runs, "variance")


def variance_run(
    *, family: str, r: float, channels: int, pixels: int, draws: int, seed: int
) -> Row:
    """Return exact and simulated Var(mean|w|), and their distance in standard errors.

    ``r`` correlates all weights ("equal"), or those within a channel's slice.
    """
    equal, d = family == "equal", channels * pixels
    correlation = (
        equal_correlation(d, r)
        if equal
        else channel_correlation(channels, pixels, within=r)
    )
    exact = mean_abs_variance(correlation)
    drawn = simulate(correlation, draws=draws, rng=np.random.default_rng(seed))
    return {
        "family": family,
        "r": r,
        "printed": mean_abs_variance_printed(d, r) if equal else None,
        "rho": rho(correlation) if d > 1 else None,
        "d": d,
        "exact": exact,
        "simulated": drawn.variance,
        "standard_error": drawn.standard_error,
        "z": (drawn.variance - exact) / drawn.standard_error,
    }


def variance_rows(s: VarianceSettings, outcomes: Outcomes) -> Row:
    """Return the points, the largest distance, and how often (7) is negative."""
    points = [outcome.result for outcome in outcomes]
    return {
        "draws": s.draws,
        "points": points,
        "largest_abs_z": max(abs(p["z"]) for p in points),
        "printed_negative": sum((p["printed"] or 0) < 0 for p in points),
    }


def variance_lines(_: VarianceSettings, rows: Mapping[str, Any]) -> Iterator[str]:
    """Yield what all points say, and each of them."""
    yield f"{rows['draws']:,} draws a point; largest |z| {rows['largest_abs_z']:.2f}"
    yield f"equation 7 as printed is negative at {rows['printed_negative']} points"
    names = ("family", "r", "d", "exact", "simulated", "standard_error", "printed")
    yield from table(rows["points"], *names)


def variance_figures(_: VarianceSettings, outcomes: Outcomes) -> Row:
    """Draw the exact variance, the experiments, and (7) as printed."""

    def points(family: str, r: float = WITHIN) -> Rows:
        chosen = [o.result for o in outcomes]
        return [p for p in chosen if (p["family"], p["r"]) == (family, r)]

    equal = {f"r = {r:g}": points("equal", r) for r in CORRELATIONS}
    grown = {
        "more channels: c x 3 x 3": points("channels"),
        "a larger kernel: 1 x k x k": points("kernels"),
    }
    return {"": plots.magnitude_variance(equal, grown, within=WITHIN)}


STUDIES = (
    Study(
        "pareto_sizes",
        "Has C_size of table 3 the printed digits? Which widths align fewer bits?",
        takes=("1 min", "20 s"),
        settings=SizesSettings,
        quick={"networks": ("resnet20",), "widths": (0.5, 1.0)},
        stages=sizes_stages,
        rows=sizes_rows,
        lines=sizes_lines,
        folder="pareto",
    ),
    Study(
        "pareto_clip",
        "Where to clip Gaussian weights: figure 5 and appendix B",
        takes=("30 s", "10 s"),
        settings=ClipSettings,
        quick={"draws": 20_000},
        stages=lambda s, _: [
            Stage(
                clip_run,
                [{"draws": s.draws, "bits": [*s.bits], "seed": s.seed}],
                "clips",
            )
        ],
        rows=lambda _, outcomes: outcomes[0].result,
        lines=clip_lines,
        figures=clip_figures,
        folder="pareto",
    ),
    Study(
        "pareto_variance",
        "How much does mean|w| of a filter vary? Proposition 5.1, and as printed",
        takes=("1 min", "10 s"),
        settings=VarianceSettings,
        quick={"draws": 4000},
        stages=variance_stages,
        rows=variance_rows,
        lines=variance_lines,
        figures=variance_figures,
        folder="pareto",
    ),
)
