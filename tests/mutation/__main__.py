"""Mutants of the package, chosen by a seed, and the tests that do not see them.

    python -m tests.mutation --count 600 --seed 0 --resume FOLDER

Run from the checkout. FOLDER keeps a copy of it, in which one file at a time is
changed, the lines that tests ran, and a line of JSON for each mutant: a run that was
cut off goes on. The tests that ran the changed line judge first, uncompiled, in forks
of a process that has collected them (`warm`); then tests that are marked compiled or
once, compiled; then the files of tests that import the file, in processes that import
it anew. A mutant survives if no test fails within the seconds;
survivors.csv gives the reason of those that were read. Exit code 1: less than 97 % are
killed, or a survivor has no reason.
"""

import argparse
import compileall
import csv
import hashlib
import json
import os
import py_compile
import shutil
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import runner, warm
from .operators import Mutant, mutants
from .selection import Selection

HERE = Path(__file__).parent
#: files that no test of values sees
LEFT_OUT = ("refqnn/moved.py", "refqnn/__main__.py")
SCORE = 0.97
#: processes that have collected tests: compiled or not, and the marks of the tests
WARM = ((False, "not slow"), (True, "(compiled or once) and not slow"))


def every_mutant(root: Path) -> list[Mutant]:
    """List the mutants of the package."""
    return [
        mutant
        for path in sorted(root.glob("refqnn/**/*.py"))
        if (file := str(path.relative_to(root))) not in LEFT_OUT
        for mutant in mutants(file, path.read_text())
    ]


def choice(root: Path, options: argparse.Namespace, results: Any) -> list[Mutant]:
    """Choose mutants by a digest, those first that were judged before."""

    def order(mutant: Mutant) -> tuple[bool, str]:
        place = results.place(mutant._asdict())
        text = " ".join([str(options.seed), *place])
        return place not in results, hashlib.sha256(text.encode()).hexdigest()

    every = (m for m in every_mutant(root) if options.files in m.file)
    return sorted((m for m in every if m.operator != "same"), key=order)[
        : options.count
    ]


def copy_of(folder: Path) -> Path:
    """Copy the checkout into ``folder``, compiled, and return where it is."""
    root = folder / "tree"
    shutil.rmtree(root, ignore_errors=True)
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, capture_output=True, check=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        if Path(name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(name, root / name)
    by_content = py_compile.PycInvalidationMode.CHECKED_HASH
    compileall.compile_dir(root, quiet=2, invalidation_mode=by_content)
    return root


def judge(
    root: Path, selection: Selection, mutant: Mutant, green: dict[str, bool], done: Any
) -> dict[str, Any]:
    """Run the tests that import the file of a mutant; a killer is green without it."""
    path = root / mutant.file
    source = path.read_text()
    tests = selection.tests_of(mutant.file, mutant.within, runner.quickest(done))

    def run(tests: list[str], seconds: float) -> dict[str, Any]:
        return runner.forked(root, lambda: runner.run_tests(tests, seconds), seconds)

    while True:
        try:
            path.write_text(mutant.apply(source))
            result = run(tests, done.seconds)
        finally:
            path.write_text(source)
        killer = result["killer"] or ""
        file = killer.partition("::")[0]
        if file not in tests or green.setdefault(
            killer, run([killer], 600)["killer"] is None
        ):
            return mutant._asdict() | result
        tests.remove(file)


def judge_warm(judge: warm.Judge, mutant: Mutant, done: Any) -> dict[str, Any]:
    """Run the tests that ran the line of a mutant; a killer is green without it."""
    tests = judge.tests_of(mutant, (judge.root / mutant.file).read_text())
    while True:
        result = judge.kill(mutant, tests, done.seconds)
        killer = result["killer"]
        if killer not in tests or judge.is_green(killer):
            return mutant._asdict() | result
        tests.remove(killer)


class Results(dict[tuple[str, ...], dict[str, Any]]):
    """The results in a file of lines, and how long the tests of a mutant may take."""

    def __init__(self, path: Path, seconds: float) -> None:
        """Read the lines that are there; the last of a mutant counts."""
        super().__init__()
        self.path, self.seconds = path, seconds
        for line in path.read_text().splitlines() if path.exists() else []:
            result = json.loads(line)
            self[self.place(result)] = result

    def add(self, result: dict[str, Any]) -> None:
        """Append a result to the file."""
        self[self.place(result)] = result
        with self.path.open("a") as file:
            file.write(json.dumps(result) + "\n")

    def left(self, chosen: list[Mutant], stage: int) -> Iterator[Mutant]:
        """Yield the mutants that nothing has killed and this stage has not judged."""
        for mutant in chosen:
            known = self.get(self.place(mutant._asdict()), {"killer": None, "stage": 0})
            if known["killer"] is None and known.get("stage", 1) < stage:
                yield mutant

    def place(self, result: dict[str, Any]) -> tuple[str, ...]:
        """Name a mutant by the text around it: lines may move."""
        return (*self.key(result), str(result["column"]))

    def keep(self, chosen: list[Mutant]) -> None:
        """Forget what is not among the mutants that are chosen."""
        for place in self.keys() - {self.place(m._asdict()) for m in chosen}:
            del self[place]

    def key(self, result: dict[str, Any]) -> tuple[str, ...]:
        """Name a mutant as the table of survivors does."""
        return tuple(str(result[k]) for k in ("file", "within", "original", "changed"))


def reasons() -> dict[tuple[str, ...], str]:
    """Map file, function, original and change to the reason of a survivor."""
    with (HERE / "survivors.csv").open(newline="") as file:
        return {
            (r["file"], r["within"], r["original"], r["changed"]): r["reason"]
            for r in csv.DictReader(file)
        }


def report(results: Results) -> Iterator[str]:
    """Yield the survivors, and the score."""
    known = reasons()
    survivors = [r for r in results.values() if r["killer"] is None]
    new = [r for r in survivors if results.key(r) not in known]
    for r in survivors:
        why = known.get(results.key(r), "NO REASON")
        yield (
            f"{r['file']}:{r['line']} {r['within']}: {r['original']} -> {r['changed']}"
            f" [{r['operator']}, {r['ran']} tests] {why}"
        )
    killed = len(results) - len(survivors)
    yield (
        f"{len(results)} mutants, {killed} killed "
        f"({killed / max(len(results), 1):.1%}), {len(survivors) - len(new)} survive "
        f"with a reason, {len(new)} without"
    )


def main() -> int:
    """Judge the mutants that are left, and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--seconds", type=float, default=40.0, help="for a mutant")
    again = "judge anew what is alive"
    parser.add_argument("--again", action="store_true", help=again)
    parser.add_argument("--files", default="", help="only those whose path holds this")
    options = parser.parse_args()
    options.resume.mkdir(parents=True, exist_ok=True)
    folder = options.resume.resolve()
    path = folder / "results.jsonl"
    root = copy_of(folder)
    path.touch()
    if options.again:
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(n for n in lines if json.loads(n)["killer"]))
    chosen = choice(root, options, Results(path, options.seconds))

    for stage, (compiled, marks) in enumerate(WARM, start=1):

        def judge_here(collected: warm.Judge, stage: int = stage) -> None:
            results = Results(path, options.seconds)
            for mutant in results.left(chosen, stage):
                result = judge_warm(collected, mutant, results)
                results.add(result | {"stage": stage})

        if pid := os.fork():  # this process has imported nothing of the package
            os.waitpid(pid, 0)
            continue
        try:
            runner.warm(compiled=compiled)
            lines = folder / ("lines_compiled" if compiled else "lines")
            warm.collect(root, lines, judge_here, marks)
        except BaseException:  # noqa: BLE001 - the process ends here
            traceback.print_exc()
        finally:
            os._exit(0)
    runner.warm()
    results = Results(path, options.seconds)
    selection, green = Selection(root), dict[str, bool]()
    for mutant in results.left(chosen, len(WARM) + 1):
        result = judge(root, selection, mutant, green, results)
        results.add(result | {"stage": len(WARM) + 1})
    results.keep(chosen)
    sys.stdout.write("\n".join([*report(results), ""]))
    alive = [r for r in results.values() if r["killer"] is None]
    lacking = any(results.key(r) not in reasons() for r in alive)
    return int(lacking or len(alive) > (1 - SCORE) * len(results))


if __name__ == "__main__":
    sys.exit(main())
