"""Studies: settings, stages, what the command shows, writes and refuses."""

import json
from dataclasses import replace

import pytest
from tables.study_runs import POWERS, Powers

from refqnn import cli
from refqnn.studies.study import MODULES, study_named, value_of

NAME = "tables.study_runs:powers"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def answer(capsys, *argv):
    assert cli.main(["study", *argv, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_every_listed_study_is_declared_with_settings_that_can_be_given(capsys):
    for name in MODULES:
        study = study_named(name)
        assert study.name == name
        own = study.settings(**study.given)
        assert study.settings_with() == own
        pairs = [
            p.partition("=") for p in study.settings_line().split(", ") if "=" in p
        ]
        texts = {key: text for key, _, text in pairs}
        assert study.settings_with(**texts) == own
        assert study.settings_with(quick=True) != own or not study.quick
    listed = answer(capsys)["studies"]
    assert [row["study"] for row in listed] == list(MODULES)
    assert cli.main(["study"]) == 0
    shown = capsys.readouterr().out
    for row in listed:
        assert all(text in shown for text in (row["shows"], *row["takes"]))


def test_what_is_given_goes_before_quick_and_quick_before_the_defaults():
    assert POWERS.settings_with() == Powers()
    assert POWERS.settings_with(quick=True) == Powers(seeds=(2,), power=1)
    assert POWERS.settings_with(quick=True, power=3) == Powers(seeds=(2,), power=3)


def test_an_experiment_has_settings_of_its_own():
    chosen = replace(POWERS, given={"power": 4, "unit": "s"})
    assert chosen.settings_with() == Powers(power=4, unit="s")
    assert chosen.settings_with(quick=True) == Powers(seeds=(2,), power=1, unit="s")
    assert chosen.settings_with(unit="m").unit == "m"
    assert (
        "power=4, factor=1.0, limit=none, named=yes, unit=s" in chosen.settings_line()
    )


def test_texts_are_read_by_the_type_of_their_setting():
    texts = {"seeds": "4,5", "power": "3", "factor": "2", "limit": "7", "named": "no"}
    found = POWERS.settings_with(**texts, unit="km")
    assert found == Powers((4, 5), 3, 2.0, 7, named=False, unit="km")
    assert isinstance(found.factor, float)
    assert POWERS.settings_with(limit="none").limit is None
    assert value_of("a", tuple[float, ...], [1, 2]) == (1, 2)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["nothing"], "study must be one of "),
        (["tables.study_runs:nothing"], "declares powers, got 'nothing'"),
        (["--set", "speed=1"], "powers has no setting 'speed': seeds=2,3, power=2"),
        (["--set", "power"], "--set takes KEY=VALUE, got 'power'"),
        (["--set", "power=x"], "power must be a whole number, got 'x'"),
        (["--set", "power=none"], "power must be a whole number, got 'none'"),
        (["--set", "factor=x"], "factor must be a number, got 'x'"),
        (["--set", "named=1"], "named must be yes or no, got '1'"),
        (["--set", "power=0"], "power must be at least 1, got 0"),
        (["--set", "seeds=1,-1"], "seeds must be at least 0, got -1"),
        (["--seeds", "1", "99"], "1 of 2 runs failed"),
        (["--cluster", "a", "--workers", "1"], "--workers and --cluster exclude each"),
        (["--runs", "FILE"], "FILE"),
        (["--figure", "FILE/x.png"], "FILE"),
    ],
)
def test_what_is_refused_is_one_line(argv, message, tmp_path, capsys):
    (tmp_path / "FILE").touch()
    named = (
        [] if argv[0][0] != "-" else [NAME, "--workers", "1"][: 1 + 2 * (len(argv) < 4)]
    )
    assert cli.main(["study", *named, *argv]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert captured.err.count("\n") == 1


def test_a_study_runs_once_shows_its_table_and_writes_its_figures(tmp_path, capsys):
    argv = [NAME, "--quick", "--workers", "1", "--set", "factor=10"]
    found = answer(capsys, *argv)
    assert found["rows"] == [{"start": 3, "power": 20, "folder": "powers"}]
    assert found["settings"]["seeds"] == [2]
    folder = tmp_path / "runs" / "powers"
    assert json.loads((folder / "powers.json").read_text()) == found
    figures = [folder / f"powers{end}.png" for end in ("", "_again")]
    assert [
        path.resolve() for path in map(tmp_path.joinpath, found["figures"])
    ] == figures
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in figures)
    before = {p: p.read_text() for p in folder.glob("*.jsonl")}
    assert [p.name for p in sorted(before)] == ["powers.jsonl", "starts.jsonl"]
    assert cli.main(["study", *argv, "--figure", str(tmp_path / "new" / "f.png")]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "3 20 m"
    assert (tmp_path / "new" / "f_again.png").exists()
    assert {p: p.read_text() for p in before} == before


def test_settings_are_listed(capsys):
    told = "seeds=2,3, power=2, factor=1.0, limit=none, named=yes, unit=m"
    assert answer(capsys, NAME, "--set") == {"settings": told}
    assert cli.main(["study", NAME, "--set"]) == 0
    assert capsys.readouterr().out == told + "\n"


def test_a_cluster_runs_the_study(capsys):
    distributed = pytest.importorskip("distributed", reason="dask is not installed")
    cluster = distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
    )
    with cluster:
        argv = [NAME, "--cluster", cluster.scheduler_address]
        assert [row["power"] for row in answer(capsys, *argv)["rows"]] == [4, 9]


def test_without_dask_a_cluster_is_refused(monkeypatch, capsys):
    monkeypatch.setattr("refqnn.cli.study.find_spec", lambda _: None)
    assert cli.main(["study", NAME, "--cluster", "tcp://a:1"]) == 2
    assert "needs pip install refqnn[cluster]" in capsys.readouterr().err
