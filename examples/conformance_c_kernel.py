"""My kernel is off by one: why?  A C kernel, compiled on the spot, and diagnosed.

The kernel divides, and C truncates, where the specification rounds to the nearest: a
mistake of one line. Nothing about it is told to the kit but its outputs.
"""

import argparse
import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from refqnn.conformance import check_implementation, from_ctypes, identify

KERNEL = """
#include <stdint.h>
void requantize(const int32_t *acc, int32_t multiplier, int32_t shift,
                int32_t zero_point, int32_t q_min, int32_t q_max,
                int32_t *out, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    int64_t product = (int64_t)acc[i] * multiplier;
    int64_t q = zero_point + product / ((int64_t)1 << (31 - shift));
    out[i] = q < q_min ? q_min : q > q_max ? q_max : q;
  }
}
"""
ARGUMENTS = ("int32*", "int32", "int32", "int32", "int32", "int32")


def build(folder: Path, compiler: str) -> Path:
    """Compile the kernel to a shared library."""
    source, library = folder / "kernel.c", folder / "kernel.so"
    source.write_text(KERNEL, encoding="utf-8")
    command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(source)]
    subprocess.run(command, check=True)  # noqa: S603 - the compiler found on the path
    return library


def main(argv: Sequence[str] | None = None) -> dict[str, Any] | None:
    """Compile, check against the declared rounding, identify the real one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        print("there is no C compiler on the path")
        return None
    with tempfile.TemporaryDirectory() as folder:
        kernel = from_ctypes(
            build(Path(folder), compiler),
            "requantize",
            arguments=ARGUMENTS,
            out="int32*",
        )
        results = check_implementation(kernel, "requantize")
        found = identify(kernel, "requantize")
    if options.json:
        print(json.dumps(found.as_dict()))
    else:
        print(results, found, sep="\n\n")
    return found.as_dict() | {"conforms": results.conforms}


if __name__ == "__main__":
    main()
