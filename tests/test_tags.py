"""Equations and their lines: every number of a file's head has a tagged line, and back.

A head lists equations in a table ``paper, code, where``, or shows them with their
number at the end of the line. The line that computes equation 3 ends with ``# (3)``,
inside the function that the table names. A number is listed once and tagged at most
once a function.
"""

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "refqnn"
#: a folder of the package -> its files that hold equations
ROOMS = ("quantizers", "ops", "integer")
#: files without equations of their own
BARE = {
    "quantizers/module.py": "the module over a pair",
    "quantizers/checks.py": "what every quantizer checks",
    "ops/checks.py": "what every op checks",
    "ops/broadcast.py": "sums over broadcast axes",
    "integer/checks.py": "what every operation checks",
}
NUMBER = r"(?:[A-Z]?\d+[a-z]?|[A-Z])"
#: ``# (3)``, ``# (7), (8)``, ``# (Q); why``
COMMENT = re.compile(rf"#:?\s*((?:\({NUMBER}\)(?:,\s*|\s+and\s+|\s*))+)")
HEADER = re.compile(r"^(\s+)(?:paper|symbol)(\s+)code(\s+)where\s*$", re.MULTILINE)
SHOWN = re.compile(rf"^ {{4,}}\S.*\s{{2,}}\(({NUMBER})\)$", re.MULTILINE)


def table_of(head):
    """Read the rows of a head's table: number of an equation -> names in ``where``."""
    start = HEADER.search(head)
    if start is None:
        return {}
    lines = head[start.start() :].lstrip("\n").split("\n\n")[0].splitlines()
    code, where = lines[0].index("code"), lines[0].index("where")
    rows, indent = [], len(lines[0]) - len(lines[0].lstrip())
    for line in lines[1:]:
        deeper = len(line) - len(line.lstrip()) > indent
        if deeper and rows:
            rows[-1] = (rows[-1][0] + " " + line[:code], rows[-1][1] + line[where:])
        else:
            rows.append((line[:code], line[where:]))
    table = {}
    for symbol, names in rows:
        for number in re.findall(rf"(?<!\w)\(({NUMBER})\)", symbol):
            table.setdefault(number, set()).update(re.findall(r"\w+", names))
    return table


def listed(source):
    """Read what a head lists: number -> functions that may compute it; None: any."""
    head = ast.get_docstring(ast.parse(source)) or ""
    return dict.fromkeys(SHOWN.findall(head)) | table_of(head)


def tagged(source):
    """List ``(number, function, line)`` of every tag in a comment."""
    spans = [
        (node.lineno, node.end_lineno, node.name)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef)
    ]
    tags = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        match = COMMENT.match(token.string) if token.type == tokenize.COMMENT else None
        for number in re.findall(r"\((\w+)\)", match[1]) if match else ():
            line = token.start[0]
            names = [name for first, last, name in spans if first <= line <= last]
            tags.append((number, names[-1] if names else "", line))
    return tags


def is_function(node):
    """Say whether a node defines a function; methods of one name are several."""
    return isinstance(node, ast.FunctionDef)


def complaints(source):
    """List what a file's head and its tags disagree on."""
    head, tags = listed(source), tagged(source)
    missing = sorted({*head} - {number for number, _, _ in tags})
    lines = [f"({number}) is listed and no line is tagged" for number in missing]
    for number, function, line in tags:
        if number not in head:
            lines.append(f"line {line}: ({number}) is not listed")
        elif head[number] is not None and function not in head[number]:
            lines.append(f"line {line}: ({number}) is not said to be in {function}")
    starts = [n.lineno for n in ast.walk(ast.parse(source)) if is_function(n)]
    places = [
        (number, function, max([s for s in starts if s <= line], default=0))
        for number, function, line in tags
    ]
    twice = {place for place in places if places.count(place) > 1}
    lines += [f"({number}) twice in {function}" for number, function, _ in twice]
    own = any(number[0].isalpha() and len(number) == 1 for number in head)
    text = " ".join((ast.get_docstring(ast.parse(source)) or "").split())
    if own and "of this file" not in text:
        lines.append("letters are not said to be names of this file")
    return lines


def files():
    """List the files of the rooms that hold equations."""
    return [
        path.relative_to(PACKAGE).as_posix()
        for room in ROOMS
        for path in sorted((PACKAGE / room).glob("*.py"))
        if path.name != "__init__.py"
    ]


@pytest.mark.parametrize("name", files())
def test_every_equation_has_its_line_and_every_tag_its_equation(name):
    source = (PACKAGE / name).read_text("utf-8")
    assert complaints(source) == []
    assert (listed(source) == {}) == (name in BARE)


def equations_of_papers():
    """List the files of papers that list or tag an equation."""
    paths = sorted((PACKAGE / "papers").rglob("*.py"))
    sources = {path: path.read_text("utf-8") for path in paths}
    return [path for path, text in sources.items() if listed(text) or tagged(text)]


@pytest.mark.parametrize("path", equations_of_papers(), ids=lambda path: path.stem)
def test_equations_of_papers_have_their_lines(path):
    assert complaints(path.read_text("utf-8")) == []


def test_papers_with_numbered_equations_are_among_them():
    names = {path.stem for path in equations_of_papers()}
    assert {"mixture", "objectives", "variance", "fold", "scales", "cost"} <= names


def underived(source):
    """List gradients without a tagged line, and heads that do not derive them."""
    tree, tags = ast.parse(source), {function for _, function, _ in tagged(source)}
    names = [n.name for n in tree.body if isinstance(n, ast.FunctionDef)]
    gradients = [name for name in names if name.endswith("_backward")]
    lines = [f"no tag in {name}" for name in gradients if name not in tags]
    derived = "\nBackward. " in (ast.get_docstring(tree) or "") or not gradients
    return lines + ([] if derived else ["the head derives no gradient"])


@pytest.mark.parametrize("name", [n for n in files() if n.startswith("quantizers")])
def test_the_gradient_of_every_quantizer_is_derived(name):
    assert underived((PACKAGE / name).read_text("utf-8")) == []


def test_an_underived_gradient_is_found():
    undone = "\ndef f_backward(dy):\n    return dy\n"
    assert len(underived(source_of(body=undone))) == 2
    assert underived(source_of(body=undone.replace("dy\n", "dy  # (1)\n"))) == [
        "the head derives no gradient"
    ]
    assert underived(source_of()) == []


HEAD = '''"""A quantizer.

    paper                 code   where
    Q(x), eq. (1)         y      f
    scale, section 2,     s      f,
      eq. (2)                      g
{row}
Words about (1) to (9) are no rows.
"""

'''
BODY = """
def f(x):
    s = 2 * x  # (2)
    return s + 1  # (1); why


def g(x):
    return x  # (2)
"""


def source_of(row="", body=BODY):
    return HEAD.format(row=row and f"    {row}\n") + body


def test_a_head_and_its_tags_are_read():
    assert listed(source_of()) == {"1": {"f"}, "2": {"f", "g"}}
    assert tagged(source_of()) == [("2", "f", 13), ("1", "f", 14), ("2", "g", 18)]
    assert complaints(source_of()) == []
    shown = "Text.\n\n    y = f(x)        (4)\n    z = h(2)\n\nWords.\n"
    shown = f'"""{shown}"""\n\na = 1  # (4)\n'
    assert listed(shown) == {"4": None}
    assert complaints(shown) == []


PLANTED = (
    (source_of(row="R, (3)                r      f"), "(3) is listed and no line"),
    (source_of(body=BODY.replace("(1)", "(7)")), "line 14: (7) is not listed"),
    (source_of(body=BODY.replace("def f", "def h")), "is not said to be in h"),
    (source_of(body=BODY.replace("# (1);", "# (1), (2);")), "(2) twice in f"),
    (source_of(row="R, (R)                y      f", body=BODY + "\n# (R)\n"),
     "(R) is not said"),
    (source_of(row="R, (R)                y      f",
               body=BODY.replace("# (1)", "# (1), (R)")), "letters are not said"),
    ('"""Text.\n\n    y = x      (1)\n    z = x      (2)\n\nWords.\n"""\na = 1  # (1)',
     "(2) is listed"),
)  # fmt: skip


@pytest.mark.parametrize(("source", "want"), PLANTED)
def test_a_planted_violation_is_found(source, want):
    assert any(want in line for line in complaints(source))


def test_every_exception_is_needed_and_has_a_reason():
    assert set(BARE) <= set(files())
    assert all(len(reason.split()) > 2 for reason in BARE.values())
