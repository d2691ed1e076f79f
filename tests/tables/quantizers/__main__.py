"""Print the property matrix that refqnn/quantizers/README.md shows."""

from tables.quantizers import table

print(table(), end="")  # noqa: T201 - its whole purpose
