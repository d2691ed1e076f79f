"""Trainings of the Pareto paper's comparisons: runs, studies, grids, policies."""

import csv
from importlib import resources
from types import SimpleNamespace

import numpy as np
import pytest
from refusals import refuses

from refqnn import data, fast
from refqnn.cost import c_size_bits, count
from refqnn.networks import build
from refqnn.nn import PARETO_CIFAR, evaluate
from refqnn.papers.pareto import (
    KINDS,
    PRECISIONS,
    aligned_network,
    best,
    changes,
    flexible,
    grid,
    pareto_run,
    single_training,
    table1_runs,
    table2_runs,
    with_policy,
)
from refqnn.papers.pareto.dual_precision import GRID, of_width
from refqnn.papers.pareto.flexible import policy_run
from refqnn.papers.pareto.sensitivity import Changes, mean_and_spread
from refqnn.papers.pareto.single_training import (
    PRESET,
    at_size,
    costs,
    images_of_run,
    named_images,
)

TINY = {"network": "separable", "width": 0.125, "activation_bits": 4}
TEXTURES = {"of": "textures", "size": 6, "train": 128}


def run(**options):
    given = {"network": TINY | {"weight_bits": 4}, "images": TEXTURES, "epochs": 1}
    return pareto_run(**given | {"seed": 0} | options)


def test_the_images_say_how_pixels_become_numbers(monkeypatch):
    def stopped(config, **_):
        raise RuntimeError(f"scale {config['image_scale']}")

    monkeypatch.setattr(single_training, "build", stopped)
    with pytest.raises(RuntimeError, match=r"scale 1\.0"):
        run(network=TINY | {"image_scale": 0.25})


@pytest.mark.compiled
def test_a_run_says_what_was_trained_and_the_same_twice():
    network = TINY | {"weight_bits": 4}
    found = run(follow=True)
    assert found["c_size_bits"] == c_size_bits(build(network))
    assert 0 <= found["accuracy"] <= 100
    assert found["accuracy"] * 20 == round(found["accuracy"] * 20)  # of 2 000
    assert set(found["variations"]) == {"depthwise1", "depthwise2"}
    assert found["variations"]["depthwise1"]["steps"] == 2
    assert run(follow=True) == found
    assert run(seed=1)["accuracy"] != found["accuracy"]
    assert "variations" not in run()


def same_rates(schedule, other, steps):
    """Compare learning rates, step by step."""
    rates = [schedule(step) for step in range(steps)]
    np.testing.assert_array_equal(rates, [other(step) for step in range(steps)])


def test_what_a_run_trains_and_by_what_it_is_judged(monkeypatch):
    seen = {}

    def fitted(made, train, **how):
        seen.update(how, training=made, train=train)
        return [{"test_accuracy": 0.25}, {"test_accuracy": 0.5}]

    monkeypatch.setattr(single_training, "fit", fitted)
    found = run(seed=3, epochs=3)
    made = seen["training"]
    pictures = images_of_run(**TEXTURES, seed=3, folder=None)
    assert seen["train"] == (pictures.train_images, pictures.train_labels)
    assert seen["test"] == (pictures.test_images, pictures.test_labels)
    assert (seen["epochs"], seen["after_step"], made.batch) == (3, None, 64)
    same_rates(made.schedule, PARETO_CIFAR.schedule(2, epochs=3), 6)
    image = made.network.layers["image"]
    assert (image.scale, image.zero_point) == (1.0, 0)
    drew = build(TINY | {"weight_bits": 4}, rng=np.random.default_rng([3, 1]))
    for name in ("stem", "depthwise2"):
        np.testing.assert_array_equal(
            made.network.layers[name].w.value, drew.layers[name].w.value
        )
    assert found == {"accuracy": 50.0} | costs(drew, (1, 6, 6))


def test_costs_have_memory_in_both_readings():
    network = build({"network": "inv_resnet26", "width": 0.25, "weight_bits": 4})
    counted = count(network, (1, 8, 8))
    separate, joint = (
        counted.footprint_bits_separate_maxima(),
        counted.footprint_bits_joint_maximum(),
    )
    assert costs(network, (1, 8, 8)) == {
        "c_size_bits": c_size_bits(network),
        "macs": counted.macs,
        "footprint_bits_separate_maxima": separate,
        "footprint_bits_joint_maximum": joint,
    }
    assert separate > joint


@pytest.mark.compiled
def test_a_policy_gives_layers_their_own_bits():
    policy = {"pointwise1": 1, "depthwise1": 2}
    found = run(policy=policy)
    uniform = run()
    weights = {"pointwise1": 2 * 4, "depthwise1": 4 * 9}
    saved = sum(weights[name] * (4 - bits) for name, bits in policy.items())
    assert uniform["c_size_bits"] - found["c_size_bits"] == saved


@pytest.mark.parametrize("name", ["pointwise1_relu", "pointwise3"])
def test_a_policy_of_layers_without_weights_is_refused(name):
    with pytest.raises(ValueError, match=f"policy names '{name}'"):
        with_policy(build(TINY | {"weight_bits": 4}), {name: 2})


def test_textures_are_those_of_the_seed_and_of_few_places():
    first, again, other = (
        images_of_run(**TEXTURES, seed=seed, folder=None) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first.train_images, again.train_images)
    assert not np.array_equal(first.train_images, other.train_images)
    rng = np.random.default_rng([1, 0])
    for got, want in zip(
        other, data.textures(128, 2000, size=6, shifts=3, rng=rng), strict=True
    ):
        np.testing.assert_array_equal(got, want)


def test_sizes_of_images():
    whole = data.embedded()
    half = images_of_run(of="embedded", size=14, train=8, seed=0, folder=None)
    np.testing.assert_array_equal(half.train_images, data.halve(whole.train_images[:8]))
    np.testing.assert_array_equal(half.train_labels, whole.train_labels[:8])
    np.testing.assert_array_equal(half.test_images, data.halve(whole.test_images))
    np.testing.assert_array_equal(half.test_labels, whole.test_labels)
    every = images_of_run(of="embedded", size=28, train=4000, seed=0, folder=None)
    np.testing.assert_array_equal(every.train_images, whole.train_images)
    padded = at_size(whole.test_images[:2], 32)
    assert padded.shape == (2, 1, 32, 32)
    np.testing.assert_array_equal(padded[:, :, 2:-2, 2:-2], whole.test_images[:2])
    assert padded[:, :, :2].max() == padded[:, :, :, -2:].max() == 0
    np.testing.assert_array_equal(
        at_size(whole.test_images[:2], 28), whole.test_images[:2]
    )


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ({"of": "mnist"}, r"images must be of \[.*'embedded', .*\], got 'mnist'"),
        ({"of": "fashion_mnist"}, "need the folder of its files"),
        ({"of": "embedded", "size": 14, "train": 4001}, r"\[1, 4000\] .*, got 4001"),
        ({"of": "embedded", "size": 14, "train": 0}, r"\[1, 4000\] .*, got 0"),
        ({"of": "embedded", "size": 20}, "size must be 14, 28 or an even .* got 20"),
        ({"of": "embedded", "size": 31}, "size must be 14, 28 or an even .* got 31"),
    ],
)
def test_images_that_there_are_not_are_refused(images, message):
    refuses(message, run, images=TEXTURES | images)


def test_names_of_images(tmp_path):
    textures = {"of": "textures", "size": 10, "train": 700 * PRESET.batch}
    assert named_images("textures") == (textures, None)
    (tmp_path / "train-images-idx3-ubyte").touch()
    whole = {"of": "fashion_mnist", "size": 28, "train": 60_000}
    assert named_images(str(tmp_path), size=28) == (whole, str(tmp_path))
    refuses("or a folder, got '/nowhere'", named_images, "/nowhere")


def test_studies_hold_the_runs_of_the_tables():
    two = table2_runs({"network": "separable"}, seeds=(0, 1))
    assert len(two) == len(KINDS) * 3 * 2
    high, low, grown = (
        two["16 x 3 x 3", role, 1]["network"] for role in ("high", "low", "grown")
    )
    assert (high["weight_bits"], high["depthwise_bits"], high["width"]) == (4, 4, 1.0)
    assert (low["weight_bits"], low["depthwise_bits"], low["width"]) == (1, 1, 1.0)
    assert grown == low | {"width": 2.0}
    assert {run["network"]["activation_bits"] for run in two.values()} == {4}
    assert all(run["seed"] == seed for (_, _, seed), run in two.items())
    kind = two["1 x 12 x 12", "low", 0]["network"]
    assert (kind["depthwise_fan_in"], kind["depthwise_kernel"]) == (1, 12)
    assert {run["follow"] for key, run in two.items() if key[1] == "high"} == {True}
    assert {run["follow"] for key, run in two.items() if key[1] != "high"} == {False}
    one = table1_runs({"network": "vgg", "width": 0.5}, widths=(1, 2), seeds=(0,))
    assert {row for row, _, _ in one} == {
        f"{name}, {w}x" for name in ("4 bit DWConv", "all") for w in (1, 2)
    }
    kept, all_ = (one[f"{name}, 2x", "low", 0]["network"] for name in DEPTHWISE_ROWS)
    assert (kept["weight_bits"], kept["depthwise_bits"], kept["width"]) == (1, 4, 1.0)
    assert (all_["weight_bits"], all_["depthwise_bits"], all_["width"]) == (1, 1, 1.0)


DEPTHWISE_ROWS = ("4 bit DWConv", "all")


def test_the_studies_have_the_columns_of_the_printed_tables():
    def cells(name):
        file = resources.files("refqnn.papers") / "printed" / f"pareto_{name}.csv"
        return csv.DictReader(file.read_text(encoding="utf-8").splitlines())

    one = table1_runs({"network": "separable"}, seeds=(0,))
    widths = [float(cell["width"]) for cell in cells("table1")]
    assert [one[f"all, {w:g}x", "low", 0]["network"]["width"] for w in widths] == widths
    assert len(one) == 2 * 3 * len(widths)
    printed = {(int(c["fan_in"]), int(c["kernel"])) for c in cells("table2")}
    assert set(KINDS) == printed


def test_changes_are_differences_seed_by_seed():
    accuracy = {("a", "high", 0): 90.0, ("a", "low", 0): 80.0, ("a", "grown", 0): 87.0}
    accuracy |= {(r, role, 5): a + 1 for (r, role, _), a in accuracy.items()}
    found = changes(accuracy.__getitem__, {key: {} for key in accuracy})
    assert list(found) == ["a"]
    np.testing.assert_array_equal(found["a"].quantized, [-10, -10])
    np.testing.assert_array_equal(found["a"].grown, [7, 7])
    np.testing.assert_array_equal(found["a"].total, [-3, -3])
    row = Changes(*np.array([[9.0, 8.0], [7.0, 7.5], [8.0, 9.0]]))
    np.testing.assert_allclose(row.quantized + row.grown, row.total)


def test_one_seed_has_no_spread():
    mean, spread = mean_and_spread(np.array([2.0]))
    assert mean == 2.0
    assert np.isnan(spread)


@pytest.mark.once
def test_the_grid_has_a_network_of_one_size_for_every_pair():
    target = c_size_bits(build({"network": "separable", "weight_bits": 8}))
    ends = (PRECISIONS[0], PRECISIONS[-1])
    cells = grid({"network": "separable"}, target, separable=True, precisions=ends)
    pairs = [(b, d) for b in ends for d in ends]
    assert [(c.bits, c.depthwise_bits) for c in cells] == pairs
    for cell in cells:
        size = c_size_bits(build(cell.network))
        assert size == cell.aligned.c_size_bits <= target
        wider = cell.network | {"width": round(cell.network["width"] + 0.01, 6)}
        assert c_size_bits(build(wider)) > target
    widths = [c.network["width"] for c in cells]
    assert 1.0 <= widths[-1] < 1.04 < widths[0]  # int(1.03 * 32) = 32
    alone = grid({"network": "resnet", "depth": 8}, 5e5, separable=False)
    assert [c.bits for c in alone] == list(PRECISIONS)
    assert all("depthwise_bits" not in c.network for c in alone)


def test_a_policy_is_aligned_too():
    policy = {"pointwise2": 1}
    config = {"network": "separable", "weight_bits": 4}
    plain, _ = aligned_network(config, 12160)
    mixed, found = aligned_network(config, 12160, policy=policy)
    assert 1.0 <= plain["width"] < 1.04 < mixed["width"]
    assert c_size_bits(with_policy(build(mixed), policy)) == found.c_size_bits


def test_the_bits_of_a_cell_come_before_the_configuration():
    config = {"network": "separable", "weight_bits": 8, "depthwise_bits": 8}
    cell = grid(config, 8000, separable=True, precisions=(2,))[0]
    assert (cell.network["weight_bits"], cell.network["depthwise_bits"]) == (2, 2)


def test_shares_of_a_width_are_kept_to_six_digits():
    assert of_width({"width": 0.125}, 1.01) == {"width": 0.12625}
    assert of_width({}, 1 / 3) == {"width": 0.333333}


def test_hundredths_from_a_tenth_to_six_are_tried():
    assert tuple(k / 100 for k in range(10, 601)) == GRID


def test_a_size_that_no_width_has_is_refused():
    with pytest.raises(ValueError, match=r"target must be in \[\d+, \d+\] bits"):
        aligned_network({"network": "separable", "weight_bits": 8}, 10)


def test_the_best_cell_is_the_first_of_equals():
    assert best([1.0, 3.0, 3.0, 2.0]) == 1


@pytest.mark.compiled
def test_a_policy_of_haq_keeps_the_ends_and_the_budget():
    images = {"of": "embedded", "size": 14, "train": 192}
    asked = {"network": {"network": "separable", "width": 0.25}, "images": images}
    found = policy_run(**asked, epochs=1, seed=0, episodes=3, averages=(2.0, 4.0))
    inner = ["pointwise1", "depthwise1", "pointwise2", "depthwise2"]
    assert list(found["policy"]) == inner
    assert list(found["policy"].values()) == found["tried"][-1]["bits"]
    weights = np.array([4 * 8, 8 * 9, 8 * 8, 8 * 9])
    for tried in found["tried"]:
        assert np.dot(tried["bits"], weights) <= tried["average"] * weights.sum()
    assert found["tried"][-1]["loss"] <= 1 or len(found["tried"]) == 2
    assert (
        policy_run(**asked, epochs=1, seed=0, episodes=3, averages=(2.0, 4.0)) == found
    )


@pytest.mark.parametrize(
    ("losses", "taken"), [((3.0, 0.9), 3), ((3.0, 2.0, 1.1), 4), ((-1.0,), 2)]
)
def test_the_first_average_that_meets_the_tolerance_is_taken(
    losses, taken, monkeypatch
):
    """Of 2, 3, 4 bits: the first that loses at most a point against 8 bits, or 4."""
    asked, seen = [], {}

    def fitted(made, train, **how):
        seen.update(how, training=made, train=train)

    def proxied(trained, layers, train, held_out, **how):
        seen.update(how, trained=trained, layers=layers, own=train, held_out=held_out)
        return lambda bits: 40.0 if np.array_equal(bits, [8] * 4) else 0.0

    def searched(problem, _, *, settings, **how):
        loss = losses[len(asked)]
        asked.append((problem, settings.warm_up, how))
        policies = np.array([[8] * 4, [len(asked) + 1] * 4])
        accuracies = [0.0, 40.0 - loss]  # iso-accurate with 8 bits, not with floats
        return SimpleNamespace(policies=policies, best=1, accuracies=accuracies)

    for name, fake in (("fit", fitted), ("proxy", proxied), ("search", searched)):
        monkeypatch.setattr(flexible, name, fake)
    network = TINY | {"weight_bits": 4, "depthwise_bits": 4}
    found = policy_run(
        network=network,
        images=TEXTURES | {"train": 192},
        epochs=3,
        seed=1,
        averages=(2.0, 3.0, 4.0),
        episodes=8,
    )
    assert list(found["policy"].values()) == [taken] * 4
    assert len(found["tried"]) == len(asked) == len(losses)
    np.testing.assert_allclose([tried["loss"] for tried in found["tried"]], losses)
    for (problem, warm_up, how), average in zip(asked, (2, 3, 4), strict=False):
        assert (problem.ratio, problem.b_min, problem.b_max) == (average / 32, 1, 8)
        assert (warm_up, how) == (2, {"episodes": 8, "seed": 1})
    images = images_of_run(
        **TEXTURES | {"train": 192}, seed=1, folder=None
    ).train_images
    np.testing.assert_array_equal(seen["train"][0], images[48:])
    np.testing.assert_array_equal(seen["own"][0], images[48:])
    np.testing.assert_array_equal(seen["held_out"][0], images[:48])
    judged = evaluate(seen["trained"], *seen["held_out"], backend=fast).accuracy
    assert found["float"] == 100 * judged
    bare = build(
        {"network": "separable", "width": 0.125, "image_scale": 1.0}
        | {"image_zero_point": 0},
        rng=np.random.default_rng([1, 1]),
    )
    assert list(seen["trained"].layers) == list(bare.layers)
    for name, layer in seen["trained"].layers.items():
        if hasattr(layer, "w"):
            assert layer.weight_quant is None
            np.testing.assert_array_equal(layer.w.value, bare.layers[name].w.value)
    image = seen["trained"].layers["image"]
    assert (image.scale, image.zero_point) == (1.0, 0)
    assert (seen["epochs"], seen["training"].batch) == (3, 64)
    same_rates(seen["training"].schedule, PARETO_CIFAR.schedule(2, epochs=3), 6)
