"""QuantNAS: what the runs behind figures 12 and 13 are given, record and return."""

import subprocess
import sys

import numpy as np
import pytest
from refusals import refuses
from tables.networks import pixels
from tables.study_runs import run_quick

from refqnn.deploy import IntegerNetwork
from refqnn.papers.quantnas import study, study_scales
from refqnn.papers.quantnas.cost import LatencyTable, bit_operations, c_size, key_of
from refqnn.papers.quantnas.deployment import folded_weights
from refqnn.papers.quantnas.elastic_network import initialise, supernet
from refqnn.papers.quantnas.judge import Judge, image_parts
from refqnn.papers.quantnas.scales import mse_step
from refqnn.papers.quantnas.search import Point, cheapest
from refqnn.papers.quantnas.space import (
    LARGE,
    SMALL,
    draw,
    every,
    largest,
    layers_of,
    random_subnet,
)
from refqnn.papers.quantnas.step_errors import weight_steps
from refqnn.papers.quantnas.study import front_run, price_of, search_points, table_path
from refqnn.papers.quantnas.study_scales import EARLY, LATE, scales_run
from refqnn.studies.study import study_named


def likes_width(genotype):
    return sum(g.width * g.kernel for stage in genotype for g in stage) / 30


def test_random_subnets_have_numbers():
    found = [random_subnet(LARGE, seed, i) for seed in (0, 1) for i in range(20)]
    assert len(set(found)) > 35
    assert found[:20] == [random_subnet(LARGE, 0, i) for i in range(20)]
    want = draw(LARGE, np.random.default_rng([1, 2, 19]))  # studies were run with it
    assert found[-1] == want


def test_subnets_from_scratch_have_seeds_of_their_own(monkeypatch):
    def training(_, seed, given, *, alone, scales, steps):
        assert (len(given[0]), scales, steps) == (64, "shared", 5)
        return seed, alone

    monkeypatch.setattr(study_scales, "train_supernet", training)
    monkeypatch.setattr(
        study_scales, "weight_steps", lambda judge, genotype, _: (judge.net, genotype)
    )
    common = {"seed": 2, "index": 3, "subnets": 4, "steps": 5, "images": 64}
    own = random_subnet(LARGE, 2, 3)
    assert scales_run(source="scratch", **common) == [((2003, own), own)]
    all_of_one = [((2, None), random_subnet(LARGE, 2, i)) for i in range(4)]
    assert scales_run(source="supernet", **common) == all_of_one
    refuses(r"source must be .* got 'both'", scales_run, source="both", **common)


@pytest.mark.compiled
def test_scales_of_the_early_and_the_late_layer(rng):
    net, images = supernet(LARGE, rng=rng), pixels(rng, n=4, size=14)
    initialise(net, images)
    genotype = random_subnet(LARGE, 0, 0)
    judge = Judge(net, {"calibration": images})
    rows = weight_steps(judge, genotype, (EARLY, LATE))
    found = judge.calibrate(genotype)
    layers = {layer.name: layer for layer in layers_of(genotype, LARGE)}
    assert rows["genotype"] == genotype
    for name in (EARLY, LATE):
        w_f, _ = folded_weights(net, layers[name], found)
        assert rows[name] == {
            "fan_in": w_f[0].size,
            "best": mse_step(w_f, q_n=8, q_p=7),
            "learned": found.steps[name],
        }


# figure 13


def test_prices(tmp_path):
    genotype = largest(SMALL)
    for name, cost in (("bit_operations", bit_operations), ("c_size", c_size)):
        assert price_of(name, "small", "")(genotype) == cost(genotype, SMALL)
    names = {key_of(layer): 2.0 for layer in layers_of(genotype, SMALL)}
    LatencyTable(names, {}).save(table_path(tmp_path, "small"))
    count = len(layers_of(genotype, SMALL))
    assert price_of("latency", "small", tmp_path)(genotype) == 2 * count
    assert table_path(tmp_path, "small") != table_path(tmp_path, "large")
    refuses(r"cost must be one of .* got 'watts'", price_of, "watts", "small", "")


def test_a_small_space_is_evaluated_whole_a_large_one_searched():
    asked = []

    def right(genotype):
        asked.append(genotype)
        return likes_width(genotype)

    def cost(genotype):
        return float(c_size(genotype, LARGE))

    whole = search_points(SMALL, right, likes_width, 0, None)
    assert {p.genotype for p in whole} == set(every(SMALL))
    assert len(whole) == len(asked) == 216
    some = search_points(SMALL, likes_width, likes_width, 1, 7)
    assert {p.genotype for p in some} == {random_subnet(SMALL, 1, i) for i in range(7)}
    asked.clear()
    found = search_points(LARGE, right, cost, 0, None)
    assert [p.genotype for p in found] == asked
    assert len(set(asked)) == len(asked) < 5 * (30 + 5 * 30)
    assert all(p == Point(*p[:2], cost(p.genotype)) for p in found)
    assert min(p.cost for p in found) <= 1.05 * cost(cheapest(LARGE, cost))
    assert max(p.cost for p in found) > 0.7 * cost(largest(LARGE))


def test_runs_that_differ_keep_different_files(tmp_path, monkeypatch):
    seen = []

    def training(space, seed, given, *, scales, steps, checkpoint):
        assert given is pictured["train"]
        seen.append(checkpoint)
        return space, seed, scales, steps

    pictured = {"train": object()}
    monkeypatch.setattr(study, "image_parts", lambda *_: pictured)
    monkeypatch.setattr(study, "train_supernet", training)
    monkeypatch.setattr(
        study, "front_row", lambda judge, *_: (judge.memo.path, judge.oracle)
    )
    base = {"scales": "shared", "seed": 0, "steps": 5, "images": 64}
    for change in (
        {},
        {"scales": "predicted"},
        {"seed": 1},
        {"steps": 6},
        {"images": 65},
        {"of": "fashion_mnist"},
        {"space": "large"},
    ):
        found = front_run(**(base | change), runs=str(tmp_path / "new"))
        if "scales" in change:
            assert [*found] == ["predicted"]
            continue
        (shared, own), (oracle, best) = found["shared"], found["oracle"]
        assert (own, best) == (False, True)
        assert shared != oracle
    assert len(set(seen)) == len(seen) == 7
    assert (tmp_path / "new").is_dir()


# both studies, from settings to figures


@pytest.mark.compiled
def test_scales_of_subnets_from_scratch_and_of_one_supernet(tmp_path, monkeypatch):
    monkeypatch.setattr(study_scales, "LONGER", 1)
    _, rows, text, figures = run_quick("quantnas_scales", tmp_path, steps=2)
    assert [(row["source"], row["layer"]) for row in rows] == [
        (source, layer) for source in ("scratch", "supernet") for layer in (EARLY, LATE)
    ]
    record = (tmp_path / "scales.jsonl").read_text()
    assert len(record.splitlines()) == 4 + 1
    for row in rows:
        assert len(row["best"]) == row["subnets"] == 4
        assert row["ratio"] == max(row["best"]) / min(row["best"]) > 1
        assert row["ratio_by_fan_in"] == max(row["normalised"]) / min(row["normalised"])
    assert text.count(LATE) == 2
    assert len(figures[""].axes) == 4
    assert run_quick("quantnas_scales", tmp_path, steps=2)[1] == rows
    assert (tmp_path / "scales.jsonl").read_text() == record


def test_a_front_as_large_as_the_shared_one_is_counted():
    each = dict.fromkeys(("test_hypervolume", "mean", "calibration_error"), 0.5)
    each |= {"correlation": 1.0, "weights": {}, "activations": {}, "seed": 0}
    each |= {"front": [{"accuracy": 1.0}], "hypervolume": 2.0}
    rows = [each | {"scales": kind} for kind in ("shared", "predicted", "relative")]
    *_, last = study.front_lines(None, rows)
    assert last == "relative at least as large as shared: 1 of 1"


@pytest.mark.compiled
def test_fronts_are_recorded_and_the_best_subnet_becomes_integers(tmp_path):
    given = {"seeds": (0,), "cost": "latency", "steps": 2}
    settings, rows, text, figures = run_quick("quantnas_front", tmp_path, **given)
    kinds = ["shared", "oracle", "predicted", "relative"]
    assert [row["scales"] for row in rows] == kinds
    assert rows[1]["calibration_error"] == 0 < rows[0]["calibration_error"]
    for row in rows:
        costs = [point["cost"] for point in row["front"]]
        assert costs == sorted(costs)
        assert row["hypervolume"] >= 0
    assert text.count("at least as large as shared: ") == 2
    assert figures[""].axes[0].get_xlabel() == "cost of one image, seconds"
    record = (tmp_path / "fronts.jsonl").read_text()
    for left in (False, True):  # a network that was taken away is written again
        *again, report = run_quick("quantnas_front", tmp_path, deploy=True, **given)[1]
        assert again == rows
        (file,) = tmp_path.glob("integers_*.npz")
        network = IntegerNetwork.load(file)
        images, labels = image_parts("embedded", settings.train)["test"]
        right = np.mean(network.predict(images) == labels)
        assert report["integers"]["accuracy"] == right
        best = max(rows[2]["front"], key=lambda point: point["accuracy"])
        assert report["integers"]["genotype"] == best["genotype"]
        assert report["integers"]["subnet_accuracy"] == best["test_accuracy"]
        assert report["integers"]["layers_beyond_the_bound"] == 0
        assert report["integers"]["different_from_float64"] == 0
        if not left:
            file.unlink()
    assert (tmp_path / "fronts.jsonl").read_text() == record


def test_a_damaged_latency_table_is_refused_before_training(tmp_path):
    (tmp_path / "latency_large.json").write_text("[]")
    chosen = study_named("quantnas_front")
    settings = chosen.settings_with(quick=True, cost="latency", space="large")
    with pytest.raises(ValueError, match=r"latency_large\.json is not a"):
        next(iter(chosen.stages(settings, tmp_path)))


WRONG = [
    ("quantnas_scales", {"subnets": "0"}, "subnets must be at least 1, got 0"),
    ("quantnas_scales", {"seed": "-1"}, "seed must be at least 0, got -1"),
    ("quantnas_scales", {"steps": "0"}, "steps must be at least 1, got 0"),
    ("quantnas_scales", {"train": "3489"}, r"images must be in \[1, 3488\] .* 3489"),
    ("quantnas_scales", {"images": "nowhere"}, "or a folder, got 'nowhere'"),
    ("quantnas_front", {"subnets": "0"}, "subnets must be at least 1, got 0"),
    ("quantnas_front", {"seeds": "0,-1"}, "seeds must be at least 0, got -1"),
    ("quantnas_front", {"train": "9999"}, r"images must be in \[1, 3488\] .* 9999"),
    ("quantnas_front", {"space": "huge"}, "space must be of .* got 'huge'"),
    ("quantnas_front", {"cost": "watts"}, "cost must be of .* got 'watts'"),
]


@pytest.mark.parametrize(("name", "given", "message"), WRONG)
def test_settings_that_are_refused(name, given, message, tmp_path):
    chosen = study_named(name)
    with pytest.raises(ValueError, match=message):
        next(iter(chosen.stages(chosen.settings_with(**given), tmp_path)))
    assert not [*tmp_path.iterdir()]


def test_former_names_answer_before_their_room_is_imported():
    former = "import refqnn, refqnn.papers.quantnas.runs as runs; print(runs.STUDIES)"
    command = [sys.executable, "-W", "ignore", "-c", former]
    assert "quantnas_front" in subprocess.check_output(command, text=True)
