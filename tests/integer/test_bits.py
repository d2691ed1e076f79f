"""Packed signs against the convolution of +1 and -1."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refqnn.geometry import pad_planes, window
from refqnn.integer import conv2d, pack_bits, unpack_bits, xnor_conv2d
from refqnn.integer.bits import check_xnor_conv2d


def signs(rng, shape):
    return rng.choice(np.array([-1, 1], np.int8), shape)


@pytest.mark.parametrize("channels", [1, 2, 63, 64, 65, 128, 130])
def test_pack_and_unpack(channels, rng):
    x = signs(rng, (2, channels, 3, 2))
    bits = pack_bits(x)
    assert bits.dtype == np.uint64
    assert bits.shape == (2, -(-channels // 64), 3, 2)
    np.testing.assert_array_equal(unpack_bits(bits, channels=channels), x, strict=True)


def test_every_bit_has_its_place():
    for channel in range(130):
        x = np.full((1, 130, 1, 1), -1, np.int8)
        x[0, channel] = 1
        words = pack_bits(x).ravel().tolist()
        assert words == [(1 << channel) >> 64 * k & (2**64 - 1) for k in range(3)]


def test_zero_is_plus_one_and_false_minus_one():
    values = np.array([0.0, -0.0, 1e-300, -1e-300, np.inf, -np.inf])
    for x in (values, values.astype(np.float32)[:2], np.array([0, 5, -1])):
        got = unpack_bits(pack_bits(x.reshape(1, -1, 1, 1)), channels=x.size).ravel()
        np.testing.assert_array_equal(got, np.where(x >= 0, 1, -1))
    x = np.array([True, False]).reshape(1, 2, 1, 1)
    np.testing.assert_array_equal(
        unpack_bits(pack_bits(x), channels=2).ravel(), [1, -1]
    )


@given(
    seed=st.integers(0, 2**32 - 1),
    channels=st.sampled_from([1, 3, 63, 64, 65, 129]),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    padding=st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * 2),
    padding_value=st.sampled_from([-1, 0, 1]),
)
def test_xnor_is_the_convolution(
    seed, channels, kernel, stride, padding, padding_value
):
    rng = np.random.default_rng(seed)
    x, w = signs(rng, (2, channels, 4, 5)), signs(rng, (3, channels, *kernel))
    got = xnor_conv2d(
        pack_bits(x), pack_bits(w), channels=channels, stride=stride,
        padding=padding, padding_value=padding_value,
    )  # fmt: skip
    at = window(kernel, stride=stride, padding=padding)
    want = conv2d(pad_planes(x, at, padding_value), w, stride=stride)
    np.testing.assert_array_equal(got, want, strict=True)


def test_padding_is_minus_one_unless_said_otherwise():
    one = np.ones((1, 1, 1, 1), np.uint64)
    assert (
        xnor_conv2d(
            one, np.ones((1, 1, 1, 3), np.uint64), channels=1, padding=((0, 0), (1, 1))
        )
        == -1
    )


def test_all_pairs_of_eight_signs():
    every = np.arange(256, dtype=np.uint64)
    got = xnor_conv2d(
        every.reshape(1, 1, 16, 16), every.reshape(256, 1, 1, 1), channels=8
    )
    s = unpack_bits(every.reshape(256, 1, 1, 1), channels=8)[..., 0, 0].astype(int)
    np.testing.assert_array_equal(got[0].reshape(256, 256), s @ s.T)


BITS = np.zeros((1, 2, 3, 3), np.uint64)
BAD = [
    ({"channels": 64}, r"x_bits must hold ceil\(channels / 64\) = 1 words, got \(1, 2"),
    ({"channels": 129}, r"must hold ceil\(channels / 64\) = 3 words"),
    ({"channels": 0}, "channels must be an int of at least 1"),
    ({"channels": True}, "channels must be an int of at least 1"),
    ({"x_bits": BITS.astype(np.int64)}, "x_bits must be four-dimensional uint64"),
    ({"x_bits": BITS[0]}, r"x_bits must be four-dimensional uint64, got uint64 \(2"),
    ({"w_bits": BITS[0]}, "w_bits must be four-dimensional uint64"),
    ({"w_bits": BITS[:, :1]}, "w_bits must hold"),
    ({"x_bits": BITS + np.uint64(2)}, "x_bits has bits set beyond channel 65"),
    ({"w_bits": BITS + np.uint64(2**63)}, "w_bits has bits set beyond channel 65"),
    ({"padding_value": 2}, "padding_value must be -1, 0 or 1, got 2"),
    ({"padding_value": True}, "padding_value must be -1, 0 or 1, got True"),
    ({"w_bits": np.zeros((1, 2, 4, 4), np.uint64)}, "does not fit"),
    ({"stride": 0}, "stride must be at least 1"),
]


@pytest.mark.parametrize(("wrong", "message"), BAD)
def test_bad_arguments_raise(wrong, message):
    with pytest.raises(ValueError, match=message):
        xnor_conv2d(**({"x_bits": BITS, "w_bits": BITS, "channels": 65} | wrong))


def test_the_bound_is_exact():
    """2^31 - 1 is prime: one pixel of as many channels, or a little less than 2^31."""
    deep = np.lib.stride_tricks.as_strided(BITS, (1, 2**25, 1, 1), (0, 0, 0, 0))
    check_xnor_conv2d(deep, deep, channels=2**31 - 1, padding_value=-1)
    words = np.lib.stride_tricks.as_strided(BITS, (1, 1, 2**25, 1), (0, 0, 0, 0))
    good = {"channels": 63, "padding_value": -1}
    check_xnor_conv2d(words, words, **good)
    with pytest.raises(ValueError, match=r"C \* Kh \* Kw = 2147483648 exceeds int32"):
        check_xnor_conv2d(words, words, channels=64, padding_value=-1)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.ones((2, 3)), r"x must be \(N, C, H, W\), got x\(2, 3\)"),
        (np.full((1, 1, 1, 1), np.nan), "x holds NaN"),
        (np.ones((1, 1, 1, 1), complex), "x must be float, integer or bool"),
    ],
)
def test_what_cannot_be_packed(x, message):
    with pytest.raises(ValueError, match=message):
        pack_bits(x)


def test_what_cannot_be_unpacked():
    with pytest.raises(ValueError, match="bits has bits set beyond channel 65"):
        unpack_bits(BITS + np.uint64(2), channels=65)
