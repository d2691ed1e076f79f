"""The demo, small: what it writes, says, and finds when a claim does not hold."""

import json

import numpy as np
import pytest

import refqnn
from refqnn import cli, data, nn
from refqnn.cli import demonstration as demo

TINY = demo.QUICK._replace(
    width=0.1, epochs=1, low_epochs=1, batch=20, warmup=0.5, train=40, test=12, slice=3
)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "not" / "there yet"
    lines = []
    return demo.run(folder, settings=TINY, say=lines.append), folder, lines


def test_every_claim_holds(done):
    report, _, _ = done
    assert report.holds
    assert [claim.holds for claim in report.claims] == [True, True, True, None]


def test_all_files_are_written_and_readable(done):
    report, folder, _ = done
    assert (folder / "demo.png").read_bytes()[:4] == b"\x89PNG"
    integer = refqnn.deploy.IntegerNetwork.load(folder / "integers.npz")
    assert (folder / "listing.txt").read_text() == f"{integer}\n"
    for name, bits in (("float", None), ("4-bit", 4)):
        config = nn.checkpoint.load(folder / f"{name}.npz").config
        assert (config["weight_bits"], config["activation_bits"]) == (bits, bits)
    assert json.loads((folder / "report.json").read_text()) == report.as_dict()
    again = demo.report_in(folder, demo.kept_as(TINY, 0))
    assert again.as_dict() == report.as_dict()
    assert all(str(folder) in file for file in report.files)


def test_the_columns_are_those_of_the_files(done):
    report, folder, _ = done
    images, labels = data.embedded().test_images[:12], data.embedded().test_labels[:12]
    integer = refqnn.deploy.IntegerNetwork.load(folder / "integers.npz")
    columns = report.columns
    assert list(columns) == ["float", "4-bit", "integers"]
    right = np.mean(integer.predict(images) == labels)
    assert columns["integers"]["accuracy"] == right
    assert columns["integers"]["c_size_bits"] == columns["4-bit"]["c_size_bits"]
    assert columns["4-bit"]["c_size_bits"] * 4 < columns["float"]["c_size_bits"]
    assert columns["4-bit"]["macs"] == columns["float"]["macs"] > 0


def test_progress_is_told(done):
    _, _, lines = done
    assert lines == [
        "training the float network on 40 images",
        "training the 4-bit network on 40 images",
        "deploying the quantized network: integers only",
        "comparing every layer on 3 images",
        "running all three networks on 12 test images",
    ]


def test_people_read_the_report(done):
    report, folder, _ = done
    shown = str(report)
    assert "test accuracy" in shown
    assert shown.count("holds") == 3
    assert str(folder / "demo.png") in shown


@pytest.mark.compiled
def test_the_seed_decides(done, tmp_path):
    report, folder, _ = done
    again = demo.run(tmp_path / "a", settings=TINY, say=str)
    assert again.columns == report.columns
    names = ("4-bit.npz", "integers.npz", "demo.png")
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (folder / name).read_bytes()
    demo.run(tmp_path / "b", settings=TINY, seed=1, say=str)
    other = nn.checkpoint.load(tmp_path / "b" / "4-bit.npz").params["layers.stem.w"]
    ours = nn.checkpoint.load(folder / "4-bit.npz").params["layers.stem.w"]
    assert np.any(other != ours)


@pytest.mark.compiled
def test_the_quantized_network_starts_from_the_float_one(tmp_path):
    """A rate of 0 cannot be asked for; one this small moves no weight by 1e-6."""
    demo.run(tmp_path, settings=TINY._replace(low_lr=1e-9), say=str)
    start, end = (
        nn.checkpoint.load(tmp_path / f"{name}.npz").params["layers.stem.w"]
        for name in ("float", "4-bit")
    )
    np.testing.assert_allclose(end, start, atol=1e-6)


@pytest.mark.compiled
def test_an_interrupted_demo_goes_on_to_the_same_bits(done, tmp_path, monkeypatch):
    report, folder, _ = done

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(demo, "deploy", interrupted)
        with pytest.raises(KeyboardInterrupt):
            demo.run(tmp_path, settings=TINY, say=str)
    kept = sorted(path.suffix for path in tmp_path.glob(".*"))
    assert kept == [".jsonl", ".jsonl", ".npz", ".npz"]
    with monkeypatch.context() as patch:  # what is trained is not trained again
        patch.setattr(nn.Training, "step", interrupted)
        again = demo.run(tmp_path, settings=TINY, say=str)
    assert again.columns == report.columns
    for name in ("4-bit.npz", "integers.npz", "demo.png"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        p.name for p in folder.iterdir()
    )


def test_other_settings_keep_other_files():
    names = {
        demo.kept_as(settings, seed)
        for settings in (TINY, TINY._replace(epochs=2))
        for seed in (0, 1)
    }
    assert len(names) == 4


GOOD = refqnn.deploy.LayerAgreement("conv", 10, 1, 1, 0.1, 0.1, 0.2, within=True)
EQUAL = refqnn.deploy.Comparison("conv", 10, 0)


@pytest.mark.parametrize(
    ("checker", "found", "verdicts"),
    [
        ("compare_backends", [EQUAL, EQUAL], [True, True, True]),
        ("compare_backends", [EQUAL, EQUAL._replace(different=1)], [False, True, True]),
        ("compare_float64", [EQUAL._replace(different=1)], [True, True, False]),
        ("compare_layers", [GOOD._replace(within=False), GOOD], [True, False, True]),
        ("compare_layers", [GOOD._replace(largest_difference=2)], [True, False, True]),
    ],
)
def test_one_difference_is_enough(monkeypatch, checker, found, verdicts):
    for name, harmless in (
        ("compare_backends", EQUAL),
        ("compare_float64", EQUAL),
        ("compare_layers", GOOD),
    ):
        answer = found if name == checker else [harmless]
        monkeypatch.setattr(demo, name, lambda *_, answer=answer: answer)
    claims = demo.check(None, None, None)
    assert [claim.holds for claim in claims] == verdicts
    assert demo.Report({}, claims, ()).holds == all(verdicts)


def test_decisions_are_counted():
    ours, theirs = (
        np.array([[1, 0], [1, 0], [0, 1]]),
        np.array([[5, 3], [2, 3], [0, 9]]),
    )
    claim = demo.end_to_end(ours, theirs)
    assert (claim.text, claim.holds) == ("the same class for 2 of 3 test images", None)


def run_command(monkeypatch, tmp_path, *argv):
    monkeypatch.setattr(demo, "QUICK", TINY)
    return cli.main(["demo", "--quick", "--output", str(tmp_path), *argv])


@pytest.mark.compiled
def test_the_command_answers_in_json(monkeypatch, tmp_path, capsys):
    assert run_command(monkeypatch, tmp_path, "--json") == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["holds"] is True
    assert "training the float network" in captured.err


@pytest.mark.compiled
def test_a_claim_that_fails_is_told(monkeypatch, tmp_path, capsys):
    def lying(network, images):
        found = refqnn.deploy.compare_float64(network, images)
        return [found[0]._replace(different=1), *found[1:]]

    monkeypatch.setattr(demo, "compare_float64", lying)
    assert run_command(monkeypatch, tmp_path) == 1
    assert "FAILS  (b)" in capsys.readouterr().out


def test_a_folder_that_cannot_be_made_is_refused(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert cli.main(["demo", "--output", str(tmp_path / "file" / "x")]) == 2
    assert "file" in capsys.readouterr().err


def test_every_layer_with_weights_is_drawn(done):
    _, folder, _ = done
    content = nn.checkpoint.load(folder / "4-bit.npz")
    network = refqnn.networks.build(content.config)
    nn.checkpoint.restore(network, content)
    layers = demo.weight_codes(network)
    assert [layer.name for layer in layers][:2] == ["stem", "stage1.1.conv1"]
    assert [layer.largest for layer in layers] == [127, *[7] * 6, 127]
