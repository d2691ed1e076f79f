"""Twins on planes longer than a vector register, and on planes of one value."""

import numba
import numpy as np
import pytest
from tables import ops as table

from refqnn import fast, ops
from refqnn.fast.ops import conv
from refqnn.testing.twins import check_threads, compare_twin

ROWS = {row.name: row for row in table.TWINS}
SHAPE = (3, 2, 37, 29)


def planes(rng, dtype, offset=0.0):
    return (offset + rng.normal(size=SHAPE)).astype(dtype)


def backward_args(rng, name, *args, **options):
    y, cache = getattr(ops, name)(*args, **options)
    return rng.normal(size=y.shape).astype(y.dtype), cache


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_batch_norm_and_its_backward_keep_their_bounds(rng, dtype, offset):
    x = planes(rng, dtype, offset)
    gamma, beta = rng.normal(size=(2, 2)).astype(dtype)
    compare_twin(ROWS["batch_norm"], (x, gamma, beta), {"eps": 1e-5})
    args = backward_args(rng, "batch_norm", x, gamma, beta)
    compare_twin(ROWS["batch_norm_backward"], args, {})


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_statistics_are_those_of_the_definition(rng, dtype):
    x = planes(rng, dtype, 1e4)
    one = np.ones(2, dtype)
    _, got = fast.ops.batch_norm(x, one, one)
    _, want = ops.batch_norm(x, one, one)
    np.testing.assert_allclose(got.mean, want.mean, rtol=1e-14)
    np.testing.assert_allclose(got.var, want.var, rtol=1e-11)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("max_pool2d", {"kernel": 2}),
        ("max_pool2d", {"kernel": 3, "stride": 2, "padding": 1, "ceil_mode": True}),
        ("avg_pool2d", {"kernel": 2}),
        ("avg_pool2d", {"kernel": 3, "stride": 1, "padding": 1}),
        ("global_avg_pool2d", {}),
    ],
)
def test_pooling_and_its_backward_keep_their_bounds(rng, name, options, dtype):
    x = planes(rng, dtype)
    compare_twin(ROWS[name], (x,), options)
    args = backward_args(rng, name, x, **options)
    compare_twin(ROWS[f"{name}_backward"], args, {})


@pytest.mark.parametrize("name", ["relu", "relu6"])
def test_activations_equal_their_definition(rng, name):
    x = 4 * planes(rng, np.float32)
    x.flat[::50] = np.nan
    compare_twin(ROWS[name], (x,), {})
    compare_twin(ROWS[f"{name}_backward"], backward_args(rng, name, x), {})


@pytest.mark.compiled
@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="needs two threads")
def test_threads_change_no_bit_of_batch_norm(rng):
    x, one = planes(rng, np.float32), np.ones(2, np.float32)
    check_threads(ROWS["batch_norm"], (x, one, one), {})
    args = backward_args(rng, "batch_norm", x, one, one)
    check_threads(ROWS["batch_norm_backward"], args, {})


@pytest.mark.parametrize("taps", [255, 256, 257])
def test_every_tap_of_a_long_window_has_a_number(taps):
    x = np.zeros((1, 1, 1, taps))
    x[..., -1] = 1
    compare_twin(ROWS["max_pool2d"], (x,), {"kernel": (1, taps)})
    _, cache = fast.ops.max_pool2d(x, kernel=(1, taps))
    dx = fast.ops.max_pool2d_backward(np.ones((1, 1, 1, 1)), cache)
    np.testing.assert_array_equal(dx, x)


def test_a_single_value_per_channel_has_no_gradient(rng):
    x, gamma, beta = np.array([[3.0]]), np.ones(1), np.ones(1)
    compare_twin(ROWS["batch_norm"], (x, gamma, beta), {"eps": 0.1})
    args = backward_args(rng, "batch_norm", x, gamma, beta, eps=0.1)
    compare_twin(ROWS["batch_norm_backward"], args, {})
    np.testing.assert_array_equal(fast.ops.batch_norm_backward(*args).dx, 0)


def test_the_first_tap_wins_where_all_are_minus_infinity():
    x = np.full((1, 1, 2, 2), -np.inf)
    compare_twin(ROWS["max_pool2d"], (x,), {"kernel": 2})
    compare_twin(ROWS["max_pool2d"], (x,), {"kernel": 2, "padding": 1})


@pytest.mark.parametrize("width", [4, 8, 16])
def test_last_blocks_and_tiles_of_a_convolution_are_not_whole(width, rng, monkeypatch):
    """Two workers take blocks of 3 and 2 images; 9 runs are 3 or 1.5 tiles."""
    monkeypatch.setattr(conv, "get_num_threads", lambda: 2)
    x = rng.integers(-8, 8, (5, 2, 3, width)).astype(np.float32)
    w = rng.integers(-8, 8, (8, 2, 3, 3)).astype(np.float32)
    want = ops.conv2d(x, w, padding=1)[0]
    np.testing.assert_array_equal(fast.ops.conv2d(x, w, padding=1)[0], want)
