"""Networks as TFLite models, and models beside networks: run in LiteRT, or dumped."""

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from deploy.tflite_models import MODELS
from deploy.tflite_record import model_images

from refqnn import cli, integer
from refqnn.core import Run
from refqnn.deploy import (
    IntegerNetwork,
    deploy,
    import_tflite,
    inexact_in_tflite,
    to_tflite,
)
from refqnn.deploy.formats.tflite_dumps import file_name, read_dumps
from refqnn.deploy.formats.tflite_graph import TO_PIXELS
from refqnn.deploy.formats.tflite_read import parse_model
from refqnn.deploy.formats.tflite_run import tflite_trace
from refqnn.deploy.steps import LayerStep
from refqnn.files import Unreadable
from refqnn.networks import resnet


@pytest.fixture(scope="module")
def deployed():
    """A residual network of 4 bits with the ranges of random images."""
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (8, 1, 12, 12), dtype=np.uint8)
    network = resnet(8, weight_bits=4, activation_bits=4, width=0.25, rng=rng)
    for _ in range(3):
        network.forward(images, Run(training=True))
    return deploy(network, image_size=(12, 12)), images


def test_what_is_exported_computes_nearly_the_same(deployed):
    network, images = deployed
    twin = import_tflite(to_tflite(network))
    ours, theirs = network.trace(images), twin.trace(images)
    for step in network.steps[1:]:
        got, grid = theirs[step.name].astype(float), twin_grid(twin, step.name)
        real = step.grid.scale * (ours[step.name].astype(float) - step.grid.zero_point)
        apart = np.abs(grid.scale * (got - grid.zero_point) - real)
        assert apart.mean() < 0.05 * np.ptp(real), step.name
        assert np.corrcoef(got.ravel(), real.ravel())[0, 1] > 0.97, step.name
    layer = network.steps[1]
    assert theirs[layer.name].max() <= 127
    assert twin.image_shape == network.image_shape
    assert twin.logit_scale == np.float32(network.logit_scale)
    assert parse_model(to_tflite(network)).tensors[0].dtype == "uint8"


def twin_grid(network, name):
    return next(step.grid for step in network.steps if step.name == name)


def test_the_first_layer_differs_next_to_ties_alone(deployed):
    network, images = deployed
    twin = import_tflite(to_tflite(network))
    name = network.steps[1].name
    shift = twin_grid(twin, name).zero_point - network.steps[1].grid.zero_point
    apart = twin.trace(images)[name].astype(int) - shift - network.trace(images)[name]
    assert np.abs(apart).max() <= 1
    assert np.mean(apart != 0) < 1e-3
    assert len(np.unique(network.trace(images)[name])) > 8


def test_convolutions_of_a_file_are_written_as_they_were_read():
    model = MODELS["mobilenet"]()
    graph = parse_model(model)
    last = graph.operators[2]
    assert last.op == "DEPTHWISE_CONV_2D"
    name = graph.tensors[last.outputs[0]].name
    network = import_tflite(model, until=name)
    again = import_tflite(to_tflite(network))
    x = model_images(model)
    ours, theirs = network.trace(x), again.trace(x)
    for step in network.steps:
        np.testing.assert_array_equal(theirs[step.name], ours[step.name], step.name)


def test_what_may_differ_is_listed(deployed):
    lines = inexact_in_tflite(deployed[0])
    assert any("the addition rounds both branches" in line for line in lines)
    assert any("biases are rounded to whole steps" in line for line in lines)
    named = {line.partition(":")[0] for line in lines}
    assert named == {step.name for step in deployed[0].steps[1:]}


def test_steps_without_a_form_are_named(deployed):
    network, _ = deployed
    imported = import_tflite(MODELS["mobilenet"]())
    with pytest.raises(ValueError, match="OperationStep has no operator of TFLite"):
        to_tflite(imported)
    steps = list(network.steps)
    grid = steps[1].grid._replace(zero_point=3)
    steps[1] = replace(steps[1], grid=grid)
    with pytest.raises(ValueError, match="need a clamp that TFLite does not have"):
        to_tflite(IntegerNetwork(tuple(steps)))
    wide = replace(network.steps[1], grid=grid._replace(q_max=300))
    with pytest.raises(ValueError, match=r"int8 does not hold 0 \.\. 300"):
        to_tflite(IntegerNetwork((network.steps[0], wide)))


def test_litert_computes_what_is_exported(deployed):
    pytest.importorskip("ai_edge_litert", reason="pip install refqnn[tflite]")
    network, _ = deployed
    model = to_tflite(network)
    x = np.random.default_rng(7).integers(0, 256, (1000, 1, 12, 12), dtype=np.uint8)
    ours = import_tflite(model).trace(x)
    theirs = tflite_trace(model, x, "reference")
    assert len(theirs) > 15
    for name, codes in theirs.items():
        np.testing.assert_array_equal(ours[name], codes, name)


def test_the_parser_of_a_viewer_reads_every_operator_and_tensor(deployed, tmp_path):
    netron = pytest.importorskip("netron", reason="pip install netron")
    node = shutil.which("node") or pytest.skip("Node.js is not on the path")
    folder = tmp_path / "netron"
    shutil.copytree(Path(netron.__file__).parent, folder)
    (folder / "package.json").write_text('{"type": "module"}', "utf-8")
    models = [to_tflite(deployed[0]), *(build() for build in MODELS.values())]
    files = [tmp_path / f"{i}.tflite" for i in range(len(models))]
    for file, model in zip(files, models, strict=True):
        file.write_bytes(model)
    script = Path(__file__).with_name("netron_open.mjs")
    command = [node, script, folder, *files]
    read = subprocess.run(command, check=True, capture_output=True).stdout
    for seen, model in zip(json.loads(read), models, strict=True):
        graph = parse_model(model)
        assert seen["format"] == "TensorFlow Lite v3"
        for one, operator in zip(seen["nodes"], graph.operators, strict=True):
            assert one["type"].lower() == operator.op.replace("_", "").lower()
            for side in ("inputs", "outputs"):
                given = [i for i in getattr(operator, side) if i >= 0]
                names = [f"{graph.tensors[i].name}\n{i}" for i in given]
                assert [name for v in one[side] for name in v] == names


def test_commands_export_import_and_compare(deployed, tmp_path, capsys):
    network, images = deployed
    files = {name: str(tmp_path / name) for name in
             ("n.npz", "m.tflite", "t.npz", "x.npy", "page.html")}  # fmt: skip
    network.save(files["n.npz"])
    assert cli.main(["export", files["n.npz"], "--format", "tflite", "-o",
                     files["m.tflite"]]) == 0  # fmt: skip
    assert "the addition rounds both branches" in capsys.readouterr().out
    assert cli.main(["import", files["m.tflite"], "-o", files["t.npz"]]) == 0
    twin = IntegerNetwork.load(files["t.npz"])
    dump(tmp_path / "dumps", twin.trace(images))
    compared = ["compare", files["m.tflite"], files["t.npz"]]
    dumps = ["--dumps", str(tmp_path / "dumps")]
    assert cli.main([*compared, *dumps, "--html", files["page.html"]]) == 0
    printed = capsys.readouterr().out
    assert "conforms" in printed
    assert "missing" not in printed  # steps that are no tensor of the file
    wrong = twin.trace(images)
    place = network.steps[2].name
    wrong[place] = wrong[place] ^ 1
    dump(tmp_path / "dumps", wrong)
    assert cli.main([*compared, *dumps]) == 1
    assert f"{place}  MISMATCH" in capsys.readouterr().out
    assert cli.main([*compared, "--dumps", str(tmp_path)]) == 4
    assert "holds no tensor of the network" in capsys.readouterr().err
    onnx = ["import", files["n.npz"], "-o", files["t.npz"], "--kernels", "optimized"]
    assert cli.main(onnx) == 2
    assert "--kernels is for TFLite models" in capsys.readouterr().err


def test_litert_runs_beside_a_network(tmp_path, capsys):
    model, network = tmp_path / "m.tflite", tmp_path / "n.npz"
    model.write_bytes(MODELS["keywords"]())
    import_tflite(model).save(network)
    pair = ["compare", str(model), str(network)]
    if cli.main([*pair, "--count", "2"]) == 2:
        assert "pip install refqnn[tflite]" in capsys.readouterr().err
        pytest.skip("ai-edge-litert is not installed")
    assert "conforms" in capsys.readouterr().out
    assert cli.main([*pair, "--kernels", "xnnpack", "--count", "2"]) == 1
    assert "these kernels compute: xnnpack" in capsys.readouterr().out


def test_a_device_with_other_kernels_is_explained(tmp_path, capsys):
    model, network = tmp_path / "m.tflite", tmp_path / "n.npz"
    model.write_bytes(MODELS["keywords"]())
    import_tflite(model).save(network)
    x = model_images(model.read_bytes())
    graph = parse_model(model.read_bytes())
    last = graph.tensors[graph.operators[5].outputs[0]].name  # before the mean
    device = import_tflite(model, kernels="xnnpack", until=last).trace(x)
    dump(tmp_path / "dumps", device)
    command = ["compare", str(model), str(network), "--dumps", str(tmp_path / "dumps")]
    assert cli.main(command) == 1
    assert "these kernels compute: xnnpack" in capsys.readouterr().out


def dump(folder, tensors):
    """Write tensors as a device would: channels last, one raw, the others .npy."""
    folder.mkdir(exist_ok=True)
    table = {}
    for i, (name, codes) in enumerate(tensors.items()):
        if name.endswith((".accumulator", ".input")):  # of no tensor of a file
            continue
        pixels = codes.transpose(TO_PIXELS) if codes.ndim == 4 else codes
        if i % 2:
            np.save(folder / file_name(name), pixels)
            continue
        held = np.ascontiguousarray(pixels)
        (folder / f"{i}.bin").write_bytes(held.tobytes())
        row = {"file": f"{i}.bin", "dtype": held.dtype.name, "shape": held.shape}
        table[name] = row
    (folder / "tensors.json").write_text(json.dumps(table), "utf-8")


def test_dumps_are_read_in_the_order_of_the_model(tmp_path):
    network = import_tflite(MODELS["detector"]())
    x = model_images(MODELS["detector"]())
    tensors = network.trace(x)
    dump(tmp_path, tensors)
    got = read_dumps(tmp_path, network.steps)
    assert set(got) == {step.name for step in network.steps if step.name in tensors}
    for name, codes in got.items():
        np.testing.assert_array_equal(codes, tensors[name], name)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"file": "../a.bin"}, "must be a file of the folder"),
        ({"dtype": "float32"}, "must be a file of the folder and hold"),
        ({"shape": [3]}, "has 2 bytes, not those of int8"),
        ({"shape": [-1, -2]}, "has 2 bytes, not those of int8"),
        ({"shape": "x"}, "Expected `array`"),
        ({"file": "b.bin"}, "the dump of 't0' must be integers, a multiple"),
    ],
)
def test_wrong_tables_of_dumps(tmp_path, row, words):
    network = import_tflite(MODELS["detector"]())
    (tmp_path / "a.bin").write_bytes(bytes(2))
    (tmp_path / "b.bin").write_bytes(bytes(2))
    made = {"file": "a.bin", "dtype": "int8", "shape": [2], **row}
    (tmp_path / "tensors.json").write_text(json.dumps({"t0": made}), "utf-8")
    with pytest.raises(Unreadable, match=words):
        read_dumps(tmp_path, network.steps)


def test_a_layer_keeps_a_ratio_that_is_no_integer():
    network = import_tflite(MODELS["mobilenet"]())
    layers = [s for s in network.steps if isinstance(s, LayerStep)]
    (layer,) = (s for s in layers if s.sum.w.ndim == 2)
    assert layer.rounding == "float64_half_away"
    x = np.random.default_rng(0).integers(-128, 128, (3, layer.sum.w.shape[1]))
    values = layer.forward({layer.source: x.astype(np.int8)}, integer)
    acc = values[f"{layer.name}.accumulator"].astype(np.float64)
    real = layer.sum.scale / layer.grid.scale
    t = acc * real
    want = np.sign(t) * np.floor(np.abs(t) + 0.5) + layer.grid.zero_point
    np.testing.assert_array_equal(values[layer.name], np.clip(want, -128, 127))
