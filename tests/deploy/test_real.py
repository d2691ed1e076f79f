"""Operators of floats between quantizers, beside their formulas."""

import numpy as np
import pytest

from refqnn.deploy import real


@pytest.mark.parametrize("axis", [-1, 1, 2])
def test_softmax_of_several_images(axis, rng):
    x = rng.normal(size=(2, 3, 4)) * 5
    e = np.exp(x)
    want = e / np.expand_dims(e.sum(axis), axis)
    np.testing.assert_allclose(real.softmax(x, axis=axis), want)
    np.testing.assert_allclose(real.softmax(x + 1000, axis=axis), want)
