"""The book in a real browser: Chromium without a window, where there is one.

Needs the built book (REFQNN_BOOK), Chromium on the path and Playwright; ``.ci/run``
builds the book and installs Playwright where there is a Chromium.
"""

import importlib
import os
import shutil
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from refqnn.core import Run

ROOT = Path(__file__).parents[2]
BOOK = os.environ.get("REFQNN_BOOK", "")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if not BOOK:
    pytest.skip(
        "the book is not built: REFQNN_BOOK names its folder in .ci/run",
        allow_module_level=True,
    )
if CHROMIUM is None:
    pytest.skip("there is no chromium on the path", allow_module_level=True)
playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed"
)
PAGES = sorted(
    path.relative_to(BOOK).as_posix()
    for path in Path(BOOK).rglob("*.html")
    if "source" not in path.parts
)
#: equations, tables, code, figures, output of examples, controls, source
OF_EACH_KIND = [
    "index.html",
    "quantizers/qil.html",
    "quantizers/index.html",
    "papers/dfs.html",
    "reading/stop03.html",
    "kernels.html",
    "deployment.html",
    "tour.html",
    "explorer.html",
    "conformance.html",
    "source/refqnn/quantizers/qil.html",
]
#: relative luminance and contrast of WCAG 2.1; text on what lies behind it
CONTRAST = """() => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (c) => { const [r, g, b] = c.slice(0, 3).map((v) => v / 255)
      .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = (e) => { for (; e; e = e.parentElement) {
      const c = rgb(getComputedStyle(e).backgroundColor);
      if (c.length < 4 || c[3] > 0.9) return c; }
    return [255, 255, 255]; };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const low = new Map();
  while (walker.nextNode()) {
    const e = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !e.checkVisibility({visibilityProperty: true,
        opacityProperty: true}) || e.closest("svg, script, style, template")) continue;
    const [a, b] = [light(rgb(getComputedStyle(e).color)), light(behind(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) low.set(e.tagName + "." + e.className, [ratio.toFixed(2),
        walker.currentNode.data.trim().slice(0, 40)]);
  }
  return [...low].map(([where, what]) => where + " " + what.join(" "));
}"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module", autouse=True)
def served():
    """The book at an address of this machine, as a reader gets it."""
    handler = partial(Quiet, directory=BOOK)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        SERVED.append(f"http://127.0.0.1:{server.server_port}/")
        yield
        server.shutdown()


#: the address, once there is one
SERVED = []


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        # as root, Chromium has no sandbox
        started = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"]
        )
        yield started
        started.close()


def opened(browser, page="index.html", **options):
    """Open a page; what went wrong, and what was asked from elsewhere, is recorded."""
    options = {"viewport": {"width": 1280, "height": 900}} | options
    for context in browser.contexts:
        context.close()
    tab = browser.new_context(**options).new_page()
    tab.wrong = []
    tab.on("pageerror", lambda error: tab.wrong.append(str(error)))
    tab.on(
        "console",
        lambda line: tab.wrong.append(line.text) if line.type == "error" else None,
    )
    tab.on(
        "request",
        lambda request: (
            None
            if request.url.startswith((SERVED[-1], "data:"))
            else tab.wrong.append(request.url)
        ),
    )
    go(tab, page)
    return tab


def go(tab, page):
    tab.goto(SERVED[-1] + page)


@pytest.mark.parametrize("width", [360, 1280])
def test_pages_load_without_errors_and_fit(browser, width):
    tab = opened(browser, viewport={"width": width, "height": 900})
    wide = []
    for page in PAGES:
        go(tab, page)
        over = tab.evaluate("document.documentElement.scrollWidth - innerWidth")
        wide += [f"{page} is {over} pixels too wide"] if over > 0 else []
    assert wide == []
    assert tab.wrong == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_is_read_in_both_themes(browser, theme):
    tab = opened(browser, color_scheme=theme)
    low = set()
    for page in OF_EACH_KIND:
        go(tab, page)
        low |= set(tab.evaluate(CONTRAST))
    assert sorted(low) == []


def test_low_contrast_is_found(browser):
    tab = opened(browser)
    tab.set_content("<body style='background:#fff'><p style='color:#999'>pale</p>")
    assert tab.evaluate(CONTRAST) == ["P. 2.85 pale"]


def test_equations_have_a_height(browser):
    tab = opened(browser, "quantizers/learned_step_size.html")
    heights = tab.eval_on_selector_all(
        "math", "all => all.map(each => each.getBoundingClientRect().height)"
    )
    assert len(heights) > 10
    assert min(heights) > 5


def test_search_finds_straight_through(browser):
    tab = opened(browser, "search.html?q=straight-through")
    tab.wait_for_selector("#search-results li a")
    results = tab.eval_on_selector_all(
        "#search-results li a", "all => all.map(each => each.textContent)"
    )
    assert any("Straight through" in each for each in results)
    assert tab.wrong == []


def test_pages_are_read_without_scripts(browser):
    tab = opened(browser, "explorer.html", java_script_enabled=False)
    assert tab.locator("noscript table").is_visible()
    go(tab, "quantizers/qil.html")
    assert tab.locator("article math").first.is_visible()
    assert tab.locator("article svg").first.is_visible()


def test_the_keyboard_moves_the_explorer(browser):
    tab = opened(browser, "explorer.html")
    reached = []
    for _ in range(60):
        tab.keyboard.press("Tab")
        reached.append(tab.evaluate("document.activeElement.id"))
    assert {"ex-method", "ex-bits", "ex-number", "ex-value", "ex-line"} <= set(reached)
    tab.locator("#ex-value").focus()
    assert tab.locator("#ex-v").text_content() == "0.9"
    tab.keyboard.press("ArrowRight")
    assert tab.locator("#ex-v").text_content() == "0.95"


@pytest.fixture
def explorer(monkeypatch):
    pytest.importorskip("sphinx", reason="sphinx is not installed")
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    yield importlib.import_module("book.explorer")
    for name in [name for name in sys.modules if name.split(".")[0] == "book"]:
        del sys.modules[name]


def test_the_explorer_shows_the_numbers_of_the_package(browser, explorer, rng):
    tab = opened(browser, "explorer.html")
    for _ in range(200):
        index = int(rng.integers(len(explorer.METHODS)))
        method = explorer.METHODS[index]
        bits, number = int(rng.choice(method.bits)), float(rng.choice(method.values))
        i = int(rng.integers(explorer.GRID.size))
        tab.select_option("#ex-method", str(index))
        tab.select_option("#ex-bits", str(bits))
        if method.parameter:
            tab.select_option("#ex-number", f"{number:g}")
        tab.evaluate(
            "i => { const at = document.getElementById('ex-value'); at.value = i;"
            " at.dispatchEvent(new Event('input')); }",
            i,
        )
        shown = [tab.locator(f"#ex-{name}").text_content() for name in FIELDS]
        np.testing.assert_array_equal(
            [float(text) for text in shown],
            computed(explorer.quantizer(method, bits, number), explorer, i),
        )
    assert tab.wrong == []


FIELDS = ("v", "code", "level", "slope")


def computed(module, explorer, i):
    """Value, index of its level, output and slope, from the module alone."""
    v = np.concatenate([explorer.GRID, explorer.SAMPLE])[None]
    y, cache = module.forward(v, Run())
    one = np.zeros_like(y)
    one[0, i] = 1
    codes, levels = module.encode(v)
    code = np.searchsorted(np.unique(levels), np.ravel(levels)[codes[0, i]])
    return [v[0, i], code, y[0, i], module.backward(one, cache)[0, i]]
