"""Every architecture, form and kind of codes through onnxruntime, as one table.

    python -m deploy.matrix [NAME ...]      with tests/ on the path

A row is one file of ``quantize_static``: its steps, the codes that were compared, and
how many differ from onnxruntime

    shown   optimised, every tensor of codes an output, which keeps some from fusion
    fused   optimised, the output alone
    plain   without optimisation: floats between quantizers, where ties may turn

``equal to`` names the levels that are equalled in everything that they show.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from deploy.architectures import ARCHITECTURES, quantized

from refqnn.deploy import import_onnx, onnx_trace

FORMS = ("QDQ", "QOperator")
KINDS = {
    "u8s8": {"activations": "QUInt8", "weights": "QInt8", "per_channel": True},
    "u8u8": {"activations": "QUInt8", "weights": "QUInt8", "per_channel": False},
    "s8s8": {"activations": "QInt8", "weights": "QInt8", "per_channel": False},
}
LEVELS = ("shown", "fused", "plain")
HEAD = ("file", "steps", "codes", *LEVELS, "equal to")


class Row(NamedTuple):
    """One file: what was compared, and how many codes differ at each level."""

    file: str
    steps: int
    codes: int
    #: level -> step -> codes that differ
    different: dict[str, dict[str, int]]

    @property
    def equal(self):
        """The levels without a difference."""
        return [k for k in LEVELS if not any(self.different[k].values())]

    def cells(self):
        """Return the texts of the table."""
        counts = [str(sum(self.different[k].values())) for k in LEVELS]
        equal = ", ".join(self.equal) or "none"
        return (self.file, str(self.steps), str(self.codes), *counts, equal)


def input_codes(network, x):
    """Return the codes of float images: what the first QuantizeLinear makes of them."""
    grid = network.steps[0].grid
    q = np.rint(x / np.float32(grid.scale)) + grid.zero_point
    dtype = np.uint8 if grid.q_max < 256 else np.uint16
    return np.clip(q, grid.q_min, grid.q_max).astype(dtype)


def output_codes(real, grid):
    """Return the codes of dequantized outputs."""
    q = np.rint(real.astype(np.float64) / np.float32(grid.scale)) + grid.zero_point
    return q.astype(np.int64)


def compare(made, network, images):
    """Count the codes of each step that differ from onnxruntime's, at every level."""
    names = [step.name for step in network.steps[1:]]
    different = {level: dict.fromkeys(names, 0) for level in LEVELS}
    output, last = made.graph.output[0].name, network.steps[-1]
    codes = 0
    for x in images:
        ours = network.trace(input_codes(network, x))
        for level, optimize in (("shown", True), ("plain", False)):
            theirs = onnx_trace(made, x, names, optimize=optimize)
            codes += sum(v.size for v in theirs.values()) if optimize else 0
            for name, got in theirs.items():
                apart = got.ravel() != ours[name].ravel()
                different[level][name] += int(apart.sum())
        got = onnx_trace(made, x, [output])[output]
        if got.dtype == np.float32:
            got = output_codes(got, last.grid)
        apart = got.ravel() != ours[last.name].ravel()
        different["fused"][last.name] += int(apart.sum())
    return codes, different


def row_of(rng, folder, name, form, kind, images=4):
    """Make, import and compare one file."""
    made, shape = quantized(rng, folder, name, form=form, **KINDS[kind])
    network = import_onnx(made)
    x = rng.normal(0, 1, (images, 1, *shape)).astype(np.float32)
    file = f"{name} {form} {kind}"
    return Row(file, len(network.steps), *compare(made, network, x))


def table_of(rows):
    """Return the rows as text."""
    cells = [HEAD, *(row.cells() for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )


def main():
    """Print the table, and the steps that differ at the levels of optimisation."""
    command = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    command.add_argument("names", nargs="*", default=list(ARCHITECTURES))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in command.parse_args().names:
            for form in FORMS:
                for kind in KINDS:
                    rng = np.random.default_rng(0)
                    rows.append(row_of(rng, Path(folder), name, form, kind))
    lines = [table_of(rows)]
    for row in rows:
        for level in LEVELS:
            some = {k: v for k, v in row.different[level].items() if v}
            lines += [f"{row.file} {level}: {some}"] if some else []
    equal = {level: sum(level in row.equal for row in rows) for level in LEVELS}
    sys.stdout.write("\n".join([*lines, f"{len(rows)} files; equal: {equal}", ""]))


if __name__ == "__main__":
    main()
