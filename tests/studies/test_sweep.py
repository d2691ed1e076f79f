"""Sweeps: what is recorded, what is run again, what a kill loses."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from pathlib import Path
from threading import Event

import numba
import pytest
from refusals import refuses
from tables.sweep_runs import killed_by_three, process, threads, trained

import refqnn
from refqnn.studies.sweep import Memo, Outcome, Sweep, attempt, digest
from refqnn.studies.workers import Workers, own_processes

TESTS, PACKAGE = Path(__file__).parents[1], Path(refqnn.__file__).parents[1]
RUNS = [{"a": a, "b": b} for a in range(3) for b in (1, 2)]


def product(a, b):
    if (a, b) == (2, 2):
        raise ValueError("two by two")
    return a * b


def tens(a, b):
    return 10 * a + b


def odd(kind):
    return float("nan") if kind == "nan" else {1}


def sweep(tmp_path, function=product, runs=RUNS):
    return Sweep(function, runs, tmp_path / "results" / "runs.jsonl")


def here():
    return ThreadPoolExecutor(2)


def test_every_run_has_an_outcome_in_order(tmp_path):
    found = sweep(tmp_path).outcomes(here())
    assert [o.run for o in found] == RUNS
    assert [o.result for o in found] == [0, 0, 1, 2, 2, None]
    assert [o.error for o in found[:5]] == [None] * 5
    assert re.fullmatch(
        r"ValueError: two by two \(test_sweep\.py:\d+\)", found[5].error
    )


def test_what_is_recorded_is_not_run_again_and_what_failed_is(tmp_path):
    sweep(tmp_path).outcomes(here())
    calls = []

    def counted(a, b):
        calls.append((a, b))
        return a * b

    found = sweep(tmp_path, counted).outcomes(here())
    assert calls == [(2, 2)]
    assert found[-1] == Outcome({"a": 2, "b": 2}, 4)


def cut(line):
    return line[: line.index('"result"')]


def of_another_run(line):
    return line.replace('"a": 1', '"a": 7')


def with_another_result(line):
    return line.replace('"result": 2', '"result": 3')


def with_an_error(line):
    return line.replace('"error": null', '"error": "broke"')


def deep(line):
    return line.replace('"result": 2', f'"result": {"[" * 10**5}{"]" * 10**5}')


def without_a_result(line):
    return line.replace('"result"', '"outcome"')


DAMAGED = {
    "cut off": cut,
    "another run's": of_another_run,
    "another result": with_another_result,
    "an error": with_an_error,
    "deep": deep,
    "no result": without_a_result,
    "a number": lambda _: "7",
    "no text": lambda _: "\udcff\udcfe",
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_line_is_reported_and_its_run_done_again(name, tmp_path):
    this = sweep(tmp_path, runs=RUNS[:5])
    this.outcomes(here())
    lines = this.path.read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if '"a": 1, "b": 2' in line)
    lines[at] = DAMAGED[name](lines[at])
    this.path.write_text("\n".join(lines) + "\n", errors="surrogateescape")
    told = f"line {at + 1}, holds no result and is left out"
    with pytest.warns(UserWarning, match=told):
        assert len(this.recorded()) == 4
    with pytest.warns(UserWarning, match=told):
        again = sweep(tmp_path, tens, RUNS[:5]).outcomes(here())
    assert [o.result for o in again] == [0, 0, 1, 12, 2]


def test_lines_without_a_digest_of_their_content_are_read(tmp_path):
    """Those of refqnn 0.1."""
    this = sweep(tmp_path, runs=RUNS[:5])
    wanted = this.outcomes(here())
    records = [json.loads(line) for line in this.path.read_text().splitlines()]
    for record in records:
        del record["content"]
    this.path.write_text("\n".join(map(json.dumps, records)))
    assert [this.recorded()[digest(run)] for run in RUNS[:5]] == wanted


def test_results_whose_keys_are_numbers_are_read_back(tmp_path):
    this = sweep(tmp_path, lambda a, b: {10: a, 9: b, "t": (a, b)}, RUNS[:1])
    assert this.outcomes(here())[0].result == {"10": 0, "9": 1, "t": [0, 1]}


def test_a_memo_computes_once_and_reads_its_file_once(tmp_path):
    calls, path = [], tmp_path / "new" / "memo.jsonl"

    def pair(a, b):
        calls.append((a, b))
        return a, b

    memo = Memo(path)
    assert memo(pair, RUNS[3]) == memo(pair, dict(reversed(RUNS[3].items()))) == [1, 2]
    assert calls == [(1, 2)]
    for unfit in (lambda **_: float("nan"), lambda **_: {1}, lambda **_: 1 / 0):
        with pytest.raises((ValueError, TypeError, ZeroDivisionError)):
            memo(unfit, RUNS[0])
    assert memo(pair, RUNS[0]) == [0, 1]
    again = Memo(path)
    path.unlink()
    assert again(None, RUNS[0]) == [0, 1]
    assert again(None, RUNS[3]) == [1, 2]
    assert len(calls) == 2
    assert Memo(path).results == {}


def test_a_memo_and_a_sweep_read_each_others_lines(tmp_path):
    this = sweep(tmp_path)
    this.outcomes(here())
    memo = Memo(this.path)
    assert memo(None, RUNS[3]) == 2
    with pytest.raises(ValueError, match="two by two"):
        memo(product, RUNS[5])  # a failure is no result
    assert memo(tens, RUNS[5]) == 22
    assert this.outcomes(here())[5] == Outcome(RUNS[5], 22)


def test_a_line_after_one_that_was_cut_off_begins_anew(tmp_path):
    this = sweep(tmp_path, runs=RUNS[:2])
    this.outcomes(here())
    text = this.path.read_text()
    this.path.write_text(cut(text.splitlines()[0]))
    with pytest.warns(UserWarning, match="line 1, holds no result"):
        assert [o.result for o in this.outcomes(here())] == [0, 0]
    assert len(this.path.read_text().splitlines()) == 3


def test_a_result_that_json_cannot_hold_is_an_error_of_its_run(tmp_path):
    nan, array = sweep(tmp_path, odd, [{"kind": "nan"}, {"kind": "set"}]).outcomes(
        here()
    )
    assert nan.error.startswith("ValueError: Out of range float values")
    assert array.error.startswith("TypeError: Object of type set is not JSON")


@pytest.mark.parametrize("workers", [2, 3])
def test_a_killed_process_costs_only_its_own_run(workers, tmp_path):
    runs = [{"i": i} for i in range(6)]
    this = Sweep(killed_by_three, runs, tmp_path / "runs.jsonl")
    found = this.outcomes(workers=workers)
    assert [o.result for o in found] == [0, 1, 4, None, 16, 25]
    assert found[3].error == "BrokenExecutor: the process of this run was killed"
    assert len(this.path.read_text().splitlines()) == 6


def test_a_broken_executor_of_somebody_else_is_said(tmp_path):
    this = Sweep(killed_by_three, [{"i": 3}, {"i": 1}], tmp_path / "runs.jsonl")
    with own_processes(1) as pool, pytest.raises(BrokenExecutor, match="2 runs are"):
        this.outcomes(pool)


def test_every_run_computes_with_one_thread(tmp_path):
    before = numba.get_num_threads()
    for executor in (None, here()):
        this = Sweep(threads, [{"i": 0}], tmp_path / f"{executor is None}.jsonl")
        assert this.outcomes(executor, workers=2)[0].result == [1, 1]
    assert numba.get_num_threads() == before


def test_one_worker_is_this_process(tmp_path):
    this = Sweep(process, [{"i": 0}], tmp_path / "runs.jsonl")
    assert this.outcomes(workers=1)[0].result == os.getpid()


def test_completed_raises_once_all_have_ended(tmp_path):
    this = sweep(tmp_path)
    with pytest.raises(RuntimeError, match=r"1 of 6 runs failed .* two by two"):
        this.completed(here())
    assert len(this.recorded()) == 6
    assert sweep(tmp_path, runs=RUNS[:5]).completed()[4].result == 2


def test_a_run_that_is_asked_for_twice_is_run_once_in_its_places(tmp_path):
    runs = [{"a": 2, "b": 1}, {"a": 0, "b": 1}, {"b": 1, "a": 2}]
    this = Sweep(product, runs, tmp_path / "a" / "b" / "runs.jsonl")
    assert [o.result for o in this.outcomes(here())] == [2, 0, 2]
    assert len(this.path.read_text().splitlines()) == 2
    backwards = Sweep(product, runs[1::-1], this.path)
    assert [o.result for o in backwards.outcomes(here())] == [0, 2]


def test_the_bar_counts_runs_and_is_hidden_unless_asked_for(tmp_path, capsys):
    sweep(tmp_path).outcomes(here(), progress=True)
    assert "6/6" in capsys.readouterr().err
    for progress in (None, False):
        path = tmp_path / f"{progress}.jsonl"
        Sweep(tens, RUNS, path).outcomes(here(), progress=progress)
        assert capsys.readouterr().err == ""


def test_a_process_a_core_unless_told(tmp_path, monkeypatch):
    asked = []

    def pool(workers):
        asked.append(workers)
        return here()

    monkeypatch.setattr("refqnn.studies.sweep.own_processes", pool)
    monkeypatch.setattr("os.cpu_count", lambda: 7)
    sweep(tmp_path, tens).outcomes()
    Sweep(tens, RUNS, tmp_path / "told.jsonl").outcomes(workers=3)
    monkeypatch.setattr("os.cpu_count", lambda: None)
    Sweep(tens, RUNS, tmp_path / "unknown.jsonl").outcomes()
    assert asked == [7, 3, 1]


class Unable(Executor):
    """Every run ends with an error on its way back."""

    def submit(self, function, /, *args, **how):  # noqa: ARG002 - nothing is run
        future = Future()
        future.set_exception(TypeError("cannot pickle"))
        return future


def test_an_error_on_the_way_back_is_that_of_its_run(tmp_path):
    found = sweep(tmp_path).outcomes(Unable(), workers=1)
    assert all(o.error.startswith("TypeError: cannot pickle") for o in found)


def test_after_an_interrupt_no_further_run_begins(tmp_path):
    calls, over = [], Event()

    def interrupted(i):
        calls.append(i)
        if i == 0:
            raise KeyboardInterrupt
        over.wait(10)

    this = Sweep(interrupted, [{"i": i} for i in range(6)], tmp_path / "runs.jsonl")
    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(KeyboardInterrupt):
            this.outcomes(pool)
        over.set()
    assert calls in ([0], [0, 1])


TWICE = """
import sys
from pathlib import Path
from tables.sweep_runs import slowly
from refqnn.studies.sweep import Sweep
runs = [{"i": i} for i in range(4)]
print([o.result for o in Sweep(slowly, runs, Path(sys.argv[1])).outcomes(workers=1)])
"""


def test_two_processes_on_one_file_do_no_run_twice(tmp_path):
    path = tmp_path / "runs.jsonl"
    both = [
        subprocess.Popen(
            [sys.executable, "-c", TWICE, path],
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": f"{TESTS}{os.pathsep}{PACKAGE}"},
        )
        for _ in range(2)
    ]
    assert {p.communicate()[0] for p in both} == {b"[0, 1, 4, 9]\n"}
    assert len(path.read_text().splitlines()) == 4
    assert [entry.name for entry in tmp_path.iterdir()] == ["runs.jsonl"]


def test_what_a_new_process_imports_first_is_light():
    heavy = "{'numpy', 'numba', 'tqdm'} & {*sys.modules}"
    code = f"import sys, refqnn.studies.workers; sys.exit(bool({heavy}))"
    env = os.environ | {"PYTHONPATH": str(PACKAGE)}
    subprocess.run([sys.executable, "-c", code], check=True, env=env)


def test_every_worker_has_interrupts_blocked():
    with own_processes(2) as pool:
        ask = signal.pthread_sigmask, signal.SIG_BLOCK, ()
        masks = [pool.submit(*ask), pool.submit(*ask)]  # each starts a process
        assert all(signal.SIGINT in mask.result() for mask in masks)
    assert signal.SIGINT not in signal.pthread_sigmask(*ask[1:])


def test_an_interrupt_ends_processes_at_once():
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt), own_processes(1) as pool:  # noqa: PT012 - of both
        pool.submit(time.sleep, 600)
        raise KeyboardInterrupt
    assert time.monotonic() - begun < 30


def test_the_threads_of_before_come_back():
    numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)
    assert attempt(threads, {"i": 0}).result == [1, 1]
    assert numba.get_num_threads() == numba.config.NUMBA_NUM_THREADS


def test_a_worker_whose_queue_breaks_leaves_without_a_word(capfd):
    worker = Workers().Process(target=divmod, args=(1, 0))
    worker.start()
    worker.join(30)
    assert worker.exitcode == 1
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_file_of_runs_that_is_none_is_not_waited_for(make, tmp_path):
    make(tmp_path / "runs.jsonl")
    with pytest.raises(ValueError, match="cannot be read: it is not a reg"):
        Sweep(tens, RUNS, tmp_path / "runs.jsonl").recorded()


def test_wrong_numbers_of_workers_are_refused(tmp_path):
    refuses("workers must be at least 1, got 0", sweep(tmp_path).outcomes, workers=0)


@pytest.mark.once
def test_the_same_bits_from_a_cluster_of_dask(tmp_path):
    distributed = pytest.importorskip("distributed", reason="dask is not installed")
    runs = [{"seed": seed} for seed in range(6)]
    own = Sweep(trained, runs, tmp_path / "own.jsonl").outcomes(workers=2)
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None
    )
    with cluster, distributed.Client(cluster) as client:
        executor = client.get_executor()
        there = Sweep(trained, runs, tmp_path / "dask.jsonl").outcomes(executor)
        asked = Sweep(process, [{"i": i} for i in range(8)], tmp_path / "who.jsonl")
        assert len({o.result for o in asked.outcomes(executor)}) == 2
    assert [o.error for o in own] == [None] * 6
    assert there == own
    assert len({o.result["digest"] for o in there}) == 6


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
        refuses("run must be what JSON can hold", digest, bad)


SLOW = """
import os, sys, time
from pathlib import Path
from refqnn.studies.sweep import Sweep

def slow(i, folder):
    Path(folder, f"pid{os.getpid()}").touch()
    time.sleep(0.15)
    return i

if __name__ == "__main__":
    folder = sys.argv[1]
    runs = [{"i": i, "folder": folder} for i in range(30)]
    found = Sweep(slow, runs, Path(folder, "runs.jsonl")).outcomes(workers=2)
    print(sum(o.result for o in found))
"""


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"


def waited(condition, seconds):
    """Return whether a condition came true in time."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def whole_lines(path):
    """Return the digests of whole lines."""
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [json.loads(line)["digest"] for line in lines if line.strip()]


@pytest.mark.skipif(not Path("/proc").exists(), reason="asks Linux about processes")
def test_five_kills_lose_and_repeat_no_recorded_run_and_leave_no_orphan(tmp_path):
    script = tmp_path / "slow.py"
    script.write_text(SLOW)
    command = [sys.executable, str(script), str(tmp_path)]
    results = tmp_path / "runs.jsonl"
    env = os.environ | {"PYTHONPATH": str(Path(refqnn.__file__).parents[1])}
    moments = random.Random(0)  # noqa: S311 - moments of a test
    before = 0
    for _ in range(5):
        with subprocess.Popen(command, stderr=subprocess.DEVNULL, env=env) as killed:
            assert waited(lambda: len(whole_lines(results)) > before, 60)  # noqa: B023
            time.sleep(moments.uniform(0, 0.4))
            killed.send_signal(signal.SIGKILL)
        before = len(whole_lines(results))
        workers = [int(path.name[3:]) for path in tmp_path.glob("pid*")]
        assert waited(lambda: not any(map(alive, workers)), 10)  # noqa: B023
    assert before < 30
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    assert done.stdout.strip() == str(sum(range(30)))
    found = whole_lines(results)
    assert len(found) == len(set(found)) == 30


@pytest.mark.slow
def test_two_processes_take_at_most_060_of_the_time_of_one(tmp_path):
    runs = [{"seed": seed, "epochs": 30} for seed in range(24)]
    Sweep(trained, runs[:1], tmp_path / "warm.jsonl").outcomes(workers=1)
    took = {}
    for workers in (1, 2):
        begun = time.perf_counter()
        this = Sweep(trained, runs, tmp_path / f"{workers}.jsonl")
        assert all(o.error is None for o in this.outcomes(workers=workers))
        took[workers] = time.perf_counter() - begun
    assert took[2] <= 0.6 * took[1], took
