"""Many runs on any executor, resumable: one line of JSON for each that has ended.

A run is a dict that JSON can hold: the arguments of a function. Its key is a digest of
its content, so a file of results says by itself which runs are done, whatever their
order. A second digest, of run, result and error, shows lines that were changed; lines
of refqnn 0.1 have none. A line is appended, and flushed to disk, when its run ends;
what is cut off by a kill or damaged is reported and left out, and its run is done
again. Every run computes with one thread, wherever it runs: runs side by side are what
fills the cores. ``Memo`` keeps the same lines for one process that looks results up
as it goes.

    sweep = Sweep(function, runs, Path("results.jsonl"))
    sweep.outcomes()                                # a process a core
    sweep.outcomes(Client("tcp://...").get_executor())  # dask.distributed: a cluster
"""

import json
import os
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, final

import numba
from threadpoolctl import threadpool_limits
from tqdm.auto import tqdm

from refqnn import files
from refqnn.files import append_line, lock, parse_object, read_bytes
from refqnn.studies.workers import own_processes

Settings = Mapping[str, Any]
#: what JSON holds: of a run, or a row of a study
Row = dict[str, Any]
Rows = Sequence[Row]


class Outcome(NamedTuple):
    """A run with its result, or with the error that ended it."""

    run: dict[str, Any]
    result: Any
    error: str | None = None


Outcomes = Sequence[Outcome]


def digest(run: Settings) -> str:
    """Return the key of a run: sha256 of its JSON with sorted keys, 16 digits.

    Raises ValueError where JSON cannot hold the run.

    >>> digest({"bits": 4, "seed": 0}) == digest({"seed": 0, "bits": 4})
    True
    """
    try:
        return hash_of(run)
    except (TypeError, ValueError) as error:
        raise ValueError(f"run must be what JSON can hold, got {run!r}") from error


def hash_of(value: Any) -> str:
    """Return 16 digits of the sha256 of the JSON of a value, keys sorted."""
    text = json.dumps(value, sort_keys=True, allow_nan=False)
    return files.digest(text)[:16]


@final
@dataclass(frozen=True)
class Sweep:
    """``function(**run)`` for every run, recorded in the file ``path``.

    The function, its arguments and its result travel between processes, so it is one
    that a module defines, and its result is what JSON can hold. A run that failed is
    recorded with its error, does not stop the others, and is tried again by the next
    call; so is one whose process was killed.
    """

    function: Callable[..., Any]
    runs: Sequence[Settings]
    path: Path

    def recorded(self) -> dict[str, Outcome]:
        """Return the outcomes in the file, by digest; the last line of a run counts.

        Warns of every line that holds no result.
        """
        return dict(read_lines(self.path))

    def outcomes(
        self,
        executor: Executor | None = None,
        *,
        workers: int | None = None,
        progress: bool | None = None,
    ) -> list[Outcome]:
        """Run what is not recorded yet and return every outcome, in the order of runs.

        Without an executor, in ``workers`` processes (one a core), which end with their
        parent; one worker is this process, where a debugger stops. ``progress=None``
        shows a bar only on a terminal. While another process works on the file, this
        one waits, and does what is left then. Raises BrokenExecutor where an executor
        that was handed over breaks; what has ended is recorded.
        """
        if workers is not None and workers < 1:
            raise ValueError(f"workers must be at least 1, got {workers}")
        if self.fresh_runs():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            hidden = None if progress is None else not progress
            with lock(self.path):
                left = self.fresh_runs()  # less where another process was waited for
                with tqdm(total=len(left), unit="run", disable=hidden) as bar:
                    self.run_all(left, executor, workers, bar)
        done = self.recorded()
        return [done[digest(run)] for run in self.runs]

    def fresh_runs(self) -> dict[str, Settings]:
        """Map digests to the runs that are not recorded, or failed."""
        done = self.recorded()
        keys = {digest(run): run for run in self.runs}
        return {key: run for key, run in keys.items() if fresh(done.get(key))}

    def completed(self, executor: Executor | None = None, **how: Any) -> list[Outcome]:
        """Return ``outcomes``; RuntimeError, once all have ended, where one failed."""
        every = self.outcomes(executor, **how)
        failed = [outcome for outcome in every if outcome.error is not None]
        if failed:
            raise RuntimeError(
                f"{len(failed)} of {len(every)} runs failed and stand with their "
                f"errors in {self.path}; {failed[0].run}: {failed[0].error}"
            )
        return every

    def run_all(
        self,
        left: Mapping[str, Settings],
        executor: Executor | None,
        workers: int | None,
        bar: Any,
    ) -> None:
        """Run on an executor, here, or on pools of processes until every run has ended.

        A process that is killed breaks its pool, which does not say whose it was. Runs
        start in their order, so it was one of the first ``workers`` without an outcome:
        each of these runs alone then, and the one that breaks its own pool is recorded.
        """
        if executor is not None:
            if lost := self.run_on(executor, left, bar):
                raise BrokenExecutor(f"the executor broke; {len(lost)} runs are left")
            return
        if workers == 1:
            for key, run in left.items():
                self.record(key, attempt(self.function, dict(run)), bar)
            return
        workers = workers or os.cpu_count() or 1
        while left:
            with own_processes(workers) as pool:
                left = self.run_on(pool, left, bar)
            for key in islice(left, workers):
                with own_processes(1) as alone:
                    if self.run_on(alone, {key: left[key]}, bar):
                        killed = "BrokenExecutor: the process of this run was killed"
                        self.record(key, Outcome(dict(left[key]), None, killed), bar)
            left = dict(islice(left.items(), workers, None))

    def run_on(
        self, executor: Executor, left: Mapping[str, Settings], bar: Any
    ) -> dict[str, Settings]:
        """Run, one line a run as they end; return the runs that a broken pool lost."""
        futures: dict[Future[Outcome], str] = {}
        ended = set()
        try:
            with suppress(BrokenExecutor):  # what cannot be submitted is lost
                for key, run in left.items():
                    futures[executor.submit(attempt, self.function, dict(run))] = key
            for future in as_completed(futures):
                key = futures[future]
                with suppress(BrokenExecutor):
                    self.record(key, outcome_of(future, left[key]), bar)
                    ended.add(key)
        finally:
            for future in futures:
                future.cancel()
        return {key: run for key, run in left.items() if key not in ended}

    def record(self, key: str, outcome: Outcome, bar: Any) -> None:
        """Append the line of a run that has ended."""
        append_outcome(self.path, key, outcome)
        bar.update()


def fresh(outcome: Outcome | None) -> bool:
    """Return whether a run is still to be done: not recorded, or failed."""
    return outcome is None or outcome.error is not None


def attempt(function: Callable[..., Any], run: dict[str, Any]) -> Outcome:
    """Return the outcome of one run, computed with one thread.

    >>> attempt(dict, {"x": 1})
    Outcome(run={'x': 1}, result={'x': 1}, error=None)
    """
    try:
        with one_thread():
            result = function(**run)
        json.dumps(result, allow_nan=False)
        return Outcome(run, result)
    except Exception as error:  # noqa: BLE001 - whatever ends a run is its outcome
        return Outcome(run, None, error_line(error))


def outcome_of(future: Future[Outcome], run: Settings) -> Outcome:
    """Return the outcome in a future, or the error that kept it from travelling back.

    Raises BrokenExecutor where the process of the run, or of another, was killed.
    """
    try:
        return future.result()
    except BrokenExecutor:
        raise
    except Exception as error:  # noqa: BLE001 - whatever ends a run is its outcome
        return Outcome(dict(run), None, error_line(error))


def error_line(error: Exception) -> str:
    """Return an error in one line, with the place that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{where}"


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread, in Numba's kernels and in BLAS."""
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        numba.set_num_threads(before)


def append_outcome(
    path: Path, key: str, outcome: Outcome, *, sync: bool = True
) -> None:
    """Append a line: key, run, result, error, and the digest of these three."""
    content = json.loads(json.dumps(outcome._asdict()))  # as it will be read
    record = {"digest": key} | content | {"content": hash_of(content)}
    append_line(path, record, sync=sync)


def read_lines(path: Path) -> Iterator[tuple[str, Outcome]]:
    """Yield ``(digest, outcome)`` of every line; warn of those that hold none."""
    if not path.exists():
        return
    for number, line in enumerate(read_bytes(path).split(b"\n"), start=1):
        try:
            if line.strip():
                yield outcome_in(line)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            warnings.warn(
                f"{path}, line {number}, holds no result and is left out: {error!r}",
                stacklevel=2,
            )


def outcome_in(line: bytes) -> tuple[str, Outcome]:
    """Return ``(digest, outcome)`` of a line; raises where it is cut off or damaged."""
    record = parse_object(line, "the line")
    outcome = Outcome(record["run"], record["result"], record["error"])
    if digest(outcome.run) != record["digest"]:
        raise ValueError(f"{record['digest']!r} is not the digest of {outcome.run}")
    content = hash_of(outcome._asdict())
    if record.get("content", content) != content:
        raise ValueError("its run, result or error was changed")
    return record["digest"], outcome


@final
class Memo:
    """``function(**run)``, computed once for every run, kept in the file ``path``.

    The file has the lines of a sweep, is read once, and is appended to without waiting
    for the disk: for many short runs of one process. What raises is not kept.

    >>> memo, calls = Memo(None), []
    >>> memo(lambda x: calls.append(x) or x * x, {"x": 3}), memo(abs, {"x": 3}), calls
    (9, 9, [3])
    """

    def __init__(self, path: Path | None) -> None:
        """Read what the file holds; without a path nothing outlives the process."""
        self.path = path
        lines = () if path is None else read_lines(path)
        self.results = {key: o.result for key, o in lines if o.error is None}

    def __call__(self, function: Callable[..., Any], run: Settings) -> Any:
        """Return the result of a run as JSON gives it back."""
        key = digest(run)
        if key not in self.results:
            result = json.loads(json.dumps(function(**run), allow_nan=False))
            if self.path is not None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                append_outcome(self.path, key, Outcome(dict(run), result), sync=False)
            self.results[key] = result
        return self.results[key]
