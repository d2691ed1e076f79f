"""Weights on a threshold or a clip, and filters of zeros: signs of zeros included."""

import numpy as np
import pytest

from refqnn import fast
from refqnn import quantizers as qz

EDGES = np.array([[0.7, -0.7, 1.3, -1.3], [0, -0.0, 0, 0], [1e-310, -3e-311, 0, 0]])


def same_bits(got, want):
    (y, cache), (plain, recorded) = got, want
    for ours, theirs in zip((y, *cache), (plain, *recorded), strict=True):
        np.testing.assert_array_equal(ours, theirs, strict=True)
        np.testing.assert_array_equal(np.signbit(ours), np.signbit(theirs))


@pytest.mark.parametrize("variant", ["resolved", "printed", "twn"])
def test_ternary(variant):
    twin = fast.quantizers.ternary(EDGES, variant=variant)
    same_bits(twin, qz.ternary(EDGES, variant=variant))


@pytest.mark.parametrize("group", ["filter", "layer"])
def test_binary(group):
    twin = fast.quantizers.binary(EDGES, group=group)
    same_bits(twin, qz.binary(EDGES, group=group))


@pytest.mark.parametrize("clip_grad", [False, True])
def test_fixed_point(clip_grad):
    options = {"bits": 3, "clip_grad": clip_grad}
    for a in (np.array([[0.7], [0.0], [0.0]]), np.array([[1.3], [1.0], [1e-308]]), 0.7):
        twin = fast.quantizers.fixed_point(EDGES, a, **options)
        same_bits(twin, qz.fixed_point(EDGES, a, **options))
