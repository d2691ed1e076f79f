"""Requantization against exact fractions, and the table that tells its forms apart."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refuses
from tables.integer_exact import clipped, fewest_and_smallest, rescaled

from refqnn import fast
from refqnn.integer import (
    quantize_multiplier,
    quantize_multipliers,
    requantize,
    requantize_add,
    requantize_real,
)
from refqnn.integer.rescale import (
    ABOVE_HALF,
    BEYOND_FLOAT64,
    FLOATING,
    FORMS,
    HALF,
    REQUANTIZATIONS,
    THREE_QUARTERS,
    TWO_STAGE,
)
from refqnn.integer.rounding import ROUNDINGS

ENDS = (-(2**31), 2**31 - 1)
WIDE = {"q_min": ENDS[0], "q_max": ENDS[1]}
MULTIPLIERS = (0, 1, HALF, ABOVE_HALF, THREE_QUARTERS, 1_583_594_044, 2**31 - 1)
int32 = st.integers(*ENDS)
factor = st.integers(0, 2**31 - 1)


def answer(form, probe):
    acc, multiplier, shift = probe
    return int(requantize(np.array(acc), multiplier, shift, 0, **WIDE, rounding=form))


def test_the_forms():
    assert [*ROUNDINGS, *TWO_STAGE, *FLOATING] == list(FORMS)


@pytest.mark.parametrize("form", FORMS)
def test_small_accumulators_times_many_multipliers(form):
    acc = np.arange(-40, 41)[:, None, None]
    m = np.array(MULTIPLIERS)[:, None]
    shift = np.array([-31, -9, -6, -5, -4, -3, -2, -1, 0, 1, 2, 5])
    got = requantize(
        np.broadcast_to(acc, (81, m.size, shift.size)),
        m, shift, 0, **WIDE, rounding=form,
    )  # fmt: skip
    for k in np.ndindex(got.shape):
        want = rescaled(k[0] - 40, MULTIPLIERS[k[1]], int(shift[k[2]]), form)
        assert got[k] == want, (k[0] - 40, MULTIPLIERS[k[1]], shift[k[2]])


@pytest.mark.parametrize("form", FORMS)
@given(
    acc=int32,
    multiplier=factor,
    shift=st.integers(-31, 31),
    zero_point=st.integers(-128, 127),
)
def test_any_accumulator(form, acc, multiplier, shift, zero_point):
    if form in TWO_STAGE and not ENDS[0] <= acc << max(shift, 0) <= ENDS[1]:
        refuses(r"acc \* 2\^shift must lie in", answer, form, (acc, multiplier, shift))
        return
    exact = rescaled(acc, multiplier, shift, form) + zero_point
    for ends, dtype in (((-128, 127), np.int8), (ENDS, np.int32)):
        options = {"q_min": ends[0], "q_max": ends[1], "rounding": form}
        got = requantize(np.array([acc]), multiplier, shift, zero_point, **options)
        np.testing.assert_array_equal(
            got, np.array([clipped(exact, *ends)], dtype), strict=True
        )


@given(acc=int32, m=factor, skip=int32, skip_m=factor, shift=st.integers(-31, 31))
@pytest.mark.parametrize("rounding", list(ROUNDINGS))
def test_any_residual_addition(rounding, acc, m, skip, skip_m, shift):
    real = Fraction(acc * m + skip * skip_m) * Fraction(2) ** (shift - 31)
    # one exact rational: the multiplier 2^31 of shift 0 is 1
    exact = rescaled(real, 2**31, 0, rounding) + 7
    got = requantize_add(
        np.array([acc]), m, np.array([skip]), skip_m, shift, 7,
        q_min=0, q_max=2**32 - 1, rounding=rounding,
    )  # fmt: skip
    want = np.array([clipped(exact, 0, 2**32 - 1)], np.uint32)
    np.testing.assert_array_equal(got, want, strict=True)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_residual_addition_at_the_ends_of_64_bits(sign):
    acc = np.array([ENDS[0] if sign < 0 else ENDS[1]])
    for shift in (-31, 0, 31):
        exact = Fraction(2 * int(acc[0]) * (2**31 - 1)) * Fraction(2) ** (shift - 31)
        zero_point = 0 if sign < 0 else 2**32 - 1
        got = requantize_add(
            acc, 2**31 - 1, acc, 2**31 - 1, shift, zero_point,
            q_min=0, q_max=2**32 - 1, rounding="floor",
        )  # fmt: skip
        assert got == clipped(exact.__floor__() + zero_point, 0, 2**32 - 1)


def test_one_rounding_is_not_two():
    one, half = np.array([1]), HALF >> 1  # a quarter of each branch
    together = requantize_add(one, half, one, half, 0, 0, **WIDE)
    apart = 2 * requantize(one, half, 0, 0, **WIDE)
    assert (together, apart) == (1, 0)


def test_two_stages_are_off_by_three_quarters_at_most():
    acc = np.arange(-300, 301)
    worst = Fraction(0)
    for multiplier in (HALF, ABOVE_HALF, THREE_QUARTERS, 2**31 - 1):
        for shift in range(-8, 1):
            got = requantize(
                acc, multiplier, shift, 0, **WIDE, rounding="two_stage_half_away"
            )
            real = Fraction(multiplier) * Fraction(2) ** (shift - 31)
            off = max(
                abs(int(q) - int(a) * real) for a, q in zip(acc, got, strict=True)
            )
            assert off <= Fraction(1, 2) * (1 + Fraction(2) ** shift)
            worst = max(worst, off)
    assert worst == Fraction(3, 4)
    assert answer("two_stage_half_away", (1, HALF, -1)) == 1  # of an exact quarter


@pytest.mark.parametrize(
    ("probe", "double", "single"),
    [
        ((1, HALF, -1), 1, 0),
        ((-2, HALF, -1), -1, 0),
        ((7984, 1_583_594_044, -9), 12, 11),
    ],
)
def test_published_differences_of_one_and_two_roundings(probe, double, single):
    assert answer("two_stage_half_away", probe) == double
    assert answer("half_up", probe) == single


PROBES = sorted(
    (
        (acc, multiplier, shift)
        for acc in (-3, -2, -1, 1, 2, 3)
        for multiplier in (HALF, ABOVE_HALF, THREE_QUARTERS)
        for shift in (0, -1)
    ),
    key=lambda p: (abs(p[0]), p[0] < 0, -p[2], p[1]),
)


@pytest.fixture(scope="module")
def answers():
    return {f: [answer(f, p) for p in (*PROBES, BEYOND_FLOAT64)] for f in FORMS}


@pytest.mark.parametrize("form", FORMS)
def test_the_smallest_inputs_that_reveal_it(form, answers):
    want = fewest_and_smallest(answers, [*PROBES, BEYOND_FLOAT64], form)
    assert REQUANTIZATIONS[form].reveals == want


def test_the_smallest_accumulator_that_float64_rounds_wrongly_at_shift_0():
    """A product below 2^53 is exact; beyond, only one beside a tie is lost."""
    acc = np.arange(2**22 + 1, BEYOND_FLOAT64[0] + 1, 2)  # an even one stays exact
    inverse = acc.copy()
    for _ in range(5):  # Newton, modulo 2^64
        inverse = inverse * (2 - acc * inverse)
    wrong = []
    for beside in (-1, 1):
        m = inverse * (HALF + beside) & (2**31 - 1)  # acc m = tie + beside
        usable = (m >= HALF) & (acc * m > 2**53)
        probes = zip(acc[usable].tolist(), m[usable].tolist(), strict=True)
        wrong += [
            (a, k, 0)
            for a, k in probes
            if answer("half_even", (a, k, 0)) != answer("float64_half_even", (a, k, 0))
        ]
    assert min(wrong) == BEYOND_FLOAT64


@given(real=st.floats(2**-31, 2**31, exclude_max=True))
def test_a_multiplier_is_the_nearest_of_31_bits(real):
    if real > 2**31 - 0.5:
        return
    multiplier, shift = quantize_multiplier(real)
    assert 2**30 <= multiplier < 2**31
    assert -31 <= shift <= 31
    unit = Fraction(2) ** (shift - 31)
    assert abs(multiplier * unit - Fraction(real)) <= unit / 2
    assert quantize_multiplier(float(multiplier * unit)) == (multiplier, shift)


@pytest.mark.parametrize(
    ("real", "want"),
    [
        (0.0, (0, 0)),
        (5e-324, (0, 0)),
        (1.0, (HALF, 1)),
        (0.5, (HALF, 0)),
        (0.75, (THREE_QUARTERS, 0)),
        (1 - 2**-33, (HALF, 1)),  # rounds up to 1
        (0.5 + 2**-32, (ABOVE_HALF, 0)),  # a tie, away from 0
        (0.5 + 3 * 2**-32, (HALF + 2, 0)),
        (2.0**-32, (HALF, -31)),
        (2.0**-32 * (1 - 2**-33), (HALF, -31)),
        (2.0**-32 * (1 - 2**-30), (0, 0)),
        (2.0**31 - 1, (2**31 - 1, 31)),
    ],
)
def test_multipliers(real, want):
    assert quantize_multiplier(real) == want
    m, shift = quantize_multiplier(np.array([[real, 3.0]]))
    assert m.dtype == shift.dtype == np.int32
    np.testing.assert_array_equal(m, [[want[0], THREE_QUARTERS]])
    np.testing.assert_array_equal(shift, [[want[1], 2]])


@pytest.mark.parametrize("real", [-1.0, -5e-324, np.nan, np.inf, -np.inf])
def test_no_multiplier(real):
    refuses("real must be finite and not negative", quantize_multiplier, real)
    with pytest.raises(ValueError, match="real must be finite and not negative"):
        quantize_multiplier(np.array([1.0, real]))


@pytest.mark.parametrize("real", [2.0**31, 2.0**31 - 2**-2, 1e300])
def test_no_multiplier_so_large(real):
    refuses(r"real must be below 2\^31", quantize_multiplier, real)


@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_two_multipliers_with_one_shift(real, skip_real):
    m, skip_m, shift = quantize_multipliers(real, skip_real)
    assert int(shift) == quantize_multiplier(max(real, skip_real))[1]
    unit = Fraction(2) ** (int(shift) - 31)
    for got, want in ((m, real), (skip_m, skip_real)):
        assert 0 <= got < 2**31
        assert abs(int(got) * unit - Fraction(want)) <= unit / 2


def test_two_multipliers_a_channel():
    below_half = 0.5 * 2**-30 * (1 - 2**-53)  # plus a half it is 1
    assert quantize_multipliers(1.0, below_half)[1] == 0
    m, skip_m, shift = quantize_multipliers(np.array([0.5, 3.0]), 1.0)
    np.testing.assert_array_equal(m, [HALF >> 1, THREE_QUARTERS])
    np.testing.assert_array_equal(skip_m, [HALF, HALF >> 1])
    np.testing.assert_array_equal(shift, [1, 2])
    refuses("not negative", quantize_multipliers, 1.0, -1.0)


def test_channels():
    acc = np.array([[[[4]], [[4]]], [[[-4]], [[100]]]], np.int32)
    got = requantize(
        acc,
        np.array([HALF, THREE_QUARTERS])[:, None, None],
        np.array([0, 1])[:, None, None],
        np.array([0, 1])[:, None, None],
        q_min=-8,
        q_max=7,
    )
    np.testing.assert_array_equal(
        got, np.array([[[[2]], [[7]]], [[[-2]], [[7]]]], np.int8), strict=True
    )


@pytest.mark.parametrize("acc", [5, np.int32(5), np.array(5), np.array([5], np.uint8)])
def test_any_integer_will_do(acc):
    got = requantize(acc, HALF, 1, 0, q_min=0, q_max=15)
    np.testing.assert_array_equal(got, np.full(np.shape(acc), 5, np.uint8), strict=True)


BAD = [
    ({"acc": np.array([1.0])}, "acc must be integer"),
    ({"acc": np.array([True])}, "acc must be integer"),
    ({"acc": np.array([2**63], np.uint64)}, r"acc must lie in \[-2147483648, 21474"),
    ({"acc": np.array([2**31], np.uint32)}, "acc must lie in"),
    ({"multiplier": -1}, "multiplier must lie in"),
    ({"multiplier": np.array([-1, 1])}, "multiplier must lie in"),
    ({"multiplier": 2**31}, "multiplier must lie in"),
    ({"multiplier": 0.5}, "multiplier must be integer"),
    ({"shift": 32}, r"shift must lie in \[-31, 31\]"),
    ({"shift": -32}, "shift must lie in"),
    ({"shift": True}, "shift must be integer"),
    ({"zero_point": 16}, r"zero_point must lie in \[0, 15\]"),
    ({"zero_point": -1}, "zero_point must lie in"),
    ({"q_min": 16}, "q_min = 16 must not exceed q_max = 15"),
    ({"q_max": 2**32}, "needs more than 32 bits"),
    ({"q_min": -1, "q_max": 2**31}, "needs more than 32 bits"),
    ({"q_min": 0.0}, "q_min must be an int"),
    ({"q_max": True}, "q_max must be an int"),
    ({"rounding": "half"}, "rounding must be one of"),
    (
        {"multiplier": np.ones(3, int)},
        r"multiplier must broadcast to acc: mult.*\(3,\)",
    ),
    ({"shift": np.zeros((2, 1), int)}, r"shift must broadcast to acc: shift\(2, 1\)"),
    ({"zero_point": np.zeros(3, int)}, "zero_point must broadcast"),
]
GOOD = {
    "acc": np.array([1, 2]),
    "multiplier": HALF,
    "shift": 0,
    "zero_point": 0,
    "q_min": 0,
    "q_max": 15,
    "rounding": "half_up",
}
SKIP = {"skip": np.array([3, 4]), "skip_multiplier": HALF}


@pytest.mark.parametrize("rounding", ["half_away", "half_up", "half_even"])
def test_two_roundings_are_those_of_int32(rounding):
    wide = GOOD | {"acc": np.array([2**31]), "rounding": f"two_stage_{rounding}"}
    refuses(r"acc must lie in \[-2147483648, 2147483647", requantize, **wide)
    with pytest.raises(ValueError, match="acc must lie in"):
        requantize_add(**(GOOD | SKIP | {"acc": np.array([2**31, 0])}))


#: int64 accumulators, of any size, on ties of the shift and beside them
wide_accumulators = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.builds(lambda n, k: n << k, st.integers(-(2**20), 2**20), st.integers(12, 42)),
)


@given(
    acc=wide_accumulators,
    multiplier=st.one_of(factor, st.integers(0, 30).map(lambda k: 1 << k)),
    shift=st.integers(-31, 31),
    rounding=st.sampled_from(list(ROUNDINGS)),
)
def test_wide_accumulators_are_exact(acc, multiplier, shift, rounding):
    """int64 accumulators of 16-bit activations: products of up to 95 bits."""
    exact = rescaled(acc, multiplier, shift, rounding) - 3
    for requantize_of in (requantize, fast.integer.requantize):
        got = requantize_of(
            np.array([acc]), multiplier, shift, -3, q_min=-(2**15), q_max=2**15 - 1,
            rounding=rounding,
        )  # fmt: skip
        assert got == clipped(exact, -(2**15), 2**15 - 1)


@pytest.mark.parametrize(("wrong", "message"), BAD)
def test_bad_arguments_raise(wrong, message):
    refuses(message, requantize, **GOOD | wrong)
    refuses(message, requantize_add, **GOOD | SKIP | wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"skip": np.array([1.0, 2.0])}, "skip must be integer"),
        ({"skip": np.array([2**31, 0])}, "skip must lie in"),
        ({"skip": np.array([1])}, r"acc and skip must agree: acc\(2,\), skip\(1,\)"),
        ({"skip_multiplier": -1}, "skip_multiplier must lie in"),
        ({"skip_multiplier": 2**31}, "skip_multiplier must lie in"),
        ({"skip_multiplier": np.ones(3, int)}, "skip_multiplier must broadcast"),
        ({"rounding": "two_stage_half_up"}, "rounding must be one of"),
    ],
)
def test_bad_skips_raise(wrong, message):
    refuses(message, requantize_add, **GOOD | SKIP | wrong)


@given(
    acc=st.lists(int32, min_size=1, max_size=5),
    real=st.floats(0, 2**20) | st.sampled_from([0.5, 0.25, 1 / 3, 2.0**-31]),
    zero=st.integers(-128, 127),
)
def test_real_ratios_round_the_float64_product_away_from_zero(acc, real, zero):
    got = requantize_real(np.array(acc), real, zero, q_min=-128, q_max=127)
    assert got.dtype == np.int8
    for a, q in zip(acc, got, strict=True):
        t = Fraction(float(a) * real)
        whole = abs(t) + Fraction(1, 2)
        rounded = (whole.numerator // whole.denominator) * (1 if t >= 0 else -1)
        assert q == min(max(rounded + zero, -128), 127)


def test_real_ratios_go_by_channel_and_are_checked():
    acc = np.array([[2, 2], [-3, -3]])
    got = requantize_real(acc, np.array([0.25, 0.5]), 0, q_min=-9, q_max=9)
    np.testing.assert_array_equal(got, [[1, 1], [-1, -2]])
    for wrong, message in (
        ({"acc": np.array([2**31])}, "acc must lie in"),
        ({"real": -1.0}, "real must be finite"),
        ({"real": np.inf}, "real must be finite"),
        ({"real": np.ones(3)}, "real must broadcast"),
        ({"zero_point": 10}, "zero_point must lie in"),
    ):
        good = {"acc": acc, "real": 0.5, "zero_point": 0, "q_min": -9, "q_max": 9}
        refuses(message, requantize_real, **good | wrong)
