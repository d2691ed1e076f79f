"""The text of the book: equations and tags, both ways; its examples run."""

import doctest
import importlib.util
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
PAGES = sorted(
    path.relative_to(DOCS).as_posix()
    for path in DOCS.rglob("*.md")
    if "_build" not in path.parts
)
EQUATION = re.compile(r"^`{3,}\{equation\} (\S+) (\S+)$", re.MULTILINE)


def reader():
    """docs/book/tags.py, which reads the tags of a source file."""
    spec = importlib.util.spec_from_file_location("book_tags", DOCS / "book/tags.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


tags = reader()


def equations(pages):
    """Map every file that pages set equations of to their tags."""
    shown = {}
    for text in pages.values():
        for path, tag in EQUATION.findall(text):
            shown.setdefault(path, set()).add(tag)
    return shown


def texts():
    return {page: (DOCS / page).read_text("utf-8") for page in PAGES}


def untagged(shown, sources):
    """List equations of pages that no line of the file carries."""
    return [
        f"{path} ({tag})"
        for path, own in shown.items()
        for tag in sorted(own - set(tags.tags_of(sources[path])))
    ]


def unset(shown, sources):
    """List tags of files with a page that no equation of the page shows."""
    return [
        f"{path} ({tag})"
        for path, own in shown.items()
        for tag in tags.tags_of(sources[path])
        if tag not in own
    ]


def test_every_equation_has_its_line_and_every_line_its_equation():
    shown = equations(texts())
    sources = {path: (ROOT / path).read_text("utf-8") for path in shown}
    assert len(shown) > 1
    assert untagged(shown, sources) == []
    of_methods = {page: text for page, text in texts().items() if "reading" not in page}
    assert unset(equations(of_methods), sources) == []


def test_an_equation_without_a_line_and_a_line_without_an_equation_are_found():
    shown = equations({"p": "```{equation} a.py 1\nx\n```\n```{equation} a.py 4\n```"})
    sources = {"a.py": "x = 1  # (1)\ny = 2  # (3), its sign\n"}
    assert untagged(shown, sources) == ["a.py (4)"]
    assert unset(shown, sources) == ["a.py (3)"]


@pytest.mark.compiled
@pytest.mark.parametrize("page", PAGES)
def test_the_examples_of_a_page_run(page):
    assert failures((DOCS / page).read_text("utf-8"), page) == 0


def failures(text, name):
    """Count the examples that print something else; a fence ends an output."""
    code = re.sub(r"^`{3,}.*$", "", text, flags=re.MULTILINE)
    test = doctest.DocTestParser().get_doctest(code, {}, name, name, 0)
    return doctest.DocTestRunner(optionflags=FLAGS).run(test).failed


def test_an_example_that_prints_something_else_is_found(capsys):
    assert failures("```python\n>>> 1 + 1\n3\n```\n", "page") == 1
    assert failures("```python\n>>> 1 + 1\n2\n```\n", "page") == 0
    assert "Expected" in capsys.readouterr().out


def test_a_statement_is_cut_around_its_tag():
    source = "def f(x):\n    if x:\n        y = g(\n            x,  # (3)\n        )\n"
    cut = tags.statement_at(source, 4)
    assert (cut.first, cut.last, cut.tagged) == (3, 5, 4)
    assert cut.text == "y = g(\n    x,  # (3)\n)"


def test_only_the_head_of_a_block_is_cut():
    source = "def f(x):\n    if x > 0:  # (2)\n        return 1\n    return 2\n"
    assert tags.statement_at(source, 2).text == "if x > 0:  # (2)"


def test_several_tags_on_a_line_are_read():
    assert tags.tags_of("x = 1  # (7), (8)\n") == {"7": (1,), "8": (1,)}
    assert tags.tags_of("x = 1  # see (7)\n") == {}


@pytest.fixture
def conftest(request):
    """The conftest of the whole suite, which marks the tests of every stop."""
    plugins = request.config.pluginmanager.get_plugins()
    own = str(ROOT / "tests" / "conftest.py")
    return next(each for each in plugins if getattr(each, "__file__", "") == own)


def absent(stops):
    """List tests of stops that are not there."""
    names = []
    for tests in stops.values():
        for test in tests:
            path, _, name = test.partition("::")
            file = ROOT / path
            there = file.is_file() and f"def {name}" in file.read_text("utf-8")
            names += [] if there else [test]
    return names


def test_every_stop_names_tests_that_are_there(conftest):
    stops = conftest.stops()
    assert list(stops) == [f"stop{k:02d}" for k in range(1, 13)]
    assert absent(stops) == []
    assert absent({"a": ["tests/absent.py", "tests/conftest.py::test_it"]}) == [
        "tests/absent.py",
        "tests/conftest.py::test_it",
    ]


def test_the_tests_of_a_stop_carry_its_marker(conftest, request):
    class Item:
        def __init__(self, nodeid):
            self.nodeid, self.keywords, self.own = nodeid, {}, []

        def add_marker(self, marker):
            self.own.append(marker)

    of_stop = Item("tests/integer/test_rounding.py::test_all[half_up]")
    of_none = Item("tests/integer/test_rounding_other.py::test_all")
    conftest.pytest_collection_modifyitems([of_stop, of_none])
    assert (of_stop.own, of_none.own) == (["stop01"], [])
    registered = [line.split(":")[0] for line in request.config.getini("markers")]
    assert "stop01" in registered


def test_colours_of_the_dark_are_those_of_screens_and_paper_has_no_controls():
    style = (ROOT / "docs" / "static" / "book.css").read_text(encoding="utf-8")
    paper = style[style.index("@media print") :]
    paper = paper[: paper.index("\n}\n")]
    assert ".explorer .controls" in paper
    assert ".copybtn" in paper
    assert "overflow: visible" in paper
    light = style[: style.index("@media screen")]
    assert "--book-ink: #222" in light
    assert "#e6e6e6" not in light
    assert "@media (prefers-color-scheme: dark)" not in style
