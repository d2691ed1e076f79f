"""Files of a simulator: write probes, run them anywhere, identify from the outputs.

The simulator here is a Python program that does not import refqnn: it reads an .npz
file and writes one, as a test bench around an RTL simulation would.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from refqnn.conformance import identify_files, write_probes

SIMULATOR = """
import sys
import numpy as np
p = np.load(sys.argv[1])
shift = p["shift"].astype(np.int64)
acc = p["acc"].astype(np.int64) << np.maximum(shift, 0)     # to the left first
high = (acc * p["multiplier"] + (1 << 30)) >> 31            # doubled high half
right = np.maximum(-shift, 0)
q = high + ((1 << right) >> 1) >> right                     # then a rounding shift
np.savez(sys.argv[2], y=np.clip(q + p["zero_point"], p["q_min"], p["q_max"]))
"""

with tempfile.TemporaryDirectory() as folder:
    probes, outputs = Path(folder, "probes.npz"), Path(folder, "outputs.npz")
    write_probes("requantize", probes)
    command = [sys.executable, "-c", SIMULATOR, probes, outputs]
    subprocess.run(command, check=True)  # noqa: S603 - our own program
    verdict = identify_files(probes, outputs)
print(verdict)
