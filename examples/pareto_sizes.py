"""Table 3 of the Pareto paper, computed: sizes, other ways to count, aligned widths.

Chin, Chuang, Chandra, Marculescu, arXiv:2008.09916. No training: every number is a
count. The first table has the eighteen sizes of table 3, the second what the 8-bit rows
would be with other networks, the third the widths that give networks of fewer bits the
size of a 4-bit one.

    python examples/pareto_sizes.py [--json] [--quick] [--output pareto_sizes.json]
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import tqdm

from refqnn.cli import beside, one_line
from refqnn.networks import named
from refqnn.papers.pareto import align, near_misses, sizes_on, table3, width_grid

#: network, bits of depth-wise convolutions (None: as the others)
FAMILIES = (
    ("resnet20", None),
    ("resnet56", None),
    ("vgg11", None),
    ("vgg11c", None),
    ("vgg11c", 4),
    ("mobilenetv2_cifar", None),
)
WIDTHS, LOW_BITS = (0.5, 1.0, 1.5, 2.0), (2, 1)


def alignments(*, quick: bool, silent: bool) -> Iterator[dict[str, Any]]:
    """Yield, for each family and precision, the widths aligned with 4 bits."""
    families = FAMILIES[:1] if quick else FAMILIES
    widths = WIDTHS[:2] if quick else WIDTHS
    grid = width_grid(0.5 * widths[0], 2.1 * widths[-1])
    for network, depthwise in tqdm.tqdm(families, unit="family", disable=silent):
        make = partial(named, network, depthwise_bits=depthwise, rng=None)
        targets = sizes_on(widths, partial(make, weight_bits=4))
        for bits in LOW_BITS:
            counted = sizes_on(grid, partial(make, weight_bits=bits))
            for width, target in zip(widths, targets, strict=True):
                found = align(grid, counted, target)
                yield {
                    "network": network,
                    "depthwise_bits": depthwise or bits,
                    "bits": bits,
                    "width_at_4_bits": width,
                    "target_bits": target,
                    **found._asdict(),
                }


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Return the three tables."""
    rows = [
        row._asdict() | {"residual": row.residual, "agrees": row.agrees}
        for row in table3()
    ]
    misses = [miss._asdict() for miss in near_misses()]
    aligned = list(alignments(quick=options.quick, silent=options.json))
    return {"table3": rows, "near_misses": misses, "alignment": aligned}


def lines(found: dict[str, Any]) -> Iterator[str]:
    """Yield the tables as text."""
    yield "Table 3, 10^6 bits"
    yield f"{'network':12s} {'method':14s}  width  computed  printed"
    for row in found["table3"]:
        start = f"{row['network']:12s} {row['method']:14s}"
        if row["computed"] is None:
            yield f"{start} {'not recomputable':>16s} {row['printed']:8.2f}"
        else:
            yield (
                f"{start} {row['width']:6g} {row['computed']:9.4f} "
                f"{row['printed']:8.2f}  {row['residual']:+.4f}  "
                f"{'to the digit' if row['agrees'] else 'DIFFERS'}"
            )
    yield "\nThe 8-bit rows in other ways of counting"
    for miss in found["near_misses"]:
        yield (
            f"{miss['network']:12s} {miss['width']:5g} {miss['computed']:9.4f} "
            f"{miss['printed']:8.2f} {miss['computed'] - miss['printed']:+8.3f} "
            f"{miss['convention']}"
        )
    yield "\nWidths with the size of the 4-bit network (dw: bits of depth-wise weights)"
    for row in found["alignment"]:
        yield (
            f"{row['network']:18s} {row['bits']} bit (dw {row['depthwise_bits']}) "
            f"{row['width_at_4_bits']:4g} -> {row['width']:4.2f}   "
            f"{row['c_size_bits'] / 1e6:8.3f} of {row['target_bits'] / 1e6:8.3f} Mbit, "
            f"{100 * row['residual_bits'] / row['target_bits']:.2f} % left"
        )


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Count, print, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="align one network only")
    parser.add_argument("--output", type=beside, help="file for the tables, as JSON")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    found = measured(options)
    if options.output is not None:
        part = Path(f"{options.output}.part")
        try:
            part.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
            part.replace(options.output)
        except OSError as error:
            part.unlink(missing_ok=True)
            parser.error(f"argument --output: {one_line(error)}")
    print(json.dumps(found) if options.json else "\n".join(lines(found)))
    return found


if __name__ == "__main__":
    main()
