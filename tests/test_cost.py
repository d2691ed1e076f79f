"""Sizes, multiply-adds, footprints and accumulators against numbers worked by hand."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refqnn.core import Param, Run, named_modules
from refqnn.cost import (
    Cost,
    LayerCost,
    accumulator_bits,
    c_size_bits,
    cost,
    count,
    signed_bits,
)
from refqnn.networks import METHODS, resnet
from refqnn.nn import (
    Conv2d,
    GlobalAvgPool2d,
    ImageInput,
    Linear,
    MaxPool2d,
    PadShortcut,
    ReLU,
    Sequential,
)
from refqnn.quantizers import Affine, Binary, FixedPoint, Ternary


def made(depth=8, **options):
    return resnet(depth, rng=np.random.default_rng(0), **options)


def test_resnet20_multiply_adds():
    # stem 16 * 27 * 32^2, stage 1: 6 * 16 * 144 * 32^2, stages 2 and 3: half the first
    # convolution and five whole ones each, classifier 64 * 10
    stage = 16 * 144 * 32**2
    want = 16 * 27 * 32**2 + 6 * stage + 2 * (stage // 2 + 5 * stage) + 640
    assert cost(made(20, in_channels=3), (3, 32, 32)).macs == want == 40_551_040


def by_hand():
    """Return conv 2x1x3x3 (8 bit) on 6x6, quantized, pooled, padded, linear (2 bit)."""
    ones = np.ones
    return Sequential(
        {
            "image": ImageInput(1.0, 3),
            "conv": Conv2d(
                Param(ones((2, 1, 3, 3))), padding=1, weight_quant=FixedPoint(bits=8)
            ),
            "relu": ReLU(),
            "quant": Affine(bits=4),
            "pool": MaxPool2d(2),
            "pad": PadShortcut(channels=3, stride=1),
            "depthwise": Conv2d(
                Param(ones((3, 1, 3, 3))),
                Param(ones(3)),
                stride=2,
                groups=3,
                weight_quant=Binary(),
            ),
            "mean": GlobalAvgPool2d(),
            "classifier": Linear(Param(ones((5, 3))), Param(ones(5))),
        }
    )


def test_a_network_by_hand():
    found = cost(by_hand(), (1, 6, 6))
    assert found.layers == (
        LayerCost(
            name="layers.conv",
            kind="Conv2d",
            input_shape=(1, 6, 6),
            output_shape=(2, 6, 6),
            weights=18,
            weight_bits=8,
            input_bits=8,
            macs=18 * 36,
            accumulator_bits=signed_bits(9 * codes_of_ones(8) * 255),
            scale_bits=2 * 32,  # a scale a filter
            codebook_bits=0,
        ),
        LayerCost(
            name="layers.depthwise",
            kind="Conv2d",
            input_shape=(3, 3, 3),
            output_shape=(3, 1, 1),
            weights=27,
            weight_bits=1,
            input_bits=4,
            macs=27,
            accumulator_bits=9,  # 9 * 15 = 135
            scale_bits=3 * 32,
            codebook_bits=0,
        ),
        LayerCost(
            name="layers.classifier",
            kind="Linear",
            input_shape=(3,),
            output_shape=(5,),
            weights=15,
            weight_bits=32,
            input_bits=32,
            macs=15,
            accumulator_bits=None,
            scale_bits=0,
            codebook_bits=0,
        ),
    )
    assert found.c_size_bits == 18 * 8 + 27 + 15 * 32
    assert found.storage_bits == found.c_size_bits + 5 * 32
    assert found.macs == 18 * 36 + 27 + 15
    assert found.bit_operations == 18 * 36 * 64 + 27 * 4 + 15 * 32 * 32
    assert found.footprint_bits_separate_maxima() == (36 + 72) * 8 + found.c_size_bits
    assert found.footprint_bits_joint_maximum(map_bits=1) == 108 + found.c_size_bits


def codes_of_ones(bits):
    q, _, _ = FixedPoint(bits=bits).quantize(np.ones((1, 9)))
    return int(q[0, 0])


def layer(i, o):
    return LayerCost("l", "Conv2d", (i, 1, 1), (o, 1, 1), 0, 8, 8, 0, None)


def test_the_two_readings_of_the_footprint():
    found = Cost((layer(3, 5), layer(4, 2), layer(1, 6)))
    assert found.footprint_bits_separate_maxima() == 8 * (4 + 6)
    assert found.footprint_bits_joint_maximum() == 8 * (3 + 5)


def test_as_dict_is_plain_json():
    found = cost(by_hand(), (1, 6, 6))
    plain = json.loads(json.dumps(found.as_dict()))
    assert plain["c_size_bits"] == found.c_size_bits
    assert plain["macs"] == found.macs
    assert plain["bit_operations"] == found.bit_operations
    assert [row["c_size_bits"] for row in plain["layers"]] == [144, 27, 480]
    assert [row["bit_operations"] for row in plain["layers"]] == [41472, 108, 15360]
    separate, joint = (
        plain[f"footprint_bits_{reading}"]
        for reading in ("separate_maxima", "joint_maximum")
    )
    assert (separate, joint) == (
        found.footprint_bits_separate_maxima(),
        found.footprint_bits_joint_maximum(),
    )


def test_cost_leaves_the_network_alone():
    network = made(width=0.2, activation_bits=4)
    before = network.layers["stem_norm"].mean.value.copy()
    cost(network, (1, 8, 8))
    np.testing.assert_array_equal(network.layers["stem_norm"].mean.value, before)
    assert not network.layers["stem_quant"].updates.value


def test_bits_of_a_quantized_resnet():
    found = cost(made(weight_bits=2, activation_bits=3, shortcut="B"), (1, 8, 8))
    bits = {row.name.removeprefix("layers."): row for row in found.layers}
    assert [bits["stem"].weight_bits, bits["stem"].input_bits] == [8, 8]
    assert [bits["classifier"].weight_bits, bits["classifier"].input_bits] == [8, 8]
    del bits["stem"], bits["classifier"]
    assert {row.weight_bits for row in bits.values()} == {2}
    assert {row.input_bits for row in bits.values()} == {3}
    assert "stage2_block1.shortcut.layers.conv" in bits


def test_size_is_linear_in_bits_and_does_not_depend_on_the_image():
    sizes = {
        bits: cost(made(weight_bits=bits, width=0.5), (1, 8, 8)).c_size_bits
        for bits in (1, 2, 4, 8)
    }
    inner = sizes[2] - sizes[1]
    assert [sizes[b] - sizes[1] for b in (2, 4, 8)] == [inner, 3 * inner, 7 * inner]
    larger = cost(made(weight_bits=4, width=0.5), (1, 28, 20)).c_size_bits
    assert larger == sizes[4]


@pytest.mark.parametrize("magnitude", [0, 1, 2, 3, 4, 127, 128, 2**31 - 1, 2**31])
def test_signed_bits(magnitude):
    b = signed_bits(magnitude)
    assert magnitude <= 2 ** (b - 1) - 1
    assert b == 1 or magnitude > 2 ** (b - 2) - 1


QUANTS = {"fixed point": FixedPoint(bits=3), "ternary": Ternary(), "binary": Binary()}


@pytest.mark.parametrize("name", QUANTS)
@given(seed=st.integers(0, 2**32 - 1))
def test_accumulators_hold_every_input_and_are_tight(name, seed):
    rng = np.random.default_rng(seed)
    w = Param(rng.standard_normal((2, 1, 1, 3)))
    quant = QUANTS[name]
    q, _, zero_point = quant.quantize(w.value)
    codes = (q.astype(int) - zero_point).reshape(2, 3)
    inputs = np.array(list(itertools.product(range(-3, 4), repeat=3)))
    worst = np.abs(inputs @ codes.T).max()
    layer = Conv2d(w, weight_quant=quant)
    assert accumulator_bits(layer, 2) == signed_bits(int(worst))


class Shifted:
    """Codes 0..3 whose zero is 1."""

    bits = 2

    def quantize(self, v):
        return v.astype(np.uint8), np.ones(()), np.array(1)


def test_accumulators_count_from_the_zero_point():
    w = Param(np.array([[0.0, 3.0, 1.0], [1.0, 0.0, 0.0]]))  # 1 + 2 + 0, 0 + 1 + 1
    found = accumulator_bits(Linear(w, weight_quant=Shifted()), 3)
    assert found == signed_bits(3 * 7)


def test_accumulators_need_integers():
    w = Param(np.ones((1, 1, 1, 1)))
    assert accumulator_bits(Conv2d(w), 8) is None
    assert accumulator_bits(Conv2d(w, weight_quant=Binary()), 32) is None


def test_names_are_those_of_the_network():
    network = made(width=0.1)
    names = {name for name, _ in named_modules(network)}
    found = cost(network, (1, 8, 8))
    assert len(found.layers) == 8
    assert {row.name for row in found.layers} <= names
    network.forward(np.zeros((1, 1, 8, 8), np.uint8), Run())


#: method -> bits, then float32 numbers of scales and codebook of 4x4x3x3 weights
TABLES = {
    "pareto": (3, 4, 0),  # a clip a filter
    "qil": (3, 1, 0),  # gamma = 1: levels in [-1, 1]
    "lq": (3, 0, 4 * 3),  # a basis of three numbers a filter
    "pact": (3, 1, 0),
    "sawb": (3, 1, 0),
    "dorefa": (3, 1, 0),
    "abc": (3, 0, 4),  # M + 1 levels of the layer
    "balanced": (3, 1, 0),
    "tsq": (2, 4, 0),
    "syq": (2, 9, 0),  # a scale a position of the kernel
    "weq": (3, 0, 8),  # 2^b levels of the layer
    "lsq": (3, 1, 0),
    "lsq_channel": (3, 4, 0),  # a step a filter
    "lsq_plus": (3, 1, 0),
    "learned_range": (3, 1, 0),
    "xnor": (1, 4, 0),
    "twn": (2, 1, 0),
    "ttq": (2, 2, 0),  # a positive and a negative level
    "haq": (3, 1, 0),
    "kmeans": (3, 8, 0),  # 2^b learned centroids
    "min_max": (3, 1, 0),
}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_counted(method):
    bits, scales, codebook = TABLES[method]
    options = {"weight_bits": bits, "activation_bits": 3, "width": 0.25}
    network = made(method=method, **options)
    whole = cost(network, (1, 8, 8))
    inner = next(x for x in whole.layers if x.name == "layers.stage1_block1.conv2")
    assert inner.weights == 144
    assert (inner.weight_bits, inner.input_bits) == (bits, 3)
    assert (inner.scale_bits, inner.codebook_bits) == (32 * scales, 32 * codebook)
    tables = sum(x.scale_bits + x.codebook_bits for x in whole.layers)
    assert whole.storage_bits == whole.c_size_bits + tables
    counted = count(network, (1, 8, 8))
    assert counted.c_size_bits == whole.c_size_bits == c_size_bits(network)
    with pytest.raises(ValueError, match="count knows no scales"):
        _ = counted.storage_bits


def test_a_quantizer_that_says_nothing_of_its_codes_raises():
    conv = Conv2d(Param(np.ones((1, 1, 1, 1))), weight_quant=object())
    with pytest.raises(ValueError, match="object must have an int as bits, bases or"):
        c_size_bits(Sequential({"conv": conv}))
