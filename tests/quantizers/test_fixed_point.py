import math

import numpy as np
import pytest
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import norm

from refqnn.quantizers import (
    FixedPoint,
    fixed_point,
    fixed_point_backward,
    gaussian_clip,
    gaussian_mse,
)
from refqnn.quantizers.fixed_point_weights import GAUSSIAN_CLIP

# bits: a* / sigma, c = E|w| / a*, MSE / sigma^2
FIGURES = {
    2: (1.2240, 0.65186, 0.190174),
    3: (1.9523, 0.40869, 0.046860),
    4: (2.4739, 0.32252, 0.012889),
    5: (2.8987, 0.27525, 0.0036932),
    6: (3.2701, 0.24399, 0.0010693),
    7: (3.6075, 0.22118, 3.0862e-4),
    8: (3.9205, 0.20352, 8.8308e-5),
}


def nearest_level(w, a, bits):
    """Equation (1) in words: of all levels the nearest to the clipped weight."""
    most = 2 ** (bits - 1) - 1
    t = min(max(w, -a), a) / (a / most)
    return min(range(-most, most + 1), key=lambda k: (abs(k - t), k % 2)) * a / most


@pytest.mark.parametrize("bits", [2, 3, 4, 5])
def test_equation_1_is_the_nearest_level_ties_to_even(bits):
    a = 2.0 ** (bits - 1) - 1  # the step is 1
    w = np.arange(-8 * a - 12, 8 * a + 13) / 8
    want = [nearest_level(v, a, bits) for v in w]
    np.testing.assert_array_equal(fixed_point(w, a, bits=bits)[0], want)


def test_the_clip_is_one_for_a_filter_if_it_has_its_shape():
    w = np.array([[1.0, 0.4], [1.0, 0.4]])
    y, _ = fixed_point(w, np.array([[1.0], [3.0]]), bits=3)
    np.testing.assert_array_equal(y, [[1, 1 / 3], [1, 0]])


def grid_mse(a, bits, w, p):
    return float(np.sum(p * (fixed_point(w, a, bits=bits)[0] - w) ** 2))


@pytest.mark.parametrize("bits", FIGURES)
def test_the_clip_constants_are_those_of_an_independent_optimisation(bits):
    w = (np.arange(600_000) + 0.5) * 7 / 600_000  # the forward itself, integrated
    p = 2 * norm.pdf(w) * 7 / 600_000
    a, c, mse = FIGURES[bits]
    assert abs(grid_mse(a, bits, w, p) - mse) < 2e-4 * mse
    best = minimize_scalar(
        grid_mse, bracket=(0.9 * a, a, 1.1 * a), args=(bits, w, p), tol=1e-7
    )
    assert abs(best.x - GAUSSIAN_CLIP[bits]) < 1e-4
    assert abs(GAUSSIAN_CLIP[bits] - a) < 1e-4
    assert abs(math.sqrt(2 / math.pi) / GAUSSIAN_CLIP[bits] - c) < 1e-5


def test_every_number_of_bits_has_a_clip_constant():
    assert list(GAUSSIAN_CLIP) == list(range(2, 17))


@pytest.mark.parametrize("bits", GAUSSIAN_CLIP)
def test_the_clip_constants_are_optimal(bits):
    best = GAUSSIAN_CLIP[bits]
    for factor in (0.5, 0.9, 0.998, 1.002, 1.1, 2):
        assert gaussian_mse(factor * best, bits=bits) > gaussian_mse(best, bits=bits)


@pytest.mark.parametrize("bits", GAUSSIAN_CLIP)
def test_at_the_best_clip_the_levels_are_orthogonal_to_the_error(bits):
    most = 2 ** (bits - 1) - 1
    k = np.arange(1, most + 1)

    def projection(a):  # E w q - s E q^2, q = Q / s
        t = (k - 0.5) * a / most
        return norm.pdf(t).sum() - a / most * ((2 * k - 1) * norm.sf(t)).sum()

    best = GAUSSIAN_CLIP[bits]
    root = brentq(projection, 0.9 * best, 1.1 * best, xtol=1e-12)
    np.testing.assert_allclose(best, root, rtol=0, atol=6e-7)


@pytest.mark.parametrize("bits", [2, 3, 6])
@pytest.mark.parametrize("a", [0.3, 1.0, 2.5])
def test_the_closed_form_error_is_the_integral(bits, a):
    w = np.linspace(-9, 9, 200_001)
    p = norm.pdf(w) * (w[1] - w[0])
    np.testing.assert_allclose(
        gaussian_mse(a, bits=bits), grid_mse(a, bits, w, p), rtol=1e-5
    )


def test_at_two_bits_it_beats_equation_3():
    assert abs(gaussian_mse(GAUSSIAN_CLIP[2], bits=2) - 0.190174) < 1e-6


@pytest.mark.parametrize("bits", FIGURES)
def test_the_clip_of_gaussian_filters(bits):
    sigma = np.array([[0.01], [3.0]])
    w = sigma * norm.ppf((np.arange(20_000) + 0.5) / 20_000)
    a = gaussian_clip(w, bits=bits)
    assert a.shape == (2, 1)
    np.testing.assert_allclose(a, sigma * FIGURES[bits][0], rtol=2e-4)


def test_the_clip_broadcasts_over_a_convolution():
    w = np.ones((4, 2, 3, 3), np.float32)
    a = gaussian_clip(w, bits=4)
    assert (a.shape, a.dtype) == ((4, 1, 1, 1), np.float32)


def test_the_backward_is_the_identity_or_masks_beyond_the_clip():
    a = 0.75
    w = np.array([-1, -np.nextafter(a, 1), -a, 0, a, np.nextafter(a, 1)])
    dy = np.arange(1.0, 7)
    plain = fixed_point(w, a, bits=4)[1]
    np.testing.assert_array_equal(fixed_point_backward(dy, plain), dy)
    masked = fixed_point(w, a, bits=4, clip_grad=True)[1]
    np.testing.assert_array_equal(fixed_point_backward(dy, masked), [0, 0, 3, 4, 5, 0])


def test_a_recorded_clip_is_not_moved_by_later_writes_to_the_weights():
    w = np.array([[0.4, 2.0]])
    y, cache = fixed_point(w, 1.0, bits=2)
    w += 0.25
    np.testing.assert_allclose(fixed_point(w, 1.0, bits=2, frozen=cache)[0], y + 0.25)


@pytest.mark.parametrize("a", [-1.0, np.nan, np.inf, np.array([[1.0, -2.0]])])
def test_clips_that_are_none_raise(a):
    with pytest.raises(ValueError, match=r"a must be|clip a must not be negative"):
        fixed_point(np.ones((1, 2)), a, bits=4)


@pytest.mark.parametrize("bits", [1, 0, 17, True])
def test_bits_out_of_range_raise(bits):
    w = np.ones((1, 2))
    for call in (
        lambda: fixed_point(w, 1.0, bits=bits),
        lambda: gaussian_clip(w, bits=bits),
        lambda: gaussian_mse(1.0, bits=bits),
    ):
        with pytest.raises(ValueError, match=r"bits must be an int in \[2, 16\]"):
            call()


def test_a_clip_whose_step_is_not_normal_gives_zeros():
    w = np.array([[1.0, -1.0]], np.float32)
    np.testing.assert_array_equal(fixed_point(w, 1e-37, bits=8)[0], 0)
    np.testing.assert_array_equal(fixed_point(w, 0.0, bits=8)[0], 0)
    assert not np.signbit(fixed_point(w, 0.0, bits=8)[0]).any()


def test_codes_are_signed_and_the_smallest_that_fit():
    v = np.array([[1.0, -1.0]])
    assert FixedPoint(bits=8).quantize(v)[0].dtype == np.int8
    assert FixedPoint(bits=9).quantize(v)[0].dtype == np.int16
