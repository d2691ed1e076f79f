"""Transposed convolution against the transpose of a convolution; products of codes."""

import numpy as np
import pytest
from refusals import refuses

from refqnn.integer import conv2d, conv_transpose2d, matmul
from refqnn.ops.conv import conv2d as float_conv2d
from refqnn.ops.conv import conv2d_backward

CASES = [
    {},
    {"stride": 2},
    {"stride": (2, 3), "padding": 1},
    {"stride": 2, "padding": ((1, 0), (0, 1)), "dilation": (1, 2)},
    {"groups": 2, "stride": 2},
    {"groups": 2, "dilation": 2, "padding": 1},
]


@pytest.mark.parametrize("options", CASES)
def test_it_is_the_gradient_of_a_convolution(rng, options):
    """Sums of integers are exact in float64: the same numbers, from another formula."""
    x = rng.integers(-128, 128, (2, 4, 3, 5), dtype=np.int8)
    w = rng.integers(-128, 128, (4, 6 // options.get("groups", 1), 3, 2), dtype=np.int8)
    y = conv_transpose2d(x, w, x_zero_point=5, w_zero_point=-3, **options)
    below = np.zeros(y.shape)
    out, cache = float_conv2d(below, w.astype(float) + 3, **options)
    if out.shape[2:] != x.shape[2:]:
        pytest.skip("the convolution has another number of windows")
    want = conv2d_backward(x.astype(float) - 5, cache)[0]
    np.testing.assert_array_equal(y, want)
    assert y.dtype == np.int32


def spread(x, w, b, options):
    """The sum, one product at a time; padding 0, one group."""
    (sh, sw), (dh, dw) = options["stride"], options["dilation"]
    eh, ew = options["output_padding"]
    n, c, height, width = x.shape
    _, o, kh, kw = w.shape
    shape = (
        (height - 1) * sh + dh * (kh - 1) + 1 + eh,
        (width - 1) * sw + dw * (kw - 1) + 1 + ew,
    )
    y = np.zeros((n, o, *shape), np.int64) + b[:, None, None]
    for at in np.ndindex(n, c, height, width):
        for k, i, j in np.ndindex(o, kh, kw):
            place = at[0], k, at[2] * sh + i * dh, at[3] * sw + j * dw
            y[place] += int(x[at]) * int(w[at[1], k, i, j])
    return y


def test_every_code_spreads_its_kernel(rng):
    x = rng.integers(0, 256, (2, 2, 3, 2), dtype=np.uint8)
    w = rng.integers(-128, 128, (2, 3, 2, 3), dtype=np.int8)
    b = rng.integers(-1000, 1000, 3)
    options = {"stride": (2, 1), "dilation": (1, 2), "output_padding": (1, 0)}
    got = conv_transpose2d(x, w, b, **options, accumulator="int64")
    np.testing.assert_array_equal(got, spread(x, w, b, options), strict=True)
    cut = conv_transpose2d(x, w, b, **options, padding=((1, 0), (0, 2)))
    np.testing.assert_array_equal(cut, got[:, :, 1:, :-2])


def test_zero_points_a_channel(rng):
    x = rng.integers(0, 256, (1, 4, 3, 3), dtype=np.uint8)
    w = rng.integers(0, 256, (4, 3, 2, 2), dtype=np.uint8)
    zeros = np.arange(6) * 40
    got = conv_transpose2d(x, w, w_zero_point=zeros, groups=2)
    for g in (0, 1):
        part = slice(2 * g, 2 * g + 2)
        centred = w[part] - zeros[3 * g : 3 * g + 3, None, None]
        want = conv_transpose2d(x[:, part], centred.astype(np.int16))
        np.testing.assert_array_equal(got[:, 3 * g : 3 * g + 3], want)


def test_no_image_gives_no_image():
    x, w = np.zeros((0, 2, 3, 3), np.int8), np.zeros((2, 1, 2, 2), np.int8)
    assert conv_transpose2d(x, w, stride=2, groups=2).shape == (0, 2, 6, 6)


def test_bad_arguments_raise():
    x, w = np.zeros((1, 2, 3, 3), np.int8), np.ones((2, 1, 3, 3), np.int8)
    for given, message in (
        ({"w": np.ones((3, 1, 3, 3), np.int8)}, "disagree on C // G|must divide"),
        ({"w": np.ones((2, 3), np.int8)}, r"w must be \(C, O // G, Kh, Kw\)"),
        ({"groups": 0}, "C a multiple of G = 0"),
        ({"padding": 3}, "leaves nothing"),
        ({"output_padding": -1}, "output_padding must be at least 0"),
        ({"b": np.zeros(2, np.int32)}, "disagree on O"),
        ({"x": np.zeros((1, 2, 3, 3), np.int32), "x_zero_point": 2**31 - 1},
         "int32 holds"),
    ):  # fmt: skip
        refuses(message, conv_transpose2d, **{"x": x, "w": w} | given)


def test_products_are_those_of_every_row_and_column(rng):
    a = rng.integers(-128, 128, (2, 3, 4), dtype=np.int8)
    b = rng.integers(0, 256, (4, 5), dtype=np.uint8)
    got = matmul(a, b, a_zero_point=-3, b_zero_point=200)
    want = np.einsum("nik,kj->nij", a.astype(int) + 3, b.astype(int) - 200)
    np.testing.assert_array_equal(got, want.astype(np.int32), strict=True)
    flat = conv2d(a[0][:, :, None, None], np.ones((1, 4, 1, 1), np.int8))
    np.testing.assert_array_equal(
        matmul(a[0], np.ones((4, 1), np.int8)), flat[:, :, 0, 0]
    )


def test_products_beyond_the_accumulator_raise():
    """K max|a| max|b| = 2 2^15 2^15 is one more than int32 holds."""
    a, b = np.zeros((1, 2), np.int16), np.zeros((2, 1), np.int16)
    refuses(r"could reach .* = 2147483648, int32", matmul, a, b)
    assert matmul(a, b, accumulator="int64").dtype == np.int64
    assert matmul(a[:, :1], b[:1]).dtype == np.int32
    for wrong, message in (
        ({"b": np.zeros((3, 1), np.int16)}, "disagree on K"),
        ({"a": np.zeros(2, np.int16)}, "disagree on K"),
        ({"accumulator": "int16"}, "accumulator must be"),
        ({"a_zero_point": 2**15}, "a_zero_point must lie in"),
        ({"b_zero_point": np.zeros(1, int)}, "b_zero_point must be one integer"),
    ):
        refuses(message, matmul, **{"a": a, "b": b, "accumulator": "int64"} | wrong)
