"""The mutation run itself: what it changes, what it chooses, what it believes."""

import ast
import csv
from pathlib import Path
from types import FunctionType, ModuleType

import pytest
from mutation import __main__ as command
from mutation import operators, runner, warm
from mutation.selection import Selection

ROOT = Path(__file__).parents[2]
SOURCE = '''
def f(x: int = 4) -> int:
    """Add 1."""
    if not x < 2 and x:
        print(x, 3)
        raise ValueError(f"{x + 1}")
    return g(x)[1:] + (5 if x else True)
'''


def test_every_operator_changes_one_place():
    made = list(operators.mutants("a.py", SOURCE))
    assert {(m.operator, m.original, m.changed) for m in made} == {
        ("constant", "4", "(5)"),
        ("constant", "4", "(3)"),
        ("boolean", "not x < 2 and x", "(not x < 2 or x)"),
        ("boolean", "not x < 2", "(x < 2)"),
        ("comparison", "x < 2", "(x <= 2)"),
        ("constant", "2", "(3)"),
        ("constant", "2", "(1)"),
        ("dropped call", "print(x, 3)", "pass"),
        ("swapped", "print(x, 3)", "(print(3, x))"),
        ("constant", "3", "(4)"),
        ("constant", "3", "(2)"),
        ("return", "return g(x)[1:] + (5 if x else True)", "return None"),
        (
            "arithmetic",
            "g(x)[1:] + (5 if x else True)",
            "(g(x)[1:] - (5 if x else True))",
        ),
        ("slice", "1:", "1 + 1:"),
        ("dropped call", "g(x)", "(x)"),
        ("constant", "1", "(2)"),
        ("constant", "1", "(0)"),
        ("boolean", "5 if x else True", "(True if x else 5)"),
        ("constant", "5", "(6)"),
        ("constant", "5", "(4)"),
        ("constant", "True", "(False)"),
    }
    assert {m.within for m in made} == {"f"}
    for mutant in made:
        assert ast.dump(ast.parse(mutant.apply(SOURCE))) != ast.dump(ast.parse(SOURCE))


@pytest.mark.parametrize("file", ["refqnn/files/archives.py", "refqnn/cost.py"])
def test_mutants_of_the_package_are_python(file):
    source = (ROOT / file).read_text()
    made = list(operators.mutants(file, source))
    assert len(made) > 50
    for mutant in made:
        ast.parse(mutant.apply(source))


def write_tree(root, weak):
    """Write a package of one function, and a test that sees it or does not."""
    (root / "tests").mkdir(parents=True)
    (root / "refqnn").mkdir()
    (root / "tiny").mkdir()
    (root / "tiny" / "__init__.py").touch()
    (root / "tiny" / "sums.py").write_text("def add(x, y):\n    return x + y\n")
    check = "add(2, 0) == 2" if weak else "add(2, 3) == 5"
    text = f"from tiny.sums import add\n\ndef test_add():\n    assert {check}\n"
    (root / "tests" / "test_sums.py").write_text(text)
    (root / "tests" / "test_other.py").write_text("def test_it():\n    pass\n")


@pytest.mark.parametrize("weak", [False, True])
def test_a_test_that_sees_the_change_kills_it(tmp_path, weak):
    write_tree(tmp_path, weak)
    path = tmp_path / "tiny" / "sums.py"
    (mutant,) = [
        m
        for m in operators.mutants("tiny/sums.py", path.read_text())
        if m.operator == "arithmetic"
    ]
    tests = Selection(tmp_path).tests_of(mutant.file, mutant.within, {})
    assert tests == ["tiny/sums.py", "tests/test_sums.py"]
    assert (
        runner.forked(tmp_path, lambda: runner.run_tests(tests, 60), 60)["killer"]
        is None
    )
    results = command.Results(tmp_path / "results.jsonl", 60)
    result = command.judge(tmp_path, Selection(tmp_path), mutant, {}, results)
    killer = None if weak else "tests/test_sums.py::test_add"
    assert (result["killer"], result["ran"]) == (killer, int(weak))
    assert path.read_text() == "def add(x, y):\n    return x + y\n"


def test_a_test_that_is_red_anyway_kills_nothing(tmp_path):
    write_tree(tmp_path, weak=True)
    red = tmp_path / "tests" / "test_sums.py"
    red.write_text(
        "from tiny.sums import add\n\ndef test_red():\n    assert add is 3\n"
    )
    path = tmp_path / "tiny" / "sums.py"
    mutant = next(iter(operators.mutants("tiny/sums.py", path.read_text())))
    results = command.Results(tmp_path / "results.jsonl", 60)
    green: dict[str, bool] = {}
    result = command.judge(tmp_path, Selection(tmp_path), mutant, green, results)
    assert result["killer"] is None
    assert green == {"tests/test_sums.py::test_red": False}


def test_results_are_resumed_and_survivors_without_a_reason_are_said(tmp_path):
    mutant = next(iter(operators.mutants("a.py", SOURCE)))
    results = command.Results(tmp_path / "r.jsonl", 1)
    for column, killer in ((2, None), (3, None), (3, "tests/test_a.py::test")):
        other = mutant._replace(column=column)._asdict()
        results.add(other | {"killer": killer, "ran": 3, "took": {}})
    again = command.Results(tmp_path / "r.jsonl", 1)
    assert again == results
    *lines, score = command.report(again)
    assert len(lines) == 1
    assert "NO REASON" in lines[0]
    assert score == "2 mutants, 1 killed (50.0%), 0 survive with a reason, 1 without"


MODULE = "N = 3\n\ndef f(x):\n    return x + N\n\ndef g(x, y=2):\n    return x * y\n"


def test_a_changed_function_alone_has_new_code():
    path = Path("a.py")
    changed = MODULE.replace("x + N", "x - N")
    ((name, line, code),) = warm.replacements(path, MODULE, changed)
    assert (name, line) == ("f", 3)
    assert FunctionType(code, {"N": 3})(5) == 2
    assert list(warm.replacements(path, MODULE, MODULE.replace("y=2", "y=3"))) == []


@pytest.mark.parametrize(
    ("change", "got"),
    [(("N = 3", "N = 4"), (9, 10)), (("y=2", "y=3"), (8, 15)), (("z", "z"), (8, 10))],
)
def test_changed_values_and_defaults_are_replaced_where_they_live(change, got):
    module, old, new = ModuleType("m"), dict[str, object](), dict[str, object]()
    for space, text in ((vars(module), MODULE), (old, MODULE)):
        exec(text, space)  # noqa: S102 - the lines above
    exec(MODULE.replace(*change), new)  # noqa: S102
    assert warm.replace_values(module, old, new) == (got != (8, 10))
    assert (module.f(5), module.g(5)) == got


@pytest.mark.once
def test_every_survivor_in_the_table_is_a_mutant_and_has_a_reason():
    with (command.HERE / "survivors.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    mutants = {
        name: [*operators.mutants(name, (ROOT / name).read_text())]
        for name in {row["file"] for row in rows}
    }
    for row in rows:
        made = mutants[row["file"]]
        assert any(
            (m.within, m.original, m.changed)
            == (row["within"], row["original"], row["changed"])
            for m in made
        ), row
        assert len(row["reason"]) > 20, row
