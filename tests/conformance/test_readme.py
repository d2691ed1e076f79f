"""The tables of the README are those of the code."""

import re
from pathlib import Path

import pytest

from refqnn.conformance.choices.profiles import matrix
from refqnn.conformance.choices.reveal import axes_table


def generated(name):
    root = Path(__file__).parent.parent.parent
    text = (root / "refqnn" / "conformance" / "README.md").read_text("utf-8")
    return re.search(rf"<!-- {name} -->\n(.*?)<!-- end -->", text, re.DOTALL)[1]


@pytest.mark.once
def test_the_table_of_axes_is_generated():
    assert generated("axes") == axes_table()


def test_the_matrix_is_generated():
    assert generated("matrix") == matrix()


def test_examples_that_it_names_exist():
    root = Path(__file__).parent.parent.parent
    text = (root / "refqnn" / "conformance" / "README.md").read_text("utf-8")
    for link in re.findall(r"\]\((\.\./[^)]*)\)", text):
        assert (root / "refqnn" / "conformance" / link).resolve().exists()
