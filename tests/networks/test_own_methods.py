"""Methods of a user's own: built, counted, stored, restored, trained, deployed."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
from refusals import refuses
from tables.networks import pixels

from refqnn import cli
from refqnn import quantizers as qz
from refqnn.core import Param, Run, named_modules
from refqnn.cost import cost
from refqnn.deploy import deploy
from refqnn.networks import (
    METHODS,
    Method,
    alexnet,
    build,
    imagenet_resnet,
    inv_resnet26,
    mobilenetv2,
    register_method,
    resnet,
    separable,
    vgg,
)
from refqnn.networks.methods import affine
from refqnn.nn import Conv2d, checkpoint
from refqnn.quantizers.module import GridQuantizer, signed_codes
from refqnn.testing import check_deployment
from refqnn.testing.networks import check_same_state, state_of


def power_of_two(v, s, *, bits, frozen=None):
    """2^round(log2 s) * clip(round(v / that)), the exponent straight through."""
    scale = (2.0 ** np.rint(np.log2(s))).astype(v.dtype)
    n = 2 ** (bits - 1) - 1
    q = np.clip(np.rint(v / scale), -n, n)
    y = scale * q
    inside = np.abs(v) <= n * scale
    if frozen is not None:
        y = frozen[1] + np.where(frozen[0], v - frozen[2], 0)
        return y, frozen
    return y, (inside, y, v)


def power_of_two_backward(dy, cache):
    return np.where(cache[0], dy, 0), np.zeros(())


@dataclass(eq=False)
class PowerOfTwo(GridQuantizer):
    """A uniform grid whose step is a power of two."""

    bits: int = 4
    pair = (power_of_two, power_of_two_backward)
    parameters = ("s",)
    codes = staticmethod(signed_codes)

    def __post_init__(self):
        self.s = Param(np.array(0.125, np.float32), group="quantizer")

    def codes_and_scale(self, v):
        y, _ = power_of_two(v, self.s.value, bits=self.bits)
        scale = np.asarray(2.0 ** np.rint(np.log2(self.s.value)), v.dtype)
        return y / scale, scale.reshape((1,) * v.ndim), 0


def own_method(name="unregistered"):
    return Method(lambda bits, _: PowerOfTwo(bits), affine, ends=8, name=name)


OWN = own_method()
BITS = {"weight_bits": 4, "activation_bits": 4}
BUILDERS = {
    "resnet": lambda **o: resnet(8, width=0.1, **o),
    "vgg": lambda **o: vgg("c", width=0.05, **o),
    "alexnet": lambda **o: alexnet(width=0.02, **o),
    "imagenet_resnet": lambda **o: imagenet_resnet(18, width=0.02, **o),
    "mobilenetv2": lambda **o: mobilenetv2(width=0.05, classes=3, **o),
    "inv_resnet26": lambda **o: inv_resnet26(width=0.1, **o),
    "separable": separable,
}


@pytest.fixture
def registered():
    register_method("power", OWN)
    yield "power"
    del METHODS["power"]


@pytest.mark.parametrize("name", BUILDERS)
def test_every_builder_takes_a_method(name):
    network = BUILDERS[name](method=OWN, rng=np.random.default_rng(0), **BITS)
    inner = [m for _, m in named_modules(network) if isinstance(m, PowerOfTwo)]
    assert len(inner) >= 2
    assert network.config["method"] == "unregistered"
    json.dumps(network.config)


def small(method, rng):
    network = resnet(8, width=0.1, method=method, rng=rng, **BITS)
    network.forward(pixels(rng), Run(training=True))
    return network


def saved_and_loaded(network, tmp_path):
    checkpoint.save(tmp_path / "a.npz", checkpoint.of_network(network))
    return checkpoint.load(tmp_path / "a.npz")


def test_a_registered_method_comes_back_from_a_file(registered, rng, tmp_path):
    network = small(registered, rng)
    assert small(OWN, rng).config["method"] == registered
    content = saved_and_loaded(network, tmp_path)
    again = build(content.config)
    checkpoint.restore(again, content)
    check_same_state(state_of(again), state_of(network))


@pytest.mark.parametrize("name", ["power", "unregistered"])
def test_a_file_with_an_unknown_method_says_what_registers_it(name, rng, tmp_path):
    content = saved_and_loaded(small(own_method(name), rng), tmp_path)
    refuses(rf"networks.register_method\('{name}', Meth", build, content.config)


def exchanged(rng):
    """A network of a published method with own quantizers put into one block."""
    network = small("pareto", rng)
    block = network.layers["stage2_block1"]
    for module in (block.conv1, block.conv2):
        module.weight_quant = PowerOfTwo(3)
        module.weight_quant.s.value = np.array(0.5, np.float32)
    return network


@pytest.mark.usefixtures("registered")
def test_exchanged_quantizers_come_back_from_a_file(rng, tmp_path):
    network = exchanged(rng)
    content = saved_and_loaded(network, tmp_path)
    again = build(content.config)
    quant = again.layers["stage2_block1"].conv1.weight_quant
    assert (type(quant), quant.bits) == (PowerOfTwo, 3)
    assert type(again.layers["stage1_block1"].conv1.weight_quant) is qz.FixedPoint
    checkpoint.restore(again, content)
    check_same_state(state_of(again), state_of(network))


def test_an_exchanged_quantizer_that_nobody_makes_is_named(rng, tmp_path):
    content = saved_and_loaded(exchanged(rng), tmp_path)
    refuses(r"conv1\.weight_quant holds .*'PowerOfTwo'.*re", build, content.config)


@pytest.mark.parametrize(
    "quantizers",
    [{"layers.no": {"kind": "PowerOfTwo", "bits": 3}}, {"layers.stem": 3}, 7],
)
def test_a_configuration_that_does_not_fit_raises(quantizers, rng):
    config = small("pareto", rng).config | {"quantizers": quantizers}
    refuses("quantizers", build, config)


def test_files_of_published_methods_name_no_quantizers(rng):
    for method in ("pareto", "lsq"):
        assert "quantizers" not in checkpoint.of_network(small(method, rng)).config


def test_a_name_means_one_method(registered):
    register_method(registered, OWN)
    refuses("'power' is registered already", register_method, registered, own_method())
    refuses("must be a Method, got 3", register_method, "three", 3)
    refuses("name must be a word, got ''", register_method, "", OWN)


def test_a_uniform_method_is_counted_and_deployed(rng):
    network = small(OWN, rng)
    x = pixels(rng)
    integers = check_deployment(network, x)
    assert integers.forward(x).shape == (3, 10)
    inner = cost(network, (1, 8, 8)).layers[1]
    assert (inner.weight_bits, inner.scale_bits) == (4, 32)
    assert inner.accumulator_bits is not None


def test_what_is_not_uniform_says_so_when_it_is_deployed(rng):
    network = resnet(8, width=0.1, method="lq", rng=rng, **BITS)
    network.layers["stem"] = Conv2d(
        network.layers["stem"].w, padding=1, weight_quant=qz.LQWeight(bits=2, filters=1)
    )
    refuses(r"layers.stem has weights of LQWeight.*unif", deploy, network)


PLUGIN = """
from refqnn import quantizers as qz
from refqnn.networks import Method, register_method
from refqnn.networks.methods import affine

class Own(qz.FixedPoint):
    pass  # of another package: headers of checkpoints name it

register_method("plugged", Method(lambda b, _: Own(bits=b), affine, ends=8))
"""
SHORT = ["--depth", "8", "--width", "0.1", "--bits", "4", "--epochs", "1"]


@pytest.mark.compiled
def test_the_command_line_trains_and_reads_a_method_of_a_plugin(tmp_path, capsys):
    plugin = tmp_path / "plugged_method.py"
    plugin.write_text(PLUGIN)
    file = str(tmp_path / "a.npz")
    train = ["train", file, "--method", "plugged", "--batch", "2000", *SHORT]
    try:
        assert cli.main(train) == 2
        assert "register_method('plugged', " in capsys.readouterr().err
        assert cli.main([*train, "--plugin", str(plugin)]) == 0
        assert cli.main([*train, "--epochs", "2", "--resume"]) == 0
        evaluate = ["evaluate", file]
        assert cli.main(evaluate) == 0
        del METHODS["plugged"]
        capsys.readouterr()
        assert cli.main(evaluate) != 0
        assert "register_method('plugged', " in capsys.readouterr().err
    finally:
        METHODS.pop("plugged", None)


def test_a_plugin_that_is_not_there_is_one_line(capsys):
    assert cli.main(["list", "ops", "--plugin", "no_such_module_here"]) == 2
    assert "--plugin no_such_module_here cannot be imp" in capsys.readouterr().err
