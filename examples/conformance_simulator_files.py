"""Files of a simulator: write probes, run them anywhere, identify from the outputs.

The simulator here is a Python program that knows nothing of refqnn: it reads an .npz
file and writes one, as a test bench around an RTL simulation would.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from refqnn.conformance import identify_files, write_probes

SIMULATOR = """
import sys
import numpy as np
p = np.load(sys.argv[1])
acc = p["acc"].astype(np.int64)
right = 31 - p["shift"]
high = (acc * p["multiplier"] + (1 << 30)) >> 31           # doubled high half
left = np.maximum(right - 31, 0)
q = high + np.where(left > 0, (1 << left) >> 1, 0) >> left  # then a rounding shift
np.savez(sys.argv[2], y=np.clip(q + p["zero_point"], -128, 127))
"""


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Write probes, simulate, identify."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        probes, outputs = Path(folder, "probes.npz"), Path(folder, "outputs.npz")
        write_probes("requantize", probes)
        command = [sys.executable, "-c", SIMULATOR, str(probes), str(outputs)]
        subprocess.run(command, check=True)  # noqa: S603 - our own program
        found = identify_files(probes, outputs)
    print(json.dumps(found.as_dict()) if options.json else found)
    return found.as_dict()


if __name__ == "__main__":
    main()
