"""``refqnn step``: lines of a small example, or the debugger at its first equation."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from refqnn.cli import main
from refqnn.cli.lines import is_skipped, lines_passed, listing, statements
from refqnn.cli.step import example_of
from refqnn.cli.values import quantizer_modules
from refqnn.quantizers import fixed_point

ROOT = Path(__file__).parent.parent
OWN = ("conv2d", "block", "integer_layer", "requantize", "lstm_gate", "gate")


def debugged(name, *commands):
    """Drive pdb through standard input."""
    return subprocess.run(
        [sys.executable, "-m", "refqnn", "step", name, "--debug"],
        input="".join(f"{command}\n" for command in commands),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_the_debugger_stops_at_the_first_equation_and_steps_over_checks():
    done = debugged("lsq", "p 'ends', q_n, q_p", "s", "n", "n", "n", "s", "s", "q")
    assert done.returncode == 0
    assert "-> q = np.rint(np.clip(u, -q_n, q_p)) + 0.0  # (1)" in done.stdout
    assert "('ends', 8, 7)" in done.stdout
    assert "# (2)" in done.stdout
    stops = [line for line in done.stdout.splitlines() if "> /" in line]
    assert len(stops) > 5
    for line in stops:  # neither NumPy nor checks nor the module over the pair
        assert "refqnn/quantizers/learned_step_size.py" in line
    assert done.stderr == ""


def test_the_environment_has_uncompiled_twins():
    done = debugged("requantize", "import os", "p os.environ['NUMBA_DISABLE_JIT']", "c")
    assert "'1'" in done.stdout
    assert done.returncode == 0


def stepped(capsys, name, *words):
    assert main(["step", name, *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("name", [*OWN, *sorted(quantizer_modules())])
def test_every_example_passes_an_equation(capsys, name):
    answer = stepped(capsys, name)
    first = next(line for line in answer["lines"] if line["equations"])
    assert answer["first"] == f"{first['file']}:{first['number']}"
    for line in answer["lines"]:
        rows = (ROOT / line["file"]).read_text("utf-8").splitlines()
        assert line["text"].split()[0] in rows[line["number"] - 1]
        assert not is_skipped(line["file"][:-3].replace("/", "."), line["function"])


def test_without_a_terminal_the_lines_are_printed(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert main(["step", "conv2d"]) == 0
    text = capsys.readouterr().out
    assert "refqnn/quantizers/fixed_point_weights.py  fixed_point\n" in text
    row = next(line for line in text.splitlines() if "y = np.einsum" in line)
    number, tag = row.split()[:2]
    source = (ROOT / "refqnn/ops/conv.py").read_text("utf-8").splitlines()
    assert source[int(number) - 1].endswith("# (1)")
    assert tag == "(1)"


def test_a_seed_chooses_the_numbers(capsys):
    first, again = stepped(capsys, "lsq"), stepped(capsys, "lsq")
    assert first == again
    assert stepped(capsys, "lsq", "--seed", "1")["lines"] != first["lines"]


def test_an_unknown_name_lists_the_names(capsys):
    assert main(["step", "absent"]) == 2
    message = capsys.readouterr().err
    assert "no example is called 'absent'; there are ['conv2d', 'block'," in message


def test_the_values_of_lines_are_those_of_the_computation():
    w, a = np.array([-9.0, 0.4, 0.6]), np.array(3.0)
    lines = lines_passed(lambda: fixed_point(w, a, bits=3))
    by_text = {line.text: line for line in lines}
    assert by_text["y = s * q"].values == {"y": "[-3 0 1]"}
    assert by_text["y = s * q"].equations == ["1"]
    assert by_text["return np.where(s > 0, np.rint(t) + 0.0, 0), s"].values == {
        "gives": "([-3 0 1], 1)"
    }
    assert "check_values" not in {line.function for line in lines}
    assert sys.gettrace() is None or "Recorder" not in repr(sys.gettrace())
    assert (
        listing(lines).splitlines()[0].endswith("fixed_point_weights.py  fixed_point")
    )


def test_the_tracer_is_removed_when_a_computation_fails():
    before = sys.gettrace()
    with pytest.raises(ValueError, match="clip a must not be negative"):
        lines_passed(lambda: fixed_point(np.ones(1), np.array(-1.0), bits=3))
    assert sys.gettrace() is before


def test_a_statement_of_many_lines_is_one(tmp_path):
    path = tmp_path / "a.py"
    path.write_text("a = (\n    1,\n    2,  # (3), (b)\n)\na += 1\nb: int = a[0]\n")
    found_at = statements(str(path))
    assert {found_at[n].first for n in (1, 2, 3, 4)} == {1}
    assert found_at[3].equations == ["3", "b"]
    assert [found_at[n].names for n in (1, 5, 6)] == [["a"], ["a"], ["b"]]


def test_an_example_of_a_quantizer_runs_forward_and_backward():
    functions = {line.function for line in lines_passed(example_of("twn", 0))}
    assert {"twn", "twn_backward"} <= functions


def values_of(name, text):
    """The values of the first line of an example that holds a text."""
    lines = lines_passed(example_of(name, 0))
    return next(line.values for line in lines if text in line.text)


def test_examples_are_what_their_first_lines_say():
    """A 2 x 2 kernel on a 3 x 3 plane; four sums times 0.37, without a zero-point."""
    sizes = values_of("conv2d", "kh, kw = seen.shape")
    assert [sizes[k] for k in ("ho", "wo", "kh", "kw")] == ["2"] * 4
    acc = np.array(
        values_of("requantize", "as_requantize_ope")["acc"][1:-1].split(), int
    )
    codes = values_of("requantize", "np.clip(scaled + z")["gives"][1:-1].split()
    np.testing.assert_array_equal(np.array(codes, int), np.rint(0.37 * acc))
