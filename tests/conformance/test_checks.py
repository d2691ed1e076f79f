"""Foreign code that is right, wrong, crashes, hangs and lies."""

import inspect
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from refqnn.conformance import (
    Broken,
    Child,
    check_implementation,
    from_command,
    from_ctypes,
    from_directory,
    identify,
    parametrize_with_checks,
    verify,
)
from refqnn.conformance.carry.child import as_arrays, isolate
from refqnn.conformance.choices.families import FAMILIES
from refqnn.conformance.choices.strategies import want
from refqnn.conformance.judge.inspection import CHECKS
from refqnn.conformance.reach import pack_verify

ROOT = Path(__file__).parent.parent.parent
NAMES = tuple(FAMILIES["requantize"].draw(np.random.default_rng(0), 2))


def right(*inputs):
    return want("requantize", dict(zip(NAMES, inputs, strict=True)))


def wrong(*inputs):
    return right(*inputs) + 1


@parametrize_with_checks("requantize")
def test_a_right_implementation_passes_every_check(check):
    check(right, in_process=True)


def drifting(acc, *_):
    """Another answer at every call."""
    calls.append(1)
    return np.full(acc.shape, len(calls))


calls = []


def vectorized(acc, *rest):
    """The last of a whole vector of 8 is lost, as where a remainder is forgotten."""
    y = np.array(right(acc, *rest))
    y[8 * (len(y) // 8) :] = 0
    return y


def blind(x, scale, zero_point, q_min, q_max):
    """NaN becomes a number without a word."""
    return np.clip(np.rint(np.nan_to_num(x) / scale) + zero_point, q_min, q_max)


WRONG = {
    "vectors": ("requantize", wrong),
    "random": ("requantize", wrong),
    "regions": ("requantize", wrong),
    "properties": ("requantize", wrong),
    "invalid": ("quantize", blind),
    "repeated": ("requantize", drifting),
    "elementwise": ("requantize", vectorized),
}


@pytest.mark.parametrize("name", CHECKS)
def test_every_check_rejects_a_wrong_implementation(name):
    family, function = WRONG[name]
    results = check_implementation(function, family, in_process=True).results
    result = next(r for r in results if r.check == name)
    assert result.status == "failed"
    assert result.message


def test_results_are_counted_and_shown():
    found = check_implementation(right, "requantize", in_process=True)
    assert found.conforms
    assert found.exit_code == 0
    idle = [r.check for r in found.results if not r.checked]
    assert idle == ["invalid"]  # nothing that requantize must refuse
    assert "2500 outputs" in str(found)
    assert '"conforms": true' in found.as_json()


def test_a_wrong_implementation_fails_with_a_diagnosis():
    found = check_implementation(wrong, "requantize", in_process=True)
    assert found.exit_code == 1
    assert "none of the" in str(found)


def test_expected_failures_must_fail():
    known = ("vectors", "random", "regions", "properties")
    assert check_implementation(
        wrong, "requantize", in_process=True, expected_failures=known
    ).conforms
    unexpected = check_implementation(
        right, "requantize", in_process=True, expected_failures=known
    )
    assert not unexpected.conforms
    assert "unexpected pass" in str(unexpected)
    with pytest.raises(ValueError, match="checks are"):
        check_implementation(right, "requantize", expected_failures=("speed",))


def test_identify_survives_a_crash_in_a_child():
    with Child(lambda *_: os.kill(os.getpid(), 11)) as child:
        found = identify(child, "quantize")
    assert not found.explained
    assert found.complaint == "crashed: signal 11"


def test_a_command_is_a_function(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import sys, numpy as np\n"
        "p = np.load(sys.argv[1])\n"
        "np.savez(sys.argv[2], y=p['scale'] * (p['q'].astype(int) - p['zero_point']))\n"
    )
    names = ("q", "scale", "zero_point")
    run = from_command([sys.executable, str(program)], inputs=names)
    np.testing.assert_array_equal(run(np.int8([3]), np.float32(0.5), 1)[0], [1.0])


def test_a_command_that_does_not_exist_is_broken():
    with pytest.raises(Broken, match="cannot run absent-program"):
        from_command(["absent-program"], inputs=("q",))(1)


def test_a_directory_is_read_in_order(tmp_path):
    for i in range(2):
        np.savez(tmp_path / f"{i}.npz", y=np.array([i]))
    read = from_directory(tmp_path)
    assert [int(read()[0][0]) for _ in range(2)] == [0, 1]
    with pytest.raises(Broken, match="no further file"):
        read()


def test_torch_arrays_come_through_dlpack():
    torch = pytest.importorskip("torch")
    array = as_arrays(torch.ones(2, requires_grad=True))[0]
    np.testing.assert_array_equal(array, [1, 1])


def loaded(statement):
    tops = "{m.split('.')[0] for m in sys.modules}"
    code = f"import sys; {statement}; print(*sorted({tops}))"
    ran = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return set(ran.stdout.split())


def test_the_plugin_imports_the_standard_library_only():
    more = loaded("import refqnn.pytest_plugin") - loaded("import typing, importlib")
    assert more - set(sys.stdlib_module_names) == {"refqnn"}


def test_importing_the_kit_does_not_import_hypothesis_or_runtimes():
    kit = "refqnn.conformance"
    found = loaded(f"import {kit}.choices.strategies, {kit}.carry.runtimes")
    assert not found & {"hypothesis", "pytest", "torch", "onnx", "onnxruntime"}


def test_every_call_of_foreign_code_has_one_default_time_limit():
    """But for commands, which start slowly, and ``verify``: it asks 100 000 inputs."""
    limited = (from_ctypes, Child, isolate)
    limited += (check_implementation, identify, pack_verify.answers)
    limits = [inspect.signature(f).parameters["seconds"].default for f in limited]
    assert limits == [10.0] * len(limited)
    slow = [inspect.signature(f).parameters["seconds"] for f in (from_command, verify)]
    assert [s.default for s in slow] == [60.0, 60.0]
