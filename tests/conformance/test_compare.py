"""What compare counts, and that its policies can fail."""

import time

import numpy as np
import pytest
from refusals import refuses

from refqnn.conformance.judge.compare import compare, units


def test_equal_arrays_conform():
    found = compare(np.arange(4), np.arange(4))
    assert found.conforms
    assert str(found) == "output  conforms  4 / 4"


def test_nothing_compared_does_not_conform():
    found = compare(np.zeros(0), np.zeros(0))
    assert not found.conforms
    assert "NOTHING COMPARED" in str(found)


def test_a_mismatch_is_counted_located_and_measured():
    want = np.zeros((2, 64, 8, 8), np.int8)
    got = want.copy()
    got[0, 2, 5, 1] = 1
    got[1, 17, 0, :3] = -2
    found = compare(got, want, name="conv2d_s8")
    assert (found.total, found.mismatches) == (8192, 4)
    assert found.first == (0, 2, 5, 1)
    assert found.histogram == {-2: 3, 0: 8188, 1: 1}
    assert found.where == ("all on channels 2, 17 of axis 1 -> their parameters",)
    assert "MISMATCH  4 / 8192 (0.0488 %)" in str(found)
    assert found.as_dict()["got"] == 1
    got[1, 17] = 0
    got[0, 40, 0, 0] = 1
    assert compare(got, want).where == ()  # two mismatches lie on two channels or one


def test_borders_and_last_lines_are_recognised():
    want = np.zeros((1, 1, 5, 5), np.int32)
    edge, last = want.copy(), want.copy()
    edge[..., 0, :] = 1
    last[..., -1] = 1
    assert "padding" in compare(edge, want).where[0]
    assert "stride, ceil" in compare(last, want).where[-1]
    small, row = want[..., :2, :2], want[..., :1, :]
    assert "stride, ceil" in compare(last[..., -2:, -2:], small).where[-1]
    assert "stride, ceil" not in str(compare(row + (np.arange(5) == 0), row).where)


def test_nan_equals_nan_only():
    nan = np.array([np.nan, 1.0])
    assert compare(nan, nan).conforms
    assert compare(np.array([0.0, 1.0]), nan).mismatches == 1


def test_shapes_and_dtypes_that_cannot_be_compared_are_errors():
    assert "shape (2,), want (3,)" in str(compare(np.zeros(2), np.zeros(3)))
    assert not compare(np.zeros(2), np.zeros(3)).conforms
    assert "no number" in compare(np.array(["a"]), np.zeros(1)).error


@pytest.mark.parametrize(
    ("policy", "within", "beyond"),
    [("exact", 0, 1), ("lsb(1)", 1, 2), ("lsb(0)", 0, 1)],
)
def test_policies_for_integers(policy, within, beyond):
    want = np.array([5, 5])
    assert compare(want + within, want, policy=policy).conforms
    assert not compare(want + beyond, want, policy=policy).conforms
    assert not compare(want - beyond, want, policy=policy).conforms


def test_policies_for_floats():
    want = np.float32([1.0, -1.0, 0.0])
    up = np.nextafter(want, np.float32(2))
    np.testing.assert_array_equal(units(up, want), [1, 1, 1])
    assert compare(up, want, policy="ulp(1)").conforms
    assert not compare(np.nextafter(up, np.float32(2)), want, policy="ulp(1)").conforms
    bound = np.array([0.1, 0.1, 0.0])
    assert compare(want + bound / 2, want, policy="bound", bound=bound).conforms
    assert not compare(want + 0.05, want, policy="bound", bound=bound).conforms


def test_an_unknown_policy_raises():
    refuses("policy must be", compare, np.ones(1), np.zeros(1), policy="close")
    refuses("needs bound=", compare, np.ones(1), np.zeros(1), policy="bound")


@pytest.mark.compiled
def test_ten_million_outputs_take_less_than_five_seconds():
    want = np.resize(np.arange(-128, 128, dtype=np.int8), 10_000_000)
    got = want.copy()
    got[::777] += 1
    begun = time.process_time()
    found = compare(got, want)
    assert time.process_time() - begun < 5
    assert found.mismatches == len(range(0, 10_000_000, 777))


def test_one_of_two_channels_is_named():
    want = np.zeros((2, 2, 3))
    got = want.copy()
    got[:, 1] = 1
    told = ("all on channel 1 of axis 1 -> a parameter of that channel",)
    assert compare(got, want).where == told
    assert compare(got[:, 1:], want[:, 1:]).where == ()


def test_arrays_of_other_shapes_are_not_counted():
    found = compare(np.zeros(3), np.zeros(4))
    assert (found.total, found.mismatches) == (0, 0)
    assert found.error
    assert not found.conforms
