"""``{explorer}``: settings of quantizers, computed at build, looked at by value.

The page holds the numbers as JSON; its script only looks them up and draws them.
Without scripts one setting stands there as a table.
"""

import json
from collections.abc import Callable
from functools import cache
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

#: the values that can be asked for; their statistics are those of a normal sample
GRID = np.linspace(-3, 3, 121).round(3)
SAMPLE = np.random.default_rng(0).standard_normal(2000)
BITS = (2, 3, 4, 5)


class Method(NamedTuple):
    """A quantizer: what makes it, its equation, and where that stands."""

    name: str
    make: Callable[[int, float], Any]
    bits: tuple[int, ...]
    #: "" and (0,) for a method without a number to choose
    parameter: str
    values: tuple[float, ...]
    page: str
    file: str
    tag: str
    equation: str


class Setting(NamedTuple):
    """A method with its bits and number, on the grid."""

    codes: list[int]
    levels: list[float]
    slopes: list[float]


def lsq(bits: int, s: float) -> Any:
    """LSQ's grid of weights with a held step."""
    module = qz.LSQ(bits=bits)
    module.set_step(s)
    return module


def pact(bits: int, alpha: float) -> Any:
    """PACT with a held level."""
    module = qz.PACT(bits=bits)
    module.set_alpha(alpha)
    return module


def qil(bits: int, gamma: float) -> Any:
    """QIL with the interval [0.25, 1.75] and an exponent."""
    module = qz.QILWeight(bits=bits)
    module.set_interval(1.0, 0.75, gamma)
    return module


METHODS = (
    Method(
        "Fixed point, clip of a Gaussian", lambda bits, _: qz.FixedPoint(bits=bits),
        BITS, "", (0,), "quantizers/fixed_point_weights",
        "refqnn/quantizers/fixed_point_weights.py", "1",
        r"Q(w) = s \lfloor \operatorname{clip}(w, -a, a) / s \rceil",
    ),
    Method(
        "LSQ", lsq, BITS, "s", (0.25, 0.5, 1.0), "quantizers/learned_step_size",
        "refqnn/quantizers/learned_step_size.py", "2", r"\hat v = s\, \bar v",
    ),
    Method(
        "PACT", pact, BITS, "alpha", (1.0, 2.0, 3.0),
        "quantizers/parameterized_clipping",
        "refqnn/quantizers/parameterized_clipping.py", "Q",
        r"y_q = \lfloor y\, n / \alpha \rceil\, \alpha / n",
    ),
    Method(
        "QIL, interval 0.25 to 1.75", qil, BITS, "gamma", (0.5, 1.0, 2.0),
        "quantizers/qil", "refqnn/quantizers/qil.py", "D",
        r"Q(w) = \lfloor n\, T_W(w) \rceil / n",
    ),
)  # fmt: skip


@cache
def setting(index: int, bits: int, number: float) -> Setting:
    """Quantize the grid: codes in order of their levels, and dy / dv at each value."""
    method = METHODS[index]
    module = method.make(bits, number)
    v = np.concatenate([GRID, SAMPLE])[None]
    y, kept = module.forward(v, Run())
    codes, levels = module.encode(v)
    if not np.array_equal(np.ravel(levels)[codes], y):
        raise ValueError(f"{method.name}: levels[codes] differ from the output")
    slopes = []
    for i in range(GRID.size):
        dy = np.zeros_like(v)
        dy[0, i] = 1
        slopes.append(float(module.backward(dy, kept)[0, i]))
    own = np.ravel(levels).tolist()
    return Setting(codes[0, : GRID.size].tolist(), own, slopes)


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
                    "page": app.builder.get_relative_uri(docname, method.page),
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
