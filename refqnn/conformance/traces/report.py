"""A network of integers and a model of a runtime, tensor by tensor, as one page.

    compare_model     integer network, ONNX model, images -> Comparison
    compare_tensors   integer network, the tensors of another one -> Comparison
    html_page         Comparison -> one HTML page, self-contained, without scripts

An ONNX model runs in onnxruntime. Its first quantizer makes the codes that both read;
from there on every tensor of codes that a step stores is compared with the model's.
"""

import html
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from refqnn._types import Array
from refqnn.conformance.traces.bisection import Bisection, bisect
from refqnn.conformance.traces.record import trace
from refqnn.deploy import IntegerNetwork, onnx_trace

#: largest differences that a bar of the page shows in full
FULL = 8


class Row(NamedTuple):
    """One tensor of codes: how many differ, by how much."""

    name: str
    operation: str
    inputs: tuple[str, ...]
    elements: int
    different: int
    largest: int


class Comparison(NamedTuple):
    """Arrays that differ, and the decisions of both networks."""

    rows: tuple[Row, ...]
    bisection: Bisection
    images: int
    #: images whose largest logit is another one
    decisions: int

    @property
    def exit_code(self) -> int:
        """0 equal, 1 different, 3 nothing was compared."""
        return self.bisection.exit_code

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values, for JSON."""
        return {
            "images": self.images,
            "different_decisions": self.decisions,
            "tensors": [row._asdict() for row in self.rows],
            "bisection": self.bisection.as_dict(),
        }

    def __str__(self) -> str:
        table = [("tensor", "codes", "differ", "largest")]
        table += [
            (r.name, str(r.elements), str(r.different), str(r.largest))
            for r in self.rows
        ]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [
            "  ".join([r[0].ljust(widths[0]), *map(str.rjust, r[1:], widths[1:])])
            for r in table
        ]
        decided = f"decisions  {self.decisions} of {self.images} images differ"
        return "\n".join([*lines, "", decided, str(self.bisection)])


def compare_model(network: IntegerNetwork, model: Any, x: Array) -> Comparison:
    """Compare the codes of every step with a model's, as onnxruntime computes them.

    x: the input of the model, (N, C, H, W) float32 or uint8

    Raises ValueError where the model has no tensor of the network's first codes.
    """
    names = [step.name for step in network.steps]
    parts = [onnx_trace(model, image[None], names) for image in x]
    theirs = {k: np.concatenate([p[k] for p in parts]) for k in (parts or [{}])[0]}
    return compare_tensors(network, theirs)


def compare_tensors(network: IntegerNetwork, theirs: dict[str, Array]) -> Comparison:
    """Compare the codes of every step with tensors of the same name: (N, ...)

    The network runs on its first codes, which must be among them.
    """
    names = [step.name for step in network.steps]
    if names[0] not in theirs:
        raise ValueError(f"the model has no tensor {names[0]!r}, the network's images")
    codes = theirs[names[0]]
    if codes.dtype == np.int8 and network.steps[0].grid.q_min == 0:
        codes = theirs[names[0]] = (codes.astype(np.int16) + 128).astype(np.uint8)
    ours = trace(network, codes)
    theirs = {
        k: v.reshape(ours.tensors[k].shape) if v.size == ours.tensors[k].size else v
        for k, v in theirs.items()
    }
    rows = tuple(
        row_of(name, ours.manifest[name], want, theirs[name])._replace(
            inputs=tuple(shown_inputs(ours.manifest, name, theirs))
        )
        for name, want in ours.tensors.items()
        if name in theirs
    )
    bisection = bisect(ours, theirs, any_dtype=True)
    codes_only = [name for name in bisection.missing if name in names]
    return Comparison(
        rows,
        replace(bisection, missing=codes_only),  # a model keeps no accumulators
        len(codes),
        different_decisions(ours.tensors[names[-1]], theirs.get(names[-1])),
    )


def shown_inputs(manifest: Any, name: str, shown: Any) -> Iterator[str]:
    """Yield what a tensor reads, through accumulators that no model keeps."""
    for source in manifest[name]["inputs"] if name in manifest else ():
        if source in shown:
            yield source
        else:
            yield from shown_inputs(manifest, source, shown)


def row_of(name: str, record: Any, want: Array, got: Array) -> Row:
    """Return the row of one tensor; every code differs where the shapes do."""
    if want.shape != got.shape:
        return Row(name, "another shape", (), want.size, want.size, 0)
    apart = np.abs(want.astype(np.int64) - got.astype(np.int64))
    operation = record.get("operation", record["kind"])
    words = operation if isinstance(operation, str) else " ".join(operation)
    inputs = tuple(record["inputs"])
    different, largest = int((apart > 0).sum()), int(apart.max(initial=0))
    return Row(name, words, inputs, want.size, different, largest)


def different_decisions(ours: Array, theirs: Array | None) -> int:
    """Return on how many images the largest of the last codes is another one."""
    if theirs is None or theirs.shape != ours.shape or ours.ndim < 2:
        return 0
    apart = ours.argmax(axis=1) != theirs.argmax(axis=1)
    return int(apart.reshape(len(apart), -1).any(axis=1).sum())


STYLE = """body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:62rem}
table{border-collapse:collapse;width:100%}
td,th{padding:.25rem .6rem;border-bottom:1px solid #ddd;text-align:left}
td.n{text-align:right;font-variant-numeric:tabular-nums}
.bar{background:#e45a2a;display:inline-block;height:.7em}
tr.first{background:#fdeee7}
svg{max-width:100%;height:auto}
svg text{font:13px system-ui,sans-serif;fill:currentColor}
path{fill:none;stroke:#8a8a8a}
circle{fill:#3a7d44}
circle.wrong{fill:#e45a2a}
pre{background:#f5f5f5;padding:1rem;overflow-x:auto}
@media(prefers-color-scheme:dark){body{background:#161616;color:#e8e8e8}
pre,tr.first{background:#2a2421}td,th{border-color:#444}}"""


def html_page(comparison: Comparison, title: str) -> str:
    """Return the page: a row a tensor, its inputs, a bar for what differs, the first.

    Nothing is loaded from outside and nothing runs.
    """
    first = comparison.bisection.first
    equal = comparison.exit_code == 0
    head = "equal in every tensor" if equal else "different"
    rows = "\n".join(
        table_row(row, first=first is not None and row.name == first.name)
        for row in comparison.rows
    )
    safe, detail = html.escape(title), html.escape(str(comparison.bisection))
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{safe}: {head}</title><style>{STYLE}</style></head><body>
<h1>{safe}</h1>
<p>{comparison.images} images; {comparison.decisions} decisions differ; {head}.</p>
<table><thead><tr><th>tensor</th><th>operation</th><th>reads</th><th>codes</th>
<th>differ</th><th>largest</th><th>share</th></tr></thead><tbody>
{rows}
</tbody></table>
<h2>Graph</h2>
{graph(comparison.rows)}
<h2>First difference</h2><pre>{detail}</pre>
</body></html>
"""


#: pixels from one tensor of the graph to the next, and to the column of its name
PITCH, COLUMN = 22, 180


def graph(rows: tuple[Row, ...]) -> str:
    """Return the tensors as one picture: a line down, and an arc for every other edge.

    Arcs reach the further left the more tensors they pass; a tensor with codes that
    differ is orange.
    """
    at = {row.name: i for i, row in enumerate(rows)}
    edges, nodes = [], []
    for i, row in enumerate(rows):
        y = PITCH * (i + 1)
        for source in (at[name] for name in row.inputs if name in at):
            far = min(12 * (i - source - 1), COLUMN - 24)
            start = PITCH * (source + 1)
            bend = f"C{COLUMN - far} {start},{COLUMN - far} {y},{COLUMN} {y}"
            edges.append(f'<path d="M{COLUMN} {start}{bend}"></path>')
        kind = ' class="wrong"' if row.different else ""
        text = f"{row.name}: {row.operation}"
        text += f", {row.different} of {row.elements} differ" if row.different else ""
        nodes.append(
            f'<circle{kind} cx="{COLUMN}" cy="{y}" r="5"></circle>'
            f'<text x="{COLUMN + 14}" y="{y + 4}">{html.escape(text)}</text>'
        )
    size = f"0 0 900 {PITCH * (len(rows) + 1)}"
    label = 'role="img" aria-label="the tensors and what each reads"'
    return "\n".join([f'<svg viewBox="{size}" {label}>', *edges, *nodes, "</svg>"])


def table_row(row: Row, *, first: bool) -> str:
    """Return the row of one tensor; the first that differs is marked."""
    share = row.different / max(row.elements, 1)
    bar = f'<span class="bar" style="width:{max(share * FULL, 0.1):.2f}em"></span>'
    cells = (html.escape(v) for v in (row.name, row.operation, ", ".join(row.inputs)))
    numbers = (row.elements, row.different, row.largest)
    return (
        f"<tr{' class=first' if first else ''}>"
        + "".join(f"<td>{cell}</td>" for cell in cells)
        + "".join(f'<td class="n">{number}</td>' for number in numbers)
        + f"<td>{bar if row.different else ''} {100 * share:.3g} %</td></tr>"
    )
