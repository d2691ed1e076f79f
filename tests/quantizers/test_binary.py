import math

import numpy as np
from scipy.stats import norm

from refqnn.quantizers import Binary, binary


def test_the_sign_of_both_zeros_is_plus():
    np.testing.assert_array_equal(
        binary(np.array([[0.0, -0.0, -3.0]]))[0], [[1, 1, -1]]
    )


def test_the_scale_is_one_for_a_filter_or_for_the_layer():
    w = np.array([[1.0, -3.0], [-5.0, 7.0]])
    np.testing.assert_array_equal(binary(w)[0], [[2, -2], [-6, 6]])
    np.testing.assert_array_equal(binary(w, group="layer")[0], [[4, -4], [-4, 4]])
    assert Binary().encode(w)[1].tolist() == [-2, 2, -6, 6]
    assert Binary(group="layer").encode(w)[1].tolist() == [-4, 4]


def test_the_gaussian_error_is_one_minus_two_over_pi():
    w = norm.ppf((np.arange(100_000) + 0.5) / 100_000)[None]
    error = np.mean((binary(w)[0] - w) ** 2)
    np.testing.assert_allclose(error, 1 - 2 / math.pi, atol=1e-4)


def test_codes_are_odd():
    q, scale, zero_point = Binary().quantize(np.array([[2.0, -4.0]], np.float32))
    assert (q.tolist(), scale.tolist(), zero_point.tolist()) == (
        [[1, -1]],
        [[3]],
        [[0]],
    )
    assert q.dtype == np.int8
