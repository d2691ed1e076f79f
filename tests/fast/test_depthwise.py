"""Convolutions of one channel a group: the planes of many blocks, both gradients."""

import numpy as np
import pytest

from refqnn import fast, ops
from refqnn.fast.depthwise import one_channel
from refqnn.fast.planes import forward_axis, layout
from refqnn.geometry import window


@pytest.mark.compiled
@pytest.mark.parametrize("size", [(5, 4), (7, 5), (16, 16)])
@pytest.mark.parametrize("options", [{"padding": 1}, {"stride": 2, "dilation": (2, 1)}])
def test_planes_of_many_blocks_are_those_of_the_definition(size, options, rng):
    """Integers up to 9: sums of products are exact in float32, in any order."""
    x = rng.integers(-9, 10, (11, 37, *size)).astype(np.float32)
    w = rng.integers(-9, 10, (37, 1, 3, 3)).astype(np.float32)
    b = rng.integers(-9, 10, 37).astype(np.float32)
    y, cache = ops.conv2d(x, w, b, **options, groups=37)
    fast_y, fast_cache = fast.ops.conv2d(x, w, b, **options, groups=37)
    np.testing.assert_array_equal(fast_y, y)
    dy = rng.integers(-9, 10, y.shape).astype(np.float32)
    grads = zip(
        fast.ops.conv2d_backward(dy, fast_cache),
        ops.conv2d_backward(dy, cache),
        strict=True,
    )
    for twin, definition in grads:
        np.testing.assert_array_equal(twin, definition)


def test_the_planes_above_fill_blocks_and_a_part_of_one():
    axis = forward_axis(16, 16, 0, window((3, 3), padding=1))
    lie = layout(axis, axis, channels=1, images=11 * 37, tile=128, whole=16)
    assert 1 < lie.images < 11 * 37
    assert 11 * 37 % lie.images
    assert lie.image % 16 == 0


def test_planes_lie_one_behind_the_other():
    x = np.arange(24).reshape(2, 3, 2, 2)
    assert np.shares_memory(one_channel(x), x)
    np.testing.assert_array_equal(one_channel(x)[4, 0], x[1, 1])
