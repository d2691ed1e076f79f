"""lookup: codes of 8 bits through 256 entries, codes of 16 bits between 513.

    q = table[i]                                         (1)     table_index
    q = t_i + ((t_(i+1) - t_i) j + 64) >> 7              (2)     table_between

with i = x - min of its type in (1), and 2^7 i + j = x + 2^15 in (2).
"""

import numpy as np

from refqnn import integer
from refqnn._types import Int
from refqnn.conformance.choices import axes, draws, kinds
from refqnn.conformance.choices.family import Choices, Family, Inputs, Outputs
from refqnn.integer.tables import ENTRIES


def lookup(choices: Choices, x: Int, table: Int) -> Outputs:
    """Equation (1) or (2), by the type of x."""
    right = integer.lookup(x, table).astype(np.int64)  # raises if unfit
    if x.dtype.itemsize == 1:
        by_byte = choices["table_index"] == "by_byte"
        return {
            "y": table.astype(np.int64)[x.astype(np.int64) & 255] if by_byte else right
        }
    between = choices["table_between"]
    if between == "rounded":
        return {"y": right}
    at = x.astype(np.int64) + 2**15
    i, j = at >> 7, at & 127
    low, high = table[i].astype(np.int64), table[i + 1].astype(np.int64)
    if between == "nearest":
        return {"y": np.where(j < 64, low, high)}
    step = (high - low) * j
    floor = between == "floor"
    return {"y": low + (step >> 7 if floor else np.sign(step) * (np.abs(step) >> 7))}


def inputs(x: int, dtype: str, table: Int) -> Inputs:
    """Return the arguments of one call."""
    return draws.call(lookup, np.array([x], dtype), table)


def candidates() -> list[Inputs]:
    """List codes of 8 bits in a table of squares, then steps of both signs between."""
    squares = (np.arange(256) ** 2 // 512 - 64).astype(np.int8)
    zigzag = (np.arange(ENTRIES) % 3 * 5 - np.arange(ENTRIES) % 7).astype(np.int16)
    small = [inputs(x, d, squares) for d in ("int8", "uint8") for x in (0, 1, 5, 100)]
    wide = [inputs(x, "int16", zigzag) for x in range(-40, 500, 13)]
    return [inputs(-1, "int8", squares), *small, *wide]


def wide(rng: np.random.Generator, n: int) -> Inputs:
    """Draw codes of any type, and entries that a type of theirs holds."""
    dtype = draws.pick(rng, "int8", "uint8", "int16")
    size = ENTRIES if dtype == "int16" else 256
    table = draws.codes(rng, (size,), draws.pick(rng, "int8", "uint8", "int16"))
    x = draws.codes(rng, draws.dims(rng, n), dtype)
    return draws.call(lookup, draws.laid_out(rng, x), table)


FAMILIES = (
    Family(
        "lookup",
        ("8 bits: {table_index}", "16 bits: {table_between}"),
        axes.of("table_index table_between"),
        lookup,
        candidates,
        wide,
        wide=wide,
        regions=kinds.regions(
            "x: dtypes int8 uint8 int16, integers, shape",
            "table: dtypes int8 uint8 int16",
        ),
    ),
)
