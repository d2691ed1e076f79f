from dataclasses import fields
from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refuses

from refqnn.core import Run
from refqnn.quantizers import Affine, affine, affine_backward, batch_range
from refqnn.quantizers.affine_grid import affine_grid

ROUND = {
    "half_even": round,
    "half_up": lambda t: floor(t + Fraction(1, 2)),
    "half_away": lambda t: (floor(abs(t) + Fraction(1, 2))) * (1 if t >= 0 else -1),
}


def exact(x, lo, hi, bits, narrow_range, rounding):
    """Return the levels of affine quantization in rational arithmetic."""
    q_min, q_max = int(narrow_range), 2**bits - 1
    scale = (Fraction(hi) - Fraction(lo)) / (q_max - q_min)
    nearest = ROUND[rounding]
    z = min(max(nearest(q_min - Fraction(lo) / scale), q_min), q_max)
    codes = [min(max(nearest(Fraction(v) / scale) + z, q_min), q_max) for v in x]
    return [float(scale * (q - z)) for q in codes]


# scales that are powers of two, so that ties are exact; the third nudges on a tie
RANGES = [
    (-1.0, 2.75, 4, False),
    (0.0, 7.5, 4, False),
    (-2.5, 0.5, 2, False),
    (-3.5, 3.5, 3, False),
    (-3.0, 3.0, 3, True),
    (-1.5, 0.5, 2, True),
    (0.0, 1.0, 1, False),
    (-0.5, 0.5, 1, False),
]


@pytest.mark.parametrize("rounding", ROUND)
@pytest.mark.parametrize(("lo", "hi", "bits", "narrow"), RANGES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_tie_and_every_level(rounding, lo, hi, bits, narrow, dtype):
    x = np.arange(-160, 161, dtype=dtype) / 32
    y, _ = affine(x, lo, hi, bits=bits, narrow_range=narrow, rounding=rounding)
    want = exact(x.tolist(), lo, hi, bits, narrow, rounding)
    np.testing.assert_array_equal(y, want)


def test_the_zero_point_of_a_range_on_a_tie():
    x = np.zeros(1)
    for rounding, z in (("half_even", 2), ("half_up", 3), ("half_away", 3)):
        grid = affine_grid(x, -2.5, 0.5, bits=2, rounding=rounding)
        assert (grid.scale, grid.zero_point) == (1, z)


def test_the_zero_point_stays_on_the_grid():
    assert affine_grid(np.zeros(1), -3.0, 0.0, bits=2).zero_point == 3
    assert affine_grid(np.zeros(1), 0.0, 3.0, bits=2).zero_point == 0
    narrow = affine_grid(np.zeros(1), 0.0, 3.0, bits=2, narrow_range=True)
    assert (narrow.zero_point, narrow.q_min, narrow.q_max) == (1, 1, 3)


def test_the_scale_is_float64_rounded_once():
    once_not_twice = 0
    for hi in np.arange(1, 400) / 1000:
        scale = affine_grid(np.zeros(1, np.float32), -0.1, hi, bits=4).scale
        assert scale.dtype == np.float32
        assert scale == np.float32((hi + 0.1) / 15)
        twice = (np.float32(hi) + np.float32(0.1)) / np.float32(15)
        once_not_twice += scale != twice
    assert once_not_twice > 0


@given(st.floats(-8, 0), st.floats(0, 8), st.integers(2, 8), st.booleans())
def test_zero_is_a_level_and_the_ends_move_by_half_a_step(lo, hi, bits, narrow):
    grid = affine_grid(np.zeros(1), lo, hi, bits=bits, narrow_range=narrow)
    z = float(grid.zero_point)
    assert z == int(z)
    assert grid.q_min <= z <= grid.q_max
    assert affine(np.zeros(1), lo, hi, bits=bits, narrow_range=narrow)[0] == 0
    low, high = grid.ends()
    if grid.q_max > grid.q_min:
        half = grid.scale / 2 * (1 + 1e-9)
        assert abs(low - lo) <= half
        assert abs(high - hi) <= half


def test_a_range_without_zero_is_widened():
    x = np.linspace(-4, 4, 33)
    for given_range, widened in (((1.0, 3.0), (0.0, 3.0)), ((-3.0, -1.0), (-3.0, 0.0))):
        np.testing.assert_array_equal(
            affine(x, *given_range, bits=3)[0], affine(x, *widened, bits=3)[0]
        )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("narrow", [False, True])
def test_a_range_without_width_is_the_level_zero(dtype, narrow):
    x = np.array([5.0, 0.0, -5.0], dtype)
    for hi in (0.0, float(np.finfo(dtype).tiny)):
        y, cache = affine(x, 0.0, hi, bits=4, narrow_range=narrow)
        np.testing.assert_array_equal(y, 0)
        np.testing.assert_array_equal(affine_backward(np.ones(3), cache), [0, 1, 0])
    grid = affine_grid(x, 0.0, 0.0, bits=4, narrow_range=narrow)
    assert grid.scale == 1
    assert grid.zero_point == grid.q_min == grid.q_max == int(narrow)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_smallest_normal_number_is_a_scale(dtype):
    tiny = float(np.finfo(dtype).tiny)
    grid = affine_grid(np.zeros(1, dtype), 0.0, 15 * tiny, bits=4)
    assert (grid.scale, grid.q_max) == (tiny, 15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_gradient_stops_one_ulp_beyond_the_nudged_range(dtype):
    low, high = affine_grid(np.zeros(1, dtype), -0.9, 1.6, bits=4).ends()
    up, down = dtype(np.inf), -dtype(np.inf)
    x = np.array([np.nextafter(low, down), low, np.nextafter(low, up), 0], dtype)
    x = np.append(x, [np.nextafter(high, down), high, np.nextafter(high, up)])
    assert x.dtype == dtype
    _, cache = affine(x, -0.9, 1.6, bits=4)
    dy = np.full(7, -2.0, dtype)
    want = [0, -2, -2, -2, -2, -2, 0]
    np.testing.assert_array_equal(affine_backward(dy, cache), want)


def test_a_range_for_every_channel():
    x = np.linspace(-3, 3, 24).reshape(2, 3, 4)
    lo, hi = np.array([[-1.0], [0.0], [-2.0]]), np.array([[1.0], [2.0], [0.0]])
    y, _ = affine(x, lo, hi, bits=3)
    for c in range(3):
        alone, _ = affine(x[:, c], lo[c, 0], hi[c, 0], bits=3)
        np.testing.assert_array_equal(y[:, c], alone)


def test_values_far_beyond_the_range_saturate():
    x = np.array([1e19, -1e19], np.float32)
    np.testing.assert_array_equal(
        affine(x, 0.0, 1e-30, bits=8)[0], np.float32([1e-30, 0])
    )


@pytest.mark.parametrize("narrow", [False, True])
def test_agrees_with_pytorch_off_the_ties(rng, narrow):
    torch = pytest.importorskip("torch")
    x = rng.normal(size=500).astype(np.float32)
    grid = affine_grid(x, -1.3, 2.1, bits=4, narrow_range=narrow)
    t = torch.tensor(x, requires_grad=True)
    want = torch.fake_quantize_per_tensor_affine(
        t, float(grid.scale), int(grid.zero_point), int(grid.q_min), int(grid.q_max)
    )
    want.backward(torch.ones(500))
    y, cache = affine(x, -1.3, 2.1, bits=4, narrow_range=narrow)
    np.testing.assert_allclose(y, want.detach().numpy(), rtol=1e-6)
    # there the mask is that of the codes: half a step wider than the range
    inside = np.abs(x - y) <= float(grid.scale) / 2
    np.testing.assert_array_equal(t.grad.numpy(), inside)
    grad = affine_backward(np.ones(500, np.float32), cache)
    low, high = grid.ends()
    np.testing.assert_array_equal(grad, (low <= x) & (x <= high))


@pytest.mark.parametrize(
    ("lo", "hi", "message"),
    [
        (1.0, -1.0, "lo must not exceed hi"),
        (np.nan, 1.0, "lo must be finite"),
        (0.0, np.inf, "hi must be finite"),
        (np.array([0.0, 2.0]), 1.0, "lo must not exceed hi"),
        (np.zeros(3), 1.0, "lo must broadcast to x"),
    ],
)
def test_ranges_that_are_none_raise(lo, hi, message):
    refuses(message, affine, np.ones(2), lo, hi, bits=4)
    if np.ndim(lo) == 0:
        refuses(message, Affine().set_range, lo, hi)


def test_unknown_roundings_and_bits_raise():
    with pytest.raises(ValueError, match="rounding must be one of"):
        affine(np.ones(1), 0.0, 1.0, bits=4, rounding="nearest")
    for bits in (0, 17, True):
        with pytest.raises(ValueError, match=r"bits must be an int in \[1, 16\]"):
            affine(np.ones(1), 0.0, 1.0, bits=bits)
    with pytest.raises(ValueError, match=r"bits must be an int in \[2, 16\], got 1"):
        affine(np.ones(1), 0.0, 1.0, bits=1, narrow_range=True)


@pytest.mark.parametrize(
    ("x", "want"),
    [
        ([1.0, 2.0], (0, 2)),
        ([-1.0, -2.0], (-2, 0)),
        ([-1.0, 3.0], (-1, 3)),
        ([], (0, 0)),
    ],
)
def test_the_range_of_a_batch_holds_zero(x, want):
    assert batch_range(np.array(x)) == want
    assert not np.signbit(batch_range(-np.array([0.0]))).any()


def test_the_range_of_a_batch_is_finite():
    for bad in (np.nan, np.inf, -np.inf):
        refuses("x must be finite", batch_range, np.array([0.0, bad]))


# -- the running range ----------------------------------------------------------------


def train(module, *batches):
    for batch in batches:
        module.forward(np.array(batch), Run(training=True))
    return float(module.lo.value), float(module.hi.value)


def test_the_first_update_is_the_first_range_exactly():
    assert train(Affine(decay=0.9), [-0.3, 0.1]) == (-0.3, 0.1)
    assert train(Affine(decay=0.999), [0.1, 0.7]) == (0.0, 0.7)


def test_the_running_range_is_the_debiased_mean():
    d, tops = 0.9, [1.0, 5.0, 2.0, 3.0]
    module = Affine(decay=d)
    got = train(module, *([-top, 2 * top] for top in tops))
    share = d ** np.arange(3, -1, -1)
    want = np.sum(share * tops) / np.sum(share)
    np.testing.assert_allclose(got, (-want, 2 * want), rtol=1e-14)
    assert module.updates.value == 4


def test_without_decay_the_range_is_that_of_the_last_batch():
    assert train(Affine(decay=0.0), [-1.0, 1.0], [0.0, 3.0]) == (0, 3)


def test_a_training_pass_quantizes_with_the_updated_range():
    x = np.array([0.0, 1.0, 3.0])
    y, _ = Affine(bits=2).forward(x, Run(training=True))
    np.testing.assert_array_equal(y, x)


def test_observed_ranges_are_widened_to_hold_zero():
    module = Affine()
    module.observe(1.0, 2.0)
    assert (module.lo.value, module.hi.value) == (0, 2)
    module.set_range(-3.0, -1.0)
    assert (module.lo.value, module.hi.value) == (-3, 0)


def test_the_range_is_no_argument_of_the_module():
    options = [field.name for field in fields(Affine) if field.init]
    assert options == ["bits", "decay", "narrow_range", "rounding"]


def test_codes_are_unsigned_with_an_integer_zero_point():
    module = Affine(bits=8)
    module.set_range(-1.0, 1.0)
    q, scale, zero_point = module.quantize(np.array([-1.0, 0.0], np.float32))
    assert (q.dtype, scale.dtype, zero_point.dtype) == (np.uint8, np.float32, np.int32)
    assert q[1] == zero_point == 128
    narrow = Affine(bits=16)
    refuses("the range is unknown", narrow.quantize, np.zeros(1))
    narrow.set_range(0.0, 0.0)
    assert narrow.quantize(np.zeros(1))[0].dtype == np.uint8  # one level
    wide = Affine(bits=9)
    wide.set_range(0.0, 1.0)
    assert wide.quantize(np.zeros(1))[0].dtype == np.uint16
