"""Codes of real numbers against exact fractions, and the way back."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refuses
from tables.integer_exact import NEAREST, clipped

from refqnn.integer import code_dtype, dequantize, quantize

INT8 = {"q_min": -128, "q_max": 127}


def expected(x, s, z, q_min, q_max, *, rounding, scaling, when, kind):
    """One number; the two float operations as NumPy scalars, the rest exact."""
    scaled = kind(x) / kind(s) if scaling == "divide" else kind(x) * (kind(1) / kind(s))
    if when == "before_rounding":
        return clipped(
            NEAREST[rounding](Fraction(float(scaled + kind(z)))), q_min, q_max
        )
    return clipped(NEAREST[rounding](Fraction(float(scaled))) + z, q_min, q_max)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("when", ["after_rounding", "before_rounding"])
@pytest.mark.parametrize("scaling", ["divide", "reciprocal"])
@pytest.mark.parametrize("rounding", list(NEAREST))
def test_every_option_on_ties_and_thirds(rounding, scaling, when, kind):
    x = np.concatenate([np.arange(-40, 41) / 4, np.arange(-9, 10) / 3]).astype(kind)
    options = {"rounding": rounding, "scaling": scaling}
    for s, z in ((0.5, 3), (0.3, -2), (1.0, 0), (1.1, 5)):
        got = quantize(x, s, z, q_min=-9, q_max=9, zero_point_when=when, **options)
        want = [expected(v, s, z, -9, 9, when=when, kind=kind, **options) for v in x]
        np.testing.assert_array_equal(got, np.array(want, np.int8), strict=True)


@given(
    x=st.floats(width=32, allow_nan=False, allow_infinity=False),
    s=st.floats(2**-20, 2**20, width=32),
    z=st.integers(-128, 127),
    rounding=st.sampled_from(list(NEAREST)),
)
def test_any_float32(x, s, z, rounding):
    got = quantize(np.array([x], np.float32), s, z, **INT8, rounding=rounding)
    with np.errstate(over="ignore"):
        u = float(np.float32(x) / np.float32(s))
    want = np.sign(u) * 1e30 if np.isinf(u) else NEAREST[rounding](Fraction(u))
    assert got[0] == clipped(int(want) + z, -128, 127)


def test_all_codes_times_all_zero_points_come_back():
    """All 65 536 pairs, each way: the codes of the levels are the codes."""
    q = np.broadcast_to(np.arange(-128, 128, dtype=np.int8), (256, 256))
    z = np.arange(-128, 128)[:, None]
    for scale in (np.float32(0.1), 0.1, 2.0**-7):
        x = dequantize(q, scale, z)
        assert x.dtype == np.asarray(scale).dtype
        levels = np.asarray(scale) * (q.astype(int) - z).astype(x.dtype)
        np.testing.assert_array_equal(x, levels, strict=True)
        for when in ("after_rounding", "before_rounding"):
            back = quantize(x, scale, z, **INT8, zero_point_when=when)
            np.testing.assert_array_equal(back, q, strict=True)


@given(st.integers(2, 8), st.integers(0, 255), st.floats(-50, 50))
def test_the_error_is_half_a_step_within_the_range(bits, z, x):
    q_max = 2**bits - 1
    z, s = z & q_max, 0.37
    back = dequantize(quantize(np.array([x]), s, z, q_min=0, q_max=q_max), s, z)[0]
    if s * (0 - z) <= x <= s * (q_max - z):
        assert abs(back - x) <= s / 2 * (1 + 1e-12)
    else:
        assert back in (s * (0 - z), s * (q_max - z))


def test_zero_is_exact():
    for z in range(16):
        q = quantize(np.zeros(1), 0.3, z, q_min=0, q_max=15)
        assert q == z
        assert dequantize(q, 0.3, z) == 0


def test_the_smallest_inputs_that_reveal_each_choice():
    x = np.array([0.5])
    after = quantize(x, 1.0, 1, **INT8)
    before = quantize(x, 1.0, 1, **INT8, zero_point_when="before_rounding")
    assert (after, before) == (1, 2)
    five = np.array([5.0])  # 5 / 10 = 0.5 = 5 * fl(1/10); 7.5 / 5 = 1.5
    found = [
        int(v)
        for v in range(1, 50)
        if quantize(five * v / 10, v, 0, **INT8, rounding="half_up")
        != quantize(
            five * v / 10, v, 0, **INT8, rounding="half_up", scaling="reciprocal"
        )
    ]
    assert found
    assert found[0] == 49


@pytest.mark.parametrize("rounding", list(NEAREST))
def test_infinities_and_huge_numbers_saturate(rounding):
    x = np.array([np.inf, 3e38, -3e38, -np.inf], np.float32)
    for when in ("after_rounding", "before_rounding"):
        options = {"rounding": rounding, "zero_point_when": when}
        got = quantize(x, 0.1, 5, **INT8, **options)
        np.testing.assert_array_equal(got, [127, 127, -128, -128])
        got = quantize(x, 0.1, 5, q_min=0, q_max=2**32 - 1, **options)
        np.testing.assert_array_equal(got, [2**32 - 1, 2**32 - 1, 0, 0])


@pytest.mark.parametrize(
    ("q_min", "q_max"), [(-128, 127), (0, 255), (-8, 7), (1, 4), (5, 5)]
)
def test_wrap_keeps_the_low_bits(q_min, q_max):
    codes = q_max - q_min + 1
    x = np.arange(-600.0, 600.0)
    for z in (q_min, q_max, (q_min + q_max) // 2):
        for when in ("after_rounding", "before_rounding"):
            got = quantize(
                x, 1.0, z, q_min=q_min, q_max=q_max, overflow="wrap",
                zero_point_when=when,
            )  # fmt: skip
            assert got.min() >= q_min
            assert got.max() <= q_max
            np.testing.assert_array_equal((x + z - got) % codes, 0)


def test_codes_of_32_bits_are_exact():
    x = np.array([2.0**32 - 2, 2.0**31 + 1, 2.0**24 + 1])
    got = quantize(x, 1.0, 0, q_min=0, q_max=2**32 - 1)
    np.testing.assert_array_equal(got, x.astype(np.uint32), strict=True)


def test_the_smallest_scale_with_a_reciprocal():
    x = np.array([2.0**-1022])
    assert quantize(x, 2.0**-1023, 0, **INT8, scaling="reciprocal") == 2


def test_wrap_of_a_large_number():
    got = quantize(np.array([2.0**60 + 2**20]), 1.0, 7, **INT8, overflow="wrap")
    assert got == 7


def test_wrap_of_int8_is_the_cast_of_numpy():
    x = np.arange(-1000.0, 1000.0)
    got = quantize(x, 1.0, 0, **INT8, overflow="wrap")
    np.testing.assert_array_equal(got, x.astype(np.int64).astype(np.int8), strict=True)


@pytest.mark.parametrize(
    ("nan", "want"), [("q_min", -128), ("q_max", 127), ("zero", 5)]
)
@pytest.mark.parametrize("overflow", ["saturate", "wrap"])
def test_nan_becomes_a_code(nan, want, overflow):
    x = np.array([1.0, np.nan])
    got = quantize(x, 1.0, 5, **INT8, nan=nan, overflow=overflow)
    np.testing.assert_array_equal(got, np.array([6, want], np.int8), strict=True)


def test_a_scale_and_a_zero_point_for_each_channel():
    x = np.ones((2, 2, 1))
    got = quantize(
        x, np.array([[0.5], [0.25]]), np.array([[1], [2]]), q_min=0, q_max=15
    )
    np.testing.assert_array_equal(
        got, np.array([[[3], [6]]] * 2, np.uint8), strict=True
    )
    back = dequantize(got, np.array([[0.5], [0.25]]), np.array([[1], [2]]))
    np.testing.assert_array_equal(back, x)


def test_dtypes_of_codes():
    ranges = {
        (0, 1): np.uint8,
        (0, 255): np.uint8,
        (0, 256): np.uint16,
        (0, 65_535): np.uint16,
        (0, 65_536): np.uint32,
        (0, 2**32 - 1): np.uint32,
        (-1, 0): np.int8,
        (-128, 127): np.int8,
        (-128, 128): np.int16,
        (-129, 0): np.int16,
        (-32_768, 32_767): np.int16,
        (-1, 32_768): np.int32,
        (-(2**31), 2**31 - 1): np.int32,
    }
    for (q_min, q_max), dtype in ranges.items():
        assert code_dtype(q_min, q_max) == dtype
        got = quantize(np.array([1e30, -1e30]), 1.0, q_min, q_min=q_min, q_max=q_max)
        np.testing.assert_array_equal(got, np.array([q_max, q_min], dtype), strict=True)
    for wide in ((-1, 2**31), (0, 2**32), (-(2**31) - 1, 0)):
        refuses("needs more than 32 bits", code_dtype, *wide)


X = np.array([0.5, 1.0])
BAD = [
    ({"x": np.array([1, 2])}, "x must be float32 or float64, got int64"),
    ({"x": np.array([True])}, "x must be float32 or float64, got bool"),
    ({"x": X.astype(np.float16)}, "x must be float32 or float64"),
    ({"x": np.array([0.0, np.nan])}, 'x holds 1 NaN and nan="raise"'),
    ({"scale": 0.0}, "scale must be positive and finite"),
    ({"scale": -1.0}, "scale must be positive and finite"),
    ({"scale": np.nan}, "scale must be positive and finite"),
    ({"scale": np.inf}, "scale must be positive and finite"),
    ({"x": X.astype(np.float32), "scale": 1e-50}, "scale must be positive"),
    ({"x": X.astype(np.float32), "scale": 1e50}, "scale must be positive and finite"),
    ({"scale": True}, "scale must be real numbers"),
    ({"scale": 1e-320, "scaling": "reciprocal"}, "no finite reciprocal in float64"),
    ({"scale": np.ones(3)}, r"scale must broadcast to x: scale\(3,\), x\(2,\)"),
    ({"scale": np.ones((1, 2))}, "scale must broadcast to x"),
    ({"zero_point": 8}, r"zero_point must lie in \[-8, 7\]"),
    ({"zero_point": -9}, "zero_point must lie in"),
    ({"zero_point": 1.0}, "zero_point must be integer"),
    ({"zero_point": True}, "zero_point must be integer"),
    ({"zero_point": np.zeros(3, int)}, "zero_point must broadcast to x"),
    ({"q_min": 8}, "q_min = 8 must not exceed q_max = 7"),
    ({"rounding": "nearest"}, "rounding must be one of"),
    ({"scaling": "multiply"}, "scaling must be one of"),
    ({"zero_point_when": "never"}, "zero_point_when must be one of"),
    ({"overflow": "clip"}, "overflow must be one of"),
    ({"nan": "ignore"}, "nan must be one of"),
    ({"overflow": "wrap", "q_max": 6}, r"needs 2\^b codes, \[-8, 6\] holds 15"),
    ({"overflow": "wrap", "x": np.array([np.inf])}, "needs finite x / scale"),
]


@pytest.mark.parametrize(("wrong", "message"), BAD)
def test_bad_arguments_raise(wrong, message):
    good = {"x": X, "scale": 1.0, "zero_point": 0, "q_min": -8, "q_max": 7}
    refuses(message, quantize, **good | wrong)


Q = np.array([1, 2], np.int8)


@pytest.mark.parametrize(
    ("q", "scale", "zero_point", "message"),
    [
        (np.array([True]), 1.0, 0, "q must have an integer dtype of at most 32 bits"),
        (np.array([1.0]), 1.0, 0, "q must have an integer dtype"),
        (np.array([1]), 1.0, 0, "at most 32 bits, got int64"),
        (Q, 1, 0, "scale must be float32 or float64"),
        (Q, 0.0, 0, "scale must be positive"),
        (Q, 1.0, 128, r"zero_point must lie in \[-128, 127\]"),
        (Q, 1.0, np.zeros(3, int), r"zero_point must broadcast to q: zero_point\(3,\)"),
        (Q, np.ones(3), 0, "scale must broadcast to q"),
    ],
)
def test_bad_codes_raise(q, scale, zero_point, message):
    refuses(message, dequantize, q, scale, zero_point)
