"""A folder of CIFAR is accepted by every study that a paper ran on it."""

import json

import numpy as np
import pytest

from refqnn import data
from refqnn.__main__ import main
from refqnn.studies.study import study_named

pytestmark = pytest.mark.compiled
DFS = {"images": 85, "steps": 1, "depth": 8, "width": 0.13, "seeds": (0,)}
PARETO = {"train": 128, "epochs": 1, "seeds": (0,)}
ONE_EACH = {"skipping": (), "one_step": (), "control": (), "rewards": (2.0,)}
ONE_EACH |= {"targets": (0.2,), "static_bits": (), "ratios": ()}
#: study -> settings of its shortest runs; pareto_sensitivity runs by the command below
RUN = {
    "dfs_tradeoff": DFS | ONE_EACH,
    "dfs_two_steps": DFS | {"gate_seeds": (0,), "skips": 0.0},
    "pareto_curves": PARETO | {"families": ("resnet",), "sizes": 1},
    "quantnas_front": {"steps": 1, "train": 64, "subnets": 1, "seeds": (0,)},
    "guided_training": {"width": 0.1, "images": 80, "test_images": 5, "seeds": (0,)},
}
#: those that are runs of the same functions
LISTED = ("tables", "controller", "decisions", "adaptivity", "above_base", "low_cp")
LISTED = (*(f"dfs_{name}" for name in LISTED), "skipnet")


def cifar_folder(folder, labels, classes):
    """Write random records to train on and 5 to judge by, of 1 or 2 labels."""
    rng = np.random.default_rng(0)
    names = ("data_batch_1.bin", "test_batch.bin"), ("train.bin", "test.bin")
    for name, count in zip(names[labels - 1], (2100, 5), strict=True):
        records = rng.integers(0, 256, (count, labels + 3072)).astype(np.uint8)
        records[:, :labels] = np.arange(count)[:, None] % classes
        (folder / name).write_bytes(records.tobytes())
    return str(folder)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {
        "cifar10": cifar_folder(tmp_path_factory.mktemp("ten"), 1, 10),
        "cifar100": cifar_folder(tmp_path_factory.mktemp("hundred"), 2, 20),
    }


@pytest.mark.parametrize("name", RUN)
def test_a_study_runs_on_a_folder_of_cifar(name, folders, tmp_path):
    study = study_named(name)
    key = "images" if name.startswith(("pareto", "quantnas")) else "data"
    given = RUN[name] | {key: folders["cifar100"]}
    settings = study.settings_with(quick=True, **given)
    outcomes = study.outcomes(settings, tmp_path, workers=1, progress=False)
    rows = study.rows(settings, *outcomes)
    assert "\n".join(study.lines(settings, rows))
    runs = json.dumps([o.run for stage in outcomes for o in stage])
    assert '"of": "cifar100"' in runs  # not taken for runs on other images
    assert folders["cifar100"] not in runs  # a folder may be moved


@pytest.mark.parametrize("name", LISTED)
def test_other_studies_list_runs_on_a_folder_of_cifar(name, folders, tmp_path):
    study = study_named(name)
    settings = study.settings_with(data=folders["cifar10"], depth=8, width=0.5)
    for stage in study.stages(settings, tmp_path):
        assert stage.function.keywords["files"] == folders["cifar10"]
        assert {run["of"] for run in stage.runs} == {"cifar10"}
        assert {(run["depth"], run["width"]) for run in stage.runs} == {(8, 0.5)}


def test_dfs_tables_take_options(tmp_path):
    study = study_named("dfs_tables")
    _, runs = study.stages(study.settings_with(options=(0, 4, 32)), tmp_path)
    assert {tuple(run["options"]) for run in runs.runs} == {(0, 4, 32)}


def test_networks_are_made_for_the_images(folders):
    from refqnn.papers.dfs.systems import start_of
    from refqnn.papers.pareto.study_curves import FAMILIES, networks_of

    usual = {"seed": 0, "images": 64, "steps": 1, "folder": "", "of": "cifar10"}
    at = start_of(None, **usual, files=folders["cifar10"])
    assert at.pictures.train_images.shape == (64, 3, 32, 32)  # not halved
    assert (at.size["in_channels"], at.size["classes"]) == (3, 10)
    first = next(networks_of(FAMILIES["mobilenetv2"], 4, "cifar100"))
    assert (first["in_channels"], first["classes"]) == (3, 100)


def test_the_command_takes_a_folder(folders, tmp_path, capsys):
    own = ["tables=table2", "kinds=1", "epochs=1", "train=128"]
    where = ["--runs", str(tmp_path), "--workers", "1", "--quick"]
    folder = ["--data", folders["cifar10"]]
    study = ["study", "pareto_sensitivity", "--set", *own]
    assert main([*study, *where, *folder]) == 0
    assert "'of': 'cifar10'" in str(
        json.loads(next(tmp_path.glob("*.json")).read_text())
    )
    study[1] = "haq_allocation"  # ran on ImageNet
    assert main([*study[:2], *where, *folder]) == 2
    assert "has no setting 'data'" in capsys.readouterr().err
    with pytest.raises(FileNotFoundError, match="train-images-idx3-ubyte"):
        data.source(folders["cifar10"])  # for a study that no paper ran on it
