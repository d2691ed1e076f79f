"""The checker of whole networks rejects a broken layer, batch, file and training."""

import numpy as np
import pytest
from checkers import check_direction
from refusals import refuses
from tables.networks import pixels, tiny

from refqnn import quantizers as qz
from refqnn.core import Buffer, Param, Run, named_params
from refqnn.nn import BatchNorm2d, Conv2d, Linear, Sequential
from refqnn.testing import check_deployment, check_network
from refqnn.testing.networks import (
    calibrate,
    in_float64,
    state_of,
)

FEW = {"weight_bits": 4, "activation_bits": 4, "dtype": "float32"}


@pytest.fixture
def network(rng):
    return tiny(rng, **FEW)


@pytest.fixture
def images(rng):
    return pixels(rng, n=6)


LABELS = np.array([0, 1, 2, 0, 1, 2])


def test_a_network_keeps_every_law_and_is_left_alone(network, images):
    before = state_of(network)
    report = check_network(network, images, LABELS)
    assert 0 < report.gradient_error < 1e-5
    assert report.gradients == len(named_params(network))
    assert report.batch_difference < 1e-12
    for name, value in state_of(network).items():
        np.testing.assert_array_equal(value, before[name], strict=True)


@pytest.mark.parametrize(
    ("kind", "wrong", "says"),
    [
        (qz.FixedPoint, lambda dv: -dv, r"stem\.w: .*the sign is turned"),
        (qz.FixedPoint, lambda dv: dv * 1.001, r"\.w: .*1\.001 times the slope"),
        (BatchNorm2d, lambda dx: dx * 0, "a gradient is lost or invented"),
        (Conv2d, lambda dx: dx + dx.mean(), "times the slope"),
    ],
)
def test_a_wrong_backward_is_named(kind, wrong, says, network, images, monkeypatch):
    right = kind.backward
    monkeypatch.setattr(kind, "backward", lambda s, dy, c: wrong(right(s, dy, c)))
    with pytest.raises(AssertionError, match=says):
        check_network(network, images, LABELS)


def test_company_of_an_image_is_noticed(network, images, monkeypatch):
    right = Sequential.forward

    def forward(self, x, run):
        y, cache = right(self, x, run)
        return (y if run.training else y - y.mean(0)), cache

    monkeypatch.setattr(Sequential, "forward", forward)
    with pytest.raises(AssertionError, match="alone and in company"):
        check_network(network, images, LABELS)


def test_a_state_that_an_evaluation_changes_is_noticed(network, images, monkeypatch):
    right = BatchNorm2d.forward

    def forward(self, x, run):
        if not run.training:
            self.mean.value = self.mean.value + 1
        return right(self, x, run)

    monkeypatch.setattr(BatchNorm2d, "forward", forward)
    with pytest.raises(AssertionError, match="an evaluation changes buffer"):
        check_network(network, images, LABELS)


class Forgetful:
    """A layer whose state no file holds: it is no dataclass."""

    def __init__(self):
        self.seen = 0.0

    def forward(self, x, run):
        if run.training and run.replay is None:
            self.seen = self.seen + 1.0
        return x * np.asarray(1 + self.seen, x.dtype), 1 + self.seen

    def backward(self, dy, cache):
        return dy * np.asarray(cache, dy.dtype)


def test_a_state_that_no_file_holds_is_noticed(network, images):
    network.layers["forgetful"] = Forgetful()
    with pytest.raises(AssertionError):
        check_network(network, images, LABELS)


@pytest.mark.parametrize("labels", [LABELS[:5], LABELS[:, None]])
def test_images_and_labels_must_agree(labels, network, images):
    refuses("must agree on N >= 2", check_network, network, images, labels)
    refuses("must agree on N >= 2", check_network, network, images[:1], LABELS[:1])


def test_a_network_is_copied_in_float64():
    module = Conv2d(Param(np.ones((1, 1, 1, 1), np.float32)), weight_quant=qz.LSQ())
    wide = in_float64(module)
    assert wide.w.value.dtype == wide.w.grad.dtype == np.float64
    assert isinstance(wide.weight_quant.known, Buffer)
    assert wide.weight_quant.known.value.dtype.kind == "i"
    assert module.w.value.dtype == np.float32


def test_deployment_is_compared_layer_by_layer(network, images):
    calibrate(network, images)
    assert check_deployment(network, images).forward(images).shape == (6, 3)
    network.layers["stem"].weight_quant = None
    refuses("no weight quantizer", check_deployment, network, images)


def test_a_deployment_that_rounds_elsewhere_is_named(network, images, monkeypatch):
    from refqnn.testing import networks as room

    calibrate(network, images)
    other = calibrate(tiny(np.random.default_rng(5), **FEW), images)
    deployed = room.deploy(other, image_size=(8, 8))
    monkeypatch.setattr(room, "deploy", lambda *_, **__: deployed)
    with pytest.raises(AssertionError, match=r"layers\.stem: codes differ by"):
        check_deployment(network, images)


def test_every_run_of_a_check_is_the_same(network, images):
    one, two = (check_network(network, images, LABELS) for _ in range(2))
    assert one == two
    network.forward(images, Run(training=True))


def test_a_direction_without_a_gradient_shows_nothing(rng):
    layer = Linear(Param(rng.standard_normal((2, 3))))
    with pytest.raises(AssertionError, match="all: no gradient arrives"):
        check_direction(layer, np.zeros((4, 3)), Run(), rng, step=1e-6, bound=1e-6)
