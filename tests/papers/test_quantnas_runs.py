"""QuantNAS: what the runs behind figures 12 and 13 are given, record and return."""

from dataclasses import replace

import numpy as np
import pytest
from tables.networks import pixels

from refqnn import data
from refqnn.deploy import Comparison
from refqnn.deploy.agreement import LayerAgreement
from refqnn.papers.quantnas import runs
from refqnn.papers.quantnas.cost import LatencyTable, bit_operations, c_size, key_of
from refqnn.papers.quantnas.deployment import folded_weights
from refqnn.papers.quantnas.runs import (
    CHANCE,
    EARLY,
    LARGE,
    LATE,
    SMALL,
    Judge,
    correlation_of,
    deployed,
    drawn,
    judged,
    layer_scales,
    pictures,
    price_of,
    scale_study,
    scales_run,
    searched,
    table_path,
    trained,
)
from refqnn.papers.quantnas.sandwich import Alone, calibration_error
from refqnn.papers.quantnas.scales import Oracle, mse_step
from refqnn.papers.quantnas.search import Point, cheapest, front, hypervolume
from refqnn.papers.quantnas.space import Space, every, largest, layers_of, smallest
from refqnn.papers.quantnas.supernet import calibrate, initialise, supernet

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
    return Judge(net, given, tmp_path / "judge.jsonl")


@pytest.mark.parametrize(("images", "calibrating"), [(100, 100), (300, 256)])
def test_pictures_come_from_where_they_should(images, calibrating):
    given, whole = pictures("embedded", images), data.embedded()
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
    assert len(pictures("embedded", 3488)["train"][0]) == 3488
    with pytest.raises(ValueError, match=rf"in \[1, 3488\] .* got {images}"):
        pictures("embedded", images)


def test_weights_and_draws_depend_on_the_seed_alone(rng, monkeypatch):
    given = pixels(rng, n=8, size=6), rng.integers(0, 3, 8)
    seen = []

    class Watched(Alone):
        def __call__(self, net, images, labels, run):
            seen.append((net.convs["stem"].w.value.sum(), run.rng.integers(2**40)))
            return super().__call__(net, images, labels, run)

    monkeypatch.setattr(runs, "Alone", Watched)
    for seed, kind in ((0, "shared"), (0, "predicted"), (0, "relative"), (1, "shared")):
        trained(TINY, seed, given, scales=kind, steps=1, alone=largest(TINY))
    assert seen[0] == seen[1] == seen[2]
    same = supernet(TINY, rng=np.random.default_rng([0, 0]))
    assert seen[0][0] == same.convs["stem"].w.value.sum()
    assert all(a != b for a, b in zip(seen[0], seen[3], strict=True))


def test_random_subnets_have_numbers():
    found = [drawn(LARGE, seed, i) for seed in (0, 1) for i in range(20)]
    assert len(set(found)) > 35
    assert found[:20] == [drawn(LARGE, 0, i) for i in range(20)]


def test_subnets_from_scratch_have_seeds_of_their_own(monkeypatch):
    def training(_, seed, given, *, alone, scales, steps):
        assert (len(given[0]), scales, steps) == (64, "shared", 5)
        return seed, alone

    monkeypatch.setattr(runs, "trained", training)
    monkeypatch.setattr(runs, "layer_scales", lambda net, genotype, _: (net, genotype))
    common = {"seed": 2, "index": 3, "subnets": 4, "steps": 5, "images": 64}
    own = drawn(LARGE, 2, 3)
    assert scales_run(source="scratch", **common) == [((2003, own), own)]
    all_of_one = [((2, None), drawn(LARGE, 2, i)) for i in range(4)]
    assert scales_run(source="supernet", **common) == all_of_one
    with pytest.raises(ValueError, match=r"source must be .* got 'both'"):
        scales_run(source="both", **common)


@pytest.mark.compiled
def test_scales_of_the_early_and_the_late_layer(rng):
    net, images = supernet(LARGE, rng=rng), pixels(rng, n=4, size=14)
    initialise(net, images)
    genotype = drawn(LARGE, 0, 0)
    rows = layer_scales(net, genotype, images)
    found = runs.calibrated(net, genotype, images)
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

    whole = searched(SMALL, right, likes_width, 0, None)
    assert {p.genotype for p in whole} == set(every(SMALL))
    assert len(whole) == len(asked) == 216
    some = searched(SMALL, likes_width, likes_width, 1, 7)
    assert {p.genotype for p in some} == {drawn(SMALL, 1, i) for i in range(7)}
    asked.clear()
    found = searched(LARGE, right, cost, 0, None)
    assert [p.genotype for p in found] == asked
    assert len(set(asked)) == len(asked) < 5 * (30 + 5 * 30)
    assert all(p == Point(*p[:2], cost(p.genotype)) for p in found)
    assert min(p.cost for p in found) <= 1.05 * cost(cheapest(LARGE, cost))
    assert max(p.cost for p in found) > 0.7 * cost(largest(LARGE))


def test_a_subnet_is_evaluated_once(judge):
    genotype = smallest(TINY)
    found = [judge.accuracy(genotype), judge.accuracy(genotype, "test")]
    for part, accuracy in zip(("search", "test"), found, strict=True):
        assert accuracy == judge.evaluated(genotype=genotype, part=part)
    assert found[0] != found[1]
    known = replace(judge, net=None)
    assert [known.accuracy(genotype), known.accuracy(genotype, "test")] == found


def test_a_judge_calibrates_with_its_own_scales(judge):
    images = judge.given["calibration"]
    for scales in (None, Oracle()):
        found = replace(judge, scales=scales).calibrated(largest(TINY))
        want = calibrate(judge.net, largest(TINY), images, batch=8, scales=scales)
        assert found.steps == pytest.approx(want.steps)


def test_what_a_front_run_returns(judge):
    found = judged(judge, price, 3, 6)
    chosen = sorted({drawn(TINY, 3, i) for i in range(6)})
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
    study = scale_study(judge, 3, 6)
    assert {name: found[name] for name in study} == study


def test_scales_are_compared_with_the_best_steps(judge):
    oracle = replace(judge, scales=Oracle())
    steps = []
    for i in range(5):
        genotype = drawn(TINY, 3, i)
        pair = judge.calibrated(genotype), oracle.calibrated(genotype)
        steps.append([found.steps for found in pair])
    study = scale_study(judge, 3, 5)
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
    assert scale_study(oracle, 3, 5)["calibration_error"] == 0


def test_correlation(rng):
    pair = rng.standard_normal((2, 9)) + 5
    assert correlation_of(pair) == pytest.approx(np.corrcoef(pair)[0, 1])
    assert correlation_of(np.array([[1.0, 2.0], [2.0, 1.0]])) == pytest.approx(-1)
    assert correlation_of(np.array([[1.0, 2.0], [3.0, 3.0]])) is None
    assert correlation_of(np.ones((2, 1))) is None


def test_runs_that_differ_keep_different_files(tmp_path, monkeypatch):
    seen = []

    def training(space, seed, given, *, scales, steps, checkpoint):
        assert given is pictured["train"]
        seen.append(checkpoint)
        return space, seed, scales, steps

    pictured = {"train": object()}
    monkeypatch.setattr(runs, "pictures", lambda *_: pictured)
    monkeypatch.setattr(runs, "trained", training)
    monkeypatch.setattr(runs, "judged", lambda judge, *_: (judge.path, judge.scales))
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
        found = runs.front_run(**(base | change), runs=str(tmp_path / "new"))
        if "scales" in change:
            assert [*found] == ["predicted"]
            continue
        (shared, own), (oracle, best) = found["shared"], found["oracle"]
        assert own is None
        assert isinstance(best, Oracle)
        assert shared != oracle
    assert len(set(seen)) == len(seen) == 7
    assert (tmp_path / "new").is_dir()


def test_what_differs_between_a_subnet_and_its_integers_is_counted(judge, monkeypatch):
    monkeypatch.setattr(runs, "AT_A_TIME", 8)
    images, labels = judge.given["test"]
    integer, report = deployed(judge, largest(TINY))
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
    monkeypatch.setattr(runs, "compare_layers", lambda *_: [near, far, near])
    monkeypatch.setattr(runs, "compare_float64", lambda *_: pair)
    _, report = deployed(judge, largest(TINY))  # in three parts
    assert report["layers_beyond_the_bound"] == 3
    assert report["different_from_float64"] == 3 * (3 + 1)
