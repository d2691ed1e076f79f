"""Commands that take a few seconds, and what they leave when they have ended."""

import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from refqnn import cli

#: seconds after which nothing that a killed command started may run
ORPHANS = 2.0
PROCESSES = Path("/proc")


class Scenario(NamedTuple):
    """A command; what it is called again with; which of its files never differ."""

    argv: Callable[[Path], list[str]]
    #: files that have the same bytes, however often the command was cut off
    same: tuple[str, ...]


def train(folder: Path) -> list[str]:
    """Train a small network on the images beside; go on where it was cut off."""
    path = folder / "network.npz"
    resume = ["--resume"] if path.exists() else []
    argv = ["train", path, "--depth", 8, "--width", 0.1, "--bits", 4, "--epochs", 6]
    argv += ["--batch", 20, "--data", folder.parent / "images", *resume]
    return [*map(str, argv), "--metrics", str(folder / "metrics.jsonl")]


def study(name: str, *settings: str) -> Callable[[Path], list[str]]:
    """Call a study with some settings, in two processes."""

    def argv(folder: Path) -> list[str]:
        argv = ["study", name, "--quick", "--seeds", "0", "--runs", str(folder)]
        return [*argv, "--workers", "2", "--set", *settings]

    return argv


#: a plugin that makes the demo small
SMALL = """
from refqnn.cli import demonstration
demonstration.QUICK = demonstration.QUICK._replace(
    width=0.1, epochs=4, batch=20, train=80, test=12, slice=3)
"""


def demo(folder: Path) -> list[str]:
    """Make a small demo."""
    plugin = str(folder.parent / "small_demo.py")
    return ["demo", "--quick", "--output", str(folder), "--plugin", plugin]


SCENARIOS = {
    "train": Scenario(train, ("network.npz",)),
    "study": Scenario(study("fashion_mnist", "first=130"), ("fashion_mnist.json",)),
    "dfs": Scenario(
        study("dfs_controller", "targets=0.2", "images=80", "steps=8"),
        ("dfs_controller.json", "backbone_0_80_8.npz"),
    ),
    "quantnas": Scenario(
        study("quantnas_front", "train=64", "subnets=2", "steps=4"),
        ("quantnas_front.json", "embedded_small_shared_0_4_64.npz"),
    ),
    "demo": Scenario(demo, ("4-bit.npz", "float.npz", "integers.npz", "demo.png")),
}


def prepare(root: Path) -> None:
    """Make a folder: IDX files, 100 images to train on, 20 to judge by; a plugin."""
    folder = root / "images"
    folder.mkdir(parents=True)
    (root / "small_demo.py").write_text(SMALL)
    rng = np.random.default_rng(0)
    for part, number in (("train", 100), ("t10k", 20)):
        for kind, array in (
            ("images-idx3", rng.integers(0, 256, (number, 10, 10))),
            ("labels-idx1", rng.integers(0, 10, number)),
        ):
            head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
            path = folder / f"{part}-{kind}-ubyte"
            path.write_bytes(head + array.astype(np.uint8).tobytes())


def started(argv: Sequence[str], output: Path) -> int:
    """Fork a command, in a session of its own; return its process."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        for descriptor in (1, 2):
            os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
        # workers import the main module: let it be that of the command
        sys.modules["__main__"] = importlib.import_module("refqnn.__main__")
        os._exit(cli.main(argv))
    finally:
        os._exit(99)


def ended(pid: int, seconds: float) -> int | None:
    """Wait for a process; return its exit code, None if it still runs."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    return None


def orphans(session: int) -> list[int]:
    """List what still runs of a session, zombies left out."""
    left = []
    for path in PROCESSES.glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, _, theirs = path.read_text().rpartition(")")[2].split()[:4]
            if int(theirs) == session and state != "Z":
                left.append(int(path.parent.name))
    return left


def late_orphans(session: int) -> list[int]:
    """List what still runs of a session ``ORPHANS`` seconds from now, and end it."""
    deadline = time.monotonic() + ORPHANS
    while (left := orphans(session)) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in left:
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    return left


def repeated(folder: Path) -> list[str]:
    """List runs that stand twice, without an error, in a file of runs."""
    twice = []
    for path in folder.glob("*.jsonl"):
        seen = set()
        for line in path.read_bytes().splitlines():
            with suppress(ValueError, KeyError, TypeError):
                outcome = json.loads(line)
                key = outcome["digest"]
                if outcome["error"] is None:
                    twice += [f"{path.name} {key}"] * (key in seen)
                    seen.add(key)
    return twice


def contents(scenario: Scenario, folder: Path) -> dict[str, bytes]:
    """Read the files that must not differ; the folder's own name is left out."""
    named = str(folder).encode()
    return {n: (folder / n).read_bytes().replace(named, b"") for n in scenario.same}


def names(folder: Path) -> set[str]:
    """List every file below a folder."""
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def say(**line: Any) -> None:
    """Write a line of JSON."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()
