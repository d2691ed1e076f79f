"""The seven roundings against exact fractions, and the table that tells them apart."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refuses
from tables.integer_exact import NEAREST, fewest_and_smallest

from refqnn.integer.rounding import ROUND, ROUNDINGS, divide, shift_right

NAMES = list(NEAREST)
QUARTERS = sorted((k / 4 for k in range(-12, 13)), key=lambda t: (abs(t), t < 0))


def test_the_table_is_complete():
    assert set(ROUNDINGS) == set(ROUND) == set(NEAREST)


@pytest.mark.parametrize("name", NAMES)
def test_all_pairs_of_quotients(name):
    n, d = np.arange(-256, 257)[:, None], np.arange(1, 129)[None]
    want = [
        [NEAREST[name](Fraction(a, b)) for b in d[0].tolist()] for a in n[:, 0].tolist()
    ]
    got = divide(n, np.broadcast_to(d, (n.size, d.size)), rounding=name)
    np.testing.assert_array_equal(got, np.array(want), strict=True)


@pytest.mark.parametrize("name", NAMES)
def test_all_65_536_pairs_of_a_byte_and_a_shift_of_a_product(name):
    a, b = np.arange(-128, 128)[:, None], np.arange(256)[None]
    got = shift_right(a * b, 6, rounding=name)
    answers = {p: NEAREST[name](Fraction(p, 64)) for p in np.unique(a * b).tolist()}
    want = np.vectorize(answers.__getitem__)(a * b)
    np.testing.assert_array_equal(got, want, strict=True)


@pytest.mark.parametrize("name", NAMES)
def test_every_shift_at_the_ends_of_64_bits(name):
    ends = [-(2**63), -(2**63) + 1, -1, 0, 1, 2**62, 2**63 - 1]
    for shift in range(63):
        ties = [k << (shift - 1) for k in (-3, -1, 1, 3)] if shift else []
        near = [t + e for t in ties for e in (-1, 0, 1)]
        n = [v for v in ends + near if -(2**63) <= v < 2**63]
        want = [NEAREST[name](Fraction(v, 1 << shift)) for v in n]
        got = shift_right(np.array(n), shift, rounding=name)
        np.testing.assert_array_equal(got, np.array(want))
        got = divide(np.array(n), 1 << shift, rounding=name)
        np.testing.assert_array_equal(got, np.array(want))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", NAMES)
def test_floats_beside_every_small_tie(name, dtype):
    ties = np.arange(-17, 18, dtype=dtype) / 2
    down, up = np.nextafter(ties, dtype(-99)), np.nextafter(ties, dtype(99))
    t = np.concatenate(
        [ties, down, up, [dtype(2**23 + 1), dtype(-(2**22)) - dtype(0.5)]]
    )
    want = [NEAREST[name](Fraction(float(v))) for v in t]
    got = ROUND[name](t)
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, np.array(want, dtype))


@pytest.mark.parametrize("name", NAMES)
@given(t=st.floats(allow_nan=False, allow_infinity=False))
def test_floats(name, t):
    want = NEAREST[name](Fraction(t))
    assert Fraction(float(ROUND[name](np.array(t)))) == want


@pytest.mark.parametrize("name", NAMES)
def test_infinities_stay_and_nan_stays(name):
    t = np.array([np.inf, -np.inf, np.nan])
    np.testing.assert_array_equal(ROUND[name](t), t)


@pytest.mark.parametrize("name", NAMES)
def test_the_smallest_inputs_that_reveal_it(name):
    t = np.array(QUARTERS)
    answers = {other: ROUND[other](t) for other in NAMES}
    assert ROUNDINGS[name].reveals == fewest_and_smallest(answers, QUARTERS, name)
    exact = {
        other: shift_right((4 * t).astype(int), 2, rounding=other) for other in NAMES
    }
    for other in NAMES:
        np.testing.assert_array_equal(exact[other], answers[other])


def test_fewest_and_smallest_finds_no_set_where_there_is_none():
    assert fewest_and_smallest({"a": [1, 2], "b": [1, 2]}, [0, 1], "a") is None


def test_bad_arguments_raise():
    one = np.array([1])
    for f in (divide, shift_right):
        refuses(r"rounding must be one of .* got 'half'", f, one, 1, rounding="half")
    for d in (0, -1, 2**62 + 1):
        refuses(r"d must lie in \[1, 2\^62\]", divide, one, d, rounding="floor")
    for shift in (-1, 63):
        with pytest.raises(ValueError, match=r"shift must lie in \[0, 62\]"):
            shift_right(one, shift, rounding="floor")
