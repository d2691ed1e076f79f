"""Press Ctrl-C at random moments; a line of JSON for each moment that went wrong.

    python -m reliability.interrupts FOLDER COUNT SEED [SCENARIO ...]

The signal goes to the whole group of processes, as a terminal sends it. Each time the
command leaves with 130 within ``PROMPT`` seconds and one line on standard error,
nothing of it runs two seconds later, and called again it ends as one that nobody
disturbed.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from reliability.scenarios import SCENARIOS, contents, late_orphans, names, prepare, say

from refqnn.cli.interrupts import AGAIN

LINE, INTERRUPTED = "refqnn: interrupted\n", 130
#: seconds within which a command has left, on a busy machine
PROMPT = 10.0


def program(argv: list[str]) -> subprocess.Popen[str]:
    """Start a command in a session of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "refqnn", *argv],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def interrupt(name: str, folder: Path, seconds: float) -> dict[str, Any]:
    """Interrupt a command after some seconds; return what is wrong."""
    with program(SCENARIOS[name].argv(folder)) as process:
        time.sleep(seconds)
        if process.poll() is not None:
            return {"ended": process.returncode}
        os.killpg(process.pid, signal.SIGINT)
        begun = time.monotonic()
        _, errors = process.communicate(timeout=120)
        took = time.monotonic() - begun
    if process.returncode == 0 and took < AGAIN:  # its work was done before the signal
        return {"ended": 0}
    wrong: dict[str, Any] = {}
    # by the signal: the interpreter was leaving already, and a shell calls it 130, too
    left_late = process.returncode == -signal.SIGINT and errors == ""
    if process.returncode not in {INTERRUPTED, -signal.SIGINT}:
        wrong["code"] = process.returncode
    if errors != LINE and not left_late:
        wrong["errors"] = errors[-1500:]
    if took > PROMPT:
        wrong["took"] = round(took, 1)
    if left := late_orphans(process.pid):
        wrong["orphans"] = left
    return wrong


def main() -> int:
    """Interrupt the scenarios that are named, or all, and let each end at last."""
    os.environ["NUMBA_NUM_THREADS"] = "1"  # threads of small kernels wait for cores
    root, count, seed = Path(sys.argv[1]).resolve(), int(sys.argv[2]), int(sys.argv[3])
    prepare(root)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell may have it ignored
    moments, bad = random.Random(seed), 0  # noqa: S311 - moments of a test
    for name in sys.argv[4:] or SCENARIOS:
        seconds = {}
        for kind in ("first", "whole"):
            (root / f"{name}_{kind}").mkdir()
            begun = time.monotonic()
            with program(SCENARIOS[name].argv(root / f"{name}_{kind}")) as process:
                _, errors = process.communicate()
            assert process.returncode == 0, errors
            seconds[kind] = time.monotonic() - begun
        folder = root / name
        folder.mkdir()
        done = ended = 0
        while done < count:
            after = moments.uniform(0.5, seconds["whole"])
            wrong = interrupt(name, folder, after)
            if "ended" in wrong:
                ended += 1
                for path in folder.iterdir():
                    path.unlink()
                continue
            done += 1
            bad += bool(wrong)
            if wrong:
                say(scenario=name, after=round(after, 2), **wrong)
        with program(SCENARIOS[name].argv(folder)) as process:
            process.communicate()
        whole = root / f"{name}_whole"
        same = contents(SCENARIOS[name], folder) == contents(SCENARIOS[name], whole)
        stray = sorted(names(folder) - names(whole))
        bad += not same or bool(stray)
        say(scenario=name, interrupts=done, ended=ended, same=same, stray=stray)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
