"""The sources of the package, read and parsed once for all rules about them."""

import ast
import functools
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "refqnn"
parse = functools.cache(ast.parse)


@functools.cache
def nodes(source):
    """List every node of a source; rules ask for the same sources again."""
    return [*ast.walk(parse(source))]


@functools.cache
def sources(root=ROOT):
    """Read the source of every module of the package, by dotted name below a folder."""
    return {
        ".".join(path.relative_to(root).with_suffix("").parts): path.read_text("utf-8")
        for path in sorted(PACKAGE.rglob("*.py"))
    }
