"""QuantNAS: what the runs behind figures 12 and 13 are given, record and return."""

from dataclasses import replace

import numpy as np
import pytest
from tables.networks import pixels

from refqnn import data
from refqnn.deploy import Comparison, IntegerNetwork
from refqnn.deploy.agreement import LayerAgreement
from refqnn.papers.quantnas import judge as judge_module
from refqnn.papers.quantnas import study, study_scales
from refqnn.papers.quantnas.cost import LatencyTable, bit_operations, c_size, key_of
from refqnn.papers.quantnas.deployment import folded_weights
from refqnn.papers.quantnas.judge import (
    Judge,
    compare_integers,
    image_parts,
    train_supernet,
)
from refqnn.papers.quantnas.sandwich import Alone
from refqnn.papers.quantnas.scales import Oracle, mse_step
from refqnn.papers.quantnas.search import Point, cheapest, front, hypervolume
from refqnn.papers.quantnas.space import (
    LARGE,
    SMALL,
    Space,
    every,
    largest,
    layers_of,
    random_subnet,
    smallest,
)
from refqnn.papers.quantnas.step_errors import (
    calibration_error,
    compare_steps,
    correlation,
    weight_steps,
)
from refqnn.papers.quantnas.study import (
    CHANCE,
    front_row,
    front_run,
    price_of,
    search_points,
    table_path,
)
from refqnn.papers.quantnas.study_scales import EARLY, LATE, scales_run
from refqnn.papers.quantnas.supernet import calibrate, initialise, supernet
from refqnn.studies.study import study_named
from refqnn.studies.sweep import Memo

TINY = Space(
    channels=(2, 3), depths=(1, 2), widths=(0.5, 1.0), kernels=(1, 3), classes=3, size=6
)


def likes_width(genotype):
    return sum(g.width * g.kernel for stage in genotype for g in stage) / 30


def price(genotype):
    return float(bit_operations(genotype, TINY))


@pytest.fixture
def judge(rng, tmp_path):
    """Return a judge whose scales follow their tensors, over random labels."""
    net = supernet(TINY, scales="relative", rng=rng)
    initialise(net, pixels(rng, n=8, size=6))
    given = {"calibration": pixels(rng, n=8, size=6)}
    for part in ("search", "test"):
        given[part] = pixels(rng, n=20, size=6), rng.integers(0, 3, 20)
    return Judge(net, given, Memo(tmp_path / "judge.jsonl"))


@pytest.mark.parametrize(("images", "calibrating"), [(100, 100), (300, 256)])
def test_pictures_come_from_where_they_should(images, calibrating):
    given, whole = image_parts("embedded", images), data.embedded()
    seen, labels = data.halved(whole.train_images), whole.train_labels
    want = {
        "train": (seen[:images], labels[:images]),
        "search": (seen[-512:], labels[-512:]),
        "test": (data.halved(whole.test_images), whole.test_labels),
    }
    for part, arrays in want.items():
        for got, array in zip(given[part], arrays, strict=True):
            np.testing.assert_array_equal(got, array)
    np.testing.assert_array_equal(given["calibration"], seen[:calibrating])


@pytest.mark.parametrize("images", [0, 3489])
def test_images_held_out_are_not_trained_on(images):
    assert len(image_parts("embedded", 3488)["train"][0]) == 3488
    with pytest.raises(ValueError, match=rf"in \[1, 3488\] .* got {images}"):
        image_parts("embedded", images)


def test_weights_and_draws_depend_on_the_seed_alone(rng, monkeypatch):
    given = pixels(rng, n=8, size=6), rng.integers(0, 3, 8)
    seen = []

    class Watched(Alone):
        def __call__(self, net, images, labels, run):
            seen.append((net.convs["stem"].w.value.sum(), run.rng.integers(2**40)))
            return super().__call__(net, images, labels, run)

    monkeypatch.setattr(judge_module, "Alone", Watched)
    for seed, kind in ((0, "shared"), (0, "predicted"), (0, "relative"), (1, "shared")):
        train_supernet(TINY, seed, given, scales=kind, steps=1, alone=largest(TINY))
    assert seen[0] == seen[1] == seen[2]
    same = supernet(TINY, rng=np.random.default_rng([0, 0]))
    assert seen[0][0] == same.convs["stem"].w.value.sum()
    assert all(a != b for a, b in zip(seen[0], seen[3], strict=True))


def test_random_subnets_have_numbers():
    found = [random_subnet(LARGE, seed, i) for seed in (0, 1) for i in range(20)]
    assert len(set(found)) > 35
    assert found[:20] == [random_subnet(LARGE, 0, i) for i in range(20)]


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
    with pytest.raises(ValueError, match=r"source must be .* got 'both'"):
        scales_run(source="both", **common)


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
    with pytest.raises(ValueError, match=r"cost must be one of .* got 'watts'"):
        price_of("watts", "small", "")


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


def test_a_subnet_is_evaluated_once(judge):
    genotype = smallest(TINY)
    found = [judge.accuracy(genotype), judge.accuracy(genotype, "test")]
    for part, accuracy in zip(("search", "test"), found, strict=True):
        assert accuracy == judge.evaluate(genotype=genotype, part=part)
    assert found[0] != found[1]
    lines = judge.memo.path.read_text().splitlines()
    assert len(lines) == 2
    known = replace(judge, net=None, memo=Memo(judge.memo.path))
    assert [known.accuracy(genotype), known.accuracy(genotype, "test")] == found


def test_a_judge_calibrates_with_its_own_scales(judge):
    images = judge.parts["calibration"]
    for one, scales in ((judge, None), (judge.by_oracle(), Oracle())):
        found = one.calibrate(largest(TINY))
        want = calibrate(judge.net, largest(TINY), images, batch=8, scales=scales)
        assert found.steps == pytest.approx(want.steps)


def test_what_a_front_run_returns(judge):
    found = front_row(judge, price, 3, 6)
    chosen = sorted({random_subnet(TINY, 3, i) for i in range(6)})
    points = [Point(g, judge.accuracy(g), price(g)) for g in chosen]
    best = front(points)
    test = [p._replace(accuracy=judge.accuracy(p.genotype, "test")) for p in best]
    bounds = {"cost_max": 1.01 * price(largest(TINY)), "accuracy_min": CHANCE}
    assert found["points"] == [[p.cost, p.accuracy] for p in points]
    assert found["evaluated"] == len(points)
    assert [tuple(row.values()) for row in found["front"]] == [
        (p.genotype, p.cost, p.accuracy, seen.accuracy)
        for p, seen in zip(best, test, strict=True)
    ]
    assert found["hypervolume"] == hypervolume(points, **bounds)
    assert found["test_hypervolume"] == hypervolume(test, **bounds)
    assert found["hypervolume"] != found["test_hypervolume"]
    assert found["mean"] == pytest.approx(np.mean([p.accuracy for p in points]))
    study = compare_steps(judge, 3, 6)
    assert {name: found[name] for name in study} == study


def test_scales_are_compared_with_the_best_steps(judge):
    oracle = judge.by_oracle()
    steps = []
    for i in range(5):
        genotype = random_subnet(TINY, 3, i)
        pair = judge.calibrate(genotype), oracle.calibrate(genotype)
        steps.append([found.steps for found in pair])
    study = compare_steps(judge, 3, 5)
    error = np.mean([calibration_error(*p) for p in steps])
    assert study["calibration_error"] == pytest.approx(error)
    names = set.intersection(*(set(own) for own, _ in steps))
    assert names < set.union(*(set(own) for own, _ in steps)), "depths differ"
    each, spreads = [], {"weights": [], "activations": []}
    for name in names:
        logs = np.log([[own[name], best[name]] for own, best in steps])
        if np.all(np.ptp(logs, axis=0) > 1e-9):
            each.append(np.corrcoef(logs.T)[0, 1])
        kind = "activations" if "quant" in name else "weights"
        spreads[kind].append([np.mean(logs[:, 0] - logs[:, 1]), *np.std(logs, axis=0)])
    assert study["correlation"] == pytest.approx(np.mean(each))
    for kind, rows in spreads.items():
        want = np.mean(rows, axis=0)
        assert list(study[kind].values()) == pytest.approx(want)
    assert compare_steps(oracle, 3, 5)["calibration_error"] == 0


def test_correlation(rng):
    pair = rng.standard_normal((2, 9)) + 5
    assert correlation(pair) == pytest.approx(np.corrcoef(pair)[0, 1])
    assert correlation(np.array([[1.0, 2.0], [2.0, 1.0]])) == pytest.approx(-1)
    assert correlation(np.array([[1.0, 2.0], [3.0, 3.0]])) is None
    assert correlation(np.ones((2, 1))) is None


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


def test_what_differs_between_a_subnet_and_its_integers_is_counted(judge, monkeypatch):
    monkeypatch.setattr(judge_module, "AT_A_TIME", 8)
    images, labels = judge.parts["test"]
    integer, report = compare_integers(judge, largest(TINY))
    assert report == {
        "genotype": largest(TINY),
        "images": 20,
        "layers_beyond_the_bound": 0,
        "different_from_float64": 0,
        "accuracy": np.mean(integer.predict(images) == labels),
    }
    near = LayerAgreement("near", 9, 1, 1, 0.0, 0.0, 0.1, within=True)
    far = near._replace(largest_difference=2)
    pair = [Comparison("a", 9, 3), Comparison("b", 9, 1)]
    monkeypatch.setattr(judge_module, "compare_layers", lambda *_: [near, far, near])
    monkeypatch.setattr(judge_module, "compare_float64", lambda *_: pair)
    _, report = compare_integers(judge, largest(TINY))  # in three parts
    assert report["layers_beyond_the_bound"] == 3
    assert report["different_from_float64"] == 3 * (3 + 1)


# both studies, from settings to figures


def run_quick(name, folder, **given):
    """Run a quick study in this process: settings, rows, table, figures."""
    chosen = study_named(name)
    settings = chosen.settings_with(quick=True, **given)
    outcomes = chosen.outcomes(settings, folder, workers=1, progress=False)
    rows = chosen.rows(settings, *outcomes)
    text = "\n".join(chosen.lines(settings, rows))
    return settings, rows, text, chosen.figures(settings, *outcomes)


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
