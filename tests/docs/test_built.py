"""The book as it is built: links, what is loaded, equations. ``.ci/run`` builds it."""

import os
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

BOOK = os.environ.get("REFQNN_BOOK", "")
pytestmark = pytest.mark.skipif(
    not BOOK, reason="the book is not built: REFQNN_BOOK names its folder in .ci/run"
)
#: elements that load what they name
LOADS = {
    ("script", "src"), ("img", "src"), ("link", "href"), ("iframe", "src"),
    ("source", "src"), ("video", "src"), ("audio", "src"), ("object", "data"),
    ("image", "href"), ("use", "href"),
}  # fmt: skip


class Page(HTMLParser):
    """Addresses that a page has, links to, and loads."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.loads, self.equations = set(), [], [], 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        own = {name.removeprefix("xlink:"): value or "" for name, value in attrs}
        self.ids |= {own[name] for name in ("id", "name") if name in own}
        self.equations += tag == "math"
        if tag == "a" and "href" in own:
            self.links.append(own["href"])
        self.loads += [own[name] for of, name in LOADS if of == tag and name in own]


def pages(folder):
    """Read every page; of a page of source its lines are known, and no link is."""
    built = {}
    for path in Path(folder).rglob("*.html"):
        name, text = path.relative_to(folder).as_posix(), path.read_text("utf-8")
        of_source = name.startswith("source/")
        built[name] = Page("" if of_source else text)
        if of_source:
            built[name].ids = set(re.findall(r'id="([^"]+)"', text))
    return built


@pytest.fixture(scope="module")
def book():
    return pages(BOOK)


def loads_elsewhere(built):
    """List what pages load from another machine; a link is not loaded."""
    return [
        f"{name}: {address}"
        for name, page in built.items()
        for address in page.loads
        if urlsplit(address).netloc
    ]


def dead_links(folder, built):
    """List links within the book to a page or a place that is not there."""
    dead = []
    for name, page in built.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            own = (Path(folder) / name).parent / unquote(parts.path)
            to = os.path.relpath(own, folder) if parts.path else name
            if not (Path(folder) / to).is_file() or (
                to in built and unquote(parts.fragment) not in built[to].ids | {""}
            ):
                dead.append(f"{name}: {link}")
    return dead


def test_nothing_is_loaded_from_elsewhere(book):
    assert len(book) > 100
    assert loads_elsewhere(book) == []


def test_every_link_within_the_book_leads_somewhere(book):
    assert dead_links(BOOK, book) == []


def test_equations_are_mathml(book):
    names = {name for name in book if name.startswith("quantizers/")}
    of_methods = [book[name] for name in names - {"quantizers/index.html"}]
    assert len(of_methods) > 3
    assert all(page.equations for page in of_methods)


def test_style_sheets_load_nothing_from_elsewhere():
    for sheet in Path(BOOK).rglob("*.css"):
        text = sheet.read_text("utf-8")
        assert "url(http" not in text
        assert "@import" not in text


def test_planted_loads_and_dead_links_are_found(tmp_path):
    (tmp_path / "a.html").write_text(
        '<script src="https://x.org/y.js"></script><a href="https://x.org">ok</a>'
        '<a href="b.html">dead</a><a href="#here">ok</a><p id="here">'
        '<a href="#there">dead</a>'
    )
    built = pages(tmp_path)
    assert loads_elsewhere(built) == ["a.html: https://x.org/y.js"]
    assert dead_links(tmp_path, built) == ["a.html: b.html", "a.html: #there"]
