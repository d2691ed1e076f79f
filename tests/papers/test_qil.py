"""The printed tables of QIL, levels, pruning ratios, progressive fine-tuning."""

import re
from importlib import resources

import numpy as np
import pytest
from tables.networks import pixels

from refqnn.core import named_modules, named_params
from refqnn.networks import METHODS, alexnet, resnet
from refqnn.nn import SGD, Training, cosine
from refqnn.papers.qil import (
    PROGRESSIVE_BITS,
    printed_accuracy,
    printed_drop,
    progressive,
    pruning_ratios,
    weight_levels,
)
from refqnn.quantizers import QILActivation, QILWeight
from refqnn.testing.networks import calibrate


def test_the_printed_tables_hold_every_number():
    rows = printed_accuracy()
    assert len(rows) == 3 + 47
    assert len({row[:3] for row in rows}) == len(rows)
    assert {row.method for row in rows} - set(METHODS) == {"full precision", "zhuang"}
    assert all(40 < row.top1 < row.top5 < 95 for row in rows)
    # column sums over the tables as printed
    assert round(sum(row.top1 for row in rows), 1) == TOP1
    assert round(sum(row.top5 for row in rows), 1) == TOP5


TOP1, TOP5 = 3157.5, 4215.4


@pytest.mark.parametrize(
    ("method", "network", "bits", "top1", "top5"),
    [
        ("qil", "ResNet-34", 4, 0.0, -0.3),
        ("lq", "AlexNet", 2, 4.4, 3.4),
        ("weq", "AlexNet", 2, 11.2, 8.5),
        ("zhuang", "AlexNet", 4, 3.7, 2.3),
        ("abc", "ResNet-18", 3, 9.2, 6.4),
    ],
)
def test_printed_drops(method, network, bits, top1, top5):
    assert np.round(printed_drop(method, network, bits), 1).tolist() == [top1, top5]


def test_blank_cells_have_no_drop():
    assert printed_drop("lq", "ResNet-18", 5) is None
    assert printed_drop("qil", "VGG", 5) is None


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"xnor"}))
def test_levels_of_a_bit_label_are_those_of_the_quantizer(method):
    w = np.random.default_rng(0).standard_normal((1, 4000))
    quantizer = METHODS[method].weights(2, w.shape)
    if isinstance(quantizer, QILWeight):
        quantizer.set_interval(1.0, 1.0)
    network = resnet(8, width=0.2, method=method, weight_bits=2, rng=rng_of(0))
    calibrate(network, pixels(rng_of(1)))
    layers = dict(named_modules(network))
    _, levels = layers["layers.stage1_block1.conv1.weight_quant"].encode(
        layers["layers.stage1_block1.conv1"].w.value
    )
    groups = {"lq": 3, "lsq_channel": 3, "pareto": 3, "tsq": 3, "syq": 9}.get(method, 1)
    assert levels.size / groups == weight_levels(method, 2)


def rng_of(seed):
    return np.random.default_rng(seed)


def pruning_network():
    network = alexnet(
        size=12,
        width=1 / 32,
        method="qil",
        weight_bits=3,
        activation_bits=2,
        rng=rng_of(0),
    )
    return calibrate(network, pixels(rng_of(1), n=8, size=12))


def test_pruning_ratios_count_zeros_of_weights_and_inputs():
    network, images = pruning_network(), pixels(rng_of(2), n=5, size=12)
    found = {layer.name: layer for layer in pruning_ratios(network, images)}
    assert list(found) == [f"layer{i}" for i in range(2, 8)]
    assert [layer.kind for layer in found.values()] == ["conv"] * 4 + ["linear"] * 2
    layer = network.layers["layer6"]
    threshold = layer.weight_quant.decision_boundaries(layer.w.value)[0, -3:]
    small = np.abs(layer.w.value) < threshold[0]
    assert found["layer6"].weight_ratio == np.mean(small)
    assert found["layer6"].weights == layer.w.value.size
    assert found["layer2"].activations == 2 * 6 * 6
    assert 0 < found["layer2"].activation_ratio < 1


def test_an_interval_at_its_floor_is_named():
    network, images = pruning_network(), pixels(rng_of(2), n=5, size=12)
    first, *others = pruning_ratios(network, images)
    assert not any(layer.held for layer in (first, *others))
    layer = dict(named_modules(network))[f"layers.{first.name}"]
    floor = np.abs(layer.w.value).max() / 64
    for share, held in ((1.0, True), (1.3, True), (2.1, False)):
        layer.weight_quant.set_interval(share * floor, share * floor)
        first, *others = pruning_ratios(network, images)
        assert first.held == held
        assert not any(layer.held for layer in others)


def test_a_float_network_has_nothing_to_prune():
    network = alexnet(size=12, width=1 / 32, rng=rng_of(0))
    assert pruning_ratios(network, pixels(rng_of(2), n=2, size=12)) == []


def begin(network, rng, epochs):
    optimiser = SGD(named_params(network), lr_factors={"quantizer": 0.1})
    return Training(
        network, optimiser, cosine(0.01, steps=2 * max(epochs, 1)), rng, batch=8
    )


def build(bits, rng):
    options = {"weight_bits": bits, "activation_bits": bits, "method": "qil"}
    return resnet(8, width=0.1, classes=3, rng=rng, **options)


def test_each_stage_starts_from_the_weights_and_intervals_of_the_last():
    images, labels = pixels(rng_of(3), n=16), np.arange(16) % 3
    stages = progressive(
        build, begin, (images, labels), epochs=0, source=None, bits=(5, 2)
    )
    assert [stage.name for stage in stages] == ["5bit", "2bit"]
    trained = progressive(build, begin, (images, labels), epochs=(1, 0), bits=(5, 2))
    first, second = (dict(named_modules(stage.network)) for stage in trained)
    for name, module in first.items():
        if isinstance(module, QILWeight | QILActivation):
            assert (module.bits, second[name].bits) == (5, 2)
            assert module.known.value == second[name].known.value == 1
            for param in ("c", "d"):
                here, there = getattr(module, param), getattr(second[name], param)
                np.testing.assert_array_equal(here.value, there.value)
        if hasattr(module, "w"):
            np.testing.assert_array_equal(module.w.value, second[name].w.value)


@pytest.mark.parametrize("bits", [(4, 5), (3, 3), (5, 4, 4)])
def test_bits_that_do_not_fall_raise(bits):
    with pytest.raises(ValueError, match="bits must fall from stage to stage"):
        progressive(build, begin, (np.zeros(0), np.zeros(0)), bits=bits, epochs=1)


def test_the_stages_of_the_paper():
    assert PROGRESSIVE_BITS == (5, 4, 3, 2)


NAMED = {
    "QIL": "qil",
    "LQ-Nets": "lq",
    "PACT": "pact",
    "DoReFa": "dorefa",
    "ABC-Net, bases for bits": "abc",
    "Balanced": "balanced",
    "Zhuang et al., guided": "zhuang",
    "WEQ": "weq",
    "TSQ": "tsq",
    "SYQ": "syq",
}


def drops_as_text(method, network):
    found = [printed_drop(method, network, bits) for bits in (5, 4, 3, 2)]
    cells = ["-" if drop is None else f"{drop[0]:.1f}" for drop in found]
    return "-" if set(cells) == {"-"} else ", ".join(cells)


def test_the_readme_shows_the_paper_s_drops_and_the_levels_of_each_row():
    readme = (resources.files("refqnn.papers") / "README.md").read_text("utf-8")
    table = readme.split("| method | 5/5 | 4/4 |")[1].split("\n\n")[0]
    rows = [
        [cell.strip() for cell in line[1:-1].split("|")]
        for line in table.splitlines()[2:]
    ]
    assert [row[0] for row in rows] == list(NAMED)
    for name, *measured, paper in rows:
        method = NAMED[name]
        networks = [drops_as_text(method, n) for n in ("ResNet-18", "AlexNet")]
        assert paper == "; ".join(networks)
        for bits, cell in zip((5, 4, 3, 2), measured, strict=True):
            if cell:
                levels = int(re.search(r"\((\d+)\)", cell)[1])
                assert levels == weight_levels(method, bits)
