"""Kills, interrupts, full disks and other users: the same bits, and nothing left over.

Slow: ``python -m reliability.kills FOLDER 40 0`` and its kind do more, and say what.
"""

import os
import shutil
import subprocess
import sys
import zipfile
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


BUILD = """
import os, runpy, sys
os.access = lambda *_: False
sys.argv = ["setup.py", "-q", "bdist_wheel", "-d", sys.argv[1]]
runpy.run_path("setup.py", run_name="__main__")
"""


def test_a_tree_that_is_read_only_is_built_elsewhere(tmp_path):
    pytest.importorskip("setuptools", minversion="77")
    before = set(ROOT.iterdir())
    command = [sys.executable, "-c", BUILD, tmp_path]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert "refqnn/__init__.py" in zipfile.ZipFile(wheel).namelist()
    assert set(ROOT.iterdir()) == before
