"""The studies of DFS and SkipNet: shared runs, rows, tables, what they refuse."""

import itertools
import re

import numpy as np
import pytest
from refusals import refuses

from refqnn.core import Run
from refqnn.papers import dfs
from refqnn.papers.dfs import study, systems
from refqnn.papers.dfs.adaptivity import accuracy_by, decisions_of
from refqnn.papers.dfs.decisions import grows, haq_panels
from refqnn.papers.dfs.printed import printed_table
from refqnn.studies.study import study_named

pytestmark = pytest.mark.compiled
SHORT = {"images": 85, "steps": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def run(folder):
    """Run a study in two iterations; return its rows, its text and its outcomes."""

    def rows_and_text(name, into=folder, **given):
        study = study_named(name)
        settings = study.settings_with(quick=True, **(SHORT | given))
        outcomes = study.outcomes(settings, into, workers=1)
        rows = study.rows(settings, *outcomes)
        for end, drawn in study.figures(settings, *outcomes).items():
            drawn.savefig(into / f"{name}{end}.png")
        return rows, "\n".join(study.lines(settings, rows)), outcomes

    return rows_and_text


TRADEOFF = {
    "targets": (0.2,),
    "one_step": (0.2,),
    "control": (0.2,),
    "skipping": (),
    "static_bits": (8,),
    "rewards": (2.0,),
    "ratios": (0.2,),
}


def test_the_tradeoff_and_the_decisions_share_their_runs(run, folder):
    rows, text, _ = run("dfs_tradeoff", **TRADEOFF)
    assert list(rows) == [
        "base, 32 bits",
        "DFS, target 20 %",
        "DFS, target 20 %, one step",
        "DFS, skip or keep, target 20 %",
        "static (scalable), 8 bits",
        "SkipNet, supervised",
        "SkipNet, alpha 2",
        "HAQ (weights only), 20 % of the size",
    ]
    assert rows["base, 32 bits"][0]["cp"] == 1
    assert (folder / "dfs_tradeoff_panels.png").stat().st_size > 10_000
    (control,) = rows["DFS, skip or keep, target 20 %"]
    assert control["options"] == [0, 32]
    assert rows["static (scalable), 8 bits"][0]["cp"] == 1 / 16
    assert re.search(r"base, 32 bits +100 ", text)
    (by_haq,) = rows["HAQ (weights only), 20 % of the size"]
    assert by_haq["ratio"] <= 0.2
    pairs = zip(by_haq["layers"], by_haq["bits"], strict=True)
    gated = [bits for name, bits in pairs if re.match(r"blocks\.[1-5]\.conv[12]", name)]
    assert len(gated) == 10
    assert by_haq["cp"] == pytest.approx(np.mean(gated) / 32)  # inputs of 32 bits
    before = (folder / "tradeoff.jsonl").read_text()
    decided, text, outcomes = run("dfs_decisions", targets=(0.2,), ratios=(0.2,))
    assert (folder / "tradeoff.jsonl").read_text() == before
    (ours,) = rows["DFS, target 20 %"]
    assert decided["skips"][0.2] == pytest.approx(np.mean(ours["shares"], 0)[0])
    assert decided["cp"][0.2] == pytest.approx(ours["cp"])
    assert np.isnan(decided["rank_correlation_keep_and_target"])
    assert text.splitlines()[1].startswith("0.2 ")
    assert (folder / "dfs_decisions_haq_bits.png").stat().st_size > 10_000
    ours, _ = haq_panels(outcomes[1])
    assert {"1.1", "3.2", "fc"} <= set(ours.names)


def test_adaptivity_scores_own_other_and_common_decisions(run, folder):
    rows, text, outcomes = run("dfs_adaptivity", targets=(0.2,), seeds=(0, 1))
    (row,) = rows
    assert row["verdict"] == "undecided"  # two seeds
    scores = np.array(row["accuracies"])
    for k, gain in ((1, row["gain_over_another"]), (2, row["gain_over_common"])):
        assert gain[0] == pytest.approx(np.mean(scores[:, 0] - scores[:, k]))
    assert [o.run["target"] for o in outcomes[1]] == [0.2, 0.2]
    for o in outcomes[1]:  # decisions of another image are the same ones, elsewhere
        assert o.result["cp"][0] == pytest.approx(o.result["cp"][1])
    assert "undecided" in text
    assert (folder / "dfs_adaptivity.png").stat().st_size > 10_000


def test_an_image_takes_the_decisions_of_its_row(rng):
    network = dfs.routed_resnet(8, width=0.13, classes=3, rng=rng)
    images = rng.integers(0, 256, (6, 1, 8, 8)).astype(np.uint8)
    network.forward(images, Run(training=True))
    shape = network.gates.projection.w.value.shape
    network.gates.projection.w.value = 30 * rng.standard_normal(shape)
    for embedding in network.gates.embeddings:  # images decide differently
        embedding.w.value *= 30
    own = decisions_of(network, images)
    assert len(np.unique(own, axis=0)) > 1
    labels = network.forward(images, Run())[0].argmax(1)
    assert accuracy_by(network, images, labels, own) == 1
    ways = [*itertools.product(range(4), repeat=2)]
    others = [np.tile(way, (6, 1)) for way in ways]
    assert min(accuracy_by(network, images, labels, way) for way in others) < 1


def test_the_controller_resumes_where_its_runs_were_moved_to(run, folder):
    rows, _, outcomes = run("dfs_controller", targets=(0.2,))
    names = ["target 20 %", "constant sign", "target 20 %, steps x 8"]
    assert [row["run"] for row in rows] == names
    for row, outcome in zip(rows, outcomes[1], strict=True):
        assert sum(row["shares"]) == pytest.approx(1, abs=1e-6)
        assert row["cp_end"] == np.mean(outcome.result["history"])
        assert row["deviation"] == 0  # of one iteration
    moved = folder.rename(folder.with_name("moved"))
    lines = (moved / "tradeoff.jsonl").read_text()
    assert run("dfs_controller", moved, targets=(0.2,))[0] == rows
    assert (moved / "tradeoff.jsonl").read_text() == lines
    moved.rename(folder)


def test_a_study_may_train_another_machinery(run):
    own = {"options": (0, 2, 4, 32), "statistics": "own", "gate_mode": "soft"}
    *_, outcomes = run("dfs_adaptivity", targets=(0.01,), **own)
    (outcome,) = outcomes[1]
    assert outcome.run["options"] == [0, 2, 4, 32]
    assert (outcome.run["statistics"], outcome.run["gate_mode"]) == ("own", "soft")
    controller = study_named("dfs_controller")
    for name, value in (("options", (8, 0)), ("statistics", "x"), ("gate_mode", "x")):
        refuses(name, controller.settings_with, **{name: value})


def test_a_study_may_train_the_released_blocks(run):
    rows, *_ = run("dfs_controller", targets=(0.2,), released=True)
    assert rows[0]["run"] == "released, target 20 %"
    assert len(rows[0]["shares"]) == len(dfs.RELEASED_OPTIONS)
    controller = study_named("dfs_controller")
    with pytest.raises(ValueError, match="options of released blocks"):
        controller.settings_with(released=True, options=(0, 32))


EXPERIMENTS = {
    "dfs_above_base": "DFS, target 20 % less base, before: ",
    "dfs_low_cp": "DFS, target 6.25 % less DFS, target 4 %, steps x 8: ",
    "dfs_first_blocks": "first blocks skipped least of their groups: ",
}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiments_end_with_the_numbers_of_their_rules(run, name):
    _, text, _ = run(name, depth=14, steps=1)
    assert any(line.startswith(EXPERIMENTS[name]) for line in text.splitlines())


def test_tables_and_figures_have_the_papers_alphas_and_widths(folder):
    tables = study_named("dfs_tables").settings_with()
    printed = {row["alpha"] for row in printed_table(2)}
    ours = [alpha / (128 * 35) for alpha in tables.alphas]
    np.testing.assert_allclose(ours, sorted(printed), rtol=0.01)
    tradeoff = study_named("dfs_tradeoff").settings_with(hybrid_steps=10_000)
    assert tradeoff.static_bits == (8, 10, 12, 14, 16, 18, 20, 22)
    _, runs = study_named("dfs_tradeoff").stages(tradeoff, folder)
    steps = {r.get("hybrid_steps") for r in runs.runs if r.get("alpha") == 2.0}
    assert steps == {10_000}


def test_the_tables_stand_beside_the_papers(run):
    rows, text, _ = run("dfs_tables", alphas=(1.0, 8.0), seeds=(0, 1))
    assert [(r["sign"], r["alpha"], r["target_percent"]) for r in rows] == [
        ("constant", 1, 40),
        ("dynamic", 1, 40),
        ("dynamic", 1, 50),
        ("dynamic", 8, 40),
        ("dynamic", 8, 50),
    ]
    first, second = text.split("table 2")
    kinds = [line.split()[0] for line in first.splitlines()[2:]]
    assert kinds == ["ours"] * 2 + ["the"] * 2
    assert re.search(r"constant +1e-05 +40 +8.2 +93.12", first)
    kinds = [line.split()[0] for line in second.splitlines()[2:]]
    assert kinds == ["ours"] * 4 + ["the"] * 8


def test_skipnet_reports_both_percentages(run):
    given = {"gates": ("FFGate-II", "RNNGate"), "rewards": (2.0,)}
    rows, text, _ = run("skipnet", seeds=(0, 1), **given)
    kinds = [(row["gate"], row["alpha"], row["seed"]) for row in rows]
    assert kinds == [
        (g, a, s) for g in given["gates"] for a in (None, 2.0) for s in (0, 1)
    ]
    for row in rows:
        assert row["cp_skipnet"] == pytest.approx((1 + 5 * row["cp"]) / 6)
    assert "FFGate-II: rank correlation of alpha and cp" in text


def test_a_failed_run_is_named(run, tmp_path, monkeypatch):
    def failing(**_):
        raise ValueError("no luck")

    monkeypatch.setitem(systems.SYSTEMS, "skipnet", failing)
    with pytest.raises(RuntimeError, match=r"2 of 2 runs failed .*ValueError: no luck"):
        run("skipnet", tmp_path, rewards=(1.0,))


def test_a_search_needs_a_batch_to_tune_on(run):
    with pytest.raises(RuntimeError, match="images must be at least 85 for a search"):
        run("dfs_decisions", targets=(0.2,), ratios=(0.2,), images=84)


def test_a_system_that_is_unknown_is_refused():
    with pytest.raises(ValueError, match=r"system must be one of \['backbone', 'dfs'"):
        systems.system_run(system="none")


WRONG = [
    ("dfs_controller", {"targets": "1.5"}, r"target must lie in \(0, 1\], got 1.5"),
    ("dfs_controller", {"targets": "0"}, r"target must lie in \(0, 1\], got 0"),
    ("dfs_controller", {"targets": ""}, "targets must not be empty"),
    ("dfs_controller", {"images": 63}, r"images must be in \[64, 4000\], .* got 63"),
    ("dfs_controller", {"images": 4001}, "images must be in .* got 4001"),
    ("dfs_controller", {"steps": 0}, "steps must be at least 1, got 0"),
    ("dfs_controller", {"seeds": (-1,)}, "seeds must be at least 0, got -1"),
    ("dfs_tables", {"targets": "2"}, "target must lie in"),
    ("dfs_decisions", {"targets": "nan"}, "target must lie in .* got nan"),
    ("dfs_decisions", {"seeds": (0, 1)}, r"seeds must be one, got \(0, 1\)"),
    ("dfs_decisions", {"targets": ""}, "targets must not be empty"),
    ("dfs_decisions", {"ratios": "0.7"}, "ratios must be of .* got 0.7"),
    ("dfs_tradeoff", {"one_step": "3"}, "target must lie in"),
    ("dfs_tradeoff", {"seeds": ()}, "seeds must not be empty"),
    ("skipnet", {"rewards": "-1"}, "alpha must be finite and at least 0, got -1.0"),
    ("skipnet", {"rewards": "nan"}, "alpha must be finite .* got nan"),
    ("skipnet", {"gates": "CNNGate"}, "gates must be of RNNGate.* got 'CNNGate'"),
]


@pytest.mark.parametrize(("name", "given", "message"), WRONG)
def test_wrong_settings_are_refused(name, given, message):
    refuses(message, study_named(name).settings_with, **given)


def test_panels_hold_the_systems_of_the_papers_figures():
    names = [*study.NAMES.values()]
    points = {name: [(0.05, 0.8), (0.4, 0.9)] for name in names}
    three, seven, eleven = (choose(points) for *_, choose in study.PANELS)
    assert [*three] == ["DFS", "SkipNet"]
    assert [*seven] == ["DFS", "static (scalable)", "HAQ (weights only)"]
    assert eleven == {"DFS": [(0.05, 0.8)]}
    del points["SkipNet"]
    assert study.PANELS[0][2](points) == {}


def test_a_keep_share_that_falls_does_not_grow():
    assert grows(np.array([[0.5, 0.1], [0.485, 0.2]])) == 1  # within USED
    assert grows(np.array([[0.5, 0.1], [0.45, 0.2]])) == 0.5
