"""Kernels run where nothing can be kept: no folder, a full disk, a damaged cache."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from refqnn.fast.compiler import njit

RELU = """
import numpy as np, refqnn.fast
from numba.core import caching
{}
y, _ = refqnn.fast.ops.relu(np.array([-1.0, 2.0], np.float32))
assert y.tolist() == [0.0, 2.0]
"""


def ran(setting, folder):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder)}
    return subprocess.run(
        [sys.executable, "-c", RELU.format(setting)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd=Path(__file__).parent.parent.parent,
    )


FULL = """
def full(*_):
    raise OSError(28, "No space left on device")
caching.IndexDataCacheFile.save = full
"""
CUT = """
def cut(*_):
    raise EOFError("ran out of input")
caching.IndexDataCacheFile.load = cut
"""
NOWHERE = "caching.CompileResultCacheImpl._locator_classes = []"


@pytest.mark.compiled
@pytest.mark.parametrize("setting", [NOWHERE, FULL, CUT])
def test_kernels_run_where_nothing_can_be_kept(setting, tmp_path):
    answer = ran(setting, tmp_path)
    assert answer.returncode == 0, answer.stderr


@pytest.mark.compiled
def test_compiled_code_is_kept(tmp_path):
    assert ran("", tmp_path).returncode == 0
    kept = sorted(path.name for path in tmp_path.rglob("*.nbc"))
    assert any("clamp" in name for name in kept)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nbc")}
    assert ran("", tmp_path).returncode == 0
    again = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nbc")}
    assert stamps == again


def test_options_reach_the_compiler():
    @njit(parallel=False)
    def double(x):
        return 2 * x

    np.testing.assert_array_equal(double(np.arange(3)), [0, 2, 4])
