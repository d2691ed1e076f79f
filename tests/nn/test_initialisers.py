"""Where parameters start."""

import numpy as np
import pytest

from refqnn.nn import batch_norm2d, fan_in, he_normal, uniform_fan_in


def test_fan_in():
    assert fan_in((64, 32, 3, 5)) == 480


def test_he_normal_has_its_deviation(rng):
    w = he_normal((200, 10, 3, 3), rng=rng)
    np.testing.assert_allclose(w.std(), np.sqrt(2 / 90), rtol=0.02)
    np.testing.assert_allclose(w.mean(), 0, atol=0.005)
    # a normal has 4.6 % beyond two deviations, a uniform none
    np.testing.assert_allclose(np.mean(abs(w) > 2 * np.sqrt(2 / 90)), 0.0455, atol=0.01)


def test_uniform_fan_in_fills_its_interval(rng):
    w = uniform_fan_in((500, 25), rng=rng)
    np.testing.assert_allclose([w.min(), w.max()], [-0.2, 0.2], atol=1e-3)
    np.testing.assert_allclose(w.std(), 0.2 / np.sqrt(3), rtol=0.02)


def test_dtype_and_seed():
    for make in (he_normal, uniform_fan_in):
        draws = [
            make((4, 2, 3, 3), rng=np.random.default_rng(s), dtype=d)
            for s, d in ((1, "float32"), (1, "float64"), (2, "float64"))
        ]
        assert [w.dtype for w in draws] == [np.float32, np.float64, np.float64]
        np.testing.assert_array_equal(draws[0], draws[1].astype(np.float32))
        assert not np.any(draws[1] == draws[2])


def test_batch_norm_starts_as_identity_and_does_not_decay():
    norm = batch_norm2d(2, momentum=0.3, dtype="float64")
    np.testing.assert_array_equal(norm.gamma.value, [1, 1])
    np.testing.assert_array_equal(norm.beta.value, [0, 0])
    np.testing.assert_array_equal(norm.mean.value, [0, 0])
    np.testing.assert_array_equal(norm.var.value, [1, 1])
    assert norm.gamma.group == norm.beta.group == "affine"
    assert norm.momentum == 0.3
    assert batch_norm2d(1).momentum == 0.1


@pytest.mark.parametrize("make", [he_normal, uniform_fan_in])
def test_undrawn_weights_have_a_shape_and_no_memory(make):
    w = make((40_000, 40_000), rng=None, dtype="float64")
    assert (w.shape, w.dtype, w.strides) == ((40_000, 40_000), np.float64, (0, 0))
    with pytest.raises(ValueError, match="read-only"):
        w[0, 0] = 1
