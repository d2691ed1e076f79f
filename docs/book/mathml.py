"""Equations as MathML, written at build: no script, no font from elsewhere."""

import re
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)
TAG = re.compile(r"\\tag\{(.*?)\}")
#: delimiters of a size: the converter knows them as left ones only
SIZES = re.compile(r"\\([bB]igg?)(?![a-zA-Z])")
#: fences that stay as high as the text unless LaTeX asks for more: a rune of their own
#: while the converter runs, and the element they become
FENCES = {
    r"\{": ("\u16a0", "prefix", "{"),
    r"\}": ("\u16a1", "postfix", "}"),
    r"\lfloor": ("\u16a2", "prefix", "\u230a"),
    r"\rfloor": ("\u16a3", "postfix", "\u230b"),
    r"\lceil": ("\u16a4", "prefix", "\u2308"),
    r"\rceil": ("\u16a5", "postfix", "\u2309"),
    r"\langle": ("\u16a6", "prefix", "\u27e8"),
    r"\rangle": ("\u16a7", "postfix", "\u27e9"),
}
DOTS = re.compile(r"\\dots(?![a-zA-Z])")
#: LaTeX reads one digit behind a fraction, the converter a whole number
DIGITS = re.compile(r"(\\[td]?frac(?:\{\d\})?)(\d)")
FENCE = re.compile(
    r"(?<!\\left)(?<!\\right)(?<![bB]igl)(?<![bB]igr)(?<![bB]iggl)"
    r"(\\[{}]|\\[lr](?:floor|ceil|angle)(?![a-zA-Z]))"
)


def mathml(tex: str, *, block: bool) -> str:
    r"""Convert LaTeX to one MathML element; ``\tag`` is left to the caller.

    >>> "<mi>x</mi>" in mathml("x", block=False)
    True
    """
    tex = DOTS.sub(r"\\ldots", tex)
    plain = SIZES.sub(r"\\\1l", TAG.sub("", tex)).strip()
    plain = DIGITS.sub(r"\1{\2}", DIGITS.sub(r"\1{\2}", plain))
    plain = FENCE.sub(lambda fence: FENCES[fence[1]][0], plain)
    text = " ".join(str(tex2mathml(plain, as_block=block)).split())
    for sign, form, shown in FENCES.values():
        element = f'<mo form="{form}" stretchy="false">{shown}</mo>'
        text = text.replace(f"<mi>{sign}</mi>", element)
    bar = '<mo stretchy="false">|</mo>'
    return text.replace(bar, bar.replace(">|", ' lspace="0" rspace="0">|'))


def converted(node: nodes.Element, *, block: bool) -> str:
    """Convert a node's LaTeX; an equation that cannot be read is a warning."""
    try:
        return mathml(node.astext(), block=block)
    except Exception as error:  # noqa: BLE001 - the converter raises many kinds
        logger.warning("equation: %s: %s", error, node.astext(), location=node)
        return ""


def visit_inline(translator: Any, node: nodes.Element) -> None:
    """Write an equation within a line."""
    translator.body.append(converted(node, block=False))
    raise nodes.SkipNode


def visit_block(translator: Any, node: nodes.Element) -> None:
    """Write an equation on lines of its own, its number at the right."""
    tags = TAG.findall(node.astext())
    number = node.get("shown") or (tags[0] if tags else "")
    shown = f'<span class="number">({number})</span>' if number else ""
    body = converted(node, block=True)
    translator.body.append(
        f'<div class="display" tabindex="0"><div>{body}</div>{shown}</div>\n'
    )
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the renderer."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
