"""Damaged and hostile TFLite models: one error that names the place, nothing else."""

import subprocess
import sys

import numpy as np
import pytest
from deploy.tflite_cases import CASES, case
from deploy.tflite_models import MODELS
from fuzzing import damage
from hypothesis import given
from hypothesis import strategies as st

from refqnn import cli
from refqnn.deploy import import_tflite
from refqnn.deploy.formats.fields import check_steps
from refqnn.deploy.formats.tflite_read import LONGEST_NAME, parse_model
from refqnn.deploy.formats.tflite_schema import Model, Operator, Tensor
from refqnn.deploy.formats.tflite_write import write_model
from refqnn.files import Unreadable

RSS = 2**20  # units of ru_maxrss are KiB
WHOLE = tuple(build() for build in MODELS.values())
EVERY = {name: case(name, ties=False)[0] for name in CASES}
EVERY |= dict(zip(MODELS, WHOLE, strict=True))
names = st.sampled_from(sorted(EVERY))


def attempt(content):
    """Import; what is believed must be a network that is checked, and small."""
    try:
        network = import_tflite(bytes(content))
    except ValueError as error:
        assert "\n" not in str(error)  # noqa: PT017 - other errors go through
        return
    check_steps(network.steps)


@given(names, st.integers(0, 2**32))
def test_changed_bytes(name, seed):
    attempt(damage.bytes_of(EVERY[name], np.random.default_rng(seed)))


@given(names, st.data())
def test_changed_numbers(name, data):
    content = bytearray(EVERY[name])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) // 4 - 1)) * 4
        number = data.draw(st.sampled_from([0, 1, 3, 255, 2**15, 2**31 - 1, 2**32 - 1]))
        content[at : at + 4] = number.to_bytes(4, "little")
    attempt(content)


def changed_tensor(t, data):
    sizes = st.sampled_from([-1, 0, 1, 2, 7, 2**20])
    match data.draw(st.integers(0, 4)):
        case 0 if t.data is None:
            return t._replace(shape=tuple(data.draw(st.lists(sizes, max_size=6))))
        case 1 if t.data is None:
            kinds = ["int8", "uint8", "int16", "int32", "float32", "int64", "bool"]
            return t._replace(dtype=data.draw(st.sampled_from(kinds)))
        case 2:
            scales = [0.0, -1.0, 1e-40, 1e-30, 1e30, np.inf, np.nan]
            return t._replace(scale=data.draw(st.sampled_from(scales)))
        case 3:
            zeros = [-(2**40), -129, -1, 0, 128, 255, 2**40]
            return t._replace(zero_point=data.draw(st.sampled_from(zeros)))
    return t._replace(axis=data.draw(st.sampled_from([-1, 0, 1, 3, 99])))


def changed_operator(operator, data, count):
    numbers = st.lists(st.integers(-2, count), max_size=5).map(tuple)
    match data.draw(st.integers(0, 2)):
        case 0:
            return operator._replace(inputs=data.draw(numbers))
        case 1:
            return operator._replace(outputs=data.draw(numbers))
    options = dict(operator.options)
    for key in data.draw(st.lists(st.sampled_from([*options, ""]), max_size=2)):
        if isinstance(options.get(key), int | float):
            kind = bool if isinstance(options[key], bool) else int
            options[key] = kind(data.draw(st.sampled_from([-1, 0, 1, 2, 5, 100])))
    return operator._replace(options=options)


@given(names, st.data())
def test_changed_fields(name, data):
    graph = parse_model(EVERY[name])
    tensors, operators = list(graph.tensors), list(graph.operators)
    for _ in range(data.draw(st.integers(1, 2))):
        at = data.draw(st.integers(0, len(tensors) - 1))
        tensors[at] = changed_tensor(tensors[at], data)
        at = data.draw(st.integers(0, len(operators) - 1))
        operators[at] = changed_operator(operators[at], data, len(tensors))
    changed = graph._replace(tensors=tuple(tensors), operators=tuple(operators))
    try:
        content = write_model(changed)
    except (OverflowError, ValueError):
        return  # no field of the file holds the number
    attempt(content)


@pytest.mark.parametrize("size", [0, 4, 7, 8, 40, 400, -1])
def test_truncated_files(tmp_path, size):
    path = tmp_path / "m.tflite"
    path.write_bytes(WHOLE[0][:size])
    with pytest.raises(Unreadable, match="no TFLite model: "):
        import_tflite(path)


def test_another_identifier():
    with pytest.raises(Unreadable, match="bytes 4 to 8 must be b'TFL3', are b'TFL2'"):
        import_tflite(WHOLE[0].replace(b"TFL3", b"TFL2"))


def test_tables_that_hold_themselves():
    content = bytearray(WHOLE[0])
    for at in range(8, len(content) - 4, 4):  # every offset becomes one to itself
        circular = bytearray(content)
        circular[at : at + 4] = bytes(4)
        attempt(circular)
        if at > 400:
            break


def test_commands_leave_with_4_and_one_line(tmp_path, capsys):
    path = tmp_path / "m.tflite"
    for content in (WHOLE[0][:-9000], b"", bytes(64)):
        path.write_bytes(content)
        assert cli.main(["import", str(path), "-o", str(tmp_path / "n.npz")]) == 4
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert str(path) in error


def test_what_a_file_causes_leaves_with_4_and_what_options_cause_with_2(
    tmp_path, capsys
):
    path = tmp_path / "m.tflite"
    command = ["import", str(path), "-o", str(tmp_path / "n.npz")]
    relu, other = bytes([19, 0, 0, 0]), bytes([54, 0, 0, 0])
    unsupported = EVERY["relu"].replace(relu, other)
    path.write_bytes(unsupported)
    with pytest.raises(ValueError, match="is not supported") as caught:
        import_tflite(unsupported)
    assert not isinstance(caught.value, Unreadable)
    assert cli.main(command) == 4
    assert capsys.readouterr().err == f"refqnn: error: {path}: {caught.value}\n"
    path.write_bytes(WHOLE[0])
    for option in ("--until", "--kernels"):
        assert cli.main([*command, option, "nowhere"]) == 2
        assert "nowhere" in capsys.readouterr().err


def test_one_buffer_as_the_weights_of_many_layers():
    w = np.ones((500, 500), np.int8)
    tensors = [Tensor((1, 500), "int8", 0.5, 0, name="x")]
    tensors.append(Tensor(w.shape, "int8", 0.5, 0, w, "w"))
    operators = []
    for i in range(40):
        tensors.append(Tensor((1, 500), "int8", 500.0, 0, name=f"y{i}"))
        inputs = (0 if not i else i + 1, 1)
        operators.append(Operator("FULLY_CONNECTED", inputs, (i + 2,), {}, 4))
    model = Model(tuple(tensors), tuple(operators), (0,), (41,))
    with pytest.raises(ValueError, match="shared by more layers"):
        import_tflite(write_model(model))


def test_long_names_are_cut():
    tensors = [Tensor((1, 4), "int8", 0.5, 0, name=n * 5000) for n in "xy"]
    model = Model(tuple(tensors), (Operator("RELU", (0,), (1,)),), (0,), (1,))
    network = import_tflite(write_model(model))
    assert [len(step.name) for step in network.steps] == [LONGEST_NAME] * 2


MEMORY = """
import resource, sys
sys.path[:0] = {path!r}
from refqnn.deploy import import_tflite
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    import_tflite({file!r})
except ValueError:
    pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base)
"""


@pytest.mark.once
def test_memory_of_hostile_files(tmp_path):
    size = 2**22
    tensors = [Tensor((1, size), "int8", 0.5, 0, name="x")]
    shared = np.zeros(size, np.int8)
    tensors += [Tensor((size,), "int8", 0.5, 0, shared, "c")] * 2
    tensors += [Tensor((1, 2**26 - 1), "int8", 0.5, 0, name="y")]
    model = Model(tuple(tensors), (Operator("ADD", (0, 1), (3,)),), (0,), (3,))
    file = tmp_path / "m.tflite"
    file.write_bytes(write_model(model))
    code = MEMORY.format(path=sys.path, file=str(file))
    made = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert int(made.stdout) * 1024 <= 4 * file.stat().st_size + 200 * RSS
