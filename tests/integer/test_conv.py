"""Integer convolution and product against plain loops of Python integers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refuses
from tables import integer_exact

from refqnn.geometry import window
from refqnn.integer import accumulator_bound, conv2d, linear
from refqnn.integer.conv import carrier

SMALL = [np.int8, np.uint8]


def codes(rng, shape, dtype):
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype, endpoint=True)


@given(
    seed=st.integers(0, 2**32 - 1),
    groups=st.sampled_from([1, 2, 4]),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 2)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    padding=st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * 2),
    fill=st.sampled_from(["zero_point", "raw_zero"]),
    types=st.tuples(st.sampled_from(SMALL), st.sampled_from(SMALL)),
    bias=st.booleans(),
    per_channel=st.booleans(),
)
def test_conv2d_is_seven_loops(
    seed, groups, kernel, stride, dilation, padding, fill, types, bias, per_channel
):
    rng = np.random.default_rng(seed)
    x = codes(rng, (2, 4, 5, 6), types[0])
    w = codes(rng, (4, 4 // groups, *kernel), types[1])
    b = rng.integers(-1000, 1000, 4).astype(np.int32) if bias else None
    xz = int(codes(rng, (), types[0]))
    wz = codes(rng, (4,) if per_channel else (), types[1])
    at = window(kernel, stride=stride, padding=padding, dilation=dilation)
    got = conv2d(
        x, w, b, x_zero_point=xz, w_zero_point=wz, stride=stride, padding=padding,
        dilation=dilation, groups=groups, padding_value=fill,
    )  # fmt: skip
    each = np.broadcast_to(wz, (4,))
    border = xz if fill == "zero_point" else 0
    want = integer_exact.conv2d(x, w, b, xz, each, at, groups, border)
    np.testing.assert_array_equal(got, want.astype(np.int32), strict=True)


@given(seed=st.integers(0, 2**32 - 1), types=st.tuples(*[st.sampled_from(SMALL)] * 2))
def test_linear_is_a_convolution_of_one_pixel(seed, types):
    rng = np.random.default_rng(seed)
    x, w = codes(rng, (3, 5), types[0]), codes(rng, (4, 5), types[1])
    b = rng.integers(-1000, 1000, 4)
    zero_points = {
        "x_zero_point": codes(rng, (), types[0]),
        "w_zero_point": codes(rng, (4,), types[1]),
    }
    got = linear(x, w, b, **zero_points)
    want = conv2d(x[..., None, None], w[..., None, None], b, **zero_points)
    np.testing.assert_array_equal(got, want[..., 0, 0], strict=True)
    exact = x.astype(object) - int(zero_points["x_zero_point"])
    rows = w.astype(object) - zero_points["w_zero_point"].astype(object)[:, None]
    np.testing.assert_array_equal(got, exact @ rows.T + b)


def test_every_product_of_two_bytes():
    q = np.arange(-128, 128, dtype=np.int8)
    got = linear(q[:, None], q[:, None])
    np.testing.assert_array_equal(got, np.multiply.outer(q.astype(int), q.astype(int)))
    u = np.arange(256, dtype=np.uint8)
    got = linear(u[:, None], q[:, None], x_zero_point=255, w_zero_point=-128)
    np.testing.assert_array_equal(
        got, np.multiply.outer(u.astype(int) - 255, q.astype(int) + 128)
    )


def test_padding_with_real_zero_adds_nothing_and_with_code_zero_something():
    x, w = np.full((1, 1, 1, 1), 5, np.uint8), np.ones((1, 1, 1, 2), np.int8)
    options = {"x_zero_point": 3, "padding": ((0, 0), (0, 1))}
    assert conv2d(x, w, **options) == 2
    assert conv2d(x, w, **options, padding_value="raw_zero") == -1


def test_one_image_does_not_depend_on_its_batch(rng):
    x, w = codes(rng, (3, 2, 4, 4), np.int8), codes(rng, (3, 2, 3, 3), np.int8)
    whole = conv2d(x, w, padding=1)
    for image in range(3):
        alone = conv2d(x[image : image + 1], w, padding=1)
        np.testing.assert_array_equal(whole[image : image + 1], alone)


def test_empty_arrays():
    w = np.ones((2, 3, 1, 1), np.int8)
    assert conv2d(np.zeros((0, 3, 4, 4), np.int8), w).shape == (0, 2, 4, 4)
    assert linear(np.zeros((0, 3), np.int8), w[..., 0, 0]).shape == (0, 2)
    got = linear(np.zeros((2, 0), np.int8), np.zeros((3, 0), np.int8), np.arange(3))
    np.testing.assert_array_equal(got, [[0, 1, 2]] * 2)


LIMIT = 2**31 - 1


@pytest.mark.parametrize("sign", [1, -1])
def test_the_bound_is_exact_in_int32(sign):
    """reach 255, sum |w| = 8 421 504, and what is missing to 2^31 - 1 as the bias."""
    w = np.full((1, 2), 4_210_752 * sign, np.int32)
    rest = LIMIT - 255 * 2 * 4_210_752
    x = np.full((1, 2), 255, np.uint8)
    b = np.array([sign * rest])
    assert accumulator_bound(x.dtype, 0, w.astype(np.int64), b) == [LIMIT]
    assert linear(x, w, b) == sign * LIMIT
    assert conv2d(x[..., None, None], w[..., None, None], b) == sign * LIMIT
    message = r"output channel 0 could reach .* = 2147483648, int32 holds 2147483647"
    for f in (lambda b: linear(x, w, b),
              lambda b: conv2d(x[..., None, None], w[..., None, None], b)):  # fmt: skip
        refuses(message, f, b + sign)
    assert linear(x, w, b + sign, accumulator="int64") == sign * (LIMIT + 1)


def test_the_bound_is_about_the_farther_end_of_the_codes_and_the_worst_channel():
    w = np.array([[1, -2], [3, 4]])
    b = np.array([-5, 0])
    assert accumulator_bound(np.dtype(np.int8), 0, w, b) == [128 * 3 + 5, 128 * 7]
    assert accumulator_bound(np.dtype(np.int8), -128, w, None) == [255 * 3, 255 * 7]
    assert accumulator_bound(np.dtype(np.int8), 27, w, None) == [155 * 3, 155 * 7]
    assert accumulator_bound(np.dtype(np.int8), -28, w, None) == [155 * 3, 155 * 7]
    least = np.array([[-128, 1]], np.int8)  # |-128| is no int8
    assert accumulator_bound(np.dtype(np.uint8), 0, least, None) == [255 * 129]
    big = np.array([[1], [2**24]], np.int32)
    refuses("output channel 1 could reach", linear, np.zeros((1, 1), np.uint8), big)


def test_int64_sums_beyond_float64_are_exact_and_bounded():
    x = np.full((1, 2), 2**31 - 1, np.int32)
    w = np.array([[2**30, 2**30 - 1]], np.int32)
    exact = (2**31 - 1) * (2**31 - 1)
    assert exact > 2**53
    got = linear(x, w, np.array([1]), accumulator="int64")
    np.testing.assert_array_equal(got, np.array([[exact + 1]]), strict=True)
    got = conv2d(x[..., None, None], w[..., None, None], accumulator="int64")
    assert got == exact
    far = np.full((1, 4), -(2**31), np.int32)
    with pytest.raises(ValueError, match=r"= 18446744073709551616, int64 holds"):
        linear(far, far, accumulator="int64")


def test_float64_carries_up_to_2_to_the_53():
    assert carrier(0) == carrier(2**53) == np.float64
    assert carrier(2**53 + 1) == np.int64
    x, w = np.full((1, 3), 2**12 + 1, np.int16), np.full((1, 3), 2**12 + 1, np.int16)
    assert linear(x, w) == 3 * (2**12 + 1) ** 2  # odd and beyond 2^24


def test_int64_sums_at_2_to_the_53():
    x, w = np.array([[2**31 - 1, 1]], np.int32), np.array([[2**22, 1]], np.int32)
    assert linear(x, w, accumulator="int64") == (2**31 - 1) * 2**22 + 1
    w = np.array([[2**23, 1]], np.int32)
    assert linear(x, w, accumulator="int64") == (2**31 - 1) * 2**23 + 1


X, W = np.zeros((1, 4, 5, 5), np.uint8), np.zeros((2, 4, 3, 3), np.int8)
BAD = [
    ({"x": X[0]}, r"x must be \(N, C, H, W\) and w .* x\(4, 5, 5\)"),
    ({"w": W[0]}, r"w \(O, C // G, Kh, Kw\).* w\(4, 3, 3\)"),
    ({"x": X > 0}, "x must have an integer dtype of at most 32 bits, got bool"),
    ({"x": X.astype(np.float32)}, "x must have an integer dtype"),
    ({"w": W.astype(np.int64)}, "w must have an integer dtype of at most 32 bits"),
    ({"x": X[:, :3]}, r"disagree on C // G: x\(1, 3, 5, 5\)"),
    ({"groups": 3}, "groups = 3 must divide C = 4 and O = 2"),
    ({"groups": 4}, "groups = 4 must divide C = 4 and O = 2"),
    ({"groups": 0}, "groups must be an int of at least 1"),
    ({"groups": True}, "groups must be an int of at least 1"),
    ({"b": np.zeros(3, int)}, r"disagree on O: b\(3,\)"),
    ({"b": np.zeros(2)}, "b must be integer, got dtype float64"),
    ({"x_zero_point": 256}, r"x_zero_point must lie in \[0, 255\]"),
    ({"x_zero_point": -1}, "x_zero_point must lie in"),
    ({"x_zero_point": 1.0}, "x_zero_point must be integer"),
    ({"x_zero_point": np.zeros(4, int)}, "x_zero_point must be one integer"),
    ({"w_zero_point": 128}, r"w_zero_point must lie in \[-128, 127\]"),
    ({"w_zero_point": np.zeros(3, int)}, r"w_zero_point must be one integer or \(O,\)"),
    ({"padding_value": "zero"}, "padding_value must be 'zero_point' or 'raw_zero'"),
    ({"accumulator": "int16"}, "accumulator must be 'int32' or 'int64'"),
    ({"dilation": 3}, "does not fit"),
    ({"stride": 0}, "stride must be at least 1"),
    ({"padding": -1}, "padding must be at least 0"),
]


@pytest.mark.parametrize(("wrong", "message"), BAD)
def test_bad_arguments_of_conv2d_raise(wrong, message):
    refuses(message, conv2d, **{"x": X, "w": W} | wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"x": X[0, 0, 0]}, "disagree on I"),
        ({"w": W[:, 0, 0]}, r"disagree on I: x\(5, 5\), w\(2, 3\)"),
        ({"w": W[0, 0, 0]}, "disagree on I"),
        ({"b": np.zeros(3, int)}, "disagree on O"),
        ({"x": X[0, 0] * 1.0}, "x must have an integer dtype"),
        ({"x_zero_point": 256}, "x_zero_point must lie in"),
        ({"w_zero_point": 128}, "w_zero_point must lie in"),
        ({"accumulator": "float64"}, "accumulator must be"),
    ],
)
def test_bad_arguments_of_linear_raise(wrong, message):
    good = {"x": X[0, 0], "w": np.zeros((2, 5), np.int8)}
    refuses(message, linear, **good | wrong)
