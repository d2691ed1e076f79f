"""Calibration: ranges by every method, in order, and what it leaves alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refqnn.core import Run, named_buffers, named_params
from refqnn.deploy import calibrate, compare_layers, deploy
from refqnn.deploy.calibration import mse_range, percentile_range
from refqnn.quantizers import Affine, affine

METHODS = ["min_max", "percentile", "mse"]


@pytest.fixture
def trained(make):
    return make(weight_bits=None, activation_bits=None)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shortcut", "AB")
def test_calibrated_networks_deploy_and_agree(make, images, method, shortcut):
    trained = make(weight_bits=None, activation_bits=None, shortcut=shortcut)
    before = trained.forward(images, Run())[0]
    quantized = calibrate(
        trained, images, weight_bits=8, activation_bits=8, method=method
    )
    np.testing.assert_array_equal(trained.forward(images, Run())[0], before)
    logits = quantized.forward(images, Run())[0]
    np.testing.assert_allclose(logits, before, atol=0.25 * np.abs(before).max())
    assert np.abs(logits - before).max() > 0
    integer = deploy(quantized, image_size=(8, 8))
    assert all(r.holds for r in compare_layers(quantized, integer, images))


def test_parameters_and_statistics_are_copied(trained, images):
    quantized = calibrate(trained, images, weight_bits=2, activation_bits=4)
    params = named_params(trained)
    for name, param in named_params(quantized).items():
        np.testing.assert_array_equal(param.value, params[name].value)
        assert not np.shares_memory(param.value, params[name].value)
    buffers = named_buffers(quantized)
    for name, buffer in named_buffers(trained).items():
        np.testing.assert_array_equal(buffers[name].value, buffer.value)
        assert not np.shares_memory(buffers[name].value, buffer.value)
    assert quantized.config == trained.config | {
        "weight_bits": 2,
        "activation_bits": 4,
    }


def test_ranges_are_those_of_the_quantized_network(trained, images):
    """Each layer is measured with those before it quantized already."""
    quantized = calibrate(trained, images, weight_bits=2, activation_bits=2)
    seen = {}

    def watch(module, x, _y):
        if isinstance(module, Affine):
            seen[id(module)] = (module, float(x.max()))

    quantized.forward(images, Run(observe=watch))
    assert len(seen) == 8
    for module, most in seen.values():
        assert module.hi.value == pytest.approx(most)
        assert module.lo.value == 0


def test_quantized_networks_can_be_calibrated_anew(make, images):
    network = make()
    again = calibrate(network, images, weight_bits=8, activation_bits=4)
    assert again.layers["stem_quant"].hi.value != network.layers["stem_quant"].hi.value
    deploy(again, image_size=(8, 8))


def test_percentiles_cut_what_is_above(trained, images):
    options = {"weight_bits": 4, "activation_bits": 4}
    whole = calibrate(trained, images, **options)
    cut = calibrate(trained, images, method="percentile", percentile=90, **options)
    assert cut.layers["stem_quant"].hi.value < whole.layers["stem_quant"].hi.value
    all_of_it = calibrate(
        trained, images, method="percentile", percentile=100, **options
    )
    want = named_buffers(whole)
    for name, buffer in named_buffers(all_of_it).items():
        np.testing.assert_array_equal(buffer.value, want[name].value)


def test_percentiles_hold_zero():
    assert percentile_range(np.arange(100.0, 201.0), 4, 90) == (0.0, 190.0)
    assert percentile_range(np.arange(-100.0, 1.0), 4, 90) == (-90.0, 0.0)


@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_mse_is_the_best_part_of_the_range(seed, bits):
    y = np.maximum(np.random.default_rng(seed).standard_t(3, 500), -1.0)

    def error(part):
        lo, hi = part * y.min(initial=0), part * y.max(initial=0)
        return np.mean((affine(y, lo, hi, bits=bits)[0] - y) ** 2)

    lo, hi = mse_range(y, bits, 99.9)
    errors = [error(k / 40) for k in range(1, 41)]
    part = hi / y.max()
    assert lo == pytest.approx(part * y.min())
    assert error(part) == pytest.approx(min(errors), rel=1e-9)


def test_mse_tries_the_smallest_part():
    y = np.append(np.ones(10_000), 40.0)
    assert mse_range(y, 1, 99.9) == (0.0, 1.0)


def test_mse_looks_at_evenly_spaced_values(monkeypatch):
    monkeypatch.setattr("refqnn.deploy.calibration.MOST_VALUES", 4)
    y = np.array([0, 9, 9, 1, 9, 9, 1, 9, 9, 1, 9, 9.0])  # looks at 0, 1, 1, 1
    assert mse_range(y, 1, 99.9)[1] == pytest.approx(9 * 4 / 40)
    monkeypatch.setattr("refqnn.deploy.calibration.MOST_VALUES", 12)
    assert mse_range(y, 1, 99.9)[1] == pytest.approx(9.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "entropy"}, r"method must be one of \['min_max', 'percentile'"),
        ({"percentile": 50}, r"percentile must lie in \(50, 100\], got 50"),
        ({"percentile": 100.5}, "percentile must lie in"),
        ({"percentile": float("nan")}, "percentile must lie in"),
        ({"weight_bits": 0}, "bits must be an int in"),
        ({"activation_bits": 17}, "bits must be an int in"),
        ({"activation_bits": True}, "activation_bits True: Expected"),
    ],
)
def test_bad_options_are_refused(trained, images, options, message):
    options = {"weight_bits": 4, "activation_bits": 4} | options
    with pytest.raises(ValueError, match=message):
        calibrate(trained, images, **options)


def test_images_are_needed(trained, images):
    for none in (images[:0], images[0], images[:, :, :0]):
        with pytest.raises(ValueError, match=r"images must be \(N, C, H, W\), N >= 1"):
            calibrate(trained, none, weight_bits=4, activation_bits=4)


def test_networks_without_configuration_are_refused(trained, images):
    for network in (trained.layers["stage1_block1"], type(trained)(trained.layers)):
        with pytest.raises(ValueError, match="network must be one that"):
            calibrate(network, images, weight_bits=4, activation_bits=4)
