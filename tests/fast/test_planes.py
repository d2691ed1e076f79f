"""Flat planes: every tap of every output is one offset, borders included."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refqnn.fast.packing import pack
from refqnn.fast.planes import (
    forward_axis,
    input_grad_axis,
    layout,
    taps,
    tile_weights,
)
from refqnn.geometry import output_size, pad_planes, window, windows

sizes = st.integers(1, 9)
pads = st.tuples(st.integers(0, 4), st.integers(0, 4))


@st.composite
def geometries(draw):
    at = window(
        (draw(st.integers(1, 4)), draw(st.integers(1, 4))),
        stride=(draw(st.integers(1, 3)), draw(st.integers(1, 3))),
        padding=(draw(pads), draw(pads)),
        dilation=(draw(st.integers(1, 2)), draw(st.integers(1, 2))),
    )
    size = draw(sizes), draw(sizes)
    try:
        output_size(size, at)
    except ValueError:
        return (9, 9), window(3)
    return size, at


@given(geometries(), st.integers(1, 5), st.integers(1, 3))
def test_planes_show_every_window(geometry, images, channels):
    (h, w), at = geometry
    ho, wo = output_size((h, w), at)
    rows, cols = forward_axis(h, ho, 0, at), forward_axis(w, wo, 1, at)
    lie = layout(rows, cols, channels=channels, images=images, tile=16)
    x = 1.0 + np.arange(images * channels * h * w).reshape(images, channels, h, w)
    planes = np.zeros(lie.size)
    count = min(lie.images, images)
    pack(x, 0, 0, channels, planes, lie)
    want = windows(pad_planes(x, at), at)
    offsets = lie.offsets.reshape(channels, *at.kernel)
    for n, c, p, q in np.ndindex(count, channels, ho, wo):
        here = lie.margin + n * lie.image + p * lie.row + q
        np.testing.assert_array_equal(planes[here + offsets[c]], want[n, c, p, q])
    last = lie.margin + lie.span - 1 + int(lie.offsets.max(initial=0))
    assert last < planes.size
    assert lie.margin + int(lie.offsets.min(initial=0)) >= 0


@given(geometries())
def test_input_grad_taps_are_the_forward_taps_turned_round(geometry):
    (h, _), at = geometry
    ho = output_size(geometry[0], at)[0]
    reads = {
        (p, p * at.stride[0] + i * at.dilation[0] - at.padding[0][0], i)
        for p in range(ho)
        for i in range(at.kernel[0])
    }
    turned = set()
    for remainder in range(min(at.stride[0], h)):
        axis = input_grad_axis(h, ho, 0, at, remainder)
        for m in range(axis.out):
            for i, _, shift in axis.taps:
                turned.add((m + shift, at.stride[0] * m + remainder, i))
    inside = {(p, row, i) for p, row, i in reads if 0 <= row < h}
    assert {t for t in turned if 0 <= t[0] < ho} == inside


def test_tile_weights_fill_the_last_tile_with_zeros():
    tiles = tile_weights(np.arange(6.0).reshape(3, 2), 2)
    np.testing.assert_array_equal(tiles, [[[0, 2], [1, 3]], [[4, 0], [5, 0]]])


def test_taps_run_row_by_row():
    axis = forward_axis(8, 8, 0, window(2, padding=((0, 1), (0, 1))))
    at = taps(axis, axis)
    np.testing.assert_array_equal(at.rows, [0, 0, 1, 1])
    np.testing.assert_array_equal(at.cols, [0, 1, 0, 1])


@pytest.mark.parametrize("images", [1, 7, 40])
def test_a_block_is_never_empty(images):
    axis = forward_axis(300, 300, 0, window(3, padding=1))
    lie = layout(axis, axis, channels=64, images=images, tile=48)
    assert lie.images == 1


@pytest.mark.parametrize("images", [1, 2, 3, 13, 128])
@pytest.mark.parametrize("shares", [1, 2, 3])
def test_blocks_are_shared_evenly_and_hold_what_fits(images, shares):
    axis = forward_axis(16, 16, 0, window(3, padding=1))
    options = {"channels": 32, "images": images, "tile": 48}
    most = layout(axis, axis, **options).images
    lie = layout(axis, axis, **options, shares=shares)

    def busiest(block):
        firsts = range(0, images, block)
        return block * max(len(firsts[i::shares]) for i in range(shares))

    assert 1 <= lie.images <= most
    assert shares == 1 or busiest(lie.images) == min(map(busiest, range(1, most + 1)))
    held = layout(axis, axis, **options, kept=256)
    assert held.images == 1 or held.span * 256 <= 65_536
