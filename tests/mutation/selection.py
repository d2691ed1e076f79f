"""The tests that may see a mutant: those that import its file, the likeliest first."""

import ast
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

#: tests of the text of the package, and tests that take minutes
LEFT_OUT = ("test_style", "test_architecture", "test_examples", "test_walks")


#: a module in a text, as tables of lazy imports have it
MODULE = re.compile(r"refqnn(\.\w+)+")


@cache
def imports(root: Path, file: Path) -> frozenset[str]:
    """Return the files, relative to ``root``, whose modules a file may import.

    A package loads its modules when they are asked for: it imports all of them.
    """
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module, *(f"{node.module}.{a.name}" for a in node.names)}
        if isinstance(node, ast.Constant) and MODULE.fullmatch(str(node.value)):
            names.add(str(node.value))
    package = file.name == "__init__.py"
    inside = [*file.parent.glob("*.py"), *file.parent.glob("*/__init__.py")] * package
    lazy = {str(path.relative_to(root)) for path in inside}
    return frozenset(lazy.union(*(places(root, name) for name in names)))


def places(root: Path, module: str) -> Iterable[str]:
    """Yield the file of a module of the package or of the tests."""
    stem = module.replace(".", "/")
    for name in (f"{stem}.py", f"{stem}/__init__.py", f"tests/{stem}.py"):
        if (root / name).is_file():
            yield name


def distances(root: Path, test: Path) -> dict[str, int]:
    """Count the imports between a test and every file that it reaches."""
    far, level = {}, {str(test.relative_to(root))}
    for distance in range(12):
        far |= dict.fromkeys(level, distance)
        level = {p for f in level for p in imports(root, root / f)} - far.keys()
    return far


class Selection:
    """Which tests import which file of the package, and how far away they are."""

    def __init__(self, root: Path) -> None:
        """Read the imports of all tests below ``root``."""
        tests = [
            path
            for path in sorted(root.glob("tests/**/test_*.py"))
            if path.stem not in LEFT_OUT and path.parent.name not in SKIPPED
        ]
        self.far = {str(t.relative_to(root)): distances(root, t) for t in tests}
        self.texts = {name: (root / name).read_text() for name in self.far}

    def tests_of(
        self, file: str, within: str, seconds: Mapping[str, float]
    ) -> list[str]:
        """List the doctests of a file, then the tests that import it.

        First come tests that carry the name of the file and tests that mention the
        function or class; among these the near ones, then the fast ones.
        """
        words = [re.escape(w) for w in within.split(".") if w and w != "__init__"]
        mention = re.compile(rf"\b({'|'.join(words) or '(?!)'})\b")
        stem = (
            Path(file).stem if Path(file).stem != "__init__" else Path(file).parts[-2]
        )

        def order(test: str) -> tuple[float, ...]:
            alike = stem.strip("_") in Path(test).stem
            mentioned = bool(mention.search(self.texts[test]))
            return (
                not (alike and mentioned),
                not (alike or mentioned),
                self.far[test][file],
                seconds.get(test, 5.0),
            )

        return [file, *sorted((t for t in self.far if file in self.far[t]), key=order)]


#: folders of tests that are no tests of values
SKIPPED = ("benchmarks", "mutation", "reliability", "fuzzing")
