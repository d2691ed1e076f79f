"""Studies of the Pareto paper: their runs, rows, tables and figures."""

from dataclasses import replace

import numpy as np
import pytest
from refusals import refuses
from tables.networks import pixels
from tables.study_runs import run_quick

from refqnn.core import Run
from refqnn.cost import c_size_bits
from refqnn.networks import build
from refqnn.nn import steps_per_epoch
from refqnn.papers.pareto import study, study_curves, study_dual_precision
from refqnn.papers.pareto.sensitivity import KINDS, log_odds
from refqnn.papers.pareto.single_training import (
    EPOCHS,
    PRESET,
    images_of_run,
    named_images,
)
from refqnn.papers.pareto.sizes import size_shares
from refqnn.papers.pareto.study_curves import standard_error, verdicts
from refqnn.papers.pareto.study_dual_precision import FAMILIES, METHODS
from refqnn.papers.printed_tables import read_table
from refqnn.studies.study import study_named
from refqnn.studies.sweep import Outcome


@pytest.mark.compiled
def test_sizes_have_the_printed_digits_and_aligned_widths(tmp_path):
    _, rows, text, figures = run_quick("pareto_sizes", tmp_path)
    assert [row["agrees"] for row in rows["table3"]].count(True) == 12
    assert [row["agrees"] for row in rows["table3"]].count(None) == 6
    assert len(rows["near_misses"]) == 21
    widths = [(row["bits"], row["width"]) for row in rows["alignment"]]
    assert widths == [(2, 0.7), (2, 1.4), (1, 0.96), (1, 1.96)]
    assert text.count("True") == 12
    assert "False" not in text
    assert "mobilenetv2  Flexible" in text
    assert figures == {}


def test_depthwise_weights_of_the_aligned_variant_keep_4_bits():
    rows = study.alignment_run(network="vgg11c_dw4", widths=(0.25, 0.25))
    assert {row["network"] for row in rows} == {"vgg11c"}
    assert {row["depthwise_bits"] for row in rows} == {4}
    plain = study.alignment_run(network="vgg11c", widths=(0.25, 0.25))
    assert [row["depthwise_bits"] for row in plain] == [2, 2, 1, 1]
    assert plain[-1]["width"] > rows[-1]["width"]


def test_simulated_clips_are_those_of_closed_form(tmp_path):
    _, rows, text, figures = run_quick("pareto_clip", tmp_path, bits=(3, 8))
    assert [row["bits"] for row in rows] == [3, 8]
    for row in rows:  # 0.03 and more at 8 bits, were the draws plain
        np.testing.assert_allclose(row["c"], row["c_used"], rtol=3e-3)
    assert len(text.splitlines()) == 3
    assert [*figures] == [""]


def test_experiments_agree_with_the_proposition(tmp_path):
    _, rows, text, figures = run_quick("pareto_variance", tmp_path, draws=1000)
    assert rows["draws"] == 1000
    assert len(rows["points"]) == 3 * 8 + 2 * 4
    assert rows["largest_abs_z"] < 5
    assert rows["printed_negative"] > 5
    for p in rows["points"]:
        if p["r"] == 0 and p["d"] > 1:
            assert p["printed"] < 0 < p["exact"]
    assert {p["d"] for p in rows["points"] if p["family"] == "channels"} == {
        9,
        36,
        81,
        144,
    }
    assert len(text.splitlines()) == 3 + 3 * 8 + 2 * 4
    left, right = figures[""].axes
    assert len(left.containers) == 3
    assert len(right.containers) == 2


@pytest.mark.compiled
def test_sensitivity_has_the_rows_of_both_tables(tmp_path):
    given = {"images": "textures", "train": 128}
    settings, rows, text, figures = run_quick("pareto_sensitivity", tmp_path, **given)
    assert rows["images"] == {"of": "textures", "size": 10, "train": 128}
    assert rows["seeds"] == [0]
    assert list(rows["table1"]) == ["4 bit DWConv, 1x", "all, 1x"]
    assert list(rows["table2"]) == ["1 x 3 x 3", "1 x 6 x 6"]
    for row in (*rows["table1"].values(), *rows["table2"].values()):
        np.testing.assert_allclose(np.add(row["quantized"], row["grown"]), row["total"])
        low, high = (np.add(row["high"], step) for step in (row["quantized"], 0))
        odds = log_odds(low) - log_odds(high)
        np.testing.assert_allclose(row["quantized_log_odds"], odds)
    assert rows["figure4"]["1 x 6 x 6"]["depthwise2"]["d"] == 36
    assert "4       3       -6.42    " in text
    assert [*figures] == [""]
    record = (tmp_path / "sensitivity.jsonl").read_text()
    again = run_quick("pareto_sensitivity", tmp_path, tables=("table1",), **given)
    assert again[1]["table1"] == rows["table1"]
    assert "table2" not in again[1]
    assert again[3] == {}
    assert (tmp_path / "sensitivity.jsonl").read_text() == record
    assert settings.kinds < len(KINDS)


def outcome(network, accuracy, size):
    return Outcome(
        {"network": network}, {"accuracy": accuracy, "c_size_bits": size}, None
    )


@pytest.mark.once
def test_curves_train_every_network_with_every_seed(tmp_path):
    chosen = study_named("pareto_curves")
    settings = chosen.settings(families=("resnet", "vgg11c_dw4"), seeds=(3, 5))
    (stage,) = chosen.stages(settings, tmp_path)
    networks = [run["network"] for run in stage.runs[::2]]
    assert len(networks) == 3 * 3 * (3 + 1)
    assert [run["seed"] for run in stage.runs] == [3, 5] * len(networks)
    assert [n["weight_bits"] for n in networks] == [4, 2, 1] * 12
    assert [n["depth"] for n in networks[:27]] == [8] * 9 + [14] * 9 + [20] * 9
    assert {n["depthwise_bits"] for n in networks[27:]} == {4}
    assert [run["images"]["size"] for run in stage.runs[::18]] == [14, 14, 14, 32]
    assert {run["epochs"] for run in stage.runs} == {EPOCHS["embedded"]}
    assert all(n["activation_bits"] == 4 for n in networks)
    outcomes = [
        outcome(n, a + i, 100 * i) for i, n in enumerate(networks) for a in (0, 1)
    ]
    rows = chosen.rows(settings, outcomes)
    assert [p["network"] for own in rows.values() for p in own] == networks
    assert [p["member"] for p in rows["resnet"]] == [0] * 9 + [1] * 9 + [2] * 9
    assert {p["member"] for p in rows["vgg11c_dw4"]} == {0}
    assert [p["accuracies"] for p in rows["vgg11c_dw4"]][:2] == [[27, 28], [28, 29]]
    figures = chosen.figures(settings, [replace_size(o) for o in outcomes])
    assert [*figures] == ["_figure1", "_figure3"]
    notes = [text.get_text() for text in figures["_figure1"].axes[0].texts]
    assert "markers: depths" in notes


def replace_size(one):
    return one._replace(result=one.result | {"c_size_bits": 1 + one.result["accuracy"]})


@pytest.mark.compiled
def test_a_quick_curve_has_three_networks_of_about_one_size(tmp_path):
    given = {"families": ("inv_resnet26",), "train": 64, "sizes": 1, "epochs": 1}
    _, rows, text, figures = run_quick("pareto_curves", tmp_path, **given)
    assert [point["bits"] for point in rows["inv_resnet26"]] == [4, 2, 1]
    sizes = [point["c_size_bits"] for point in rows["inv_resnet26"]]
    assert 0.8 * sizes[0] < min(sizes) <= max(sizes) == sizes[0]
    assert "C_size, kbit" in text
    assert "dominates (definition 4.1): undecided" in text  # one seed
    assert all(0.1 < p["depth-wise"] < 0.5 for p in rows["inv_resnet26"])
    assert [*figures] == ["_figure2"]


def test_verdicts_name_who_leads_at_every_size():
    def point(bits, size, *accuracies):
        row = {"member": 0, "bits": bits, "c_size_bits": size}
        return row | {"accuracies": accuracies}

    rows = [point(b, s, b + 80.0, b + 80.1) for b in (4, 2, 1) for s in (10, 20)]
    assert [*verdicts(rows)] == ["4 bit over 2, 4 bit over 1, 2 bit over 1"]
    rows = [point(b, s, 70.0, 90.0) for b in (4, 2, 1) for s in (10, 20)]
    assert [*verdicts(rows)] == ["not comparable"]
    assert standard_error([1.0, 3.0]) == pytest.approx(1.0)
    assert np.isnan(standard_error([1.0]))
    rows = [point(b, s, 80.0 + b / 100) for b in (4, 2, 1) for s in (10, 20)]
    assert [*verdicts(rows)] == ["undecided, one seed has no standard error"]


@pytest.mark.once
def test_dual_precision_trains_what_the_grid_and_haq_have_chosen(tmp_path, monkeypatch):
    """Accuracy is the bits of depth-wise weights, so that the cell of 8 is the best."""
    asked, judged = [], []

    def trained(*, network, seed, images, policy=None, **_):
        asked.append((network["network"], seed, policy))
        assert network["activation_bits"] == 8
        judged.append(images.get("held_out", False))
        bits = network.get("depthwise_bits", network["weight_bits"]) or 32
        return {
            "accuracy": float(bits + seed),
            "c_size_bits": 1000 + len(asked),
            "footprint_bits_separate_maxima": 2000,
        }

    def searched(*, network, episodes, **_):
        layers = {"separable": "pointwise2", "resnet": "stage1_block1.conv1"}
        return {"policy": {layers[network["network"]]: 3}, "episodes": episodes}

    monkeypatch.setattr(study_dual_precision, "pareto_run", trained)
    monkeypatch.setattr(study_dual_precision, "policy_run", searched)
    given = {"seeds": (0, 2), "widths": (0.5, 0.75)}
    name = "pareto_dual_precision"
    settings, rows, text, figures = run_quick(name, tmp_path, **given)
    separable, resnet = rows["separable"], rows["resnet8"]
    pairs = [(cell["bits"], cell["depthwise_bits"]) for cell in separable["grid"]]
    assert pairs == [(1, 1), (1, 8), (8, 1), (8, 8)]
    assert [cell["accuracies"] for cell in separable["grid"]][1] == [8.0, 10.0]
    assert separable["pair"] == {"weight_bits": 1, "depthwise_bits": 8}
    assert [cell["depthwise_bits"] for cell in resnet["grid"]] == [None, None]
    assert resnet["pair"] == {"weight_bits": 8}
    assert separable["iso"] == {"32": [32, 34], "8": [8, 10], "4": [4, 6]}
    for result in (separable, resnet):
        assert [row["method"] for row in result["rows"]] == [*METHODS] * 2
        assert [row["width"] for row in result["rows"][::3]] == [0.5, 0.75]
        assert result["flexible"]["episodes"] == settings.episodes
    policies = [(network, policy) for network, _, policy in asked if policy]
    assert policies == [
        *[("separable", {"pointwise2": 3})] * 4,
        *[("resnet", {"stage1_block1.conv1": 3})] * 4,
    ]
    assert "best: {'weight_bits': 1, 'depthwise_bits': 8}" in text
    assert text.count(" ± 1.41") == 2 * (3 + 6) + 4 + 2  # iso, table 3; table 7
    assert judged == [True] * 2 * (4 + 3 + 2 + 3) + [False] * 2 * 2 * 6
    assert 0 < resnet["rows"][0]["ends"] < 1
    assert resnet["rows"][0]["depth-wise"] == 0 < separable["rows"][0]["depth-wise"]
    assert [*figures] == ["_figure6", "_figure7"]
    assert len(figures["_figure7"].axes) == 4
    many = len(asked)
    assert run_quick(name, tmp_path, **given)[1] == rows
    assert len(asked) == many


def test_fixed_ends_have_the_channels_of_the_smallest_network():
    chosen = study_named("pareto_dual_precision")
    for ends, shapes in (("fixed", {(8, 1, 3, 3), (10, 16)}), ("scaled", None)):
        s = chosen.settings(ends=ends)
        networks = study_dual_precision.eight_bits(s, FAMILIES["separable"])
        made = [build(network).layers for network, _ in networks]
        own = {n[name].w.value.shape for n in made for name in ("stem", "classifier")}
        assert own == shapes if shapes else len(own) == 6
        one = replace(s, precisions=(1,))
        cell, *_ = study_dual_precision.searched_networks(one, FAMILIES["separable"])
        share = {"fixed": 0.26, "scaled": 0.61}[ends]  # of 1-bit weights
        assert size_shares(build(cell))["ends"] == pytest.approx(share, abs=0.005)
    s = chosen.settings(families=("resnet8",))
    for network, _ in study_dual_precision.eight_bits(s, FAMILIES["resnet8"]):
        layers = build(network).layers
        assert layers["stem"].w.value.shape[0] == 4
        last = layers["stage3_block1"]
        assert last.conv1.w.value.shape[0] == 64 * network["width"]
        assert (
            last.conv2.w.value.shape[0] == 16 == layers["classifier"].w.value.shape[1]
        )
        np.testing.assert_array_equal(  # it runs, where stages grow and where not
            build(network)
            .forward(pixels(np.random.default_rng(0), n=2), Run())[0]
            .shape,
            (2, 10),
        )


def test_methods_may_have_their_memory_in_common():
    chosen, sides = study_named("pareto_dual_precision"), {}
    for align_by in ("size", "memory"):
        s = chosen.settings(align_by=align_by, widths=(0.5,))
        pair = {"weight_bits": 1, "depthwise_bits": 8}
        three = study_dual_precision.aligned_networks(
            s, FAMILIES["separable"], pair, {}
        )
        eight, _, dual = [build(network) for network, _ in three]
        sides[align_by] = dual.config["width"]
        assert 0.9 * s.measure(eight) < s.measure(dual) <= s.measure(eight)
    assert sides["memory"] < sides["size"]  # maps do not shrink with the weights


def test_gains_are_paired_over_the_seeds():
    accuracies = ([70.0, 80.0], [71.0, 80.0], [72.0, 82.0])
    rows = [
        {"method": m, "accuracies": a, "c_size_bits": 9}
        for m, a in zip(METHODS, accuracies, strict=True)
    ]
    over_eight, over_flexible = study_dual_precision.gains(rows)
    expected = "DualPrecision less 8 bit, 9 bits: 2.00 points, 2.00 to 2.00"
    assert over_eight == expected
    assert over_flexible.endswith("Flexible, 9 bits: 1.50 points, -4.85 to 7.85")


def test_held_out_images_are_of_the_training_images():
    shown = {"of": "embedded", "size": 14, "train": 100, "seed": 0, "folder": None}
    every, held = images_of_run(**shown), images_of_run(**shown, held_out=True)
    assert (len(held.train_images), len(held.test_images)) == (75, 25)
    again = np.concatenate([held.train_images, held.test_images])
    np.testing.assert_array_equal(again, every.train_images)


def test_curves_take_the_bits_of_activations_that_are_asked_for(tmp_path):
    chosen = study_named("pareto_curves")
    own = {"families": ("inv_resnet26",), "activation_bits": 8, "sizes": 1}
    settings = chosen.settings(**own)
    (stage,) = chosen.stages(settings, tmp_path)
    assert {run["network"]["activation_bits"] for run in stage.runs} == {8}


def test_trainings_have_the_steps_that_are_documented():
    """Incomplete last batches are left out."""
    many = {name: named_images(name)[0]["train"] for name in ("textures", "embedded")}
    many["fashion_mnist"] = 60_000
    steps = {
        of: EPOCHS[of] * steps_per_epoch(n, PRESET.batch) for of, n in many.items()
    }
    assert steps == {"textures": 700, "embedded": 496, "fashion_mnist": 937}
    whole = study_curves.TRAIN["fashion_mnist"]
    assert steps_per_epoch(whole, PRESET.batch) == 312


WRONG = [
    ("pareto_clip", {"draws": "1"}, "draws must be at least 2, got 1"),
    ("pareto_variance", {"draws": "1"}, "draws must be at least 2, got 1"),
    ("pareto_variance", {"seed": "x"}, "seed must be a whole number, got 'x'"),
    ("pareto_sizes", {"networks": "resnet9"}, "networks must be of .*'resnet9'"),
    ("pareto_sensitivity", {"tables": "table3"}, "tables must be of .* got 'table3'"),
    ("pareto_sensitivity", {"seeds": "0,-1"}, "seeds must be at least 0, got -1"),
    ("pareto_curves", {"families": "resnet50"}, "families must be of .*'resnet50'"),
    ("pareto_curves", {"sizes": "0"}, "sizes must be at least 1, got 0"),
    ("pareto_dual_precision", {"episodes": "0"}, "episodes must be at least 1, got 0"),
    ("pareto_dual_precision", {"families": "vgg"}, "families must be of .*got 'vgg'"),
    ("pareto_dual_precision", {"ends": "own"}, "ends must be of .*got 'own'"),
    ("pareto_dual_precision", {"align_by": "own"}, "align_by must be of .*got 'own'"),
]


@pytest.mark.parametrize(("name", "given", "message"), WRONG)
def test_settings_that_are_refused(name, given, message):
    refuses(message, study_named(name).settings_with, **given)


@pytest.mark.parametrize(
    "name", ["pareto_sensitivity", "pareto_curves", "pareto_dual_precision"]
)
def test_images_that_there_are_not_are_refused(name, tmp_path):
    chosen = study_named(name)
    settings = chosen.settings_with(quick=True, images="/nowhere")
    refuses("/nowhere", next, iter(chosen.stages(settings, tmp_path)))
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        next(iter(chosen.stages(replace(settings, images=str(tmp_path)), tmp_path)))


def test_families_of_curves_are_those_of_their_titles():
    families = study_curves.FAMILIES
    assert [m["depth"] for m in families["resnet"].members] == [8, 14, 20]
    assert families["resnet"].title == "ResNet-8, -14, -20"
    for name in "abc":
        (member,) = families[f"vgg11{name}"].members
        assert member["variant"] == name
        assert families[f"vgg11{name}"].title == f"VGG11, variant {name.upper()}"
    wide = families["resnet26_wide"]
    assert wide.widths == (10,)
    assert "resnet26_wide" not in study_curves.DRAWN  # days of training
    ours = (one for one in families.values() if one is not wide)
    assert all(0 < width < 1 for one in ours for width in one.widths)
    figures = {name: family.figure for name, family in families.items()}
    first = [name for name, figure in figures.items() if figure == 1]
    assert first == ["resnet", "vgg11", "mobilenetv2", "resnet26_wide"]
    second = [name for name, figure in figures.items() if figure == 2]
    assert second == ["inv_resnet26", "mobilenetv2_dw4", "inv_resnet26_dw4"]
    for name in second[1:]:  # of experiments, not of the paper's figures
        assert name not in study_curves.DRAWN
        plain = families[name.removesuffix("_dw4")].members[0]
        assert families[name].members[0] == {**plain, "depthwise_bits": 4}


def test_the_best_pair_is_a_cell_of_the_grid():
    cells = ([0.5, 0.7], [0.5, 0.5], [0.6, 0.6], [0.9, 0.5])
    accuracies = (*cells, [1, 1], [1, 1], [1, 1])
    scores = [
        ({"weight_bits": n, "width": 1.0}, {"accuracies": given})
        for n, given in enumerate(accuracies)
    ]
    assert study_dual_precision.best_pair(scores) == {"weight_bits": 3}


def test_the_papers_widths_have_the_sizes_of_figure_1():
    """ResNet-20, -26 and -56 of 4 bits, and the right-most points, on CIFAR-100."""
    size = {}
    for name in ("resnet", "resnet26_wide"):
        for config in study_curves.paper_family(name).members:
            width = 10.0 if name == "resnet26_wide" else 1.0
            network = config | {"width": width, "weight_bits": 4}
            made = build(network | {"classes": 100, "in_channels": 3})
            size[name, config["depth"]] = round(c_size_bits(made) / 1e6, 3)
    known = [size["resnet", depth] for depth in (20, 26, 56)]
    assert known == [1.124, 1.511, 3.446]
    assert size["resnet26_wide", 26] == pytest.approx(146.16, abs=0.005)


def test_widths_of_fewer_bits_are_near_the_printed_ones():
    (four, _, one) = study_curves.networks_of(
        study_curves.paper_family("resnet")._replace(
            members=[{"network": "resnet", "depth": 26}], widths=(2.0,)
        ),
        4,
        "cifar100",
    )
    printed = [r for r in read_table("pareto_widths.csv") if r["figure"] == "1a"]
    widest = {int(r["bits"]): float(r["widths"].split()[-1]) for r in printed[:3]}
    assert four["width"] == widest[4]
    assert one["width"] == pytest.approx(widest[1], rel=0.03)
    refuses("has none", study_curves.CurvesSettings, scale="paper")
