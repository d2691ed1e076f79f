"""Every example runs, with few steps."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from refqnn import data

FOLDER = Path(__file__).parent.parent / "examples"
pytestmark = pytest.mark.compiled


def example(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def idx_folder(tmp_path):
    """A folder of small Fashion-MNIST files: 256 images and 20."""
    chosen = data.embedded()
    for part, images, labels in (
        ("train", chosen.train_images[:256], chosen.train_labels[:256]),
        ("t10k", chosen.test_images[:20], chosen.test_labels[:20]),
    ):
        for kind, array in (("images-idx3", images[:, 0]), ("labels-idx1", labels)):
            sizes = np.array(array.shape, ">u4").tobytes()
            header = bytes([0, 0, 8, array.ndim]) + sizes
            content = header + array.astype(np.uint8).tobytes()
            (tmp_path / f"{part}-{kind}-ubyte").write_bytes(content)
    return tmp_path


def test_every_example_is_tested():
    tested = Path(__file__).read_text("utf-8")
    for path in FOLDER.glob("*.py"):
        assert f'example("{path.stem}")' in tested


def test_deploy_and_inspect(capsys):
    options = ["--epochs", "1", "--images", "80", "--width", "0.1"]
    network = example("deploy_and_inspect").main(options)
    shown = capsys.readouterr().out
    for step in network.steps:
        assert shown.count(step.name) >= 2
    last = shown.splitlines()[-1]
    label = data.FASHION_MNIST_CLASSES[data.embedded().test_labels[0]]
    assert last.startswith("integers say ")
    assert last.endswith(f"it is labelled {label}")


def test_train_fashion_mnist_resumes(idx_folder, tmp_path, capsys):
    argv = [str(idx_folder), "--epochs", "1", "--depth", "8", "--seeds", "0", "1"]
    argv += ["--runs", str(tmp_path / "runs"), "--json"]
    program = example("train_fashion_mnist")
    found = program.main(argv)
    assert set(found) == {"float", "4-bit"}
    assert all(len(scores) == 2 for scores in found.values())
    assert json.loads(capsys.readouterr().out) == found
    assert program.main(argv) == found
    assert len(list((tmp_path / "runs").glob("*.npz"))) == 4


def test_guided_training_resumes(tmp_path, capsys):
    program = example("guided_training")
    argv = ["--quick", "--seeds", "0", "3", "--runs", str(tmp_path)]
    found = program.main([*argv, "--json"])
    assert json.loads(capsys.readouterr().out) == found
    assert set(found) == {"float", "plain", "two-stage", "progressive", "guided"}
    assert all(len(scores) == 2 for scores in found.values())
    for seed in (0, 3):
        stages = [path.name for path in (tmp_path / f"seed{seed}").rglob("*.npz")]
        assert sorted(stages) == [
            "1_w2_a2.npz",
            "1_w2_a2.npz",
            "1_w2_a32.npz",
            "1_w32_a32.npz",
            "1_w8_a8.npz",
            "2_w2_a2.npz",
            "2_w4_a4.npz",
            "3_w2_a2.npz",
        ]
    assert program.main(argv) == found
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(found)
    with pytest.raises(ValueError, match="holds the stage"):
        program.main([*argv, "--bits", "3"])


def test_embed_fashion_mnist_checks_its_sources(idx_folder, tmp_path):
    program = example("embed_fashion_mnist")
    with pytest.raises(ValueError, match="has sha256"):
        program.main(idx_folder, tmp_path / "subset.npz")
    assert not (tmp_path / "subset.npz").exists()


def test_the_subset_is_balanced():
    program = example("embed_fashion_mnist")
    full = data.embedded()
    chosen = program.subset(full, train_per_class=2, test_per_class=1, seed=3)
    np.testing.assert_array_equal(np.bincount(chosen.train_labels), [2] * 10)
    np.testing.assert_array_equal(np.bincount(chosen.test_labels), [1] * 10)
