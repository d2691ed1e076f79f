"""Which networks can be deployed, and what is said about the others."""

import numpy as np
import pytest
from refusals import refuses

from refqnn.core import named_modules
from refqnn.deploy import deploy
from refqnn.deploy.plan import plan
from refqnn.nn import MaxPool2d, PadShortcut, ReLU, Sequential
from refqnn.quantizers import LSQ, Affine

SIZE = (8, 8)


def without(network, *names):
    for name in names:
        del network.layers[name]
    return network


def swapped(network, **layers):
    """Return the network with layers put in place of, or after, those of a name."""
    network.layers |= layers
    return network


def test_stages_carry_the_names_of_their_layers(make):
    network = make(depth=14, shortcut="B")
    modules = dict(named_modules(network))
    planned = plan(network)
    assert modules[planned.image_name] is planned.image
    sources = [planned.image_name]
    for stage in planned.stages:
        assert stage.name in modules
        assert stage.source == sources[-1]
        if stage.weighted is not None:
            assert stage.weighted.layer is modules[stage.name]
        if stage.skip_source:
            assert stage.skip_source == sources[-2]
        if stage.skip is not None:
            assert stage.skip.layer is modules[stage.skip.name]
        sources.append(stage.name)
    assert len(planned.stages) == 1 + 2 * 6 + 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight_bits": None, "activation_bits": None}, r"stem.* weight quantizer"),
        ({"weight_bits": None}, "layers.stem has no weight quantizer"),
        ({"method": "lsq"}, "layers.stem has no weight quantizer.*ends=8"),
        ({"activation_bits": None}, "stage1_block1 must be an activation quantizer"),
    ],
)
def test_float_networks_are_refused(make, options, message):
    refuses(message, deploy, make(**options), image_size=SIZE)


@pytest.mark.parametrize(
    ("slot", "message"),
    [
        ("quant1", r"stage2_block1.quant1 must be an activation quantizer, is missing"),
        ("quant2", r"stage2_block1.quant2 must be an activation quantizer, is missing"),
    ],
)
def test_blocks_need_their_quantizers(make, slot, message):
    network = make()
    setattr(network.layers["stage2_block1"], slot, None)
    refuses(message, plan, network)


def test_a_shortcut_of_floats_is_refused(make):
    network = make()
    block = network.layers["stage2_block1"]
    block.quant0 = block.quant1
    refuses(r"stage2_block1.quant0 must be None", plan, network)


@pytest.mark.parametrize("slot", ["conv1", "conv2"])
def test_blocks_need_quantized_weights(make, slot):
    network = make()
    getattr(network.layers["stage2_block1"], slot).weight_quant = None
    message = f"layers.stage2_block1.{slot} has no weight quantizer"
    refuses(message, plan, network)


def test_shortcuts_are_checked(make):
    network = make(shortcut="B")
    shortcut = network.layers["stage2_block1"].shortcut
    shortcut.layers["conv"].weight_quant = None
    refuses(r"shortcut.layers.conv has no weight quant", plan, network)
    network = make(shortcut="B")
    network.layers["stage2_block1"].shortcut.layers["relu"] = ReLU()
    refuses(r"shortcut.layers.relu after the batch norm", plan, network)
    network = make()
    network.layers["stage2_block1"].shortcut = ReLU()
    refuses(r"stage2_block1.shortcut \(ReLU\) cannot be", plan, network)
    network = make()
    network.layers["stage2_block1"].shortcut = PadShortcut(channels=2, stride=2)
    refuses("cannot narrow 4 channels to 2", deploy, network, image_size=SIZE)
    network.layers["stage2_block1"].shortcut = PadShortcut(channels=8, stride=1)
    refuses("conv2 and its skip disagree", deploy, network, image_size=SIZE)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["image"], "layers.stem must be a ImageInput to follow the start"),
        (["stem_relu"], "layers.stem_quant must be a ReLU to follow layers.stem_norm"),
        (["stem_quant"], "layers.stage1_block1 must be an activation quantizer"),
        (["stem"], r"layers.stem_norm \(BatchNorm2d\) after layers.image cannot"),
        (["classifier"], "the last layer must be a Linear classifier"),
        (
            ["pool", "pool_quant"],
            r"classifier reads 16 channels of 1 axes, is given",
        ),
        (["stage2_block1"], "stage3_block1.conv1 reads 8 channels of 3 axes"),
    ],
)
def test_orders_without_an_integer_form(make, names, message):
    refuses(message, deploy, without(make(), *names), image_size=SIZE)


def test_nothing_follows_the_classifier(make):
    refuses(r"layers.end after the classifier", plan, swapped(make(), end=ReLU()))
    with pytest.raises(ValueError, match=r"layers.pool \(MaxPool2d\) after"):
        plan(swapped(make(), pool=MaxPool2d(2)))
    only_image = Sequential({"image": make().layers["image"]})
    refuses("the last layer must be a Linear", plan, only_image)
    refuses("no layer is left", plan, Sequential({}))
    network = make()
    cut = Sequential({n: network.layers[n] for n in ("image", "stem", "stem_norm")})
    refuses(r"a ReLU must follow layers.stem_norm: no", plan, cut)
    cut.layers["relu"] = ReLU()
    refuses(r"the layer after layers.relu must be an act", plan, cut)


def test_only_named_sequences_are_networks(make):
    with pytest.raises(ValueError, match="must be a Sequential of named layers"):
        plan(make().layers["stage1_block1"])


def test_a_network_that_starts_with_its_classifier(make):
    network = make()
    short = Sequential({n: network.layers[n] for n in ("image", "classifier")})
    with pytest.raises(ValueError, match=r"layers.classifier cannot follow the image"):
        deploy(short, image_size=SIZE)


@pytest.mark.parametrize(
    ("scale", "zero"),
    [(0.0, 1), (-1.0, 1), (np.inf, 1), (1.0, 256), (1.0, -1), (1.0, 0.5)],
)
def test_images_are_uint8(make, scale, zero):
    network = make()
    network.layers["image"].scale, network.layers["image"].zero_point = scale, zero
    refuses(r"layers.image needs .* in \[0, 255", deploy, network, image_size=SIZE)


@pytest.mark.parametrize("zero", [0, 255])
def test_every_pixel_may_be_zero(make, zero):
    integer = deploy(make(image_zero_point=zero), image_size=SIZE)
    assert integer.steps[0].grid == (1 / 64, zero, 0, 255)


def test_activations_are_uint8(make):
    network = make(activation_bits=9)
    refuses(r"after layers.stem has codes 0 .. 511", deploy, network, image_size=SIZE)
    network = make()
    network.layers["stem_quant"] = LSQ(bits=4)
    network.layers["stem_quant"].set_step(0.5)
    refuses(r"after layers.stem has codes -8 .. 7", deploy, network, image_size=SIZE)


def test_ranges_must_be_known(make):
    network = make()
    network.layers["stage1_block1"].quant2 = Affine(bits=4)
    with pytest.raises(
        ValueError, match=r"after layers.stage1_block1.conv2: the range"
    ):
        deploy(network, image_size=SIZE)
    with pytest.raises(ValueError, match=r"quantizer after layers.stem: the range"):
        deploy(make(passes=0), image_size=SIZE)
