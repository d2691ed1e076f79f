"""The tables that papers print, as data: the files of ``printed/``."""

import csv
from pathlib import Path

FOLDER = Path(__file__).with_name("printed")


def read_table(name: str) -> list[dict[str, str]]:
    """Read the lines of a printed table by column, comments left out.

    >>> read_table("dfs_tables.csv")[1]["cp_percent"]
    '8.20'
    """
    lines = (FOLDER / name).read_text(encoding="utf-8").splitlines()
    return [*csv.DictReader(line for line in lines if not line.startswith("#"))]
