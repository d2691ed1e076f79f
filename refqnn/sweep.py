"""Many runs on any executor, resumable: one line of JSON for each that has ended.

A run is a dict that JSON can hold: the arguments of a function. Its key is a digest of
its content, so a file of results says by itself which runs are done, whatever their
order. A line is appended, and flushed to disk, when its run ends; a line cut off by a
kill is ignored, and its run is run again.
"""

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple, final

import tqdm

Settings = Mapping[str, Any]


class Outcome(NamedTuple):
    """What a run returned, or the error that ended it."""

    run: dict[str, Any]
    result: Any
    error: str | None = None


def digest(run: Settings) -> str:
    """Return the key of a run: sha256 of its JSON with sorted keys, 16 digits.

    Raises ValueError where JSON cannot hold the run.

    >>> digest({"bits": 4, "seed": 0}) == digest({"seed": 0, "bits": 4})
    True
    """
    try:
        text = json.dumps(run, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"run must be what JSON can hold, got {run!r}") from error
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@final
@dataclass(frozen=True)
class Sweep:
    """``function(**run)`` for every run, recorded in the file ``path``.

    The function, its arguments and its result travel between processes, so it is one
    that a module defines. A run that failed is recorded with its error, does not stop
    the others, and is tried again by the next call.
    """

    function: Callable[..., Any]
    runs: Sequence[Settings]
    path: Path

    def recorded(self) -> dict[str, Outcome]:
        """Return the outcomes in the file, by digest; the last line of a run counts."""
        return dict(read_lines(self.path))

    def outcomes(
        self,
        executor: Executor | None = None,
        *,
        workers: int | None = None,
        progress: bool | None = None,
    ) -> list[Outcome]:
        """Run what is not recorded yet and return every outcome, in the order of runs.

        Without an executor, ``workers`` processes (one a core) of one thread each,
        which end with their parent. ``progress=None`` shows a bar only on a terminal.
        """
        done = self.recorded()
        keys = {digest(run): run for run in self.runs}
        left = {key: run for key, run in keys.items() if fresh(done.get(key))}
        if left and executor is None:
            with own_processes(workers) as own:
                self.run_all(left, own, progress)
        elif left and executor is not None:
            self.run_all(left, executor, progress)
        done = self.recorded()
        return [done[digest(run)] for run in self.runs]

    def run_all(
        self, left: Mapping[str, Settings], executor: Executor, progress: bool | None
    ) -> None:
        """Run on an executor, one line a run in the order in which they end."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        futures = {
            executor.submit(attempt, self.function, dict(run)): key
            for key, run in left.items()
        }
        hidden = None if progress is None else not progress
        bar = tqdm.tqdm(total=len(futures), unit="run", disable=hidden)
        with bar:
            for future in as_completed(futures):
                append_line(self.path, futures[future], future.result())
                bar.update()


def fresh(outcome: Outcome | None) -> bool:
    """Return whether a run is still to be done: not recorded, or failed."""
    return outcome is None or outcome.error is not None


def attempt(function: Callable[..., Any], run: dict[str, Any]) -> Outcome:
    """Return the outcome of one run.

    >>> attempt(dict, {"x": 1})
    Outcome(run={'x': 1}, result={'x': 1}, error=None)
    """
    try:
        return Outcome(run, function(**run))
    except Exception as error:  # noqa: BLE001 - whatever ends a run is its outcome
        return Outcome(run, None, f"{type(error).__name__}: {error}")


def append_line(path: Path, key: str, outcome: Outcome) -> None:
    """Append a line, on a new line even after one that was cut off."""
    line = json.dumps({"digest": key} | outcome._asdict()) + "\n"
    with path.open("ab+") as file:
        if file.tell() and not ends_a_line(path):
            line = "\n" + line
        file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())


def ends_a_line(path: Path) -> bool:
    """Return whether the last byte of a file is a line feed."""
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"


def read_lines(path: Path) -> Iterator[tuple[str, Outcome]]:
    """Yield ``(digest, outcome)`` of every whole line."""
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
            key = record["digest"]
            outcome = Outcome(record["run"], record["result"], record["error"])
        except (ValueError, KeyError, TypeError):
            continue  # cut off by a kill: its run is done again
        yield key, outcome


def own_processes(workers: int | None) -> ProcessPoolExecutor:
    """Return a pool of processes, started afresh, of one thread each."""
    count = workers or os.cpu_count() or 1
    return ProcessPoolExecutor(
        count,
        mp_context=get_context("spawn"),
        initializer=begin_worker,
        initargs=(os.getpid(),),
    )


def begin_worker(parent: int) -> None:
    """Compute with one thread, and end when the parent does."""
    for name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    threading.Thread(target=end_with, args=(parent,), daemon=True).start()


def end_with(parent: int) -> None:
    """Leave as soon as this process has another parent."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
