"""Sweeps: what is recorded, what is run again, what a kill loses."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import refqnn
from refqnn.sweep import Outcome, Sweep, digest

RUNS = [{"a": a, "b": b} for a in range(3) for b in (1, 2)]


def product(a, b):
    if (a, b) == (2, 2):
        raise ValueError("two by two")
    return a * b


def sweep(tmp_path, function=product, runs=RUNS):
    return Sweep(function, runs, tmp_path / "results" / "runs.jsonl")


def here():
    return ThreadPoolExecutor(2)


def test_every_run_has_an_outcome_in_order(tmp_path):
    found = sweep(tmp_path).outcomes(here())
    assert [o.run for o in found] == RUNS
    assert [o.result for o in found] == [0, 0, 1, 2, 2, None]
    assert [o.error for o in found] == [None] * 5 + ["ValueError: two by two"]


def test_what_is_recorded_is_not_run_again_and_what_failed_is(tmp_path):
    sweep(tmp_path).outcomes(here())
    calls = []

    def counted(a, b):
        calls.append((a, b))
        return a * b

    found = sweep(tmp_path, counted).outcomes(here())
    assert calls == [(2, 2)]
    assert found[-1] == Outcome({"a": 2, "b": 2}, 4)


def test_a_line_cut_off_is_ignored_and_its_run_done_again(tmp_path):
    this = sweep(tmp_path)
    this.outcomes(here())
    text = this.path.read_text()
    this.path.write_text(text[: text.rindex('"result"')])
    assert len(this.recorded()) == 5
    again = sweep(tmp_path, lambda a, b: 10 * a + b).outcomes(here())
    assert [o.error for o in again].count(None) == 6
    lines = this.path.read_text().splitlines()
    assert len(lines) >= 7
    assert json.loads(lines[-1])["error"] is None


def test_lines_of_other_runs_stay(tmp_path):
    sweep(tmp_path).outcomes(here())
    more = sweep(tmp_path, runs=[{"a": 9, "b": 9}])
    assert more.outcomes(here())[0].result == 81
    assert len(more.recorded()) == 7


def test_the_digest_is_of_the_content():
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    assert len(digest({})) == 16
    for bad in ({"a": object()}, {"a": float("nan")}):
        with pytest.raises(ValueError, match="run must be what JSON can hold"):
            digest(bad)


SLOW = """
import sys, time
from pathlib import Path
from refqnn.sweep import Sweep

def slow(i, folder):
    Path(folder, f"pid{os.getpid()}").touch()
    time.sleep(0.2)
    return i

import os
if __name__ == "__main__":
    folder = sys.argv[1]
    runs = [{"i": i, "folder": folder} for i in range(12)]
    found = Sweep(slow, runs, Path(folder, "runs.jsonl")).outcomes(workers=2)
    print(sum(o.result for o in found))
"""


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"


@pytest.mark.skipif(not Path("/proc").exists(), reason="asks Linux about processes")
def test_a_killed_sweep_resumes_and_leaves_no_orphan(tmp_path):
    script = tmp_path / "slow.py"
    script.write_text(SLOW)
    command = [sys.executable, str(script), str(tmp_path)]
    results = tmp_path / "runs.jsonl"
    root = str(Path(refqnn.__file__).parents[1])
    env = os.environ | {"PYTHONPATH": root}
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, env=env) as killed:
        deadline = time.monotonic() + 60
        while not results.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        killed.send_signal(signal.SIGKILL)
    before = results.read_text().count("\n")
    assert 1 <= before < 12
    workers = [int(path.name[3:]) for path in tmp_path.glob("pid*")]
    deadline = time.monotonic() + 10
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(alive, workers))
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    assert done.stdout.strip() == "66"
    assert results.read_text().count("\n") == 12
