"""Every example runs to its end, and shows what it says it shows."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.compiled

#: example -> (an optional package that it needs, what is among the lines it prints)
SHOWN = {
    "conformance_c_kernel": ("", r"requantize +trunc"),
    "conformance_simulator_files": ("", r"requantize +two_stage_half_up"),
    "conformance_torch_fake_quant": ("torch", r"scale_gradient +1/sqrt\(N\*q_p\)"),
    "dfs_decides": ("", r"soft: cp (19|20)\.\d% (.|\n)*straight\w+: cp (19|20)\.\d% "),
    "equation_to_gradient": ("", r"ds by differences +-?\d"),
    "export_onnx": ("onnxruntime", r"exact .* 0 of [1-9]\d* codes do"),
    "qil_prunes": ("", r"layer7 +\d+%"),
    "quantnas_two_subnets": ("", "no integer differs from float64 execution"),
    "torch_binary_layer": ("torch", r"first difference: gradient of features\.0"),
    "torch_fold_batch_norm": ("torch", r"ds +error \d\.\de-1\d(.|\n)* are NaN"),
    "torch_resnet_learned_steps": ("torch", r"gradient: 44 of 44 agree"),
    "train_and_deploy": ("", "integers say .*; it is labelled"),
    "what_one_bit_costs": ("", r"\n   1 +0\.95 +8\.05%"),
}


#: example -> the seconds that the gallery states
STATED = {
    name: int(seconds)
    for name, seconds in re.findall(
        r"^(\w+) (\d+) (?:story|transfer) ",
        (ROOT / "docs" / "examples.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
}


def test_every_example_is_run():
    examples = {path.stem for path in (ROOT / "examples").glob("*.py")}
    assert examples == set(SHOWN) == set(STATED)


@pytest.mark.parametrize("name", SHOWN)
def test_the_example_shows_what_it_says(name, tmp_path):
    package, shown = SHOWN[name]
    if package:
        pytest.importorskip(package, reason=f"{package} is not installed")
    start = time.monotonic()
    ran = subprocess.run(
        [sys.executable, str(ROOT / "examples" / f"{name}.py")],
        env=os.environ | {"PYTHONPATH": str(ROOT), "NUMBA_NUM_THREADS": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert re.search(shown, ran.stdout), ran.stdout
    # the first run compiles, and the machine may be a slow one
    assert time.monotonic() - start < 10 * STATED[name] + 120


def said(output):
    """Whether a notebook shows an output: not what libraries warn of."""
    return output.get("name") != "stderr"


@pytest.mark.parametrize(
    "path", sorted((ROOT / "examples").glob("*.ipynb")), ids=lambda path: path.stem
)
def test_the_notebook_runs_from_top_to_bottom(path, tmp_path):
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    env = os.environ | {
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "ignore",  # of the notebook's own machinery
        "IPYTHONDIR": str(tmp_path),
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    }
    stored = json.loads(path.read_text(encoding="utf-8"))["cells"]
    notebook = nbformat.read(path, as_version=4)
    settings = {
        "timeout": 180,
        "resources": {"metadata": {"path": str(tmp_path)}},
        "coalesce_streams": True,  # one print may arrive as two messages
    }
    nbclient.NotebookClient(notebook, **settings).execute(env=env)
    for before, after in zip(stored, notebook.cells, strict=True):
        kinds, shown = (
            [o["output_type"] for o in cell.get("outputs", ()) if said(o)]
            for cell in (before, after)
        )
        assert shown == kinds, after.source
