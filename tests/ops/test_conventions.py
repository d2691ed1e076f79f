"""What formulas leave open and this package decides: kinks, ties, empty, constant."""

import numpy as np
import pytest
from refusals import refuses

from refqnn import ops

ONE = np.ones(1)


def column(*values):
    return np.array(values, dtype=np.float64)[:, None]


def test_gradients_at_the_kinks_are_zero():
    x = np.array([0.0, 6.0])
    dy = np.ones(2)
    np.testing.assert_array_equal(ops.relu_backward(dy, ops.relu(x)[1]), [0, 1])
    np.testing.assert_array_equal(ops.relu6_backward(dy, ops.relu6(x)[1]), [0, 0])


def test_relu6_and_its_gradient_between_and_beyond_the_kinks():
    y, cache = ops.relu6(np.array([-0.5, 0.5, 5.5, 6.5]))
    np.testing.assert_array_equal(y, [0, 0.5, 5.5, 6])
    np.testing.assert_array_equal(ops.relu6_backward(np.ones(4), cache), [0, 1, 1, 0])


@pytest.mark.parametrize("closed", [False, True])
def test_closed_lets_the_gradient_pass_at_the_bounds(closed):
    x = np.array([-1.0, 1.0])
    _, cache = ops.straight_through_sign(x, closed=closed)
    np.testing.assert_array_equal(cache.inside, [closed, closed])
    _, cache = ops.straight_through_clip(x, -1, 1, closed=closed)
    np.testing.assert_array_equal(cache.inside, [closed, closed])


def test_the_sign_of_both_zeros_is_plus_one():
    np.testing.assert_array_equal(
        ops.straight_through_sign(np.array([0.0, -0.0]))[0], 1
    )


@pytest.mark.parametrize("op", ["round", "sign", "clip"])
def test_a_replay_of_another_shape_raises(op):
    bounds = (-1.0, 1.0) if op == "clip" else ()
    f = getattr(ops, f"straight_through_{op}")
    _, cache = f(np.zeros(3), *bounds)
    refuses(r"x\(2,\), frozen\(3,\)", f, np.zeros(2), *bounds, frozen=cache)


def test_activations_propagate_nan():
    x = np.array([np.nan])
    for op in (ops.relu, ops.relu6, ops.sigmoid, ops.tanh):
        assert np.isnan(op(x)[0]).all()
    assert np.isnan(ops.max_pool2d(np.array([[[[1.0, np.nan]]]]), kernel=(1, 2))[0])


def test_the_first_maximum_takes_the_gradient():
    x = np.zeros((1, 1, 2, 2))
    dx = ops.max_pool2d_backward(np.ones((1, 1, 1, 1)), ops.max_pool2d(x, kernel=2)[1])
    np.testing.assert_array_equal(dx[0, 0], [[1, 0], [0, 0]])


@pytest.mark.parametrize("taps", [255, 256, 257])
def test_every_tap_of_a_long_window_has_a_number(taps):
    x = np.zeros((1, 1, 1, taps))
    x[..., -1] = 1
    _, cache = ops.max_pool2d(x, kernel=(1, taps))
    assert cache.tap.dtype == (np.uint8 if taps <= 256 else np.uint16)
    np.testing.assert_array_equal(cache.tap, [[[[taps - 1]]]])


def test_padding_is_below_every_number():
    y, _ = ops.max_pool2d(-np.ones((1, 1, 1, 1)), kernel=3, padding=1)
    np.testing.assert_array_equal(y, -1)


def test_ceil_mode_drops_a_window_that_starts_in_the_padding():
    x = np.zeros((1, 1, 4, 4))
    assert ops.max_pool2d(x, kernel=2, stride=3, ceil_mode=True)[0].shape[2:] == (2, 2)
    assert ops.max_pool2d(x, kernel=1, stride=4, ceil_mode=True)[0].shape[2:] == (1, 1)
    padded = {"kernel": 2, "stride": 2, "padding": 1, "ceil_mode": True}
    assert ops.max_pool2d(x[:, :, :3, :3], **padded)[0].shape[2:] == (2, 2)


def test_ceil_mode_fits_a_window_over_a_smaller_plane():
    y, _ = ops.avg_pool2d(
        np.full((1, 1, 2, 2), 3.0), kernel=3, stride=2, ceil_mode=True
    )
    np.testing.assert_array_equal(y, np.full((1, 1, 1, 1), 3.0))


def test_what_ceil_mode_adds_is_never_counted():
    x = np.full((1, 1, 3, 3), 4.0)
    options = {"kernel": 2, "stride": 2, "ceil_mode": True}
    for include in (False, True):
        y, _ = ops.avg_pool2d(x, **options, count_include_pad=include)
        np.testing.assert_array_equal(y, np.full((1, 1, 2, 2), 4.0))


def test_a_constant_channel_becomes_beta():
    x = np.full((3, 1), 7.0)
    for op in (ops.batch_norm, ops.range_batch_norm):
        np.testing.assert_array_equal(op(x, 2 * ONE, 5 * ONE)[0], np.full((3, 1), 5.0))


def test_an_empty_batch_has_mean_and_variance_zero():
    y, cache = ops.batch_norm(np.zeros((0, 1, 2, 2)), ONE, ONE)
    assert y.shape == (0, 1, 2, 2)
    np.testing.assert_array_equal([cache.mean, cache.var], [[0], [0]])


def test_batch_norm_of_far_values_keeps_the_precision_of_float64():
    x = column(1e8, 1e8 + 2)
    y, cache = ops.batch_norm(x, ONE, 0 * ONE, eps=0.0)
    np.testing.assert_array_equal(y, column(-1, 1))
    np.testing.assert_array_equal(cache.var, [1])


def test_eps_zero_is_allowed_where_there_is_variance_only():
    x = column(1, 3)
    ops.batch_norm(x, ONE, ONE, eps=0.0)
    with pytest.raises(ValueError, match=r"var .* is 0.0 in channel 1"):
        ops.batch_norm(np.hstack([x, 0 * x]), np.ones(2), np.ones(2), eps=0.0)


def test_chunks_are_cut_in_the_order_images_rows_columns():
    x = np.array([0.0, 1, 10, 30]).reshape(2, 1, 1, 2)
    _, cache = ops.range_batch_norm(x, ONE, ONE, chunks=2, constant=1.0, eps=0.0)
    np.testing.assert_array_equal(cache.scale, [(1 + 20) / 2])
    np.testing.assert_array_equal(cache.first_max, [[1, 3]])
    np.testing.assert_array_equal(cache.first_min, [[0, 2]])


@pytest.mark.parametrize(
    ("constant", "low", "high"), [("paper", 1.5, 1.8), ("released", 0.81, 0.98)]
)
def test_the_two_constants_on_normal_data(rng, constant, low, high):
    x = rng.normal(size=(16 * 256, 1))
    _, cache = ops.range_batch_norm(x, ONE, ONE, chunks=16, constant=constant)
    assert low < cache.scale[0] < high


def test_range_batch_norm_ignores_shift_and_positive_scale(rng):
    x = rng.normal(size=(8, 1, 3, 3))
    y, _ = ops.range_batch_norm(x, ONE, 0 * ONE, chunks=4, eps=0.0)
    moved, _ = ops.range_batch_norm(3 * x + 5, ONE, 0 * ONE, chunks=4, eps=0.0)
    np.testing.assert_allclose(moved, y, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(y.sum(), 0, atol=1e-12)


def test_normalizations_undo_shifts_of_x(rng):
    x, dy = rng.normal(size=(2, 6, 2, 2, 2))
    gamma, beta = rng.normal(size=(2, 2))
    for name in ("batch_norm", "range_batch_norm"):
        _, cache = getattr(ops, name)(x, gamma, beta)
        dx = getattr(ops, f"{name}_backward")(dy, cache).dx
        np.testing.assert_allclose(dx.sum(axis=(0, 2, 3)), 0, atol=1e-12)


def test_a_masked_class_costs_nothing():
    logits = np.array([[0.0, 0.0, -np.inf]])
    loss, cache = ops.softmax_cross_entropy(logits, np.array([0]))
    np.testing.assert_allclose(loss, np.log(2))
    dx = ops.softmax_cross_entropy_backward(1.0, cache)
    np.testing.assert_allclose(dx, [[-0.5, 0.5, 0]])


def test_huge_logits_do_not_overflow():
    loss, _ = ops.softmax_cross_entropy(np.array([[1e4, 0.0]]), np.array([1]))
    np.testing.assert_array_equal(loss, 1e4)


def test_the_logarithm_of_softmax_keeps_what_softmax_loses(rng):
    x = rng.normal(size=(3, 4, 5)).astype(np.float32)
    for axis in (0, 1, -1):
        log_y = ops.log_softmax(x, axis=axis)
        assert log_y.dtype == np.float64
        want = np.log(ops.softmax(x.astype(np.float64), axis=axis)[0])
        np.testing.assert_allclose(log_y, want, rtol=1e-14, atol=1e-15)
    np.testing.assert_array_equal(ops.log_softmax(np.array([1e4, 0.0])), [0, -1e4])
    masked = ops.log_softmax(np.array([0.0, -np.inf]))
    np.testing.assert_array_equal(masked, [0, -np.inf])
    for axis in (3, -4):
        refuses(f"axis = {axis} must be an axis of x", ops.log_softmax, x, axis=axis)


def test_uniform_targets_ignore_the_label(rng):
    logits = rng.normal(size=(1, 4))
    a, b = (
        ops.softmax_cross_entropy(logits, np.array([k]), label_smoothing=1.0)[0]
        for k in (0, 3)
    )
    np.testing.assert_allclose(a, b)


def test_sum_to_adds_in_float64():
    g = np.concatenate([[1e8], np.ones(64), [-1e8]]).astype(np.float32)
    total = ops.sum_to(g, (1,))
    assert total.dtype == np.float32
    np.testing.assert_array_equal(total, [64])


def test_sum_to_of_the_same_shape_is_a_copy():
    g = np.ones((2, 2))
    assert not np.shares_memory(ops.sum_to(g, (2, 2)), g)
