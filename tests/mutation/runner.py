"""Run tests on a mutant, in a fork of a process that has imported the libraries."""

import ctypes
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

#: seconds of one test, after which the mutant has made it too slow
TEST_SECONDS = 20.0
OPTIONS = (
    *("-x", "-q", "-o", "addopts=", "--import-mode=importlib"),
    *("--doctest-modules", "--benchmark-skip", "-p", "no:cacheprovider"),
    *("-p", "no:xdist", "-W", "ignore::pytest.PytestAssertRewriteWarning"),
)


class Watch:
    """Stops a slow test, counts seconds, remembers the first test that failed."""

    def __init__(self, seconds: float) -> None:
        """Allow so many seconds of computing for all tests together."""
        self.seconds, self.killer, self.ran = seconds, "", 0

    def spent(self) -> bool:
        """Say whether the seconds are over."""
        return time.process_time() > self.seconds

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Set the alarm; leave the rest out when the seconds are over."""
        if self.spent():
            item.session.shouldstop = "the seconds are over"
            pytest.skip("the seconds are over")
        signal.setitimer(signal.ITIMER_VIRTUAL, TEST_SECONDS)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember a failure, and count what has passed."""
        if report.failed:
            self.killer = self.killer or report.nodeid
        self.ran += report.when == "call" and report.passed

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Remember a file that cannot be imported."""
        if report.failed:
            self.killer = self.killer or report.nodeid or "collection"


def too_slow(*_: object) -> None:
    """Fail the test that is running."""
    raise RuntimeError("the test takes too long")


def run_tests(tests: Sequence[str], seconds: float) -> dict[str, Any]:
    """Run files of tests until one fails; say which test, and what each file took."""
    for descriptor in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
    signal.signal(signal.SIGVTALRM, too_slow)
    watch, took = Watch(seconds), {}
    for test in tests:
        begun = time.process_time()
        code = pytest.main([test, "-m", "not slow", *OPTIONS], plugins=[watch])
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        took[test] = round(time.process_time() - begun, 2)
        if watch.killer or code not in {0, 2, 5}:
            return {"killer": watch.killer or test, "ran": watch.ran, "took": took}
        if watch.spent():
            break
    return {"killer": None, "ran": watch.ran, "took": took}


def forked(
    root: Path, work: Callable[[], dict[str, Any]], seconds: float
) -> dict[str, Any]:
    """Call a function, which runs tests of the tree at ``root``, in a fork."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(read)
            os.setsid()
            signal.signal(signal.SIGINT, signal.default_int_handler)  # of a shell's &
            with suppress(OSError, AttributeError):  # Linux only: end with the parent
                ctypes.CDLL(None).prctl(1, signal.SIGKILL)
            resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 60,) * 2)
            os.chdir(root)
            sys.path[:0] = [str(root), str(root / "tests")]
            os.environ["PYTHONPATH"] = str(root)
            answer = json.dumps(work())
        except BaseException as error:  # noqa: BLE001 - of this program: not the mutant's
            answer = json.dumps({"fault": repr(error)})
        with os.fdopen(write, "w") as file:
            file.write(answer)
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as answers:
        content = answers.read()
    _, status = os.waitpid(pid, 0)
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)  # what tests have started
    result: dict[str, Any] = json.loads(content or "{}")
    if "fault" in result or (not result and status == 0):
        raise RuntimeError(f"no tests were run: {result}")
    return result or {"killer": f"the process ended: {status}", "ran": 0, "took": {}}


def warm(*, compiled: bool = False) -> None:
    """Import, before the first fork, what all tests need and no mutant changes."""
    os.environ |= {
        "NUMBA_DISABLE_JIT": str(int(not compiled)),
        "NUMBA_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "MPLBACKEND": "Agg",
    }
    sys.dont_write_bytecode = True
    for name in (
        "hypothesis",
        "matplotlib.figure",
        "msgspec",
        "numba",
        "numpy",
        "onnx",
        "onnxruntime",
        "scipy.optimize",
        "scipy.special",
        "threadpoolctl",
        "tqdm.auto",
    ):
        try:
            __import__(name)
        except ImportError:  # an extra
            continue


def quickest(results: Mapping[Any, Mapping[str, Any]]) -> dict[str, float]:
    """Return the longest seconds that any run needed for each file of tests."""
    seconds: dict[str, float] = {}
    for result in results.values():
        for test, took in result["took"].items():
            seconds[test] = max(took, seconds.get(test, 0.0))
    return seconds
