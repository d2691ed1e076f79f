"""Every example runs to its end, and shows what it says it shows."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.compiled

#: example -> (an optional package that it needs, what is among the lines it prints)
SHOWN = {
    "conformance_c_kernel": ("", "rounding: trunc"),
    "conformance_simulator_files": ("", "two_stage"),
    "conformance_torch_fake_quant": ("torch", "mask"),
    "deploy_and_inspect": ("", "integers say .*; it is labelled ankle boot"),
    "export_onnx": ("onnxruntime", "exact"),
}


def test_every_example_is_run():
    examples = {path.stem for path in (ROOT / "examples").glob("*.py")}
    assert examples == set(SHOWN)


@pytest.mark.parametrize("name", SHOWN)
def test_the_example_shows_what_it_says(name, tmp_path):
    package, shown = SHOWN[name]
    if package:
        pytest.importorskip(package, reason=f"{package} is not installed")
    ran = subprocess.run(
        [sys.executable, str(ROOT / "examples" / f"{name}.py")],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert re.search(shown, ran.stdout), ran.stdout
