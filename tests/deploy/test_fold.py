"""Folding: the affine map of accumulators, signs, biases, and every refusal."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refuses

from refqnn.core import Run
from refqnn.deploy.build import check_ratios
from refqnn.deploy.fold import (
    BIAS_ERROR,
    Folded,
    Grid,
    accumulator_range,
    fold,
    fraction_bits,
    place_bias,
    signed_codes,
)
from refqnn.deploy.plan import Weighted
from refqnn.geometry import window
from refqnn.nn import Conv2d, Linear, batch_norm2d
from refqnn.nn.layers import Param
from refqnn.quantizers import LSQ, Affine, Binary, FixedPoint, Ternary

GRID = Grid(0.5, 3, 0, 15)


def weighted(rng, quant, *, bias=False, norm=True, shape=(6, 3, 2, 2)):
    """Return a convolution and a batch norm with gammas of every sign."""
    b = Param(rng.normal(size=shape[0])) if bias else None
    conv = Conv2d(Param(rng.normal(size=shape)), b, weight_quant=quant)
    if not norm:
        return Weighted("conv", conv)
    made = batch_norm2d(shape[0], dtype=np.float64)
    made.gamma.value[...] = np.resize([1.5, -0.5, 0.0], shape[0])
    made.beta.value[...] = rng.normal(size=shape[0])
    made.mean.value = rng.normal(size=shape[0])
    made.var.value = rng.uniform(0.1, 2.0, shape[0])
    return Weighted("conv", conv, made)


def learned(bits=4):
    quant = LSQ(bits=bits)
    quant.set_step(0.4)
    return quant


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize(
    "quant", [Binary(), Binary(group="layer"), Ternary(), FixedPoint(3), FixedPoint(8)]
)
def test_folded_layers_compute_what_the_layers_do(rng, quant, norm, bias):
    """A a + h equals batch norm of convolution, on accumulators summed in a loop."""
    layer = weighted(rng, quant, norm=norm, bias=bias)
    folded = fold(layer, GRID)
    q = rng.integers(0, 16, (2, 3, 2, 2))
    y = layer.layer.forward(0.5 * (q - 3.0), Run())[0]
    if norm:
        y = layer.norm.forward(y, Run())[0]
    acc = np.einsum("ncij,ocij->no", q - 3, folded.w.astype(int))
    got = folded.step * acc + folded.offset
    np.testing.assert_allclose(got, y[:, :, 0, 0], rtol=1e-12, atol=1e-12)
    assert np.all(folded.low <= acc)
    assert np.all(acc <= folded.high)
    assert np.all(folded.step >= 0)
    assert folded.w.dtype == np.int8


def test_zero_scales_zero_the_weights(rng):
    folded = fold(weighted(rng, FixedPoint(4)), GRID)
    zero = folded.step == 0
    np.testing.assert_array_equal(zero, [False, False, True] * 2)
    assert not folded.w[zero].any()
    assert folded.w[~zero].any()
    placed = place_bias("conv", folded, 0.25)
    worth = placed.step * placed.bias
    np.testing.assert_allclose(worth[zero], folded.offset[zero], atol=0.25 * 2**-17)


def test_all_zero_filters_are_zero_scales(rng):
    layer = weighted(rng, FixedPoint(4))
    layer.layer.w.value[0] = 0
    folded = fold(layer, GRID)
    assert folded.step[0] == 0
    assert (folded.low[0], folded.high[0]) == (0, 0)


@pytest.mark.parametrize("lowest", [-8, -7])
def test_signs_need_a_grid_that_can_be_negated(lowest):
    q, grid = np.array([[lowest, 7], [-8, 1]]), np.arange(-8, 8)
    real = np.array([-0.5, 0.5])
    if lowest == -8:
        with pytest.raises(ValueError, match=r"conv channel 0: .* -0.5 .* code -8"):
            signed_codes("conv", q, real, grid)
    else:
        turned = signed_codes("conv", q, real, grid)
        np.testing.assert_array_equal(turned, [[7, -7], [-8, 1]])


def test_asymmetric_grids_raise_where_they_are_negated(rng):
    layer = weighted(rng, learned())
    layer.layer.w.value[1, 0, 0, 0] = -100.0  # code -8
    refuses("conv channel 1: the folded scale", fold, layer, GRID)
    layer.norm.gamma.value[...] = 1.0
    assert fold(layer, GRID).w.min() == -8
    printed = weighted(rng, Ternary(variant="printed"))
    refuses(r"has no negative on the grid \[0, 1\]", fold, printed, GRID)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("gamma", np.nan, "channel 2: the folded scale must be finite"),
        ("gamma", np.inf, "channel 2: the folded scale must be finite"),
        ("beta", np.nan, "channel 2: the folded bias must be finite"),
        ("mean", np.inf, "channel 2: the folded bias must be finite"),
        ("var", np.nan, "channel 2: the variance of the batch norm must be finite"),
        ("var", -1.0, r"channel 2: var \+ eps must be positive"),
        ("var", -1e-5, r"channel 2: var \+ eps must be positive"),
    ],
)
def test_batch_norms_must_be_sound(rng, name, value, message):
    layer = weighted(rng, FixedPoint(4))
    layer.norm.gamma.value[2] = 1.0
    getattr(layer.norm, name).value[2] = value
    with pytest.raises(ValueError, match=f"conv {message}"), np.errstate(all="ignore"):
        fold(layer, GRID)


def test_weights_must_be_codes_of_nine_bits(rng):
    with pytest.raises(ValueError, match=r"conv: weight codes less .* must fit 9 bits"):
        fold(weighted(rng, FixedPoint(10)), GRID)
    layer = weighted(rng, LSQ(bits=10), norm=False)
    layer.layer.weight_quant.set_step(1.0)
    for least, dtype in ((-128.0, np.int8), (-129.0, np.int16), (-256.0, np.int16)):
        layer.layer.w.value[0, 0, 0, 0] = least
        w = fold(layer, GRID).w
        assert (w.min(), w.dtype) == (least, dtype)
    for beyond in (-257.0, 256.0):
        layer.layer.w.value[0, 0, 0, 0] = beyond
        refuses("fit 9 bits, reach 25", fold, layer, GRID)


def test_weights_count_from_their_zero_point(rng):
    """Of an asymmetric grid the signs move, too: nothing is off the grid of 9 bits."""
    affine = Affine(bits=8)
    affine.set_range(-1.0, 2.0)
    layer = weighted(rng, affine)
    layer.norm.gamma.value[...] = [-1.0, 1.0] * (len(layer.norm.gamma.value) // 2)
    q, _, zero_point = affine.quantize(layer.layer.w.value)
    signs = np.sign(layer.norm.gamma.value).astype(int).reshape(-1, 1, 1, 1)
    centred = q.astype(int) - zero_point
    assert zero_point.item() == 85
    np.testing.assert_array_equal(fold(layer, GRID).w, signs * centred)


def test_weights_that_have_no_value_are_refused(rng):
    broken = weighted(rng, FixedPoint(4))
    broken.layer.w.value[0, 0, 0, 0] = np.nan
    refuses("conv: v must be finite", fold, broken, GRID)


def test_sums_that_could_leave_int32_are_refused():
    w = Param(np.ones((2, 66_400)))
    w.value[0] = 0
    quant = LSQ(bits=8)
    quant.set_step(1 / 127)
    layer = Weighted("classifier", Linear(w, weight_quant=quant))
    with pytest.raises(ValueError, match="classifier channel 1: sums could reach"):
        fold(layer, GRID._replace(zero_point=0))
    layer.layer.w.value[1, 66_300:] = 0  # 66 300 * 127 * 255 < 2^31 < 66 400 ...
    assert fold(layer, GRID._replace(zero_point=0)).high[1] == 66_300 * 127 * 15


def test_accumulator_range_is_reached():
    """All 3-bit inputs, weights in [-2, 2]: the extremes are the extremes."""
    x = Grid(1.0, 3, 1, 6)
    codes = np.stack(np.meshgrid(*[np.arange(1, 7)] * 2), -1).reshape(-1, 2) - 3
    rows = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 2), -1).reshape(-1, 2)
    sums = rows @ codes.T
    low, high = accumulator_range(rows, x)
    np.testing.assert_array_equal(low, sums.min(axis=1))
    np.testing.assert_array_equal(high, sums.max(axis=1))


def folded_of(step, offset, peak):
    one = np.ones(1)
    return Folded(
        np.ones((1, 1), np.int8),
        step * one,
        offset * one,
        np.array([-peak]),
        np.array([peak]),
        window(1),
        groups=1,
        bits=2,
    )


@given(
    st.floats(-12, 8), st.floats(-300, 300), st.integers(1, 2**20), st.floats(-20, 20)
)
def test_biases_are_close_and_fit(ratio, codes, peak, output):
    """B is within 1/64 code, or a step of the finest accumulator that fits."""
    scale = 2.0**output
    folded = folded_of(2.0**ratio * scale, codes * scale, peak)
    try:
        placed = place_bias("conv", folded, scale)
    except ValueError:
        assert peak + abs(codes) / 2.0**ratio + 1 > 2**31 - 1
        return
    error = abs(placed.step * placed.bias - folded.offset)[0] / scale
    finest = 2.0 ** (placed.fraction_bits[0] + 1) * (peak + abs(codes) / 2.0**ratio + 1)
    full = finest > 2**31 - 1
    assert error <= placed.step[0] / scale / 2 * (1 + 1e-9)
    assert full or placed.step[0] / scale / 2 <= BIAS_ERROR
    assert placed.fraction_bits[0] == 0 or placed.step[0] / scale > BIAS_ERROR
    assert -(2**31) <= placed.low[0] <= placed.high[0] < 2**31
    assert placed.bias.dtype == placed.fraction_bits.dtype == np.int32
    f, bias = int(placed.fraction_bits[0]), int(placed.bias[0])
    assert (placed.low[0], placed.high[0]) == (-peak * 2**f + bias, peak * 2**f + bias)


def test_whole_biases_have_no_fraction():
    placed = place_bias("conv", folded_of(3.0, 10.0, 9), 1.0, finer=False)
    assert (placed.fraction_bits[0], placed.bias[0], placed.step[0]) == (0, 3, 3.0)
    placed = place_bias("conv", folded_of(3.0, 10.0, 9), 1.0)
    assert (placed.fraction_bits[0], placed.bias[0]) == (7, 427)  # 10 * 128 / 3


@pytest.mark.parametrize(
    ("step", "offset", "peak"),
    [(1e-12, 1.0, 5), (1e-300, -1.0, 5), (1.0, 0.0, 2**31 - 1), (0.5, 0.5, 2**31 - 2)],
)
def test_biases_that_do_not_fit_name_their_channel(step, offset, peak):
    with pytest.raises(ValueError, match=r"conv channel 0: .* more than int32 holds"):
        place_bias("conv", folded_of(step, offset, peak), 1.0)


def test_the_largest_that_fits_is_taken():
    placed = place_bias("conv", folded_of(1e-3, 0.0, 2**31 - 2), 1.0)
    assert placed.high[0] == 2**31 - 2


@pytest.mark.parametrize("ratio", [0.01, 1 / 32, 0.04, 1.0, 7.0])
def test_fraction_bits_are_the_fewest(ratio):
    f = fraction_bits(np.array([ratio]), np.array([1.0]))[0]
    assert ratio / 2**f / 2 <= BIAS_ERROR
    assert f == 0 or ratio / 2 ** (f - 1) / 2 > BIAS_ERROR


@pytest.mark.parametrize("ratio", [2.0**-33, 2.0**31, 1e-30, 1e30])
def test_ratios_out_of_reach_name_their_channel(ratio):
    check_ratios("conv", np.array([2.0**-32, 2.0**31 - 1]))
    with pytest.raises(ValueError, match=r"conv channel 1: .* outside \[2\^-32, 2\^31"):
        check_ratios("conv", np.array([1.0, ratio]))


def test_grid_magnitude():
    assert Grid(1.0, 3, 0, 15).magnitude() == 12
    assert Grid(1.0, 12, 0, 15).magnitude() == 12
    assert Grid(1.0, 13, 0, 15).magnitude() == 13
