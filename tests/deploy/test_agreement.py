"""Integer and fake-quantized networks agree where they must; the checks can fail."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from refusals import refuses

import refqnn
from refqnn.core import Run, named_modules
from refqnn.deploy import (
    compare_backends,
    compare_float64,
    compare_layers,
    deploy,
    fake_quantized,
    float64,
)
from refqnn.deploy.agreement import agreement, gamma, multiplier_error
from refqnn.deploy.comparison import compare
from refqnn.deploy.steps import PoolStep, ResidualStep
from refqnn.nn import PadShortcut, ReLU
from refqnn.quantizers import LSQ, Affine

SIZE = (8, 8)
SIGNS = (-1.0, 0.0, 1.0)
CASES = [
    (weights, activations, shortcut)
    for weights in (1, 2, 4, 8)
    for activations in (2, 4, 8)
    for shortcut in "AB"
]


def changed(network, index, **fields):
    """Return the integer network with fields of one step replaced."""
    steps = list(network.steps)
    steps[index] = dataclasses.replace(steps[index], **fields)
    return dataclasses.replace(network, steps=tuple(steps))


def assert_layers_hold(network, integer, images):
    records = compare_layers(network, integer, images)
    assert [r.name for r in records] == [s.name for s in integer.steps[1:]]
    for r in records:
        assert r.holds, r
        assert r.codes == integer.trace(images)[r.name].size
    return records


def assert_same(comparisons):
    assert [c for c in comparisons if c.different] == []


@pytest.mark.parametrize(("weights", "activations", "shortcut"), CASES)
def test_every_layer_agrees(make, images, weights, activations, shortcut):
    network = make(
        weight_bits=weights,
        activation_bits=activations,
        shortcut=shortcut,
        signs=SIGNS,
    )
    integer = deploy(network, image_size=SIZE)
    records = assert_layers_hold(network, integer, images)
    assert all(r.bound < 0.5 for r in records)
    assert all(r.deviation <= r.bound for r in records)
    assert sum(r.different for r in records) < sum(r.codes for r in records) / 20
    assert_same(compare_float64(integer, images))


@pytest.mark.parametrize("shortcut", "AB")
def test_definition_and_twins_agree(make, images, shortcut):
    integer = deploy(make(shortcut=shortcut, signs=SIGNS), image_size=SIZE)
    assert_same(compare_backends(integer, images))
    names = [c.name for c in compare_backends(integer, images)]
    assert names == list(integer.trace(images))


def test_float64_networks_agree_to_the_same_law(make, images):
    network = make(dtype="float64")
    records = assert_layers_hold(network, deploy(network, image_size=SIZE), images)
    assert all(r.bound < 1 / 16 for r in records)


@pytest.mark.parametrize("shortcut", "AB")
def test_bounds_are_those_derived(make, images, shortcut):
    """The three terms, written out channel by channel."""
    network = make(shortcut=shortcut, signs=SIGNS)
    network.layers["classifier"].b.value[...] = np.linspace(-1, 1, 10)
    integer = deploy(network, image_size=SIZE)
    values, steps = integer.trace(images), {s.name: s for s in integer.steps}
    modules = dict(named_modules(network))

    def largest(name):
        return np.abs(values[name].astype(int) - steps[name].grid.zero_point).max()

    def branch(total, norm, source, o):
        """Terms (1) and (3) of one channel."""
        n = total.w[o].size
        step = total.scale[o] * 2.0 ** total.fraction_bits[o]
        real = step * np.abs(total.w[o].astype(int)).sum() * largest(source)
        if norm is None:
            extra = abs(float(network.layers["classifier"].b.value[o]))
        else:
            gain = norm.gamma.value[o] / np.sqrt(float(norm.var.value[o]) + norm.eps)
            extra = abs(gain * norm.mean.value[o]) + abs(norm.beta.value[o])
        return gamma(n + 16, 2.0**-24) * (real + extra) + total.scale[o] / 2

    for record in compare_layers(network, integer, images):
        step = steps[record.name]
        place, _, layer = record.name.rpartition(".")
        norms = {"stem": "stem_norm", "conv1": "norm1", "conv2": "norm2"}
        norm = modules[f"{place}.{norms[layer]}"] if layer in norms else None
        peak = np.abs(values[f"{record.name}.accumulator"].astype(float))
        if isinstance(step, ResidualStep):
            peak = peak + np.abs(values[f"{step.skip.name}.accumulator"].astype(float))
        bounds = []
        for o in range(len(step.shift)):
            if isinstance(step, PoolStep):
                pixels = values[step.source][0, 0].size
                real = step.scale * pixels * largest(step.source)
                bound = gamma(pixels + 16, 2.0**-24) * real
                size = peak.max()
            else:
                bound = branch(step.sum, norm, step.source, o)
                size = peak[:, o].max()
            if isinstance(step, ResidualStep):
                source = step.skip_source
                if hasattr(step.skip, "w"):
                    skip_norm = modules[f"{place}.shortcut.layers.norm"]
                    bound += branch(step.skip, skip_norm, source, o)
                else:
                    reach = steps[source].grid.scale * largest(source)
                    bound += gamma(16, 2.0**-24) * reach
            bounds.append(bound / step.grid.scale + size * 2.0 ** (step.shift[o] - 32))
        assert record.bound == pytest.approx(max(bounds), rel=1e-6)


def test_bounds_are_not_idle(make, images):
    """In some layer the error comes to more than half of what is allowed."""
    network = make(activation_bits=2, signs=SIGNS)
    records = compare_layers(network, deploy(network, image_size=SIZE), images)
    assert max(r.deviation / r.bound for r in records) > 0.5


def test_learned_steps_can_be_deployed(make, rng, images):
    network = make()
    for name in ("stage1_block1", "stage2_block1"):
        block = network.layers[name]
        block.quant1 = LSQ(bits=3, of="activation")
        block.quant2 = LSQ(bits=4, of="activation")
        block.conv2.weight_quant = LSQ(bits=4)
    network.forward(rng.integers(0, 256, (8, 1, *SIZE), dtype=np.uint8), TRAIN)
    integer = deploy(network, image_size=SIZE)
    assert_layers_hold(network, integer, images)
    assert_same(compare_float64(integer, images))


TRAIN = Run(training=True)


def test_zero_points_of_every_kind(make, images):
    """Activation grids that do not start at 0, and an image zero-point of 7."""
    network = make(image_zero_point=7)
    network.layers["stem_quant"].set_range(-1.0, 4.0)
    network.layers["stage1_block1"].quant1.set_range(-2.0, 2.0)
    network.layers["stage1_block1"].quant2.set_range(-0.5, 5.0)
    network.layers["stage3_block1"].quant2.set_range(-0.5, 5.0)
    integer = deploy(network, image_size=SIZE)
    zero_points = {s.name: s.grid.zero_point for s in integer.steps}
    assert zero_points["layers.image"] == 7
    assert zero_points["layers.stem"] == 3
    assert integer.steps[1].grid.q_min == 3  # the ReLU
    assert_layers_hold(network, integer, images)
    assert_same(compare_float64(integer, images))


def test_a_range_without_width_is_one_code(make, images):
    network = make()
    network.layers["stem_quant"].set_range(0.0, 0.0)
    integer = deploy(network, image_size=SIZE)
    assert not integer.trace(images)["layers.stem"].any()
    assert_layers_hold(network, integer, images)


def dead_channel(network):
    """Give channel 0 of the second layer the scale of a channel that never varied."""
    norm = network.layers["stage1_block1"].norm1
    norm.var.value[0] = 0.0
    norm.mean.value[0] = 0.0
    norm.beta.value[0] = 0.3 * float(network.layers["stage1_block1"].quant1.hi.value)


def test_a_dead_channel_needs_fraction_bits(make, images):
    network = make()
    dead_channel(network)
    finer = deploy(network, image_size=SIZE)
    whole = deploy(network, image_size=SIZE, finer_bias=False)
    at = [s.name for s in finer.steps].index("layers.stage1_block1.conv1")
    assert finer.steps[at].sum.fraction_bits[0] > 5
    assert not any(whole.steps[at].sum.fraction_bits)
    found, coarse = (compare_layers(network, n, images)[at - 1] for n in (finer, whole))
    assert found.holds
    assert found.bound < 0.1
    assert coarse.deviation > 10 * found.deviation
    assert_same(compare_float64(whole, images))


def test_a_step_that_overstates_itself_is_refused(make, images):
    """Biases, weights, multipliers, shifts, zero-points: each error is noticed."""
    network = make(activation_bits=8)
    integer = deploy(network, image_size=SIZE)
    step = integer.steps[2]
    bias = dataclasses.replace(step.sum, bias=step.sum.bias + 64)
    w = dataclasses.replace(step.sum, w=-step.sum.w)
    residual = integer.steps[3]
    for index, fields in (
        (2, {"sum": bias}),
        (2, {"sum": w}),
        (2, {"multiplier": step.multiplier - 2**24}),
        (2, {"shift": step.shift + 1}),
        (3, {"skip_multiplier": residual.skip_multiplier + 2**24}),
        (8, {"multiplier": integer.steps[8].multiplier + 2**22}),
    ):
        records = compare_layers(network, changed(integer, index, **fields), images)
        assert not records[index - 1].holds, (index, fields)
        assert all(r.holds for i, r in enumerate(records) if i != index - 1)
    grid = step.grid._replace(zero_point=1)
    records = compare_layers(network, changed(integer, 2, grid=grid), images)
    assert not records[1].holds


def test_compare_layers_refuses_another_network(make, images):
    integer = deploy(make(), image_size=SIZE)
    with pytest.raises(ValueError, match="not made of this network"):
        compare_layers(make(shortcut="B", depth=14), integer, images)


def test_agreement_by_hand():
    """Codes 2 and 3 around the tie 2.5: distances 0.1 (inside) and 0.3 (outside)."""
    codes = np.array([[2.0]]), np.array([[3.0]])
    t = np.array([[2.45]]), np.array([[2.6]])
    record = agreement("layer", codes, t, np.array([0.2]))
    assert record.holds
    assert (record.codes, record.different, record.largest_difference) == (1, 1, 1)
    np.testing.assert_allclose([record.tie_distance, record.deviation], [0.1, 0.15])
    assert not agreement("layer", codes, t, np.array([0.12])).holds
    far = np.array([[2.7]]), np.array([[2.8]])
    assert not agreement("layer", codes, far, np.array([0.2])).holds
    two = np.array([[1.0]]), np.array([[3.0]])
    assert not agreement("layer", two, t, np.array([9.0])).holds


def test_compare_counts_differences():
    want = {"a": np.array([1, 2, 3]), "b": np.zeros((2, 2))}
    assert [c.different for c in compare(want, want)] == [0, 0]
    got = {"a": np.array([1, 0, 0]), "b": np.zeros(4)}
    assert [(c.elements, c.different) for c in compare(want, got)] == [(3, 2), (4, 4)]


def test_compare_backends_counts_a_wrong_dtype(make, images, monkeypatch):
    integer = deploy(make(), image_size=SIZE)
    original = type(integer).trace

    def widened(self, images, backend=refqnn):
        values = original(self, images)
        if backend is not refqnn:
            values["layers.stem"] = values["layers.stem"].astype(np.int16)
        return values

    monkeypatch.setattr(type(integer), "trace", widened)
    found = {c.name: c.different for c in compare_backends(integer, images)}
    assert found.pop("layers.stem") == 4 * 4 * 64
    assert not any(found.values())


def test_float64_refuses_what_it_cannot_hold(make, images):
    integer = deploy(make(weight_bits=8), image_size=SIZE)
    step = integer.steps[1]
    large = dataclasses.replace(step.sum, bias=step.sum.bias + np.int32(2**29))
    refuses("below 2\\^53", fake_quantized, changed(integer, 1, sum=large), images)
    refuses("below 2\\^53", float64.linear, np.array([[2**30]]), np.array([[2**23]]))
    with pytest.raises(ValueError, match=r"sums of products must stay below 2\^53"):
        float64.linear(np.array([[2**52, 2**52]]), np.array([[1, 1]]))
    assert float64.linear(np.array([[2**53]]), np.array([[0]])) == 0
    largest = float64.linear(np.array([[2**30 - 1]]), np.array([[2**23]]))
    np.testing.assert_array_equal(largest, 2**53 - 2**23)


def test_float64_counts_both_products_of_a_sum():
    acc, m, options = np.array([2.0**22]), 2**30, {"q_min": 0, "q_max": 1}
    float64.requantize_add(acc, m, acc - 1, m, 0, 0, **options)
    for skip in (acc, -acc):
        with pytest.raises(ValueError, match=r"below 2\^53 to be exact"):
            float64.requantize_add(acc, m, skip, m, 0, 0, **options)


def test_float64_requantize_equals_the_definition_exhaustively():
    acc = np.arange(-300, 300)
    for multiplier, shift in (
        (2**30, -3),
        (2**30 + 1, 0),
        (2**31 - 1, -6),
        (2**30, -31),
    ):
        options = {"q_min": -20, "q_max": 19}
        want = refqnn.integer.requantize(acc, multiplier, shift, 3, **options)
        got = float64.requantize(acc.astype(float), multiplier, shift, 3, **options)
        np.testing.assert_array_equal(got, want)
        skip = acc[::-1]
        pair = (2**29 + 5, shift, 3)
        want = refqnn.integer.requantize_add(acc, multiplier, skip, *pair, **options)
        got = float64.requantize_add(
            acc.astype(float), multiplier, skip.astype(float), *pair, **options
        )
        np.testing.assert_array_equal(got, want)


def test_shortcuts_stay_what_they_are(make, images):
    """A skip of codes less their zero-point, subsampled, with zero channels around."""
    network = make()
    integer = deploy(network, image_size=SIZE)
    values = integer.trace(images)
    codes = values["layers.stage1_block1.conv2"].astype(np.int64)
    want, _ = PadShortcut(8, 2).forward(codes, Run())
    got = values["layers.stage2_block1.shortcut.accumulator"]
    np.testing.assert_array_equal(got, want)
    assert got.dtype == np.int32
    assert isinstance(network.layers["stem_relu"], ReLU)
    assert isinstance(network.layers["stem_quant"], Affine)


@pytest.mark.parametrize("rounding", ["half_away", "float32_half_even"])
def test_bounds_of_multipliers_by_hand(rounding):
    """Terms (2) and (4) of two channels: six roundings of float32, where it rounds."""
    acc = np.array([[1000, -3], [-4000, 50]])
    multiplier, shift = np.array([1 << 30, 3 << 29]), np.array([-3, 0])
    step = SimpleNamespace(
        name="a", multiplier=multiplier, shift=shift, rounding=rounding
    )
    traced = SimpleNamespace(values={"a.accumulator": acc})
    peak = np.array([4000, 50])
    want = peak * 2.0 ** (shift - 32)
    if rounding == "float32_half_even":
        share = 6 * 2.0**-24 / (1 - 6 * 2.0**-24)
        want += share * peak * multiplier * 2.0 ** (shift - 31)
    np.testing.assert_allclose(multiplier_error(step, traced), want, rtol=1e-12)
