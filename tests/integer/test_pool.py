"""Pooling of codes against plain loops over exact fractions."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refuses
from tables.integer_exact import NEAREST

from refqnn.integer import avg_pool2d, max_pool2d, sum_pool2d


def seen_by(x, kernel, stride, padding):
    """Yield (n, c, p, q), the codes in the window; padding is left out."""
    n, c, h, w = x.shape
    (top, bottom), (left, right) = padding
    ho = (h + top + bottom - kernel[0]) // stride[0] + 1
    wo = (w + left + right - kernel[1]) // stride[1] + 1
    for k in np.ndindex(n, c, ho, wo):
        r, s = k[2] * stride[0] - top, k[3] * stride[1] - left
        rows = slice(max(r, 0), max(r + kernel[0], 0))
        cols = slice(max(s, 0), max(s + kernel[1], 0))
        yield k, x[k[0], k[1], rows, cols].ravel().tolist()


windows = st.fixed_dictionaries(
    {
        "kernel": st.tuples(st.integers(1, 3), st.integers(1, 3)),
        "stride": st.tuples(st.integers(1, 3), st.integers(1, 3)),
        "padding": st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * 2),
    }
)
types = st.sampled_from([np.int8, np.uint8, np.int16, np.int32, np.uint32])


def covered(at):
    return all(max(p) < k for p, k in zip(at["padding"], at["kernel"], strict=True))


@given(
    at=windows, dtype=types, seed=st.integers(0, 2**32 - 1),
    rounding=st.sampled_from(list(NEAREST)), count_include_pad=st.booleans(),
    wide=st.booleans(),
)  # fmt: skip
def test_averages(at, dtype, seed, rounding, count_include_pad, wide):
    rng = np.random.default_rng(seed)
    info = np.iinfo(dtype)
    low, high = (info.min, info.max) if wide else (max(info.min, -3), 3)
    x = rng.integers(low, high, (2, 2, 4, 5), dtype, endpoint=True)
    z = int(rng.integers(low, high, endpoint=True))
    options = {"zero_point": z, "rounding": rounding}
    if not (count_include_pad or covered(at)):
        with pytest.raises(ValueError, match="smaller than the kernel"):
            avg_pool2d(x, **at, **options, count_include_pad=False)
        return
    got = avg_pool2d(x, **at, **options, count_include_pad=count_include_pad)
    want = np.zeros(got.shape, dtype)
    area = at["kernel"][0] * at["kernel"][1]
    for k, seen in seen_by(x, **at):
        total = sum(v - z for v in seen)
        count = area if count_include_pad else len(seen)
        want[k] = z + NEAREST[rounding](Fraction(total, count))
    np.testing.assert_array_equal(got, want, strict=True)


@given(at=windows, dtype=types, seed=st.integers(0, 2**32 - 1))
def test_maxima(at, dtype, seed):
    info = np.iinfo(dtype)
    x = np.random.default_rng(seed).integers(
        info.min, info.min + 9, (2, 2, 4, 5), dtype
    )
    if not covered(at):
        refuses("smaller than the kernel", max_pool2d, x, **at)
        return
    got = max_pool2d(x, **at)
    want = np.zeros(got.shape, dtype)
    for k, seen in seen_by(x, **at):
        want[k] = max(seen)
    np.testing.assert_array_equal(got, want, strict=True)


def test_all_pairs_of_bytes():
    a, b = np.meshgrid(np.arange(-128, 128), np.arange(-128, 128))
    x = np.stack([a, b], axis=-1).reshape(1, 1, -1, 2).astype(np.int8)
    total = (a + b).ravel()
    for rounding, nearest in NEAREST.items():
        answers = {t: nearest(Fraction(t, 2)) for t in range(-256, 256)}
        got = avg_pool2d(x, kernel=(1, 2), rounding=rounding)
        np.testing.assert_array_equal(got.ravel(), [answers[t] for t in total.tolist()])
    got = max_pool2d(x, kernel=(1, 2))
    np.testing.assert_array_equal(got.ravel(), np.maximum(a, b).ravel())


def test_the_zero_point_decides_ties():
    x = np.array([[[[-1, 0]]]], np.int8)
    assert avg_pool2d(x, kernel=(1, 2)) == -1  # -1/2, away from 0
    assert avg_pool2d(x, kernel=(1, 2), zero_point=-2) == 0  # -2 + 3/2


def test_the_stride_is_the_kernel_unless_given():
    x = np.arange(16, dtype=np.uint8).reshape(1, 1, 4, 4)
    np.testing.assert_array_equal(max_pool2d(x, kernel=2)[0, 0], [[5, 7], [13, 15]])
    assert max_pool2d(x, kernel=2, stride=1).shape == (1, 1, 3, 3)
    assert avg_pool2d(x, kernel=2).shape == (1, 1, 2, 2)
    assert avg_pool2d(x, kernel=2, stride=1).shape == (1, 1, 3, 3)


def test_padding_is_counted_unless_said_otherwise():
    x = np.full((1, 1, 1, 2), 8, np.uint8)
    options = {"kernel": (1, 2), "stride": 1, "padding": ((0, 0), (1, 0))}
    np.testing.assert_array_equal(avg_pool2d(x, **options)[0, 0], [[4, 8]])
    apart = avg_pool2d(x, **options, count_include_pad=False)
    np.testing.assert_array_equal(apart[0, 0], [[8, 8]])


def test_outputs_do_not_alias():
    x = np.ones((1, 1, 2, 2), np.int8)
    for y in (max_pool2d(x, kernel=1), avg_pool2d(x, kernel=1)):
        assert not np.shares_memory(x, y)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16])
def test_sums(dtype, rng):
    info = np.iinfo(dtype)
    x = rng.integers(info.min, info.max, (2, 3, 4, 5), dtype, endpoint=True)
    for z in (info.min, 0, info.max):
        got = sum_pool2d(x, zero_point=z)
        want = x.astype(np.int64).sum(axis=(2, 3)) - 20 * z
        np.testing.assert_array_equal(got, want.astype(np.int32), strict=True)


def test_the_bound_of_sums_is_exact():
    """65 536 * 32 768 = 2^31; 2^31 - 1 is prime and out of reach."""
    x = np.full((1, 1, 1, 65_536), 32_767, np.int16)
    assert sum_pool2d(x[..., :65_535], zero_point=-1) == 65_535 * 32_768
    refuses(r"= 2147483648, int32 holds 2147483647", sum_pool2d, x, zero_point=-1)
    for plane in (x, x.swapaxes(2, 3)):
        refuses("= 2147483648", sum_pool2d, plane, zero_point=-1)
    assert sum_pool2d(x.swapaxes(0, 3), zero_point=-1).shape == (65_536, 1)
    assert sum_pool2d(x.swapaxes(1, 3), zero_point=-1).shape == (1, 65_536)
    with pytest.raises(ValueError, match="int32 holds"):
        sum_pool2d(x)  # -32 768 is the farther end
    flat = np.array([[[[-(2**31) + 1]]]], np.int32)
    refuses("int32 holds", sum_pool2d, flat)


X = np.ones((1, 1, 4, 4), np.int8)
POOLS = (max_pool2d, avg_pool2d)
BAD = [
    (POOLS, {"x": X[0]}, r"x must be \(N, C, H, W\), got x\(1, 4, 4\)"),
    (POOLS, {"x": X * 1.0}, "x must have an integer dtype"),
    (POOLS, {"x": X > 0}, "x must have an integer dtype"),
    (POOLS, {"kernel": 5}, "does not fit"),
    (POOLS, {"x": X[:, :, :2], "kernel": (3, 1)}, "does not fit: H = 2"),
    (POOLS, {"x": X[..., :2], "kernel": (1, 3)}, "does not fit: W = 2"),
    (POOLS, {"kernel": 0}, "kernel must be at least 1"),
    (POOLS, {"stride": 0}, "stride must be at least 1"),
    (POOLS, {"padding": -1}, "padding must be at least 0"),
    (POOLS[:1], {"padding": 2}, r"padding must be smaller than the kernel.*kernel \(2"),
    (POOLS[1:], {"zero_point": 128}, r"zero_point must lie in \[-128, 127\]"),
    (POOLS[1:], {"zero_point": 0.5}, "zero_point must be integer"),
    (POOLS[1:], {"zero_point": np.zeros(1, int)}, "zero_point must be one integer"),
    (POOLS[1:], {"rounding": "half"}, "rounding must be one of"),
]


@pytest.mark.parametrize(("pools", "wrong", "message"), BAD)
def test_bad_arguments_raise(pools, wrong, message):
    for pool in pools:
        refuses(message, pool, **{"x": X, "kernel": 2} | wrong)


@pytest.mark.parametrize(
    ("x", "zero_point", "message"),
    [
        (X[0], 0, r"x must be \(N, C, H, W\)"),
        (X * 1.0, 0, "x must have an integer dtype"),
        (X, -129, "zero_point must lie in"),
        (X, np.zeros(1, int), "zero_point must be one integer"),
    ],
)
def test_bad_sums_raise(x, zero_point, message):
    refuses(message, sum_pool2d, x, zero_point=zero_point)
