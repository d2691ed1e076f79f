"""Kill commands at random moments, let them end, compare; a line of JSON a command.

    python -m reliability.kills FOLDER COUNT SEED [SCENARIO ...]

Run with tests/ and the checkout on PYTHONPATH. Each scenario is killed COUNT times, by
SIGKILL at a moment of its time; after every fourth kill it may end. Then its files
have the bits of a run that nobody disturbed, none is there that is not there then, no
run stands twice, and within two seconds of a kill nothing of it runs.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

from reliability.scenarios import (
    SCENARIOS,
    contents,
    ended,
    late_orphans,
    names,
    prepare,
    repeated,
    say,
    started,
)

#: kills before a command may end
CHAIN = 4
#: seconds that a command may take
LONGEST = 600.0


def undisturbed(name: str, folder: Path) -> tuple[dict[str, bytes], set[str], float]:
    """Run a command to its end; return its contents, its files, its seconds."""
    folder.mkdir()
    begun = time.monotonic()
    code = ended(started(SCENARIOS[name].argv(folder), folder.with_suffix(".log")), 600)
    assert code == 0, folder.with_suffix(".log").read_text()
    seconds = time.monotonic() - begun
    return contents(SCENARIOS[name], folder), names(folder), seconds


def kill_often(name: str, root: Path, count: int, seed: int) -> dict[str, Any]:
    """Kill a command ``count`` times in all; return what was counted."""
    moments = random.Random(f"{seed} {name}")  # noqa: S311 - moments of a test
    undisturbed(name, root / f"{name}_first")  # kernels may compile
    right, files, seconds = undisturbed(name, root / f"{name}_whole")
    counted = dict.fromkeys(("kills", "ends", "other_bits", "orphans"), 0)
    counted |= {"stray_files": 0, "repeated_runs": 0, "failures": 0}
    while counted["kills"] < count:
        folder = root / f"{name}_{counted['ends']}"
        folder.mkdir()
        log = folder.with_suffix(".log")
        for _ in range(CHAIN):
            pid = started(SCENARIOS[name].argv(folder), log)
            if ended(pid, moments.uniform(0, seconds)) is not None:
                break  # it was faster this time
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            counted["kills"] += 1
            counted["orphans"] += len(late_orphans(pid))
        code = ended(started(SCENARIOS[name].argv(folder), log), LONGEST)
        counted["ends"] += 1
        counted["failures"] += code != 0
        if code == 0:
            counted["other_bits"] += contents(SCENARIOS[name], folder) != right
        counted["stray_files"] += len(names(folder) - files)
        counted["repeated_runs"] += len(repeated(folder))
    return {"scenario": name, "seconds": round(seconds, 1), **counted}


def main() -> int:
    """Kill the scenarios that are named, or all."""
    os.environ["NUMBA_NUM_THREADS"] = "1"  # threads of small kernels wait for cores
    import refqnn.conformance
    import refqnn.plots
    import refqnn.studies.sweep  # noqa: F401 - before the first fork

    root, count, seed = Path(sys.argv[1]).resolve(), int(sys.argv[2]), int(sys.argv[3])
    prepare(root)
    bad = 0
    for name in sys.argv[4:] or SCENARIOS:
        line = kill_often(name, root, count, seed)
        say(**line)
        bad += sum(line[k] for k in line if k not in {"scenario", "seconds", "kills"})
        bad -= line["ends"]
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
