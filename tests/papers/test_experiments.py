"""Experiments: what they run, the numbers of their rules, and who is skipped least."""

import re
from types import SimpleNamespace

import numpy as np
import pytest

from refqnn.papers import dfs, experiments
from refqnn.papers.claims import FILE, read_claims
from refqnn.papers.dfs import adaptivity, random_gates, systems
from refqnn.studies.study import MODULES, study_named
from refqnn.studies.sweep import Outcome

NAMES = [name for name, module in MODULES.items() if module == experiments.__name__]


def test_every_experiment_is_listed():
    assert [study.name for study in experiments.STUDIES] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_look_at_an_experiment_keeps_its_lists(name, tmp_path):
    study = study_named(name)
    quick, full = (study.settings_with(quick=q) for q in (True, False))
    if not name.startswith("pareto"):  # widths are searched
        assert next(iter(study.stages(quick, tmp_path))).runs
    assert quick.seeds == (0,)
    assert len(full.seeds) >= 3
    for key, value in study.given.items():
        if isinstance(value, tuple) and key != "seeds":
            assert getattr(quick, key) == value


def test_the_time_of_all_studies_is_that_of_the_page():
    unit = {"h": 1, "min": 1 / 60, "s": 1 / 3600}
    hours = {True: 0.0, False: 0.0}
    for name in MODULES:
        number, of = study_named(name).takes[0].split()
        hours[name in NAMES] += float(number) * unit[of]
    text = FILE.with_name("README.md").read_text("utf-8")
    stated = re.search(r"need (\d+) hours for the experiments and (\d+) for", text)
    assert [*map(int, stated.groups())] == [round(hours[True]), round(hours[False])]


def test_experiments_share_the_runs_of_their_study(tmp_path):
    _, few = study_named("dfs_low_cp").stages(
        study_named("dfs_low_cp").settings_with(seeds=(0,)), tmp_path
    )
    tradeoff = study_named("dfs_tradeoff")
    _, many = tradeoff.stages(tradeoff.settings_with(), tmp_path)
    assert len(few.runs) == 5
    assert all(run in many.runs for run in few.runs)
    assert study_named("dfs_low_cp").folder == tradeoff.folder


def scores(*values, **more):
    return [{"accuracy": value} | more for value in values]


def test_gains_are_over_both_bases():
    rows = {
        "base, before": scores(0.80, 0.82),
        "base, 32 bits": scores(0.81, 0.83),
        "DFS, target 20 %": scores(0.82, 0.85),
    }
    s = SimpleNamespace(targets=(0.2,))
    before, trained = experiments.over_base(s, rows)
    assert before.startswith("DFS, target 20 % less base, before: 2.50 points, ")
    assert trained.startswith("DFS, target 20 % less base, 32 bits: 1.50 points, ")
    assert trained.endswith("n = 2")


def test_low_cp_is_6_per_cent_less_4():
    high, low = "DFS, target 6.25 %", "DFS, target 4 %, steps x 8"
    rows = {low: scores(0.80, 0.82), high: scores(0.81, 0.85)}
    (line,) = experiments.low_cp(None, rows)
    assert line.startswith(f"{high} less {low}: 2.00 points, ")


def test_bases_before_training_stand_in_the_rows():
    starts = [Outcome({"seed": 3}, {"accuracy": 0.7}, None)]
    run = {"system": "static", "bits": 32, "seed": 3}
    rows = experiments.base_rows(None, starts, [Outcome(run, {"accuracy": 0.8}, None)])
    assert rows["base, before"] == [{"accuracy": 0.7, "seed": 3, "cp": 1.0}]
    assert rows["base, 32 bits"] == [{"accuracy": 0.8, "seed": 3}]


@pytest.mark.parametrize(
    ("skips", "least"),
    [((9, 1, 2, 3, 4), 1), ((0, 2, 1, 3, 4), 0), ((0, 1, 2, 4, 3), 0)],
)
def test_first_blocks_are_compared_within_their_group(skips, least):
    """ResNet-14: one gated block in group 1, two in each of the others."""
    shares = np.transpose([skips, skips])
    rows = {"DFS, target 4 %, steps x 8": [{"shares": shares}]}
    (line,) = experiments.first_blocks(SimpleNamespace(depth=14, skipping=[0.04]), rows)
    assert line.endswith(f": {least} of 1")


def test_difficulties_decide_whether_fan_in_is_compared():
    row = {"high": [60.0, 61.0], "quantized_log_odds": [-0.2, -0.3]}
    hard = row | {"high": [90.0, 91.0], "quantized_log_odds": [-0.4, -0.4]}
    first, second, odds = experiments.fan_in_odds(
        None, {"table2": {"4 x 3 x 3": row, "1 x 6 x 6": hard}}
    )
    assert first == "4 x 3 x 3: 4 bits 60.5 %, fit"
    assert second.endswith("decides nothing")
    assert odds.startswith("log-odds, 4 x 3 x 3 less 1 x 6 x 6: 0.15, ")


def test_curves_searches_and_scales_are_paired():
    accuracies = ([70.0, 71], [60.0, 61], [69.0, 69])
    points = [{"c_size_bits": 9, "accuracies": own} for own in accuracies]
    (line,) = experiments.curve_gains(None, {"vgg11": points})
    assert line.startswith("vgg11, 9 bits, 4 bits less 1: 1.50 points")
    kinds = {"DDPG": 80.0, "random": 79.0, "greedy": 81.0}
    seed = {name: {"test_accuracy": value} for name, value in kinds.items()}
    over = [*experiments.agent_gains(None, {"seeds": {"0": seed, "1": seed}})]
    assert over[0].startswith("DDPG less random: 1.00")
    assert over[1].startswith("DDPG less greedy: -1.00")
    rows = [{"scales": k, "mean": m} for k, m in (("shared", 0.5), ("predicted", 0.52))]
    (line,) = experiments.predictor_gains(None, [*rows, *rows, {"integers": {}}])
    assert line.startswith("predicted less shared: 2.00 points")


@pytest.mark.compiled
def test_random_gates_skip_enough_and_both_ways_start_alike(tmp_path, monkeypatch):
    study = study_named("dfs_two_steps")
    given = {"images": 85, "steps": 2, "gate_seeds": (0, 1)}
    settings = study.settings_with(quick=True, **given)
    outcomes = study.outcomes(settings, tmp_path, workers=1, progress=False)
    rows = study.rows(settings, *outcomes)
    assert [(row["steps"], row["gate_seed"]) for row in rows] == [
        *((2, 0), (2, 1)),
        *((1, 0), (1, 1)),
    ]
    for two, one in zip(rows[:2], rows[2:], strict=True):
        assert two["skips_at_start"] == one["skips_at_start"] > 0.25
        assert one["p"] is None
        assert two["p"] >= 0.9
    text = [*study.lines(settings, rows)]
    assert text[-2].startswith("two steps less one: ")
    run = outcomes[1][0].run | {"skips": 1.0}
    monkeypatch.setattr(random_gates, "DRAWS", 2)
    with pytest.raises(ValueError, match=r"none of 2 gates skips more than 1\.0"):
        random_gates.random_gates_run(**run, folder=str(tmp_path))


@pytest.mark.compiled
def test_depth_width_and_data_make_other_backbones(tmp_path):
    usual = {"seed": 0, "images": 64, "steps": 1, "folder": str(tmp_path)}
    starts = [systems.start_of(1, **usual), systems.start_of(1, **usual, depth=8)]
    assert [at.kept.name for at in starts] == [
        "backbone_0_64_1.npz",
        "backbone_0_64_1_8_0.25_embedded.npz",
    ]
    systems.backbone_run(**usual, depth=8)
    run = systems.dfs_run(target=0.2, **usual, depth=8)
    assert len(run["shares"]) == 2  # blocks but the first
    tradeoff = study_named("dfs_tradeoff")
    assert tradeoff.settings_with(depth=8, width=0.5).place() == {
        "depth": 8,
        "width": 0.5,
    }
    for name, value in (("depth", 9), ("width", 0.0), ("data", "nowhere")):
        with pytest.raises(ValueError, match=f"{value}"):
            tradeoff.settings_with(**{name: value})


def test_undecided_claims_say_what_they_need():
    """Seeds and hours of a study, or of an experiment that has a rule."""
    for claim in read_claims():
        if claim.verdict == "undecided":
            assert claim.needs() is not None, claim
            assert claim.needs().study in MODULES, claim


@pytest.mark.parametrize("short", [True, False])
def test_a_search_tunes_on_a_batch_and_judges_by_a_quarter(monkeypatch, short):
    """85 images are the fewest; a look at the program makes one step a policy."""
    asked = {}

    def worth(_network, _layers, tuned, held_out, *, steps, **_):
        asked.update(tuned=len(tuned[0]), judged=len(held_out[0]), steps=steps)

    def search(*_, episodes, settings, **__):
        asked.update(episodes=episodes, warm_up=settings.warm_up)

    monkeypatch.setattr(systems.haq, "proxy", worth)
    monkeypatch.setattr(systems.haq, "search", search)
    few = systems.dataset(85)
    network = dfs.routed_resnet(8, width=0.13, rng=np.random.default_rng(0))
    systems.haq_search(network, few, 0.5, 0, short=short)
    size = systems.SETTINGS.batch
    settings = (1, 3, 2) if short else (10, 40, 15)
    names = ("tuned", "judged", "steps", "episodes", "warm_up")
    assert [asked[k] for k in names] == [size, 85 - size, *settings]


def test_rows_of_adaptivity_compare_own_decisions_with_those_of_others():
    """Of each run: own decisions, those of another image, the most common path."""
    scores, cps = [(0.9, 0.8, 0.6), (0.8, 0.8, 0.7)], [(0.2, 0.3, 0.4), (0.1, 0.3, 0.4)]
    runs = [
        SimpleNamespace(
            run={"target": 0.2}, result={"accuracy": a, "cp": c, "paths": 3}
        )
        for a, c in zip(scores, cps, strict=True)
    ]
    settings = adaptivity.Adaptivity(targets=(0.2,))
    (row,) = adaptivity.adaptivity_rows(settings, [], runs)
    np.testing.assert_allclose(row["cp_percent"], [20, 10])
    assert row["gain_over_another"][0] == pytest.approx(5)
    assert row["gain_over_common"][0] == pytest.approx(20)
    assert row["verdict"] == "undecided"
