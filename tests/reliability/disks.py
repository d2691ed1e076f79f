"""Fill the disk under commands, or make it read-only; a line of JSON a scenario.

    python -m reliability.disks FOLDER COUNT SEED [SCENARIO ...]

Needs Linux, ``unshare`` and 16 MB of memory: each folder is a disk of its own, in a
namespace of its own. A command is killed at a random moment, then called again on a
disk that has 0 to 200 kB left; every fourth time the disk is read-only. It ends, or
leaves with 2 and one line that names a file on the disk; with room again it ends as one
that nobody disturbed.
"""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from reliability.kills import undisturbed
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

#: bytes of a disk, and of what is left when it is full
SIZE, LEFT = 16 * 2**20, 200_000
INSIDE = "REFQNN_OWN_NAMESPACE"


def mount(folder: Path, options: str) -> None:
    """Mount a disk in memory on a folder, or mount it anew."""
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    subprocess.run(command, check=True)


def fill(folder: Path, left: int) -> Path:
    """Fill a disk but for some bytes; return the file that does."""
    free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
    path = folder / "full"
    path.write_bytes(bytes(max(free - left, 0)))
    return path


def disturb(
    name: str, root: Path, number: int, chance: random.Random, whole: Any
) -> dict[str, int]:
    """Run a command on a disk that is full or read-only, then with room again."""
    right, files, seconds = whole
    folder = root / f"{name}_{number}"
    folder.mkdir()
    mount(folder, f"size={SIZE}")
    argv, log = SCENARIOS[name].argv, folder.with_suffix(".log")
    pid = started(argv(folder), log)
    if ended(pid, chance.uniform(0, seconds)) is None:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        late_orphans(pid)
    log.write_text("")
    read_only = number % 4 == 3
    full = None if read_only else fill(folder, chance.randrange(LEFT))
    if read_only:
        mount(folder, "remount,ro")
    code = ended(started(argv(folder), log), 600)
    *_, last = log.read_text().splitlines() or [""]
    said = last.startswith("refqnn: error: ") and str(folder) in last
    counted = {"refused": int(code == 2), "unsaid": int(code != 0 and not said)}
    if counted["unsaid"]:
        say(scenario=name, code=code, log=log.read_text()[-600:])
    if full is None:
        mount(folder, "remount,rw")
    else:
        full.unlink()
    code = ended(started(argv(folder), log), 600)
    counted["failures"] = int(code != 0)
    counted["other_bits"] = int(
        code == 0 and contents(SCENARIOS[name], folder) != right
    )
    counted["stray_files"] = len(names(folder) - files)
    counted["repeated_runs"] = len(repeated(folder))
    subprocess.run(["umount", folder], check=True)
    return counted


def main() -> int:
    """Disturb the scenarios that are named, or all, ``COUNT`` times each."""
    os.environ["NUMBA_NUM_THREADS"] = "1"  # threads of small kernels wait for cores
    if INSIDE not in os.environ:
        command = ["unshare", "--map-root-user", "--mount", sys.executable, "-m"]
        again = [*command, "reliability.disks", *sys.argv[1:]]
        return subprocess.run(
            again, env=os.environ | {INSIDE: "1"}, check=False
        ).returncode
    import refqnn.conformance
    import refqnn.plots
    import refqnn.studies.sweep  # noqa: F401 - before the first fork

    root, count, seed = Path(sys.argv[1]).resolve(), int(sys.argv[2]), int(sys.argv[3])
    prepare(root)
    bad = 0
    for name in sys.argv[4:] or SCENARIOS:
        chance = random.Random(f"{seed} {name}")  # noqa: S311 - of a test
        total: dict[str, Any] = {"scenario": name, "disks": count}
        whole = undisturbed(name, root / f"{name}_whole")
        for number in range(count):
            for key, value in disturb(name, root, number, chance, whole).items():
                total[key] = total.get(key, 0) + value
        say(**total)
        bad += sum(v for k, v in total.items() if k in BAD)
    return int(bad > 0)


#: what must not be counted
BAD = ("unsaid", "failures", "other_bits", "stray_files", "repeated_runs")

if __name__ == "__main__":
    sys.exit(main())
