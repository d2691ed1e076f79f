import numpy as np
import pytest
from refusals import refuses

from refqnn.quantizers import checks
from refqnn.quantizers.checks import (
    boundaries,
    check_values,
    codebook,
    flush,
    group_axes,
    mean_abs,
    mean_kept,
)


def test_means_are_summed_in_float64_and_rounded_once():
    w = np.array([[2**25, 1, -1, 1]], np.float32)  # float32 sums stay at 2^25
    m = mean_abs(w)
    assert m.dtype == np.float32
    np.testing.assert_array_equal(m, np.float32((2**25 + 3) / 4))


def test_a_mean_runs_over_a_filter_or_the_layer():
    w = np.arange(16.0).reshape(2, 2, 2, 2)
    np.testing.assert_array_equal(mean_abs(-w).ravel(), [3.5, 11.5])
    assert mean_abs(w).shape == (2, 1, 1, 1)
    np.testing.assert_array_equal(mean_abs(w, group="layer"), np.full((1,) * 4, 7.5))
    np.testing.assert_array_equal(mean_abs(np.array([-1.0, 2.0])), [1, 2])


def test_nothing_kept_has_mean_zero():
    np.testing.assert_array_equal(mean_kept(np.ones((1, 3)), np.zeros((1, 3), bool)), 0)
    assert mean_abs(np.zeros((3, 0))).shape == (3, 1)
    assert mean_abs(np.zeros((0, 3))).shape == (0, 1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scales_below_the_smallest_normal_number_are_zero(dtype):
    tiny = np.finfo(dtype).tiny
    scales = np.array([tiny, np.nextafter(tiny, dtype(0)), 0, 1])
    np.testing.assert_array_equal(flush(scales.astype(dtype)), [tiny, 0, 0, 1])


def test_groups_are_filters_or_the_layer():
    with pytest.raises(
        ValueError, match="group must be 'filter' or 'layer', got 'row'"
    ):
        group_axes(np.zeros((1, 1)), "row")
    refuses("axis of filters", group_axes, np.zeros(()), "filter")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_bound_on_magnitudes_is_the_root_of_the_largest_number(dtype):
    bound = dtype(np.sqrt(np.float64(np.finfo(dtype).max)))
    below, above = np.nextafter(bound, dtype(0)), np.nextafter(bound, dtype(np.inf))
    check_values(np.array([below, -below, bound, -bound]), name="w")
    for bad in (above, -above, np.inf, np.nan):
        refuses("w must be finite", check_values, np.array([0.0, bad], dtype), name="w")


@pytest.mark.parametrize("bad", [1.0, [1.0], np.ones(2, int), np.ones(2, bool)])
def test_only_float32_and_float64_arrays_are_values(bad):
    refuses("v must be a float32 or float64 array", check_values, bad, name="v")


def test_parameters_broadcast_and_keep_their_precision():
    v = np.zeros((2, 3), np.float32)
    wide = {"name": "w", "dtype": np.float64}
    (third,) = check_values(v, **wide, a=np.full((2, 1), 1 / 3))
    np.testing.assert_array_equal(third, np.full((2, 1), 1 / 3), strict=True)
    with pytest.raises(
        ValueError, match=r"a must broadcast to w: a\(3, 1\), w\(2, 3\)"
    ):
        check_values(v, name="w", a=np.ones((3, 1)))
    refuses(r"a must broadcast to w", check_values, v, name="w", a=np.ones((1, 2, 3)))
    bound = float(np.sqrt(np.float64(np.finfo(np.float32).max)))
    assert check_values(v, **wide, a=bound) == [bound]
    for bad in (np.nan, np.inf, bound * 1.001):
        refuses("a must be finite and at most", check_values, v, name="w", a=bad)


def test_positive_parameters_are_normal_and_stand_first():
    v, tiny = np.zeros(2, np.float32), np.finfo(np.float32).tiny
    got = check_values(v, name="v", b=-1, positive={"step s": tiny})
    assert [(p.dtype, float(p)) for p in got] == [(v.dtype, tiny), (v.dtype, -1)]
    assert check_values(v, name="v", not_negative={"clip a": 0}) == [0]
    for bad in (0, -1, tiny / 2):
        with pytest.raises(ValueError, match="step s must be positive and normal"):
            check_values(v, name="v", positive={"step s": bad})
    with pytest.raises(ValueError, match="clip a must not be negative, got -1"):
        check_values(v, name="v", not_negative={"clip a": -1})
    with pytest.raises(ValueError, match=r"s must broadcast to v: s\(3,\), v\(2,\)"):
        check_values(v, name="v", positive={"step s": np.ones(3)})


def test_the_former_name_of_the_check_answers_with_a_warning():
    with pytest.warns(DeprecationWarning, match=r"check_finite is now .*check_values"):
        assert checks.check_finite is check_values
    with pytest.raises(AttributeError, match="has no attribute 'absent'"):
        checks.absent  # noqa: B018 - reading it is the test


@pytest.mark.parametrize("bits", [True, 4.0, "4", 1, 9])
def test_the_bits_of_a_function_lie_in_its_range(bits):
    check_values(np.zeros(1), name="v", bits=np.int64(8), least=2, most=8)
    with pytest.raises(ValueError, match=r"bits must be an int in \[2, 8\]"):
        check_values(np.zeros(1), name="v", bits=bits, least=2, most=8)


def test_a_codebook_holds_the_groups_one_after_another():
    grid, scale = np.array([0, 1, 2]), np.array([[1.0], [10.0]])
    codes, levels = codebook(np.array([[0, 2], [1, 1]]), scale, np.array(1), grid)
    np.testing.assert_array_equal(levels, [-1, 0, 1, -10, 0, 10])
    np.testing.assert_array_equal(codes, [[0, 2], [4, 4]])
    np.testing.assert_array_equal(
        boundaries(scale, np.array(1), grid), [[-0.5, 0.5], [-5, 5]]
    )
