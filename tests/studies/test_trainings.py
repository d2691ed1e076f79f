"""Studies of QIL, guided training, HAQ, Fashion-MNIST: resumed, shown, refused."""

import re
from dataclasses import replace

import numpy as np
import pytest
from tables.study_runs import run_quick

from refqnn import data
from refqnn.networks import alexnet
from refqnn.papers import qil_pruning_study, qil_study
from refqnn.studies.study import study_named

pytestmark = pytest.mark.compiled


def ran(name, folder, **given):
    """Run a study quickly; return its rows and its lines."""
    return ran_and_drawn(name, folder, **given)[:2]


def ran_and_drawn(name, folder, **given):
    """Run a study quickly; return its rows, its lines and the axes of its figures."""
    _, rows, text, figures = run_quick(name, folder, **given)
    for end, figure in figures.items():
        figure.savefig(folder / f"{name}{end}.png")
    return rows, text.split("\n"), [axes for f in figures.values() for axes in f.axes]


def records(folder):
    """Return the content of every file of results."""
    return {path: path.read_text() for path in folder.rglob("*.jsonl")}


def test_the_table_of_qil_resumes(tmp_path):
    given = {"methods": ("tsq", "zhuang"), "bits": (2,), "images": 64}
    rows, lines = ran("qil_table", tmp_path, **given)
    assert {method: list(cells) for method, cells in rows.items()} == {
        "tsq": ["2/4", "2/2"],
        "zhuang": ["2/2"],
    }
    before = records(tmp_path)
    assert ran("qil_table", tmp_path, **given) == (rows, lines)
    assert records(tmp_path) == before
    assert len([*tmp_path.glob("*/tsq_*_step1.npz")]) == 2
    direct = ran("qil_table", tmp_path / "direct", procedure="direct", **given)[0]
    assert not [*(tmp_path / "direct").glob("*/tsq_*_step1.npz")]
    assert direct["tsq"] != rows["tsq"]
    assert lines[2].split()[:3] == ["tsq", "2/2", "3"]
    assert lines[2].split()[-3:] == ["-", "-", "3.8/3.0"]
    assert lines[1].split()[-3:] == ["-", "-", "-"]


def test_the_row_of_qil_goes_down_from_five_bits(tmp_path):
    given = {"methods": ("qil",), "bits": (2,), "images": 64}
    rows, _ = ran("qil_table", tmp_path, epochs=2, **given)
    (folder,) = tmp_path.glob("*/qil_2_2_*/")
    assert sorted(path.stem for path in folder.glob("*.npz")) == ["2bit", "3bit"]
    assert ran("qil_table", tmp_path, epochs=2, **given)[0] == rows
    ran("qil_table", tmp_path / "direct", epochs=2, procedure="direct", **given)
    assert not [*(tmp_path / "direct").rglob("2bit.npz")]


def test_fully_connected_layers_start_as_convolutions_do():
    network = alexnet(width=1 / 8, rng=np.random.default_rng(0))
    uniform = network.layers["layer6"].w.value.copy()
    qil_pruning_study.with_he_normal(network, np.random.default_rng(0))
    w = network.layers["layer6"].w.value
    assert w.std() == pytest.approx(np.sqrt(2 / w.shape[1]), rel=0.02)
    assert np.abs(w).max() > 4 * w.std()  # tails: a uniform draw ends at 1.73
    assert np.abs(uniform).max() < 1.74 * uniform.std()


def test_runs_of_other_lengths_start_afresh(tmp_path):
    """A longer training does not go on from what a shorter one has left."""
    given = {"methods": ("syq",), "bits": (2,), "images": 64}
    alone = ran("qil_table", tmp_path / "a", epochs=2, **given)
    ran("qil_table", tmp_path / "b", epochs=1, **given)
    assert ran("qil_table", tmp_path / "b", epochs=2, **given) == alone


def test_clips_learn_at_the_rate_of_the_weights(tmp_path):
    settings = qil_study.Table(methods=("pact", "qil"))
    _, cells = qil_study.table_stages(settings, tmp_path)
    rates = {run["method"]: run["rate"] for run in cells.runs}
    assert rates == {None: 0.01, "pact": 1.0, "qil": 0.01}
    moved = []
    for rate in (1.0, 0.5):
        network = qil_study.small(0, method="haq", weight_bits=4, activation_bits=4)
        clip = network.layers["stem_quant"]
        clip.decay = 1e-3
        given = {"seed": 0, "images": 64, "epochs": 1, "rate": rate}
        path = tmp_path / f"{rate}.npz"
        qil_study.accuracy_after(network, qil_study.FINE, path, **given)
        moved.append(float(clip.alpha.value) - 6)
    assert moved[0] < 0
    np.testing.assert_allclose(moved[0], 2 * moved[1])


def test_a_cell_that_fails_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(qil_study, "FLOAT", replace(qil_study.FINE, batch=100))
    with pytest.raises(RuntimeError, match=r"ValueError: batch must be in \[1, N = 64"):
        ran("qil_table", tmp_path, images=64)


def test_qil_pruning_counts_and_draws(tmp_path):
    rows, lines, axes = ran_and_drawn("qil_pruning", tmp_path, images=64, bits=5)
    ticks = {label.get_text() for one in axes for label in one.get_xticklabels()}
    assert {"3", "1.1.2"} <= ticks
    assert set(rows) == {"AlexNet, small", "ResNet-8"}
    for row in rows.values():
        for layer in row["layers"][0]:
            assert 0 <= layer["weight_ratio"] <= 1
            assert 0 <= layer["activation_ratio"] <= 1
    (answers,) = rows["AlexNet, small"]["answers"]
    layers = rows["AlexNet, small"]["layers"][0]
    linear = [x["weight_ratio"] for x in layers if x["kind"] == "linear"]
    assert answers["linear_weights"] == np.mean(linear)
    assert "linear_weights" not in rows["ResNet-8"]["answers"][0]
    assert lines[0] == "AlexNet, small: shares of zeros"
    assert lines[3].startswith("fully connected less convolutions: ")
    assert lines[-1].startswith("forgetting of the start: 0.00")  # one step
    assert (tmp_path / "qil_pruning.png").stat().st_size > 10_000


def test_8_bit_training_has_three_arms(tmp_path):
    rows, lines = ran("scalable_training", tmp_path, images=64)
    assert list(rows) == ["float", "batch norm", "scalable"]
    assert all(0 <= accuracy <= 100 for (accuracy,) in rows.values())
    lost = rows["float"][0] - rows["scalable"][0]
    assert lines[-1].startswith(f"float less scalable: {lost:.2f} points")
    before = records(tmp_path)
    assert ran("scalable_training", tmp_path, images=64)[0] == rows
    assert records(tmp_path) == before


def test_a_decay_is_of_the_fine_tuning_alone(tmp_path):
    settings = qil_pruning_study.Pruning(networks=("alexnet",), decay=0.02)
    (stage,) = qil_pruning_study.pruning_stages(settings, tmp_path)
    assert {run["name"] for run in stage.runs} == {"AlexNet, small"}
    assert {run["decay"] for run in stage.runs} == {0.02}
    assert qil_pruning_study.fine_tuning(0.02).weight_decay == 0.02
    (usual,) = qil_pruning_study.pruning_stages(qil_pruning_study.Pruning(), tmp_path)
    assert "decay" not in usual.runs[0]


def test_a_seed_with_an_interval_at_its_floor_decides_nothing():
    layers = [[{"name": "layer7", "held": True}], [{"name": "layer7", "held": False}]]
    answers = [{"linear_weights": 0.4, "conv_weights": c} for c in (0.3, 0.4)]
    rows = {"AlexNet, small": {"layers": layers, "answers": answers}}
    settings = qil_pruning_study.Pruning(networks=("alexnet",), seeds=(3, 5))
    held, gain, forgetting = [*qil_pruning_study.pruning_lines(settings, rows)][-3:]
    assert held == "seed 3 decides nothing, intervals at their floor: ['layer7']"
    assert gain.startswith("fully connected less convolutions: 5.0 points, ")
    assert forgetting.startswith("forgetting of the start: 0.02 ")


def test_the_lead_of_qil_is_paired_over_the_seeds():
    rows = {"qil": {"2/2": [1.0, 2.0]}, "lq": {"2/2": [2.0, 5.0], "3/3": [0.0, 0.0]}}
    assert [*qil_study.over_others(rows)] == ["2/2: QIL over lq 2.0, -10.7 to 14.7"]


def test_guided_training_resumes(tmp_path):
    rows, lines = ran("guided_training", tmp_path, seeds=(0, 3))
    assert list(rows) == ["float", "plain", "two-stage", "progressive", "guided"]
    assert all(len(scores) == 2 for scores in rows.values())
    for seed in (0, 3):
        stages = [path.name for path in tmp_path.glob(f"*_{seed}_*/*.npz")]
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
    assert [line.split()[0] for line in lines[1:]] == list(rows)
    (tmp_path / "ways.jsonl").unlink()  # every stage goes on at its end
    assert ran("guided_training", tmp_path, seeds=(0, 3))[0] == rows


def test_haq_allocation_resumes(tmp_path):
    given = {"seeds": (0, 2), "ratio": 0.1, "highest": 4}
    rows, lines, axes = ran_and_drawn("haq_allocation", tmp_path, **given)
    assert len(axes[-1].lines) == 2 * (2 + 2) + 2  # dots, best so far; greedy once
    assert list(rows["seeds"]) == ["0", "2"]
    for searches in rows["seeds"].values():
        assert list(searches) == ["DDPG", "random", "greedy"]
        for result in searches.values():
            assert len(result["bits"]) == len(rows["weights"]) == 8
            assert result["ratio"] <= 0.1
            assert result["evaluations"] == len(result["rewards"]) <= 12
            rewards = [r for r in result["rewards"] if r is not None]
            assert max(rewards) == result["reward"]
    # greedy search measures policies that are too large, and draws nothing
    assert None in rows["seeds"]["0"]["greedy"]["rewards"]
    assert rows["seeds"]["0"]["greedy"] == rows["seeds"]["2"]["greedy"]
    assert len(list(tmp_path.glob("*.npz"))) == 1 + 2 + 2 + 1
    assert len(lines) == 2 + 6
    (tmp_path / "searches.jsonl").unlink()  # every search goes on at its end
    assert ran("haq_allocation", tmp_path, **given) == (rows, lines)


@pytest.fixture
def idx_folder(tmp_path):
    """A folder of small Fashion-MNIST files: 256 images and 20."""
    chosen = data.embedded().first(256, 20)
    for part, images, labels in (
        ("train", chosen.train_images, chosen.train_labels),
        ("t10k", chosen.test_images, chosen.test_labels),
    ):
        for kind, array in (("images-idx3", images[:, 0]), ("labels-idx1", labels)):
            sizes = np.array(array.shape, ">u4").tobytes()
            header = bytes([0, 0, 8, array.ndim]) + sizes
            content = header + array.astype(np.uint8).tobytes()
            (tmp_path / f"{part}-{kind}-ubyte").write_bytes(content)
    return tmp_path


def test_fashion_mnist_from_a_folder_resumes(idx_folder, tmp_path):
    runs = tmp_path / "runs"
    given = {"images": str(idx_folder), "first": 128}
    with pytest.warns(UserWarning, match="is not that of Fashion-MNIST") as warned:
        rows, lines = ran("fashion_mnist", runs, **given)
    assert len(warned) == 4
    assert list(rows) == ["float", "4-bit"]
    assert all(len(scores) == 2 for scores in rows.values())
    assert re.fullmatch(r"4 bits lose -?\d+\.\d\d points", lines[-1])
    assert len(list(runs.glob("*.npz"))) == 4
    (runs / "fashion_mnist.jsonl").unlink()
    with pytest.warns(UserWarning, match="not that"):
        assert ran("fashion_mnist", runs, **given)[0] == rows


WRONG = [
    ("qil_table", {"methods": "nothing"}, "methods must be of .*, got nothing"),
    ("qil_table", {"images": 10}, "images must be at least 64, got 10"),
    ("qil_table", {"epochs": 0}, "epochs must be at least 1, got 0"),
    ("qil_table", {"procedure": "own"}, "procedure must be of .*, got 'own'"),
    ("qil_pruning", {"start": "uniform"}, "start must be of .*, got 'uniform'"),
    ("qil_pruning", {"bits": 7}, r"bits must be of \(5, 4, 3, 2\), got 7"),
    ("qil_pruning", {"images": 10}, "images must be at least 64, got 10"),
    ("guided_training", {"bits": 17}, r"bits must be an int in \[1, 16\], got 17"),
    ("guided_training", {"lam": "-1"}, "lam must be finite and at least 0, got -1"),
    ("guided_training", {"depth": 9}, "depth must be 6n \\+ 2"),
    ("guided_training", {"seeds": "-1"}, "seeds must be at least 0, got -1"),
    ("haq_allocation", {"ratio": "0.06"}, r"ratio must be in .*0\.0625, 1\]"),
    ("haq_allocation", {"ratio": 2.0}, r"got 2\.0"),
    ("haq_allocation", {"depth": 9}, "depth must be 6n \\+ 2"),
    ("haq_allocation", {"lowest": 0}, "1 <= b_min <= b_max <= 32 is needed"),
    ("haq_allocation", {"episodes": 0}, "episodes must be at least 1, got 0"),
    ("haq_allocation", {"images": 3500}, "must be 4000 together"),
    ("fashion_mnist", {"images": "nowhere"}, "or a folder, got 'nowhere'"),
    ("fashion_mnist", {"bits": 1}, r"bits must be an int in \[2, 16\], got 1"),
    ("fashion_mnist", {"first": 127}, "first must be at least 128, got 127"),
]


@pytest.mark.parametrize(("name", "given", "message"), WRONG)
def test_wrong_settings_are_refused(name, given, message):
    with pytest.raises(ValueError, match=message):
        study_named(name).settings_with(**given)
