"""Proposition 5.1 of the Pareto paper: exact, by experiment, and as printed.

How much does mean|w| of a filter vary from draw to draw? The left panel has the exact
variance for Gaussian weights with one correlation r, experiments with error bars, and
equation 7 as printed with r for its rho, which is negative for small r. The right panel
lets a filter grow by channels or by kernel size, when weights are correlated within a
channel's slice only.

    python examples/pareto_variance.py [--quick] [--json] [--figure pareto_variance.png]
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tqdm

from refqnn import plots
from refqnn.cli import beside, count, one_line, whole_number
from refqnn.papers.pareto import (
    channel_correlation,
    mean_abs_variance,
    mean_abs_variance_printed,
    rho,
    simulate,
)
from refqnn.papers.pareto.variance import equal_correlation

SIZES = (1, 2, 4, 9, 16, 36, 72, 144)
CORRELATIONS = (0.0, 0.3, 0.6)
#: within a slice; across slices 0
WITHIN = 0.3
KERNELS = ((1, 3), (1, 6), (1, 9), (1, 12))
CHANNELS = ((1, 3), (4, 3), (9, 3), (16, 3))


def point(correlation: Any, draws: int, seed: int) -> dict[str, float]:
    """Return the exact variance, the experiment and its distance in errors."""
    exact = mean_abs_variance(correlation)
    found = simulate(correlation, draws=draws, rng=np.random.default_rng(seed))
    return {
        "d": len(correlation),
        "exact": exact,
        "simulated": found.variance,
        "standard_error": found.standard_error,
        "z": (found.variance - exact) / found.standard_error,
    }


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Return the points of both panels."""
    draws = 4_000 if options.quick else options.draws
    jobs = [("equal", r, equal_correlation(d, r)) for r in CORRELATIONS for d in SIZES]
    jobs += [
        (name, WITHIN, channel_correlation(c, k * k, within=WITHIN))
        for name, filters in (("kernels", KERNELS), ("channels", CHANNELS))
        for c, k in filters
    ]
    points = []
    for i, (family, r, correlation) in enumerate(tqdm.tqdm(jobs, disable=options.json)):
        d = len(correlation)
        printed = mean_abs_variance_printed(d, r) if family == "equal" else None
        needed = rho(correlation) if d > 1 else None
        extra = {"family": family, "r": r, "printed": printed, "rho": needed}
        points.append(extra | point(correlation, draws, options.seed + i))
    return {
        "draws": draws,
        "points": points,
        "largest_abs_z": max(abs(p["z"]) for p in points),
        "printed_negative": sum((p["printed"] or 0) < 0 for p in points),
    }


def lines(
    points: Sequence[dict[str, Any]], family: str, name: str, r: float | None = None
) -> plots.VarianceLine:
    """Return one line of a panel."""
    chosen = [p for p in points if p["family"] == family and r in {None, p["r"]}]
    keys = ("d", "exact", "simulated", "standard_error")
    values = [np.array([p[key] for p in chosen]) for key in keys]
    printed = None
    if family == "equal":
        printed = np.array([p["printed"] for p in chosen])
    return plots.VarianceLine(name, *values, printed)


def written(found: dict[str, Any], path: Path) -> None:
    """Write the figure, and the points beside it."""
    points = found["points"]
    one = [lines(points, "equal", f"r = {r:g}", r) for r in CORRELATIONS]
    grown = [
        lines(points, "channels", "more channels: c x 3 x 3"),
        lines(points, "kernels", "a larger kernel: 1 x k x k"),
    ]
    plots.save(plots.magnitude_variance(one, grown, within=WITHIN), path)
    path.with_suffix(".json").write_text(
        json.dumps(found, indent=1) + "\n", encoding="utf-8"
    )


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Compute, simulate, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="4 000 draws a point")
    parser.add_argument("--draws", type=count, default=100_000)
    parser.add_argument("--seed", type=whole_number, default=0)
    parser.add_argument("--figure", type=beside, default="pareto_variance.png")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    try:
        found = measured(options)
        written(found, Path(options.figure))
    except (ValueError, OSError) as error:
        parser.error(one_line(error))
    if options.json:
        print(json.dumps(found))
        return found
    print(f"{found['draws']:,} draws a point; largest |z| {found['largest_abs_z']:.2f}")
    print(f"equation 7 as printed is negative at {found['printed_negative']} points")
    for p in found["points"]:
        printed = "" if p["printed"] is None else f"   printed {p['printed']:+.5f}"
        print(
            f"{p['family']:9s} r {p['r']:.1f} d {p['d']:3d}   exact {p['exact']:.5f}   "
            f"simulated {p['simulated']:.5f} +- {p['standard_error']:.5f}{printed}"
        )
    print(f"wrote {options.figure}")
    return found


if __name__ == "__main__":
    main()
