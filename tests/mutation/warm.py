"""Judge mutants in forks of a process that has collected every test.

A mutant of a function becomes the code of that function, wherever it is referred to,
and one of a module's constants, defaults and fields their new value. Tests that ran the
changed line, which `record` has asked of coverage once, are run, for what is computed
at import those that ran any line of the file; those of the file's own name first.
"""

import functools
import gc
import hashlib
import importlib
import json
import os
import re
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import groupby, islice, takewhile
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import numpy as np
import pytest

from . import runner
from .operators import Mutant
from .selection import LEFT_OUT, SKIPPED

#: lines above a changed one that are asked for the tests that ran it
ABOVE = 12


def codes(code: CodeType) -> Iterator[tuple[tuple[str, int], CodeType]]:
    """Yield the code of every function of a module with its name and number."""
    count: dict[str, int] = defaultdict(int)
    left = [code]
    while left:
        for inner in left.pop(0).co_consts:
            if isinstance(inner, CodeType):
                left.append(inner)
                count[inner.co_qualname] += 1
                yield (inner.co_qualname, count[inner.co_qualname]), inner


def meaning(code: CodeType) -> tuple[object, ...]:
    """Return bytecode, names and constants: equal where only lines have moved."""
    constants = tuple(
        meaning(c) if isinstance(c, CodeType) else (type(c), repr(c))
        for c in code.co_consts
    )
    return code.co_code, code.co_names, code.co_varnames, code.co_freevars, constants


def replacements(path: Path, source: str, changed: str) -> Iterator[Any]:
    """Yield name, first line and new code of each function that a change reaches."""
    old = dict(codes(compile(source, path, "exec")))
    new = dict(codes(compile(changed, path, "exec")))
    for key, code in old.items():
        if key in new and meaning(code) != meaning(new[key]):
            yield code.co_qualname, code.co_firstlineno, new[key]


class Functions:
    """Every function of the package that lives, and the caches of results."""

    def __init__(self, root: Path) -> None:
        """Import every module of the package, and look around."""
        self.root = root
        for path in sorted(root.glob("refqnn/**/*.py")):
            if path.stem != "__main__":
                name = ".".join(path.relative_to(root).with_suffix("").parts)
                importlib.import_module(name.removesuffix(".__init__"))
        self.live: dict[tuple[object, ...], list[FunctionType]] = defaultdict(list)
        self.caches = []
        for thing in gc.get_objects():
            if type(thing) is FunctionType:
                code = thing.__code__
                key = (code.co_filename, code.co_qualname, code.co_firstlineno)
                self.live[key].append(thing)
            elif type(thing) is functools._lru_cache_wrapper:
                self.caches.append(thing)

    def change(self, path: Path, source: str, changed: str) -> bool:
        """Give functions their new code; say whether any has it."""
        done = False
        for name, line, code in replacements(path, source, changed):
            for function in self.live[str(path), name, line]:
                if len(code.co_freevars) == len(function.__code__.co_freevars):
                    function.__code__ = code
                    done = True
        if not done:
            done = self.change_values(path, source, changed)
        for cache in self.caches:
            cache.cache_clear()
        return done

    def change_values(self, path: Path, source: str, changed: str) -> bool:
        """Give what a module computes at import its new value; say whether any has.

        Raises what the changed module raises.
        """
        name = ".".join(path.relative_to(self.root).with_suffix("").parts)
        module = sys.modules[name.removesuffix(".__init__")]
        usual = {k: v for k, v in vars(module).items() if k.startswith("__")}
        old, new = dict(usual), dict(usual)
        exec(compile(source, path, "exec"), old)  # noqa: S102 - of the package
        exec(compile(changed, path, "exec"), new)  # noqa: S102 - likewise
        return replace_values(module, old, new)


def text_of(value: object) -> str:
    """Return a text that is equal for equal values."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape} {value.tobytes().hex()}"
    return re.sub(" at 0x[0-9a-f]+", "", repr(value))


def replace_values(owner: Any, old: Any, new: Any) -> bool:
    """Replace what differs in a module or a class; say whether anything does."""
    names = vars(owner).keys() & old.keys() & new.keys() - {"__builtins__", "__dict__"}
    return sum(replace_value(owner, n, old[n], new[n]) for n in sorted(names)) > 0


def replace_value(owner: Any, name: str, before: Any, value: Any) -> bool:
    """Replace a value that differs, wherever it has this name."""
    was = vars(owner)[name]
    if isinstance(value, FunctionType) and isinstance(was, FunctionType):
        parts = [
            part
            for part in ("__defaults__", "__kwdefaults__")
            if text_of(getattr(before, part)) != text_of(getattr(value, part))
        ]
        for part in parts:
            setattr(was, part, getattr(value, part))
        return bool(parts)
    if isinstance(value, type) and isinstance(was, type):
        own = was.__module__ == getattr(owner, "__name__", "")
        return own and replace_values(was, vars(before), vars(value))
    if text_of(before) == text_of(value):
        return False
    for other in [owner, *sys.modules.values()]:
        if vars(other).get(name, other) is was:
            setattr(other, name, value)
    if isinstance(was, dict):
        was.update(value)
    return True


class Judge:
    """A plugin that, in the place of running the tests, calls ``work`` with itself."""

    def __init__(self, root: Path, folder: Path, work: Any) -> None:
        """Keep what tests ran in ``folder``."""
        self.root, self.folder, self.work = root, folder, work
        self.folder.mkdir(exist_ok=True)
        self.green: dict[str, bool] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Do the work; no test runs but in a fork."""
        self.items = {item.nodeid: item for item in session.items}
        self.plugins = session.config.pluginmanager
        self.functions = Functions(self.root)
        self.seconds: dict[str, float] = {}
        self.lines: dict[tuple[str, str], list[str]] = defaultdict(list)
        gc.freeze()
        for file, tests in groupby(self.items, key=lambda n: n.partition("::")[0]):
            self.read(file, list(tests))
        self.work(self)
        return True

    def read(self, file: str, tests: list[str]) -> None:
        """Read which lines the tests of a file ran; run them once to know it."""
        text = (self.root / file).read_bytes()
        digest = hashlib.sha256(text).hexdigest()[:16]
        path = self.folder / f"{file.replace('/', '.')}.{digest}.json"
        if not path.exists():
            path.write_text(json.dumps(self.fork(lambda: self.record(tests), 900)))
        known = json.loads(path.read_text())
        self.seconds |= known.get("seconds", {})
        for name, lines in known.get("lines", {}).items():
            for line, numbers in lines.items():
                self.lines[name, line] += [
                    known["tests"][n]
                    for n in numbers
                    if known["tests"][n] in self.items
                ]

    def record(self, tests: list[str]) -> dict[str, Any]:
        """Run tests under coverage; return their seconds, and who ran which line."""
        import coverage  # of the extra lint

        seconds: dict[str, float] = {}
        cover = coverage.Coverage(data_file=None, source=[str(self.root / "refqnn")])
        cover.start()
        watch = self.watch(900.0)
        for test, after in zip(tests, [*tests, None][1:], strict=True):
            cover.switch_context(test)
            begun, failed = time.process_time(), watch.killer
            self.run(test, after)
            if watch.killer == failed:
                seconds[test] = round(time.process_time() - begun, 3)
            watch.killer = ""
        cover.stop()
        data, number = cover.get_data(), {t: n for n, t in enumerate(tests)}
        lines: dict[str, dict[str, list[int]]] = {}
        for path in data.measured_files():
            texts = Path(path).read_text().splitlines()
            name = str(Path(path).relative_to(self.root))
            of = lines[name] = {}
            for at, contexts in data.contexts_by_lineno(path).items():
                text = texts[at - 1].strip()
                green = {number[c] for c in contexts if c in seconds}
                of[text] = sorted(green.union(of.get(text, ())))
        return {"tests": tests, "seconds": seconds, "lines": lines}

    def watch(self, seconds: float) -> runner.Watch:
        """Register a watch of the tests that this fork runs."""
        signal.signal(signal.SIGVTALRM, runner.too_slow)
        watch = runner.Watch(time.process_time() + seconds)
        self.plugins.register(watch)
        return watch

    def run(self, test: str, after: str | None) -> None:
        """Run one test; fixtures that the next one shares stay."""
        item, following = self.items[test], after and self.items[after]
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)

    def fork(self, work: Any, seconds: float) -> dict[str, Any]:
        """Call a function in a fork, in the tree."""
        return runner.forked(self.root, work, seconds)

    def tests_of(self, mutant: Mutant, source: str) -> list[str]:
        """List the tests that ran a line: of its name first, then file by file."""
        lines = [line.strip() for line in source.splitlines()[: mutant.line]]
        near = takewhile(lambda n: not n.startswith(("def ", "class ")), lines[::-1])
        known = (self.lines.get((mutant.file, n)) for n in islice(near, ABOVE))
        ran = next(filter(None, known), None) or [
            test
            for (name, _), t in self.lines.items()
            if name == mutant.file
            for test in t
        ]
        stem = Path(mutant.file).stem
        stem = Path(mutant.file).parts[-2] if stem == "__init__" else stem
        files: dict[str, list[str]] = defaultdict(list)
        for test in [t for t in dict.fromkeys(ran) if self.green.get(t, True)]:
            files[test.partition("::")[0]].append(test)

        def order(file: str) -> tuple[bool, float]:
            alike = stem.strip("_") in Path(file).stem
            return not alike, sum(self.seconds[t] for t in files[file])

        return [
            test
            for file in sorted(files, key=order)
            for test in sorted(files[file], key=self.seconds.__getitem__)
        ]

    def is_green(self, test: str) -> bool:
        """Say whether a test passes without a mutant; one that is red never judges."""
        if test not in self.green:
            self.green[test] = self.kill(None, [test], 600)["killer"] is None
            if not self.green[test]:
                sys.stderr.write(f"red without a mutant: {test}\n")
        return self.green[test]

    def kill(
        self, mutant: Mutant | None, tests: Iterable[str], seconds: float
    ) -> dict[str, Any]:
        """Run tests of a mutant, in a fork, until one fails."""
        path = self.root / (mutant.file if mutant else "")
        source = path.read_text() if mutant else ""
        changed = mutant.apply(source) if mutant else ""
        chosen = list(tests)

        def work() -> dict[str, Any]:
            try:
                if mutant and not self.functions.change(path, source, changed):
                    return {"killer": None, "ran": 0, "took": {}, "imported": True}
            except Exception as error:  # noqa: BLE001 - whatever a mutant does
                return {"killer": f"import: {error!r}", "ran": 0, "took": {}}
            watch = self.watch(seconds)
            for test, after in zip(chosen, [*chosen, None][1:], strict=True):
                self.run(test, after)
                if watch.killer or watch.spent():
                    break
            return {"killer": watch.killer or None, "ran": watch.ran, "took": {}}

        if not mutant:
            return self.fork(work, seconds)
        try:
            path.write_text(changed)  # for processes that tests start
            return self.fork(work, seconds)
        finally:
            path.write_text(source)


def collect(root: Path, folder: Path, work: Any, marks: str) -> None:
    """Collect the tests of the tree and the doctests of the package, and work there."""
    os.chdir(root)
    judge = Judge(root, folder, work)
    sys.path[:0] = [str(root), str(root / "tests")]
    left_out = [f"--ignore=tests/{name}.py" for name in LEFT_OUT]
    left_out += [f"--ignore=tests/{name}" for name in SKIPPED]
    options = [*left_out, "-m", marks, *runner.OPTIONS]
    code = pytest.main(["tests", "refqnn", *options], plugins=[judge])
    if code:
        raise RuntimeError(f"tests are not collected: {code!r}")
