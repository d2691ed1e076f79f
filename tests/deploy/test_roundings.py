"""Networks deployed for another rounding than ties up."""

from fractions import Fraction

import numpy as np
import pytest

import refqnn
from refqnn import integer
from refqnn.deploy import (
    IntegerNetwork,
    compare_float64,
    compare_layers,
    deploy,
)
from refqnn.deploy.steps import PoolStep, ResidualStep
from refqnn.integer.rescale import FLOATING
from refqnn.integer.rounding import ROUNDINGS

SIZE = (8, 8)
FORMS = (*ROUNDINGS, *FLOATING)


@pytest.mark.parametrize("rounding", FORMS)
def test_every_step_rounds_as_asked(make, images, rounding):
    network = deploy(make(), image_size=SIZE, requantize=rounding)
    values = network.trace(images)
    for step in network.steps[1:]:
        assert step.rounding == rounding
        acc = values[f"{step.name}.accumulator"]
        by = [step.multiplier, step.shift]
        if acc.ndim == 4:
            by = [v.reshape(-1, 1, 1) for v in by]
        limits = {"q_min": step.grid.q_min, "q_max": step.grid.q_max}
        if isinstance(step, ResidualStep):
            skip = values[f"{step.skip.name}.accumulator"]
            skip_m = step.skip_multiplier.reshape(-1, 1, 1)
            want = integer.requantize_add(
                acc, by[0], skip, skip_m, by[1], step.grid.zero_point,
                rounding=rounding, **limits,
            )  # fmt: skip
        else:
            want = integer.requantize(
                acc, *by, step.grid.zero_point, rounding=rounding, **limits
            )
        np.testing.assert_array_equal(values[step.name], want, strict=True)


def test_roundings_change_codes(make, images):
    network = make()
    up = deploy(network, image_size=SIZE).trace(images)
    down = deploy(network, image_size=SIZE, requantize="floor").trace(images)
    assert np.any(up["layers.stem"] != down["layers.stem"])


@pytest.mark.parametrize("finer", [False, True])
@pytest.mark.parametrize("shortcut", "AB")
def test_float32_codes_differ_from_the_trained_ones_only_near_ties(
    make, images, shortcut, finer
):
    network = make(shortcut=shortcut, signs=(-1.0, 1.0))
    deployed = deploy(
        network, image_size=SIZE, requantize="float32_half_even", finer_bias=finer
    )
    found = compare_layers(network, deployed, images)
    assert all(layer.holds for layer in found)
    assert max(layer.bound for layer in found[:-1]) < 1


def test_the_bound_of_float32_is_needed(make, images):
    """Without (4) the multipliers of float32 scales break the bound of a layer."""
    network = make(weight_bits=8, activation_bits=8)
    found = {}
    for rounding in ("half_up", "float32_half_even"):
        deployed = deploy(network, image_size=SIZE, requantize=rounding)
        found[rounding] = compare_layers(network, deployed, images)
    wider = [
        b.bound > a.bound
        for a, b in zip(found["half_up"], found["float32_half_even"], strict=True)
    ]
    assert all(wider)


def test_multipliers_of_float32_are_the_ratios_of_float32_scales(make):
    network = deploy(
        make(shortcut="B"),
        image_size=SIZE,
        requantize="float32_half_even",
        finer_bias=False,
    )
    steps = {step.name: step for step in network.steps}
    for step in network.steps[1:]:
        real = np.ldexp(step.multiplier.astype(float), step.shift - 31)
        if not isinstance(step, ResidualStep):
            np.testing.assert_array_equal(real, real.astype(np.float32))
        x = np.float32(steps[step.source].grid.scale)
        y = np.float32(step.grid.scale)
        if isinstance(step, PoolStep):
            n = np.float32(np.prod(steps[step.source].shape[1:]))
            assert real == x / (y * n)
        elif not isinstance(step, ResidualStep):
            w = (step.sum.scale / np.float64(x)).astype(np.float32)
            np.testing.assert_array_equal(real, x * w / y)


def test_files_keep_the_rounding(make, tmp_path):
    network = deploy(make(), image_size=SIZE, requantize="floor")
    network.save(tmp_path / "n.npz")
    read = IntegerNetwork.load(tmp_path / "n.npz")
    assert [s.rounding for s in read.steps[1:]] == ["floor"] * (len(read.steps) - 1)


def test_unknown_roundings_are_refused(make):
    for wrong in ("two_stage_half_up", "nearest", ""):
        with pytest.raises(ValueError, match=r"requantize must be one of .*half_up"):
            deploy(make(), image_size=SIZE, requantize=wrong)


def test_the_float64_network_is_that_of_half_up(make, images):
    network = deploy(make(), image_size=SIZE, requantize="floor")
    with pytest.raises(ValueError, match=r'rounding must be "half_up".*floor'):
        compare_float64(network, images)


def rounded_sum(acc, m, skip, skip_m, shift, dtype):
    """fl(fl(fl(acc) fl(r)) + fl(fl(skip) fl(r2))), ties to even, of Python numbers."""

    def product(a, b):
        real = Fraction(b) * Fraction(2) ** (shift - 31)
        return dtype(dtype(a) * dtype(float(real)))

    return round(float(dtype(product(acc, m) + product(skip, skip_m))))


@pytest.mark.parametrize("rounding", FLOATING)
def test_floating_additions_in_plain_numbers(rounding, rng):
    acc, skip = rng.integers(-(2**31), 2**31, (2, 50))
    m, skip_m = rng.integers(2**29, 2**31, (2, 50))
    shift = rng.integers(-24, -16, 50)
    got = integer.requantize_add(
        acc, m, skip, skip_m, shift, 0, q_min=-(2**31), q_max=2**31 - 1,
        rounding=rounding,
    )  # fmt: skip
    want = [
        rounded_sum(*map(int, row), FLOATING[rounding])
        for row in zip(acc, m, skip, skip_m, shift, strict=True)
    ]
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("rounding", FLOATING)
def test_floating_additions_saturate_and_have_twins(rounding):
    far, m = np.array([2**31 - 1, -(2**31), 0]), 2**31 - 1
    args = (far, m, far, m, 31, 3)
    limits = {"q_min": 0, "q_max": 255, "rounding": rounding}
    got = integer.requantize_add(*args, **limits)
    assert got.tolist() == [255, 0, 3]
    twin = refqnn.fast.integer.requantize_add(*args, **limits)
    np.testing.assert_array_equal(twin, got, strict=True)
