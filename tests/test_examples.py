"""Every example runs, with few steps."""

import importlib.util
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from refqnn import data
from refqnn.core import Run
from refqnn.networks.methods import METHODS

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
    with pytest.raises(SystemExit):
        program.main([*argv, "--bits", "3"])
    assert "holds the stage" in capsys.readouterr().err.splitlines()[-1]


def test_qil_table_resumes(tmp_path, capsys):
    program = example("qil_table")
    argv = ["--quick", "--jobs", "1", "--runs", str(tmp_path)]
    argv += ["--methods", "tsq", "zhuang"]
    program.BITS = (2,)
    found = program.main([*argv, "--json"])
    assert json.loads(capsys.readouterr().out) == found
    assert {method: list(cells) for method, cells in found.items()} == {
        "tsq": ["2/4", "2/2"],
        "zhuang": ["2/2"],
    }
    recorded = tmp_path / "256_images_1_epochs" / "cells.jsonl"
    lines = recorded.read_text().splitlines()
    assert program.main(argv) == found
    assert recorded.read_text().splitlines() == lines
    table = capsys.readouterr().out.splitlines()
    assert table[0].startswith("float, fine-tuned")
    assert table[3].split()[:3] == ["tsq", "2/2", "3"]
    assert table[3].split()[-3:] == ["-", "-", "3.8/3.0"]
    assert table[2].split()[-3:] == ["-", "-", "-"]


def test_runs_of_other_lengths_start_afresh(tmp_path):
    """A longer training does not go on from what --quick has left."""
    program = example("qil_table")
    argv = ["--images", "128", "--methods", "tsq", "--jobs", "1"]
    alone = program.main([*argv, "--epochs", "2", "--runs", str(tmp_path / "a")])
    program.main([*argv, "--epochs", "1", "--runs", str(tmp_path / "b")])
    after = program.main([*argv, "--epochs", "2", "--runs", str(tmp_path / "b")])
    assert after == alone


def test_clips_learn_at_the_rate_of_the_weights(tmp_path):
    program = example("qil_table")
    _, options = program.options_of(["--methods", "pact", "qil"])
    rates = {run["method"]: run["rate"] for run in program.described(options)}
    assert rates == {None: 0.01, "pact": 1.0, "qil": 0.01}
    moved = []
    for rate in (1.0, 0.5):
        network = program.small(0, method="haq", weight_bits=4, activation_bits=4)
        clip = network.layers["stem_quant"]
        clip.decay = 1e-3
        settings = {"seed": 0, "images": 64, "epochs": 1, "rate": rate}
        path = tmp_path / f"{rate}.npz"
        program.train(network, program.FINE, path=path, **settings)
        moved.append(float(clip.alpha.value) - 6)
    assert moved[0] < 0
    np.testing.assert_allclose(moved[0], 2 * moved[1])


def test_a_cell_that_fails_is_named(tmp_path):
    program = example("qil_table")
    program.FLOAT = replace(program.FINE, batch=100)
    argv = ["--images", "64", "--jobs", "1", "--runs", str(tmp_path)]
    with pytest.raises(SystemExit, match=r"ValueError: batch must be in \[1, N = 64"):
        program.main(argv)


BAD = [
    ("qil_table", ["--methods", "nothing"], "invalid choice: 'nothing'"),
    ("qil_table", ["--images", "0"], "--images: must be at least 1, got 0"),
    ("qil_table", ["--images", "10"], "batch must be in [1, N = 10], got 64"),
    ("qil_table", ["--epochs", "0"], "--epochs: must be at least 1, got 0"),
    ("qil_table", ["--jobs", "-1"], "--jobs: '-1' is not a whole number"),
    ("qil_table", ["--seeds", "x"], "--seeds: 'x' is not a whole number"),
    ("qil_table", ["--runs", "FILE"], "Not a directory"),
    ("qil_pruning", ["--bits", "7"], "--bits: invalid choice: 7"),
    ("qil_pruning", ["--images", "10"], "batch must be in [1, N = 10], got 64"),
    ("qil_pruning", ["--epochs", "0"], "--epochs: must be at least 1, got 0"),
    ("qil_pruning", ["--seeds", "-1"], "--seeds: '-1' is not a whole number"),
    ("qil_pruning", ["--runs", "FILE"], "Not a directory"),
    ("qil_pruning", ["--figure", "FILE/x.png"], "File exists"),
    ("guided_training", ["--bits", "17"], "bits must be an int in [1, 16], got 17"),
    ("guided_training", ["--lam", "-1"], "lam must be finite and at least 0, got -1"),
    ("guided_training", ["--depth", "9"], "depth must be 6n + 2"),
    ("guided_training", ["--epochs", "0"], "--epochs: must be at least 1, got 0"),
    ("guided_training", ["--seeds", "-1"], "--seeds: '-1' is not a whole number"),
    ("guided_training", ["--runs", "FILE"], "Not a directory"),
]


@pytest.mark.parametrize(("name", "argv", "message"), BAD)
def test_wrong_options_are_refused_in_one_line(
    name, argv, message, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("FILE").touch()
    small = ["--quick"] if name == "guided_training" else []
    with pytest.raises(SystemExit) as left:
        example(name).main([*small, *argv])
    assert left.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_qil_pruning_counts_and_draws(tmp_path, capsys):
    program = example("qil_pruning")
    argv = ["--images", "128", "--epochs", "1", "--bits", "5", "--json"]
    argv += ["--runs", str(tmp_path / "runs"), "--figure", str(tmp_path / "f.png")]
    found = program.main(argv)
    assert json.loads(capsys.readouterr().out) == found
    assert set(found) == set(program.NETWORKS)
    for result in found.values():
        for layer in result["layers"][0]:
            assert 0 <= layer["weight_ratio"] <= 1
            assert 0 <= layer["activation_ratio"] <= 1
    assert "linear_weights" in found["AlexNet, small"]["answers"][0]
    assert (tmp_path / "f.png").stat().st_size > 10_000


def test_haq_allocation_resumes(tmp_path, capsys):
    program = example("haq_allocation")
    argv = ["--quick", "--seeds", "0", "2", "--runs", str(tmp_path / "runs")]
    argv += ["--figure", str(tmp_path / "f.png")]
    found = program.main([*argv, "--json"])
    assert json.loads(capsys.readouterr().out) == found
    assert list(found["seeds"]) == ["0", "2"]
    for results in found["seeds"].values():
        assert list(results) == ["DDPG", "random", "greedy"]
        for result in results.values():
            assert len(result["bits"]) == len(found["weights"]) == 8
            assert result["ratio"] <= 0.2
            assert result["evaluations"] == len(result["rewards"]) <= 12
            assert (
                max(r for r in result["rewards"] if r is not None) == (result["reward"])
            )
    # greedy search measures policies that are too large, and draws nothing
    assert None in found["seeds"]["0"]["greedy"]["rewards"]
    assert found["seeds"]["0"]["greedy"] == found["seeds"]["2"]["greedy"]
    assert len(list((tmp_path / "runs").glob("*.npz"))) == 1 + 2 + 2 + 1
    picture = (tmp_path / "f.png").read_bytes()
    assert program.main(argv) == found
    assert (tmp_path / "f.png").read_bytes() == picture
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 6
    assert lines[1].startswith("seed 0, DDPG: reward ")


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


SMALL = ["--epochs", "1", "--images", "80", "--width", "0.1"]


def test_quantizer_gallery(tmp_path, capsys):
    program = example("quantizer_gallery")
    argv = ["qil", "xnor", "--output", str(tmp_path / "first"), "--json"]
    found = program.main(argv + SMALL)
    assert json.loads(capsys.readouterr().out) == found
    assert {name: page["bits"] for name, page in found.items()} == {"qil": 4, "xnor": 1}
    assert found["qil"]["weights"]["levels"] == 15
    pictures = [Path(page["file"]).read_bytes() for page in found.values()]
    assert all(picture[:4] == b"\x89PNG" for picture in pictures)
    trained = tmp_path / "first" / "float.npz"
    content = trained.read_bytes()
    assert program.main(argv + SMALL) == found
    assert trained.read_bytes() == content
    argv = ["qil", "--output", str(tmp_path / "again"), "--weights", str(trained)]
    again = program.main(argv)
    assert again["qil"]["weights"] == found["qil"]["weights"]
    said = capsys.readouterr()
    assert said.out.splitlines()[-1] == again["qil"]["file"]
    assert not said.err
    assert not (tmp_path / "again" / "float.npz").exists()
    program.METHODS = {name: METHODS[name] for name in ("qil", "xnor", "twn")}
    assert list(program.main([*argv[1:], "--bits", "3"])) == ["qil"]
    assert capsys.readouterr().err == "not defined for 3 bits: twn, xnor\n"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["nothing"], "method must be one of"),
        (["qil", "nothing", "--bits", "4"], "method must be one of"),
        (["xnor", "--bits", "3"], "xnor is not for 3 bits: weight_bits of xnor must"),
        (["qil", "--bits", "1"], r"qil is not for 1 bits: bits must be an int in \[2,"),
        (["--bits", "99"], "no method is defined for 99 bits"),
        (["qil", "--weights", "absent.npz"], "absent.npz"),
    ],
)
def test_the_gallery_refuses_in_one_line(tmp_path, capsys, argv, message):
    with pytest.raises(SystemExit) as left:
        example("quantizer_gallery").main([*argv, "--output", str(tmp_path)])
    assert left.value.code == 2
    assert re.search(message, capsys.readouterr().err.splitlines()[-1])
    assert not list(tmp_path.iterdir())


def test_without_names_every_method_that_has_the_bits_is_drawn():
    program = example("quantizer_gallery")
    assert set(program.chosen_bits([], None)) == set(METHODS)
    with_three = program.chosen_bits([], 3)
    assert {"qil", "lsq", "abc"} < set(with_three)
    assert not {"xnor", "tsq", "twn"} & set(with_three)
    assert program.chosen_bits(["ttq"], None) == {"ttq": 2}


@pytest.fixture
def layer(rng):
    program = example("quantizer_gallery")
    inputs = np.maximum(rng.normal(size=(6, 3, 5, 5)), 0)
    return program.Layer("conv", rng.normal(size=(4, 3, 3, 3)) / 3, inputs)


@pytest.mark.parametrize("of", ["weights", "inputs"])
@pytest.mark.parametrize("name", METHODS)
def test_a_page_shows_what_the_quantizer_does(name, of, layer):
    program = example("quantizer_gallery")
    v = getattr(layer, of)
    bits = program.default_bits(name)
    quantizer = program.quantizers(name, bits, v.shape)[of == "inputs"]
    row = program.measure(of, quantizer, v)
    run = Run().recording()
    y, _ = quantizer.forward(v, run)
    drawn = np.isin(v, row.values)
    np.testing.assert_array_equal(np.sort(v[drawn]), np.sort(row.values))
    inside = drawn & ~np.isin(v, row.boundaries)
    steps = row.levels[np.searchsorted(row.boundaries, v[inside])]
    np.testing.assert_array_equal(steps, y[inside])
    for level in np.unique(row.levels):
        share = row.shares[row.levels == level].sum()
        np.testing.assert_allclose(share, np.mean(y[drawn] == level))
    h = 1e-6
    for point, slope in list(zip(row.points, row.slopes, strict=True))[::5]:
        i = int(np.flatnonzero(v == point)[0])
        ends = []
        for step in (h, -h):
            moved = v.copy()
            moved.flat[i] += step
            ends.append(quantizer.forward(moved, run.replaying(run.tape))[0].flat[i])
        np.testing.assert_allclose((ends[0] - ends[1]) / (2 * h), slope, atol=1e-6)


def test_the_page_of_qil_at_3_bits_is_the_one_on_paper():
    """c = d = max |w| / 2 = 0.6: T = |w| / 1.2, boundaries at 1.2 (k - 1/2) / 3."""
    program = example("quantizer_gallery")
    w = np.array([[-1.2, -0.5, 0.1, 0.3, 0.9]])
    row = program.measure("Weights", program.quantizers("qil", 3, w.shape)[0], w)
    np.testing.assert_allclose(row.boundaries, [-1, -0.6, -0.2, 0.2, 0.6, 1])
    np.testing.assert_allclose(row.levels * 3, [-3, -2, -1, 0, 1, 2, 3])
    np.testing.assert_allclose(row.shares, [0.2, 0, 0.2, 0.2, 0.2, 0.2, 0])
    np.testing.assert_allclose(row.points, np.sort(w[0]))
    np.testing.assert_allclose(row.slopes, np.array([0, 1, 1, 1, 1]) / 1.2)
    assert not row.coupled
    # dc = -mean sgn(w) dw = -(3 - 1) / 1.2 / 5, dd = -mean sgn(w) dw (|w| - c) / d
    dd = -sum(np.array([-1, 1, 1, 1]) * (np.array([5, 1, 3, 9]) - 6) / 6) / 1.2 / 5
    t = np.array([5, 1, 3, 9]) / 12
    dgamma = sum(np.array([-1, 1, 1, 1]) * t * np.log(t)) / 5
    want = f"gradients of mean y: c {-1 / 3:.2g}, d {dd:.2g}, gamma {dgamma:.2g}"
    assert row.learned == want
    y = np.array([-3, -1, 0, 1, 2]) / 3
    np.testing.assert_allclose(row.error, np.mean((y - w[0]) ** 2) / np.var(w))
    k = np.sum(y * w) / np.sum(y * y)
    np.testing.assert_allclose(row.scaled_error, np.mean((k * y - w) ** 2) / np.var(w))


def test_a_decay_is_no_gradient_of_y_and_bases_are_not_bits():
    program = example("quantizer_gallery")
    x = np.array([[0.0, 0.25, 0.5, 0.25, 0.75, 0.5, 0.75, 1.0]])
    clip = program.quantizers("pact", 4, x.shape)[1]
    row = program.measure("Activations", clip, x)
    assert clip.decay > 0
    assert row.learned == "gradients of mean y: alpha 0.12"  # 1/8: one clipped
    layer = program.Layer("conv", np.arange(72.0).reshape(2, 4, 3, 3), x)
    assert program.page("abc", 3, layer, "").title.endswith(" of 3 bases")
    assert program.page("haq", 3, layer, "").title.endswith(" of 3 bits")


def test_a_group_of_middling_spread_is_drawn():
    program = example("quantizer_gallery")
    w = np.outer([5.0, 1.0, 3.0], [-2.0, -1.0, 0.5, 1.0])
    row = program.measure("Weights", program.quantizers("twn", 2, w.shape)[0], w)
    assert row.note == "12 values"
    row = program.measure("Weights", program.quantizers("xnor", 1, w.shape)[0], w)
    assert row.note == "filter 3 of 3: 4 values"
    np.testing.assert_array_equal(row.values, [-6, -3, 1.5, 3])
    assert row.coupled


def test_equal_values_are_refused():
    program = example("quantizer_gallery")
    w = np.ones((2, 3))
    with pytest.raises(ValueError, match=r"weights must differ, all are 1\.0"):
        program.measure("Weights", program.quantizers("twn", 2, w.shape)[0], w)


def test_quantizers_are_cited_in_short():
    program = example("quantizer_gallery")
    said = {
        program.described(quantizer)
        for name in METHODS
        for quantizer in program.quantizers(
            name, program.default_bits(name), program.ANY_SHAPE
        )
    }
    short = r".+ \(\w+ et al\., ((20\d\d, )?arXiv:\d{4}\.\d{5}|2017|2018)\)"
    assert all(re.fullmatch(short, text) for text in said)
    assert any(text.endswith("(Jung et al., 2019, arXiv:1808.05779)") for text in said)
    assert any(text.endswith("(Zhou et al., arXiv:1606.06160)") for text in said)
    assert any(text.endswith("(Wang et al., 2018)") for text in said)


WRONG = [
    ("haq_allocation", ["--ratio", "0.06"], r"ratio must be in .*0\.0625, 1\]"),
    ("haq_allocation", ["--ratio", "2"], "got 2.0"),
    ("haq_allocation", ["--bits", "0", "8"], "1 <= b_min <= b_max <= 32 is needed"),
    ("haq_allocation", ["--episodes", "0"], "episodes must be at least 1, got 0"),
    ("haq_allocation", ["--seeds", "-3"], r"seeds must be .* got \[-3\]"),
]


@pytest.mark.parametrize(("name", "wrong", "message"), WRONG)
def test_wrong_arguments_are_one_line_and_train_nothing(
    name, wrong, message, tmp_path, capsys
):
    where = ["--runs", str(tmp_path / "runs"), "--figure", str(tmp_path / "f.png")]
    with pytest.raises(SystemExit) as left:
        example(name).main([*where, *wrong])
    assert left.value.code == 2
    assert re.search(message, capsys.readouterr().err.splitlines()[-1])
    assert not list(tmp_path.glob("runs/*"))


@pytest.mark.parametrize("shortcut", "AB")
def test_export_onnx_agrees(shortcut, tmp_path, capsys):
    pytest.importorskip("onnx", reason="needs the optional package onnx")
    pytest.importorskip("onnxruntime", reason="needs the package onnxruntime")
    program = example("export_onnx")
    argv = ["--quick", "--width", "0.2", "--shortcut", shortcut]
    argv += ["--runs", str(tmp_path), "--json"]
    found = program.main(argv)
    assert json.loads(capsys.readouterr().out) == found
    assert json.loads((tmp_path / "agreement.json").read_text()) == found
    for profile, form in (
        ("refqnn", "exact"),
        ("onnxruntime", "exact"),
        ("onnxruntime", "qoperator"),
    ):
        result = found[profile][form]
        assert result["inexact"] == []
        assert len(result["different"]) == 10
        assert set(result["different"].values()) == {0}
        assert Path(result["file"]).stat().st_size > 1000
    assert found["refqnn"]["qoperator"]["inexact"]
    program.main(argv[:-1])
    assert "codes that onnxruntime gives differently" in capsys.readouterr().out


def test_conformance_c_kernel():
    found = example("conformance_c_kernel").main(["--json"])
    if found is None:
        pytest.skip("there is no C compiler on the path")
    assert not found["conforms"]
    assert found["certain"]["requantize"] == "trunc"


def test_conformance_torch_fake_quant():
    pytest.importorskip("torch")
    found = example("conformance_torch_fake_quant").main(["--json"])
    assert found["certain"]["straight_through"] == "input_inclusive"
    assert found["certain"]["scale_gradient"] == "1/sqrt(N*q_p)"


def test_conformance_simulator_files():
    found = example("conformance_simulator_files").main(["--json"])
    assert found["certain"]["requantize"] == "two_stage_half_up"
