"""My kernel is off by one: why?  A C kernel, compiled on the spot, and diagnosed.

The kernel divides, and C truncates, where the specification rounds to the nearest: a
mistake of one line. The kit is given nothing but its outputs.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

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


def main() -> None:
    """Compile, check against the declared rounding, identify the real one."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        sys.exit("there is no C compiler on the path")
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "kernel.c"), Path(folder, "kernel.so")
        source.write_text(KERNEL, encoding="utf-8")
        command = [compiler, "-O2", "-shared", "-fPIC", "-o", library, source]
        subprocess.run(command, check=True)  # noqa: S603 - the compiler on the path
        kernel = from_ctypes(library, "requantize", arguments=ARGUMENTS, out="int32*")
        print(check_implementation(kernel, "requantize"))  # is it what we declare?
        print(identify(kernel, "requantize"))  # if not, what is it?


if __name__ == "__main__":
    main()
