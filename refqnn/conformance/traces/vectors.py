"""A trace as files that a simulation of hardware or a C program reads.

    hex        one value a line, two's complement in the width of the dtype, row-major:
               what $readmemh of Verilog reads
    c-header   one array of <stdint.h> types a file

Both with ``manifest.json``: format, and of every tensor and constant its file, shape,
dtype, and where known scale, zero-point, multiplier, shift and inputs.
"""

import os
from pathlib import Path

from refqnn._types import Array
from refqnn.conformance.reach.text import c_number, c_type, hex_words, identifier
from refqnn.conformance.traces.record import Record, Trace
from refqnn.files import write_json, write_text

FORMAT = "refqnn vectors 1"


def write_vectors(
    trace: Trace, folder: str | os.PathLike[str], *, form: str = "hex"
) -> Path:
    """Write every tensor and constant to its file; return the manifest, written last.

    Raises ValueError for an unknown form and for tensors that are not integers.
    """
    if form not in FORMS:
        raise ValueError(f"form must be one of {sorted(FORMS)}, got {form!r}")
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    records: dict[str, Record] = {}
    for kind, arrays in (("tensor", trace.tensors), ("constant", trace.constants)):
        for name, array in arrays.items():
            text, suffix = FORMS[form](name, array), SUFFIXES[form]
            write_text(target / f"{identifier(name)}{suffix}", text)
            records[name] = {
                "file": f"{identifier(name)}{suffix}",
                "shape": list(array.shape),
                "dtype": array.dtype.name,
                "role": kind,
            } | dict(trace.manifest.get(name, {}))
    content = {"format": FORMAT, "form": form, "arrays": records}
    write_json(target / "manifest.json", content)
    return target / "manifest.json"


def hex_text(name: str, array: Array) -> str:
    """Return one value a line in two's complement.

    >>> import numpy as np
    >>> hex_text("x", np.array([1, -1], np.int8)).split()
    ['01', 'ff']
    """
    check_integers(name, array)
    return "".join(f"{word}\n" for word in hex_words(array))


def c_header(name: str, array: Array) -> str:
    """Return a header that defines one array, row-major.

    >>> import numpy as np
    >>> print(c_header("a.w", np.array([[1, -2]], np.int8)))
    /* a.w: int8 (1, 2) */
    #include <stdint.h>
    static const int8_t a_w[2] = {
    1, -2
    };
    <BLANKLINE>
    """
    check_integers(name, array)
    rows = [", ".join(map(c_number, part)) for part in blocks(array.ravel().tolist())]
    kind, shape = c_type(array), ", ".join(map(str, array.shape))
    return (
        f"/* {name}: {array.dtype.name} ({shape}) */\n#include <stdint.h>\n"
        f"static const {kind} {identifier(name)}[{max(array.size, 1)}] = {{\n"
        + ",\n".join(rows or ["0"])
        + "\n};\n"
    )


def blocks(values: list[int], width: int = 16) -> list[list[int]]:
    """Cut a list into lines."""
    return [values[i : i + width] for i in range(0, len(values), width)]


def check_integers(name: str, array: Array) -> None:
    """Raise unless the array holds integers."""
    if array.dtype.kind not in "iu":
        raise ValueError(f"{name} must hold integers, got dtype {array.dtype}")


FORMS = {"hex": hex_text, "c-header": c_header}
SUFFIXES = {"hex": ".hex", "c-header": ".h"}
