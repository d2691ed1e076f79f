"""What objects look like at the prompt: short, of the right numbers, escaped."""

import inspect

import numpy as np
import pytest

import refqnn
from refqnn import data, ops, prompt, quantizers
from refqnn.core import Buffer, Param, Run, named_params
from refqnn.cost import cost
from refqnn.deploy import deploy
from refqnn.networks import imagenet_resnet, mobilenetv2, resnet, vgg
from refqnn.nn import Conv2d, Sequential
from refqnn.nn.description import kind, layer_rows


def network(depth=20, **options):
    options = {"weight_bits": 4, "activation_bits": 4} | options
    return resnet(depth, rng=np.random.default_rng(0), **options)


@pytest.mark.parametrize("method", ["lsq", "pareto", "abc", "weq"])
@pytest.mark.parametrize("shortcut", "AB")
def test_a_network_has_a_line_a_layer(method, shortcut):
    net = network(method=method, shortcut=shortcut)
    lines = repr(net).split("\n")
    assert len(lines) < 60
    assert (
        len(lines) == 2 + 1 + 1 + 18 + 2 + 2
    )  # title, head; image, stem, blocks, ends
    count = sum(p.value.size for p in named_params(net).values())
    assert lines[0] == f"resnet 20 {method}: {count:,} parameters"
    assert sum(row["parameters"] for row in layer_rows(net)) == count


def test_the_row_of_a_layer():
    rows = {row["name"]: row for row in layer_rows(network(8, method="lsq"))}
    assert rows["stage2_block1.conv1"] == {
        "name": "stage2_block1.conv1",
        "layer": "Conv2d stride 2 padding 1",
        "weights": "(32, 16, 3, 3)",
        "bits": "LSQ 4 bits",
        "parameters": 32 * 16 * 9 + 1 + 64 + 1,
        "then": "BatchNorm2d, ReLU, LSQ 4 bits",
    }
    assert rows["classifier"]["bits"] == ""


@pytest.mark.parametrize(
    "net",
    [
        mobilenetv2(weight_bits=4, activation_bits=4, rng=None),
        imagenet_resnet(50, weight_bits=4, activation_bits=4, rng=None),
        vgg("11", rng=None),
    ],
    ids=lambda net: net.config["network"],
)
def test_other_networks_are_short_and_whole(net):
    lines = repr(net).split("\n")
    assert len(lines) < 65
    assert max(map(len, lines)) < 160
    count = sum(p.value.size for p in named_params(net).values())
    assert sum(row["parameters"] for row in layer_rows(net)) == count
    weights = [row for row in layer_rows(net) if row["weights"]]
    assert all("weight_quant" not in row["name"] for row in weights)
    page = net._repr_html_()
    assert page.count("<tr>") == len(lines) - 1


def test_blocks_and_layers():
    block = network(8, shortcut="B").layers["stage2_block1"]
    assert repr(block).startswith("BasicBlock: ")
    assert len(repr(block).split("\n")) == 5
    assert "\n" not in repr(block.conv1)
    assert repr(Sequential({})) == "Sequential: 0 parameters\n"
    line = repr(Conv2d(Param(np.ones((2, 1, 3, 3), np.float32))))
    assert line.startswith("Conv2d(w=Param(value=float32 (2, 1, 3, 3), group='weight')")


def test_parameters_and_buffers():
    assert repr(Param(np.ones((2, 3)))) == (
        "Param(value=float64 (2, 3), group='weight')"
    )
    assert repr(Buffer(np.array(3))) == "Buffer(value=3)"
    quantizer = quantizers.LSQ()
    quantizer.set_step(0.25)
    assert "s=Param(value=0.25, group='quantizer')" in repr(quantizer)


def test_caches_are_one_line(rng):
    x, w = rng.normal(size=(8, 16, 12, 12)), rng.normal(size=(32, 16, 3, 3))
    caches = [
        ops.conv2d(x, w)[1],
        ops.batch_norm(x, np.ones(16), np.zeros(16))[1],
        ops.relu(x)[1],
        quantizers.lsq(x, np.array(0.1), q_n=8, q_p=7)[1],
        quantizers.pact(x, np.array(1.0), bits=4)[1],
    ]
    for cache in caches:
        assert "\n" not in repr(cache)
        assert len(repr(cache)) < 400
        assert repr(cache).startswith(type(cache).__name__)
    assert "u=float64 (8, 16, 12, 12)" in repr(caches[3])


def test_every_cache_of_ops_and_quantizers_is_short():
    rooms = (refqnn.ops, refqnn.quantizers)
    modules = [m for r in rooms for _, m in inspect.getmembers(r, inspect.ismodule)]
    caches = {
        kind
        for module in modules
        for name, kind in inspect.getmembers(module, inspect.isclass)
        if name.endswith("Cache")
    }
    assert len(caches) > 25
    assert all(kind.__repr__ is prompt.short_repr for kind in caches)


def test_data_cost_and_integers(rng):
    assert repr(data.embedded()) == (
        "Dataset(4,000 images to train on, 1,000 to judge by: "
        "uint8 (1, 28, 28), 10 classes)"
    )
    net = network(8, width=0.25, method="pareto")
    whole = cost(net, (1, 8, 8))
    lines = repr(whole).split("\n")
    assert len(lines) == 2 + len(whole.layers)
    assert f"C_size {whole.c_size_bits:,} bits" in lines[0]
    assert whole._repr_html_().count("<tr>") == 1 + len(whole.layers)
    images = rng.integers(0, 256, (8, 1, 8, 8)).astype(np.uint8)
    net.forward(images, Run(training=True))
    integers = deploy(net, image_size=(8, 8))
    assert repr(integers) == integers.listing()
    assert len(repr(integers).split("\n")) < 100


def test_tables_escape_and_align():
    page = prompt.html_table("t", [{"<b>": "<script>"}])
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert prompt.text_table([]) == ""
    assert prompt.short("x" * 100) == "'" + "x" * 56 + "..."
    assert prompt.short((1,)) == "(1,)"


def test_only_settings_that_are_not_usual_are_named():
    w = Param(np.ones((4, 1, 3, 3)))
    assert kind(Conv2d(w)) == "Conv2d"
    assert kind(Conv2d(w, stride=2)) == "Conv2d stride 2"
    assert kind(Conv2d(w, dilation=2, groups=4)) == "Conv2d dilation 2 groups 4"
