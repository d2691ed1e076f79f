"""QuantNAS: subnets are judged once; their steps, fronts and integers compared."""

from dataclasses import replace

import numpy as np
import pytest
from tables.networks import pixels

from refqnn import data
from refqnn.deploy import Comparison
from refqnn.deploy.agreement import LayerAgreement
from refqnn.papers.quantnas import judge as judge_module
from refqnn.papers.quantnas.cost import bit_operations
from refqnn.papers.quantnas.elastic_network import calibrate, initialise, supernet
from refqnn.papers.quantnas.judge import (
    Judge,
    compare_integers,
    image_parts,
    train_supernet,
)
from refqnn.papers.quantnas.sandwich import Alone
from refqnn.papers.quantnas.scales import Oracle
from refqnn.papers.quantnas.search import Point, front, hypervolume
from refqnn.papers.quantnas.space import Space, largest, random_subnet, smallest
from refqnn.papers.quantnas.step_errors import (
    calibration_error,
    compare_steps,
    correlation,
)
from refqnn.papers.quantnas.study import CHANCE, front_row
from refqnn.studies.sweep import Memo

TINY = Space(
    channels=(2, 3), depths=(1, 2), widths=(0.5, 1.0), kernels=(1, 3), classes=3, size=6
)


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
    seen, labels = data.halve(whole.train_images), whole.train_labels
    want = {
        "train": (seen[:images], labels[:images]),
        "search": (seen[-512:], labels[-512:]),
        "test": (data.halve(whole.test_images), whole.test_labels),
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
