"""Codes moved and blended: places and blends as fractions; packed nibbles."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refuses

from refqnn.integer import (
    clip,
    flatten,
    pack_nibbles,
    pad,
    reshape,
    resize,
    resize_bilinear,
    take,
    transpose,
    unpack_nibbles,
)


def place(i, n, m):
    """The place of output i of m among n pixels, clamped."""
    at = (i + Fraction(1, 2)) * Fraction(n, m) - Fraction(1, 2)
    return min(max(at, Fraction(0)), Fraction(n - 1))


sizes = st.integers(1, 7)


@given(n=st.tuples(sizes, sizes), m=st.tuples(sizes, sizes), seed=st.integers(0, 99))
def test_blends_are_rounded_once(n, m, seed):
    x = np.random.default_rng(seed).integers(-128, 128, (1, 2, *n)).astype(np.int8)
    got = resize(x, size=m, mode="bilinear")
    assert got.dtype == np.int8
    for i, j in np.ndindex(*m):
        a, b = place(i, n[0], m[0]), place(j, n[1], m[1])
        i0, j0 = math.floor(a), math.floor(b)
        i1, j1 = min(i0 + 1, n[0] - 1), min(j0 + 1, n[1] - 1)
        for c in (0, 1):
            corner = [[int(x[0, c, r, s]) for s in (j0, j1)] for r in (i0, i1)]
            rows = [low + (high - low) * (b - j0) for low, high in corner]
            blend = rows[0] + (rows[1] - rows[0]) * (a - i0)
            assert got[0, c, i, j] == round(blend)


@given(n=st.tuples(sizes, sizes), m=st.tuples(sizes, sizes))
def test_the_nearest_pixel_the_lower_of_two(n, m):
    x = np.arange(n[0] * n[1], dtype=np.uint8).reshape(1, 1, *n)
    got = resize(x, size=m)
    for i, j in np.ndindex(*m):
        places = place(i, n[0], m[0]), place(j, n[1], m[1])
        near = [math.ceil(at - Fraction(1, 2)) for at in places]
        assert got[0, 0, i, j] == x[0, 0, near[0], near[1]]


def test_blends_round_as_told():
    x = np.array([[[[0, 1]]]], np.int8)  # 1/4 and 3/4 inside
    rows = {r: resize(x, size=(1, 4), mode="bilinear", rounding=r).ravel().tolist()
            for r in ("floor", "ceil", "half_even")}  # fmt: skip
    assert rows == {"floor": [0, 0, 0, 1], "ceil": [0, 1, 1, 1],
                    "half_even": [0, 0, 1, 1]}  # fmt: skip


def test_codes_are_moved(rng):
    x = rng.integers(0, 256, (2, 3, 4), dtype=np.uint8)
    np.testing.assert_array_equal(reshape(x, shape=(4, 3)), x.reshape(2, 4, 3))
    np.testing.assert_array_equal(flatten(x), x.reshape(2, 12))
    np.testing.assert_array_equal(transpose(x, axes=(0, 2, 1)), x.transpose(0, 2, 1))
    at = np.array([2, 0])
    np.testing.assert_array_equal(take(x, picks=((1, at), (2, at))), x[:, at][:, :, at])
    np.testing.assert_array_equal(clip(x, q_min=-5, q_max=200), np.minimum(x, 200))
    padded = pad(x, widths=((1, 0), (0, 2)), value=7)
    assert padded.shape == (2, 4, 6)
    assert padded.sum(dtype=int) == x.sum(dtype=int) + 7 * (2 * 4 * 6 - x.size)
    for function, options in ((flatten, {}), (reshape, {"shape": (12,)})):
        assert function(x[:0], **options).shape == (0, 12)


@given(
    codes=st.lists(st.integers(-8, 7), max_size=9),
    rows=st.integers(1, 3),
)
def test_nibbles_come_back(codes, rows):
    for signed, q in ((True, codes), (False, [c & 15 for c in codes])):
        array = np.array([q] * rows, np.int8 if signed else np.uint8)
        packed = pack_nibbles(array.reshape(rows, len(q)))
        assert packed.shape == (rows, (len(q) + 1) // 2)
        back = unpack_nibbles(packed, count=len(q), signed=signed)
        np.testing.assert_array_equal(back, array.reshape(rows, len(q)), strict=True)


def test_the_low_nibble_is_the_first_as_in_onnx():
    onnx = pytest.importorskip("onnx", reason="needs the optional package onnx")
    q = np.array([-8, 7, 3, -1, 5], np.int8)
    kind = onnx.TensorProto.INT4
    tensor = onnx.helper.make_tensor("w", kind, q.shape, q.tolist())
    if tensor.raw_data:
        packed = np.frombuffer(tensor.raw_data, np.uint8)
    else:
        packed = np.array(tensor.int32_data).astype(np.uint8)
    np.testing.assert_array_equal(packed, pack_nibbles(q))


def test_bad_arguments_raise():
    x = np.zeros((1, 2, 3, 3), np.int8)
    for call, message in (
        (lambda: reshape(x, shape=(4,)), r"has no \(N, \*\(4,\)\)"),
        (lambda: transpose(x, axes=(1, 0, 2, 3)), "axes must order"),
        (lambda: transpose(x, axes=(0, 1, 2, 2)), "axes must order"),
        (lambda: take(x, picks=((0, np.array([0])),)), r"axis must lie in \[1, 3\]"),
        (lambda: take(x, picks=((1, np.array([2])),)), r"indices must lie in \[0, 1\]"),
        (lambda: pad(x, widths=((0, 0),), value=0), "widths must be a pair"),
        (lambda: pad(x, widths=((0, 0), (0, 0), (0, -1)), value=0), "widths must be"),
        (lambda: pad(x, widths=((0, 0),) * 3, value=128), "value must lie in"),
        (lambda: resize(x, size=0), "size must be at least 1"),
        (lambda: resize(x, size=2, mode="cubic"), "mode must be"),
        (lambda: resize(x, size=2, rounding="up"), "rounding must be one of"),
        (lambda: pack_nibbles(np.array([16])), r"must lie in \[-8, 7\] or \[0, 15\]"),
        (lambda: pack_nibbles(np.array([-1, 8])), "must lie in"),
        (lambda: pack_nibbles(np.array([0.5])), "q must be integers"),
        (lambda: unpack_nibbles(np.zeros(2, np.uint8), count=5, signed=True), "packed"),
        (lambda: unpack_nibbles(np.zeros(2, np.int8), count=4, signed=True), "packed"),
    ):
        refuses(message, call)


def c_quotient(a, b):
    """a / b in C: towards 0"""
    return abs(a) // b * (1 if a >= 0 else -1)


def one_axis(i, n, m, *, corners, centres):
    """Two places and the share of the second, of 1024, as the C code has them."""
    steps = m - 1 if corners and m > 1 else m
    ratio = (1024 * (n - 1 if corners and m > 1 else n) + steps // 2) // steps
    at = i * ratio + (ratio // 2 - 512 if centres else 0)
    low = max(c_quotient(at, 1024), 0)
    return low, min(c_quotient(at + 1023, 1024), n - 1), at - 1024 * low


@given(
    n=st.tuples(sizes, sizes),
    m=st.tuples(sizes, sizes),
    mode=st.sampled_from([(False, False), (True, False), (False, True)]),
)
def test_blends_of_ten_bits_are_those_of_a_plain_loop(n, m, mode):
    corners, centres = mode
    x = np.random.default_rng(0).integers(-128, 128, (1, 1, *n)).astype(np.int8)
    options = {"align_corners": corners, "half_pixel_centers": centres}
    got = resize_bilinear(x, size=m, **options)
    assert got.dtype == np.int8
    for i, j in np.ndindex(*m):
        i0, i1, p = one_axis(i, n[0], m[0], corners=corners, centres=centres)
        j0, j1, q = one_axis(j, n[1], m[1], corners=corners, centres=centres)
        total = sum(
            int(x[0, 0, a, b]) * s * t
            for a, s in ((i0, 1024 - p), (i1, p))
            for b, t in ((j0, 1024 - q), (j1, q))
        )
        nudge = 2**19 if total > 0 else -(2**19)
        assert got[0, 0, i, j] == c_quotient(total + nudge, 2**20)


@pytest.mark.parametrize("mode", [(False, False), (True, False), (False, True)])
def test_blends_of_eleven_bits_round_ties_up(mode):
    corners, centres = mode
    x = np.random.default_rng(0).integers(-128, 128, (1, 1, 5, 3)).astype(np.int8)
    options = {"align_corners": corners, "half_pixel_centers": centres}
    got = resize_bilinear(x, size=(7, 8), **options, semantics="xnnpack")
    assert got.dtype == np.int8
    for i, j in np.ndindex(7, 8):
        (i0, i1, p), (j0, j1, q) = (
            (low, min(low + 1, n - 1), Fraction(round(2048 * (at - low)), 2048))
            for n, at in ((5, at_place(i, 5, 7, mode)), (3, at_place(j, 3, 8, mode)))
            for low in [math.floor(at)]
        )
        rows = [int(x[0, 0, a, j0]) * (1 - q) + int(x[0, 0, a, j1]) * q
                for a in (i0, i1)]  # fmt: skip
        blend = rows[0] * (1 - p) + rows[1] * p
        assert got[0, 0, i, j] == math.floor(blend + Fraction(1, 2))
    with pytest.raises(ValueError, match="semantics must be 'tflite' or 'xnnpack'"):
        resize_bilinear(x, size=2, **options, semantics="onnx")


def at_place(i, n, m, mode):
    """The place of output i of m among n codes, without the rounding of floats."""
    corners, centres = mode
    if centres:
        return place(i, n, m)
    return i * (Fraction(n - 1, m - 1) if corners else Fraction(n, m))


def test_blends_of_ten_bits_refuse_what_leads_beyond_the_plane():
    x = np.zeros((1, 1, 2, 2), np.int8)
    options = {"align_corners": False, "half_pixel_centers": False}
    with pytest.raises(ValueError, match="10 bits do not place 4096 codes among 2"):
        resize_bilinear(x, size=(2, 4096), **options)
    both = dict.fromkeys(options, True)
    refuses("exclude each other", resize_bilinear, x, size=2, **both)
