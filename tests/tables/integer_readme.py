"""The two tables of refqnn/integer/README.md, rendered from the tables in the code."""

from refqnn.integer.rescale import REQUANTIZATIONS
from refqnn.integer.rounding import ROUNDINGS

POWERS = {1 << 30: "2^30", (1 << 30) + 1: "2^30 + 1", 3 << 29: "3 * 2^29"}


def line(*cells):
    return "| " + " | ".join(cells) + " |"


def escaped(text):
    return text.replace("|", "\\|")


def roundings():
    """rounding | formula | users | inputs and what they become"""
    yield line("rounding", "formula", "who uses it", "smallest inputs that reveal it")
    yield line(*["---"] * 4)
    for name, row in ROUNDINGS.items():
        shown = ", ".join(f"{t:g}" for t in row.reveals)
        yield line(f"`{name}`", escaped(row.formula), row.users, shown)


def requantizations():
    """rounding | formula | users | (acc, multiplier, shift)"""
    yield line("rounding", "formula", "who uses it", "acc, multiplier, shift")
    yield line(*["---"] * 4)
    for name, row in REQUANTIZATIONS.items():
        shown = "; ".join(
            f"{acc}, {POWERS.get(m, m)}, {shift}" for acc, m, shift in row.reveals
        )
        yield line(f"`{name}`", escaped(row.formula), row.users, shown)
