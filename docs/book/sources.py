"""Source files as pages of the book, every line with an address."""

from collections.abc import Iterator
from typing import Any

from docutils import nodes
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer
from sphinx.application import Sphinx
from sphinx.util.docutils import ReferenceRole

from book.tags import ROOT, line_of, read

#: files that a page may point to
ROOMS = ("refqnn", "tests", "examples", "docs/book")
FOLDER = "source"


def sources() -> list[str]:
    """List the files that have a page."""
    files = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    return sorted(path.relative_to(ROOT).as_posix() for path in files)


def page_of(path: str) -> str:
    """Name the page of a file.

    >>> page_of("refqnn/quantizers/qil.py")
    'source/refqnn/quantizers/qil'
    """
    return f"{FOLDER}/{path.removesuffix('.py')}"


def uri(app: Sphinx, docname: str, path: str, line: int | None = None) -> str:
    """Write the address of a file, or of a line in it, as seen from a page."""
    if not (ROOT / path).is_file():
        raise ValueError(f"{path} is no file of the project")
    address = app.builder.get_relative_uri(docname, page_of(path))
    return f"{address}#L-{line}" if line else address


class SourceRole(ReferenceRole):
    """``{source}`refqnn/ops/conv.py::conv2d```: a link to a file or a name in it."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Write the link; a path or name that is unknown is an error."""
        path, _, name = self.target.partition("::")
        try:
            line = (
                int(name) if name.isdigit() else line_of(path, name) if name else None
            )
            address = uri(self.env.app, self.env.docname, path, line)
        except (ValueError, OSError) as error:
            message = self.inliner.reporter.error(str(error), line=self.lineno)
            return [], [message]
        text = self.title if self.has_explicit_title else name or path
        shown = nodes.literal(text=text)
        return [nodes.reference("", "", shown, refuri=address, internal=True)], []


def pages(_: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Give every source file as a page."""
    formatter = HtmlFormatter(linenos="inline", linespans="L", anchorlinenos=True)
    for path in sources():
        code = highlight(read(path), PythonLexer(), formatter)
        body = f'<h1>{path}</h1>\n<div class="source" tabindex="0">{code}</div>'
        yield page_of(path), {"title": path, "body": body, "toc": ""}, "page.html"


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the role and the pages."""
    app.add_role("source", SourceRole())
    app.connect("html-collect-pages", pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
