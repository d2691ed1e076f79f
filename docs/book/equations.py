r"""``{equation} FILE TAG``: an equation, what it means, and the lines that compute it.

    ```{equation} refqnn/quantizers/learned_step_size.py 2
    \hat v = s \, \bar v

    The code times the step: back on the scale of $v$.
    ```

The lines are cut from the file by their tag. A tag that is missing is an error.
"""

from typing import Any, ClassVar

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from book.sources import uri
from book.tags import Cut, cuts

#: LaTeX of more characters needs the whole column: its lines stand below
WIDE = 100


class Equation(SphinxDirective):
    """An equation beside its lines."""

    has_content = True
    required_arguments = 2
    option_spec: ClassVar[dict[str, Any]] = {"shown": str}

    def run(self) -> list[nodes.Node]:
        """Set formula, prose and lines into one container."""
        path, tag = self.arguments
        try:
            pieces = cuts(path, tag)
        except (ValueError, OSError) as error:
            raise self.error(str(error)) from error
        blank = next((i for i, line in enumerate(self.content) if not line), None)
        tex = "\n".join(self.content[:blank])
        formula = nodes.math_block(tex, tex, nowrap=False, number=None)
        formula["shown"] = self.options.get("shown", tag)
        formula.line = self.lineno
        left = nodes.container("", formula, classes=["formula"])
        if blank is not None:
            self.state.nested_parse(
                self.content[blank + 1 :], self.content_offset + blank + 1, left
            )
        right = nodes.container("", classes=["lines"])
        for piece in pieces:
            right += self.lines(path, piece)
        classes = ["equation", *(["wide"] if len(tex) > WIDE else [])]
        name = f"equation-{nodes.make_id(tag)}"
        return [nodes.container("", left, right, classes=classes, ids=[name])]

    def lines(self, path: str, piece: Cut) -> list[nodes.Node]:
        """Give the statement, under a link to its place."""
        address = uri(self.env.app, self.env.docname, path, piece.tagged)
        shown = f"{path.rsplit('/', 1)[-1]}, line {piece.tagged}"
        link = nodes.reference("", shown, refuri=address, internal=True)
        code = nodes.literal_block(piece.text, piece.text, language="python")
        if piece.last > piece.first:
            code["highlight_args"] = {"hl_lines": [piece.tagged - piece.first + 1]}
        return [nodes.paragraph("", "", link, classes=["place"]), code]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("equation", Equation)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
