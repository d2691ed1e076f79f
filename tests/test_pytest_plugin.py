"""The plugin in runs of its own: options, counts, and what it costs to have it."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
TESTS = """
import numpy as np
from refqnn.conformance import Semantics, parametrize_with_checks, want
from refqnn.conformance.choices.families import FAMILIES

NAMES = tuple(FAMILIES["requantize"].draw(np.random.default_rng(0), 2))


def floor(*inputs):
    call = dict(zip(NAMES, inputs, strict=True))
    return want("requantize", call, Semantics(requantize="float32_half_even"))


@parametrize_with_checks("requantize")
def test_mine(check, refqnn_options):
    check(floor, **refqnn_options)
"""


def run(folder, *options, text=TESTS):
    (folder / "test_mine.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q"]
    return subprocess.run(
        [*command, *options, "test_mine.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_options_choose_the_profile_and_counts_are_told(tmp_path):
    right = run(tmp_path, "--refqnn-profile", "onnxruntime", "--refqnn-in-process")
    assert right.returncode == 0, right.stdout
    assert "refqnn: 7 checks compared" in right.stdout
    wrong = run(tmp_path, "--refqnn-seconds", "30")
    assert wrong.returncode == 1
    assert "test_mine[refqnn-vectors]" in wrong.stdout
    assert "requantize = float32_half_even" in wrong.stdout


def test_counts_come_home_from_other_processes(tmp_path):
    ran = run(tmp_path, "-n", "1", "--refqnn-in-process")
    assert "refqnn: 7 checks compared" in ran.stdout


def test_a_run_that_does_not_use_it_is_not_told_about_it(tmp_path):
    ran = run(tmp_path, text="def test_it():\n    pass\n")
    assert ran.returncode == 0
    assert "refqnn" not in ran.stdout
    assert "--refqnn-profile" in run(tmp_path, "--help").stdout


def test_loading_it_takes_less_than_30_ms():
    """Processor time of the import, the standard library it needs included."""
    code = (
        "import time; begun = time.process_time(); import refqnn.pytest_plugin;"
        "print(time.process_time() - begun)"
    )
    times = [
        float(subprocess.check_output([sys.executable, "-c", code], cwd=ROOT))
        for _ in range(3)
    ]
    assert min(times) < 0.03
