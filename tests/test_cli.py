"""What the command line answers, refuses, and never does: print a traceback."""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import refqnn
from refqnn import cli, data, nn
from refqnn.cli.inputs import load_data
from refqnn.cli.options import DATA, SEED, add_options

ROOT = Path(__file__).parent.parent
SMALL = ["--depth", "8", "--width", "0.1", "--batch", "10"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of IDX files: 20 images to train on, 10 to judge by."""
    path = tmp_path_factory.mktemp("images")
    chosen = data.embedded()
    for part, images, labels in (
        ("train", chosen.train_images[:20], chosen.train_labels[:20]),
        ("t10k", chosen.test_images[:10], chosen.test_labels[:10]),
    ):
        write_idx(path / f"{part}-images-idx3-ubyte", images[:, 0, ::3, ::3])
        write_idx(path / f"{part}-labels-idx1-ubyte", labels.astype(np.uint8))
    return path


def write_idx(path, array):
    header = bytes([0, 0, 8, array.ndim])
    sizes = np.array(array.shape, ">u4").tobytes()
    path.write_bytes(header + sizes + np.ascontiguousarray(array).tobytes())


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    """A 4-bit network after one epoch."""
    path = tmp_path_factory.mktemp("trained") / "network.npz"
    options = [*SMALL, "--bits", "4", "--epochs", "1", "--data", str(folder)]
    assert cli.main(["train", str(path), *options]) == 0
    return path


def answer(capsys, *argv, code=0):
    """Run a command; return its JSON answer, the only thing on standard output."""
    assert cli.main([*map(str, argv), "--json"]) == code
    return json.loads(capsys.readouterr().out)


def refusal(capsys, *argv, code=2):
    """Run a command that is refused; return the line on standard error."""
    assert cli.main(list(map(str, argv))) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("refqnn: error: ")
    assert captured.err.count("\n") == 1
    return captured.err


def test_train_writes_a_checkpoint_and_its_metrics(folder, tmp_path, capsys):
    path, metrics = tmp_path / "a.npz", tmp_path / "a.jsonl"
    argv = [
        "train",
        path,
        *SMALL,
        "--epochs",
        2,
        "--metrics",
        metrics,
        "--data",
        folder,
    ]
    found = answer(capsys, *argv)
    assert [record["epoch"] for record in found["epochs"]] == [1, 2]
    lines = metrics.read_text().splitlines()
    assert [json.loads(line) for line in lines] == found["epochs"]
    assert nn.checkpoint.load(path).state["steps"] == 4
    assert nn.checkpoint.load(path).config["weight_bits"] is None


def test_bits_set_both_and_each_may_be_set(folder, tmp_path, capsys):
    path = tmp_path / "a.npz"
    argv = [*SMALL, "--bits", 4, "--weight-bits", 2, "--epochs", 1, "--data", folder]
    answer(capsys, "train", path, *argv)
    config = nn.checkpoint.load(path).config
    assert (config["weight_bits"], config["activation_bits"]) == (2, 4)


def test_the_seed_decides(folder, tmp_path, capsys):
    def weights(name, seed):
        path = tmp_path / name
        argv = [*SMALL, "--epochs", 1, "--seed", seed, "--data", folder]
        answer(capsys, "train", path, *argv)
        return nn.checkpoint.load(path).params["layers.stem.w"]

    np.testing.assert_array_equal(weights("a.npz", 1), weights("b.npz", 1))
    assert np.any(weights("c.npz", 1) != weights("d.npz", 2))


def test_resume_continues_to_the_same_bits(folder, tmp_path, capsys, monkeypatch):
    argv = [*SMALL, "--bits", 4, "--epochs", 2, "--data", folder]
    answer(capsys, "train", tmp_path / "whole.npz", *argv)
    cut = tmp_path / "cut.npz"
    with monkeypatch.context() as patch:
        patch.setattr(nn.Training, "step", killed_after(nn.Training.step, 3))
        assert cli.main(["train", str(cut), *map(str, argv)]) == 130
    assert nn.checkpoint.load(cut).state["steps"] == 2
    with monkeypatch.context() as patch:
        taken = counted(patch)
        answer(capsys, "train", cut, *argv, "--resume")
    assert taken == [2, 3]  # the first epoch is not trained again
    want = nn.checkpoint.load(tmp_path / "whole.npz").params
    got = nn.checkpoint.load(cut).params
    for name in want:
        np.testing.assert_array_equal(got[name], want[name])


def counted(patch):
    """Count steps: the number that each begins at."""
    taken, step = [], nn.Training.step

    def seen(training, *batch):
        taken.append(training.steps)
        return step(training, *batch)

    patch.setattr(nn.Training, "step", seen)
    return taken


def killed_after(step, count):
    taken = []

    def killed(*args):
        taken.append(1)
        if len(taken) > count:
            raise KeyboardInterrupt
        return step(*args)

    return killed


def test_deploy_and_evaluate_agree_on_what_they_hold(trained, folder, tmp_path, capsys):
    integers, listing = tmp_path / "integers.npz", tmp_path / "listing.txt"
    size = ["--image-size", 10, 10]
    found = answer(capsys, "deploy", trained, integers, *size, "--listing", listing)
    assert found["steps"][0] == "layers.image"
    assert "layers.classifier" in listing.read_text()
    fast = answer(capsys, "evaluate", integers, "--data", folder)
    slow = answer(capsys, "evaluate", integers, "--data", folder,
                  "--backend", "definition")  # fmt: skip
    assert fast == slow
    assert (fast["network"], fast["images"]) == ("integers", 10)
    network = refqnn.deploy.IntegerNetwork.load(integers)
    test = data.fashion_mnist(folder)
    right = network.predict(test.test_images) == test.test_labels
    assert fast["test_accuracy"] == right.mean()


def test_evaluate_a_checkpoint(trained, folder, capsys):
    found = answer(capsys, "evaluate", trained, "--data", folder)
    assert found["network"] == "checkpoint"
    assert 0 <= found["test_accuracy"] <= 1


def test_without_json_people_read_it(trained, folder, tmp_path, capsys):
    argv = ["deploy", trained, tmp_path / "i.npz", "--image-size", "10", "10"]
    assert cli.main(list(map(str, argv))) == 0
    assert "layers.stage1_block1.conv1" in capsys.readouterr().out
    assert cli.main(["evaluate", str(trained), "--data", str(folder)]) == 0
    assert "% of 10 test images" in capsys.readouterr().out


def test_cifar_folders_are_recognized(tmp_path, rng):
    ten = rng.integers(0, 10, (4, 3073)).astype(np.uint8)
    for name in ("data_batch_1.bin", "data_batch_2.bin", "test_batch.bin"):
        (tmp_path / name).write_bytes(ten.tobytes())
    found = load_data(tmp_path)
    assert found.train_images.shape == (8, 3, 32, 32)
    np.testing.assert_array_equal(found.test_labels, ten[:, 0])
    hundred = rng.integers(0, 20, (4, 3074)).astype(np.uint8)
    for name in ("train.bin", "test.bin"):
        (tmp_path / name).write_bytes(hundred.tobytes())
    np.testing.assert_array_equal(load_data(tmp_path).test_labels, hundred[:, 1])


def test_an_npz_of_four_arrays_is_data(trained, tmp_path, rng, capsys):
    images, labels = rng.integers(0, 256, (2, 1, 10, 10), np.uint8), np.array([0, 1])
    parts = {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels}
    np.savez(tmp_path / "own.npz", **parts)
    own = str(tmp_path / "own.npz")
    assert cli.main(["evaluate", str(trained), "--data", own]) == 0
    assert "% of 2 test images" in capsys.readouterr().out
    assert cli.main(["evaluate", str(trained), "--data", str(tmp_path)]) == 4
    assert "must be an npz, or a folder that holds" in capsys.readouterr().err


REFUSED_OPTIONS = (
    (["--depth", "9"], "depth must be 6n"),
    (["--width", "0"], "width must be positive"),
    (["--width", "nan"], "width must be positive"),
    (["--bits", "17"], "bits must be an int in"),
    (["--activation-bits", "0"], "bits must be an int in"),
    (["--warmup", "inf"], "warmup_epochs must be finite and at least 0, got inf"),
    (["--batch", "21"], "batch must be in"),
    (["--lr", "nan"], "lr must be finite and at least 0, got nan"),
    (["--lr", "-1"], "lr must be finite"),
    (["--lr", "inf"], "lr must be finite"),
    (["--lr", "0"], "lr must be positive"),
    (["--lr", "1001"], "lr must be positive, at most 1000, got 1001"),
    (["--lr", "1e308"], "at most 1000"),
    (["--weight-decay", "10"], "lr times weight_decay must be below 1"),
    (["--weight-decay", "1e308"], "lr times weight_decay must be below 1"),
    (["--weight-decay", "-1"], "weight_decay must be finite"),
    (["--weight-decay", "nan"], "weight_decay must be finite"),
    (["--warmup", "-1"], "warmup_epochs must be finite and at least 0"),
)
ABSENT = (
    (["--resume"], "does not exist"),
    (["--data", "absent"], "there is no absent"),
)


@pytest.mark.parametrize(
    ("code", "options", "told"),
    [(2, *row) for row in REFUSED_OPTIONS] + [(4, *row) for row in ABSENT],
)
def test_train_refuses(folder, tmp_path, capsys, code, options, told):
    argv = ["train", tmp_path / "a.npz", *SMALL, "--epochs", 1, "--data", folder]
    assert told in refusal(capsys, *argv, *options, code=code)
    assert not (tmp_path / "a.npz").exists()


def test_train_does_not_overwrite(trained, folder, capsys):
    before = trained.read_bytes()
    argv = ["train", trained, *SMALL, "--epochs", 1, "--data", folder]
    assert "exists: --resume continues it" in refusal(capsys, *argv)
    assert trained.read_bytes() == before


def test_train_does_not_resume_another_network(trained, folder, capsys):
    argv = ["train", trained, *SMALL, "--epochs", 2, "--data", folder, "--resume"]
    line = refusal(capsys, *argv, "--bits", 8)
    assert "another network: activation_bits 4, not 8, weight_bits 4, not 8" in line


def test_unwritable_folders_are_refused_before_training(folder, tmp_path, capsys):
    argv = ["train", tmp_path / "absent" / "a.npz", *SMALL, "--data", folder]
    assert "cannot write" in refusal(capsys, *argv)


def test_every_output_is_checked_before_work_starts(trained, folder, tmp_path, capsys):
    absent = tmp_path / "absent" / "file"
    path = tmp_path / "a.npz"
    train = ["train", path, *SMALL, "--data", folder, "--metrics"]
    for argv in (
        [*train, absent],
        [*train, tmp_path],
        ["deploy", trained, absent],
        ["deploy", trained, path, "--listing", absent],
        ["trace", trained, "-o", absent],
        ["export", trained, "-o", absent],
        ["probe", "requantize", "-o", absent],
        ["deploy", trained, trained],
        ["deploy", trained, path, "--listing", path],
        ["export", trained, "-o", trained],
        [*train, path],
    ):
        assert "cannot write" in refusal(capsys, *argv)
    blocked = trained / "folder"  # below a file
    for argv in (
        ["trace", trained, "-o", path, "--hex", blocked],
        ["probe", "requantize", "--format", "hex", "-o", blocked],
        ["generate", "requantize", "-o", blocked],
        ["convert", tmp_path, "-o", blocked],
        ["study", "pareto_sizes", "--runs", blocked],
        ["study", "pareto_sizes", "--runs", tmp_path, "--figure", blocked / "a.png"],
        ["demo", "--output", blocked],
    ):
        assert "cannot write" in refusal(capsys, *argv)
    assert not list(tmp_path.iterdir())


def damaged(kind, trained, tmp_path):
    path = tmp_path / f"{kind}.npz"
    content = trained.read_bytes()
    if kind == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "pickle":
        path.write_bytes(b"\x80\x04K\x01.")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "arrays":
        np.savez(path, w=np.zeros(3))
    return path


@pytest.mark.parametrize("command", ["evaluate", "deploy"])
@pytest.mark.parametrize("kind", ["cut", "pickle", "empty", "arrays", "absent"])
def test_damaged_files_are_refused(command, kind, trained, tmp_path, capsys):
    path = damaged(kind, trained, tmp_path)
    more = [tmp_path / "out.npz"] if command == "deploy" else []
    assert path.name in refusal(capsys, command, path, *more, code=4)
    assert not (tmp_path / "out.npz").exists()


def test_a_float_network_is_not_deployed(folder, tmp_path, capsys):
    path = tmp_path / "float.npz"
    answer(capsys, "train", path, *SMALL, "--epochs", 1, "--data", folder)
    line = refusal(capsys, "deploy", path, tmp_path / "integers.npz")
    assert "layers.stem" in line


def test_images_of_another_size_are_refused(trained, folder, tmp_path, capsys):
    answer(capsys, "deploy", trained, tmp_path / "i.npz")
    line = refusal(capsys, "evaluate", tmp_path / "i.npz", "--data", folder)
    assert "28" in line


def test_size_answers_with_these_keys(capsys):
    found = answer(capsys, "size", "resnet50", "--width", 0.25, "--bits", 8)
    assert list(found) == [
        "c_size_bits",
        "macs",
        "footprint_bits_separate_maxima",
        "footprint_bits_joint_maximum",
        "layers",
    ]
    assert found["c_size_bits"] == 63_853_312  # 63.85 in table 3
    assert found["c_size_bits"] == sum(row["c_size_bits"] for row in found["layers"])
    assert found["macs"] == sum(row["macs"] for row in found["layers"])
    first = found["layers"][0]
    assert (first["name"], first["weights"], first["weight_bits"]) == (
        "layers.stem1",
        864,
        8,
    )
    joint, separate = (
        found[f"footprint_bits_{reading}"]
        for reading in ("joint_maximum", "separate_maxima")
    )
    assert found["c_size_bits"] < joint <= separate


SIZED = (
    (["resnet50", "--width", "2.983", "--bits", "1"], 204_079_028),
    (["resnet50", "--counting", "common"], 204_023_296),
    (["mobilenetv2", "--width", "0.25"], 11_993_696),
    (["mobilenetv2", "--width", "0.25", "--depthwise-bits", "8"], 12_059_648),
    (["mobilenetv2", "--width", "1.46", "--bits", "4"], 27_560_800),
    (["vgg11c", "--bits", "4", "--counting", "common"], 4_616_192),
    (["vgg11c", "--bits", "4", "--depthwise-bits", "2"], 4_567_808),
    (["resnet20", "--bits", "4", "--depthwise-bits", "2"], 1_123_712),
    (["inv_resnet26", "--bits", "4"], 1_122_176),
)


@pytest.mark.parametrize(("argv", "size"), SIZED, ids=str)
def test_sizes(argv, size, capsys):
    assert answer(capsys, "size", *argv)["c_size_bits"] == size


def test_activation_bits_are_those_of_the_maps(capsys):
    argv = ["size", "resnet20", "--bits", 4, "--activation-bits"]
    at8, at4 = (answer(capsys, *argv, bits) for bits in (8, 4))
    assert at8["c_size_bits"] == at4["c_size_bits"]
    for reading in ("separate_maxima", "joint_maximum"):
        maps = [x[f"footprint_bits_{reading}"] - x["c_size_bits"] for x in (at8, at4)]
        assert maps[0] == 2 * maps[1] > 0
    assert {row["input_bits"] for row in at4["layers"]} == {4, 8}


def test_people_read_a_line_a_layer(capsys):
    assert cli.main(["size", "vgg11c", "--bits", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 16 + 4
    assert lines[3].split() == ["depthwise2", "1,152", "1", "294,912"]
    assert lines[17].split() == ["C_size", "1,471,616", "bits"]


REFUSED_SIZES = (
    (["resnet22"], "network must be one of resnet20, "),
    (["resnet20", "--width", "0"], "width must be positive and finite, got 0.0"),
    (["resnet20", "--width", "inf"], "width must be positive and finite, got inf"),
    (["resnet20", "--bits", "0"], "bits must be an int in [1, 16], got 0"),
    (["vgg11c", "--depthwise-bits", "17"], "bits must be an int in [1, 16], got 17"),
    (["resnet20", "--depthwise-bits", "0"], "bits must be an int in [1, 16], got 0"),
    (["resnet20", "--activation-bits", "0"], "bits must be an int in [1, 16], got 0"),
)


@pytest.mark.parametrize(("argv", "told"), REFUSED_SIZES, ids=str)
def test_size_refuses(argv, told, capsys):
    assert told in refusal(capsys, "size", *argv)


@pytest.mark.parametrize(
    "argv",
    [
        ["size", "resnet20", "--counting", "mine"],
        [],
        ["fly"],
        ["demo", "--seed", "-1"],
        ["train"],
        ["train", "a", "--epochs", "0"],
    ],
)
def test_argparse_refuses_with_the_same_code(argv, capsys):
    with pytest.raises(SystemExit) as refused:
        cli.main(argv)
    assert refused.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("command", [[], *([name] for name in cli.COMMANDS)], ids=str)
def test_help_explains(command, capsys):
    with pytest.raises(SystemExit) as helped:
        cli.main([*command, "--help"])
    assert helped.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith(" ".join(["usage: refqnn", *command]))
    assert ("--json" in shown) == bool(command)
    assert "(None)" not in shown


def test_help_gives_defaults(capsys):
    parser = argparse.ArgumentParser()
    add_options(parser, SEED, DATA)
    parser.print_help()
    lines = capsys.readouterr().out.splitlines()
    assert any(line.endswith("of everything random (0)") for line in lines)
    assert lines[-1].endswith("subset")


def started(*argv, **environment):
    """Run the command in a process of its own."""
    command = [sys.executable, *argv]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ | environment,
    )


@pytest.mark.parametrize("command", [[], *([name] for name in cli.COMMANDS)], ids=str)
def test_help_imports_no_third_party_package(command):
    ran = started("-X", "importtime", "-m", "refqnn", *command, "--help")
    assert ran.returncode == 0
    for package in ("numpy", "numba", "matplotlib", "tqdm"):
        assert not re.search(rf"\| +{package}$", ran.stderr, re.MULTILINE)


def test_every_file_of_a_command_is_in_the_table():
    shared = {"__init__", "options", "inputs", "demonstration", "interrupts", "report"}
    shared |= {"lines", "values"}
    names = {path.stem for path in (ROOT / "refqnn" / "cli").glob("*.py")}
    assert names - shared == set(cli.COMMANDS)


#: a command started in the background ignores SIGINT, unless it asks for it
SWALLOWED = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from pathlib import Path
from refqnn import cli
from refqnn.cli import interrupts, list
def swallow(options):
    Path(sys.argv[1]).touch()
    import ctypes
    ctypes.CFUNCTYPE(None)(lambda: time.sleep(60))()  # swallows it, and says so
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        raise ValueError("initialization failed")
list.run = swallow
interrupts.AGAIN = 1
sys.exit(cli.main(["list", "ops"]))
"""


def test_an_interrupt_that_is_swallowed_comes_again(tmp_path):
    command = [sys.executable, "-c", SWALLOWED, str(tmp_path / "sleeps")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while not (tmp_path / "sleeps").exists():
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=50)
    assert (process.returncode, errors) == (130, "refqnn: interrupted\n")


def test_the_handlers_of_before_come_back(capsys):
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGALRM)]
    hook = sys.unraisablehook
    assert cli.main(["list", "axes"]) == 0
    assert sys.unraisablehook is hook
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGALRM)] == before
    capsys.readouterr()


def test_the_module_runs_as_a_program():
    ran = started("-m", "refqnn", "--version")
    assert ran.stdout == f"refqnn {refqnn.__version__}\n"
    ran = started("-m", "refqnn", "evaluate", "absent.npz")
    assert (ran.returncode, ran.stdout) == (4, "")
    assert ran.stderr.startswith("refqnn: error: ")


def test_nothing_is_coloured(trained, folder):
    argv = ["-m", "refqnn", "evaluate", str(trained), "--data", str(folder)]
    ran = started(*argv, FORCE_COLOR="1")
    assert ran.returncode == 0
    assert "\x1b" not in ran.stdout + ran.stderr


def test_a_reader_that_leaves_is_no_error(trained, folder):
    """As in ``refqnn evaluate ... | head -0``."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "refqnn", "evaluate", str(trained)]
    ran = subprocess.run(
        [*command, "--data", str(folder)],
        stdout=write,
        stderr=subprocess.PIPE,
        check=False,
        cwd=ROOT,
    )
    os.close(write)
    assert (ran.returncode, ran.stderr) == (1, b"")


@pytest.mark.parametrize("profile", [[], ["--onnxruntime"]])
def test_export_says_which_layers_may_differ(trained, tmp_path, capsys, profile):
    pytest.importorskip("onnx", reason="needs the optional package onnx")
    integers, model = tmp_path / "i.npz", tmp_path / "m.onnx"
    answer(capsys, "deploy", trained, integers, "--image-size", 10, 10, *profile)
    assert answer(capsys, "export", integers, "-o", model)["inexact"] == []
    floats = answer(capsys, "export", integers, "-o", model, "--for", "openvino")
    assert all("half_up, is written as" in line for line in floats["inexact"])
    assert bool(floats["inexact"]) is (profile == [])
    argv = ["export", integers, "-o", model, "--format"]
    lines = answer(capsys, *argv, "onnx-qoperator")["inexact"]
    assert bool(lines) is (profile == [])
    assert answer(capsys, *argv, "onnx-qdq")["inexact"]
    assert model.stat().st_size > 1000
    answer(capsys, "export", trained, "-o", model, "--format", "qonnx")
    assert "needs a checkpoint" in refusal(capsys, *argv, "qonnx")
    said = refusal(capsys, *argv, "tflite", "--for", "openvino")
    assert "--for is for ONNX models, not --format tflite" in said
    said = refusal(capsys, "export", trained, "-o", model)
    assert "--format onnx-exact needs an integer network" in said


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("def (", "SyntaxError"),
        ("raise Exception('no\\nluck')", "no luck"),
        ("import sys; sys.exit(0)", "SystemExit: 0"),
        ("def f(): f()\nf()", "RecursionError"),
        ("raise BaseException", "BaseException"),
        ("import absent_module", "No module named 'absent_module'"),
    ],
)
def test_a_plugin_that_fails_is_named_in_a_line(tmp_path, capsys, text, why):
    plugin = tmp_path / f"failing_{why[:4].strip().lower()}_{len(text)}.py"
    plugin.write_text(text)
    assert cli.main(["list", "ops", "--plugin", str(plugin)]) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"refqnn: error: --plugin {plugin} cannot be imported")
    assert why in message
    assert message.count("\n") == 1
