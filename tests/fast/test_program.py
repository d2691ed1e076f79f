"""Programs of the machine equal the composition of definitions, bit for bit."""

import numpy as np
import pytest

from refqnn import integer
from refqnn.fast import fused, program
from refqnn.fast.program import Codes, Program, Scaling, UnsupportedError
from refqnn.geometry import window
from refqnn.integer.rescale import FORMS

UNSIGNED, SIGNED, NIBBLES = Codes(0, 255, 3), Codes(-128, 127, -5), Codes(0, 15, 0)
WINDOWS = [
    {},
    {"kernel": 3, "padding": 1},
    {"kernel": 3, "padding": 1, "stride": 2},
    {"kernel": (3, 2), "padding": ((0, 2), (1, 0)), "stride": (1, 2)},
    {"kernel": 2, "dilation": 2, "padding": 1},
    {"kernel": 5},
]


def codes(rng, like, grid):
    return rng.integers(grid.q_min, grid.q_max, like, grid.dtype, endpoint=True)


def random_scaling(rng, o, grid, rounding):
    multiplier = rng.integers(2**30, 2**31, o)
    return Scaling(multiplier, rng.integers(-12, -3, o), grid, rounding)


def requantized(acc, scaling, skip=None):
    each = (-1, 1, 1)
    m, e = scaling.multiplier.reshape(each), scaling.shift.reshape(each)
    low, high, z = scaling.codes
    options = {"q_min": low, "q_max": high, "rounding": scaling.rounding}
    if skip is None:
        return integer.requantize(acc, m, e, z, **options)
    skip_m = scaling.skip_multiplier.reshape(each)
    return integer.requantize_add(acc, m, skip, skip_m, e, z, **options)


def options_of(at, groups=1):
    return {
        "stride": at.stride,
        "padding": at.padding,
        "dilation": at.dilation,
        "groups": groups,
    }


@pytest.mark.parametrize("images", [1, 2, 9])
@pytest.mark.parametrize("given", WINDOWS, ids=str)
@pytest.mark.parametrize(
    ("groups", "c", "o"),
    [(1, 3, 5), (1, 8, 16), (6, 6, 6), (3, 9, 6), (2, 8, 16), (5, 5, 10)],
)
def test_sums_are_those_of_the_definition(given, groups, c, o, images, rng):
    given = {"kernel": 1} | given
    at = window(given.pop("kernel"), **given)
    x = codes(rng, (images, c, 7, 6), SIGNED)
    w = rng.integers(-128, 128, (o, c // groups, *at.kernel), np.int8)
    b = rng.integers(-99, 99, o)
    steps = Program()
    y = steps.sum(steps.load(x.shape[1:], SIGNED), w, b, at, None, groups=groups)
    steps.store(y)
    want = integer.conv2d(
        x, w, b, x_zero_point=SIGNED.zero_point, **options_of(at, groups)
    )
    np.testing.assert_array_equal(steps.run(x)[0], want)


@pytest.mark.parametrize("grid", [UNSIGNED, SIGNED, NIBBLES, Codes(-999, 999, 7)])
@pytest.mark.parametrize("rounding", FORMS)
def test_every_form_of_requantization(rounding, grid, rng):
    x = codes(rng, (2, 5, 4, 5), UNSIGNED)
    w = rng.integers(-128, 128, (9, 5, 3, 3), np.int8)
    b, f = rng.integers(-999, 999, 9), rng.integers(0, 3, 9)
    at, scaling = window(3, padding=1), random_scaling(rng, 9, grid, rounding)
    steps = Program()
    source = steps.load(x.shape[1:], UNSIGNED)
    steps.store(steps.sum(source, w, b, at, scaling, fraction_bits=f))
    acc = integer.conv2d(x, w, x_zero_point=UNSIGNED.zero_point, padding=1)
    acc = acc * (1 << f).astype(np.int32)[:, None, None] + b[:, None, None]
    want = requantized(acc.astype(np.int32), scaling)
    got = steps.run(x)[0]
    np.testing.assert_array_equal(got, want)
    assert got.dtype == want.dtype


ADDED = [form for form in FORMS if "two_stage" not in form]


@pytest.mark.parametrize("kind", ["codes", "sums"])
@pytest.mark.parametrize("rounding", ADDED)
def test_a_skip_is_added_with_one_rounding(rounding, kind, rng):
    x = codes(rng, (3, 6, 5, 5), UNSIGNED)
    w = rng.integers(-128, 128, (2, 6, 6, 3, 3), np.int8)
    at, none = window(3, padding=1), np.zeros(6, np.int64)
    scaling = random_scaling(rng, 6, SIGNED, rounding)
    scaling = scaling._replace(skip_multiplier=rng.integers(2**20, 2**31, 6))
    steps = Program()
    source = steps.load(x.shape[1:], UNSIGNED)
    skip = source if kind == "codes" else steps.sum(source, w[1], none, at, None)
    steps.store(steps.sum(source, w[0], none, at, scaling, skip=skip))
    z = UNSIGNED.zero_point
    acc, other = (integer.conv2d(x, v, x_zero_point=z, padding=1) for v in w)
    added = x.astype(np.int32) - z if kind == "codes" else other
    np.testing.assert_array_equal(steps.run(x)[0], requantized(acc, scaling, added))


@pytest.mark.parametrize("rounding", ["half_up", "float32_half_even"])
def test_extreme_sums_saturate_as_in_the_definition(rounding):
    """Every product is the largest, or the smallest, that bytes have."""
    for code, weight in ((255, 127), (255, -128), (0, -128), (0, 127)):
        x = np.full((1, 64, 3, 3), code, np.uint8)
        w = np.full((8, 64, 3, 3), weight, np.int8)
        at, grid = window(3, padding=1), Codes(0, 255, 255 - code)
        top = np.full(8, 2**31 - 1)
        scaling = Scaling(top, np.arange(-20, 12, 4), grid, rounding)
        steps, none = Program(), np.zeros(8, np.int64)
        source = steps.load(x.shape[1:], grid)
        steps.store(steps.sum(source, w, none, at, scaling))
        acc = integer.conv2d(x, w, x_zero_point=255 - code, padding=1)
        np.testing.assert_array_equal(steps.run(x)[0], requantized(acc, scaling))


def test_all_pairs_of_bytes_multiply_exactly():
    x = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    w = np.arange(-128, 128, dtype=np.int8).reshape(256, 1, 1, 1)
    steps = Program()
    source = steps.load((1, 16, 16), Codes(0, 255, 0))
    at = window(1)
    steps.store(steps.sum(source, w, np.zeros(256, np.int64), at, None))
    want = np.arange(-128, 128)[:, None] * np.arange(256)
    np.testing.assert_array_equal(steps.run(x)[0].reshape(256, 256), want)


def test_pools_moves_tables_and_several_outputs(rng):
    x, other = codes(rng, (5, 6, 4, 3), SIGNED), codes(rng, (5, 2, 4, 3), SIGNED)
    scaling = random_scaling(rng, 6, UNSIGNED, "half_even")
    table = rng.integers(0, 256, (65_536,))
    steps = Program()
    a, b = steps.load(x.shape[1:], SIGNED), steps.load(other.shape[1:], SIGNED)
    places = np.arange(96).reshape(8, 4, 3)[::-1]
    moved = steps.move([a, b], places, SIGNED)
    looked = steps.look_up(a, a, table, UNSIGNED)
    at, none = window(3, padding=1), np.zeros(2, np.int64)
    w = rng.integers(-9, 9, (2, 6, 3, 3), np.int8)
    for y in (
        steps.pool(a, scaling),
        moved,
        looked,
        steps.sum(looked, w, none, at, None),
    ):
        steps.store(y)
    pooled, merged, mapped, sums = steps.run(x, other)
    acc = integer.sum_pool2d(x, zero_point=SIGNED.zero_point)
    want = requantized(acc[:, :, None, None], scaling)
    np.testing.assert_array_equal(pooled, want)
    np.testing.assert_array_equal(merged, np.concatenate([x, other], 1)[:, ::-1])
    raised = x.astype(int) + 128
    want = table[256 * raised + raised].astype(np.uint8)
    np.testing.assert_array_equal(mapped, want)
    want = integer.conv2d(want, w, x_zero_point=UNSIGNED.zero_point, padding=1)
    np.testing.assert_array_equal(sums, want)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_blocks_and_threads_change_no_bit(threads, rng, monkeypatch):
    monkeypatch.setattr(program, "get_num_threads", lambda: threads)
    x = codes(rng, (11, 4, 5, 5), UNSIGNED)
    w = rng.integers(-128, 128, (8, 4, 3, 3), np.int8)
    got = fused.conv2d_requantize(
        x, w, multiplier=2**30, shift=-6, zero_point=9, q_min=0, q_max=200, padding=1
    )
    acc = integer.conv2d(x, w, padding=1)
    want = integer.requantize(acc, 2**30, -6, 9, q_min=0, q_max=200)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("q_min", [0.0, False, [0]])
def test_a_bound_that_is_no_integer_is_refused_though_an_equal_one_is_planned(q_min):
    x, w = np.ones((1, 1, 2, 2), np.int8), np.ones((1, 1, 1, 1), np.int8)
    scale = {"multiplier": 2**30, "shift": 1, "zero_point": 0, "q_max": 7}
    fused.conv2d_requantize(x, w, **scale, q_min=0)
    with pytest.raises(ValueError, match="q_min"):
        fused.conv2d_requantize(x, w, **scale, q_min=q_min)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16])
@pytest.mark.parametrize("rounding", FORMS)
def test_the_fused_convolution_equals_the_composition(rounding, dtype, rng):
    info = np.iinfo(dtype)
    x = rng.integers(info.min, info.max, (2, 3, 4, 4), dtype, endpoint=True)
    w = rng.integers(0, 256, (4, 3, 3, 3), np.uint8)
    scale = {"multiplier": rng.integers(2**30, 2**31, 4), "shift": np.arange(-2, 2)}
    grid = {"zero_point": 0, "q_min": -8, "q_max": 7, "rounding": rounding}
    z = {"x_zero_point": 1, "w_zero_point": [128, 127, 129, 0], "padding": 1}
    got = fused.conv2d_requantize(x, w, **scale, **grid, **z)
    acc = integer.conv2d(x, w, **z)
    each = [v.reshape(-1, 1, 1) for v in scale.values()]
    want = integer.requantize(acc, *each, grid.pop("zero_point"), **grid)
    np.testing.assert_array_equal(got, want)
    assert got.dtype == want.dtype


def test_what_a_byte_does_not_hold_is_refused():
    steps = Program()
    with pytest.raises(UnsupportedError, match="8 bits"):
        steps.load((3,), Codes(0, 256, 0))
    with pytest.raises(UnsupportedError, match="shape"):
        steps.load((3, 2, 1, 1), UNSIGNED)
    x = steps.load((4, 3, 3), UNSIGNED)
    w, none = np.ones((2, 4, 1, 1), np.int16), np.zeros(2, np.int64)
    with pytest.raises(UnsupportedError, match="8 bits"):
        steps.sum(x, w, none, window(1), None)
    twice = Scaling(np.full(2, 2**30), np.ones(2, int), UNSIGNED, "two_stage_half_up")
    with pytest.raises(UnsupportedError, match="left"):
        steps.sum(x, w.astype(np.int8), none, window(1), twice)
