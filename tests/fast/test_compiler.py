"""Kernels run where nothing can be kept: no folder, a full disk, a damaged cache."""

import importlib
import os
import platform
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


OTHER = "from refqnn.fast import compiler; compiler.kernels_digest = lambda: 'other'"


@pytest.mark.compiled
def test_code_of_other_kernels_is_compiled_anew(tmp_path):
    """Numba itself looks at one file: code compiled from former tiles would run."""
    assert ran("", tmp_path).returncode == 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nbc")}
    assert ran(OTHER, tmp_path).returncode == 0
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nbc")}
    assert all(after[path] > before[path] for path in before)


def test_options_reach_the_compiler():
    @njit(parallel=False)
    def double(x):
        return 2 * x

    np.testing.assert_array_equal(double(np.arange(3)), [0, 2, 4])


@pytest.mark.compiled
@pytest.mark.parametrize("chosen", [None, "active"])
def test_threads_sleep_unless_another_policy_is_set(chosen):
    """OpenMP says how its threads wait when it is loaded."""
    try:
        importlib.import_module("numba.np.ufunc.omppool")
    except ImportError:
        pytest.skip("Numba has no OpenMP here")
    program = "import os; from refqnn.fast.compiler import njit; from numba.np.ufunc "
    program += "import omppool; print(os.environ.get('OMP_WAIT_POLICY'))"
    environment = {k: v for k, v in os.environ.items() if "OMP_" not in k}
    environment |= {"OMP_DISPLAY_ENV": "true"}
    environment |= {"OMP_WAIT_POLICY": chosen} if chosen else {}
    ran = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    if "OMP_WAIT_POLICY" not in ran.stderr:
        pytest.skip("this OpenMP does not show its settings")
    assert (chosen or "passive").upper() in ran.stderr
    assert ran.stdout.strip() == str(chosen)


TAKEN = """
import resource, numpy as np
def step():
    for array in [np.empty(2**21, np.uint8) for _ in range(8)]:
        array[::4096] = 1
step(), step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.compiled
@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="the C library is not glibc"
)
@pytest.mark.parametrize("chosen", [{}, {"MALLOC_MMAP_THRESHOLD_": "100000"}])
def test_freed_memory_is_used_again_unless_glibc_is_told_how(chosen):
    """A page that the system cleared anew is a fault; 16 MB are 4 096 pages of 4 kB."""
    settings = ("MALLOC_", "GLIBC_TUNABLES")
    own = {k: v for k, v in os.environ.items() if not k.startswith(settings)}
    usual, faults = (
        int(subprocess.check_output([sys.executable, "-c", code], env=own | chosen))
        for code in (TAKEN, f"import refqnn.fast.compiler\n{TAKEN}")
    )
    if usual <= 1000:
        pytest.skip("without refqnn, too, this system clears fewer and larger pages")
    assert (faults > 1000) == bool(chosen)
