"""Kills, interrupts, full disks and other users: the same bits, and nothing left over.

Slow: ``python -m reliability.kills FOLDER 40 0`` and its kind do more, and say what.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import refqnn

TESTS, ROOT = Path(__file__).parents[1], Path(refqnn.__file__).parents[1]
ENVIRONMENT = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{TESTS}"}
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="asks Linux about processes"),
]


@pytest.mark.parametrize("what", ["kills", "interrupts", "disks"])
def test_commands_that_are_disturbed_end_as_others(what, tmp_path):
    if what == "disks":
        unshare = shutil.which("unshare") or "false"
        asked = [unshare, "--map-root-user", "--mount", "true"]
        if subprocess.run(asked, check=False).returncode:
            pytest.skip("needs a namespace of its own to mount a disk in")
    command = [sys.executable, "-m", f"reliability.{what}", tmp_path / "runs", "4", "0"]
    ran = subprocess.run(command, env=ENVIRONMENT, capture_output=True, check=False)
    assert ran.returncode == 0, ran.stdout.decode() + ran.stderr.decode()
