"""The README's Python blocks run, and what it points to is there."""

import doctest
import re
import runpy
from pathlib import Path

import pytest

from refqnn.studies.study import MODULES

ROOT = Path(__file__).parent.parent
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")


def missing(text):
    """Return links into the project that lead nowhere."""
    links = re.findall(r"\]\(([^)#]+)\)", text)
    inside = [link for link in links if "://" not in link]
    return [link for link in inside if not (ROOT / link).exists()]


def test_the_readme_runs():
    ran = doctest.testfile(
        str(ROOT / "README.md"), module_relative=False, optionflags=FLAGS
    )
    assert ran.failed == 0
    assert ran.attempted > 8


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    assert missing((ROOT / page).read_text("utf-8")) == []


@pytest.mark.parametrize("page", ["docs/lines.md", "refqnn/papers/README.md"])
def test_studies_that_are_named_exist(page):
    names = re.findall(r"refqnn study ([a-z]\w*)", (ROOT / page).read_text("utf-8"))
    assert names
    assert set(names) <= set(MODULES)


def test_a_link_to_nowhere_is_found():
    assert missing("[a](LICENSE) [b](absent.md) [c](https://x.org)") == ["absent.md"]


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (
            "https://d.org/",
            "![P](https://d.org/raw/HEAD/a)[b](https://d.org/blob/HEAD/b)",
        ),
        ("", "`b`"),
    ],
)
def test_no_link_of_the_description_is_relative(address, expected):
    pytest.importorskip("setuptools", reason="setuptools is not installed")
    description = runpy.run_path(str(ROOT / "setup.py"))["description"]
    text, elsewhere = "![P](a)[b](b)", "[c](https://c.org)"
    assert description(text + elsewhere, address) == expected + elsewhere
    whole = description((ROOT / "README.md").read_text("utf-8"), address)
    assert re.findall(r"\]\((?!https://)", whole) == []


def test_the_two_commands_are_there():
    text = (ROOT / "README.md").read_text("utf-8")
    assert "python -m pip install . && refqnn demo" in text
    assert "python -m pip install '.[test]' && pytest" in text


def test_no_cell_of_a_table_is_a_page():
    folders = ("*.md", "docs/**/*.md", "refqnn/**/*.md")
    for path in [path for folder in folders for path in ROOT.glob(folder)]:
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("|"):
                assert max(map(len, line.split("|"))) < 600, (path, line[:80])
