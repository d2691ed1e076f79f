"""Where to clip Gaussian weights: figure 5 and appendix B of the Pareto paper.

Chin, Chuang, Chandra, Marculescu, arXiv:2008.09916. Weights are drawn with several
variances, the clip a* of the least square error is searched for each, and c = mean|w| /
a* is compared with the constant that ``quantizers.fixed_point`` uses, which is the
minimum of the error in closed form.

    python examples/pareto_clip.py [--draws 100000] [--figure pareto_figure5.png]
"""

import argparse
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import tqdm
from scipy.optimize import minimize_scalar

from refqnn import plots
from refqnn.cli import beside, count, one_line, whole_number
from refqnn.quantizers import fixed_point, gaussian_clip

BITS = (3, 4, 5, 6, 7, 8)
SIGMAS = (0.25, 0.5, 1.0, 1.5, 2.0)


def best_clip(w: Any, bits: int) -> float:
    """Return the clip of the least mean square error on these weights.

    w: (1, N)  ->  a*: ()
    """

    def error(a: float) -> float:
        y, _ = fixed_point(w, np.array([[a]]), bits=bits)
        return float(np.mean((y - w) ** 2))

    spread = float(w.std())
    found = minimize_scalar(error, bounds=(spread, 6 * spread), method="bounded")
    return float(found.x)


def measured(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row for each number of bits: mean|w|, a* of each variance, c."""
    rng = np.random.default_rng(options.seed)
    rows = []
    for bits in tqdm.tqdm(options.bits, unit="precision", disable=options.json):
        draws = [s * rng.standard_normal((1, options.draws)) for s in SIGMAS]
        mean_abs = [float(np.abs(w).mean()) for w in draws]
        clips = [best_clip(w, bits) for w in draws]
        used = float(gaussian_clip(np.ones((1, 1)), bits=bits)[0, 0])
        rows.append(
            {
                "bits": bits,
                "mean_abs": mean_abs,
                "clip": clips,
                "c": [m / a for m, a in zip(mean_abs, clips, strict=True)],
                "c_used": 1 / used,
            }
        )
    return rows


def main(argv: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Simulate, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=count, default=100_000, help="a variance")
    parser.add_argument("--bits", type=int, nargs="+", choices=BITS, default=[*BITS])
    parser.add_argument("--seed", type=whole_number, default=0)
    parser.add_argument("--figure", type=beside, default="pareto_figure5.png")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    if options.draws < 2:
        parser.error(f"argument --draws: must be at least 2, got {options.draws}")
    rows = measured(options)
    lines = [
        plots.ClipLine(
            row["bits"], np.array(row["mean_abs"]), np.array(row["clip"]), row["c_used"]
        )
        for row in rows
    ]
    try:
        plots.save(plots.clip_lines(lines), options.figure)
    except (ValueError, OSError) as error:
        parser.error(f"argument --figure: {one_line(error)}")
    if options.json:
        print(json.dumps(rows))
        return rows
    for row in rows:
        print(
            f"{row['bits']} bit: c = {np.mean(row['c']):.4f} ± {np.std(row['c']):.4f} "
            f"by simulation, {row['c_used']:.5f} in closed form"
        )
    return rows


if __name__ == "__main__":
    main()
