"""The tables of refqnn/integer/README.md are those of the code."""

from pathlib import Path

import pytest
from tables import integer_readme

import refqnn.integer

TEXT = (Path(refqnn.integer.__file__).parent / "README.md").read_text("utf-8")


def missing(rows, text):
    """Return the table unless it stands in the text, whole and in order."""
    table = "\n".join(rows)
    return "" if f"\n\n{table}\n\n" in text else table


@pytest.mark.parametrize(
    "rows", [integer_readme.roundings, integer_readme.requantizations]
)
def test_the_table_stands_in_the_readme(rows):
    assert missing(rows(), TEXT) == ""


def test_a_table_with_another_row_is_missed():
    rows = list(integer_readme.roundings())
    assert missing(rows[:-1], TEXT)
    assert missing(rows, TEXT.replace("-0.75, -1.5", "-0.75, 1.5"))
