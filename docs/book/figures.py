"""Figures drawn by the package when the book is built, as SVG within the page.

Ink and greys become colours of the theme, so that a figure is read in the dark, too.
"""

import io
import re
from collections.abc import Callable
from hashlib import sha256
from typing import Any, ClassVar

import matplotlib as mpl
import numpy as np
from docutils import nodes
from docutils.parsers.rst import directives
from matplotlib.figure import Figure
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from book import diagrams, stories
from refqnn import quantizers
from refqnn.plots.gallery import draw_slopes, draw_transfer
from refqnn.plots.quantizer import measure
from refqnn.plots.style import GREY, INK, LIGHT, PALE, STYLE

#: what is drawn -> how the theme calls its colour
COLOURS = {
    INK: "var(--book-ink)",
    GREY: "var(--book-grey)",
    LIGHT: "var(--book-light)",
    PALE: "var(--book-pale)",
    "#003b5c": "var(--book-deep)",
    "#0072b2": "var(--book-blue)",
    "#d55e00": "var(--book-red)",
}
VALUES = np.random.default_rng(0).standard_normal((1, 4000)).astype(np.float32)


def svg(figure: Figure, name: str, alt: str) -> str:
    """Write a figure as an SVG element with colours of the theme and names of its own.

    Text stays text; nothing is read from elsewhere.
    """
    file = io.BytesIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(file, format="svg", metadata=metadata, transparent=True)
    text = file.getvalue().decode("utf-8")
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    own = "f" + sha256(name.encode()).hexdigest()[:8]
    text = re.sub(r'\bid="', f'id="{own}', text)
    text = re.sub(r'(href="|url\()#', rf"\1#{own}", text)
    for drawn, shown in COLOURS.items():
        text = re.sub(rf"{drawn}\b", shown, text, flags=re.IGNORECASE)
    text = re.sub(r"font: ([^;\"]*?) '[^;\"]*", r"font: \1 var(--font-stack)", text)
    return text.replace("<svg ", f'<svg role="img" aria-label="{alt}" ', 1)


def transfer(name: str, options: dict[str, Any]) -> tuple[Figure, str]:
    """Draw transfer function and gradient of a quantizer on standard normal values."""
    kind = getattr(quantizers, name)
    held = options.pop("hold", {})
    quantizer = kind(**options)
    v = VALUES if not name.endswith("Activation") else np.abs(VALUES)
    if options.get("of") == "activation" or name == "PACT":
        v = np.maximum(VALUES, 0)
    if held:
        quantizer.forward(v, _training())
        quantizer.hold(**held)
    row = measure(name, quantizer, v, passes=0 if held else 2)
    with mpl.rc_context(STYLE):
        figure = Figure((8.4, 3.5))
        panels = figure.subplots(1, 2)
        draw_transfer(panels[0], row)
        draw_slopes(panels[1], row)
        panels[1].set_xlim(panels[0].get_xlim())
        figure.tight_layout(w_pad=3)
    text = ", ".join(f"{key} {value}" for key, value in {**options, **held}.items())
    return figure, f"Transfer function and gradient of {name}, {text or 'as it starts'}"


def _training() -> Any:
    from refqnn.core import Run  # noqa: PLC0415 - beside its one use

    return Run(training=True)


def literal(text: str) -> Any:
    """Read a number, or keep a word.

    >>> literal("3"), literal("0.5"), literal("weight")
    (3, 0.5, 'weight')
    """
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"True": True, "False": False}.get(text, text)


def pairs(text: str) -> dict[str, Any]:
    """Read ``bits=3 of=weight``."""
    return {
        name: literal(value)
        for name, value in (part.split("=", 1) for part in text.split())
    }


class FigureDirective(SphinxDirective):
    """A figure with its caption."""

    required_arguments = 1
    final_argument_whitespace = True
    has_content = True
    option_spec: ClassVar[dict[str, Any]] = {"hold": directives.unchanged}
    draw: Callable[..., tuple[Figure, str]]

    def run(self) -> list[nodes.Node]:
        """Draw and set the figure."""
        figure, alt = self.figure()
        drawn = svg(figure, f"{self.env.docname}:{self.lineno}", alt)
        box = nodes.figure(classes=["drawn"])
        inner = f'<div class="scrolls" tabindex="0">{drawn}</div>'
        box += nodes.raw("", inner, format="html")
        if self.content:
            caption = nodes.container()
            self.state.nested_parse(self.content, self.content_offset, caption)
            box += nodes.caption("", "", *caption.children[0].children)
        return [box]

    def figure(self) -> tuple[Figure, str]:
        """Draw the figure, and say in a line what it shows."""
        raise NotImplementedError


class TransferFigure(FigureDirective):
    """``{transfer} LSQ bits=3``, with ``:hold: s=0.5``."""

    def figure(self) -> tuple[Figure, str]:
        """Draw transfer function and gradient."""
        name, _, rest = self.arguments[0].partition(" ")
        options = pairs(rest)
        if "hold" in self.options:
            options["hold"] = pairs(self.options["hold"])
        return transfer(name, options)


class StoryFigure(FigureDirective):
    """``{story} ties``: a figure of ``book.stories`` or ``book.diagrams``."""

    def figure(self) -> tuple[Figure, str]:
        """Draw the figure of that name; its first line says what it shows."""
        name = self.arguments[0]
        function = getattr(stories, name, None) or getattr(diagrams, name, None)
        if function is None:
            raise self.error(f"neither book.stories nor book.diagrams draws {name}")
        with mpl.rc_context(STYLE):
            return function(), str(function.__doc__).split("\n")[0]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive("transfer", TransferFigure)
    app.add_directive("story", StoryFigure)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
