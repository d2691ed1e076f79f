"""``{explorer}``: settings of quantizers, computed at build, looked at by value.

The page holds the numbers as JSON; its script only looks them up and draws them.
Without scripts one setting stands there as a table.
"""

import itertools
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from book.mathml import mathml
from book.sources import uri
from book.tags import cuts
from refqnn import quantizers as qz
from refqnn.core import Run

DOCS = Path(__file__).parents[1]
#: the values that can be asked for; their statistics are those of a normal sample
GRID = np.linspace(-3, 3, 121).round(3)
SAMPLE = np.random.default_rng(0).standard_normal(2000)
BITS = (2, 3, 4, 5)


class Method(NamedTuple):
    """A quantizer: what makes it, and its equation, by the tag on its page."""

    name: str
    make: Callable[[int, float], Any]
    bits: tuple[int, ...]
    page: str
    tag: str
    #: "" and (0,) for a method without a number to choose
    parameter: str = ""
    values: tuple[float, ...] = (0,)
    #: where its equation is computed; the page's own file by default
    module: str = ""

    @property
    def file(self) -> str:
        """The file that computes the equation."""
        return f"refqnn/quantizers/{self.module or self.page}.py"

    @property
    def equation(self) -> str:
        """Read the equation off the page of the quantizer."""
        lines = (DOCS / "quantizers" / f"{self.page}.md").read_text().splitlines()
        at = lines.index(f"```{{equation}} {self.file} {self.tag}") + 1
        return "\n".join(itertools.takewhile(bool, lines[at:]))


class Setting(NamedTuple):
    """A method with its bits and number, on the grid."""

    codes: list[int]
    levels: list[float]
    slopes: list[float]


def of(kind: Any, **fixed: Any) -> Callable[[int, float], Any]:
    """Make a quantizer of some bits."""
    return lambda bits, _: kind(bits=bits, **fixed)


def held(kind: Any, number: str, **others: float) -> Callable[[int, float], Any]:
    """Make a quantizer of some bits, one of its learned numbers chosen."""

    def make(bits: int, value: float) -> Any:
        module = kind(bits=bits)
        module.hold(**{number: value}, **others)
        return module

    return make


def qil(kind: Any) -> Callable[[int, float], Any]:
    """QIL with the interval [0.25, 1.75], and for weights an exponent."""

    def make(bits: int, gamma: float) -> Any:
        module = kind(bits=bits)
        module.set_interval(1.0, 0.75, *([gamma] if gamma else []))
        return module

    return make


STEPS = ("s", (0.25, 0.5, 1.0))
METHODS = (
    Method("Fixed point, clip of a Gaussian", of(qz.FixedPoint), BITS,
           "fixed_point_weights", "1"),
    Method("LSQ", held(qz.LSQ, "s"), BITS, "learned_step_size", "2", *STEPS),
    Method("PACT", held(qz.PACT, "alpha"), BITS, "parameterized_clipping", "Q",
           "alpha", (1.0, 2.0, 3.0)),
    Method("QIL, interval 0.25 to 1.75", qil(qz.QILWeight), BITS, "qil", "D",
           "gamma", (0.5, 1.0, 2.0)),
    Method("QIL, activations", qil(qz.QILActivation), BITS,
           "qil", "D", module="qil_activations"),
    Method("LSQ+, offset -0.9", held(qz.LSQPlus, "s", beta=-0.9), BITS,
           "learned_offset", "D", *STEPS),
    Method("Learned range, from -1", held(qz.LearnedMinMax, "hi", lo=-1.0), BITS,
           "learned_range", "Y", "hi", (1.0, 2.0)),
    Method("Affine grid, from -1", held(qz.Affine, "hi", lo=-1.0), BITS,
           "affine_grid", "12", "hi", (1.0, 2.0)),
    Method("Min-max", of(qz.MinMax), BITS, "min_max_grid", "Q"),
    Method("Binary", of(qz.Binary), (1,), "binary_weights", "2"),
    Method("XNOR, weights", of(qz.XnorWeight), (1,), "xnor", "W"),
    Method("XNOR, activations", of(qz.XnorActivation), (1,), "xnor", "I"),
    Method("Ternary", of(qz.Ternary), (2,), "ternary_weights", "3"),
    Method("TWN", of(qz.TWN), (2,), "ternary_weight_networks", "C"),
    Method("TTQ, negative level 0.8", held(qz.TTQ, "wp", wn=0.8), (2,),
           "trained_ternary", "6", "wp", (0.5, 1.0, 1.5)),
    Method("SYQ, one scale", lambda *_: qz.SYQ(group="layer"), (2,),
           "symmetric_quantization", "S"),
    Method("TSQ, weights", of(qz.TSQWeight), (2,), "tsq", "T", module="tsq_weights"),
    Method("TSQ, activations", of(qz.TSQActivation), BITS, "tsq", "Q"),
    Method("DoReFa, weights", of(qz.DoReFaWeight), BITS, "dorefa", "W"),
    Method("DoReFa, activations", of(qz.DoReFaActivation), BITS, "dorefa", "A"),
    Method("SAWB", of(qz.SAWB), BITS, "statistics_aware", "Q"),
    Method("Balanced quantization", of(qz.Balanced), BITS, "balanced_quantization",
           "R"),
    Method("LQ-Nets, weights", of(qz.LQWeight, filters=1), (2, 3), "lq_nets", "Q"),
    Method("LQ-Nets, activations", of(qz.LQActivation), (2, 3), "lq_nets", "Q"),
    Method("ABC-Net, weights, a base a bit", lambda n, _: qz.ABCWeight(bases=n), BITS,
           "abc_net", "W"),
    Method("ABC-Net, activations, a base a bit", lambda n, _: qz.ABCActivation(bases=n),
           BITS, "abc_net", "R"),
    Method("WEQ, weights", lambda bits, _: qz.WEQWeight(levels=2**bits), (2, 3, 4),
           "weq", "Q"),
    Method("WEQ, activations", lambda bits, _: qz.WEQActivation(levels=2**bits),
           (2, 3, 4), "weq", "A", module="weq_logarithm"),
    Method("HAQ, linear", of(qz.HAQLinear), BITS, "haq", "L"),
    Method("HAQ, k-means", of(qz.KMeansWeight), (2, 3, 4), "haq_kmeans", "Y"),
)  # fmt: skip


def quantizer(method: Method, bits: int, number: float) -> Any:
    """Make a quantizer that knows its numbers, if need be from grid and sample."""
    module, v = method.make(bits, number), np.concatenate([GRID, SAMPLE])[None]
    try:
        module.forward(v, Run())
    except ValueError:  # it takes its first numbers from a training pass
        module.forward(v, Run(training=True, rng=np.random.default_rng(0)))
    return module


@cache
def setting(index: int, bits: int, number: float) -> Setting:
    """Quantize the grid: codes in order of their levels, and dy / dv at each value."""
    method, v = METHODS[index], np.concatenate([GRID, SAMPLE])[None]
    module = quantizer(method, bits, number)
    y, kept = module.forward(v, Run())
    codes, levels = module.encode(v)
    if not np.array_equal(np.ravel(levels)[codes], y):
        raise ValueError(f"{method.name}: levels[codes] differ from the output")
    slopes = []
    for i in range(GRID.size):
        dy = np.zeros_like(v)
        dy[0, i] = 1
        slopes.append(float(module.backward(dy, kept)[0, i]))
    own, which = np.unique(np.ravel(levels), return_inverse=True)
    return Setting(which[codes[0, : GRID.size]].tolist(), own.tolist(), slopes)


def key(bits: int, number: float) -> str:
    """Name a setting as the page's script does."""
    return f"{bits}/{number:g}"


def settings(index: int) -> dict[str, Setting]:
    """Compute every setting of a method."""
    method = METHODS[index]
    return {
        key(bits, number): setting(index, bits, number)
        for bits in method.bits
        for number in method.values
    }


class Explorer(SphinxDirective):
    """The numbers of every setting, controls, and a table that needs no script."""

    def run(self) -> list[nodes.Node]:
        """Write the page's part."""
        methods = []
        for index, method in enumerate(METHODS):
            line = cuts(method.file, method.tag)[0].tagged
            app, docname = self.env.app, self.env.docname
            methods.append(
                {
                    "name": method.name,
                    "bits": method.bits,
                    "parameter": method.parameter,
                    "values": method.values,
                    "page": app.builder.get_relative_uri(
                        docname, f"quantizers/{method.page}"
                    ),
                    "line": uri(app, docname, method.file, line),
                    "where": f"{method.file}, line {line}",
                    "equation": mathml(method.equation, block=False),
                    "tag": method.tag,
                    "settings": {
                        name: each._asdict() for name, each in settings(index).items()
                    },
                }
            )
        data = json.dumps({"grid": GRID.tolist(), "methods": methods})
        page = (
            '<div id="explorer" class="explorer"></div>\n'
            '<script type="application/json" id="explorer-data">'
            f"{data.replace('</', '<' + chr(92) + '/')}</script>\n"
            f"<noscript>{table(METHODS[1], setting(1, 3, 0.5))}</noscript>"
        )
        self.env.app.add_js_file("explorer.js", loading_method="defer")
        return [nodes.raw("", page, format="html")]


def table(method: Method, own: Setting) -> str:
    """Write one setting as a table, every tenth value."""
    rows = [
        f"<tr><td>{GRID[i]:g}</td><td>{own.codes[i]}</td>"
        f"<td>{own.levels[own.codes[i]]:g}</td><td>{own.slopes[i]:g}</td></tr>"
        for i in range(0, GRID.size, 10)
    ]
    head = "<tr><th>v</th><th>index of level</th><th>level</th><th>dy / dv</th></tr>"
    name = f"{method.name}, 3 bits, {method.parameter} = 0.5"
    return f"<table><caption>{name}</caption>{head}{''.join(rows)}</table>"


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("explorer", Explorer)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
