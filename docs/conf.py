"""The book of refqnn: ``python -m sphinx -W docs docs/_build``, without a network."""

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
# the pages compute with the package and with the rows of the tests beside it
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "tests")]
os.environ.setdefault("MPLBACKEND", "Agg")

import refqnn  # noqa: E402 - it stands beside this folder

project = "refqnn"
copyright = "the contributors of refqnn"  # noqa: A001 - Sphinx reads this name
release = version = refqnn.__version__
language = "en"

extensions = [
    "myst_parser",
    "sphinx_copybutton",
    "book.mathml",
    "book.sources",
    "book.equations",
    "book.parts",
    "book.laws",
    "book.figures",
    "book.explorer",
    "book.ladder",
]
exclude_patterns = ["_build", "book"]
myst_enable_extensions = ["dollarmath", "amsmath", "deflist", "colon_fence"]
myst_heading_anchors = 3
nitpicky = True

html_theme = "furo"
html_title = "refqnn"
html_favicon = "static/mark.svg"
html_static_path = ["static"]
html_css_files = ["book.css"]
html_copy_source = html_show_sourcelink = False
html_math_renderer = "mathml"
html_theme_options = {
    # system fonts: nothing is fetched
    "light_css_variables": {"font-stack": "system-ui, sans-serif"},
    "dark_css_variables": {"font-stack": "system-ui, sans-serif"},
}
pygments_style = "book.colours.Light"
pygments_dark_style = "book.colours.Dark"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
