"""Traces: what they hold, how they are written, and where two of them part."""

import json
import re
import shutil
import subprocess

import numpy as np
import pytest

import refqnn
from refqnn import cli, conformance, integer
from refqnn.conformance.traces.bisection import bisect
from refqnn.conformance.traces.record import FORMAT, Trace, UnreadableError, trace
from refqnn.conformance.traces.vectors import identifier, write_vectors
from refqnn.core import Run
from refqnn.data import read_npz
from refqnn.deploy import deploy
from refqnn.networks import resnet


@pytest.fixture(scope="module", params="AB")
def network(request):
    rng = np.random.default_rng(5)
    options = {"weight_bits": 4, "activation_bits": 4, "width": 0.2}
    made = resnet(8, shortcut=request.param, rng=rng, **options)
    images = rng.integers(0, 256, (8, 1, 8, 8), dtype=np.uint8)
    made.forward(images, Run(training=True))
    return deploy(made, image_size=(8, 8))


@pytest.fixture(scope="module")
def traced(network):
    rng = np.random.default_rng(6)
    return trace(network, rng.integers(0, 256, (3, 1, 8, 8), dtype=np.uint8))


def altered(traced, name, change):
    """Return the tensors, that of ``name`` changed."""
    return dict(traced.tensors) | {name: change(traced.tensors[name].copy())}


def raised(at, by=1):
    def change(array):
        array[at] += by
        return array

    return change


def test_the_manifest_describes_every_tensor(network, traced):
    steps = {step.name: step for step in network.steps}
    assert list(traced.manifest) == list(traced.tensors)
    for name, array in traced.tensors.items():
        record = traced.manifest[name]
        assert record["shape"] == list(array.shape)
        assert record["dtype"] == array.dtype.name
        assert record["layer"] in steps
        order = list(traced.tensors)
        assert all(order.index(s) < order.index(name) for s in record["inputs"])
        if record["kind"] == "codes":
            step = steps[name]
            assert record["scale"] == step.grid.scale
            assert record["multiplier"] == step.multiplier.tolist()
    json.dumps(traced.manifest)


def test_the_constants_are_all_a_layer_needs(network, traced):
    step = network.steps[1]
    record = traced.manifest[f"{step.name}.accumulator"]
    w, bias, f = (traced.constants[name] for name in record["constants"])
    acc = integer.conv2d(
        traced.tensors[record["inputs"][0]],
        w,
        x_zero_point=record["input_zero_point"],
        stride=tuple(record["stride"]),
        padding=tuple(map(tuple, record["padding"])),
    )
    acc = (acc << f[:, None, None]) + bias[:, None, None]
    np.testing.assert_array_equal(acc, traced.tensors[f"{step.name}.accumulator"])


def test_files_hold_everything(traced, tmp_path):
    traced.save(tmp_path / "t.npz")
    read = Trace.load(tmp_path / "t.npz")
    assert read.manifest == traced.manifest
    for there, here in (
        (read.tensors, traced.tensors),
        (read.constants, traced.constants),
    ):
        assert list(there) == list(here)
        for name, array in here.items():
            np.testing.assert_array_equal(there[name], array, strict=True)
    assert not any(a.dtype.hasobject for a in read_npz(tmp_path / "t.npz").values())


def test_a_trace_equals_itself(traced):
    found = bisect(traced, traced)
    assert (found.first, found.exit_code) == (None, 0)
    assert len(found.compared) == len(traced.tensors)
    assert str(found).endswith("conforms")


def test_a_difference_shows_what_its_own_image_was_made_of(traced):
    *_, name = traced.tensors
    for image in (0, 1):
        found = bisect(traced, altered(traced, name, raised((image, 0)))).first
        for source, array in found.inputs.items():
            want = traced.tensors[source][image : image + 1]
            np.testing.assert_array_equal(array, want)
        assert found.inputs


def test_the_first_difference_in_execution_order_is_found(traced):
    """Every tensor changed alone, and with a later one changed, too."""
    names = list(traced.tensors)
    for i, name in enumerate(names):
        for also in {name, names[-1]}:
            other = altered(traced, name, raised((1, 0)))
            other[also] = altered(traced, also, raised((1, 0)))[also]
            found = bisect(traced, other)
            assert found.first.name == name, i
            assert found.first.at[:2] == (1, 0)
            assert found.exit_code == 1
            assert found.first.channels == [0]
            assert found.first.got == found.first.want + 1
            assert set(found.first.histogram) == {0, 1}
            assert found.first.histogram[1] == found.first.different


def test_the_order_of_the_other_does_not_matter(traced):
    name = list(traced.tensors)[2]
    other = altered(traced, name, raised((0, 0)))
    turned = dict(reversed(other.items()))
    assert bisect(traced, turned).first.name == name


def test_the_reproduction_gives_what_was_wanted(traced):
    """The text is run: it is the code that the reference has."""
    seen = 0
    for name, record in traced.manifest.items():
        if record["kind"] == "codes":
            at = tuple(size - 1 for size in record["shape"])
            first = bisect(traced, altered(traced, name, raised(at))).first
            assert first.at == at
            call = first.reproduce
            got = eval(call, {"refqnn": refqnn, "np": np})  # noqa: S307 - what a person would paste
            assert got == first.want == traced.tensors[name][at]
            seen += 1
    assert seen > 6


def test_the_inputs_of_the_first_difference_are_those_of_its_image(network, traced):
    """The layer, run on them again, gives what was wanted."""
    for step in network.steps[1:]:
        name = f"{step.name}.accumulator"
        first = bisect(traced, altered(traced, name, raised((2, 0)))).first
        (source,) = first.inputs
        assert source == step.source
        np.testing.assert_array_equal(first.inputs[source], traced.tensors[source][2:3])
        values = dict(first.inputs)
        if hasattr(step, "skip_source"):
            values[step.skip_source] = traced.tensors[step.skip_source][2:3]
        again = step.forward(values, integer)[name]
        assert again[(0, *first.at[1:])] == first.want


def test_what_does_not_fit_is_a_line(traced):
    names = list(traced.tensors)
    other = dict(traced.tensors)
    del other[names[1]]
    other[names[2]] = other[names[2]][:, :1]
    other[names[3]] = other[names[3]].astype(np.int64)
    other[names[4]] = other[names[4]].astype(str)
    other["mine"] = np.zeros(1)
    found = bisect(traced, other)
    assert found.missing == [names[1]]
    assert found.extra == ["mine"]
    kinds = [line.split()[0] for line in found.misfits]
    assert kinds == ["misshaped", "dtype", "misfit"]
    assert (found.first, found.exit_code) == (None, 1)
    text = str(found)
    assert all(name in text for name in (*names[1:5], "mine"))
    json.dumps(found.as_dict())


def test_dtypes_may_be_let_through_values_not(traced):
    name = list(traced.tensors)[2]
    wide = altered(traced, name, lambda a: a.astype(np.int64))
    assert bisect(traced, wide).exit_code == 1
    assert bisect(traced, wide, any_dtype=True).exit_code == 0
    wide[name][0, 0] -= 3
    found = bisect(traced, wide, any_dtype=True)
    assert found.first.name == name
    assert found.first.histogram[-3] == found.first.different


def test_floats_are_compared_without_rounding(traced):
    name = list(traced.tensors)[-1]
    real = altered(traced, name, lambda a: a.astype(np.float64))
    assert bisect(traced, real, any_dtype=True).exit_code == 0
    for wrong in (0.5, np.nan, np.inf):
        real[name][0, 0] = wrong
        found = bisect(traced, real, any_dtype=True)
        assert found.first.different == 1
        assert found.first.histogram == {}
        assert "not integers" in str(found)


def test_nothing_compared_is_not_conformance(traced):
    found = bisect(traced, {"other": np.zeros(1)})
    assert found.exit_code == 3
    assert "NOTHING WAS CHECKED" in str(found)


def test_traces_without_a_manifest_are_bisected():
    want = Trace({"a": np.array([[1, 2]]), "b": np.array(3)})
    found = bisect(want, {"a": np.array([[1, 5]]), "b": np.array(4)})
    assert (found.first.name, found.first.at, found.first.reproduce) == (
        "a",
        (0, 1),
        "",
    )
    assert [c.different for c in found.compared] == [1, 1]
    assert bisect(want, {"b": np.array(4)}).first.at == ()


def test_the_wrong_rounding_shows_in_codes_not_in_sums(network, traced):
    """Ties to even where ties go up: accumulators agree, codes do not."""

    class Even:
        integer = type(
            "integer",
            (),
            vars(integer)
            | {
                "requantize": staticmethod(
                    lambda *a, **k: integer.requantize(*a, **k | {"rounding": "floor"})
                )
            },
        )

    x = traced.tensors[network.steps[0].name]
    found = bisect(traced, trace(network, x, Even))
    assert found.first.name == network.steps[1].name
    assert set(found.first.histogram) == {0, -1}


def hex_values(text, dtype):
    digits = 2 * np.dtype(dtype).itemsize
    lines = text.split()
    assert all(re.fullmatch(rf"[0-9a-f]{{{digits}}}", line) for line in lines)
    return np.array([int(v, 16) for v in lines], f"u{digits // 2}").view(dtype)


def test_hex_files_are_read_back(traced, tmp_path):
    manifest = json.loads(write_vectors(traced, tmp_path / "v").read_text())
    assert manifest["form"] == "hex"
    every = dict(traced.tensors) | dict(traced.constants)
    assert set(manifest["arrays"]) == set(every)
    files = {record["file"] for record in manifest["arrays"].values()}
    assert len(files) == len(every)
    for name, array in every.items():
        record = manifest["arrays"][name]
        text = (tmp_path / "v" / record["file"]).read_text()
        read = hex_values(text, record["dtype"]).reshape(record["shape"])
        np.testing.assert_array_equal(read, array, strict=True)
    assert not list(tmp_path.rglob("*.part"))


def test_c_headers_are_read_by_a_compiler(traced, tmp_path):
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    least = Trace(
        {
            "least": np.array([-(2**31), 2**31 - 1], np.int32),
            "wide": np.array([-(2**63), 2**63 - 1], np.int64),
            "empty": np.zeros((0, 3), np.int8),
        }
        | dict(list(traced.tensors.items())[:3])
    )
    write_vectors(least, tmp_path, form="c-header")
    names = [identifier(name) for name in least.tensors]
    prints = "".join(
        f'for (size_t i = 0; i < {a.size}; i++) printf("%lld\\n", (long long){n}[i]);\n'
        for n, a in zip(names, least.tensors.values(), strict=True)
    )
    includes = "".join(f'#include "{n}.h"\n' for n in names)
    source = tmp_path / "main.c"
    source.write_text(
        f"#include <stdio.h>\n{includes}int main(void) {{\n{prints}return 0;}}\n"
    )
    command = [compiler, "-Wall", "-Werror", "-Wno-type-limits"]
    subprocess.run([*command, str(source), "-o", str(tmp_path / "main")], check=True)
    ran = subprocess.run([str(tmp_path / "main")], capture_output=True, check=True)
    want = [v for a in least.tensors.values() for v in a.ravel().tolist()]
    assert list(map(int, ran.stdout.split())) == want


def test_vectors_are_integers_of_a_known_form(tmp_path):
    with pytest.raises(ValueError, match="form must be one of"):
        write_vectors(Trace({}), tmp_path, form="csv")
    with pytest.raises(ValueError, match="a must hold integers, got dtype float64"):
        write_vectors(Trace({"a": np.zeros(1)}), tmp_path)


@pytest.mark.parametrize("content", [b"", b"PK", b"\x80\x04N.", b"text"])
def test_files_that_are_no_traces(tmp_path, content):
    path = tmp_path / "t.npz"
    path.write_bytes(content)
    with pytest.raises(UnreadableError, match=r"t\.npz"):
        Trace.load(path)


def test_headers_that_are_none(tmp_path):
    for text in ("{", "[1]", '{"manifest": 3}', '{"manifest": [1]}'):
        np.savez(tmp_path / "t.npz", a=np.zeros(1), json=np.array(text))
        with pytest.raises(UnreadableError, match=r"t\.npz"):
            Trace.load(tmp_path / "t.npz")


@pytest.mark.parametrize(
    "record",
    [
        {"inputs": 3},
        {"inputs": [3]},
        {"multiplier": 1073741824},
        {"shift": [0.5]},
        {"zero_point": None},
        {"layer": []},
        {"constants": [None]},
    ],
)
def test_records_of_another_kind_are_refused(tmp_path, record):
    header = json.dumps({"format": FORMAT, "manifest": [["a", record]]})
    np.savez(tmp_path / "t.npz", a=np.zeros(1), json=np.array(header))
    with pytest.raises(UnreadableError, match="its manifest: Expected"):
        Trace.load(tmp_path / "t.npz")


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"kind": "accumulator"},
        {"kind": "accumulator", "inputs": []},
        {"inputs": ["nowhere"]},
        {"inputs": ["a.acc"], "multiplier": [1, 2], "shift": [0]},
        {"inputs": ["a.acc"], "multiplier": [1], "shift": [0], "zero_point": 0},
    ],
)
def test_a_manifest_that_lacks_numbers_reproduces_nothing(record):
    tensors = {"a.acc": np.ones((1, 2), np.int32), "a": np.ones((1, 2), np.int8)}
    other = {"a.acc": tensors["a.acc"], "a": np.array([[1, 2]], np.int8)}
    difference = bisect(Trace(tensors, {}, {"a": record}), other).first
    assert (difference.name, difference.at) == ("a", (0, 1))
    assert difference.reproduce == ""


def test_a_reference_of_text_is_refused():
    reference = Trace({"a": np.array(["1", "2"])})
    with pytest.raises(UnreadableError, match="'a' holds <U1, no numbers"):
        bisect(reference, {"a": np.ones(2)})


@pytest.fixture
def files(network, tmp_path):
    """The file of a network for embedded images is large: here the trace alone."""
    x = np.random.default_rng(7).integers(0, 256, (2, 1, 8, 8), dtype=np.uint8)
    found = trace(network, x)
    found.save(tmp_path / "ref.npz")
    np.savez(tmp_path / "mine.npz", **found.tensors)
    name = list(found.tensors)[3]
    np.savez(tmp_path / "wrong.npz", **altered(found, name, raised((0, 1))))
    np.savez(tmp_path / "other.npz", other=np.zeros(1))
    (tmp_path / "bad.npz").write_bytes(b"bad")
    return tmp_path, name


@pytest.mark.parametrize(
    ("mine", "code"),
    [("mine", 0), ("wrong", 1), ("other", 3), ("bad", 4), ("absent", 4)],
)
def test_the_command_answers_with_its_exit_code(files, capsys, mine, code):
    folder, name = files
    argv = ["bisect", str(folder / "ref.npz"), str(folder / f"{mine}.npz")]
    assert cli.main([*argv, "--json"]) == code
    said = capsys.readouterr()
    if code == 4:
        assert said.err.startswith("refqnn: error: ")
        assert said.err.count("\n") == 1
        return
    found = json.loads(said.out)
    assert found["conforms"] is (code == 0)
    assert found["exit_code"] == code
    assert (found["first"] or {"name": None})["name"] == (name if code == 1 else None)
    assert cli.main(argv) == code
    assert ("reproduce" in capsys.readouterr().out) is (code == 1)


def test_usage_is_exit_code_2(capsys):
    with pytest.raises(SystemExit) as left:
        cli.main(["bisect", "one.npz"])
    assert left.value.code == 2
    assert "required: other" in capsys.readouterr().err


@pytest.mark.compiled
def test_the_command_writes_traces(tmp_path, capsys):
    rng = np.random.default_rng(8)
    options = {"weight_bits": 4, "activation_bits": 4, "width": 0.1}
    made = resnet(8, rng=rng, **options)
    images = rng.integers(0, 256, (4, 1, 28, 28), dtype=np.uint8)
    made.forward(images, Run(training=True))
    network = deploy(made)
    network.save(tmp_path / "n.npz")
    argv = ["trace", tmp_path / "n.npz", "-o", tmp_path / "t.npz", "--images", 1]
    argv += ["--hex", tmp_path / "hex", "--c-header", tmp_path / "c"]
    assert cli.main([*map(str, argv), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    want = conformance.trace(network, refqnn.data.embedded().test_images[:1])
    assert found["tensors"] == {n: list(a.shape) for n, a in want.tensors.items()}
    assert bisect(want, Trace.load(tmp_path / "t.npz")).exit_code == 0
    assert (tmp_path / "hex" / "layers_classifier.hex").exists()
    assert (tmp_path / "c" / "layers_classifier.h").exists()
